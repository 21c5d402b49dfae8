"""The catalogue against published figures, and against models of the circuits that go bit by bit."""

import pickle
from collections.abc import Callable
from fractions import Fraction
from functools import reduce
from itertools import product
from operator import or_

import numpy as np
import pytest
import torch

from approx import (
    Multiplier,
    UnknownNameError,
    error_metrics,
    find_multiplier,
    multiplier_from_function,
    multiplier_names,
    register_multiplier,
)
from approx.errors import ArgumentError
from approx.multipliers import catalog as catalog_module
from approx.multipliers.designs import drum, momeni, partial_products, static_segment, truncation_correction
from approx.multipliers.multiplier import code_values

WIDTHS = [(8, 8, False), (8, 8, True), (4, 6, False), (2, 2, False), (7, 3, True)]
BYTES = torch.arange(256)


def unsigned(name: str, bits: int = 8) -> Multiplier:
    """As it is published."""
    return find_multiplier(name, weight_bits=bits, activation_bits=bits, weight_signed=False, activation_signed=False)


def signed(index: int, bits: int) -> int:
    return index - 2**bits if index >= 2 ** (bits - 1) else index


# ---- models that go bit by bit, written from the definitions without looking at approx.multipliers.designs ---


def bits_of(value: int) -> list[int]:
    return [(value >> i) & 1 for i in range(9)]


def array_model(rows: int, columns: int) -> Callable[[int, int], int]:
    """A partial-product array without its lowest rows and columns."""

    def model(a: int, w: int) -> int:
        return sum(
            x * y << (i + j)
            for i, x in enumerate(bits_of(a))
            for j, y in enumerate(bits_of(w))
            if j >= rows and i + j >= columns
        )

    return model


def drum_model(k: int) -> Callable[[int, int], int]:
    def seen(x: int) -> int:
        digits = bin(x)[2:]
        return x if len(digits) <= k else int(digits[: k - 1] + "1" + "0" * (len(digits) - k), 2)

    return lambda a, w: seen(a) * seen(w)


def ssm_model(m: int) -> Callable[[int, int], int]:
    def seen(x: int) -> int:
        digits = f"{x:08b}"
        return x if "1" not in digits[: 8 - m] else int(digits[:m] + "0" * (8 - m), 2)

    return lambda a, w: seen(a) * seen(w)


def mitchell_model(a: int, w: int) -> int:
    if a == 0 or w == 0:
        return 0
    ka, kw = a.bit_length() - 1, w.bit_length() - 1
    logarithm = ka + kw + Fraction(a - 2**ka, 2**ka) + Fraction(w - 2**kw, 2**kw)
    whole = int(logarithm)
    value = 2**whole * (1 + logarithm - whole)
    assert value.denominator == 1
    return int(value)


def roba_model(a: int, w: int) -> int:
    def nearest(x: int) -> int:
        if x in (0, 3):
            return {0: 0, 3: 2}[x]
        powers = [1 << k for k in range(10)]
        return min(reversed(powers), key=lambda power: abs(power - x))  # of two equally near, the larger

    return nearest(a) * w + nearest(w) * a - nearest(a) * nearest(w)


def kulkarni_model(a: int, w: int, bits: int = 8) -> int:
    """The recursion of the paper."""
    if bits == 2:
        return 7 if a == w == 3 else a * w
    half = bits // 2
    low = 2**half - 1
    ah, al, wh, wl = a >> half, a & low, w >> half, w & low
    cross = kulkarni_model(ah, wl, half) + kulkarni_model(al, wh, half)
    return (kulkarni_model(ah, wh, half) << bits) + (cross << half) + kulkarni_model(al, wl, half)


