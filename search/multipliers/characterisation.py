"""Characterisation of multipliers as circuits: proved to compute what the emulator does, and measured.

`approx` defines what a multiplier computes; `energy.gates` builds and measures it. Only this module combines them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import approx
from approx.multipliers.catalog import check_name
from energy import WorkloadError, gates
from energy.cost_table import (
    BUILT_WIDTHS,
    EXACT,
    LAYER,
    CostKey,
    CostRow,
    CostTable,
    MultiplierCost,
    built_form,
    relative_costs,
    shipped_rows,
)
from search.errors import UsageError
from search.multipliers.folder import MultiplierFolder

MIN_BITS, MAX_BITS = 2, 8
_UNLISTED = ("asm-1-3-5",)  # of the catalogue; in the table, but not in listings
VHDL_SUFFIXES = (".vhd", ".vhdl")
_MAX_FILE_BYTES = 1_000_000

_SEARCHED = tuple(product(range(MIN_BITS, MAX_BITS + 1), repeat=2))  # all widths that a search may choose
_WIDER = (12, 16)  # of exact multipliers, for partial sums, other models and published figures
_EXACT_WIDTHS = tuple(product((*range(MIN_BITS, MAX_BITS + 1), *_WIDER), repeat=2))

# The form in which networks multiply, in circuits of exactly these widths; and those of published figures.
SHIPPED_KEYS: tuple[CostKey, ...] = (*((LAYER, w, a) for w, a in _SEARCHED), ("unsigned", 8, 8), ("signed", 8, 8))
# Of the exact multiplier there are more.
_EXACT_KEYS = (*SHIPPED_KEYS, *((LAYER, w, a) for w, a in _EXACT_WIDTHS if (w, a) not in _SEARCHED))


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenCircuit:
    """A circuit that was read from a user's file.

    Attributes:
        file: Name of the file.
        module: Name of the module.
        activation_port: Name of the input for the activation.
        activation_bits: Width of that input.
        weight_port: Name of the input for the weight.
        weight_bits: Width of that input.
        signed: Whether operands and product are two's complement.
    """

    file: str
    module: str
    activation_port: str
    activation_bits: int
    weight_port: str
    weight_bits: int
    signed: bool

    @property
    def natural(self) -> CostKey:
        """The widest form in which layers use it; unsigned activations leave the sign bit of a signed input unused."""
        return "layer", self.weight_bits, self.activation_bits - self.signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A multiplier of the catalogue that computes the same products.

    Attributes:
        name: Its name.
        relative_energy: Its energy in layers, relative to the exact multiplier.
    """

    name: str
    relative_energy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Characterised:
    """A characterised multiplier.

    Attributes:
        name: Name of the multiplier.
        rows: Its costs for every form and width that it supports.
        relative: The costs relative to the exact multiplier.
        kept_in: Table to which the costs were added; None if they are built in.
        doubt: Why the costs are less comparable with the built-in ones of the exact multiplier; empty if they are not.
        circuit: The circuit from a user's file; None for a name of the catalogue.
        twin: The cheapest multiplier of the catalogue with the same products as the circuit; None if there is none.
    """

    name: str
    rows: tuple[CostRow, ...]
    relative: dict[CostKey, MultiplierCost]
    kept_in: Path | None
    doubt: str
    circuit: TakenCircuit | None = None
    twin: Twin | None = None

    @property
    def shown(self) -> list[CostRow]:
        """The rows to print: for a circuit its full width and two narrower ones, for a name all equal widths."""
        if self.circuit is None:
            built = {built_form(*widths) for widths in BUILT_WIDTHS}
            return [row for row in self.rows if row.weight_bits == row.activation_bits and row.form not in built]
        natural = self.circuit.natural
        narrower = [("layer", bits, bits) for bits in range(min(natural[1:]), MIN_BITS - 1, -1) if bits % 2 == 0]
        widths = [natural, *[key for key in narrower if key != natural][:2]]
        found = {row.key: row for row in self.rows}
        others = [row for row in self.rows if row.form in ("unsigned", "signed")]
        return [*others, *(found[key] for key in widths if key in found)]


def catalogue_names() -> list[str]:
    """Return the multipliers of the built-in table."""
    return [*(name for name in approx.multiplier_names() if _is_in_catalogue(name)), *_UNLISTED]


def expected(name: str, key: CostKey) -> gates.Expected:
    """Return what a multiplier of the catalogue computes in the emulator.

    Raises:
        approx.ApproxError: If there is no such name, or it does not support such operands.
    """
    form, weight_bits, activation_bits = key
    multiplier = approx.find_multiplier(
        name,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        activation_signed=form == "signed",
        weight_signed=form != "unsigned",
    )
    held = multiplier.constrain(multiplier.weight_values).numpy() if multiplier.constrains_weights else None
    return gates.Expected(
        form=form,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        table=multiplier.table().numpy(),
        held_weights=held,
    )


