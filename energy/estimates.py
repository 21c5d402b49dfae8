"""Uncertain numbers: a low, a likely and a high estimate."""

from __future__ import annotations

from typing import NamedTuple


class Estimate(NamedTuple):
    """An uncertain number with its bounds.

    Attributes:
        low: The lowest figure that the sources support.
        value: The likely figure, used for results.
        high: The highest figure that the sources support.
    """

    low: float
    value: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """Multiply all three by a factor."""
        return Estimate(self.low * factor, self.value * factor, self.high * factor)
