"""Numbers that are not known exactly: a low, a likely and a high estimate."""

from __future__ import annotations

from typing import NamedTuple


class Estimate(NamedTuple):
    """What a number is at least, likely, and at most.

    Attributes:
        low: The lowest figure that its sources support.
        value: The figure that results are computed with.
        high: The highest.
    """

    low: float
    value: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """All three times a factor."""
        return Estimate(self.low * factor, self.value * factor, self.high * factor)
