"""Smaller networks of a built-in family, taken from a larger one that is trained: channels by importance, fewer blocks.

A channel is worth the norm of what it hands on: how large its values are times how much the layers that read it weigh
them. The scale of its values is its factor in batch normalisation, whatever the scale of the weights before, or else
the norm of these weights. Where a layer is left out, the layer behind it has other inputs than it learned from, and
begins with new weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from approx.checks import check_model, check_type
from approx.errors import ArgumentError
from approx.networks import Architecture, ResNet, build_network

_Layer = nn.Linear | nn.Conv2d


def derive_network(
    trained: nn.Module,
    *,
    of: Architecture,
    to: Architecture,
    image_shape: tuple[int, int, int],
    classes: int,
    seed: int,
) -> nn.Sequential:
    """A smaller network with weights of a larger one of its family, to be fine-tuned.

    Args:
        trained: The larger network, from `build_network`, not converted; it is not changed.
        of: Its family and size.
        to: Family and size of the smaller one.
        image_shape: Channels, height and width of an image.
        classes: Number of outputs.
        seed: Seed of the weights of layers whose inputs were left out.

    Raises:
        ArgumentError: If the smaller one is of another family, deeper or wider, or `trained` is not a network of `of`.
    """
    check_model("trained", trained)
    for name, architecture in (("of", of), ("to", to)):
        check_type(name, architecture, Architecture, "an approx.Architecture")
    if to.family != of.family:
        raise ArgumentError(
            f"a {to.family} network cannot be derived from a {of.family} network; `to` must be a {of.family}"
        )
    for knob in ("depth", "width"):
        if getattr(to, knob) > getattr(of, knob):
            raise ArgumentError(
                f"`to` must be at most as large as the trained network, whose {knob} is {getattr(of, knob)}; got "
                f"{getattr(to, knob)}"
            )
    smaller = build_network(to, image_shape=image_shape, classes=classes, seed=seed)
    like = build_network(of, image_shape=image_shape, classes=classes, seed=0)
    shapes = {name: value.shape for name, value in like.state_dict().items()}
    if {name: value.shape for name, value in trained.state_dict().items()} != shapes:
        raise ArgumentError(
            f"`trained` is not the {of.family} network of depth {of.depth} and width {of.width} for {classes} classes "
            f"of images of shape {image_shape}"
        )
    with torch.no_grad():
        if isinstance(trained, ResNet):
            assert isinstance(smaller, ResNet)
            _derive_resnet(trained, smaller)
        else:
            _derive_chain(trained, smaller, same_depth=of.depth == to.depth)
    return smaller.train(trained.training)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A layer and its batch normalisation, if it has one."""

    layer: _Layer
    norm: nn.BatchNorm2d | None = None

    def scales(self) -> Tensor:
        """How large the values of each output are: shape (outputs,)."""
        if self.norm is not None:
            return self.norm.weight.abs()
        found: Tensor = torch.linalg.vector_norm(self.layer.weight.flatten(1), dim=1)
        return found

    def weighs(self, outputs_before: int) -> Tensor:
        """How much each output of the layer before counts, which may be several inputs: shape (outputs_before,)."""
        by_input = self.layer.weight.movedim(1, 0).flatten(1)
        found: Tensor = torch.linalg.vector_norm(by_input.reshape(outputs_before, -1), dim=1)
        return found

    def take(self, other: _Unit, outputs: Tensor, inputs: Tensor) -> None:
        """Copy the weights of some outputs and inputs of another unit."""
        mine, theirs = self.layer, other.layer
        mine.weight.copy_(theirs.weight[outputs][:, inputs])
        if mine.bias is not None and theirs.bias is not None:
            mine.bias.copy_(theirs.bias[outputs])
        if self.norm is not None and other.norm is not None:
            for name, values in self.norm.state_dict().items():
                theirs_of_name = other.norm.state_dict()[name]
                values.copy_(theirs_of_name[outputs] if values.dim() else theirs_of_name)


