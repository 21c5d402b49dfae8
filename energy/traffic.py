"""What moves between DRAM and the chip: everything once, and again what does not fit.

A layer whose operands do not fit the memories is cut into tiles, in one of three ways. Some weights stay while all
inputs pass: inputs are fetched once for each tile of weights. Some inputs stay while all weights pass: weights are
fetched once for each tile of inputs. Some sums stay while inputs and weights pass: inputs are fetched once for each
tile of sums. The one that moves least is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energy.hardware import Hardware, Memory

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bits moved for each layer and batch.

    Attributes:
        weight_bits: Weights and metadata from DRAM.
        input_bits: Feature maps from DRAM.
        output_bits: Feature maps to DRAM.
    """

    weight_bits: Array
    input_bits: Array
    output_bits: Array


def dram_traffic(
    hardware: Hardware,
    *,
    weight_bits: Array,
    input_bits: Array,
    output_bits: Array,
    sum_bits: Array,
    live_bits: Array,
    density: Array,
    value_bits: Array,
) -> Traffic:
    """What moves, for operands of these sizes; every array has shape (..., layers).

    Args:
        hardware: The accelerator.
        weight_bits: Stored weights with their metadata.
        input_bits: The input of each layer, uncompressed.
        output_bits: The output.
        sum_bits: All sums of a layer at their full width.
        live_bits: What the activation memory holds while the layer runs.
        density: Share of nonzero inputs.
        value_bits: Width of a stored activation.
    """
    nothing = np.zeros_like(weight_bits)
    if hardware.dram is None:
        return Traffic(weight_bits=nothing, input_bits=nothing, output_bits=nothing)
    weight_room, activation_room = _bits(hardware.weight_memory), _bits(hardware.activation_memory)
    exists = output_bits > 0  # shorter networks of a batch are filled up with layers of size 0
    after = np.zeros_like(exists)
    after[..., :-1] = exists[..., 1:]
    moved_in, moved_out = input_bits, output_bits
    if hardware.dram.compressed:
        moved_in = np.minimum(input_bits, input_bits * (density + 1 / value_bits))
        # What a layer hands on is as dense as what the next one reads.
        next_density = np.ones_like(density)
        next_density[..., :-1] = density[..., 1:]
        moved_out = np.minimum(output_bits, output_bits * (np.where(after, next_density, 1) + 1 / value_bits))
    if hardware.dram.keeps_feature_maps:
        # A feature map stays if both the layer that makes it and the layer that reads it find room.
        fits = live_bits <= activation_room
        stays = np.zeros_like(fits)
        stays[..., :-1] = fits[..., :-1] & fits[..., 1:] & after[..., :-1]
        moved_out = np.where(stays, 0, moved_out)
        stayed = np.zeros_like(stays)
        stayed[..., 1:] = stays[..., :-1]
        moved_in = np.where(stayed, 0, moved_in)
    weight_tiles, input_tiles, sum_tiles = (
        np.maximum(1, np.ceil(bits / room))
        for bits, room in ((weight_bits, weight_room), (input_bits, activation_room), (sum_bits, activation_room))
    )
    repeated_inputs = moved_in * np.minimum(weight_tiles, sum_tiles)
    repeated_weights = weight_bits * input_tiles
    repeats_inputs = repeated_inputs + weight_bits <= moved_in + repeated_weights
    return Traffic(
        weight_bits=np.where(repeats_inputs, weight_bits, repeated_weights),
        input_bits=np.where(repeats_inputs, repeated_inputs, moved_in),
        output_bits=moved_out,
    )


def _bits(memory: Memory) -> float:
    return np.inf if memory.capacity_kb is None else memory.capacity_kb * 8.0 * 1024
