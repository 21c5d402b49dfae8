"""A technology's energies at the voltages and clock of one accelerator, as far as no workload is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from energy.arrays import Array
from energy.estimates import Estimate
from energy.exact_multiplier import exact_cost
from energy.scaling import voltage_ratio
from energy.technology import Technology

MOST_SUM_BITS = 64
SHIFT_BITS = 5  # of the stored distance by which a product with the scale is shifted
# Shifting, rounding and saturating a product costs this much for each of its bits, in exact 8-bit multiplications:
# 0.024 to 0.030 in gates of 24 to 48 bits (`energy.gates.requantiser`; a test measures them).
SHIFT_PER_BIT = 0.027


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitEnergies:
    """Energies in pJ, and ratios, of shape (3, 1, 1): low, value, high before workloads and layers.

    Attributes:
        multiply_8_bits: An exact 8-bit multiplication with random operands.
        requantise_by_width: Turning a sum into a code, by the width of the sum: shape (3, widths), of which the first,
            for sums of no bits, is 0.
        add_per_bit: Addition, per bit of the sum.
        register_read_per_bit: One bit read from a register or scratchpad.
        register_write_per_bit: One bit written to a register or scratchpad.
        clock_per_bit: Clocking one bit of a register for one cycle.
        more_access: Additional energy of an access to an 8T cell, relative to a 6T cell.
        more_area: Additional area of an 8T cell, relative to a 6T cell.
        leakage_per_kb_cycle: Leakage of 1 KB of 6T memory at nominal voltage in one clock cycle.
        dram_per_bit: One bit moved to or from DRAM; 0 without DRAM.
        overhead_per_cycle: What is not modelled, in one clock cycle.
        overhead_per_inference: What is not modelled, in one inference.
    """

    multiply_8_bits: Array
    requantise_by_width: Array
    add_per_bit: Array
    register_read_per_bit: Array
    register_write_per_bit: Array
    clock_per_bit: Array
    more_access: Array
    more_area: Array
    leakage_per_kb_cycle: Array
    dram_per_bit: Array
    overhead_per_cycle: Array
    overhead_per_inference: Array


def unit_energies(
    technology: Technology,
    *,
    flavour: str,
    supply_v: float,
    clock_mhz: float,
    has_scratchpads: bool,
    dram_pj_per_bit: Estimate | None,
    scale_bits: int,
    overhead_pj: tuple[Estimate, Estimate],
) -> UnitEnergies:
    """Scale a technology's energies to an array's voltage and clock.

    Args:
        technology: The process node.
        flavour: Transistor flavour, a key of the technology's leakage table.
        supply_v: Supply voltage of the array.
        clock_mhz: Clock frequency.
        has_scratchpads: Whether elements hold their values in scratchpads instead of registers.
        dram_pj_per_bit: Energy of one bit moved to or from DRAM; None without DRAM.
        scale_bits: Width of the scale that sums are multiplied by.
        overhead_pj: Energy of what is not modelled, by cycle and by inference.
    """
    logic = voltage_ratio(technology.nominal_v, supply_v)
    scratchpad = technology.scratchpad_pj_per_bit
    cell, leakage = technology.eight_transistor_cell, technology.leakage[flavour]
    multiply = _axis(technology.multiply_pj) * logic
    add = _axis(technology.add_pj_per_bit) * logic
    return UnitEnergies(
        multiply_8_bits=multiply,
        requantise_by_width=multiply[:, 0] * requantise_energies(scale_bits) + add[:, 0] * np.arange(MOST_SUM_BITS + 1),
        add_per_bit=add,
        register_read_per_bit=_axis(scratchpad if has_scratchpads else technology.register_read_pj_per_bit) * logic,
        register_write_per_bit=_axis(scratchpad if has_scratchpads else technology.register_write_pj_per_bit) * logic,
        clock_per_bit=_axis(technology.clock_pj_per_bit) * logic,
        more_access=_axis(cell.access) - 1,
        more_area=_axis(cell.area) - 1,
        leakage_per_kb_cycle=_axis(leakage.sram_mw_per_mb) / 1024 * 1e3 / clock_mhz,  # mW / MHz = 1e3 pJ
        dram_per_bit=_axis(dram_pj_per_bit or Estimate(0, 0, 0)),
        overhead_per_cycle=_axis(overhead_pj[0]),
        overhead_per_inference=_axis(overhead_pj[1]),
    )


@cache
def requantise_energies(scale_bits: int) -> Array:
    """Return the energy of turning a sum into a code, in exact 8-bit multiplications, for sums of 0 to 64 bits.

    The sum is multiplied by a scale, shifted, rounded and saturated (Jacob et al., CVPR 2018); adding the bias is not
    part of it.
    """
    widths = range(1, MOST_SUM_BITS + 1)
    found = [exact_cost(bits, scale_bits).uniform + SHIFT_PER_BIT * (bits + scale_bits) for bits in widths]
    return np.array([0.0, *found])


def _axis(numbers: Estimate) -> Array:
    return np.array(numbers, dtype=np.float64).reshape(3, 1, 1)