def _units(modules: Iterable[nn.Module]) -> list[_Unit]:
    """The layers among modules that follow each other."""
    units: list[_Unit] = []
    for module in modules:
        if isinstance(module, nn.Linear | nn.Conv2d):
            units.append(_Unit(module))
        elif isinstance(module, nn.BatchNorm2d):
            units[-1] = _Unit(units[-1].layer, module)
    return units


def _derive_chain(trained: nn.Module, smaller: nn.Module, *, same_depth: bool) -> None:
    theirs, mine = _units(trained.modules()), _units(smaller.modules())
    kept = torch.arange(theirs[0].layer.weight.shape[1])  # all channels of the image, or its pixels
    for (unit, following), own in zip(pairwise(theirs), mine[:-1], strict=False):
        outputs = len(unit.layer.weight)
        best = _largest(unit.scales() * following.weighs(outputs), len(own.layer.weight))
        own.take(unit, best, kept)
        inputs_each = following.layer.weight.shape[1] // outputs  # pixels of a channel, where the maps are flattened
        kept = (best[:, None] * inputs_each + torch.arange(inputs_each)).flatten()
    if same_depth:
        mine[-1].take(theirs[-1], torch.arange(len(theirs[-1].layer.weight)), kept)


def _parts(network: ResNet) -> list[list[_Unit]]:
    """The layers of a residual network: stem, each stage, of two units a block, and classifier."""
    names = ("stem", "first_stage", "second_stage", "third_stage", "classifier")
    return [_units(network.get_submodule(name).modules()) for name in names]


def _derive_resnet(trained: ResNet, smaller: ResNet) -> None:
    """The shortcuts have no weights: channels of a stage are those of the stage before it, and new ones behind them.

    So channels are kept or dropped in all stages that have them.
    """
    (stem,), *stages, (classifier,) = _parts(trained)
    (own_stem,), *own_stages, (own_classifier,) = _parts(smaller)
    channels, own_channels = len(stem.layer.weight), len(own_stem.layer.weight)
    # The blocks of the smaller network, and what hands its channels on to them.
    stages = [units[: len(own)] for units, own in zip(stages, own_stages, strict=True)]
    firsts, seconds = ([unit for units in stages for unit in units[place::2]] for place in (0, 1))
    written, read = torch.zeros(4 * channels), torch.zeros(4 * channels)
    for writer in (stem, *seconds):
        written[: len(writer.layer.weight)] += writer.scales().square()
    for reader in (*firsts, classifier):
        width = reader.layer.weight.shape[1]
        read[:width] += reader.weighs(width).square()
    importance = (written * read).sqrt()
    kept = torch.arange(0)
    stream: list[Tensor] = []  # the channels of each stage that are kept
    for first, count in ((0, 1), (1, 1), (2, 2)):
        new = importance[first * channels : (first + count) * channels]
        kept = torch.cat([kept, first * channels + _largest(new, count * own_channels)])
        stream.append(kept)
    own_stem.take(stem, stream[0], torch.arange(stem.layer.weight.shape[1]))
    inputs = stream[0]
    for units, own_units, outputs in zip(stages, own_stages, stream, strict=True):
        for (one, two), (own_one, own_two) in zip(_pairs(units), _pairs(own_units), strict=True):
            inner = one.scales() * two.weighs(len(one.layer.weight))
            best = _largest(inner, len(own_one.layer.weight))
            own_one.take(one, best, inputs)
            own_two.take(two, outputs, best)
            inputs = outputs
    own_classifier.take(classifier, torch.arange(len(classifier.layer.weight)), inputs)


def _pairs(units: list[_Unit]) -> list[tuple[_Unit, _Unit]]:
    """The two layers of each block."""
    return list(zip(units[::2], units[1::2], strict=True))


def _largest(values: Tensor, count: int) -> Tensor:
    """The places of the largest values in rising order; of equal ones the earlier."""
    return values.argsort(descending=True, stable=True)[:count].sort().values
