"""Custom networks: found by an import path or given, checked, told apart from other versions, and built.

A network that is trained from scratch is built by a function for each depth and width that the function takes; see
`search.space.network_function`. One that comes trained has the weights of a checkpoint, those with which the function
builds it, or is given as a Python object; a width of it is the share of its channels that is kept, in eighths.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

import approx
from search.content_hash import content_hash
from search.errors import UsageError
from search.space.checkpoint import check_finite, load_weights, weights_digest
from search.space.classifier_check import check_approximable, check_scores
from search.space.code_digests import class_digests, source_digests
from search.space.computation import computation_digest
from search.space.given_model import copied_model, model_path
from search.space.network_function import NetworkFunction
from search.space.task import CHANNEL_STEPS, CustomNetwork

_NETWORKS_KEPT = 2  # networks whose weights stay in memory


def find_network(
    path: str,
    *,
    folder: str,
    image_shape: tuple[int, int, int],
    classes: int,
    checkpoint: str | None = None,
    trained: bool = False,
) -> CustomNetwork:
    """Return the network that the function at an import path builds.

    Args:
        path: `package.module:function`.
        folder: Folder in which the module is looked for first.
        image_shape: Channels, height and width of an image.
        classes: Number of classes.
        checkpoint: Absolute path of the file of its weights, if they come from one.
        trained: Whether it comes trained: by a checkpoint or, without one, as the function builds it.

    Raises:
        UsageError: If there is no such function, the weights are not those of its network, or this does not classify
            these images, cannot be approximated, or differs from call to call.
    """
    function, model = _largest(path, folder, checkpoint, trained, image_shape, classes)
    given = f"`network` {path}"
    if checkpoint is None:
        again = function.build_largest()
        if model is again:
            raise UsageError(f"{given} returns the same network at each call; have it build a new one")
        if weights_digest(model) != weights_digest(again):
            raise UsageError(
                f"{given} gives its network different weights at each call; draw random numbers only from torch's "
                "global generator"
            )
    if trained:
        check_finite(model, given)
    check_approximable(model, given, image_shape=image_shape)
    return CustomNetwork(
        path=path,
        folder=folder,
        max_depth=function.largest.get("depth", 1),
        max_width=CHANNEL_STEPS if trained else function.largest.get("width", 1),
        min_width=_min_width(model, image_shape) if trained else 1,
        fingerprint=_fingerprint(path, model, function.modules, image_shape, trained=trained),
        weights_sha256=weights_digest(model) if trained else None,
        checkpoint=checkpoint,
    )


def find_model(model: Any, *, image_shape: tuple[int, int, int], classes: int) -> CustomNetwork:
    """Return a trained network that is given as a Python object. It is copied, and not changed.

    Args:
        model: The network.
        image_shape: Channels, height and width of an image.
        classes: Number of classes.

    Raises:
        UsageError: If it is no network with weights, does not classify these images, or cannot be approximated.
    """
    copied = copied_model(model)
    path = model_path(copied)
    check_scores(copied, "`model`", image_shape=image_shape, classes=classes)
    check_finite(copied, "`model`")
    check_approximable(copied, "`model`", image_shape=image_shape)
    return CustomNetwork(
        path=path,
        folder=str(Path.cwd()),
        max_depth=1,
        max_width=CHANNEL_STEPS,
        min_width=_min_width(copied, image_shape),
        fingerprint=_fingerprint(path, copied, (), image_shape, trained=True),
        weights_sha256=weights_digest(copied),
        model=copied,
    )


def build_custom_network(
    network: CustomNetwork, *, depth: int, width: int, image_shape: tuple[int, int, int], classes: int, seed: int
) -> nn.Module:
    """Build a custom network that was found in this process or in another one.

    Of one that comes trained it is a copy with its weights, without `CHANNEL_STEPS - width` eighths of the channels of
    each layer that can lose them; see `approx.prune_channels`.

    Args:
        network: The network, from `find_network` or `find_model`.
        depth: Depth to build; ignored if the function takes none, or the network comes trained.
        width: Width to build; ignored if the function takes none.
        image_shape: Channels, height and width of an image.
        classes: Number of classes.
        seed: Seed of torch's random numbers during the call; the global random state is restored afterwards. What comes
            trained does not depend on it.

    Raises:
        UsageError: If it cannot be built, or has changed since it was found.
    """
    return _unchanged(network, image_shape, classes).build(depth=depth, width=width, seed=seed)


class _Builder(Protocol):
    """Builds a network here."""

    def build(self, *, depth: int, width: int, seed: int) -> nn.Module:
        """Return a new network."""


class _TrainedNetwork:
    """A network that came trained, with any share of its channels."""

    def __init__(self, model: nn.Module, image_shape: tuple[int, int, int]) -> None:
        self._by_width = {CHANNEL_STEPS: model}
        self._image_shape = image_shape

    def build(self, *, depth: int, width: int, seed: int) -> nn.Module:
        """Return a copy; see `build_custom_network`."""
        if width not in self._by_width:
            self._by_width[width] = _narrowed(self._by_width[CHANNEL_STEPS], width, self._image_shape)
        return copy.deepcopy(self._by_width[width])


@functools.lru_cache(maxsize=_NETWORKS_KEPT)
def _unchanged(network: CustomNetwork, image_shape: tuple[int, int, int], classes: int) -> _Builder:
    """Return what builds a network, which this process may import and read later than the process that found it."""
    if network.model is not None:
        return _TrainedNetwork(network.model, image_shape)
    trained = network.trained
    function, model = _largest(network.path, network.folder, network.checkpoint, trained, image_shape, classes)
    if network.checkpoint is not None and weights_digest(model) != network.weights_sha256:
        raise UsageError(
            f"`checkpoint` {network.checkpoint} has other weights than when the search began; put those back, or start "
            "the search again"
        )
    if _fingerprint(network.path, model, function.modules, image_shape, trained=trained) != network.fingerprint:
        raise UsageError(f"`network` {network.path} was edited after the search began; start the search again")
    return _TrainedNetwork(model, image_shape) if trained else function


def _largest(
    path: str, folder: str, checkpoint: str | None, trained: bool, image_shape: tuple[int, int, int], classes: int
) -> tuple[NetworkFunction, nn.Module]:
    """Return a function, and the largest network that it builds, with the weights of the checkpoint if there is one."""
    function = NetworkFunction(path, folder, image_shape=image_shape, classes=classes, sized=not trained)
    model = function.build_largest()
    if checkpoint is not None:
        load_weights(model, checkpoint, network=path, classes=classes)
    return function, model


def _fingerprint(
    path: str, model: nn.Module, modules: Iterable[str], image_shape: tuple[int, int, int], *, trained: bool
) -> str:
    """Return what tells a network apart from edited versions, other code that it calls, and other weights.

    Args:
        path: What it is called.
        model: The network at its largest size.
        modules: Modules beside those of its layers whose source matters.
        image_shape: Channels, height and width of an image.
        trained: Whether its weights matter.
    """
    content = {
        "path": path,
        "sources": source_digests(modules) | class_digests(map(type, model.modules())),
        "model": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(model)),  # memory addresses are random
        "shapes": [[name, list(weights.shape)] for name, weights in model.named_parameters()],
        "computation": computation_digest(model, image_shape),
        **({"weights": weights_digest(model)} if trained else {}),
    }
    return content_hash(content)


def _min_width(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Return 1, or the width of the whole network if no channel can be removed."""
    try:
        _pruned(model, CHANNEL_STEPS // 2, image_shape)  # where any group of two channels or more loses some
    except approx.ArgumentError:
        return CHANNEL_STEPS
    return 1


def _narrowed(model: nn.Module, width: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """Return a network with eighths of its channels; the whole one where no layer has enough to lose that share."""
    try:
        return _pruned(model, width, image_shape)
    except approx.ArgumentError:
        return model


def _pruned(model: nn.Module, width: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return approx.prune_channels(model, 1 - width / CHANNEL_STEPS, example_input=torch.ones(1, *image_shape))
