"""Network families whose size is set by two whole numbers, so that a search can walk from small to large."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import nn

from approx.errors import ArgumentError, UnknownNameError

MAX_DEPTH = 3
MAX_WIDTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network of a family.

    Attributes:
        family: `mlp`: depth hidden layers of 16 * width units.
            `lenet`: depth blocks of one convolution (5x5 on images of at least 20x20, else 3x3) and 2x2 max pooling,
            with 2 * width channels doubling from block to block, then a hidden layer of 16 * width units; after LeCun
            et al., Proc. IEEE 1998.
            `vgg`: depth blocks of two 3x3 convolutions and pooling, with 4 * width channels doubling, then a hidden
            layer of 16 * width units; after Simonyan and Zisserman, ICLR 2015.
        depth: 1 to 3.
        width: 1 to 8.
    """

    family: str
    depth: int
    width: int


def family_names() -> list[str]:
    """Names of the network families."""
    return ["mlp", "lenet", "vgg"]


def build_network(
    architecture: Architecture, *, image_shape: tuple[int, int, int], classes: int, seed: int
) -> nn.Sequential:
    """Build a network with weights drawn from `seed`.

    Args:
        architecture: Family and size.
        image_shape: Channels, height and width of an input.
        classes: Number of outputs.
        seed: Of the initial weights; the global random state is left alone.

    Raises:
        UnknownNameError: If the family is unknown.
        ArgumentError: If depth or width is out of range, or the image too small to be pooled `depth` times.
    """
    family = architecture.family
    if family not in family_names():
        near = get_close_matches(family, family_names(), n=1, cutoff=0.0)
        raise UnknownNameError(
            f"unknown network family {family!r}; did you mean {near[0]!r}? Families: {', '.join(family_names())}"
        )
    for knob, largest in (("depth", MAX_DEPTH), ("width", MAX_WIDTH)):
        value = getattr(architecture, knob)
        if not 1 <= value <= largest:
            raise ArgumentError(f"{knob} must be between 1 and {largest}, got {value}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "mlp":
            return _mlp(architecture, image_shape, classes)
        return _convolutional(architecture, image_shape, classes)


def _mlp(architecture: Architecture, image_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    channels, height, width = image_shape
    layers: list[nn.Module] = [nn.Flatten()]
    features = channels * height * width
    for _ in range(architecture.depth):
        layers += [nn.Linear(features, 16 * architecture.width), nn.ReLU()]
        features = 16 * architecture.width
    return nn.Sequential(*layers, nn.Linear(features, classes))


def _convolutional(architecture: Architecture, image_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    channels, height, width = image_shape
    if min(height, width) < 2**architecture.depth:
        raise ArgumentError(
            f"images of {height}x{width} cannot be halved {architecture.depth} times; choose a smaller depth"
        )
    vgg = architecture.family == "vgg"
    kernel = 5 if not vgg and min(height, width) >= 20 else 3
    layers: list[nn.Module] = []
    for block in range(architecture.depth):
        outputs = (4 if vgg else 2) * architecture.width * 2**block
        for _ in range(2 if vgg else 1):
            layers += [nn.Conv2d(channels, outputs, kernel, padding=kernel // 2), nn.ReLU()]
            channels = outputs
        layers.append(nn.MaxPool2d(2))
        height, width = height // 2, width // 2
    hidden = 16 * architecture.width
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(channels * height * width, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
