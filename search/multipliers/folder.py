"""The folder of imported multipliers: their truth tables, and their costs, measured or published.

Costs are read without torch, which is not needed to model energy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from energy import WorkloadError
from energy.cost_table import (
    EXACT,
    LAYER,
    CostKey,
    CostRow,
    CostTable,
    MultiplierCost,
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

_MIN_BITS, _MAX_BITS = 2, 8
_BUILT = built_form(_MAX_BITS, _MAX_BITS)
_SOURCE = "gates: characterised here (docs/multiplier-energy.md)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The costs of a multiplier as somebody states them, over those of an exact one of its own widths and sign.

    Attributes:
        relative_energy: Energy.
        relative_area: Area.
        source: Who states them.
        weight_bits: Width of its weight operand.
        activation_bits: Width of its activation operand.
        weight_signed: Whether it takes signed weights.
        activation_signed: Whether it takes signed activations.
    """

    relative_energy: float
    relative_area: float
    source: str
    weight_bits: int
    activation_bits: int
    weight_signed: bool
    activation_signed: bool

    def costs(self) -> dict[CostKey, MultiplierCost]:
        """The costs in layers, over those of the exact multiplier there.

        - In a layer an unsigned circuit gets the magnitude of the weight, and its product is negated. That logic is not
          in the stated figure, so none of it is saved: what the exact multiplier costs more in layers than unsigned.
        - Narrower operands run in the whole circuit. Of 8 x 8 bits that saves what it does in the exact one; of fewer
          bits nothing, since that is not measured.
        """
        widest = (
            min(_MAX_BITS, self.weight_bits + (not self.weight_signed)),
            min(_MAX_BITS, self.activation_bits - self.activation_signed),
        )
        narrower = product(range(_MIN_BITS, widest[0] + 1), range(_MIN_BITS, widest[1] + 1))
        return {(form, *widths): self._cost(form, widths, widest) for widths in narrower for form in (LAYER, _BUILT)}

    def _cost(self, form: str, widths: tuple[int, int], widest: tuple[int, int]) -> MultiplierCost:
        exact = exact_rows()
        full, reference = exact[(LAYER, *widest)], exact[(form, *widths)]
        wide, narrow = exact[(_BUILT, *widest)], exact[(_BUILT, *widths)]
        saves = (self.weight_bits, self.activation_bits) == (_MAX_BITS, _MAX_BITS)

        def ratio(figure: Callable[[CostRow], float], stated: float) -> float:
            whole = self._in_layers(figure, stated) * figure(full)
            return whole * (figure(narrow) / figure(wide) if saves else 1.0) / figure(reference)

        return MultiplierCost(
            relative_energy=ratio(lambda row: row.energy_recorded_fj, self.relative_energy),
            relative_energy_held=ratio(lambda row: row.energy_held_fj, self.relative_energy),
            relative_energy_uniform=ratio(lambda row: row.energy_uniform_fj, self.relative_energy),
            relative_area=ratio(lambda row: row.area_um2, self.relative_area),
            source=self.source,
        )

    def _in_layers(self, figure: Callable[[CostRow], float], stated: float) -> float:
        """The stated ratio with the logic for signed weights, at the full width."""
        if self.weight_signed:
            return stated
        unsigned, layer = (exact_rows()[form, _MAX_BITS, _MAX_BITS] for form in ("unsigned", LAYER))
        share = min(1.0, figure(unsigned) / figure(layer))
        return stated * share + 1 - share


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
        """The table of the costs of characterised multipliers."""
        return self.path / "costs.csv"

    @property
    def claims_file(self) -> Path:
        """The costs that were stated with imported multipliers."""
        return self.path / "stated_costs.json"

    def costs(self) -> CostTable:
        """Return the built-in costs and those of this folder, by the names of the multipliers.

        Raises:
            energy.WorkloadError: If the table is damaged.
        """
        return _costs(_version(self.cost_file), _version(self.claims_file))

    def claims(self) -> Mapping[str, Claim]:
        """Return what is stated of multipliers' costs, by their names.

        Raises:
            energy.WorkloadError: If the file is damaged.
        """
        return _read_claims(self.claims_file) if self.claims_file.exists() else {}

    def keep_costs(self, rows: Sequence[CostRow]) -> None:
        """Store measured costs, replacing those of the same multipliers.

        Raises:
            StorageError: If a table cannot be written.
            energy.WorkloadError: If one is damaged.
        """
        names = {row.name for row in rows}
        self._forget_claims(names)
        self._write_rows([*self._rows_except(names), *rows])

    def keep_claim(self, name: str, claim: Claim) -> None:
        """Store stated costs, replacing those of the same multiplier.

        Raises:
            StorageError: If a table cannot be written.
            energy.WorkloadError: If one is damaged.
        """
        if any(row.name == name for row in self._rows_except(set())):
            self._write_rows(self._rows_except({name}))
        self._write_claims({**self.claims(), name: claim})

    def forget_costs(self, name: str) -> None:
        """Remove a multiplier's costs from the tables.

        Raises:
            StorageError: If a table cannot be written.
            energy.WorkloadError: If one is damaged.
        """
        self._forget_claims({name})
        if self.cost_file.exists():
            self._write_rows(self._rows_except({name}))

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

    def _forget_claims(self, names: set[str]) -> None:
        claims = self.claims()
        if names & claims.keys():
            self._write_claims({name: claim for name, claim in claims.items() if name not in names})

    def _write_rows(self, rows: Sequence[CostRow]) -> None:
        self._replace(self.cost_file, lambda partial: write_cost_table(partial, rows))

    def _write_claims(self, claims: Mapping[str, Claim]) -> None:
        text = json.dumps({name: asdict(claim) for name, claim in sorted(claims.items())}, indent=1)
        self._replace(self.claims_file, lambda partial: partial.write_text(text, encoding="utf-8"))

    def _replace(self, path: Path, write: Callable[[Path], object]) -> None:
        partial = path.with_name(f".{path.name}.{os.getpid()}")  # unique to this process
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(partial)
            os.replace(partial, path)
        except OSError as error:
            raise StorageError(f"multiplier costs cannot be kept in {path}: {error.strerror or error}") from None


def stated(multiplier: Multiplier, *, relative_energy: float, relative_area: float, source: str) -> Claim:
    """Return what somebody states of a multiplier's costs."""
    return Claim(
        relative_energy=relative_energy,
        relative_area=relative_area,
        source=source,
        weight_bits=multiplier.weight_bits,
        activation_bits=multiplier.activation_bits,
        weight_signed=multiplier.weight_signed,
        activation_signed=multiplier.activation_signed,
    )


def _version(path: Path) -> tuple[Path, int] | None:
    """A file and when it changed; None if there is none."""
    return (path, path.stat().st_mtime_ns) if path.exists() else None


@lru_cache(maxsize=4)
def _costs(measured: tuple[Path, int] | None, claimed: tuple[Path, int] | None) -> CostTable:
    """Return the costs in two files, cached until one changes."""
    shipped = {EXACT, *(row.name for row in shipped_rows())}
    rows = read_cost_table(measured[0]) if measured is not None else []
    claims = _read_claims(claimed[0]) if claimed is not None else {}
    return CostTable(
        {
            **{name: claim.costs() for name, claim in claims.items() if name not in shipped},
            **relative_costs((row for row in rows if row.name not in shipped), source=_SOURCE),
        }
    )


def _read_claims(path: Path) -> dict[str, Claim]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: Claim(**claim) for name, claim in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        raise WorkloadError(f"{path} is damaged; delete it and import the multipliers again") from None
