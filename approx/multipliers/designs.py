"""Published approximate multipliers, as arithmetic on unsigned integers.

Every function takes tensors of non-negative int64 that broadcast together, and returns int64. The designs are defined
for unsigned operands; `approx.multipliers.families` puts sign logic around them. Where a paper leaves something open,
the docstring says what was chosen.
"""

from __future__ import annotations

import torch
from torch import Tensor


def leading_one(x: Tensor) -> Tensor:
    """Position of the highest set bit; 0 for 0 and 1."""
    # frexp gives the exact exponent, where a logarithm could round up to the next one.
    return (torch.frexp(x.to(torch.float64)).exponent - 1).clamp(min=0).to(torch.int64)


def partial_products(a: Tensor, w: Tensor, *, weight_bits: int, skipped_rows: int, skipped_columns: int) -> Tensor:
    """The sum of the partial-product bits a_i w_j 2^(i+j) with j >= skipped_rows and i + j >= skipped_columns.

    Truncated multipliers leave out columns (Schulte and Swartzlander, Truncated multiplication with correction
    constant, VLSI Signal Processing VI, 1993); broken-array multipliers rows as well (Mahdiani, Ahmadi, Fakhraie,
    Lucas, IEEE TCAS-I 57(4), 2010: horizontal and vertical break level). Row j is the activation, shifted by weight
    bit j.
    """
    total = torch.zeros_like(a * w)
    for row in range(skipped_rows, weight_bits):
        dropped = max(0, skipped_columns - row)
        total += ((w >> row) & 1) * ((a >> dropped) << (dropped + row))
    return total


def truncation_correction(columns: int) -> int:
    """The constant that compensates for the dropped columns on average, as a value that the kept columns can hold.

    If every operand bit is 1 half of the time, the dropped bits of t columns sum to ((t - 1) 2^t + 1) / 4 on average
    (Schulte and Swartzlander, 1993; for a product that is not rounded further). It is rounded to a multiple of 2^t.
    """
    mean = (((columns - 1) << columns) + 1) / 4
    return round(mean / (1 << columns)) << columns


def drum(x: Tensor, kept_bits: int) -> Tensor:
    """An operand as DRUM multiplies it: the `kept_bits` from the leading one down, the lowest of them set to 1.

    Shorter operands are unchanged. Hashemi, Bahar, Reda, DRUM: a dynamic range unbiased multiplier for approximate
    applications, ICCAD 2015.
    """
    shift = (leading_one(x) - kept_bits + 1).clamp(min=0)
    return torch.where(shift > 0, ((x >> shift) | 1) << shift, x)


def static_segment(x: Tensor, bits: int, segment_bits: int) -> Tensor:
    """An operand as SSM multiplies it: its top segment if any bit above the lowest segment is set, else all of it.

    Narayanamoorthy, Moghaddam, Liu, Park, Kim, IEEE TVLSI 23(6), 2015. Segments are segment_bits >= bits / 2 wide.
    """
    shift = bits - segment_bits
    return torch.where(x >> segment_bits > 0, (x >> shift) << shift, x)


def mitchell(a: Tensor, w: Tensor) -> Tensor:
    """2 to the sum of logarithms that are linear between powers of two, without rounding; 0 if an operand is 0.

    Mitchell, Computer multiplication and division using binary logarithms, IRE Trans. Electronic Computers EC-11(4),
    1962.
    """
    ka, kw = leading_one(a), leading_one(w)
    fractions = ((a - (1 << ka)) << kw) + ((w - (1 << kw)) << ka)  # (x_a + x_w) 2^(ka + kw)
    whole = torch.ones_like(a * w) << (ka + kw)
    product = torch.where(fractions < whole, whole + fractions, 2 * fractions)
    return torch.where((a == 0) | (w == 0), 0, product)


def nearest_power_of_two(x: Tensor) -> Tensor:
    """RoBA's rounding: halves round up, except 3, which rounds to 2; 0 stays 0."""
    k = leading_one(x)
    up = (x >> (k - 1).clamp(min=0)) & 1  # the bit below the leading one: at least halfway
    rounded = torch.where((k >= 2) & (up == 1), 2 << k, 1 << k)
    return torch.where(x == 0, 0, rounded)


