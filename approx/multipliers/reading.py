"""How the file of a multiplier is read: what names and products say about its operands, and what looks wrong.

A file seldom says all: whether operands are signed, how wide they are, in which order its rows are. Names say some of
it. Where nothing does, products decide if one way to read them is far nearer to exact products than the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from approx.multipliers.metrics import error_metrics
from approx.multipliers.multiplier import Multiplier, check_multiplier

Integers = NDArray[np.int64]

_CLEARLY = 3  # times nearer, so that the difference is none of approximation
_NEAR = 0.5  # the largest distance of something that can be called a multiplier
_NOT_EXACT = 0.05  # the distance from which another way to read a table is looked for
_DOUBTED_ERROR = 0.5  # mean relative error

# EvoApproxLib: mul8u_1JFF, mul8x2u_0CY. ArithsGen: u_wallace_cla8, h_s_arrmul4. Others: signed_mul8, MulS8x8.
_LIBRARY_NAME = re.compile(r"mul(?P<bits>\d+)(?:x(?P<other>\d+))?(?P<sign>[su])(?![a-z])", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SIGNED_WORDS = frozenset(("s", "signed", "int", "sint"))
_UNSIGNED_WORDS = frozenset(("u", "unsigned", "uint"))


@dataclass(frozen=True, slots=True)
class Reading:
    """A way to read a table of products.

    Attributes:
        signed: Whether both operands are signed.
        from_lowest: Whether rows and columns are in the order of values, from the lowest; otherwise in that of codes,
            from zero.
    """

    signed: bool
    from_lowest: bool = False


def sign_in_name(name: str) -> bool | None:
    """Whether operands are signed, as far as a name says it; None if it says nothing, or both."""
    found = _LIBRARY_NAME.search(name)
    if found is not None:
        return found["sign"].lower() == "s"
    words = {word.lower() for word in _WORD.findall(name)}
    signed, unsigned = bool(words & _SIGNED_WORDS), bool(words & _UNSIGNED_WORDS)
    return signed if signed != unsigned else None


def bits_in_name(name: str) -> tuple[int, int] | None:
    """Widths of the activation (A) and the weight (B) in a name of EvoApproxLib; None if it is none."""
    found = _LIBRARY_NAME.search(name)
    return None if found is None else (int(found["bits"]), int(found["other"] or found["bits"]))


def distance(products: Integers, exact: Integers) -> float:
    """Mean absolute error over the mean absolute exact product: 0 if all are exact, 1 if all are zero.

    Args:
        products: Products, any shape.
        exact: The exact products, the same shape.
    """
    return float(np.abs(products - exact).mean() / max(np.abs(exact).mean(), 1e-9))


def clearly_nearer(one: float, other: float) -> bool:
    """Whether a distance is so much less than another that approximation cannot explain the difference."""
    return one <= _NEAR and one * _CLEARLY < other


def as_read(table: Integers, reading: Reading) -> Integers:
    """A table in the order of codes and with signed products, shape (activation codes, weight codes).

    Args:
        table: As the file has it, the same shape. Products of signed operands may be in the bits of an unsigned type.
        reading: How to read it.
    """
    if not reading.signed:
        return table
    table = as_signed(table, sum(size.bit_length() - 1 for size in table.shape))
    if reading.from_lowest:
        table = np.roll(table, [-(size // 2) for size in table.shape], axis=(0, 1))
    return table


def as_signed(products: Integers, bits: int) -> Integers:
    """Products of signed operands as signed integers, whatever type they were kept in.

    Signed types give negative products. Others give their bits: in the width of the product, as the functions of
    EvoApproxLib do, or in a wider unsigned type.

    Args:
        products: Products, any shape.
        bits: Width of a product.
    """
    if (products < 0).any():
        return products
    width = bits if products.max(initial=0) < 2**bits else 32
    return np.where(products >= 2 ** (width - 1), products - 2**width, products)


def how_to_read(table: Integers, signed: bool | None) -> Reading:
    """The way to read a table that is clearly nearer to exact products than the usual one; else the usual one.

    The usual one has operands in the order of codes, unsigned if nothing says that they are signed.

    Args:
        table: As the file has it, shape (activation codes, weight codes).
        signed: Whether operands are signed; None if nothing says it.
    """
    usual = Reading(bool(signed) or bool(signed is None and (table < 0).any()))
    others = [Reading(True), Reading(True, from_lowest=True)] if signed in (None, True) else []
    distances = {reading: _distance_of(table, reading) for reading in (usual, *others)}
    best = min(distances, key=distances.__getitem__)
    return best if clearly_nearer(distances[best], distances[usual]) else usual


def doubts(multiplier: Multiplier) -> list[str]:
    """What looks wrong in a multiplier, one sentence each: nothing in most.

    - The table repeats, as one of narrower operands does that was written out too often.
    - Read otherwise, as signed or unsigned, or with rows that begin at the lowest value, it is clearly nearer to exact
      products.
    - Products are wrong by more than 50 % on average.

    Args:
        multiplier: A multiplier of operands of up to 8 bits.
    """
    check_multiplier("multiplier", multiplier)
    name, table = multiplier.name, multiplier.table().numpy().astype(np.int64)
    found = _repetitions(name, table)
    if multiplier.weight_signed == multiplier.activation_signed:
        found += _other_readings(name, table, Reading(multiplier.weight_signed))
    error = error_metrics(multiplier).mre_nonzero
    if error > _DOUBTED_ERROR and not found:
        found.append(f"{name}: products are wrong by {error:.0%} on average; see that widths, sign and order are right")
    return found


def _repetitions(name: str, table: Integers) -> list[str]:
    found = []
    for axis, operand in enumerate(("activation", "weight")):
        period = size = table.shape[axis]
        lines = np.moveaxis(table, axis, 0)
        while period > 1 and (lines[: period // 2] == lines[period // 2 : period]).all():
            period //= 2
        if period == 1:
            found.append(f"{name}: products are the same for every {operand}")
        elif period < size:
            narrow, wide = period.bit_length() - 1, size.bit_length() - 1
            found.append(
                f"{name}: products repeat after {period} {operand} codes, as if it had {narrow} bits and not {wide}; "
                f"if so, import it with `bits` {narrow}"
            )
    return found


def _other_readings(name: str, table: Integers, taken: Reading) -> list[str]:
    """Whether another way to read the table is clearly nearer to exact products."""
    as_taken = _distance_of(table, taken)
    if as_taken < _NOT_EXACT:
        return []
    # A table that was taken as signed holds negative products, so it cannot be read as unsigned: its codes are.
    as_codes = table & (table.size - 1) if taken.signed else table
    others = {
        Reading(False): (as_codes, f"{name} looks unsigned; if it is, import it as `unsigned`"),
        Reading(True): (table, f"{name} looks signed; if it is, import it as `signed`"),
        Reading(True, from_lowest=True): (
            table,
            f"{name} looks as if its rows and columns began at {-table.shape[0] // 2} and not at 0; index them by "
            "codes, of which 0 comes first and -1 last",
        ),
    }
    del others[taken]
    distances = {reading: _distance_of(products, reading) for reading, (products, _) in others.items()}
    best = min(distances, key=distances.__getitem__)
    if not clearly_nearer(distances[best], as_taken):
        return []
    return [
        f"{others[best][1]} (errors are then {distances[best]:.1%} of exact products on average, now {as_taken:.0%})"
    ]


def _distance_of(table: Integers, reading: Reading) -> float:
    activations, weights = (_values(size, signed=reading.signed) for size in table.shape)
    return distance(as_read(table, reading), activations[:, None] * weights[None, :])


def _values(count: int, *, signed: bool) -> Integers:
    codes = np.arange(count, dtype=np.int64)
    return np.where(codes >= count // 2, codes - count, codes) if signed else codes
