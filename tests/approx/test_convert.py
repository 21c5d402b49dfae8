import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from approx import (
    ApproxConv2d,
    ApproxLinear,
    Architecture,
    LabelledImages,
    LayerApproximation,
    Schedule,
    accuracy,
    approx_layers,
    approximate,
    build_network,
    fit,
    magnitude_masks,
    multiplier_names,
    set_faults,
    weight_layers,
)
from approx.errors import ArgumentError, UnknownNameError


def config(multiplier: str = "exact", weight_bits: int = 8, activation_bits: int = 8) -> LayerApproximation:
    return LayerApproximation(weight_bits=weight_bits, activation_bits=activation_bits, multiplier=multiplier)


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


def test_eight_exact_bits_lose_next_to_nothing(trained: nn.Sequential, images: LabelledImages) -> None:
    converted = approximate(trained, config(), calibration_data=images.inputs(slice(0, 500)))
    assert accuracy(trained, images) > 0.9
    assert abs(accuracy(converted, images) - accuracy(trained, images)) < 0.005


def test_the_model_given_is_left_as_it_is(trained: nn.Sequential, images: LabelledImages) -> None:
    before = copy.deepcopy(trained.state_dict())
    converted = approximate(trained, config("asm-1", 4, 4), calibration_data=images.inputs(slice(0, 100)))
    fit(converted, images, Schedule(epochs=0.2, batch_size=64, learning_rate=1e-2), seed=0)
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())
    assert [type(m) for m in trained if isinstance(m, nn.Conv2d)] == [nn.Conv2d, nn.Conv2d]
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
    set_faults(converted, bit_error_rate=0.3, robust_bits=0, chip_seed=1)
    for name, layer in approx_layers(converted):
        assert (layer.read_codes()[~masks[name]] == 0).all()
        assert (layer.read_codes() != layer.stored_codes()).any()
    faulty = accuracy(converted, images)
    assert faulty < 0.6 * perfect
    assert accuracy(converted, images) == faulty
    set_faults(converted, bit_error_rate=0.3, robust_bits=8, chip_seed=1)
    assert accuracy(converted, images) == perfect
    set_faults(converted, bit_error_rate=0.0, robust_bits=0, chip_seed=1)
    assert accuracy(converted, images) == perfect


def test_robust_top_bits_help(trained: nn.Sequential, images: LabelledImages) -> None:
    converted = approximate(trained, config(), calibration_data=images.inputs(slice(0, 100)))

    def mean_accuracy(robust_bits: int) -> float:
        found = []
        for chip in range(5):
            set_faults(converted, bit_error_rate=0.03, robust_bits=robust_bits, chip_seed=chip)
            found.append(accuracy(converted, images))
        return sum(found) / len(found)

    assert mean_accuracy(3) > mean_accuracy(1) > mean_accuracy(0)


def test_retraining_recovers_accuracy(trained: nn.Sequential, images: LabelledImages) -> None:
    converted = approximate(trained, config("asm-1", 3, 4), calibration_data=images.inputs(slice(0, 500)))
    before = accuracy(converted, images)
    fit(converted, images, Schedule(epochs=4, batch_size=64, learning_rate=1e-3), seed=0)
    assert accuracy(converted, images) > before + 0.02


def test_signed_inputs_get_signed_codes(trained: nn.Sequential, images: LabelledImages) -> None:
    converted = approximate(trained, config(), calibration_data=images.inputs(slice(0, 100)) - 0.5)
    assert [layer.activation_signed for _, layer in approx_layers(converted)] == [True, False, False, False]


def test_saving_and_loading_is_identity(trained: nn.Sequential, images: LabelledImages) -> None:
    data = images.inputs(slice(0, 100))
    one = approximate(trained, config("asm-1-3", 4, 4), calibration_data=data)
    other = approximate(trained, config("asm-1-3", 4, 4), calibration_data=data * 0.3)
    assert not torch.equal(one(data), other(data))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(data), other(data))


@pytest.mark.parametrize(
    ("convolution", "problem"),
    [
        (nn.Conv2d(4, 4, 3, padding="same"), "padding 'same'"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding mode 'reflect'"),
    ],
)
def test_a_convolution_that_is_not_supported_is_named(convolution: nn.Conv2d, problem: str) -> None:
    with pytest.raises(ArgumentError, match=f"layer '0': a convolution with {problem} is not supported"):
        approximate(nn.Sequential(convolution), config(), calibration_data=torch.rand(1, 4, 8, 8))


def test_wrong_masks_and_names_are_refused(trained: nn.Sequential, images: LabelledImages) -> None:
    data = images.inputs(slice(0, 10))
    with pytest.raises(ArgumentError, match="mask for 'nothing', but the layers are 0, 3"):
        approximate(trained, config(), calibration_data=data, masks={"nothing": torch.ones(1)})
    with pytest.raises(ArgumentError, match=r"layer '0': mask has shape \(1,\), its weight \(8, 1, 3, 3\)"):
        approximate(trained, config(), calibration_data=data, masks={"0": torch.ones(1, dtype=torch.bool)})
    with pytest.raises(UnknownNameError, match="unknown multiplier 'exat'"):
        approximate(trained, config("exat"), calibration_data=data)
    with pytest.raises(ArgumentError, match="no Conv2d or Linear layer"):
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
    set_faults(converted, bit_error_rate=0.3, robust_bits=0, chip_seed=1)
    seen.append(outputs())
    for _, layer in approx_layers(converted):
        layer.mask[0] = False
    seen.append(outputs())
    state = {name: value * 0 for name, value in converted.state_dict().items() if "weight_scale" in name}
    converted.load_state_dict(state, strict=False)
    seen.append(outputs())
    assert len(seen) == 5
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_kept_codes_are_neither_copied_nor_saved(trained: nn.Sequential, images: LabelledImages) -> None:
    inputs = images.inputs(slice(0, 10))
    converted = approximate(trained, config("drum-4"), calibration_data=inputs)
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


def test_every_geometry_and_rank_is_converted() -> None:
    """Linear on sequences, as in transformers; grouped, dilated and depthwise convolutions; all with gradients."""
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2, dilation=2), nn.ReLU(), nn.Conv2d(8, 8, 1, groups=8), nn.Linear(4, 6)
    )
    inputs = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    converted = approximate(model, config("mitchell"), calibration_data=inputs)
    out = converted(inputs)
    assert out.shape == model(inputs).shape == (2, 8, 4, 6)
    assert (out - model(inputs)).abs().mean() < 0.2 * model(inputs).abs().mean()
    out.sum().backward()
    for name, parameter in converted.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
