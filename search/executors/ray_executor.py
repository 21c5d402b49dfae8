"""Evaluates candidates in Ray actors, on this machine or on a cluster: the only file that knows Ray.

Each worker is one process with one thread. The images are put once into Ray's shared memory. A worker that dies, hangs
or is lost with its machine is replaced where there is room, and its job tried once more; a second failure is that job's
outcome. The others go on meanwhile.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

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

from energy import Hardware
from search.errors import ExecutorError
from search.evaluation.datasets import TaskData
from search.executors.serial import Job, Outcome
from search.space.task import Task

if TYPE_CHECKING:
    from search.evaluation.cache.cache import StageStore
    from search.evaluation.evaluator import Evaluator
    from search.multipliers.choice import ChosenMultiplier

_logger = logging.getLogger(__name__)

# Row tables are allocated and freed at every training step; without these, glibc returns each to the system and takes
# it back page by page, which halves the speed (malloc, mallopt(3)).
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
_ATTEMPTS = 2
_START_S = 120  # without any worker for so long, there will be none
_START_AGAIN_S = 1.0
_CHECK_S = 2.0
# A cluster's head may be started again, but for no longer than Ray waits for it; on this machine nobody does that.
_SILENT_S = {"here": 5.0, "elsewhere": 40.0}
_LEAST_TIMEOUT_S = 600
_BUILDING_S = 60  # for a network that is not to be trained
_TIMEOUT_FACTOR = 20  # over the median of the evaluations so far; without a limit given, longer ones have hung
_LONGEST_FACTOR = 3  # over the longest: where networks are kept, most evaluations are short and some are not
_LOST_WORKER = (RayActorError, WorkerCrashedError, OutOfMemoryError, NodeDiedError, ObjectLostError)
_KEPT = "What was evaluated is kept; go on with: search resume"


class _Worker:
    """Lives in a Ray actor. It takes all that is large with each call: Ray cannot restart an actor built from that."""

    def __init__(self, task: Task, hardware: Hardware, seed: int, stages: StageStore) -> None:
        self._settings = (task, hardware, seed, stages)
        self._evaluator: Evaluator | None = None
        self._warnings = _Warnings()
        logging.getLogger("search").addHandler(self._warnings)
        with suppress(ImportError):  # which the first job says
            import search.evaluation.evaluator  # noqa: F401  takes seconds, in which the search gets ready

    def evaluate(self, job: Job, data: TaskData, multipliers: Sequence[ChosenMultiplier]) -> tuple[Outcome, list[str]]:
        if self._evaluator is None:
            from search.evaluation.evaluator import Evaluator

            task, hardware, seed, stages = self._settings
            self._evaluator = Evaluator(task, data, hardware, seed=seed, stages=stages, multipliers=multipliers)
        outcome = self._evaluator.run(job)
        return outcome, self._warnings.taken()


class _Warnings(logging.Handler):
    """Keeps what a worker logs, which nobody would see, until it comes with an outcome."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(record.getMessage())

    def taken(self) -> list[str]:
        """What came since it was asked last."""
        texts, self._texts = self._texts, []
        return texts


class RayExecutor:
    """Evaluates in Ray actors.

    A cluster's machines need this package in the same version and, at the same paths, hardware files' and networks' own
    modules; stages travel through the place that `stages` names. Where a cluster was started with a token, this process
    needs the same (on its head: `ray get-auth-token`): Ray looks for it in `RAY_AUTH_TOKEN`, in the file that
    `RAY_AUTH_TOKEN_PATH` names and in `~/.ray/auth_token`, and uses it unless `RAY_AUTH_MODE` is `disabled`.

    Args:
        task: What is classified.
        data: Its images.
        hardware: What energy is modelled for.
        seed: Of the search.
        stages: Keeps what is trained.
        workers: Actors, of one processor core each; None for all cores of a cluster.
        multipliers: What workers have to know of multipliers that do not come with the package.
        address: Of a cluster to join, as `ray.init` takes it; None starts Ray on this machine.
        timeout_s: Time that a job may take; None for a multiple of what others took.

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
        workers: int | None,
        multipliers: Sequence[ChosenMultiplier] = (),
        address: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray 3 does; else Ray 2 warns
        if ray.is_initialized():
            raise ExecutorError("this process uses Ray already; evaluate without it with --workers 0, or shut it down")
        self._timeout_s = timeout_s
        self._seconds: list[float] = []
        self._warned: set[str] = set()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _connect(address, workers)
            if threading.current_thread() is threading.main_thread() and handler is not None:
                signal.signal(signal.SIGTERM, handler)  # Ray puts one in its place that ends the process at once
            self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            self._shared = (ray.put(data), ray.put(tuple(multipliers)))
            remote = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Worker)
            self._pool = _Pool(
                lambda: remote.remote(task, hardware, seed, stages), self.workers, shared=address is not None
            )
            self._head = _Head(address)
        except KeyboardInterrupt:
            ray.shutdown()
            raise
        except Exception as error:  # Ray raises bare exceptions, such as when its start times out
            ray.shutdown()
            where = "Ray could not start" if address is None else f"no Ray cluster could be joined at {address!r}"
            raise ExecutorError(
                f"{where}: {_first_line(error)}. Evaluate in this process instead with --workers 0"
            ) from error

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Evaluate every job and yield each outcome once, in order of completion.

        Raises:
            ExecutorError: If Ray is lost, or no worker can be kept alive.
        """
        run = _Run(self._pool, self._shared, iter(jobs), self._warn)
        try:
            while run.hand_out():
                for outcome in run.outcomes():
                    self._learn(outcome)
                    yield outcome
                yield from run.give_up_after(self._limit_s())
                self._head.check()
        finally:
            run.leave()

    def _learn(self, outcome: Outcome) -> None:
        result = outcome.evaluation or outcome.run
        if result is not None:
            self._seconds.append(result.seconds)

    def _warn(self, text: str) -> None:
        """Log what a worker would have, once for all of them."""
        if text not in self._warned:
            self._warned.add(text)
            _logger.warning("%s", text)

    def _limit_s(self) -> float:
        if self._timeout_s is not None:
            return self._timeout_s
        if not self._seconds:
            return _TIMEOUT_FACTOR * _LEAST_TIMEOUT_S
        usual, longest = statistics.median(self._seconds), max(self._seconds)
        return max(_LEAST_TIMEOUT_S, _TIMEOUT_FACTOR * usual, _LONGEST_FACTOR * longest)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(Exception):  # with Ray gone, it is the error on the way out that tells what happened
            self._pool.end()
        with suppress(Exception):
            ray.shutdown()


