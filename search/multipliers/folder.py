"""The folder of imported multipliers: their truth tables and costs.

Costs are read without torch, which is not needed to model energy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from energy.cost_table import (
    LAYER,
    CostRow,
    CostTable,
    built_form,
    exact_rows,
    read_cost_table,
    relative_costs,
    shipped_rows,
    write_cost_table,
)
from search.errors import StorageError
from search.locations import multiplier_dir

if TYPE_CHECKING:
    from approx import Multiplier

_MAX_BITS = 8
_CLAIMED_FORMS = (LAYER, built_form(_MAX_BITS, _MAX_BITS))
_SOURCE = "gates: characterised here (docs/multiplier-energy.md)"


@dataclass(frozen=True, slots=True)
class MultiplierFolder:
    """A folder of imported multipliers, by name.

    Attributes:
        path: The folder; it need not exist.
    """

    path: Path

    @classmethod
    def default(cls) -> MultiplierFolder:
        """Return the user's folder: $CROSSLAYER_MULTIPLIER_DIR, else in the user's data folder."""
        return cls(multiplier_dir())

    @property
    def cost_file(self) -> Path:
        """The table of the costs of characterised multipliers, and of those imported with costs."""
        return self.path / "costs.csv"

    def costs(self) -> CostTable:
        """Return the built-in costs and those of this folder, by the names of the multipliers.

        Raises:
            energy.WorkloadError: If the table is damaged.
        """
        path = self.cost_file
        return _read_costs(path, path.stat().st_mtime_ns) if path.exists() else CostTable()

    def keep_costs(self, rows: Sequence[CostRow]) -> None:
        """Store rows, replacing those of the same multipliers.

        Raises:
            StorageError: If the table cannot be written.
            energy.WorkloadError: If it is damaged.
        """
        self._write([*self._rows_except({row.name for row in rows}), *rows])

    def forget_costs(self, name: str) -> None:
        """Remove a multiplier's costs from the table.

        Raises:
            StorageError: If the table cannot be written.
            energy.WorkloadError: If it is damaged.
        """
        if self.cost_file.exists():
            self._write(self._rows_except({name}))

    def multipliers(self, *, on_damage: Callable[[Exception], None]) -> list[Multiplier]:
        """Return the imported multipliers.

        Args:
            on_damage: Called with an error for each file that cannot be read.
        """
        import approx

        return approx.MultiplierLibrary(self.path).multipliers(on_damage=on_damage)

    def add(self, multiplier: Multiplier) -> None:
        """Store a multiplier's truth table.

        Raises:
            approx.ApproxError: If its name is taken by a different multiplier, or it cannot be written.
        """
        import approx

        approx.MultiplierLibrary(self.path).add(multiplier)

    def remove(self, name: str) -> None:
        """Remove the truth table of a multiplier, if there is one."""
        import approx

        approx.MultiplierLibrary(self.path).remove(name)

    def _rows_except(self, names: set[str]) -> list[CostRow]:
        path = self.cost_file
        return [row for row in read_cost_table(path) if row.name not in names] if path.exists() else []

    def _write(self, rows: Sequence[CostRow]) -> None:
        path = self.cost_file
        partial = path.with_name(f".{path.name}.{os.getpid()}")  # unique to this process
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_cost_table(partial, rows)
            os.replace(partial, path)
        except OSError as error:
            raise StorageError(f"multiplier costs cannot be kept in {path}: {error.strerror or error}") from None


@lru_cache(maxsize=4)
def _read_costs(path: Path, changed_ns: int) -> CostTable:
    """Return the costs in a table, cached until the file changes."""
    shipped = {row.name for row in shipped_rows()}
    return CostTable(relative_costs((row for row in read_cost_table(path) if row.name not in shipped), source=_SOURCE))


def claimed_costs(name: str, *, relative_energy: float, relative_area: float) -> list[CostRow]:
    """Return the cost rows of a multiplier without a netlist, from its costs relative to the exact one at all widths.

    Args:
        name: Name of the multiplier.
        relative_energy: Energy relative to the exact multiplier of the same widths.
        relative_area: Area relative to the exact multiplier of the same widths.
    """
    exact = [
        row
        for row in exact_rows().values()
        if row.form in _CLAIMED_FORMS and max(row.weight_bits, row.activation_bits) <= _MAX_BITS
    ]
    return [
        replace(
            row,
            name=name,
            area_um2=row.area_um2 * relative_area,
            energy_uniform_fj=row.energy_uniform_fj * relative_energy,
            energy_recorded_fj=row.energy_recorded_fj * relative_energy,
            energy_held_fj=row.energy_held_fj * relative_energy,
        )
        for row in exact
    ]
