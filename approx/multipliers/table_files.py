"""Multipliers from files: truth tables in NumPy or CSV format, and C models in the style of EvoApproxLib."""

from __future__ import annotations

import csv
import math
import os
import re
import shutil
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from approx.checks import check_type
from approx.errors import ArgumentError, ImportFileError
from approx.multipliers.multiplier import MAX_TABLE_BITS, MIN_BITS, Multiplier

_SUFFIXES = (".npy", ".npz", ".csv", ".c")

_SECONDS = 60  # limit for a C model to compute all its products

# EvoApproxLib writes one function per file, such as `uint16_t mul8u_1JFF(uint8_t B, uint8_t A)`.
_TYPE = r"(?:(?:const|unsigned|signed|volatile)\s+)*[A-Za-z_]\w*(?:\s+(?:int|long|char|short|const))*"
_FUNCTION = re.compile(
    rf"(?P<name>[A-Za-z_]\w*)\s*\(\s*(?P<first_type>{_TYPE})\s+(?P<first>[A-Za-z_]\w*)\s*,"
    rf"\s*(?P<second_type>{_TYPE})\s+(?P<second>[A-Za-z_]\w*)\s*\)\s*\{{"
)
_INTEGER = re.compile(r"^(u?int(_fast|_least)?\d*_t|unsigned|signed|char|short|int|long|const|volatile|\s)+$")
_WIDTH_IN_NAME = re.compile(r"mul(?P<bits>\d+)(?:x(?P<other>\d+))?(?P<sign>[su])")


def import_multipliers(path: Path | str, *, name: str | None = None, signed: bool = False) -> list[Multiplier]:
    """Multipliers from a file.

    - `.npy`: one table of integers, shape (activation codes, weight codes), indexed by operand codes: index 255 of an
      8-bit signed operand is -1.
    - `.npz`: one or more such tables, named by their keys.
    - `.csv`: one such table, one row per line, without a header.
    - `.c`: a function of two integers in the style of EvoApproxLib. Its operands are matched by name, A the activation
      and B the weight, whatever their order. It is compiled with the system's C compiler and **run**: import only
      what you trust.

    Args:
        path: The file.
        name: Name for the multiplier; by default the name of the file or table. If there are several tables or
            functions, it selects one of them.
        signed: Whether operands are signed; for tables and functions named as in EvoApproxLib (`mul8s_...`) the name
            tells.

    Raises:
        ImportFileError: If the file cannot be read, compiled or understood.
        ArgumentError: If a table's shape or entries do not fit.
    """
    check_type("path", path, (str, Path), "a path")
    check_type("name", name, (str, type(None)), "text or None")
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ImportFileError(f"there is no file {path}")
    if suffix not in _SUFFIXES:
        raise ImportFileError(
            f"{path}: cannot import {suffix or 'a file without suffix'}; supported: {', '.join(_SUFFIXES)}"
        )
    if suffix == ".c":
        return [_from_c(path, name=name, signed=signed)]
    tables = _tables(path, suffix)
    if len(tables) > 1 and name is not None:
        if name not in tables:
            raise ImportFileError(f"{path} has no table {name!r}; it has {', '.join(tables)}")
        tables = {name: tables[name]}
    only = len(tables) == 1
    return [
        multiplier_from_table(
            name if only and name is not None else key, table, signed=signed or _says_signed(key), source=str(path.name)
        )
        for key, table in tables.items()
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
    if np.issubdtype(table.dtype, np.floating) and not (np.isfinite(table).all() and (table == np.rint(table)).all()):
        wrong = table[~(np.isfinite(table) & (table == np.rint(table)))].flat[0]
        raise ArgumentError(f"table {name!r} has the entry {wrong}; all must be integers")
    low, high = table.min(), table.max()
    if low < -(2**31) or high >= 2**31:
        raise ArgumentError(f"table {name!r} has entries in {low}..{high}; they must fit 32 bits, signed")
    return Multiplier(
        name=name,
        activation_bits=widths[0],
        weight_bits=widths[1],
        activation_signed=signed,
        weight_signed=signed,
        lut=torch.from_numpy(table.astype(np.int32)),
        provenance=f"imported from {source}",
    )


def _tables(path: Path, suffix: str) -> dict[str, NDArray[np.generic]]:
    if suffix == ".csv":
        return {path.stem: _csv_table(path)}
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            tables = {path.stem: loaded} if suffix == ".npy" else {key: loaded[key] for key in loaded.files}
    except (OSError, EOFError, BadZipFile, zlib.error) as error:
        raise ImportFileError(f"{path} cannot be read: {error}") from None
    except (ValueError, AttributeError):  # NumPy's message recommends loading pickles, which is unsafe
        raise ImportFileError(f"{path} cannot be read: it is not a NumPy file of type {suffix}") from None
    for key, table in tables.items():
        if not isinstance(table, np.ndarray):
            raise ImportFileError(f"{path} holds {key!r}, which is not an array")
    if not tables:
        raise ImportFileError(f"{path} holds no table")
    return tables


def _csv_table(path: Path) -> NDArray[np.generic]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in csv.reader(lines) if any(text.strip() for text in row)]
    except (OSError, UnicodeDecodeError) as error:
        raise ImportFileError(f"{path} cannot be read: {error}") from None
    if not rows:
        raise ImportFileError(f"{path} is empty")
    values = [
        _csv_entry(path, number, place, text.strip())
        for number, row in enumerate(rows, 1)
        for place, text in enumerate(row, 1)
    ]
    if len({len(row) for row in rows}) > 1:
        raise ImportFileError(
            f"{path}: rows have {min(map(len, rows))} to {max(map(len, rows))} entries; all must have the same number"
        )
    return np.array(values, dtype=np.int64).reshape(len(rows), -1)


