"""Runs jobs: claims one, goes on with its search, and holds its lease meanwhile."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum, auto
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from energy import hardware_names
from search.answers.result import SearchResult
from search.api import _run as api
from search.cli.running import interruptible
from search.errors import (
    ExecutorError,
    NewerSchemaError,
    SearchBusyError,
    SearchError,
    StorageError,
    UnknownNameError,
)
from search.locations import MULTIPLIER_VARIABLE
from search.report import words as report
from search.report.progress import Stoppable
from search.space.candidate import Candidate
from search.store.store import Record, SearchRecord
from service.jobs import Job, JobState, JobStore, LeaseLostError
from service.questions import Question

_IDLE_S = 0.5  # between two looks for a job
_BEAT_S = 5.0  # between two signs of life
_BUSY_S = 2.0  # before another look, where the search is being run
_PAUSES_S = (2.0, 5.0, 15.0, 30.0, 60.0)  # before another look, where the last ones came to nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Where and by what evaluations are made; see `search.run`.

    Attributes:
        storage: Results database, as an SQLAlchemy URL.
        workers: Ray workers.
        data_dir: Folder of datasets.
        stages: Folder or fsspec URL of trained networks.
        stages_limit: Of what is kept there.
        ray_address: Of a Ray cluster to join.
        timeout_s: Time after which an evaluation is given up.
    """

    storage: str
    workers: int | None = None
    data_dir: str | None = None
    stages: str | None = None
    stages_limit: str | None = None
    ray_address: str | None = None
    timeout_s: float | None = None


class _Stop(Enum):
    """Why a job is stopped."""

    CANCELLED = auto()
    LOST = auto()
    ENDING = auto()  # the worker


