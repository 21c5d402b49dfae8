"""The values that the store keeps and returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from search.evaluation.evaluation import Evaluation
from search.space.target import Target
from search.space.task import Task
from search.store.setup import Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How a search proceeds, fixed when it begins.

    Attributes:
        sampler: One of `search.defaults.SAMPLERS`, or `greedy`; see `search.sampling.greedy`.
        prescreen: Whether a surrogate screens children.
        asynchronous: Whether a candidate is asked for whenever a worker is free, instead of whole generations.
        effort: Effort of each evaluation, one of `search.space.effort.EFFORTS`.
        third: Third objective, minimised beside energy: area_mm2, latency_us or None.
        precision: How networks are trained, one of `approx.precision.PRECISIONS`.
        starts: Genomes that it begins with; if there are none, it begins with the baseline.
    """

    sampler: str = "nsga2"
    prescreen: bool = True
    asynchronous: bool = False
    effort: str = "standard"
    third: str | None = None
    precision: str = "float32"
    starts: tuple[Mapping[str, Any], ...] = ()

    @property
    def costs(self) -> tuple[str, ...]:
        """The minimised objectives, as `Evaluation` calls them."""
        return ("energy_pj",) if self.third is None else ("energy_pj", self.third)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecord:
    """A stored search.

    Attributes:
        id: Its number in the database.
        name: Its name, which its Optuna study shares.
        task: Its task, whose custom network cannot be built.
        hardware: Hardware identity.
        seed: Seed of everything random in it.
        budget: Evaluations to make.
        population_size: Evaluations per generation.
        target: What its answer has to keep.
        multipliers: The multipliers among which it chooses, as candidates call them.
        settings: How it proceeds.
        space: The space that it searches, as `SearchSpace.to_dict` returns it.
        data_dir: Absolute path of the folder of images that it was made with; None if the task needs none.
        created_at: In UTC.
        finished_at: In UTC; None while it is unfinished.
    """

    id: int
    name: str
    task: Task
    hardware: str
    seed: int
    budget: int
    population_size: int
    target: Target
    multipliers: tuple[str, ...]
    settings: SearchSettings
    space: Mapping[str, Any]
    data_dir: Path | None
    created_at: datetime
    finished_at: datetime | None

    @property
    def setup(self) -> Setup:
        """The setup of its evaluations."""
        return Setup(task=self.task.identity, hardware=self.hardware, effort=self.settings.effort)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A stored evaluation.

    Attributes:
        key: Content hash of everything it depends on.
        setup: The task, hardware and effort that it was made with.
        seed: Seed of the search that made it.
        evaluation: The evaluation, measured on the validation images.
        test_accuracies: Accuracy on the test images, per chip; None unless it was measured.
    """

    key: str
    setup: Setup
    seed: int
    evaluation: Evaluation
    test_accuracies: tuple[float, ...] | None

    @property
    def id(self) -> str:
        """The beginning of its key, by which commands name it."""
        return self.key[:12]

    @property
    def test_accuracy(self) -> float | None:
        """Mean over chips on the test images."""
        if self.test_accuracies is None:
            return None
        return sum(self.test_accuracies) / len(self.test_accuracies)


def within_area(records: Iterable[Record], target: Target, baseline: Record) -> list[Record]:
    """Evaluations within the bound on area of a target, in the same order."""
    most_mm2 = target.area_mm2(baseline.evaluation.area_mm2)
    return [record for record in records if record.evaluation.area_mm2 <= most_mm2]


def most_accurate_first(records: Iterable[Record]) -> list[Record]:
    """Evaluations in the order in which a front is listed: of equally accurate ones, the cheapest first."""
    return sorted(records, key=lambda one: (-one.evaluation.accuracy, one.evaluation.energy_pj, one.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCounts:
    """How the trials of a search ended.

    Attributes:
        finished: Trials that ended with an evaluation.
        distinct: Different evaluations among those.
        failed: Trials that ended with an error.
    """

    finished: int
    distinct: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnd:
    """How one trial of a search ended: with an evaluation or with an error.

    Attributes:
        number: The trial's number.
        evaluation_key: Key of its evaluation, or None.
        error: The error's message, or None.
    """

    number: int
    evaluation_key: str | None
    error: str | None
