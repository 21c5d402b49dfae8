"""What a technology's numbers come to on one accelerator, at its voltages: what does not depend on the workload."""

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
        multiply_per_bit2: See `Technology.multiply_pj_per_bit2`; at the array's voltage.
        multiply_per_bit: See `Technology.multiply_pj_per_bit`.
        add_per_bit: An addition.
        register_read_per_bit: A bit read from a register or scratchpad.
        register_write_per_bit: A bit written there.
        clock_per_bit: Clocking a bit of a register for a cycle.
        more_access: What an access to an 8T cell costs more than one to a 6T cell, relative to that.
        more_area: How much larger it is.
        leakage_per_kb_cycle: Leakage of a KB of 6T memory at nominal voltage in a clock cycle.
        dram_per_bit: A bit moved from or to DRAM; 0 without.
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
    """Carry a technology's numbers to an array's voltage and clock.

    Args:
        technology: The process node.
        flavour: Of transistors, a key of the technology's leakage table.
        supply_v: Of the array.
        clock_mhz: Clock frequency.
        has_scratchpads: Whether elements hold their values in scratchpads instead of registers.
        dram_pj_per_bit: Of DRAM; None without.
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
