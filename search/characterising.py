"""Multipliers as circuits: what the emulator computes, proved of gates and measured on them.

`approx` says what a multiplier computes, `energy.gates` builds and measures it; they meet here only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import approx
from approx.catalog import check_name
from energy import gates
from energy.gates import simulation, stimulus
from energy.multiplier_cost import (
    EXACT,
    LANES_PER_BANK,
    CostKey,
    CostRow,
    MultiplierCost,
    relative_costs,
    shipped_rows,
    write_cost_table,
)
from search.errors import StorageError, UsageError
from search.locations import multiplier_cost_file, multiplier_dir
from search.multiplier_costs import keep_costs

MIN_BITS, MAX_BITS = 2, 8
_UNLISTED = ("asm-1-3-5",)  # of the catalogue; listings leave it out, the table does not
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
class Characterised:
    """What was found of one multiplier.

    Attributes:
        name: Its name.
        rows: Its figures for every form and width that it has.
        relative: The same, relative to the exact multiplier.
        kept_in: The table to which they were added; None if they come with the package.
        doubt: What sets these figures apart from the exact multiplier's that come with the package; empty if nothing.
    """

    name: str
    rows: tuple[CostRow, ...]
    relative: dict[CostKey, MultiplierCost]
    kept_in: Path | None
    doubt: str


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
        for row in pool.map(lambda pair: gates.characterise(tools, *pair), wanted):
            rows.append(row)
            on_row(len(rows), len(wanted))
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
    on_row: Callable[[int, int], None],
) -> Characterised:
    """Take a multiplier from a Verilog file, keep it, and keep what it costs.

    Args:
        file: Verilog.
        name: What to call it; the file's name if None.
        signed: Whether operands and product are two's complement.
        top: The module; found if None.
        weight_port: The input for the weight; the second one if None.
        on_row: Is told how many rows are done, of how many.

    Raises:
        UsageError: If the file cannot be read.
        approx.ApproxError: If the name is taken.
        energy.EnergyError: If it is no multiplier, or a tool fails.
        StorageError: If the costs cannot be kept.
    """
    name = name or file.stem
    check_name(name)
    tools = gates.find_tools()
    found = gates.read_user_verilog(tools, _read(file), name=name, signed=signed, top=top, weight_port=weight_port)
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
    approx.MultiplierLibrary(multiplier_dir()).add(multiplier)
    return _kept(name, rows)


def characterise_all(folder: Path, *, on_row: Callable[[int, int], None]) -> list[Path]:
    """Make the table that comes with the package again, and its provenance; says where they are.

    Raises:
        energy.EnergyError: If a proof or a tool fails.
        StorageError: If they cannot be written.
    """
    tools = gates.find_tools()
    rows = characterise_rows(tools, catalogue_names(), on_row=on_row)
    return write_shipped_table(tools, folder, rows)


def write_shipped_table(tools: gates.Tools, folder: Path, rows: Sequence[CostRow]) -> list[Path]:
    """Write the table that comes with the package, and its provenance.

    Raises:
        StorageError: If they cannot be written.
    """
    table, provenance = folder / "multipliers.csv", folder / "multipliers.provenance.yaml"
    content = yaml.safe_dump(described_provenance(tools, rows), sort_keys=False, width=118)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_cost_table(table, rows)
        provenance.write_text(content, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from None
    return [table, provenance]


def as_json(found: Characterised) -> dict[str, Any]:
    """The same as values that JSON has."""
    return {
        "name": found.name,
        "kept_in": None if found.kept_in is None else str(found.kept_in),
        "doubt": found.doubt or None,
        "costs": [{**asdict(row), "relative": asdict(found.relative[row.key])} for row in found.rows],
    }


def described_provenance(tools: gates.Tools, rows: Sequence[CostRow]) -> dict[str, Any]:
    """How rows were made."""
    return {
        "made_by": "search multipliers characterise --all --out energy",
        "method": "docs/multiplier-energy.md",
        "tools": gates.tool_versions(tools),
        "cell_library": {
            "name": tools.library.name,
            "from": "Oklahoma State University, TSMC 180 nm; Debian package qflow-tech-osu018",
            "nominal_v": tools.library.nominal_v,
        },
        "proof": "all operand pairs of every mapped netlist, by Icarus Verilog and by energy.gates.simulation",
        "operations": stimulus.OPERATIONS,
        "seed": stimulus.SEED,
        "products_per_held_weight": stimulus.HELD,
        "delay_step_ns": simulation.STEP_NS,
        "recorded_operands": "energy/operand_histograms.csv",
        "lanes_per_bank": LANES_PER_BANK,
        "rows": len(rows),
    }


def _kept(name: str, rows: Sequence[CostRow]) -> Characterised:
    shipped = name == EXACT or any(row.name == name for row in shipped_rows())
    if not shipped:
        keep_costs(rows)
    return Characterised(
        name=name,
        rows=tuple(rows),
        relative=relative_costs(rows, source=_source())[name],
        kept_in=None if shipped else multiplier_cost_file(),
        doubt=_other_tools(),
    )


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
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise UsageError(f"{file} has more than {_MAX_FILE_BYTES} bytes; a multiplier has far fewer")
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{file} is no text") from None
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from None
