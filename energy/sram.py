"""Energy of on-chip memory by capacity, bank and port width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from energy.arrays import Array
from energy.estimates import Estimate

TABLE_PORT_BITS = 64  # port width of the points in technology files


@dataclass(frozen=True, slots=True, kw_only=True)
class SramPoint:
    """One access through a 64-bit port.

    Attributes:
        capacity_kb: Capacity of the memory, in KB of 1024 bytes.
        read_pj: Energy of a read, in pJ.
        write_pj: Energy of a write, in pJ.
    """

    capacity_kb: float
    read_pj: Estimate
    write_pj: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class PortPoint:
    """Energy by port width at one capacity.

    Attributes:
        capacity_kb: Capacity of the memory, in KB.
        fj_per_bit: Port width in bits -> energy of one bit read through it. Only ratios matter.
    """

    capacity_kb: float
    fj_per_bit: Mapping[int, float]


class SramCurve:
    """Energy per bit of single memories with one port width, as a function of capacity.

    Between points, energy follows a power law of the capacity (a straight line in log-log), which is how bit lines and
    word lines grow; the outermost segments extend beyond the points. The same holds for the ratio between ports.

    Args:
        points: At least two, in ascending order of capacity.
        ports: At least two, in ascending order of capacity.
        port_bits: Width of the port.
    """

    def __init__(self, points: Sequence[SramPoint], ports: Sequence[PortPoint], port_bits: int) -> None:
        # One grid with every point of both, from 1 KB to 16 GB so that no memory is outside.
        known_kb = [*(point.capacity_kb for point in points), *(port.capacity_kb for port in ports)]
        grid = sorted({0.0, 24.0, *(float(np.log2(capacity)) for capacity in known_kb)})
        self._grid = np.array(grid)
        factor = _extended(
            self._grid,
            [np.log2(port.capacity_kb) for port in ports],
            [_port_factor(port, port_bits) for port in ports],
        )
        capacities = [np.log2(point.capacity_kb) for point in points]
        curves = []
        for kind in ("read_pj", "write_pj"):
            for which in range(3):
                energies = [np.log2(getattr(point, kind)[which] / TABLE_PORT_BITS) for point in points]
                curves.append(_extended(self._grid, capacities, energies) + factor)
        low, value, high = np.array(curves).reshape(2, 3, -1).swapaxes(0, 1)
        # Sources of different slopes may cross beyond their points.
        ordered = np.array([np.minimum(low, value), value, np.maximum(high, value)])
        self._curves = ordered.swapaxes(0, 1).reshape(6, -1)

    def pj_per_bit(self, capacity_kb: Array) -> tuple[Array, Array]:
        """Return the energy of one bit read and of one bit written, in pJ: each of shape (3, *capacity_kb.shape).

        The first axis is low, value, high.
        """
        at = np.log2(capacity_kb)
        grid = self._grid
        left = np.minimum(np.searchsorted(grid, at, side="right"), len(grid) - 1) - 1
        share = (at - grid[left]) / (grid[left + 1] - grid[left])
        low, high = self._curves[:, left], self._curves[:, left + 1]
        energies = np.exp2(low + (high - low) * share)
        return energies[:3], energies[3:]


class BankedSram:
    """Energy per bit of a memory of equal banks: of an access to one of them, and of the way to it.

    Banks fill a square whose port is in the middle of one side. From there a bank is a quarter of the side away across
    it and half of the side along it, on average; what lies within a single bank is part of its own energy. The high
    figure is at least that of one memory of the whole capacity, as published memories of that size have it.

    Args:
        curve: Energy of single memories through the same port.
        bank_kb: Capacity of a bank, in KB.
        um2_per_bit: Area of memory.
        wire_pj_per_bit_mm: Energy of moving a bit over a millimetre.
    """

    def __init__(
        self, curve: SramCurve, *, bank_kb: float, um2_per_bit: Estimate, wire_pj_per_bit_mm: Estimate
    ) -> None:
        self._curve = curve
        self._bank_kb = bank_kb
        read, written = curve.pj_per_bit(np.full((1, 1), float(bank_kb)))
        side_mm = np.sqrt(bank_kb * 8192 * um2_per_bit.value) / 1000
        self._bank = np.array([read, written])
        self._route = 0.75 * side_mm * np.array(wire_pj_per_bit_mm).reshape(3, 1, 1)
        self._known: dict[float, tuple[Array, Array]] = {}

    def pj_per_bit(self, capacity_kb: Array) -> tuple[Array, Array]:
        """Return the energy of one bit read and of one bit written, in pJ: each of shape (3, *capacity_kb.shape).

        The first axis is low, value, high. Capacities have shape (workloads, 1).
        """
        if capacity_kb.size > 1:
            return self._computed(capacity_kb)
        # A single workload: capacities are whole banks, so few different ones occur.
        capacity = float(capacity_kb.item())
        if capacity not in self._known:
            self._known[capacity] = self._computed(capacity_kb)
        return self._known[capacity]

    def _computed(self, capacity_kb: Array) -> tuple[Array, Array]:
        banks = np.maximum(capacity_kb / self._bank_kb, 1)
        found = self._bank + self._route * (np.sqrt(banks) - 1)
        single = self._curve.pj_per_bit(capacity_kb)
        for kind, whole in zip(found, single, strict=True):
            kind[2] = np.maximum(kind[2], whole[1])
        return found[0], found[1]


def _port_factor(port: PortPoint, port_bits: int) -> float:
    """log2 of energy per bit through a port relative to that through the table's port."""
    widths = sorted(port.fj_per_bit)
    energies = [np.log2(port.fj_per_bit[width]) for width in widths]
    at = np.array([np.log2(port_bits), np.log2(TABLE_PORT_BITS)])
    wanted, table = _extended(at, [float(np.log2(width)) for width in widths], energies)
    return float(wanted - table)


def _extended(at: Array, x: Sequence[float], y: Sequence[float]) -> Array:
    """Interpolate linearly; the first and the last segment extend beyond the points."""
    right = np.clip(np.searchsorted(x, at), 1, len(x) - 1)
    x0, x1, y0, y1 = (np.asarray(v)[index] for v in (x, y) for index in (right - 1, right))
    return np.asarray(y0 + (y1 - y0) * (at - x0) / (x1 - x0))
