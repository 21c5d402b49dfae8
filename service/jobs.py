"""Searches that were asked for, in SQL: a queue that survives whatever happens to those who fill it and empty it.

    queued ──► running ──► finished
      │  ▲        │ │ └──► failed ────┐
      │  └────────┘ └────► cancelled ─┤  resume: queued again
      └──────────────────────▲  ◄─────┘

A worker holds a running job by a lease, which it renews. If it dies the lease runs out, and another worker claims the
job and goes on with its search. Whoever has lost a lease writes no more: every write of a worker says whose it is.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, aliased, sessionmaker

from search.store.schema import open_engine, storage_errors
from service.job_state import JobState as JobState
from service.questions import Question
from service.tables import IdempotencyRow, JobEventRow, JobRow, WorkerRow
from service.uploads import Uploads

_FRUITLESS_CLAIMS = 10  # in a row, after which a job is what kills its workers
_IDEMPOTENCY_KEPT = timedelta(days=1)
_WORKER_SILENT_S = 30.0  # after which a worker counts as gone
_WORKER_FORGOTTEN_S = 3600.0


class JobError(Exception):
    """A job cannot be had, or not that way. Base of the others."""


class UnknownJobError(JobError):
    """There is no such job."""


class JobStateError(JobError):
    """The job stands where that is not possible."""


class QueueFullError(JobError):
    """As many jobs are waiting as may."""


class IdempotencyError(JobError):
    """A client uses a key again for something else."""


class LeaseLostError(JobError):
    """The job is another worker's by now, or was deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A search that was asked for.

    Attributes:
        number: Its place in the order of all.
        id: Its name, which tells nothing.
        client: Who asked.
        question: For what.
        state: Where it stands.
        evaluations: How many are made, of `question.budget`.
        search_name: Of its search; None until it began.
        confirmed: Whether fresh runs confirmed its answer; None until it is finished.
        error: Why it failed.
        cancelling: Whether it is to be cancelled as soon as its worker can.
        worker: Who runs it.
        last_event: Number of the last of its events.
        created_at: In UTC, like the next two.
        started_at: When it last began to run.
        ended_at: When it ended.
    """

    number: int
    id: str
    client: str
    question: Question
    state: JobState
    evaluations: int
    search_name: str | None
    confirmed: bool | None
    error: str | None
    cancelling: bool
    worker: str | None
    last_event: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How many jobs may wait.

    Attributes:
        all: Of all clients together.
        each: Of one client.
    """

    all: int
    each: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something that happened to a job.

    Attributes:
        number: Within the job, from 1.
        kind: `state`, `search`, `evaluated`, `failed`, `testing`, `confirming`, `note` or `answer`.
        data: What there is to say of it, as a JSON object.
        created_at: In UTC.
    """

    number: int
    kind: str
    data: Mapping[str, Any]
    created_at: datetime


class JobStore:
    """The jobs in a results database. Open it with `JobStore.open`, close it after use."""

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self._engine = engine
        self._sessions = sessionmaker(engine)

    @classmethod
    def open(cls, url: str) -> JobStore:
        """Open the database, made if need be.

        Raises:
            StorageError: See `search.store.schema.open_engine`.
        """
        return cls(url, open_engine(url, create=True))

    def uploads(self) -> Uploads:
        """What clients brought, in the same database."""
        return Uploads(self.url, self._engine)

    def close(self) -> None:
        """Give back the database connections."""
        self._engine.dispose()

    def __enter__(self) -> JobStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with storage_errors(self.url), self._sessions.begin() as session:
            yield session

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """A transaction in which what was read stays true until it is written."""
        with self._reading() as session:
            if self._engine.dialect.name == "sqlite":
                # Python's sqlite3 begins one at the first write only, and knows no locks of rows.
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session

    def _time(self, session: Session) -> float:
        """Seconds since 1970 by the clock that all who share the database share."""
        if self._engine.dialect.name == "sqlite":
            return time.time()
        return float(session.scalar(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))) or 0.0)

    def submit(
        self, question: Question, *, client: str, limits: QueueLimits, idempotency_key: str | None = None
    ) -> tuple[Job, bool]:
        """Put a job in the queue, unless the same client's same question is there or under way.

        Args:
            question: What is asked for.
            client: Who asks.
            limits: How many may wait.
            idempotency_key: Of the client's own: the same key and question give the same job, for a day.

        Returns:
            The job, and whether it is new.

        Raises:
            QueueFullError: If as many wait as may.
            IdempotencyError: If the key was used for another question.
        """
        with self._writing() as session:
            self._lock_queue(session)
            if idempotency_key is not None:
                session.execute(sa.delete(IdempotencyRow).where(IdempotencyRow.created_at < _now() - _IDEMPOTENCY_KEPT))
                used = _used(session, question, client, idempotency_key)
                if used is not None:
                    return _job(used), False
            row = _under_way(session, client, question.key)
            new = row is None
            if row is None:
                _check_room(session, client, limits)
                row = JobRow(
                    id=secrets.token_hex(8),
                    client=client,
                    question=question.to_dict(),
                    question_key=question.key,
                    state=JobState.QUEUED,
                    budget=question.budget,
                    evaluations=0,
                    cancelling=False,
                    fruitless=0,
                    last_event=0,
                    created_at=_now(),
                )
                session.add(row)
                session.flush()
                _note_state(session, row)
            if idempotency_key is not None:
                session.add(
                    IdempotencyRow(
                        client=client, key=idempotency_key, digest=question.key, job=row.number, created_at=_now()
                    )
                )
            session.flush()
            return _job(row), new

    def asked_before(self, question: Question, *, client: str, idempotency_key: str) -> Job | None:
        """The job that a client's key was used for, if it was.

        Raises:
            IdempotencyError: If that was for another question.
        """
        with self._reading() as session:
            row = _used(session, question, client, idempotency_key)
            return None if row is None else _job(row)

    def _lock_queue(self, session: Session) -> None:
        """Let nobody add to the queue until the transaction ends; SQLite has one writer anyway."""
        if self._engine.dialect.name == "postgresql":  # the number of those that wait is no row to be locked
            session.execute(sa.select(sa.func.pg_advisory_xact_lock(_QUEUE_LOCK)))

    def find(self, job_id: str) -> Job:
        """The job of this name.

        Raises:
            UnknownJobError: If there is none.
        """
        with self._reading() as session:
            return _job(_row(session, job_id))

    def jobs(self, *, before: int | None = None, limit: int, state: JobState | None = None) -> list[Job]:
        """Jobs, the newest first.

        Args:
            before: Only those with lower numbers.
            limit: How many at most.
            state: Only those that stand there.
        """
        chosen = sa.select(JobRow).order_by(JobRow.number.desc()).limit(limit)
        if before is not None:
            chosen = chosen.where(JobRow.number < before)
        if state is not None:
            chosen = chosen.where(JobRow.state == state)
        with self._reading() as session:
            return [_job(row) for row in session.scalars(chosen)]

    def newest(self, question: Question, state: JobState) -> Job | None:
        """The newest job for a question, whoever asked, that stands there."""
        with self._reading() as session:
            row = session.scalars(
                sa.select(JobRow)
                .where(JobRow.question_key == question.key, JobRow.state == state)
                .order_by(JobRow.number.desc())
            ).first()
            return None if row is None else _job(row)

    def under_way(self) -> list[Job]:
        """Those that wait or run."""
        chosen = sa.select(JobRow).where(JobRow.state.in_((JobState.QUEUED, JobState.RUNNING)))
        with self._reading() as session:
            return [_job(row) for row in session.scalars(chosen)]

    def counts(self) -> dict[JobState, int]:
        """How many jobs stand where."""
        with self._reading() as session:
            rows = session.execute(sa.select(JobRow.state, sa.func.count()).group_by(JobRow.state)).all()
        found = dict.fromkeys(JobState, 0)
        return found | {JobState(state): count for state, count in rows}

    def events(self, job: Job, *, after: int = 0) -> list[JobEvent]:
        """What happened to a job after an event, in order."""
        with self._reading() as session:
            rows = session.scalars(
                sa.select(JobEventRow)
                .where(JobEventRow.job == job.number, JobEventRow.number > after)
                .order_by(JobEventRow.number)
            )
            return [
                JobEvent(number=row.number, kind=row.kind, data=row.data, created_at=row.created_at) for row in rows
            ]

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once if it waits, else as soon as its worker notices.

        Raises:
            UnknownJobError: If there is none.
            JobStateError: If it has ended.
        """
        with self._writing() as session:
            row = _row(session, job_id, lock=True)
            if JobState(row.state).ended:
                raise JobStateError(f"job {job_id} is {row.state} and cannot be cancelled")
            if row.state == JobState.QUEUED or (row.lease_until or 0) < self._time(session):  # or its worker died
                _end(session, row, JobState.CANCELLED)
            elif not row.cancelling:
                row.cancelling = True
                _note_state(session, row)
            session.flush()
            return _job(row)

    def resume(self, job_id: str, *, limits: QueueLimits) -> Job:
        """Put a job that failed or was cancelled in the queue again; it goes on from where it was.

        Raises:
            UnknownJobError: If there is none.
            JobStateError: If it stands elsewhere, or its client's same question is under way again.
            QueueFullError: If as many wait as may.
        """
        with self._writing() as session:
            row = _row(session, job_id, lock=True)
            if row.state not in (JobState.FAILED, JobState.CANCELLED):
                raise JobStateError(f"job {job_id} is {row.state}; only a failed or cancelled one can be resumed")
            self._lock_queue(session)
            if (other := _under_way(session, row.client, row.question_key)) is not None:
                raise JobStateError(f"job {other.id} of the same client asks for the same and is {other.state}")
            _check_room(session, row.client, limits)
            row.state, row.error, row.ended_at, row.fruitless = JobState.QUEUED, None, None, 0
            _note_state(session, row)
            session.flush()
            return _job(row)

    def delete(self, job_id: str) -> None:
        """Forget a job that has ended, with its events. What its search found is kept.

        Raises:
            UnknownJobError: If there is none.
            JobStateError: If it has not ended.
        """
        with self._writing() as session:
            row = _row(session, job_id, lock=True)
            if not JobState(row.state).ended:
                raise JobStateError(f"job {job_id} is {row.state}; cancel it first")
            for table in (IdempotencyRow, JobEventRow):
                session.execute(sa.delete(table).where(table.job == row.number))
            session.delete(row)

    def claim(self, worker: str, *, lease_s: float) -> Job | None:
        """Take over a job that waits, or whose worker has died: each is had by one worker.

        Clients take turns: first comes who has the fewest running, then who has waited longest since one was begun.

        Args:
            worker: Who claims.
            lease_s: For how long, unless it is renewed.

        Returns:
            The job; None if there is nothing to do.
        """
        with self._writing() as session:
            now = self._time(session)
            lost = sa.and_(JobRow.state == JobState.RUNNING, JobRow.lease_until < now)
            claimable = sa.or_(JobRow.state == JobState.QUEUED, lost)
            other = aliased(JobRow)
            of_client = other.client == JobRow.client
            running = (
                sa.select(sa.func.count()).where(of_client, other.state == JobState.RUNNING).correlate(JobRow)
            ).scalar_subquery()
            last = sa.select(sa.func.max(other.started_at)).where(of_client).correlate(JobRow).scalar_subquery()
            first = (
                sa.select(JobRow.number)
                .where(claimable)
                .order_by(lost.desc(), running, last.nulls_first(), JobRow.number)
                .limit(1)
                .with_for_update(skip_locked=True, of=JobRow)  # SQLite knows no such thing, and has one writer
            )
            row = session.scalars(
                sa.update(JobRow)
                .where(JobRow.number == first.scalar_subquery(), claimable)
                .values(
                    state=JobState.RUNNING,
                    worker=worker,
                    lease_until=now + lease_s,
                    fruitless=JobRow.fruitless + 1,
                    started_at=_now(),
                )
                .returning(JobRow),
                execution_options={"synchronize_session": False},
            ).one_or_none()
            if row is None:
                return None
            if row.cancelling:  # its worker died of it
                _end(session, row, JobState.CANCELLED)
            elif row.fruitless > _FRUITLESS_CLAIMS:
                _end(
                    session,
                    row,
                    JobState.FAILED,
                    error=f"its worker was lost {_FRUITLESS_CLAIMS} times in a row, and no evaluation came of it",
                )
            else:
                _note_state(session, row)
            session.flush()
            job = _job(row)
        return job if job.state is JobState.RUNNING else self.claim(worker, lease_s=lease_s)

    def renew(self, job: Job, worker: str, *, lease_s: float) -> bool:
        """Hold a job for longer.

        Returns:
            Whether it is to be cancelled.

        Raises:
            LeaseLostError: If somebody else has it.
        """
        with self._writing() as session:
            until = self._time(session) + lease_s
            found = session.scalars(
                sa.update(JobRow).where(*_held(job, worker)).values(lease_until=until).returning(JobRow.cancelling)
            ).one_or_none()
        if found is None:
            raise _lease_lost(job)
        return found

    def note(
        self,
        job: Job,
        worker: str,
        kind: str,
        data: Mapping[str, Any],
        *,
        search_name: str | None = None,
        evaluations: int | None = None,
        fruitful: bool = False,
    ) -> None:
        """Keep what happened to a job that a worker holds.

        Args:
            job: The job.
            worker: Who holds it.
            kind: See `JobEvent`.
            data: Likewise.
            search_name: Of its search, once it has one.
            evaluations: How many are made by now, if that is known.
            fruitful: Whether the worker got on with it, so that the job is none that kills its workers.

        Raises:
            LeaseLostError: If somebody else has it.
        """
        values: dict[str, Any] = {"last_event": JobRow.last_event + 1}
        if search_name is not None:
            values["search_name"] = search_name
        if evaluations is not None:
            values["evaluations"] = evaluations
        if fruitful:
            values["fruitless"] = 0
        with self._writing() as session:
            number = session.scalars(
                sa.update(JobRow).where(*_held(job, worker)).values(values).returning(JobRow.last_event)
            ).one_or_none()
            if number is None:
                raise _lease_lost(job)
            session.add(JobEventRow(job=job.number, number=number, kind=kind, data=dict(data), created_at=_now()))

    def finish(
        self,
        job: Job,
        worker: str,
        state: JobState,
        *,
        error: str | None = None,
        confirmed: bool | None = None,
    ) -> None:
        """Say how a job ended, or, with `queued`, give it back for others to go on with.

        Raises:
            LeaseLostError: If somebody else has it.
        """
        with self._writing() as session:
            row = session.scalars(
                sa.update(JobRow).where(*_held(job, worker)).values(confirmed=confirmed).returning(JobRow),
                execution_options={"synchronize_session": False},
            ).one_or_none()
            if row is None:
                raise _lease_lost(job)
            if state is JobState.QUEUED and row.cancelling:
                _end(session, row, JobState.CANCELLED)
            elif state is JobState.QUEUED:
                row.state, row.worker, row.lease_until = state, None, None
                row.fruitless = max(0, row.fruitless - 1)  # it is no fault of the job's
                _note_state(session, row)
            else:
                _end(session, row, state, error=error)

    def beat(self, worker: str, *, version: str) -> None:
        """Say that a worker lives."""
        with self._writing() as session:
            row = session.get(WorkerRow, worker)
            if row is None:
                row = WorkerRow(name=worker, version=version, started_at=_now(), seen_s=0.0)
                session.add(row)
            row.seen_s = self._time(session)
            session.execute(sa.delete(WorkerRow).where(WorkerRow.seen_s < row.seen_s - _WORKER_FORGOTTEN_S))

    def leave(self, worker: str) -> None:
        """Say that a worker ends."""
        with self._writing() as session:
            session.execute(sa.delete(WorkerRow).where(WorkerRow.name == worker))

    def workers(self) -> int:
        """How many workers were heard of lately."""
        with self._reading() as session:
            live = sa.select(sa.func.count()).where(WorkerRow.seen_s >= self._time(session) - _WORKER_SILENT_S)
            return session.scalar(live) or 0