class _Pool:
    """The workers. They outlive runs; one that is lost is replaced as soon as there is room for another.

    Others may use the same cluster. As long as they have all of its processors, workers wait for their turn.

    Ray could start an actor again by itself, but refuses calls meanwhile in ways that are hard to tell from a job that
    killed it. A new actor answers when it is there.
    """

    def __init__(self, start: Callable[[], Any], size: int, *, shared: bool) -> None:
        self._shared = shared
        self.idle: list[Any] = []
        self._start = start
        self._busy: list[Any] = []
        self._coming: dict[Any, Any] = {}  # what ends the wait for a worker -> the worker
        self._missing = size
        self._tried_at = self._alive_at = time.monotonic()
        self._trouble = "there is no free processor core for it"
        self._start_missing()

    @property
    def coming(self) -> list[Any]:
        """Answers of workers that are on their way to be idle."""
        if self._missing and time.monotonic() - self._tried_at > _START_AGAIN_S:
            self._start_missing()
        return [*self._coming]

    def take(self) -> Any:
        """An idle worker."""
        actor = self.idle.pop()
        self._busy.append(actor)
        return actor

    def give_back(self, actor: Any) -> None:
        """A worker has nothing to do any more."""
        self._busy.remove(actor)
        self.idle.append(actor)
        self._alive_at = time.monotonic()

    def give_back_after(self, actor: Any, answer: Any) -> None:
        """A worker is still at a job that nobody waits for."""
        self._busy.remove(actor)
        self._coming[answer] = actor

    def replace(self, actor: Any) -> None:
        """A worker is dead, or hangs."""
        self._busy.remove(actor)
        ray.kill(actor)
        self._missing += 1
        self._start_missing()

    def arrived(self, answer: Any) -> None:
        """A worker that was waited for is there, or failed."""
        actor = self._coming.pop(answer)
        try:
            ray.get(answer)
        except RayTaskError:
            pass  # a job that nobody waits for failed
        except RayError as error:
            self._trouble = _first_line(error)
            self._missing += 1
            return
        self.idle.append(actor)
        self._alive_at = time.monotonic()

    def check(self) -> None:
        """Raise an error if there was no worker for too long."""
        if self.idle or self._busy or (self._shared and _all_in_use()):
            self._alive_at = time.monotonic()
        elif time.monotonic() - self._alive_at > _START_S:
            raise ExecutorError(f"no worker could be started within {_START_S} s: {self._trouble}. {_KEPT}")

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


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A job at a worker."""

    actor: Any
    job: Job
    failures: int  # before this attempt
    reached: Any  # the worker's answer to a call just before the job: an error if it was dead by then
    since: float


class _Run:
    """Which worker is at what, while a list of jobs is evaluated."""

    def __init__(self, pool: _Pool, shared: tuple[Any, Any], jobs: Iterator[Job], warn: Callable[[str], None]) -> None:
        self._pool = pool
        self._warn = warn
        self._shared = shared
        self._jobs = jobs
        self._all_taken = False
        self._again: deque[tuple[Job, int]] = deque()  # with how often they failed
        self._running: dict[Any, _Attempt] = {}

    def hand_out(self) -> bool:
        """Give every idle worker a job; whether anything is left to wait for."""
        while self._pool.idle:
            job, failures = self._again.popleft() if self._again else (next(self._jobs, None), 0)
            if job is None:
                self._all_taken = True
                break
            with _ray_errors():
                actor = self._pool.take()
                reached = actor.__ray_ready__.remote()
                answer = actor.evaluate.remote(job, *self._shared)
            self._running[answer] = _Attempt(actor, job, failures, reached, time.monotonic())
        return bool(self._running or self._again or not self._all_taken)

    def outcomes(self) -> Iterator[Outcome]:
        """Of the jobs that ended, each as soon as it is fetched.

        Waits for a while, but not long, because an interrupt is noticed between waits.
        """
        with _ray_errors():
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
                with _ray_errors():
                    outcome = self._take(answer)
                if outcome is not None:
                    yield outcome

    def give_up_after(self, limit_s: float) -> list[Outcome]:
        """End the workers whose job takes too long; the outcomes of those that took too long before."""
        outcomes = []
        for answer, one in list(self._running.items()):
            allowed_s = min(limit_s, _BUILDING_S) if one.job.untrained else limit_s
            if time.monotonic() - one.since > allowed_s:
                with _ray_errors():
                    outcomes.append(self._lost(self._running.pop(answer), f"it took more than {allowed_s:g} s"))
        return [outcome for outcome in outcomes if outcome is not None]

    def leave(self) -> None:
        """Nobody waits any more for what is running, if anything is."""
        for answer, one in self._running.items():
            self._pool.give_back_after(one.actor, answer)
        self._running.clear()

    def _take(self, answer: Any) -> Outcome | None:
        """The outcome of a job; None if it is to be tried again."""
        one = self._running.pop(answer)
        outcome: Outcome
        try:
            outcome, warnings = ray.get(answer)
        except RayTaskError as error:  # the worker lives, but cannot evaluate: perhaps its machine lacks something
            self._pool.give_back(one.actor)
            return self._failed(one, _first_line(error.cause or error))
        except _LOST_WORKER as error:
            return self._lost(one, f"its worker died: {_first_line(error)}")
        self._pool.give_back(one.actor)
        for text in warnings:
            self._warn(text)
        return outcome

    def _lost(self, one: _Attempt, reason: str) -> Outcome | None:
        self._pool.replace(one.actor)
        try:
            ray.get(one.reached, timeout=0)
        except RayError:  # the worker was dead before the job reached it, which is not to blame then
            self._again.append((one.job, one.failures))
            return None
        return self._failed(one, reason)

    def _failed(self, one: _Attempt, reason: str) -> Outcome | None:
        """A job failed, and is tried again if that was its first time."""
        failures = one.failures + 1
        if failures < _ATTEMPTS:
            self._again.append((one.job, failures))
            return None
        return Outcome(key=one.job.key, error=f"tried {failures} times; {reason}")


class _Head:
    """Ray's head and its process on this machine, the raylet, without which nothing goes on.

    Ray ends the process of a driver, without a word, a minute after it lost its head or when it next needs its raylet.
    """

    def __init__(self, address: str | None) -> None:
        context = ray.get_runtime_context()
        self._patience_s = _SILENT_S["here" if address is None else "elsewhere"]
        self._head: tuple[str, int] | None = None
        self._raylet: tuple[str, int] | None = None
        # A client of ray:// learns of a lost head from its own connection, and may not reach these addresses.
        if address is None or not address.startswith("ray://"):
            self._head = _host_and_port(context.gcs_address)
            here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
            self._raylet = (here["NodeManagerAddress"], here["NodeManagerPort"])
        self._checked_at = self._answered_at = time.monotonic()

    def check(self) -> None:
        """Raise an error if one of them does not answer any more."""
        now = time.monotonic()
        if self._head is None or self._raylet is None or now - self._checked_at < _CHECK_S:
            return
        self._checked_at = now
        if (why := _unreachable(self._raylet)) is not None:
            raise ExecutorError(f"Ray was lost: its process on this machine (raylet) does not answer: {why}. {_KEPT}")
        why = _unreachable(self._head)
        if why is None:
            self._answered_at = now
        elif now - self._answered_at > self._patience_s:
            raise ExecutorError(f"Ray was lost: its head (gcs_server) does not answer: {why}. {_KEPT}")


def _all_in_use() -> bool:
    """Whether a cluster has processors, and none is free."""
    there, free = ray.cluster_resources(), ray.available_resources()
    return bool(there.get("CPU", 0) >= 1 > free.get("CPU", 0))


@contextmanager
def _ray_errors() -> Iterator[None]:
    """Turn what Ray raises when it is lost into one clear error."""
    try:
        yield
    except (RayError, ConnectionError) as error:
        raise ExecutorError(f"Ray was lost: {_first_line(error)}. {_KEPT}") from error


def _unreachable(place: tuple[str, int]) -> str | None:
    try:
        socket.create_connection(place, timeout=_CHECK_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _connect(address: str | None, workers: int | None) -> None:
    # Ray prints the cluster's errors to the standard output, whatever it is told, where `--json` writes.
    ray._private.worker.listen_error_messages = lambda *_: None
    environment = {"env_vars": {**_KEEP_MEMORY, "OMP_NUM_THREADS": "1"}}
    if address is None:
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env=environment,
        )
    else:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
