"""How the file of a multiplier is read: what names and products say about its operands, and what looks wrong.

A file seldom says all: whether operands are signed, how wide they are, in which order its rows are. Names say some of
it. Where nothing does, products decide if one way to read them is far nearer to exact products than the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from approx.multipliers.metrics import error_metrics
from approx.multipliers.multiplier import Multiplier, check_multiplier, code_values

Integers = NDArray[np.int64]

_CLEARLY = 2.5  # times nearer, so that the difference is none of approximation
_NEAR = 0.5  # the largest distance of something that can be called a multiplier
_NOT_EXACT = 0.05  # the distance from which another way to read a table is looked for
_DOUBTED_ERROR = 0.5  # mean relative error

# EvoApproxLib: mul8u_1JFF, mul8x2u_0CY. ArithsGen: u_wallace_cla8, h_s_arrmul4. Others: signed_mul8, MulS8x8.
_LIBRARY_NAME = re.compile(r"mul(?P<bits>\d+)(?:x(?P<other>\d+))?(?P<sign>[su])(?![a-z])", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SIGNED_WORDS = frozenset(("s", "signed", "int", "sint"))
_WEIGHT_WORDS = {"w", "wt", "wgt", "weight", "weights", "kernel", "filter", "coef", "coeff"}
_UNSIGNED_WORDS = frozenset(("u", "unsigned", "uint"))


@dataclass(frozen=True, slots=True)
class Reading:
    """A way to read a table of products.

    Attributes:
        activation_signed: Whether activations are signed.
        weight_signed: Whether weights are signed.
        from_lowest: Whether the rows and columns of signed operands are in the order of values, from the lowest;
            otherwise they are in that of codes, from zero.
    """

    activation_signed: bool
    weight_signed: bool
    from_lowest: bool = False

    @property
    def signs(self) -> tuple[bool, bool]:
        """Whether activations and weights are signed."""
        return self.activation_signed, self.weight_signed

    def __str__(self) -> str:
        if self.activation_signed == self.weight_signed:
            said = "signed" if self.weight_signed else "unsigned"
        else:
            words = ["signed" if signed else "unsigned" for signed in self.signs]
            said = f"{words[0]} activations, {words[1]} weights"
        return f"{said}, from the lowest value" if self.from_lowest else said


UNSIGNED, SIGNED = Reading(False, False), Reading(True, True)
_READINGS = (
    UNSIGNED,
    SIGNED,
    Reading(True, True, from_lowest=True),
    Reading(False, True),
    Reading(False, True, from_lowest=True),
    Reading(True, False),
    Reading(True, False, from_lowest=True),
)


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


def is_clearly_nearer(other: float, usual: float) -> bool:
    """Whether another reading is clearly nearer to exact products than the usual one, which is not near itself."""
    return usual > _NOT_EXACT and clearly_nearer(other, usual)


def as_read(table: Integers, reading: Reading) -> Integers:
    """A table in the order of codes and with signed products, shape (activation codes, weight codes).

    Args:
        table: As the file has it, the same shape. Products of signed operands may be in the bits of an unsigned type.
        reading: How to read it.
    """
    if not any(reading.signs):
        return _unwrapped(table)
    table = as_signed(table, sum(size.bit_length() - 1 for size in table.shape))
    if reading.from_lowest:
        shifts = [-(size // 2) if signed else 0 for size, signed in zip(table.shape, reading.signs, strict=True)]
        table = np.roll(table, shifts, axis=(0, 1))
    return table


def as_signed(products: Integers, bits: int) -> Integers:
    """Products of signed operands as signed integers, whatever type they were kept in.

    Signed types give negative products. Others give their bits: in the width of the product, as the functions of
    EvoApproxLib do, or in a wider unsigned type.

    Args:
        products: Products, any shape.
        bits: Width of a product.
    """
    most = products.max(initial=0)
    if (products < 0).any():
        return products
    width = next((one for one in (bits, 8, 16, 32) if one >= bits and most < 2**one), None)
    return products if width is None else np.where(products >= 2 ** (width - 1), products - 2**width, products)


def _unwrapped(products: Integers) -> Integers:
    """Products of unsigned operands as they were before they wrapped around in a signed type, if that explains them."""
    if not (products < 0).any():
        return products
    width = next((one for one in (8, 16, 32) if products.min() >= -(2 ** (one - 1)) and products.max() < 2**one), 64)
    whole = np.where(products < 0, products + 2**width, products) if width < 64 else products
    exact = np.multiply.outer(*(np.arange(size) for size in products.shape))
    return whole if clearly_nearer(distance(whole, exact), distance(products, exact)) else products


def how_to_read(table: Integers, signed: bool | None, *, by_code: bool = False) -> Reading:
    """The way to read a table that is clearly nearer to exact products than the usual one; else the usual one.

    The usual one has operands in the order of codes, unsigned if nothing says that they are signed.

    Args:
        table: As the file has it, shape (activation codes, weight codes).
        signed: Whether operands are signed; None if nothing says it.
        by_code: Whether rows and columns are known to be in the order of codes.
    """
    usual = SIGNED if signed or (signed is None and (table < 0).any()) else UNSIGNED
    allowed = [
        one
        for one in _READINGS
        if (signed is None or one.signs == (signed, signed)) and not (by_code and one.from_lowest)
    ]
    return _nearest({reading: distance_of(table, reading) for reading in allowed}, usual)


def distance_of(table: Integers, reading: Reading) -> float:
    """The distance of a table from exact products if it is read in some way; see `distance`."""
    activations, weights = (
        code_values(size.bit_length() - 1, signed).numpy().astype(np.int64)
        for size, signed in zip(table.shape, reading.signs, strict=True)
    )
    return distance(as_read(table, reading), activations[:, None] * weights[None, :])


def _nearest(distances: Mapping[Reading, float], usual: Reading) -> Reading:
    best = min(distances, key=distances.__getitem__)
    return best if is_clearly_nearer(distances[best], distances[usual]) else usual


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
    if not (multiplier.weight_signed or multiplier.activation_signed) and (table < 0).any():
        found.append(f"{name} has negative products of unsigned operands")
    found += _other_readings(name, table, Reading(multiplier.activation_signed, multiplier.weight_signed))
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
    values = [
        code_values(size.bit_length() - 1, signed).numpy().astype(np.int64)
        for size, signed in zip(table.shape, taken.signs, strict=True)
    ]
    now = distance(table, values[0][:, None] * values[1][None, :])
    if now < _NOT_EXACT:
        return []
    # Signed products that were unsigned ones in the file: their bits still are.
    as_codes = table & (table.size - 1) if any(taken.signs) else table
    distances = {one: distance_of(table if any(one.signs) else as_codes, one) for one in _READINGS}
    best = min(distances, key=distances.__getitem__)
    if not clearly_nearer(distances[best], now):
        return []
    errors = f"errors are then {distances[best]:.1%} of exact products on average, now {now:.0%}"
    if best == taken:
        how = "the bits of signed products; extend their sign" if any(taken.signs) else "products that wrapped around"
        return [f"{name} holds {how} ({errors})"]
    if best.from_lowest:
        lowest = ", ".join(
            f"{lines} at {-(size // 2)}"
            for lines, size, signed in zip(("rows", "columns"), table.shape, best.signs, strict=True)
            if signed
        )
        return [
            f"{name} looks as if its operands were {best}: {lowest}; index tables by codes, of which 0 comes first and "
            f"-1 last ({errors})"
        ]
    option = f"; if it is, import it as `{best}`" if best in (UNSIGNED, SIGNED) else ""
    return [f"{name} looks {'' if option else 'as if it had '}{best}{option} ({errors})"]


def weight_is_first(first: str, second: str) -> bool:
    """Whether the first of two operands is the weight, by words in their names; the second is if they say nothing.

    Operands named A and B, such as `op_a` and `op_b`, are activation and weight, in whatever order they are.
    """
    words = [set(re.split(r"[\W_\d]+", name.lower())) for name in (first, second)]
    letters = [one & {"a", "b"} for one in words]
    if letters in ([{"a"}, {"b"}], [{"b"}, {"a"}]):
        return letters[0] == {"b"}
    return bool(words[0] & _WEIGHT_WORDS) and not words[1] & _WEIGHT_WORDS
