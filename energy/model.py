"""The model: energy = sum over layers, components and actions of count x energy per action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from math import sqrt

from energy.actions import ActionCounts, count_actions, partial_sum_bits
from energy.errors import WorkloadError
from energy.hardware import Hardware, multiplier_energies
from energy.workload import LayerWorkload, Workload

COMPONENTS = ("mac", "weight_sram", "metadata", "activation_sram", "dram", "leakage")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTable:
    """Energy per action in pJ, for one workload on one hardware.

    Attributes:
        multiply_pj: One multiplication with the workload's multiplier and widths.
        add_pj_per_bit: Accumulating, per bit of the partial sum.
        mac_ratio: Factor on multiplication and accumulation together (alphabet-set neurons).
        weight_bit_pj: One stored weight bit read, averaged over 6T and 8T cells.
        metadata_bit_pj: One bitmask bit read; bitmasks sit in 8T cells.
        activation_bit_pj: One bit of an activation or partial sum, read or written.
        dram_bit_pj: One bit from DRAM; 0 without DRAM.
        leakage_pj_per_cycle: Leakage of both memories in one clock cycle.
    """

    multiply_pj: float
    add_pj_per_bit: float
    mac_ratio: float
    weight_bit_pj: float
    metadata_bit_pj: float
    activation_bit_pj: float
    dram_bit_pj: float
    leakage_pj_per_cycle: float

    @classmethod
    def ones(cls) -> EnergyTable:
        """A table in which every action costs 1, so that counts can be checked by hand."""
        return cls(
            multiply_pj=1.0,
            add_pj_per_bit=1.0,
            mac_ratio=1.0,
            weight_bit_pj=1.0,
            metadata_bit_pj=1.0,
            activation_bit_pj=1.0,
            dram_bit_pj=1.0,
            leakage_pj_per_cycle=1.0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReport:
    """Energy and time of one inference.

    Attributes:
        layers: Layer name -> component -> pJ. Components are `COMPONENTS`.
        cycles: Clock cycles.
        latency_us: Cycles at the hardware's clock, in microseconds.
        weight_memory_kb: Capacity of the weight SRAM.
        activation_memory_kb: Capacity of the activation SRAM.
    """

    layers: Mapping[str, Mapping[str, float]]
    cycles: int
    latency_us: float
    weight_memory_kb: int
    activation_memory_kb: int

    @property
    def components(self) -> dict[str, float]:
        """Component -> pJ, summed over layers."""
        return {name: sum(layer[name] for layer in self.layers.values()) for name in COMPONENTS}

    @property
    def energy_pj(self) -> float:
        """Energy of one inference."""
        return sum(self.components.values())


def estimate(workload: Workload, hardware: Hardware, table: EnergyTable | None = None) -> EnergyReport:
    """Estimate what one inference costs.

    Args:
        workload: The network's layers and knobs.
        hardware: The accelerator.
        table: Energy per action; by default `energy_table(workload, hardware)`.

    Raises:
        WorkloadError: If the multiplier has no entry in `energy/multipliers.yaml`.
    """
    table = table or energy_table(workload, hardware)
    layers: dict[str, dict[str, float]] = {}
    cycles = 0
    for index, layer in enumerate(workload.layers):
        counts = count_actions(layer, hardware)
        cycles += counts.cycles
        layers[layer.name] = _layer_energy(workload, layer, counts, table, first=index == 0)
    return EnergyReport(
        layers=layers,
        cycles=cycles,
        latency_us=cycles / hardware.clock_mhz,
        weight_memory_kb=hardware.sram_capacity_kb(sum(_stored_bits(workload))),
        activation_memory_kb=hardware.sram_capacity_kb(_activation_memory_bits(workload)),
    )


def _layer_energy(
    workload: Workload, layer: LayerWorkload, counts: ActionCounts, table: EnergyTable, first: bool
) -> dict[str, float]:
    sum_bits = partial_sum_bits(layer, workload.weight_bits, workload.activation_bits)
    activation_bits = workload.activation_bits * (counts.activation_reads + counts.output_writes)
    activation_bits += sum_bits * (counts.partial_sum_reads + counts.partial_sum_writes)
    dram_bits = workload.weight_bits * layer.stored_weights + counts.metadata_bits
    if first:
        dram_bits += workload.activation_bits * layer.input_values
    mac_pj = table.mac_ratio * (table.multiply_pj + table.add_pj_per_bit * sum_bits)
    return {
        "mac": counts.macs * mac_pj,
        "weight_sram": counts.weight_reads * workload.weight_bits * table.weight_bit_pj,
        "metadata": counts.metadata_bits * table.metadata_bit_pj,
        "activation_sram": activation_bits * table.activation_bit_pj,
        "dram": dram_bits * table.dram_bit_pj,
        "leakage": counts.cycles * table.leakage_pj_per_cycle,
    }


def energy_table(workload: Workload, hardware: Hardware) -> EnergyTable:
    """Energy per action for this workload's widths, multiplier, voltage and memory sizes.

    - An array multiplier has weight_bits * activation_bits partial-product cells; energy follows their number
      (Horowitz 2014: 0.2 pJ at 8 x 8, 3.1 pJ at 32 x 32, a factor of 15.5 for 16 times the cells).
    - Dynamic energy of the weight memory follows the square of its supply voltage. Its leakage current is held
      constant, so leakage power follows the voltage.
    - The activation memory, which holds no weights, stays at the nominal voltage.

    Raises:
        WorkloadError: If the multiplier has no entry in `energy/multipliers.yaml`.
    """
    technology = hardware.technology
    cells = workload.weight_bits * workload.activation_bits
    kept_cells, mac_ratio = _multiplier_energy(workload.multiplier, workload.weight_bits, workload.activation_bits)

    weight_kb = hardware.sram_capacity_kb(sum(_stored_bits(workload)))
    activation_kb = hardware.sram_capacity_kb(_activation_memory_bits(workload))
    voltage_ratio = workload.weight_memory_v / technology.nominal_v
    robust_share = workload.robust_bits / workload.weight_bits
    area = technology.eight_transistor_area
    six_transistor_pj = technology.sram_pj_per_bit(weight_kb) * voltage_ratio**2
    eight_transistor_pj = six_transistor_pj * sqrt(area)
    weight_bits, bitmask_bits = _stored_bits(workload)
    eight_transistor_share = (robust_share * weight_bits + bitmask_bits) / (weight_bits + bitmask_bits)
    leakage_mw = hardware.sram_leakage_mw_per_kb * (
        activation_kb + weight_kb * voltage_ratio * (1 + eight_transistor_share * (area - 1))
    )
    return EnergyTable(
        multiply_pj=technology.multiply_8x8_pj * cells / 64 * kept_cells,
        add_pj_per_bit=technology.add_32_pj / 32,
        mac_ratio=mac_ratio,
        weight_bit_pj=(1 - robust_share) * six_transistor_pj + robust_share * eight_transistor_pj,
        metadata_bit_pj=eight_transistor_pj,
        activation_bit_pj=technology.sram_pj_per_bit(activation_kb),
        dram_bit_pj=technology.dram_pj_per_bit if hardware.dram else 0.0,
        leakage_pj_per_cycle=leakage_mw * 1e3 / hardware.clock_mhz,
    )


def relative_multiplier_energy(multiplier: str, *, weight_bits: int, activation_bits: int) -> float:
    """Energy of a product over that of an exact one of the same widths; of the whole neuron for alphabet sets.

    Args:
        multiplier: A name in `energy/multipliers.yaml`.
        weight_bits: Width of the signed weight.
        activation_bits: Width of the activation.

    Raises:
        WorkloadError: If the multiplier has no entry there.
    """
    kept_cells, mac_ratio = _multiplier_energy(multiplier, weight_bits, activation_bits)
    return kept_cells * mac_ratio


def _multiplier_energy(multiplier: str, weight_bits: int, activation_bits: int) -> tuple[float, float]:
    """(share of partial-product cells kept, factor on multiplier and accumulator together)."""
    entries = multiplier_energies()
    if multiplier not in entries:
        near = get_close_matches(multiplier, entries, n=1, cutoff=0.0)
        raise WorkloadError(
            f"no energy is known for multiplier {multiplier!r}; did you mean {near[0]!r}? Known: {', '.join(entries)}"
        )
    entry = entries[multiplier]
    if "neuron" in entry:
        return 1.0, _interpolate(entry["neuron"], weight_bits)
    return _cells_kept(weight_bits, activation_bits, entry["columns"]), 1.0


def _cells_kept(weight_bits: int, activation_bits: int, columns: int) -> float:
    """Share of cells (i, j) with i + j >= columns in an array that multiplies the weight's magnitude."""
    cells = [(i, j) for i in range(weight_bits - 1) for j in range(activation_bits)]
    return sum(i + j >= columns for i, j in cells) / len(cells)


def _interpolate(points: Mapping[int, float], at: int) -> float:
    widths = sorted(points)
    if at <= widths[0]:
        return points[widths[0]]
    for low, high in pairwise(widths):
        if at <= high:
            return points[low] + (points[high] - points[low]) * (at - low) / (high - low)
    return points[widths[-1]]


def _stored_bits(workload: Workload) -> tuple[int, int]:
    """Bits of weights and of bitmasks in the weight memory."""
    stored = sum(layer.stored_weights for layer in workload.layers)
    bitmasks = sum(layer.weights for layer in workload.layers if layer.compressed)
    return stored * workload.weight_bits, bitmasks


def _activation_memory_bits(workload: Workload) -> int:
    """Input and output of the layer that needs most, both present at once."""
    return workload.activation_bits * max(
        layer.input_values + layer.positions * layer.outputs for layer in workload.layers
    )
