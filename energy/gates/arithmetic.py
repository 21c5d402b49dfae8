"""Blocks of arithmetic from which all multipliers here are built, the exact one included.

Partial products are summed by one method everywhere, so that two designs differ by what they leave out or add, and not
by how well someone described them: Dadda's reduction to two rows, then a ripple-carry adder.
"""

from __future__ import annotations

from collections.abc import Sequence

from energy.gates.circuit import Bit, Bits, Circuit

Columns = list[Bits]  # the bits of every weight 2^i, i from 0 up


def columns_of(width: int) -> Columns:
    """No bits yet."""
    return [[] for _ in range(width)]


def place(columns: Columns, bits: Sequence[Bit], shift: int = 0) -> None:
    """Add a number, shifted left, to what is to be summed. Bits beyond the last column are dropped."""
    for index, bit in enumerate(bits, shift):
        if index < len(columns) and bit is not False:
            columns[index].append(bit)


def partial_products(circuit: Circuit, a: Bits, w: Bits, *, skipped_rows: int = 0, skipped_columns: int = 0) -> Columns:
    """The bits a_i w_j of which a product is the sum, but for those left out."""
    columns = columns_of(len(a) + len(w))
    for j, weight_bit in enumerate(w):
        for i, activation_bit in enumerate(a):
            if j >= skipped_rows and i + j >= skipped_columns:
                place(columns, [circuit.all_of(activation_bit, weight_bit)], i + j)
    return columns


def add_columns(circuit: Circuit, columns: Columns) -> Bits:
    """The sum of all bits, modulo two to the number of columns."""
    columns = [list(bits) for bits in columns]
    heights = [2]
    while heights[-1] < max(map(len, columns)):
        heights.append(heights[-1] * 3 // 2)  # Dadda's: 2, 3, 4, 6, 9, 13 ...
    for height in reversed(heights):
        columns = _reduced(circuit, columns, height)
    return _rippled(circuit, columns)


def _reduced(circuit: Circuit, columns: Columns, height: int) -> Columns:
    """Columns of at most so many bits with the same sum, with as few adders as that takes."""
    result = [list(bits) for bits in columns]
    for index, bits in enumerate(result):
        while len(bits) > height:
            # The oldest first: the bits that arrive together.
            if len(bits) == height + 1:
                total, carry = circuit.half_add(bits.pop(0), bits.pop(0))
            else:
                total, carry = circuit.full_add(bits.pop(0), bits.pop(0), bits.pop(0))
            bits.append(total)
            if index + 1 < len(result) and carry is not False:
                result[index + 1].append(carry)
    return result


def _rippled(circuit: Circuit, columns: Columns) -> Bits:
    total: Bits = []
    carry: Bit = False
    for bits in columns:
        first, second, *none = [*bits, False, False]
        assert not any(none)
        sum_bit, carry = circuit.full_add(first, second, carry)
        total.append(sum_bit)
    return total


def add(circuit: Circuit, a: Bits, b: Bits, *, width: int, carry: Bit = False) -> Bits:
    """A ripple-carry sum of two numbers, modulo 2^width."""
    total: Bits = []
    for index in range(width):
        sum_bit, carry = circuit.full_add(
            a[index] if index < len(a) else False, b[index] if index < len(b) else False, carry
        )
        total.append(sum_bit)
    return total


def negate_if(circuit: Circuit, condition: Bit, bits: Bits, *, width: int) -> Bits:
    """A number, or its two's complement of a width."""
    padded = [*bits, *[False] * width][:width]
    return add(circuit, [circuit.differ(bit, condition) for bit in padded], [], width=width, carry=condition)
