"""What a client asks for: a data set, a target, and how it is to be searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from search.answers.confirmation import Target
from search.content_hash import content_hash
from search.defaults import DEFAULT_BUDGET, DEFAULT_EFFORT, DEFAULT_HARDWARE
from search.multipliers.identity import is_imported


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the service.

    Attributes:
        dataset: A name from `search.task_names()`.
        min_accuracy: The accuracy that is wanted, in (0, 1]; None if it is relative to the baseline's.
        max_accuracy_drop: How far below the baseline's it may be, in [0, 1).
        hardware: A name from `energy.hardware_names()`, or the identity of what a client brought.
        effort: Of each evaluation, one of `search.space.task.EFFORTS`.
        budget: Evaluations of a search for it.
        space: A name from `search.space.space_file.SPACES`.
        seed: Of a search for it.
        multipliers: What a search chooses among, beside the exact one: names that come along, and identities of those
            that clients brought; None for what it usually does.
    """

    dataset: str
    min_accuracy: float | None = None
    max_accuracy_drop: float | None = None
    hardware: str = DEFAULT_HARDWARE
    effort: str = DEFAULT_EFFORT
    budget: int = DEFAULT_BUDGET
    space: str = "default"
    seed: int = 0
    multipliers: tuple[str, ...] | None = None

    @property
    def target(self) -> Target:
        """What is wanted."""
        return Target(min_accuracy=self.min_accuracy, max_accuracy_drop=self.max_accuracy_drop)

    @property
    def own_multipliers(self) -> tuple[str, ...]:
        """Those among them that clients brought."""
        return tuple(sorted({name for name in self.multipliers or () if is_imported(name)}))

    @property
    def key(self) -> str:
        """Content hash: equal questions have equal keys."""
        return content_hash(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Question:
        """From the JSON object that `to_dict` made."""
        chosen = content.get("multipliers")
        return cls(**{**content, "multipliers": None if chosen is None else tuple(chosen)})
