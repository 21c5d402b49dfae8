"""Generation of the built-in table of multiplier costs and of its provenance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from energy import gates
from energy.cost_table import LANES_PER_BANK, CostRow, write_cost_table
from energy.gates import simulation, stimulus
from search.errors import StorageError
from search.multipliers.characterisation import catalogue_names, characterise_arrays, characterise_rows


def characterise_all(folder: Path, *, on_row: Callable[[int, int], None]) -> list[Path]:
    """Generate the built-in table and its provenance; return their paths.

    Raises:
        energy.EnergyError: If a proof or a tool fails.
        StorageError: If they cannot be written.
    """
    tools = gates.find_tools()
    rows = characterise_rows(tools, catalogue_names(), on_row=on_row)
    return write_shipped_table(tools, folder, rows, characterise_arrays(tools))


def write_shipped_table(
    tools: gates.Tools, folder: Path, rows: Sequence[CostRow], arrays: Sequence[CostRow]
) -> list[Path]:
    """Write the built-in table, its provenance and the rows of exact arrays; return their paths.

    Raises:
        StorageError: If they cannot be written.
    """
    table, provenance = folder / "multipliers.csv", folder / "multipliers.provenance.yaml"
    beside = folder / "exact_arrays.csv"
    content = yaml.safe_dump(_provenance(tools, rows), sort_keys=False, width=118)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_cost_table(table, rows)
        write_cost_table(beside, arrays)
        provenance.write_text(content, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from None
    return [table, provenance, beside]


def _provenance(tools: gates.Tools, rows: Sequence[CostRow]) -> dict[str, Any]:
    """Return how rows were generated."""
    return {
        "made_by": "search multipliers characterise --all --out energy",
        "method": "docs/multiplier-energy.md",
        "tools": gates.tool_versions(tools),
        "cell_library": {
            "name": tools.library.name,
            "from": "Oklahoma State University, TSMC 180 nm; Debian package qflow-tech-osu018",
            "nominal_v": tools.library.nominal_v,
        },
        "proof": "all operand pairs of every mapped netlist, by Icarus Verilog and by energy.gates.simulation; above "
        "8 bits 65,536 random pairs and all pairs of extremes",
        "operations": stimulus.OPERATIONS,
        "seed": stimulus.SEED,
        "delay_step_ns": simulation.STEP_NS,
        "recorded_operands": "energy/operand_histograms.csv",
        "lanes_per_bank": LANES_PER_BANK,
        "rows": len(rows),
    }
