"""Evaluates candidates in Ray actors, on this machine or on a cluster. Only this package imports Ray.

Each worker is one process with one thread. The images are put into Ray's shared memory once. A worker that dies, hangs
or is lost with its machine is replaced if there is room, and its job is retried once; a second failure is the job's
outcome. The other workers continue meanwhile.
"""

from __future__ import annotations

import logging
import os
import signal
import statistics
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import ray

from energy import Hardware
from search.errors import ExecutorError
from search.evaluation.confirmation_run import ConfirmationRun
from search.evaluation.datasets import TaskData
from search.evaluation.evaluation import Evaluation
from search.evaluation.work import Done, Outcome, Result, WorkItem
from search.executors.ray_errors import first_line
from search.executors.ray_head import RayHead
from search.executors.ray_pool import RayPool
from search.executors.ray_run import RayRun
from search.space.task import Task

if TYPE_CHECKING:
    from search.evaluation.cache.cache import TrainingCache
    from search.evaluation.evaluator import Evaluator
    from search.multipliers.choice import ChosenMultiplier

_logger = logging.getLogger(__name__)

# Row tables are allocated and freed at every training step; without these settings glibc returns each to the system and
# takes it back page by page, which halves the speed (malloc, mallopt(3)).
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
_MOST_BYTES = 103  # of a socket's path on macOS; 107 on Linux
_LONGEST_SOCKET = "ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
_SHORT = "/tmp"  # noqa: S108  where Ray's files are by default
_LEAST_TIMEOUT_S = 600
_TIMEOUT_FACTOR = 20  # of the median of the evaluations so far; without a given limit, longer ones have hung
_LONGEST_FACTOR = 3  # of the longest: with a warm cache most evaluations are short and a few are not


class _Worker:
    """A Ray actor. Large values come with each call, because Ray cannot restart an actor constructed from them."""

    def __init__(self, task: Task, hardware: Hardware, seed: int, cache: TrainingCache) -> None:
        self._settings = (task, hardware, seed, cache)
        self._evaluator: Evaluator | None = None
        self._warnings = _Warnings()
        logging.getLogger("search").addHandler(self._warnings)
        with suppress(ImportError):  # the first job reports it
            import search.evaluation.evaluator  # noqa: F401  takes seconds, while the search gets ready

    def evaluate(
        self, job: WorkItem[Result], data: TaskData, multipliers: Sequence[ChosenMultiplier]
    ) -> tuple[Outcome[Result], list[str]]:
        if self._evaluator is None:
            from search.evaluation.evaluator import Evaluator

            task, hardware, seed, cache = self._settings
            self._evaluator = Evaluator(task, data.opened(), hardware, seed=seed, cache=cache, multipliers=multipliers)
        outcome = self._evaluator.run(job)
        return outcome, self._warnings.taken()


class _Warnings(logging.Handler):
    """Keeps a worker's log messages, which nobody would see, until they are returned with an outcome."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(record.getMessage())

    def taken(self) -> list[str]:
        """Return the messages since the last call."""
        texts, self._texts = self._texts, []
        return texts


class RayExecutor:
    """Evaluates in Ray actors.

    A cluster's machines need the same version of this package and the modules of custom networks at the same paths;
    trained networks travel through the cache. If a cluster was started with a token, this process needs the same token
    (on its head: `ray get-auth-token`): Ray looks for it in `RAY_AUTH_TOKEN`, in the file that `RAY_AUTH_TOKEN_PATH`
    names and in `~/.ray/auth_token`, and uses it unless `RAY_AUTH_MODE` is `disabled`.

    Args:
        task: The task.
        data: Its images.
        hardware: Hardware for which energy is modelled.
        seed: Seed of the search.
        cache: Cache of trained networks.
        workers: Number of actors, of one processor core each; None for all cores of a cluster.
        multipliers: Multipliers that candidates may have.
        address: Address of a cluster to join, as `ray.init` takes it; None starts Ray on this machine.
        timeout_s: Time limit of a job, in seconds; None for a multiple of the times of other jobs.

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
        cache: TrainingCache,
        workers: int | None,
        multipliers: Sequence[ChosenMultiplier] = (),
        address: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray 3 does; else Ray 2 warns
        if ray.is_initialized():
            raise ExecutorError("this process already uses Ray; evaluate without it with `workers` 0, or shut it down")
        self._timeout_s = timeout_s
        self._seconds: list[float] = []
        self._warned: set[str] = set()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _connect(address, workers)
            if threading.current_thread() is threading.main_thread() and handler is not None:
                signal.signal(signal.SIGTERM, handler)  # Ray installs one that ends the process at once
            self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            self._shared = (ray.put(data.closed() if address is None else data), ray.put(tuple(multipliers)))
            remote = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Worker)
            self._pool = RayPool(
                lambda: remote.remote(task, hardware, seed, cache), self.workers, shared=address is not None
            )
            self._head = RayHead(address)
        except KeyboardInterrupt:
            ray.shutdown()
            raise
        except Exception as error:  # Ray raises bare exceptions, such as when its start times out
            ray.shutdown()
            where = "Ray could not start" if address is None else f"no Ray cluster could be joined at {address!r}"
            raise ExecutorError(
                f"{where}: {first_line(error)}. Evaluate in this process instead with `workers` 0"
            ) from error

    def run(self, jobs: Iterable[WorkItem[Result]]) -> Iterator[Outcome[Result]]:
        """Evaluate every job and yield each outcome once, in order of completion.

        Raises:
            ExecutorError: If Ray is lost, or no worker can be kept alive.
        """
        run = RayRun(self._pool, self._shared, iter(jobs), self._warn)
        try:
            while run.hand_out():
                for outcome in run.outcomes():
                    self._learn(outcome)
                    yield outcome
                yield from run.give_up_after(self._limit_s())
                self._head.check()
        finally:
            run.leave()

    def _learn(self, outcome: Outcome[Result]) -> None:
        if isinstance(outcome, Done) and isinstance(outcome.result, Evaluation | ConfirmationRun):
            self._seconds.append(outcome.result.seconds)

    def _warn(self, text: str) -> None:
        """Log a worker's warning, once for all workers."""
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
        with suppress(Exception):  # if Ray is gone, the error that is already raised says what happened
            self._pool.end()
        with suppress(Exception):
            ray.shutdown()


def _temporary_folder() -> str | None:
    """Return a folder for Ray's files, if sockets in its usual one would have paths longer than systems allow.

    Temporary folders of clusters and of macOS are often that long.

    Raises:
        ExecutorError: If there is no folder with a shorter path.
    """
    usual = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(os.path.join(usual, _LONGEST_SOCKET))) <= _MOST_BYTES:
        return None
    if os.access(_SHORT, os.W_OK | os.X_OK):
        return os.path.join(_SHORT, "ray")
    raise ExecutorError(
        f"Ray's sockets would lie in {usual}, whose path is too long for them, and {_SHORT} cannot be written; name "
        f"a folder of at most {_MOST_BYTES - len(_LONGEST_SOCKET) - 1} characters as $RAY_TMPDIR, or evaluate in this "
        "process with `workers` 0"
    )


def _connect(address: str | None, workers: int | None) -> None:
    # Whatever its settings, Ray prints the cluster's errors to standard output, which `--json` needs.
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
            _temp_dir=_temporary_folder(),
        )
    else:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)
