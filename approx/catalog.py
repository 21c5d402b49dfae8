"""The multipliers that come with the package, each built from its published definition for any operand widths.

- `exact`.
- `truncated-t`: the partial-product bits of the t lowest columns are left out (Schulte and Swartzlander, VLSI Signal
  Processing VI, 1993, here without correction constant). Signed operands are multiplied as sign and magnitude, so the
  array sees magnitudes.
- `asm-...`: alphabet set multipliers (Sarwar et al., Multiplier-less artificial neurons, DATE 2016). A weight is sign
  and magnitude; the magnitude is cut into quartets from the lowest bit up; a quartet can only be zero or an alphabet
  shifted within the quartet. Weights are constrained to such values, for which the product is exact.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from itertools import product

import torch
from torch import Tensor

from approx.errors import ArgumentError, UnknownNameError
from approx.multiplier import Multiplier, code_values

_ALPHABETS = {"asm-1": (1,), "asm-1-3": (1, 3), "asm-1-3-5-7": (1, 3, 5, 7)}
_DROPPED_COLUMNS = {"truncated-2": 2, "truncated-4": 4, "truncated-6": 6}


def multiplier_names() -> list[str]:
    """Names that `find_multiplier` accepts."""
    return ["exact", *_DROPPED_COLUMNS, *_ALPHABETS]


@cache
def find_multiplier(name: str, *, weight_bits: int, activation_bits: int, activation_signed: bool) -> Multiplier:
    """Build a multiplier of the catalogue for these operand widths.

    Args:
        name: One of `multiplier_names()`.
        weight_bits: 2 to 8.
        activation_bits: 2 to 8.
        activation_signed: Whether activation codes are signed.

    Raises:
        UnknownNameError: If the catalogue has no such name.
        ArgumentError: If a width is out of range.
    """
    for width, bits in (("weight_bits", weight_bits), ("activation_bits", activation_bits)):
        if not 2 <= bits <= 8:
            raise ArgumentError(f"{width} must be between 2 and 8, got {bits}")
    recoding: Tensor | None = None
    lut: Tensor | None = None
    if name == "exact":
        recoding = code_values(weight_bits, signed=True)
    elif name in _DROPPED_COLUMNS:
        lut = _truncated_table(weight_bits, activation_bits, activation_signed, _DROPPED_COLUMNS[name])
    elif name in _ALPHABETS:
        recoding = _alphabet_recoding(weight_bits, _ALPHABETS[name])
    else:
        near = get_close_matches(name, multiplier_names(), n=3, cutoff=0.3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise UnknownNameError(f"unknown multiplier {name!r}; {hint}The catalogue has {', '.join(multiplier_names())}")
    return Multiplier(
        name=name,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        activation_signed=activation_signed,
        recoding=recoding,
        lut=lut,
    )


def _truncated_table(weight_bits: int, activation_bits: int, activation_signed: bool, columns: int) -> Tensor:
    weights = code_values(weight_bits, signed=True)[None, :]
    activations = code_values(activation_bits, activation_signed)[:, None]
    kept = torch.zeros(2**activation_bits, 2**weight_bits, dtype=torch.int32)
    for row in range(weight_bits):
        # This row of the array is the activation shifted by `row`; its bits below column `columns` are dropped.
        low_bits = max(0, columns - row)
        weight_bit = (weights.abs() >> row) & 1
        kept += weight_bit * (((activations.abs() >> low_bits) << low_bits) << row)
    return kept * weights.sign() * activations.sign()


def _alphabet_recoding(weight_bits: int, alphabets: tuple[int, ...]) -> Tensor:
    """Each weight code's nearest representable value; of two equally near, the smaller magnitude."""
    magnitude_bits = weight_bits - 1
    quartets = []
    for low in range(0, magnitude_bits, 4):
        width = min(4, magnitude_bits - low)
        shifted = {alphabet << shift for alphabet in alphabets for shift in range(4)}
        quartets.append([value << low for value in sorted({0} | {v for v in shifted if v < 2**width})])
    magnitudes = torch.tensor(sorted({sum(parts) for parts in product(*quartets)}))
    weights = code_values(weight_bits, signed=True)
    distance = (weights.abs()[:, None] - magnitudes[None, :]).abs()
    nearest = magnitudes[distance.argmin(dim=1)]  # argmin: the first, hence smallest, of equals
    return (weights.sign() * nearest).to(torch.int32)
