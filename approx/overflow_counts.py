"""Counts of the sums that overflowed in a network whose partial sums are narrow, and the warning about them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from approx.checks import check_model
from approx.partial_sums import OverflowCount
from approx.surgery import approx_layers

_SHOWN = 4  # layers of a warning


class OverflowWarning(UserWarning):
    """Sums of a network did not fit its partial sums."""


def overflows(model: nn.Module) -> dict[str, OverflowCount]:
    """The sums that layers with narrow partial sums computed since `reset_overflows`, and those that overflowed.

    Every forward pass counts, in training too, except those of a compiled or exported program.

    Args:
        model: From `approximate`.

    Returns:
        Layer name -> count, without the layers whose sums are wide enough.
    """
    check_model("model", model)
    return {name: replace(layer.overflows) for name, layer in approx_layers(model) if layer.overflows is not None}


def reset_overflows(model: nn.Module) -> None:
    """Begin to count anew, in place.

    Args:
        model: From `approximate`.
    """
    check_model("model", model)
    for _, layer in approx_layers(model):
        if layer.overflows is not None:
            layer.overflows = OverflowCount()


@contextmanager
def warned_of_overflows(model: nn.Module) -> Iterator[None]:
    """Warn once, at the end, if sums overflowed meanwhile."""
    before = overflows(model)
    yield
    found = {}
    for name, count in overflows(model).items():
        since = before[name]
        if count.overflowed > since.overflowed:
            found[name] = OverflowCount(count.sums - since.sums, count.overflowed - since.overflowed)
    if found:
        warnings.warn(_words(found), OverflowWarning, stacklevel=4)  # at the caller of the function that measures


def _words(found: dict[str, OverflowCount]) -> str:
    worst = sorted(found, key=lambda name: found[name].overflowed, reverse=True)
    listed = [f"{found[name].overflowed} of {found[name].sums} in {name or 'the layer'!r}" for name in worst[:_SHOWN]]
    more = f", and more in {len(found) - _SHOWN} other layers" if len(found) > _SHOWN else ""
    return f"sums overflowed the width of partial sums: {', '.join(listed)}{more}; see approx.overflows"
