from dataclasses import replace

import pytest
import torch

from approx import Figure, Multiplier, find_multiplier, multiplier_from_function, multiplier_names
from approx.errors import ArgumentError
from approx.multipliers.multiplier import code_values


def test_a_multiplier_needs_one_table_of_the_right_shape() -> None:
    with pytest.raises(ArgumentError, match="exactly one of `lut` and `weight_recoding`"):
        Multiplier(name="none", weight_bits=2, activation_bits=2, activation_signed=False)
    with pytest.raises(ArgumentError, match=r"`lut` must be int32 of shape \(8, 4\), got torch.int32 of shape \(4"):
        Multiplier(
            name="swapped",
            weight_bits=2,
            activation_bits=3,
            activation_signed=False,
            lut=torch.zeros(4, 8, dtype=torch.int32),
        )
    with pytest.raises(ArgumentError, match=r"int32 of shape \(4, 4\), got torch.float32"):
        Multiplier(name="real", weight_bits=2, activation_bits=2, activation_signed=False, lut=torch.zeros(4, 4))
    with pytest.raises(ArgumentError, match="`activation_recoding` needs a `weight_recoding`"):
        Multiplier(
            name="both",
            weight_bits=2,
            activation_bits=2,
            activation_signed=False,
            lut=torch.zeros(4, 4, dtype=torch.int32),
            activation_recoding=torch.zeros(4, dtype=torch.int32),
        )


@pytest.mark.parametrize(("bits", "most"), [(9, 8), (1, 8)])
def test_widths_out_of_range_are_refused(bits: int, most: int) -> None:
    with pytest.raises(ArgumentError, match=f"`weight_bits` must be between 2 and {most}, got {bits}"):
        Multiplier(
            name="wide",
            weight_bits=bits,
            activation_bits=2,
            activation_signed=False,
            lut=torch.zeros(4, 2**bits, dtype=torch.int32),
        )


def test_equal_behaviour_has_one_digest() -> None:
    exact = find_multiplier("exact", weight_bits=8, activation_bits=8, activation_signed=False)
    as_table = Multiplier(name="other", weight_bits=8, activation_bits=8, activation_signed=False, lut=exact.table())
    assert as_table.digest == exact.digest
    changed = exact.table().clone()
    changed[3, 5] += 1
    other = Multiplier(name="other", weight_bits=8, activation_bits=8, activation_signed=False, lut=changed)
    assert other.digest != exact.digest
    signed = find_multiplier("exact", weight_bits=8, activation_bits=8, activation_signed=True)
    assert signed.digest != exact.digest
    wide = [
        find_multiplier(name, weight_bits=12, activation_bits=8, activation_signed=False).digest
        for name in ("exact", "asm-1")
    ]
    assert wide[0] != wide[1]


@pytest.mark.parametrize("activation_signed", [False, True])
@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(8, 8), (8, 5), (4, 8), (3, 2)])
def test_unsigned_multipliers_take_signed_and_narrower_operands(
    weight_bits: int, activation_bits: int, activation_signed: bool
) -> None:
    def core(a: int, w: int) -> int:
        return 3 * a + 7 * w + a * w

    adapted = multiplier_from_function("core", core, signed=False).adapted(
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        weight_signed=True,
        activation_signed=activation_signed,
    )
    table = adapted.table()
    for i, a in enumerate(code_values(activation_bits, activation_signed).tolist()):
        for j, w in enumerate(code_values(weight_bits, True).tolist()):
            assert table[i, j] == core(abs(a), abs(w)) * (-1 if (a < 0) != (w < 0) else 1)


def test_signed_multipliers_take_what_they_can_hold() -> None:
    own = multiplier_from_function("signed", lambda a, w: a * w + 1, signed=True)
    narrow = own.adapted(weight_bits=4, activation_bits=7, weight_signed=True, activation_signed=False)
    assert narrow.table()[127, 8] == 127 * -8 + 1
    with pytest.raises(ArgumentError, match=r"takes activations in -128\.\.127, not 8 bits unsigned \(0\.\.255\)"):
        own.adapted(weight_bits=8, activation_bits=8, weight_signed=True, activation_signed=False)


