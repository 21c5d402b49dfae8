"""The oracle: approximate products one table entry at a time. Slow and obviously correct; tests compare with it."""

from __future__ import annotations

import torch
from torch import Tensor


def reference_matmul(activation_codes: Tensor, weight_codes: Tensor, lut: Tensor) -> Tensor:
    """`out[m, n] = sum over k of lut[activation_codes[m, k], weight_codes[k, n]]`.

    Args:
        activation_codes: Integer values, shape (M, K).
        weight_codes: Integer values, shape (K, N).
        lut: int32, shape (2**activation_bits, 2**weight_bits).

    Returns:
        int64, shape (M, N).
    """
    rows, columns = lut.shape
    out = torch.zeros(activation_codes.shape[0], weight_codes.shape[1], dtype=torch.int64)
    for m, codes in enumerate(activation_codes.tolist()):
        for n, weights in enumerate(weight_codes.T.tolist()):
            for activation, weight in zip(codes, weights, strict=True):
                out[m, n] += int(lut[int(activation) % rows, int(weight) % columns])
    return out