MODELS: dict[str, Callable[[int, int], int]] = {
    "truncated-2": array_model(0, 2),
    "truncated-7": array_model(0, 7),
    "truncated-compensated-4": lambda a, w: array_model(0, 4)(a, w) + 16,
    "truncated-compensated-6": lambda a, w: array_model(0, 6)(a, w) + 64,
    "broken-array-1-4": array_model(1, 4),
    "broken-array-2-6": array_model(2, 6),
    "broken-array-3-0": array_model(3, 0),
    "drum-3": drum_model(3),
    "drum-6": drum_model(6),
    "ssm-4": ssm_model(4),
    "ssm-6": ssm_model(6),
    "mitchell": mitchell_model,
    "roba": roba_model,
    "kulkarni": kulkarni_model,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_tables_are_those_of_a_bit_level_model(name: str) -> None:
    table = unsigned(name).table().tolist()
    model = MODELS[name]
    for a, w in product(range(256), range(256)):
        assert table[a][w] == model(a, w), (a, w)


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("ssm")])
@pytest.mark.parametrize("activation_signed", [False, True])
def test_signed_operands_are_multiplied_as_sign_and_magnitude(name: str, activation_signed: bool) -> None:
    table = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=activation_signed).table()
    model = MODELS[name]
    generator = torch.Generator().manual_seed(1)
    for index in torch.randperm(2**16, generator=generator)[:4000].tolist():
        a_index, w_index = divmod(index, 256)
        a, w = signed(a_index, 8) if activation_signed else a_index, signed(w_index, 8)
        expected = model(abs(a), abs(w)) * (-1 if (a < 0) != (w < 0) else 1)
        assert table[a_index, w_index] == expected, (a, w)


# ---- published figures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept_bits", "worst", "mean", "deviation"),
    [(3, 56.25, 11.90, 14.75), (4, 26.56, 5.89, 7.26), (5, 12.86, 2.94, 3.61), (6, 6.31, 1.47, 1.80)],
)
def test_drum_has_its_published_errors(kept_bits: int, worst: float, mean: float, deviation: float) -> None:
    # Hashemi et al., ICCAD 2015, p. 422: 16-bit operands, relative errors in percent.
    generator = torch.Generator().manual_seed(2)
    a, w = torch.randint(1, 2**16, (2, 1_000_000), generator=generator)
    exact = (a * w).double()
    error = ((drum(a, kept_bits) * drum(w, kept_bits)).double() - exact) / exact * 100
    assert error.abs().mean() == pytest.approx(mean, abs=0.02)
    assert error.std() == pytest.approx(deviation, abs=0.02)
    assert worst - 0.25 <= error.abs().max() <= worst + 0.01  # the worst pairs are rare


@pytest.mark.parametrize(("segment_bits", "accuracy"), [(8, 98.0), (10, 99.6)])
def test_static_segments_have_their_published_accuracy(segment_bits: int, accuracy: float) -> None:
    # Narayanamoorthy et al., IEEE TVLSI 2015, p. 3: mean accuracy of 16x16 products in percent.
    generator = torch.Generator().manual_seed(3)
    a, w = torch.randint(1, 2**16, (2, 1_000_000), generator=generator)
    product_ = static_segment(a, 16, segment_bits) * static_segment(w, 16, segment_bits)
    assert 100 - (1 - product_ / (a * w)).mean() * 100 == pytest.approx(accuracy, abs=0.1)


def test_mitchell_errs_by_at_most_a_ninth_and_never_upwards() -> None:
    # Mitchell, 1962, p. 515: the error lies between 0 and -11.1 %.
    table, exact = unsigned("mitchell").table()[1:, 1:], (BYTES[:, None] * BYTES)[1:, 1:]
    relative = (table - exact) / exact
    assert relative.max() == 0
    assert relative.min() == pytest.approx(-1 / 9)


def test_roba_errs_by_at_most_a_ninth_and_not_at_powers_of_two() -> None:
    # Zendegani et al., IEEE TVLSI 2017, pp. 3-5.
    table, exact = unsigned("roba").table()[1:, 1:], (BYTES[:, None] * BYTES)[1:, 1:]
    assert ((table - exact) / exact).abs().max() == pytest.approx(1 / 9)
    powers = [2**k - 1 for k in range(8)]  # rows of 1, 2, 4, ...
    assert torch.equal(table[powers], exact[powers])


@pytest.mark.parametrize(("bits", "probability", "mean"), [(2, 0.0625, 1.39), (4, 0.19, 2.60), (8, 0.46, 3.25)])
def test_kulkarni_has_its_published_errors(bits: int, probability: float, mean: float) -> None:
    # Kulkarni et al., VLSI Design 2011, table I: products of zero count as exact.
    metrics = error_metrics(unsigned("kulkarni", bits))
    assert metrics.error_probability == pytest.approx(probability, abs=0.01)
    assert metrics.mre_all * 100 == pytest.approx(mean, abs=0.01)
    exact = unsigned("exact", bits).table()[1:, 1:]
    relative = (unsigned("kulkarni", bits).table()[1:, 1:] - exact) / exact
    assert relative.min() == pytest.approx(-0.2222, abs=1e-4)


