"""Fault maps: the stored bits that a chip reads wrong.

A cell has a lowest voltage at which it works, and so a lowest error rate of the memory at which it has failed: uniform
in [0, 1], drawn once per chip. A map at a higher rate therefore contains every map at a lower one. Drawing that number
for each cell would take time proportional to the size of the memory, so only the weakest cells are drawn, the weakest
first. With t = -ln(1 - rate), the t at which a cell fails is exponentially distributed, like the first arrival of a
Poisson process. So arrivals of a Poisson process over all cells are drawn, up to the t of the wanted rate, and a cell
fails at its first arrival. A second arrival in the same cell changes nothing.

What a failed cell gives is inverted by default, as D. Stutz et al. (Bit error robustness for energy-efficient DNN
accelerators, MLSys 2021) inject errors at the measured rates of `approx.SILICON_14NM`, 0 to 1 as likely as 1 to 0. In
other silicon, failed cells fall to the state that they prefer (S. Kim et al., MATIC, DATE 2018): they are stuck.
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

from approx.checks import check_integer, check_type
from approx.config import FaultyMemory

# Size of an SRAM bank, for failures that are correlated within a column.
BANK_ROWS = 256
BANK_COLUMNS = 256

_FIRST_SPAN = 2.0**-12  # of t, drawn at once; each further span is as long as all before it


@dataclass(frozen=True, eq=False)
class FaultMap:
    """The stored words that have failed cells.

    Attributes:
        words: int64, shape (n,): their indices in the flattened tensor of codes, ascending.
        failed: int32, shape (n,): bit i is set where the cell of bit i has failed.
        size: Number of words in the memory.
        stuck_at: int32, shape (n,): the bits at which failed cells are stuck; None if they are read inverted.
    """

    words: Tensor
    failed: Tensor
    size: int
    stuck_at: Tensor | None = None

    def dense(self) -> Tensor:
        """The failed cells of every word: int32, shape (size,)."""
        return self._spread(self.failed)

    def dense_stuck_at(self) -> Tensor | None:
        """The bits at which the failed cells of every word are stuck: int32, shape (size,); None if inverted."""
        return None if self.stuck_at is None else self._spread(self.stuck_at)

    def _spread(self, bits: Tensor) -> Tensor:
        return torch.zeros(self.size, dtype=torch.int32).scatter_(0, self.words, bits)

    def repeated(self, times: int) -> FaultMap:
        """The map of as many copies of the memory, one after the other, whose cells fail alike."""
        return FaultMap(
            (torch.arange(times)[:, None] * self.size + self.words).flatten(),
            self.failed.repeat(times),
            self.size * times,
            None if self.stuck_at is None else self.stuck_at.repeat(times),
        )

    def only(self, stored: Tensor) -> FaultMap:
        """The map without words that are not stored.

        Args:
            stored: bool, `size` elements: whether each word is stored.
        """
        kept = stored.flatten().cpu()[self.words]
        return FaultMap(
            self.words[kept],
            self.failed[kept],
            self.size,
            None if self.stuck_at is None else self.stuck_at[kept],
        )


def fault_map(memory: FaultyMemory, *, words: int, bits: int, seed: tuple[int, ...]) -> FaultMap:
    """The failed cells of a memory on one chip.

    The same seed gives the same cells at every rate: those at a lower rate, or with more robust bits, are among those
    at a higher rate, or with fewer robust bits. A stuck cell is stuck at the same bit at every rate.

    Args:
        memory: The failure rates.
        words: Number of codes in the memory.
        bits: Width of a code.
        seed: Non-negative numbers that identify the chip and the memory on it.
    """
    check_type("memory", memory, FaultyMemory, "an approx.FaultyMemory")
    check_integer("words", words)
    check_integer("bits", bits)
    check_type("seed", seed, (tuple, list), "a tuple of whole numbers", "for one number, pass (number,)")
    robust = min(memory.robust_bits, bits)
    in_robust = (2**robust - 1) << (bits - robust)
    failed = np.zeros(words, np.uint16)
    for rate, places in ((memory.bit_error_rate, 2**bits - 1 - in_robust), (memory.robust_bit_error_rate, in_robust)):
        if not (rate and places):
            continue
        for cells in _failed_cells(words * bits, rate, memory.column_correlation, seed):
            word, place = np.divmod(cells, bits)
            bit = np.left_shift(1, place).astype(np.uint16) & np.uint16(places)
            np.bitwise_or.at(failed, word, bit)
    struck = np.flatnonzero(failed != 0)
    found = failed[struck].astype(np.int32)
    stuck_at = None
    if memory.failed_cells == "stuck":
        stuck_at = torch.from_numpy(found & _preferred_states(struck, seed))
    return FaultMap(torch.from_numpy(struck), torch.from_numpy(found), words, stuck_at)


def memory_seed(chip_seed: int, memory: str, *more: int) -> tuple[int, ...]:
    """The seed of one memory of a chip, or of one read of it, independent of the chip's other memories.

    Args:
        chip_seed: The number of the chip.
        memory: Name of the memory, such as a layer's name.
        more: Further numbers, such as that of the read.
    """
    digest = hashlib.sha256(memory.encode()).digest()
    return (chip_seed, int.from_bytes(digest[:8], "little"), *more)


def _preferred_states(words: NDArray[np.int64], seed: tuple[int, ...]) -> NDArray[np.int32]:
    """The bits to which the cells of words fall if they fail, 0 as often as 1: the same whatever other words are asked.

    The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) of the word's index and a number drawn for the memory.
    """
    key = np.random.default_rng([*seed, 2**31 + 2]).integers(0, 2**63, dtype=np.uint64)
    mixed = (words.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed >> np.uint64(48)).astype(np.int32)


def read_back(codes: Tensor, faults: FaultMap, *, bits: int, signed: bool, storage: str) -> Tensor:
    """Codes as they are read from a memory.

    Args:
        codes: Integer values in any numeric type and shape, as many as the map has words.
        faults: The failed cells.
        bits: Width of a stored code.
        signed: Whether codes are signed. Unsigned codes are stored unchanged.
        storage: How signed codes are stored: `twos-complement` or `sign-magnitude`.

    Returns:
        A copy, in the type and shape of `codes`.
    """
    words = faults.words.to(codes.device)
    flat = codes.detach().flatten().clone()
    struck = stored_words(flat[words], bits=bits, signed=signed, storage=storage)
    failed = faults.failed.to(codes.device)
    struck = struck ^ failed if faults.stuck_at is None else struck & ~failed | faults.stuck_at.to(codes.device)
    flat[words] = code_values_of(struck, bits=bits, signed=signed, storage=storage).to(codes.dtype)
    return flat.view(codes.shape)


def stored_words(codes: Tensor, *, bits: int, signed: bool, storage: str) -> Tensor:
    """The bits that represent codes: int32 of the same shape."""
    codes = codes.to(torch.int32)
    if signed and storage == "sign-magnitude":
        sign = (codes < 0).to(torch.int32) << (bits - 1)
        return codes.abs() | sign
    words: Tensor = codes & (2**bits - 1)
    return words


def code_values_of(words: Tensor, *, bits: int, signed: bool, storage: str) -> Tensor:
    """The codes that stored bits represent: int32. Negative zero is zero."""
    if not signed:
        return words
    top = 2 ** (bits - 1)
    if storage == "sign-magnitude":
        magnitude = words & (top - 1)
        return torch.where(words >= top, -magnitude, magnitude)
    return torch.where(words >= top, words - 2 * top, words)


def _failed_cells(cells: int, rate: float, correlation: float, seed: tuple[int, ...]) -> Iterator[NDArray[np.int64]]:
    """Indices of the failed cells, some of them repeated, in parts."""
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
    """Failed cells if cells of a column share part of their weakness, so that each column has a different rate.

    A cell's lowest working voltage is sqrt(correlation) x the column's part + sqrt(1 - correlation) x its own part,
    both standard normal. Given the column's part, cells are independent. Columns are drawn the weakest first, so that a
    lower rate, at which fewer columns fail at all, draws the same numbers.
    """
    banks = -(-cells // (BANK_ROWS * BANK_COLUMNS))
    weakness = np.sort(np.random.default_rng([*seed, 2**31]).standard_normal(banks * BANK_COLUMNS))[::-1]
    order = np.random.default_rng([*seed, 2**31 + 1]).permutation(len(weakness))
    quantile = torch.special.ndtri(torch.tensor(rate, dtype=torch.float64)).item()
    shifted = (quantile + sqrt(correlation) * weakness) / sqrt(1 - correlation)
    rates = torch.special.ndtr(torch.from_numpy(shifted)).numpy()
    with np.errstate(divide="ignore"):
        until = np.where(rates < 1, -np.log1p(-rates), inf)  # of each column, descending
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
    """Fixed spans of t that cover 0 to `until`."""
    start, end = 0.0, _FIRST_SPAN
    while start < until:
        yield start, end
        start, end = end, 2 * end
