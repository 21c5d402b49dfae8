"""What names and products say about a multiplier's operands, and what looks wrong."""

from __future__ import annotations

import numpy as np
import pytest

import approx
from approx.multipliers import reading
from approx.multipliers.reading import SIGNED, UNSIGNED, Integers, Reading


@pytest.mark.parametrize(
    ("name", "signed", "bits"),
    [
        ("mul8u_1JFF", False, (8, 8)),
        ("mul8s_1KV8", True, (8, 8)),
        ("mul8x2u_0CY", False, (8, 2)),
        ("my_mul4s", True, (4, 4)),
        ("h_u_dadda_cla8", False, None),
        ("f_s_arrmul4", True, None),
        ("SignedArrayMultiplier", True, None),
        ("UnsignedWallace8", False, None),
        ("DRUM6_16_s", True, None),
        ("signed_or_unsigned", None, None),
        ("truncated", None, None),
        ("mul8users", None, None),
        ("sums_mul", None, None),
    ],
)
def test_names_say_sign_and_widths(name: str, signed: bool | None, bits: tuple[int, int] | None) -> None:
    assert reading.sign_in_name(name) is signed
    assert reading.bits_in_name(name) == bits


_FROM_LOWEST = Reading(True, True, from_lowest=True)


def _values(bits: int, *, signed: bool, from_lowest: bool = False) -> Integers:
    codes = np.arange(2**bits)
    values = np.where(codes >= 2 ** (bits - 1), codes - 2**bits, codes) if signed else codes
    return np.sort(values) if from_lowest else values


def _coarse(bits: int, *, signed: bool, from_lowest: bool = False) -> Integers:
    """Products without the lowest quarter of their bits, rounded to zero."""
    values = _values(bits, signed=signed, from_lowest=from_lowest)
    products = values[:, None] * values[None, :]
    coarse: Integers = np.sign(products) * (np.abs(products) >> bits // 2 << bits // 2)
    return coarse


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("said", [True, False])
def test_products_say_what_a_file_does_not(bits: int, said: bool) -> None:
    signed = _coarse(bits, signed=True)
    told = True if said else None
    assert reading.how_to_read(signed, told) == SIGNED
    assert reading.how_to_read(signed & 2 ** (2 * bits) - 1, told) == SIGNED
    assert reading.how_to_read(_coarse(bits, signed=True, from_lowest=True), told) == _FROM_LOWEST
    assert reading.how_to_read(_coarse(bits, signed=False), None if told else False) == UNSIGNED


def test_tables_are_turned_into_the_order_of_codes() -> None:
    wanted = _coarse(8, signed=True)
    raw = _coarse(8, signed=True, from_lowest=True) & 0xFFFF
    assert (reading.as_read(raw, _FROM_LOWEST) == wanted).all()
    assert (reading.as_read(wanted, SIGNED) == wanted).all()


def test_noise_is_read_as_usual() -> None:
    noise = np.random.default_rng(0).integers(0, 2**16, (256, 256))
    assert reading.how_to_read(noise, None) == UNSIGNED
    assert reading.how_to_read(noise, True) == SIGNED


def _doubts(table: Integers, *, signed: bool) -> list[str]:
    return approx.doubts(approx.multiplier_from_table("mine", table, signed=signed, source="a test"))


@pytest.mark.parametrize("signed", [True, False])
def test_usual_multipliers_are_not_doubted(signed: bool) -> None:
    assert _doubts(_coarse(8, signed=signed), signed=signed) == []
    assert _doubts(_coarse(3, signed=signed), signed=signed) == []


@pytest.mark.parametrize(
    ("table", "signed", "doubt"),
    [
        (
            _coarse(8, signed=True, from_lowest=True),
            True,
            "signed, from the lowest value: rows at -128, columns at -128",
        ),
        (
            _coarse(8, signed=True, from_lowest=True),
            False,
            "signed, from the lowest value: rows at -128, columns at -128",
        ),
        (_coarse(8, signed=True) & 0xFFFF, False, "looks signed"),
        (_coarse(8, signed=True), False, "looks signed"),
        (_coarse(8, signed=False), True, "looks unsigned"),
        (_coarse(8, signed=True) & 0xFFFF, True, "holds the bits of signed products; extend their sign"),
        (np.tile(_coarse(4, signed=False), (16, 16)), False, "repeat after 16 activation codes, as if it had 4 bits"),
        (
            np.tile(_coarse(4, signed=False), (1, 2)),
            False,
            "repeat after 16 weight codes, as if it had 4 bits and",
        ),
        (_coarse(8, signed=False) >> 8, False, "wrong by 100% on average"),
        (np.zeros((16, 16), np.int64), False, "the same for every weight"),
    ],
)
def test_what_looks_wrong_is_doubted(table: Integers, signed: bool, doubt: str) -> None:
    assert any(doubt in said for said in _doubts(table, signed=signed))
