"""A technology's energies at the voltages and clock of one accelerator, as far as no workload is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from energy.arrays import Array
from energy.estimates import Estimate
from energy.scaling import voltage_ratio
from energy.technology import Technology


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitEnergies:
    """Energies in pJ, and ratios, of shape (3, 1, 1): low, value, high before workloads and layers.

    Attributes:
        multiply_per_bit2: `Technology.multiply_pj_per_bit2` at the array's voltage.
        multiply_per_bit: `Technology.multiply_pj_per_bit` at the array's voltage.
        add_per_bit: Addition, per bit of the sum.
        register_read_per_bit: One bit read from a register or scratchpad.
        register_write_per_bit: One bit written to a register or scratchpad.
        clock_per_bit: Clocking one bit of a register for one cycle.
        more_access: Additional energy of an access to an 8T cell, relative to a 6T cell.
        more_area: Additional area of an 8T cell, relative to a 6T cell.
        leakage_per_kb_cycle: Leakage of 1 KB of 6T memory at nominal voltage in one clock cycle.
        dram_per_bit: One bit moved to or from DRAM; 0 without DRAM.
    """

    multiply_per_bit2: Array
    multiply_per_bit: Array
    add_per_bit: Array
    register_read_per_bit: Array
    register_write_per_bit: Array
    clock_per_bit: Array
    more_access: Array
    more_area: Array
    leakage_per_kb_cycle: Array
    dram_per_bit: Array


def unit_energies(
    technology: Technology,
    *,
    flavour: str,
    supply_v: float,
    clock_mhz: float,
    has_scratchpads: bool,
    dram_pj_per_bit: Estimate | None,
) -> UnitEnergies:
    """Scale a technology's energies to an array's voltage and clock.

    Args:
        technology: The process node.
        flavour: Transistor flavour, a key of the technology's leakage table.
        supply_v: Supply voltage of the array.
        clock_mhz: Clock frequency.
        has_scratchpads: Whether elements hold their values in scratchpads instead of registers.
        dram_pj_per_bit: Energy of one bit moved to or from DRAM; None without DRAM.
    """
    logic = voltage_ratio(technology.nominal_v, supply_v)
    scratchpad = technology.scratchpad_pj_per_bit
    cell, leakage = technology.eight_transistor_cell, technology.leakage[flavour]
    return UnitEnergies(
        multiply_per_bit2=_axis(technology.multiply_pj_per_bit2) * logic,
        multiply_per_bit=_axis(technology.multiply_pj_per_bit) * logic,
        add_per_bit=_axis(technology.add_pj_per_bit) * logic,
        register_read_per_bit=_axis(scratchpad if has_scratchpads else technology.register_read_pj_per_bit) * logic,
        register_write_per_bit=_axis(scratchpad if has_scratchpads else technology.register_write_pj_per_bit) * logic,
        clock_per_bit=_axis(technology.clock_pj_per_bit) * logic,
        more_access=_axis(cell.access) - 1,
        more_area=_axis(cell.area) - 1,
        leakage_per_kb_cycle=_axis(leakage.sram_mw_per_mb) / 1024 * 1e3 / clock_mhz,  # mW / MHz = 1e3 pJ
        dram_per_bit=_axis(dram_pj_per_bit or Estimate(0, 0, 0)),
    )


def _axis(numbers: Estimate) -> Array:
    return np.array(numbers, dtype=np.float64).reshape(3, 1, 1)
