import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from approx import (
    ApproxConv2d,
    ApproxLayer,
    ApproxLinear,
    Architecture,
    FaultyMemory,
    LabelledImages,
    LayerApproximation,
    NetworkApproximation,
    Schedule,
    accuracy,
    approx_layers,
    approximate,
    build_network,
    family_names,
    fit,
    magnitude_masks,
    multiplier_from_function,
    multiplier_names,
    set_memory,
    use_chip,
    weight_layers,
)
from approx.arithmetic.pooling import MaxPool2
from approx.errors import ArgumentError, UnknownNameError


def config(multiplier: str = "exact", weight_bits: int = 8, activation_bits: int = 8) -> LayerApproximation:
    return LayerApproximation(weight_bits=weight_bits, activation_bits=activation_bits, multiplier=multiplier)


def put(model: nn.Module, *, bit_error_rate: float, robust_bits: int, chip_seed: int) -> None:
    set_memory(model, weights=FaultyMemory(bit_error_rate=bit_error_rate, robust_bits=robust_bits))
    use_chip(model, chip_seed)


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    """Networks that a test makes are the same whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.tensor(digits.images).to(torch.uint8)[:, None]
    return LabelledImages(pixels, torch.tensor(digits.target), 16)


@pytest.fixture(scope="module")
def trained(images: LabelledImages) -> nn.Sequential:
    architecture = Architecture(family="lenet", depth=2, width=4)
    network = build_network(architecture, image_shape=(1, 8, 8), classes=10, seed=0)
    fit(network, images, Schedule(epochs=15, batch_size=64, learning_rate=3e-3), seed=0)
    return network


@pytest.mark.slow
def test_eight_exact_bits_lose_next_to_nothing(trained: nn.Sequential, images: LabelledImages) -> None:
    converted = approximate(trained, config(), calibration_data=images.inputs(slice(0, 500)))
    assert accuracy(trained, images) > 0.9
    assert abs(accuracy(converted, images) - accuracy(trained, images)) < 0.005


class OddPool(nn.MaxPool2d):
    """Pools by two, but as a class of its own may, in another way."""


class Pools(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3)
        self.first, self.second = nn.MaxPool2d(2), nn.MaxPool2d((2, 2), (2, 2))
        self.others = nn.ModuleList(
            [
                nn.MaxPool2d(3), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, dilation=2),
                nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d((2, 1)), nn.MaxPool2d(2, return_indices=True), OddPool(2),
            ]
        )  # fmt: skip

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.second(self.first(self.convolution(inputs)))
        return outputs


def test_max_pooling_by_two_is_faster_and_equal_in_a_converted_network() -> None:
    model, seen = Pools(), []
    model.first.register_forward_hook(lambda module, *_: seen.append(module))
    inputs = torch.rand(40, 1, 60, 62)
    converted = approximate(model, config(), calibration_data=inputs)
    assert isinstance(converted, Pools)
    assert not [module for module in model.modules() if isinstance(module, MaxPool2)]
    assert [type(converted.first), type(converted.second)] == [MaxPool2, MaxPool2]
    assert [type(one) for one in converted.others] == [*[nn.MaxPool2d] * 7, OddPool]
    seen.clear()
    with torch.no_grad():
        assert torch.equal(converted(inputs), F.max_pool2d(F.max_pool2d(converted.convolution(inputs), 2), 2))
    assert seen == [converted.first]  # hooks stay


def test_the_model_given_is_left_as_it_is(trained: nn.Sequential, images: LabelledImages) -> None:
    before = copy.deepcopy(trained.state_dict())
    converted = approximate(trained, config("asm-1", 4, 4), calibration_data=images.inputs(slice(0, 100)))
    fit(converted, images, Schedule(epochs=0.2, batch_size=64, learning_rate=1e-2), seed=0)
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())
    assert not list(approx_layers(trained))
    assert {type(m) for _, m in approx_layers(converted)} == {ApproxConv2d, ApproxLinear}


@pytest.mark.parametrize("multiplier", multiplier_names())
def test_codes_are_in_range_representable_and_zero_where_pruned(
    trained: nn.Sequential, images: LabelledImages, multiplier: str
) -> None:
    masks = magnitude_masks({name: layer.weight for name, layer in weight_layers(trained)}, 0.7)
    converted = approximate(
        trained, config(multiplier, 5, 4), calibration_data=images.inputs(slice(0, 100)), masks=masks
    )
    for name, layer in approx_layers(converted):
        codes = layer.stored_codes()
        assert torch.equal(codes, codes.round())
        assert codes.abs().max() <= 15
        assert torch.equal(codes, layer.multiplier.constrain(codes))
        assert (codes[~masks[name]] == 0).all()


def test_faults_strike_stored_bits_only_and_can_be_taken_back(trained: nn.Sequential, images: LabelledImages) -> None:
    masks = magnitude_masks({name: layer.weight for name, layer in weight_layers(trained)}, 0.5)
    converted = approximate(trained, config(), calibration_data=images.inputs(slice(0, 100)), masks=masks)
    perfect = accuracy(converted, images)
    put(converted, bit_error_rate=0.3, robust_bits=0, chip_seed=1)
    for name, layer in approx_layers(converted):
        assert (layer.read_codes()[~masks[name]] == 0).all()
        assert (layer.read_codes() != layer.stored_codes()).any()
    faulty = accuracy(converted, images)
    assert faulty < 0.6 * perfect
    assert accuracy(converted, images) == faulty
    put(converted, bit_error_rate=0.3, robust_bits=8, chip_seed=1)
    assert accuracy(converted, images) == perfect
    put(converted, bit_error_rate=0.0, robust_bits=0, chip_seed=1)
    assert accuracy(converted, images) == perfect


def test_robust_top_bits_help(trained: nn.Sequential, images: LabelledImages) -> None:
    converted = approximate(trained, config(), calibration_data=images.inputs(slice(0, 100)))

    def mean_accuracy(robust_bits: int) -> float:
        found = []
        for chip in range(5):
            put(converted, bit_error_rate=0.03, robust_bits=robust_bits, chip_seed=chip)
            found.append(accuracy(converted, images))
        return sum(found) / len(found)

    assert mean_accuracy(3) > mean_accuracy(1) > mean_accuracy(0)


@pytest.mark.slow
def test_retraining_recovers_accuracy(trained: nn.Sequential, images: LabelledImages) -> None:
    converted = approximate(trained, config("asm-1", 3, 4), calibration_data=images.inputs(slice(0, 500)))
    before = accuracy(converted, images)
    fit(converted, images, Schedule(epochs=4, batch_size=64, learning_rate=1e-3), seed=0)
    assert accuracy(converted, images) > before + 0.02


def test_signed_inputs_get_signed_codes(trained: nn.Sequential, images: LabelledImages) -> None:
    converted = approximate(trained, config(), calibration_data=images.inputs(slice(0, 100)) - 0.5)
    first, *others = (layer.activation_signed for _, layer in approx_layers(converted))
    assert first
    assert not any(others)  # after ReLU


def test_saving_and_loading_is_identity(trained: nn.Sequential, images: LabelledImages) -> None:
    data = images.inputs(slice(0, 100))
    one = approximate(trained, config("asm-1-3", 4, 4), calibration_data=data)
    other = approximate(trained, config("asm-1-3", 4, 4), calibration_data=data * 0.3)
    assert not torch.equal(one(data), other(data))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(data), other(data))


def test_wrong_masks_and_names_are_refused(trained: nn.Sequential, images: LabelledImages) -> None:
    data = images.inputs(slice(0, 10))
    (first, layer), *_ = weight_layers(trained)
    with pytest.raises(ArgumentError, match=f"`masks` names 'nothing', but the layers are {first}, "):
        approximate(trained, config(), calibration_data=data, masks={"nothing": torch.ones(1)})
    shape = re.escape(str(tuple(layer.weight.shape)))
    with pytest.raises(ArgumentError, match=rf"layer '{first}': its mask has shape \(1,\), its weight {shape}"):
        approximate(trained, config(), calibration_data=data, masks={first: torch.ones(1, dtype=torch.bool)})
    with pytest.raises(ArgumentError, match=rf"layer '{first}': its mask must be bool, got torch\.float32"):
        approximate(trained, config(), calibration_data=data, masks={first: torch.ones_like(layer.weight)})
    with pytest.raises(UnknownNameError, match="unknown multiplier 'exat'"):
        approximate(trained, config("exat"), calibration_data=data)
    with pytest.raises(ArgumentError, match="no Conv1d, Conv2d, ConvTranspose2d or Linear layer"):
        approximate(nn.Sequential(nn.ReLU()), config(), calibration_data=data)


def test_kept_weight_codes_follow_every_change(trained: nn.Sequential, images: LabelledImages) -> None:
    """Also those that a tensor's own count of changes misses."""
    converted = approximate(trained, config("exact"), calibration_data=images.inputs(slice(0, 100)))
    inputs = images.inputs(slice(0, 10))

    def outputs() -> Tensor:
        with torch.no_grad():
            kept: Tensor = converted(inputs)
        assert torch.equal(kept, converted(inputs))  # with gradients nothing is kept
        return kept

    seen = [outputs()]
    optimizer = torch.optim.Adam(converted.parameters(), lr=0.1, fused=True)
    converted(inputs).sum().backward()
    outputs()
    optimizer.step()
    seen.append(outputs())
    put(converted, bit_error_rate=0.3, robust_bits=0, chip_seed=1)
    seen.append(outputs())
    for _, layer in approx_layers(converted):
        layer.mask[0] = False
    seen.append(outputs())
    state = {name: value * 2 for name, value in converted.state_dict().items() if "weight_scale" in name}
    converted.load_state_dict(state, strict=False)
    seen.append(outputs())
    assert len(seen) == 5
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


