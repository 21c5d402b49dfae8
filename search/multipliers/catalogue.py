"""The listing of multipliers: built-in and imported ones, with their errors and costs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

import approx
import energy
from approx import Figure
from energy.cost_table import MultiplierCost
from search.errors import UsageError
from search.multipliers.folder import MultiplierFolder

_MIN_BITS, _LISTED_BITS = 2, 8


@dataclass(frozen=True, slots=True)
class Described:
    """A multiplier with its errors and costs.

    Attributes:
        multiplier: The multiplier.
        metrics: Its errors over all operand pairs.
        costs: Its gate-level costs relative to the exact multiplier, by form: `layer`, as networks use it, and the form
            of its operands.
        method: The method by which layers compute with it on this machine.
    """

    multiplier: approx.Multiplier
    metrics: approx.ErrorMetrics
    costs: Mapping[str, MultiplierCost]
    method: str

    @property
    def cost(self) -> MultiplierCost | None:
        """Its cost as networks use it, or else in the form of its operands; None if neither is known."""
        return next(iter(self.costs.values()), None)

    @property
    def relative_energy(self) -> Figure | None:
        """Energy relative to the exact multiplier: of gates, or else as imported or published."""
        return self.multiplier.relative_energy if self.cost is None else _figure(self.cost, self.cost.relative_energy)

    @property
    def relative_area(self) -> Figure | None:
        """Area relative to the exact multiplier: of gates, or else as imported or published."""
        return self.multiplier.relative_area if self.cost is None else _figure(self.cost, self.cost.relative_area)


def _figure(cost: MultiplierCost, value: float) -> Figure:
    return Figure(value, cost.source)


def listed() -> list[approx.Multiplier]:
    """Return the catalogue at 8 bits, unsigned, with members that were characterised here, and the imported ones."""
    catalogue = [_from_catalogue(name, bits=_LISTED_BITS, signed=False) for name in approx.multiplier_names()]
    imported = _imported()
    added = set(MultiplierFolder.default().costs().added) - {known.name for known in [*catalogue, *imported]}
    catalogue += [member for name in added if (member := _widest(name)) is not None]
    families = list(dict.fromkeys(_family(known.name)[0] for known in catalogue))
    catalogue.sort(key=lambda known: (families.index(_family(known.name)[0]), _family(known.name)[1]))
    return [*catalogue, *imported]


def _widest(name: str) -> approx.Multiplier | None:
    """Return a member of the catalogue at the widest width up to that of listings; None if it is not a member."""
    for bits in range(_LISTED_BITS, _MIN_BITS - 1, -1):
        # Some do not support 8 bits, such as static segments of three; others are costs of removed imports.
        with suppress(approx.ArgumentError, approx.UnknownNameError):
            return _from_catalogue(name, bits=bits, signed=False)
    return None


def _family(name: str) -> tuple[str, tuple[int, ...]]:
    """Split a catalogue name into its prefix and its numbers."""
    prefix = re.sub(r"(-\d+)+$", "", name)
    return prefix, tuple(int(number) for number in name.removeprefix(prefix).split("-")[1:])


def find(name: str, *, bits: int, signed: bool) -> approx.Multiplier:
    """Return a multiplier of the catalogue or an imported one.

    Args:
        name: Name of the multiplier.
        bits: Width of both operands; imported multipliers are narrowed to it, but never widened.
        signed: Whether operands are signed; imported signed multipliers always are.

    Raises:
        UsageError: If there is no such name.
        approx.ApproxError: If it does not support such operands.
    """
    imported = {known.name: known for known in _imported()}
    if name in imported:
        known = imported[name]
        return known.adapted(
            weight_bits=min(bits, known.weight_bits),
            activation_bits=min(bits, known.activation_bits),
            weight_signed=signed or known.weight_signed,
            activation_signed=signed or known.activation_signed,
        )
    try:
        return _from_catalogue(name, bits=bits, signed=signed)
    except approx.UnknownNameError as error:
        near = get_close_matches(name, imported, n=3, cutoff=0.6)
        hint = f"; imported: {', '.join(near)}" if near else ""
        raise UsageError(f"{error}{hint}") from None


def import_file(file: Path, *, name: str | None, signed: bool) -> list[approx.Multiplier]:
    """Import multipliers from a file into the user's folder.

    Raises:
        approx.ApproxError: If the file or a table in it cannot be used, or a name is taken.
    """
    found = approx.import_multipliers(file, name=name, signed=signed)
    folder = MultiplierFolder.default()
    for multiplier in found:
        folder.add(multiplier)
    return found


def describe(multiplier: approx.Multiplier) -> Described:
    """Return a multiplier's errors, costs and method."""
    return Described(
        multiplier=multiplier,
        metrics=approx.error_metrics(multiplier),
        costs=_costs(multiplier),
        method=approx.method(_in_a_layer(multiplier)),
    )


