"""Layers on integer codes against torch's own layers: on the same codes, in double precision."""

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from approx import (
    ApproxConv2d,
    ApproxConvTranspose2d,
    ApproxLayer,
    ApproxLinear,
    FaultyMemory,
    LayerApproximation,
    approximate,
    fake_quantize,
    multiplier_from_function,
    register_multiplier,
    use_chip,
)
from approx.errors import ArgumentError
from approx.multipliers import catalog
from approx.quantization import code_range

KINDS = {nn.Linear: ApproxLinear, nn.Conv2d: ApproxConv2d, nn.ConvTranspose2d: ApproxConvTranspose2d}


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    """Networks that a test makes are the same whatever ran before it."""
    torch.manual_seed(0)


def real(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(layer: nn.Module, seed: int = 0) -> nn.Module:
    """The layer with weights that no other test changes."""
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(real(*parameter.shape, seed=seed + 100 + number))
    return layer


def converted(layer: nn.Module, inputs: Tensor, config: LayerApproximation | None = None) -> ApproxLayer:
    made = approximate(layer, config or LayerApproximation(), calibration_data=inputs)
    assert isinstance(made, ApproxLayer)
    assert type(made) is KINDS[type(layer)]
    return made


def activation_codes(made: ApproxLayer, inputs: Tensor) -> Tensor:
    low, high = code_range(made.config.activation_bits, made.activation_signed)
    return (inputs / made.learned_activation_scale.detach()).clamp(low, high).round().double()


def on_codes(layer: nn.Module, made: ApproxLayer, inputs: Tensor, **options: Any) -> Tensor:
    """What the layer should give: torch's own layer on the codes, rescaled."""
    scale = made.learned_weight_scale.detach()
    per_weight = scale.reshape(-1, *[1] * (made.weight.dim() - 1))
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.ConvTranspose2d):  # (inputs, outputs / groups, KH, KW)
        per_group = scale.reshape(layer.groups, 1, -1).expand(-1, layer.in_channels // layer.groups, -1)
        per_weight = per_group.reshape(layer.in_channels, -1)[:, :, None, None]
    _, high = code_range(made.config.weight_bits, signed=True)
    twin: Any = copy.deepcopy(layer).double()
    twin.weight.data = (weight / per_weight).clamp(-high, high).round().double()
    bias = None if twin.bias is None else twin.bias.detach().float()
    twin.bias = None
    with torch.no_grad():
        sums: Tensor = twin(activation_codes(made, inputs), **options)
    spread = (-1,) if isinstance(layer, nn.Linear) else (-1, 1, 1)
    values = sums.float() * made.output_scale().detach().reshape(spread)
    return values if bias is None else values + bias.reshape(spread)


def check(layer: nn.Module, inputs: Tensor, config: LayerApproximation | None = None, **options: Any) -> None:
    made = converted(layer, inputs if inputs.numel() else torch.ones(1, *inputs.shape[1:]), config)
    found = made(inputs, **options)
    with torch.no_grad():
        assert torch.equal(found, made(inputs, **options))
    assert torch.equal(found.detach(), on_codes(layer, made, inputs, **options))


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # torch's own
@settings(deadline=None, max_examples=60)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=pairs,
    dilation=pairs,
    padding=st.sampled_from(["same", "valid"]) | st.tuples(st.integers(0, 3), st.integers(0, 3)),
    padding_mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    groups=st.sampled_from([1, 2, 4]),
    multiple=st.integers(1, 2),
    bias=st.booleans(),
    batch=st.sampled_from([(), (0,), (2,)]),
    seed=st.integers(0, 99),
)
def test_convolutions_of_any_geometry_are_torchs_on_codes(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: Any,
    padding_mode: Any,
    groups: int,
    multiple: int,
    bias: bool,
    batch: tuple[int, ...],
    seed: int,
) -> None:
    if padding == "same":
        stride = (1, 1)
    layer = nn.Conv2d(4, 4 * multiple, kernel, stride, padding, dilation, groups, bias=bias, padding_mode=padding_mode)
    inputs = real(*batch, 4, 9, 8, seed=seed)
    try:
        seeded(layer, seed)(torch.zeros(1, 4, 9, 8))
    except RuntimeError:  # the kernel does not fit, or there is too little to reflect
        assume(False)
    check(layer, inputs)


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    output_padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=pairs,
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    groups=st.sampled_from([1, 2, 4]),
    multiple=st.integers(1, 2),
    bias=st.booleans(),
    batch=st.sampled_from([(), (0,), (2,)]),
    seed=st.integers(0, 99),
)
def test_transposed_convolutions_of_any_geometry_are_torchs_on_codes(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    output_padding: tuple[int, int],
    dilation: tuple[int, int],
    size: tuple[int, int],
    groups: int,
    multiple: int,
    bias: bool,
    batch: tuple[int, ...],
    seed: int,
) -> None:
    layer = nn.ConvTranspose2d(
        4, 4 * multiple, kernel, stride, padding, output_padding, groups, bias=bias, dilation=dilation
    )
    try:
        assume(seeded(layer, seed)(torch.zeros(1, 4, *size)).numel() > 0)
    except RuntimeError:  # nothing is left of the output, or output_padding is too large
        assume(False)
    check(layer, real(*batch, 4, *size, seed=seed))


