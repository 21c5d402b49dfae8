"""Energy per action, the second factor of the model: depends on widths, multiplier, voltage and memory sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from energy.actions import ActionCounts
from energy.arrays import Array
from energy.cost_table import CostTable
from energy.errors import WorkloadError
from energy.exact_multiplier import exact_cost
from energy.hardware import Hardware
from energy.hardware_parts import Memory
from energy.unit_energies import MOST_SUM_BITS
from energy.workload import WorkloadBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTable:
    """Energy per action in pJ: a number, or an array whose first axis is low, value, high.

    The last axis of `requantise_pj` is the layers, and so is that of `multiply_pj`, `weight_change_pj`,
    `weight_read_bit_pj` and `weight_write_bit_pj` if these differ in multiplier or robust bits.

    Attributes:
        multiply_pj: One multiplication with the workload's multiplier and widths, by the same weight as before.
        weight_change_pj: What it costs more by another weight than before.
        add_pj_per_bit: One addition, per bit of the partial sum.
        register_read_bit_pj: One bit read from a register or scratchpad of the array.
        register_write_bit_pj: One bit written to one.
        clock_bit_pj: Clocking one bit of the array's registers for one cycle.
        weight_read_bit_pj: One bit of a stored weight read, averaged over 6T and 8T cells.
        weight_write_bit_pj: One bit of a stored weight written.
        metadata_read_bit_pj: One bit of metadata read.
        bias_read_bit_pj: One bit of a bias or of the scale of an output read.
        requantise_pj: A bias added to a sum, which is then turned into a code.
        activation_read_bit_pj: One bit of an activation or partial sum read.
        activation_write_bit_pj: One bit of an activation or partial sum written.
        dram_bit_pj: One bit moved to or from DRAM; 0 without DRAM.
        leakage_pj_per_cycle: Leakage of both memories in one clock cycle.
        overhead_pj_per_cycle: What is not modelled, in one clock cycle.
        overhead_pj_per_inference: What is not modelled, in one inference.
    """

    multiply_pj: Array | float
    weight_change_pj: Array | float
    add_pj_per_bit: Array | float
    register_read_bit_pj: Array | float
    register_write_bit_pj: Array | float
    clock_bit_pj: Array | float
    weight_read_bit_pj: Array | float
    weight_write_bit_pj: Array | float
    metadata_read_bit_pj: Array | float
    bias_read_bit_pj: Array | float
    requantise_pj: Array | float
    activation_read_bit_pj: Array | float
    activation_write_bit_pj: Array | float
    dram_bit_pj: Array | float
    leakage_pj_per_cycle: Array | float
    overhead_pj_per_cycle: Array | float
    overhead_pj_per_inference: Array | float

    @classmethod
    def ones(cls) -> EnergyTable:
        """Make a table in which every action costs 1, so that counts can be checked by hand."""
        return cls(**dict.fromkeys(cls.__dataclass_fields__, 1.0))

    def values(self, layer: int = 0) -> dict[str, float]:
        """Return the likely value of each entry, for one layer of a single workload if layers differ."""
        found = {}
        for name in self.__dataclass_fields__:
            entry = np.asarray(getattr(self, name))
            entry = entry[len(entry) // 2].ravel() if entry.ndim else entry.ravel()
            found[name] = float(entry[layer if entry.size > 1 else 0])
        return found

    @property
    def likely(self) -> EnergyTable:
        """The table of likely values: each entry without its first axis."""
        entries = [getattr(self, name) for name in self.__slots__]
        return EnergyTable(
            **{
                name: entry[1] if isinstance(entry, np.ndarray) and entry.ndim else entry
                for name, entry in zip(self.__slots__, entries, strict=True)
            }
        )

    def averaged(self, counts: ActionCounts) -> EnergyTable:
        """Average the entries over the layers of each workload, weighted by the counts of the action."""
        weights = {
            "multiply_pj": counts.macs,
            "weight_change_pj": counts.weight_changes,
            "requantise_pj": counts.output_writes,
            "weight_read_bit_pj": counts.weight_read_bits,
            "weight_write_bit_pj": counts.weight_write_bits,
        }
        entries = {name: (getattr(self, name), weight) for name, weight in weights.items()}
        return replace(
            self,
            **{
                name: (entry * weight).sum(axis=-1, keepdims=True) / np.where(total > 0, total, 1)
                for name, (entry, weight) in entries.items()
                for total in (weight.sum(axis=-1, keepdims=True),)
                if np.ndim(entry) and np.shape(entry)[-1] > 1
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySizes:
    """Capacities of the memories and composition of the weight memory; each of shape (workloads, 1).

    Attributes:
        weight_kb: Capacity of the weight memory, in KB of 1024 bytes.
        activation_kb: Capacity of the activation memory, in KB.
        metadata_share: Metadata as a share of all bits in the weight memory.
        bias_share: Biases and scales as a share of all bits in the weight memory.
        robust_share: Bits in 8T cells as a share of the bits of weights, metadata and biases excluded.
    """

    weight_kb: Array
    activation_kb: Array
    metadata_share: Array
    bias_share: Array
    robust_share: Array | float

    def eight_transistor_share(self, memory: Memory) -> Array:
        """Return the share of all bits in the weight memory that is in 8T cells: shape (workloads, 1)."""
        values = 1 - self.metadata_share - self.bias_share
        share = self.robust_share * values + memory.metadata_is_8t * self.metadata_share + self.bias_share
        return np.asarray(share)


def memory_sizes(work: WorkloadBatch, counts: ActionCounts, hardware: Hardware) -> MemorySizes:
    """Size the memories: as the hardware says, or the fewest banks that hold the network where capacity is fitted.

    Raises:
        WorkloadError: If a memory of fixed size is too small for the network and there is no DRAM.
    """
    metadata = np.add.reduce(counts.stored_metadata_bits, axis=-1, keepdims=True)
    biases = np.add.reduce(counts.stored_bias_bits, axis=-1, keepdims=True)
    stored = np.add.reduce(counts.stored_value_bits, axis=-1, keepdims=True) + metadata + biases
    live = counts.live_activation_bits.max(axis=-1, keepdims=True)
    robust_share = hardware.weight_memory.robust_share(work.knobs.robust_bits, work.knobs.weight_bits)
    if work.layered:
        values = counts.stored_value_bits
        robust_share = (robust_share * values).sum(axis=-1, keepdims=True)
        robust_share = robust_share / np.maximum(values.sum(axis=-1, keepdims=True), 1)
    return MemorySizes(
        weight_kb=_capacity_kb(stored, hardware.weight_memory, hardware, "weights"),
        activation_kb=_capacity_kb(live, hardware.activation_memory, hardware, "activations"),
        metadata_share=metadata / np.maximum(stored, 1),
        bias_share=biases / np.maximum(stored, 1),
        robust_share=robust_share,
    )


def _capacity_kb(bits: Array, memory: Memory, hardware: Hardware, what: str) -> Array:
    if memory.capacity_kb is None:
        return np.maximum(1, np.ceil(bits / (8 * 1024 * memory.bank_kb))) * memory.bank_kb
    if hardware.dram is None and (largest := float(bits.max())) > memory.capacity_kb * 8 * 1024:
        raise WorkloadError(
            f"the {what} need {largest / 8192:.1f} KB, but {hardware.name} has {memory.capacity_kb} KB for them and no "
            "DRAM; give it DRAM, a larger memory, or capacity_kb: fitted"
        )
    return np.full(bits.shape, float(memory.capacity_kb))


def energy_table(
    work: WorkloadBatch, counts: ActionCounts, hardware: Hardware, sizes: MemorySizes, costs: CostTable
) -> EnergyTable:
    """Compute energy per action for these widths, multipliers, voltages and memory sizes.

    - A multiplier costs what its gates cost at its widths: `multiply_energies`.
    - Dynamic energy follows the square of each part's supply voltage (`energy.scaling`). Leakage current is taken as
      constant, so leakage power is proportional to the voltage.
    - Robust bits are stored in 8T cells of a hybrid memory, and so is all metadata: an error there spoils many weights.
      Biases and scales are in 8T cells whatever the memory's cells are.

    Args:
        work: The workloads.
        counts: Their actions, of which the widths of sums are used.
        hardware: The accelerator.
        sizes: Sizes of the memories; see `memory_sizes`.
        costs: Costs of the multipliers.

    Returns:
        Entries of shape (3, workloads, 1) or (3, 1, 1), or (3, workloads, layers) where layers differ.

    Raises:
        WorkloadError: If the cost of a multiplier is unknown, robust bits are wanted of a weight memory without 8T
            cells, its voltage is far from the technology's, or sums are too wide.
    """
    knobs = work.knobs
    weight_bits, weight_v, robust_bits = knobs.weight_bits, knobs.weight_memory_v, knobs.robust_bits
    memory, activation_memory = hardware.weight_memory, hardware.activation_memory
    if memory.cell != "hybrid" and robust_bits.any():
        raise WorkloadError(
            f"the weight memory of {hardware.name} has {memory.cell} cells only, so robust_bits must be 0, got "
            f"{robust_bits.max():g}; choose hardware whose weight_memory has cell: hybrid"
        )
    units, nominal_v = hardware.unit_energies, hardware.technology.nominal_v
    if not ((weight_v >= 0.2 * nominal_v) & (weight_v <= 1.5 * nominal_v)).all():  # such as 900 for 900 mV
        raise WorkloadError(
            f"weight_memory_v must be in volts, between 0.2 and 1.5 times the nominal {nominal_v} V of "
            f"{hardware.name}, got {weight_v.min():g} to {weight_v.max():g}"
        )
    if (widest := counts.sum_bits.max()) > MOST_SUM_BITS:
        raise WorkloadError(
            f"sums can be at most {MOST_SUM_BITS} bits wide, got {widest:g}; narrow the codes or set partial_sum_bits"
        )
    fresh, held = multiply_energies(work, hardware, costs)

    robust_share = memory.robust_share(robust_bits, weight_bits) if work.layered else sizes.robust_share
    metadata_8t, activation_8t = memory.metadata_is_8t, activation_memory.cell == "8T"
    weight_ratio, activation_ratio = weight_v / nominal_v, activation_memory.supply_v / nominal_v
    weight_square = weight_ratio**2
    read, written = hardware.weight_sram.pj_per_bit(sizes.weight_kb)
    weight_cells = (1 + robust_share * units.more_access) * weight_square
    activation_read, activation_written = hardware.activation_sram.pj_per_bit(sizes.activation_kb)
    activation_cells = (1 + activation_8t * units.more_access) * activation_ratio**2
    robust_read = read * ((1 + units.more_access) * weight_square)

    leaking_kb = sizes.weight_kb * weight_ratio * (1 + sizes.eight_transistor_share(memory) * units.more_area)
    leaking_kb = leaking_kb + sizes.activation_kb * activation_ratio * (1 + activation_8t * units.more_area)
    return EnergyTable(
        multiply_pj=held,
        weight_change_pj=fresh - held,
        add_pj_per_bit=units.add_per_bit,
        register_read_bit_pj=units.register_read_per_bit,
        register_write_bit_pj=units.register_write_per_bit,
        clock_bit_pj=units.clock_per_bit,
        weight_read_bit_pj=read * weight_cells,
        weight_write_bit_pj=written * weight_cells,
        metadata_read_bit_pj=robust_read if metadata_8t else read * weight_square,
        bias_read_bit_pj=robust_read,
        requantise_pj=units.requantise_by_width.take(counts.sum_bits.astype(np.intp), axis=1),
        activation_read_bit_pj=activation_read * activation_cells,
        activation_write_bit_pj=activation_written * activation_cells,
        dram_bit_pj=units.dram_per_bit,
        leakage_pj_per_cycle=units.leakage_per_kb_cycle * leaking_kb,
        overhead_pj_per_cycle=units.overhead_per_cycle,
        overhead_pj_per_inference=units.overhead_per_inference,
    )


def multiply_energies(work: WorkloadBatch, hardware: Hardware, costs: CostTable) -> tuple[Array, Array]:
    """Compute the energy of a multiplication by another weight than before, and by the same one, in pJ.

    The likely figure is measured on gates, with a trained network's operands: the exact multiplier's in exact 8-bit
    multiplications (`energy.exact_multiplier`), times the multiplier's relative energy, times the published energy of
    an 8-bit multiplication. Low and high span what random operands cost and what follows from published energies at 8
    and 32 bits, a quadratic law of the width, and the bounds of the published energy.

    Returns:
        Two arrays of shape (3, workloads, 1), or (3, workloads, layers) where layers differ.

    Raises:
        WorkloadError: If the cost of a multiplier is unknown, for these widths or in an array of the built widths.
    """
    widths, technology = hardware.widths, hardware.technology
    form = hardware.multiplier_form
    found = np.empty((2, 3, len(work.multipliers)))
    for place, (name, weight_bits, activation_bits) in enumerate(work.multipliers):
        exact = exact_cost(weight_bits, activation_bits, form)
        cost = costs.cost(name, weight_bits=weight_bits, activation_bits=activation_bits, form=form)
        by_law = technology.multiply_by_law(
            *((weight_bits, activation_bits) if widths is None else (widths.weights, widths.activations))
        )
        fresh, held = exact.recorded * cost.relative_energy, exact.held * cost.relative_energy_held
        random = exact.uniform * cost.relative_energy_uniform
        spans = (
            (fresh, fresh, random, by_law * cost.relative_energy),
            (held, held, by_law * cost.relative_energy_held),
        )
        for which, (value, *all_figures) in enumerate(spans):
            found[which, :, place] = min(all_figures), value, max(all_figures)
    fresh_pj, held_pj = found * hardware.unit_energies.multiply_8_bits[:, :, 0]
    return _by_workload(work, fresh_pj), _by_workload(work, held_pj)


def _by_workload(work: WorkloadBatch, figures: Array) -> Array:
    """Spread figures of distinct multipliers, of shape (3, multipliers), over workloads and layers."""
    return figures.take(work.multiplier_rows, axis=1).take(work.row_of, axis=1)
