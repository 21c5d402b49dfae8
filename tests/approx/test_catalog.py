from itertools import product

import pytest
import torch

from approx import find_multiplier, multiplier_names
from approx.errors import ArgumentError, UnknownNameError
from approx.multiplier import Multiplier, code_values

WIDTHS = [(8, 8, False), (8, 8, True), (4, 6, False), (2, 2, False), (7, 3, True)]


def signed(index: int, bits: int) -> int:
    return index - 2**bits if index >= 2 ** (bits - 1) else index


def truncated_product(activation: int, weight: int, columns: int) -> int:
    """Bit by bit, straight from the definition."""
    a, w = abs(activation), abs(weight)
    kept = sum(((a >> i) & 1) * ((w >> j) & 1) << (i + j) for i in range(9) for j in range(9) if i + j >= columns)
    return -kept if (activation < 0) != (weight < 0) else kept


def is_representable(magnitude: int, magnitude_bits: int, alphabets: set[int]) -> bool:
    """Every quartet is zero or an alphabet shifted within it."""
    while magnitude_bits > 0:
        width = min(4, magnitude_bits)
        quartet, magnitude = magnitude & 15, magnitude >> 4
        magnitude_bits -= 4
        fits = any(quartet == alphabet << shift and quartet < 2**width for alphabet in alphabets for shift in range(4))
        if quartet and not fits:
            return False
    return True


@pytest.mark.parametrize(("weight_bits", "activation_bits", "activation_signed"), WIDTHS)
def test_exact_table_is_the_product(weight_bits: int, activation_bits: int, activation_signed: bool) -> None:
    table = find_multiplier(
        "exact", weight_bits=weight_bits, activation_bits=activation_bits, activation_signed=activation_signed
    ).table()
    for a, w in product(range(2**activation_bits), range(2**weight_bits)):
        activation = signed(a, activation_bits) if activation_signed else a
        assert table[a, w] == activation * signed(w, weight_bits)


@pytest.mark.parametrize("columns", [2, 4, 6])
@pytest.mark.parametrize(("weight_bits", "activation_bits", "activation_signed"), WIDTHS)
def test_truncated_table_drops_the_low_columns(
    columns: int, weight_bits: int, activation_bits: int, activation_signed: bool
) -> None:
    table = find_multiplier(
        f"truncated-{columns}",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        activation_signed=activation_signed,
    ).table()
    generator = torch.Generator().manual_seed(columns)
    pairs = list(product(range(2**activation_bits), range(2**weight_bits)))
    for index in torch.randperm(len(pairs), generator=generator)[:3000].tolist():
        a, w = pairs[index]
        activation = signed(a, activation_bits) if activation_signed else a
        assert table[a, w] == truncated_product(activation, signed(w, weight_bits), columns)


@pytest.mark.parametrize(("name", "alphabets"), [("asm-1", {1}), ("asm-1-3", {1, 3}), ("asm-1-3-5-7", {1, 3, 5, 7})])
@pytest.mark.parametrize("weight_bits", [2, 4, 5, 6, 8])
def test_alphabet_sets_round_to_the_nearest_representable_weight(
    name: str, alphabets: set[int], weight_bits: int
) -> None:
    multiplier = find_multiplier(name, weight_bits=weight_bits, activation_bits=8, activation_signed=False)
    assert multiplier.recoding is not None
    representable = [m for m in range(2 ** (weight_bits - 1)) if is_representable(m, weight_bits - 1, alphabets)]
    for index, recoded in enumerate(multiplier.recoding.tolist()):
        weight = signed(index, weight_bits)
        assert abs(recoded) in representable
        assert recoded * weight >= 0
        assert abs(abs(weight) - abs(recoded)) == min(abs(abs(weight) - m) for m in representable)


@pytest.mark.parametrize(("name", "largest"), [("asm-1", 72), ("asm-1-3", 108), ("asm-1-3-5-7", 126)])
def test_alphabet_sets_reach_their_known_largest_weight(name: str, largest: int) -> None:
    # 8-bit weights have 7-bit magnitudes: a 3-bit quartet over a 4-bit one, such as 64 + 8 for the alphabet {1}.
    multiplier = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
    assert multiplier.recoding is not None
    assert multiplier.recoding.max() == largest


def test_constrain_is_idempotent_and_keeps_truth_tables_free() -> None:
    codes = code_values(8, signed=True).to(torch.float32)
    for name in multiplier_names():
        multiplier = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
        once = multiplier.constrain(codes)
        assert torch.equal(multiplier.constrain(once), once)
        if multiplier.lut is not None:
            assert torch.equal(once, codes)


def test_unknown_names_offer_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"'truncated-5'.*did you mean 'truncated-"):
        find_multiplier("truncated-5", weight_bits=8, activation_bits=8, activation_signed=False)


@pytest.mark.parametrize("bits", [1, 9])
def test_widths_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ArgumentError, match=f"weight_bits must be between 2 and 8, got {bits}"):
        find_multiplier("exact", weight_bits=bits, activation_bits=8, activation_signed=False)


def test_a_multiplier_needs_one_table_of_the_right_shape() -> None:
    with pytest.raises(ArgumentError, match="exactly one"):
        Multiplier(name="none", weight_bits=2, activation_bits=2, activation_signed=False)
    with pytest.raises(ArgumentError, match=r"int32 of shape \(8, 4\)"):
        Multiplier(
            name="swapped",
            weight_bits=2,
            activation_bits=3,
            activation_signed=False,
            lut=torch.zeros(4, 8, dtype=torch.int32),
        )
