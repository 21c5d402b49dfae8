"""Voltage-scaled memory: failure rate of its cells and energy of an access at a supply voltage.

A 6T cell fails when a read disturbs it or when it cannot be written; an 8T cell, which has a separate read path, fails
at far lower voltages. The lowest voltages at which the cells of a chip work are close to normally distributed, so the
share of cells that fail is a normal tail in the supply voltage. Which cells fail is drawn in `approx.faults`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import erfc, inf, isfinite, sqrt
from statistics import NormalDist
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
        return _upper_tail((supply_v / self.v_min - self.mean) / self.deviation)


@dataclass(frozen=True, slots=True)
class MeasuredCurve:
    """Measured or simulated points; between two of them the normal quantile of the share is linear in the voltage.

    So it is if the cells' lowest working voltages are normally distributed there.

    Attributes:
        points: Pairs of supply voltage in volts and share of cells that fail, in (0, 1), by rising voltage.
        safe_v: Voltage from which on no cell fails; None if none fails above the highest of the points.
        deviation_v: Standard deviation of the normal distribution by which the curve goes on from its outermost points,
            in volts. None if nothing is known there: then it has no share below the lowest of the points.

    Raises:
        ArgumentError: If there are fewer than two points, voltages do not rise, shares rise or are not in (0, 1),
            `safe_v` is among the points, or `deviation_v` is not positive.
    """

    points: Sequence[tuple[float, float]]
    safe_v: float | None = None
    deviation_v: float | None = None

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
        if not all(0 < share < 1 and isfinite(v) for v, share in self.points):
            raise ArgumentError(f"a failure curve must have shares of cells in (0, 1), got {self.points}")
        for (low_v, more), (high_v, less) in pairwise(self.points):
            if not (low_v < high_v and more >= less):
                raise ArgumentError(
                    f"a failure curve's voltages must rise and its shares must not, got {more} at {low_v} V and {less} "
                    f"at {high_v} V"
                )
        highest_v = self.points[-1][0]
        if self.safe_v is not None:
            check_number("safe_v", self.safe_v)
            if not self.safe_v > highest_v:
                raise ArgumentError(
                    f"`safe_v` must be above {highest_v} V, where cells still fail by `points`, got {self.safe_v}"
                )
        if self.deviation_v is not None:
            check_number("deviation_v", self.deviation_v)
            if not self.deviation_v > 0:
                raise ArgumentError(f"`deviation_v` must be positive, got {self.deviation_v}")

    def probability(self, supply_v: float) -> float:
        """The share of cells that fail.

        Raises:
            ArgumentError: If the voltage is below all points, and nothing is known there.
        """
        lowest_v, highest_v = self.points[0][0], self.points[-1][0]
        if supply_v >= (inf if self.safe_v is None else self.safe_v):
            return 0.0
        if lowest_v <= supply_v <= highest_v:
            after = next(place for place, (v, _) in enumerate(self.points) if supply_v <= v)
            (low_v, more), (high_v, less) = self.points[max(after - 1, 0)], self.points[max(after, 1)]
            share = (supply_v - low_v) / (high_v - low_v)
            return _upper_tail((1 - share) * _quantile(more) + share * _quantile(less))
        if supply_v < lowest_v and self.deviation_v is None:
            raise ArgumentError(
                f"the failure curve has points from {lowest_v} V to {highest_v} V, and what fails at {supply_v} V is "
                "not known; choose a voltage from there up, or give the curve a `deviation_v`"
            )
        if self.deviation_v is None:
            return 0.0
        end_v, end = self.points[0 if supply_v < lowest_v else -1]
        return _upper_tail(_quantile(end) + (supply_v - end_v) / self.deviation_v)


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
        weaker_8t: `failure_8t` if its assumptions are pessimistic; None if it has none.
        stronger_8t: The same if they are optimistic.
    """

    name: str
    nominal_v: float
    read_6t: FailureCurve
    write_6t: FailureCurve
    failure_8t: FailureCurve
    source: str
    weaker_8t: FailureCurve | None = None
    stronger_8t: FailureCurve | None = None

    def bit_error_rate(self, supply_v: float) -> float:
        """Share of 6T cells that fail to be read or written; the two are independent.

        Raises:
            ArgumentError: If the voltage is not positive, or what fails at it is not known.
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
        storage: str | None = None,
        failed_cells: str = "inverted",
        column_correlation: float = 0.0,
        transient_rate: float = 0.0,
    ) -> FaultyMemory:
        """The faults of this memory at a supply voltage.

        Of cells that invert their bit, at most half fail: where more do, a bit that is read says nothing, instead of
        being the complement of what was stored.

        Args:
            supply_v: The supply voltage in volts.
            robust_bits: As in `FaultyMemory`.
            storage: As in `FaultyMemory`.
            failed_cells: As in `FaultyMemory`.
            column_correlation: As in `FaultyMemory`.
            transient_rate: As in `FaultyMemory`.

        Raises:
            ArgumentError: If a value is out of range, or what fails at this voltage is not known.
        """
        most = 0.5 if failed_cells == "inverted" else 1.0
        return FaultyMemory(
            bit_error_rate=min(most, self.bit_error_rate(supply_v)),
            robust_bits=robust_bits,
            robust_bit_error_rate=min(most, self.failure_8t.probability(supply_v)),
            storage=storage,
            failed_cells=failed_cells,
            column_correlation=column_correlation,
            transient_rate=transient_rate,
            supply_share=supply_v / self.nominal_v,
        )


def _upper_tail(quantile: float) -> float:
    """Share of the standard normal distribution above a quantile; accurate for tiny shares."""
    return 0.5 * erfc(quantile / sqrt(2))


def _quantile(share: float) -> float:
    """The quantile above which a share of the standard normal distribution lies."""
    return -NormalDist().inv_cdf(share)


def _check_voltage(supply_v: float) -> None:
    check_number("supply_v", supply_v)
    if not supply_v > 0:
        raise ArgumentError(f"`supply_v` must be positive, got {supply_v}")


# Cells of 32 arrays of 512 x 64, and how many of them failed, by supply voltage in 24ths of v_min.
_CELLS_14NM = 32 * 512 * 64
_FAILED_14NM = {18: 0.2056, 19: 0.05573, 20: 0.01115, 21: 0.00129, 22: 72 / _CELLS_14NM, 23: 2 / _CELLS_14NM}
_MEAN, _DEVIATION = 0.7055, 0.0553  # of the normal distribution that is nearest to the quantiles of these six points


def _scaled_8t(v_min: float) -> NormalTail:
    """8T cells whose lowest working voltages are distributed as those of 6T cells, at lower voltages."""
    return NormalTail(v_min=v_min, mean=_MEAN, deviation=_DEVIATION)


SILICON_14NM = MemoryModel(
    name="14 nm silicon",
    nominal_v=0.9,
    read_6t=MeasuredCurve(
        tuple((0.9 * part / 24, share) for part, share in _FAILED_14NM.items()),
        safe_v=0.9,
        deviation_v=0.9 * _DEVIATION,
    ),
    write_6t=Never(),
    failure_8t=_scaled_8t(v_min=0.615),
    weaker_8t=_scaled_8t(v_min=0.75),
    stronger_8t=_scaled_8t(v_min=0.41),
    source=(
        "6T cells: N. Chandramoorthy et al., HPCA 2019, measured on 14 nm SRAM; the points are those plotted by "
        "D. Stutz et al., MLSys 2021: of 1,048,576 cells none fail at v_min, 2 at 23/24 of it, 72 at 22/24, then "
        "0.129, 1.115, 5.573 and 20.56 % down to 18/24. Beyond the outermost points the normal distribution that fits "
        "them best. Assumed: that v_min is 0.9 V, the nominal voltage of the energy tables, so that every saving comes "
        "from working below the safe voltage; that all failures, which were not distinguished, are read failures. 8T "
        "cells were not measured. Assumed: distributed as 6T cells, at lower voltages. They work down to 0.615 V, "
        "0.684 of the nominal, as in G. Srinivasan et al., DATE 2016 (robust at 0.65 V of 0.95 V); weaker: to 0.75 V, "
        "as if they gained only 150 mV; stronger: to 0.41 V, as in L. Chang et al., IEEE JSSC 43(4), 2008 (65 nm)"
    ),
)

HYBRID_22NM = MemoryModel(
    name="22 nm hybrid 8T-6T",
    nominal_v=0.95,
    read_6t=NormalTail(v_min=0.95, mean=0.522, deviation=0.0769),
    write_6t=NormalTail(v_min=0.95, mean=0.522, deviation=0.0769),
    failure_8t=NormalTail(v_min=0.65, mean=0.4615, deviation=0.0883),
    weaker_8t=NormalTail(v_min=0.75, mean=0.4615, deviation=0.0883),
    stronger_8t=NormalTail(v_min=0.43, mean=0.4615, deviation=0.0883),
    source=(
        "G. Srinivasan et al., Significance driven hybrid 8T-6T SRAM, DATE 2016 (22 nm predictive technology): 0.95 V "
        "nominal; at 0.75 V a network in 6T cells loses less than 0.5 % accuracy, below that substantially more; 8T "
        "cells stay robust at 0.65 V. Assumed, because its curves are not given in numbers: read and write failures "
        "equal, 2.5e-10 at 0.95 V and 2.5e-4 at 0.75 V, and from these 1.7 % at 0.65 V; 8T cells work down to 0.65 V; "
        "weaker: down to 0.75 V; stronger: down to 0.43 V, the same share of the nominal voltage as in SILICON_14NM"
    ),
)
