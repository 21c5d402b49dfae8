"""Max pooling by two, equal to torch's and several times faster: torch processes one value at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from approx.arithmetic import native

_SMALL = 2**15  # values: torch pools fewer of them in less time than it takes to call a kernel


class MaxPool2(nn.MaxPool2d):
    """`nn.MaxPool2d(2)`: the same values and the same gradients, even where values in a window are equal."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to (images, channels, height, width), or to one image."""
        if torch.compiler.is_compiling() or not _is_for_kernel(input):
            pooled: Tensor = super().forward(input)
            return pooled
        result: Tensor = _LargestOfFour.apply(input)  # type: ignore[no-untyped-call]
        return result


def _is_for_kernel(values: Tensor) -> bool:
    return (
        type(values) is Tensor  # not a stand-in for one while a network is traced
        and values.device.type == "cpu"
        and values.dtype == torch.float32
        and values.numel() >= _SMALL
        and values.dim() in (3, 4)
        and min(values.shape[-2:]) >= 2
        and native.load() is not None
    )


class _LargestOfFour(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        library = native.load()
        assert library is not None
        values = values.contiguous()
        ctx.save_for_backward(values)
        return library.largest_of_four(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        library = native.load()
        assert library is not None
        (values,) = ctx.saved_tensors
        return library.largest_of_four_gradient(values, gradients[0].contiguous())
