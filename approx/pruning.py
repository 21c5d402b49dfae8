"""Magnitude pruning. A mask is a bool tensor shaped like its weight: True is kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from approx.errors import ArgumentError


def magnitude_masks(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Masks that drop the same share of every layer's weights, smallest magnitudes first.

    Args:
        weights: Layer name -> weight.
        sparsity: Share to drop, in [0, 1).

    Returns:
        Layer name -> bool mask with exactly round(sparsity * size) False entries, but always one kept. Of equal
        magnitudes the earlier in memory goes first.

    Raises:
        ArgumentError: If sparsity is out of range.
    """
    if not 0 <= sparsity < 1:
        raise ArgumentError(f"sparsity must be in [0, 1), got {sparsity}")
    masks = {}
    for name, weight in weights.items():
        dropped = min(round(sparsity * weight.numel()), weight.numel() - 1)
        order = weight.detach().abs().flatten().argsort(stable=True)
        mask = torch.ones(weight.numel(), dtype=torch.bool)
        mask[order[:dropped]] = False
        masks[name] = mask.reshape(weight.shape)
    return masks
