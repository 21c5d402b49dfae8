"""The result of a comparison of techniques, as a value that goes to JSON and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from search.space.candidate import Candidate
from search.space.techniques import TECHNIQUES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Strategy = Literal["joint", "greedy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """Techniques that are searched together, and how.

    Attributes:
        techniques: Some of `search.space.techniques.TECHNIQUES`, in their order.
        strategy: `joint`, or `greedy` for one step of one knob at a time; see `search.sampling.greedy`.
    """

    techniques: tuple[str, ...]
    strategy: Strategy = "joint"

    @property
    def label(self) -> str:
        """The combination in words."""
        words = "all four" if len(self.techniques) == len(TECHNIQUES) else " + ".join(self.techniques)
        return words if self.strategy == "joint" else f"{words}, {self.strategy}"

    @property
    def suffix(self) -> str:
        """The suffix that makes the name of its search from the name of the comparison."""
        words = "all" if len(self.techniques) == len(TECHNIQUES) else "-".join(self.techniques)
        return f"-{words}" if self.strategy == "joint" else f"-{words}-{self.strategy}"


COMBINATIONS = (
    *(Combination(techniques=(one,)) for one in TECHNIQUES),
    *(Combination(techniques=pair) for pair in combinations(TECHNIQUES, 2)),
    Combination(techniques=tuple(TECHNIQUES)),
    Combination(techniques=tuple(TECHNIQUES), strategy="greedy"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The cheapest configuration of a combination within an accuracy loss.

    Attributes:
        loss: How far its accuracy may be below the baseline's, in [0, 1).
        id: Id of the evaluation, as `search export` takes it.
        candidate: The configuration; the baseline if nothing else qualifies.
        energy_pj: Energy of one inference.
        saving: The baseline's energy over its energy.
        accuracy: Accuracy on validation images, by which the search chose it.
        confirmed: Whether its loss is no larger than `loss`, with 97.5 % confidence. The baseline has no loss.
        fresh_runs: Number of runs that retrained it.
        fresh_accuracy: Mean accuracy of these runs on the images held out from each; None if there are none.
        fresh_test_accuracy: Mean accuracy of these runs on the test images, which decide nothing.
    """

    loss: float
    id: str
    candidate: Candidate
    energy_pj: float
    saving: float
    accuracy: float
    confirmed: bool
    fresh_runs: int = 0
    fresh_accuracy: float | None = None
    fresh_test_accuracy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The result of the search of one combination.

    Attributes:
        combination: The techniques and the strategy.
        search: Name of the search.
        evaluations: Number of evaluations that the search made or reused.
        distinct: How many of them are different; small spaces have few.
        failed: Number of evaluations that failed.
        choices: The cheapest configuration for each loss, in order of the comparison's losses.
    """

    combination: Combination
    search: str
    evaluations: int
    distinct: int
    failed: int
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The energy that every combination saves at every loss.

    Attributes:
        name: Name of the comparison.
        dataset: A name from `task_names()`.
        network: Import path of a custom network; None for the built-in families.
        hardware: Hardware identity.
        seed: Seed of every search.
        budget: Evaluations of each search.
        effort: `quick`, `standard` or `thorough`.
        confirm: Whether fresh runs were made to confirm the choices.
        caution: What its accuracies cannot know; None if nothing. See `search.answers.words.caution`.
        losses: Accuracy losses as shares, rising.
        baseline: The baseline, which has no loss.
        rows: The combinations, in order of `COMBINATIONS`.
    """

    name: str
    dataset: str
    network: str | None
    hardware: str
    seed: int
    budget: int
    effort: str
    confirm: bool
    caution: str | None
    losses: tuple[float, ...]
    baseline: Choice
    rows: tuple[Row, ...]

    def _repr_html_(self) -> str:
        from search.report.notebook import comparison_html  # the room above; a result shows itself

        return comparison_html(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw what each combination saves over the accuracy loss.

        Args:
            path: A .png, .svg or .pdf file to write it to.

        Returns:
            The figure, which a notebook shows as the last line of a cell.

        Raises:
            UsageError: If the file has another suffix, or cannot be written.
        """
        from search.report.notebook import savings_figure

        return savings_figure(self, path)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object. Accuracies and losses are shares in [0, 1], energies pJ per inference."""
        return {
            "name": self.name,
            "dataset": self.dataset,
            "network": self.network,
            "hardware": self.hardware,
            "seed": self.seed,
            "budget": self.budget,
            "effort": self.effort,
            "confirm": self.confirm,
            "caution": self.caution,
            "losses": list(self.losses),
            "baseline": _choice_json(self.baseline),
            "rows": [
                {
                    "label": row.combination.label,
                    "techniques": list(row.combination.techniques),
                    "strategy": row.combination.strategy,
                    "search": row.search,
                    "evaluations": row.evaluations,
                    "distinct": row.distinct,
                    "failed": row.failed,
                    "choices": [_choice_json(choice) for choice in row.choices],
                }
                for row in self.rows
            ],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Comparison:
        """Make a comparison from the JSON object of `to_dict`."""
        return cls(
            name=content["name"],
            dataset=content["dataset"],
            network=content["network"],
            hardware=content["hardware"],
            seed=content["seed"],
            budget=content["budget"],
            effort=content["effort"],
            confirm=content["confirm"],
            caution=content["caution"],
            losses=tuple(content["losses"]),
            baseline=_choice_of(content["baseline"]),
            rows=tuple(
                Row(
                    combination=Combination(techniques=tuple(row["techniques"]), strategy=row["strategy"]),
                    search=row["search"],
                    evaluations=row["evaluations"],
                    distinct=row["distinct"],
                    failed=row["failed"],
                    choices=tuple(_choice_of(choice) for choice in row["choices"]),
                )
                for row in content["rows"]
            ),
        )


def _choice_json(choice: Choice) -> dict[str, Any]:
    return {**asdict(choice), "candidate": choice.candidate.to_dict()}


def _choice_of(content: Mapping[str, Any]) -> Choice:
    return Choice(**{**content, "candidate": Candidate.from_dict(content["candidate"])})
