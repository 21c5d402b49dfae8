"""What evaluations must share to be compared."""

from __future__ import annotations

from dataclasses import dataclass

from energy import Hardware
from search.space.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The task, hardware and effort of evaluations: only evaluations with the same setup are compared.

    Attributes:
        task: Task identity.
        hardware: Hardware identity.
        effort: One of `search.space.effort.EFFORTS`.
    """

    task: str
    hardware: str
    effort: str

    @classmethod
    def of(cls, task: Task, hardware: Hardware, effort: str) -> Setup:
        """The setup of a task on a hardware."""
        return cls(task=task.identity, hardware=hardware.identity, effort=effort)
