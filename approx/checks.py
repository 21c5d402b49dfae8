"""Checks of what callers pass: a wrong type gets a sentence instead of an error from deep inside."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor, nn

from approx.errors import ArgumentError

_SHOWN = 40  # characters of a value


def check_type(name: str, value: object, kinds: type[Any] | tuple[type[Any], ...], wanted: str, hint: str = "") -> None:
    """Reject a value of another type.

    Args:
        name: The parameter.
        value: Its value.
        kinds: The types that are allowed.
        wanted: What it must be, in words.
        hint: What to do instead.

    Raises:
        ArgumentError: If the value is of none of the types.
    """
    if not isinstance(value, kinds):
        raise ArgumentError(f"`{name}` must be {wanted}, got {shown(value)}{'; ' if hint else ''}{hint}")


def check_integer(name: str, value: object) -> None:
    """Reject anything but a whole number, such as 8.0 or True.

    Raises:
        ArgumentError: If it is one of these.
    """
    if isinstance(value, bool):
        raise ArgumentError(f"`{name}` must be a whole number, got {value}")
    check_type(name, value, Integral, "a whole number")


def check_seed(name: str, value: object) -> None:
    """Reject anything but a whole number of at least 0.

    Raises:
        ArgumentError: If it is something else.
    """
    check_integer(name, value)
    assert isinstance(value, Integral)
    if value < 0:
        raise ArgumentError(f"`{name}` must be at least 0, got {value}")


def check_number(name: str, value: object) -> None:
    """Reject anything but a real number.

    Raises:
        ArgumentError: If it is something else.
    """
    if isinstance(value, bool):
        raise ArgumentError(f"`{name}` must be a number, got {value}")
    check_type(name, value, Real, "a number")


def check_tensor(name: str, value: object) -> None:
    """Reject anything but a tensor.

    Raises:
        ArgumentError: If it is something else.
    """
    if not isinstance(value, Tensor):
        check_type(name, value, Tensor, "a torch.Tensor", _as_tensor(value))


def check_model(name: str, value: object) -> None:
    """Reject anything but a network.

    Raises:
        ArgumentError: If it is something else.
    """
    check_type(name, value, nn.Module, "a torch.nn.Module")


def check_names_to_tensors(name: str, value: object, hint: str = "") -> None:
    """Reject anything but a mapping from layer names to tensors.

    Raises:
        ArgumentError: If it is something else.
    """
    check_type(name, value, Mapping, "a mapping from layer names to tensors", hint)
    assert isinstance(value, Mapping)
    for key, tensor in value.items():
        check_tensor(f"{name}[{key!r}]", tensor)


def shown(value: object) -> str:
    """A value in an error message: itself if it is short, or else its type."""
    if value is None or isinstance(value, bool | int | float | str):
        text = repr(value)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _as_tensor(value: object) -> str:
    """How to make a tensor of it."""
    if isinstance(value, np.ndarray):
        return "convert it with torch.from_numpy(...)"
    if isinstance(value, nn.Module):
        return "pass tensors, such as the `weight` of one of its layers"
    return "convert it with torch.tensor(...)" if isinstance(value, list | tuple | float | int) else ""
