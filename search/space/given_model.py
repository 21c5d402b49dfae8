"""Networks that are given as Python objects."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

import approx
from approx.copying import copied
from approx.surgery import fix_hooked_weights
from search.errors import UsageError
from search.images.python_path import LONGEST_PATH


def copied_model(model: Any) -> nn.Module:
    """Return a copy of a network on the CPU, in evaluation mode and single precision, out of what wraps it.

    Args:
        model: The network; it is not changed. Of torch.compile and of (Distributed)DataParallel, what they wrap is
            copied.

    Raises:
        UsageError: If it is no network, has no weights yet, or is of a kind that cannot be approximated.
    """
    if not isinstance(model, nn.Module):
        found = f"the class {model.__name__}" if isinstance(model, type) else f"a value of type {type(model).__name__}"
        hint = "; give a network of it" if isinstance(model, type) else ""
        hint = "; give the import path of a function as `network`" if isinstance(model, str) else hint
        raise UsageError(f"`model` must be a torch.nn.Module, got {found}{hint}")
    network = _unwrapped(model)
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise UsageError("`model` is TorchScript, which cannot be converted; give the torch.nn.Module it was made from")
    if any(True for _ in approx.approx_layers(network)):
        raise UsageError("`model` was converted by approx.approximate already; give the network as it was before")
    if any(isinstance(module, LazyModuleMixin) for module in network.modules()):
        raise UsageError("`model` has lazy layers, which have no weights yet; run it on a batch of images and train it")
    tensors = [*network.named_parameters(), *network.named_buffers()]
    if empty := [name for name, value in tensors if value.is_meta]:
        raise UsageError(f"`model` has no values in {empty[0]}, which is on the meta device; load its weights first")
    try:
        copy = copied(network).cpu().float().eval()
        fix_hooked_weights(copy)
        return copy
    except approx.ArgumentError as error:
        raise UsageError(f"`model` {str(error).removeprefix('the network ')}") from error


def model_path(model: nn.Module) -> str:
    """Return what a network is called: the name of its class, with the module's."""
    return f"{type(model).__module__}.{type(model).__qualname__}"[-LONGEST_PATH:]


def _unwrapped(model: nn.Module) -> nn.Module:
    while True:
        inner = getattr(model, "_orig_mod", None)  # of torch.compile
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner
