"""The clients' side of the job queue: submit, look up, cancel, resume and delete jobs, and read their events.

The queue is kept in SQL, so it survives the death of any client, service or worker.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.database import Database
from service.job_state import JobState
from service.jobs import (
    IdempotencyError,
    Job,
    JobEvent,
    JobStateError,
    QueueFullError,
    UnknownJobError,
    end_job,
    job_of,
    record_state,
)
from service.questions import Question
from service.tables import IdempotencyRow, JobEventRow, JobRow, utc_now

_IDEMPOTENCY_KEPT = timedelta(days=1)
_QUEUE_LOCK = 0x63726F73  # the PostgreSQL advisory lock of this queue


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """The maximum number of waiting jobs.

    Attributes:
        total: Jobs of all clients together.
        per_client: Jobs of one client.
    """

    total: int
    per_client: int


class JobQueue:
    """The queue of jobs in a results database.

    Args:
        database: The results database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(
        self, question: Question, *, client: str, limits: QueueLimits, idempotency_key: str | None = None
    ) -> tuple[Job, bool]:
        """Put a job in the queue, unless the same client's same question is already waiting or running.

        Args:
            question: What the client asks for.
            client: Name of the client.
            limits: How many jobs may wait.
            idempotency_key: Chosen by the client: for a day, the same key and question give the same job.

        Returns:
            The job, and whether it is new.

        Raises:
            QueueFullError: If the maximum number of jobs is waiting.
            IdempotencyError: If the key was used for a different question.
        """
        with self._database.exclusive_transaction() as session:
            self._lock(session)
            if idempotency_key is not None:
                expired = IdempotencyRow.created_at < utc_now() - _IDEMPOTENCY_KEPT
                session.execute(sa.delete(IdempotencyRow).where(expired))
                earlier = _job_of_key(session, question, client, idempotency_key)
                if earlier is not None:
                    return job_of(earlier), False
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
                    created_at=utc_now(),
                )
                session.add(row)
                session.flush()
                record_state(session, row)
            if idempotency_key is not None:
                session.add(
                    IdempotencyRow(
                        client=client, key=idempotency_key, digest=question.key, job=row.number, created_at=utc_now()
                    )
                )
            session.flush()
            return job_of(row), new

    def check_idempotency(self, question: Question, *, client: str, idempotency_key: str) -> None:
        """Check that a client did not use an idempotency key for a different question before.

        Raises:
            IdempotencyError: If it did.
        """
        with self._database.transaction() as session:
            _job_of_key(session, question, client, idempotency_key)

    def _lock(self, session: Session) -> None:
        """Let nobody else add to the queue until the transaction ends."""
        if self._database.engine.dialect.name == "postgresql":  # a count cannot be locked; SQLite has one writer anyway
            session.execute(sa.select(sa.func.pg_advisory_xact_lock(_QUEUE_LOCK)))

    def find(self, job_id: str) -> Job:
        """The job with this id.

        Raises:
            UnknownJobError: If there is none.
        """
        with self._database.transaction() as session:
            return job_of(_row(session, job_id))

    def jobs(self, *, before: int | None = None, limit: int, state: JobState | None = None) -> list[Job]:
        """Jobs, newest first.

        Args:
            before: Only jobs with lower numbers.
            limit: Maximum number of jobs.
            state: Only jobs in this state.
        """
        chosen = sa.select(JobRow).order_by(JobRow.number.desc()).limit(limit)
        if before is not None:
            chosen = chosen.where(JobRow.number < before)
        if state is not None:
            chosen = chosen.where(JobRow.state == state)
        with self._database.transaction() as session:
            return [job_of(row) for row in session.scalars(chosen)]

    def newest(self, question: Question, state: JobState) -> Job | None:
        """The newest job in a state for a question, whoever asked it."""
        with self._database.transaction() as session:
            row = session.scalars(
                sa.select(JobRow)
                .where(JobRow.question_key == question.key, JobRow.state == state)
                .order_by(JobRow.number.desc())
            ).first()
            return None if row is None else job_of(row)

    def under_way(self) -> list[Job]:
        """The jobs that are waiting or running."""
        chosen = sa.select(JobRow).where(JobRow.state.in_((JobState.QUEUED, JobState.RUNNING)))
        with self._database.transaction() as session:
            return [job_of(row) for row in session.scalars(chosen)]

    def counts(self) -> dict[JobState, int]:
        """Number of jobs in each state."""
        with self._database.transaction() as session:
            rows = session.execute(sa.select(JobRow.state, sa.func.count()).group_by(JobRow.state)).all()
        found = dict.fromkeys(JobState, 0)
        return found | {JobState(state): count for state, count in rows}

    def events(self, job: Job, *, after: int = 0) -> list[JobEvent]:
        """The events of a job after the one with a given number, in order."""
        with self._database.transaction() as session:
            rows = session.scalars(
                sa.select(JobEventRow)
                .where(JobEventRow.job == job.number, JobEventRow.number > after)
                .order_by(JobEventRow.number)
            )
            return [
                JobEvent(number=row.number, kind=row.kind, data=row.data, created_at=row.created_at) for row in rows
            ]

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once if it is waiting, else as soon as its worker notices.

        Raises:
            UnknownJobError: If there is none with this id.
            JobStateError: If it has ended.
        """
        with self._database.exclusive_transaction() as session:
            row = _row(session, job_id, lock=True)
            if JobState(row.state).ended:
                raise JobStateError(f"job {job_id} is {row.state} and cannot be cancelled")
            if row.state == JobState.QUEUED or (row.lease_until or 0) < self._database.seconds(
                session
            ):  # its worker died
                end_job(session, row, JobState.CANCELLED)
            elif not row.cancelling:
                row.cancelling = True
                record_state(session, row)
            session.flush()
            return job_of(row)

    def resume(self, job_id: str, *, limits: QueueLimits) -> Job:
        """Put a failed or cancelled job back in the queue; it resumes where it stopped.

        Raises:
            UnknownJobError: If there is none with this id.
            JobStateError: If it is in another state, or the same client's same question is under way again.
            QueueFullError: If the maximum number of jobs is waiting.
        """
        with self._database.exclusive_transaction() as session:
            row = _row(session, job_id, lock=True)
            if row.state not in (JobState.FAILED, JobState.CANCELLED):
                raise JobStateError(f"job {job_id} is {row.state}; only failed or cancelled jobs can be resumed")
            self._lock(session)
            if (other := _under_way(session, row.client, row.question_key)) is not None:
                raise JobStateError(f"job {other.id} of the same client asks the same question and is {other.state}")
            _check_room(session, row.client, limits)
            row.state, row.error, row.ended_at, row.fruitless = JobState.QUEUED, None, None, 0
            record_state(session, row)
            session.flush()
            return job_of(row)

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended, with its events. The results of its search are kept.

        Raises:
            UnknownJobError: If there is none with this id.
            JobStateError: If it has not ended.
        """
        with self._database.exclusive_transaction() as session:
            row = _row(session, job_id, lock=True)
            if not JobState(row.state).ended:
                raise JobStateError(f"job {job_id} is {row.state}; cancel it first")
            for table in (IdempotencyRow, JobEventRow):
                session.execute(sa.delete(table).where(table.job == row.number))
            session.delete(row)


