"""A converted network as ONNX in QDQ form, which ONNX Runtime and hardware compilers execute in integer arithmetic.

Each layer becomes

    Clip to the code range -> QuantizeLinear -> DequantizeLinear -> Conv or MatMul by the dequantised weight codes

with zero points of 0, activations in 8 bits even if their codes are narrower, and weight codes as initialisers in 8
bits, or in 16 or 32 if they need them. The negated bias is subtracted: ONNX Runtime (1.32) rounds a bias that is added
to whole sums of codes, which is a large error if there are few codes.

ONNX has no approximate multipliers: products are exact, of the values that the hardware multiplies for each weight
code. They equal those of the layer if its multiplier is exact in the activations, as that of an alphabet set is, and
its memories are perfect. Nor has it narrow sums: sums are exact. The metadata says whether all of this is the case.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from approx.arithmetic.narrow_sums import may_overflow
from approx.checks import check_model
from approx.chips import use_chip
from approx.copying import copied
from approx.errors import ArgumentError
from approx.inputs import InOneArgument, Inputs, check_inputs, like, of_any_size, run, size_of
from approx.layer import ApproxLayer
from approx.modules import ApproxConv1d, ApproxConv2d, ApproxConvTranspose2d
from approx.multipliers.multiplier import Multiplier
from approx.quantization import code_range
from approx.surgery import approx_layers, replace_everywhere, take_over

if TYPE_CHECKING:
    import onnx

_OPSET = 21  # the first whose DequantizeLinear takes 16 bits
_WEIGHT_TYPES = (torch.int8, torch.int16, torch.int32)


def to_onnx(model: nn.Module, *, example_input: Inputs) -> onnx.ModelProto:
    """The network as ONNX in QDQ form, on a chip whose memories are perfect.

    Its input is named `input`, shape (batch, *example_input.shape[1:]) for any batch. Several inputs have the names of
    a mapping, or `input_0`, `input_1` and so on. Its output is named `output`, if it is a single tensor. The metadata
    `crosslayer.equals_model` is `true` if it computes what the model does except for the rounding of sums.

    Args:
        model: From `approximate`; it is not changed.
        example_input: A batch of network inputs, for tracing: a tensor, or for a network of several inputs a tuple of
            tensors or a mapping from argument names to tensors.

    Raises:
        ArgumentError: If the network cannot be traced for batches of any size, or ONNX cannot express it.
    """
    check_model("model", model)
    check_inputs("example_input", example_input)
    import torch.onnx

    exported = copied(model).cpu().eval()
    use_chip(exported, None)
    inputs, shapes = of_any_size(like(example_input, lambda one: one.detach().cpu().clone()))  # it may be changed
    layers = [layer for _, layer in approx_layers(exported)]
    inexact = sorted({layer.multiplier.name for layer in layers if not _is_exact(layer)})
    narrow = any(_may_overflow(layer) for layer in layers)
    failure = "the network cannot be written as ONNX for batches of any size:"
    with torch.no_grad(), _silent_torch():
        try:
            outputs = tree_leaves(run(exported, inputs))
            program = torch.onnx.export(
                InOneArgument(_in_qdq_form(exported)),
                kwargs={"inputs": inputs},  # by name, as a mapping at the end of its positional ones is taken for these
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=_input_names(inputs),
                output_names=["output"] if len(outputs) == 1 else None,
                dynamic_shapes={"inputs": shapes},
            )
        except Exception as error:  # of any kind: torch's tracer runs the network's code
            raise ArgumentError(f"{failure} {_innermost_words(error)}") from error
    assert program is not None
    proto = program.model_proto
    sizes = [one.type.tensor_type.shape.dim for one in proto.graph.input]
    if not all(size[0].dim_param for size in sizes if size):  # an input may be one number, without a batch
        raise ArgumentError(
            f"{failure} its code fixes the size of a batch to {size_of(inputs)}; take it from the input instead"
        )
    graph = proto.graph
    for initializer in graph.initializer:
        initializer.name = initializer.name.removeprefix(InOneArgument.PREFIX)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = name.removeprefix(InOneArgument.PREFIX)
    _unshare_weights(graph)
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")  # paths of torch and of the network's code on this machine
    proto.metadata_props.add(key="crosslayer.equals_model", value="false" if inexact or narrow else "true")
    if inexact:
        proto.metadata_props.add(key="crosslayer.products", value=f"exact here, by {', '.join(inexact)} in the model")
    if narrow:
        proto.metadata_props.add(key="crosslayer.sums", value="exact here, and of fixed widths in the model")
    return proto


def _input_names(inputs: Inputs) -> list[str]:
    if isinstance(inputs, Tensor):
        return ["input"]
    return list(inputs) if isinstance(inputs, Mapping) else [f"input_{place}" for place in range(len(inputs))]


def equal_in_onnx(model: nn.Module) -> bool:
    """Whether ONNX computes what a model does.

    It does if its multipliers form exact products of a value for each weight code, and no sum can overflow.

    Args:
        model: From `approximate`. Its memories are ignored: in ONNX they are perfect.
    """
    check_model("model", model)
    return all(_is_exact(layer) and not _may_overflow(layer) for _, layer in approx_layers(model))


def _is_exact(layer: ApproxLayer) -> bool:
    return _multiplied_weights(layer.multiplier) is not None


def _may_overflow(layer: ApproxLayer) -> bool:
    """Whether there are inputs for which a sum of the layer overflows, on a chip whose memories are perfect."""
    sums = layer.config.partial_sums
    return sums is not None and may_overflow(layer.stored_codes(), layer.multiplier, sums)


def _multiplied_weights(multiplier: Multiplier) -> Tensor | None:
    """The value multiplied exactly for each weight code: int32, shape (2**weight_bits,); None if there is none.

    Codes that no layer has on a perfect chip are ignored.
    """
    activations = _reached_codes(multiplier.activation_bits, multiplier.activation_signed)
    weights = multiplier.constrain(_reached_codes(multiplier.weight_bits, multiplier.weight_signed))
    weights = weights & (2**multiplier.weight_bits - 1)
    table = multiplier.table()
    by_one = table[1]
    reached = table[activations & (2**multiplier.activation_bits - 1)][:, weights]
    return by_one if torch.equal(reached, activations[:, None] * by_one[weights]) else None


def _unshare_weights(graph: onnx.GraphProto) -> None:
    """Give every product separate initialisers for its weights, in place.

    ONNX Runtime (1.32) fails on shared initialisers, even shared zero points, when it makes them unsigned to be exact:
    `session.x64quantprecision`.
    """
    initializers = {one.name: one for one in graph.initializer}
    weights = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in initializers
    }
    nodes = [node for node in graph.node if node.output[0] not in weights]
    del graph.node[:]
    taken: set[str] = set()
    for node in nodes:
        for place, name in enumerate(node.input):
            if name in weights:
                own = graph.node.add()
                own.CopyFrom(weights[name])
                own.name = own.output[0] = node.input[place] = f"{node.name}_weights"
                for number, held in enumerate(own.input):
                    if held in taken:
                        again = graph.initializer.add()
                        again.CopyFrom(initializers[held])
                        again.name = own.input[number] = f"{held}_{len(graph.initializer)}"
                    taken.add(held)
        graph.node.append(node)


def _reached_codes(bits: int, signed: bool) -> Tensor:
    low, high = code_range(bits, signed)
    return torch.arange(low, high + 1, dtype=torch.int32)


@contextmanager
def _silent_torch() -> Iterator[None]:
    """Silences the exporter's warnings about its own calls, and its output on stderr about what becomes an error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _innermost_words(error: BaseException) -> str:
    """The first line of the root cause: the exporter wraps it in advice about the exporter."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}"


def _in_qdq_form(model: nn.Module) -> nn.Module:
    """The model with its layers in QDQ form: in place, unless the model is itself a layer."""
    for _, layer in list(approx_layers(model)):
        model = replace_everywhere(model, layer, _qdq_layer(layer))
    return model


def _qdq_layer(layer: ApproxLayer) -> nn.Module:
    made: nn.Module
    if isinstance(layer, ApproxConv1d):
        made = _QdqConv1d(layer)
    elif isinstance(layer, ApproxConv2d):
        made = _QdqConv2d(layer)
    elif isinstance(layer, ApproxConvTranspose2d):
        made = _QdqConvTranspose2d(layer)
    else:
        made = _QdqLinear(layer)
    take_over(layer, made)
    return made


class _QdqLayer(nn.Module):
    """A layer in QDQ form, for tracing only: executed by torch, ONNX operators return zeros."""

    weight_codes: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    activation_scale: Tensor
    activation_zero_point: Tensor
    negative_bias: Tensor | None

    def __init__(self, layer: ApproxLayer) -> None:
        super().__init__()
        codes = layer.stored_codes().to(torch.int32)
        multiplied = _multiplied_weights(layer.multiplier)
        if multiplied is not None:
            codes = multiplied[codes & (2**layer.multiplier.weight_bits - 1)]
        kind = next(one for one in _WEIGHT_TYPES if codes.abs().max() <= torch.iinfo(one).max)
        self.register_buffer("weight_codes", codes.to(kind))
        self.register_buffer("weight_scale", layer.learned_weight_scale.clone())
        self.register_buffer("weight_zero_point", torch.zeros(len(codes), dtype=kind))
        self.register_buffer("activation_scale", layer.learned_activation_scale.clone())
        activation_type = torch.int8 if layer.activation_signed else torch.uint8
        self.register_buffer("activation_zero_point", torch.zeros((), dtype=activation_type))
        per_output = (-1, *[1] * (layer.weight.dim() - 2))
        self.register_buffer("negative_bias", None if layer.bias is None else -layer.bias.reshape(per_output))
        codes_in_use = code_range(layer.config.activation_bits, layer.activation_signed)
        held = torch.iinfo(activation_type)
        self._clipping: tuple[float, float] | None = None
        if codes_in_use != (held.min, held.max):
            low, high = (code * float(self.activation_scale) for code in codes_in_use)
            self._clipping = (low, high)

    def _activations(self, inputs: Tensor) -> Tensor:
        if self._clipping is not None:
            inputs = inputs.clamp(*self._clipping)
        scale, zero_point = self.activation_scale, self.activation_zero_point
        codes = torch.onnx.ops.symbolic(
            "QuantizeLinear", (inputs, scale, zero_point), dtype=zero_point.dtype, shape=inputs.shape
        )
        return torch.onnx.ops.symbolic(
            "DequantizeLinear", (codes, scale, zero_point), dtype=scale.dtype, shape=inputs.shape
        )

    def _weights(self, axis: int) -> Tensor:
        """The weights, with outputs along an axis."""
        codes, scale = self.weight_codes, self.weight_scale
        return torch.onnx.ops.symbolic(
            "DequantizeLinear",
            (codes, scale, self.weight_zero_point),
            {"axis": axis},
            dtype=scale.dtype,
            shape=codes.shape,
        )

    def _with_bias(self, sums: Tensor) -> Tensor:
        return sums if self.negative_bias is None else sums - self.negative_bias


class _QdqLinear(_QdqLayer):
    def __init__(self, layer: ApproxLayer) -> None:
        super().__init__(layer)
        self.weight_codes = self.weight_codes.T.contiguous()  # as MatMul takes it

    def forward(self, input: Tensor) -> Tensor:
        return self._with_bias(self._activations(input) @ self._weights(1))


class _QdqConv1d(_QdqLayer):
    def __init__(self, layer: ApproxConv1d) -> None:
        super().__init__(layer)
        self._stride, self._dilation, self._groups = layer.stride, layer.dilation, layer.groups
        self._pad, self._padding_mode = layer.pad, layer.padding_mode

    def forward(self, input: Tensor) -> Tensor:
        before, after = self._pad
        padding = before
        if self._padding_mode != "zeros":
            input, padding = F.pad(input, self._pad, mode=self._padding_mode), 0
        elif before != after:
            input, padding = F.pad(input, self._pad), 0
        values, weights = self._activations(input), self._weights(0)
        return self._with_bias(F.conv1d(values, weights, None, self._stride, padding, self._dilation, self._groups))


class _QdqConv2d(_QdqLayer):
    def __init__(self, layer: ApproxConv2d) -> None:
        super().__init__(layer)
        self._stride, self._dilation, self._groups = layer.stride, layer.dilation, layer.groups
        self._pad, self._padding_mode = layer.pad, layer.padding_mode

    def forward(self, input: Tensor) -> Tensor:
        left, right, above, below = self._pad
        padding = (above, left)
        if self._padding_mode != "zeros":
            input, padding = F.pad(input, self._pad, mode=self._padding_mode), (0, 0)
        elif (above, left) != (below, right):
            input, padding = F.pad(input, self._pad), (0, 0)
        values, weights = self._activations(input), self._weights(0)
        return self._with_bias(F.conv2d(values, weights, None, self._stride, padding, self._dilation, self._groups))


class _QdqConvTranspose2d(_QdqLayer):
    def __init__(self, layer: ApproxConvTranspose2d) -> None:
        super().__init__(layer)
        self._upsampling, self._dilation, self._groups = layer.upsampling, layer.dilation, layer.groups
        self._pad = layer.pad

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        rows, columns = self._upsampling
        left, right, above, below = self._pad
        height, width = input.shape[-2] * rows, input.shape[-1] * columns
        right, below = right - columns + 1, below - rows + 1
        if output_size is not None:
            reach = [step * (size - 1) for step, size in zip(self._dilation, self.weight_codes.shape[2:], strict=True)]
            right = output_size[-1] + reach[1] - left - width
            below = output_size[-2] + reach[0] - above - height
        # Zeros after each row and column, by shapes alone; those after the last are removed by negative padding.
        spread = F.pad(input[..., :, None, :, None], (0, columns - 1, 0, 0, 0, rows - 1)).flatten(-4, -3).flatten(-2)
        values = self._activations(F.pad(spread, (left, right, above, below)))
        return self._with_bias(F.conv2d(values, self._weights(0), dilation=self._dilation, groups=self._groups))
