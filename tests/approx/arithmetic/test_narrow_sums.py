"""Narrow running sums against sums made one Python integer at a time."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from approx import (
    ArgumentError,
    Multiplier,
    OverflowCount,
    PartialSums,
    approx_conv2d,
    approx_linear,
    find_multiplier,
    quantized_conv2d,
    quantized_linear,
)
from approx.arithmetic import native
from approx.arithmetic.narrow_sums import may_overflow

SIXTEEN = PartialSums(bits=16)


@pytest.fixture(params=["torch", "baseline", "x86-64-v3", "x86-64-v4", "x86-64-v4-vnni"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute with torch alone, or with one build of the native kernel."""
    if request.param == "torch":
        monkeypatch.setattr(native, "load", lambda: None)
        yield
        return
    library = native.load()
    if library is None:
        pytest.skip("the native kernel is not built here")
    usual = library.build
    try:
        library.choose_build(request.param)
    except ArgumentError as error:
        pytest.skip(str(error))
    yield
    library.choose_build(usual)


def running_sum(products: list[int], sums: PartialSums) -> tuple[int, bool]:
    """The sum of products by the definition, and whether it overflowed as `OverflowCount` says."""
    low, high, size = -(2 ** (sums.bits - 1)), 2 ** (sums.bits - 1) - 1, 2**sums.bits
    total, saturated = 0, False
    for one in products:
        total += one
        if sums.overflow == "wrap":
            total = (total - low) % size + low
        elif not low <= total <= high:
            total, saturated = min(max(total, low), high), True
    return int(total), saturated if sums.overflow == "saturate" else bool(total != sum(products))


