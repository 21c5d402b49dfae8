"""What an answer has to keep: an accuracy and, if one is given, a bound on area."""

from __future__ import annotations

import math
from dataclasses import dataclass

from search.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The target accuracy, either absolute or relative to the baseline's, and a bound on area.

    Exactly one of the two accuracies is given.

    Attributes:
        min_accuracy: Lowest accuracy, in (0, 1]; None if the target is relative.
        max_accuracy_drop: Largest loss relative to the baseline's accuracy, in [0, 1); None if the target is absolute.
        max_area: Largest area of array and memories over the baseline's, above 0; None for no bound.

    Raises:
        UsageError: If both accuracies or neither are given.
    """

    min_accuracy: float | None = None
    max_accuracy_drop: float | None = None
    max_area: float | None = None

    def __post_init__(self) -> None:
        if (self.min_accuracy is None) == (self.max_accuracy_drop is None):
            raise UsageError("a target has either min_accuracy or max_accuracy_drop; give one of them")

    def accuracy(self, baseline: float) -> float:
        """Return the target accuracy, given the baseline's."""
        if self.min_accuracy is not None:
            return self.min_accuracy
        assert self.max_accuracy_drop is not None
        return baseline - self.max_accuracy_drop

    def area_mm2(self, baseline_mm2: float) -> float:
        """Return the largest area in mm2, given the baseline's; infinite without a bound."""
        return math.inf if self.max_area is None else self.max_area * baseline_mm2

    def __str__(self) -> str:
        if self.min_accuracy is not None:
            accuracy, whose = f"at {self.min_accuracy:.2%} or more", "the baseline's"
        else:
            accuracy, whose = f"within {(self.max_accuracy_drop or 0) * 100:.2f} points of the baseline", "its"
        return accuracy if self.max_area is None else f"{accuracy}, on at most {self.max_area:g}x {whose} area"
