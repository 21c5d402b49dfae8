"""Formats of sparse weights, and how many bits each needs.

- dense: every weight.
- bitmask: the nonzero weights, and one bit for every weight.
- relative index: the nonzero weights, each with the number of zeros before it in 4 bits; after 15 zeros a zero is
  stored in their place (Han et al., EIE: Efficient inference engine on compressed deep neural network, ISCA 2016). The
  number of such fillers is what is expected if zeros lie at random: a run of k zeros, of length geometrically
  distributed at sparsity s, needs floor(k / 16) of them, s^16 / (1 - s^16) on average.
"""

from __future__ import annotations

import numpy as np

from energy.arrays import Array

FORMATS = ("dense", "bitmask", "relative-index")
INDEX_BITS = 4


def format_bits(weights: Array, nonzero: Array, width: Array) -> tuple[Array, Array, Array]:
    """Bits that each format needs, in the order of `FORMATS`.

    Args:
        weights: Number of weights.
        nonzero: How many of them are not zero.
        width: Bits in which one is stored.
    """
    values = nonzero * width
    missing = (1 - nonzero / np.maximum(weights, 1)) ** (1 << INDEX_BITS)
    # A layer without any weight left needs no entry at all, where the formula would divide by zero.
    entries = nonzero + nonzero * missing / np.maximum(1 - missing, 1e-12)
    return weights * width, weights + values, entries * (width + INDEX_BITS)


def smallest_format_bits(
    weights: Array, nonzero: Array, width: Array, metadata_size: Array | float = 1.0
) -> tuple[Array, Array]:
    """Bits of values and of metadata in the smallest format; see `format_bits`. Fillers count as metadata.

    Args:
        weights: Number of weights.
        nonzero: How many of them are not zero.
        width: Bits in which one is stored.
        metadata_size: Area of a bit of metadata over that of a bit of a value, if they are kept in different cells.
    """
    dense, *sparse = format_bits(weights, nonzero, width)
    values = nonzero * width
    metadata = np.minimum(*sparse) - values
    is_sparse = values + metadata * metadata_size < dense
    return np.where(is_sparse, values, dense), np.where(is_sparse, metadata, 0)
