"""Area of an accelerator's array and memories, without pads, control, clock and wiring between blocks."""

from __future__ import annotations

from functools import cache

import numpy as np

from energy.actions import ActionCounts, built_bits
from energy.arrays import Array
from energy.cost_table import CostTable
from energy.estimates import Estimate
from energy.exact_multiplier import exact_cost
from energy.hardware import Hardware
from energy.table import MemorySizes
from energy.unit_energies import MOST_SUM_BITS
from energy.workload import WorkloadBatch

# Of shifting, rounding and saturating, for each bit of the product, in exact 8-bit multipliers; measured as the energy
# is (`energy.unit_energies`).
SHIFTER_AREA_PER_BIT = 0.026


def area_mm2(
    work: WorkloadBatch, counts: ActionCounts, hardware: Hardware, sizes: MemorySizes, costs: CostTable
) -> Array:
    """Compute the area in mm2 of an accelerator: shape (3, workloads).

    The first axis is low, value, high. The array is built for the hardware's widths, or for the workload's if it has
    none. An element has every multiplier that some layer uses, an adder as wide as the widest sum, and its registers or
    scratchpads; a column has one unit that turns sums into codes.

    Raises:
        WorkloadError: If the cost of a multiplier is unknown.
    """
    weight_bits, activation_bits = built_bits(work, hardware)
    technology, pads = hardware.technology, hardware.scratchpads
    sum_bits = counts.sum_bits.max(axis=-1, keepdims=True)
    register_um2 = _column(technology.register_um2_per_bit)
    register_bits = weight_bits + activation_bits + sum_bits
    if pads is not None:
        register_um2 = _column(technology.scratchpad_um2_per_bit)
        register_bits = pads.weights * weight_bits + pads.inputs * activation_bits + pads.sums * sum_bits
    multiply_um2 = 64 * _column(technology.multiply_um2_per_bit2)
    element = multiply_um2 * _multiplier_areas(work, hardware, costs)
    element = element + _column(technology.add_um2_per_bit) * sum_bits[..., 0]
    element = element + register_um2 * register_bits[..., 0]

    column = multiply_um2 * requantiser_areas(hardware.scale_bits)[sum_bits[..., 0].astype(np.intp)]
    column = column + _column(technology.add_um2_per_bit) * sum_bits[..., 0]

    more = _column(technology.eight_transistor_cell.area) - 1
    memory = hardware.weight_memory
    robust = sizes.eight_transistor_share(memory)[..., 0]
    six_transistor_kb = sizes.weight_kb[..., 0] * (1 + robust * more)
    six_transistor_kb = six_transistor_kb + sizes.activation_kb[..., 0] * (
        1 + (hardware.activation_memory.cell == "8T") * more
    )
    memories = _column(technology.sram_um2_per_bit) * 8192 * six_transistor_kb
    array = element * (hardware.array_rows * hardware.array_columns) + column * hardware.array_columns
    areas: Array = (array + memories) * 1e-6
    return areas


def _multiplier_areas(work: WorkloadBatch, hardware: Hardware, costs: CostTable) -> Array:
    """Area of all multipliers of an element, in exact 8-bit multipliers: shape (workloads,)."""
    form = hardware.multiplier_form
    areas = [
        exact_cost(w, a, form).area * costs.cost(name, weight_bits=w, activation_bits=a, form=form).relative_area
        for name, w, a in work.multipliers
    ]
    totals = [sum(areas[place] for place in dict.fromkeys(row)) for row in work.multiplier_rows.tolist()]
    return np.array(totals)[work.row_of]


@cache
def requantiser_areas(scale_bits: int) -> Array:
    """Area of a unit that turns sums of 0 to 64 bits into codes, in exact 8-bit multipliers."""
    widths = range(1, MOST_SUM_BITS + 1)
    found = [exact_cost(bits, scale_bits).area + SHIFTER_AREA_PER_BIT * (bits + scale_bits) for bits in widths]
    return np.array([0.0, *found])


def _column(numbers: Estimate) -> Array:
    return np.array(numbers)[:, None]
