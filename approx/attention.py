"""Multi-head attention as layers that can be approximated: in torch's own module the projections are not layers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from approx.errors import ArgumentError


class SplitAttention(nn.Module):
    """`nn.MultiheadAttention` as three projections, the attention itself in floating point, and one more projection.

    Attributes:
        query: Projects the queries, shape (E, E).
        key: Projects the keys, shape (E, key width).
        value: Projects the values, shape (E, value width).
        out_proj: Projects the result, shape (E, E).
    """

    # With these, torch's transformer layers do not take their fast path, which would bypass the projections.
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim = attention.embed_dim
        self.num_heads = attention.num_heads
        self.dropout = attention.dropout
        self.batch_first = attention.batch_first
        weights: tuple[Tensor, ...]
        if attention.in_proj_weight is not None:
            weights = attention.in_proj_weight.chunk(3)
        else:
            weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
        biases = (None, None, None) if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
        self.query, self.key, self.value = (_linear(w, b) for w, b in zip(weights, biases, strict=True))
        self.out_proj = _linear(attention.out_proj.weight, attention.out_proj.bias)
        if not any(parameter.requires_grad for parameter in attention.parameters()):
            self.requires_grad_(False)
        self.train(attention.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Apply attention, as `nn.MultiheadAttention` does."""
        if is_causal and attn_mask is None:
            raise ArgumentError("`is_causal` describes `attn_mask`, which is missing; pass both")
        batched = query.dim() == 3
        if not batched:
            query, key, value = (one[None] for one in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self.batch_first:
            query, key, value = (one.transpose(0, 1) for one in (query, key, value))
        heads = [
            project(one).reshape(*one.shape[:2], self.num_heads, -1).transpose(1, 2)
            for project, one in ((self.query, query), (self.key, key), (self.value, value))
        ]
        mask = self._mask(attn_mask, key_padding_mask, heads[0])
        dropout = self.dropout if self.training else 0.0
        shares = None
        if need_weights:
            scores = heads[0] @ heads[1].transpose(-2, -1) / math.sqrt(heads[0].shape[-1])
            shares = (scores if mask is None else scores + mask).softmax(-1)
            mixed = F.dropout(shares, dropout) @ heads[2]
            shares = shares.mean(1) if average_attn_weights else shares
        else:
            mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], mask, dropout)
        out = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not batched:
            return out[0], None if shares is None else shares[0]
        return out if self.batch_first else out.transpose(0, 1), shares

    def _mask(self, attention: Tensor | None, padding: Tensor | None, queries: Tensor) -> Tensor | None:
        """The mask that is added to the scores: shape (batch, heads or 1, queries, keys)."""
        added = None
        if attention is not None:
            added = _additive(attention, queries)
            added = added[None, None] if added.dim() == 2 else added.reshape(-1, self.num_heads, *added.shape[1:])
        if padding is not None:
            hidden = _additive(padding, queries)[:, None, None, :]
            added = hidden if added is None else added + hidden
        return added


def can_split(attention: nn.MultiheadAttention) -> bool:
    """Whether `SplitAttention` supports all features that an attention layer uses."""
    return attention.bias_k is None and attention.bias_v is None and not attention.add_zero_attn


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill_(mask, -math.inf)
    return mask.to(like.dtype)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