_QUEUE_LOCK = 0x63726F73  # of PostgreSQL's advisory locks, the one of this queue


def _row(session: Session, job_id: str, *, lock: bool = False) -> JobRow:
    chosen = sa.select(JobRow).where(JobRow.id == job_id)
    row = session.scalars(chosen.with_for_update() if lock else chosen).one_or_none()
    if row is None:
        raise UnknownJobError(f"there is no job {job_id!r}")
    return row


def _held(job: Job, worker: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on the row of a job that a worker holds."""
    return (JobRow.number == job.number, JobRow.worker == worker, JobRow.state == JobState.RUNNING)


def _used(session: Session, question: Question, client: str, idempotency_key: str) -> JobRow | None:
    """The job that a client's key was used for, if it was.

    Raises:
        IdempotencyError: If that was for another question.
    """
    used = session.get(IdempotencyRow, (client, idempotency_key))
    if used is None:
        return None
    if used.digest != question.key:
        raise IdempotencyError(f"the Idempotency-Key {idempotency_key!r} was used for another request; use a new key")
    return session.get_one(JobRow, used.job)


def _under_way(session: Session, client: str, question_key: str) -> JobRow | None:
    """A client's job for the same question that waits or runs."""
    return session.scalars(
        sa.select(JobRow).where(
            JobRow.client == client,
            JobRow.question_key == question_key,
            JobRow.state.in_((JobState.QUEUED, JobState.RUNNING)),
            sa.not_(JobRow.cancelling),
        )
    ).first()


def _check_room(session: Session, client: str, limits: QueueLimits) -> None:
    """Refuse one more job where as many wait as may.

    Raises:
        QueueFullError: If they do.
    """
    queued = sa.select(sa.func.count()).where(JobRow.state == JobState.QUEUED)
    waiting = session.scalar(queued) or 0
    if waiting >= limits.all:
        raise QueueFullError(f"{waiting} jobs are waiting, and no more may; try again later")
    own = session.scalar(queued.where(JobRow.client == client)) or 0
    if own >= limits.each:
        raise QueueFullError(f"{own} of your jobs are waiting, and no more of one client may; try again later")


def _lease_lost(job: Job) -> LeaseLostError:
    return LeaseLostError(f"job {job.id} is held by another worker, or is no more")


def _end(session: Session, row: JobRow, state: JobState, *, error: str | None = None) -> None:
    row.state, row.error, row.ended_at = state, error, _now()
    row.worker, row.lease_until, row.cancelling = None, None, False
    _note_state(session, row)


def _note_state(session: Session, row: JobRow) -> None:
    """Let those who follow the job know where it stands."""
    row.last_event += 1
    data: dict[str, Any] = {"state": row.state, "cancelling": row.cancelling, "evaluations": row.evaluations}
    if row.error is not None:
        data["error"] = row.error
    if row.confirmed is not None:
        data["confirmed"] = row.confirmed
    session.add(JobEventRow(job=row.number, number=row.last_event, kind="state", data=data, created_at=_now()))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _job(row: JobRow) -> Job:
    return Job(
        number=row.number,
        id=row.id,
        client=row.client,
        question=Question.from_dict(row.question),
        state=JobState(row.state),
        evaluations=row.evaluations,
        search_name=row.search_name,
        confirmed=row.confirmed,
        error=row.error,
        cancelling=row.cancelling,
        worker=row.worker,
        last_event=row.last_event,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
