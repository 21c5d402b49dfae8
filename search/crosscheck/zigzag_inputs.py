"""Layers and accelerators in the form of ZigZag's inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

import energy
from search.errors import UsageError

_DRAM_BITS = 10**13  # no network fills it


@dataclass(frozen=True, slots=True, kw_only=True)
class ZigzagLayer:
    """All inputs of ZigZag for one layer on some hardware; equal layers are scored once.

    Attributes:
        batch: Images.
        groups: Groups of the convolution.
        outputs: Output channels of a group.
        channels: Input channels of a group.
        output_height: Rows of output positions.
        output_width: Columns of output positions.
        kernel_height: Rows of the kernel.
        kernel_width: Columns of the kernel.
        input_height: Rows of the input, without padding.
        input_width: Columns of the input, without padding.
        stride: Inputs between two output positions.
        weight_bits: Width of a stored weight.
        activation_bits: Width of a stored activation.
        sum_bits: Width of a stored partial sum.
        dataflow: The operand that stays in the array.
        rows: Processing elements along inner products, or along positions if outputs are stationary.
        columns: Processing elements along output channels.
        weight_memory_bits: Capacity of the weight memory.
        activation_memory_bits: Capacity of the activation memory.
        from_dram: Operands that come from DRAM or go there: some of I, W and O.
        weight_read_pj: Energy of a bit read from the weight memory.
        weight_write_pj: Energy of a bit written to the weight memory.
        activation_read_pj: Energy of a bit read from the activation memory.
        activation_write_pj: Energy of a bit written to the activation memory.
        dram_pj: Energy of a bit moved from or to DRAM.
    """

    batch: int
    groups: int
    outputs: int
    channels: int
    output_height: int
    output_width: int
    kernel_height: int
    kernel_width: int
    input_height: int
    input_width: int
    stride: int
    weight_bits: int
    activation_bits: int
    sum_bits: int
    dataflow: energy.hardware.Dataflow
    rows: int
    columns: int
    weight_memory_bits: int
    activation_memory_bits: int
    from_dram: tuple[str, ...]
    weight_read_pj: float
    weight_write_pj: float
    activation_read_pj: float
    activation_write_pj: float
    dram_pj: float


def zigzag_layers(
    workload: energy.Workload,
    hardware: energy.Hardware,
    *,
    table: energy.EnergyTable | None = None,
    costs: energy.CostTable | None = None,
) -> tuple[ZigzagLayer, ...]:
    """Return ZigZag's inputs for each layer of the dense version of a network, under the dataflow that it has here.

    Raises:
        UsageError: If the hardware, or the geometry of a layer, cannot be expressed in ZigZag.
    """
    if hardware.dataflow == "row-stationary":
        raise UsageError(
            f"{hardware.name} is row-stationary, whose scratchpads and diagonal sharing of inputs are not expressed in "
            "ZigZag here; cross-check a search on weight- or output-stationary hardware"
        )
    full = dense(workload)
    report = energy.estimate(full, hardware, table, costs=costs)
    memory = hardware.activation_memory
    moved = _operands_from_dram(hardware, report.counts.live_activation_bits[0])
    made = []
    sums = report.counts.sum_bits[0]
    for index, (layer, from_dram, sum_bits) in enumerate(zip(full.layers, moved, sums, strict=True)):
        entries = report.table.values(index)
        height, width, stride = _input_geometry(layer)
        activation_bits = _in_words(workload.activation_bits, memory.word_bits)
        stored_sum = _in_words(math.ceil(sum_bits), memory.word_bits)
        # ZigZag keeps all outputs of a layer at the width of its sums, `energy` only one fold of them. Operands that
        # never leave the chip have to fit, so the memory is made large enough; its energy per bit stays the same.
        stays = ("I" not in from_dram) * layer.input_values * activation_bits
        stays += ("O" not in from_dram) * layer.positions * layer.outputs * stored_sum
        made.append(
            ZigzagLayer(
                batch=workload.batch,
                groups=layer.groups,
                outputs=layer.outputs // layer.groups,
                channels=layer.inner // (layer.kernel_height * layer.kernel_width),
                output_height=layer.output_height,
                output_width=layer.positions // layer.output_height,
                kernel_height=layer.kernel_height,
                kernel_width=layer.kernel_width,
                input_height=height,
                input_width=width,
                stride=stride,
                weight_bits=_in_words(workload.weight_bits, hardware.weight_memory.word_bits),
                activation_bits=activation_bits,
                sum_bits=stored_sum,
                dataflow=report.dataflows[index],
                rows=hardware.array_rows,
                columns=hardware.array_columns,
                weight_memory_bits=report.weight_memory_kb * 8192,
                activation_memory_bits=max(report.activation_memory_kb * 8192, stays * workload.batch),
                from_dram=from_dram,
                weight_read_pj=entries["weight_read_bit_pj"],
                weight_write_pj=entries["weight_write_bit_pj"],
                activation_read_pj=entries["activation_read_bit_pj"],
                activation_write_pj=entries["activation_write_bit_pj"],
                dram_pj=entries["dram_bit_pj"],
            )
        )
    return tuple(made)


def dense(workload: energy.Workload) -> energy.Workload:
    """Return the same network without zeros among its weights and activations."""
    layers = (replace(layer, nonzero_weights=layer.weights, activation_density=1.0) for layer in workload.layers)
    return replace(workload, layers=tuple(layers))


def zigzag_workload(layer: ZigzagLayer) -> list[dict[str, Any]]:
    """Return a layer as ZigZag's workload: a convolution, of which a fully connected layer is the smallest case."""
    return [
        {
            "id": 0,
            "name": "layer",
            "operator_type": "Conv",
            "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
            "dimension_relations": [f"ix={layer.stride}*ox+1*fx", f"iy={layer.stride}*oy+1*fy"],
            "loop_dims": list(_loops(layer)),
            "loop_sizes": list(_loops(layer).values()),
            "pr_loop_dims": ["IY", "IX"],
            "pr_loop_sizes": [layer.input_height, layer.input_width],
            "operand_precision": {
                "W": layer.weight_bits,
                "I": layer.activation_bits,
                "O": layer.sum_bits,
                "O_final": layer.activation_bits,
            },
            "operand_source": {"W": 0, "I": 0},
        }
    ]


