"""Multipliers by name: members of the built-in families, for any operands, and custom multipliers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache, lru_cache

import torch

from approx.checks import check_integer, check_type
from approx.errors import ArgumentError, UnknownNameError
from approx.multipliers.families import FAMILIES, PUBLISHED, Family, Operands
from approx.multipliers.multiplier import MAX_BITS, MAX_TABLE_BITS, MIN_BITS, Multiplier, check_multiplier, code_values

_ADAPTED = 64  # custom multipliers kept for the operands they were adapted to; long-running processes see many

_registered: dict[str, Multiplier] = {}


def multiplier_names(multipliers: Mapping[str, Multiplier] | None = None) -> list[str]:
    """Names for listings: common members of the built-in families, and custom multipliers.

    Families have more members than are listed; see `families`.

    Args:
        multipliers: The custom multipliers by name; by default those given to `register_multiplier`.
    """
    names = [_name(prefix, numbers) for prefix, family in FAMILIES.items() for numbers in family.listed]
    return [*names, *(_registered if multipliers is None else multipliers)]


def check_name(name: str) -> None:
    """Reject a name that a custom multiplier cannot have.

    Raises:
        ArgumentError: If it is not 1 to 64 letters, digits and . _ + -, or has the form of the catalogue's names.
    """
    check_type("name", name, str, "text")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name):
        raise ArgumentError(
            f"a multiplier's name is 1 to 64 letters, digits and . _ + -, the first a letter or digit; got {name!r}; "
            "choose another `name`"
        )
    if any(re.fullmatch(rf"{prefix}(-\d+)*", name.lower()) for prefix in FAMILIES):
        raise ArgumentError(f"the name {name!r} is taken by the catalogue; choose another `name`")


def families() -> list[Family]:
    """The built-in families of multipliers."""
    return list(FAMILIES.values())


def register_multiplier(multiplier: Multiplier) -> None:
    """Make a custom multiplier available by its name, in this process.

    Code that runs in several processes, or for several users, passes `multipliers` to `approximate` instead.

    Raises:
        ArgumentError: If the name is not allowed, or belongs to a multiplier that computes something else.
    """
    check_multiplier("multiplier", multiplier)
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
        function: Maps the integer values of an activation and a weight to their product; called for every pair.
        signed: Whether both operands are signed.
        weight_bits: 2 to 8.
        activation_bits: 2 to 8.
        provenance: Source of the design.

    Raises:
        ArgumentError: If a width is out of range, or a product is not a 32-bit integer.
    """
    check_type("name", name, str, "text")
    check_type("function", function, Callable, "a function of two integers")  # type: ignore[arg-type]
    for width, bits in (("weight_bits", weight_bits), ("activation_bits", activation_bits)):
        check_integer(width, bits)
        if not MIN_BITS <= bits <= MAX_TABLE_BITS:
            raise ArgumentError(f"`{width}` must be between {MIN_BITS} and {MAX_TABLE_BITS}, got {bits}")
    table = []
    for activation in code_values(activation_bits, signed).tolist():
        for weight in code_values(weight_bits, signed).tolist():
            value = function(activation, weight)
            if not hasattr(value, "__index__") or not -(2**31) <= value < 2**31:
                raise ArgumentError(
                    f"multiplier {name!r}: the product of {activation} and {weight} must be a 32-bit integer, "
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
    weight_bits: int = 8,
    activation_bits: int = 8,
    activation_signed: bool = False,
    weight_signed: bool = True,
    circuit_bits: tuple[int, int] | None = None,
    multipliers: Mapping[str, Multiplier] | None = None,
) -> Multiplier:
    """The multiplier of a name, for these operands: custom ones are adapted to them, the catalogue's built for them.

    By default they are those of a layer after a ReLU: signed 8-bit weights and unsigned 8-bit activations.

    Args:
        name: The name, such as `drum-4`; see `multiplier_names`.
        weight_bits: 2 to 8, or to 12 for multipliers that recode their operands.
        activation_bits: The same range.
        activation_signed: Whether activation codes are signed.
        weight_signed: Whether weight codes are signed.
        circuit_bits: Widths of weights and activations that its circuit is built for, if wider; by default it is built
            for these operands. Static segments are the only ones whose products depend on it. A custom multiplier has
            its own circuit.
        multipliers: The custom multipliers by name, which are looked up before the catalogue. By default these are the
            multipliers given to `register_multiplier`.

    Raises:
        UnknownNameError: If there is no such name.
        ArgumentError: If a width is out of range, or the circuit or a custom multiplier is too narrow.
    """
    hint = "a Multiplier needs no lookup; `adapted` gives it other operands" if isinstance(name, Multiplier) else ""
    check_type("name", name, str, "the name of a multiplier, such as 'drum-4'", hint)
    if multipliers is not None:
        check_type("multipliers", multipliers, Mapping, "a mapping from names to approx.Multiplier")
    operands = Operands(
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        activation_signed=activation_signed,
        weight_signed=weight_signed,
    )
    for width, bits in (("weight_bits", weight_bits), ("activation_bits", activation_bits)):
        check_integer(width, bits)
        if not MIN_BITS <= bits <= MAX_BITS:
            raise ArgumentError(f"`{width}` must be between {MIN_BITS} and {MAX_BITS}, got {bits}")
    custom = _registered if multipliers is None else multipliers
    if name in custom:
        return _adapted(custom[name], operands)
    parsed = _parse(name)
    if parsed is None:
        raise UnknownNameError(_unknown(name, custom))
    if circuit_bits is None:
        return _build(name, *parsed, operands)
    for bits in circuit_bits:
        check_integer("circuit_bits", bits)
    built = replace(operands, weight_bits=circuit_bits[0], activation_bits=circuit_bits[1])
    return _narrowed(_build(name, *parsed, built), weight_bits, activation_bits)


@cache
def _narrowed(circuit: Multiplier, weight_bits: int, activation_bits: int) -> Multiplier:
    return circuit.narrowed(weight_bits=weight_bits, activation_bits=activation_bits)


@lru_cache(_ADAPTED)
def _adapted(multiplier: Multiplier, operands: Operands) -> Multiplier:
    return multiplier.adapted(
        weight_bits=operands.weight_bits,
        activation_bits=operands.activation_bits,
        weight_signed=operands.weight_signed,
        activation_signed=operands.activation_signed,
    )


@cache
def _build(name: str, prefix: str, numbers: tuple[int, ...], operands: Operands) -> Multiplier:
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


def _unknown(name: str, custom: Mapping[str, Multiplier]) -> str:
    for prefix, family in FAMILIES.items():
        if re.fullmatch(rf"{prefix}(-\d+)*-?", name):
            return f"unknown multiplier {name!r}; names are {family.pattern} ({family.parameters or 'without numbers'})"
    near = get_close_matches(name, multiplier_names(custom), n=3, cutoff=0.3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    patterns = ", ".join(family.pattern for family in FAMILIES.values())
    return f"unknown multiplier {name!r}; {hint}known are {patterns}, and custom ones that were registered or passed"
