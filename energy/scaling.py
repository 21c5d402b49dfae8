"""Scaling of energies between process nodes or supply voltages.

Between nodes: the fits of A. Stillmaker, B. Baas, Scaling equations for the accurate prediction of CMOS device
performance from 180 nm to 7 nm, Integration 58, 2017. Within a node dynamic energy follows the square of the voltage,
which holds within 1 % for the silicon of Eyeriss (Chen, Krishna, Emer, Sze, IEEE JSSC 52(1), 2017). For any one change
use one of them, never both.
"""

from __future__ import annotations

import math

from energy.errors import HardwareError
from energy.estimates import Estimate

# node in nm -> (a, b, c) of the energy a V^2 + b V + c of one operation at supply voltage V. Below 65 nm the paper has
# fits for high-performance and for low-power transistors; these are for the former, so that no ratio mixes the two.
_FITS = {
    65: (3.755, -4.398, 1.975),
    45: (1.018, -0.3107, 0.1539),
    32: (0.8367, -0.4341, 0.1701),
    20: (0.373, -0.1582, 0.04104),
    14: (0.2363, -0.09675, 0.02239),
    7: (0.1776, -0.09097, 0.02447),
}
MIN_NODE_NM, MAX_NODE_NM = min(_FITS), max(_FITS)

# node in nm -> its usual supply voltage. 65 and 45: that of the shipped tables, after Eyeriss and Horowitz. 32: the
# Predictive Technology Model for high performance (W. Zhao, Y. Cao, IEEE TED 53(11), 2006). 20, 14 and 7: that for
# FinFETs (S. Sinha et al., DAC 2012), which Stillmaker and Baas simulate.
_NOMINAL_V = {65: 1.0, 45: 0.9, 32: 0.9, 20: 0.9, 14: 0.8, 7: 0.7}


def node_ratio(from_nm: int, from_v: float, to_nm: int, to_v: float) -> float:
    """Compute the factor by which an operation's energy changes between nodes and voltages.

    Raises:
        HardwareError: If there is no fit for a node.
    """
    return _operation(to_nm, to_v) / _operation(from_nm, from_v)


def node_ratio_band(from_nm: float, from_v: float, to_nm: float, to_v: float) -> Estimate:
    """Compute the same factor for nodes between those with a fit too.

    There the logarithm of the energy is interpolated over that of the node; low and high are what the two neighbours
    allow, at the same voltage. Between nodes with a fit all three are `node_ratio`.

    Raises:
        HardwareError: If a node is outside of the fits.
    """
    before, after = _operation_band(from_nm, from_v), _operation_band(to_nm, to_v)
    return Estimate(after.low / before.high, after.value / before.value, after.high / before.low)


def usual_supply_v(node_nm: float) -> float:
    """Return the usual supply voltage of a node, interpolated between known ones, in whole hundredths of a volt.

    Raises:
        HardwareError: If the node is outside of the fits.
    """
    below, above, share = _neighbours(node_nm)
    return round(_NOMINAL_V[below] + share * (_NOMINAL_V[above] - _NOMINAL_V[below]), 2)


def voltage_ratio(from_v: float, to_v: float) -> float:
    """Compute the factor by which dynamic energy changes between supply voltages, within one node."""
    return (to_v / from_v) ** 2


def _operation(node_nm: int, supply_v: float) -> float:
    if node_nm not in _FITS:
        raise HardwareError(f"no scaling is known for {node_nm} nm; nodes: {', '.join(map(str, _FITS))}")
    a, b, c = _FITS[node_nm]
    return a * supply_v**2 + b * supply_v + c


def _operation_band(node_nm: float, supply_v: float) -> Estimate:
    below, above, share = _neighbours(node_nm)
    lower, upper = _operation(below, supply_v), _operation(above, supply_v)
    return Estimate(min(lower, upper), lower * (upper / lower) ** share, max(lower, upper))


def _neighbours(node_nm: float) -> tuple[int, int, float]:
    """Return the nearest nodes with a fit, and how far a node is from the first to the second, in logarithms."""
    if not MIN_NODE_NM <= node_nm <= MAX_NODE_NM:
        raise HardwareError(f"no scaling is known for {node_nm} nm; it is from {MIN_NODE_NM} to {MAX_NODE_NM} nm")
    below = max(node for node in _FITS if node <= node_nm)
    above = min(node for node in _FITS if node >= node_nm)
    return below, above, 0.0 if below == above else math.log(node_nm / below) / math.log(above / below)