def _csv_entry(path: Path, line: int, place: int, text: str) -> int:
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not value.is_integer():
        shown = text if len(text) <= 20 else text[:20] + "..."
        hint = "; the first line must not be a header" if line == 1 else ""
        raise ImportFileError(
            f"{path}: line {line}, entry {place} is {shown!r}, not an integer; entries are separated by commas{hint}"
        )
    if not -(2**31) <= value < 2**31:
        raise ImportFileError(f"{path}: line {line}, entry {place} is {text}; entries must fit 32 bits, signed")
    return int(value)


def _says_signed(name: str) -> bool:
    found = _WIDTH_IN_NAME.search(name)
    return found is not None and found["sign"] == "s"


@dataclass(frozen=True, slots=True)
class _Function:
    name: str
    operands: tuple[str, str]
    operand_types: tuple[str, str]
    signed: bool
    bits: tuple[int, int]  # of A and B


def _from_c(path: Path, *, name: str | None, signed: bool) -> Multiplier:
    function = _find_function(path, path.read_text(encoding="utf-8-sig", errors="replace"), name, signed)
    table = _run_function(path, function)
    return multiplier_from_table(name or function.name, table, signed=function.signed, source=path.name)


def _find_function(path: Path, text: str, name: str | None, signed: bool) -> _Function:
    plain = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
    found = {m["name"]: m for m in _FUNCTION.finditer(plain) if {m["first"].upper(), m["second"].upper()} == {"A", "B"}}
    if not found:
        raise ImportFileError(
            f"{path} has no function of two integers named A and B, such as: uint16_t mul8u_NAME(uint8_t A, uint8_t B)"
        )
    named = [m for m in found.values() if m["name"] in (name, path.stem)]
    library_style = [m for m in found.values() if _WIDTH_IN_NAME.match(m["name"])]
    matching = next(some for some in (named, library_style, list(found.values())) if some)
    if len(matching) > 1:
        names = ", ".join(m["name"] for m in matching)
        raise ImportFileError(f"{path} has several functions of A and B ({names}); choose one by `name`")
    match = matching[0]
    types = (match["first_type"], match["second_type"])
    for kind in types:
        if not _INTEGER.match(kind):
            raise ImportFileError(
                f"{path}: {match['name']} takes operands of type {kind!r}, which is not an integer type"
            )
    width = _WIDTH_IN_NAME.search(match["name"])
    bits = (int(width["bits"]), int(width["other"] or width["bits"])) if width else (8, 8)
    if max(bits) > MAX_TABLE_BITS:
        raise ImportFileError(
            f"{path}: {match['name']} multiplies {max(bits)} bits; truth tables go up to {MAX_TABLE_BITS}"
        )
    types_are_signed = not any(re.search(r"\bunsigned\b|\buint", kind) for kind in types)
    return _Function(
        name=match["name"],
        operands=(match["first"].upper(), match["second"].upper()),
        operand_types=types,
        signed=signed or (width["sign"] == "s" if width else types_are_signed),
        bits=bits,
    )


