"""Errors of circuits with too many pairs of operands to compute all: from random ones, with what that leaves open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.99

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledErrors:
    """Errors over random pairs of operands, all equally likely.

    Attributes:
        mae: Mean absolute error.
        mae_most: The mean over all pairs is below this with 99 % confidence, by the normal approximation of the mean.
        mre_nonzero: Mean relative error over the pairs whose exact product is not zero.
        wce_seen: The largest absolute error that was seen: the worst one is at least this.
        error_probability: Share of pairs with any error.
        error_probability_least: The share of all pairs is between this and `error_probability_most` with 99 %
            confidence (Clopper and Pearson, Biometrika 26, 1934).
        error_probability_most: See `error_probability_least`.
        pairs: Number of random pairs.
    """

    mae: float
    mae_most: float
    mre_nonzero: float
    wce_seen: int
    error_probability: float
    error_probability_least: float
    error_probability_most: float
    pairs: int


def sampled_errors(products: Integers, exact: Integers) -> SampledErrors:
    """Errors of products that were drawn at random.

    Args:
        products: The products, any number above 1.
        exact: The exact ones.
    """
    from scipy.stats import beta, norm  # not needed for circuits of up to 8 bits

    absolute = np.abs(products - exact)
    nonzero = exact != 0
    count, wrong = len(absolute), int((absolute != 0).sum())
    outside = (1 - CONFIDENCE) / 2
    return SampledErrors(
        mae=float(absolute.mean()),
        mae_most=float(absolute.mean() + norm.ppf(CONFIDENCE) * absolute.std(ddof=1) / np.sqrt(count)),
        mre_nonzero=float((absolute[nonzero] / np.abs(exact[nonzero])).mean()),
        wce_seen=int(absolute.max()),
        error_probability=wrong / count,
        error_probability_least=float(beta.ppf(outside, wrong, count - wrong + 1)) if wrong else 0.0,
        error_probability_most=float(beta.ppf(1 - outside, wrong + 1, count - wrong)) if wrong < count else 1.0,
        pairs=count,
    )
