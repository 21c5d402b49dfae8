"""Network families whose size is set by two whole numbers, from a tiny network to the published one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from approx.arithmetic.pooling import MaxPool2
from approx.checks import check_integer, check_type
from approx.errors import ArgumentError, UnknownNameError

_SMALL = 20  # pixels: smaller images get the small kernels of a LeNet
_VGG_BLOCKS = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))  # configuration D: convolutions, channels over 4 * width


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network of a family.

    Attributes:
        family: `mlp`: depth hidden layers of 16 * width units. The multilayer perceptrons of LeCun et al., Proc. IEEE
            1998, lie within.
            `lenet`: LeNet-5 of the same paper, with ReLU and max pooling, at depth 3 and width 6: two 5x5 convolutions
            of 6 and 16 channels, hidden layers of 120 and 84 units. Width scales all four. Depth 2 omits the layer of
            120 units; depth 1 is the first convolution and the classifier. The first convolution pads images below
            32x32 by 2, and images below 20x20 get 3x3 kernels padded by 1.
            `vgg`: depth blocks of two or three 3x3 convolutions and pooling, with 4 * width channels doubling up to 32
            * width. Configuration D of Simonyan and Zisserman, ICLR 2015, at depth 5 and width 16, with batch
            normalisation and one Linear layer, as is usual on 32x32 images.
            `resnet`: 6 * depth + 2 layers in three stages of width, 2 * width and 4 * width channels. Those of He et
            al., CVPR 2016, section 4.2, at width 16.
        depth: At least 1; for the largest see `network_family`.
        width: At least 1; for the largest see `network_family`.
    """

    family: str
    depth: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFamily:
    """Limits of a network family.

    Attributes:
        name: Name of the family.
        max_depth: The largest depth.
        max_width: The largest width.
    """

    name: str
    max_depth: int
    max_width: int


_FAMILIES = {
    family.name: family
    for family in (
        NetworkFamily(name="mlp", max_depth=3, max_width=64),
        NetworkFamily(name="lenet", max_depth=3, max_width=12),
        NetworkFamily(name="vgg", max_depth=5, max_width=16),
        NetworkFamily(name="resnet", max_depth=9, max_width=16),
    )
}


def family_names() -> list[str]:
    """Names of the network families."""
    return list(_FAMILIES)


def network_family(name: str) -> NetworkFamily:
    """The family of this name.

    Raises:
        UnknownNameError: If there is none; the message suggests similar names.
    """
    check_type("name", name, str, "the name of a network family")
    if name in _FAMILIES:
        return _FAMILIES[name]
    near = get_close_matches(name, _FAMILIES, n=1, cutoff=0.0)
    raise UnknownNameError(
        f"unknown network family {name!r}; did you mean {near[0]!r}? Families: {', '.join(_FAMILIES)}"
    )


def build_named_network(
    *, family: str, depth: int, width: int, image_shape: tuple[int, int, int], classes: int
) -> nn.Module:
    """A network described by JSON values, for saved models; its initial weights are to be replaced.

    Args:
        family: As in `Architecture`.
        depth: As in `Architecture`.
        width: As in `Architecture`.
        image_shape: Channels, height and width of an input.
        classes: Number of outputs.

    Raises:
        UnknownNameError: If the family is unknown.
        ArgumentError: As for `build_network`.
    """
    architecture = Architecture(family=family, depth=depth, width=width)
    return build_network(architecture, image_shape=image_shape, classes=classes, seed=0)


