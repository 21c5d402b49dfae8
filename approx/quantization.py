"""Quantisation: how a real tensor becomes the integer codes that the hardware holds, and how gradients pass through.

A code c represents the real value c * scale. Weights are signed and symmetric (-(2**(b-1) - 1) ... 2**(b-1) - 1) with
one scale per output channel; activations have one scale per tensor and are unsigned or signed symmetric. There is no
zero point, so zero is always exactly code 0.

Codes travel as float tensors holding exact integers, so that autograd can see them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from approx.checks import check_number, check_tensor
from approx.errors import ArgumentError

# Scales tried by calibration, as fractions of the scale that just reaches the largest value. Below 1 the largest values
# are clipped in favour of finer steps; those above 1 are for multipliers whose largest usable code is small.
_CLIPPING = tuple(i / 20 for i in range(5, 37))

_CACHED_VALUES = 2**16  # calibrated together: they stay in the cache


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest code."""
    return (-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


@dataclass(frozen=True, slots=True)
class CodeFormat:
    """How real values are quantised with one scale.

    Attributes:
        bits: Width of a code, 2 to 12.
        signed: Whether codes are signed.
        scale: The real value of the code 1.
        full_range: Whether the additional negative code of two's complement is used, which a faulty memory may
            produce.
    """

    bits: int
    signed: bool
    scale: float
    full_range: bool = False

    @property
    def low(self) -> int:
        """The smallest code."""
        return code_range(self.bits, self.signed)[0] - (self.full_range and self.signed)

    @property
    def high(self) -> int:
        """The largest code."""
        return code_range(self.bits, self.signed)[1]

    @property
    def mask(self) -> int:
        """`code & mask` is the code's index in a truth table."""
        return (1 << self.bits) - 1


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, replacement: Tensor) -> Tensor:
        return replacement

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return gradients[0], None


def straight_through(values: Tensor, replacement: Tensor) -> Tensor:
    """`replacement` in the forward pass; in the backward pass the gradient goes to `values` unchanged.

    The straight-through estimator of Bengio et al., 2013 (arXiv 1308.3432).
    """
    check_tensor("values", values)
    check_tensor("replacement", replacement)
    result: Tensor = _StraightThrough.apply(values, replacement)  # type: ignore[no-untyped-call]
    return result


def quantize(values: Tensor, scale: Tensor, *, bits: int, signed: bool) -> Tensor:
    """Codes of real values, with a straight-through gradient inside the range and none where they are clipped.

    Args:
        values: Real values, any shape.
        scale: Positive, broadcastable to `values`.
        bits: Width of a code.
        signed: Whether codes are signed.

    Returns:
        Exact integers in the type and shape of `values`. Halves round to even.
    """
    check_tensor("values", values)
    low, high = code_range(bits, signed)
    clipped = (values / scale).clamp(low, high)
    return straight_through(clipped, clipped.round())


def fake_quantize(values: Tensor, scale: Tensor, *, bits: int, signed: bool) -> Tensor:
    """Real values rounded to those that codes can represent: `quantize` times the scale, with its gradient.

    Args:
        values: As for `quantize`.
        scale: As for `quantize`.
        bits: As for `quantize`.
        signed: As for `quantize`.
    """
    return quantize(values, scale, bits=bits, signed=signed) * scale


def calibrate_scale(
    values: Tensor,
    *,
    bits: int,
    signed: bool,
    constrain: Callable[[Tensor], Tensor] = lambda codes: codes,
    largest: Tensor | None = None,
) -> Tensor:
    """The scale per row with which codes represent `values` with the least mean-square error.

    Args:
        values: Shape (rows, elements).
        bits: Width of a code.
        signed: Whether codes are signed.
        constrain: Applied to codes before they are compared, for multipliers that support only some codes.
        largest: Largest magnitude of each row, shape (rows,), if `values` is a sample of it.

    Returns:
        Shape (rows,), positive; a row of zeros gets scale 1.
    """
    _check_rows(values)
    _, high = code_range(bits, signed)
    if largest is None:
        largest = values.abs().amax(dim=1)
    at_once = max(1, _CACHED_VALUES // max(1, values.shape[1]))
    parts = zip(values.split(at_once), (largest / high).split(at_once), strict=True)  # type: ignore[no-untyped-call]
    scales = torch.cat([_least_error_scale(*part, bits, signed, constrain) for part in parts])
    return torch.where(largest > 0, scales, torch.ones_like(scales))


def percentile_scale(values: Tensor, *, bits: int, signed: bool, percentile: float) -> Tensor:
    """The scale per row with which the largest code represents a percentile of the magnitudes.

    Args:
        values: Shape (rows, elements).
        bits: Width of a code.
        signed: Whether codes are signed.
        percentile: Up to 100, at which nothing is clipped. Between two values the larger is used.

    Returns:
        Shape (rows,), positive. A row whose percentile is zero is scaled by its largest value, or by 1 if that is zero.
    """
    _check_rows(values)
    check_number("percentile", percentile)
    _, high = code_range(bits, signed)
    elements = values.shape[1]
    rank = min(elements, max(1, math.ceil(elements * percentile / 100)))
    magnitudes = values.abs()
    reach = magnitudes.kthvalue(rank, dim=1).values
    reach = torch.where(reach > 0, reach, magnitudes.amax(dim=1))
    return torch.where(reach > 0, reach / high, torch.ones_like(reach))


def _check_rows(values: object) -> None:
    check_tensor("values", values)
    assert isinstance(values, Tensor)
    if values.dim() != 2:
        raise ArgumentError(f"`values` must have shape (rows, elements), got {tuple(values.shape)}")


def _least_error_scale(
    values: Tensor, reach: Tensor, bits: int, signed: bool, constrain: Callable[[Tensor], Tensor]
) -> Tensor:
    """The scale of least error among fractions of the one that just reaches the largest value."""
    low, high = code_range(bits, signed)
    reach = torch.where(reach > 0, reach, torch.ones_like(reach))
    best_scale = reach.clone()
    best_error = torch.full_like(reach, torch.inf)
    for fraction in _CLIPPING:
        scale = reach * fraction
        codes = constrain((values / scale[:, None]).clamp_(low, high).round_())
        error = (codes * scale[:, None]).sub_(values).square_().sum(dim=1)
        better = error < best_error
        best_scale = torch.where(better, scale, best_scale)
        best_error = torch.where(better, error, best_error)
    return best_scale
