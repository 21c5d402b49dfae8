"""What running a network shows: which BatchNorm is part of which layer, and which weights are no layer's."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from approx import LayerApproximation, NetworkApproximation, approx_layers, approximate
from approx.arithmetic.pooling import MaxPool2
from approx.errors import ArgumentError
from approx.observation import observe
from approx.surgery import FoldedBatchNorm, fold_batch_norm, weight_layers

EIGHT = LayerApproximation()
FINE = LayerApproximation(weight_bits=12)  # so that what is left of a difference is the activations'


def real(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    """Networks that a test makes are the same whatever ran before it."""
    torch.manual_seed(0)


def trained(model: nn.Module) -> nn.Module:
    """The model with parameters and statistics as if it had been trained."""
    with torch.no_grad():
        for number, (name, value) in enumerate(model.state_dict().items()):
            if value.is_floating_point():
                value.copy_(real(*value.shape, seed=number) * 0.5)
            if "var" in name:
                value.abs_().add_(0.3)
    return model.eval()


def folded(model: nn.Module, data: Tensor, config: LayerApproximation = FINE) -> list[str]:
    """Names of the BatchNorms that are folded; what the model computes must not have changed."""
    converted = approximate(model, config, calibration_data=data)
    difference = (converted(data) - model(data)).abs().mean() / model(data).abs().mean()
    assert difference < 0.03, difference
    return [name for name, module in converted.named_modules() if isinstance(module, FoldedBatchNorm)]


class Net(nn.Module):
    """Layers `a`, `b`, `norm`, `other` and a function of them and the input."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.own_forward = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, inputs: Tensor) -> Any:
        return self.own_forward(self, inputs)


def convolution(inputs: int = 3, outputs: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


IMAGES = real(6, 3, 6, 6)

# ---- BatchNorm ---------------------------------------------------------------------------------------------------

FOLDABLE = {
    "convolution": (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), IMAGES),
    "without bias": (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), IMAGES),
    "grouped": (nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), IMAGES),
    "transposed": (nn.ConvTranspose2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), IMAGES),
    "transposed, grouped": (nn.ConvTranspose2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), IMAGES),
    "linear": (nn.Linear(5, 7), nn.BatchNorm1d(7), real(20, 5)),
    "without affine": (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False), IMAGES),
    "other eps": (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=0.2, momentum=None), IMAGES),
    "channels last": (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), IMAGES.to(memory_format=torch.channels_last)),
}


@pytest.mark.parametrize(("layer", "norm", "data"), FOLDABLE.values(), ids=FOLDABLE)
def test_a_batch_norm_is_folded_into_the_layer_before_it(layer: nn.Module, norm: nn.Module, data: Tensor) -> None:
    model = trained(nn.Sequential(layer, norm, nn.ReLU()))
    assert folded(model, data) == ["1"]
    expected = model(data)
    fold_batch_norm(model, "0", "1")
    assert torch.allclose(model(data), expected, atol=1e-5)
    assert isinstance(model[1], FoldedBatchNorm)  # type: ignore[index]


def test_a_model_in_training_is_folded_as_in_evaluation() -> None:
    model = trained(nn.Sequential(convolution(), nn.BatchNorm2d(3), nn.Dropout(0.5)))
    expected = model(IMAGES)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    converted = approximate(model, FINE, calibration_data=IMAGES)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module.training for module in converted.modules())
    assert (converted(IMAGES) - expected).abs().mean() < 0.02


def test_frozen_layers_stay_frozen() -> None:
    model = nn.Sequential(convolution(), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 3, 1)).requires_grad_(False)
    model.append(convolution())
    converted = approximate(model, EIGHT, calibration_data=IMAGES)
    assert {n: p.requires_grad for n, p in converted.named_parameters()} == {
        "0.weight": False, "0.bias": False, "2.weight": False, "2.bias": False, "3.weight": True, "3.bias": True,
    }  # fmt: skip


class OwnNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


