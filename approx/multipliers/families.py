"""The built-in families of multipliers, built from their published definitions (`approx.multipliers.designs`).

Signed operands are multiplied as sign and magnitude, a magnitude having as many bits as the operand; negating is exact.
Alphabet set multipliers (Sarwar et al., Multiplier-less artificial neurons, DATE 2016) are made here: a weight is sign
and magnitude; the magnitude is cut into quartets from the lowest bit up; a quartet can only be zero or an alphabet
shifted within the quartet. Weights are constrained to such values, for which the product is exact. The paper leaves
open what its decoder makes of other quartets, which only failed memory cells bring about; here, what the circuits of
`energy.gates` make of them. They shift by the lowest set bit and choose the alphabet by the two bits above it, and
ignore what that alphabet lacks: with 1 and 3, 0101 is taken for 0001. With 1 alone they OR the shifted activations of
all set bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from approx.errors import ArgumentError
from approx.multipliers import designs
from approx.multipliers.multiplier import (
    MAX_BITS,
    MAX_TABLE_BITS,
    MIN_BITS,
    Figure,
    Multiplier,
    code_values,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """The operands that a multiplier is built for."""

    weight_bits: int
    activation_bits: int
    activation_signed: bool
    weight_signed: bool

    @property
    def bits(self) -> int:
        """The wider operand's width."""
        return max(self.weight_bits, self.activation_bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Multipliers that differ only in whole-number parameters.

    Attributes:
        pattern: The form of their names, such as `drum-K`.
        parameters: Meaning of the numbers.
        listed: The numbers of the members that listings show.
        provenance: Where the design was published.
        check: Returns whether the numbers are allowed.
        build: Builds a multiplier, without a name, from numbers and operands.
    """

    pattern: str
    parameters: str
    listed: tuple[tuple[int, ...], ...]
    provenance: str
    check: Callable[[tuple[int, ...]], bool]
    build: Callable[[tuple[int, ...], Operands], Multiplier]


def _with_table(operands: Operands, core: Callable[[Tensor, Tensor], Tensor]) -> Multiplier:
    """A multiplier of magnitudes behind sign logic; `core` is a function of two broadcastable int64 tensors."""
    if operands.bits > MAX_TABLE_BITS:
        raise ArgumentError(
            f"multipliers with a truth table take at most {MAX_TABLE_BITS} bits, got {operands.bits}; those that "
            "recode their operands (exact, drum, ssm, asm) take more"
        )
    activations = code_values(operands.activation_bits, operands.activation_signed).to(torch.int64)[:, None]
    weights = code_values(operands.weight_bits, operands.weight_signed).to(torch.int64)[None, :]
    magnitudes = core(activations.abs(), weights.abs())
    lut = torch.where((activations < 0) != (weights < 0), -magnitudes, magnitudes).to(torch.int32)
    return _multiplier(operands, lut=lut)


def _with_recoding(operands: Operands, recode: Callable[[Tensor, int], Tensor]) -> Multiplier:
    """The exact product of recoded magnitudes; `recode` is a function of magnitudes and operand width."""

    def recoded(bits: int, signed: bool) -> Tensor:
        values = code_values(bits, signed).to(torch.int64)
        return (values.sign() * recode(values.abs(), bits)).to(torch.int32)

    return _multiplier(
        operands,
        weight_recoding=recoded(operands.weight_bits, operands.weight_signed),
        activation_recoding=recoded(operands.activation_bits, operands.activation_signed),
    )


def _multiplier(
    operands: Operands,
    *,
    lut: Tensor | None = None,
    weight_recoding: Tensor | None = None,
    activation_recoding: Tensor | None = None,
    constrains_weights: bool = False,
    takes_any_weight: bool = True,
) -> Multiplier:
    return Multiplier(
        name="",
        weight_bits=operands.weight_bits,
        activation_bits=operands.activation_bits,
        activation_signed=operands.activation_signed,
        weight_signed=operands.weight_signed,
        lut=lut,
        weight_recoding=weight_recoding,
        activation_recoding=activation_recoding,
        constrains_weights=constrains_weights,
        takes_any_weight=takes_any_weight,
        weight_format="sign-magnitude",
    )


def _exact(_: tuple[int, ...], operands: Operands) -> Multiplier:
    """The exact product, by the circuit that takes least energy: for narrow activations one of two's complement."""
    narrow = 2 * operands.activation_bits <= operands.weight_bits + 1 and operands.weight_bits > MIN_BITS + 1
    return replace(
        _multiplier(operands, weight_recoding=code_values(operands.weight_bits, operands.weight_signed)),
        weight_format="twos-complement" if narrow else "sign-magnitude",
    )


def _alphabet_set(alphabets: tuple[int, ...], operands: Operands) -> Multiplier:
    """Weights are constrained to sums of shifted alphabets, one for each quartet, whose products are exact."""
    weights = code_values(operands.weight_bits, operands.weight_signed)
    quartets = [(low, weights.abs() >> low & 15) for low in range(0, operands.weight_bits, 4)]
    if alphabets == (1,) and operands.bits <= MAX_TABLE_BITS:
        activations = code_values(operands.activation_bits, operands.activation_signed)[:, None]
        products = sum(_shifted_and_ored(activations, quartet) << low for low, quartet in quartets)
        return _multiplier(operands, lut=weights.sign() * products, constrains_weights=True)
    decoded = sum(_decoded(quartet, alphabets) << low for low, quartet in quartets)
    return _multiplier(
        operands,
        weight_recoding=weights.sign() * decoded,
        constrains_weights=True,
        takes_any_weight=alphabets != (1,),  # wider, a table would be needed that is too large
    )


def _shifted_and_ored(activations: Tensor, quartets: Tensor) -> Tensor:
    """The activations, shifted by each set bit of the quartets and ORed: int32, shape (activations, quartets)."""
    found = torch.zeros_like(activations * quartets)
    for shift in range(4):
        found |= torch.where(quartets >> shift & 1 == 1, activations << shift, 0)
    return found


def _decoded(quartets: Tensor, alphabets: tuple[int, ...]) -> Tensor:
    """The alphabet that is multiplied for each quartet, shifted by its lowest set bit."""
    lowest = quartets & -quartets
    second, third = ((quartets // lowest.clamp(min=1)) >> place & 1 == 1 for place in (1, 2))
    alphabet = torch.ones_like(quartets)
    for value, bits_set in ((3, second), (5, third), (7, second & third)):
        if value in alphabets:
            alphabet[bits_set] = value
    return alphabet * lowest


def _array(operands: Operands, rows: int, columns: int, correction: int = 0) -> Multiplier:
    return _with_table(
        operands,
        lambda a, w: (
            correction
            + designs.partial_products(
                a, w, weight_bits=operands.weight_bits, skipped_rows=rows, skipped_columns=columns
            )
        ),
    )


def _segment(segment_bits: int, operands: Operands) -> Multiplier:
    if 2 * segment_bits < operands.bits:
        raise ArgumentError(
            f"static segments must be at least half as wide as the operand: for {operands.bits} bits at least "
            f"{-(-operands.bits // 2)}, got {segment_bits}"
        )
    return _with_recoding(
        operands, lambda x, bits: designs.static_segment(x, bits, segment_bits) if segment_bits < bits else x
    )


def _momeni(_: tuple[int, ...], operands: Operands) -> Multiplier:
    return _with_table(operands, designs.momeni)


FAMILIES = {
    "exact": Family(
        pattern="exact",
        parameters="",
        listed=((),),
        provenance="by definition",
        check=lambda numbers: numbers == (),
        build=_exact,
    ),
    "truncated": Family(
        pattern="truncated-T",
        parameters="T lowest columns left out, 1 to 14",
        listed=((2,), (4,), (6,)),
        provenance="Schulte, Swartzlander, VLSI Signal Processing VI, 1993, without correction",
        check=lambda numbers: len(numbers) == 1 and 1 <= numbers[0] <= 14,
        build=lambda numbers, operands: _array(operands, 0, numbers[0]),
    ),
    "truncated-compensated": Family(
        pattern="truncated-compensated-T",
        parameters="T lowest columns left out, 1 to 14, and roughly their mean added back",
        listed=((4,), (6,)),
        provenance="Schulte, Swartzlander, VLSI Signal Processing VI, 1993",
        check=lambda numbers: len(numbers) == 1 and 1 <= numbers[0] <= 14,
        build=lambda numbers, operands: _array(operands, 0, numbers[0], designs.truncation_correction(numbers[0])),
    ),
    "broken-array": Family(
        pattern="broken-array-H-V",
        parameters="H rows, 0 to 7, and V columns, 0 to 14, left out",
        listed=((1, 4), (2, 6)),
        provenance="Mahdiani, Ahmadi, Fakhraie, Lucas, IEEE TCAS-I 57(4), 2010",
        check=lambda numbers: len(numbers) == 2 and numbers[0] <= 7 and numbers[1] <= 14,
        build=lambda numbers, operands: _array(operands, *numbers),
    ),
    "drum": Family(
        pattern="drum-K",
        parameters="K bits kept, 3 to 11",
        listed=((3,), (4,), (5,), (6,)),
        provenance="Hashemi, Bahar, Reda, ICCAD 2015",
        check=lambda numbers: len(numbers) == 1 and 3 <= numbers[0] < MAX_BITS,
        build=lambda numbers, operands: _with_recoding(operands, lambda x, _: designs.drum(x, numbers[0])),
    ),
    "ssm": Family(
        pattern="ssm-M",
        parameters="segments of M bits, 2 to 11, at least half of the operand's",
        listed=((4,), (5,), (6,)),
        provenance="Narayanamoorthy, Moghaddam, Liu, Park, Kim, IEEE TVLSI 23(6), 2015",
        check=lambda numbers: len(numbers) == 1 and 2 <= numbers[0] < MAX_BITS,
        build=lambda numbers, operands: _segment(numbers[0], operands),
    ),
    "mitchell": Family(
        pattern="mitchell",
        parameters="",
        listed=((),),
        provenance="Mitchell, IRE Trans. Electronic Computers EC-11(4), 1962",
        check=lambda numbers: numbers == (),
        build=lambda _, operands: _with_table(operands, designs.mitchell),
    ),
    "roba": Family(
        pattern="roba",
        parameters="",
        listed=((),),
        provenance="Zendegani, Kamal, Bahadori, Afzali-Kusha, Pedram, IEEE TVLSI 25(2), 2017",
        check=lambda numbers: numbers == (),
        build=lambda _, operands: _with_table(operands, designs.roba),
    ),
    "kulkarni": Family(
        pattern="kulkarni",
        parameters="",
        listed=((),),
        provenance="Kulkarni, Gupta, Ercegovac, VLSI Design 2011",
        check=lambda numbers: numbers == (),
        build=lambda _, operands: _with_table(operands, lambda a, w: designs.kulkarni(a, w, bits=operands.bits)),
    ),
    "momeni": Family(
        pattern="momeni",
        parameters="",
        listed=((),),
        provenance="Momeni, Han, Montuschi, Lombardi, IEEE Trans. Computers 64(4), 2015, multiplier 4",
        check=lambda numbers: numbers == (),
        build=_momeni,
    ),
    "asm": Family(
        pattern="asm-1[-3[-5[-7]]]",
        parameters="alphabets, the first ones of 1, 3, 5, 7",
        listed=((1,), (1, 3), (1, 3, 5, 7)),
        provenance="Sarwar, Venkataramani, Raghunathan, Roy, DATE 2016",
        check=lambda numbers: numbers in {(1,), (1, 3), (1, 3, 5), (1, 3, 5, 7)},
        build=_alphabet_set,
    ),
}

_JETC = "Sarwar et al., ACM JETC 14(2), 2018, 45 nm, iso-speed: power of the whole neuron"
_DATE = "Sarwar et al., DATE 2016: area of the whole neuron"

# (name, weight bits) -> relative energy, relative area.
PUBLISHED: dict[tuple[str, int], tuple[Figure | None, Figure | None]] = {
    ("asm-1", 4): (Figure(0.75, _JETC), None),
    ("asm-1", 8): (Figure(0.68, _JETC), Figure(0.63, _DATE)),
    ("asm-1", 12): (Figure(0.67, _JETC), Figure(0.38, _DATE)),
    # The paper does not say for how many alphabets these are; they are used for both sets.
    ("asm-1-3", 4): (Figure(0.832, _JETC), None),
    ("asm-1-3", 8): (Figure(0.742, _JETC), None),
    ("asm-1-3", 12): (Figure(0.762, _JETC), None),
    ("asm-1-3-5-7", 4): (Figure(0.832, _JETC), None),
    ("asm-1-3-5-7", 8): (Figure(0.742, _JETC), None),
    ("asm-1-3-5-7", 12): (Figure(0.762, _JETC), None),
}
