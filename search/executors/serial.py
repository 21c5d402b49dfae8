"""Evaluates in this process, one job after another: for tests, debugging, and machines without Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, Self

from search.evaluation.work import Outcome, Result, WorkItem


class _RunJob(Protocol):
    def __call__(self, job: WorkItem[Result]) -> Outcome[Result]: ...


class SerialExecutor:
    """An executor without workers.

    Args:
        run_job: Runs one job, such as `Evaluator.run`.
    """

    workers = 1

    def __init__(self, run_job: _RunJob) -> None:
        self._run_job = run_job

    def run(self, jobs: Iterable[WorkItem[Result]]) -> Iterator[Outcome[Result]]:
        """Run every job, in order."""
        for job in jobs:
            yield self._run_job(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None
