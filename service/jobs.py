"""Jobs: requested searches and their events, as values and as rows of the database.

    queued ──► running ──► finished
      │  ▲        │ │ └──► failed ────┐
      │  └────────┘ └────► cancelled ─┤  resume: queued again
      └──────────────────────▲  ◄─────┘

Clients fill the queue (`service.queue`); workers hold running jobs by leases (`service.leases`). Both write through
the functions below, so that each change of state is an event as well.

JobError
├── UnknownJobError    no such job
├── JobStateError      not possible in the job's state
├── QueueFullError     the maximum number of jobs is waiting
├── IdempotencyError   an idempotency key was reused for a different request
└── LeaseLostError     another worker holds the job by now, or it was deleted
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from service.job_state import JobState
from service.questions import Question
from service.tables import JobEventRow, JobRow, utc_now


class JobError(Exception):
    """Base class of errors about jobs."""


class UnknownJobError(JobError):
    """There is no such job."""


class JobStateError(JobError):
    """The operation is not possible in the job's state."""


class QueueFullError(JobError):
    """The maximum number of jobs is waiting."""


class IdempotencyError(JobError):
    """A client reused an idempotency key for a different request."""


class LeaseLostError(JobError):
    """Another worker holds the job by now, or it was deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A requested search.

    Attributes:
        number: Position in the order of submission.
        id: Random name.
        client: Name of the client who submitted it.
        question: What the client asked for.
        state: Current state.
        evaluations: Evaluations made so far, of `question.budget`.
        search_name: Name of its search; None until that begins.
        confirmed: Whether fresh runs confirmed its answer; None until it is finished.
        error: Why it failed.
        cancelling: Whether its worker is to cancel it as soon as it can.
        worker: Name of the worker that runs it.
        last_event: Number of its latest event.
        created_at: Time of submission, in UTC as all times here.
        started_at: When a worker last started it.
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
class JobEvent:
    """An event of a job.

    Attributes:
        number: Position within the job, from 1.
        kind: `state`, `search`, `plan`, `evaluated`, `failed`, `testing`, `confirming`, `note` or `answer`.
        data: Details, as a JSON object.
        created_at: In UTC.
    """

    number: int
    kind: str
    data: Mapping[str, Any]
    created_at: datetime


def job_of(row: JobRow) -> Job:
    """The job that a row holds."""
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


def end_job(session: Session, row: JobRow, state: JobState, *, error: str | None = None) -> None:
    """End a job in a state, and record the event."""
    row.state, row.error, row.ended_at = state, error, utc_now()
    row.worker, row.lease_until, row.cancelling = None, None, False
    record_state(session, row)


def record_state(session: Session, row: JobRow) -> None:
    """Record the state of a job as an event, for those who follow it."""
    row.last_event += 1
    data: dict[str, Any] = {"state": row.state, "cancelling": row.cancelling, "evaluations": row.evaluations}
    if row.error is not None:
        data["error"] = row.error
    if row.confirmed is not None:
        data["confirmed"] = row.confirmed
    session.add(JobEventRow(job=row.number, number=row.last_event, kind="state", data=data, created_at=utc_now()))
