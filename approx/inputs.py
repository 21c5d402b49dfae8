"""Inputs of networks: a tensor, several by position or by name, or what a DataLoader gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils.data import DataLoader, Dataset, IterableDataset

from approx.checks import shown
from approx.errors import ApproxError, ArgumentError
from approx.labelled_images import LabelledImages

Inputs: TypeAlias = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
Batches: TypeAlias = Inputs | Iterable[Any]  # batches may have labels beside their inputs

_LOADED = 1024  # inputs that are taken from a DataLoader, which may hold a whole data set


def run(model: nn.Module, inputs: Inputs) -> Any:
    """Return a network's output for copies of the inputs, which it may change in place.

    Raises:
        ArgumentError: If the network fails.
    """
    try:
        return called(model, like(inputs, Tensor.clone))
    except ApproxError:
        raise
    except Exception as error:  # of the network's own code
        raise ArgumentError(
            f"the network fails on {' and '.join(map(_in_words, tensors_of(inputs)))}: {type(error).__name__}: "
            f"{' '.join(str(error).split())}"
        ) from error


def called(model: nn.Module, inputs: Inputs) -> Any:
    """Return a network's output."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs)


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """Return the tensors of an input."""
    if isinstance(inputs, Tensor):
        return [inputs]
    return list(inputs.values() if isinstance(inputs, Mapping) else inputs)


def like(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """Return inputs with each tensor changed."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {name: change(one) for name, one in inputs.items()}
    return tuple(change(one) for one in inputs)


def rows_of(inputs: Inputs, rows: slice | Tensor) -> Inputs:
    """Return some of the inputs of a batch."""
    return like(inputs, lambda one: one[rows] if one.dim() else one)


def size_of(inputs: Inputs) -> int:
    """Return the number of inputs in a batch: the length of its first tensor."""
    first = tensors_of(inputs)[0]
    return len(first) if first.dim() else 1


class InOneArgument(nn.Module):
    """A network whose inputs are one argument, for which torch.export takes one batch size.

    The network's layers and parameters have names that begin with `InOneArgument.PREFIX`.
    """

    PREFIX = "network."

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Inputs) -> Any:
        """Apply the network."""
        return called(self.network, inputs)


def of_any_size(inputs: Inputs) -> tuple[Inputs, Any]:
    """Return two inputs of a batch, and the dynamic shapes by which torch.export traces batches of any size."""
    if size_of(inputs) == 1:  # torch would take a size of 1 as fixed
        inputs = like(inputs, lambda one: torch.cat([one, one]) if one.dim() else one)
    batch = Dim("batch")
    shapes = like(inputs, lambda one: {0: batch} if one.dim() else {})  # type: ignore[arg-type,return-value]
    return rows_of(inputs, slice(0, 2)), shapes


def check_inputs(name: str, value: object) -> None:
    """Reject anything but inputs of a network.

    Raises:
        ArgumentError: If it is something else.
    """
    if not _are_inputs(value):
        hint = "; convert it with torch.from_numpy(...)" if isinstance(value, np.ndarray) else ""
        raise ArgumentError(
            f"`{name}` must be a torch.Tensor, or for a network of several inputs a tuple of tensors or a mapping from "
            f"argument names to tensors, got {shown(value)}{hint}"
        )


def batches_of(model: nn.Module, data: object, name: str) -> Iterator[Inputs]:
    """Yield the inputs of batches.

    Args:
        model: The network that takes them.
        data: Inputs; or an iterable of batches. A batch is inputs, or a list or tuple that ends with labels and the
            like, if it is longer than what the network takes; of a list, as DataLoaders give, also if the network could
            do without its last element. Inputs may be a list of their own before the labels. Of a DataLoader, no more
            batches are taken than hold 1,024 inputs.
        name: The parameter, for messages.

    Raises:
        ArgumentError: If it is something else, or has no batch.
    """
    if isinstance(data, Tensor | Mapping) or (isinstance(data, tuple) and _are_inputs(data) and _takes(model, data)):
        check_inputs(name, data)
        yield _arguments(model, data, name) if isinstance(data, Mapping) else data
        return
    if not isinstance(data, Iterable) or isinstance(data, str | np.ndarray):
        raise ArgumentError(_not_batches(name, data))
    number, count = 0, 0
    for number, batch in enumerate(data, 1):
        inputs = _without_labels(model, batch, f"{name}[{number - 1}]")
        yield inputs
        count += size_of(inputs)
        if isinstance(data, DataLoader) and count >= _LOADED:
            return
    if not number:
        raise ArgumentError(f"`{name}` has no batch; pass one tensor of network inputs, or several")


def _are_inputs(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(one, str) for one in value) and _are_inputs(tuple(value.values()))
    return isinstance(value, Tensor) or (
        isinstance(value, tuple) and bool(value) and all(isinstance(one, Tensor) for one in value)
    )


def _positions(model: nn.Module) -> tuple[int, float]:
    """Return how many positional arguments a network needs, and how many it can take."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return 1, inf
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [one for one in parameters if one.kind in kinds]
    needed = sum(one.default is inspect.Parameter.empty for one in positional)
    return needed, inf if any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters) else len(positional)


