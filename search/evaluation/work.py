"""Work items, their outcomes, and the interfaces of executors and workers.

An `Executor` does work items in this process (`search.executors.serial`) or in Ray workers
(`search.executors.ray_executor`). Outcomes depend on the item alone, so they are the same everywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeAlias, TypeVar

from search.evaluation.confirmation_run import ConfirmationRun
from search.evaluation.early_stopping import Rival
from search.evaluation.evaluation import Evaluation, Split
from search.space.candidate import Candidate
from search.space.plan import StepTimes

if TYPE_CHECKING:
    from approx import LayerShape

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem(ABC, Generic[Result]):
    """A piece of work on a candidate.

    Attributes:
        key: Identifies the item in its outcome.
        candidate: The candidate.
    """

    key: str
    candidate: Candidate

    @abstractmethod
    def done_by(self, worker: CandidateWorker) -> Result:
        """Have a worker do it, and return the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate(WorkItem[Evaluation]):
    """Measure accuracy and model energy.

    Attributes:
        split: Images to measure accuracy on.
        rivals: Evaluations that end the retraining early if they clearly beat the candidate.
        costs: Fields of `Evaluation` that the costs of `rivals` are.
        keeps: Whether the finished network is kept under the item's key, which is then the evaluation's.
    """

    split: Split = "validation"
    rivals: tuple[Rival, ...] = ()
    costs: tuple[str, ...] = ("energy_pj",)
    keeps: bool = False

    def done_by(self, worker: CandidateWorker) -> Evaluation:
        """Evaluate the candidate."""
        return worker.evaluate(
            self.candidate,
            self.split,
            rivals=self.rivals,
            costs=self.costs,
            keep_as=self.key if self.keeps else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep(WorkItem[bool]):
    """Keep the finished network of an evaluation, whose key the item has, unless it would have to be trained again.

    Attributes:
        seed: Seed of the search that made the evaluation.
        dense_layers: Layers whose pruned weights are stored too, as the evaluation says.
    """

    seed: int
    dense_layers: tuple[str, ...]

    def done_by(self, worker: CandidateWorker) -> bool:
        """Keep the network; return whether it is kept."""
        return worker.keep(self.key, self.candidate, seed=self.seed, dense_layers=self.dense_layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm(WorkItem[ConfirmationRun]):
    """Make a fresh run; see `search.answers.confirmation`.

    Attributes:
        run: Number of the run, from 0, which determines all that is random in it.
    """

    run: int

    def done_by(self, worker: CandidateWorker) -> ConfirmationRun:
        """Make the run."""
        return worker.confirm(self.candidate, self.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspect(WorkItem["tuple[LayerShape, ...]"]):
    """Build the candidate's network and return its layers, without training it."""

    def done_by(self, worker: CandidateWorker) -> tuple[LayerShape, ...]:
        """Build the network."""
        return worker.inspect(self.candidate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Time(WorkItem[StepTimes]):
    """Time a few steps of the candidate's network.

    Attributes:
        limit_s: About how many seconds this may take.
    """

    limit_s: float

    def done_by(self, worker: CandidateWorker) -> StepTimes:
        """Time the network."""
        return worker.time(self.candidate, self.limit_s)


class CandidateWorker(Protocol):
    """Runs jobs of every kind."""

    def evaluate(
        self,
        candidate: Candidate,
        split: Split,
        *,
        rivals: tuple[Rival, ...],
        costs: tuple[str, ...],
        keep_as: str | None,
    ) -> Evaluation:
        """Measure accuracy and model energy."""
        ...

    def keep(self, key: str, candidate: Candidate, *, seed: int, dense_layers: tuple[str, ...]) -> bool:
        """Keep the finished network of an evaluation."""
        ...

    def confirm(self, candidate: Candidate, run: int) -> ConfirmationRun:
        """Make a fresh run."""
        ...

    def inspect(self, candidate: Candidate) -> tuple[LayerShape, ...]:
        """Return the layers of the untrained network."""
        ...

    def time(self, candidate: Candidate, limit_s: float) -> StepTimes:
        """Time a few steps of the untrained network."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[Result]):
    """A job that ended with its result."""

    key: str
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A job that ended without a result, and why."""

    key: str
    error: str


Outcome: TypeAlias = Done[Result] | Failed


class Executor(Protocol):
    """Runs jobs. A context manager; its workers live until it is left."""

    @property
    def workers(self) -> int:
        """The number of jobs that run at a time."""
        ...

    def run(self, jobs: Iterable[WorkItem[Result]]) -> Iterator[Outcome[Result]]:
        """Run every job and yield each outcome once, in order of completion.

        A job is taken from `jobs` when a worker is free for it, so that jobs can be made as outcomes come in.

        Raises:
            ExecutorError: If no worker can be kept alive.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...
