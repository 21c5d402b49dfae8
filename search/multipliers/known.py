"""The multipliers that are not built in, as a value that is passed to evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from energy.cost_table import CostTable
from search.multipliers.choice import ChosenMultiplier, find_imported, known_layer_costs
from search.multipliers.folder import MultiplierFolder
from search.multipliers.identity import is_imported, multiplier_name, name_in_layers

if TYPE_CHECKING:
    from approx import Multiplier


@dataclass(frozen=True, slots=True)
class KnownMultipliers:
    """Truth tables and costs of the multipliers that an evaluation may use.

    Attributes:
        tables: Imported multipliers, by the names that networks use; see `name_in_layers`.
        costs: Costs of all multipliers whose cost is known, by the names that candidates use.
    """

    tables: Mapping[str, Multiplier] = field(default_factory=dict)
    costs: CostTable = field(default_factory=CostTable)

    @classmethod
    def of(cls, chosen: Iterable[ChosenMultiplier]) -> KnownMultipliers:
        """Return the tables and costs of the multipliers that a search chooses among."""
        listed = list(chosen)
        return cls(
            tables={
                name_in_layers(one.identity): replace(one.imported, name=name_in_layers(one.identity))
                for one in listed
                if one.imported is not None
            },
            costs=CostTable({one.identity: one.costs for one in listed if one.costs is not None}),
        )


def stored_tables(identities: Iterable[str], folder: MultiplierFolder) -> dict[str, Multiplier]:
    """Return the imported ones among a stored candidate's multipliers; see `KnownMultipliers.tables`.

    Raises:
        UsageError: If one was removed or replaced in the meantime.
    """
    return {
        name_in_layers(one): replace(find_imported(one, folder), name=name_in_layers(one))
        for one in identities
        if is_imported(one)
    }


def stored_costs(identities: Iterable[str], folder: MultiplierFolder) -> CostTable:
    """Return the built-in costs with those of a stored candidate's multipliers, if they are known.

    Raises:
        energy.WorkloadError: If the folder's table of costs is damaged.
    """
    costs = folder.costs()
    for identity in identities:
        name = multiplier_name(identity)
        if is_imported(identity) and name in costs.added:
            costs = costs.including(identity, known_layer_costs(name, costs))
    return costs