def test_truncation_has_its_published_errors() -> None:
    # Schulte and Swartzlander, 1993, table 1: an 8x8 product rounded to 8 bits, with 4 and 5 more columns kept and the
    # constant that also makes up for rounding. Maximal errors in units of the last place; mean squares are analytic
    # there.
    exact = BYTES[:, None] * BYTES
    for columns, correction, worst, mean_square in ((4, 128, 0.6289, 0.0842), (3, 128, 0.5352, 0.0834)):
        kept = partial_products(BYTES[:, None], BYTES, weight_bits=8, skipped_rows=0, skipped_columns=columns)
        rounded = ((kept + correction) >> 8) << 8
        error = (rounded - exact) / 256
        assert error.abs().max() == pytest.approx(worst, abs=5e-5)
        assert error.square().mean() == pytest.approx(mean_square, rel=0.01)


@pytest.mark.parametrize("columns", range(1, 9))
def test_compensation_is_the_mean_of_what_is_dropped(columns: int) -> None:
    exact = BYTES[:, None] * BYTES
    kept = partial_products(BYTES[:, None], BYTES, weight_bits=8, skipped_rows=0, skipped_columns=columns)
    dropped = (exact - kept).double().mean()
    assert truncation_correction(columns) % 2**columns == 0
    assert abs(truncation_correction(columns) - dropped) <= 2**columns / 2


def test_momeni_has_its_published_errors() -> None:
    # Momeni et al., IEEE Trans. Computers 2015, p. 7, multiplier 4, over non-zero operands.
    a = torch.arange(1, 256)
    error = momeni(a[:, None], a) - a[:, None] * a
    assert int((error == 0).sum()) == 9320
    assert error.abs().double().mean() / 65025 == pytest.approx(0.7827e-3, abs=5e-8)
    assert error.max() / 65025 == pytest.approx(0.1845e-2, abs=5e-6)
    assert -error.min() / 65025 == pytest.approx(0.3076e-2, abs=5e-6)


def test_a_name_alone_is_the_multiplier_of_a_layer_after_a_relu() -> None:
    found = find_multiplier("drum-4")
    assert (found.weight_bits, found.activation_bits) == (8, 8)
    assert (found.weight_signed, found.activation_signed) == (True, False)
    table = find_multiplier("exact").table()
    assert table[200, 3] == 600
    assert table[200, 256 - 3] == -600


# ---- exact and alphabet sets -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("weight_bits", "activation_bits", "activation_signed"), WIDTHS)
def test_exact_table_is_the_product(weight_bits: int, activation_bits: int, activation_signed: bool) -> None:
    table = find_multiplier(
        "exact", weight_bits=weight_bits, activation_bits=activation_bits, activation_signed=activation_signed
    ).table()
    for a, w in product(range(2**activation_bits), range(2**weight_bits)):
        activation = signed(a, activation_bits) if activation_signed else a
        assert table[a, w] == activation * signed(w, weight_bits)


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


ALPHABET_SETS = [("asm-1", {1}), ("asm-1-3", {1, 3}), ("asm-1-3-5", {1, 3, 5}), ("asm-1-3-5-7", {1, 3, 5, 7})]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "alphabets"), ALPHABET_SETS)
@pytest.mark.parametrize("weight_bits", [2, 4, 5, 6, 8, 12])
def test_alphabet_sets_round_to_the_nearest_representable_weight(
    name: str, alphabets: set[int], weight_bits: int
) -> None:
    multiplier = find_multiplier(name, weight_bits=weight_bits, activation_bits=8, activation_signed=False)
    representable = [m for m in range(2 ** (weight_bits - 1)) if is_representable(m, weight_bits - 1, alphabets)]
    weights = code_values(weight_bits, signed=True)
    for weight, held in zip(weights.tolist(), multiplier.constrain(weights).tolist(), strict=True):
        assert abs(held) in representable
        assert held * weight >= 0
        assert abs(abs(weight) - abs(held)) == min(abs(abs(weight) - m) for m in representable)


