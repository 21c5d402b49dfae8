"""Area of an accelerator's array and memories, without pads, control, clock and wiring between blocks."""

from __future__ import annotations

import numpy as np

from energy.actions import ActionCounts
from energy.arrays import Array
from energy.cost_table import CostTable
from energy.estimates import Estimate
from energy.hardware import Hardware
from energy.table import MemorySizes
from energy.workload import WorkloadBatch


def area_mm2(
    work: WorkloadBatch, counts: ActionCounts, hardware: Hardware, sizes: MemorySizes, costs: CostTable
) -> Array:
    """Compute the area in mm2 of an array built for the workload's widths and multipliers: shape (3, workloads).

    The first axis is low, value, high. An element has every multiplier that some layer uses, an adder as wide as the
    widest sum, and its registers or scratchpads.

    Raises:
        WorkloadError: If the cost of a multiplier is unknown.
    """
    weight_bits, activation_bits = work.knobs.weight_bits, work.knobs.activation_bits
    relative_area = _relative_areas(work, costs)
    technology, pads = hardware.technology, hardware.scratchpads
    sum_bits = counts.sum_bits.max(axis=-1, keepdims=True)
    register_um2 = _column(technology.register_um2_per_bit)
    register_bits = weight_bits + activation_bits + sum_bits
    if pads is not None:
        register_um2 = _column(technology.scratchpad_um2_per_bit)
        register_bits = pads.weights * weight_bits + pads.inputs * activation_bits + pads.sums * sum_bits
    element = _column(technology.multiply_um2_per_bit2) * (weight_bits * activation_bits * relative_area)[..., 0]
    element = element + _column(technology.add_um2_per_bit) * sum_bits[..., 0]
    element = element + register_um2 * register_bits[..., 0]

    more = _column(technology.eight_transistor_cell.area) - 1
    memory = hardware.weight_memory
    metadata = sizes.metadata_share[..., 0]
    share = sizes.robust_share[..., 0] if isinstance(sizes.robust_share, np.ndarray) else sizes.robust_share
    robust = share * (1 - metadata) + memory.metadata_is_8t * metadata
    six_transistor_kb = sizes.weight_kb[..., 0] * (1 + robust * more)
    six_transistor_kb = six_transistor_kb + sizes.activation_kb[..., 0] * (
        1 + (hardware.activation_memory.cell == "8T") * more
    )
    memories = _column(technology.sram_um2_per_bit) * 8192 * six_transistor_kb
    areas: Array = (element * (hardware.array_rows * hardware.array_columns) + memories) * 1e-6
    return areas


def _relative_areas(work: WorkloadBatch, costs: CostTable) -> Array:
    """Relative area of all multipliers of an element together: shape (workloads, 1)."""
    areas = [costs.cost(name, weight_bits=w, activation_bits=a).relative_area for name, w, a in work.multipliers]
    totals = [sum(areas[place] for place in dict.fromkeys(row)) for row in work.multiplier_rows.tolist()]
    return np.array(totals)[work.row_of, None]


def _column(numbers: Estimate) -> Array:
    return np.array(numbers)[:, None]
