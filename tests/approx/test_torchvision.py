"""torchvision's classifiers are converted as they come."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from approx import (
    FaultyMemory,
    LayerApproximation,
    NetworkApproximation,
    approx_layers,
    approximate,
    correct_bias,
    load,
    prune_channels,
    reestimate_batch_norm,
    save,
    set_memory,
    trace,
    use_chip,
)
from approx.custom_modules import import_custom_module
from approx.errors import ArgumentError
from approx.surgery import FoldedBatchNorm

pytestmark = pytest.mark.slow


def real(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def lively(model: nn.Module, data: Tensor) -> nn.Module:
    """With statistics of the data, and weights where torchvision begins with zeros."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
        model.train()(data)
    return model.eval()


def torchvision_models() -> ModuleType:
    return import_custom_module("torchvision.models")


def small_vit() -> nn.Module:
    made: nn.Module = torchvision_models().VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10
    )
    return made


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int, int]] = {
    # How it is built, pixels, approximate layers, BatchNorms.
    "resnet18": (lambda: torchvision_models().resnet18(weights=None, num_classes=10), 32, 21, 20),
    "mobilenet_v3_small": (
        lambda: torchvision_models().mobilenet_v3_small(weights=None, num_classes=10), 32, 54, 34,
    ),
    "a small vit": (small_vit, 32, 1 + 2 * 6 + 1, 0),
}  # fmt: skip


@cache
def network(name: str) -> tuple[nn.Module, Tensor]:
    build, pixels, _, _ = NETWORKS[name]
    data = real(16, 3, pixels, pixels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return lively(build(), data), data


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / (expected - expected.mean(0)).norm())


@pytest.mark.parametrize("name", NETWORKS)
def test_its_layers_compute_on_codes_close_to_the_original(name: str) -> None:
    model, data = network(name)
    _, _, layers, norms = NETWORKS[name]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    converted = approximate(model, LayerApproximation(), calibration_data=data)
    assert len(list(approx_layers(converted))) == layers
    assert sum(isinstance(module, FoldedBatchNorm) for module in converted.modules()) == norms
    assert not any(isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d) for m in converted.modules())
    assert {one.name for one in trace(model, data[:1])} == {key for key, _ in approx_layers(converted)}
    with torch.no_grad():
        expected, found = model(data), converted(data)
    assert found.shape == expected.shape == (16, 10)
    assert 0 < relative(found, expected) < 0.5  # of networks that were not trained, which amplify errors
    coarse = approximate(model, LayerApproximation(weight_bits=3, activation_bits=3), calibration_data=data)
    with torch.no_grad():
        assert relative(coarse(data), expected) > 2 * relative(found, expected)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model, data = network(name)
    converted = approximate(model, LayerApproximation(learned_scales=True), calibration_data=data).train()
    torch.nn.functional.cross_entropy(converted(data[:4]), torch.arange(4)).backward()  # type: ignore[no-untyped-call]
    for key, parameter in converted.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    # Softmax does not change where all keys move alike, so the bias of the keys has none but rounding's.
    silent = [key for key, p in converted.named_parameters() if p.grad is not None and not p.grad.any()]
    assert [key for key in silent if "key.bias" not in key] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_it_runs_on_faulty_chips(name: str) -> None:
    model, data = network(name)
    converted = approximate(model, LayerApproximation(), calibration_data=data)
    memory = FaultyMemory(bit_error_rate=0.01)
    set_memory(converted, weights=memory, activations=memory)
    with torch.no_grad():
        perfect = converted(data[:2])
        seen = []
        for chip in (1, 2, 1):
            use_chip(converted, chip)
            seen.append(converted(data[:2]))
        use_chip(converted, None)
        assert torch.equal(converted(data[:2]), perfect)
    assert torch.equal(seen[0], seen[2])
    assert len({float(one.sum()) for one in (perfect, *seen)}) == 3


@cache
def larger_network(name: str) -> tuple[nn.Module, Tensor]:
    """On images of 64x64, at which strides leave more than one position."""
    build, _, _, _ = NETWORKS[name]
    data = real(16, 3, 64, 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return lively(build(), data), data


@pytest.mark.parametrize("sparsity", [0.125, 0.5, 0.875])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_it_shrinks_is_mended_and_converted_without_training(name: str, sparsity: float) -> None:
    model, data = larger_network(name)
    smaller = prune_channels(model, sparsity, example_input=data[:1])
    before, after = (trace(one, data[:1]) for one in (model, smaller))
    assert [one.name for one in before] == [one.name for one in after]
    for whole, left in zip(before[:-1], after[:-1], strict=True):
        assert left.outputs == whole.outputs - min(round(sparsity * whole.outputs), whole.outputs - 1), whole.name
    reestimate_batch_norm(smaller, data)
    converted = approximate(smaller, LayerApproximation(multiplier="truncated-4"), calibration_data=data)
    with torch.no_grad():
        expected, before_correction = smaller(data), converted(data)
        correct_bias(converted, smaller, data)
        found = converted(data)
    assert (found - expected).mean(0).norm() < 1e-4 * (before_correction - expected).mean(0).norm()
    assert 0 < (found - expected).norm() < 0.2 * expected.norm()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_it_is_saved(name: str, tmp_path: Path) -> None:
    model, data = larger_network(name)
    smaller = prune_channels(model, 0.5, example_input=data[:1])
    converted = approximate(smaller, LayerApproximation(multiplier="drum-4"), calibration_data=data)
    correct_bias(converted, smaller, data)
    save(converted, tmp_path / "model", example_input=data[:1])
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "model")(data), converted(data))


def test_a_layer_whose_sums_could_leave_32_bits_is_named_or_left() -> None:
    model, data = network("resnet18")
    twelve = LayerApproximation(weight_bits=12)
    with pytest.raises(ArgumentError, match=r"layer 'layer4\.0\.conv2': a sum of 4608 products of up to 522240"):
        approximate(model, twelve, calibration_data=data)
    for config in (
        NetworkApproximation(default=twelve, leave_unsupported=True),
        NetworkApproximation(default=twelve, overrides={"layer4.?.conv*": None}),
    ):
        converted = approximate(model, config, calibration_data=data)
        assert "layer4.0.conv2" not in dict(approx_layers(converted))
        assert "layer3.1.conv2" in dict(approx_layers(converted))
        with torch.no_grad():
            assert relative(converted(data), model(data)) < 0.5


def test_vit_b_16_as_it_comes() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = torchvision_models().vit_b_16(weights=None, image_size=32, num_classes=10)
        nn.init.normal_(model.heads.head.weight, std=0.05)
    data = real(4, 3, 32, 32)
    converted = approximate(model, LayerApproximation(), calibration_data=data)
    assert len(list(approx_layers(converted))) == 1 + 12 * 6 + 1
    out = converted(data)
    assert 0 < relative(out.detach(), model.eval()(data).detach()) < 0.5
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in converted.parameters())
