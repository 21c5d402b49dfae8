from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from approx import SILICON_14NM, fault_mask, read_back
from approx.errors import ArgumentError


def mask(rate: float, robust_bits: int, seed: int = 0, bits: int = 8, size: int = 400) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return fault_mask(torch.Size([size]), bits=bits, bit_error_rate=rate, robust_bits=robust_bits, generator=generator)


def test_one_percent_of_bits_fail_at_083_v_min() -> None:
    # The measured point: Chandramoorthy et al., HPCA 2019; Stutz et al., MLSys 2021.
    assert SILICON_14NM.bit_error_rate(0.83 * SILICON_14NM.v_min) == pytest.approx(0.01, rel=0.05)


def test_no_bit_fails_at_v_min_and_more_fail_the_lower_the_voltage() -> None:
    assert SILICON_14NM.bit_error_rate(SILICON_14NM.v_min) == 0
    rates = [SILICON_14NM.bit_error_rate(millivolts / 1000) for millivolts in range(899, 500, -10)]
    assert all(low < high for low, high in pairwise(rates))
    assert rates[-1] < 1


def test_voltage_must_be_positive() -> None:
    with pytest.raises(ArgumentError, match="supply_v must be positive, got 0"):
        SILICON_14NM.bit_error_rate(0)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 8), st.integers(0, 8))
def test_a_chip_fails_in_more_places_at_a_higher_rate_or_with_fewer_robust_bits(
    rate: float, other_rate: float, robust: int, other_robust: int
) -> None:
    few = mask(min(rate, other_rate), max(robust, other_robust))
    many = mask(max(rate, other_rate), min(robust, other_robust))
    assert torch.equal(few & many, few)


def test_robust_bits_are_the_top_bits() -> None:
    assert torch.equal(mask(1.0, 3), torch.full((400,), 0b00011111, dtype=torch.int32))


def test_rate_is_met_on_every_bit() -> None:
    faults = mask(0.1, 0, size=20_000)
    for bit in range(8):
        share = ((faults >> bit) & 1).to(torch.float64).mean().item()
        assert share == pytest.approx(0.1, abs=0.01)


def test_the_same_chip_fails_in_the_same_places() -> None:
    assert torch.equal(mask(0.2, 0, seed=5), mask(0.2, 0, seed=5))
    assert not torch.equal(mask(0.2, 0, seed=5), mask(0.2, 0, seed=6))


@given(st.integers(2, 8), st.floats(0, 1), st.integers(0, 2**31))
def test_reading_twice_through_the_same_faults_restores(bits: int, rate: float, seed: int) -> None:
    codes = torch.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    faults = mask(rate, 0, seed=seed, bits=bits, size=len(codes))
    read = read_back(codes, faults, bits)
    assert torch.equal(read_back(read, faults, bits), codes)
    assert read.min() >= -(2 ** (bits - 1))
    assert read.max() < 2 ** (bits - 1)


def test_rate_zero_is_identity_and_one_is_the_complement() -> None:
    codes = torch.arange(-128, 128)
    assert torch.equal(read_back(codes, mask(0, 0, size=256), 8), codes)
    assert torch.equal(read_back(codes, mask(1, 0, size=256), 8), -codes - 1)


@pytest.mark.parametrize(("rate", "robust"), [(-0.1, 0), (1.1, 0), (0.5, 9), (0.5, -1)])
def test_values_out_of_range_are_refused(rate: float, robust: int) -> None:
    with pytest.raises(ArgumentError, match="must be"):
        mask(rate, robust)
