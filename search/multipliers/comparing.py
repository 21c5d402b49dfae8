"""What a characterised multiplier is compared with: exact products, exact circuits, and the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.resources import files

import torch
import yaml

import approx
from energy import WorkloadError, gates
from energy.cost_table import EXACT, CostKey, CostRow, CostTable, MultiplierCost, array_rows, relative_costs
from search.multipliers.characterisation import catalogue_names
from search.multipliers.characterised import AllErrors, Twin


def all_errors(multiplier: approx.Multiplier) -> AllErrors:
    """Errors of a multiplier over all pairs of operands."""
    metrics = approx.error_metrics(multiplier)
    return AllErrors(
        mae=metrics.mae,
        mre_nonzero=metrics.mre_nonzero,
        wce=metrics.wce,
        error_probability=metrics.error_probability,
        pairs=2 ** (multiplier.activation_bits + multiplier.weight_bits),
    )


def over_arrays(rows: Sequence[CostRow], built: Mapping[CostKey, CostRow]) -> dict[CostKey, MultiplierCost]:
    """Divide rows by those of exact arrays of the same form and widths, where there are such.

    Args:
        rows: Rows of a multiplier.
        built: Rows of arrays that are not in the table.
    """
    arrays = {**array_rows(), **built}
    among = [row for row in rows if row.key in arrays]
    if not among:
        return {}
    exact = [replace(arrays[row.key], name=EXACT) for row in among]
    return relative_costs(among, exact=exact, source=tools_used())[among[0].name]


def twin_of(multiplier: approx.Multiplier, natural: CostKey) -> Twin | None:
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


def other_tools() -> str:
    """Return how the installed tools differ from those that made the built-in table; empty if they do not."""
    provenance = yaml.safe_load(files("energy").joinpath("multipliers.provenance.yaml").read_text(encoding="utf-8"))
    here, there = gates.tool_versions(gates.find_tools()), provenance["tools"]
    others = [f"{here[tool]} here, {there.get(tool)} there" for tool in here if here[tool] != there.get(tool)]
    if not others:
        return ""
    return f"the exact multiplier was characterised with other tools ({'; '.join(others)}), so ratios are less certain"


def tools_used() -> str:
    """Return the tools, as the source of costs."""
    versions = gates.tool_versions(gates.find_tools())
    return f"gates: {versions['yosys']}, {versions['cell_library']}"