@pytest.mark.parametrize(("name", "largest"), [("asm-1", 72), ("asm-1-3", 108), ("asm-1-3-5-7", 126)])
def test_alphabet_sets_reach_their_known_largest_weight(name: str, largest: int) -> None:
    # 8-bit weights have 7-bit magnitudes: a 3-bit quartet over a 4-bit one, such as 64 + 8 for the alphabet {1}.
    multiplier = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
    assert multiplier.constrain(torch.tensor([127, -127])).tolist() == [largest, -largest]


def decoded_by_hand(quartet: int, activation: int, alphabets: set[int]) -> int:
    """The product of a quartet by select, shift and add: the alphabet's multiple, shifted by the lowest set bit."""
    if alphabets == {1}:  # nothing is selected: every set bit lets a shifted activation through
        return reduce(or_, (activation << place for place in range(4) if quartet >> place & 1), 0)
    lowest = next((place for place in range(4) if quartet >> place & 1), None)
    if lowest is None:
        return 0
    above = quartet >> lowest + 1 & 3
    # What the two bits above the lowest set one ask for, and what is there instead.
    wanted = {0: [1], 1: [3, 1], 2: [5, 1], 3: [7, 5, 3, 1]}[above]
    return (next(alphabet for alphabet in wanted if alphabet in alphabets) * activation) << lowest


@pytest.mark.parametrize(("name", "alphabets"), ALPHABET_SETS)
@pytest.mark.parametrize("activation_signed", [False, True])
@pytest.mark.parametrize("weight_bits", [2, 3, 4, 5, 8])
def test_what_alphabet_sets_make_of_any_weight(
    name: str, alphabets: set[int], activation_signed: bool, weight_bits: int
) -> None:
    multiplier = find_multiplier(name, weight_bits=weight_bits, activation_bits=4, activation_signed=activation_signed)
    table = multiplier.table()
    for i, activation in enumerate(code_values(4, activation_signed).tolist()):
        for j, weight in enumerate(code_values(weight_bits, signed=True).tolist()):
            parts = [decoded_by_hand(abs(weight) >> low & 15, activation, alphabets) << low for low in range(0, 8, 4)]
            assert table[i, j] == sum(parts) * (-1 if weight < 0 else 1)


def test_alphabet_sets_do_not_correct_the_weights_that_faults_make() -> None:
    # 3 x 5 with the alphabets 1 and 3: 0101 is decoded as 0001. With 1 alone, 3 and 12 are ORed.
    for name, found in (("asm-1-3", 3), ("asm-1", 15), ("asm-1-3-5", 15)):
        multiplier = find_multiplier(name, weight_bits=4, activation_bits=4, activation_signed=False)
        assert multiplier.table()[3, 5] == found
        assert multiplier.takes_any_weight
    assert find_multiplier("asm-1-3", weight_bits=12, activation_bits=8, activation_signed=False).takes_any_weight
    assert not find_multiplier("asm-1", weight_bits=12, activation_bits=8, activation_signed=False).takes_any_weight


def test_only_alphabet_sets_constrain_weights() -> None:
    codes = code_values(8, signed=True).to(torch.float32)
    for name in multiplier_names():
        multiplier = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
        once = multiplier.constrain(codes)
        assert torch.equal(multiplier.constrain(once), once)
        assert torch.equal(once, codes) == (not name.startswith("asm"))


# ---- names -------------------------------------------------------------------------------------------------------


def test_every_listed_multiplier_is_built_with_its_provenance() -> None:
    for name in multiplier_names():
        for bits in (8, 4):
            multiplier = unsigned(name, bits)
            assert multiplier.name == name
            assert multiplier.provenance
            assert multiplier.table().shape == (2**bits, 2**bits)


def test_published_energy_and_area_have_their_source() -> None:
    asm = find_multiplier("asm-1", weight_bits=8, activation_bits=8, activation_signed=False)
    assert asm.relative_energy is not None
    assert asm.relative_area is not None
    assert asm.relative_energy.value == 0.68
    assert "2018" in asm.relative_energy.source
    assert "2016" in asm.relative_area.source
    assert unsigned("drum-4").relative_energy is None


@pytest.mark.parametrize(
    ("name", "near"),
    [("truncted-4", "truncated-4"), ("drumm-4", "drum-"), ("mitchel", "mitchell")],
)
def test_unknown_names_offer_near_ones(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"'{name}'; did you mean .*'{near}"):
        find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)