def test_a_multiplier_keeps_a_copy_of_its_table() -> None:
    table = torch.ones(4, 4, dtype=torch.int32)
    multiplier = Multiplier(name="own", weight_bits=2, activation_bits=2, activation_signed=False, lut=table)
    digest = multiplier.digest
    table.fill_(5)
    assert multiplier.table().max() == 1
    assert multiplier.digest == digest


def test_constrained_weights_are_those_whose_products_are_exact() -> None:
    table = code_values(2, False)[:, None] * code_values(3, True)[None, :]
    table[3, 2] += 1  # 3 x 2
    table[1, 7] += 1  # 1 x -1
    multiplier = Multiplier(
        name="own", weight_bits=3, activation_bits=2, activation_signed=False, lut=table, constrains_weights=True
    )
    weights = torch.arange(-4, 4)
    assert multiplier.constrain(weights).tolist() == [-3, -3, -2, 0, 0, 1, 1, 3]  # of equally near, the smaller
    asm = find_multiplier("asm-1", weight_bits=8, activation_bits=8, activation_signed=False)
    with pytest.raises(ArgumentError, match="'asm-1' constrains its weights"):
        asm.adapted(weight_bits=4, activation_bits=8, weight_signed=True, activation_signed=False)


@pytest.mark.parametrize("name", multiplier_names())
def test_a_circuit_multiplies_narrower_operands_as_its_own(name: str) -> None:
    wide = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
    for bits in (2, 5):
        narrow = wide.narrowed(weight_bits=bits, activation_bits=7)
        weights = code_values(bits, True).long()
        assert torch.equal(narrow.table(), wide.table()[:128][:, weights & 255])
        assert narrow.weight_format == wide.weight_format
        assert narrow.constrain(weights).abs().max() <= 2 ** (bits - 1) - 1 or not narrow.constrains_weights
        found = find_multiplier(name, weight_bits=bits, activation_bits=7, activation_signed=False, circuit_bits=(8, 8))
        assert found.digest == narrow.digest
    with pytest.raises(ArgumentError, match="built for 8-bit weights and 8-bit activations, and cannot take 9 and"):
        wide.narrowed(weight_bits=9, activation_bits=4)


def test_minus_zero_matters_where_a_product_with_zero_is_not_zero() -> None:
    for name in multiplier_names():
        multiplier = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
        assert multiplier.negates_zero == name.startswith(("momeni", "truncated-compensated"))
    own = multiplier_from_function("own", lambda a, w: a * w + 1, signed=False)
    operands = {"weight_bits": 8, "activation_bits": 8, "activation_signed": False}
    assert own.adapted(**operands, weight_signed=True).negates_zero  # type: ignore[arg-type]
    assert not own.adapted(**operands, weight_signed=False).negates_zero  # type: ignore[arg-type]
    assert not multiplier_from_function("signed", lambda a, w: a * w + 1, signed=True).negates_zero


def test_a_static_segment_depends_on_how_wide_its_circuit_is() -> None:
    # 20 = 010100: of 6 bits the upper four are kept, 0101; of 8 bits the upper four too, 0001.
    own = find_multiplier("ssm-4", weight_bits=6, activation_bits=6, activation_signed=False)
    given = find_multiplier("ssm-4", weight_bits=6, activation_bits=6, activation_signed=False, circuit_bits=(8, 8))
    assert own.table()[20, 1] == 20
    assert given.table()[20, 1] == 16


def test_figures_are_for_their_widths() -> None:
    own = replace(
        multiplier_from_function("own", lambda a, w: a * w, signed=False), relative_energy=Figure(0.5, "a test")
    )
    adapted = own.adapted(weight_bits=4, activation_bits=8, weight_signed=True, activation_signed=False)
    assert adapted.relative_energy is None
