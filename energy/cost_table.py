"""Costs of multipliers relative to the exact multiplier, from tables of synthesised and simulated circuits.

The shipped table, `energy/multipliers.csv`, holds absolute figures of one cell library; only ratios leave this module:
of a multiplier to the exact one of the same widths, operands and form, and of the exact one to itself at 8 bits
(`energy.exact_multiplier`). `energy.gates` produces such tables, as described in
[multiplier-energy.md](../docs/multiplier-energy.md).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path

from energy.errors import WorkloadError

EXACT = "exact"
ARRAY = "exact-array"  # the exact product by one row of adders per bit, as in many publications
LAYER = "layer"
BUILT_WIDTHS = ((8, 8), (16, 16))  # weight and activation bits of circuits measured with narrower operands too
LANES_PER_BANK = 4  # multipliers that share one bank of pre-computers (Sarwar et al., DATE 2016)
SHIPPED_SOURCE = "gates: Yosys, OSU 180 nm cells (docs/multiplier-energy.md)"


def built_form(weight_bits: int, activation_bits: int) -> str:
    """Name the form of a multiplier of given widths that gets narrower operands, such as `8x8`."""
    return f"{weight_bits}x{activation_bits}"


_BUILT_FORMS = tuple(built_form(*widths) for widths in BUILT_WIDTHS)
FORMS = (LAYER, "unsigned", "signed", *_BUILT_FORMS)

CostKey = tuple[str, int, int]  # form, weight bits, activation bits


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """The absolute figures of one circuit, in the cell library's units: a row of a cost table.

    Attributes:
        name: The multiplier.
        form: `layer` (signed weight held as sign and magnitude, unsigned activation), `unsigned` or `signed` (both); or
            such as `8x8`, which is `layer` in a circuit built for 8-bit weights and 8-bit activations.
        weight_bits: Width of the weights, their sign included.
        activation_bits: Width of the activations.
        cells: Library cells of the multiplier itself.
        area_um2: Their area.
        energy_uniform_fj: Energy per product if all operands are equally likely.
        energy_recorded_fj: Energy per product for the operands of a trained network, both new for each product.
        energy_held_fj: The same while the weight stays. If it stays for u products, one of them costs this plus
            1 / u of the difference.
        shared_area_um2: Area of the circuit that `LANES_PER_BANK` multipliers share.
        shared_energy_uniform_fj: Energy per operation of the shared circuit, for uniform operands.
        shared_energy_recorded_fj: Energy per operation of the shared circuit, for recorded operands.
        shared_energy_held_fj: Energy per operation of the shared circuit while the weight stays.
    """

    name: str
    form: str
    weight_bits: int
    activation_bits: int
    cells: int
    area_um2: float
    energy_uniform_fj: float
    energy_recorded_fj: float
    energy_held_fj: float
    shared_area_um2: float
    shared_energy_uniform_fj: float
    shared_energy_recorded_fj: float
    shared_energy_held_fj: float

    @property
    def key(self) -> CostKey:
        """The form and widths under which the row is looked up."""
        return self.form, self.weight_bits, self.activation_bits


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiplierCost:
    """The cost of a multiplier divided by that of the exact one of the same widths, operands and form.

    Attributes:
        relative_energy: Energy per product for a trained network's operands, both new for each product, including the
            multiplier's share of a shared circuit.
        relative_energy_held: The same while the weight stays.
        relative_energy_uniform: The same if both operands are new for each product and all are equally likely.
        relative_area: Area, including the share of a shared circuit.
        source: Where the figures are from.
    """

    relative_energy: float
    relative_energy_held: float
    relative_energy_uniform: float
    relative_area: float
    source: str


_EXACT_COST = MultiplierCost(
    relative_energy=1.0,
    relative_energy_held=1.0,
    relative_energy_uniform=1.0,
    relative_area=1.0,
    source="by definition",
)


@dataclass(frozen=True, slots=True)
class CostTable:
    """Costs of multipliers: the exact one, those of the shipped table, and added ones.

    A value that can be passed to other processes: its pickle holds the added multipliers only.

    Attributes:
        added: Name of a multiplier -> its costs by form, weight bits and activation bits.

    Raises:
        WorkloadError: If an added multiplier has the name of a built-in one.

    Example:
        >>> CostTable().cost("exact", weight_bits=8, activation_bits=8).relative_energy
        1.0
    """

    added: Mapping[str, Mapping[CostKey, MultiplierCost]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.added:
            if name == EXACT or name in _shipped():
                raise WorkloadError(f"the cost of multiplier {name!r} is built in; choose another name")
        copied = {name: dict(costs) for name, costs in self.added.items()}  # nobody else can change it
        object.__setattr__(self, "added", copied)

    @property
    def names(self) -> list[str]:
        """Names of all multipliers whose cost is known, the added ones last."""
        return [EXACT, *_shipped(), *self.added]

    def including(self, name: str, costs: Mapping[CostKey, MultiplierCost]) -> CostTable:
        """Return a table that has another multiplier too, or new costs of an added one.

        Args:
            name: The multiplier.
            costs: Its cost for every form, weight width and activation width in which it can be used.

        Raises:
            WorkloadError: If a built-in multiplier has the name.
        """
        return CostTable({**self.added, name: costs})

    def cost(self, name: str, *, weight_bits: int, activation_bits: int, form: str = "layer") -> MultiplierCost:
        """Look up the cost of a multiplier.

        Args:
            name: One of `names`.
            weight_bits: Any width for `exact`; 2 to 8 for multipliers of the shipped table.
            activation_bits: The same range.
            form: `layer`, as networks use multipliers; one such as `8x8` for a circuit of given widths; or `unsigned`
                or `signed`, for both operands.

        Raises:
            WorkloadError: If no cost is known for the name, or none for these operands.
        """
        if name == EXACT:
            return _EXACT_COST
        costs = self.added.get(name)
        if costs is None:
            costs = _shipped().get(name)
        if costs is None:
            raise WorkloadError(_unknown(name, self.names))
        found = costs.get((form, weight_bits, activation_bits))
        if found is None:
            raise WorkloadError(_unknown_operands(name, (form, weight_bits, activation_bits), costs))
        return found


_known = CostTable()  # with what this process registered


def known_costs() -> CostTable:
    """Return the table used where none is given: the shipped one with the registered multipliers of this process."""
    return _known


def register_multiplier_cost(name: str, costs: Mapping[CostKey, MultiplierCost]) -> None:
    """Make the costs of a multiplier known in this process, or replace those registered before.

    A convenience for interactive use; programs pass a `CostTable` instead.

    Args:
        name: The multiplier.
        costs: Its cost for every form, weight width and activation width in which it can be used.

    Raises:
        WorkloadError: If a built-in multiplier has the name.
    """
    global _known
    _known = _known.including(name, costs)


def multiplier_cost(name: str, *, weight_bits: int, activation_bits: int, form: str = "layer") -> MultiplierCost:
    """Look up the cost of a built-in or registered multiplier; see `CostTable.cost`.

    Raises:
        WorkloadError: If no cost is known for the name, or none for these operands.
    """
    return _known.cost(name, weight_bits=weight_bits, activation_bits=activation_bits, form=form)


def relative_costs(
    rows: Iterable[CostRow], *, exact: Iterable[CostRow] | None = None, source: str
) -> dict[str, dict[CostKey, MultiplierCost]]:
    """Divide rows by those of the exact multiplier.

    Args:
        rows: Rows of any multipliers.
        exact: Rows of exact multipliers to divide by, of the name `EXACT`; those of the shipped table if None.
        source: The `MultiplierCost.source` of the results.

    Returns:
        Name -> cost by form, weight bits and activation bits.

    Raises:
        WorkloadError: If no exact multiplier has the form and widths of a row.
    """
    denominators = exact_rows() if exact is None else {row.key: row for row in exact if row.name == EXACT}
    found: dict[str, dict[CostKey, MultiplierCost]] = {}
    for row in rows:
        reference = denominators.get(row.key)
        if reference is None:
            raise WorkloadError(
                f"multiplier {row.name!r} is characterised as {_operands(row.key)}, but no exact multiplier is"
            )
        found.setdefault(row.name, {})[row.key] = MultiplierCost(
            relative_energy=_with_share(row.energy_recorded_fj, row.shared_energy_recorded_fj)
            / reference.energy_recorded_fj,
            relative_energy_held=_with_share(row.energy_held_fj, row.shared_energy_held_fj) / reference.energy_held_fj,
            relative_energy_uniform=_with_share(row.energy_uniform_fj, row.shared_energy_uniform_fj)
            / reference.energy_uniform_fj,
            relative_area=_with_share(row.area_um2, row.shared_area_um2) / reference.area_um2,
            source=source,
        )
    return found


def _with_share(own: float, shared: float) -> float:
    return own + shared / LANES_PER_BANK


def read_cost_table(path: Path) -> list[CostRow]:
    """Read the rows of a cost table.

    Raises:
        WorkloadError: If the file cannot be read or is not a cost table.
    """
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkloadError(f"cannot read multiplier costs from {path}: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError):
        raise WorkloadError(f"{path} is not a table of multiplier costs; delete it and characterise again") from None


def write_cost_table(path: Path, rows: Iterable[CostRow]) -> None:
    """Write a cost table, sorted so that the same rows give the same file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in sorted(
            rows, key=lambda row: (row.name, FORMS.index(row.form), row.weight_bits, row.activation_bits)
        ):
            values = (getattr(row, column) for column in _COLUMNS)
            writer.writerow([f"{value:.4f}" if isinstance(value, float) else value for value in values])


@cache
def exact_rows() -> dict[CostKey, CostRow]:
    """Return the rows of the exact multiplier by form, weight bits and activation bits."""
    return {row.key: row for row in shipped_rows() if row.name == EXACT}


@cache
def array_rows() -> dict[CostKey, CostRow]:
    """Return the rows of exact carry-save arrays, by form, weight bits and activation bits.

    Published ratios are often over an array, which takes more energy than the exact multiplier of this table.
    """
    rows = _parsed(files("energy").joinpath("exact_arrays.csv").read_text(encoding="utf-8"))
    return {row.key: row for row in rows}


@cache
def shipped_rows() -> tuple[CostRow, ...]:
    """Read the rows of the shipped table."""
    return tuple(_parsed(files("energy").joinpath("multipliers.csv").read_text(encoding="utf-8")))


_COLUMNS = tuple(field.name for field in fields(CostRow))
_FIGURES = _COLUMNS[_COLUMNS.index("area_um2") :]


@cache
def _shipped() -> dict[str, dict[CostKey, MultiplierCost]]:
    costs = relative_costs(shipped_rows(), source=SHIPPED_SOURCE)
    costs.pop(EXACT, None)
    return costs


def _parsed(text: str) -> list[CostRow]:
    rows = []
    for record in csv.DictReader(text.splitlines()):
        if record["form"] not in FORMS:
            raise ValueError(record["form"])
        figures = {column: float(record[column]) for column in _FIGURES}
        rows.append(
            CostRow(
                name=record["name"],
                form=record["form"],
                weight_bits=int(record["weight_bits"]),
                activation_bits=int(record["activation_bits"]),
                cells=int(record["cells"]),
                **figures,
            )
        )
    return rows


