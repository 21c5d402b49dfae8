"""Copies of networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from approx.errors import ArgumentError

Model = TypeVar("Model", bound=nn.Module)


def copied(model: Model) -> Model:
    """Return a copy of a network that shares nothing with it, also if it holds results of its forward pass.

    Raises:
        ArgumentError: If it cannot be copied, some of its parameters have no shape or no values yet, or torch has
            compiled it to TorchScript or quantized it, so that its layers can no longer be told.
    """
    for name, one in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(one):
            raise ArgumentError(
                f"parameter {name!r} of the network has no shape yet, because its layer is lazy; run the network once"
            )
        if one.is_meta:
            raise ArgumentError(f"{name!r} of the network has no values, as it is on the meta device; load its weights")
    for name, module in model.named_modules():
        where = f"module {name!r} of the network" if name else "the network"
        if isinstance(module, torch.jit.ScriptModule):
            raise ArgumentError(f"{where} is TorchScript; give the torch.nn.Module it was made from")
        if _is_quantized(module):
            raise ArgumentError(f"{where} was quantized by torch; give the network as it was before")
    try:
        with _CopiedResults():
            return copy.deepcopy(model)
    except Exception as error:  # of whatever a network holds
        raise ArgumentError(
            f"the network cannot be copied, because something that it holds cannot: {type(error).__name__}: {error}"
        ) from error


def _is_quantized(module: nn.Module) -> bool:
    """Whether a module is one of those with which torch.ao replaces layers to quantize them."""
    package, *parts = type(module).__module__.split(".")
    return package == "torch" and not {"quantized", "qat", "fake_quantize"}.isdisjoint(parts)


class _CopiedResults(TorchFunctionMode):
    """Copies tensors that were computed, which torch otherwise refuses, without what computed them."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return function(*args, **(kwargs or {}))
