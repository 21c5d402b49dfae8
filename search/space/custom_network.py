"""Custom networks: found by an import path, checked, distinguished from edited versions, and built.

    build(image_shape=(C, H, W), classes=N)                   -> nn.Module
    build(image_shape=(C, H, W), classes=N, depth=D, width=W) -> nn.Module

If the function takes a depth or a width, these are searched; it may take one, both or neither.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import approx
from search.content_hash import content_hash
from search.errors import UsageError
from search.images.python_path import import_function, is_import_path, words_of
from search.space.task import CustomNetwork

_LARGEST = {"depth": 3, "width": 8}  # largest values that are searched
_sources: dict[Path, str] = {}  # file -> SHA-256 of its content when this process first used it


def find_network(path: str, *, folder: str, image_shape: tuple[int, int, int], classes: int) -> CustomNetwork:
    """Return the network that the function at an import path builds.

    Args:
        path: `package.module:function`.
        folder: Folder in which the module is looked for first.
        image_shape: Channels, height and width of an image.
        classes: Number of classes.

    Raises:
        UsageError: If there is no such function, or the network that it builds does not classify these images, cannot
            be approximated, or differs from call to call.
    """
    if not is_import_path(path):
        raise UsageError(
            f"`network` must be package.module:function, such as nets:build for build() in nets.py, got {path!r}"
        )
    function = _Function(path, folder, image_shape, classes)
    model, again = function.largest(), function.largest()
    if model is again:
        raise UsageError(f"`network` {path} returns the same network at each call; have it build a new one")
    if not all(map(torch.equal, model.parameters(), again.parameters())):
        raise UsageError(
            f"`network` {path} gives its network different weights at each call; draw random numbers only from torch's "
            "global generator"
        )
    config = approx.LayerApproximation(weight_bits=8, activation_bits=8, multiplier="exact")
    try:
        approx.approximate(model, config, calibration_data=torch.ones(1, *image_shape))
    except approx.ApproxError as error:
        raise UsageError(f"`network` {path} builds a network that cannot be approximated: {error}") from error
    return function.describe(model)


def build_custom_network(
    network: CustomNetwork, *, depth: int, width: int, image_shape: tuple[int, int, int], classes: int, seed: int
) -> nn.Module:
    """Build a custom network that was found in this process or in another one.

    Args:
        network: The network, from `find_network`.
        depth: Depth to build; ignored if the function takes none.
        width: Width to build; ignored if the function takes none.
        image_shape: Channels, height and width of an image.
        classes: Number of classes.
        seed: Seed of torch's random numbers during the call; the global random state is restored afterwards.

    Raises:
        UsageError: If it cannot be built, or has changed since it was found.
    """
    return _unchanged(network, image_shape, classes).build(depth=depth, width=width, seed=seed)


@functools.cache
def _unchanged(network: CustomNetwork, image_shape: tuple[int, int, int], classes: int) -> _Function:
    """Return the function of a network, which this process may import later than the process that found it."""
    function = _Function(network.path, network.folder, image_shape, classes)
    if function.describe(function.largest()) != network:
        raise UsageError(f"`network` {network.path} was edited after the search began; start the search again")
    return function


class _Function:
    """An imported function that builds networks for the images of one task."""

    def __init__(self, path: str, folder: str, image_shape: tuple[int, int, int], classes: int) -> None:
        self._path = path
        self._folder = folder
        self._image_shape = image_shape
        self._classes = classes
        self._function = import_function(path, folder=folder, parameter="network", does="builds a network")
        self._largest = _largest_sizes(self._function, path)

    def largest(self) -> nn.Module:
        """Build the largest network, from a fixed seed."""
        return self.build(depth=_LARGEST["depth"], width=_LARGEST["width"], seed=0)

    def build(self, *, depth: int, width: int, seed: int) -> nn.Module:
        """Call the function and run the network on one image, which also gives lazy layers their shape."""
        sizes = {name: {"depth": depth, "width": width}[name] for name in self._largest}
        settings = "".join(f", {name}={value}" for name, value in sizes.items())
        call = f"`network` {self._path}(image_shape={self._image_shape}, classes={self._classes}{settings})"
        image = torch.zeros(1, *self._image_shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                model = self._function(image_shape=self._image_shape, classes=self._classes, **sizes)
            except Exception as error:
                raise UsageError(f"{call} failed: {words_of(error)}") from error
            if not isinstance(model, nn.Module):
                raise UsageError(f"{call} must return a torch.nn.Module, got {type(model).__name__}")
            try:
                with torch.no_grad():
                    scores = model.eval()(image)
            except Exception as error:
                raise UsageError(f"{call} returned a network that fails on an image: {words_of(error)}") from error
        if not isinstance(scores, Tensor) or scores.shape != (1, self._classes):
            given = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise UsageError(
                f"{call} returned a network whose output for one image must be a tensor of shape "
                f"{(1, self._classes)}, got {given}"
            )
        return model

    def describe(self, model: nn.Module) -> CustomNetwork:
        """Return the network with a fingerprint that distinguishes it from edited versions.

        Args:
            model: The network at its largest size.
        """
        of_function = [self._path.partition(":")[0], self._function.__module__]
        modules = {*of_function, *(type(module).__module__ for module in model.modules())}
        content = {
            "path": self._path,
            "sources": {name: _source_hash(name) for name in modules if name.partition(".")[0] != "torch"},
            "model": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(model)),  # memory addresses are random
            "shapes": [[name, list(weights.shape)] for name, weights in model.named_parameters()],
        }
        return CustomNetwork(
            path=self._path,
            folder=self._folder,
            max_depth=self._largest.get("depth", 1),
            max_width=self._largest.get("width", 1),
            fingerprint=content_hash(content),
        )


def _largest_sizes(function: Callable[..., Any], path: str) -> dict[str, int]:
    """Return which of depth and width a function takes, with their largest values."""
    wanted = "it must take image_shape and classes by name, may take depth and width, and must not need anything else"
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise UsageError(f"`network` {path}: Python does not know its arguments; {wanted}") from None
    sizes = {name: largest for name, largest in _LARGEST.items() if name in signature.parameters}
    try:
        signature.bind(image_shape=None, classes=None, **sizes)
    except TypeError:
        raise UsageError(f"`network` {path} takes {signature}; {wanted}") from None
    return sizes


def _source_hash(module_name: str) -> str | None:
    """Return the SHA-256 of a module's file; None if it has none.

    Raises:
        UsageError: If the file has changed since this process imported it.
    """
    name = getattr(sys.modules.get(module_name), "__file__", None)
    if name is None or not Path(name).is_file():
        return None
    file = Path(name).resolve()
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if _sources.setdefault(file, found) != found:
        raise UsageError(f"{file} was edited after this process imported it; start a new one")
    return found