def characterise_rows(
    tools: gates.Tools,
    names: Iterable[str],
    keys: Collection[CostKey] | None = None,
    *,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> list[CostRow]:
    """Return proved rows for multipliers of the catalogue, computed on all processors.

    Args:
        tools: The installed tools.
        names: Names of multipliers.
        keys: Forms and widths, by default all of the built-in table; those that a multiplier does not support are left
            out.
        on_row: Called with the number of finished rows and their total.

    Raises:
        approx.ApproxError: If a name is unknown.
        energy.EnergyError: If a proof or a tool fails.
    """
    tasks = [task for name in names for task in _tasks(tools, name, keys)]
    total = sum(count for count, _ in tasks)
    rows: list[CostRow] = []
    # Threads suffice: Yosys and Icarus Verilog take half of the time, and numpy releases the GIL for the rest.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        try:
            for found in pool.map(lambda task: task[1](), tasks):
                rows.extend(found)
                on_row(len(rows), total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # or Ctrl-C would wait for all remaining rows
            raise
    return rows


def _tasks(
    tools: gates.Tools, name: str, keys: Collection[CostKey] | None
) -> list[tuple[int, Callable[[], list[CostRow]]]]:
    """Return the work of characterising a multiplier: circuits, each with the number of its rows."""
    tasks: list[tuple[int, Callable[[], list[CostRow]]]] = []
    for key in _EXACT_KEYS if name == EXACT else SHIPPED_KEYS:
        wanted = _expected_or_none(name, key) if keys is None or key in keys else None
        if wanted is not None:
            tasks.append((1, partial(_row, tools, name, wanted)))
    for weight_bits, activation_bits in BUILT_WIDTHS:
        form = built_form(weight_bits, activation_bits)
        known = _SEARCHED if weight_bits <= MAX_BITS else _EXACT_WIDTHS
        narrower = [_stored(name, *bits) for bits in known if keys is None or (form, *bits) in keys]
        built = _expected_or_none(name, (LAYER, weight_bits, activation_bits)) if narrower else None
        if built is not None:
            tasks.append((len(narrower), partial(_built_rows, tools, name, built, narrower)))
    return tasks


def _row(tools: gates.Tools, name: str, wanted: gates.Function) -> list[CostRow]:
    return [gates.characterise(tools, name, wanted)]


def _built_rows(
    tools: gates.Tools, name: str, built: gates.Function, narrower: Sequence[gates.Function]
) -> list[CostRow]:
    return list(gates.characterise_built(tools, name, built, narrower))


def _stored(name: str, weight_bits: int, activation_bits: int) -> gates.Function:
    """Return operands in a wider circuit; of a multiplier that constrains its weights, those that can be stored."""
    wanted = None if name == EXACT else _expected_or_none(name, (LAYER, weight_bits, activation_bits))
    if isinstance(wanted, gates.Expected) and wanted.held_weights is not None:
        return wanted
    return gates.ExactInLayers(weight_bits=weight_bits, activation_bits=activation_bits)


def characterise_name(name: str, *, on_row: Callable[[int, int], None]) -> Characterised:
    """Characterise a multiplier of the catalogue, and store its costs unless they are built in.

    Raises:
        approx.ApproxError: If there is no such name.
        energy.EnergyError: If a proof or a tool fails.
        StorageError: If the costs cannot be stored.
    """
    tools = gates.find_tools()
    rows = characterise_rows(tools, [name], on_row=on_row)
    return _kept(name, rows)


def characterise_file(
    file: Path,
    *,
    name: str | None,
    signed: bool,
    top: str | None,
    weight_port: str | None,
    overwrite: bool,
    on_row: Callable[[int, int], None],
) -> Characterised:
    """Import a multiplier from a Verilog file, characterise it and store its costs.

    Args:
        file: The Verilog file.
        name: Name of the multiplier; None for the file's.
        signed: Whether operands and product are two's complement.
        top: Name of the top module; None to find it.
        weight_port: Name of the input for the weight; None for the second one.
        overwrite: Whether to replace an imported multiplier of that name.
        on_row: Called with the number of finished rows and their total.

    Raises:
        UsageError: If the file cannot be read, or the name is taken and `overwrite` is false.
        approx.ApproxError: If the name is invalid, or that of a built-in multiplier.
        energy.EnergyError: If the circuit is not a multiplier, or a tool fails.
        StorageError: If the costs cannot be stored.
    """
    name = name or file.stem
    check_name(name)
    text = _read(file)
    folder = MultiplierFolder.default()
    # Checked first, because the work takes half a minute; so even if the circuit would compute the same products.
    if not overwrite and any(known.name == name for known in folder.multipliers(on_damage=lambda _: None)):
        raise UsageError(
            f"{folder.path} already has a multiplier named {name!r}; replace it with `overwrite`, "
            "or choose another name with `name`"
        )
    tools = gates.find_tools()
    found = gates.read_user_verilog(tools, text, name=name, signed=signed, top=top, weight_port=weight_port)
    total = gates.user_row_count(found)
    rows = []
    for row in gates.characterise_user(tools, found):
        rows.append(row)
        on_row(len(rows), total)
    relative = relative_costs(rows, source=_source())[name]
    key = next(iter(relative))  # the form of its operands if that has a row, else the narrowest
    cost = relative[key] if key[0] != "layer" else None
    multiplier = approx.Multiplier(
        name=name,
        weight_bits=found.weight_bits,
        activation_bits=found.activation_bits,
        weight_signed=signed,
        activation_signed=signed,
        lut=torch.from_numpy(np.ascontiguousarray(found.table)),
        provenance=f"characterised from {file.name}",
        relative_energy=None if cost is None else approx.Figure(cost.relative_energy, cost.source),
        relative_area=None if cost is None else approx.Figure(cost.relative_area, cost.source),
    )
    circuit = TakenCircuit(
        file=file.name,
        module=found.module,
        activation_port=found.activation_port,
        activation_bits=found.activation_bits,
        weight_port=found.weight_port,
        weight_bits=found.weight_bits,
        signed=signed,
    )
    twin = _twin(multiplier, circuit.natural)
    if overwrite:
        folder.forget_costs(name)  # first, so that a new circuit never has the old one's costs
        folder.remove(name)
    folder.add(multiplier)
    return replace(_kept(name, rows), circuit=circuit, twin=twin)


def as_json(found: Characterised) -> dict[str, Any]:
    """Return a characterised multiplier as a JSON object."""
    return {
        "name": found.name,
        "kept_in": None if found.kept_in is None else str(found.kept_in),
        "doubt": found.doubt or None,
        "circuit": None if found.circuit is None else asdict(found.circuit),
        "same_products_as": None if found.twin is None else asdict(found.twin),
        "costs": [{**asdict(row), "relative": asdict(found.relative[row.key])} for row in found.rows],
    }


def _kept(name: str, rows: Sequence[CostRow]) -> Characterised:
    shipped = name == EXACT or any(row.name == name for row in shipped_rows())
    if not shipped:
        MultiplierFolder.default().keep_costs(rows)
    return Characterised(
        name=name,
        rows=tuple(rows),
        relative=relative_costs(rows, source=_source())[name],
        kept_in=None if shipped else MultiplierFolder.default().cost_file,
        doubt=_other_tools(),
    )


def _twin(multiplier: approx.Multiplier, natural: CostKey) -> Twin | None:
    """Return the cheapest multiplier of the catalogue with the same truth table."""
    _, weight_bits, activation_bits = natural
    twins = []
    for name in catalogue_names():
        # Not all support such operands, or are characterised for them.
        with suppress(approx.ArgumentError, WorkloadError):
            member = approx.find_multiplier(
                name,
                weight_bits=multiplier.weight_bits,
                activation_bits=multiplier.activation_bits,
                weight_signed=multiplier.weight_signed,
                activation_signed=multiplier.activation_signed,
            )
            if torch.equal(member.table(), multiplier.table()):
                cost = CostTable().cost(name, weight_bits=weight_bits, activation_bits=activation_bits)
                twins.append(Twin(name=name, relative_energy=cost.relative_energy))
    return min(twins, key=lambda twin: twin.relative_energy, default=None)


def _other_tools() -> str:
    """Return how the installed tools differ from those that made the built-in table; empty if they do not."""
    provenance = yaml.safe_load(files("energy").joinpath("multipliers.provenance.yaml").read_text(encoding="utf-8"))
    here, there = gates.tool_versions(gates.find_tools()), provenance["tools"]
    others = [f"{here[tool]} here, {there.get(tool)} there" for tool in here if here[tool] != there.get(tool)]
    if not others:
        return ""
    return f"the exact multiplier was characterised with other tools ({'; '.join(others)}), so ratios are less certain"


def _source() -> str:
    versions = gates.tool_versions(gates.find_tools())
    return f"gates: {versions['yosys']}, {versions['cell_library']}"


def _expected_or_none(name: str, key: CostKey) -> gates.Function | None:
    _, weight_bits, activation_bits = key
    if max(weight_bits, activation_bits) > MAX_BITS:  # too many products for a table
        wide = gates.ExactInLayers(weight_bits=weight_bits, activation_bits=activation_bits)
        return wide if name == EXACT else None
    try:
        return expected(name, key)
    except approx.UnknownNameError:
        raise
    except approx.ArgumentError:
        return None  # such as static segments of less than half of an operand


def _is_in_catalogue(name: str) -> bool:
    """Whether the name is reserved for the catalogue, so that no custom multiplier can have it."""
    try:
        check_name(name)
    except approx.ArgumentError:
        return True
    return False


def _read(file: Path) -> str:
    if file.suffix.lower() in VHDL_SUFFIXES:
        raise UsageError(
            f"{file}: VHDL is not supported; convert it to Verilog, for example with ghdl synth --out=verilog"
        )
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise UsageError(f"{file} has more than {_MAX_FILE_BYTES} bytes; a multiplier has far fewer")
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not a text file") from None
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from None