NOT_FOLDABLE: dict[str, tuple[nn.Module, Tensor]] = {
    "added to something": (
        Net(lambda m, x: m.norm(y := m.a(x)) + y, a=convolution(), norm=nn.BatchNorm2d(3)),
        IMAGES,
    ),
    "used in place": (
        Net(lambda m, x: m.norm(m.a(x).relu_()), a=convolution(), norm=nn.BatchNorm2d(3)),
        IMAGES,
    ),
    "a slice is used": (
        Net(lambda m, x: m.norm(y := m.a(x)) + y[:, :1], a=convolution(), norm=nn.BatchNorm2d(3)),
        IMAGES,
    ),
    "pooled by the kernel": (
        Net(
            lambda m, x: m.norm(y := m.a(x)).mean() + m.other(y),
            a=convolution(),
            norm=nn.BatchNorm2d(3),
            other=MaxPool2(),
        ),
        real(30, 3, 32, 32),
    ),
    "two norms": (
        Net(
            lambda m, x: m.norm(y := m.a(x)) + m.other(y),
            a=convolution(),
            norm=nn.BatchNorm2d(3),
            other=nn.BatchNorm2d(3),
        ),
        IMAGES,
    ),
    "two layers": (
        Net(lambda m, x: m.norm(m.a(x)) + m.norm(m.b(x)), a=convolution(), b=convolution(), norm=nn.BatchNorm2d(3)),
        IMAGES,
    ),
    "a layer run twice": (
        Net(lambda m, x: m.a(m.norm(m.a(x))), a=convolution(), norm=nn.BatchNorm2d(3)),
        IMAGES,
    ),
    "a norm run twice": (
        Net(lambda m, x: m.norm(m.norm(m.a(x))), a=convolution(), norm=nn.BatchNorm2d(3)),
        IMAGES,
    ),
    "a norm of something else too": (
        Net(lambda m, x: m.norm(m.a(x)) + m.norm(x), a=convolution(), norm=nn.BatchNorm2d(3)),
        IMAGES,
    ),
    "something between": (nn.Sequential(convolution(), nn.ReLU(), nn.BatchNorm2d(3)), IMAGES),
    "before the layer": (nn.Sequential(nn.BatchNorm2d(3), convolution()), IMAGES),
    "of its batch": (nn.Sequential(convolution(), nn.BatchNorm2d(3, track_running_stats=False)), IMAGES),
    "one of its own": (nn.Sequential(convolution(), OwnNorm(3)), IMAGES),
    "along another dimension": (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), real(6, 4, 5)),
    "along one of another size": (nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(4)), real(6, 4, 5)),
    "of one image": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm1d(4)), real(3, 6, 6)),
}


@pytest.mark.parametrize(("model", "data"), NOT_FOLDABLE.values(), ids=NOT_FOLDABLE)
def test_a_batch_norm_that_is_not_all_that_uses_a_layer_stays(model: nn.Module, data: Tensor) -> None:
    assert folded(trained(model), data) == []


def test_an_output_that_is_returned_is_not_normalised() -> None:
    model = trained(
        Net(lambda m, x: {"norm": m.norm(y := m.a(x)), "raw": [y]}, a=convolution(), norm=nn.BatchNorm2d(3))
    )
    converted = approximate(model, FINE, calibration_data=IMAGES)
    found, expected = converted(IMAGES), model(IMAGES)
    assert (found["norm"] - expected["norm"]).abs().mean() < 0.02
    assert (found["raw"][0] - expected["raw"][0]).abs().mean() < 0.02


def test_a_shared_block_is_folded_in_all_its_places() -> None:
    block = nn.Sequential(convolution(), nn.BatchNorm2d(3))
    model = trained(nn.Sequential(block, nn.ReLU(), block))
    assert folded(model, IMAGES) == ["0.1"]


def test_layers_left_in_floating_point_keep_their_batch_norm() -> None:
    model = trained(nn.Sequential(convolution(), nn.BatchNorm2d(3), convolution(), nn.BatchNorm2d(3)))
    config = NetworkApproximation(default=FINE, precise_first=True)
    converted = approximate(model, config, calibration_data=IMAGES)
    assert [type(module) for module in converted.children()][:2] == [nn.Conv2d, nn.BatchNorm2d]
    assert isinstance(converted.get_submodule("3"), FoldedBatchNorm)
    assert (converted(IMAGES) - model(IMAGES)).abs().mean() < 0.02


def test_arguments_may_be_given_by_name() -> None:
    model = trained(Net(lambda m, x: m.norm(input=m.a(input=x)), a=convolution(), norm=nn.BatchNorm2d(3)))
    assert folded(model, IMAGES) == ["norm"]


# ---- weights that are no layer's ---------------------------------------------------------------------------------


class OwnLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, 2 * self.weight, self.bias)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(real(4, 4))
        self.register_buffer("mask", torch.ones(4, 4).tril())

    def forward(self, inputs: Tensor) -> Tensor:
        mask = self.mask
        assert isinstance(mask, Tensor)
        return F.linear(inputs, self.weight * mask)