def _run_function(path: Path, function: _Function) -> NDArray[np.generic]:
    """The table of a function, computed by a separate program that calls it for every pair of operands."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        raise ImportFileError(
            f"importing {path} needs a C compiler, and neither cc, gcc nor clang is installed (on Debian: apt-get "
            "install gcc)"
        )
    a_bits, b_bits = function.bits
    arguments = ", ".join(
        f"({kind})crosslayer_{o}" for kind, o in zip(function.operand_types, function.operands, strict=True)
    )
    program = f"""
#include <stdint.h>
#include <stdio.h>
#include "model.c"
static int64_t crosslayer_value(int64_t code, int bits) {{
    return {int(function.signed)} && code >= (INT64_C(1) << (bits - 1)) ? code - (INT64_C(1) << bits) : code;
}}
int main(int count, char **words) {{
    FILE *crosslayer_out = count == 2 ? fopen(words[1], "wb") : NULL;
    if (!crosslayer_out) return 1;
    for (int64_t a = 0; a < {2**a_bits}; ++a)
        for (int64_t b = 0; b < {2**b_bits}; ++b) {{
            int64_t crosslayer_A = crosslayer_value(a, {a_bits}), crosslayer_B = crosslayer_value(b, {b_bits});
            int64_t crosslayer_product = (int64_t){function.name}({arguments});
            fwrite(&crosslayer_product, sizeof crosslayer_product, 1, crosslayer_out);
        }}
    return fclose(crosslayer_out);
}}
"""
    with tempfile.TemporaryDirectory(prefix="crosslayer-") as folder:
        source, executable, out = (Path(folder) / name for name in ("table.c", "table", "table.bin"))
        source.write_text(program)
        shutil.copyfile(path, Path(folder) / "model.c")
        command = [*compiler.split(), "-O1", "-w", "-I", str(path.resolve().parent), str(source), "-o", str(executable)]
        done = subprocess.run([*command, "-lm"], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "error" in line or "undefined" in line]
            reason = (said or done.stderr.splitlines() or ["no reason given"])[0].replace(
                f"{folder}/model.c", path.name
            )
            raise ImportFileError(f"{path} does not compile with {compiler}: {reason}")
        try:
            # The file is the user's and runs in a separate process: it may crash, print, or never end.
            ended = subprocess.run(  # noqa: S603
                [str(executable), str(out)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ImportFileError(
                f"{path}: {function.name} took more than {_SECONDS} seconds for all its products"
            ) from None
        written = np.fromfile(out, dtype=np.int64) if out.exists() else np.empty(0, np.int64)
    if ended.returncode or len(written) != 2 ** (a_bits + b_bits):
        how = f"with signal {-ended.returncode}" if ended.returncode < 0 else f"with exit code {ended.returncode}"
        raise ImportFileError(f"{path}: {function.name} ended {how} before it had computed all its products")
    table = written.reshape(2**a_bits, 2**b_bits)
    return _widened(table, a_bits + b_bits) if function.signed else table


def _widened(products: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Products of signed operands as signed integers, whatever type the function returns.

    Functions that return signed types give negative products. Others give their bits: in the width of the product, as
    the library's functions do, or in a wider unsigned type.
    """
    if (products < 0).any():
        return products
    width = bits if products.max() < 2**bits else 32
    return np.where(products >= 2 ** (width - 1), products - 2**width, products)
