"""The operands that a circuit is given: all of them for the proof, and random ones for its energy.

Random operands are drawn one pair after another, independently: uniformly; or as a trained network's multipliers see
them (`energy/operand_histograms.csv`); or so, but with each weight staying for `HELD` products, as a weight-stationary
array holds it. A network's zeros are left out: `energy.actions` counts products with a zero apart, which hardware
gates. All designs get the same draws, so that what they are compared by is the designs.
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

OPERATIONS = 16384  # the standard error of a relative energy is then 0.3 %, with held weights 1 %
SEED = 1
HELD = 64  # between the 100 positions of LeNet-5's second convolution and the 1 of its last layers
RECORDED_BITS = 8  # of the histograms

Kind = Literal["uniform", "recorded", "stationary"]
KINDS: tuple[Kind, ...] = ("uniform", "recorded", "stationary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Operand values, pair by pair.

    Attributes:
        activations: Integers.
        weights: As many.
    """

    activations: Codes
    weights: Codes


def operand_values(bits: int, *, signed: bool) -> Codes:
    """All values of an operand, in the order of its codes."""
    codes = np.arange(2**bits, dtype=np.int64)
    return np.where(codes >= 2 ** (bits - 1), codes - 2**bits, codes) if signed else codes


def weight_values(form: str, bits: int) -> Codes:
    """All values of a weight in a form; sign and magnitude lacks the most negative one."""
    values = operand_values(bits, signed=form != "unsigned")
    return values[values > -(2 ** (bits - 1))] if form == "layer" else values


def activation_values(form: str, bits: int) -> Codes:
    """All values of an activation in a form."""
    return operand_values(bits, signed=form == "signed")


def all_pairs(activations: Codes, weights: Codes) -> Pairs:
    """Every activation with every weight."""
    first, second = np.meshgrid(activations, weights, indexing="ij")
    return Pairs(activations=first.ravel(), weights=second.ravel())


def random_pairs(kind: Kind, form: str, weight_bits: int, activation_bits: int) -> Pairs:
    """One pair more than `OPERATIONS`, independent of each other.

    Args:
        kind: How they are drawn.
        form: See `energy.multiplier_cost.FORMS`.
        weight_bits: Width.
        activation_bits: Width.
    """
    draws = np.random.default_rng(SEED).random((2, OPERATIONS + 1))
    weights, activations = weight_values(form, weight_bits), activation_values(form, activation_bits)
    if kind != "uniform":
        shares = (
            _without_zero(_recorded_activations(form, activation_bits), np.sort(activations)),
            _without_zero(_recorded_weights(form, weight_bits), np.sort(weights)),
        )
    else:
        shares = np.full(len(activations), 1 / len(activations)), np.full(len(weights), 1 / len(weights))
    if kind == "stationary":
        draws[1] = np.repeat(draws[1, ::HELD], HELD)[: OPERATIONS + 1]
    return Pairs(
        activations=np.sort(activations)[_drawn(draws[0], shares[0])],
        weights=np.sort(weights)[_drawn(draws[1], shares[1])],
    )


def _drawn(draws: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.intp]:
    places = np.searchsorted(np.cumsum(shares), draws, side="right")
    return np.minimum(places, len(shares) - 1)


@cache
def _histograms() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of activations 0 to 255 and of weights -128 to 127."""
    text = files("energy").joinpath("operand_histograms.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    activations = np.array([float(row["activation_count"]) for row in rows])
    weights = np.roll([float(row["weight_count"]) for row in rows], 2 ** (RECORDED_BITS - 1))
    return activations / activations.sum(), weights / weights.sum()


def _recorded_activations(form: str, bits: int) -> NDArray[np.float64]:
    """Shares of an activation's values, rising; the recorded range is stretched over the positive values there are."""
    shares, _ = _histograms()
    positive_bits = bits - (form == "signed")
    target = np.rint(np.arange(2**RECORDED_BITS) * (2**positive_bits - 1) / (2**RECORDED_BITS - 1)).astype(np.int64)
    lowest = 2 ** (bits - 1) if form == "signed" else 0
    return _collected(target + lowest, shares, 2**bits)


def _recorded_weights(form: str, bits: int) -> NDArray[np.float64]:
    """Likewise for weights; as unsigned ones they are magnitudes."""
    _, shares = _histograms()
    recorded = np.arange(-(2 ** (RECORDED_BITS - 1)), 2 ** (RECORDED_BITS - 1))
    most = 2 ** (RECORDED_BITS - 1) - 1
    if form == "unsigned":
        target = np.minimum(np.rint(np.abs(recorded) * (2**bits - 1) / most), 2**bits - 1).astype(np.int64)
        return _collected(target, shares, 2**bits)
    largest = 2 ** (bits - 1) - 1
    values = np.clip(np.rint(recorded * largest / most), -largest, largest).astype(np.int64)
    if form == "signed":
        return _collected(values + largest + 1, shares, 2**bits)
    return _collected(values + largest, shares, 2**bits - 1)


def _without_zero(shares: NDArray[np.float64], values: Codes) -> NDArray[np.float64]:
    """Shares of the values that are not zero; operands so narrow that all are rounded to zero stay as they are."""
    kept = np.where(values == 0, 0.0, shares)
    return kept / kept.sum() if kept.any() else shares


def _collected(places: Codes, shares: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    total = np.zeros(count)
    np.add.at(total, places, shares)
    return total
