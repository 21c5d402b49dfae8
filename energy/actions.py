"""How often each action happens: closed-form counts from layer shapes and the dataflow.

Weight stationary, as SCALE-Sim defines it (Samajdar et al., ISPASS 2020): the product of `inner` x `outputs` is cut
into folds of `array_rows` x `array_columns`; a fold's weights are loaded once and stay while all positions stream
through.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from energy.hardware import Hardware
from energy.workload import LayerWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionCounts:
    """Actions of one layer in one inference; values, not bits.

    Attributes:
        macs: Multiply-accumulates that switch; those with a pruned weight are gated off.
        weight_reads: Weights read from the weight SRAM.
        metadata_bits: Bitmask bits read to place compressed weights.
        activation_reads: Activations read from the activation SRAM.
        partial_sum_reads: Partial sums read back to be continued by the next fold.
        partial_sum_writes: Partial sums written that a later fold continues.
        output_writes: Finished outputs written, at the width of an activation.
        cycles: Clock cycles.
    """

    macs: int
    weight_reads: int
    metadata_bits: int
    activation_reads: int
    partial_sum_reads: int
    partial_sum_writes: int
    output_writes: int
    cycles: int


def count_actions(layer: LayerWorkload, hardware: Hardware) -> ActionCounts:
    """Count the actions of one layer."""
    row_folds = ceil(layer.inner / hardware.array_rows)
    column_folds = ceil(layer.outputs / hardware.array_columns)
    results = layer.positions * layer.outputs
    fold_cycles = 2 * hardware.array_rows + hardware.array_columns + layer.positions - 2
    return ActionCounts(
        macs=layer.positions * layer.stored_weights,
        weight_reads=layer.stored_weights,
        metadata_bits=layer.weights if layer.compressed else 0,
        activation_reads=layer.positions * layer.inner * column_folds,
        partial_sum_reads=results * (row_folds - 1),
        partial_sum_writes=results * (row_folds - 1),
        output_writes=results,
        cycles=row_folds * column_folds * fold_cycles,
    )


def partial_sum_bits(layer: LayerWorkload, weight_bits: int, activation_bits: int) -> int:
    """Width that holds every possible sum of a layer: product bits plus log2 of the number of products, rounded up."""
    return weight_bits + activation_bits + (layer.inner - 1).bit_length()
