"""Error metrics of a multiplier over all pairs of its operands, all equally likely."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from approx.multipliers.methods import table_rank
from approx.multipliers.multiplier import MAX_TABLE_BITS, Multiplier, check_multiplier


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorMetrics:
    """Error figures of a multiplier; an error is the approximate minus the exact product.

    Attributes:
        mae: Mean absolute error.
        wce: Worst case: the largest absolute error.
        mre_nonzero: Mean relative error |error / exact| over the pairs whose exact product is not zero, as
            EvoApproxLib defines it; 0.01 is 1 %.
        mre_all: Mean of |error| / max(1, |exact|) over all pairs.
        mse: Mean squared error.
        error_probability: Share of pairs with any error.
        bias: Mean error.
        commutative: Whether swapping the operands never changes the product; None if they differ in width or sign.
        zero_preserving: Whether a zero operand always gives zero.
        error_rank: Rank of the table of errors; None for operands of more than 8 bits.
    """

    mae: float
    wce: int
    mre_nonzero: float
    mre_all: float
    mse: float
    error_probability: float
    bias: float
    commutative: bool | None
    zero_preserving: bool
    error_rank: int | None


def error_table(multiplier: Multiplier) -> Tensor:
    """Approximate minus exact product: int64, shape (activation codes, weight codes).

    One that constrains its weights multiplies those that stand for them.
    """
    check_multiplier("multiplier", multiplier)
    held = multiplier.constrain(multiplier.weight_values).to(torch.int64) & (2**multiplier.weight_bits - 1)
    return multiplier.table().to(torch.int64)[:, held] - multiplier.exact_table().to(torch.int64)


def error_metrics(multiplier: Multiplier) -> ErrorMetrics:
    """Error figures over all operand pairs."""
    errors = error_table(multiplier)
    absolute = errors.abs().to(torch.float64)
    exact = multiplier.exact_table().to(torch.int64).abs()
    zero = exact == 0
    pairs = errors.numel()
    same_operands = (multiplier.activation_bits, multiplier.activation_signed) == (
        multiplier.weight_bits,
        multiplier.weight_signed,
    )
    small = max(multiplier.activation_bits, multiplier.weight_bits) <= MAX_TABLE_BITS
    return ErrorMetrics(
        mae=float(absolute.sum()) / pairs,
        wce=int(errors.abs().max()),
        mre_nonzero=float((absolute[~zero] / exact[~zero]).mean()),
        mre_all=float((absolute / exact.clamp(min=1)).mean()),
        mse=float(absolute.square().sum()) / pairs,
        error_probability=int((errors != 0).sum()) / pairs,
        bias=int(errors.sum()) / pairs,
        commutative=torch.equal(errors, errors.T) if same_operands else None,
        zero_preserving=not bool(errors[zero].any()),
        error_rank=table_rank(errors) if small else None,
    )
