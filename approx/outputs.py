"""Outputs of networks: the tensors in whatever they return, and the scores of classes among them."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from torch import Tensor

from approx.checks import shown
from approx.errors import ArgumentError

_KEYS = ("logits", "out", "output")  # as Hugging Face's and torchvision's networks call scores


def scores_of(output: object) -> Tensor:
    """Return the scores of classes in a network's output.

    Args:
        output: A tensor; a tuple or list whose first element is one, as where other heads follow; or a mapping with a
            tensor as `logits`, `out` or `output`, or as its only value.

    Raises:
        ArgumentError: If it is something else.
    """
    if isinstance(output, Mapping):
        key = next((one for one in _KEYS if one in output), next(iter(output), None) if len(output) == 1 else None)
        if key is None:
            names = ", ".join(map(repr, output)) or "nothing"
            raise ArgumentError(
                f"the network returns a mapping of {names}; its scores of classes must be one of {', '.join(_KEYS)}"
            )
        output = output[key]
    elif isinstance(output, tuple | list) and output:
        return scores_of(output[0])
    if not isinstance(output, Tensor):
        raise ArgumentError(f"the network must return a tensor of scores, got {shown(output)}")
    return output


def tensors_in(output: object) -> list[Tensor]:
    """Return all tensors in a network's output: in mappings, sequences and objects, such as data classes."""
    found: list[Tensor] = []
    waiting, seen = [output], {}
    while waiting:
        one = waiting.pop()
        if isinstance(one, Tensor):
            found.append(one)
        elif id(one) not in seen and not (isinstance(one, ModuleType) or callable(one)):
            seen[id(one)] = one  # kept, so that no other object takes its identity
            parts = one.values() if isinstance(one, Mapping) else one if isinstance(one, list | tuple | set) else ()
            waiting += [*parts, *getattr(one, "__dict__", {}).values()][::-1]
    return found
