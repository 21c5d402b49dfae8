"""Energy of on-chip memory by capacity and port width."""

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
    """Energy per bit of memories with one port width, as a function of capacity.

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
        self._known: dict[float, tuple[Array, Array]] = {}

    def pj_per_bit(self, capacity_kb: Array) -> tuple[Array, Array]:
        """Return the energy of one bit read and of one bit written, in pJ: each of shape (3, *capacity_kb.shape).

        The first axis is low, value, high.
        """
        if capacity_kb.size > 1:
            return self._interpolated(capacity_kb)
        # A single workload: capacities are whole banks, so few different ones occur.
        capacity = float(capacity_kb.item())
        if capacity not in self._known:
            self._known[capacity] = self._interpolated(np.full((1, 1), capacity))
        read, written = self._known[capacity]
        shape = (3, *capacity_kb.shape)
        return read.reshape(shape), written.reshape(shape)

    def _interpolated(self, capacity_kb: Array) -> tuple[Array, Array]:
        at = np.log2(capacity_kb)
        grid = self._grid
        left = np.minimum(np.searchsorted(grid, at, side="right"), len(grid) - 1) - 1
        share = (at - grid[left]) / (grid[left + 1] - grid[left])
        low, high = self._curves[:, left], self._curves[:, left + 1]
        energies = np.exp2(low + (high - low) * share)
        return energies[:3], energies[3:]


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
