"""Every way to compute a product of codes gives what the slow oracle gives, to the bit."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from approx import Multiplier, approx_conv2d, approx_linear, find_multiplier, quantized_conv2d, quantized_linear
from approx.arithmetic import native, portable
from approx.arithmetic.convolution import method
from approx.arithmetic.geometry import Geometry
from approx.arithmetic.native import never_changes
from approx.arithmetic.operators import known_digest
from approx.arithmetic.portable import row_table_matmul
from approx.arithmetic.reference import reference_matmul
from approx.errors import ArgumentError, UnknownNameError
from approx.multipliers.multiplier import code_values
from approx.quantization import CodeFormat

BUILDS = ("baseline", "x86-64-v3", "x86-64-v4", "x86-64-v4-vnni")


@pytest.fixture(params=["torch", *BUILDS])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Compute with torch alone, or with one build of the native kernel."""
    if request.param == "torch":
        monkeypatch.setattr(native, "load", lambda: None)
        yield "torch"
        return
    library = native.load()
    if library is None:
        pytest.skip("the native kernel is not built here")
    usual = library.build
    try:
        library.choose_build(request.param)
    except ArgumentError as error:
        pytest.skip(str(error))
    yield request.param
    library.choose_build(usual)


@pytest.fixture
def restored_build() -> Iterator[native.Library]:
    """The library, whose build is as before afterwards."""
    library = native.load()
    if library is None:
        pytest.skip("the native kernel is not built here")
    usual = library.build
    yield library
    library.choose_build(usual)


