"""The service's tables, in the database of results; `search/store/migrations` creates them along with all others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from search.store.tables import Base


def utc_now() -> datetime:
    """The current time as the tables keep times: in UTC, without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


class JobRow(Base):
    """A search requested over HTTP; see `service.jobs`."""

    __tablename__ = "jobs"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(sa.String(32), unique=True)
    client: Mapped[str] = mapped_column(sa.String(100))
    question: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    question_key: Mapped[str] = mapped_column(sa.String(64), index=True)
    state: Mapped[str] = mapped_column(sa.String(20), index=True)
    budget: Mapped[int]
    evaluations: Mapped[int]
    search_name: Mapped[str | None] = mapped_column(sa.String(200))
    confirmed: Mapped[bool | None]
    error: Mapped[str | None] = mapped_column(sa.Text)
    cancelling: Mapped[bool]
    worker: Mapped[str | None] = mapped_column(sa.String(200))
    lease_until: Mapped[float | None]
    fruitless: Mapped[int]
    last_event: Mapped[int]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    __table_args__ = ({"sqlite_autoincrement": True},)  # the number of a deleted job is never reused


class JobEventRow(Base):
    """An event of a job, numbered from 1."""

    __tablename__ = "job_events"
    job: Mapped[int] = mapped_column(sa.ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(20))
    data: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    created_at: Mapped[datetime]


class WorkerRow(Base):
    """A process that runs jobs, with the time of its last sign of life."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    version: Mapped[str] = mapped_column(sa.String(50))
    started_at: Mapped[datetime]
    seen_s: Mapped[float]


class KeyRow(Base):
    """A client's key: its scope, and the digest that identifies it."""

    __tablename__ = "client_keys"
    name: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    scope: Mapped[str] = mapped_column(sa.String(10))
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class UploadRow(Base):
    """Hardware or a multiplier that a client uploaded; see `service.uploads`."""

    __tablename__ = "uploads"
    kind: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    identity: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    about: Mapped[dict[str, Any]] = mapped_column(sa.JSON)  # what lists show of it
    content: Mapped[dict[str, Any]] = mapped_column(sa.JSON, deferred=True)  # large, so loaded only on demand
    client: Mapped[str] = mapped_column(sa.String(100))
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class DatasetRow(Base):
    """A data set that clients uploaded; see `service.image_uploads`. The row of a deleted one stays, emptied."""

    __tablename__ = "uploaded_datasets"
    identity: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    about: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class DatasetOwnerRow(Base):
    """A client who uploaded a data set, and may delete it; several may have uploaded the same one."""

    __tablename__ = "uploaded_dataset_owners"
    identity: Mapped[str] = mapped_column(sa.ForeignKey("uploaded_datasets.identity"), primary_key=True)
    client: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    created_at: Mapped[datetime]


class DatasetPartRow(Base):
    """A part of the images of an uploaded data set, compressed."""

    __tablename__ = "uploaded_dataset_parts"
    identity: Mapped[str] = mapped_column(sa.ForeignKey("uploaded_datasets.identity"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes]


class IdempotencyRow(Base):
    """The request that a client sent with an idempotency key, so that repeating it creates no second job."""

    __tablename__ = "idempotency_keys"
    client: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(sa.String(64))
    job: Mapped[int] = mapped_column(sa.ForeignKey("jobs.number", ondelete="CASCADE"))
    created_at: Mapped[datetime]
