"""Traffic between DRAM and the chip: everything once, and again what does not fit.

A layer whose operands do not fit the memories is tiled in one of three ways. A tile of weights stays while all inputs
pass: inputs are fetched once per tile of weights. A tile of inputs stays while all weights pass: weights are fetched
once per tile of inputs. A block of sums stays, of some outputs at some positions, while inputs and weights pass: inputs
are fetched once per block along the outputs, weights once per block along the positions; the block has the proportions
that move least. The way that moves least is chosen. Groups come one after another, each with its own tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from energy.arrays import Array
from energy.hardware import Hardware
from energy.hardware_parts import Memory
from energy.workload import Layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bits moved for each layer and batch.

    Attributes:
        weight_bits: Weights, metadata and biases read from DRAM.
        weight_passes: Times that each weight is fetched.
        input_bits: Feature maps read from DRAM.
        output_bits: Feature maps written to DRAM.
    """

    weight_bits: Array
    weight_passes: Array
    input_bits: Array
    output_bits: Array


def dram_traffic(
    hardware: Hardware,
    *,
    weight_bits: Array,
    bias_bits: Array,
    input_bits: Array,
    output_bits: Array,
    sum_bits: Array,
    layers: Layers,
    live_bits: Array,
    density: Array,
    value_bits: Array,
) -> Traffic:
    """Compute the traffic for operands of these sizes; every array has shape (..., layers).

    Args:
        hardware: The accelerator.
        weight_bits: Bits of stored weights with their metadata.
        bias_bits: Bits of stored biases, which are moved once.
        input_bits: Bits of the input of each layer, uncompressed.
        output_bits: Bits of the output, uncompressed.
        sum_bits: Width of a stored sum.
        layers: The layers, of which outputs, positions and groups are used.
        live_bits: Bits in the activation memory while the layer runs.
        density: Share of nonzero inputs.
        value_bits: Width of a stored activation.
    """
    if hardware.dram is None:
        nothing = np.zeros(weight_bits.shape)
        return Traffic(weight_bits=nothing, weight_passes=nothing, input_bits=nothing, output_bits=nothing)
    weight_room, activation_room = _bits(hardware.weight_memory), _bits(hardware.activation_memory)
    exists = output_bits > 0  # shorter networks of a batch are padded with layers of size 0
    after = np.zeros_like(exists)
    after[..., :-1] = exists[..., 1:]
    moved_in, moved_out = input_bits, output_bits
    if hardware.dram.compressed:
        moved_in = np.minimum(input_bits, input_bits * (density + 1 / value_bits))
        # The output of a layer is as dense as the input of the next one.
        next_density = np.ones_like(density)
        next_density[..., :-1] = density[..., 1:]
        moved_out = np.minimum(output_bits, output_bits * (np.where(after, next_density, 1) + 1 / value_bits))
    if hardware.dram.keeps_feature_maps:
        # A feature map stays if it fits while the layer that writes it runs and while the layer that reads it does.
        fits = live_bits <= activation_room
        stays = np.zeros_like(fits)
        stays[..., :-1] = fits[..., :-1] & fits[..., 1:] & after[..., :-1]
        moved_out = np.where(stays, 0, moved_out)
        stayed = np.zeros_like(stays)
        stayed[..., 1:] = stays[..., :-1]
        moved_in = np.where(stayed, 0, moved_in)
    if np.isinf(weight_room) and np.isinf(activation_room):
        once = np.ones_like(weight_bits)
        return Traffic(
            weight_bits=weight_bits + bias_bits, weight_passes=once, input_bits=moved_in, output_bits=moved_out
        )
    weight_passes, input_passes = _passes(
        layers,
        weight_bits=weight_bits,
        input_bits=moved_in,
        weight_tiles=_tiles(weight_bits / layers.groups, weight_room),
        input_tiles=_tiles(input_bits / layers.groups, activation_room),
        block=activation_room / sum_bits,
    )
    return Traffic(
        weight_bits=weight_bits * weight_passes + bias_bits,
        weight_passes=weight_passes,
        input_bits=moved_in * input_passes,
        output_bits=moved_out,
    )


def _passes(
    layers: Layers, *, weight_bits: Array, input_bits: Array, weight_tiles: Array, input_tiles: Array, block: Array
) -> tuple[Array, Array]:
    """Compute how often weights and inputs are fetched by the tiling that moves least.

    Args:
        layers: The layers, of which outputs, positions and groups are used.
        weight_bits: Bits fetched in each pass over the weights.
        input_bits: Bits fetched in each pass over the inputs.
        weight_tiles: Tiles into which the weights of a group must be cut.
        input_tiles: Tiles into which the inputs of a group must be cut.
        block: Number of sums that fit.
    """
    outputs = np.maximum(layers.outputs / layers.groups, 1)
    positions = np.maximum(layers.positions, 1)
    # A block of a x b sums fetches inputs outputs / a times and weights positions / b times: least for this a.
    tall = np.sqrt(block * input_bits * outputs / np.maximum(weight_bits * positions, 1))
    tall = np.clip(np.floor(tall), 1, outputs)
    wide = np.clip(np.floor(block / tall), 1, positions)
    ways = (
        (np.ones_like(weight_tiles), weight_tiles),
        (input_tiles, np.ones_like(input_tiles)),
        (np.ceil(positions / wide), np.ceil(outputs / tall)),
    )
    best_weights, best_inputs = ways[0]
    for weights, inputs in ways[1:]:
        moves_less = weight_bits * weights + input_bits * inputs < weight_bits * best_weights + input_bits * best_inputs
        best_weights, best_inputs = (
            np.where(moves_less, weights, best_weights),
            np.where(moves_less, inputs, best_inputs),
        )
    return best_weights, best_inputs


def _tiles(bits: Array, room: float) -> Array:
    return np.maximum(1, np.ceil(bits / room))


def _bits(memory: Memory) -> float:
    return np.inf if memory.capacity_kb is None else memory.capacity_kb * 8.0 * 1024
