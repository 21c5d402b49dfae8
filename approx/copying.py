"""Copies of networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from approx.errors import ArgumentError

Model = TypeVar("Model", bound=nn.Module)


def copied(model: Model) -> Model:
    """Return a copy of a network that shares nothing with it, also if it holds results of its forward pass.

    Raises:
        ArgumentError: If it cannot be copied, or some of its parameters have no shape yet.
    """
    if lazy := [name for name, one in model.named_parameters() if is_lazy(one)]:
        raise ArgumentError(
            f"parameter {lazy[0]!r} of the network has no shape yet, because its layer is lazy; run the network once"
        )
    try:
        with _CopiedResults():
            return copy.deepcopy(model)
    except Exception as error:  # of whatever a network holds
        raise ArgumentError(
            f"the network cannot be copied, because something that it holds cannot: {type(error).__name__}: {error}"
        ) from error


class _CopiedResults(TorchFunctionMode):
    """Copies tensors that were computed, which torch otherwise refuses, without what computed them."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return function(*args, **(kwargs or {}))
