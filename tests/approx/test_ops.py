import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from approx import Multiplier, approx_conv2d, approx_linear, find_multiplier, multiplier_names, row_table_matmul
from approx.errors import ArgumentError
from approx.multiplier import code_values
from approx.reference import reference_matmul


def codes(shape: tuple[int, ...], bits: int, signed: bool, seed: int) -> Tensor:
    index = torch.randint(2**bits, shape, generator=torch.Generator().manual_seed(seed))
    return code_values(bits, signed)[index].to(torch.float32)


def random_multiplier(weight_bits: int, activation_bits: int, low: int, high: int) -> Multiplier:
    """No structure, and above all not symmetric: a symmetric table hides swapped operands."""
    lut = torch.randint(
        low,
        high + 1,
        (2**activation_bits, 2**weight_bits),
        generator=torch.Generator().manual_seed(1),
        dtype=torch.int32,
    )
    return Multiplier(
        name="random", weight_bits=weight_bits, activation_bits=activation_bits, activation_signed=False, lut=lut
    )


@pytest.mark.parametrize("name", multiplier_names())
@pytest.mark.parametrize(("weight_bits", "activation_bits", "signed"), [(8, 8, False), (8, 8, True), (3, 5, False)])
def test_linear_equals_the_oracle(name: str, weight_bits: int, activation_bits: int, signed: bool) -> None:
    multiplier = find_multiplier(
        name, weight_bits=weight_bits, activation_bits=activation_bits, activation_signed=signed
    )
    activations = codes((6, 37), activation_bits, signed, 1)
    weights = codes((5, 37), weight_bits, True, 2)
    expected = reference_matmul(activations, weights.T, multiplier.table())
    assert torch.equal(approx_linear(activations, weights, multiplier).to(torch.int64), expected)
    assert torch.equal(row_table_matmul(activations, weights, multiplier.table()).to(torch.int64), expected)


@pytest.mark.parametrize("positions", [1, 2, 23])
@pytest.mark.parametrize("inner", [1, 2, 115])
@pytest.mark.parametrize("outputs", [1, 23])
def test_any_table_and_odd_sizes_equal_the_oracle(positions: int, inner: int, outputs: int) -> None:
    multiplier = random_multiplier(8, 8, -32768, 32767)
    activations = codes((positions, inner), 8, False, 3)
    weights = codes((outputs, inner), 8, True, 4)
    expected = reference_matmul(activations, weights.T, multiplier.table())
    assert torch.equal(approx_linear(activations, weights, multiplier).to(torch.int64), expected)


@pytest.mark.parametrize("value", [65535, -32768])
def test_sums_beyond_float32_stay_exact(value: int) -> None:
    lut = torch.full((256, 256), value, dtype=torch.int32)
    out = row_table_matmul(codes((3, 1001), 8, False, 5), codes((2, 1001), 8, True, 6), lut)
    assert torch.equal(out, torch.full((3, 2), 1001.0 * value, dtype=torch.float64))


def test_recoded_sums_beyond_float32_stay_exact() -> None:
    multiplier = find_multiplier("exact", weight_bits=8, activation_bits=8, activation_signed=False)
    activations = torch.full((1, 1001), 255.0)
    activations[0, 0] = 254.0
    out = approx_linear(activations, torch.full((1, 1001), 127.0), multiplier)
    assert out.item() == 127 * (1001 * 255 - 1)


def test_empty_inputs() -> None:
    multiplier = random_multiplier(8, 8, -100, 100)
    assert approx_linear(torch.zeros(0, 4), torch.zeros(3, 4), multiplier).shape == (0, 3)
    assert torch.equal(approx_linear(torch.zeros(2, 0), torch.zeros(3, 0), multiplier), torch.zeros(2, 3))


def test_linear_takes_any_rank_and_non_contiguous_inputs() -> None:
    multiplier = random_multiplier(8, 8, -1000, 1000)
    activations = codes((4, 7, 3), 8, False, 7).transpose(0, 2)
    weights = codes((4, 5), 8, True, 8).T
    out = approx_linear(activations, weights, multiplier)
    expected = reference_matmul(activations.reshape(-1, 4), weights.T, multiplier.table())
    assert torch.equal(out.reshape(-1, 5).to(torch.int64), expected)


@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2)])
def test_convolution_equals_the_oracle(stride: tuple[int, int], padding: tuple[int, int]) -> None:
    # A table that gives something for a zero operand: padding must go through it too.
    multiplier = random_multiplier(6, 6, -500, 500)
    images = codes((2, 3, 8, 7), 6, False, 9)
    weights = codes((4, 3, 3, 2), 6, True, 10)
    out = approx_conv2d(images, weights, multiplier, stride=stride, padding=padding)
    rows = F.unfold(images, (3, 2), stride=stride, padding=padding).transpose(1, 2)
    expected = reference_matmul(rows.reshape(-1, 18), weights.flatten(1).T, multiplier.table())
    shape = F.conv2d(images, weights, stride=stride, padding=padding).shape
    assert out.shape == shape
    assert torch.equal(out.permute(0, 2, 3, 1).reshape(-1, 4).to(torch.int64), expected)


@pytest.mark.parametrize("name", ["exact", "asm-1-3"])
def test_recoded_convolution_equals_its_table(name: str) -> None:
    multiplier = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
    by_table = Multiplier(name=name, weight_bits=8, activation_bits=8, activation_signed=False, lut=multiplier.table())
    images, weights = codes((2, 3, 6, 6), 8, False, 11), codes((4, 3, 3, 3), 8, True, 12)
    assert torch.equal(
        approx_conv2d(images, weights, multiplier, padding=(1, 1)).to(torch.float64),
        approx_conv2d(images, weights, by_table, padding=(1, 1)).to(torch.float64),
    )


@pytest.mark.parametrize("name", ["exact", "asm-1", "truncated-6"])
def test_gradients_are_those_of_the_exact_product(name: str) -> None:
    multiplier = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
    # Representable weights, so that the exact product sees the same operands.
    weights = multiplier.constrain(codes((4, 3, 3, 3), 8, True, 13)).requires_grad_()
    images = codes((2, 3, 6, 6), 8, False, 14).requires_grad_()
    out = approx_conv2d(images, weights, multiplier, padding=(1, 1))
    upstream = torch.randint(-3, 4, out.shape, generator=torch.Generator().manual_seed(15)).to(out.dtype)
    found = torch.autograd.grad(out, (images, weights), upstream)
    exact = torch.autograd.grad(
        F.conv2d(images.double(), weights.double(), padding=1), (images, weights), upstream.double()
    )
    for mine, theirs in zip(found, exact, strict=True):
        assert torch.equal(mine, theirs)


def test_shapes_that_do_not_fit_are_refused() -> None:
    multiplier = random_multiplier(8, 8, -1, 1)
    with pytest.raises(ArgumentError, match=r"inner sizes differ.*\(2, 3\).*\(4, 5\)"):
        approx_linear(torch.zeros(2, 3), torch.zeros(4, 5), multiplier)
    with pytest.raises(ArgumentError, match="channels differ"):
        approx_conv2d(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 3, 3), multiplier)
