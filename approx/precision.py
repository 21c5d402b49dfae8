"""The number formats and memory layouts in which floating-point training computes.

Weights, gradients and statistics stay in float32; `bfloat16` is for the operands of convolutions and matrix products,
as in torch's autocast. Layers on integer codes compute the same codes in all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

FLOAT32, CHANNELS_LAST, BFLOAT16 = "float32", "float32-channels-last", "bfloat16"
PRECISIONS = (FLOAT32, CHANNELS_LAST, BFLOAT16)
_WORTH_IT = 0.85  # share of float32's time from which on another one is chosen
_TURNS = (3, 30)  # at least, and at most
_LONG_ENOUGH_S = 0.5  # of all turns together


def has_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16; others emulate them, slowly."""
    # torch has no public name for this: torch 2.13.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(precision: str) -> AbstractContextManager[object]:
    """The context in which a forward pass computes in a precision."""
    if precision != BFLOAT16:
        return nullcontext()
    return torch.autocast("cpu", torch.bfloat16)


def laid_out(inputs: Tensor, precision: str) -> Tensor:
    """Inputs in the memory layout of a precision."""
    if precision == FLOAT32 or inputs.dim() != 4:
        return inputs
    return inputs.contiguous(memory_format=torch.channels_last)


@contextmanager
def in_layout(model: nn.Module, precision: str) -> Iterator[None]:
    """Keep a network's weights in the memory layout of a precision meanwhile. They stay the same parameters."""
    if precision == FLOAT32:
        yield
        return
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def fastest(step: Callable[[str], None]) -> str:
    """The precision in which a training step takes the least processor time, by a few of them in turns.

    The shortest of each counts, so that other work on the machine does not decide.

    Args:
        step: Makes a step in a precision. It may raise in those that the network cannot compute in, except `float32`.

    Returns:
        `float32` unless another one takes clearly less time. Never `bfloat16` on a CPU that only emulates it.
    """
    times: dict[str, list[float]] = {one: [] for one in PRECISIONS if one != BFLOAT16 or has_bfloat16()}
    for turn in range(1 + _TURNS[1]):
        if turn > _TURNS[0] and sum(map(sum, times.values())) > _LONG_ENOUGH_S:
            break
        for precision in list(times):
            started = time.process_time()
            try:
                step(precision)
            except (RuntimeError, TypeError, ValueError):
                if precision == FLOAT32:
                    raise
                del times[precision]
                continue
            if turn:  # the first step prepares kernels
                times[precision].append(time.process_time() - started)
    shortest = {precision: min(found) for precision, found in times.items()}
    best = min(shortest, key=lambda one: shortest[one])
    return best if shortest[best] < _WORTH_IT * shortest[FLOAT32] else FLOAT32
