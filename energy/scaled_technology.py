"""A technology at another node: every figure scaled by what its unit says.

Dynamic energies follow `energy.scaling` between nodes, with a band where the node has no fit of its own, and the square
of the voltage within one. Areas follow the square of the node. A wire's energy follows the square of the voltage alone,
because its capacitance per millimetre hardly changes between nodes. Leakage and ratios stay as they are.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from energy.estimates import Estimate
from energy.scaling import node_ratio_band, voltage_ratio
from energy.technology import Technology

_ENERGIES = ("_pj_per_bit", "_pj_per_bit2")
_WIRES = ("_pj_per_bit_mm",)
_AREAS = ("_um2_per_bit", "_um2_per_bit2")


def scale_technology(base: Technology, node_nm: int, nominal_v: float) -> Technology:
    """Scale a technology to another node.

    Args:
        base: The technology to scale.
        node_nm: The node in nanometres.
        nominal_v: Its nominal supply voltage, in volts.

    Raises:
        HardwareError: If either node is outside of those that `energy.scaling` knows.
    """
    voltage = voltage_ratio(base.nominal_v, nominal_v)
    if node_nm == base.node_nm:
        energy = Estimate(voltage, voltage, voltage)
    else:
        energy = node_ratio_band(base.node_nm, base.nominal_v, node_nm, nominal_v)
    area = (node_nm / base.node_nm) ** 2
    changes: dict[str, Any] = {}
    for field in fields(base):
        figure = getattr(base, field.name)
        if field.name.endswith(_ENERGIES):
            changes[field.name] = _times(figure, energy)
        elif field.name.endswith(_WIRES):
            changes[field.name] = figure.scaled(voltage)
        elif field.name.endswith(_AREAS):
            changes[field.name] = figure.scaled(area)
    sram = tuple(
        replace(point, read_pj=_times(point.read_pj, energy), write_pj=_times(point.write_pj, energy))
        for point in base.sram
    )
    return replace(base, node_nm=node_nm, nominal_v=nominal_v, sram=sram, **changes)


def _times(figure: Estimate, ratio: Estimate) -> Estimate:
    return Estimate(figure.low * ratio.low, figure.value * ratio.value, figure.high * ratio.high)
