from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from approx import calibrate_scale, fake_quantize, find_multiplier, percentile_scale, quantize, straight_through
from approx.quantization import CodeFormat, code_range

values = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30).map(torch.tensor)
scales = st.floats(1 / 64, 8, width=32).map(torch.tensor)
widths = st.integers(2, 12)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(values, scales, widths, st.booleans())
def test_codes_are_idempotent_monotone_and_in_range(x: Tensor, scale: Tensor, bits: int, signed: bool) -> None:
    codes = quantize(x, scale, bits=bits, signed=signed)
    low, high = code_range(bits, signed)
    assert ((codes >= low) & (codes <= high) & (codes == codes.round())).all()
    again = quantize(codes * scale, scale, bits=bits, signed=signed)
    assert torch.equal(again, codes)
    order = x.argsort()
    assert (codes[order].diff() >= 0).all()


@given(values, scales, widths, st.booleans())
def test_fake_quantised_values_are_those_of_codes_idempotent_and_monotone(
    x: Tensor, scale: Tensor, bits: int, signed: bool
) -> None:
    faked = fake_quantize(x, scale, bits=bits, signed=signed)
    assert torch.equal(faked, quantize(x, scale, bits=bits, signed=signed) * scale)
    assert torch.equal(fake_quantize(faked, scale, bits=bits, signed=signed), faked)
    assert (faked[x.argsort()].diff() >= 0).all()


@given(values, scales, widths)
def test_codes_are_within_half_a_scale_inside_the_range(x: Tensor, scale: Tensor, bits: int) -> None:
    low, high = code_range(bits, signed=True)
    inside = x.double().clamp(low * scale.double(), high * scale.double())
    codes = quantize(x, scale, bits=bits, signed=True)
    assert ((codes * scale - inside).abs() <= scale * 0.5 * (1 + 1e-3)).all()


@given(scales, widths, st.booleans())
def test_zero_is_code_zero(scale: Tensor, bits: int, signed: bool) -> None:
    assert quantize(torch.zeros(1), scale, bits=bits, signed=signed).item() == 0


@pytest.mark.parametrize("bits", range(2, 13))
def test_ranges_are_symmetric_or_unsigned_and_twos_complement_has_one_more(bits: int) -> None:
    assert code_range(bits, signed=False) == (0, 2**bits - 1)
    low, high = code_range(bits, signed=True)
    assert (-low, high) == (2 ** (bits - 1) - 1, 2 ** (bits - 1) - 1)
    for signed in (True, False):
        quantised, stored = (CodeFormat(bits, signed, 1.0, full_range) for full_range in (False, True))
        assert (quantised.low, quantised.high) == code_range(bits, signed)
        assert (stored.low, stored.high) == (quantised.low - signed, quantised.high)
        assert {code & stored.mask for code in range(stored.low, stored.high + 1)} == set(range(2**bits))


def test_gradient_passes_straight_through_and_stops_at_the_range() -> None:
    x = torch.tensor([-10.0, 0.3, 0.5, 10.0], requires_grad=True)
    quantize(x, torch.tensor(0.1), bits=4, signed=True).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([0, 10, 10, 0])


def test_a_replacement_has_the_gradient_of_what_it_replaces() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    replaced = straight_through(x * 3, torch.tensor([7.0, 8.0]))
    assert replaced.tolist() == [7, 8]
    replaced.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [3, 3]


# ---- calibration -------------------------------------------------------------------------------------------------


def error(x: Tensor, scale: Tensor, bits: int, signed: bool) -> Tensor:
    """The mean-square error of each row, in double precision."""
    faked = fake_quantize(x.double(), scale.double()[:, None], bits=bits, signed=signed)
    return (faked - x).square().mean(dim=1)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8, 12])
def test_no_other_clipping_has_less_error(bits: int, signed: bool) -> None:
    x = normal(5, 200) if signed else normal(5, 200).relu()
    found = error(x, calibrate_scale(x, bits=bits, signed=signed), bits, signed)
    largest = x.abs().amax(dim=1) / code_range(bits, signed)[1]
    for fraction in np.arange(0.25, 1.81, 0.05):
        assert (found <= error(x, largest * fraction, bits, signed) * (1 + 1e-4)).all()
    if bits == 2 and signed:
        assert (found < 0.6 * error(x, largest, bits, signed)).all()


def test_rows_are_calibrated_each_by_itself() -> None:
    x = normal(70, 1500)  # more than are calibrated at a time
    together = calibrate_scale(x, bits=4, signed=True)
    assert torch.equal(together, torch.cat([calibrate_scale(row[None], bits=4, signed=True) for row in x]))


def test_a_sample_is_calibrated_to_the_largest_of_all() -> None:
    x = torch.full((1, 100), 0.5)
    x[0, 7] = -3
    sample = x[:, 10:]
    assert calibrate_scale(x, bits=8, signed=True) == pytest.approx(
        calibrate_scale(torch.cat([sample, x[:, 7:8]], 1), bits=8, signed=True, largest=torch.tensor([3.0]))
    )


def test_calibration_for_a_constrained_multiplier_reaches_the_largest_weights() -> None:
    constrain = find_multiplier("asm-1", weight_bits=8, activation_bits=8, activation_signed=False).constrain
    weights = torch.tensor([[1.0, -1.0, 1.0]])
    scale = calibrate_scale(weights, bits=8, signed=True, constrain=constrain)
    codes = constrain(quantize(weights, scale[:, None], bits=8, signed=True))
    assert (codes * scale - weights).abs().max() < 0.03


@given(
    st.lists(st.integers(-1000, 1000), min_size=1, max_size=60),
    st.sampled_from([50.5, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0]),
    widths,
    st.booleans(),
)
def test_a_percentile_is_the_least_magnitude_that_leaves_this_share_unclipped(
    whole: list[int], percentile: float, bits: int, signed: bool
) -> None:
    x = torch.tensor([whole], dtype=torch.float32)
    found = percentile_scale(x, bits=bits, signed=signed, percentile=percentile)
    magnitudes = sorted(abs(one) for one in whole)
    wanted = Fraction(str(percentile)) / 100
    reach = next(m for m in magnitudes if Fraction(sum(other <= m for other in magnitudes), len(magnitudes)) >= wanted)
    reach = reach or magnitudes[-1]
    expected = reach / code_range(bits, signed)[1] if reach else 1.0
    assert found.tolist() == pytest.approx([expected])


def test_percentiles_are_of_each_row() -> None:
    x = torch.stack([torch.arange(1.0, 101.0), 10 * torch.arange(1.0, 101.0)])
    assert percentile_scale(x, bits=8, signed=True, percentile=90.0).tolist() == pytest.approx([90 / 127, 900 / 127])


def test_a_row_of_zeros_gets_scale_one() -> None:
    assert calibrate_scale(torch.zeros(2, 3), bits=8, signed=True).tolist() == [1, 1]
    assert percentile_scale(torch.zeros(2, 3), bits=8, signed=True, percentile=99.0).tolist() == [1, 1]
