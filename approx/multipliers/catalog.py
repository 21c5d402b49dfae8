"""Multipliers by name: those of the package's families, for any operands, and the user's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from functools import cache

import torch

from approx.errors import ArgumentError, UnknownNameError
from approx.multipliers.families import FAMILIES, PUBLISHED, Family, Operands
from approx.multipliers.multiplier import MAX_BITS, MIN_BITS, Multiplier, code_values

_registered: dict[str, Multiplier] = {}


def multiplier_names() -> list[str]:
    """Names that listings show: members of the package's families, and registered multipliers.

    Families have more members than are listed; see `families`.
    """
    names = [_name(prefix, numbers) for prefix, family in FAMILIES.items() for numbers in family.listed]
    return [*names, *_registered]


def check_name(name: str) -> None:
    """Refuse a name that a multiplier of the user's cannot have.

    Raises:
        ArgumentError: If it is not 1 to 64 letters, digits and . _ + -, or has the form of the catalogue's names.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name):
        raise ArgumentError(
            f"a multiplier's name is 1 to 64 letters, digits and . _ + -, the first a letter or digit; got {name!r}"
        )
    if any(re.fullmatch(rf"{prefix}(-\d+)*", name.lower()) for prefix in FAMILIES):
        raise ArgumentError(f"the name {name!r} is taken by the catalogue; choose another with --name")


def families() -> list[Family]:
    """The package's families of multipliers."""
    return list(FAMILIES.values())


def register_multiplier(multiplier: Multiplier) -> None:
    """Make a multiplier of your own available by its name, in this process.

    Raises:
        ArgumentError: If the name cannot be one, or is taken by a multiplier that computes something else.
    """
    check_name(multiplier.name)
    known = _registered.get(multiplier.name)
    if known is not None and known.digest != multiplier.digest:
        raise ArgumentError(f"another multiplier is registered as {multiplier.name!r}; choose another name")
    _registered[multiplier.name] = multiplier


def multiplier_from_function(
    name: str,
    function: Callable[[int, int], int],
    *,
    signed: bool,
    weight_bits: int = 8,
    activation_bits: int = 8,
    provenance: str = "",
) -> Multiplier:
    """A multiplier that computes what a Python function does.

    Args:
        name: Any name.
        function: From the activation's and the weight's integer value to their product. Called for every pair.
        signed: Whether both operands are signed.
        weight_bits: 2 to 8.
        activation_bits: 2 to 8.
        provenance: Where it comes from.

    Raises:
        ArgumentError: If a product is not an integer of 32 bits.
    """
    table = []
    for activation in code_values(activation_bits, signed).tolist():
        for weight in code_values(weight_bits, signed).tolist():
            value = function(activation, weight)
            if not hasattr(value, "__index__") or not -(2**31) <= value < 2**31:
                raise ArgumentError(
                    f"multiplier {name!r}: the product of {activation} and {weight} must be an int of 32 bits, "
                    f"got {value!r}"
                )
            table.append(int(value))
    return Multiplier(
        name=name,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        weight_signed=signed,
        activation_signed=signed,
        lut=torch.tensor(table, dtype=torch.int32).reshape(2**activation_bits, 2**weight_bits),
        provenance=provenance,
    )


def find_multiplier(
    name: str,
    *,
    weight_bits: int,
    activation_bits: int,
    activation_signed: bool,
    weight_signed: bool = True,
) -> Multiplier:
    """A multiplier for these operands: of the catalogue, built for them, or a registered one, adapted to them.

    Args:
        name: Such as one of `multiplier_names()`.
        weight_bits: 2 to 8, or to 12 for multipliers that recode their operands.
        activation_bits: Likewise.
        activation_signed: Whether activation codes are signed.
        weight_signed: Whether weight codes are signed.

    Raises:
        UnknownNameError: If there is no such name.
        ArgumentError: If a width is out of range, or a registered multiplier is too narrow.
    """
    operands = Operands(
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        activation_signed=activation_signed,
        weight_signed=weight_signed,
    )
    for width, bits in (("weight_bits", weight_bits), ("activation_bits", activation_bits)):
        if not MIN_BITS <= bits <= MAX_BITS:
            raise ArgumentError(f"{width} must be between {MIN_BITS} and {MAX_BITS}, got {bits}")
    if name in _registered:
        return _adapted(_registered[name], operands)
    return _build(name, operands)


@cache
def _adapted(multiplier: Multiplier, operands: Operands) -> Multiplier:
    return multiplier.adapted(
        weight_bits=operands.weight_bits,
        activation_bits=operands.activation_bits,
        weight_signed=operands.weight_signed,
        activation_signed=operands.activation_signed,
    )


@cache
def _build(name: str, operands: Operands) -> Multiplier:
    parsed = _parse(name)
    if parsed is None:
        raise UnknownNameError(_unknown(name))
    prefix, numbers = parsed
    family = FAMILIES[prefix]
    built = family.build(numbers, operands)
    energy, area = PUBLISHED.get((name, operands.weight_bits), (None, None))
    return replace(built, name=name, provenance=family.provenance, relative_energy=energy, relative_area=area)


def _parse(name: str) -> tuple[str, tuple[int, ...]] | None:
    """Family prefix and numbers of a catalogue name, or None."""
    for prefix in sorted(FAMILIES, key=len, reverse=True):
        rest = name.removeprefix(prefix)
        if rest != name and (not rest or rest.startswith("-")):
            words = rest.split("-")[1:]
            if all(word.isdecimal() and str(int(word)) == word for word in words):
                numbers = tuple(int(word) for word in words)
                if FAMILIES[prefix].check(numbers):
                    return prefix, numbers
    return None


def _name(prefix: str, numbers: tuple[int, ...]) -> str:
    return "-".join([prefix, *map(str, numbers)])


def _unknown(name: str) -> str:
    for prefix, family in FAMILIES.items():
        if re.fullmatch(rf"{prefix}(-\d+)*-?", name):
            return f"unknown multiplier {name!r}; names are {family.pattern} ({family.parameters or 'without numbers'})"
    near = get_close_matches(name, multiplier_names(), n=3, cutoff=0.3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    patterns = ", ".join(family.pattern for family in FAMILIES.values())
    return f"unknown multiplier {name!r}; {hint}known are {patterns}, and what approx.register_multiplier was given"
