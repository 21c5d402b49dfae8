"""The accuracy that an answer has to keep."""

from __future__ import annotations

from dataclasses import dataclass

from search.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The target accuracy, either absolute or relative to the baseline's. Exactly one of the two is given.

    Attributes:
        min_accuracy: Lowest accuracy, in (0, 1]; None if the target is relative.
        max_accuracy_drop: Largest loss relative to the baseline's accuracy, in [0, 1); None if the target is absolute.

    Raises:
        UsageError: If both or neither are given.
    """

    min_accuracy: float | None = None
    max_accuracy_drop: float | None = None

    def __post_init__(self) -> None:
        if (self.min_accuracy is None) == (self.max_accuracy_drop is None):
            raise UsageError("a target has either min_accuracy or max_accuracy_drop; give one of them")

    def accuracy(self, baseline: float) -> float:
        """Return the target accuracy, given the baseline's."""
        if self.min_accuracy is not None:
            return self.min_accuracy
        assert self.max_accuracy_drop is not None
        return baseline - self.max_accuracy_drop

    def __str__(self) -> str:
        if self.min_accuracy is not None:
            return f"at {self.min_accuracy:.2%} or more"
        return f"within {(self.max_accuracy_drop or 0) * 100:.2f} points of the baseline"
