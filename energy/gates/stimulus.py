"""Operands for circuits: all pairs for verification, and random ones for energy.

Random pairs are independent draws: uniform; recorded, as the multipliers of a trained network see them
(`energy/operand_histograms.csv`); or held, which is recorded while the weight stays, in the limit of long stays. What a
product costs if its weight stays for u products is linear in 1/u between the two (`staying_pairs` draws such stays).
Recorded zeros are excluded: `energy.actions` counts products with a zero separately, because hardware gates them. All
designs get the same draws, so that a comparison shows the designs.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from energy.gates.simulation import Codes

OPERATIONS = 16384  # gives a standard error of a relative energy of 0.3 %
SEED = 1
STAY = 64
RECORDED_BITS = 8  # of the histograms

Kind = Literal["uniform", "recorded", "held"]
KINDS: tuple[Kind, ...] = ("uniform", "recorded", "held")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Operand values, pair by pair.

    Attributes:
        activations: Activations.
        weights: Weights, equally many.
    """

    activations: Codes
    weights: Codes


def operand_values(bits: int, *, signed: bool) -> Codes:
    """List all values of an operand in the order of its codes."""
    codes = np.arange(2**bits, dtype=np.int64)
    return np.where(codes >= 2 ** (bits - 1), codes - 2**bits, codes) if signed else codes


def weight_values(form: str, bits: int) -> Codes:
    """List all values of a weight in a form; sign and magnitude lacks the most negative one."""
    values = operand_values(bits, signed=form != "unsigned")
    return values[values > -(2 ** (bits - 1))] if form == "layer" else values


def activation_values(form: str, bits: int) -> Codes:
    """List all values of an activation in a form."""
    return operand_values(bits, signed=form == "signed")


def all_pairs(activations: Codes, weights: Codes) -> Pairs:
    """Pair every activation with every weight."""
    first, second = np.meshgrid(activations, weights, indexing="ij")
    return Pairs(activations=first.ravel(), weights=second.ravel())


def random_pairs(kind: Kind, form: str, weight_bits: int, activation_bits: int) -> Pairs:
    """Draw `OPERATIONS` + 1 pairs.

    Held weights are in ascending order, each as often as its share says, so that no weight is met more often by chance,
    and stay for `STAY` products. Whoever measures leaves out the operations in which they change.

    Args:
        kind: The distribution.
        form: One of `energy.gates.verilog.FORMS`.
        weight_bits: Width of a weight.
        activation_bits: Width of an activation.
    """
    draws = np.random.default_rng(SEED).random((2, OPERATIONS + 1))
    weights, activations = weight_values(form, weight_bits), activation_values(form, activation_bits)
    if kind == "uniform":
        shares = np.full(len(activations), 1 / len(activations)), np.full(len(weights), 1 / len(weights))
    else:
        shares = _recorded_shares(form, weight_bits, activation_bits)
    if kind == "held":
        draws[1] = _staying(_quantiles(_stays(STAY)), STAY)
    return Pairs(
        activations=np.sort(activations)[_drawn(draws[0], shares[0])],
        weights=np.sort(weights)[_drawn(draws[1], shares[1])],
    )


def staying_pairs(uses: int, form: str, weight_bits: int, activation_bits: int) -> Pairs:
    """Draw `OPERATIONS` + 1 recorded pairs in which each drawn weight stays for some products.

    Args:
        uses: Products for which a weight stays.
        form: One of `energy.gates.verilog.FORMS`.
        weight_bits: Width of a weight.
        activation_bits: Width of an activation.
    """
    random = np.random.default_rng(SEED)
    activations = np.sort(activation_values(form, activation_bits))
    weights = np.sort(weight_values(form, weight_bits))
    shares = _recorded_shares(form, weight_bits, activation_bits)
    draws = _staying(random.permutation(_quantiles(_stays(uses))), uses)
    return Pairs(
        activations=activations[_drawn(random.random(OPERATIONS + 1), shares[0])],
        weights=weights[_drawn(draws, shares[1])],
    )