def _row(session: Session, job_id: str, *, lock: bool = False) -> JobRow:
    chosen = sa.select(JobRow).where(JobRow.id == job_id)
    row = session.scalars(chosen.with_for_update() if lock else chosen).one_or_none()
    if row is None:
        raise UnknownJobError(f"there is no job {job_id!r}")
    return row


def _job_of_key(session: Session, question: Question, client: str, idempotency_key: str) -> JobRow | None:
    """The job that a client used an idempotency key for; None if the key is new.

    Raises:
        IdempotencyError: If it was used for a different question.
    """
    used = session.get(IdempotencyRow, (client, idempotency_key))
    if used is None:
        return None
    if used.digest != question.key:
        raise IdempotencyError(f"the Idempotency-Key {idempotency_key!r} was used for another request; use a new key")
    return session.get_one(JobRow, used.job)


def _under_way(session: Session, client: str, question_key: str) -> JobRow | None:
    """A client's job for the same question that is waiting or running."""
    return session.scalars(
        sa.select(JobRow).where(
            JobRow.client == client,
            JobRow.question_key == question_key,
            JobRow.state.in_((JobState.QUEUED, JobState.RUNNING)),
            sa.not_(JobRow.cancelling),
        )
    ).first()


def _check_room(session: Session, client: str, limits: QueueLimits) -> None:
    """Check that one more job of a client may wait.

    Raises:
        QueueFullError: If not.
    """
    queued = sa.select(sa.func.count()).where(JobRow.state == JobState.QUEUED)
    waiting = session.scalar(queued) or 0
    if waiting >= limits.total:
        raise QueueFullError(f"{waiting} jobs are waiting, which is the maximum; try again later")
    own = session.scalar(queued.where(JobRow.client == client)) or 0
    if own >= limits.per_client:
        raise QueueFullError(f"{own} of your jobs are waiting, which is the maximum per client; try again later")