def build_network(
    architecture: Architecture, *, image_shape: tuple[int, int, int], classes: int, seed: int
) -> nn.Sequential:
    """Build a network with weights drawn from `seed`.

    Args:
        architecture: Family and size.
        image_shape: Channels, height and width of an input.
        classes: Number of outputs.
        seed: Seed of the initial weights; the global random state is not changed.

    Raises:
        UnknownNameError: If the family is unknown.
        ArgumentError: If depth or width is out of the family's range, or the image is too small for the network's
            pooling layers.
    """
    hint = "such as approx.Architecture(family='lenet', depth=3, width=6)"
    check_type("architecture", architecture, Architecture, "an approx.Architecture", hint)
    if not isinstance(image_shape, tuple | list) or len(image_shape) != 3:
        raise ArgumentError(f"`image_shape` must be (channels, height, width), got {image_shape!r}")
    for name, number in (("classes", classes), ("seed", seed)):
        check_integer(name, number)
    family = network_family(architecture.family)
    for knob, largest in (("depth", family.max_depth), ("width", family.max_width)):
        value = getattr(architecture, knob)
        check_integer(knob, value)
        if not 1 <= value <= largest:
            raise ArgumentError(f"the `{knob}` of {family.name} networks must be between 1 and {largest}, got {value}")
    build = {"mlp": _mlp, "lenet": _lenet, "vgg": _vgg, "resnet": _resnet}[family.name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(architecture, image_shape, classes)


def _mlp(architecture: Architecture, image_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    channels, height, width = image_shape
    units = 16 * architecture.width
    return nn.Sequential(
        nn.Flatten(), *_classifier([channels * height * width, *[units] * architecture.depth, classes])
    )


def _lenet(architecture: Architecture, image_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    channels, height, width = image_shape
    convolutions = min(architecture.depth, 2)
    _check_halvings(image_shape, convolutions)
    small = min(height, width) < _SMALL
    kernel = 3 if small else 5
    first_padding = 0 if min(height, width) >= 32 else kernel // 2  # the paper pads MNIST's images by 2, to 32x32
    layers: list[nn.Module] = []
    for outputs, padding in ((6, first_padding), (16, kernel // 2 if small else 0))[:convolutions]:
        outputs = _scaled(outputs, architecture)
        layers += [nn.Conv2d(channels, outputs, kernel, padding=padding), nn.ReLU(), MaxPool2()]
        channels = outputs
        height, width = ((size + 2 * padding - kernel + 1) // 2 for size in (height, width))
    hidden = [_scaled(units, architecture) for units in {1: (), 2: (84,), 3: (120, 84)}[architecture.depth]]
    return nn.Sequential(*layers, nn.Flatten(), *_classifier([channels * height * width, *hidden, classes]))


def _scaled(size: int, architecture: Architecture) -> int:
    """A layer size of LeNet-5, whose width is 6, at another width."""
    return round(size * architecture.width / 6)


def _vgg(architecture: Architecture, image_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    _check_halvings(image_shape, architecture.depth)
    channels = image_shape[0]
    layers: list[nn.Module] = []
    for convolutions, factor in _VGG_BLOCKS[: architecture.depth]:
        for _ in range(convolutions):
            outputs = 4 * architecture.width * factor
            layers += [*_normalised(channels, outputs), nn.ReLU()]
            channels = outputs
        layers.append(MaxPool2())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def _resnet(architecture: Architecture, image_shape: tuple[int, int, int], classes: int) -> ResNet:
    return ResNet(image_shape[0], architecture.width, blocks=architecture.depth, classes=classes)


class ResNet(nn.Sequential):
    """A residual network for small images: 6 * blocks + 2 layers, He et al., CVPR 2016, section 4.2.

    Args:
        inputs: Channels of the image.
        channels: Channels of the first of three stages; each later stage has twice as many at half the resolution.
        blocks: Residual blocks in each stage.
        classes: Number of outputs.
    """

    def __init__(self, inputs: int, channels: int, *, blocks: int, classes: int) -> None:
        super().__init__(
            OrderedDict(
                stem=nn.Sequential(*_normalised(inputs, channels), nn.ReLU()),
                first_stage=_stage(channels, channels, 1, blocks),
                second_stage=_stage(channels, 2 * channels, 2, blocks),
                third_stage=_stage(2 * channels, 4 * channels, 2, blocks),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                classifier=nn.Linear(4 * channels, classes),
            )
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights: strided, with zeros for missing channels (option A).

    Args:
        inputs: Channels of the input, shape (N, inputs, H, W).
        outputs: Channels of the output, at least `inputs`; height and width are divided by `stride` and rounded up.
        stride: Stride of the first convolution and the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = outputs - inputs
        self.first = nn.Sequential(*_normalised(inputs, outputs, stride), nn.ReLU())
        self.second = nn.Sequential(*_normalised(outputs, outputs))
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the block."""
        shortcut = inputs
        if self.stride > 1:
            shortcut = shortcut[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        outputs: Tensor = self.relu(self.second(self.first(inputs)) + shortcut)
        return outputs


def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    later = [ResidualBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(ResidualBlock(inputs, outputs, stride), *later)


def _normalised(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """A 3x3 convolution and its batch normalisation, which makes a bias redundant."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution, nn.BatchNorm2d(outputs)


def _classifier(sizes: list[int]) -> list[nn.Module]:
    """Linear layers between these numbers of units, with ReLU after all but the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]


def _check_halvings(image_shape: tuple[int, int, int], count: int) -> None:
    _, height, width = image_shape
    if min(height, width) < 2**count:
        raise ArgumentError(f"images of {height}x{width} cannot be halved {count} times; choose a smaller depth")