def oracle(
    codes: Tensor,
    weights: Tensor,
    multiplier: Multiplier,
    sums: PartialSums,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> tuple[Tensor, int]:
    """The convolution by loops over numbers, and how many sums overflowed."""

    def multiplied(activation: int, weight: int) -> int:
        if multiplier.lut is not None:
            return int(multiplier.lut[activation % len(multiplier.lut), weight % multiplier.lut.shape[1]])
        assert multiplier.weight_recoding is not None
        recoded = multiplier.activation_recoding
        left = activation if recoded is None else int(recoded[activation % len(recoded)])
        return left * int(multiplier.weight_recoding[weight % len(multiplier.weight_recoding)])

    images, _, height, width = codes.shape
    outputs, channels, rows, columns = weights.shape
    padded = np.zeros((images, codes.shape[1], height + 2 * padding[0], width + 2 * padding[1]), dtype=int)
    padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width] = codes.numpy()
    out_height = (padded.shape[2] - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    out_width = (padded.shape[3] - dilation[1] * (columns - 1) - 1) // stride[1] + 1
    out = torch.zeros(images, outputs, out_height, out_width, dtype=torch.int32)
    overflowed = 0
    for image, output, y, x in product(range(images), range(outputs), range(out_height), range(out_width)):
        first = output // (outputs // groups) * channels
        products = [
            multiplied(
                padded[image, first + channel, y * stride[0] + row * dilation[0], x * stride[1] + column * dilation[1]],
                int(weights[output, channel, row, column]),
            )
            for channel, row, column in product(range(channels), range(rows), range(columns))
        ]
        out[image, output, y, x], lost = running_sum(products, sums)
        overflowed += lost
    return out, overflowed


def random_codes(shape: tuple[int, ...], bits: int, signed: bool, generator: torch.Generator) -> Tensor:
    """Codes that an operand can hold, the lowest of two's complement among them, many at the ends of the range."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    codes = torch.randint(low, high + 1, shape, generator=generator)
    ends = torch.where(torch.rand(shape, generator=generator) < 0.5, low, high)
    chosen: Tensor = torch.where(torch.rand(shape, generator=generator) < 0.3, ends, codes)
    return chosen


def random_table(bits: tuple[int, int], signed: bool, seed: int) -> Multiplier:
    """Any table: its products have nothing to do with their operands, nor with the product of zeros."""
    generator = torch.Generator().manual_seed(seed)
    lut = torch.randint(-9000, 9000, (2 ** bits[0], 2 ** bits[1]), generator=generator, dtype=torch.int32)
    return Multiplier(name="any", activation_bits=bits[0], weight_bits=bits[1], activation_signed=signed, lut=lut)


MULTIPLIERS = ["exact", "drum-4", "mitchell", "asm-1-3", "truncated-4", "any"]


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(MULTIPLIERS),
    bits=st.sampled_from([(8, 8), (8, 4), (4, 8), (3, 3)]),
    signed=st.booleans(),
    sum_bits=st.integers(2, 18),
    overflow=st.sampled_from(["saturate", "wrap"]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 4]),
    pruned=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 999),
)
def test_convolutions_are_running_sums_to_the_bit(
    name: str,
    bits: tuple[int, int],
    signed: bool,
    sum_bits: int,
    overflow: str,
    pruned: float,
    seed: int,
    kernel: tuple[int, int],
    groups: int,
    **geometry: Any,
) -> None:
    if name == "any":
        multiplier = random_table(bits, signed, seed)
    else:
        try:
            multiplier = find_multiplier(name, activation_bits=bits[0], weight_bits=bits[1], activation_signed=signed)
        except ArgumentError:  # not in these widths
            return
    generator = torch.Generator().manual_seed(seed)
    codes = random_codes((2, 4, 5, 5), bits[0], signed, generator)
    weights = random_codes((4, 4 // groups, *kernel), bits[1], True, generator)
    weights[torch.rand(weights.shape, generator=generator) < pruned] = 0
    sums, count = PartialSums(bits=sum_bits, overflow=overflow), OverflowCount()
    found = approx_conv2d(codes, weights, multiplier, groups=groups, partial_sums=sums, overflows=count, **geometry)
    expected, overflowed = oracle(codes, weights, multiplier, sums, groups=groups, **geometry)
    assert torch.equal(found, expected)
    assert count == OverflowCount(expected.numel(), overflowed)


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("multiplier", ["exact", "asm-1-3", "asm-1"])
def test_weights_of_twelve_bits(multiplier: str, signed: bool, overflow: str) -> None:
    generator = torch.Generator().manual_seed(3)
    found = find_multiplier(multiplier, activation_bits=8, weight_bits=12, activation_signed=signed)
    codes, weights = random_codes((6, 30), 8, signed, generator), random_codes((5, 30), 12, True, generator)
    sums, count = PartialSums(bits=20 + (not signed), overflow=overflow), OverflowCount()
    out = approx_linear(codes, weights, found, partial_sums=sums, overflows=count)
    expected, overflowed = oracle(codes[:, :, None, None], weights[:, :, None, None], found, sums)
    assert torch.equal(out, expected[:, :, 0, 0])
    assert (count.sums, count.overflowed) == (30, overflowed)
    assert 0 < overflowed < 30


def test_products_are_added_channel_by_channel_row_by_row() -> None:
    """The order matters to sums that saturate: up to the limit and back is not back and up."""
    exact = find_multiplier("exact", activation_bits=8, weight_bits=8, activation_signed=False)
    weights = torch.tensor([[[[100.0, 100.0], [100.0, -100.0]], [[-100.0, -1.0], [0.0, 1.0]]]])
    codes = torch.full((1, 2, 2, 2), 200.0)
    sums = PartialSums(bits=16)
    steps = [20000, 40000, 32767 + 20000, 32767 - 20000, 12767 - 20000, -7233 - 200, -7433 + 0, -7433 + 200]
    assert int(approx_conv2d(codes, weights, exact, partial_sums=sums)) == steps[-1] == -7233
    backwards = weights.flip(1, 2, 3)
    assert int(approx_conv2d(codes, backwards, exact, partial_sums=sums)) != steps[-1]
    assert int(approx_conv2d(codes, weights, exact)) == int(approx_conv2d(codes, backwards, exact)) == 20000


@pytest.mark.parametrize("bits", [17, 24, 32])
def test_sums_that_fit_are_the_exact_ones(bits: int) -> None:
    generator = torch.Generator().manual_seed(0)
    exact = find_multiplier("exact", activation_bits=4, weight_bits=4, activation_signed=True)
    codes, weights = (random_codes((9, 400), 4, True, generator) for _ in range(2))
    count = OverflowCount()
    for overflow in ("saturate", "wrap"):
        sums = PartialSums(bits=bits, overflow=overflow)
        found = approx_linear(codes, weights, exact, partial_sums=sums, overflows=count)
        assert torch.equal(found, approx_linear(codes, weights, exact))
        assert not may_overflow(weights, exact, sums)
    assert (count.sums, count.overflowed) == (162, 0)


def test_what_may_overflow_is_what_some_codes_make_overflow() -> None:
    exact = find_multiplier("exact", activation_bits=8, weight_bits=8, activation_signed=False)
    for weights, overflows in (([64, 64], False), ([64, 65], True), ([-64, -64], False), ([-64, -65], True)):
        rows = torch.tensor([weights])
        assert may_overflow(rows, exact, SIXTEEN) is overflows
        count = OverflowCount()
        approx_linear(torch.tensor([[255, 255]]), rows, exact, partial_sums=SIXTEEN, overflows=count)
        assert count.overflowed == overflows


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_the_ends_of_the_width(overflow: str) -> None:
    """The largest and the smallest sum are reached without an overflow, and one more or one less overflows."""
    lut = torch.zeros(256, 256, dtype=torch.int32)
    lut[1, 1], lut[1, 2], lut[1, 3], lut[1, 4] = 127, 1, -128, -1
    multiplier = Multiplier(name="steps", activation_bits=8, weight_bits=8, activation_signed=False, lut=lut)
    sums = PartialSums(bits=8, overflow=overflow)
    rows = torch.tensor([[1, 0, 0], [1, 2, 0], [1, 2, 4], [3, 0, 0], [3, 4, 0], [3, 4, 2], [1, 3, 2], [4, 3, 2]])
    expected = {
        "saturate": ([127, 127, 126, -128, -128, -127, 0, -127], 5),
        "wrap": ([127, -128, 127, -128, 127, -128, 0, -128], 2),
    }[overflow]
    for together in (rows, rows[:1], rows[1:2], rows[3:4], rows[4:5]):
        count = OverflowCount()
        found = approx_linear(torch.ones(1, 3), together, multiplier, partial_sums=sums, overflows=count)
        own = [running_sum([int(lut[1, weight]) for weight in row], sums) for row in together.tolist()]
        assert found[0].tolist() == [total for total, _ in own]
        assert count.overflowed == sum(lost for _, lost in own)
        if together is rows:
            assert (found[0].tolist(), count.overflowed) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_products_that_are_never_zero_may_overflow_on_the_way(sign: int) -> None:
    """Weights all of whose products have one sign do not make up for those of the other sign before them."""
    lut = torch.zeros(256, 256, dtype=torch.int32)
    lut[:, 1], lut[:, 2] = 50 * sign, -100 * sign
    multiplier = Multiplier(name="constant", activation_bits=8, weight_bits=8, activation_signed=False, lut=lut)
    sums = PartialSums(bits=8)
    end = 128 if sign == 1 else 127
    for row, total in (([2, 2, 1, 1], 100 - end), ([1, 1, 2, 2], -100), ([2, 1, 2, 1], 50 - end)):
        weights = torch.tensor([row])
        assert may_overflow(weights, multiplier, sums)
        assert int(approx_linear(torch.ones(1, 4), weights, multiplier, partial_sums=sums)) == sign * total


def test_more_images_than_are_laid_out_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from approx.arithmetic import portable

    monkeypatch.setattr(portable, "_PATCH_VALUES", 500)
    monkeypatch.setattr(portable, "_SATURATING_VALUES", 8)
    generator = torch.Generator().manual_seed(5)
    multiplier = random_table((8, 8), True, 5)
    codes = random_codes((5, 4, 6, 6), 8, True, generator)
    weights = random_codes((4, 2, 3, 3), 8, True, generator)
    count = OverflowCount()
    found = approx_conv2d(codes, weights, multiplier, groups=2, partial_sums=SIXTEEN, overflows=count)
    expected, overflowed = oracle(codes, weights, multiplier, SIXTEEN, groups=2)
    assert torch.equal(found, expected)
    assert count.overflowed == overflowed > 0


@pytest.mark.parametrize("gradient", ["straight-through", "difference"])
@pytest.mark.parametrize("name", ["exact", "mitchell"])
def test_gradients_are_those_of_exact_sums(name: str, gradient: str) -> None:
    generator = torch.Generator().manual_seed(1)
    multiplier = find_multiplier(name, activation_bits=8, weight_bits=8, activation_signed=True)
    values = torch.randn(3, 4, 5, 5, generator=generator)
    weights = torch.randint(-127, 128, (6, 4, 3, 3), generator=generator).float()
    given_scales: dict[str, Any] = {"input_scale": torch.tensor(0.01), "output_scale": torch.full((6,), 1e-4)}
    gradients = []
    for sums in (None, PartialSums(bits=16), PartialSums(bits=16, overflow="wrap")):
        leaf, codes = values.clone().requires_grad_(), weights.clone().requires_grad_()
        bias = torch.zeros(6, requires_grad=True)
        out = quantized_conv2d(leaf, codes, multiplier, bias=bias, gradient=gradient, partial_sums=sums, **given_scales)
        (out * torch.linspace(-1, 1, out.numel()).reshape(out.shape)).sum().backward()  # type: ignore[no-untyped-call]
        gradients.append([one.grad for one in (leaf, codes, bias)])
    for narrow in gradients[1:]:
        for found, expected in zip(narrow, gradients[0], strict=True):
            assert found is not None
            assert expected is not None
            assert torch.equal(found, expected)


def test_real_values_are_quantised_summed_narrowly_and_rescaled() -> None:
    generator = torch.Generator().manual_seed(2)
    multiplier = find_multiplier("drum-4", activation_bits=8, weight_bits=8, activation_signed=True)
    codes, weights = random_codes((7, 40), 8, True, generator), random_codes((6, 40), 8, True, generator)
    scale, per_output, bias = torch.tensor(0.5), torch.rand(6, generator=generator), torch.rand(6, generator=generator)
    sums = approx_linear(codes, weights, multiplier, partial_sums=SIXTEEN)
    options: dict[str, Any] = {"input_scale": scale, "output_scale": per_output, "bias": bias, "partial_sums": SIXTEEN}
    found = quantized_linear(codes * 0.5, weights.float(), multiplier, full_range=True, **options)
    assert torch.equal(found, sums.float() * per_output + bias)
    clipped = approx_linear(codes.clamp(min=-127), weights, multiplier, partial_sums=SIXTEEN)
    found = quantized_linear(codes * 0.5, weights.float(), multiplier, **options)
    assert torch.equal(found, clipped.float() * per_output + bias)
    with torch.autocast("cpu"):
        assert torch.equal(found, quantized_linear(codes * 0.5, weights.float(), multiplier, **options))
    bad = codes * 0.5
    bad[0, 0] = math.nan
    assert quantized_linear(bad, weights.float(), multiplier, **options).isnan().all()


def test_sums_of_nothing() -> None:
    exact = find_multiplier("exact", activation_bits=8, weight_bits=8, activation_signed=True)
    count = OverflowCount()
    options: dict[str, Any] = {"partial_sums": PartialSums(bits=2), "overflows": count}
    assert approx_linear(torch.zeros(3, 0), torch.zeros(2, 0), exact, **options).tolist() == [[0, 0]] * 3
    assert approx_linear(torch.zeros(0, 4), torch.ones(2, 4), exact, **options).shape == (0, 2)
    assert (count.sums, count.overflowed) == (6, 0)


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_compiled_programs_narrow_their_sums_too(overflow: str) -> None:
    generator = torch.Generator().manual_seed(4)
    multiplier = find_multiplier("exact", activation_bits=8, weight_bits=8, activation_signed=True)
    values, weights = torch.randn(2, 4, 6, 6, generator=generator), torch.full((3, 4, 3, 3), 90.0)
    scales = (torch.tensor(0.02), torch.full((3,), 1e-3))
    sums = PartialSums(bits=14, overflow=overflow)

    def computed(values: Tensor, weights: Tensor) -> Tensor:
        return quantized_conv2d(
            values, weights, multiplier, input_scale=scales[0], output_scale=scales[1], partial_sums=sums
        )

    expected = computed(values, weights)
    exact = quantized_conv2d(values, weights, multiplier, input_scale=scales[0], output_scale=scales[1])
    assert not torch.equal(expected, exact)
    assert torch.equal(torch.compile(computed, backend="aot_eager", fullgraph=True)(values, weights), expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"partial_sums": 16}, "`partial_sums` must be an approx.PartialSums or None, got 16; such as"),
        ({"partial_sums": SIXTEEN, "overflows": 3}, "`overflows` must be an approx.OverflowCount or None, got 3"),
        ({"overflows": OverflowCount()}, "`overflows` counts nothing without `partial_sums`; pass both or neither"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], message: str) -> None:
    exact = find_multiplier("exact", activation_bits=8, weight_bits=8, activation_signed=True)
    with pytest.raises(ArgumentError, match=message):
        approx_linear(torch.zeros(1, 2), torch.zeros(1, 2), exact, **wrong)
