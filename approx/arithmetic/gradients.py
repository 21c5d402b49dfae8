"""Gradients of approximate convolutions.

There are three choices for the slope of a table between integer codes: the slope of the exact product
(straight-through); that of the table itself, by differences between the codes on either side, over a window that the
ends cut off; and the same of the product of two one-dimensional tables that is nearest to it, which takes as long as
the first. Values that quantisation clips have no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from approx.arithmetic import native, portable
from approx.arithmetic.geometry import Geometry
from approx.multipliers.multiplier import Multiplier
from approx.quantization import CodeFormat

_GATHERED_VALUES = 2**22  # slopes looked up at a time


@dataclass(frozen=True, slots=True)
class Slopes:
    """What the slopes of a multiplier are.

    Attributes:
        multiplier: The multiplier.
        window: Codes on either side over which differences are taken.
        separable: Whether they are those of two one-dimensional tables.
    """

    multiplier: Multiplier
    window: int = 1
    separable: bool = False


@dataclass(frozen=True, slots=True)
class Needs:
    """The gradients that are needed."""

    values: bool
    weight_codes: bool


def of_quantized_convolution(
    upstream: Tensor,
    values: Tensor,
    code_format: CodeFormat,
    weight_codes: Tensor,
    output_scale: Tensor,
    geometry: Geometry,
    needs: Needs,
    slopes: Slopes | None,
    *,
    bfloat16: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the values and the weight codes of `approx.quantized_conv2d`, if needed.

    Args:
        upstream: Gradient of the result, shape (images, outputs, out height, out width).
        values: The real activations, contiguous.
        code_format: How they were quantised.
        weight_codes: float32, shape (outputs, channels / groups, kernel height, kernel width).
        output_scale: Shape (outputs,).
        geometry: Geometry of the convolution.
        needs: The gradients to compute; the others are None.
        slopes: The slopes to use; None for those of the exact product.
        bfloat16: Whether the operands of products are rounded to bfloat16, for those of the exact product.
    """
    if not upstream.numel() or not values.numel() or not weight_codes.numel():
        return (
            torch.zeros_like(values) if needs.values else None,
            torch.zeros_like(weight_codes) if needs.weight_codes else None,
        )
    if slopes is None:
        numbers = torch.bfloat16 if bfloat16 else torch.float32
        if bfloat16 and values.device.type == "cpu" and values.shape[2:] != (1, 1) and (library := native.load()):
            return _by_pixels(upstream, values, code_format, weight_codes, output_scale, geometry, needs, library)
        return _straight_through(upstream, values, code_format, weight_codes, output_scale, geometry, needs, numbers)
    return _difference(upstream, values, code_format, weight_codes, output_scale, geometry, slopes, needs)


def _straight_through(
    upstream: Tensor,
    values: Tensor,
    code_format: CodeFormat,
    weight_codes: Tensor,
    output_scale: Tensor,
    geometry: Geometry,
    needs: Needs,
    numbers: torch.dtype,
) -> tuple[Tensor | None, Tensor | None]:
    library = native.load() if values.device.type == "cpu" else None
    backend = library or portable
    codes = backend.codes_as_floats(values, code_format)
    scaled = weight_codes * (output_scale / code_format.scale)[:, None, None, None]
    if numbers != torch.float32:
        # Codes fit the 8 bits of bfloat16's significand, so that only gradients and scaled weights are rounded.
        upstream, codes, scaled = (one.to(numbers) for one in (upstream, codes, scaled))
    by_values, by_weights = _exact_backward(upstream, codes, scaled, geometry, needs)
    if by_values is not None:
        by_values = backend.clear_clipped(by_values.float().contiguous(), values, code_format)
    if by_weights is not None:
        by_weights = by_weights.float() * output_scale[:, None, None, None]
    return by_values, by_weights


def _by_pixels(
    upstream: Tensor,
    values: Tensor,
    code_format: CodeFormat,
    weight_codes: Tensor,
    output_scale: Tensor,
    geometry: Geometry,
    needs: Needs,
    library: native.Library,
) -> tuple[Tensor | None, Tensor | None]:
    """`_straight_through` in bfloat16, with the channels of each pixel side by side."""
    scaled = weight_codes * (output_scale / code_format.scale)[:, None, None, None]
    by_values, by_weights = _exact_backward(
        library.values_as_pixels(upstream.contiguous()),
        library.codes_as_pixels(values, code_format),
        scaled.to(torch.bfloat16, memory_format=torch.channels_last),
        geometry,
        needs,
    )
    if by_values is not None:
        pixels = by_values.contiguous(memory_format=torch.channels_last)
        by_values = library.pixels_unless_clipped(pixels, values, code_format)
    if by_weights is not None:
        by_weights = by_weights.to(torch.float32, memory_format=torch.contiguous_format)
        by_weights = by_weights * output_scale[:, None, None, None]
    return by_values, by_weights


def _difference(
    upstream: Tensor,
    values: Tensor,
    code_format: CodeFormat,
    weight_codes: Tensor,
    output_scale: Tensor,
    geometry: Geometry,
    slopes: Slopes,
    needs: Needs,
) -> tuple[Tensor | None, Tensor | None]:
    multiplier, window = slopes.multiplier, slopes.window
    rows, columns = geometry.padding
    # Padding is the code 0, whose products may have slopes with respect to the weights.
    padded = F.pad(values, (columns, columns, rows, rows))
    unpadded = Geometry(
        kernel=geometry.kernel, stride=geometry.stride, dilation=geometry.dilation, groups=geometry.groups
    )
    codes = portable.codes_as_floats(padded, code_format).to(torch.int64) & code_format.mask
    indices = weight_codes.to(torch.int64) & (2**multiplier.weight_bits - 1)
    by_codes = torch.zeros_like(padded)
    by_weights = torch.zeros_like(weight_codes)
    scaled = upstream * output_scale[:, None, None]
    pairs: list[tuple[Tensor, Tensor]] = []
    if slopes.separable:
        pairs = [_nearest_product(multiplier)]
    elif multiplier.factors is not None:
        pairs = list(zip(multiplier.factors.activation, multiplier.factors.weight, strict=True))
    if pairs:
        for activation, weight in pairs:
            f, g = activation.to(torch.float32)[codes], weight.to(torch.float32)[indices]
            term_by_codes, term_by_weights = _exact_backward(scaled, f, g, unpadded, needs)
            if term_by_codes is not None:
                by_codes += _slopes(activation, multiplier.activation_values, window)[codes] * term_by_codes
            if term_by_weights is not None:
                by_weights += _slopes(weight, multiplier.weight_values, window)[indices] * term_by_weights
    else:
        for part_codes, part_weights, images in _table_differences(scaled, codes, indices, slopes, unpadded):
            by_codes[images] = part_codes
            by_weights += part_weights
    height, width = values.shape[2:]
    by_values = by_codes[:, :, rows : rows + height, columns : columns + width] / code_format.scale
    by_values = portable.clear_clipped(by_values, values, code_format)
    return by_values if needs.values else None, by_weights if needs.weight_codes else None


def _exact_backward(
    upstream: Tensor, inputs: Tensor, weights: Tensor, geometry: Geometry, needs: Needs
) -> tuple[Tensor | None, Tensor | None]:
    if geometry == Geometry() and inputs.shape[2:] == (1, 1):  # a matrix product
        gradient, rows, columns = upstream.flatten(1), inputs.flatten(1), weights.flatten(1)
        by_inputs = (gradient @ columns)[:, :, None, None] if needs.values else None
        by_weights = (gradient.T @ rows)[:, :, None, None] if needs.weight_codes else None
        return by_inputs, by_weights
    by_inputs, by_weights, _ = torch.ops.aten.convolution_backward(
        upstream,
        inputs,
        weights,
        None,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        False,
        (0, 0),
        geometry.groups,
        (needs.values, needs.weight_codes, False),
    )
    return by_inputs, by_weights


def _slopes(table: Tensor, values: Tensor, window: int, dim: int = 0) -> Tensor:
    """Differences of a table over `window` codes on either side in the order of their values, in that of the table."""
    order, places = values.argsort(), torch.arange(len(values))
    above, below = (places + window).clamp(max=len(values) - 1), (places - window).clamp(min=0)
    ordered = table.to(torch.float32).index_select(dim, order)
    rises = ordered.index_select(dim, above) - ordered.index_select(dim, below)
    runs = (above - below).reshape(-1, *[1] * (table.dim() - 1 - dim))
    return torch.empty(table.shape, dtype=torch.float32).index_copy_(dim, order, rises / runs)


def _nearest_product(multiplier: Multiplier) -> tuple[Tensor, Tensor]:
    """The tables of activations and of weights whose products are nearest to the multiplier's, by least squares."""
    left, scale, right = torch.linalg.svd(multiplier.table().to(torch.float64), full_matrices=False)
    sign = torch.sign(left[:, 0] @ multiplier.activation_values.to(torch.float64))
    root = scale[0].sqrt() * torch.where(sign < 0, -1.0, 1.0)
    return (left[:, 0] * root).to(torch.float32), (right[0] * root).to(torch.float32)


def _table_differences(
    upstream: Tensor, codes: Tensor, indices: Tensor, slopes: Slopes, geometry: Geometry
) -> Iterator[tuple[Tensor, Tensor, slice]]:
    """Gradients of codes and weight codes for a few images at a time: the slopes of every pair are looked up."""
    multiplier, table = slopes.multiplier, slopes.multiplier.table()
    activation_slopes = _slopes(table, multiplier.activation_values, slopes.window, dim=0)
    weight_slopes = _slopes(table, multiplier.weight_values, slopes.window, dim=1)
    groups = geometry.groups
    weights = indices.flatten(1).reshape(groups, len(indices) // groups, -1)
    positions = upstream.shape[2] * upstream.shape[3]
    at_once = max(1, _GATHERED_VALUES // max(1, positions * weights.numel()))
    window = {"kernel_size": geometry.kernel, "dilation": geometry.dilation, "stride": geometry.stride}
    for start in range(0, len(codes), at_once):
        images = slice(start, start + at_once)
        part = codes[images]
        patches = F.unfold(part.to(torch.float32), **window).to(torch.int64)
        patches = patches.reshape(len(part), groups, 1, -1, positions)
        gradient = upstream[images].reshape(len(part), groups, -1, 1, positions)
        pairs = (patches, weights[None, :, :, :, None])
        by_patches = (gradient * activation_slopes[pairs]).sum(2).flatten(1, 2)
        by_weights = (gradient * weight_slopes[pairs]).sum((0, 4)).reshape(indices.shape)
        yield F.fold(by_patches, part.shape[2:], **window), by_weights, images
