"""What the exact multiplier of any widths costs, in units of an exact 8-bit multiplication.

Measured at the gates for 2 to 8, 12 and 16 bits; see [multiplier-energy.md](../docs/multiplier-energy.md). The unit is
the energy, or the area, of the 8 x 8 circuit with random operands that are both new for each product.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from math import log2

from energy.cost_table import LAYER, CostKey, CostRow, exact_rows
from energy.errors import WorkloadError

_UNIT: CostKey = (LAYER, 8, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactCost:
    """Energy and area of the exact multiplier of some widths, in units of the 8-bit one.

    Attributes:
        recorded: Energy per product for a trained network's operands, both new for each product.
        held: The same while the weight stays.
        uniform: Energy per product for random operands, both new for each product.
        area: Area.
    """

    recorded: float
    held: float
    uniform: float
    area: float


@cache
def exact_cost(weight_bits: int, activation_bits: int, form: str = LAYER) -> ExactCost:
    """Return the cost of the exact multiplier.

    Between measured widths the logarithm of each figure is linear in the logarithms of both widths; beyond them, below
    2 and above 16 bits, figures follow the number of partial products.

    Args:
        weight_bits: Width of the weights, from 1 up.
        activation_bits: Width of the activations, from 1 up.
        form: `layer` for a circuit of exactly these widths; or one such as `8x8` for a circuit of given widths that
            gets these operands.

    Raises:
        WorkloadError: If the operands are wider than the circuit, or nothing was measured in the form.
    """
    measured = {key[1:]: row for key, row in exact_rows().items() if key[0] == form}
    if not measured:
        raise WorkloadError(f"no energy is known for multipliers built for {form} bits")
    most_weight, most_activation = max(measured)
    if form != LAYER and (weight_bits > most_weight or activation_bits > most_activation):
        raise WorkloadError(
            f"a multiplier built for {form} bits cannot take {weight_bits}-bit weights x "
            f"{activation_bits}-bit activations"
        )
    inside = min(max(weight_bits, 2), most_weight), min(max(activation_bits, 2), most_activation)
    beyond = weight_bits * activation_bits / (inside[0] * inside[1])
    places = [_neighbours(sorted({key[axis] for key in measured}), bits) for axis, bits in enumerate(inside)]
    figures = dict.fromkeys((one.name for one in fields(ExactCost)), 0.0)
    for weight, weight_share in places[0]:
        for activation, activation_share in places[1]:
            corner = _in_units(measured[weight, activation])
            for name in figures:
                figures[name] += weight_share * activation_share * log2(getattr(corner, name))
    found = {name: 2**figure * beyond for name, figure in figures.items()}
    if form != LAYER:  # operands change nothing in the circuit itself
        found["area"] /= beyond
    return ExactCost(**found)


def _neighbours(measured: list[int], bits: int) -> list[tuple[int, float]]:
    """Return the one or two measured widths around a width between them, with the share of each."""
    if bits in measured:
        return [(bits, 1.0)]
    above = next(width for width in measured if width > bits)
    below = measured[measured.index(above) - 1]
    share = log2(bits / below) / log2(above / below)
    return [(below, 1 - share), (above, share)]


def _in_units(row: CostRow) -> ExactCost:
    unit = exact_rows()[_UNIT]
    return ExactCost(
        recorded=row.energy_recorded_fj / unit.energy_uniform_fj,
        held=row.energy_held_fj / unit.energy_uniform_fj,
        uniform=row.energy_uniform_fj / unit.energy_uniform_fj,
        area=row.area_um2 / unit.area_um2,
    )
