"""The worker: claims jobs, runs their searches, and holds their leases meanwhile."""

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
from enum import Enum, auto
from importlib.metadata import version

import search
from search.answers import words
from search.answers.result import SearchResult
from search.api.interrupts import interruptible
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.errors import (
    ExecutorError,
    NewerSchemaError,
    SearchBusyError,
    SearchError,
    StorageError,
    UnknownNameError,
    in_words_of,
)
from search.observer import Stoppable
from search.report import json_values
from search.space.candidate import Candidate
from search.space.plan import Plan
from search.store.records import Record, SearchRecord
from service.database import Database
from service.inputs import InputFinder
from service.job_state import JobState
from service.jobs import Job, LeaseLostError
from service.leases import Leases

_IDLE_S = 0.5  # between attempts to claim a job
_BEAT_S = 5.0  # between signs of life
_BUSY_S = 2.0  # before the next claim, where another process is running the search
_PAUSES_S = (2.0, 5.0, 15.0, 30.0, 60.0)  # before the next claim, after consecutive failures


class _Stop(Enum):
    """Why a job is stopped."""

    CANCELLED = auto()
    LOST = auto()
    ENDING = auto()  # the worker


class Worker:
    """A process that runs jobs, one at a time, until asked to end. Its `run` must be called in the main thread.

    Args:
        database: The results database, which holds the jobs.
        workplace: Where evaluations are made.
        lease_s: Seconds without renewal after which another worker takes a job over.
        log: Called with each message.
    """

    def __init__(
        self,
        database: Database,
        workplace: Workplace,
        *,
        lease_s: float = 15.0,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._leases = Leases(database)
        self._inputs = InputFinder(database, workplace)
        self._lease_s = lease_s
        self._log = log
        self._ending = threading.Event()
        self._interrupting = threading.Lock()
        self._stop: _Stop | None = None
        self._job: Job | None = None
        self._failures = 0  # consecutive, of the database or Ray

    def end(self) -> None:
        """Ask the worker to end: a job under way is returned to the queue, for another worker to resume."""
        self._ending.set()
        self._interrupt(_Stop.ENDING)

    def run(self, *, once: bool = False) -> None:
        """Run jobs until asked to end.

        Args:
            once: Whether to end when no job is waiting.

        Raises:
            NewerSchemaError: If a newer version has upgraded the database.
        """
        with self._beating():
            while not self._ending.is_set():
                claimed_at = time.monotonic()
                try:
                    job = self._leases.claim(self.name, lease_s=self._lease_s)
                except StorageError as error:  # a server that is restarting; a lease granted meanwhile expires
                    self._pause(str(error))
                    continue
                if job is not None:
                    self._run(job, claimed_at)
                elif once:
                    return
                else:
                    self._ending.wait(_IDLE_S)

    def _run(self, job: Job, claimed_at: float) -> None:
        """Run a job until it ends or is interrupted.

        Args:
            job: The job.
            claimed_at: Time of the claim, by this machine's monotonic clock.
        """
        self._log(f"job {job.id}: {job.question.dataset} {job.question.target}, budget {job.question.budget}")
        self._stop = None
        observer = _JobObserver(self._leases, job, self.name, held_until=claimed_at + self._lease_s)
        try:
            with self._leased(job, observer):
                try:
                    try:
                        result = self._search(job, observer)
                        self._leases.note(job, self.name, "answer", json_values.answer_json(result.answer))
                    finally:
                        with self._interrupting:  # no interrupt is sent from here on; one sent before arrives now
                            self._job = None
                except KeyboardInterrupt:
                    self._stopped(job)
                except LeaseLostError:
                    raise
                except NewerSchemaError:
                    self._leases.finish(job, self.name, JobState.QUEUED)
                    raise
                except SearchBusyError as error:  # by a worker whose lease expired, and which has not stopped yet
                    self._log(f"job {job.id}: {error}")
                    self._leases.finish(job, self.name, JobState.QUEUED)
                    self._ending.wait(_BUSY_S)
                except (ExecutorError, StorageError) as error:  # other jobs would fail as well
                    text = f"returned to the queue: {in_words_of(str(error), str)}"
                    self._leases.note(job, self.name, "note", {"text": text})
                    self._leases.finish(job, self.name, JobState.QUEUED)
                    self._pause(f"job {job.id}: {error}")
                except SearchError as error:  # concerns this job only
                    self._fail(job, in_words_of(str(error), str))
                except Exception as error:
                    self._log(traceback.format_exc())
                    self._fail(job, f"{type(error).__name__}: {error}")
                else:
                    self._leases.finish(job, self.name, JobState.FINISHED, confirmed=result.answer.confirmed)
                    self._failures = 0
                    self._log(f"job {job.id} finished")
        except NewerSchemaError:
            raise
        except LeaseLostError as error:
            self._log(f"job {job.id}: {error}")
        except StorageError as error:  # the lease expires
            self._pause(f"job {job.id}: {error}")

    def _fail(self, job: Job, error: str) -> None:
        self._log(f"job {job.id} failed: {error}")
        self._leases.finish(job, self.name, JobState.FAILED, error=error)
        self._failures = 0

    def _pause(self, failure: str) -> None:
        """Log a failure, and wait before the next claim: longer after each consecutive failure."""
        self._log(failure)
        self._ending.wait(_PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)])
        self._failures += 1

    def _stopped(self, job: Job) -> None:
        if self._stop is None:  # Ctrl-C or SIGTERM
            self._ending.set()
        if self._stop is _Stop.LOST:
            return
        cancelled = self._stop is _Stop.CANCELLED
        self._leases.finish(job, self.name, JobState.CANCELLED if cancelled else JobState.QUEUED)
        self._log(f"job {job.id} " + ("cancelled" if cancelled else "returned to the queue"))

    def _search(self, job: Job, observer: _JobObserver) -> SearchResult:
        question = job.question
        name = job.search_name or f"job-{job.id}"
        with self._inputs.of(question) as inputs:
            try:
                return search.resume(
                    name,
                    budget=question.budget,
                    hardware=inputs.uploaded_hardware,
                    workplace=inputs.workplace,
                    observer=observer,
                )
            except UnknownNameError:
                if job.search_name is not None:
                    raise
            return search.run(
                task=inputs.task,
                hardware=inputs.hardware,
                min_accuracy=question.min_accuracy,
                max_accuracy_drop=question.max_accuracy_drop,
                max_area=question.max_area,
                budget=question.budget,
                seed=question.seed,
                effort=question.effort,
                multipliers=question.multipliers,
                options=SearchOptions(name=name, space=question.space),
                workplace=inputs.workplace,
                observer=observer,
            )

    def _interrupt(self, reason: _Stop) -> None:
        """Interrupt the job under way, as Ctrl-C would."""
        with self._interrupting:
            if self._job is not None and self._stop is None:
                self._stop = reason
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    @contextmanager
    def _leased(self, job: Job, observer: _JobObserver) -> Iterator[None]:
        """Renew the lease on a job, and interrupt the job if it is to be cancelled or the lease is lost."""
        done = threading.Event()

        def hold() -> None:
            while not done.wait(min(1.0, self._lease_s / 5)):
                asked_at = time.monotonic()
                try:
                    if self._leases.renew(job, self.name, lease_s=self._lease_s):
                        self._interrupt(_Stop.CANCELLED)
                    observer.held_until = asked_at + self._lease_s
                except LeaseLostError:
                    self._interrupt(_Stop.LOST)
                except StorageError:
                    if time.monotonic() > observer.held_until:  # once the database is back, others can claim the job
                        self._interrupt(_Stop.LOST)

        thread = threading.Thread(target=hold, daemon=True)
        with interruptible(observer):
            self._job = job
            if self._ending.is_set():  # asked to during the claim
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
        """Give signs of life during the block; without a database at its end, it counts as gone later."""
        done, heard = threading.Event(), threading.Event()

        def beat() -> None:
            while True:
                try:
                    self._leases.beat(self.name, version=version("crosslayer"))
                    heard.set()
                except StorageError as error:
                    heard.clear()
                    self._log(str(error))
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
                self._leases.leave(self.name)


