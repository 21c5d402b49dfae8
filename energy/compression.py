"""Formats of sparse weights, and the bits that each needs.

- dense: every weight.
- bitmask: the nonzero weights, and one bit for every weight.
- relative index: the nonzero weights, each with the number of zeros before it in 4 bits; a run of more than 15 zeros
  needs filler zeros (Han et al., EIE: Efficient inference engine on compressed deep neural network, ISCA 2016). Their
  number is the expected one for zeros at random positions: a run of k zeros, of geometrically distributed length at
  sparsity s, needs floor(k / 16) fillers, s^16 / (1 - s^16) on average.
"""

from __future__ import annotations

import numpy as np

from energy.arrays import Array

FORMATS = ("dense", "bitmask", "relative-index")
INDEX_BITS = 4


def format_bits(weights: Array, nonzero: Array, width: Array) -> tuple[Array, Array, Array]:
    """Compute the bits that each format needs, in the order of `FORMATS`.

    Args:
        weights: Number of weights.
        nonzero: Number of nonzero weights.
        width: Bits of a stored weight.
    """
    values = nonzero * width
    missing = (1 - nonzero / np.maximum(weights, 1)) ** (1 << INDEX_BITS)
    # A layer without remaining weights needs no entry; the formula would divide by zero.
    entries = nonzero + nonzero * missing / np.maximum(1 - missing, 1e-12)
    return weights * width, weights + values, entries * (width + INDEX_BITS)


def smallest_format_bits(
    weights: Array, nonzero: Array, width: Array, metadata_size: Array | float = 1.0
) -> tuple[Array, Array]:
    """Compute the bits of values and of metadata in the smallest format; fillers count as metadata.

    Args:
        weights: Number of weights.
        nonzero: Number of nonzero weights.
        width: Bits of a stored weight.
        metadata_size: Area of a bit of metadata relative to a bit of a value, if they are stored in different cells.
    """
    dense, *sparse = format_bits(weights, nonzero, width)
    values = nonzero * width
    metadata = np.minimum(*sparse) - values
    is_sparse = values + metadata * metadata_size < dense
    return np.where(is_sparse, values, dense), np.where(is_sparse, metadata, 0)
