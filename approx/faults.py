"""Which stored bits are read inverted, on which chip.

A cell has a lowest voltage at which it works, and so a lowest error rate of the memory at which it has failed: uniform
in [0, 1], drawn once a chip. A map at a higher rate therefore contains every map at a lower one. Drawing that number
for each cell would cost as much as the memory is large, so only the weakest cells are drawn, the weakest first. With
t = -ln(1 - rate), the t at which a cell fails is exponentially distributed, as the first of random arrivals at an even
pace; so arrivals are drawn at an even pace over all cells, up to the t of the rate in question, and a cell fails at its
first. A second arrival in the same cell changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, log1p, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from approx.config import FaultyMemory

# A bank of an SRAM, for failures that the cells of a column share.
BANK_ROWS = 256
BANK_COLUMNS = 256

_FIRST_SPAN = 2.0**-12  # of t that is drawn at a time; each next span is as long as all before


@dataclass(frozen=True, eq=False)
class FaultMap:
    """The stored words that are read with inverted bits.

    Attributes:
        words: int64, shape (n,): where they lie, in the flattened tensor of codes; rising.
        flips: int32, shape (n,): bit i is set where bit i is inverted.
        size: How many words the memory holds.
    """

    words: Tensor
    flips: Tensor
    size: int

    def dense(self) -> Tensor:
        """The inverted bits of every word: int32, shape (size,)."""
        return torch.zeros(self.size, dtype=torch.int32).scatter_(0, self.words, self.flips)

    def only(self, stored: Tensor) -> FaultMap:
        """The map without words that are not stored.

        Args:
            stored: bool, `size` elements.
        """
        kept = stored.flatten().cpu()[self.words]
        return FaultMap(self.words[kept], self.flips[kept], self.size)


def fault_map(memory: FaultyMemory, *, words: int, bits: int, seed: tuple[int, ...]) -> FaultMap:
    """The failed cells of a memory on one chip.

    The same seed gives the same cells at every rate: those at a lower rate, or with more robust bits, are among those
    at a higher one, or with fewer.

    Args:
        memory: Its failure rates.
        words: How many codes it holds.
        bits: Width of a code.
        seed: Non-negative numbers that name the chip and the memory on it.
    """
    robust = min(memory.robust_bits, bits)
    in_robust = (2**robust - 1) << (bits - robust)
    flips = np.zeros(words, np.uint16)
    for rate, places in ((memory.bit_error_rate, 2**bits - 1 - in_robust), (memory.robust_bit_error_rate, in_robust)):
        if not (rate and places):
            continue
        for cells in _failed_cells(words * bits, rate, memory.column_correlation, seed):
            word, place = np.divmod(cells, bits)
            bit = np.left_shift(1, place).astype(np.uint16) & np.uint16(places)
            np.bitwise_or.at(flips, word, bit)
    struck = np.flatnonzero(flips != 0)
    return FaultMap(torch.from_numpy(struck), torch.from_numpy(flips[struck].astype(np.int32)), words)


def memory_seed(chip_seed: int, memory: str, *more: int) -> tuple[int, ...]:
    """The seed of one memory of a chip, and of one read of it: whatever else the chip holds changes nothing.

    Args:
        chip_seed: Names the chip.
        memory: Names the memory, such as a layer's name.
        more: What else tells it apart.
    """
    digest = hashlib.sha256(memory.encode()).digest()
    return (chip_seed, int.from_bytes(digest[:8], "little"), *more)


def read_back(codes: Tensor, faults: FaultMap, *, bits: int, signed: bool, storage: str) -> Tensor:
    """Codes as they come back from a memory.

    Args:
        codes: Integer values in any numeric type, as many as the map has words, any shape.
        faults: The inverted bits.
        bits: Width of a stored code.
        signed: Whether codes are signed. Unsigned ones are stored as they are.
        storage: How signed codes are stored: `twos-complement` or `sign-magnitude`.

    Returns:
        In the type and shape of `codes`; a copy.
    """
    words = faults.words.to(codes.device)
    flat = codes.detach().flatten().clone()
    struck = stored_words(flat[words], bits=bits, signed=signed, storage=storage) ^ faults.flips.to(codes.device)
    flat[words] = code_values_of(struck, bits=bits, signed=signed, storage=storage).to(codes.dtype)
    return flat.view(codes.shape)


def stored_words(codes: Tensor, *, bits: int, signed: bool, storage: str) -> Tensor:
    """The bits that stand for codes: int32 of the same shape."""
    codes = codes.to(torch.int32)
    if signed and storage == "sign-magnitude":
        sign = (codes < 0).to(torch.int32) << (bits - 1)
        return codes.abs() | sign
    words: Tensor = codes & (2**bits - 1)
    return words


def code_values_of(words: Tensor, *, bits: int, signed: bool, storage: str) -> Tensor:
    """The codes that stored bits stand for: int32. Negative zero is zero."""
    if not signed:
        return words
    top = 2 ** (bits - 1)
    if storage == "sign-magnitude":
        magnitude = words & (top - 1)
        return torch.where(words >= top, -magnitude, magnitude)
    return torch.where(words >= top, words - 2 * top, words)


def _failed_cells(cells: int, rate: float, correlation: float, seed: tuple[int, ...]) -> Iterator[NDArray[np.int64]]:
    """Numbers of the failed cells, some more than once, in parts."""
    if rate == 1:
        yield np.arange(cells)
    elif correlation == 0:
        yield from _arrivals(cells, -log1p(-rate), seed)
    else:
        yield from _arrivals_by_column(cells, rate, correlation, seed)


def _arrivals(cells: int, until: float, seed: tuple[int, ...]) -> Iterator[NDArray[np.int64]]:
    for span, (start, end) in enumerate(_spans(until)):
        random = np.random.default_rng([*seed, span])
        count = random.poisson(cells * (end - start))
        places = random.integers(0, cells, count)
        if until < end:
            places = places[random.random(count) < (until - start) / (end - start)]
        yield places


def _arrivals_by_column(
    cells: int, rate: float, correlation: float, seed: tuple[int, ...]
) -> Iterator[NDArray[np.int64]]:
    """Cells of a column share a part of their weakness, so that each column has a rate of its own.

    A cell's lowest working voltage is sqrt(correlation) x the column's + sqrt(1 - correlation) x its own, both standard
    normal. Given the column's, cells are independent. Columns are drawn the weakest first, so that a lower rate, at
    which fewer columns fail at all, draws the same numbers.
    """
    banks = -(-cells // (BANK_ROWS * BANK_COLUMNS))
    weakness = np.sort(np.random.default_rng([*seed, 2**31]).standard_normal(banks * BANK_COLUMNS))[::-1]
    order = np.random.default_rng([*seed, 2**31 + 1]).permutation(len(weakness))
    quantile = torch.special.ndtri(torch.tensor(rate, dtype=torch.float64)).item()
    shifted = (quantile + sqrt(correlation) * weakness) / sqrt(1 - correlation)
    rates = torch.special.ndtr(torch.from_numpy(shifted)).numpy()
    with np.errstate(divide="ignore"):
        until = np.where(rates < 1, -np.log1p(-rates), inf)  # of each column, falling
    for span, (start, end) in enumerate(_spans(float(min(until[0], 64.0)))):
        random = np.random.default_rng([*seed, span])
        counts = random.poisson(BANK_ROWS * (end - start), len(weakness))
        active = int(np.searchsorted(-until, -start))
        columns = np.repeat(np.arange(active), counts[:active])
        draws = random.random((len(columns), 2))
        failed = start + draws[:, 0] * (end - start) < until[columns]
        bank, column = np.divmod(order[columns[failed]], BANK_COLUMNS)
        row = (draws[failed, 1] * BANK_ROWS).astype(np.int64)
        places = (bank * BANK_ROWS + row) * BANK_COLUMNS + column
        yield places[places < cells]


def _spans(until: float) -> Iterator[tuple[float, float]]:
    """Fixed stretches of t that cover 0 to `until`."""
    start, end = 0.0, _FIRST_SPAN
    while start < until:
        yield start, end
        start, end = end, 2 * end
