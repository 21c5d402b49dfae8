"""Voltage-scaled memory: failure rate of its cells and energy of an access at a supply voltage.

A 6T cell fails when a read disturbs it or when it cannot be written; an 8T cell, which has a separate read path, fails
at far lower voltages. The lowest voltages at which the cells of a chip work are close to normally distributed, so the
share of cells that fail is a normal tail in the supply voltage. Which cells fail is drawn in `approx.faults`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import erfc, exp, isfinite, log, sqrt
from typing import Protocol

from approx.checks import check_number, shown
from approx.config import FaultyMemory
from approx.errors import ArgumentError


class FailureCurve(Protocol):
    """The share of cells that fail at a supply voltage; it never rises with the voltage."""

    def probability(self, supply_v: float) -> float:
        """The share of cells that fail, in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalTail:
    """Cells whose lowest working voltages are normally distributed: Q((V / v_min - mean) / deviation).

    Q is the upper tail of the standard normal distribution. At v_min and above no cell fails.

    Attributes:
        v_min: Lowest voltage at which the whole memory works, in volts.
        mean: Mean of the cells' lowest working voltages, relative to v_min.
        deviation: Their standard deviation, relative to v_min.

    Raises:
        ArgumentError: If v_min or deviation is not positive.
    """

    v_min: float
    mean: float
    deviation: float

    def __post_init__(self) -> None:
        for name in ("v_min", "mean", "deviation"):
            check_number(name, getattr(self, name))
        if not (self.v_min > 0 and self.deviation > 0):
            raise ArgumentError(f"`v_min` and `deviation` must be positive, got {self.v_min} and {self.deviation}")

    def probability(self, supply_v: float) -> float:
        """The share of cells that fail."""
        if supply_v >= self.v_min:
            return 0.0
        return 0.5 * erfc((supply_v / self.v_min - self.mean) / self.deviation / sqrt(2))


@dataclass(frozen=True, slots=True)
class MeasuredCurve:
    """Measured or simulated points; between two of them the share is exponential in the voltage.

    Below the lowest voltage its share applies; above the highest no cell fails.

    Attributes:
        points: Pairs of supply voltage in volts and share of cells that fail, in (0, 1], by rising voltage.

    Raises:
        ArgumentError: If there are fewer than two points, voltages do not rise, or shares rise or are not in (0, 1].
    """

    points: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        try:
            points = tuple((float(v), float(share)) for v, share in self.points)
        except (TypeError, ValueError):
            raise ArgumentError(
                f"`points` must be pairs of supply voltage and share of cells that fail, got {shown(self.points)}"
            ) from None
        object.__setattr__(self, "points", points)
        if len(self.points) < 2:
            raise ArgumentError(f"a failure curve needs at least two points, got {len(self.points)}")
        if not all(0 < share <= 1 and isfinite(v) for v, share in self.points):
            raise ArgumentError(f"a failure curve must have shares of cells in (0, 1], got {self.points}")
        for (low_v, more), (high_v, less) in pairwise(self.points):
            if not (low_v < high_v and more >= less):
                raise ArgumentError(
                    f"a failure curve's voltages must rise and its shares must not, got {more} at {low_v} V and {less} "
                    f"at {high_v} V"
                )

    def probability(self, supply_v: float) -> float:
        """The share of cells that fail."""
        if supply_v <= self.points[0][0]:
            return self.points[0][1]
        for (low_v, more), (high_v, less) in pairwise(self.points):
            if supply_v <= high_v:
                return exp(log(more) + (log(less) - log(more)) * (supply_v - low_v) / (high_v - low_v))
        return 0.0


