"""Counts of actions, in closed form from layer shapes, the dataflow, zeros and memory sizes.

Counts are for one batch and have shape (..., layers). `docs/energy-model.md` has the formulas. What the array itself
does is counted at the widths that it is built for, but bits that narrower codes leave at rest are not written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energy.arrays import Array
from energy.compression import smallest_format_bits
from energy.dataflows import any_nonzero, movement
from energy.errors import WorkloadError
from energy.hardware import Hardware
from energy.traffic import dram_traffic
from energy.workload import WorkloadBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionCounts:
    """Actions of each layer in one batch of inferences; in values unless the name says bits.

    Attributes:
        macs: Multiply-accumulate operations whose operands are not gated.
        weight_changes: Those of them whose multiplier had another weight before.
        sum_bits: Width of the partial sums.
        added_bits: Bits of the sums to which their products are added.
        register_read_bits: Bits read from registers or scratchpads in the array.
        register_write_bits: Bits written to registers or scratchpads.
        clocked_bits: Register bits of each array element, times the cycles in which it has a product.
        weight_read_bits: Bits of weights read from the weight memory.
        weight_write_bits: Bits written to the weight memory from DRAM, including metadata.
        metadata_read_bits: Bits read that encode the positions of nonzero weights.
        bias_read_bits: Bits of biases and of the scales of outputs read from the weight memory.
        activation_reads: Activations read by the array.
        activation_read_bits: Bits of activations read from the activation memory, by the array and for DRAM, including
            the masks where zeros are skipped.
        activation_write_bits: Bits of activations written to the activation memory, by the array and from DRAM.
        output_writes: Finished outputs written, each after its sum was turned into a code.
        partial_sum_reads: Partial sums read back to continue accumulation.
        partial_sum_writes: Unfinished partial sums written.
        partial_sum_bits: Bits of partial sums read and written.
        dram_weight_bits: Bits of weights and their metadata read from DRAM.
        dram_activation_bits: Bits of feature maps moved to and from DRAM.
        cycles: Clock cycles.
        inferences: Inferences of the batch, counted with the first layer.
        stored_value_bits: Bits of weights in the weight memory.
        stored_metadata_bits: Bits of metadata in the weight memory.
        stored_bias_bits: Bits of biases and of the scales of outputs in the weight memory.
        live_activation_bits: Bits in the activation memory while the layer runs.
    """

    macs: Array
    weight_changes: Array
    sum_bits: Array
    added_bits: Array
    register_read_bits: Array
    register_write_bits: Array
    clocked_bits: Array
    weight_read_bits: Array
    weight_write_bits: Array
    metadata_read_bits: Array
    bias_read_bits: Array
    activation_reads: Array
    activation_read_bits: Array
    activation_write_bits: Array
    output_writes: Array
    partial_sum_reads: Array
    partial_sum_writes: Array
    partial_sum_bits: Array
    dram_weight_bits: Array
    dram_activation_bits: Array
    cycles: Array
    inferences: Array
    stored_value_bits: Array
    stored_metadata_bits: Array
    stored_bias_bits: Array
    live_activation_bits: Array


def count_batch(work: WorkloadBatch, hardware: Hardware, chosen: NDArray[np.intp] | None = None) -> ActionCounts:
    """Count the actions of every layer of many workloads: arrays of shape (workloads, layers).

    Where each layer takes the best of several dataflows, those counts that depend on it have another first axis, as in
    `energy.dataflows.movement`, unless they are chosen; `energy.mapping` chooses.
    """
    layers, knobs = work.layers, work.knobs
    weight_bits, activation_bits = knobs.weight_bits, knobs.activation_bits
    built_weight_bits, built_activation_bits = built_bits(work, hardware)
    moved = movement(layers, hardware, chosen)

    weights = layers.inner * layers.outputs
    dense_macs = layers.positions * weights
    results = layers.positions * layers.outputs
    weight_density, activation_density = layers.nonzero_weights / np.maximum(weights, 1), layers.activation_density
    gates = hardware.zeros != "none"
    switching = activation_density * weight_density if gates else np.ones_like(weights)
    skips = hardware.zeros == "skipped"
    masks = moved.activation_reads if skips else None  # one bit per activation says whether it is zero
    sum_bits = built_weight_bits + built_activation_bits + np.ceil(np.log2(np.maximum(layers.inner, 1)))
    if hardware.partial_sum_bits is not None:
        sum_bits = np.minimum(sum_bits, hardware.partial_sum_bits)

    memory, activation_memory = hardware.weight_memory, hardware.activation_memory
    stored_weight = memory.stored_bits(weight_bits)
    stored_activation = activation_memory.stored_bits(activation_bits)
    stored_sum = activation_memory.stored_bits(sum_bits)
    if hardware.compressed_weights:
        more_area = hardware.technology.eight_transistor_cell.area.value - 1
        value_size = 1 + memory.robust_share(knobs.robust_bits, weight_bits) * more_area
        value_bits, metadata_bits = smallest_format_bits(
            weights, layers.nonzero_weights, stored_weight, (1 + memory.metadata_is_8t * more_area) / value_size
        )
    else:
        value_bits, metadata_bits = weights * stored_weight, np.zeros_like(weights)
    bias_bits = layers.outputs * hardware.output_bits

    activation_width = stored_activation + 1 if skips else stored_activation
    partial_sums = results * np.maximum(moved.partial_sum_passes, 0)
    partial_sum_bits = 2 * partial_sums * stored_sum
    # Unfinished sums take more space than the outputs that they become.
    unfinished = moved.open_outputs * layers.positions * (partial_sums > 0)
    input_bits, output_bits = layers.input_values * activation_width, results * activation_width
    live_bits = input_bits + output_bits + unfinished * (stored_sum - stored_activation)
    traffic = dram_traffic(
        hardware,
        weight_bits=value_bits + metadata_bits,
        bias_bits=bias_bits,
        input_bits=input_bits,
        output_bits=output_bits,
        sum_bits=stored_sum,
        layers=layers,
        live_bits=live_bits,
        density=layers.activation_density,
        value_bits=stored_activation,
    )
    if hardware.dram is not None:
        moved = moved.refilled(traffic.weight_passes)
    bias_reads = bias_bits * moved.weight_passes  # as often as the weights of the same outputs, were they dense
    macs = dense_macs * switching
    stays = np.maximum(moved.weight_stays, 1)
    changes = dense_macs / stays
    if gates:  # a weight reaches the multiplier if it and one of its activations are not zero
        changes = changes * weight_density * any_nonzero(activation_density, stays)
    if hardware.zeros in ("fetch-gated", "skipped"):
        moved = moved.without_zeros(weight_density, activation_density, skips=skips)
    weight_fill, activation_fill = weight_bits, activation_bits
    if gates and not skips:  # a zero is handed on as a flag, if that is less than to write all bits
        weight_fill = np.minimum(weight_bits, weight_bits * weight_density + 1)
        activation_fill = np.minimum(activation_bits, activation_bits * activation_density + 1)
    added_bits = macs * sum_bits  # also the bits of sums read and written in registers, once per product
    activation_read_bits = moved.activation_reads * stored_activation + traffic.output_bits
    if masks is not None:
        activation_read_bits = activation_read_bits + masks
    clocked = dense_macs * switching if skips else dense_macs
    inferences = np.zeros_like(weights)
    inferences[..., 0] = layers.batch[..., 0]
    return ActionCounts(
        macs=macs,
        weight_changes=changes,
        sum_bits=sum_bits,
        added_bits=added_bits,
        register_read_bits=macs * (weight_bits + activation_bits) + added_bits,
        register_write_bits=moved.weight_fills * weight_fill + moved.activation_fills * activation_fill + added_bits,
        clocked_bits=clocked * element_bits(hardware, built_weight_bits, built_activation_bits, sum_bits),
        weight_read_bits=value_bits * moved.weight_passes,
        weight_write_bits=traffic.weight_bits,
        metadata_read_bits=metadata_bits * moved.weight_passes,
        bias_read_bits=bias_reads,
        activation_reads=moved.activation_reads,
        activation_read_bits=activation_read_bits,
        activation_write_bits=output_bits + traffic.input_bits,
        output_writes=results,
        partial_sum_reads=partial_sums,
        partial_sum_writes=partial_sums,
        partial_sum_bits=partial_sum_bits,
        dram_weight_bits=traffic.weight_bits,
        dram_activation_bits=traffic.input_bits + traffic.output_bits,
        cycles=moved.folds * (moved.fill_cycles + moved.stream_cycles),
        inferences=inferences,
        stored_value_bits=value_bits,
        stored_metadata_bits=metadata_bits,
        stored_bias_bits=bias_bits,
        live_activation_bits=live_bits,
    )


def built_bits(work: WorkloadBatch, hardware: Hardware) -> tuple[Array, Array]:
    """Return the widths of weights and activations that the array is built for, each of shape (workloads, 1).

    Raises:
        WorkloadError: If a workload's codes are wider than the array.
    """
    knobs, widths = work.knobs, hardware.widths
    if widths is None:
        return knobs.weight_bits, knobs.activation_bits
    for what, built, bits in (
        ("weight_bits", widths.weights, knobs.weight_bits),
        ("activation_bits", widths.activations, knobs.activation_bits),
    ):
        if (bits > built).any():
            raise WorkloadError(f"{what} can be at most {built} on {hardware.name}, got {bits.max():g}")
    return np.full(knobs.weight_bits.shape, float(widths.weights)), np.full(
        knobs.activation_bits.shape, float(widths.activations)
    )


def element_bits(hardware: Hardware, weight_bits: Array, activation_bits: Array, sum_bits: Array) -> Array:
    """Clocked register bits of an array element; scratchpads of weights are memories, whose cells have no clock."""
    pads = hardware.scratchpads
    if pads is None:
        return weight_bits + activation_bits + sum_bits
    return pads.inputs * activation_bits + pads.sums * sum_bits
