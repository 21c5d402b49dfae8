"""Arithmetic blocks from which all multipliers here are built, including the exact one.

Partial products are always summed by the same method, Dadda's reduction to two rows followed by a ripple-carry adder,
so that two designs differ in what they omit or add and not in how well they were described.
"""

from __future__ import annotations

from collections.abc import Sequence

from energy.gates.circuit import Bit, Bits, Circuit

Columns = list[Bits]  # the bits of every weight 2^i, i from 0 up


def columns_of(width: int) -> Columns:
    """Make empty columns."""
    return [[] for _ in range(width)]


def place(columns: Columns, bits: Sequence[Bit], shift: int = 0) -> None:
    """Put a number, shifted left, into the columns to be summed. Bits beyond the last column are dropped."""
    for index, bit in enumerate(bits, shift):
        if index < len(columns) and bit is not False:
            columns[index].append(bit)


def partial_products(circuit: Circuit, a: Bits, w: Bits, *, skipped_rows: int = 0, skipped_columns: int = 0) -> Columns:
    """Make the bits a_i w_j whose sum is the product, without the skipped ones."""
    columns = columns_of(len(a) + len(w))
    for j, weight_bit in enumerate(w):
        for i, activation_bit in enumerate(a):
            if j >= skipped_rows and i + j >= skipped_columns:
                place(columns, [circuit.all_of(activation_bit, weight_bit)], i + j)
    return columns


def add_columns(circuit: Circuit, columns: Columns) -> Bits:
    """Sum all bits, modulo two to the number of columns."""
    columns = [list(bits) for bits in columns]
    heights = [2]
    while heights[-1] < max(map(len, columns)):
        heights.append(heights[-1] * 3 // 2)  # Dadda's: 2, 3, 4, 6, 9, 13 ...
    for height in reversed(heights):
        columns = _reduced(circuit, columns, height)
    return _rippled(circuit, columns)


def _reduced(circuit: Circuit, columns: Columns, height: int) -> Columns:
    """Reduce columns to at most `height` bits with the same sum, by the fewest adders."""
    result = [list(bits) for bits in columns]
    for index, bits in enumerate(result):
        while len(bits) > height:
            # Oldest first: these bits arrive at the same time.
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
    """Add two numbers by a ripple-carry adder, modulo 2^width."""
    total: Bits = []
    for index in range(width):
        sum_bit, carry = circuit.full_add(
            a[index] if index < len(a) else False, b[index] if index < len(b) else False, carry
        )
        total.append(sum_bit)
    return total


def negate_if(circuit: Circuit, condition: Bit, bits: Bits, *, width: int) -> Bits:
    """Negate a number if the condition is 1: in two's complement of `width` bits."""
    padded = [*bits, *[False] * width][:width]
    return add(circuit, [circuit.differ(bit, condition) for bit in padded], [], width=width, carry=condition)