def zigzag_mapping(layer: ZigzagLayer) -> list[dict[str, Any]]:
    """Return the dataflow as unrolled loops. The order of all other loops is left to ZigZag."""
    loops = _loops(layer)
    along_rows = ("C", "FY", "FX") if layer.dataflow == "weight-stationary" else ("B", "OY", "OX")
    unrolled = _unrolled({name: loops[name] for name in along_rows}, layer.rows)
    return [
        {
            "name": "default",
            "spatial_mapping": {
                "D1": [f"{name}, {factor}" for name, factor in unrolled.items()],
                "D2": [f"K, {min(layer.outputs, layer.columns)}"],
            },
            "memory_operand_links": {"O": "O", "W": "I2", "I": "I1"},
        }
    ]


def zigzag_accelerator(layer: ZigzagLayer) -> dict[str, Any]:
    """Return the hardware as ZigZag's accelerator, with memories in order from the array to DRAM, as ZigZag needs.

    One register without cost in each element makes the dataflow: for a weight or for a partial sum. A
    multiply-accumulate costs 1, so that ZigZag's MAC energy is their number.
    """
    stationary = layer.dataflow == "weight-stationary"
    # A port of an innermost memory must feed the whole edge of the array at once, or ZigZag unrolls less.
    edge = max(layer.rows, layer.columns)
    weight_port = layer.weight_bits if stationary else edge * layer.weight_bits
    activation_port = edge * max(layer.activation_bits, layer.sum_bits)
    everywhere = ["D1", "D2"]
    register = ("I2", layer.weight_bits) if stationary else ("O", layer.sum_bits)
    memories = {
        "register": _memory(register[1], 0.0, 0.0, [register[0]], port_bits=register[1], serves=[]),
        "weight_memory": _memory(
            layer.weight_memory_bits, layer.weight_read_pj, layer.weight_write_pj, ["I2"], weight_port, everywhere
        ),
        "activation_memory": _memory(
            layer.activation_memory_bits,
            layer.activation_read_pj,
            layer.activation_write_pj,
            ["I1", "O"],
            activation_port,
            everywhere,
        ),
    }
    if layer.from_dram:
        operands = [{"I": "I1", "W": "I2", "O": "O"}[name] for name in layer.from_dram]
        memories["dram"] = _memory(_DRAM_BITS, layer.dram_pj, layer.dram_pj, operands, 8, everywhere)
    return {
        "name": "crosslayer",
        "memories": memories,
        "operational_array": {
            "unit_energy": 1.0,
            "unit_area": 0.0,
            "dimensions": everywhere,
            "sizes": [layer.rows, layer.columns],
        },
    }


