"""Rebuilding a converted model from its state and a description, without calibration.

A function builds the network as it was before its conversion; its layers are then replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from approx.config import FaultyMemory, LayerApproximation
from approx.convert import build_layer
from approx.custom_modules import import_custom_module
from approx.errors import ApproxError, ArgumentError, SavedModelError
from approx.layer import ApproxLayer
from approx.multipliers.multiplier import Multiplier
from approx.multipliers.saved_multipliers import MultiplierKey, multiplier_key
from approx.surgery import (
    FoldedBatchNorm,
    WeightLayer,
    approx_layers,
    replace_everywhere,
    split_attention,
    use_pooling_kernel,
)

DESCRIPTION_KEYS = frozenset({"folded", "layers", "shared", "frozen", "non_persistent"})


def description(model: nn.Module, multiplier_names: Mapping[MultiplierKey, str]) -> dict[str, Any]:
    """How a model differs from the network that it was converted from, as a JSON object.

    Args:
        model: From `approximate`.
        multiplier_names: Names of its multipliers in the description.
    """
    return {
        "folded": [name for name, module in model.named_modules() if isinstance(module, FoldedBatchNorm)],
        "layers": {
            name: _layer_description(layer, multiplier_names[multiplier_key(layer.multiplier)])
            for name, layer in approx_layers(model)
        },
        "shared": _shared_parameters(model),
        "frozen": [name for name, parameter in model.named_parameters() if not parameter.requires_grad],
        "non_persistent": sorted(dict(model.named_buffers()).keys() - model.state_dict().keys()),
    }


def full_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict and the non-persistent buffers.

    Raises:
        ArgumentError: If the state dict contains anything but tensors.
    """
    state = {**dict(model.named_buffers()), **model.state_dict()}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ArgumentError(f"the model cannot be saved: {name!r} in its state dict is not a tensor")
    return state


def rebuilt(
    content: Mapping[str, Any], state: Mapping[str, Tensor], multipliers: Mapping[str, Multiplier]
) -> nn.Module:
    """The model from its `description` and `full_state`.

    Args:
        content: The description, the `builder` of the network with its `arguments`, and the `shape` and `type` of an
            `input`.
        state: The full state of the model.
        multipliers: Name in the description -> multiplier.

    Raises:
        SavedModelError: If the network cannot be built here, or the description does not fit it.
    """
    configs = {name: _layer_config(name, about) for name, about in content["layers"].items()}
    model = split_attention(_built(content)).eval()
    persistent = dict(state)
    try:
        _fit_shapes(model, state, content["layers"])
        for name in content["folded"]:
            replace_everywhere(model, model.get_submodule(name), FoldedBatchNorm())
        for name, about in content["layers"].items():
            layer = model.get_submodule(name)
            if not isinstance(layer, WeightLayer):
                raise SavedModelError(f"its layer {name!r} is of type {type(layer).__name__}")
            replacement = build_layer(
                layer,
                configs[name],
                activation_signed=about["activation_signed"],
                multiplier=multipliers[about["multiplier"]],
            )
            replacement.weight_memory = _memory(about["weight_memory"])
            replacement.activation_memory = _memory(about["activation_memory"])
            model = replace_everywhere(model, layer, replacement)
        for name, first in content["shared"].items():
            _set(model, name, model.get_parameter(first))
        for name in content["non_persistent"]:
            _set(model, name, persistent.pop(name))
        model.load_state_dict(persistent)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in content["frozen"])
    except (ApproxError, AttributeError, KeyError, RuntimeError) as error:
        raise SavedModelError(
            f"{content['builder']} does not build the network that was saved: {' '.join(str(error).split())}"
        ) from error
    use_pooling_kernel(model)
    return model.eval()


def _layer_description(layer: ApproxLayer, multiplier: str) -> dict[str, Any]:
    return {
        "config": layer.config.to_dict(),
        "activation_signed": layer.activation_signed,
        "bias": layer.bias is not None,
        "weight_shape": list(layer.weight.shape),
        "groups": layer.groups,
        "multiplier": multiplier,
        "weight_memory": None if layer.weight_memory is None else asdict(layer.weight_memory),
        "activation_memory": None if layer.activation_memory is None else asdict(layer.activation_memory),
    }


def _layer_config(name: str, about: Mapping[str, Any]) -> LayerApproximation:
    try:
        return LayerApproximation.from_dict(about["config"])
    except (ArgumentError, KeyError) as error:
        raise SavedModelError(f"layer {name!r} cannot be rebuilt: {error}") from error


def _memory(content: Mapping[str, Any] | None) -> FaultyMemory | None:
    return None if content is None else FaultyMemory(**content)


def _shared_parameters(model: nn.Module) -> dict[str, str]:
    """Name of a parameter -> the first name of the same parameter."""
    first: dict[int, str] = {}
    names = list(model.named_parameters(remove_duplicate=False))
    for name, parameter in names:
        first.setdefault(id(parameter), name)
    return {name: first[id(parameter)] for name, parameter in names if first[id(parameter)] != name}


def _built(content: Mapping[str, Any]) -> nn.Module:
    """The network before its conversion."""
    builder: str = content["builder"]
    module_name, _, name = builder.partition(":")
    try:
        function = getattr(import_custom_module(module_name), name)
    except Exception as error:  # the module's own code
        raise SavedModelError(
            f"the network is built by {builder}, which cannot be imported here ({type(error).__name__}: {error}); add "
            "the folder that contains it to Python's path, for example with PYTHONPATH"
        ) from error
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in content["arguments"].items()}
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model = function(**given)
            if isinstance(model, nn.Module) and any(isinstance(one, LazyModuleMixin) for one in model.modules()):
                about = content["input"]
                model.eval()(torch.zeros(1, *about["shape"], dtype=getattr(torch, about["type"])))
    except Exception as error:  # the network's own code
        raise SavedModelError(f"{builder}({given}) failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise SavedModelError(f"{builder} must return a torch.nn.Module, got {type(model).__name__}")
    return model


def _fit_shapes(model: nn.Module, state: Mapping[str, Tensor], layers: Mapping[str, Any]) -> None:
    """Give parameters the shapes they were saved with: channels may be pruned, and folded BatchNorms add biases.

    Each layer to be approximated gets separate parameters, as folding does; sharing is restored afterwards.
    """
    for name, about in layers.items():
        layer = model.get_submodule(name)
        shape, groups = about["weight_shape"], about["groups"]
        if isinstance(layer, nn.ConvTranspose2d):  # (inputs, outputs / groups, ...); saved as a convolution's
            shape = [shape[1] * groups, shape[0] // groups, *shape[2:]]
        if not isinstance(layer, nn.Linear):
            layer.groups = groups
        layer.weight = nn.Parameter(torch.zeros(shape))
        if about["bias"]:
            layer.bias = nn.Parameter(torch.zeros(about["weight_shape"][0]))
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        saved = state.get(name)
        if saved is not None and saved.shape != tensor.shape and name.rpartition(".")[0] not in layers:
            fresh = torch.zeros_like(saved)
            _set(model, name, nn.Parameter(fresh) if isinstance(tensor, nn.Parameter) else fresh)


def _set(model: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, tensor)