@pytest.mark.parametrize(
    ("name", "explained"),
    [
        ("drum", r"drum-K \(K bits kept, 3 to 11\)"),
        ("truncated-99", "1 to 14"),
        ("truncated-04", "1 to 14"),
        ("asm-1-5", "the first ones of 1, 3, 5, 7"),
    ],
)
def test_unknown_members_are_told_the_form(name: str, explained: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown multiplier '{name}'; names are .*{explained}"):
        unsigned(name)


def test_segments_that_are_too_short_are_refused() -> None:
    with pytest.raises(ArgumentError, match="for 8 bits at least 4, got 3"):
        unsigned("ssm-3")


def test_members_that_are_not_listed_exist_too() -> None:
    assert unsigned("drum-7").name == "drum-7"
    assert unsigned("broken-array-0-3").table().equal(unsigned("truncated-3").table())
    with pytest.raises(UnknownNameError):
        unsigned("drum-2")


@pytest.mark.parametrize("bits", [1, 13])
def test_widths_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ArgumentError, match=f"`weight_bits` must be between 2 and 12, got {bits}"):
        find_multiplier("exact", weight_bits=bits, activation_bits=8, activation_signed=False)


def test_tables_wider_than_8_bits_are_refused() -> None:
    with pytest.raises(ArgumentError, match="at most 8 bits, got 12"):
        find_multiplier("mitchell", weight_bits=12, activation_bits=8, activation_signed=False)


# ---- your own ----------------------------------------------------------------------------------------------------


@pytest.fixture
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "_registered", {})


@pytest.mark.usefixtures("_nothing_registered")
def test_a_function_becomes_a_multiplier() -> None:
    def function(a: int, w: int) -> int:
        return np.int64(a * w | 1)  # type: ignore[return-value]

    own = multiplier_from_function("or", function, signed=False, provenance="this test")
    register_multiplier(own)
    assert multiplier_names()[-1] == "or"
    assert unsigned("or") is own
    assert own.table()[6, 4] == 25
    behind_signs = find_multiplier("or", weight_bits=8, activation_bits=8, activation_signed=True)
    assert behind_signs.table()[-6, 4] == -25
    assert behind_signs.table()[-6, -4] == 25


@pytest.mark.usefixtures("_nothing_registered")
def test_names_are_taken_once() -> None:
    with pytest.raises(ArgumentError, match="'drum-5' is taken by the catalogue"):
        register_multiplier(multiplier_from_function("drum-5", lambda a, w: a * w, signed=False))
    register_multiplier(multiplier_from_function("own", lambda a, w: a * w, signed=False))
    register_multiplier(multiplier_from_function("own", lambda a, w: a * w, signed=False))
    with pytest.raises(ArgumentError, match="another multiplier is registered as 'own'"):
        register_multiplier(multiplier_from_function("own", lambda a, w: a + w, signed=False))


def test_a_function_must_give_integers() -> None:
    with pytest.raises(ArgumentError, match=r"the product of 0 and 0 must be a 32-bit integer, got 0\.5"):
        multiplier_from_function("half", lambda a, w: (a + w + 1) / 2, signed=False)  # type: ignore[arg-type, return-value]


def test_custom_multipliers_can_be_passed_as_a_value() -> None:
    plus = multiplier_from_function("plus", lambda a, w: a + w, signed=True)
    register_multiplier(multiplier_from_function("registered", lambda a, w: a * w, signed=True))
    passed = pickle.loads(pickle.dumps({"plus@1234": plus}))  # noqa: S301  as it reaches another process

    def find(name: str, weight_bits: int = 8, multipliers: dict[str, Multiplier] | None = passed) -> Multiplier:
        return find_multiplier(
            name, weight_bits=weight_bits, activation_bits=8, activation_signed=True, multipliers=multipliers
        )

    assert find("plus@1234").table()[3, -4] == -1
    assert find("plus@1234", weight_bits=4).table()[3, 0xF] == 2
    assert find("drum-4") is find("drum-4", multipliers=None)
    assert multiplier_names(passed) == [*multiplier_names({}), "plus@1234"]
    assert multiplier_names()[-1] == "registered"
    with pytest.raises(UnknownNameError, match="unknown multiplier 'registered'"):
        find("registered")
    with pytest.raises(UnknownNameError, match=r"did you mean 'plus@1234'"):
        find("plus")
