"""Multipliers as circuits: what the emulator computes, proved of gates and measured on them.

`approx` says what a multiplier computes, `energy.gates` builds and measures it; they meet here only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import approx
from approx.multipliers.catalog import check_name
from energy import WorkloadError, gates
from energy.cost_table import (
    EXACT,
    CostKey,
    CostRow,
    CostTable,
    MultiplierCost,
    relative_costs,
    shipped_rows,
)
from search.errors import UsageError
from search.multipliers.folder import MultiplierFolder

MIN_BITS, MAX_BITS = 2, 8
_UNLISTED = ("asm-1-3-5",)  # of the catalogue; listings leave it out, the table does not
VHDL_SUFFIXES = (".vhd", ".vhdl")
_MAX_FILE_BYTES = 1_000_000

# Every width that a search may choose, in the form in which networks multiply; and what publications state.
SHIPPED_KEYS: tuple[CostKey, ...] = (
    *(
        ("layer", weight_bits, activation_bits)
        for weight_bits in range(MIN_BITS, MAX_BITS + 1)
        for activation_bits in range(MIN_BITS, MAX_BITS + 1)
    ),
    ("unsigned", 8, 8),
    ("signed", 8, 8),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenCircuit:
    """What was taken from a person's file.

    Attributes:
        file: The file's name.
        module: Its module.
        activation_port: The input for the activation.
        activation_bits: Its width.
        weight_port: The input for the weight.
        weight_bits: Its width.
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
        """How layers use all of it; their activations are unsigned, and do not reach the highest bit of signed ones."""
        return "layer", self.weight_bits, self.activation_bits - self.signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A multiplier of the catalogue that computes the same.

    Attributes:
        name: Its name.
        relative_energy: What it takes in layers, over the exact multiplier.
    """

    name: str
    relative_energy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Characterised:
    """What was found of one multiplier.

    Attributes:
        name: Its name.
        rows: Its figures for every form and width that it has.
        relative: The same, relative to the exact multiplier.
        kept_in: The table to which they were added; None if they come with the package.
        doubt: What sets these figures apart from the exact multiplier's that come with the package; empty if nothing.
        circuit: What was taken from a person's file; None for a name of the catalogue.
        twin: The cheapest of the catalogue that computes the same as the circuit; None if none does.
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
        """Rows for people: as wide as a person's circuit is, then two narrower ones; of a name all equal widths."""
        if self.circuit is None:
            return [row for row in self.rows if row.weight_bits == row.activation_bits]
        natural = self.circuit.natural
        narrower = [("layer", bits, bits) for bits in range(min(natural[1:]), MIN_BITS - 1, -1) if bits % 2 == 0]
        widths = [natural, *[key for key in narrower if key != natural][:2]]
        found = {row.key: row for row in self.rows}
        own = [row for row in self.rows if row.form != "layer"]
        return [*own, *(found[key] for key in widths if key in found)]


def catalogue_names() -> list[str]:
    """The multipliers of the shipped table."""
    return [*(name for name in approx.multiplier_names() if _is_of_the_catalogue(name)), *_UNLISTED]


