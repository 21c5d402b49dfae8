"""Evaluates candidates in Ray actors on this machine: the only file that knows Ray.

Each worker is one process with one thread. The images are put once into Ray's shared memory. A worker that dies is
started again by Ray and its job tried once more; a second death is that job's outcome.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from energy import Hardware
from search.datasets import TaskData
from search.errors import ExecutorError
from search.executor import Job, Outcome
from search.task import Task

if TYPE_CHECKING:
    from search.evaluate import Evaluator
    from search.multiplier_choice import ChosenMultiplier
    from search.stages import StageStore

# Row tables are allocated and freed at every training step; without these, glibc returns each to the system and takes
# it back page by page, which halves the speed (malloc, mallopt(3)).
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
_ATTEMPTS = 2
_RESTART_S = 120


class _Worker:
    """Lives in a Ray actor. It takes all that is large with each call: Ray cannot restart an actor built from that."""

    def __init__(self, task: Task, hardware: Hardware, seed: int, stages: StageStore) -> None:
        self._settings = (task, hardware, seed, stages)
        self._evaluator: Evaluator | None = None

    def evaluate(self, job: Job, data: TaskData, multipliers: Sequence[ChosenMultiplier]) -> Outcome:
        if self._evaluator is None:
            from search.evaluate import Evaluator

            task, hardware, seed, stages = self._settings
            self._evaluator = Evaluator(task, data, hardware, seed=seed, stages=stages, multipliers=multipliers)
        return self._evaluator.run(job)


class RayExecutor:
    """Evaluates in `workers` Ray actors.

    Raises:
        ExecutorError: If Ray or its workers cannot start.
    """

    def __init__(
        self,
        task: Task,
        data: TaskData,
        hardware: Hardware,
        *,
        seed: int,
        stages: StageStore,
        workers: int,
        multipliers: Sequence[ChosenMultiplier] = (),
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray 3 does; else Ray 2 warns
        if ray.is_initialized():
            raise ExecutorError("this process uses Ray already; evaluate without it with --workers 0, or shut it down")
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {**_KEEP_MEMORY, "OMP_NUM_THREADS": "1"}},
            )
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray puts one in its place that ends the process at once
            self._shared = (ray.put(data), ray.put(tuple(multipliers)))
            arguments = (task, hardware, seed, stages)
            remote = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=0)(_Worker)
            self.workers = workers
            self._actors = [remote.remote(*arguments) for _ in range(workers)]
        except Exception as error:  # Ray raises bare exceptions, such as when its start times out
            ray.shutdown()
            raise ExecutorError(
                f"Ray could not start: {_first_line(error)}. Evaluate in this process instead with --workers 0"
            ) from error

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Evaluate every job and yield each outcome once, in order of completion.

        Raises:
            ExecutorError: If Ray is lost.
        """
        waiting = list(reversed(jobs))
        attempts = dict.fromkeys((job.key for job in jobs), 0)
        idle = list(self._actors)
        running: dict[Any, tuple[Any, Job]] = {}
        try:
            while waiting or running:
                while waiting and idle:
                    actor, job = idle.pop(), waiting.pop()
                    attempts[job.key] += 1
                    running[actor.evaluate.remote(job, *self._shared)] = (actor, job)
                # A timeout, because an interrupt is only noticed between two waits.
                ready, _ = ray.wait(list(running), timeout=0.5)
                for reference in ready:
                    actor, job = running.pop(reference)
                    try:
                        outcome = ray.get(reference)
                    except RayActorError as error:
                        _wait_for_restart(actor)
                        idle.append(actor)
                        if attempts[job.key] < _ATTEMPTS:
                            waiting.append(job)
                            continue
                        reason = f"its worker died {_ATTEMPTS} times: {_first_line(error)}"
                        outcome = Outcome(key=job.key, evaluation=None, error=reason)
                    else:
                        idle.append(actor)
                    yield outcome
        except RayError as error:
            reason = error.cause if isinstance(error, RayTaskError) else error
            raise ExecutorError(f"a Ray worker failed: {_first_line(reason)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for actor in self._actors:
            ray.kill(actor)
        ray.shutdown()


def _wait_for_restart(actor: Any) -> None:
    """Wait until an actor that died answers: one that is still being started refuses its next job as if that failed."""
    deadline = time.monotonic() + _RESTART_S
    while True:
        try:
            ray.get(actor.__ray_ready__.remote(), timeout=_RESTART_S)
        except RayActorError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
