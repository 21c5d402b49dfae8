"""Rebuilding a converted model from its structure, its state and a description of its layers.

Nothing of the code that the network was written in is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from approx.config import FaultyMemory, LayerApproximation
from approx.convert import build_layer
from approx.errors import ApproxError, ArgumentError, SavedModelError
from approx.layer import ApproxLayer
from approx.modules import ApproxConv1d, ApproxConv2d, ApproxConvTranspose2d, ApproxLinear, geometry
from approx.multipliers.multiplier import Multiplier
from approx.multipliers.saved_multipliers import MultiplierKey, multiplier_key
from approx.structure import SavedNetwork
from approx.surgery import WeightLayer, approx_layers, use_pooling_kernel

DESCRIPTION_KEYS = frozenset({"structure", "layers", "buffers", "shared", "frozen"})
_KINDS: dict[str, type[ApproxLayer]] = {
    "Linear": ApproxLinear,
    "Conv1d": ApproxConv1d,
    "Conv2d": ApproxConv2d,
    "ConvTranspose2d": ApproxConvTranspose2d,
}


def description(
    model: nn.Module, structure: Mapping[str, Any], multiplier_names: Mapping[MultiplierKey, str]
) -> dict[str, Any]:
    """What a model is made of beside its tensors, as a JSON object.

    Args:
        model: From `approximate`.
        structure: Its structure.
        multiplier_names: Names of its multipliers in the description.
    """
    return {**frame_description(model, structure), "layers": layers_description(model, multiplier_names)}


def frame_description(model: nn.Module, structure: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a `description` that all conversions of a network share."""
    layers, used = dict(approx_layers(model)), used_tensors(structure)
    buffers = dict(model.named_buffers(remove_duplicate=False))
    return {
        "structure": structure,
        "buffers": [name for name in used if name in buffers],
        "shared": _shared_parameters(model, layers, used),
        "frozen": [name for name, parameter in model.named_parameters() if not parameter.requires_grad],
    }


def layers_description(model: nn.Module, multiplier_names: Mapping[MultiplierKey, str]) -> dict[str, Any]:
    """The part of a `description` that says how each layer computes: layer name -> JSON object."""
    return {
        name: _layer_description(layer, multiplier_names[multiplier_key(layer.multiplier)])
        for name, layer in approx_layers(model)
    }


def state_of(model: nn.Module, structure: Mapping[str, Any], constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a model that its structure needs.

    Args:
        model: From `approximate`.
        structure: Its structure.
        constants: From `structure_of`.
    """
    state = {f"{name}." if name else "": layer.state_dict() for name, layer in approx_layers(model)}
    found = {f"{prefix}{name}": value for prefix, values in state.items() for name, value in values.items()}
    known = {**all_tensors(model), **constants}
    return found | {name: known[name] for name in used_tensors(structure)}


def all_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers of a model, under all of their names."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def rebuilt(
    content: Mapping[str, Any], state: Mapping[str, Tensor], multipliers: Mapping[str, Multiplier]
) -> nn.Module:
    """The model from its `description` and its state.

    Args:
        content: The description.
        state: From `state_of`.
        multipliers: Name in the description -> multiplier.

    Raises:
        SavedModelError: If the description is not known here, or the state does not fit it.
    """
    configs = {name: _layer_config(name, about) for name, about in content["layers"].items()}
    try:
        layers = {
            name: _layer(about, configs[name], multipliers[about["multiplier"]])
            for name, about in content["layers"].items()
        }
        of_layers = {f"{name}.{part}" for name, layer in layers.items() for part in layer.state_dict()}
        others = {name: state[name].clone() for name in used_tensors(content["structure"]) if name not in of_layers}
        buffers = {name for name in others if name in content["buffers"] or name.startswith("constants.")}
        model: nn.Module
        if "" in layers:
            model = layers[""]
        else:
            model = SavedNetwork(
                content["structure"],
                layers,
                {name: nn.Parameter(value) for name, value in others.items() if name not in buffers},
                {name: others[name] for name in buffers},
            )
        for name, first in content["shared"].items():
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, model.get_parameter(first))
        model.load_state_dict(dict(state))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in content["frozen"])
    except SavedModelError:
        raise
    except (ApproxError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise SavedModelError(
            f"its files do not fit each other ({type(error).__name__}: {' '.join(str(error).split())}); export the "
            "model again"
        ) from error
    use_pooling_kernel(model)
    return model.eval()


def used_tensors(structure: Mapping[str, Any]) -> list[str]:
    """Names of the tensors that a structure takes beside those of its layers."""
    return [node["tensor"] for node in structure["nodes"] if "tensor" in node]


def _layer_description(layer: ApproxLayer, multiplier: str) -> dict[str, Any]:
    return {
        "kind": next(name for name, kind in _KINDS.items() if type(layer) is kind),
        "config": layer.config.to_dict(),
        "activation_signed": layer.activation_signed,
        "bias": layer.bias is not None,
        "weight_shape": list(layer.weight.shape),
        "groups": layer.groups,
        "padding_mode": getattr(layer, "padding_mode", "zeros"),
        **{name: list(value) for name, value in asdict(geometry(layer)).items() if name not in ("outputs", "kernel")},
        "multiplier": multiplier,
        "weight_memory": None if layer.weight_memory is None else asdict(layer.weight_memory),
        "activation_memory": None if layer.activation_memory is None else asdict(layer.activation_memory),
    }


def _layer_config(name: str, about: Mapping[str, Any]) -> LayerApproximation:
    try:
        return LayerApproximation.from_dict(about["config"])
    except (ArgumentError, KeyError) as error:
        raise SavedModelError(f"layer {name!r} cannot be rebuilt: {error}") from error


def _layer(about: Mapping[str, Any], config: LayerApproximation, multiplier: Multiplier) -> ApproxLayer:
    """A layer of a description, without its values."""
    outputs, inputs, *kernel = about["weight_shape"]
    groups, bias = about["groups"], about["bias"]
    if about["kind"] not in _KINDS:
        raise SavedModelError(f"a layer is of kind {about['kind']!r}, which this release does not know")
    plain: WeightLayer
    if about["kind"] == "Linear":
        plain = nn.Linear(inputs, outputs, bias)
    else:
        torchs = {"Conv1d": nn.Conv1d, "Conv2d": nn.Conv2d, "ConvTranspose2d": nn.ConvTranspose2d}[about["kind"]]
        stride = about["upsampling" if about["kind"] == "ConvTranspose2d" else "stride"]
        plain = torchs(
            inputs * groups,
            outputs,
            tuple(kernel),
            stride=tuple(stride),
            dilation=tuple(about["dilation"]),
            groups=groups,
            bias=bias,
            padding_mode=about["padding_mode"],
        )
    layer = build_layer(plain, config, activation_signed=about["activation_signed"], multiplier=multiplier)
    if not isinstance(layer, ApproxLinear):
        layer.pad = tuple(about["pad"])  # type: ignore[assignment]
    layer.weight_memory = _memory(about["weight_memory"])
    layer.activation_memory = _memory(about["activation_memory"])
    return layer


def _memory(content: Mapping[str, Any] | None) -> FaultyMemory | None:
    return None if content is None else FaultyMemory(**content)


def _shared_parameters(model: nn.Module, layers: Mapping[str, ApproxLayer], used: list[str]) -> dict[str, str]:
    """Name of a parameter -> the first name of the same parameter, of those that are saved."""
    first: dict[int, str] = {}
    shared = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in used or name.rpartition(".")[0] in layers:
            if id(parameter) in first:
                shared[name] = first[id(parameter)]
            first.setdefault(id(parameter), name)
    return shared
