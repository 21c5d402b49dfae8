"""The result of a search: its front against its baseline."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search.answers import words
from search.answers.confirmation import Answer
from search.answers.stored import Stored
from search.errors import SearchError
from search.pareto import hypervolume, non_dominated_mask
from search.space.commands import resume_command
from search.store.database import Store
from search.store.records import Record, SearchRecord, most_accurate_first

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SHOWN = 12  # rows of a front in the text of a result


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SearchResult:
    """The result of a search, which prints as a short table of its front, and is one in a notebook.

    Attributes:
        search: The search.
        baseline: The largest network, dense, exact, at nominal voltage.
        front: The non-dominated evaluations within the search's bound on area, most accurate first. Empty if it has a
            bound, and no evaluation within it yet.
        evaluations: The different evaluations, in order of first trial, with those that were stopped early; empty if
            only the front was asked for.
        finished: Number of trials that ended with an evaluation.
        distinct: Number of different evaluations.
        failed: Number of trials that ended with an error.
        answer: The cheapest configuration for the search's target, by the fresh runs that were made.
        stored: Its evaluations that answer other targets, with their fresh runs.
    """

    search: SearchRecord
    baseline: Record
    front: tuple[Record, ...]
    evaluations: tuple[Record, ...]
    finished: int
    distinct: int
    failed: int
    answer: Answer
    stored: Stored

    def __repr__(self) -> str:
        front = list(self.front)
        left_out = len(front) - _SHOWN
        if left_out > 0:
            front = front[:_SHOWN]
        rows: list[tuple[str, ...]] = [("acc %", "energy", "saves", *words.COLUMNS)]
        for record in [*front, self.baseline]:
            evaluation = record.evaluation
            figures = (words.percent(evaluation.accuracy), words.energy(evaluation.energy_pj))
            configuration = words.configuration(evaluation.candidate).values()
            rows.append((*figures, words.saving(self.saving(record)), *configuration))
        names = ["", *(record.id for record in front), "baseline"]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{name:12}  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for name, row in zip(names, rows, strict=True)
        ]
        if left_out > 0:
            lines.insert(-1, f"... {left_out} more, down to {words.percent(self.front[-1].evaluation.accuracy)} %")
        caution = words.caution(self.search.task)
        lines += [] if caution is None else [caution]
        title = f"Search {self.search.name} ({self.search.task.words}): {words.count(self.finished, 'evaluation')}"
        return "\n".join([title, *lines])

    def _repr_html_(self) -> str:
        from search.report.notebook import result_html  # the room above; a result shows itself

        return result_html(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw accuracy over energy: the evaluations, their front, the baseline, the right-sized network, the answer.

        Evaluations that were stopped early are left out, as are those far less accurate than what is compared.

        Args:
            path: A .png, .svg or .pdf file to write it to.

        Returns:
            The figure, which a notebook shows as the last line of a cell.

        Raises:
            UsageError: If the file has another suffix, or cannot be written.
        """
        from search.report.notebook import result_figure

        return result_figure(self, path)

    def saving(self, record: Record) -> float:
        """Return the baseline's energy over an evaluation's."""
        return self.baseline.evaluation.energy_pj / record.evaluation.energy_pj

    @property
    def hypervolume(self) -> float:
        """The hypervolume of the front; see `front_hypervolume`."""
        return front_hypervolume(self.front, self.baseline)

    def to_frame(self) -> pd.DataFrame:
        """Return the different evaluations as a table: a row each, in order of first trial.

        Its columns are `id`, `on_front`, `is_baseline`, the knobs of `Candidate`, `accuracy`,
        `accuracy_standard_error`, `accuracy_worst`, `test_accuracy` (shares; NaN if the test images were not used),
        `energy_pj`, `energy_low_pj`, `energy_high_pj`, an `energy_<component>_pj` for each component, `saving`,
        `latency_us` and `area_mm2`.
        """
        import pandas as pd  # takes longer to load than the rest of this module

        on_front = {record.key for record in self.front}
        rows = []
        for record in self.evaluations:
            evaluation = record.evaluation
            low, high = evaluation.energy_range_pj
            rows.append(
                {
                    "id": record.id,
                    "on_front": record.key in on_front,
                    "is_baseline": record.key == self.baseline.key,
                    **evaluation.candidate.to_dict(),
                    "accuracy": evaluation.accuracy,
                    "accuracy_standard_error": evaluation.accuracy_standard_error,
                    "accuracy_worst": evaluation.accuracy_worst,
                    "test_accuracy": record.test_accuracy,
                    "energy_pj": evaluation.energy_pj,
                    "energy_low_pj": low,
                    "energy_high_pj": high,
                    **{f"energy_{name}_pj": pj for name, pj in evaluation.components_pj.items()},
                    "saving": self.saving(record),
                    "latency_us": evaluation.latency_us,
                    "area_mm2": evaluation.area_mm2,
                }
            )
        return pd.DataFrame(rows).astype({"test_accuracy": float})  # a column of None alone becomes NaN too


