"""One run of jobs on Ray workers: hands them out, collects outcomes, retries."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from search.evaluation.work import Failed, Inspect, Outcome, Result, Time, WorkItem
from search.executors.ray_errors import first_line, ray_errors
from search.executors.ray_pool import RayPool

_ATTEMPTS = 2
_BUILDING_S = 60  # limit of a job that only builds a network, or times a few steps of it
_LOST_WORKER = (RayActorError, WorkerCrashedError, OutOfMemoryError, NodeDiedError, ObjectLostError)


@dataclass(frozen=True, slots=True)
class _Attempt(Generic[Result]):
    """A job at a worker."""

    actor: Any
    job: WorkItem[Result]
    failures: int  # before this attempt
    reached: Any  # the worker's answer to a call just before the job: an error if it was already dead
    since: float


class RayRun(Generic[Result]):
    """Runs a list of jobs on the workers of a pool."""

    def __init__(
        self, pool: RayPool, shared: tuple[Any, Any], jobs: Iterator[WorkItem[Result]], warn: Callable[[str], None]
    ) -> None:
        self._pool = pool
        self._warn = warn
        self._shared = shared
        self._jobs = jobs
        self._all_taken = False
        self._again: deque[tuple[WorkItem[Result], int]] = deque()  # jobs to retry, with their number of failures
        self._running: dict[Any, _Attempt[Result]] = {}

    def hand_out(self) -> bool:
        """Give every idle worker a job; return whether any job is left to wait for."""
        while self._pool.idle:
            job, failures = self._again.popleft() if self._again else (next(self._jobs, None), 0)
            if job is None:
                self._all_taken = True
                break
            with ray_errors():
                actor = self._pool.take()
                reached = actor.__ray_ready__.remote()
                answer = actor.evaluate.remote(job, *self._shared)
            self._running[answer] = _Attempt(actor, job, failures, reached, time.monotonic())
        return bool(self._running or self._again or not self._all_taken)

    def outcomes(self) -> Iterator[Outcome[Result]]:
        """Yield the outcomes of jobs that ended, each as soon as it is fetched.

        Waits only briefly, because interrupts are noticed between waits.
        """
        with ray_errors():
            coming = self._pool.coming
            awaited = [*self._running, *coming]
            if awaited:
                found, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0)
                found = found or ray.wait(awaited, timeout=0.5)[0]
            else:
                time.sleep(0.1)
                found = []
            for answer in found:
                if answer not in self._running:
                    self._pool.arrived(answer)
            self._pool.check()
        for answer in found:
            if answer in self._running:
                with ray_errors():
                    outcome = self._take(answer)
                if outcome is not None:
                    yield outcome

    def give_up_after(self, limit_s: float) -> list[Outcome[Result]]:
        """End the workers whose jobs exceed the limit; return the outcomes of jobs that are not retried."""
        outcomes = []
        for answer, one in list(self._running.items()):
            allowed_s = min(limit_s, _BUILDING_S) if isinstance(one.job, Inspect | Time) else limit_s
            if time.monotonic() - one.since > allowed_s:
                with ray_errors():
                    outcomes.append(self._lost(self._running.pop(answer), f"it took more than {allowed_s:g} s"))
        return [outcome for outcome in outcomes if outcome is not None]

    def leave(self) -> None:
        """Abandon the jobs that are still running."""
        for answer, one in self._running.items():
            self._pool.give_back_after(one.actor, answer)
        self._running.clear()

    def _take(self, answer: Any) -> Outcome[Result] | None:
        """Return the outcome of a job; None if it is retried."""
        one = self._running.pop(answer)
        outcome: Outcome[Result]
        try:
            outcome, warnings = ray.get(answer)
        except RayTaskError as error:  # the worker is alive but cannot evaluate; perhaps its machine lacks something
            self._pool.give_back(one.actor)
            return self._failed(one, first_line(error.cause or error))
        except _LOST_WORKER as error:
            return self._lost(one, f"its worker died: {first_line(error)}")
        self._pool.give_back(one.actor)
        for text in warnings:
            self._warn(text)
        return outcome

    def _lost(self, one: _Attempt[Result], reason: str) -> Outcome[Result] | None:
        self._pool.replace(one.actor)
        try:
            ray.get(one.reached, timeout=0)
        except RayError:  # the worker died before the job reached it, so the job is not to blame
            self._again.append((one.job, one.failures))
            return None
        return self._failed(one, reason)

    def _failed(self, one: _Attempt[Result], reason: str) -> Outcome[Result] | None:
        """Return the outcome of a failed job; None if it is retried, after its first failure."""
        failures = one.failures + 1
        if failures < _ATTEMPTS:
            self._again.append((one.job, failures))
            return None
        return Failed(key=one.job.key, error=f"tried {failures} times; {reason}")