@pytest.mark.parametrize("multiplier", ["drum-4", "mitchell"])
def test_kept_codes_are_neither_copied_nor_saved(
    trained: nn.Sequential, images: LabelledImages, multiplier: str
) -> None:
    inputs = images.inputs(slice(0, 10))
    converted = approximate(trained, config(multiplier), calibration_data=inputs)
    with torch.no_grad():
        expected = converted(inputs)
        for other in (copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))):  # noqa: S301
            assert all(layer._kept_codes is None for _, layer in approx_layers(other))
            assert torch.equal(other(inputs), expected)


def test_inference_mode_computes_the_same(trained: nn.Sequential, images: LabelledImages) -> None:
    inputs = images.inputs(slice(0, 10))
    for multiplier in ("exact", "mitchell"):
        converted = approximate(trained, config(multiplier), calibration_data=inputs)
        with torch.inference_mode():
            first, second = converted(inputs), converted(inputs)
        assert torch.equal(first, second)
        assert torch.equal(first, converted(inputs))


def real(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_every_kind_of_layer_learns() -> None:
    """Linear on sequences, as in transformers; grouped, dilated, depthwise and transposed convolutions."""
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2, dilation=2),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 8, 2, stride=2, groups=4),
        nn.Conv2d(8, 8, 1, groups=8),
        nn.Linear(8, 6),
    )
    inputs = real(2, 4, 8, 8)
    for learned in (False, True):
        made = LayerApproximation(multiplier="mitchell", learned_scales=learned)
        converted = approximate(model, made, calibration_data=inputs)
        out = converted(inputs)
        assert out.shape == model(inputs).shape == (2, 8, 8, 6)
        assert (out - model(inputs)).abs().mean() < 0.2 * model(inputs).abs().mean()
        out.sum().backward()
        for name, parameter in converted.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("family", family_names())