@dataclass(frozen=True, slots=True)
class Never:
    """Cells that never fail."""

    def probability(self, supply_v: float) -> float:
        """Zero."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryModel:
    """An SRAM whose supply voltage may be lowered.

    Attributes:
        name: Name of the technology.
        nominal_v: The supply voltage to which access energy is relative, in volts.
        read_6t: Share of 6T cells that a read disturbs.
        write_6t: Share of 6T cells that cannot be written.
        failure_8t: Share of 8T cells that fail in any way.
        source: Source of the curves, and the assumptions in them.
    """

    name: str
    nominal_v: float
    read_6t: FailureCurve
    write_6t: FailureCurve
    failure_8t: FailureCurve
    source: str

    def bit_error_rate(self, supply_v: float) -> float:
        """Share of 6T cells that fail to be read or written; the two are independent.

        Raises:
            ArgumentError: If the voltage is not positive.
        """
        _check_voltage(supply_v)
        return 1 - (1 - self.read_6t.probability(supply_v)) * (1 - self.write_6t.probability(supply_v))

    def energy_factor(self, supply_v: float) -> float:
        """Dynamic energy of an access relative to the nominal voltage: the square of the ratio of voltages.

        Measured on Eyeriss: 0.677 from 1 V to 0.82 V (Chen et al., IEEE JSSC 52(1), 2017); the square is 0.672.

        Raises:
            ArgumentError: If the voltage is not positive.
        """
        _check_voltage(supply_v)
        return (supply_v / self.nominal_v) ** 2

    def at(
        self,
        supply_v: float,
        *,
        robust_bits: int = 0,
        storage: str = "twos-complement",
        column_correlation: float = 0.0,
        transient_rate: float = 0.0,
    ) -> FaultyMemory:
        """The faults of this memory at a supply voltage.

        A cell that cannot be written is assumed to hold the wrong bit, though half of them hold the right one: an upper
        bound.

        Args:
            supply_v: The supply voltage in volts.
            robust_bits: As in `FaultyMemory`.
            storage: As in `FaultyMemory`.
            column_correlation: As in `FaultyMemory`.
            transient_rate: As in `FaultyMemory`.

        Raises:
            ArgumentError: If a value is out of range.
        """
        return FaultyMemory(
            bit_error_rate=self.bit_error_rate(supply_v),
            robust_bits=robust_bits,
            robust_bit_error_rate=self.failure_8t.probability(supply_v),
            storage=storage,
            column_correlation=column_correlation,
            transient_rate=transient_rate,
        )


def _check_voltage(supply_v: float) -> None:
    check_number("supply_v", supply_v)
    if not supply_v > 0:
        raise ArgumentError(f"`supply_v` must be positive, got {supply_v}")


SILICON_14NM = MemoryModel(
    name="14 nm silicon",
    nominal_v=0.9,
    read_6t=NormalTail(v_min=0.9, mean=0.667, deviation=0.070),
    write_6t=Never(),
    failure_8t=Never(),
    source=(
        "N. Chandramoorthy et al., HPCA 2019, and D. Stutz et al., MLSys 2021, measured on 14 nm SRAM: 1 % of the bits "
        "fail at 0.83 v_min. Assumed: one cell in a million just at v_min; that v_min is 0.9 V, the nominal voltage of "
        "the energy tables, so that every saving comes from working below the safe voltage; that all failures, which "
        "were not distinguished, are read failures"
    ),
)

HYBRID_22NM = MemoryModel(
    name="22 nm hybrid 8T-6T",
    nominal_v=0.95,
    read_6t=NormalTail(v_min=0.95, mean=0.522, deviation=0.0769),
    write_6t=NormalTail(v_min=0.95, mean=0.522, deviation=0.0769),
    failure_8t=NormalTail(v_min=0.75, mean=0.4, deviation=0.0765),
    source=(
        "G. Srinivasan et al., Significance driven hybrid 8T-6T SRAM, DATE 2016 (22 nm predictive technology): 0.95 V "
        "nominal; at 0.75 V a network in 6T cells loses less than 0.5 % accuracy, below that substantially more; 8T "
        "cells stay robust. Assumed, because its curves are not given in numbers: read and write failures equal, "
        "2.5e-10 at 0.95 V and 2.5e-4 at 0.75 V, and from these 1.7 % at 0.65 V; 8T cells work down to 0.75 V, and "
        "5e-10 of them fail at 0.65 V"
    ),
)
