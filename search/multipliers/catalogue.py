"""The listing of multipliers: built-in and imported ones, with their errors and costs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

import approx
import energy
from approx import Figure
from approx.multipliers.catalog import check_name
from energy.cost_table import MultiplierCost
from search.errors import UsageError
from search.multipliers.folder import MultiplierFolder, stated

_MIN_BITS, _LISTED_BITS = 2, 8
_LARGEST_RATIO = 100


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


def import_file(
    file: Path,
    *,
    name: str | None = None,
    table: str | None = None,
    signed: bool | None = None,
    bits: tuple[int, int] | None = None,
    energy: float | None = None,
    area: float | None = None,
    overwrite: bool = False,
) -> list[approx.Multiplier]:
    """Import multipliers from a file into the user's folder, with costs if they are given or published in the file.

    Args:
        file: The file; see `approx.import_multipliers`.
        name: Name of the multiplier; without `table`, also which of several in the file.
        table: Which of several tables or functions in the file.
        signed: Whether operands are signed; None for what the file says.
        bits: Widths of activation and weight; None for what the file says.
        energy: Energy over that of an exact multiplier of the same widths and sign.
        area: Area over that of the same; that of the exact one if only `energy` is given.
        overwrite: Whether to replace a multiplier of the same name that computes something else.

    Raises:
        approx.ApproxError: If the file or a table in it cannot be used, or a name is taken.
        UsageError: If the costs fit no multiplier in the file.
        StorageError: If they cannot be stored.
    """
    for option, ratio in (("energy", energy), ("area", area)):
        if ratio is not None and not (math.isfinite(ratio) and 0 < ratio <= _LARGEST_RATIO):
            raise UsageError(
                f"`{option}` is a ratio over an exact multiplier of the same widths, above 0 and at most "
                f"{_LARGEST_RATIO}; got {ratio:g}"
            )
    if area is not None and energy is None:
        raise UsageError("`area` needs `energy`, without which a search cannot use the multiplier")
    found = approx.import_multipliers(file, name=name, table=table, signed=signed, bits=bits)
    if energy is not None and len(found) > 1:
        names = ", ".join(one.name for one in found[:3])
        raise UsageError(
            f"{file} has {len(found)} multipliers ({names}, ...), and `energy` is that of one; choose it with `name`"
        )
    folder = MultiplierFolder.default()
    if energy is not None:
        given = "as given when it was imported"
        size = None if area is None else Figure(area, given)
        found = [replace(one, relative_energy=Figure(energy, given), relative_area=size) for one in found]
    for multiplier in found:  # before any is kept
        _check_room(multiplier, folder, overwrite)
    for multiplier in found:
        _make_room(multiplier, folder)
        folder.add(multiplier)
        figure, size = multiplier.relative_energy, multiplier.relative_area
        measured = multiplier.name in folder.costs().added
        if figure is not None and figure.value > 0 and (energy is not None or not measured):
            ratio = 1.0 if size is None else size.value
            folder.keep_claim(
                multiplier.name,
                stated(multiplier, relative_energy=figure.value, relative_area=ratio, source=figure.source),
            )
    return found


def _check_room(multiplier: approx.Multiplier, folder: MultiplierFolder, overwrite: bool) -> None:
    """Check that a multiplier can be kept under its name.

    Raises:
        UsageError: If the name is not allowed, or that of another multiplier which is not to be overwritten.
    """
    try:
        check_name(multiplier.name)
    except approx.ArgumentError as error:
        raise UsageError(
            f"{str(error).removesuffix('; choose another `name`')}; choose another `name`, and with `table` which of "
            "several it is for"
        ) from None
    if _others(multiplier, folder) and not overwrite:
        raise UsageError(
            f"{folder.path} has another multiplier named {multiplier.name!r}; choose another `name`, or replace it "
            "with `overwrite`"
        )


def _make_room(multiplier: approx.Multiplier, folder: MultiplierFolder) -> None:
    """Remove another multiplier of the same name, with its costs."""
    if _others(multiplier, folder):
        folder.forget_costs(multiplier.name)  # first, so that a new table never has the old one's costs
        folder.remove(multiplier.name)


def _others(multiplier: approx.Multiplier, folder: MultiplierFolder) -> list[approx.Multiplier]:
    known = folder.multipliers(on_damage=lambda _: None)
    return [one for one in known if one.name == multiplier.name and one.digest != multiplier.digest]


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
    own = (multiplier.weight_bits, multiplier.activation_bits)
    # In a layer an unsigned circuit takes the magnitudes of wider weights; a signed one no sign of activations.
    in_layers = (own[0] + (not multiplier.weight_signed), own[1] - multiplier.activation_signed)
    if multiplier.weight_signed and multiplier.activation_signed:
        operand_form = "signed"
    else:
        operand_form = "layer" if multiplier.weight_signed else "unsigned"
    found: dict[str, MultiplierCost] = {}
    for form, widths in (("layer", own), ("layer", in_layers), (operand_form, own)):
        # Not every multiplier is characterised, and none is in every form and width. The last one found is the wider.
        with suppress(energy.WorkloadError):
            found[form] = costs.cost(multiplier.name, weight_bits=widths[0], activation_bits=widths[1], form=form)
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
