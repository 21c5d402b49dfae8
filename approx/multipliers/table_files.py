"""Files with tables of products: NumPy arrays, text in many forms, arrays in C, and raw binary."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from approx.errors import ImportFileError
from approx.multipliers.c_text import closing, without_comments
from approx.multipliers.multiplier import MAX_TABLE_BITS, MIN_BITS
from approx.multipliers.reading import Reading, bits_in_name, clearly_nearer, distance_of, how_to_read, weight_is_first

Table = NDArray[np.generic]
Widths = tuple[int, int]

NUMPY_SUFFIXES = (".npy", ".npz")
TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".dat")
ARRAY_SUFFIXES = (".h", ".hpp", ".c", ".cc", ".cpp")
BINARY_SUFFIXES = (".bin",)

_LARGEST_FILE = 64 * 2**20  # bytes; 65,536 lines with operands and product have 1 MB
_COMMENT = re.compile(r"^\s*(#|//|%)")
_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]{1,16}|0[bB][01]{1,64}|\d{1,20})$")
_C_ARRAY = re.compile(
    r"(?P<name>[A-Za-z_]\w*)\s*(?P<sizes>(?:\[[^\]]*\]\s*)*)"
    r"(?:(?:__attribute__\s*\(\([^=;{}]*\)\)|[A-Z_]{3,})\s*)?=\s*\{"  # an attribute, or a macro for one
)
_PRODUCT = re.compile(r"(prod\w*|p|o|out\w*|res\w*|r|y|c|z|s|approx\w*|apx\w*|value|val|lut)$")
_OTHER_WORDS = {"exact", "true", "golden", "reference", "ref", "accurate", "error", "err", "diff", "delta"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTable:
    """A table as a file has it.

    Attributes:
        name: What the file calls it, or the file's name.
        products: Shape (activations, weights).
        by_code: Whether the file says where each product belongs, by labels or columns of operands, so that they are in
            the order of codes; otherwise they are in the order of the file.
        signs: Whether activations and weights are signed, where operands with a sign say it.
        form: How the file has it, in words; empty if there is one way only.
    """

    name: str
    products: Table
    by_code: bool = False
    signs: tuple[bool, bool] | None = None
    form: str = ""


def read_tables(path: Path, bits: Widths | None) -> list[FoundTable]:
    """The tables in a file, by its suffix.

    Args:
        path: The file.
        bits: Widths of activations and weights, if they are known; needed where the size of a file allows several.

    Raises:
        ImportFileError: If the file cannot be read as a table.
    """
    suffix = path.suffix.lower()
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ImportFileError(
                f"{path} has {path.stat().st_size} bytes; tables of up to {MAX_TABLE_BITS}-bit operands have far fewer"
            )
        if suffix in NUMPY_SUFFIXES:
            return _numpy_tables(path, suffix, bits)
        if suffix in BINARY_SUFFIXES:
            return [_binary_table(path, bits)]
        text = path.read_text(encoding="utf-8-sig", errors="strict" if suffix in TEXT_SUFFIXES else "replace")
    except (OSError, UnicodeDecodeError) as error:
        raise ImportFileError(f"{path} cannot be read: {error}") from None
    return _c_arrays(path, text, bits) if suffix in ARRAY_SUFFIXES else [_text_table(path, text, bits)]


def _numpy_tables(path: Path, suffix: str, bits: Widths | None) -> list[FoundTable]:
    try:
        _check_unpacked(path, suffix)
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            tables = {path.stem: loaded} if suffix == ".npy" else {key: loaded[key] for key in loaded.files}
    except ImportFileError:
        raise
    except (EOFError, BadZipFile, zlib.error) as error:
        raise ImportFileError(f"{path} cannot be read: {error}") from None
    except (ValueError, AttributeError):  # NumPy's message recommends loading pickles, which is unsafe
        raise ImportFileError(f"{path} cannot be read: it is not a NumPy file of type {suffix}") from None
    for key, table in tables.items():
        if not isinstance(table, np.ndarray):
            raise ImportFileError(f"{path} holds {key!r}, which is not an array")
    if not tables:
        raise ImportFileError(f"{path} holds no table")
    return [FoundTable(name=key, products=_squared(table, bits)) for key, table in tables.items()]


def _check_unpacked(path: Path, suffix: str) -> None:
    """Refuse arrays that are far larger than tables, before they are unpacked."""
    with path.open("rb") as file:
        if suffix == ".npy":
            sizes = [_size_in_header(file)]
        else:
            with ZipFile(file) as archive:
                names = [name for name in archive.namelist() if name.endswith(".npy")]
                sizes = [_size_in_header(opened) for name in names for opened in [archive.open(name)]]
    if sum(sizes) > _LARGEST_FILE:
        raise ImportFileError(f"{path} has arrays of {sum(sizes)} bytes; tables of products have far fewer")


def _size_in_header(file: IO[bytes]) -> int:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return math.prod(shape) * dtype.itemsize


def _squared(table: Table, bits: Widths | None) -> Table:
    """A list of products, activation by activation, as a table, square if widths are not known; others as they are."""
    table = np.squeeze(table) if table.ndim > 2 else table
    if bits is not None and 1 in (table.ndim, *table.shape) and table.size == 2 ** sum(bits):
        return table.reshape([2**width for width in bits])
    side = round(table.size**0.5)
    listed = table.ndim == 1 or (table.ndim == 2 and 1 in table.shape)
    return table.reshape(side, side) if listed and side * side == table.size else table


# ---- text --------------------------------------------------------------------------------------------------------

_Rows = list[list[str]]
_NumberedRows = Sequence[tuple[int, list[str]]]


def _text_table(path: Path, text: str, bits: Widths | None) -> FoundTable:
    if text.lstrip()[:1] in ("[", "(", "{"):  # as Python prints a list or an array
        text = re.sub(r"[\[\](){}]", " ", text)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    lines = [(number, line) for number, line in lines if not _COMMENT.match(line)]
    if not lines:
        raise ImportFileError(f"{path} is empty")
    if re.fullmatch(r"(\s*0[01]{3,31}|\s*1[01]{3,31})+\s*", "\n".join(line for _, line in lines)):  # of $writememb
        lines = [(number, re.sub(r"[01]+", r"0b\g<0>", line)) for number, line in lines]
    separator = next((one for one in (";", "\t", ",") if any(one in line for _, line in lines)), None)
    rows = [(number, _cells(line, separator)) for number, line in lines]
    first = rows[0][1]
    if len(rows) > 1 and all(len(cells) == len(rows[1][1]) for _, cells in rows[1:]):
        header = first if any(not _INTEGER.match(_whole(cell)) for cell in first) else None
        if header is not None and len(header) == len(rows[1][1]) and (columns := _operand_columns(header)) is not None:
            return _from_operands(path, rows[1:], columns, header)
        if header is None and len(first) == len(rows[1][1]) == 3 and len(rows) >= 4**MIN_BITS:
            return _from_operands(path, rows, (0, 1, 2), ("1", "2", "3"))
        if (labelled := _labelled(path, rows)) is not None:
            return labelled
    products = _integers(path, rows, separator)
    return FoundTable(name=path.stem, products=_squared(products, bits))


def _cells(line: str, separator: str | None) -> list[str]:
    cells = [cell.strip().strip("\"'").strip() for cell in line.split(separator)]
    return cells[:-1] if len(cells) > 1 and not cells[-1] else cells  # a separator after the last entry


def _whole(text: str) -> str:
    """An integer that was written as a float, as NumPy and spreadsheets do, without its fraction."""
    try:
        value = float(text) if "_" not in text and re.search(r"[.eE]", text) and "x" not in text.lower() else None
    except ValueError:
        return text
    return str(int(value)) if value is not None and value.is_integer() else text


def _integer(text: str) -> int | None:
    text = _whole(text)
    if not _INTEGER.match(text):
        return None
    return int(text, 0 if re.match(r"[+-]?0[xXbB]", text) else 10)


def _integers(path: Path, rows: _NumberedRows, separator: str | None) -> NDArray[np.int64]:
    lengths = {len(cells) for _, cells in rows}
    found = []
    for number, cells in rows:
        for place, cell in enumerate(cells, 1):
            value = _integer(cell)
            if value is None:
                shown = cell if len(cell) <= 20 else cell[:20] + "..."
                between = {None: "blanks", "\t": "tabs", ",": "commas", ";": "semicolons"}[separator]
                raise ImportFileError(
                    f"{path}: line {number}, entry {place} is {shown!r}, not an integer; entries are separated by "
                    f"{between}, and may have labels in the first line and the first column"
                )
            if not -(2**31) <= value < 2**32:
                raise ImportFileError(f"{path}: line {number}, entry {place} is {cell}; entries must fit 32 bits")
            found.append(value)
    if len(lengths) > 1:
        raise ImportFileError(
            f"{path}: rows have {min(lengths)} to {max(lengths)} entries; all must have the same number"
        )
    return np.array(found, dtype=np.int64).reshape(len(rows), -1)


def _operand_columns(header: Sequence[str]) -> tuple[int, int, int] | None:
    """The columns of activation, weight and product of a table with one product a line; None if it is none.

    Of several columns of products, that of the approximate ones is taken.
    """
    words = [set(re.findall(r"[a-z]+", re.sub(r"\[.*\]", "", name.lower()))) for name in header]
    products = [place for place, one in enumerate(words) if place > 1 and not one & _OTHER_WORDS and _is_product(one)]
    approximate = [place for place in products if any(word.startswith(("approx", "apx")) for word in words[place])]
    found = approximate if len(approximate) == 1 else products
    if len(header) < 3 or (len(found) != 1 and len(header) != 3):
        return None
    product = found[0] if len(found) == 1 else 2
    return (1, 0, product) if weight_is_first(header[0], header[1]) else (0, 1, product)


def _is_product(words: set[str]) -> bool:
    return any(re.match(_PRODUCT, word) for word in words)


def _from_operands(path: Path, rows: _NumberedRows, columns: tuple[int, int, int], header: Sequence[str]) -> FoundTable:
    listed = _integers(path, [(number, [cells[column] for column in columns]) for number, cells in rows], ",")
    (activations, widths_a), (weights, widths_w) = (_codes(path, listed[:, one], of) for one, of in enumerate(_OF))
    (activation_bits, activation_signed), (weight_bits, weight_signed) = widths_a, widths_w
    table = np.zeros((2**activation_bits, 2**weight_bits), np.int64)
    times = np.zeros_like(table)
    np.add.at(times, (activations, weights), 1)
    table[activations, weights] = listed[:, 2]
    missing, other = np.argwhere(times == 0), np.flatnonzero(table[activations, weights] != listed[:, 2])
    if len(missing):
        raise ImportFileError(
            f"{path} lacks {len(missing)} of {table.size} products of {activation_bits} x {weight_bits} bits, such as "
            f"that of the codes {missing[0][0]} and {missing[0][1]}"
        )
    if len(other):
        raise ImportFileError(f"{path}: line {rows[other[0]][0]} has another product than a later line has")
    return FoundTable(
        name=path.stem,
        products=table,
        by_code=True,
        signs=(activation_signed, weight_signed) if activation_signed or weight_signed else None,
        form="columns {} (activation), {} (weight) and {} (product)".format(*(header[one] for one in columns)),
    )


_OF = ("activations", "weights")


def _codes(path: Path, values: NDArray[np.int64], of: str) -> tuple[NDArray[np.int64], tuple[int, bool]]:
    """The codes of operand values, with their width and whether they are signed."""
    low, high = int(values.min()), int(values.max())
    signed = low < 0
    bits = max(high.bit_length(), (~low).bit_length() if signed else 0) + signed
    if not MIN_BITS <= bits <= MAX_TABLE_BITS:
        raise ImportFileError(
            f"{path}: {of} are {low} to {high}, which are {bits} bits; tables have {MIN_BITS} to {MAX_TABLE_BITS}"
        )
    return values & (2**bits - 1), (bits, signed)


def _labelled(path: Path, rows: _NumberedRows) -> FoundTable | None:
    """A table whose first row and first column, or one of them, are operand values; None if it has no such labels."""
    first, body = rows[0][1], rows[1:]
    width = len(body[0][1])
    above = _is_one_more(len(rows)) and len(first) in (width, width - 1)
    beside = _is_one_more(width) or (above and len(first) == width - 1)
    if not above and not beside:
        return None
    corner = first[0] if above and beside and len(first) == width else ""
    labels_above = (first if len(first) == width - 1 or not beside else first[1:]) if above else []
    kept = body if above else rows
    labels_beside = [cells[0] for _, cells in kept] if beside else []
    products = _integers(path, [(number, cells[1:] if beside else cells) for number, cells in kept], ",")
    signs, by_code = [], products
    for axis, (of, labels) in enumerate((("rows", labels_beside), ("columns", labels_above))):
        if not labels:
            continue
        size = products.shape[axis]
        values = _operand_values(path, of, labels, size)
        places = np.empty(size, np.int64)
        places[values % size] = np.arange(size)
        by_code = np.take(by_code, places, axis)
        signs.append(bool((values < 0).any()))
        if not (above and beside) and (np.diff(values) < 0).any():
            raise ImportFileError(f"{path}: only {of} have labels, which must then be in ascending order")
    if len(signs) < 2:
        return _labelled_once(path, by_code, axis=0 if beside else 1, signed=signs[0])
    form = "labelled rows and columns"
    named = re.split(r"[\\/|\s]+", corner)
    if len(named) == 2 and weight_is_first(*named):
        by_code, signs, form = by_code.T, signs[::-1], f"{form}, activations across"
    known = (signs[0], signs[1]) if any(signs) else None
    return FoundTable(name=path.stem, products=by_code, by_code=True, signs=known, form=form)


def _labelled_once(path: Path, table: NDArray[np.int64], *, axis: int, signed: bool) -> FoundTable:
    """A table of which one operand has labels. If they have a sign, products say how the other one is ordered."""
    form = f"labelled {'columns' if axis else 'rows'}"
    if not signed:  # codes, which say nothing of the other operand
        return FoundTable(name=path.stem, products=table, form=form)
    other = 1 - axis
    from_lowest = np.roll(table, -(table.shape[other] // 2), other)
    ways = [(from_lowest, (True, True)), (table, (True, True)), (table, (False, True) if axis else (True, False))]
    products, signs = min(ways, key=lambda way: distance_of(way[0], Reading(*way[1])))
    return FoundTable(name=path.stem, products=products, by_code=True, signs=signs, form=form)


def _is_one_more(count: int) -> bool:
    """Whether a number of rows or columns is that of a table's and one of labels."""
    return (count - 1).bit_count() == 1 and count > 2**MIN_BITS


def _operand_values(path: Path, of: str, labels: Sequence[str], size: int) -> NDArray[np.int64]:
    """The operand values in labels such as `-128`, `a=3` or `w_7`, in their order."""
    found = [re.search(r"(?:(?<![^\W])-)?\d+$", _whole(label)) for label in labels]
    values = np.array([int(match[0]) for match in found if match])
    if all(sorted(values) != list(range(low, low + size)) for low in (0, -(size // 2))):
        raise ImportFileError(
            f"{path}: the labels of {of} must be the operand's values, 0 to {size - 1} or {-(size // 2)} to "
            f"{size // 2 - 1}; they begin with {', '.join(labels[:3])}"
        )
    return values


# ---- arrays in C -------------------------------------------------------------------------------------------------


def _c_arrays(path: Path, text: str, bits: Widths | None) -> list[FoundTable]:
    plain = without_comments(text)
    found = []
    for match in _C_ARRAY.finditer(plain):
        body = plain[match.end() - 1 : closing(plain, match.end() - 1) + 1]
        entries = re.sub(r"[{}\s]", " ", body).replace(",", " , ").split(",")
        numbers = [_c_integer(entry) for entry in entries if entry.strip()]
        if len(numbers) < 4**MIN_BITS:
            continue
        if None in numbers:
            strange = next(entry.strip() for entry in entries if entry.strip() and _c_integer(entry) is None)
            raise ImportFileError(f"{path}: the array {match['name']} has the entry {strange[:30]!r}, not an integer")
        given = [int(size) for size in re.findall(r"\[\s*(\d+)\s*\]", match["sizes"])]
        products = np.array(numbers, dtype=np.int64)
        if len(given) == 2 and given[0] * given[1] == len(numbers):
            products = products.reshape(given)
        rows = body.count("{") - 1
        if products.ndim == 1 and rows > 1 and len(numbers) % rows == 0:
            products = products.reshape(rows, -1)
        found.append(
            FoundTable(
                name=match["name"],
                products=_squared(products, bits or bits_in_name(match["name"])),
                form=f"the array {match['name']}",
            )
        )
    if not found:
        raise ImportFileError(
            f"{path} has neither a function of two integers, such as uint16_t mul8u_NAME(uint8_t A, uint8_t B), nor an "
            "array of products, such as const int32_t lut[256][256] = {...}"
        )
    return found if len(found) > 1 or bits_in_name(found[0].name) else [replace(found[0], name=path.stem)]


def _c_integer(text: str) -> int | None:
    """An integer constant of C, where a leading zero means octal; None if the text is something else."""
    found = re.fullmatch(r"\s*([-+]?)\s*(0[xX][0-9a-fA-F]{1,16}|\d{1,20})[uUlL]*\s*", text)
    if found is None:
        return None
    digits = found[2]
    octal = len(digits) > 1 and digits.startswith("0") and digits.isdigit()
    if octal and not set(digits) <= set("01234567"):
        return None
    value = int(digits, 8) if octal else int(digits, 0)
    return -value if found[1] == "-" else value


# ---- raw binary --------------------------------------------------------------------------------------------------


def _binary_table(path: Path, bits: Widths | None) -> FoundTable:
    content = path.read_bytes()
    square = [(width, width) for width in range(MIN_BITS, MAX_TABLE_BITS + 1)]
    fitting = [
        (widths, size)
        for widths in ([bits] if bits is not None else square)
        for size in (1, 2, 4, 8)
        if 2 ** sum(widths) * size == len(content)
    ]
    # Products need the widths of both operands; fewer bits are an option only if nothing else is.
    roomy = [(widths, size) for widths, size in fitting if size * 8 >= sum(widths)] or fitting
    if not roomy:
        shown = "operands of 2 to 8 bits" if bits is None else f"{bits[0]} x {bits[1]} bits"
        raise ImportFileError(
            f"{path} has {len(content)} bytes, which is no table of {shown} with entries of 8, 16, 32 or 64 bits; "
            "8 x 8 bits with 16 have 131072; `bits` says other widths, such as 8x4"
        )
    tables = []
    for widths, size in roomy:
        for order in "<>" if size > 1 else "<":
            entries = np.frombuffer(content, f"{order}{'u' if size < 8 else 'i'}{size}").astype(np.int64)
            products = entries.reshape([2**width for width in widths])
            tables.append((distance_of(products, how_to_read(products, None)), products, size, order))
    little = [found for found in tables if found[3] == "<"]
    nearest = min(little, key=lambda found: found[0])
    other = min(tables, key=lambda found: found[0])
    _, products, size, order = other if clearly_nearer(other[0], nearest[0]) else nearest
    form = f"entries of {8 * size} bits, {'little' if order == '<' else 'big'}-endian"
    return FoundTable(name=path.stem, products=products, form=form)