def expected(name: str, key: CostKey) -> gates.Expected:
    """What the emulator says that a multiplier of the catalogue computes.

    Raises:
        approx.ApproxError: If there is no such name, or it cannot have such operands.
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
    keys: Sequence[CostKey] = SHIPPED_KEYS,
    *,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> list[CostRow]:
    """Rows for multipliers of the catalogue, proved, on all processors.

    Args:
        tools: What is installed.
        names: Multipliers.
        keys: Forms and widths; those that a multiplier cannot have are left out.
        on_row: Is told how many rows are done, of how many.

    Raises:
        approx.ApproxError: If a name is unknown.
        energy.EnergyError: If a proof or a tool fails.
    """
    wanted = [(name, found) for name in names for key in keys if (found := _expected_or_none(name, key)) is not None]
    rows = []
    # Threads will do: half of the time is Yosys's and Icarus Verilog's, and numpy gives up the lock for the rest.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        try:
            for row in pool.map(lambda pair: gates.characterise(tools, *pair), wanted):
                rows.append(row)
                on_row(len(rows), len(wanted))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # or Ctrl-C would wait for all that are still to come
            raise
    return rows


def characterise_name(name: str, *, on_row: Callable[[int, int], None]) -> Characterised:
    """Characterise a multiplier of the catalogue, and keep what is not shipped.

    Raises:
        approx.ApproxError: If there is no such name.
        energy.EnergyError: If a proof or a tool fails.
        StorageError: If the costs cannot be kept.
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
    """Take a multiplier from a Verilog file, keep it, and keep what it costs.

    Args:
        file: Verilog.
        name: What to call it; the file's name if None.
        signed: Whether operands and product are two's complement.
        top: The module; found if None.
        weight_port: The input for the weight; the second one if None.
        overwrite: Whether to replace a multiplier that is kept under the name.
        on_row: Is told how many rows are done, of how many.

    Raises:
        UsageError: If the file cannot be read, or a multiplier of the name is kept and is not to be replaced.
        approx.ApproxError: If the name is the catalogue's, or cannot be one.
        energy.EnergyError: If it is no multiplier, or a tool fails.
        StorageError: If the costs cannot be kept.
    """
    name = name or file.stem
    check_name(name)
    text = _read(file)
    folder = MultiplierFolder.default()
    # Before any work, for it takes half a minute; so also if the circuit turned out to compute what is kept.
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
    key = next(iter(relative))  # its own form if that has a row, else the narrowest
    own = relative[key] if key[0] != "layer" else None
    multiplier = approx.Multiplier(
        name=name,
        weight_bits=found.weight_bits,
        activation_bits=found.activation_bits,
        weight_signed=signed,
        activation_signed=signed,
        lut=torch.from_numpy(np.ascontiguousarray(found.table)),
        provenance=f"characterised from {file.name}",
        relative_energy=None if own is None else approx.Figure(own.relative_energy, own.source),
        relative_area=None if own is None else approx.Figure(own.relative_area, own.source),
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
        folder.forget_costs(name)  # first, so that a new circuit never has the old one's
        folder.remove(name)
    folder.add(multiplier)
    return replace(_kept(name, rows), circuit=circuit, twin=twin)


def as_json(found: Characterised) -> dict[str, Any]:
    """The same as values that JSON has."""
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
    """The cheapest multiplier of the catalogue that has the same products for the same operands."""
    _, weight_bits, activation_bits = natural
    twins = []
    for name in catalogue_names():
        # Not every one can have such operands, or is characterised for them.
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
    """How the tools here differ from those by which the shipped table was made; empty if they do not."""
    provenance = yaml.safe_load(files("energy").joinpath("multipliers.provenance.yaml").read_text(encoding="utf-8"))
    here, there = gates.tool_versions(gates.find_tools()), provenance["tools"]
    others = [f"{here[tool]} here, {there.get(tool)} there" for tool in here if here[tool] != there.get(tool)]
    if not others:
        return ""
    return f"the exact multiplier beside it was made with other tools ({'; '.join(others)}), so ratios are less sure"


def _source() -> str:
    versions = gates.tool_versions(gates.find_tools())
    return f"gates: {versions['yosys']}, {versions['cell_library']}"


def _expected_or_none(name: str, key: CostKey) -> gates.Expected | None:
    try:
        return expected(name, key)
    except approx.UnknownNameError:
        raise
    except approx.ArgumentError:
        return None  # such as static segments of less than half of an operand


def _is_of_the_catalogue(name: str) -> bool:
    """Whether no multiplier of a person's can have the name."""
    try:
        check_name(name)
    except approx.ArgumentError:
        return True
    return False


def _read(file: Path) -> str:
    if file.suffix.lower() in VHDL_SUFFIXES:
        raise UsageError(f"{file}: VHDL is not read; convert it to Verilog, for example with ghdl synth --out=verilog")
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise UsageError(f"{file} has more than {_MAX_FILE_BYTES} bytes; a multiplier has far fewer")
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{file} is no text") from None
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from None
