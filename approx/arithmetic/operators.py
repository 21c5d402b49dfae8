"""The differentiable convolution: an autograd function for eager use, and operators that tracers see as one node.

Both compute the same. Eager calls skip the dispatcher, which would take most of a small layer's time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from approx.arithmetic import gradients
from approx.arithmetic.convolution import convolve
from approx.arithmetic.geometry import Geometry
from approx.arithmetic.narrow_sums import narrow_convolve
from approx.arithmetic.portable import Rescale, as_kernel
from approx.errors import ArgumentError, UnknownNameError
from approx.multipliers.multiplier import Multiplier
from approx.partial_sums import OverflowCount, PartialSums
from approx.quantization import CodeFormat

# Multipliers by digest, for the registered operators, whose arguments can only be tensors, numbers and text.
_multipliers: dict[str, Multiplier] = {}


def quantized_convolution(
    values: Tensor,
    weight_codes: Tensor,
    bias: Tensor | None,
    input_scale: Tensor,
    output_scale: Tensor,
    multiplier: Multiplier,
    geometry: Geometry,
    gradient: str,
    gradient_window: int,
    full_range: bool,
    partial_sums: PartialSums | None,
    count: OverflowCount | None,
) -> Tensor:
    """`approx.quantized_conv2d` without its checks; the weights of a matrix product may have two dimensions.

    A traced program does not count overflows.
    """
    if torch.compiler.is_compiling() or type(values) is not Tensor:  # traced, so it has to be one operator
        traced: Tensor = torch.ops.crosslayer.quantized_conv2d(
            values,
            as_kernel(weight_codes),
            bias,
            input_scale,
            output_scale,
            known_digest(multiplier),
            gradient,
            gradient_window,
            full_range,
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            geometry.groups,
            None if partial_sums is None else partial_sums.bits,
            "" if partial_sums is None else partial_sums.overflow,
        )
        return traced
    sums = (partial_sums, count)
    arguments = (values, weight_codes, bias, input_scale, output_scale, multiplier, geometry, full_range, *sums)
    if not torch.is_autocast_enabled("cpu"):
        return _called(*arguments, gradient, gradient_window, False)
    with torch.autocast("cpu", enabled=False):  # in which sums of torch's own products would be rounded
        return _called(*arguments, gradient, gradient_window, True)


def _called(*arguments: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return _quantized(*arguments[:-3])
    out: Tensor = _QuantizedConvolution.apply(*arguments)  # type: ignore[no-untyped-call]
    return out


def known_digest(multiplier: Multiplier) -> str:
    """The digest by which the registered operators find a multiplier, which this call makes known."""
    _multipliers.setdefault(multiplier.digest, multiplier)
    return multiplier.digest


# What torch.compiler.assume_constant_result does, without its import of the compiler: half of the time of every start.
known_digest._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _code_format(multiplier: Multiplier, input_scale: Tensor, full_range: bool) -> CodeFormat:
    scale = float(input_scale)
    if not 0 < scale < math.inf:
        raise ArgumentError(f"`input_scale` must be positive and finite, got {scale}")
    return CodeFormat(multiplier.activation_bits, multiplier.activation_signed, scale, full_range)


def _known(digest: str) -> Multiplier:
    multiplier = _multipliers.get(digest)
    if multiplier is None:
        raise UnknownNameError(
            f"this program uses a multiplier (SHA-256 {digest}) that is unknown in this process; make it known with "
            "approx.arithmetic.operators.known_digest(multiplier)"
        )
    return multiplier


def _quantized(
    values: Tensor,
    weight_codes: Tensor,
    bias: Tensor | None,
    input_scale: Tensor,
    output_scale: Tensor,
    multiplier: Multiplier,
    geometry: Geometry,
    full_range: bool,
    partial_sums: PartialSums | None,
    count: OverflowCount | None,
) -> Tensor:
    values, code_format = values.contiguous(), _code_format(multiplier, input_scale, full_range)
    rescale = Rescale(output_scale.contiguous(), None if bias is None else bias.contiguous())
    if partial_sums is None:
        return convolve(values, code_format, weight_codes, multiplier, geometry, rescale)
    return narrow_convolve(values, code_format, weight_codes, multiplier, geometry, rescale, partial_sums, count)


def _quantized_gradients(
    upstream: Tensor,
    values: Tensor,
    weight_codes: Tensor,
    input_scale: Tensor,
    output_scale: Tensor,
    multiplier: Multiplier,
    geometry: Geometry,
    gradient: str,
    gradient_window: int,
    full_range: bool,
    needs: gradients.Needs,
    *,
    bfloat16: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    slopes = None
    if gradient != "straight-through":
        slopes = gradients.Slopes(multiplier, gradient_window, separable=gradient == "separable-difference")
    by_values, by_weights = gradients.of_quantized_convolution(
        upstream,
        values.contiguous(),
        _code_format(multiplier, input_scale, full_range),
        as_kernel(weight_codes),
        output_scale,
        geometry,
        needs,
        slopes,
        bfloat16=bfloat16,
    )
    return by_values, None if by_weights is None else by_weights.reshape(weight_codes.shape)


class _QuantizedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        values, weight_codes, _, input_scale, output_scale, multiplier, geometry, full_range = arguments[:8]
        ctx.save_for_backward(values, weight_codes, input_scale, output_scale)
        *rest, gradient, gradient_window, bfloat16 = arguments
        ctx.rest = (multiplier, geometry, gradient, gradient_window, full_range)
        ctx.bfloat16 = bfloat16
        return _quantized(*rest)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstreams: Any) -> tuple[Tensor | None, ...]:
        (upstream,) = upstreams
        by_values, by_weights, by_bias = ctx.needs_input_grad[:3]
        needs = gradients.Needs(by_values, by_weights)
        values, weight_codes, input_scale, output_scale = ctx.saved_tensors
        multiplier, geometry, gradient, gradient_window, full_range = ctx.rest
        saved = (values, weight_codes, input_scale, output_scale)
        found = _quantized_gradients(
            upstream,
            *saved,
            multiplier,
            geometry,
            gradient,
            gradient_window,
            full_range,
            needs,
            bfloat16=ctx.bfloat16,
        )
        return *found, upstream.sum((0, 2, 3)) if by_bias else None, *(None for _ in range(10))


# The registered operators, which torch.compile and torch.export see as one node each.

_ARGUMENTS = (
    "str multiplier, str gradient, int gradient_window, bool full_range, int[] stride, int[] padding, int[] dilation, "
    "int groups"
)
_library: Any = torch.library.Library("crosslayer", "DEF")  # type: ignore[no-untyped-call]
_library.define(
    "quantized_conv2d(Tensor values, Tensor weight_codes, Tensor? bias, Tensor input_scale, Tensor output_scale, "
    f"{_ARGUMENTS}, int? sum_bits, str sum_overflow) -> Tensor"
)
_library.define(
    "quantized_conv2d_backward(Tensor upstream, Tensor values, Tensor weight_codes, Tensor input_scale, "
    f"Tensor output_scale, bool by_values, bool by_weights, {_ARGUMENTS}) -> (Tensor, Tensor)"
)

# Stride, padding, dilation and groups, as an operator gets them; the width of sums and its overflow come after these.
_Numbers = tuple[Sequence[int], Sequence[int], Sequence[int], int]


def _geometry(weight_codes: Tensor, numbers: _Numbers) -> Geometry:
    stride, padding, dilation, groups = numbers
    return Geometry(
        kernel=(weight_codes.shape[2], weight_codes.shape[3]),
        stride=(stride[0], stride[1]),
        padding=(padding[0], padding[1]),
        dilation=(dilation[0], dilation[1]),
        groups=groups,
    )


def _forward(
    values: Tensor,
    weight_codes: Tensor,
    bias: Tensor | None,
    input_scale: Tensor,
    output_scale: Tensor,
    digest: str,
    gradient: str,
    gradient_window: int,
    full_range: bool,
    *numbers: Any,
) -> Tensor:
    of_geometry, (sum_bits, overflow) = numbers[:-2], numbers[-2:]
    partial_sums = None if sum_bits is None else PartialSums(bits=sum_bits, overflow=overflow)
    return _quantized(
        values,
        weight_codes,
        bias,
        input_scale,
        output_scale,
        _known(digest),
        _geometry(weight_codes, of_geometry),
        full_range,
        partial_sums,
        None,
    )


def _forward_shape(values: Tensor, weight_codes: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    size = _geometry(weight_codes, rest[6:10]).out_size(values.shape[2], values.shape[3])
    return values.new_empty(values.shape[0], weight_codes.shape[0], *size)


def _gradients(
    upstream: Tensor,
    values: Tensor,
    weight_codes: Tensor,
    input_scale: Tensor,
    output_scale: Tensor,
    by_values: bool,
    by_weights: bool,
    digest: str,
    gradient: str,
    gradient_window: int,
    full_range: bool,
    *numbers: Any,
) -> tuple[Tensor, Tensor]:
    geometry = _geometry(weight_codes, numbers)
    needs = gradients.Needs(by_values, by_weights)
    saved = (values, weight_codes, input_scale, output_scale)
    found = _quantized_gradients(
        upstream, *saved, _known(digest), geometry, gradient, gradient_window, full_range, needs
    )
    return tuple(upstream.new_empty(0) if one is None else one for one in found)  # type: ignore[return-value]


def _gradients_shape(
    upstream: Tensor,
    values: Tensor,
    weight_codes: Tensor,
    _: Tensor,
    __: Tensor,
    by_values: bool,
    by_weights: bool,
    *rest: Any,
) -> tuple[Tensor, Tensor]:
    return (
        values.new_empty(values.shape if by_values else (0,)),
        weight_codes.new_empty(weight_codes.shape if by_weights else (0,)),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    values, weight_codes, _, input_scale, output_scale, *rest = inputs
    ctx.save_for_backward(values, weight_codes, input_scale, output_scale)
    ctx.rest = rest[:-2]  # gradients are those of exact sums


def _backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    by_values, by_weights, by_bias = ctx.needs_input_grad[:3]
    values, weights = torch.ops.crosslayer.quantized_conv2d_backward(
        upstream, *ctx.saved_tensors, by_values, by_weights, *ctx.rest
    )
    return (
        values if by_values else None,
        weights if by_weights else None,
        upstream.sum((0, 2, 3)) if by_bias else None,
        *(None for _ in range(4 + len(ctx.rest))),
    )


_library.impl("quantized_conv2d", _forward, "CompositeExplicitAutograd")
_library.impl("quantized_conv2d_backward", _gradients, "CompositeExplicitAutograd")
torch.library.register_fake("crosslayer::quantized_conv2d", _forward_shape, lib=_library)
torch.library.register_fake("crosslayer::quantized_conv2d_backward", _gradients_shape, lib=_library)
torch.library.register_autograd("crosslayer::quantized_conv2d", _backward, setup_context=_setup_context, lib=_library)
