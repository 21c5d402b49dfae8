"""Multipliers as functions in C, in the style of EvoApproxLib and of generators such as ArithsGen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from approx.errors import ImportFileError
from approx.multipliers.c_text import closing, without_comments
from approx.multipliers.multiplier import MAX_TABLE_BITS, MIN_BITS
from approx.multipliers.reading import (
    SIGNED,
    UNSIGNED,
    Reading,
    as_read,
    bits_in_name,
    distance_of,
    is_clearly_nearer,
    sign_in_name,
    weight_is_first,
)

Widths = tuple[int, int]

SECONDS = 60  # limit for a model to compute all its products
_SECONDS_OF_MANY = 15  # for each of several ways to read its operands
_USUAL_BITS = 8

# EvoApproxLib writes one function per file, such as `uint16_t mul8u_1JFF(uint8_t B, uint8_t A)`.
_TYPE = r"(?:(?:const|unsigned|signed|volatile)\s+)*[A-Za-z_]\w*(?:\s+(?:int|long|char|short|const))*"
_FUNCTION = re.compile(
    rf"(?P<name>[A-Za-z_]\w*)\s*\(\s*(?P<first_type>{_TYPE})\s+(?P<first>[A-Za-z_]\w*)\s*,"
    rf"\s*(?P<second_type>{_TYPE})\s+(?P<second>[A-Za-z_]\w*)\s*\)\s*\{{"
)
_INTEGER = re.compile(r"^(u?int(_fast|_least)?\d*_t|unsigned|signed|char|short|int|long|const|volatile|\s)+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A function of two integers.

    Attributes:
        name: Its name.
        operands: Names of its parameters, in their order.
        types: Their types.
    """

    name: str
    operands: tuple[str, str]
    types: tuple[str, str]

    @property
    def weight_first(self) -> bool:
        """Whether the first parameter is the weight."""
        return weight_is_first(*self.operands)

    @property
    def signs_of_types(self) -> tuple[bool | None, bool | None]:
        """Whether activation and weight are signed by their types; None for those that people write for any integer."""
        signs = [_sign_of_type(kind) for kind in self.types]
        return (signs[1], signs[0]) if self.weight_first else (signs[0], signs[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """The products of a model.

    Attributes:
        name: Name of the function.
        operands: Names of activation and weight.
        products: Shape (activation codes, weight codes).
        reading: How operands and products are read; products are already in the order of codes.
        because: What says so, in words.
    """

    name: str
    operands: tuple[str, str]
    products: NDArray[np.int64]
    reading: Reading
    because: str


def has_function(text: str) -> bool:
    """Whether a text has a function of two named parameters."""
    return _FUNCTION.search(without_comments(text)) is not None


def compute(path: Path, text: str, *, name: str | None, signed: bool | None, bits: Widths | None) -> Computed:
    """Compile a model with the system's C compiler, and run it for all pairs of operands.

    Args:
        path: The file.
        text: Its content.
        name: The function, if there are several.
        signed: Whether operands are signed; None for what the file says.
        bits: Widths of activations and weights; None for what the file says.

    Raises:
        ImportFileError: If there is no such function, or it cannot be compiled or run.
    """
    model = _find(path, text, name)
    with tempfile.TemporaryDirectory(prefix="crosslayer-") as folder:
        program = _Program(path, model, Path(folder))
        widths, by_width = _widths(path, model, program, bits)
        readings, by_sign = _readings(model, signed)
        found, failures = {}, []
        seconds = SECONDS if len(readings) == 1 else min(SECONDS, _SECONDS_OF_MANY)
        for reading in readings:
            try:
                found[reading] = program.products(widths, reading.signs, seconds)
            except ImportFileError as error:  # such as a table with a negative index
                failures.append(error)
    if not found:
        raise failures[0]
    usual = next(reading for reading in readings if reading in found)
    if usual != readings[0]:
        by_sign = "since it fails for other operands"
    best = min(found, key=lambda reading: distance_of(found[reading], reading))
    if is_clearly_nearer(distance_of(found[best], best), distance_of(found[usual], usual)):
        usual, by_sign = best, "by its products, which are then nearest to exact ones"
    return Computed(
        name=model.name,
        operands=model.operands[::-1] if model.weight_first else model.operands,
        products=as_read(found[usual], usual),
        reading=usual,
        because=f"{by_sign}; {widths[0]} x {widths[1]} bits, {by_width}",
    )


def _find(path: Path, text: str, name: str | None) -> Model:
    plain = without_comments(text)
    found = {match["name"]: match for match in _FUNCTION.finditer(plain)}
    if not found:
        raise ImportFileError(
            f"{path} has no function of two integers, such as: uint16_t mul8u_NAME(uint8_t A, uint8_t B)"
        )
    named = [one for one in found if one in (name, path.stem)]
    library_style = [one for one in found if bits_in_name(one)]
    matching = next(some for some in (named, library_style, _tops(plain, found)) if some)
    if len(matching) > 1:
        raise ImportFileError(
            f"{path} has several functions of two integers ({', '.join(matching)}); choose one by `name`"
        )
    match = found[matching[0]]
    types = (match["first_type"], match["second_type"])
    for kind in types:
        if not _INTEGER.match(kind):
            raise ImportFileError(
                f"{path}: {match['name']} takes operands of type {kind!r}, which is not an integer type"
            )
    return Model(name=match["name"], operands=(match["first"], match["second"]), types=types)


def _tops(plain: str, names: Iterable[str]) -> list[str]:
    """The functions that no other one but `main` calls; all of them if each is called."""
    found = list(names)
    main = re.search(r"\bmain\s*\([^)]*\)\s*\{", plain)
    if main is not None:
        plain = plain[: main.start()] + plain[closing(plain, main.end() - 1) :]
    # A definition and a declaration have a type before the name.
    called = {name for name in found if re.search(rf"(?:[^\w\s*]|\breturn)\s*{re.escape(name)}\s*\(", plain)}
    return [name for name in found if name not in called] or found


def _sign_of_type(kind: str) -> bool | None:
    if re.search(r"\bunsigned\b|\buint", kind):
        return False
    return True if re.search(r"\bsigned\b|\bint(_fast|_least)?\d+_t", kind) else None


def _readings(model: Model, signed: bool | None) -> tuple[list[Reading], str]:
    """The ways to read a model's operands that are not excluded, the usual one first, and what says so."""
    in_name = sign_in_name(model.name)
    by_types = model.signs_of_types
    if signed is not None:
        return [SIGNED if signed else UNSIGNED], "as given"
    if in_name is not None and bits_in_name(model.name):
        return [SIGNED if in_name else UNSIGNED], "by its name"
    if None not in by_types:
        return [Reading(bool(by_types[0]), bool(by_types[1]))], "by its types"
    if in_name is not None:
        return [SIGNED if in_name else UNSIGNED], "by its name"
    # A plain `int` is signed, but is also what people write for unsigned operands.
    usual = Reading(by_types[0] is not False, by_types[1] is not False)
    others = [Reading(a, w) for a in (False, True) for w in (False, True)]
    allowed = [
        one for one in others if all(given in (None, sign) for given, sign in zip(by_types, one.signs, strict=True))
    ]
    return [usual, *(one for one in allowed if one != usual)], "by its types"


def _widths(path: Path, model: Model, program: _Program, bits: Widths | None) -> tuple[Widths, str]:
    if bits is not None:
        return bits, "as given"
    widths = bits_in_name(model.name)
    said = "by its name"
    if widths is None:
        used = program.used_bits()
        said = "by the bits that it uses"
        if used is None or not all(MIN_BITS <= one <= 16 for one in used):
            return (_USUAL_BITS, _USUAL_BITS), "as usual, since it says no width"
        widths = used
    if max(widths) > MAX_TABLE_BITS:
        raise ImportFileError(
            f"{path}: {model.name} multiplies {widths[0]} x {widths[1]} bits, {said}; truth tables go up to "
            f"{MAX_TABLE_BITS}, of which `bits` takes the lowest"
        )
    return widths, said


class _Program:
    """A compiled program that calls a model."""

    def __init__(self, path: Path, model: Model, folder: Path) -> None:
        self._path, self._model, self._folder = path, model, folder
        compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
        if compiler is None:
            raise ImportFileError(
                f"importing {path} needs a C compiler, and neither cc, gcc nor clang is installed (on Debian: apt-get "
                "install gcc)"
            )
        (folder / "table.c").write_text(_source(model))
        shutil.copyfile(path, folder / "model.c")
        command = [*compiler.split(), "-O1", "-w", "-I", str(path.resolve().parent), "table.c", "-o", "table", "-lm"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
        except OSError as error:
            raise ImportFileError(f"the C compiler {compiler} cannot be started: {error.strerror}") from None
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "error" in line or "undefined" in line]
            reason = (said or done.stderr.splitlines() or ["no reason given"])[0].replace("model.c", path.name)
            raise ImportFileError(f"{path} does not compile with {compiler}: {reason}")

    def products(self, widths: Widths, signs: tuple[bool, bool], seconds: float) -> NDArray[np.int64]:
        """All products as the function gives them, shape (activation codes, weight codes)."""
        words = ["products", *map(str, widths), *(str(int(sign)) for sign in signs)]
        written, ended = self._run(words, seconds)
        if ended is None:
            raise ImportFileError(
                f"{self._path}: {self._model.name} took more than {seconds:g} seconds for all its products"
            )
        if ended or len(written) != 2 ** sum(widths):
            how = f"with signal {-ended}" if ended < 0 else f"with exit code {ended}"
            raise ImportFileError(
                f"{self._path}: {self._model.name} ended {how} before it had computed all its products"
            )
        return written.reshape(2 ** widths[0], 2 ** widths[1])

    def used_bits(self) -> Widths | None:
        """How many of the lowest bits of activation and weight any product depends on; None if it cannot be found."""
        written, ended = self._run(["used"], min(SECONDS, 5))
        return (int(written[0]), int(written[1])) if ended == 0 and len(written) == 2 else None

    def _run(self, words: Sequence[str], seconds: float) -> tuple[NDArray[np.int64], int | None]:
        """What the program writes, and its exit code; None if it takes too long."""
        out = self._folder / "out.bin"
        out.unlink(missing_ok=True)
        try:
            # The file is the user's and runs in a separate process: it may crash, print, or never end.
            ended = subprocess.run(  # noqa: S603
                [str(self._folder / "table"), str(out), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return np.empty(0, np.int64), None
        return np.fromfile(out, dtype=np.int64) if out.exists() else np.empty(0, np.int64), ended


def _source(model: Model) -> str:
    """The program: it calls the function for all products, or finds which bits of its operands matter.

    A bit matters if any of 4,096 random pairs has another product when it is flipped.
    """
    order = ("w", "a") if model.weight_first else ("a", "w")
    arguments = ", ".join(f"({kind})crosslayer_{one}" for kind, one in zip(model.types, order, strict=True))
    return f"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define main crosslayer_main_of_model
#include "model.c"
#undef main
static int64_t crosslayer_product(int64_t crosslayer_a, int64_t crosslayer_w) {{
    return (int64_t){model.name}({arguments});
}}
static int64_t crosslayer_value(int64_t code, int bits, int is_signed) {{
    return is_signed && code >= (INT64_C(1) << (bits - 1)) ? code - (INT64_C(1) << bits) : code;
}}
static uint64_t crosslayer_state = 1;
static int64_t crosslayer_random(void) {{
    crosslayer_state = crosslayer_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t high = crosslayer_state >> 32;
    crosslayer_state = crosslayer_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)(high << 32 | crosslayer_state >> 32);
}}
int main(int count, char **words) {{
    FILE *out = count > 2 ? fopen(words[1], "wb") : NULL;
    if (!out) return 1;
    if (!strcmp(words[2], "used")) {{
        int64_t used[2] = {{0, 0}};
        for (int n = 0; n < 4096; ++n) {{
            int64_t a = crosslayer_random(), w = crosslayer_random(), product = crosslayer_product(a, w);
            for (int bit = 0; bit < 64; ++bit) {{
                int64_t one = (int64_t)(UINT64_C(1) << bit);
                if (bit >= used[0] && crosslayer_product(a ^ one, w) != product) used[0] = bit + 1;
                if (bit >= used[1] && crosslayer_product(a, w ^ one) != product) used[1] = bit + 1;
            }}
        }}
        fwrite(used, sizeof used, 1, out);
        return fclose(out);
    }}
    int a_bits = atoi(words[3]), w_bits = atoi(words[4]), a_signed = atoi(words[5]), w_signed = atoi(words[6]);
    for (int64_t a = 0; a < INT64_C(1) << a_bits; ++a)
        for (int64_t w = 0; w < INT64_C(1) << w_bits; ++w) {{
            int64_t product = crosslayer_product(
                crosslayer_value(a, a_bits, a_signed), crosslayer_value(w, w_bits, w_signed));
            fwrite(&product, sizeof product, 1, out);
        }}
    return fclose(out);
}}
"""
