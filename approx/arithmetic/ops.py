"""Matrix products and convolutions with an approximate multiplier, exact to the bit.

`approx_linear` and `approx_conv2d` take integer codes and return integer sums. `quantized_linear` and
`quantized_conv2d` are what layers use: real values in, quantised on the way, real values out, with gradients. All
four compute

    sum over k of multiplier(activation code k, weight code k)

by the fastest exact method that the multiplier has: exact integer products of its factors, or row tables, natively
where the installation has the kernels and with torch alone elsewhere. The method never changes a result. With
`partial_sums` the sums are those of an array whose running sums have a fixed width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from approx.arithmetic.convolution import convolve
from approx.arithmetic.geometry import Geometry
from approx.arithmetic.narrow_sums import narrow_convolve
from approx.arithmetic.operators import quantized_convolution
from approx.arithmetic.portable import check_range
from approx.checks import check_tensor, check_type
from approx.config import GRADIENTS
from approx.errors import ArgumentError
from approx.multipliers.multiplier import MAX_TABLE_BITS, Multiplier, check_multiplier
from approx.partial_sums import OverflowCount, PartialSums
from approx.quantization import CodeFormat

INT32_MAX = 2**31 - 1


def approx_linear(
    activation_codes: Tensor,
    weight_codes: Tensor,
    multiplier: Multiplier,
    *,
    partial_sums: PartialSums | None = None,
    overflows: OverflowCount | None = None,
) -> Tensor:
    """`out[..., n] = sum over k of multiplier(activation_codes[..., k], weight_codes[n, k])`.

    Args:
        activation_codes: Integers (not indices) that the multiplier's activation operand can hold, shape (..., K).
        weight_codes: Integers that its weight operand can hold, shape (N, K), as in `torch.nn.functional.linear`.
        multiplier: The multiplier.
        partial_sums: Width of the running sums; None if they are wide enough.
        overflows: Counts the sums, and those that overflow.

    Returns:
        int32, shape (..., N).

    Raises:
        ArgumentError: If the inner sizes differ, a code is not an integer or out of range, or a sum could leave 32
            bits.
    """
    _check_operands(activation_codes, weight_codes, multiplier, activations_name="activation_codes")
    _check_linear(activation_codes, weight_codes)
    rows = activation_codes.reshape(math.prod(activation_codes.shape[:-1]), activation_codes.shape[-1], 1, 1)
    kernel = weight_codes[:, :, None, None]
    out = approx_conv2d(rows, kernel, multiplier, partial_sums=partial_sums, overflows=overflows)
    return out.reshape(*activation_codes.shape[:-1], weight_codes.shape[0])


def approx_conv2d(
    activation_codes: Tensor,
    weight_codes: Tensor,
    multiplier: Multiplier,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    partial_sums: PartialSums | None = None,
    overflows: OverflowCount | None = None,
) -> Tensor:
    """Convolution with an approximate multiplier; padding is the code 0 and is multiplied like any other.

    Args:
        activation_codes: Integers (not indices) that the multiplier's activation operand can hold, shape (B, C, H, W).
        weight_codes: Integers that its weight operand can hold, shape (N, C / groups, KH, KW).
        multiplier: The multiplier.
        stride: Steps along H and W, or one number for both; the same holds for `padding` and `dilation`.
        padding: Zeros on either side of H and W.
        dilation: Distance between the kernel's points.
        groups: Number of independent groups of channels and outputs.
        partial_sums: Width of the running sums, to which products are added in the order of the weight: by channel,
            row and column of the kernel. None if they are wide enough.
        overflows: Counts the sums, and those that overflow.

    Returns:
        int32, shape (B, N, H', W').

    Raises:
        ArgumentError: If shapes do not fit, a code is not an integer or out of range, or a sum could leave 32 bits.
    """
    _check_operands(activation_codes, weight_codes, multiplier, activations_name="activation_codes")
    geometry = _geometry(activation_codes, weight_codes, stride, padding, dilation, groups)
    _check_convolution(activation_codes, weight_codes, multiplier, geometry)
    _check_partial_sums(partial_sums, overflows)
    codes = activation_codes.to(torch.int32)
    if activation_codes.is_floating_point() and not torch.equal(codes.to(activation_codes.dtype), activation_codes):
        raise ArgumentError("activation codes must be integers")
    check_range("activation", codes, multiplier.activation_bits, multiplier.activation_signed)
    code_format = CodeFormat(multiplier.activation_bits, multiplier.activation_signed, 1.0)
    indices = codes & code_format.mask
    if multiplier.activation_bits <= MAX_TABLE_BITS:
        indices = indices.to(torch.uint8)
    indices = indices.contiguous()
    if partial_sums is None:
        return convolve(indices, code_format, weight_codes, multiplier, geometry, None)
    return narrow_convolve(indices, code_format, weight_codes, multiplier, geometry, None, partial_sums, overflows)


def quantized_linear(
    values: Tensor,
    weight_codes: Tensor,
    multiplier: Multiplier,
    *,
    input_scale: Tensor,
    output_scale: Tensor,
    bias: Tensor | None = None,
    gradient: str = "straight-through",
    gradient_window: int = 1,
    full_range: bool = False,
    partial_sums: PartialSums | None = None,
    overflows: OverflowCount | None = None,
) -> Tensor:
    """`nn.functional.linear` as approximate hardware computes it; see `quantized_conv2d`.

    Args:
        values: float32, shape (..., K), of any rank.
        weight_codes: Exact integers in float32, shape (N, K).
        multiplier: As for `quantized_conv2d`.
        input_scale: As for `quantized_conv2d`.
        output_scale: As for `quantized_conv2d`.
        bias: As for `quantized_conv2d`.
        gradient: As for `quantized_conv2d`.
        gradient_window: As for `quantized_conv2d`.
        full_range: As for `quantized_conv2d`.
        partial_sums: As for `quantized_conv2d`.
        overflows: As for `quantized_conv2d`.

    Returns:
        float32, shape (..., N).

    Raises:
        ArgumentError: As for `quantized_conv2d`.
    """
    _check_operands(values, weight_codes, multiplier, activations_name="values")
    _check_linear(values, weight_codes)
    rows = values.reshape(math.prod(values.shape[:-1]), values.shape[-1], 1, 1)
    _check_quantized(rows, weight_codes, multiplier, input_scale, output_scale, bias, Geometry(), gradient)
    _check_partial_sums(partial_sums, overflows)
    out = quantized_convolution(
        rows,
        weight_codes,
        bias,
        input_scale,
        output_scale,
        multiplier,
        Geometry(),
        gradient,
        gradient_window,
        full_range,
        partial_sums,
        overflows,
    )
    return out.reshape(*values.shape[:-1], weight_codes.shape[0])


def quantized_conv2d(
    values: Tensor,
    weight_codes: Tensor,
    multiplier: Multiplier,
    *,
    input_scale: Tensor,
    output_scale: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    gradient: str = "straight-through",
    gradient_window: int = 1,
    full_range: bool = False,
    partial_sums: PartialSums | None = None,
    overflows: OverflowCount | None = None,
) -> Tensor:
    """Convolution as approximate hardware computes it: quantise, multiply and add integers, rescale.

    The result is `sums * output_scale + bias` in float32, with the integer sums of `approx_conv2d`. If any value is
    NaN, the whole result is NaN.

    Args:
        values: float32, shape (B, C, H, W). Values whose code is out of range are clipped.
        weight_codes: Exact integers in float32, shape (N, C / groups, KH, KW).
        multiplier: The multiplier; its activation operand sets the codes' width and sign.
        input_scale: Real value of the activation code 1: float32, a scalar.
        output_scale: Real value of the sum 1: float32, shape (N,).
        bias: float32, shape (N,).
        stride: Steps along H and W, or one number for both; the same holds for `padding` and `dilation`.
        padding: Zeros on either side of H and W.
        dilation: Distance between the kernel's points.
        groups: Number of independent groups of channels and outputs.
        gradient: `straight-through`, the gradient of the exact product (Bengio et al., arXiv 1308.3432, 2013); or
            `difference`, the gradient of the multiplier's table; or `separable-difference`, that of the nearest product
            of two tables of one operand each, which takes as long as the first (compare Meng et al., arXiv 2509.10519,
            2025). Clipped values have no gradient, nor have the scales.
        gradient_window: Codes on either side over which differences are taken.
        full_range: Whether signed values may have the code -2**(bits - 1), which quantisation never produces but a
            faulty memory may; otherwise they are clipped to one above it.
        partial_sums: Width of the running sums, as for `approx_conv2d`. Gradients are those of exact sums.
        overflows: Counts the sums, and those that overflow; not in a compiled or exported program.

    Returns:
        float32, shape (B, N, H', W').

    Raises:
        ArgumentError: If shapes or types do not fit, or a sum could leave 32 bits.
    """
    _check_operands(values, weight_codes, multiplier, activations_name="values")
    geometry = _geometry(values, weight_codes, stride, padding, dilation, groups)
    _check_quantized(values, weight_codes, multiplier, input_scale, output_scale, bias, geometry, gradient)
    _check_partial_sums(partial_sums, overflows)
    return quantized_convolution(
        values,
        weight_codes,
        bias,
        input_scale,
        output_scale,
        multiplier,
        geometry,
        gradient,
        gradient_window,
        full_range,
        partial_sums,
        overflows,
    )


def _largest_product(multiplier: Multiplier) -> int:
    return multiplier.largest_product


_largest_product._dynamo_marked_constant = True  # type: ignore[attr-defined]  # see operators.known_digest


def _check_operands(
    activations: Tensor, weight_codes: Tensor, multiplier: Multiplier, *, activations_name: str
) -> None:
    if isinstance(activations, Tensor) and isinstance(weight_codes, Tensor) and isinstance(multiplier, Multiplier):
        return
    check_tensor(activations_name, activations)
    check_tensor("weight_codes", weight_codes)
    check_multiplier("multiplier", multiplier)


def _check_partial_sums(partial_sums: object, overflows: object) -> None:
    hint = "such as approx.PartialSums(bits=16)"
    check_type("partial_sums", partial_sums, (PartialSums, type(None)), "an approx.PartialSums or None", hint)
    check_type("overflows", overflows, (OverflowCount, type(None)), "an approx.OverflowCount or None")
    if overflows is not None and partial_sums is None:
        raise ArgumentError("`overflows` counts nothing without `partial_sums`; pass both or neither")


def _check_linear(activations: Tensor, weight_codes: Tensor) -> None:
    if weight_codes.dim() != 2 or activations.dim() < 1 or activations.shape[-1] != weight_codes.shape[1]:
        raise ArgumentError(
            f"activations of shape {tuple(activations.shape)} do not fit weights of shape {tuple(weight_codes.shape)}: "
            "they must be (..., K) and (N, K)"
        )


def _geometry(
    activations: Tensor,
    weight_codes: Tensor,
    stride: int | tuple[int, int],
    padding: int | tuple[int, int],
    dilation: int | tuple[int, int],
    groups: int,
) -> Geometry:
    if activations.dim() != 4 or weight_codes.dim() != 4:
        raise ArgumentError(
            f"activations of shape {tuple(activations.shape)} and weights of shape {tuple(weight_codes.shape)}: "
            "both must have four dimensions, (B, C, H, W) and (N, C / groups, KH, KW)"
        )
    return Geometry(
        kernel=(weight_codes.shape[2], weight_codes.shape[3]),
        stride=_pair("stride", stride),
        padding=_pair("padding", padding),
        dilation=_pair("dilation", dilation),
        groups=groups,
    )


def _pair(name: str, numbers: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(numbers, int):
        return (numbers, numbers)
    if not isinstance(numbers, tuple | list) or len(numbers) != 2:
        raise ArgumentError(f"`{name}` must be a whole number or a pair of them, got {numbers!r}")
    return (numbers[0], numbers[1])


def _check_convolution(activations: Tensor, weight_codes: Tensor, multiplier: Multiplier, geometry: Geometry) -> None:
    groups = geometry.groups
    problem = ""
    if min(*geometry.stride, *geometry.dilation, groups) < 1 or min(geometry.padding) < 0:
        problem = f"`stride`, `dilation` and `groups` must be at least 1 and `padding` at least 0, got {geometry}"
    elif activations.shape[1] != weight_codes.shape[1] * groups or weight_codes.shape[0] % groups:
        problem = f"they do not fit {groups} groups: C must be the weights' channels x groups, N a multiple of groups"
    elif min(geometry.out_size(activations.shape[2], activations.shape[3])) < 1:
        problem = f"the kernel does not fit into the padded input ({geometry})"
    if problem:
        raise ArgumentError(
            f"activations of shape {tuple(activations.shape)} and weights of shape {tuple(weight_codes.shape)}: "
            f"{problem}"
        )
    inner, largest = math.prod(weight_codes.shape[1:]), _largest_product(multiplier)
    if inner * largest > INT32_MAX:
        raise ArgumentError(
            f"a sum of {inner} products of up to {largest} can leave 32 bits: with {multiplier.name!r} at most "
            f"{INT32_MAX // largest} products may be summed"
        )


def _check_quantized(
    values: Tensor,
    weight_codes: Tensor,
    multiplier: Multiplier,
    input_scale: Tensor,
    output_scale: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    gradient: str,
) -> None:
    _check_convolution(values, weight_codes, multiplier, geometry)
    outputs = (weight_codes.shape[0],)
    for name, tensor, shape in (
        ("values", values, values.shape),
        ("weight_codes", weight_codes, weight_codes.shape),
        ("input_scale", input_scale, ()),
        ("output_scale", output_scale, outputs),
        ("bias", bias, outputs),
    ):
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            check_tensor(name, tensor)
        if tensor.dtype != torch.float32:
            raise ArgumentError(f"`{name}` must be float32, got {tensor.dtype}; convert it with .float()")
        if tensor.shape != shape:
            raise ArgumentError(f"`{name}` must have shape {tuple(shape)}, got {tuple(tensor.shape)}")
    if gradient not in GRADIENTS:
        raise ArgumentError(f"`gradient` must be one of {', '.join(GRADIENTS)}; got {gradient!r}")