def _costs(multiplier: approx.Multiplier) -> dict[str, MultiplierCost]:
    costs = MultiplierFolder.default().costs()
    if multiplier.weight_signed and multiplier.activation_signed:
        operand_form = "signed"
    else:
        operand_form = "layer" if multiplier.weight_signed else "unsigned"
    found = {}
    for form in dict.fromkeys(("layer", operand_form)):
        # Not every multiplier is characterised, and none is in every form and width.
        with suppress(energy.WorkloadError):
            found[form] = costs.cost(
                multiplier.name,
                weight_bits=multiplier.weight_bits,
                activation_bits=multiplier.activation_bits,
                form=form,
            )
    return found


def as_json(described: Described) -> dict[str, Any]:
    """Return a description as a JSON object."""
    multiplier, figure, area = described.multiplier, described.relative_energy, described.relative_area
    return {
        "name": multiplier.name,
        "weight_bits": multiplier.weight_bits,
        "activation_bits": multiplier.activation_bits,
        "weight_signed": multiplier.weight_signed,
        "activation_signed": multiplier.activation_signed,
        "provenance": multiplier.provenance,
        "sha256": multiplier.digest,
        "errors": asdict(described.metrics),
        "relative_energy": None if figure is None else figure.value,
        "relative_energy_source": None if figure is None else figure.source,
        "relative_area": None if area is None else area.value,
        "relative_area_source": None if area is None else area.source,
        "costs": {form: asdict(cost) for form, cost in described.costs.items()},
        "method": described.method,
    }


def doubt(multiplier: approx.Multiplier) -> str | None:
    """Return a warning if a multiplier seems to have been imported with the wrong sign, or None."""
    if multiplier.weight_signed or not bool((multiplier.table() < 0).any()):
        return None
    return f"{multiplier.name} has negative products of unsigned operands; if they are signed, import it with `signed`"


def _imported() -> list[approx.Multiplier]:
    def warn(error: Exception) -> None:
        click.echo(f"search: {error}", err=True)

    return MultiplierFolder.default().multipliers(on_damage=warn)


def _in_a_layer(multiplier: approx.Multiplier) -> approx.Multiplier:
    """Return a multiplier as layers use it: with signed weights."""
    if multiplier.weight_signed:
        return multiplier
    weight_bits, activation_bits = multiplier.weight_bits, multiplier.activation_bits
    if multiplier.name in approx.multiplier_names() or multiplier.lut is None:
        return approx.find_multiplier(
            multiplier.name, weight_bits=weight_bits, activation_bits=activation_bits, activation_signed=False
        )
    return multiplier.adapted(
        weight_bits=weight_bits, activation_bits=activation_bits, weight_signed=True, activation_signed=False
    )


def _from_catalogue(name: str, *, bits: int, signed: bool) -> approx.Multiplier:
    return approx.find_multiplier(
        name, weight_bits=bits, activation_bits=bits, weight_signed=signed, activation_signed=signed
    )
