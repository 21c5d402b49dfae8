"""Checks of what was asked for.

Messages name parameters in backticks, which the command line turns into its options.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import TYPE_CHECKING

from search.defaults import DEFAULT_DROP
from search.errors import UsageError
from search.observer import Observer
from search.space.effort import EFFORTS
from search.space.target import Target

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from energy import Hardware


def find_hardware(hardware: str | os.PathLike[str]) -> Hardware:
    """Return the hardware of a name from `energy.hardware_names()`, or of a YAML file.

    Raises:
        UsageError: If the argument is neither a name nor a path.
        energy.HardwareError: If there is no such hardware, or the file is invalid.
    """
    from energy import load_hardware

    if not isinstance(hardware, str | os.PathLike):
        raise UsageError(f"`hardware` must be a name or the path of a YAML file, got {hardware!r}")
    return load_hardware(os.fspath(hardware))


def check_choice(parameter: str, given: str | None, allowed: Iterable[str]) -> None:
    """Refuse what is none of some names; None is allowed.

    Raises:
        UsageError: If it is none of them.
    """
    if given is not None and given not in (names := tuple(allowed)):
        raise UsageError(f"`{parameter}` must be one of {', '.join(names)}, got {given!r}")


def check_effort(effort: str | None) -> None:
    """Refuse an effort that there is not.

    Raises:
        UsageError: If it is none of `search.space.effort.EFFORTS`.
    """
    check_choice("effort", effort, EFFORTS)


def check_names(parameter: str, names: Sequence[str], *, example: str) -> list[str]:
    """Return names without the blanks around them, each once.

    Args:
        parameter: What they were given as.
        names: A list of names.
        example: A name that may be in such a list.

    Raises:
        UsageError: If it is a single text instead of a list, or a name is empty or no text.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise UsageError(f"`{parameter}` must be a list of names, such as [{example!r}], got {names!r}")
    listed = list(names)
    if not all(isinstance(name, str) and name.strip() for name in listed):
        raise UsageError(f"`{parameter}` must be names, such as {example}, none of them empty, got {listed!r}")
    return [*dict.fromkeys(name.strip() for name in listed)]


def target_of(min_accuracy: float | None, max_accuracy_drop: float | None, max_area: float | None = None) -> Target:
    """Return the target that is asked for; two points below the baseline if no accuracy is.

    Raises:
        UsageError: If both accuracies are given, or a number is out of range.
    """
    check_max_area(max_area)
    if min_accuracy is not None and max_accuracy_drop is not None:
        raise UsageError("`min_accuracy` and `max_accuracy_drop` exclude each other; give one of them")
    if min_accuracy is not None:
        if not _is_number(min_accuracy) or not 0 < min_accuracy <= 1:
            raise UsageError(
                f"`min_accuracy` must be above 0 and at most 1, such as 0.95 for 95 %, got {_words(min_accuracy)}"
            )
        return Target(min_accuracy=min_accuracy, max_area=max_area)
    drop = DEFAULT_DROP if max_accuracy_drop is None else max_accuracy_drop
    if not _is_number(drop) or not 0 <= drop < 1:
        raise UsageError(
            "`max_accuracy_drop` must be at least 0 and below 1, such as 0.01 for one percentage point, got "
            f"{_words(drop)}"
        )
    return Target(max_accuracy_drop=drop, max_area=max_area)


def check_max_area(max_area: float | None) -> None:
    """Refuse what is no ratio of areas; None, for no bound, is allowed.

    Raises:
        UsageError: If it is not a finite number above 0.
    """
    if max_area is not None and (not _is_number(max_area) or not 0 < max_area < math.inf):
        raise UsageError(
            f"`max_area` must be a number above 0, such as 0.5 for half of the baseline's area, got {_words(max_area)}"
        )


def check_losses(losses: Sequence[float]) -> tuple[float, ...]:
    """Return accuracy losses, each once, in order.

    Raises:
        UsageError: If there is none, or one is out of range.
    """
    if isinstance(losses, str) or not isinstance(losses, Iterable) or not (listed := list(losses)):
        raise UsageError("`losses` must be a list of at least one accuracy loss, such as [0.01] for one point")
    for loss in listed:
        if not _is_number(loss) or not 0 <= loss < 1:
            raise UsageError(
                f"`losses` must be at least 0 and below 1, such as 0.01 for one percentage point, got {_words(loss)}"
            )
    return tuple(sorted(set(listed)))


def check_numbers(*, budget: int | None, seed: int) -> None:
    """Refuse numbers that are out of range.

    Raises:
        UsageError: If one is, or is not a whole number.
    """
    if budget is not None and (not _is_whole(budget) or budget < 1):
        raise UsageError(f"`budget` must be a whole number of at least 1, got {budget!r}")
    if not _is_whole(seed) or not -(2**31) <= seed < 2**31:
        raise UsageError(f"`seed` must be a 32-bit whole number, got {seed!r}")


def check_value(parameter: str, given: object, wanted: type) -> None:
    """Refuse anything but a value of a class of this package.

    Raises:
        UsageError: If it is not one.
    """
    if not isinstance(given, wanted):
        raise UsageError(f"`{parameter}` must be a search.{wanted.__name__}, got {given!r}")


def check_flag(parameter: str, given: object) -> None:
    """Refuse anything but True and False.

    Raises:
        UsageError: If it is neither.
    """
    if not isinstance(given, bool):
        raise UsageError(f"`{parameter}` must be True or False, got {given!r}")


def check_observer(observer: object) -> None:
    """Refuse anything but an observer or None.

    Raises:
        UsageError: If it is something else.
    """
    if observer is not None:
        check_value("observer", observer, Observer)


def given_fields(value: DataclassInstance) -> str:
    """Return the text of a dataclass's value, with the fields that are not as by default."""
    given = [
        f"{one.name}={getattr(value, one.name)!r}" for one in fields(value) if getattr(value, one.name) != one.default
    ]
    return f"{type(value).__name__}({', '.join(given)})"


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _words(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else repr(value)