def front_hypervolume(records: Sequence[Record], baseline: Record) -> float:
    """Return the area that evaluations dominate in the plane of accuracy and decades of energy below the baseline.

    Accuracy counts from 0 and energy as log10(baseline / energy), so that a tenfold saving at perfect accuracy adds 1.
    """
    points = _points(records)
    points[:, 1] = np.log10(points[:, 1] / baseline.evaluation.energy_pj)
    return hypervolume(points, (1.0, 0.0))


def front(records: Sequence[Record], costs: Sequence[str] = ("energy_pj",)) -> list[Record]:
    """Return the evaluations that no other beats in accuracy and all costs, most accurate first.

    Evaluations that were stopped early are left out.

    Args:
        records: The evaluations.
        costs: Fields of `Evaluation` to minimise.
    """
    records = [record for record in records if not record.evaluation.stopped]
    mask = non_dominated_mask(_points(records, costs))
    return most_accurate_first(record for record, kept in zip(records, mask, strict=True) if kept)


def cheapest_at(records: Sequence[Record], min_accuracy: float) -> Record | None:
    """Return the evaluation of least energy whose validation accuracy reaches a target; None if none does."""
    meeting = [r for r in records if r.evaluation.accuracy >= min_accuracy and not r.evaluation.stopped]
    return min(meeting, key=lambda r: (r.evaluation.energy_pj, r.key), default=None)


def knee(records: Sequence[Record], *, deepest_loss: float = 0.2) -> Record:
    """The member of a front beyond which more saving costs accuracy faster than before it.

    It lies farthest from the line between the ends of the front, in accuracy and the logarithm of energy, both scaled
    to the front; members more than `deepest_loss` less accurate than the best are left out.

    Args:
        records: A front, of at least one.
        deepest_loss: Largest loss of accuracy.
    """
    best = max(record.evaluation.accuracy for record in records)
    near = [record for record in records if record.evaluation.accuracy >= best - deepest_loss]
    errors = _scaled([1 - record.evaluation.accuracy for record in near])
    energies = _scaled([math.log(record.evaluation.energy_pj) for record in near])
    return min(zip(near, errors, energies, strict=True), key=lambda one: (one[1] + one[2], one[0].key))[0]


def _scaled(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / ((high - low) or 1.0) for value in values]


def result_of(store: Store, search: SearchRecord, *, evaluations: bool = True) -> SearchResult:
    """Return the result of a stored search so far, with the answer for its target.

    Args:
        store: The store that holds the search.
        search: The search.
        evaluations: Whether to read evaluations off the front too, which takes seconds for ten thousand.

    Raises:
        SearchError: If its baseline was never evaluated.
    """
    baseline = _baseline(store, search)
    most_mm2 = search.target.area_mm2(baseline.evaluation.area_mm2)
    members = store.evaluations.front_of_search(search, max_area_mm2=most_mm2)
    counts = store.searches.trial_counts(search)
    stored = Stored.of_search(store, search, baseline=baseline, front=members)
    return SearchResult(
        search=search,
        baseline=baseline,
        front=tuple(members),
        evaluations=tuple(store.evaluations.of_search(search)) if evaluations else (),
        finished=counts.finished,
        distinct=counts.distinct,
        failed=counts.failed,
        answer=stored.answer(search.target),
        stored=stored,
    )


def _baseline(store: Store, search: SearchRecord) -> Record:
    candidate = search.task.space.baseline()
    for record in store.evaluations.of_search(search, candidate=candidate, limit=1):
        return record
    raise SearchError(
        f"the baseline of search {search.name!r} is not evaluated yet; resume it with: "
        f"{resume_command(search.task, search.name)}"
    )


def _points(records: Sequence[Record], costs: Sequence[str] = ("energy_pj",)) -> NDArray[np.float64]:
    """Return (error, costs) of evaluations, all to minimise: shape (n, 1 + costs)."""
    rows = [(1 - r.evaluation.accuracy, *(getattr(r.evaluation, cost) for cost in costs)) for r in records]
    return np.array(rows, dtype=np.float64).reshape(-1, 1 + len(costs))
