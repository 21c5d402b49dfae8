"""Where candidates of one task are evaluated: its images, its kept networks, its workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from energy import Hardware
from search.answers.confirmation import Confirmer, FreshRuns
from search.content_hash import content_hash
from search.evaluation.evaluation import evaluation_key
from search.locations import data_dir as find_data_dir
from search.locations import stage_limit, stage_location
from search.multipliers.choice import ChosenMultiplier
from search.space.candidate import Candidate
from search.space.task import Task
from search.store.store import Store

if TYPE_CHECKING:
    from search.evaluation.cache.cache import StageStore
    from search.evaluation.datasets import TaskData
    from search.evaluation.job import Executor
    from search.observer import Observer


def default_workers() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_stages(url: str, stages: str | os.PathLike[str] | None, limit: str | int | None) -> StageStore:
    """Where trained networks are kept.

    Args:
        url: Of the results database.
        stages: A folder or URL, if one was given.
        limit: Of what is kept there, if one was given.

    Raises:
        UsageError: If one of them is of no use.
    """
    from search.evaluation.cache.cache import StageStore  # imported late, because it brings fsspec

    return StageStore(stage_location(stages, url), limit_bytes=stage_limit(limit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What evaluates candidates of a task.

    Attributes:
        task: The task, with the effort of each evaluation.
        effort: The name of that.
        platform: What energy is modelled for.
        data: The images.
        stages: Keeps trained networks.
        workers: Ray workers; 0 for none, None for one a core or all of a cluster.
        ray_address: Of a Ray cluster to join.
        timeout_s: After which an evaluation is given up.
    """

    task: Task
    effort: str
    platform: Hardware
    data: TaskData
    stages: StageStore
    workers: int | None
    ray_address: str | None
    timeout_s: float | None

    @classmethod
    def open(
        cls,
        task: Task,
        effort: str,
        platform: Hardware,
        stages: StageStore,
        *,
        data_dir: str | os.PathLike[str] | None,
        workers: int | None,
        ray_address: str | None,
        timeout_s: float | None,
    ) -> Workshop:
        """Read the images of a task, and keep the rest for later; see the attributes.

        Raises:
            UnknownNameError: If there is no such effort.
            DatasetError: If the images are missing or damaged.
        """
        from search.evaluation import datasets  # which brings torch and scikit-learn

        return cls(
            task=task.with_effort(effort),
            effort=effort,
            platform=platform,
            data=datasets.load(task, find_data_dir(data_dir)),
            stages=stages,
            workers=workers,
            ray_address=ray_address,
            timeout_s=timeout_s,
        )

    def executor(self, multipliers: Sequence[ChosenMultiplier], *, seed: int = 0) -> Executor:
        """Start workers.

        Args:
            multipliers: Those that candidates have.
            seed: Of the search; fresh runs have others of their own.

        Raises:
            ExecutorError: If Ray cannot start.
        """
        if self.workers == 0:
            from search.evaluation.evaluator import Evaluator
            from search.executors.serial import SerialExecutor

            evaluator = Evaluator(
                self.task, self.data, self.platform, seed=seed, stages=self.stages, multipliers=multipliers
            )
            return SerialExecutor(evaluator.run)
        from search.executors.ray_executor import RayExecutor

        return RayExecutor(
            self.task,
            self.data,
            self.platform,
            seed=seed,
            stages=self.stages,
            workers=default_workers() if self.workers is None and self.ray_address is None else self.workers,
            multipliers=multipliers,
            address=self.ray_address,
            timeout_s=self.timeout_s,
        )

    def confirmer(self, store: Store, executor: Executor, observer: Observer) -> Confirmer:
        """What makes fresh runs by these workers, and keeps them in that store."""
        fresh = FreshRuns(
            store,
            executor,
            task=self.task.identity,
            hardware=self.platform.identity,
            effort=self.effort,
            observer=observer,
        )
        return Confirmer(fresh, runs=self.task.effort.confirmations, kept_only=False)

    def told(self, observer: Observer | None, multipliers: Sequence[ChosenMultiplier] = ()) -> Observer:
        """The observer, or that of a notebook, once it was told what a reader of the results has to know."""
        from search.observer import Observer
        from search.report.progress import NotebookProgress, in_notebook

        if observer is None:
            observer = NotebookProgress() if in_notebook() else Observer()
        for text in (self.stages.why_unwritable(), *(one.limits for one in multipliers)):
            if text is not None:
                observer.noted(text)
        return observer


def key_function(
    task: Task, fingerprint: str, hardware: Hardware, seed: int, multipliers: Sequence[ChosenMultiplier]
) -> Callable[[Candidate], str]:
    """Candidate -> the key under which its evaluation by a search of this seed is stored.

    Args:
        task: The task, with the effort of each evaluation.
        fingerprint: Of its images.
        hardware: What energy is modelled for.
        seed: Of the search.
        multipliers: Those that candidates may have.
    """
    own_costs = {one.identity: one.costs for one in multipliers if one.costs is not None}

    def key_of(candidate: Candidate) -> str:
        key = evaluation_key(candidate, task, fingerprint=fingerprint, hardware=hardware, seed=seed)
        # What was characterised here may be characterised anew, with another outcome.
        figures = [
            {name: figure for name, figure in asdict(cost).items() if name != "source"}
            for cost in (
                own_costs[multiplier]["layer", candidate.weight_bits, candidate.activation_bits]
                for multiplier in candidate.multipliers
                if multiplier in own_costs
            )
        ]
        if not figures:
            return key
        return content_hash({"evaluation": key, "multiplier_cost": figures[0] if len(figures) == 1 else figures})

    return key_of