def _operands_from_dram(hardware: energy.Hardware, live_bits: NDArray[np.float64]) -> list[tuple[str, ...]]:
    """Return the operands of each layer that pass through DRAM, by the rule of `energy.traffic` for feature maps."""
    if hardware.dram is None:
        return [()] * len(live_bits)
    room = hardware.activation_memory.capacity_kb
    fits = live_bits <= (math.inf if room is None else room * 8192)
    kept = fits[:-1] & fits[1:] & hardware.dram.keeps_feature_maps  # between each layer and the next
    comes, goes = [True, *~kept], [*~kept, True]
    return [
        tuple(name for name, moved in (("I", into), ("W", True), ("O", out)) if moved)
        for into, out in zip(comes, goes, strict=True)
    ]


def _input_geometry(layer: energy.LayerWorkload) -> tuple[int, int, int]:
    """Return input height, input width and stride: those that fit, nearest to the proportions of the output."""
    channels = layer.groups * (layer.inner // (layer.kernel_height * layer.kernel_width))
    size = layer.input_values // channels
    output_width = layer.positions // layer.output_height
    likely = math.sqrt(size * layer.output_height / output_width)
    heights = sorted(
        (height for height in range(1, size + 1) if size % height == 0), key=lambda h: (abs(math.log(h / likely)), h)
    )
    axes = ((layer.output_height, layer.kernel_height), (output_width, layer.kernel_width))
    for height in heights:
        inputs = (height, size // height)
        strides = [_strides(whole, out, kernel) for whole, (out, kernel) in zip(inputs, axes, strict=True)]
        if common := strides[0] & strides[1]:
            return height, size // height, min(common)
    raise UsageError(
        f"layer {layer.name!r} cannot be expressed in ZigZag: {layer.output_height} x {output_width} positions of a "
        f"{layer.kernel_height} x {layer.kernel_width} kernel follow from {size} inputs per channel by no stride"
    )


def _strides(inputs: int, outputs: int, kernel: int) -> set[int]:
    """Return the strides that give `outputs` positions on `inputs` inputs, with as little padding as possible."""
    for padding in range(kernel):
        reach = inputs + padding - kernel
        found = {stride for stride in range(1, inputs + 1) if reach >= 0 and reach // stride + 1 == outputs}
        if found:
            return found
    return set()


def _unrolled(loops: dict[str, int], elements: int) -> dict[str, int]:
    """Return the factors of loops along `elements` elements of the array that need the fewest folds.

    Ties go to factors that divide their loops, because ZigZag rounds the rest of others, and then to those that use the
    fewest elements.
    """

    def rank(factors: tuple[int, ...]) -> tuple[int, int, int]:
        pairs = list(zip(loops.values(), factors, strict=True))
        folds = math.prod(-(-size // factor) for size, factor in pairs)
        return folds, sum(size % factor > 0 for size, factor in pairs), math.prod(factors)

    choices = product(*(range(1, min(size, elements) + 1) for size in loops.values()))
    best = min((factors for factors in choices if math.prod(factors) <= elements), key=rank)
    return dict(zip(loops, best, strict=True))


def _loops(layer: ZigzagLayer) -> dict[str, int]:
    return {
        "B": layer.batch,
        "G": layer.groups,
        "K": layer.outputs,
        "C": layer.channels,
        "OY": layer.output_height,
        "OX": layer.output_width,
        "FY": layer.kernel_height,
        "FX": layer.kernel_width,
    }


def _memory(
    size_bits: int, read_pj: float, write_pj: float, operands: list[str], port_bits: int, serves: list[str]
) -> dict[str, Any]:
    """Return a memory with a port for reads and one for writes; an access costs `port_bits` times a bit."""
    # ZigZag names directions from the memory's side: to or from the level below (l) or above (h) it.
    reads = [f"{name}, {way}" for name in operands for way in (("tl", "th") if name == "O" else ("tl",))]
    writes = [f"{name}, {way}" for name in operands for way in (("fl", "fh") if name == "O" else ("fh",))]
    ports = [
        {
            "name": f"{kind[0]}_port_1",
            "type": kind,
            "bandwidth_min": 1,  # so that part of a word costs part of an access
            "bandwidth_max": port_bits,
            "allocation": allocation,
        }
        for kind, allocation in (("read", reads), ("write", writes))
    ]
    return {
        "size": size_bits,
        "r_cost": float(read_pj * port_bits),
        "w_cost": float(write_pj * port_bits),
        "area": 0.0,
        "latency": 1,
        "operands": operands,
        "ports": ports,
        "served_dimensions": serves,
    }


def _in_words(bits: int, word_bits: int) -> int:
    return -(-bits // word_bits) * word_bits