def _unknown(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return (
        f"no energy is known for multiplier {name!r}; {hint}known multipliers are {', '.join(known)}; "
        f"if it is a member of the catalogue, {how_to_know_costs(name, imported=False)}; if it is imported, "
        f"{how_to_know_costs(name, imported=True)}"
    )


def how_to_know_costs(name: str, *, imported: bool) -> str:
    """Say how the costs of a multiplier become known: from its circuit, or as published.

    Args:
        name: The multiplier.
        imported: Whether it is imported, and so has no circuit here.
    """
    if not imported:
        return f"characterise it with: search multipliers characterise {name}"
    return (
        f"measure the circuit with: search multipliers characterise FILE.v --name {name}, or give a published ratio "
        f"with: search multipliers import FILE --name {name} --energy RATIO"
    )


def _unknown_operands(name: str, asked: CostKey, costs: Mapping[CostKey, MultiplierCost]) -> str:
    if asked[0] not in FORMS:
        return f"form must be one of {', '.join(FORMS)}, got {asked[0]!r}"
    widths = [key[1:] for key in costs if key[0] == asked[0]]
    if not widths and asked[0] in _BUILT_FORMS:
        return f"no energy is known for multiplier {name!r} in an array built for {asked[0].replace('x', ' x ')} bits"
    if not widths:
        return f"no energy is known for multiplier {name!r} in the form {asked[0]!r}, only as {_listed(costs)}"
    most_weight, most_activation = (max(bits) for bits in zip(*widths, strict=True))
    return (
        f"no energy is known for multiplier {name!r} as {_operands(asked)}; "
        f"the widest known are {most_weight}-bit weights and {most_activation}-bit activations"
    )


def _listed(costs: Mapping[CostKey, MultiplierCost]) -> str:
    return ", ".join(form for form in FORMS if any(key[0] == form for key in costs)) or "nothing"


def _operands(key: CostKey) -> str:
    form, weight_bits, activation_bits = key
    return f"{form}, {weight_bits}-bit weights x {activation_bits}-bit activations"