def test_networks_of_every_family_are_converted_whole(family: str) -> None:
    architecture, data = Architecture(family=family, depth=2, width=3), torch.rand(8, 3, 16, 16)
    model = build_network(architecture, image_shape=(3, 16, 16), classes=10, seed=0).eval()
    converted = approximate(model, config(), calibration_data=data)
    assert not list(weight_layers(converted))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in converted.modules())
    assert (converted(data) - model(data)).norm() < 0.2 * (model(data) - model(data).mean(0)).norm()
    converted(data).square().sum().backward()
    assert all(parameter.grad is not None for parameter in converted.parameters())


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(2, 3, 1), nn.ConvTranspose2d(2, 3, 1)])
def test_a_network_may_be_a_single_layer(layer: nn.Module) -> None:
    data = real(5, 2, 4, 4)
    converted = approximate(layer, config(), calibration_data=data)
    assert isinstance(converted, ApproxLayer)
    assert (converted(data) - layer(data)).abs().max() < 0.1
    use_chip(converted, 0)


@pytest.mark.parametrize("normalised", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_normalised_weights_become_what_they_amount_to(normalised: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Sequential(normalised(nn.Conv2d(2, 4, 3)), nn.BatchNorm2d(4), nn.Flatten(), normalised(nn.Linear(16, 3)))
    data = real(6, 2, 4, 4)
    converted = approximate(model.eval(), config(), calibration_data=data)
    assert {name for name, _ in converted.named_parameters()} == {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert (converted(data) - model(data)).abs().max() < 0.1
    assert nn.utils.parametrize.is_parametrized(model[0])


# ---- which layers, and how ---------------------------------------------------------------------------------------


class Backwards(nn.Module):
    """Four layers that run in the opposite of the order in which they are held."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 2)
        self.body = nn.ModuleDict({"late": nn.Linear(5, 6), "early": nn.Linear(4, 5)})
        self.stem = nn.Linear(3, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.head(self.body["late"](self.body["early"](self.stem(inputs)).relu()).relu())
        return out


def bits_of(**options: Any) -> dict[str, int]:
    """Weight bits of the approximate layers of `Backwards`."""
    network = NetworkApproximation(default=config(weight_bits=8), **options)
    converted = approximate(Backwards(), network, calibration_data=real(9, 3))
    assert {name for name, _ in weight_layers(converted)} == {"head", "body.late", "body.early", "stem"} - {
        name for name, _ in approx_layers(converted)
    }
    return {name: layer.config.weight_bits for name, layer in approx_layers(converted)}


def test_patterns_override_the_default_and_later_ones_earlier() -> None:
    four, five = config(weight_bits=4), config(weight_bits=5)
    assert bits_of() == {"head": 8, "body.late": 8, "body.early": 8, "stem": 8}
    assert bits_of(overrides={"body.*": four}) == {"head": 8, "body.late": 4, "body.early": 4, "stem": 8}
    assert bits_of(overrides={"*": four, "*.early": five, "stem": None}) == {
        "head": 4, "body.late": 4, "body.early": 5,
    }  # fmt: skip
    assert bits_of(overrides={"*.early": five, "*": four}) == {"head": 4, "body.late": 4, "body.early": 4, "stem": 4}
    assert bits_of(overrides={"body.[el]a?*": None}) == {"head": 8, "stem": 8}


def test_the_first_and_the_last_layer_to_run_may_stay_precise_unless_named() -> None:
    assert bits_of(precise_first=True) == {"head": 8, "body.late": 8, "body.early": 8}
    assert bits_of(precise_last=True) == {"body.late": 8, "body.early": 8, "stem": 8}
    assert bits_of(precise_first=True, precise_last=True) == {"body.late": 8, "body.early": 8}
    four = config(weight_bits=4)
    assert bits_of(precise_first=True, precise_last=True, overrides={"s*": four, "head": four}) == {
        "head": 4, "body.late": 8, "body.early": 8, "stem": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"overrides": {"body": None}}, "no layer is named 'body'; similar names are "),
        ({"overrides": {"body.*": None, "tail": None}}, "no layer is named 'tail'"),
        ({"overrides": {"*": None}}, "every layer is left in floating point"),
        ({"overrides": {"body.*": None}, "precise_first": True, "precise_last": True}, "every layer is left in"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        bits_of(**options)


@pytest.mark.parametrize("end", ["precise_first", "precise_last"])
def test_a_single_layer_is_the_first_and_the_last(end: str) -> None:
    network = NetworkApproximation(default=config(), **{end: True})  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="every layer is left in floating point"):
        approximate(nn.Sequential(nn.Linear(3, 2)), network, calibration_data=real(4, 3))


def test_a_shared_layer_is_replaced_in_all_its_places_and_shared_weights_stay_shared() -> None:
    layer, tied = nn.Linear(4, 4), nn.Linear(4, 4)
    tied.weight = layer.weight

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.others, self.tied = layer, nn.ModuleList([layer]), tied

        def forward(self, inputs: Tensor) -> Tensor:
            out: Tensor = self.tied(self.others[0](self.one(inputs).relu()))
            return out

    converted = approximate(Shared(), config(), calibration_data=real(6, 4))
    assert converted.one is converted.others[0]  # type: ignore[index]
    assert [name for name, _ in approx_layers(converted)] == ["one", "tied"]
    assert converted.one.weight is converted.tied.weight  # type: ignore[union-attr]
    assert len(list(converted.parameters())) == 3


def test_a_layer_that_is_run_past_its_name_is_named() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.early, self.late = nn.Linear(4, 4), nn.Linear(4, 2)
            self.order = [self.early, self.late]

        def forward(self, inputs: Tensor) -> Tensor:
            for layer in self.order:
                inputs = layer(inputs)
            return inputs

    model = Listed()
    with pytest.raises(
        ArgumentError, match="layer 'early' was replaced, but the network still runs it without using its name"
    ):
        approximate(model, config(), calibration_data=real(6, 4))
    model(real(6, 4))


def test_activations_are_as_their_layer_says() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    made = LayerApproximation(activation_signed=True)
    converted = approximate(model, made, calibration_data=real(6, 4))
    assert [layer.activation_signed for _, layer in approx_layers(converted)] == [True, True]
    with pytest.raises(ArgumentError, match="layer '0': `activation_signed` is False, but on the calibration"):
        approximate(model, LayerApproximation(activation_signed=False), calibration_data=real(6, 4))
    unsigned = approximate(model, LayerApproximation(activation_signed=False), calibration_data=real(6, 4).abs())
    assert not any(layer.activation_signed for _, layer in approx_layers(unsigned))


def test_calibration_data_may_come_in_batches() -> None:
    data, model = real(24, 3), Backwards()
    whole = approximate(model, config(), calibration_data=data)
    parts = approximate(model, config(), calibration_data=iter(data.split(5)))  # type: ignore[no-untyped-call]
    for (_, one), (_, other) in zip(approx_layers(parts), approx_layers(whole), strict=True):
        assert one.activation_scale.item() == pytest.approx(other.activation_scale.item(), rel=1e-5)


def test_memory_of_layers_that_are_not_there_is_refused() -> None:
    model = approximate(Backwards(), config(), calibration_data=real(6, 3))
    memory = FaultyMemory(bit_error_rate=0.1)
    with pytest.raises(
        ArgumentError, match=r"`robust_bits` names 'tail', but the approximate layers are head, body\.late"
    ):
        set_memory(model, weights=memory, robust_bits={"tail": 3})
    with pytest.raises(ArgumentError, match=r"`robust_bits` needs a weight memory; pass weights="):
        set_memory(model, robust_bits={"stem": 3})
    with pytest.raises(ArgumentError, match="`robust_bits` must be between 0 and 12, got 13"):
        set_memory(model, weights=memory, robust_bits={"stem": 13})
    with pytest.raises(ArgumentError, match=r"`dense_layers` names 'tail', but the approximate layers are head"):
        set_memory(model, weights=memory, dense_layers=["tail"])


def test_pruned_weights_fail_only_where_they_are_stored() -> None:
    network = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 10))
    data = real(40, 30)
    masks = magnitude_masks({name: layer.weight for name, layer in weight_layers(network)}, 0.5)
    model = approximate(network, config(), calibration_data=data, masks=masks)
    layers = dict(approx_layers(model))

    def changed(name: str) -> tuple[bool, bool]:
        """Whether any kept and any pruned weight of a layer reads wrong."""
        layer = layers[name]
        wrong = layer.read_codes() != layer.stored_codes()
        return bool(wrong[layer.mask].any()), bool(wrong[~layer.mask].any())

    set_memory(model, weights=FaultyMemory(bit_error_rate=0.1), dense_layers=["1"])
    use_chip(model, 3)
    assert changed("0") == (True, False)
    assert changed("1") == (True, True)
    set_memory(model, weights=FaultyMemory(bit_error_rate=0.1, stores_pruned=True))
    use_chip(model, 3)
    assert changed("0") == (True, True)


def test_custom_multipliers_can_be_passed_as_a_value(trained: nn.Sequential, images: LabelledImages) -> None:
    """Copies and files of a network need neither them nor a registry."""
    data = images.inputs(slice(0, 50))
    odd = multiplier_from_function("odd", lambda a, w: a * w | 1, signed=False)
    passed = pickle.loads(pickle.dumps({"odd@1234": odd}))  # noqa: S301  as it reaches another process
    with pytest.raises(UnknownNameError, match="unknown multiplier 'odd@1234'"):
        approximate(trained, config("odd@1234"), calibration_data=data)
    converted = approximate(trained, config("odd@1234"), calibration_data=data, multipliers=passed)
    behind_signs = odd.adapted(weight_bits=8, activation_bits=8, weight_signed=True, activation_signed=False)
    assert behind_signs.digest in {layer.multiplier.digest for _, layer in approx_layers(converted)}
    outputs = converted(data)
    for again in (copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))):  # noqa: S301
        assert torch.equal(again(data), outputs)
    exact = approximate(trained, config(), calibration_data=data, multipliers=passed)
    assert not torch.equal(exact(data), outputs)