class Worker:
    """A process that runs jobs, one at a time, until it is asked to end. Its `run` needs the main thread.

    Args:
        jobs: Where they are.
        work: How they are run.
        lease_s: After how long without a sign of life others take over.
        told: Is told in words what goes on.
    """

    def __init__(
        self, jobs: JobStore, work: Work, *, lease_s: float = 15.0, told: Callable[[str], None] = lambda text: None
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._jobs = jobs
        self._work = work
        self._uploads = jobs.uploads()
        self._lease_s = lease_s
        self._told = told
        self._ending = threading.Event()
        self._interrupting = threading.Lock()
        self._stop: _Stop | None = None
        self._job: Job | None = None
        self._troubles = 0  # in a row

    def end(self) -> None:
        """Ask it to end: a job under way is given back, for another worker to go on with."""
        self._ending.set()
        self._interrupt(_Stop.ENDING)

    def run(self, *, once: bool = False) -> None:
        """Run jobs until asked to end.

        Args:
            once: Whether to end when there is nothing to do.

        Raises:
            NewerSchemaError: If the database was brought to a schema that this version does not know.
        """
        with self._beating():
            while not self._ending.is_set():
                claimed_at = time.monotonic()
                try:
                    job = self._jobs.claim(self.name, lease_s=self._lease_s)
                except StorageError as error:  # a server that restarts; what is claimed meanwhile runs out
                    self._pause(str(error))
                    continue
                if job is not None:
                    self._run(job, claimed_at)
                elif once:
                    return
                else:
                    self._ending.wait(_IDLE_S)

    def _run(self, job: Job, claimed_at: float) -> None:
        """Run a job to its end, or as far as it may.

        Args:
            job: The job.
            claimed_at: When it was, by this machine's monotonic clock.
        """
        self._told(f"job {job.id}: {job.question.dataset} {job.question.target}, budget {job.question.budget}")
        self._stop = None
        observer = _JobObserver(self._jobs, job, self.name, held_until=claimed_at + self._lease_s)
        try:
            with self._leased(job, observer):
                try:
                    try:
                        result = self._search(job, observer)
                        self._jobs.note(job, self.name, "answer", report.answer_json(result.answer))
                    finally:
                        with self._interrupting:  # from here on it is not interrupted; what was sent before comes now
                            self._job = None
                except KeyboardInterrupt:
                    self._stopped(job)
                except LeaseLostError:
                    raise
                except NewerSchemaError:
                    self._jobs.finish(job, self.name, JobState.QUEUED)
                    raise
                except SearchBusyError as error:  # by a worker whose lease ran out, and which goes on some time
                    self._told(f"job {job.id}: {error}")
                    self._jobs.finish(job, self.name, JobState.QUEUED)
                    self._ending.wait(_BUSY_S)
                except (ExecutorError, StorageError) as error:  # Ray or the database is lost; other jobs fare no better
                    self._jobs.note(job, self.name, "note", {"text": f"it waits, and is tried again: {error}"})
                    self._jobs.finish(job, self.name, JobState.QUEUED)
                    self._pause(f"job {job.id}: {error}")
                except SearchError as error:  # of one job, which the others have no part in
                    self._fail(job, str(error))
                except Exception as error:
                    self._told(traceback.format_exc())
                    self._fail(job, f"{type(error).__name__}: {error}")
                else:
                    self._jobs.finish(job, self.name, JobState.FINISHED, confirmed=result.answer.confirmed)
                    self._troubles = 0
                    self._told(f"job {job.id} finished")
        except NewerSchemaError:
            raise
        except LeaseLostError as error:
            self._told(f"job {job.id}: {error}")
        except StorageError as error:  # its lease runs out
            self._pause(f"job {job.id}: {error}")

    def _fail(self, job: Job, error: str) -> None:
        self._told(f"job {job.id} failed: {error}")
        self._jobs.finish(job, self.name, JobState.FAILED, error=error)
        self._troubles = 0

    def _pause(self, why: str) -> None:
        """Say what came to nothing, and wait before the next try: longer if it did so before."""
        self._told(why)
        self._ending.wait(_PAUSES_S[min(self._troubles, len(_PAUSES_S) - 1)])
        self._troubles += 1

    def _stopped(self, job: Job) -> None:
        if self._stop is None:  # Ctrl-C, or a polite request to end
            self._ending.set()
        if self._stop is _Stop.LOST:
            return
        cancelled = self._stop is _Stop.CANCELLED
        self._jobs.finish(job, self.name, JobState.CANCELLED if cancelled else JobState.QUEUED)
        self._told(f"job {job.id} " + ("cancelled" if cancelled else "given back"))

    def _search(self, job: Job, observer: _JobObserver) -> SearchResult:
        question, work = job.question, self._work
        name = job.search_name or f"job-{job.id}"
        options: dict[str, Any] = {**asdict(work), "observer": observer}
        with self._brought(question) as hardware:
            try:
                own = None if hardware == question.hardware else hardware
                return api.resume(name, budget=question.budget, hardware=own, **options)
            except UnknownNameError:
                if job.search_name is not None:
                    raise
            return api.run(
                dataset=question.dataset,
                budget=question.budget,
                min_accuracy=question.min_accuracy,
                max_accuracy_drop=question.max_accuracy_drop,
                seed=question.seed,
                space=question.space,
                hardware=hardware,
                multipliers=question.multipliers,
                effort=question.effort,
                name=name,
                **options,
            )

    @contextmanager
    def _brought(self, question: Question) -> Iterator[str]:
        """Make what clients brought known to this process, as if it were a person's own; the hardware to search for."""
        brought = question.own_multipliers
        with TemporaryDirectory() as folder:
            hardware = question.hardware
            if hardware not in hardware_names():
                file = Path(folder) / "hardware.yaml"
                file.write_text(self._uploads.hardware_text(hardware), encoding="utf-8")
                hardware = str(file)
            before = os.environ.get(MULTIPLIER_VARIABLE)
            if brought:
                os.environ[MULTIPLIER_VARIABLE] = str(Path(folder) / "multipliers")
            try:
                for name in brought:
                    multiplier = self._uploads.multiplier(name)
                    multiplier.keep(self._uploads.table(multiplier))
                yield hardware
            finally:
                os.environ.pop(MULTIPLIER_VARIABLE, None)
                if before is not None:
                    os.environ[MULTIPLIER_VARIABLE] = before

    def _interrupt(self, why: _Stop) -> None:
        """Stop the job under way, wherever it is, as Ctrl-C would."""
        with self._interrupting:
            if self._job is not None and self._stop is None:
                self._stop = why
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    @contextmanager
    def _leased(self, job: Job, observer: _JobObserver) -> Iterator[None]:
        """Hold a job, and stop when it is to be cancelled or another has it."""
        done = threading.Event()

        def hold() -> None:
            while not done.wait(min(1.0, self._lease_s / 5)):
                asked_at = time.monotonic()
                try:
                    if self._jobs.renew(job, self.name, lease_s=self._lease_s):
                        self._interrupt(_Stop.CANCELLED)
                    observer.held_until = asked_at + self._lease_s
                except LeaseLostError:
                    self._interrupt(_Stop.LOST)
                except StorageError:
                    if time.monotonic() > observer.held_until:  # others have it, once the database is back
                        self._interrupt(_Stop.LOST)

        thread = threading.Thread(target=hold, daemon=True)
        with interruptible(observer):
            self._job = job
            if self._ending.is_set():  # it was asked to while it claimed
                self._interrupt(_Stop.ENDING)
            thread.start()
            try:
                yield
            finally:
                self._job = None
                done.set()
                thread.join()

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """Be known as alive, until it ends; if the database cannot be told then, it will notice."""
        done, heard = threading.Event(), threading.Event()

        def beat() -> None:
            while True:
                try:
                    self._jobs.beat(self.name, version=version("crosslayer"))
                    heard.set()
                except StorageError as error:
                    heard.clear()
                    self._told(str(error))
                if done.wait(_BEAT_S):
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(timeout=_BEAT_S)
            if heard.is_set() and not thread.is_alive():
                self._jobs.leave(self.name)


class _JobObserver(Stoppable):
    """Keeps what happens in a search as events of its job."""

    def __init__(self, jobs: JobStore, job: Job, worker: str, *, held_until: float) -> None:
        self._jobs, self._job, self._worker = jobs, job, worker
        self._evaluations = job.evaluations
        self.held_until = held_until  # by this machine's monotonic clock

    def _note(self, kind: str, data: dict[str, Any], **changes: Any) -> None:
        self._jobs.note(self._job, self._worker, kind, data, **changes)

    def storing(self) -> None:
        """Keep out what comes after the lease has run out: this process was held up, and another may have the job.

        Raises:
            LeaseLostError: If it has run out.
        """
        if time.monotonic() > self.held_until:
            raise LeaseLostError(f"the lease of job {self._job.id} ran out while this worker was held up")

    def noted(self, text: str) -> None:
        """Note it."""
        self._note("note", {"text": text})

    def started(self, search: SearchRecord, done: Sequence[Record], trials: int) -> None:
        """Note its name, by which it is gone on with, and what was evaluated before."""
        self._evaluations = trials
        data = {"name": search.name, "budget": search.budget, "evaluations": trials}
        self._note("search", data, search_name=search.name, evaluations=trials)

    def evaluated(self, record: Record, *, reused: bool) -> None:
        """Note the evaluation."""
        self._evaluations += 1
        evaluation = record.evaluation
        data = {
            "number": self._evaluations,
            "budget": self._job.question.budget,
            "id": record.id,
            "accuracy": evaluation.accuracy,
            "energy_pj": evaluation.energy_pj,
            "stopped": evaluation.stopped,
            "reused": reused,
        }
        self._note("evaluated", data, evaluations=self._evaluations, fruitful=True)
        super().evaluated(record, reused=reused)

    def failed(self, candidate: Candidate, error: str) -> None:
        """Note which failed."""
        self._note("failed", {"candidate": candidate.to_dict(), "error": error})

    def testing(self, count: int) -> None:
        """Note that the search is over."""
        self._note("testing", {"count": count})

    def confirming(self, candidate: Candidate, runs: int) -> None:
        """Note what is trained anew."""
        self._note("confirming", {"candidate": candidate.to_dict(), "runs": runs})
