"""Multipliers from files that people have: truth tables in many forms, and functions in C."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from approx.checks import check_type
from approx.errors import ArgumentError, ImportFileError
from approx.multipliers import c_models
from approx.multipliers.evoapproxlib import published_in
from approx.multipliers.multiplier import MAX_TABLE_BITS, MIN_BITS, Multiplier
from approx.multipliers.reading import Reading, as_read, bits_in_name, how_to_read, sign_in_name
from approx.multipliers.table_files import (
    ARRAY_SUFFIXES,
    BINARY_SUFFIXES,
    NUMPY_SUFFIXES,
    TEXT_SUFFIXES,
    FoundTable,
    read_tables,
)

Widths = tuple[int, int]

SUFFIXES = (*NUMPY_SUFFIXES, *TEXT_SUFFIXES, *BINARY_SUFFIXES, *ARRAY_SUFFIXES)
CIRCUIT_SUFFIXES = (".v", ".sv", ".blif")


def import_multipliers(
    path: Path | str,
    *,
    name: str | None = None,
    table: str | None = None,
    signed: bool | None = None,
    bits: int | Widths | None = None,
) -> list[Multiplier]:
    """Multipliers from a file.

    - `.npy`: one table of integers, shape (activation codes, weight codes), indexed by operand codes: index 255 of an
      8-bit signed operand is -1.
    - `.npz`: one or more such tables, named by their keys.
    - `.csv`, `.tsv`, `.txt`, `.dat`: one such table, one row per line, separated by commas, semicolons, tabs or blanks,
      with or without labels; or one product per line, after its activation and its weight (a header with A and B, or
      activation and weight, says which is which).
    - `.bin`: the products of one table as integers of 8, 16, 32 or 64 bits.
    - `.h` and `.c`: arrays of products, such as `const int32_t lut[256][256] = {...}`; or else a function of two
      integers in the style of EvoApproxLib. Its operands are matched by name, A the activation and B the weight,
      whatever their order. It is compiled with the system's C compiler and **run**: import only what you trust.

    What is not given is taken from the file: from labels, types, names such as `mul8s_1L2H` or `u_wallace`, and where
    these say nothing from the products, if one way to read them is far nearer to exact products than others. The
    `provenance` of a multiplier says what was taken; `doubts` says what looks wrong.

    Args:
        path: The file.
        name: Name for the multiplier; by default the name of the file or table. If there are several tables or
            functions and no `table`, it selects one of them.
        table: Which one of several tables or functions.
        signed: Whether operands are signed; None for what the file says.
        bits: Width of both operands, or of activation and weight; None for what the file says.

    Raises:
        ImportFileError: If the file cannot be read, compiled or understood.
        ArgumentError: If a table's shape or entries do not fit, or `bits` is out of range.
    """
    check_type("path", path, (str, Path), "a path")
    check_type("name", name, (str, type(None)), "text or None")
    check_type("table", table, (str, type(None)), "text or None")
    check_type("signed", signed, (bool, type(None)), "a truth value or None")
    widths = _widths(bits)
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ImportFileError(f"there is no file {path}")
    if suffix in CIRCUIT_SUFFIXES:
        command = f"search multipliers characterise {shlex.quote(str(path))}"
        raise ImportFileError(f"{path} is a circuit, whose products and energy are measured with: {command}")
    if suffix not in SUFFIXES:
        raise ImportFileError(
            f"{path}: cannot import {suffix or 'a file without suffix'}; supported: {', '.join(SUFFIXES)}"
        )
    text = path.read_text(encoding="utf-8-sig", errors="replace") if suffix in ARRAY_SUFFIXES else ""
    if suffix in ARRAY_SUFFIXES and c_models.has_function(text):
        return [_from_c(path, text, name=name, function=table or name, signed=signed, bits=widths)]
    tables = {one.name: one for one in read_tables(path, widths or bits_in_name(path.stem))}
    chosen = table if table is not None else name if len(tables) > 1 else None
    if chosen is not None:
        if chosen not in tables:
            raise ImportFileError(
                f"{path} has no table {chosen!r}; it has {', '.join(tables)}, of which `table` takes one under any "
                "`name`"
            )
        tables = {chosen: tables[chosen]}
    only = len(tables) == 1
    return [
        _from_table(path, found, name=name if only and name is not None else key, signed=signed, bits=widths)
        for key, found in tables.items()
    ]


def multiplier_from_table(name: str, table: NDArray[np.generic], *, signed: bool, source: str) -> Multiplier:
    """A multiplier from an array, shape (activation codes, weight codes).

    Args:
        name: Any name.
        table: Integers, or floats that are integers.
        signed: Whether both operands are signed.
        source: Where the table comes from.

    Raises:
        ArgumentError: If a dimension is not a power of two from 4 to 256, or an entry is not a 32-bit integer.
    """
    check_type("name", name, str, "text")
    hint = "convert it with numpy.asarray(...)" if isinstance(table, list | tuple | torch.Tensor) else ""
    check_type("table", table, np.ndarray, "a numpy array", hint)
    return _multiplier(name, _checked(name, table), Reading(signed, signed), f"imported from {source}")


def _widths(bits: int | Widths | None) -> Widths | None:
    if bits is None:
        return None
    widths = (bits, bits) if isinstance(bits, int) else bits
    if (
        not isinstance(widths, tuple)
        or len(widths) != 2
        or not all(isinstance(one, int) and MIN_BITS <= one <= MAX_TABLE_BITS for one in widths)
    ):
        raise ArgumentError(
            f"`bits` must be the width of both operands, {MIN_BITS} to {MAX_TABLE_BITS}, or those of activation and "
            f"weight; got {bits!r}"
        )
    return widths


def _from_c(
    path: Path, text: str, *, name: str | None, function: str | None, signed: bool | None, bits: Widths | None
) -> Multiplier:
    found = c_models.compute(path, text, name=function, signed=signed, bits=bits)
    called = name or found.name
    products = _checked(called, found.products)
    names = f"activation {found.operands[0]}, weight {found.operands[1]}"
    taken = f"imported from {path.name}: {names}; {found.reading}, {found.because}"
    made = _multiplier(called, products, found.reading, taken)
    published = published_in(text, found.name)
    if published is None:
        return made
    differs = published.differs_from(made)
    said = f"; doubtful: {differs}" if differs else ""
    return replace(
        made,
        provenance=made.provenance + said,
        relative_energy=published.energy,
        relative_area=published.area,
    )


def _from_table(path: Path, found: FoundTable, *, name: str, signed: bool | None, bits: Widths | None) -> Multiplier:
    products = _checked(name, found.products)
    if bits is not None:
        products = _narrowed(path, products, bits)
    in_name = next((one for one in map(sign_in_name, (found.name, path.stem)) if one is not None), None)
    if signed is None and found.signs is not None:
        reading, because = Reading(*found.signs), "by its labels"
    else:
        said = signed if signed is not None else in_name
        reading = how_to_read(products, said, by_code=found.by_code)
        if reading != Reading(bool(said), bool(said)):
            because = "by its products, which are then nearest to exact ones"
        elif signed is not None:
            because = "as given"
        else:
            because = "as nothing says otherwise" if in_name is None else "by its name"
    products = as_read(products, reading)
    form = f" {found.form}," if found.form else ""
    return _multiplier(name, products, reading, f"imported from {path.name}:{form} {reading}, {because}")


def _checked(name: str, table: NDArray[np.generic]) -> NDArray[np.int64]:
    """A table of integers of a shape that a multiplier can have.

    Raises:
        ArgumentError: If it is not.
    """
    widths = [int(size).bit_length() - 1 for size in table.shape]
    if len(widths) != 2 or any(
        2**bits != size or not MIN_BITS <= bits <= MAX_TABLE_BITS
        for bits, size in zip(widths, table.shape, strict=True)
    ):
        raise ArgumentError(
            f"table {name!r} has shape {table.shape}; it must be (activation codes, weight codes), each a power of two "
            f"from {2**MIN_BITS} to {2**MAX_TABLE_BITS}, such as (256, 256)"
        )
    if not (np.issubdtype(table.dtype, np.integer) or np.issubdtype(table.dtype, np.floating)):
        raise ArgumentError(f"table {name!r} has entries of type {table.dtype}; they must be integers")
    if table.dtype == np.float16:
        raise ArgumentError(f"table {name!r} has entries of type float16, which holds no products above 2048 exactly")
    if np.issubdtype(table.dtype, np.floating) and not (np.isfinite(table).all() and (table == np.rint(table)).all()):
        wrong = table[~(np.isfinite(table) & (table == np.rint(table)))].flat[0]
        raise ArgumentError(f"table {name!r} has the entry {wrong}; all must be integers")
    low, high = table.min(), table.max()
    if low < -(2**31) or high >= 2**32:
        raise ArgumentError(f"table {name!r} has entries in {low}..{high}; they must fit 32 bits")
    return table.astype(np.int64)


def _narrowed(path: Path, products: NDArray[np.int64], bits: Widths) -> NDArray[np.int64]:
    """The table of narrower operands, of which a file repeats the products."""
    wanted = (2 ** bits[0], 2 ** bits[1])
    corner = products[: wanted[0], : wanted[1]]
    times = [whole // part for whole, part in zip(products.shape, wanted, strict=True)]
    if min(times) < 1 or not (np.tile(corner, times) == products).all():
        raise ImportFileError(
            f"{path} has {products.shape[0]} x {products.shape[1]} products, which are not those of {bits[0]} x "
            f"{bits[1]} bits as `bits` says"
        )
    return corner


def _multiplier(name: str, products: NDArray[np.int64], reading: Reading, provenance: str) -> Multiplier:
    low, high = int(products.min()), int(products.max())
    if low < -(2**31) or high >= 2**31:
        raise ArgumentError(f"table {name!r} has entries in {low}..{high}; they must fit 32 bits, signed")
    return Multiplier(
        name=name,
        activation_bits=products.shape[0].bit_length() - 1,
        weight_bits=products.shape[1].bit_length() - 1,
        activation_signed=reading.activation_signed,
        weight_signed=reading.weight_signed,
        lut=torch.from_numpy(products.astype(np.int32)),
        provenance=provenance,
    )
