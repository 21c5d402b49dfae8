"""The workers of a Ray executor, which outlive runs and are replaced when lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from search.errors import ExecutorError
from search.executors.ray_errors import KEPT, first_line

_START_S = 120  # after this time without any worker, none is expected
_START_AGAIN_S = 1.0


class RayPool:
    """The workers. They outlive runs; a lost one is replaced as soon as there is room.

    Others may use the same cluster. While they occupy all of its processors, missing workers wait.

    Ray can restart an actor itself, but the errors of calls meanwhile are hard to distinguish from those of a job that
    killed it. A new actor answers once it is ready.
    """

    def __init__(self, start: Callable[[], Any], size: int, *, shared: bool) -> None:
        self._shared = shared
        self.idle: list[Any] = []
        self._start = start
        self._busy: list[Any] = []
        self._coming: dict[Any, Any] = {}  # answer to wait for -> the worker that gives it
        self._missing = size
        self._tried_at = self._alive_at = time.monotonic()
        self._trouble = "there is no free processor core for it"
        self._start_missing()

    @property
    def coming(self) -> list[Any]:
        """Answers by which starting or abandoned workers become idle."""
        if self._missing and time.monotonic() - self._tried_at > _START_AGAIN_S:
            self._start_missing()
        return [*self._coming]

    def take(self) -> Any:
        """Take an idle worker."""
        actor = self.idle.pop()
        self._busy.append(actor)
        return actor

    def give_back(self, actor: Any) -> None:
        """Return a worker whose job has ended."""
        self._busy.remove(actor)
        self.idle.append(actor)
        self._alive_at = time.monotonic()

    def give_back_after(self, actor: Any, answer: Any) -> None:
        """Return a worker once its abandoned job has ended."""
        self._busy.remove(actor)
        self._coming[answer] = actor

    def replace(self, actor: Any) -> None:
        """Replace a worker that is dead or hangs."""
        self._busy.remove(actor)
        ray.kill(actor)
        self._missing += 1
        self._start_missing()

    def arrived(self, answer: Any) -> None:
        """Take in a worker that has answered, or failed."""
        actor = self._coming.pop(answer)
        try:
            ray.get(answer)
        except RayTaskError:
            pass  # an abandoned job failed
        except RayError as error:
            self._trouble = first_line(error)
            self._missing += 1
            return
        self.idle.append(actor)
        self._alive_at = time.monotonic()

    def check(self) -> None:
        """Raise ExecutorError if there has been no worker for too long."""
        if self.idle or self._busy or (self._shared and _all_in_use()):
            self._alive_at = time.monotonic()
        elif time.monotonic() - self._alive_at > _START_S:
            raise ExecutorError(f"no worker could be started within {_START_S} s: {self._trouble}. {KEPT}")

    def end(self) -> None:
        """End all workers."""
        for actor in (*self.idle, *self._busy, *self._coming.values()):
            ray.kill(actor)

    def _start_missing(self) -> None:
        self._tried_at = time.monotonic()
        while self._missing:
            actor = self._start()
            self._coming[actor.__ray_ready__.remote()] = actor
            self._missing -= 1


def _all_in_use() -> bool:
    """Whether a cluster has processors and none is free."""
    there, free = ray.cluster_resources(), ray.available_resources()
    return bool(there.get("CPU", 0) >= 1 > free.get("CPU", 0))