def codes(shape: tuple[int, ...], bits: int, signed: bool, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    return torch.randint(low, high, shape, generator=generator, dtype=torch.int32)


def table(
    low: int,
    high: int,
    *,
    activation_signed: bool = False,
    seed: int = 0,
    weight_bits: int = 8,
    activation_bits: int = 8,
) -> Multiplier:
    """Random entries, without any structure: not symmetric, not zero for zero."""
    shape = (2**activation_bits, 2**weight_bits)
    lut = torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
    return Multiplier(
        name="random",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        activation_signed=activation_signed,
        lut=lut,
    )


def constant(value: int) -> Multiplier:
    lut = torch.full((256, 256), value, dtype=torch.int32)
    return Multiplier(name="constant", weight_bits=8, activation_bits=8, activation_signed=False, lut=lut)


def expected_linear(activations: Tensor, weights: Tensor, multiplier: Multiplier) -> Tensor:
    return reference_matmul(activations, weights.T, multiplier.table())


def expected_conv2d(images: Tensor, weights: Tensor, multiplier: Multiplier, geometry: Geometry) -> Tensor:
    """Straight from the definition, one output channel of one group at a time."""
    (rows, columns), groups = geometry.padding, geometry.groups
    padded = F.pad(images, (columns, columns, rows, rows)).to(torch.float64)
    height, width = geometry.out_size(*images.shape[2:])
    lut = multiplier.table()
    entries, weight_entries = lut.shape
    out = torch.zeros(len(images), len(weights), height, width, dtype=torch.int64)
    channels, outputs = weights.shape[1], len(weights) // groups
    for n in range(len(weights)):
        group = slice(n // outputs * channels, (n // outputs + 1) * channels)
        patches = F.unfold(padded[:, group], geometry.kernel, dilation=geometry.dilation, stride=geometry.stride)
        a = patches.to(torch.int64) % entries
        w = weights[n].flatten().to(torch.int64) % weight_entries
        out[:, n] = lut[a, w[None, :, None]].sum(1).reshape(-1, height, width)
    return out


MULTIPLIERS = {
    "16 bits, no structure": table(-(2**15), 2**15),
    "low entries": table(-100, 28),
    "signed": table(-(2**15), 2**15, activation_signed=True),
    "32 bits": table(-(2**24), 2**24),
    "all 65535": constant(65535),
    "all -32768": constant(-32768),
    "few bits": table(-50, 50, activation_bits=3, weight_bits=2),
    "exact": find_multiplier("exact", weight_bits=8, activation_bits=8, activation_signed=False),
    "exact signed": find_multiplier("exact", weight_bits=8, activation_bits=8, activation_signed=True),
    "truncated, three products": find_multiplier(
        "truncated-2", weight_bits=8, activation_bits=8, activation_signed=False
    ),
    "alphabet set": find_multiplier("asm-1-3", weight_bits=8, activation_bits=8, activation_signed=False),
    "both recoded": find_multiplier("drum-3", weight_bits=8, activation_bits=8, activation_signed=False),
    "non-zero for zero": find_multiplier(
        "truncated-compensated-4", weight_bits=8, activation_bits=8, activation_signed=False
    ),
    "12 bits": find_multiplier("asm-1-3", weight_bits=12, activation_bits=8, activation_signed=False),
}


# One multiplier for each method: row tables of 16 bits and of 32, which are two tables; a product, a sum of three, and
# a product of operands too wide for a table. These meet every size and shape; every multiplier meets a few of them.
METHODS = ["16 bits, no structure", "32 bits", "exact", "truncated, three products", "12 bits"]
SIZES = [1, 2, 23, 115]


@pytest.mark.parametrize(
    ("name", "size"),
    [*((name, 23) for name in MULTIPLIERS), *((name, size) for name in METHODS for size in SIZES if size != 23)],
)
def test_linear_equals_the_oracle(path: str, name: str, size: int) -> None:
    multiplier = MULTIPLIERS[name]
    signed = multiplier.activation_signed
    rows, outputs = max(1, 40 // size), 40 if size < 100 else 3
    activations = codes((rows, size), multiplier.activation_bits, signed, 1)
    weights = codes((outputs, size), multiplier.weight_bits, True, 2)
    found = approx_linear(activations, weights, multiplier)
    assert found.dtype == torch.int32
    assert torch.equal(found.to(torch.int64), expected_linear(activations, weights, multiplier))


ROWS, OUTPUTS = [1, 2, 63, 64, 65, 300], [1, 7, 8, 9, 16, 17, 31, 33, 70]


@pytest.mark.parametrize(
    ("rows", "outputs"),
    [*product(ROWS, [8, 33]), *((65, outputs) for outputs in OUTPUTS if outputs not in (8, 33)), (1, 1), (300, 70)],
)
def test_linear_of_every_block_shape(path: str, rows: int, outputs: int) -> None:
    multiplier = MULTIPLIERS["16 bits, no structure"]
    activations, weights = codes((rows, 17), 8, False, 3), codes((outputs, 17), 8, True, 4)
    lut = multiplier.table()
    expected = lut[activations[:, None, :].to(torch.int64), weights[None].to(torch.int64) % 256].sum(2)
    assert torch.equal(approx_linear(activations, weights, multiplier).to(torch.int64), expected)


GEOMETRIES = {
    "plain": Geometry(kernel=(3, 3)),
    "padded": Geometry(kernel=(3, 3), padding=(1, 1)),
    "strided": Geometry(kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
    "dilated": Geometry(kernel=(3, 3), dilation=(2, 2), padding=(2, 2)),
    "uneven": Geometry(kernel=(2, 5), stride=(2, 1), padding=(3, 0), dilation=(1, 2)),
    "one by one": Geometry(kernel=(1, 1)),
    "one by one, strided": Geometry(kernel=(1, 1), stride=(2, 3)),
    "grouped": Geometry(kernel=(3, 3), padding=(1, 1), groups=3),
    "depthwise": Geometry(kernel=(3, 3), padding=(1, 1), groups=6),
    "depthwise, one by one": Geometry(kernel=(1, 1), groups=6),
}


EVERY_MULTIPLIER_IN = ["uneven", "grouped"]
IN_EVERY_GEOMETRY = ["16 bits, no structure", "truncated, three products", "non-zero for zero", "12 bits"]
OTHER_GEOMETRIES = [shape for shape in GEOMETRIES if shape not in EVERY_MULTIPLIER_IN]


@pytest.mark.parametrize(
    ("name", "shape"), [*product(MULTIPLIERS, EVERY_MULTIPLIER_IN), *product(IN_EVERY_GEOMETRY, OTHER_GEOMETRIES)]
)
def test_convolution_equals_the_oracle(path: str, name: str, shape: str) -> None:
    multiplier, geometry = MULTIPLIERS[name], GEOMETRIES[shape]
    images = codes((2, 6, 9, 11), multiplier.activation_bits, multiplier.activation_signed, 5)
    weights = codes((18, 6 // geometry.groups, *geometry.kernel), multiplier.weight_bits, True, 6)
    found = approx_conv2d(
        images,
        weights,
        multiplier,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=geometry.groups,
    )
    assert torch.equal(found.to(torch.int64), expected_conv2d(images, weights, multiplier, geometry))


@pytest.mark.parametrize("width", [1, 2, 5, 20])
@pytest.mark.parametrize("channels", [1, 2, 5, 7, 22])
@pytest.mark.parametrize("dilation", [1, 2])
def test_patches_of_every_length(path: str, channels: int, width: int, dilation: int) -> None:
    """A row of the kernel is copied in 16, 32 or 64 bytes at once, or in as many as it has."""
    multiplier = MULTIPLIERS["exact"]
    geometry = Geometry(kernel=(2, 3), padding=(1, 2), dilation=(1, dilation))
    images, weights = codes((3, channels, 4, width), 8, False, 20), codes((6, channels, 2, 3), 8, True, 21)
    expected = expected_conv2d(images, weights, multiplier, geometry)
    found = approx_conv2d(images, weights, multiplier, padding=(1, 2), dilation=(1, dilation))
    assert torch.equal(found.to(torch.int64), expected)


@pytest.mark.parametrize("outputs", [*range(1, 20), 31, 32, 33, 40, 47, 50, 63, 64, 65])
def test_convolutions_of_every_number_of_outputs(path: str, outputs: int) -> None:
    multiplier = MULTIPLIERS["exact"]
    images, weights = codes((2, 2, 9, 9), 8, False, 22), codes((outputs, 2, 3, 3), 8, True, 23)
    expected = expected_conv2d(images, weights, multiplier, Geometry(kernel=(3, 3)))
    assert torch.equal(approx_conv2d(images, weights, multiplier).to(torch.int64), expected)


def test_grouped_pixels(path: str) -> None:
    multiplier = MULTIPLIERS["16 bits, no structure"]
    images, weights = codes((5, 6, 1, 1), 8, False, 7), codes((4, 3, 1, 1), 8, True, 8)
    geometry = Geometry(groups=2)
    found = approx_conv2d(images, weights, multiplier, groups=2)
    assert torch.equal(found.to(torch.int64), expected_conv2d(images, weights, multiplier, geometry))


def test_many_positions_on_several_threads(path: str) -> None:
    multiplier = MULTIPLIERS["16 bits, no structure"]
    images, weights = codes((40, 3, 17, 17), 8, False, 9), codes((5, 3, 3, 3), 8, True, 10)
    expected = expected_conv2d(images, weights, multiplier, Geometry(kernel=(3, 3), padding=(1, 1)))
    usual = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found = approx_conv2d(images, weights, multiplier, padding=(1, 1))
        assert torch.equal(found.to(torch.int64), expected)
    torch.set_num_threads(usual)


def test_inputs_that_are_not_contiguous(path: str) -> None:
    multiplier = MULTIPLIERS["16 bits, no structure"]
    activations, weights = codes((6, 40), 8, False, 11)[:, ::2], codes((20, 9), 8, True, 12).T
    assert not activations.is_contiguous()
    assert torch.equal(
        approx_linear(activations, weights, multiplier).to(torch.int64),
        expected_linear(activations, weights, multiplier),
    )
    images = codes((2, 9, 7, 3), 8, False, 13).permute(0, 3, 1, 2)
    kernels = codes((3, 3, 4, 3), 8, True, 14).permute(2, 3, 0, 1)
    expected = expected_conv2d(images, kernels, multiplier, Geometry(kernel=(3, 3)))
    assert torch.equal(approx_conv2d(images, kernels, multiplier).to(torch.int64), expected)


@pytest.mark.parametrize("name", ["16 bits, no structure", "exact", "12 bits"])
def test_empty_inputs(path: str, name: str) -> None:
    multiplier = MULTIPLIERS[name]
    weights = codes((3, 5), 8, True, 15)
    assert approx_linear(torch.zeros(0, 5, dtype=torch.int32), weights, multiplier).shape == (0, 3)
    assert approx_linear(torch.zeros(2, 0, 5, dtype=torch.int32), weights, multiplier).shape == (2, 0, 3)
    nothing = torch.zeros(2, 0, dtype=torch.int32)
    assert torch.equal(approx_linear(nothing, torch.zeros(3, 0, dtype=torch.int32), multiplier), torch.zeros(2, 3))
    assert approx_linear(codes((2, 5), 8, False, 16), weights[:0], multiplier).shape == (2, 0)
    images = torch.zeros(0, 3, 4, 4, dtype=torch.int32)
    assert approx_conv2d(images, codes((2, 3, 3, 3), 8, True, 17), multiplier).shape == (0, 2, 2, 2)


def test_linear_takes_inputs_of_any_rank(path: str) -> None:
    multiplier = MULTIPLIERS["16 bits, no structure"]
    weights = codes((4, 5), 8, True, 18)
    for shape in [(5,), (3, 5), (2, 3, 5), (2, 1, 3, 5)]:
        activations = codes(shape, 8, False, 19)
        expected = expected_linear(activations.reshape(-1, 5), weights, multiplier).reshape(*shape[:-1], 4)
        assert torch.equal(approx_linear(activations, weights, multiplier).to(torch.int64), expected)


def test_operands_are_not_swapped(path: str) -> None:
    """A table whose entry names its operands."""
    a, w = code_values(8, False)[:, None], code_values(8, True)[None, :]
    lut = (a * 100 + w).to(torch.int32)
    multiplier = Multiplier(name="named", weight_bits=8, activation_bits=8, activation_signed=False, lut=lut)
    one = approx_linear(torch.tensor([[7]]), torch.tensor([[-3]]), multiplier)
    assert one.item() == 697
    assert approx_conv2d(torch.tensor([[[[7]]]]), torch.tensor([[[[-3]]]]), multiplier).item() == 697


def test_row_tables_in_blocks_stay_exact() -> None:
    lut = torch.full((256, 256), 2**23 - 1, dtype=torch.int32)
    rows = row_table_matmul(codes((3, 201), 8, False, 5), codes((2, 201), 8, False, 6), lut)
    assert torch.equal(rows, torch.full((3, 2), 201 * (2**23 - 1)))


# ---- real values -------------------------------------------------------------------------------------------------


def real(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantized(values: Tensor, scale: float, bits: int, signed: bool) -> Tensor:
    low, high = (-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return (values / scale).clamp(low, high).round()


@pytest.mark.parametrize(
    ("name", "with_bias"),
    [*product([*METHODS, "signed", "few bits", "exact signed", "both recoded"], [True]), *product(METHODS, [False])],
)
def test_real_values_are_quantised_and_rescaled(path: str, name: str, with_bias: bool) -> None:
    multiplier = MULTIPLIERS[name]
    values = real((3, 4, 7, 9), 20) * 200
    values[0, 0, 0, :4] = torch.tensor([0.5, 1.5, -0.5, 2.5])  # halves
    values[0, 0, 1, :3] = torch.tensor([torch.inf, -torch.inf, 1e30])
    weights = codes((10, 4, 3, 3), multiplier.weight_bits, True, 21).to(torch.float32)
    scale = torch.tensor(1.0)
    output_scale, bias = real((10,), 22), real((10,), 23) if with_bias else None
    found = quantized_conv2d(
        values, weights, multiplier, input_scale=scale, output_scale=output_scale, bias=bias, padding=(1, 1)
    )
    integers = quantized(values, 1.0, multiplier.activation_bits, multiplier.activation_signed)
    sums = expected_conv2d(integers, weights, multiplier, Geometry(kernel=(3, 3), padding=(1, 1)))
    expected = sums.to(torch.float32) * output_scale[:, None, None]
    if bias is not None:
        expected = expected + bias[:, None, None]
    assert torch.equal(found, expected)


def test_scale_divides_as_torch_does(path: str) -> None:
    """Codes on the edge between two integers must not depend on the path."""
    multiplier = find_multiplier("exact", weight_bits=8, activation_bits=8, activation_signed=True)
    scale = torch.tensor(0.0123)
    values = (torch.arange(-300, 300) + 0.5).to(torch.float32)[:, None] * scale
    found = quantized_linear(
        values, torch.ones(1, 1), multiplier, input_scale=scale, output_scale=torch.ones(1), bias=None
    )
    assert torch.equal(found, quantized(values, float(scale), 8, True))


@pytest.mark.parametrize("name", ["16 bits, no structure", "32 bits", "exact", "12 bits"])
def test_what_is_not_a_number_stays_so(path: str, name: str) -> None:
    multiplier = MULTIPLIERS[name]
    ones = torch.ones(4)
    values = real((5, 3, 6, 6), 24)
    values[4, 2, 5, 5] = torch.nan
    weights = torch.ones(4, 3, 3, 3)
    out = quantized_conv2d(values, weights, multiplier, input_scale=torch.tensor(1.0), output_scale=ones)
    assert out.isnan().all()
    flat = quantized_linear(
        values.flatten(1), torch.ones(4, 108), multiplier, input_scale=torch.tensor(1.0), output_scale=ones
    )
    assert flat.isnan().all()


# ---- gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [*product(["16 bits, no structure"], GEOMETRIES), *product(["exact", "both recoded"], EVERY_MULTIPLIER_IN)],
)
def test_straight_through_gradients_are_those_of_the_exact_product(path: str, name: str, shape: str) -> None:
    multiplier, geometry = MULTIPLIERS[name], GEOMETRIES[shape]
    values = (real((2, 6, 9, 11), 25) * 100).requires_grad_()
    weights = codes((18, 6 // geometry.groups, *geometry.kernel), 8, True, 26).to(torch.float32).requires_grad_()
    bias = real((18,), 27).requires_grad_()
    scale, output_scale = torch.tensor(0.5), torch.full((18,), 0.25)
    out = quantized_conv2d(
        values,
        weights,
        multiplier,
        input_scale=scale,
        output_scale=output_scale,
        bias=bias,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=geometry.groups,
    )
    upstream = torch.randint(-3, 4, out.shape, generator=torch.Generator().manual_seed(28)).to(torch.float32)
    found = torch.autograd.grad(out, (values, weights, bias), upstream)

    clipped = (values / scale).clamp(0, 255)
    integers = clipped + (clipped.round() - clipped).detach()
    exact = F.conv2d(
        integers.double(),
        weights.double(),
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=geometry.groups,
    )
    exact = exact * 0.25 + bias[:, None, None]
    expected = torch.autograd.grad(exact, (values, weights, bias), upstream.double())
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize("name", ["exact", "16 bits, no structure", "truncated, three products", "non-zero for zero"])
def test_difference_gradients_are_the_slopes_of_the_table(name: str, window: int) -> None:
    multiplier = MULTIPLIERS[name]
    geometry = Geometry(kernel=(3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
    values = (real((2, 4, 6, 7), 29) * 150).requires_grad_()
    weights = codes((6, 2, 3, 2), 8, True, 30).clamp(-127, 127).to(torch.float32).requires_grad_()
    out = quantized_conv2d(
        values,
        weights,
        multiplier,
        input_scale=torch.tensor(2.0),
        output_scale=torch.full((6,), 0.5),
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=2,
        gradient="difference",
        gradient_window=window,
    )
    upstream = torch.randint(-3, 4, out.shape, generator=torch.Generator().manual_seed(31)).to(torch.float64)
    found = torch.autograd.grad(out, (values, weights), upstream.to(torch.float32))

    # One product at a time.
    lut = multiplier.table().to(torch.float64)
    scaled = values.detach() / 2
    integers = F.pad(scaled.clamp(0, 255).round(), (2, 2, 1, 1)).to(torch.int64)
    by_values, by_weights = torch.zeros(integers.shape, dtype=torch.float64), torch.zeros(weights.shape)
    for b, n, y, x in product(*map(range, out.shape)):
        for c, ky, kx in product(range(2), range(3), range(2)):
            channel, row, column = n // 3 * 2 + c, 2 * y + ky, x + 2 * kx
            a, w = int(integers[b, channel, row, column]), int(weights[n, c, ky, kx])
            up, down = min(a + window, 255), max(a - window, 0)
            slope = (lut[up, w] - lut[down, w]) / (up - down)
            by_values[b, channel, row, column] += upstream[b, n, y, x] * slope * 0.5 / 2
            up, down = min(w + window, 127), max(w - window, -128)
            by_weights[n, c, ky, kx] += upstream[b, n, y, x] * 0.5 * (lut[a, up] - lut[a, down]) / (up - down)
    inside = (scaled >= 0) & (scaled <= 255)
    expected = by_values[:, :, 1:-1, 2:-2] * inside
    torch.testing.assert_close(found[0].double(), expected, rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(found[1], by_weights, rtol=1e-5, atol=1e-1)


@pytest.mark.parametrize("window", [1, 4])
def test_separable_gradients_are_those_of_the_nearest_product_of_two_tables(window: int) -> None:
    """Of a table that is such a product, with steps of 8 and 4, they are those of the table itself."""
    activations, weights = code_values(8, signed=False), code_values(8, signed=True)
    lut = (activations // 8 * 8)[:, None] * (weights // 4 * 4)[None]
    steps = Multiplier(name="steps", weight_bits=8, activation_bits=8, activation_signed=False, lut=lut)
    values = (real((2, 3, 5, 5), 40) * 150).relu().requires_grad_()
    kernel = codes((4, 3, 3, 3), 8, True, 41).to(torch.float32).requires_grad_()
    found = {}
    for gradient in ("difference", "separable-difference"):
        out = quantized_conv2d(
            values,
            kernel,
            steps,
            input_scale=torch.tensor(1.0),
            output_scale=torch.ones(4),
            padding=1,
            gradient=gradient,
            gradient_window=window,
        )
        found[gradient] = torch.autograd.grad(out.square().sum(), (values, kernel))
    for one, other in zip(found["difference"], found["separable-difference"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(one.abs().max()))


@pytest.mark.slow
def test_the_operator_is_registered_properly(path: str) -> None:
    multiplier = MULTIPLIERS["16 bits, no structure"]
    values = real((2, 3, 5, 5), 32).requires_grad_()
    weights = codes((4, 3, 3, 3), 8, True, 33).to(torch.float32).requires_grad_()
    bias = real((4,), 34).requires_grad_()
    scales = (torch.tensor(0.1), torch.ones(4))
    for gradient in ("straight-through", "difference", "separable-difference"):
        geometry = ([1, 1], [1, 1], [1, 1], 1)
        for sums in ((None, ""), (16, "saturate"), (16, "wrap")):
            torch.library.opcheck(
                torch.ops.crosslayer.quantized_conv2d.default,
                (values, weights, bias, *scales, known_digest(multiplier), gradient, 2, True, *geometry, *sums),
            )


def test_the_operator_compiles() -> None:
    multiplier = table(-(2**15), 2**15, seed=37)  # one that no other test has made known
    values, weights = real((2, 3, 5, 5), 35), codes((4, 3, 3, 3), 8, True, 36).to(torch.float32)

    def run(values: Tensor) -> Tensor:
        scales = torch.tensor(0.1), torch.ones(4)
        return quantized_conv2d(values.relu(), weights, multiplier, input_scale=scales[0], output_scale=scales[1]) * 2

    assert torch.equal(torch.compile(run, fullgraph=True, backend="eager")(values), run(values))


# ---- methods and errors ------------------------------------------------------------------------------------------


def test_methods(path: str) -> None:
    where = "torch" if path == "torch" else "native"
    assert method(MULTIPLIERS["16 bits, no structure"]) == f"{where}: row tables"
    if path == "torch":
        assert method(MULTIPLIERS["alphabet set"]) == "torch: an exact product"
        assert method(MULTIPLIERS["truncated, three products"]) == "torch: a sum of at most 3 exact products"


def test_shapes_that_do_not_fit_are_refused() -> None:
    multiplier = MULTIPLIERS["16 bits, no structure"]
    with pytest.raises(ArgumentError, match=r"\(2, 3\) do not fit weights of shape \(4, 5\)"):
        approx_linear(torch.zeros(2, 3), torch.zeros(4, 5), multiplier)
    with pytest.raises(ArgumentError, match=r"\(1, 2, 4, 4\).*\(1, 3, 3, 3\): they do not fit 1 groups"):
        approx_conv2d(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 3, 3), multiplier)
    with pytest.raises(ArgumentError, match="four dimensions"):
        approx_conv2d(torch.zeros(2, 4, 4), torch.zeros(1, 2, 3, 3), multiplier)
    with pytest.raises(ArgumentError, match="does not fit into the padded input"):
        approx_conv2d(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 3, 3), multiplier)
    with pytest.raises(ArgumentError, match="at least 1"):
        approx_conv2d(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 3, 3), multiplier, stride=(0, 1))


def test_codes_out_of_range_are_refused() -> None:
    multiplier = MULTIPLIERS["16 bits, no structure"]
    with pytest.raises(ArgumentError, match=r"activation codes must be in 0\.\.255 .*got -1\.\.0"):
        approx_linear(torch.tensor([[0, -1]]), torch.zeros(1, 2), multiplier)
    with pytest.raises(ArgumentError, match=r"weight codes must be in -128\.\.127 .*got 0\.\.128"):
        approx_linear(torch.zeros(1, 2), torch.tensor([[0, 128]]), multiplier)
    with pytest.raises(ArgumentError, match="activation codes must be integers"):
        approx_linear(torch.tensor([[0.5]]), torch.zeros(1, 1), multiplier)


def test_sums_that_could_leave_32_bits_are_refused() -> None:
    multiplier = constant(65535)
    with pytest.raises(ArgumentError, match="at most 32768 products"):
        approx_linear(torch.zeros(1, 32769), torch.zeros(1, 32769), multiplier)
    most = approx_linear(torch.zeros(1, 32768), torch.zeros(1, 32768), multiplier)
    assert most.item() == 32768 * 65535


def test_weight_codes_out_of_range_are_refused_in_layers_too(path: str) -> None:
    one = torch.tensor(1.0)
    for name in ("exact", "16 bits, no structure", "12 bits"):
        for wrong, complaint in ((5000.0, r"weight codes must be in .*got 5000\.\.5000"), (0.5, "must be integers")):
            with pytest.raises(ArgumentError, match=complaint):
                quantized_linear(
                    torch.ones(1, 1),
                    torch.full((1, 1), wrong),
                    MULTIPLIERS[name],
                    input_scale=one,
                    output_scale=torch.ones(1),
                )


@pytest.mark.parametrize("scale", [0.0, -1.0, torch.nan, torch.inf])
def test_scales_that_are_none_are_refused(scale: float) -> None:
    with pytest.raises(ArgumentError, match="`input_scale` must be positive and finite"):
        quantized_linear(
            torch.ones(1, 1),
            torch.ones(1, 1),
            MULTIPLIERS["exact"],
            input_scale=torch.tensor(scale),
            output_scale=torch.ones(1),
        )


@pytest.mark.parametrize("name", ["exact", "12 bits", "16 bits, no structure"])
def test_autocast_changes_nothing(path: str, name: str) -> None:
    multiplier = MULTIPLIERS[name]
    activations, weights = codes((4, 50), 8, False, 40), codes((3, 50), 8, True, 41)
    with torch.autocast("cpu"):
        found = approx_linear(activations, weights, multiplier)
    assert torch.equal(found.to(torch.int64), expected_linear(activations, weights, multiplier))


def test_equal_tables_of_other_factors_do_not_mix(path: str) -> None:
    kept = code_values(8, True).clamp(min=-127)

    def made(weights: Tensor, activations: Tensor | None) -> Multiplier:
        return Multiplier(
            name="m",
            weight_bits=8,
            activation_bits=8,
            activation_signed=False,
            weight_recoding=weights,
            activation_recoding=activations,
        )

    one = made(kept, -torch.arange(256, dtype=torch.int32))
    other = made(-kept, None)
    assert one.digest == other.digest
    weights = never_changes(torch.tensor([[1, 2, 3], [4, 5, 6]]))
    expected = torch.tensor([[-14, -32]], dtype=torch.int32)
    for multiplier in (one, other, one):
        assert torch.equal(approx_linear(torch.tensor([[1, 2, 3]]), weights, multiplier), expected)


def test_sums_are_bounded_by_the_whole_table() -> None:
    exact = find_multiplier("exact", weight_bits=8, activation_bits=8, activation_signed=False, weight_signed=False)
    assert exact.largest_product == 255 * 255
    with pytest.raises(ArgumentError, match="at most 33025 products"):
        approx_linear(torch.zeros(1, 40000), torch.zeros(1, 40000), exact)


def test_programs_of_unknown_multipliers_say_so() -> None:
    with pytest.raises(UnknownNameError, match="SHA-256 nothing"):
        torch.ops.crosslayer.quantized_conv2d(
            torch.zeros(1, 1, 1, 1),
            torch.zeros(1, 1, 1, 1),
            None,
            torch.tensor(1.0),
            torch.ones(1),
            "nothing",
            "straight-through",
            1,
            False,
            [1, 1],
            [0, 0],
            [1, 1],
            1,
            None,
            "",
        )


@pytest.mark.parametrize("gradient", ["straight-through", "difference"])
@pytest.mark.parametrize("name", ["exact", "16 bits, no structure"])
def test_gradients_of_nothing(path: str, name: str, gradient: str) -> None:
    values, weights = torch.rand(2, 0, requires_grad=True), torch.ones(4, 0, requires_grad=True)
    out = quantized_linear(
        values,
        weights,
        MULTIPLIERS[name],
        input_scale=torch.tensor(1.0),
        output_scale=torch.ones(4),
        gradient=gradient,
    )
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad.shape == (2, 0)


def test_clipped_values_have_no_gradient_whatever_comes(path: str) -> None:
    values = torch.tensor([[-5.0, 1.0]], requires_grad=True)
    out = quantized_linear(
        values,
        torch.ones(1, 2),
        MULTIPLIERS["exact"],
        input_scale=torch.tensor(1.0),
        output_scale=torch.ones(1),
    )
    (found,) = torch.autograd.grad(out, values, torch.full((1, 1), torch.inf))
    assert torch.equal(found, torch.tensor([[0.0, torch.inf]]))


def test_one_number_stands_for_two(path: str) -> None:
    multiplier = MULTIPLIERS["16 bits, no structure"]
    images, weights = codes((1, 2, 6, 6), 8, False, 42), codes((3, 2, 3, 3), 8, True, 43)
    pairs = approx_conv2d(images, weights, multiplier, stride=(2, 2), padding=(1, 1), dilation=(1, 1))
    assert torch.equal(approx_conv2d(images, weights, multiplier, stride=2, padding=1, dilation=1), pairs)


def test_other_types_and_gradients_are_refused() -> None:
    multiplier = MULTIPLIERS["exact"]
    zero, one = torch.zeros(1, 1), torch.ones(1)
    with pytest.raises(ArgumentError, match=r"`values` must be float32, got torch\.float64; convert it with"):
        quantized_linear(zero.double(), zero, multiplier, input_scale=one[0], output_scale=one)
    with pytest.raises(ArgumentError, match=r"`gradient` must be one of straight-through, .*; got 'none'"):
        quantized_linear(zero, zero, multiplier, input_scale=one[0], output_scale=one, gradient="none")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"bias": torch.zeros(2)}, r"`bias` must have shape \(3,\), got \(2,\)"),
        ({"bias": torch.zeros(3).double()}, r"`bias` must be float32, got torch\.float64"),
        ({"output_scale": torch.ones(1)}, r"`output_scale` must have shape \(3,\), got \(1,\)"),
        ({"output_scale": torch.ones(3).half()}, r"`output_scale` must be float32, got torch\.float16"),
        ({"input_scale": torch.ones(1)}, r"`input_scale` must have shape \(\), got \(1,\)"),
        ({"weight_codes": torch.ones(3, 2, dtype=torch.int32)}, r"`weight_codes` must be float32, got torch\.int32"),
    ],
)
def test_what_a_kernel_would_read_wrongly_is_refused(wrong: dict[str, Tensor], complaint: str) -> None:
    right = {"weight_codes": torch.ones(3, 2), "input_scale": torch.tensor(1.0), "output_scale": torch.ones(3)}
    given: dict[str, Tensor] = {**right, **wrong}
    with pytest.raises(ArgumentError, match=complaint):
        quantized_linear(
            torch.zeros(1, 2),
            given["weight_codes"],
            MULTIPLIERS["exact"],
            input_scale=given["input_scale"],
            output_scale=given["output_scale"],
            bias=given.get("bias"),
        )


def test_second_derivatives_are_refused(path: str) -> None:
    values = torch.ones(1, 2, requires_grad=True)
    out = quantized_linear(
        values,
        torch.ones(3, 2),
        MULTIPLIERS["exact"],
        input_scale=torch.tensor(1.0),
        output_scale=torch.ones(3),
    )
    (first,) = torch.autograd.grad((out**2).sum(), values, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()  # type: ignore[no-untyped-call]


def test_a_build_that_does_not_exist_is_refused() -> None:
    library = native.load()
    if library is None:
        pytest.skip("the native kernel is not built here")
    with pytest.raises(ArgumentError, match="no build 'x86-64-v9'"):
        library.choose_build("x86-64-v9")


@pytest.mark.process
@pytest.mark.slow
def test_layers_as_large_as_those_of_vgg() -> None:
    """More than 2^26 weights, whose scratch memory is given back to the system after each call."""
    code = (
        "import torch; from approx import find_multiplier, quantized_linear\n"
        "exact = find_multiplier('exact', weight_bits=8, activation_bits=8, activation_signed=True)\n"
        "codes, scales = torch.ones(2**13 + 8, 2**13), torch.ones(2**13 + 8)\n"
        "out = quantized_linear(torch.ones(2, 2**13), codes, exact, input_scale=scales[0], output_scale=scales)\n"
        "print(out.unique().tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[8192.0]\n"), done.stderr


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (3, 16, 4, 8), (1, 9, 1, 3), (2, 1, 6, 6)])
@pytest.mark.parametrize("signed", [False, True])
def test_gradients_in_bfloat16_are_laid_out_as_torch_does(
    build: str, shape: tuple[int, ...], signed: bool, restored_build: native.Library
) -> None:
    library = restored_build
    try:
        library.choose_build(build)
    except ArgumentError as error:
        pytest.skip(str(error))
    values, upstream = real(shape, 50) * 100, real(shape, 51)
    upstream.view(-1)[0], upstream.view(-1)[1] = torch.nan, torch.inf
    code_format = CodeFormat(8, signed, 0.5)
    pixels = library.values_as_pixels(upstream)
    expected = upstream.to(torch.bfloat16)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels.nan_to_num(7), expected.nan_to_num(7))
    codes_found = library.codes_as_pixels(values, code_format)
    assert torch.equal(codes_found.float(), portable.codes_as_floats(values, code_format))
    found = library.pixels_unless_clipped(pixels, values, code_format)
    assert found.is_contiguous()
    clipped = portable.clear_clipped(expected.float(), values, code_format)
    assert torch.equal(found.nan_to_num(7), clipped.nan_to_num(7))
