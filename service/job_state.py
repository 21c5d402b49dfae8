"""The states of a job. A module of its own, so that a client process need not load SQLAlchemy for it."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the job stays in this state unless somebody changes it."""
        return self not in (JobState.QUEUED, JobState.RUNNING)
