import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from approx import (
    Architecture,
    LabelledImages,
    LayerApproximation,
    Schedule,
    approximate,
    build_network,
    fit,
    prune_channels,
    trace,
    weight_layers,
)
from approx.custom_modules import import_custom_module
from approx.errors import ArgumentError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def of_family(family: str) -> Callable[[], nn.Module]:
    architecture = Architecture(family=family, depth=2, width=4)
    return lambda: build_network(architecture, image_shape=(3, 16, 16), classes=5, seed=0)


def autoencoder() -> nn.Module:
    """Transposed and depthwise convolutions, a norm without parameters, and a slope for each channel."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8, affine=False),
        nn.PReLU(8),
        nn.ConvTranspose2d(8, 6, 2, stride=2),
        nn.BatchNorm2d(6),
        nn.PReLU(),
        nn.ConvTranspose2d(6, 6, 3, padding=1, groups=6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 3, 1),
    )


class Branches(nn.Module):
    """Two branches of different widths, joined by concatenation, each with a sum inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 8, 3, padding=1)
        self.right = nn.Conv2d(8, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.middle = nn.Conv2d(12, 6, 3, padding=1)
        self.classifier = nn.Linear(6 * 16 * 16, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        stem = self.stem(inputs).relu()
        both = torch.cat([(self.left(stem) + stem).relu(), self.right(stem).relu()], dim=1)
        outputs: Tensor = self.classifier(self.middle(self.norm(both).relu()).relu().flatten(1))
        return outputs


def from_torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        network: nn.Module = getattr(import_custom_module("torchvision.models"), name)(weights=None)
        return network

    return build


NETWORKS = {
    "mlp": of_family("mlp"),
    "lenet": of_family("lenet"),
    "vgg": of_family("vgg"),
    "resnet": of_family("resnet"),
    "autoencoder": autoencoder,
    "branches": Branches,
    "resnet18": from_torchvision("resnet18"),
    "mobilenet_v3_small": from_torchvision("mobilenet_v3_small"),
}


def network(name: str) -> nn.Module:
    """In evaluation mode, with biases and statistics as training might leave them: all different."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = NETWORKS[name]().eval()
        for layer in model.modules():
            if isinstance(layer, NORMS):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
                if layer.affine:
                    nn.init.uniform_(layer.weight, 0.5, 1.5)
                    nn.init.normal_(layer.bias, 0, 0.1)
            elif isinstance(bias := getattr(layer, "bias", None), Tensor):
                nn.init.normal_(bias, 0, 0.1)
    return model


def images_for(name: str) -> Tensor:
    size = 32 if name in ("resnet18", "mobilenet_v3_small") else 16
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def kept_channels(model: nn.Module, smaller: nn.Module) -> dict[str, Tensor]:
    """Layer name -> which of its channels are in the smaller network, told by their biases or running means."""
    kept = {}
    for name, layer in model.named_modules():
        mark = "running_mean" if isinstance(layer, NORMS) else "bias"
        marks = getattr(layer, mark, None)
        if isinstance(marks, Tensor):
            left = getattr(smaller.get_submodule(name), mark)
            kept[name] = torch.isin(marks, left)
            assert torch.equal(marks[kept[name]], left), name
    return kept


def outputs_without(model: nn.Module, kept: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """What the network gives if every layer's removed channels give zero."""

    def silence(mask: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        return lambda layer, inputs, output: output * mask.reshape(-1, *[1] * (output.dim() - 2))

    handles = [model.get_submodule(name).register_forward_hook(silence(mask)) for name, mask in kept.items()]
    with torch.no_grad():
        outputs: Tensor = model(inputs)
    for handle in handles:
        handle.remove()
    return outputs


def outputs_of(layer: nn.Module) -> int:
    assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.99])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_smaller_network_computes_what_is_left(name: str, sparsity: float) -> None:
    model, inputs = network(name).double(), images_for(name).double()
    before = copy.deepcopy(model.state_dict())
    smaller = prune_channels(model, sparsity, example_input=inputs[:1])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        found = smaller(inputs)
    expected = outputs_without(model, kept_channels(model, smaller), inputs)
    assert found.shape == model(inputs).shape
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(found, model(inputs))


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_hidden_layer_loses_the_same_share(name: str, sparsity: float) -> None:
    """All but the last layer, and the stream of a residual network whose shortcuts pad it."""
    model = network(name)
    smaller = dict(weight_layers(prune_channels(model, sparsity, example_input=images_for(name))))
    *hidden, (last, _) = weight_layers(model)
    assert outputs_of(smaller[last]) == outputs_of(model.get_submodule(last))
    for layer_name, layer in hidden:
        outputs = outputs_of(layer)
        whole = name == "resnet" and (layer_name.startswith("stem") or "second." in layer_name)
        removed = 0 if whole else min(round(sparsity * outputs), outputs - 1)
        assert outputs_of(smaller[layer_name]) == outputs - removed, layer_name


def test_channels_of_least_norm_go() -> None:
    """The norm is over all that goes with a unit: its weights, its bias, and the weights that read it."""
    first, last = nn.Linear(4, 9), nn.Linear(9, 2)
    smaller = prune_channels(nn.Sequential(first, nn.ReLU(), last), 0.6, example_input=torch.zeros(1, 4))
    squares = first.weight.square().sum(1) + first.bias.square() + last.weight.square().sum(0)
    kept = squares.argsort()[5:].sort().values
    assert torch.equal(smaller.get_parameter("0.weight"), first.weight[kept])
    assert torch.equal(smaller.get_parameter("0.bias"), first.bias[kept])
    assert torch.equal(smaller.get_parameter("2.weight"), last.weight[:, kept])
    assert torch.equal(smaller.get_parameter("2.bias"), last.bias)


def test_of_equal_norms_the_earlier_go() -> None:
    first, last = nn.Linear(4, 4, bias=False), nn.Linear(4, 2)
    first.weight, last.weight = nn.Parameter(torch.eye(4)), nn.Parameter(torch.ones(2, 4))
    smaller = prune_channels(nn.Sequential(first, last), 0.5, example_input=torch.zeros(1, 4))
    assert torch.equal(smaller.get_parameter("0.weight"), torch.eye(4)[2:])


@pytest.mark.slow
def test_layers_that_are_kept_keep_their_channels() -> None:
    model, inputs = network("resnet18"), images_for("resnet18")
    keep = ["layer1.0.conv1", "layer2.1.conv2"]
    smaller = dict(weight_layers(prune_channels(model, 0.5, example_input=inputs, keep=keep)))
    whole = {name for name, layer in weight_layers(model) if outputs_of(layer) == outputs_of(smaller[name])}
    # What is added to a layer that is kept is kept with it.
    assert whole == {*keep, "layer2.0.conv2", "layer2.0.downsample.0", "fc"}


class Reversed(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flip(1)


def test_channels_that_the_trace_loses_sight_of_are_left_alone() -> None:
    """Channel i becomes channel n - 1 - i, which no trace of gradients shows."""
    first = nn.Conv2d(3, 8, 3)
    model = nn.Sequential(first, Reversed(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 144, 5))
    # The first four would go: a set that is the same reversed could go unnoticed, and rightly.
    first.weight.data *= torch.arange(1.0, 9.0).reshape(8, 1, 1, 1)
    inputs = images_for("")
    smaller = prune_channels(model, 0.5, example_input=inputs)
    assert [tuple(layer.weight.shape[:2]) for _, layer in weight_layers(smaller)] == [(8, 3), (4, 8), (5, 4 * 144)]
    with pytest.raises(ArgumentError, match=r"`sparsity` 0\.5 removes no channel"):
        prune_channels(model, 0.5, example_input=inputs, keep=["2"])


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(8, 8, 3, groups=2, padding=1), nn.Conv2d(8, 16, 3, groups=8, padding=1), nn.GroupNorm(2, 8)]
)
def test_layers_whose_channels_are_grouped_are_left_alone(layer: nn.Module) -> None:
    outputs = 16 if isinstance(layer, nn.Conv2d) and layer.out_channels == 16 else 8
    model = nn.Sequential(nn.Conv2d(3, 8, 1), layer, nn.ReLU(), nn.Conv2d(outputs, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    smaller = prune_channels(model, 0.5, example_input=images_for(""))
    found = {name: outputs_of(one) for name, one in weight_layers(smaller)}
    assert found.pop("1", outputs) == outputs
    assert found == {"0": 8, "3": 4, "5": 2}


class Magnitude(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.abs()


COMPUTED: dict[str, Callable[[nn.Module], object]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "bias": lambda layer: parametrize.register_parametrization(layer, "bias", Magnitude()),
}


@pytest.mark.parametrize("way", COMPUTED)
@pytest.mark.parametrize(("place", "outputs"), [(0, [8, 4, 4, 5]), (1, [8, 8, 4, 5]), (2, [4, 8, 8, 5])])
def test_layers_that_compute_their_weights_are_left_alone(way: str, place: int, outputs: list[int]) -> None:
    """Neither their own channels go nor those that they read; all others do."""
    layers = [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 5, 1)]
    COMPUTED[way](layers[place])
    model, inputs = nn.Sequential(*layers).eval(), images_for("")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smaller = prune_channels(model, 0.5, example_input=inputs)
    assert [outputs_of(layer) for layer in smaller.children()] == outputs
    assert smaller(inputs).shape == (2, 5, 16, 16)
    before = layers[place].state_dict()
    assert all(torch.equal(before[name], value) for name, value in list(smaller.children())[place].state_dict().items())


def pruned(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.3)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("way", [nn.utils.spectral_norm, pruned])
def test_weights_that_older_hooks_compute_are_cut_as_computed(way: Callable[[nn.Module], object]) -> None:
    layers = [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 5, 1)]
    way(layers[1])
    model, inputs = nn.Sequential(*layers).eval(), images_for("")
    model(inputs)
    computed = layers[1].weight.detach().clone()
    smaller = prune_channels(model, 0.5, example_input=inputs)
    assert [outputs_of(layer) for layer in smaller.children()] == [4, 4, 5]
    kept = {round(value, 6) for value in smaller.get_parameter("1.weight").flatten().tolist()}
    assert kept <= {round(value, 6) for value in computed.flatten().tolist()}


def test_a_batch_of_one_colour_is_not_mistaken_for_one_without_a_batch() -> None:
    """torch-pruning would pass the images of a batch as separate arguments, and a convolution takes one alone."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    smaller = prune_channels(model, 0.5, example_input=torch.zeros(1, 1, 8, 8))
    assert smaller(torch.zeros(5, 1, 8, 8)).shape == (5, 3)


def test_frozen_layers_stay_frozen_and_gradients_may_be_off() -> None:
    model = network("mlp").train()
    frozen = next(model.parameters()).requires_grad_(False)
    with torch.no_grad():
        smaller = prune_channels(model, 0.5, example_input=images_for("mlp"))
    assert [p.requires_grad for p in smaller.parameters()] == [p is not frozen for p in model.parameters()]
    assert model.training
    assert not smaller.training


def test_the_smaller_network_is_trained_traced_converted_and_saved_like_any_other() -> None:
    model, inputs = network("vgg"), images_for("vgg")
    smaller = prune_channels(model, 0.5, example_input=inputs)
    other = prune_channels(of_family("vgg")(), 0.5, example_input=inputs)
    pixels = torch.randint(0, 256, (20, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = LabelledImages(pixels, torch.arange(20) % 5, 255)
    fit(smaller, images, Schedule(epochs=1, batch_size=10, learning_rate=1e-3), seed=0)
    other.load_state_dict(smaller.state_dict())
    assert torch.equal(other(inputs), smaller(inputs))
    assert [shape.outputs for shape in trace(smaller, inputs[:1])] == [8, 8, 16, 16, 5]
    config = LayerApproximation(weight_bits=8, activation_bits=8, multiplier="exact")
    converted = approximate(smaller, config, calibration_data=images.inputs(slice(0, 20)))
    with torch.no_grad():
        torch.testing.assert_close(converted(inputs), smaller(inputs), rtol=0.05, atol=0.05)


def test_no_sparsity_is_a_copy() -> None:
    model, inputs = network("lenet"), images_for("lenet")
    same = prune_channels(model, 0.0, example_input=inputs)
    assert same is not model
    assert torch.equal(same(inputs), model(inputs))


def test_what_cannot_be_done_is_refused() -> None:
    model, inputs = network("mlp"), images_for("mlp")
    for sparsity in (-0.1, 1.0, float("nan")):
        with pytest.raises(ArgumentError, match=r"`sparsity` must be in \[0, 1\)"):
            prune_channels(model, sparsity, example_input=inputs)
    with pytest.raises(ArgumentError, match="`keep` names '9', but the layers are 1, 3, 5"):
        prune_channels(model, 0.5, example_input=inputs, keep=["1", "9"])
    with pytest.raises(ArgumentError, match=r"`sparsity` 0\.001 removes no channel: each hidden layer is too narrow"):
        prune_channels(model, 0.001, example_input=inputs)
    with pytest.raises(ArgumentError, match=r"`sparsity` 0\.5 removes no channel"):
        prune_channels(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), 0.5, example_input=inputs)
    with pytest.raises(ArgumentError, match=r"the network fails on an input of shape \(2, 4\)"):
        prune_channels(model, 0.5, example_input=torch.zeros(2, 4))