class _JobObserver(Stoppable):
    """Records what happens in a search as events of its job."""

    def __init__(self, leases: Leases, job: Job, worker: str, *, held_until: float) -> None:
        self._leases, self._job, self._worker = leases, job, worker
        self._evaluations = job.evaluations
        self.held_until = held_until  # by this machine's monotonic clock

    def storing(self) -> None:
        """Keep results out of the database once the lease has expired, as another worker may hold the job by now.

        Raises:
            LeaseLostError: If it has expired.
        """
        if time.monotonic() > self.held_until:
            raise LeaseLostError(f"the lease of job {self._job.id} expired while this worker was suspended")

    def noted(self, text: str) -> None:
        """Record a note."""
        self._leases.note(self._job, self._worker, "note", {"text": in_words_of(text, str)})

    def started(self, search: SearchRecord, done: Sequence[Record], trials: int) -> None:
        """Record the name of the search, by which it is resumed, and the number of earlier evaluations."""
        self._evaluations = trials
        data = {"name": search.name, "budget": search.budget, "evaluations": trials}
        self._leases.note(self._job, self._worker, "search", data, search_name=search.name, evaluations=trials)

    def planned(self, plan: Plan) -> None:
        """Record how long the search will take."""
        data = {
            "text": in_words_of(words.plan(plan), str),
            "evaluations": plan.evaluations,
            "workers": plan.workers,
            "search_s": plan.search_s,
            "confirmation_s": plan.confirmation_s,
        }
        self._leases.note(self._job, self._worker, "plan", data)

    def evaluated(self, record: Record, *, reused: bool) -> None:
        """Record the evaluation."""
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
        self._leases.note(self._job, self._worker, "evaluated", data, evaluations=self._evaluations, fruitful=True)
        super().evaluated(record, reused=reused)

    def failed(self, candidate: Candidate, error: str) -> None:
        """Record the candidate that failed."""
        data = {"candidate": candidate.to_dict(), "error": in_words_of(error, str)}
        self._leases.note(self._job, self._worker, "failed", data)

    def testing(self, count: int) -> None:
        """Record that the search is over, and its front is measured on test images."""
        self._leases.note(self._job, self._worker, "testing", {"count": count})

    def confirming(self, candidate: Candidate, runs: int) -> None:
        """Record the candidate that is retrained."""
        self._leases.note(self._job, self._worker, "confirming", {"candidate": candidate.to_dict(), "runs": runs})
