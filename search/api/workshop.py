"""Where candidates of one task are evaluated: its images, its kept networks, its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from energy import Hardware
from search.answers import words
from search.answers.confirmer import Confirmer, FreshRuns
from search.api.workplace import Workplace
from search.content_hash import content_hash
from search.evaluation.evaluation import evaluation_key
from search.images.places import ImagePlaces
from search.multipliers.choice import ChosenMultiplier
from search.space.candidate import Candidate
from search.space.task import Task
from search.store.database import Store
from search.store.records import Record
from search.store.setup import Setup

if TYPE_CHECKING:
    from search.evaluation.cache.cache import TrainingCache
    from search.evaluation.datasets import TaskData
    from search.evaluation.work import Executor
    from search.observer import Observer


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What evaluates candidates of a task.

    Attributes:
        task: The task, with the effort of each evaluation.
        effort: Name of that effort.
        hardware: The hardware that energy is modelled for.
        data: The images.
        cache: Keeps trained networks.
        workplace: Which workers are started.
        note: What there is to know about how it trains here, if there is something.
    """

    task: Task
    effort: str
    hardware: Hardware
    data: TaskData
    cache: TrainingCache
    workplace: Workplace
    note: str | None = None

    @classmethod
    def open(
        cls,
        task: Task,
        effort: str,
        hardware: Hardware,
        workplace: Workplace,
        *,
        cache: TrainingCache,
        images: ImagePlaces,
        precision: str | None = None,
    ) -> Workshop:
        """Read the images of a task, and keep the rest for later.

        Args:
            task: The task with its standard effort.
            effort: As for the attribute.
            hardware: As for the attribute.
            workplace: As for the attribute.
            cache: As for the attribute.
            images: Where images are.
            precision: How training computes; None for what is fastest here.

        Raises:
            UnknownNameError: If there is no such effort.
            UsageError: If there is no such precision.
            DatasetError: If the images are missing or damaged.
        """
        from search.evaluation import datasets  # which brings torch and scikit-learn
        from search.evaluation.precision import check_precision, chosen_precision
        from search.evaluation.task_images import TaskImages

        task, note = task.with_effort(effort), None
        if precision is not None:
            note = check_precision(precision)
        data = datasets.load(task, images)
        if precision is None:
            precision = chosen_precision(task, TaskImages(task, data), cache)
        return cls(
            task=replace(task, effort=replace(task.effort, precision=precision)),
            effort=effort,
            hardware=hardware,
            data=data,
            cache=cache,
            workplace=workplace,
            note=note,
        )

    def executor(self, multipliers: Sequence[ChosenMultiplier], *, seed: int = 0) -> Executor:
        """Start workers.

        Args:
            multipliers: Multipliers of the candidates.
            seed: Seed of the search; fresh runs have their own.

        Raises:
            ExecutorError: If Ray cannot start.
        """
        if self.workplace.workers == 0:
            from search.evaluation.evaluator import Evaluator
            from search.executors.serial import SerialExecutor

            evaluator = Evaluator(
                self.task, self.data, self.hardware, seed=seed, cache=self.cache, multipliers=multipliers
            )
            return SerialExecutor(evaluator.run)
        from search.executors.ray_executor import RayExecutor

        return RayExecutor(
            self.task,
            self.data,
            self.hardware,
            seed=seed,
            cache=self.cache,
            workers=self.workplace.worker_count,
            multipliers=multipliers,
            address=self.workplace.ray_address,
            timeout_s=self.workplace.timeout_s,
        )

    def confirmer(self, store: Store, executor: Executor, observer: Observer) -> Confirmer:
        """Return what makes fresh runs by these workers, and keeps them in that store."""
        fresh = FreshRuns(store, executor, Setup.of(self.task, self.hardware, self.effort), observer=observer)
        return Confirmer(fresh, self.task, kept_only=False)

    def keep_networks(self, executor: Executor, records: Iterable[Record]) -> None:
        """Keep the finished networks of evaluations that are not kept, for `search.export`; nothing is trained for it.

        Args:
            executor: Workers of this task.
            records: The evaluations.
        """
        from search.evaluation.finished import finished_key  # which brings torch
        from search.evaluation.work import Keep

        missing = {one.key: one for one in records if not self.cache.holds_finished(finished_key(one.key))}
        jobs = [
            Keep(
                key=key,
                candidate=one.evaluation.candidate,
                seed=one.seed,
                dense_layers=one.evaluation.dense_layers,
            )
            for key, one in missing.items()
        ]
        for _ in executor.run(jobs):
            pass  # what cannot be kept is made again when it is exported

    def notified(self, observer: Observer | None, multipliers: Sequence[ChosenMultiplier] = ()) -> Observer:
        """Return the observer, or a notebook's where there is none, notified of what limits the results."""
        from search.evaluation import datasets

        if observer is None:
            from search.report.progress import default_observer

            observer = default_observer()
        texts = (
            self.cache.why_unwritable(),
            self.note,
            datasets.imbalance(self.task, self.data.train),
            words.caution(self.task),
            *self.task.dataset.repetitions,
            *(one.limits for one in multipliers),
        )
        for text in texts:
            if text is not None:
                observer.noted(text)
        return observer


def key_function(
    task: Task, fingerprint: str, hardware: Hardware, seed: int, multipliers: Sequence[ChosenMultiplier]
) -> Callable[[Candidate], str]:
    """Return what gives the key under which a candidate's evaluation by a search of this seed is stored.

    Args:
        task: The task, with the effort of each evaluation.
        fingerprint: Content hash of its images.
        hardware: The hardware that energy is modelled for.
        seed: Seed of the search.
        multipliers: Multipliers that candidates may have.
    """
    chosen_costs = {one.identity: one.costs for one in multipliers if one.costs is not None}

    def key_of(candidate: Candidate) -> str:
        key = evaluation_key(candidate, task, fingerprint=fingerprint, hardware=hardware, seed=seed)
        # A multiplier that was characterised here may be characterised again, with another outcome.
        figures = [
            {name: figure for name, figure in asdict(cost).items() if name != "source"}
            for cost in (
                chosen_costs[multiplier]["layer", candidate.weight_bits, candidate.activation_bits]
                for multiplier in candidate.multipliers
                if multiplier in chosen_costs
            )
        ]
        if not figures:
            return key
        return content_hash({"evaluation": key, "multiplier_cost": figures[0] if len(figures) == 1 else figures})

    return key_of
