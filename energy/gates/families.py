"""The catalogue's multipliers as circuits of unsigned magnitudes; `energy.gates.verilog` adds sign logic around them.

The emulator defines the products of each multiplier, and circuits are verified against it; this file only says how they
are built. Operands are lists of bits, lowest first; the missing top bit of a magnitude is the constant 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from energy.errors import WorkloadError
from energy.gates.arithmetic import (
    Columns,
    add,
    add_columns,
    columns_of,
    partial_products,
    place,
)
from energy.gates.circuit import Bit, Bits, Circuit

Core = Callable[[Circuit, Bits, Bits, int], Bits]  # circuit, activation, weight, bits of the product


def find_core(name: str) -> Core:
    """Find the circuit by which a multiplier of the catalogue multiplies magnitudes; alphabet sets are in `verilog`.

    Raises:
        WorkloadError: If the name is unknown.
    """
    for pattern, make in _FAMILIES.items():
        found = re.fullmatch(pattern, name)
        if found:
            return make(*map(int, found.groups()))
    raise WorkloadError(
        f"multiplier {name!r} is not in the catalogue, so there is no circuit for it; "
        "characterise a custom one from its Verilog: search multipliers characterise FILE.v"
    )


def _array(rows: int, columns: int, corrected: bool = False) -> Core:
    def core(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
        kept = partial_products(circuit, a, w, skipped_rows=rows, skipped_columns=columns)
        kept = [*kept, *columns_of(width)][:width]
        if corrected:
            place(kept, _constant(_correction(columns), width))
        return add_columns(circuit, kept)

    return core


def _correction(columns: int) -> int:
    """Approximate mean of the dropped columns (Schulte and Swartzlander, 1993), as a multiple of 2^columns."""
    mean = (((columns - 1) << columns) + 1) / 4
    return round(mean / (1 << columns)) << columns


def _constant(value: int, width: int) -> Bits:
    return [bool(value >> bit & 1) for bit in range(width)]


def _drum(kept: int) -> Core:
    """DRUM: leading-one detectors, a small multiplier, and a barrel shifter."""

    def segment(circuit: Circuit, x: Bits) -> tuple[Bits, Bits]:
        """Return the bits from the leading one down, and how far they were shifted (in binary)."""
        if len(_trimmed(x)) <= kept:
            return x[:kept], []
        leading = _leading_ones(circuit, x)
        shifted = leading[kept:]  # by 1, 2, ...
        far = circuit.any_set(x[kept:])
        near = circuit.invert(far)
        bits: Bits = []
        for index in range(kept):
            selected = circuit.all_of(near, x[index])
            for shift, select in enumerate(shifted, 1):
                selected = circuit.any_of(selected, circuit.all_of(select, x[shift + index]))
            bits.append(selected)
        # Shifted segments begin and end with a one.
        bits[0] = circuit.any_of(far, x[0])
        bits[-1] = circuit.any_of(far, x[kept - 1])
        return bits, _encoded(circuit, [near, *shifted])

    def core(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
        (short_a, shift_a), (short_w, shift_w) = segment(circuit, a), segment(circuit, w)
        product = add_columns(circuit, partial_products(circuit, short_a, short_w))
        shift = add(circuit, shift_a, shift_w, width=max(len(shift_a), len(shift_w)) + 1)
        return _shifted(circuit, product, shift, width)

    return core


def _static_segment(segment_bits: int) -> Core:
    """SSM: one of two segments of each operand, a small multiplier, and two fixed shifts."""

    def segment(circuit: Circuit, x: Bits) -> tuple[Bits, Bit, int]:
        if segment_bits >= len(x):
            return x, False, 0
        shift = len(x) - segment_bits
        high = circuit.any_set(x[segment_bits:])
        return [circuit.choose(high, x[shift + i], x[i]) for i in range(segment_bits)], high, shift

    def core(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
        product = add_columns(
            circuit, partial_products(circuit, (first := segment(circuit, a))[0], (second := segment(circuit, w))[0])
        )
        for _, high, shift in (first, second):
            product = _shifted_if(circuit, product, high, shift, width)
        return product

    return core


def _mitchell() -> Core:
    """Mitchell: operands as characteristic and fraction, one addition, and back."""

    def core(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
        a, w = _trimmed(a), _trimmed(w)
        digits = max(len(a), len(w)) - 1  # of the fractions
        logarithms = []
        for x in (a, w):
            leading = _leading_ones(circuit, x)
            fraction: Bits = [False] * digits
            for place_, one in enumerate(leading):  # the bits below the leading one, moved up to the point
                for below in range(place_):
                    target = digits - place_ + below
                    fraction[target] = circuit.any_of(fraction[target], circuit.all_of(one, x[below]))
            logarithms.append([*fraction, *_encoded(circuit, leading)])
        total = add(circuit, *logarithms, width=max(map(len, logarithms)) + 1)
        antilogarithm = _shifted(circuit, [*total[:digits], True], total[digits:], width + digits)[digits:]
        present = circuit.all_of(circuit.any_set(a), circuit.any_set(w))
        return [circuit.all_of(bit, present) for bit in antilogarithm]

    return core


def _roba() -> Core:
    """RoBA: both operands rounded to powers of two; a_r w + w_r a - a_r w_r."""

    def rounded(circuit: Circuit, x: Bits) -> Bits:
        leading = [*_leading_ones(circuit, x), False]
        up: Bits = [circuit.all_of(one, x[i - 1]) if 2 <= i < len(x) else False for i, one in enumerate(leading)]
        stays = [circuit.all_of(one, circuit.invert(goes)) for one, goes in zip(leading, up, strict=True)]
        return [stays[0], *(circuit.any_of(stay, below) for below, stay in zip(up, stays[1:], strict=False))]

    def times(circuit: Circuit, power: Bits, x: Bits, width: int) -> Bits:
        """Shift x by the position of the only bit set in `power`; 0 if none is."""
        product: Bits = [False] * width
        for shift, select in enumerate(power):
            for index, bit in enumerate(x):
                if shift + index < width:
                    selected = circuit.all_of(select, bit)
                    product[shift + index] = circuit.any_of(product[shift + index], selected)
        return product

    def core(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
        a, w = _trimmed(a), _trimmed(w)
        power_a, power_w = rounded(circuit, a), rounded(circuit, w)
        columns = columns_of(width)
        place(columns, times(circuit, power_a, w, width))
        place(columns, times(circuit, power_w, a, width))
        both = times(circuit, power_a, power_w, width)
        place(columns, [circuit.invert(bit) for bit in both])  # minus a_r w_r: inverted, plus one
        place(columns, [True])
        return add_columns(circuit, columns)

    return core


def _kulkarni() -> Core:
    """Kulkarni: products of 2-bit digits in three bits, because 3 x 3 = 7."""

    def core(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
        columns = columns_of(width)
        for i, (a0, a1) in _digits(a):
            for j, (w0, w1) in _digits(w):
                middle = circuit.any_of(circuit.all_of(a1, w0), circuit.all_of(a0, w1))
                place(columns, [circuit.all_of(a0, w0), middle, circuit.all_of(a1, w1)], i + j)
        return add_columns(circuit, columns)

    return core


def _digits(x: Bits) -> list[tuple[int, tuple[Bit, Bit]]]:
    padded = [*x, False]
    return [(low, (padded[low], padded[low + 1])) for low in range(0, len(x), 2)]


def _momeni() -> Core:
    """Momeni: a Dadda tree with approximate 4:2 compressors in its 7 lowest columns, for 8-bit operands."""

    def core(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
        a, w = ([*x, *[False] * 8][:8] for x in (a, w))
        columns = [*columns_of(17)]
        for row, weight_bit in enumerate(w):
            for index, bit in enumerate(a):
                columns[row + index].append(circuit.all_of(bit, weight_bit))
        for stage in _MOMENI_STAGES:
            columns = _compressed(circuit, columns, stage)
        total = add_columns(circuit, [[bit for bit in bits if bit is not False] for bits in columns])
        return [*total, *[False] * width][:width]

    return core


# Half adders, full adders and 4:2 compressors of each column, for two stages (their figure 9).
_MOMENI_STAGES: tuple[dict[int, str], ...] = (
    {4: "h", 5: "c", 6: "ch", 7: "cc", 8: "cc", 9: "cf", 10: "c", 11: "f"},
    {2: "h", **dict.fromkeys(range(3, 13), "c"), 13: "f"},
)
_MOMENI_APPROXIMATE = 7


def _compressed(circuit: Circuit, columns: Columns, stage: dict[int, str]) -> Columns:
    sums, carries, chained = columns_of(17), columns_of(17), columns_of(17)
    result = columns_of(17)
    for column, bits in enumerate(columns):
        rest = list(bits)
        for kind in stage.get(column, ""):
            taken = [rest.pop(0) if rest else False for _ in range({"h": 2, "f": 3, "c": 4}[kind])]
            if kind == "c" and column < _MOMENI_APPROXIMATE:
                x1, x2, x3, x4 = taken
                equal = [circuit.invert(circuit.differ(x1, x2)), circuit.invert(circuit.differ(x3, x4))]
                total = circuit.any_of(*equal)
                carry = circuit.all_of(circuit.any_of(x1, x2), circuit.any_of(x3, x4))
            elif kind == "c":
                carried_in = chained[column].pop(0) if chained[column] else False
                first, handed_on = circuit.full_add(taken[0], taken[1], taken[2])
                total, carry = circuit.full_add(first, taken[3], carried_in)
                chained[column + 1].append(handed_on)
            else:
                total, carry = circuit.full_add(*[*taken, False][:3])
            sums[column].append(total)
            carries[column + 1].append(carry)
        result[column] = carries[column] + sums[column] + rest + chained[column]
    return result


def _trimmed(x: Bits) -> Bits:
    """Drop constant leading zeros."""
    while len(x) > 1 and x[-1] is False:
        x = x[:-1]
    return x


def _leading_ones(circuit: Circuit, x: Bits) -> Bits:
    """Mark the highest bit that is set."""
    found: Bits = []
    above: Bit = False
    for bit in reversed(x):
        found.append(circuit.all_of(bit, circuit.invert(above)))
        above = circuit.any_of(above, bit)
    return found[::-1]


def _encoded(circuit: Circuit, one_hot: Bits) -> Bits:
    """Encode the position of the only set bit in binary."""
    width = (len(one_hot) - 1).bit_length()
    return [circuit.any_set([bit for place_, bit in enumerate(one_hot) if place_ >> i & 1]) for i in range(width)]


def _shifted(circuit: Circuit, x: Bits, shift: Bits, width: int) -> Bits:
    """Shift a number left by another, one binary digit of the latter at a time."""
    for digit, select in enumerate(shift):
        x = _shifted_if(circuit, x, select, 1 << digit, width)
    return [*x, *[False] * width][:width]


def _shifted_if(circuit: Circuit, x: Bits, select: Bit, shift: int, width: int) -> Bits:
    padded = [*x, *[False] * width][:width]
    if select is False:
        return padded
    moved: Bits = [*[False] * shift, *padded][:width]
    return [circuit.choose(select, there, here) for there, here in zip(moved, padded, strict=True)]


_FAMILIES: dict[str, Callable[..., Core]] = {
    r"exact": lambda: _array(0, 0),
    r"truncated-(\d+)": lambda columns: _array(0, columns),
    r"truncated-compensated-(\d+)": lambda columns: _array(0, columns, corrected=True),
    r"broken-array-(\d+)-(\d+)": _array,
    r"drum-(\d+)": _drum,
    r"ssm-(\d+)": _static_segment,
    r"mitchell": _mitchell,
    r"roba": _roba,
    r"kulkarni": _kulkarni,
    r"momeni": _momeni,
}
