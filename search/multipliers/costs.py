"""What the user's own multipliers cost: kept beside the imported ones, and made known to the energy model.

Loads no torch, so that whoever only models energy can have them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from energy.cost_table import (
    EXACT,
    CostKey,
    CostRow,
    MultiplierCost,
    read_cost_table,
    register_multiplier_cost,
    relative_costs,
    shipped_rows,
    write_cost_table,
)
from search.errors import StorageError
from search.locations import multiplier_cost_file

_SOURCE = "gates: characterised here (docs/multiplier-energy.md)"


def register_own_costs() -> list[str]:
    """Make the costs of all multipliers that were characterised here known to `energy`, and say whose they are.

    Raises:
        energy.WorkloadError: If the table is damaged.
    """
    path = multiplier_cost_file()
    if not path.exists():
        return []
    own = _own(path, path.stat().st_mtime_ns)
    for name, found in own.items():
        register_multiplier_cost(name, found)
    return list(own)


@lru_cache(maxsize=1)
def _own(path: Path, changed: int) -> dict[str, dict[CostKey, MultiplierCost]]:
    """The costs in a table as it was when it was last changed."""
    shipped = {row.name for row in shipped_rows()}
    return relative_costs((row for row in read_cost_table(path) if row.name not in shipped), source=_SOURCE)


def keep_costs(rows: Sequence[CostRow]) -> None:
    """Keep rows, in place of what was kept of the same multipliers, and make them known.

    Raises:
        StorageError: If the table cannot be written.
        energy.WorkloadError: If it is damaged.
    """
    path = multiplier_cost_file()
    _write(path, [*_others(path, {row.name for row in rows}), *rows])
    register_own_costs()


def claimed_costs(name: str, *, relative_energy: float, relative_area: float) -> list[CostRow]:
    """Rows of a multiplier of which no gates are known, only what it costs over the exact one: the same at all widths.

    Args:
        name: Of the multiplier.
        relative_energy: Energy over that of the exact multiplier of the same widths.
        relative_area: Area, likewise.
    """
    exact = [row for row in shipped_rows() if row.name == EXACT and row.form == "layer"]
    return [
        replace(
            row,
            name=name,
            area_um2=row.area_um2 * relative_area,
            energy_uniform_fj=row.energy_uniform_fj * relative_energy,
            energy_recorded_fj=row.energy_recorded_fj * relative_energy,
            energy_stationary_fj=row.energy_stationary_fj * relative_energy,
        )
        for row in exact
    ]


def forget_costs(name: str) -> None:
    """Take a multiplier's costs from the table; what this process knows of them stays until others are kept.

    Raises:
        StorageError: If the table cannot be written.
        energy.WorkloadError: If it is damaged.
    """
    path = multiplier_cost_file()
    if path.exists():
        _write(path, _others(path, {name}))


def _others(path: Path, names: set[str]) -> list[CostRow]:
    return [row for row in read_cost_table(path) if row.name not in names] if path.exists() else []


def _write(path: Path, rows: Sequence[CostRow]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")  # of this process's own
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_cost_table(partial, rows)
        os.replace(partial, path)
    except OSError as error:
        raise StorageError(f"multiplier costs cannot be kept in {path}: {error.strerror or error}") from None
