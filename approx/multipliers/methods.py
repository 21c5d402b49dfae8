"""Methods that compute a truth table exactly.

- **Factors**: the table is a short sum of products of one-operand functions, `sum over t of f[t][a] * g[t][w]`. Then a
  matrix product of approximate products is `terms` exact integer matrix products. Recodings have one term; many
  circuits are the exact product plus an error of low rank.
- **Row tables** work for any table (`approx/csrc/table_convolution.cpp`).

A factorisation is found by integer rank reduction and used only if it reproduces every entry of the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

# Exact integer matrix products that are still faster than row tables: measured, see benchmarks/README.md.
MAX_TERMS = 4

_PRIMES = (2**31 - 1, 2**31 - 19)


@dataclass(frozen=True, eq=False)
class Factors:
    """A table as a sum of products of one-operand functions.

    Attributes:
        activation: int32, shape (terms, activation codes).
        weight: int32, shape (terms, weight codes).
    """

    activation: Tensor
    weight: Tensor

    @property
    def terms(self) -> int:
        """Number of products in the sum."""
        return len(self.activation)

    def table(self) -> Tensor:
        """The table of the sum: int32, shape (activation codes, weight codes)."""
        return (self.activation.to(torch.int64).T @ self.weight.to(torch.int64)).to(torch.int32)

    def fitted(self) -> Factors:
        """The same sum, with each term whose weight factor slightly exceeds 8 signed bits split in two."""
        activation, weight = [], []
        for f, g in zip(self.activation, self.weight, strict=True):
            within = g.clamp(-128, 127)
            for part in (within, g - within) if (g != within).any() else (g,):
                activation.append(f)
                weight.append(part)
        return Factors(torch.stack(activation), torch.stack(weight))

    @cached_property
    def fits_bytes(self) -> bool:
        """Whether weight factors fit 8 signed bits, and activation factors 8 bits after a shift of all codes."""
        spread = self.activation.amax(1) - self.activation.amin(1)
        return bool(spread.max() <= 255 and self.weight.min() >= -128 and self.weight.max() <= 127)

    @cached_property
    def activation_shift(self) -> Tensor:
        """int32, shape (terms,): the shift that `activation_bytes` subtracts; zero where none is needed."""
        low, high = self.activation.amin(1), self.activation.amax(1)
        if low.min() >= 0 and high.max() <= 255:
            return torch.zeros_like(low)
        return torch.where((low >= -128) & (high <= 127), 0, low + 128)

    @cached_property
    def activation_bytes(self) -> Tensor:
        """Each term minus its shift, shape of `activation`: uint8 if all are 0 to 255 without a shift, else int8."""
        unsigned = self.activation.min() >= 0 and self.activation.max() <= 255
        return (self.activation - self.activation_shift[:, None]).to(torch.uint8 if unsigned else torch.int8)

    @cached_property
    def keeps_activations(self) -> bool:
        """Whether there is a single term, whose activation factor is the index of the code."""
        return self.terms == 1 and self.activation[0].tolist() == list(range(self.activation.shape[1]))

    @cached_property
    def weight_bytes(self) -> Tensor:
        """int8, shape of `weight`."""
        return self.weight.to(torch.int8)


@dataclass(frozen=True, eq=False)
class RowTable:
    """A truth table as the native kernel reads it.

    Attributes:
        columns: uint16, shape (weight codes, activation codes rounded up to a multiple of 8): the table's columns, each
            minus its smallest entry.
        column_least: int32, shape (weight codes,): that smallest entry.
    """

    columns: Tensor
    column_least: Tensor


def row_tables(lut: Tensor) -> list[RowTable]:
    """The table for the native kernel: one, or two if a column spans more than 16 bits.

    The sums of the second, if any, are multiplied by 2**16.
    """
    columns = lut.T.to(torch.int64)
    parts = [columns] if _span(columns) < 2**16 else [columns & 0xFFFF, columns >> 16]
    tables = []
    for part in parts:
        least = part.amin(1)
        padded = part.new_zeros(part.shape[0], -(-part.shape[1] // 8) * 8)
        padded[:, : part.shape[1]] = part - least[:, None]
        # Through int16, because conversion to uint16 is not supported everywhere.
        tables.append(RowTable(padded.to(torch.int16).view(torch.uint16), least.to(torch.int32)))
    return tables


def factorize(lut: Tensor, exact: Tensor) -> Factors | None:
    """Factors of this table, of at most MAX_TERMS terms that fit 8 bits; None if none were found.

    Args:
        lut: int32, shape (activation codes, weight codes).
        exact: int32, the exact product in the same order, which may serve as one of the terms.
    """
    rows, columns = exact.shape
    weight_values = exact[1] if rows > 1 else exact[0]  # the row of activation code 1
    activation_values = exact[:, 1]
    for base in (None, (activation_values, weight_values)):
        terms = [] if base is None else [base]
        rest = lut.to(torch.int64) - (0 if base is None else exact.to(torch.int64))
        while rest.any() and len(terms) < MAX_TERMS:
            term = _rank_one_part(rest)
            if term is None:
                break
            terms.append(_balanced(*term))
            rest = rest - term[0][:, None] * term[1][None, :]
        if rest.any():
            continue
        if not terms:  # the table of zeros
            terms = [(torch.zeros(rows, dtype=torch.int64), torch.zeros(columns, dtype=torch.int64))]
        factors = Factors(
            torch.stack([activation.to(torch.int32) for activation, _ in terms]),
            torch.stack([weight.to(torch.int32) for _, weight in terms]),
        ).fitted()
        if factors.fits_bytes and factors.terms <= MAX_TERMS and torch.equal(factors.table(), lut):
            return factors
    return None


def table_rank(table: Tensor) -> int:
    """Rank of an integer matrix over the rationals.

    It is computed modulo two primes. Modulo a prime it can only be smaller; the result is too small only if both primes
    divide every largest non-zero minor.
    """
    return max(_rank_modulo(table.to(torch.int64), prime) for prime in _PRIMES)


def _span(columns: Tensor) -> int:
    return int((columns.amax(1) - columns.amin(1)).max())


def _rank_one_part(rest: Tensor) -> tuple[Tensor, Tensor] | None:
    """Integers f, g for which rest - f g^T has a rank smaller by one, or None.

    Wedderburn's rank reduction: for a pivot p = rest[i, j], rest - rest[:, j] rest[i, :] / p. It stays an integer
    matrix if p divides its whole column or its whole row.
    """
    magnitude = rest.abs()
    column_divisor = torch.from_numpy(np.gcd.reduce(magnitude.numpy(), axis=0))
    row_divisor = torch.from_numpy(np.gcd.reduce(magnitude.numpy(), axis=1))
    divides_column = (magnitude > 0) & (magnitude == column_divisor[None, :])
    divides_row = (magnitude > 0) & (magnitude == row_divisor[:, None])
    best: tuple[int, Tensor, Tensor] | None = None
    for pivots, along_column in ((divides_column, True), (divides_row, False)):
        places = pivots.nonzero()
        if not len(places):
            continue
        # Of the many pivots, take the one with the smallest factors: they have to fit 8 bits.
        widest_row, widest_column = magnitude.amax(1)[places[:, 0]], magnitude.amax(0)[places[:, 1]]
        pivot_size = magnitude[places[:, 0], places[:, 1]]
        size = (
            torch.maximum(widest_row, widest_column // pivot_size)
            if along_column
            else torch.maximum(widest_row // pivot_size, widest_column)
        )
        choice = int(size.argmin())
        i, j = places[choice].tolist()
        f, g, pivot = rest[:, j], rest[i, :], rest[i, j]
        f, g = (f // pivot, g) if along_column else (f, g // pivot)
        if best is None or int(size[choice]) < best[0]:
            best = (int(size[choice]), f, g)
    return None if best is None else (best[1], best[2])


def _balanced(activation: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The same product, with just enough of a too wide weight factor's common divisor moved to the other factor."""
    common = int(np.gcd.reduce(weight.numpy()))
    for divisor in range(1, common + 1):
        if common % divisor == 0 and -128 * divisor <= weight.min() and weight.max() <= 127 * divisor:
            return activation * divisor, weight // divisor
    return activation, weight


def _rank_modulo(matrix: Tensor, prime: int) -> int:
    rest = matrix % prime
    rank = 0
    for column in range(rest.shape[1]):
        candidates = rest[rank:, column].nonzero()
        if not len(candidates):
            continue
        pivot = rank + int(candidates[0])
        rest[[rank, pivot]] = rest[[pivot, rank]]
        inverse = pow(int(rest[rank, column]), -1, prime)
        rest[rank] = rest[rank] * inverse % prime
        rest[rank + 1 :] = (rest[rank + 1 :] - rest[rank + 1 :, column : column + 1] * rest[rank]) % prime
        rank += 1
        if rank == rest.shape[0]:
            break
    return rank