def _stays(uses: int) -> int:
    """Return the number of stays in `OPERATIONS` + 1 products."""
    return -(-(OPERATIONS + 1) // uses)


def _staying(draws: NDArray[np.float64], uses: int) -> NDArray[np.float64]:
    """Repeat each draw, for `OPERATIONS` + 1 products in all."""
    return np.repeat(draws, uses)[: OPERATIONS + 1]


def _quantiles(count: int) -> NDArray[np.float64]:
    """Return evenly spaced draws, which meet every value as often as its share says."""
    return (np.arange(count) + 0.5) / count


def _recorded_shares(
    form: str, weight_bits: int, activation_bits: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the recorded shares of activations and of weights, zeros excluded, in ascending order of values."""
    return (
        _without_zero(_recorded_activations(form, activation_bits), np.sort(activation_values(form, activation_bits))),
        _without_zero(_recorded_weights(form, weight_bits), np.sort(weight_values(form, weight_bits))),
    )


def _drawn(draws: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.intp]:
    places = np.searchsorted(np.cumsum(shares), draws, side="right")
    return np.minimum(places, len(shares) - 1)


@cache
def _histograms() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read the shares of activations 0 to 255 and of weights -128 to 127."""
    text = files("energy").joinpath("operand_histograms.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    activations = np.array([float(row["activation_count"]) for row in rows])
    weights = np.roll([float(row["weight_count"]) for row in rows], 2 ** (RECORDED_BITS - 1))
    return activations / activations.sum(), weights / weights.sum()


def _recorded_activations(form: str, bits: int) -> NDArray[np.float64]:
    """Shares of an activation's values in ascending order; the recorded range is scaled to the positive values."""
    shares, _ = _histograms()
    positive_bits = bits - (form == "signed")
    codes = np.arange(2**RECORDED_BITS)
    if positive_bits > RECORDED_BITS:
        shares = np.where(codes == 0, 0.0, shares)  # a zero is no smaller in more bits
        codes, shares = _finer(codes, shares, positive_bits - RECORDED_BITS)
        target = np.clip(codes, 0, 2**positive_bits - 1)
    else:
        target = np.rint(codes * (2**positive_bits - 1) / (2**RECORDED_BITS - 1)).astype(np.int64)
    lowest = 2 ** (bits - 1) if form == "signed" else 0
    return _collected(target + lowest, shares, 2**bits)


def _recorded_weights(form: str, bits: int) -> NDArray[np.float64]:
    """Shares of a weight's values in ascending order; unsigned weights are magnitudes."""
    _, shares = _histograms()
    recorded = np.arange(-(2 ** (RECORDED_BITS - 1)), 2 ** (RECORDED_BITS - 1))
    most = 2 ** (RECORDED_BITS - 1) - 1
    if form == "unsigned":
        target = np.minimum(np.rint(np.abs(recorded) * (2**bits - 1) / most), 2**bits - 1).astype(np.int64)
        return _collected(target, shares, 2**bits)
    largest = 2 ** (bits - 1) - 1
    if bits > RECORDED_BITS:
        recorded, shares = _finer(recorded, shares, bits - RECORDED_BITS)
        values = np.clip(recorded, -largest, largest)
    else:
        values = np.clip(np.rint(recorded * largest / most), -largest, largest).astype(np.int64)
    if form == "signed":
        return _collected(values + largest + 1, shares, 2**bits)
    return _collected(values + largest, shares, 2**bits - 1)


def _finer(codes: Codes, shares: NDArray[np.float64], bits: int) -> tuple[Codes, NDArray[np.float64]]:
    """Spread each code evenly over the codes, wider by `bits`, that would be rounded to it."""
    offsets = np.arange(2**bits) - 2**bits // 2
    return (codes[:, None] * 2**bits + offsets).ravel(), np.repeat(shares, 2**bits) / 2**bits


def _without_zero(shares: NDArray[np.float64], values: Codes) -> NDArray[np.float64]:
    """Exclude zero, unless operands are so narrow that all are rounded to it."""
    kept = np.where(values == 0, 0.0, shares)
    return kept / kept.sum() if kept.any() else shares


def _collected(places: Codes, shares: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    total = np.zeros(count)
    np.add.at(total, places, shares)
    return total