@pytest.mark.parametrize("size", [(10, 14), [9, 13], torch.Size([2, 4, 10, 13])])
def test_transposed_convolutions_take_the_size_of_their_output(size: Any) -> None:
    layer = seeded(nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1))
    check(layer, real(2, 3, 5, 7), output_size=size)
    assert converted(layer, real(2, 3, 5, 7))(real(2, 3, 5, 7), output_size=size).shape[-2:] == tuple(size)[-2:]


def test_an_output_size_that_cannot_be_is_refused() -> None:
    made = converted(seeded(nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1)), real(2, 3, 5, 7))
    with pytest.raises(ArgumentError, match=r"dimension -1 can be 13 to 14"):
        made(real(2, 3, 5, 7), output_size=(10, 15))
    with pytest.raises(ArgumentError, match=r"output_size is \(8, 13\).*dimension -2 can be 9 to 10"):
        made(real(2, 3, 5, 7), output_size=(8, 13))


@pytest.mark.parametrize("shape", [(5,), (3, 5), (0, 5), (2, 3, 5), (2, 0, 5), (2, 1, 3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_take_inputs_of_any_rank(shape: tuple[int, ...], bias: bool) -> None:
    layer = seeded(nn.Linear(5, 4, bias=bias))
    made = converted(layer, real(20, 5))
    assert torch.equal(made(real(*shape)).detach(), on_codes(layer, made, real(*shape)))


@pytest.mark.parametrize("weight_bits", range(2, 13))
@pytest.mark.parametrize("activation_bits", range(2, 9))
def test_every_pair_of_widths(weight_bits: int, activation_bits: int) -> None:
    config = LayerApproximation(weight_bits=weight_bits, activation_bits=activation_bits)
    for inputs in (real(4, 30), real(4, 30).relu()):
        check(seeded(nn.Linear(30, 6)), inputs, config)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("calibration", ["mse", "percentile"])
@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(4, 6, 3, groups=2)])
def test_every_way_to_set_scales(layer: nn.Module, granularity: str, calibration: str) -> None:
    config = LayerApproximation(
        weight_bits=4, granularity=granularity, calibration=calibration, percentile=95.0, learned_scales=True
    )
    check(seeded(layer), real(2, 4, 5, 5), config)
    scales = converted(layer, real(2, 4, 5, 5), config).weight_scale
    assert len(set(scales.tolist())) == (1 if granularity == "tensor" else 6)


@pytest.mark.parametrize("calibration", ["mse", "percentile"])
def test_the_largest_weights_get_the_largest_codes_that_the_hardware_can_hold(calibration: str) -> None:
    config = LayerApproximation(multiplier="asm-1", calibration=calibration, percentile=100)
    layer = nn.Linear(3, 4)
    with torch.no_grad():
        layer.weight.copy_(real(4, 1) * torch.tensor([1.0, -1.0, 0.0]))
    made = converted(layer, real(9, 3), config)
    assert torch.allclose(made.stored_codes() * made.weight_scale[:, None], layer.weight, rtol=0.02)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(4, 6, 3, groups=2)])