def roba(a: Tensor, w: Tensor) -> Tensor:
    """The product without the product of the rounding errors: a_r w + w_r a - a_r w_r.

    Zendegani, Kamal, Bahadori, Afzali-Kusha, Pedram, RoBA multiplier, IEEE TVLSI 25(2), 2017 (S-RoBA with signs).
    """
    rounded_a, rounded_w = nearest_power_of_two(a), nearest_power_of_two(w)
    return rounded_a * w + rounded_w * a - rounded_a * rounded_w


def kulkarni(a: Tensor, w: Tensor, *, bits: int) -> Tensor:
    """Products of 2-bit digits, exact except 3 x 3 = 7, summed exactly.

    Kulkarni, Gupta, Ercegovac, Trading accuracy for power with an underdesigned multiplier architecture, VLSI Design
    2011.
    """
    total = a * w
    for i in range(0, bits, 2):
        for j in range(0, bits, 2):
            both_three = ((a >> i) & 3 == 3) & ((w >> j) & 3 == 3)
            total = total - (both_three.to(torch.int64) << (i + j + 1))
    return total


def momeni(a: Tensor, w: Tensor) -> Tensor:
    """An 8x8 Dadda tree with approximate 4:2 compressors in its 7 lowest columns and exact ones above.

    The second compressor and the fourth multiplier of Momeni, Han, Montuschi, Lombardi, Design and analysis of
    approximate compressors for multiplication, IEEE Trans. Computers 64(4), 2015. The compressor takes four bits to

        sum = not (x1 xor x2) or not (x3 xor x4)        carry = (x1 or x2) and (x3 or x4)

    and gives 1 for four zeros, so that products of zero are not zero. The paper does not give the order of bits within
    a column; this order reproduces its published figures (normalised error distance 0.7827e-3, 9,320
    exact products).
    """
    zero = torch.zeros_like(a * w)
    columns: list[list[Tensor]] = [[] for _ in range(17)]
    for row in range(8):
        for bit in range(8):
            columns[row + bit].append((((a >> bit) & 1) * ((w >> row) & 1)).expand_as(zero))
    for stage in _MOMENI_STAGES:
        sums: list[list[Tensor]] = [[] for _ in range(17)]
        carries: list[list[Tensor]] = [[] for _ in range(17)]
        chained: list[list[Tensor]] = [[] for _ in range(17)]  # from exact compressors to those of the next column
        for column, bits in enumerate(columns):
            rest = list(bits)
            for cell in stage.get(column, ""):
                taken = [rest.pop(0) if rest else zero for _ in range({"h": 2, "f": 3, "c": 4}[cell])]
                if cell == "c" and column < 7:
                    x1, x2, x3, x4 = taken
                    sums[column].append((1 - (x1 ^ x2)) | (1 - (x3 ^ x4)))
                    carries[column + 1].append((x1 | x2) & (x3 | x4))
                elif cell == "c":
                    carried_in = chained[column].pop(0) if chained[column] else zero
                    first = taken[0] + taken[1] + taken[2]
                    second = (first & 1) + taken[3] + carried_in
                    chained[column + 1].append(first >> 1)
                    sums[column].append(second & 1)
                    carries[column + 1].append(second >> 1)
                else:
                    counted = torch.stack(taken).sum(0)
                    sums[column].append(counted & 1)
                    carries[column + 1].append(counted >> 1)
            # Carries of exact compressors that no other compressor takes join the next stage.
            columns[column] = carries[column] + sums[column] + rest + chained[column]
    product = zero
    for column, bits in enumerate(columns):
        for one in bits:
            product = product + (one << column)
    return product


# Half adders, full adders and 4:2 compressors of each column, for two stages.
_MOMENI_STAGES = (
    {4: "h", 5: "c", 6: "ch", 7: "cc", 8: "cc", 9: "cf", 10: "c", 11: "f"},
    {2: "h", **dict.fromkeys(range(3, 13), "c"), 13: "f"},
)
