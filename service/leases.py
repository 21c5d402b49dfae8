"""The workers' side of the job queue: claim a job, hold it by a lease, record its progress, and end it.

If a worker dies its lease expires, and another worker claims the job and resumes its search. A worker that has lost
its lease writes nothing more: each of its writes names it as the holder, and matches no row once it is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from service.database import Database
from service.job_state import JobState
from service.jobs import Job, LeaseLostError, end_job, job_of, record_state
from service.tables import JobEventRow, JobRow, WorkerRow, utc_now

_FRUITLESS_CLAIMS = 10  # in a row, after which the job is assumed to kill its workers
_WORKER_SILENT_S = 30.0  # after which a worker counts as gone
_WORKER_FORGOTTEN_S = 3600.0


class Leases:
    """The leases of workers on jobs in a results database, and the list of workers.

    Args:
        database: The results database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, worker: str, *, lease_s: float) -> Job | None:
        """Claim a job that is waiting, or whose worker has died: each job goes to exactly one worker.

        Clients take turns: first comes whoever has the fewest jobs running, then whoever has waited longest since one
        was started.

        Args:
            worker: Name of the worker.
            lease_s: Seconds until the lease expires unless it is renewed.

        Returns:
            The job; None if there is nothing to do.
        """
        with self._database.exclusive_transaction() as session:
            now = self._database.seconds(session)
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
                .with_for_update(skip_locked=True, of=JobRow)  # ignored by SQLite, which has one writer
            )
            row = session.scalars(
                sa.update(JobRow)
                .where(JobRow.number == first.scalar_subquery(), claimable)
                .values(
                    state=JobState.RUNNING,
                    worker=worker,
                    lease_until=now + lease_s,
                    fruitless=JobRow.fruitless + 1,
                    started_at=utc_now(),
                )
                .returning(JobRow),
                execution_options={"synchronize_session": False},
            ).one_or_none()
            if row is None:
                return None
            if row.cancelling:  # its worker died before it could cancel it
                end_job(session, row, JobState.CANCELLED)
            elif row.fruitless > _FRUITLESS_CLAIMS:
                error = f"its worker was lost {_FRUITLESS_CLAIMS} times in a row without completing an evaluation"
                end_job(session, row, JobState.FAILED, error=error)
            else:
                record_state(session, row)
            session.flush()
            job = job_of(row)
        return job if job.state is JobState.RUNNING else self.claim(worker, lease_s=lease_s)

    def renew(self, job: Job, worker: str, *, lease_s: float) -> bool:
        """Renew a worker's lease on a job.

        Returns:
            Whether the job is to be cancelled.

        Raises:
            LeaseLostError: If the worker no longer holds it.
        """
        with self._database.exclusive_transaction() as session:
            until = self._database.seconds(session) + lease_s
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
        """Record an event of a job.

        Args:
            job: The job.
            worker: Name of the worker that holds it.
            kind: See `JobEvent`.
            data: See `JobEvent`.
            search_name: Name of its search, if that is new.
            evaluations: Evaluations made so far, if that changed.
            fruitful: Whether the worker made progress, so that the job does not count as one that kills its workers.

        Raises:
            LeaseLostError: If the worker no longer holds it.
        """
        values: dict[str, Any] = {"last_event": JobRow.last_event + 1}
        if search_name is not None:
            values["search_name"] = search_name
        if evaluations is not None:
            values["evaluations"] = evaluations
        if fruitful:
            values["fruitless"] = 0
        with self._database.exclusive_transaction() as session:
            number = session.scalars(
                sa.update(JobRow).where(*_held(job, worker)).values(values).returning(JobRow.last_event)
            ).one_or_none()
            if number is None:
                raise _lease_lost(job)
            session.add(JobEventRow(job=job.number, number=number, kind=kind, data=dict(data), created_at=utc_now()))

    def finish(
        self,
        job: Job,
        worker: str,
        state: JobState,
        *,
        error: str | None = None,
        confirmed: bool | None = None,
    ) -> None:
        """End a job in a state; with `queued`, return it to the queue for another worker to resume.

        Raises:
            LeaseLostError: If the worker no longer holds it.
        """
        with self._database.exclusive_transaction() as session:
            row = session.scalars(
                sa.update(JobRow).where(*_held(job, worker)).values(confirmed=confirmed).returning(JobRow),
                execution_options={"synchronize_session": False},
            ).one_or_none()
            if row is None:
                raise _lease_lost(job)
            if state is JobState.QUEUED and row.cancelling:
                end_job(session, row, JobState.CANCELLED)
            elif state is JobState.QUEUED:
                row.state, row.worker, row.lease_until = state, None, None
                row.fruitless = max(0, row.fruitless - 1)  # returning it says nothing against the job
                record_state(session, row)
            else:
                end_job(session, row, state, error=error)

    def beat(self, worker: str, *, version: str) -> None:
        """Record a sign of life of a worker."""
        with self._database.exclusive_transaction() as session:
            row = session.get(WorkerRow, worker)
            if row is None:
                row = WorkerRow(name=worker, version=version, started_at=utc_now(), seen_s=0.0)
                session.add(row)
            row.seen_s = self._database.seconds(session)
            session.execute(sa.delete(WorkerRow).where(WorkerRow.seen_s < row.seen_s - _WORKER_FORGOTTEN_S))

    def leave(self, worker: str) -> None:
        """Remove a worker that ends."""
        with self._database.exclusive_transaction() as session:
            session.execute(sa.delete(WorkerRow).where(WorkerRow.name == worker))

    def workers(self) -> int:
        """Number of workers that gave a sign of life recently."""
        with self._database.transaction() as session:
            since = self._database.seconds(session) - _WORKER_SILENT_S
            return session.scalar(sa.select(sa.func.count()).where(WorkerRow.seen_s >= since)) or 0


def _held(job: Job, worker: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions that match the row of a job only while a worker holds it."""
    return (JobRow.number == job.number, JobRow.worker == worker, JobRow.state == JobState.RUNNING)


def _lease_lost(job: Job) -> LeaseLostError:
    return LeaseLostError(f"another worker holds job {job.id}, or it was deleted")
