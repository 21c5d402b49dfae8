"""Scaling of energies between process nodes or supply voltages.

Between nodes: the fits of A. Stillmaker, B. Baas, Scaling equations for the accurate prediction of CMOS device
performance from 180 nm to 7 nm, Integration 58, 2017. Within a node dynamic energy follows the square of the voltage,
which holds within 1 % for the silicon of Eyeriss (Chen, Krishna, Emer, Sze, IEEE JSSC 52(1), 2017). For any one change
use one of them, never both.
"""

from __future__ import annotations

from energy.errors import HardwareError

# node in nm -> (a, b, c) of the energy a V^2 + b V + c of one operation at supply voltage V.
_FITS = {
    65: (3.755, -4.398, 1.975),
    45: (1.103, -0.362, 0.2767),
    32: (0.9559, -0.7823, 0.471),
    20: (0.373, -0.1582, 0.04104),
    14: (0.2363, -0.09675, 0.02239),
    7: (0.1776, -0.09097, 0.02447),
}


def node_ratio(from_nm: int, from_v: float, to_nm: int, to_v: float) -> float:
    """Compute the factor by which an operation's energy changes between nodes and voltages.

    Raises:
        HardwareError: If there is no fit for a node.
    """
    return _operation(to_nm, to_v) / _operation(from_nm, from_v)


def voltage_ratio(from_v: float, to_v: float) -> float:
    """Compute the factor by which dynamic energy changes between supply voltages, within one node."""
    return (to_v / from_v) ** 2


def _operation(node_nm: int, supply_v: float) -> float:
    if node_nm not in _FITS:
        raise HardwareError(f"no scaling is known for {node_nm} nm; nodes: {', '.join(map(str, _FITS))}")
    a, b, c = _FITS[node_nm]
    return a * supply_v**2 + b * supply_v + c
