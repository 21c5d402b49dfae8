"""A function that builds networks: what it takes, and what it returns for the images of a task.

    build(image_shape=(C, H, W), classes=N, depth=D, width=W) -> nn.Module

It gets by name whichever of these it takes; `num_classes` is another name of `classes`, and what has `**kwargs` and
neither gets `num_classes`, as the functions of torchvision.models do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn

from search.errors import UsageError
from search.images.python_path import import_function, is_import_path, words_of
from search.space.classifier_check import check_scores

LARGEST = {"depth": 3, "width": 8}  # largest values that are searched

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_WANTED = "it may take image_shape, classes or num_classes, depth and width by name, and must not need anything else"


class NetworkFunction:
    """An imported function, or a class, that builds networks for the images of one task.

    Args:
        path: `package.module:function`.
        folder: Folder in which the module is looked for first.
        image_shape: Channels, height and width of an image.
        classes: Number of classes.
        sized: Whether depth and width are chosen here; else they are as the function has them by default.

    Attributes:
        largest: Which of depth and width are chosen, with their largest values.
        modules: Names of the modules of the path and of the function itself.

    Raises:
        UsageError: If there is no such function, or it needs anything else.
    """

    def __init__(self, path: str, folder: str, *, image_shape: tuple[int, int, int], classes: int, sized: bool) -> None:
        self._path = path
        self._image_shape = image_shape
        self._classes = classes
        if not is_import_path(path):
            raise UsageError(
                f"`network` must be package.module:function, such as nets:build for build() in nets.py, got {path!r}"
            )
        self._function = import_function(path, folder=folder, parameter="network", does="builds a network")
        self._takes = _parameters(self._function, path, sized=sized)
        self.largest = {name: largest for name, largest in LARGEST.items() if name in self._takes}
        self.modules = (path.partition(":")[0], self._function.__module__)

    def arguments(self, *, depth: int, width: int) -> dict[str, Any]:
        """Return the arguments that it is called with."""
        known = {
            "image_shape": self._image_shape,
            "classes": self._classes,
            "num_classes": self._classes,
            "depth": depth,
            "width": width,
        }
        return {name: value for name, value in known.items() if name in self._takes}

    def build(self, *, depth: int, width: int, seed: int) -> nn.Module:
        """Call the function, and run the network on one image; see `check_scores`.

        Args:
            depth: Depth to build; ignored if it is not chosen.
            width: Width to build; ignored if it is not chosen.
            seed: Seed of torch's random numbers meanwhile; the global random state is restored.

        Raises:
            UsageError: If the function fails, or does not return a network for these images.
        """
        arguments = self.arguments(depth=depth, width=width)
        call = f"`network` {self._path}({', '.join(f'{name}={value}' for name, value in arguments.items())})"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                model = self._function(**arguments)
            except Exception as error:
                raise UsageError(f"{call} failed: {words_of(error)}") from error
            if not isinstance(model, nn.Module):
                raise UsageError(f"{call} must return a torch.nn.Module, got {type(model).__name__}")
            check_scores(model, call, image_shape=self._image_shape, classes=self._classes)
        return model

    def build_largest(self) -> nn.Module:
        """Build the largest network, from a fixed seed."""
        return self.build(**LARGEST, seed=0)


def _parameters(function: Callable[..., Any], path: str, *, sized: bool) -> Collection[str]:
    """Return the names by which a function is called."""
    if isinstance(function, type) and vars(nn.Module)["__init__"] is inspect.getattr_static(function, "__init__"):
        return ()  # nn.Module's own __init__ takes any arguments by its signature, and then refuses them
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise UsageError(f"`network` {path}: Python does not know its arguments; {_WANTED}") from None
    known = ("image_shape", "classes", "num_classes", *(LARGEST if sized else ()))
    takes = {name for name, one in signature.parameters.items() if name in known and one.kind in _BY_NAME}
    kinds = {one.kind for one in signature.parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds and not takes & {"classes", "num_classes"}:
        takes.add("num_classes")
    try:
        signature.bind(**dict.fromkeys(takes))
    except TypeError:
        needed = [
            name
            for name in LARGEST
            if not sized
            and name in signature.parameters
            and signature.parameters[name].default is inspect.Parameter.empty
        ]
        if needed:
            raise UsageError(
                f"`network` {path} needs {' and '.join(needed)}, which trained weights leave no choice of; give "
                f"{'them defaults' if len(needed) > 1 else 'it a default'}"
            ) from None
        raise UsageError(f"`network` {path} takes {signature}; {_WANTED}") from None
    return takes
