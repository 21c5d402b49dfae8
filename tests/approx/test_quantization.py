import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from approx import calibrate_scale, find_multiplier, quantize
from approx.quantization import code_range

values = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30).map(torch.tensor)
scales = st.floats(1 / 64, 8, width=32).map(torch.tensor)
widths = st.integers(2, 8)


@given(values, scales, widths, st.booleans())
def test_codes_are_idempotent_monotone_and_in_range(
    x: torch.Tensor, scale: torch.Tensor, bits: int, signed: bool
) -> None:
    codes = quantize(x, scale, bits=bits, signed=signed)
    low, high = code_range(bits, signed)
    assert ((codes >= low) & (codes <= high) & (codes == codes.round())).all()
    again = quantize(codes * scale, scale, bits=bits, signed=signed)
    assert torch.equal(again, codes)
    order = x.argsort()
    assert (codes[order].diff() >= 0).all()


@given(values, scales, widths)
def test_codes_are_within_half_a_scale_inside_the_range(x: torch.Tensor, scale: torch.Tensor, bits: int) -> None:
    low, high = code_range(bits, signed=True)
    inside = x.double().clamp(low * scale.double(), high * scale.double())
    codes = quantize(x, scale, bits=bits, signed=True)
    assert ((codes * scale - inside).abs() <= scale * 0.5 * (1 + 1e-5)).all()


@given(scales, widths, st.booleans())
def test_zero_is_code_zero(scale: torch.Tensor, bits: int, signed: bool) -> None:
    assert quantize(torch.zeros(1), scale, bits=bits, signed=signed).item() == 0


def test_gradient_passes_straight_through_and_stops_at_the_range() -> None:
    x = torch.tensor([-10.0, 0.3, 0.5, 10.0], requires_grad=True)
    quantize(x, torch.tensor(0.1), bits=4, signed=True).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([0, 10, 10, 0])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_calibration_is_at_least_as_good_as_reaching_the_largest_value(bits: int) -> None:
    weights = torch.randn(5, 200, generator=torch.Generator().manual_seed(0))
    largest = weights.abs().amax(dim=1) / code_range(bits, signed=True)[1]
    found = calibrate_scale(weights, bits=bits, signed=True)

    def error(scale: torch.Tensor) -> torch.Tensor:
        codes = quantize(weights, scale[:, None], bits=bits, signed=True)
        return (codes * scale[:, None] - weights).square().sum(dim=1)

    assert (error(found) <= error(largest)).all()
    if bits == 2:
        assert (error(found) < 0.6 * error(largest)).all()


def test_calibration_for_a_constrained_multiplier_reaches_the_largest_weights() -> None:
    constrain = find_multiplier("asm-1", weight_bits=8, activation_bits=8, activation_signed=False).constrain
    weights = torch.tensor([[1.0, -1.0, 1.0]])
    scale = calibrate_scale(weights, bits=8, signed=True, constrain=constrain)
    codes = constrain(quantize(weights, scale[:, None], bits=8, signed=True))
    assert (codes * scale - weights).abs().max() < 0.03


def test_a_row_of_zeros_gets_scale_one() -> None:
    assert calibrate_scale(torch.zeros(2, 3), bits=8, signed=True).tolist() == [1, 1]
