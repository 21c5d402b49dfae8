"""Characterisation of multipliers as circuits: proved to compute what the emulator does, and measured.

`approx` defines what a multiplier computes; `energy.gates` builds and measures it. Only this module combines them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import approx
from approx.multipliers.catalog import check_name
from energy import gates
from energy.cost_table import (
    ARRAY,
    BUILT_WIDTHS,
    EXACT,
    LAYER,
    CostKey,
    CostRow,
    built_form,
)

MIN_BITS, MAX_BITS = 2, 8
_UNLISTED = ("asm-1-3-5",)  # of the catalogue; in the table, but not in listings

_SEARCHED = tuple(product(range(MIN_BITS, MAX_BITS + 1), repeat=2))  # all widths that a search may choose
_WIDER = (12, 16)  # of exact multipliers, for partial sums, other models and published figures
_EXACT_WIDTHS = tuple(product((*range(MIN_BITS, MAX_BITS + 1), *_WIDER), repeat=2))

# The form in which networks multiply, in circuits of exactly these widths; and those of published figures.
SHIPPED_KEYS: tuple[CostKey, ...] = (*((LAYER, w, a) for w, a in _SEARCHED), ("unsigned", 8, 8), ("signed", 8, 8))
# Of the exact multiplier there are more.
_EXACT_KEYS = (*SHIPPED_KEYS, *((LAYER, w, a) for w, a in _EXACT_WIDTHS if (w, a) not in _SEARCHED))


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
    return gates.Exact(weight_bits=weight_bits, activation_bits=activation_bits)


def characterise_arrays(tools: gates.Tools) -> list[CostRow]:
    """Return proved rows of exact carry-save arrays, computed on all processors.

    Raises:
        energy.EnergyError: If a proof or a tool fails.
    """
    functions = [gates.Exact(form=form, weight_bits=w, activation_bits=a) for form, w, a in SHIPPED_KEYS]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return [*pool.map(lambda function: gates.characterise(tools, ARRAY, function), functions)]


def _expected_or_none(name: str, key: CostKey) -> gates.Function | None:
    _, weight_bits, activation_bits = key
    if max(weight_bits, activation_bits) > MAX_BITS:  # too many products for a table
        wide = gates.Exact(weight_bits=weight_bits, activation_bits=activation_bits)
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
