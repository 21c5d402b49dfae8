"""Approximate convolutions with torch alone: the same numbers as the native kernels, on any device, slower.

All of them take `activations`, (images, channels, height, width): float32 values to be quantised, or uint8 operand
codes (indices into a truth table). Integer sums are exact; they would wrap beyond 32 bits, which the caller rules out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from approx.arithmetic.geometry import Geometry
from approx.errors import ArgumentError
from approx.multipliers.methods import Factors
from approx.multipliers.multiplier import Multiplier
from approx.partial_sums import PartialSums
from approx.quantization import CodeFormat, code_range

_FLOAT32_EXACT = 2**24  # every integer up to here is a float32
_PATCH_VALUES = 2**24  # image patches laid out at a time; a whole batch of them can take gigabytes
_POSITIONS = 4096  # at a time, so that what is added up stays in the cache
_ROW_TABLE_BYTES = 2**21  # row tables of one block of inner indices; larger ones leave the cache
_SATURATING_VALUES = 2**16  # sums made together, one product after the other, so that they stay in the cache


@dataclass(frozen=True, slots=True)
class Rescale:
    """Conversion of integer sums to real values: sum * scale[output] + bias[output], in float32.

    Attributes:
        scale: float32, shape (outputs,).
        bias: float32, shape (outputs,), or None.
    """

    scale: Tensor
    bias: Tensor | None


def weight_indices(weight_codes: Tensor, multiplier: Multiplier) -> Tensor:
    """Indices of weight codes in a truth table: int64.

    Raises:
        ArgumentError: If a code is not an integer, or out of range.
    """
    codes = weight_codes.to(torch.int64)
    if weight_codes.is_floating_point() and not torch.equal(codes.to(weight_codes.dtype), weight_codes):
        raise ArgumentError("weight codes must be integers")
    check_range("weight", codes, multiplier.weight_bits, multiplier.weight_signed)
    indices: Tensor = codes & (2**multiplier.weight_bits - 1)
    return indices


def check_range(operand: str, codes: Tensor, bits: int, signed: bool) -> None:
    """Reject codes that an operand cannot hold.

    Raises:
        ArgumentError: If there is one.
    """
    if not codes.numel():
        return
    low, high = operand_range(bits, signed)
    smallest, largest = codes.aminmax()
    if smallest < low or largest > high:
        raise ArgumentError(
            f"{operand} codes must be in {low}..{high} ({bits} bits, {'signed' if signed else 'unsigned'}), "
            f"got {int(smallest)}..{int(largest)}"
        )


def operand_range(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest code of an operand: two's complement has one more than quantisation uses."""
    low, high = code_range(bits, signed)
    return low - signed, high


def as_kernel(weights: Tensor) -> Tensor:
    """Weights with four dimensions, as of a convolution; those of a matrix product may have two."""
    return weights if weights.dim() == 4 else weights[:, :, None, None]


def empty_output(activations: Tensor, weights: Tensor, geometry: Geometry, rescale: Rescale | None) -> Tensor:
    """An empty tensor for the result: int32 sums, or float32 values if they are rescaled."""
    size = geometry.out_size(activations.shape[2], activations.shape[3])
    dtype = torch.int32 if rescale is None else torch.float32
    return torch.empty(activations.shape[0], weights.shape[0], *size, dtype=dtype, device=activations.device)


def table_convolution(
    activations: Tensor,
    code_format: CodeFormat,
    weights: Tensor,
    lut: Tensor,
    geometry: Geometry,
    rescale: Rescale | None,
) -> Tensor:
    """Convolution with a truth table.

    Args:
        activations: Values or operand codes; see the module.
        code_format: How they are quantised.
        weights: Operand codes, any integer type, shape (outputs, channels / groups, kernel height, kernel width).
        lut: int32, shape (activation codes, weight codes).
        geometry: Geometry of the convolution.
        rescale: How sums become values; None returns the sums.

    Returns:
        Shape (images, outputs, out height, out width): int32 sums, or float32 values, all NaN if any activation is.
    """
    out = empty_output(activations, weights, geometry, None)
    codes = operand_codes(activations, code_format)
    group_channels, group_outputs = weights.shape[1], weights.shape[0] // geometry.groups
    at_once = images_at_once(codes, weights, geometry)
    for start in range(0, len(codes), at_once):
        for group in range(geometry.groups):
            channels = slice(group * group_channels, (group + 1) * group_channels)
            outputs = slice(group * group_outputs, (group + 1) * group_outputs)
            rows = patches(codes[start : start + at_once, channels], geometry)
            sums = row_table_matmul(rows, weights[outputs].flatten(1), lut)
            part = sums.reshape(-1, *out.shape[2:], group_outputs).permute(0, 3, 1, 2)
            out[start : start + at_once, outputs] = part
    return finished(out, activations, rescale)


