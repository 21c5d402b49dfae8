"""Movement of each operand of a layer under a dataflow, in closed form.

All numbers are for one batch. A product of `inner` x `outputs` is cut into folds that fit the array; partial folds at
the edges leave processing elements idle, which costs cycles. Groups are independent products, one after another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from energy.arrays import Array
from energy.hardware import Hardware
from energy.hardware_parts import Scratchpads
from energy.workload import Layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """Values that a dataflow moves between the memories and the array, and within it; each of shape (..., layers).

    Attributes:
        weight_passes: Times that each weight is read from its memory.
        weight_uses: Activations that a weight is multiplied with each time.
        weight_stays: Products in a row that a multiplier has with the same weight.
        activation_reads: Activations read.
        activation_uses: Weights that an activation is multiplied with each time.
        partial_sum_passes: Times that each output leaves the array unfinished, to be read back later.
        open_outputs: Outputs of a position that are unfinished at the same time.
        weight_fills: Weights written into registers of the array.
        activation_fills: Activations written into registers of the array.
        folds: Times that the array is refilled.
        fill_cycles: Cycles in which a fold fills and drains.
        stream_cycles: Cycles in which a fold computes, if no operand is skipped.
    """

    weight_passes: Array
    weight_uses: Array
    weight_stays: Array
    activation_reads: Array
    activation_uses: Array
    partial_sum_passes: Array
    open_outputs: Array
    weight_fills: Array
    activation_fills: Array
    folds: Array
    fill_cycles: Array | float
    stream_cycles: Array

    def without_zeros(self, weight_density: Array, activation_density: Array, *, skips: bool) -> Movement:
        """Return the movement if operands that meet only zeros are not read and, with `skips`, take no cycles.

        A weight is read if one of the activations that stream past it is nonzero, an activation if one of its weights
        is nonzero; where products are skipped, zero activations are not read either. Zeros are at random positions.
        """
        weights = any_nonzero(activation_density, self.weight_uses)
        activations = any_nonzero(weight_density, self.activation_uses)
        cycles: Array | float = 1.0
        fills = weights
        if skips:  # zero weights and zero activations never enter the array
            activations, cycles = activations * activation_density, weight_density * activation_density
            fills = weights * weight_density
        return replace(
            self,
            weight_passes=self.weight_passes * weights,
            weight_fills=self.weight_fills * fills,
            activation_reads=self.activation_reads * activations,
            activation_fills=self.activation_fills * activations,
            stream_cycles=self.stream_cycles * cycles,
        )

    def refilled(self, passes: Array) -> Movement:
        """Return the movement if weights are fetched `passes` times from DRAM, each time for another tile of inputs."""
        again = np.maximum(1, passes / np.maximum(self.weight_passes, 1))
        return replace(
            self,
            weight_passes=self.weight_passes * again,
            weight_stays=np.maximum(1, self.weight_stays / again),
            weight_fills=self.weight_fills * again,
            fill_cycles=self.fill_cycles * again,
        )


def movement(layers: Layers, hardware: Hardware, chosen: NDArray[np.intp] | None = None) -> Movement:
    """Compute the movement of a batch under the dataflow of an accelerator.

    Where each layer takes the best of several dataflows, arrays in which these differ have another first axis, the
    dataflows, in the order of `energy.hardware.FLAT_DATAFLOWS`; unless they are chosen, each as an index into these.
    """
    if hardware.scratchpads is not None:
        return _row_stationary(layers, hardware, hardware.scratchpads)
    streams = _streams(layers, hardware)
    if hardware.dataflow == "weight-stationary":
        return _weight_stationary(layers, hardware, streams)
    if hardware.dataflow == "output-stationary":
        return _output_stationary(layers, hardware, streams)
    first, second = _weight_stationary(layers, hardware, streams), _output_stationary(layers, hardware, streams)
    found = {}
    for name in Movement.__slots__:
        left, right = getattr(first, name), getattr(second, name)
        if left is right:
            found[name] = left
        elif chosen is None:
            both = found[name] = np.empty((2, *layers.inner.shape))
            both[0], both[1] = left, right
        else:
            found[name] = np.where(chosen == 0, left, right)
    return Movement(**found)


def any_nonzero(density: Array, count: Array) -> Array:
    """Compute the probability that at least one of `count` values is nonzero, if zeros are at random positions."""
    with np.errstate(divide="ignore"):  # a density of 1
        return np.asarray(-np.expm1(count * np.log1p(-density)))  # 1 - (1 - density) ** count, 20 times as fast


@dataclass(frozen=True, slots=True, kw_only=True)
class _Streams:
    """What streams through a flat array, whatever stays in it.

    Attributes:
        macs: Products.
        column_folds: Folds along the outputs.
        activation_reads: Activations read.
        outputs_at_once: Outputs of a group that are computed at the same time.
    """

    macs: Array
    column_folds: Array
    activation_reads: Array
    outputs_at_once: Array


def _streams(layers: Layers, hardware: Hardware) -> _Streams:
    products, outputs = layers.positions * layers.inner, layers.outputs / layers.groups
    column_folds = layers.groups * _ceil(outputs, hardware.array_columns)
    return _Streams(
        macs=products * layers.outputs,
        column_folds=column_folds,
        activation_reads=products * column_folds,
        outputs_at_once=np.minimum(outputs, hardware.array_columns),
    )


def _weight_stationary(layers: Layers, hardware: Hardware, streams: _Streams) -> Movement:
    """A fold of `array_rows` inner products by `array_columns` outputs stays, and all positions stream through it.

    As SCALE-Sim defines it (Samajdar et al., A systematic methodology for characterizing scalability of DNN
    accelerators using SCALE-Sim, ISPASS 2020).
    """
    row_folds = _ceil(layers.inner, hardware.array_rows)
    return Movement(
        weight_passes=np.ones(layers.inner.shape),
        weight_uses=layers.positions,
        weight_stays=layers.positions,
        activation_reads=streams.activation_reads,
        activation_uses=streams.outputs_at_once,
        partial_sum_passes=row_folds - 1,
        open_outputs=streams.outputs_at_once,
        # Weights are shifted in from the edge: to the first row through one register, to the last through all.
        weight_fills=layers.inner * layers.outputs * ((hardware.array_rows + 1) / 2),
        activation_fills=streams.macs,  # every element passes them on
        folds=row_folds * streams.column_folds,
        fill_cycles=2 * hardware.array_rows + hardware.array_columns - 2,
        stream_cycles=layers.positions,
    )


def _output_stationary(layers: Layers, hardware: Hardware, streams: _Streams) -> Movement:
    """A fold of `array_rows` positions by `array_columns` outputs accumulates in place, so no partial sum leaves.

    As SCALE-Sim defines it; as in its traces, a fold drains while the next one fills.
    """
    position_folds = _ceil(layers.positions, hardware.array_rows)
    macs, nothing = streams.macs, np.zeros_like(streams.macs)
    return Movement(
        weight_passes=position_folds,
        weight_uses=np.minimum(layers.positions, hardware.array_rows),
        weight_stays=np.ones_like(macs),  # weights stream past the sums
        activation_reads=streams.activation_reads,
        activation_uses=streams.outputs_at_once,
        partial_sum_passes=nothing,
        open_outputs=nothing,
        weight_fills=macs,  # weights and activations pass through every element
        activation_fills=macs,
        folds=position_folds * streams.column_folds,
        fill_cycles=hardware.array_rows + hardware.array_columns - 2,
        stream_cycles=layers.inner,
    )


def _row_stationary(layers: Layers, hardware: Hardware, pads: Scratchpads) -> Movement:
    """An element convolves a row of a kernel with a row of the image, for several channels and outputs at a time.

    A set of elements, one column per output row, adds up the rows of a kernel. Sets for further channels are below each
    other, sets for further outputs side by side. After Eyeriss (Chen, Krishna, Emer, Sze, IEEE JSSC
    52(1), 2017).
    """
    channels = layers.inner / (layers.kernel_height * layers.kernel_width)
    outputs = layers.outputs / layers.groups
    output_width = layers.positions / (layers.output_height * layers.batch)
    # An element holds as many channels and outputs as its scratchpads have words for.
    held_channels = np.clip(np.floor(pads.inputs / layers.kernel_width), 1, np.maximum(channels, 1))
    held_outputs = np.floor(pads.weights / (held_channels * layers.kernel_width))
    held_outputs = np.clip(held_outputs, 1, np.clip(outputs, 1, pads.sums))
    sets_down = np.maximum(1, hardware.array_rows // layers.kernel_height)
    sets_across = np.maximum(1, hardware.array_columns // layers.output_height)
    kernel_folds = _ceil(layers.kernel_height, hardware.array_rows)
    channel_passes = _ceil(channels, held_channels * sets_down) * kernel_folds
    output_passes = _ceil(outputs, held_outputs * sets_across)
    strips = _ceil(layers.output_height, hardware.array_columns)
    macs = layers.positions * layers.inner * layers.outputs
    # A value that enters an element is used for each held output at kernel_width / stride positions; the square of the
    # stride is the number of inputs of a channel divided by its positions.
    stride = np.sqrt(layers.input_values / np.maximum(channels * layers.groups * layers.positions, 1))
    uses = held_outputs * np.maximum(1, layers.kernel_width / np.maximum(stride, 1))
    return Movement(
        weight_passes=strips,
        weight_uses=layers.positions / strips,
        weight_stays=np.ones_like(macs),  # each activation meets all held weights before the next one comes
        activation_reads=layers.input_values * output_passes * kernel_folds,
        activation_uses=held_outputs * sets_across,
        partial_sum_passes=channel_passes - 1,
        open_outputs=held_outputs * sets_across,
        weight_fills=layers.inner * layers.outputs * layers.output_height,  # each output row has separate elements
        activation_fills=macs / uses,
        folds=layers.groups * channel_passes * output_passes * strips,
        fill_cycles=0,
        stream_cycles=held_channels * held_outputs * layers.kernel_width * output_width * layers.batch,
    )


def _ceil(a: Array, b: Array | float) -> Array:
    return np.asarray(np.ceil(a / b))
