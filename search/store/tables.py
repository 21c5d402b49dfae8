"""The tables of the results database, but for the service's own, which `service.tables` adds.

Optuna keeps its own tables in the same database; the names here differ from its.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Collects the tables."""


class SearchRow(Base):
    """A search; see `search.store.records.SearchRecord`."""

    __tablename__ = "searches"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(200), unique=True)
    task: Mapped[str] = mapped_column(sa.String(500))
    hardware: Mapped[str] = mapped_column(sa.String(500))
    seed: Mapped[int]
    budget: Mapped[int]
    population_size: Mapped[int]
    min_accuracy: Mapped[float | None]
    max_accuracy_drop: Mapped[float | None]
    max_area: Mapped[float | None]
    multipliers: Mapped[list[str]] = mapped_column(sa.JSON)
    settings: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    space: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    data_dir: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class TaskRow(Base):
    """A task that is not built in; see `search.space.task.Task`."""

    __tablename__ = "tasks"
    identity: Mapped[str] = mapped_column(sa.String(500), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    created_at: Mapped[datetime]


class EvaluationRow(Base):
    """An evaluation, under the content hash of everything it depends on."""

    __tablename__ = "evaluations"
    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    version: Mapped[int]
    task: Mapped[str] = mapped_column(sa.String(500))
    hardware: Mapped[str] = mapped_column(sa.String(500))
    effort: Mapped[str] = mapped_column(sa.String(20))
    stopped: Mapped[bool]
    seed: Mapped[int]
    candidate_key: Mapped[str] = mapped_column(sa.String(64))
    own_multipliers: Mapped[str | None] = mapped_column(sa.String(1000))  # the imported ones: a JSON list
    accuracy: Mapped[float]
    energy_pj: Mapped[float]
    area_mm2: Mapped[float]
    content: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    test_accuracies: Mapped[list[float] | None] = mapped_column(sa.JSON(none_as_null=True))
    created_at: Mapped[datetime]
    # Rows are large, so each index holds all columns that its queries read.
    __table_args__ = (
        sa.Index(
            "evaluations_by_energy",
            *("task", "hardware", "effort", "version", "stopped", "energy_pj", "accuracy", "key", "seed"),
            *("own_multipliers", "area_mm2"),
        ),
        sa.Index(
            "evaluations_by_candidate", "candidate_key", "task", "hardware", "effort", "version", "stopped", "key"
        ),
    )


class TrialRow(Base):
    """The evaluation or the error that ended a trial of a search."""

    __tablename__ = "search_evaluations"
    search_id: Mapped[int] = mapped_column(sa.ForeignKey("searches.id"), primary_key=True)
    trial_number: Mapped[int] = mapped_column(primary_key=True)
    evaluation_key: Mapped[str | None] = mapped_column(sa.ForeignKey("evaluations.key"))
    error: Mapped[str | None] = mapped_column(sa.Text)


class ConfirmationRow(Base):
    """One fresh run of a candidate; see `search.answers.confirmation`."""

    __tablename__ = "confirmation_runs"
    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    run: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    task: Mapped[str] = mapped_column(sa.String(500))
    hardware: Mapped[str] = mapped_column(sa.String(500))
    effort: Mapped[str] = mapped_column(sa.String(20))
    candidate_key: Mapped[str] = mapped_column(sa.String(64))
    content: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    created_at: Mapped[datetime]
    __table_args__ = (sa.Index("confirmation_runs_by_candidate", "candidate_key"),)


def now() -> datetime:
    """The current time in UTC, as rows hold it: without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)
