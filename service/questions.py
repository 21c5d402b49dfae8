"""Questions: a data set, a target, and how to search for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from search.content_hash import content_hash
from search.defaults import DEFAULT_BUDGET, DEFAULT_EFFORT, DEFAULT_HARDWARE
from search.multipliers.identity import is_imported
from search.space.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request for the cheapest configuration that reaches a target.

    Attributes:
        dataset: The identity of the task: that of a data set with its own networks, or one of stored results.
        min_accuracy: Accuracy to reach, in (0, 1]; None if the target is relative to the baseline's accuracy.
        max_accuracy_drop: Largest drop below the baseline's accuracy, in [0, 1).
        max_area: Largest area over the baseline's, above 0; None for any.
        hardware: A name from `energy.hardware_names()`, or the identity of uploaded hardware.
        effort: Effort of each evaluation, one of `search.space.effort.EFFORTS`.
        budget: Evaluations of a search.
        space: A name from `search.space.space_file.SPACES`.
        seed: Seed of a search.
        multipliers: Multipliers that a search may choose beside the exact one: built-in names, identities of uploaded
            ones; None for the default ones.
    """

    dataset: str
    min_accuracy: float | None = None
    max_accuracy_drop: float | None = None
    max_area: float | None = None
    hardware: str = DEFAULT_HARDWARE
    effort: str = DEFAULT_EFFORT
    budget: int = DEFAULT_BUDGET
    space: str = "default"
    seed: int = 0
    multipliers: tuple[str, ...] | None = None

    @property
    def target(self) -> Target:
        """What the configuration has to keep."""
        return Target(min_accuracy=self.min_accuracy, max_accuracy_drop=self.max_accuracy_drop, max_area=self.max_area)

    @property
    def uploaded_multipliers(self) -> tuple[str, ...]:
        """The identities of uploaded multipliers among `multipliers`, sorted."""
        return tuple(sorted({name for name in self.multipliers or () if is_imported(name)}))

    @property
    def key(self) -> str:
        """Content hash: equal questions have equal keys."""
        return content_hash(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The question as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Question:
        """The question of a JSON object made by `to_dict`."""
        chosen = content.get("multipliers")
        return cls(**{**content, "multipliers": None if chosen is None else tuple(chosen)})
