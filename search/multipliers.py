"""Multipliers by name for people: the catalogue's and the imported ones, with their errors and their energy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

import approx
import energy
from search.errors import UsageError
from search.locations import multiplier_dir


@dataclass(frozen=True, slots=True)
class Described:
    """A multiplier and what is known of it.

    Attributes:
        multiplier: It.
        metrics: Its errors over all operand pairs.
        relative_energy: Over the exact multiplier's of the same widths; None if unknown.
        energy_source: Where that is from; empty if unknown.
        method: How layers compute with it here.
    """

    multiplier: approx.Multiplier
    metrics: approx.ErrorMetrics
    relative_energy: float | None
    energy_source: str
    method: str


def listed() -> list[approx.Multiplier]:
    """The catalogue at 8 bits, unsigned, and the imported ones as they were imported."""
    catalogue = [_from_catalogue(name, bits=8, signed=False) for name in approx.multiplier_names()]
    return [*catalogue, *_imported()]


def find(name: str, *, bits: int, signed: bool) -> approx.Multiplier:
    """A multiplier of the catalogue or an imported one.

    Args:
        name: Its name.
        bits: Width of both operands; an imported one keeps its own unless this is narrower.
        signed: Whether operands are signed; an imported signed one stays so.

    Raises:
        UsageError: If there is no such name.
        approx.ApproxError: If it cannot have such operands.
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
        own = f"; imported: {', '.join(near)}" if near else ""
        raise UsageError(f"{error}{own}") from None


def import_file(file: Path, *, name: str | None, signed: bool) -> list[approx.Multiplier]:
    """Import multipliers from a file, and keep them.

    Raises:
        approx.ApproxError: If the file or a table in it cannot be used, or a name is taken.
    """
    found = approx.import_multipliers(file, name=name, signed=signed)
    library = approx.MultiplierLibrary(multiplier_dir())
    for multiplier in found:
        library.add(multiplier)
    return found


def describe(multiplier: approx.Multiplier) -> Described:
    """Everything that is known of a multiplier."""
    figure = multiplier.relative_energy
    value, source = (None, "") if figure is None else (figure.value, figure.source)
    entry = energy.multiplier_energies().get(multiplier.name)
    if entry is not None:
        value = energy.relative_multiplier_energy(
            multiplier.name, weight_bits=multiplier.weight_bits, activation_bits=multiplier.activation_bits
        )
        source = f"{entry['source']}, {entry['year']}"
    return Described(
        multiplier, approx.error_metrics(multiplier), value, source, approx.method(_in_a_layer(multiplier))
    )


def as_json(described: Described) -> dict[str, Any]:
    """The same as values that JSON has."""
    multiplier = described.multiplier
    area = multiplier.relative_area
    return {
        "name": multiplier.name,
        "weight_bits": multiplier.weight_bits,
        "activation_bits": multiplier.activation_bits,
        "weight_signed": multiplier.weight_signed,
        "activation_signed": multiplier.activation_signed,
        "provenance": multiplier.provenance,
        "sha256": multiplier.digest,
        "errors": asdict(described.metrics),
        "relative_energy": described.relative_energy,
        "relative_energy_source": described.energy_source or None,
        "relative_area": None if area is None else area.value,
        "relative_area_source": None if area is None else area.source,
        "method": described.method,
    }


def doubt(multiplier: approx.Multiplier) -> str | None:
    """What looks as if it had been imported with the wrong sign; None if nothing does."""
    if multiplier.weight_signed or not bool((multiplier.table() < 0).any()):
        return None
    return f"{multiplier.name} has negative products of unsigned operands; if they are signed, import it with --signed"


def _imported() -> list[approx.Multiplier]:
    def warn(error: approx.ImportFileError) -> None:
        click.echo(f"search: {error}", err=True)

    return approx.MultiplierLibrary(multiplier_dir()).multipliers(on_damage=warn)


def _in_a_layer(multiplier: approx.Multiplier) -> approx.Multiplier:
    """As layers use it: with signed weights."""
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