def last(output: Any) -> Tensor:
    """What a recurrent layer gives first."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


UNSUPPORTED: dict[str, tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]] = {
    "ConvTranspose1d": (nn.ConvTranspose1d(4, 4, 1), lambda m, x: m(x[:, :, None])[:, :, 0]),
    "Conv3d": (nn.Conv3d(4, 4, 1), lambda m, x: m(x[:, :, None, None, None]).flatten(1)),
    "Bilinear": (nn.Bilinear(4, 4, 4), lambda m, x: m(x, x)),
    "RNN": (nn.RNN(4, 4), lambda m, x: last(m(x[None]))[0]),
    "GRU": (nn.GRU(4, 4, bias=False), lambda m, x: last(m(x[None]))[0]),
    "LSTM": (nn.LSTM(4, 4), lambda m, x: last(m(x[None]))[0]),
    "GRUCell": (nn.GRUCell(4, 4), lambda m, x: m(x)),
    "LSTMCell": (nn.LSTMCell(4, 4), lambda m, x: last(m(x))),
    "a subclass": (OwnLinear(4, 4), lambda m, x: m(x)),
    "a normalised weight": (
        nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(4, 4, 1)),
        lambda m, x: m(x[:, :, None])[:, :, 0],
    ),
    "masked": (Masked(), lambda m, x: m(x)),
    "used by function": (nn.Linear(4, 4), lambda m, x: F.linear(m(x), m.get_parameter("weight"))),
    "an embedding's": (nn.Embedding(4, 4), lambda m, x: x @ m.get_parameter("weight").T),
}


@pytest.mark.parametrize(("layer", "use"), UNSUPPORTED.values(), ids=UNSUPPORTED)
@pytest.mark.parametrize("inference", [False, True])
def test_a_layer_that_cannot_be_approximated_is_named_or_left(
    layer: nn.Module, use: Callable[[nn.Module, Tensor], Tensor], inference: bool
) -> None:
    model = Net(lambda m, x: m.a(use(m.odd, x)), odd=layer, a=nn.Linear(4, 3)).eval()
    data = real(20, 4)
    with torch.inference_mode(inference), pytest.raises(ArgumentError) as raised:
        approximate(model, EIGHT, calibration_data=data)
    assert "'odd." in str(raised.value)
    assert "overrides={'odd': None}" in str(raised.value)
    for config in (
        NetworkApproximation(default=EIGHT, overrides={"odd": None}),
        NetworkApproximation(default=EIGHT, leave_unsupported=True),
    ):
        converted = approximate(model, config, calibration_data=data)
        assert "a" in dict(approx_layers(converted))
        assert (converted(data) - model(data)).abs().mean() < 0.05
    with pytest.raises(ArgumentError, match=r"'odd\."):  # another way to compute does not make it supported
        approximate(model, NetworkApproximation(default=EIGHT, overrides={"odd": FINE}), calibration_data=data)


FUNCTIONS: dict[str, tuple[tuple[int, ...], Callable[[Tensor, Tensor], Tensor]]] = {
    "linear": ((3, 4), F.linear),
    "matmul": ((4, 3), torch.matmul),
    "matmul of sequences": ((4, 3), lambda x, w: (x[:, None] @ w)[:, 0]),
    "a vector": ((4,), lambda x, w: x @ w),
    "einsum": ((4, 3), lambda x, w: torch.einsum("bi,io->bo", x, w)),
    "tensordot": ((4, 3), lambda x, w: torch.tensordot(x, w, dims=1)),
    "a convolution": ((3, 4, 1, 1), lambda x, w: F.conv2d(x[:, :, None, None], w).flatten(1)),
    "centred": ((3, 4), lambda x, w: F.linear(x, w - w.mean(1, keepdim=True))),
    "normalised": ((3, 4), lambda x, w: F.linear(x, F.normalize(w, dim=1))),
    "a copy": ((3, 4), lambda x, w: F.linear(x, w.clone())),
    "other precision": ((3, 4), lambda x, w: F.linear(x.double(), w.double()).float()),
    "low rank": ((4, 2), lambda x, w: x @ (w @ w.T)),
}


@pytest.mark.parametrize(("shape", "function"), FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("inference", [False, True])
def test_a_parameter_that_is_multiplied_by_function_is_named(
    shape: tuple[int, ...], function: Callable[[Tensor, Tensor], Tensor], inference: bool
) -> None:
    model = Net(lambda m, x: function(m.a(x), m.own), a=nn.Linear(4, 4))
    model.own = nn.Parameter(real(*shape))
    with torch.inference_mode(inference), pytest.raises(ArgumentError, match=r"^'own' is multiplied outside"):
        approximate(model, EIGHT, calibration_data=real(5, 4))
    config = NetworkApproximation(default=EIGHT, overrides={"own": None})
    assert len(list(approx_layers(approximate(model, config, calibration_data=real(5, 4))))) == 1


def test_parameters_that_are_added_or_scale_are_no_weights() -> None:
    """Such as tokens, positions and relative positions of attention, and the scales of layers."""
    model = Net(
        lambda m, x: F.scaled_dot_product_attention(
            y := m.a(torch.cat([m.token.expand(len(x), 1, 4), x], 1) + m.positions),
            y,
            y * m.scale,
            attn_mask=m.table[m.index],
        ),
        a=nn.Linear(4, 4),
    )
    for name, shape in (("token", (1, 1, 4)), ("positions", (1, 4, 4)), ("scale", (4,)), ("table", (7,))):
        model.register_parameter(name, nn.Parameter(real(*shape)))
    model.index = torch.arange(4) - torch.arange(4)[:, None] + 3
    assert len(list(approx_layers(approximate(model, EIGHT, calibration_data=real(5, 3, 4))))) == 1


def test_layers_that_do_not_run_are_left_and_do_not_run_later_unless_that_is_wanted() -> None:
    model = Net(lambda m, x: m.a(x), a=nn.Linear(4, 3), unused=nn.Linear(4, 3))
    data = real(5, 4)
    with pytest.raises(ArgumentError, match="layer 'unused' did not run on the calibration data"):
        approximate(model, EIGHT, calibration_data=data).get_submodule("unused")(data)
    for config in (
        NetworkApproximation(default=EIGHT, overrides={"unused": None}),
        NetworkApproximation(default=EIGHT, leave_unsupported=True),
    ):
        converted = approximate(model, config, calibration_data=data)
        assert [name for name, _ in approx_layers(converted)] == ["a"]
        assert converted.get_submodule("unused")(data).shape == (5, 3)


# ---- inputs ------------------------------------------------------------------------------------------------------


def test_inputs_are_seen_over_all_batches_in_the_order_in_which_layers_run() -> None:
    model = Net(lambda m, x: m.a(m.b(x).relu()), a=nn.Linear(4, 2), b=nn.Linear(3, 4)).eval()
    data = real(30, 3)
    whole = observe(model, dict(weight_layers(model)), {}, [data]).inputs
    assert list(whole) == ["b", "a"]
    assert torch.equal(whole["b"].sample().sort().values, data.flatten().sort().values)
    assert whole["b"].least == data.min()
    assert whole["b"].largest == data.abs().max()
    assert whole["a"].least == 0
    batches: Iterator[Tensor] = iter(data.split(7))  # type: ignore[no-untyped-call]
    parts = observe(model, dict(weight_layers(model)), {}, batches).inputs
    assert parts["b"].calls == 5
    assert torch.equal(parts["b"].sample(), whole["b"].sample())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_large_inputs_are_sampled_but_for_their_extremes() -> None:
    model, data = nn.Sequential(nn.Linear(10, 2)), real(20_000, 10)
    data[7, 3] = -50
    (inputs,) = observe(model, dict(weight_layers(model)), {}, [data]).inputs.values()
    assert inputs.largest == 50
    assert len(inputs.sample()) < data.numel() / 3
    assert abs(inputs.sample().clamp(-10).std() - 1) < 0.03
    config = LayerApproximation(calibration="percentile", percentile=100)
    ((_, layer),) = approx_layers(approximate(model, config, calibration_data=data))
    assert layer.activation_scale.item() == pytest.approx(50 / 127)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", [0, 2])
def test_inputs_that_are_not_finite_are_refused(value: float, where: int) -> None:
    model, data = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), real(9, 4)
    batches = list(data.split(3))  # type: ignore[no-untyped-call]
    batches[where][1, 1] = value
    with pytest.raises(ArgumentError, match="layer '0': its input on the calibration data is empty or not finite"):
        approximate(model, EIGHT, calibration_data=batches)


def test_calibration_data_without_values_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(ArgumentError, match="`calibration_data` has no batch"):
        approximate(model, EIGHT, calibration_data=[])
    with pytest.raises(ArgumentError, match="layer '0': its input on the calibration data is empty"):
        approximate(model, EIGHT, calibration_data=torch.zeros(0, 4))


def test_a_network_that_fails_is_left_without_hooks() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(ArgumentError):
        observe(model, dict(weight_layers(model)), {}, [real(5, 3)])
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks
