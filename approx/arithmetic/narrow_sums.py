"""Convolutions whose running sums have a fixed width, exact to the bit; `approx.partial_sums` defines them.

Sums that wrap depend only on the exact sum. Sums that saturate depend on the order of the products, so they need one
addition after the other; but few of them need it. A running sum lies between the sum of the negative products and that
of the positive ones, and both come from exact convolutions, which are fast. Only where these leave the width is the sum
made in order: natively where the installation has the kernel, else with torch alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from approx.arithmetic import native, portable
from approx.arithmetic.convolution import convolve
from approx.arithmetic.geometry import Geometry
from approx.arithmetic.portable import Rescale
from approx.multipliers.multiplier import MAX_TABLE_BITS, Multiplier
from approx.partial_sums import OverflowCount, PartialSums
from approx.quantization import CodeFormat

_KEPT_MULTIPLIERS = 64


def narrow_convolve(
    activations: Tensor,
    code_format: CodeFormat,
    weight_codes: Tensor,
    multiplier: Multiplier,
    geometry: Geometry,
    rescale: Rescale | None,
    partial_sums: PartialSums,
    count: OverflowCount | None,
) -> Tensor:
    """`approx.arithmetic.convolution.convolve` with running sums of a fixed width.

    Args:
        activations: As for `convolve`, and so are the others up to `rescale`.
        code_format: How values are quantised.
        weight_codes: Exact integers (not indices).
        multiplier: The multiplier.
        geometry: Geometry of the convolution.
        rescale: How sums become values; None returns the sums.
        partial_sums: Width of the running sums.
        count: Counts the sums, and those that overflow.
    """
    if torch.is_autocast_enabled(activations.device.type):  # its lower precision would not be exact
        with torch.autocast(activations.device.type, enabled=False):
            return narrow_convolve(
                activations, code_format, weight_codes, multiplier, geometry, rescale, partial_sums, count
            )
    if not may_overflow(weight_codes, multiplier, partial_sums):
        out = convolve(activations, code_format, weight_codes, multiplier, geometry, rescale)
        if count is not None:
            count.add(out.numel(), 0)
        return out
    codes = portable.operand_codes(activations, code_format)
    codes = codes.to(torch.uint8 if code_format.bits <= MAX_TABLE_BITS else torch.int32).contiguous()
    sums = convolve(codes, code_format, weight_codes, multiplier, geometry, None)
    if partial_sums.overflow == "wrap":
        exact = sums
        sums = _wrapped(exact, partial_sums)
        overflowed = int((sums != exact).sum())
    else:
        negative = sums.clone()
        for part in _positive_products(multiplier):
            negative -= convolve(codes, code_format, weight_codes, part, geometry, None)
        reach = (sums - negative > partial_sums.high) | (negative < partial_sums.low)
        overflowed = _saturate(sums, reach, codes, weight_codes, multiplier, geometry, partial_sums)
    if count is not None:
        count.add(sums.numel(), overflowed)
    return portable.finished(sums, activations, rescale)


def may_overflow(weight_codes: Tensor, multiplier: Multiplier, partial_sums: PartialSums) -> bool:
    """Whether there are activation codes for which a running sum would overflow, whatever the order of the products.

    Args:
        weight_codes: Exact integers (not indices), shape (outputs, ...).
        multiplier: The multiplier.
        partial_sums: Width of the running sums.
    """
    if not weight_codes.numel():
        return False
    least, most = _product_bounds(multiplier)
    indices = portable.weight_indices(weight_codes.detach(), multiplier).flatten(1)
    largest = most.to(indices.device)[indices].sum(1).max()
    smallest = least.to(indices.device)[indices].sum(1).min()
    return bool(largest > partial_sums.high) or bool(smallest < partial_sums.low)


def _wrapped(sums: Tensor, partial_sums: PartialSums) -> Tensor:
    spare = 32 - partial_sums.bits  # the top bits of an int32 are lost, and the sign is the highest one that stays
    return (sums << spare) >> spare


@lru_cache(maxsize=_KEPT_MULTIPLIERS)
def _positive_products(multiplier: Multiplier) -> tuple[Multiplier, ...]:
    """Multipliers whose products add up to the product where it is positive, and to 0 elsewhere."""
    if max(multiplier.weight_bits, multiplier.activation_bits) <= MAX_TABLE_BITS:
        table = multiplier.table().clamp(min=0)
        return (
            replace(multiplier, lut=table, weight_recoding=None, activation_recoding=None, constrains_weights=False),
        )
    weights, activations = _recodings(multiplier)
    return tuple(
        replace(
            multiplier,
            weight_recoding=(sign * weights).clamp(min=0),
            activation_recoding=(sign * activations).clamp(min=0),
        )
        for sign in (1, -1)
    )


@lru_cache(maxsize=_KEPT_MULTIPLIERS)
def _product_bounds(multiplier: Multiplier) -> tuple[Tensor, Tensor]:
    """The least product of each weight code that is not positive, and the largest that is not negative: int64."""
    if max(multiplier.weight_bits, multiplier.activation_bits) <= MAX_TABLE_BITS:
        products = multiplier.table().to(torch.int64)
    else:
        weights, activations = _recodings(multiplier)
        extremes = torch.stack(activations.to(torch.int64).aminmax())
        products = extremes[:, None] * weights.to(torch.int64)
    return products.amin(0).clamp(max=0), products.amax(0).clamp(min=0)


def _recodings(multiplier: Multiplier) -> tuple[Tensor, Tensor]:
    """The values that are multiplied exactly for each weight code and each activation code."""
    assert multiplier.weight_recoding is not None
    activations = multiplier.activation_recoding
    return multiplier.weight_recoding, multiplier.activation_values if activations is None else activations


def _saturate(
    sums: Tensor,
    chosen: Tensor,
    codes: Tensor,
    weight_codes: Tensor,
    multiplier: Multiplier,
    geometry: Geometry,
    partial_sums: PartialSums,
) -> int:
    """Replace exact sums by saturating ones, in place, at all positions with a chosen one.

    Args:
        sums: int32, shape (images, outputs, out height, out width).
        chosen: bool, of the same shape: every sum that may saturate.
        codes: Operand codes, shape (images, channels, height, width).
        weight_codes: Exact integers (not indices).
        multiplier: The multiplier.
        geometry: Geometry of the convolution.
        partial_sums: Width of the running sums.

    Returns:
        How many sums saturated.
    """
    kernel = portable.as_kernel(portable.weight_indices(weight_codes, multiplier))
    group_channels, group_outputs = kernel.shape[1], len(kernel) // geometry.groups
    at_once = portable.images_at_once(codes, kernel, geometry)
    library = native.load() if codes.device.type == "cpu" and codes.dtype == torch.uint8 else None
    by_table = multiplier.weight_bits <= MAX_TABLE_BITS
    saturating_sums = portable.saturating_sums if library is None or not by_table else library.saturating_sums
    within = replace(geometry, groups=1)
    saturated = 0
    for group in range(geometry.groups):
        channels = slice(group * group_channels, (group + 1) * group_channels)
        outputs = slice(group * group_outputs, (group + 1) * group_outputs)
        weights = kernel[outputs].flatten(1).T.contiguous()
        for start in range(0, len(codes), at_once):
            images = slice(start, start + at_once)
            positions = chosen[images, outputs].any(1).flatten()
            if not positions.any():
                continue
            part = codes[images, channels].contiguous()
            found, overflowed = saturating_sums(part, positions, weights, multiplier, within, partial_sums)
            by_position = sums[images, outputs].permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
            by_position.view(-1, group_outputs)[positions] = found
            sums[images, outputs] = by_position.permute(0, 3, 1, 2)
            saturated += overflowed
    return saturated
