"""Where candidates are evaluated: in this process, or (`search.executors.ray_executor`) in Ray workers.

Every executor finds the same results, because an evaluation depends on its job alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from search.evaluation.early_stopping import Rival
from search.evaluation.evaluation import ConfirmationRun, Evaluation, Split
from search.space.candidate import Candidate

if TYPE_CHECKING:
    from approx import LayerShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One evaluation to make.

    Attributes:
        key: Names the job in its outcome.
        candidate: What to evaluate.
        split: Images to measure accuracy on.
        rivals: A candidate that early in its retraining is clearly beaten by one of them is not trained to the end.
        costs: What the costs of rivals are, as `Evaluation` calls it.
        run: Number of the confirmation run to make instead of an evaluation; see `search.answers.confirmation`.
        untrained: Whether to build the network and look at its layers, and no more.
    """

    key: str
    candidate: Candidate
    split: Split = "validation"
    rivals: tuple[Rival, ...] = ()
    costs: tuple[str, ...] = ("energy_pj",)
    run: int | None = None
    untrained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a job ended: with what was wanted of it, or with the reason why there is none."""

    key: str
    evaluation: Evaluation | None = None
    run: ConfirmationRun | None = None
    layers: tuple[LayerShape, ...] | None = None
    error: str | None = None


class Executor(Protocol):
    """Evaluates jobs. A context manager; its workers live until it is left."""

    @property
    def workers(self) -> int:
        """How many jobs run at a time."""
        ...

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Evaluate every job and yield each outcome once, in order of completion.

        A job is taken from `jobs` when a worker is free for it, so that they can be made up as outcomes come in.

        Raises:
            ExecutorError: If no worker can be kept alive.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class SerialExecutor:
    """Evaluates in this process, one job after the other: for tests, debugging, and machines without Ray."""

    workers = 1

    def __init__(self, evaluate: Callable[[Job], Outcome]) -> None:
        self._evaluate = evaluate

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Evaluate every job, in order."""
        for job in jobs:
            yield self._evaluate(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None
