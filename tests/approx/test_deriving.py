"""Smaller networks of a family are larger ones without some of their channels and blocks."""

from itertools import product

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from approx import Architecture, ArgumentError, accuracy, build_network, derive_network, fit
from approx.labelled_images import LabelledImages
from approx.training import Schedule

SHAPES = {"mlp": (1, 8, 8), "lenet": (1, 28, 28), "vgg": (3, 32, 32), "resnet": (3, 16, 16)}
LARGEST = {family: Architecture(family=family, depth=3, width=6) for family in SHAPES}


def built(architecture: Architecture, seed: int = 0) -> nn.Sequential:
    """A network whose normalisations have the statistics, factors and offsets of no other."""
    network = build_network(architecture, image_shape=SHAPES[architecture.family], classes=10, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for value in (module.weight, module.running_var):
                    assert value is not None
                    value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
                for value in (module.bias, module.running_mean):
                    assert value is not None
                    value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return network


def derived(trained: nn.Module, to: Architecture, seed: int = 1) -> nn.Sequential:
    return derive_network(trained, of=LARGEST[to.family], to=to, image_shape=SHAPES[to.family], classes=10, seed=seed)


def images(family: str, count: int = 4) -> Tensor:
    return torch.randn(count, *SHAPES[family], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", SHAPES)
def test_the_same_size_is_the_same_network(family: str) -> None:
    trained = built(LARGEST[family])
    found = derived(trained, LARGEST[family])
    assert torch.equal(found(images(family)), trained(images(family)))
    assert not {one.data_ptr() for one in found.parameters()} & {one.data_ptr() for one in trained.parameters()}


@pytest.mark.parametrize("family", SHAPES)
def test_every_size_is_a_network_of_the_family_with_weights_of_the_larger_one(family: str) -> None:
    trained = built(LARGEST[family])
    theirs = torch.cat([one.detach().flatten() for one in trained.parameters()])
    for depth, width in product((1, 2, 3), (1, 4, 6)):
        found = derived(trained, Architecture(family=family, depth=depth, width=width))
        assert found(images(family)).shape == (4, 10)
        *kept, classifier_weight, classifier_bias = list(found.parameters())
        if family == "resnet" or depth == 3:
            kept += [classifier_weight, classifier_bias]
        assert all(bool(torch.isin(one.detach(), theirs).all()) for one in kept)


def silenced(network: nn.Sequential, family: str, kept: int) -> None:
    """Silence all but the first `kept` channels of all that are alike: what reads and writes them is zero."""
    with torch.no_grad():
        if family == "mlp":
            layers = [one for one in network if isinstance(one, nn.Linear)]
            for layer in layers[:-1]:
                layer.weight[kept:] = 0
                layer.bias[kept:] = 0
            for layer in layers[1:]:
                layer.weight[:, kept:] = 0
            return
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                share = len(module.weight) * kept // 6
                module.weight[share:] = 0
                module.bias[share:] = 0
                module.running_mean[share:] = 0  # type: ignore[index]


@pytest.mark.parametrize(("family", "channels"), [("mlp", 48), ("vgg", 3)])
def test_channels_that_hand_nothing_on_go_first(family: str, channels: int) -> None:
    trained = built(LARGEST[family])
    silenced(trained, family, channels)
    found = derived(trained, Architecture(family=family, depth=3, width=3))
    assert torch.allclose(found(images(family)), trained(images(family)), atol=1e-5)


def test_channels_of_a_residual_stream_go_in_all_stages_that_have_them() -> None:
    """Of 6 channels 3 hand nothing on: in the first stage, of those that the second adds, and twice of the third's."""
    trained, network = built(LARGEST["resnet"]), LARGEST["resnet"]
    silent = [0, 2, 5]
    stream = torch.zeros(4 * network.width, dtype=torch.bool)
    for start in (0, 6, 12, 18):
        stream[[start + one for one in silent]] = True
    with torch.no_grad():
        for name, module in trained.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                writes_stream = name.startswith("stem") or ".second" in name
                quiet = stream[: len(module.weight)] if writes_stream else torch.arange(len(module.weight)) % 2 == 0
                for value in (module.weight, module.bias, module.running_mean):
                    assert value is not None
                    value[quiet] = 0
    found = derived(trained, Architecture(family="resnet", depth=3, width=3))
    assert torch.allclose(found(images("resnet")), trained(images("resnet")), atol=1e-5)


def test_the_last_blocks_of_a_stage_are_dropped() -> None:
    trained = built(LARGEST["resnet"])
    with torch.no_grad():
        for name, module in trained.named_modules():
            if isinstance(module, nn.BatchNorm2d) and ("stage.1.second" in name or "stage.2.second" in name):
                for value in (module.weight, module.bias):
                    value.zero_()
    found = derived(trained, Architecture(family="resnet", depth=1, width=6))
    assert torch.allclose(found(images("resnet")), trained(images("resnet")), atol=1e-5)


def test_new_weights_come_from_the_seed_alone() -> None:
    trained, shallow = built(LARGEST["lenet"]), Architecture(family="lenet", depth=1, width=3)
    one, same, other = (derived(trained, shallow, seed)(images("lenet")) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_derived_network_needs_fewer_steps_than_one_from_scratch() -> None:
    bunch = load_digits()
    digits = LabelledImages(torch.tensor(bunch.images[:, None]).to(torch.uint8), torch.tensor(bunch.target), 16)
    large, small = LARGEST["mlp"], Architecture(family="mlp", depth=3, width=1)
    trained = build_network(large, image_shape=(1, 8, 8), classes=10, seed=0)
    fit(trained, digits, Schedule(epochs=20, batch_size=32, learning_rate=3e-3), seed=0)
    short = Schedule(epochs=1, batch_size=32, learning_rate=3e-3)
    scratch = build_network(small, image_shape=(1, 8, 8), classes=10, seed=0)
    found = derived(trained, small)
    for network in (scratch, found):
        fit(network, digits, short, seed=0)
    assert accuracy(found, digits) > accuracy(scratch, digits) + 0.1


def test_what_cannot_be_derived_is_refused() -> None:
    trained = built(LARGEST["mlp"])

    def derive(**to: object) -> None:
        derived(trained, Architecture(**{"family": "mlp", "depth": 3, "width": 6, **to}))  # type: ignore[arg-type]

    with pytest.raises(ArgumentError, match="whose width is 6; got 7"):
        derive(width=7)
    with pytest.raises(ArgumentError, match="a lenet network cannot be derived from a mlp network"):
        derive_network(
            trained,
            of=LARGEST["mlp"],
            to=LARGEST["lenet"],
            image_shape=(1, 8, 8),
            classes=10,
            seed=0,
        )
    with pytest.raises(ArgumentError, match="`trained` is not the mlp network of depth 3 and width 6 for 10 classes"):
        derived(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), LARGEST["mlp"])