@pytest.mark.parametrize("signed", [True, False])
def test_integer_and_fake_quantised_paths_agree(layer: nn.Module, signed: bool) -> None:
    inputs = real(3, 4, 7, 7) if signed else real(3, 4, 7, 7).relu()
    made = converted(seeded(layer), inputs, LayerApproximation(weight_bits=5, granularity="tensor"))
    faked = copy.deepcopy(layer).double()
    with torch.no_grad():
        weights = fake_quantize(layer.weight, made.weight_scale[0], bits=5, signed=True)  # type: ignore[arg-type]
        faked.weight.copy_(weights)  # type: ignore[operator]
        expected = faked(fake_quantize(inputs, made.activation_scale, bits=8, signed=signed).double())
        assert torch.allclose(made(inputs).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_registered", {})
    register_multiplier(multiplier_from_function("own-signed", lambda a, w: a * w, signed=True))
    register_multiplier(multiplier_from_function("own-plus-one", lambda a, w: a * w + 1, signed=True))


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize(("bits", "signed"), [(8, True), (7, False)])
def test_a_signed_circuit_takes_unsigned_activations_as_wide_as_it_can(bits: int, signed: bool) -> None:
    config = LayerApproximation(activation_bits=bits, multiplier="own-signed")
    inputs, layer = real(4, 10).relu(), seeded(nn.Linear(10, 3))
    assert converted(layer, inputs, config).activation_signed is signed
    check(layer, inputs, config)
    if signed:
        with pytest.raises(ArgumentError, match="not 8 bits unsigned"):
            converted(layer, inputs, replace(config, activation_signed=False))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # once a process, whoever is first
@pytest.mark.usefixtures("_registered")
def test_padding_and_the_zeros_of_a_transposed_convolution_are_multiplied() -> None:
    """By a multiplier that gives one too much for every product."""
    inputs = real(2, 4, 5, 6)
    for layer in (
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.Conv2d(4, 6, 2, padding="same", groups=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
    ):
        made = converted(seeded(layer), inputs, LayerApproximation(multiplier="own-plus-one"))
        products = made.weight[0].numel()
        excess = (made(inputs) - on_codes(layer, made, inputs)) / made.output_scale()[:, None, None]
        assert torch.allclose(excess, torch.tensor(float(products)), rtol=0, atol=0.1)


# ---- learned scales ----------------------------------------------------------------------------------------------


class Esser(torch.autograd.Function):
    """Equations 1 to 3 of Esser et al., Learned Step Size Quantization, ICLR 2020; no scaling of the gradient."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, s: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(v, s)
        ctx.limits = (low, high)
        return (v / s).clamp(low, high).round() * s

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Tensor, Tensor, None, None]:
        v, s = ctx.saved_tensors
        low, high = ctx.limits
        steps = v / s
        by_step = torch.where(steps <= low, low, torch.where(steps >= high, high, steps.round() - steps))
        by_value = upstream[0] * ((steps > low) & (steps < high))
        return by_value, (upstream[0] * by_step).sum_to_size(s.shape), None, None


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("signed", [True, False])
def test_scales_learn_by_the_gradient_of_esser_et_al(granularity: str, signed: bool) -> None:
    inputs = real(3, 4, 6, 6) if signed else real(3, 4, 6, 6).abs()
    layer = seeded(nn.Conv2d(4, 6, 3, padding=1, groups=2))
    config = LayerApproximation(weight_bits=3, activation_bits=3, granularity=granularity, learned_scales=True)
    made = converted(layer, inputs, config)
    assert made.log_weight_scale is not None
    assert made.log_activation_scale is not None
    made.mask[0, 0] = False
    with torch.no_grad():  # somewhere else than where it was calibrated
        made.log_weight_scale.add_(0.1 * real(*made.log_weight_scale.shape, seed=5))
        made.log_activation_scale.sub_(0.3)
    x = inputs.clone().requires_grad_()
    upstream = real(3, 6, 6, 6, seed=9)
    made(x).backward(upstream)

    weight_scale = made.learned_weight_scale[:, None, None, None]
    of_weights = weight_scale[0, 0, 0, 0] if granularity == "tensor" else weight_scale
    own = [one.detach().double().requires_grad_() for one in (inputs, made.weight)]
    scales = [one.detach().double().requires_grad_() for one in (made.learned_activation_scale, of_weights)]
    low, high = code_range(3, signed)
    activations = Esser.apply(own[0], scales[0], low, high)  # type: ignore[no-untyped-call]
    weights = Esser.apply(own[1] * made.mask, scales[1], -3, 3)  # type: ignore[no-untyped-call]
    F.conv2d(activations, weights, padding=1, groups=2).backward(upstream.double())  # type: ignore[no-untyped-call]

    # By the logarithm of a factor of the scale: d / d log s = s d / ds.
    for found, expected in (
        (x.grad, own[0].grad),
        (made.weight.grad, own[1].grad),
        (made.log_activation_scale.grad, scales[0] * scales[0].grad),  # type: ignore[operator]
        (made.log_weight_scale.grad, (scales[1] * scales[1].grad).flatten()),  # type: ignore[operator]
        (made.bias.grad if made.bias is not None else None, upstream.sum((0, 2, 3)).double()),
    ):
        assert found is not None
        assert expected is not None
        assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", [nn.Linear(6, 5), nn.Conv2d(4, 6, 3), nn.ConvTranspose2d(4, 6, 3, bias=False)])
def test_learned_scales_infer_what_they_were_trained_with(layer: nn.Module) -> None:
    inputs = real(3, 4, 6, 6)
    made = converted(seeded(layer), inputs, LayerApproximation(learned_scales=True, activation_bits=6))
    for parameter in (made.log_weight_scale, made.log_activation_scale):
        assert parameter is not None
        parameter.data.add_(0.2 * real(*parameter.shape, seed=3))
    trained = made(inputs)
    with torch.no_grad():
        assert torch.equal(made(inputs), trained)
    with torch.inference_mode():
        assert torch.equal(made(inputs), trained)
    assert torch.equal(trained.detach(), on_codes(layer, made, inputs))


def test_scales_that_are_not_learned_have_no_parameters() -> None:
    names = [name for name, _ in converted(nn.Linear(3, 2), real(4, 3)).named_parameters()]
    assert names == ["weight", "bias"]
    learned = converted(nn.Linear(3, 2), real(4, 3), LayerApproximation(learned_scales=True))
    assert {name for name, _ in learned.named_parameters()} == {
        "weight", "bias", "log_weight_scale", "log_activation_scale",
    }  # fmt: skip


# ---- copies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learned", [False, True])
def test_a_copy_computes_the_same_on_the_same_chip(learned: bool) -> None:
    memory = FaultyMemory(bit_error_rate=0.05)
    made = LayerApproximation(weight_memory=memory, activation_memory=memory, learned_scales=learned)
    data = real(6, 3)
    model = approximate(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), made, calibration_data=data)
    use_chip(model, 3)
    expected = model(data)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert torch.equal(other(data), expected)
        assert torch.equal(other.train()(data), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's compiler does
def test_what_is_converted_can_be_compiled_and_exported() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    data = real(2, 3, 4, 4)
    for learned in (False, True):
        made = LayerApproximation(multiplier="mitchell", learned_scales=learned)
        converted = approximate(model, made, calibration_data=data)
        expected = converted(data)
        compiled = torch.compile(converted, fullgraph=True, backend="eager")
        assert torch.equal(compiled(data), expected)
        with torch.no_grad():
            assert torch.equal(compiled(data), expected)
            program = torch.export.export(converted, (data,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
            assert torch.equal(program.module()(data[:1].repeat(5, 1, 1, 1)), expected[:1].repeat(5, 1))


def test_exporting_a_model_on_a_chip_leaves_the_chip_as_it_was() -> None:
    made = LayerApproximation(activation_memory=FaultyMemory(bit_error_rate=0.1))
    data = real(4, 6)
    model = approximate(nn.Sequential(nn.Linear(6, 5)), made, calibration_data=data)
    with torch.no_grad():
        use_chip(model, 1)
        expected = model(data)
        use_chip(model, 1)  # anew: nothing is drawn yet
        assert torch.equal(torch.export.export(model, (data,)).module()(data), expected)
        assert torch.equal(model(data), expected)


def test_layers_print_their_shape_bits_and_multiplier() -> None:
    config = LayerApproximation(weight_bits=4, activation_bits=6, multiplier="asm-1", activation_signed=True)
    linear = converted(nn.Linear(7, 3), real(2, 7), config)
    assert repr(linear) == (
        "ApproxLinear(in_features=7, out_features=3, weight_bits=4, activation_bits=6, activation_signed=True, "
        "multiplier='asm-1')"
    )
    convolution = nn.Conv2d(4, 6, (3, 5), stride=2, padding=(1, 2), dilation=(1, 2), groups=2, bias=False)
    assert repr(converted(convolution, real(1, 4, 12, 12).abs())) == (
        "ApproxConv2d(4, 6, kernel_size=(3, 5), stride=(2, 2), pad=(2, 2, 1, 1), dilation=(1, 2), groups=2, "
        "bias=False, weight_bits=8, activation_bits=8, activation_signed=False, multiplier='exact')"
    )
    transposed = converted(nn.ConvTranspose2d(4, 2, 3, stride=(2, 1)), real(1, 4, 5, 5).abs())
    assert repr(transposed) == (
        "ApproxConvTranspose2d(4, 2, kernel_size=(3, 3), stride=(2, 1), pad=(2, 2, 2, 2), weight_bits=8, "
        "activation_bits=8, activation_signed=False, multiplier='exact')"
    )
