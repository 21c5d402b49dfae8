"""What the energy of an inference is divided into: components, each a sum of counts times energies per action."""

from __future__ import annotations

from energy.actions import ActionCounts
from energy.arrays import Array
from energy.table import EnergyTable

COMPONENTS = (
    "mac",
    "registers",
    "clock",
    "weight_sram",
    "metadata",
    "biases",
    "activation_sram",
    "partial_sums",
    "requantisation",
    "dram",
    "leakage",
    "overhead",
)


def parts_pj(counts: ActionCounts, table: EnergyTable) -> tuple[Array, ...]:
    """Compute the energy of a batch of inferences in pJ by component, in the order of `COMPONENTS`.

    Args:
        counts: Actions of a batch.
        table: Energy per action; its entries are broadcast against the counts.
    """
    return (
        counts.macs * table.multiply_pj
        + counts.weight_changes * table.weight_change_pj
        + counts.added_bits * table.add_pj_per_bit,
        counts.register_read_bits * table.register_read_bit_pj
        + counts.register_write_bits * table.register_write_bit_pj,
        counts.clocked_bits * table.clock_bit_pj,
        counts.weight_read_bits * table.weight_read_bit_pj + counts.weight_write_bits * table.weight_write_bit_pj,
        counts.metadata_read_bits * table.metadata_read_bit_pj,
        counts.bias_read_bits * table.bias_read_bit_pj,
        counts.activation_read_bits * table.activation_read_bit_pj
        + counts.activation_write_bits * table.activation_write_bit_pj,
        counts.partial_sum_bits * (table.activation_read_bit_pj + table.activation_write_bit_pj) / 2,
        counts.output_writes * table.requantise_pj,
        (counts.dram_weight_bits + counts.dram_activation_bits) * table.dram_bit_pj,
        counts.cycles * table.leakage_pj_per_cycle,
        counts.cycles * table.overhead_pj_per_cycle + counts.inferences * table.overhead_pj_per_inference,
    )
