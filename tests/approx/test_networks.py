import pytest
import torch
from torch import nn

from approx import (
    Architecture,
    LabelledImages,
    LayerApproximation,
    Schedule,
    approximate,
    build_network,
    family_names,
    fit,
    network_family,
    trace,
)
from approx.custom_modules import import_custom_module
from approx.errors import ArgumentError, UnknownNameError
from approx.networks import ResidualBlock

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]


def network(
    family: str, depth: int, width: int, image_shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10
) -> nn.Module:
    architecture = Architecture(family=family, depth=depth, width=width)
    return build_network(architecture, image_shape=image_shape, classes=classes, seed=0)


def parameters(model: nn.Module) -> int:
    return sum(weights.numel() for weights in model.parameters())


def macs(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    shapes = trace(model.eval(), torch.zeros(1, *image_shape))
    return sum(shape.positions * shape.inner * shape.outputs for shape in shapes)


def deepest(family: str, image_shape: tuple[int, int, int]) -> int:
    """The largest depth on images of a shape: VGG halves them as often as it is deep."""
    halvings = min(image_shape[1:]).bit_length() - 1
    return min(network_family(family).max_depth, halvings if family == "vgg" else 99)


@pytest.mark.parametrize("family", family_names())
@pytest.mark.parametrize("shape", SHAPES)
def test_every_depth_classifies(family: str, shape: tuple[int, int, int]) -> None:
    for depth in range(1, deepest(family, shape) + 1):
        assert network(family, depth, 1, shape, classes=7).eval()(torch.rand(3, *shape)).shape == (3, 7)


@pytest.mark.slow
@pytest.mark.parametrize("family", family_names())
@pytest.mark.parametrize("shape", SHAPES)
def test_wider_is_more_work_and_so_is_deeper(family: str, shape: tuple[int, int, int]) -> None:
    widest = network_family(family).max_width
    widths = [*range(1, widest, max(1, widest // 8)), widest]
    by_width = [macs(network(family, 2, width, shape), shape) for width in widths]
    assert by_width == sorted(set(by_width))
    for width in (1, 8):
        by_depth = [macs(network(family, depth, width, shape), shape) for depth in range(1, deepest(family, shape) + 1)]
        assert by_depth == sorted(set(by_depth))


def test_lenet_5_is_the_published_one() -> None:
    # LeCun et al., Proc. IEEE 1998, figure 2, with every channel of C3 connected and without trainable pooling.
    weights = 6 * (25 + 1) + 16 * (6 * 25 + 1) + 120 * (16 * 25 + 1) + 84 * (120 + 1) + 10 * (84 + 1)
    products = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10
    for shape in ((1, 28, 28), (1, 32, 32)):
        lenet = network("lenet", 3, 6, shape)
        assert parameters(lenet) == weights == 61_706
        assert macs(lenet, shape) == products == 416_520
    first, second = (layer for layer in network("lenet", 3, 6, (1, 28, 28)).modules() if isinstance(layer, nn.Conv2d))
    assert (first.padding, second.padding) == ((2, 2), (0, 0))


def test_the_perceptrons_of_lecun_lie_within() -> None:
    # LeCun et al., Proc. IEEE 1998, section III.C: 28x28-300-10 and 28x28-500-150-10 on MNIST.
    assert parameters(network("mlp", 1, 19, (1, 28, 28))) > 784 * 300 + 300 * 10
    assert parameters(network("mlp", 2, 32, (1, 28, 28))) > 784 * 500 + 500 * 150 + 150 * 10


# Layers and millions of parameters: He et al., CVPR 2016, table 6.
@pytest.mark.parametrize(("layers", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_resnets_are_the_published_ones(layers: int, millions: float) -> None:
    model = network("resnet", (layers - 2) // 6, 16)
    assert parameters(model) / 1e6 == pytest.approx(millions, abs=0.006)
    weighted = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(weighted) == layers
    assert network_family("resnet").max_depth * 6 + 2 == 56


def test_a_shortcut_strides_and_adds_zero_channels() -> None:
    block = ResidualBlock(2, 4, 2).eval()
    for norm in (block.first[1], block.second[1]):
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.zeros_(norm.weight)
    images = torch.randn(3, 2, 7, 6)
    outputs = block(images)
    assert torch.equal(outputs[:, :2], images[:, :, ::2, ::2].relu())
    assert not outputs[:, 2:].any()
    assert outputs.shape == (3, 4, 4, 3)


@pytest.mark.slow
def test_vgg_16_is_the_published_one() -> None:
    # torchvision's has the same convolutions, with biases, and a classifier for ImageNet.
    theirs = import_custom_module("torchvision.models").vgg16_bn().features
    biases = sum(layer.out_channels for layer in theirs if isinstance(layer, nn.Conv2d))
    vgg = network("vgg", 5, 16)
    assert parameters(vgg) == parameters(theirs) - biases + 512 * 10 + 10
    weighted = [module for module in vgg.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 14  # 16 less two of the three Linear layers


@pytest.mark.parametrize("family", family_names())
def test_networks_are_traced_trained_and_approximated(family: str) -> None:
    model = network(family, 2, 2, (1, 16, 16))
    pixels = torch.randint(0, 256, (32, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = LabelledImages(pixels, torch.arange(32) % 10, 255)
    inputs = images.inputs(slice(0, 32))
    fit(model, images, Schedule(epochs=1, batch_size=16, learning_rate=1e-3), seed=0)
    scores = model.eval()(inputs)
    assert torch.equal(torch.fx.symbolic_trace(model)(inputs), scores)
    exported = torch.export.export(model, (inputs,)).module()
    torch.testing.assert_close(exported(inputs), scores)
    config = LayerApproximation(weight_bits=8, activation_bits=8, multiplier="exact")
    close = approximate(model, config, calibration_data=inputs)(inputs)
    assert (close - scores).abs().max() < 0.1 * scores.abs().max()


@pytest.mark.parametrize("family", family_names())
def test_weights_come_from_the_seed_alone(family: str) -> None:
    architecture = Architecture(family=family, depth=1, width=1)
    before = torch.get_rng_state()
    one, same, other = (build_network(architecture, image_shape=(1, 4, 4), classes=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(next(one.parameters()), next(same.parameters()))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_bad_architectures_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown network family 'lennet'; did you mean 'lenet'"):
        network("lennet", 1, 1)
    for family in family_names():
        largest = network_family(family)
        with pytest.raises(ArgumentError, match=f"the `width` of {family} networks must be between 1 and"):
            network(family, 1, largest.max_width + 1)
        with pytest.raises(ArgumentError, match=f"the `depth` of {family} .* {largest.max_depth}, got 0"):
            network(family, 0, 1)
    with pytest.raises(ArgumentError, match="images of 4x4 cannot be halved 3 times"):
        network("vgg", 3, 1, (1, 4, 4))
    with pytest.raises(ArgumentError, match="images of 8x3 cannot be halved 2 times"):
        network("lenet", 3, 1, (1, 8, 3))


def test_trace_of_a_small_network_by_hand() -> None:
    lenet = network("lenet", 1, 2, (1, 8, 8))
    found = [(s.positions, s.inner, s.outputs, s.input_values) for s in trace(lenet, torch.zeros(1, 1, 8, 8))]
    # 3x3 convolution to 2 channels on 8x8, pooled to 4x4, 10 classes.
    assert found == [(64, 9, 2, 64), (1, 32, 10, 32)]