def row_table_matmul(activation_codes: Tensor, weight_codes: Tensor, lut: Tensor) -> Tensor:
    """`out[m, n] = sum over k of lut[activation_codes[m, k], weight_codes[n, k]]` by row tables.

    For a block of inner indices k the rows `lut[:, w[:, k]]` form a small table, from which each activation code
    selects one whole row to add.

    Args:
        activation_codes: Indices, any numeric type, shape (M, K).
        weight_codes: Indices, any integer type, shape (N, K).
        lut: int32, shape (activation codes, weight codes).

    Returns:
        int32, shape (M, N).
    """
    entries = len(lut)
    outputs, inner = weight_codes.shape
    out = torch.zeros(activation_codes.shape[0], outputs, dtype=torch.int32, device=lut.device)
    largest = max(1, int(lut.to(torch.int64).abs().max()))
    if largest >= _FLOAT32_EXACT:  # halves, whose sums stay exact
        low = row_table_matmul(activation_codes, weight_codes, lut & 0xFFFF)
        return low + (row_table_matmul(activation_codes, weight_codes, lut >> 16) << 16)
    exact = _FLOAT32_EXACT // largest  # number of products that sum exactly in float32
    block = min(exact, max(1, _ROW_TABLE_BYTES // (4 * entries * max(1, outputs))))
    entry_rows = lut.to(torch.float32)
    weight_index = weight_codes.to(torch.int64).T.contiguous()
    row_index = activation_codes.to(torch.int32)
    sums = torch.zeros(out.shape, device=lut.device)
    summed = 0
    for start in range(0, inner, block):
        part = weight_index[start : start + block]
        if summed + len(part) > exact:
            out += sums.to(torch.int32)
            sums.zero_()
            summed = 0
        # Row a * len(part) + k holds the products of activation code a with every weight of inner index k.
        tables = entry_rows.index_select(1, part.flatten()).reshape(-1, outputs)
        within = torch.arange(len(part), dtype=torch.int32, device=lut.device)
        for first in range(0, len(out), _POSITIONS):
            rows = row_index[first : first + _POSITIONS, start : start + block] * len(part)
            sums[first : first + _POSITIONS] += F.embedding_bag(rows.add_(within), tables, mode="sum")
        summed += len(part)
    return out.add_(sums.to(torch.int32))


def saturating_sums(
    codes: Tensor,
    positions: Tensor,
    weights: Tensor,
    multiplier: Multiplier,
    geometry: Geometry,
    partial_sums: PartialSums,
) -> tuple[Tensor, int]:
    """Sums made one product after the other, each addition saturating.

    Args:
        codes: Operand codes, shape (images, channels, height, width).
        positions: bool, shape (images * positions,): those of which sums are made.
        weights: Weight codes as indices, int64, shape (inner, outputs).
        multiplier: The multiplier.
        geometry: Geometry of the convolution, which has one group.
        partial_sums: Width of the running sums.

    Returns:
        int32, shape (chosen positions, outputs), and the number of sums in which an addition saturated.
    """
    rows = patches(codes, geometry)[positions]
    inner, outputs = weights.shape
    out = torch.zeros(len(rows), outputs, dtype=torch.int32, device=rows.device)
    saturated = 0
    factors = multiplier.factors
    table = None if factors is not None and factors.terms == 1 else multiplier.table().to(rows.device).flatten()
    at_once = max(1, _SATURATING_VALUES // max(1, outputs))
    for start in range(0, len(rows), at_once):
        index = rows[start : start + at_once].to(torch.int64).T
        sums = out[start : start + at_once]
        overflowed = torch.zeros(sums.shape, dtype=torch.bool, device=rows.device)
        for k in range(inner):
            if table is None:
                assert factors is not None
                activation, weight = (one[0].to(rows.device) for one in (factors.activation, factors.weight))
                reached = torch.addcmul(sums, activation[index[k]][:, None], weight[weights[k]][None, :])
            else:
                reached = sums + table[index[k][:, None] * 2**multiplier.weight_bits + weights[k][None, :]]
            torch.clamp(reached, partial_sums.low, partial_sums.high, out=sums)
            overflowed |= reached != sums
        saturated += int(overflowed.sum())
    return out, saturated


def product_convolution(
    activations: Tensor,
    code_format: CodeFormat,
    weights: Tensor,
    factors: Factors,
    geometry: Geometry,
    rescale: Rescale | None,
) -> Tensor:
    """Convolution with a multiplier that is a sum of products of one-operand functions; see `table_convolution`."""
    images, channels, height, width = activations.shape
    groups, terms = geometry.groups, factors.terms
    codes = operand_codes(activations, code_format).to(torch.int64)
    chosen = factors.weight.to(weights.device)[:, weights.to(torch.int64)]  # (terms, outputs, channels, kernel)
    recoded_weights = chosen.permute(1, 0, 2, 3, 4).flatten(1, 2)
    # Every partial sum, in any order, stays within these bounds.
    bounds = (chosen.abs().flatten(2).sum(2) * factors.activation.abs().amax(1).to(weights.device)[:, None]).sum(0)
    small = not bounds.numel() or int(bounds.max()) < _FLOAT32_EXACT
    exact = torch.float32 if small and _float32_is_plain(activations.device) else torch.float64
    recoded = factors.activation.to(codes.device, exact)[:, codes]  # (terms, images, channels, height, width)
    grouped = recoded.reshape(terms, images, groups, channels // groups, height, width)
    inputs = grouped.permute(1, 2, 0, 3, 4, 5).reshape(images, groups * terms * (channels // groups), height, width)
    if geometry.padding != (0, 0):  # padding is the code 0, which a term may not map to 0
        inputs = _pad_terms(inputs, factors.activation[:, 0], groups, channels // groups, geometry.padding)
    sums = F.conv2d(
        inputs,
        recoded_weights.to(exact),
        stride=geometry.stride,
        dilation=geometry.dilation,
        groups=groups,
    )
    return finished(sums.to(torch.int32), activations, rescale)


def codes_as_floats(values: Tensor, code_format: CodeFormat) -> Tensor:
    """The codes of real values, as float32 of the same shape."""
    # Divided by a tensor: some devices divide by a number by multiplying with its reciprocal.
    return (values / values.new_tensor(code_format.scale)).clamp_(code_format.low, code_format.high).round_()


def clear_clipped(gradient: Tensor, values: Tensor, code_format: CodeFormat) -> Tensor:
    """The gradient with zeros where quantisation clips the value."""
    scaled = values / values.new_tensor(code_format.scale)
    return torch.where((scaled >= code_format.low) & (scaled <= code_format.high), gradient, 0.0)


def _float32_is_plain(device: torch.device) -> bool:
    """Whether float32 convolutions are really computed in float32: some devices and settings use fewer bits."""
    if device.type != "cpu" or torch.get_float32_matmul_precision() != "highest":
        return False
    backend = torch.backends.mkldnn
    return {backend.fp32_precision, backend.conv.fp32_precision} <= {"none", "ieee"}  # type: ignore[attr-defined]


def images_at_once(codes: Tensor, weights: Tensor, geometry: Geometry) -> int:
    """How many images' patches are laid out at a time."""
    if geometry == Geometry():  # the codes are the patches
        return max(1, len(codes))
    rows, columns = geometry.out_size(codes.shape[2], codes.shape[3])
    return max(1, _PATCH_VALUES // max(1, rows * columns * weights[0].numel()))


def operand_codes(activations: Tensor, code_format: CodeFormat) -> Tensor:
    """Indices into a table, in a type that holds them; codes are returned as they are, and NaN has the code 0."""
    if activations.dtype != torch.float32:
        return activations
    codes = codes_as_floats(activations.nan_to_num(0.0), code_format)
    return codes.to(torch.int32) & code_format.mask


def patches(codes: Tensor, geometry: Geometry) -> Tensor:
    """The codes under the kernel at each position: (images * positions, channels * kernel), padding with code 0."""
    if geometry == Geometry():
        return codes.permute(0, 2, 3, 1).reshape(-1, codes.shape[1])
    unfolded = F.unfold(
        codes.to(torch.float32),
        geometry.kernel,
        dilation=geometry.dilation,
        padding=geometry.padding,
        stride=geometry.stride,
    )
    return unfolded.transpose(1, 2).flatten(0, 1)


def _pad_terms(inputs: Tensor, fill: Tensor, groups: int, channels: int, padding: tuple[int, int]) -> Tensor:
    rows, columns = padding
    padded = F.pad(inputs, (columns, columns, rows, rows))
    if fill.any():
        border = torch.ones_like(padded[0, 0], dtype=torch.bool)
        border[rows : border.shape[0] - rows, columns : border.shape[1] - columns] = False
        values = fill.to(padded.dtype).repeat_interleave(channels).repeat(groups)
        padded = torch.where(border, values[None, :, None, None], padded)
    return padded


def finished(sums: Tensor, activations: Tensor, rescale: Rescale | None) -> Tensor:
    """The sums, or the values they stand for, which are all NaN if any activation is."""
    if rescale is None:
        return sums
    values = sums.to(torch.float32) * rescale.scale[:, None, None]
    if rescale.bias is not None:
        values = values + rescale.bias[:, None, None]
    if activations.dtype == torch.float32 and bool(activations.isnan().any()):
        values.fill_(torch.nan)
    return values