def _takes(model: nn.Module, given: tuple[object, ...]) -> bool:
    """Whether a tuple is the arguments of a network, and not several batches of its only one."""
    needed, most = _positions(model)
    return max(2, needed) <= len(given) <= most


def _without_labels(model: nn.Module, batch: object, name: str) -> Inputs:
    """Return the inputs of a batch."""
    given = batch
    if isinstance(batch, list | tuple) and batch and isinstance(batch[0], list | tuple | Mapping):  # before labels
        batch = batch[0] if isinstance(batch[0], Mapping) else tuple(batch[0])
    elif isinstance(batch, list | tuple) and batch:
        needed, most = _positions(model)
        enough = len(batch) - 1 >= max(1, needed)
        has_labels = enough and (isinstance(batch, list) or len(batch) > most)
        inputs = tuple(batch[:-1] if has_labels else batch)[: int(max(1, min(most, len(batch))))]
        batch = inputs[0] if len(inputs) == 1 else inputs
    if isinstance(batch, Mapping):
        batch = _arguments(model, batch, name)
    if isinstance(batch, np.ndarray) or not _are_inputs(batch):
        raise ArgumentError(_not_batches(name, given))
    return batch  # type: ignore[return-value]


def _arguments(model: nn.Module, batch: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    """Return what of a mapping is an argument of a network."""
    parameters = inspect.signature(model.forward).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return batch
    named = {key: value for key, value in batch.items() if key in parameters}
    if batch and not named:
        raise ArgumentError(
            f"`{name}` is a mapping of {', '.join(map(repr, batch))}, none of which is an argument of the network, "
            f"whose arguments are {', '.join(parameters) or 'none'}; give tensors by these names. A network that takes "
            "a mapping in one argument has to be wrapped in one that takes tensors"
        )
    return named


def _not_batches(name: str, value: object) -> str:
    hint = ""
    if isinstance(value, np.ndarray):
        hint = "; convert it with torch.from_numpy(...)"
    elif isinstance(value, Dataset) and not isinstance(value, IterableDataset):
        hint = "; of a data set take torch.utils.data.DataLoader(data_set, batch_size=64)"
    elif isinstance(value, LabelledImages):
        hint = "; take `images.inputs(slice(0, 512))` of it"
    return (
        f"`{name}` must be network inputs, which are a tensor, a tuple of tensors or a mapping from argument names to "
        f"tensors, or an iterable of batches of them, such as a DataLoader, got {shown(value)}{hint}"
    )


def shapes_of(inputs: Inputs) -> str:
    """Return the shapes of inputs in words."""
    return ", ".join(str(tuple(one.shape)) for one in tensors_of(inputs))


def _in_words(one: Tensor) -> str:
    return f"an input of shape {tuple(one.shape)}, type {one.dtype}, on {one.device}"
