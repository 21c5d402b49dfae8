"""Matrix product and convolution of integer codes with an approximate multiplier, exact to the bit.

Codes are float tensors of exact integers. A multiplier that recodes weights is an exact product of recoded weights; one
with a truth table goes through row tables: for each inner index k the rows `lut[:, w[k, :]]` form a small table, and
each activation code selects one whole row to add, with no gather per product. Gradients are those of the exact product.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from approx.errors import ArgumentError
from approx.multiplier import Multiplier
from approx.quantization import straight_through

_FLOAT32_EXACT = 2**24  # every integer up to here is a float32
_PATCH_VALUES = 2**22  # image patches laid out at a time; a whole batch of them can take gigabytes
_ROW_TABLE_BYTES = 2**22  # row tables of one block of inner indices; larger ones leave the cache


def approx_linear(activation_codes: Tensor, weight_codes: Tensor, multiplier: Multiplier) -> Tensor:
    """`out[..., n] = sum over k of multiplier(activation_codes[..., k], weight_codes[n, k])`.

    Args:
        activation_codes: Shape (..., K).
        weight_codes: Shape (N, K), as in `torch.nn.functional.linear`.
        multiplier: Its widths must hold the codes.

    Returns:
        Exact integers, shape (..., N): float32 where that is exact for every possible activation, else float64.

    Raises:
        ArgumentError: If the inner sizes differ.
    """
    if activation_codes.shape[-1] != weight_codes.shape[1]:
        raise ArgumentError(
            f"inner sizes differ: activations {tuple(activation_codes.shape)}, weights {tuple(weight_codes.shape)}"
        )
    if multiplier.lut is not None:
        rows = activation_codes.flatten(0, -2) if activation_codes.dim() > 1 else activation_codes[None]
        product = _table_matmul(rows, weight_codes, multiplier.lut)
        return product.reshape(*activation_codes.shape[:-1], weight_codes.shape[0])
    weights = straight_through(weight_codes, multiplier.constrain(weight_codes))
    exact = _exact_dtype(weights, multiplier)
    return F.linear(activation_codes.to(exact), weights.to(exact))


def approx_conv2d(
    activation_codes: Tensor,
    weight_codes: Tensor,
    multiplier: Multiplier,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> Tensor:
    """Convolution with an approximate multiplier; padding is the code 0 and is multiplied like any other.

    Args:
        activation_codes: Shape (B, C, H, W).
        weight_codes: Shape (N, C, KH, KW).
        multiplier: Its widths must hold the codes.
        stride: Steps along H and W.
        padding: Zeros on either side of H and W.

    Returns:
        Exact integers, shape (B, N, H', W'), in the type that `approx_linear` would return.

    Raises:
        ArgumentError: If the channels differ.
    """
    if activation_codes.shape[1] != weight_codes.shape[1]:
        raise ArgumentError(
            f"channels differ: activations {tuple(activation_codes.shape)}, weights {tuple(weight_codes.shape)}"
        )
    if multiplier.lut is None:
        weights = straight_through(weight_codes, multiplier.constrain(weight_codes))
        exact = _exact_dtype(weights, multiplier)
        return F.conv2d(activation_codes.to(exact), weights.to(exact), stride=stride, padding=padding)
    batch, _, height, width = activation_codes.shape
    kernel = (weight_codes.shape[2], weight_codes.shape[3])
    out_height = (height + 2 * padding[0] - kernel[0]) // stride[0] + 1
    out_width = (width + 2 * padding[1] - kernel[1]) // stride[1] + 1
    weights = weight_codes.flatten(1)
    at_once = max(1, _PATCH_VALUES // (out_height * out_width * weights.shape[1]))
    products = []
    for images in activation_codes.split(at_once):  # type: ignore[no-untyped-call]
        patches = F.unfold(images, kernel, stride=stride, padding=padding)
        rows = patches.transpose(1, 2).reshape(-1, patches.shape[1])
        products.append(_table_matmul(rows, weights, multiplier.lut))
    return torch.cat(products).reshape(batch, out_height, out_width, -1).permute(0, 3, 1, 2)


def row_table_matmul(activation_codes: Tensor, weight_codes: Tensor, lut: Tensor) -> Tensor:
    """`out[m, n] = sum over k of lut[activation_codes[m, k], weight_codes[n, k]]` by row tables.

    Args:
        activation_codes: Integer values, shape (M, K).
        weight_codes: Integer values, shape (N, K).
        lut: int32, shape (2**activation_bits, 2**weight_bits), entries below 2**24 in magnitude.

    Returns:
        Exact integers, shape (M, N): float32 where every possible sum is exact in it, else float64.
    """
    entries, columns = lut.shape
    outputs, inner = weight_codes.shape
    largest = int(lut.abs().max())
    exact = torch.float32 if largest * inner < _FLOAT32_EXACT else torch.float64
    # A block's sums stay exact in float32, and its tables stay in the cache.
    block = min(_FLOAT32_EXACT // max(1, largest), max(1, _ROW_TABLE_BYTES // (4 * entries * outputs)))
    entry_rows = lut.to(torch.float32)
    weight_index = (weight_codes.to(torch.int64) & (columns - 1)).T.contiguous()
    row_index = activation_codes.to(torch.int64) & (entries - 1)
    out: Tensor | None = None
    for start in range(0, inner, block):
        part = weight_index[start : start + block]
        # Row a * len(part) + k holds the products of activation code a with every weight of inner index k.
        tables = entry_rows.index_select(1, part.flatten()).reshape(-1, outputs)
        rows = row_index[:, start : start + block] * len(part) + torch.arange(len(part))
        sums = F.embedding_bag(rows, tables, mode="sum")
        out = sums.to(exact) if out is None else out + sums
    if out is None:
        out = torch.zeros(activation_codes.shape[0], outputs)
    return out


class _TableMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activations: Tensor, weights: Tensor, lut: Tensor) -> Tensor:
        ctx.save_for_backward(activations, weights)
        return row_table_matmul(activations, weights, lut)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, None]:
        activations, weights = ctx.saved_tensors
        gradient = gradients[0].to(weights.dtype)
        return gradient @ weights, gradient.T @ activations, None


def _table_matmul(activations: Tensor, weights: Tensor, lut: Tensor) -> Tensor:
    product: Tensor = _TableMatmul.apply(activations, weights, lut)  # type: ignore[no-untyped-call]
    return product


def _exact_dtype(weights: Tensor, multiplier: Multiplier) -> torch.dtype:
    """The cheapest type in which every partial sum, in any order and for any activation, is exact."""
    largest_activation = 2**multiplier.activation_bits
    with torch.no_grad():
        largest_sum = largest_activation * weights.flatten(1).abs().sum(dim=1).max().item()
    return torch.float32 if largest_sum < _FLOAT32_EXACT else torch.float64
