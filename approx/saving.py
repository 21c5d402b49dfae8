"""A converted model as files: to go on with here, and to build hardware from elsewhere. No pickle.

    config.json            how the network is built and how each layer computes; what every file is, with its SHA-256
    state.safetensors      the state dict of the model
    codes.safetensors      per layer: weight codes, scales and bias, as the hardware holds them
    multipliers.npz        what each multiplier computes
    fault_map.safetensors  per layer with a faulty memory: the bits that one chip inverts
    network.onnx           the network in QDQ form; see `approx.onnx_export`

The float network is built anew by a function, the layers are put in their places, and the state is loaded into them.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from approx.config import FaultyMemory, LayerApproximation
from approx.convert import FoldedBatchNorm, WeightLayer, approx_layers, build_layer, replace_everywhere, split_attention
from approx.errors import ApproxError, ArgumentError, SavedModelError
from approx.modules import ApproxLayer
from approx.multiplier import MAX_TABLE_BITS, Multiplier
from approx.onnx_export import equal_in_onnx, to_onnx

FORMAT = "crosslayer model"
FORMAT_VERSION = 1
_CONFIG, _STATE, _CODES = "config.json", "state.safetensors", "codes.safetensors"
_MULTIPLIERS, _FAULTS, _ONNX = "multipliers.npz", "fault_map.safetensors", "network.onnx"
_MEANING = {
    _STATE: "the state dict of the model that approx.load gives back",
    _CODES: (
        "NAME.weight_codes: signed integers, shape (outputs, inputs / groups, kernel height, kernel width) or "
        "(outputs, inputs), those of a transposed convolution as of the convolution it amounts to; NAME.weight_scale: "
        "per output; NAME.activation_scale; NAME.bias: real-valued. An output is sum(multiplier(activation code, "
        "weight code)) x weight_scale x activation_scale + bias; an activation code is round(value / "
        "activation_scale), clipped"
    ),
    _MULTIPLIERS: (
        "NAME.table: product of [activation code, weight code], codes as unsigned indices, signed codes modulo 2^bits; "
        "above 8 bits NAME.weight_recoding and NAME.activation_recoding: what is multiplied exactly for each code"
    ),
    _FAULTS: "NAME: per stored weight code, the bits that this chip inverts; bit i has the value 2^i",
    _ONNX: "the network in QDQ form, whose products are exact",
}


def save(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    builder: str,
    arguments: Mapping[str, Any],
    example_input: Tensor,
    chip_seed: int = 0,
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a converted model to a folder, which appears whole or not at all.

    Args:
        model: From `approximate`.
        folder: Where to.
        builder: Import path of the function that builds the network before its conversion, `package.module:function`,
            such as `approx:build_named_network`.
        arguments: What it is called with, by name: JSON values, of which lists reach it as tuples.
        example_input: A batch of network inputs, for tracing.
        chip_seed: The chip whose faults are written as an example.
        facts: JSON values that are kept with the model.
        overwrite: Whether a model that was saved there before is replaced.

    Raises:
        ArgumentError: If the model has no approximate layer, the builder does not build a network of its kind, ONNX
            cannot express it, or the folder is in use.
    """
    target = Path(folder)
    check_target(target, overwrite)
    layers = dict(approx_layers(model))
    if not layers:
        raise ArgumentError("the model has no approximate layer; convert it with approximate() first")
    multipliers = {layer.multiplier.digest: layer.multiplier for layer in layers.values()}
    names = _multiplier_names(multipliers)
    state = {name: _owned(value) for name, value in model.state_dict().items()}
    plan = {
        "builder": builder,
        "arguments": dict(arguments),
        "folded": [name for name, module in model.named_modules() if isinstance(module, FoldedBatchNorm)],
        "layers": {name: _layer_plan(layer, names[layer.multiplier.digest]) for name, layer in layers.items()},
        "multipliers": {names[digest]: _multiplier_plan(one) for digest, one in multipliers.items()},
    }
    proto = to_onnx(model, example_input=example_input)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        (partial / _STATE).write_bytes(bytes_of(state))
        (partial / _CODES).write_bytes(bytes_of(_codes(layers), metadata=_codes_metadata(layers)))
        tables = {key: one for digest, kept in multipliers.items() for key, one in _tables(names[digest], kept).items()}
        np.savez_compressed(partial / _MULTIPLIERS, allow_pickle=False, **tables)
        faults = _fault_maps(layers, chip_seed)
        (partial / _FAULTS).write_bytes(bytes_of(faults, metadata={"chip_seed": str(chip_seed)}))
        (partial / _ONNX).write_bytes(proto.SerializeToString(deterministic=True))
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "crosslayer": _own_version(),
            "torch": torch.__version__,
            **plan,
            "onnx_equals_model": equal_in_onnx(model),
            "files": {name: {"sha256": _sha256(partial / name), "meaning": _MEANING[name]} for name in _MEANING},
            "facts": dict(facts or {}),
        }
        (partial / _CONFIG).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        _loaded(partial)  # a model that could not be loaded again is not saved
        if target.exists():
            shutil.rmtree(target)
        partial.replace(target)
    except SavedModelError as error:
        raise ArgumentError(f"the model would not load again: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(folder: str | os.PathLike[str]) -> nn.Module:
    """The model that was saved in a folder, equal to the bit, on a chip whose memories are perfect.

    The function that builds the network is imported and called: load only what you trust.

    Raises:
        SavedModelError: If the folder does not hold a saved model, a file is missing or damaged, a newer release wrote
            it, or the network cannot be built here.
    """
    return _loaded(Path(folder))


def saved_facts(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save` was given to be kept with a model.

    Raises:
        SavedModelError: As for `load`.
    """
    found: dict[str, Any] = _config(Path(folder))["facts"]
    return found


def _loaded(folder: Path) -> nn.Module:
    content = _config(folder)
    for name, about in content["files"].items():
        if not (folder / name).is_file():
            raise SavedModelError(f"{folder} lacks {name}; export the model again")
        if _sha256(folder / name) != about["sha256"]:
            raise SavedModelError(f"{folder / name} is damaged: its SHA-256 is not that in {_CONFIG}; export it again")
    try:
        state = tensors_of((folder / _STATE).read_bytes())
    except SafetensorError as error:
        raise SavedModelError(f"{folder / _STATE} cannot be read: {error}") from error
    with np.load(folder / _MULTIPLIERS, allow_pickle=False) as tables:
        multipliers = {
            name: _multiplier(name, about, {key: tables[key] for key in tables.files})
            for name, about in content["multipliers"].items()
        }
    model = split_attention(_built(content["builder"], content["arguments"], folder)).eval()
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
                LayerApproximation.from_dict(about["config"]),
                activation_signed=about["activation_signed"],
                multiplier=multipliers[about["multiplier"]],
            )
            replacement.weight_memory = _memory(about["weight_memory"])
            replacement.activation_memory = _memory(about["activation_memory"])
            model = replace_everywhere(model, layer, replacement)
        model.load_state_dict(state)
    except (ApproxError, AttributeError, KeyError, RuntimeError) as error:
        raise SavedModelError(
            f"{content['builder']} builds another network than the one in {folder}: {' '.join(str(error).split())}"
        ) from error
    return model.eval()


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a folder that a model cannot be saved in.

    Raises:
        ArgumentError: If it holds something else, or a model that is not to be overwritten.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        _config(target)
    except SavedModelError:
        raise ArgumentError(f"{target} exists and is not a saved model; choose another folder") from None
    if not overwrite:
        raise ArgumentError(f"a model is saved in {target} already; choose another folder, or overwrite it")


def _config(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / _CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise SavedModelError(f"{folder} is not a saved model: no {_CONFIG} can be read in it ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SavedModelError(f"{folder} is not a saved model: its {_CONFIG} is something else's")
    if content["version"] != FORMAT_VERSION:
        raise SavedModelError(
            f"{folder} was written by crosslayer {content.get('crosslayer')} in version {content['version']} of the "
            f"format; this release knows {FORMAT_VERSION}"
        )
    return content


def _built(builder: str, arguments: Mapping[str, Any], folder: Path) -> nn.Module:
    module_name, _, name = builder.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SavedModelError(
            f"the network in {folder} is built by {builder}, which cannot be imported here ({error}); put the folder "
            "that holds it on Python's path, such as by PYTHONPATH"
        ) from error
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    try:
        with torch.random.fork_rng(devices=[]):
            model = function(**given)
    except Exception as error:  # the network's own code
        raise SavedModelError(f"{builder}({given}) failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise SavedModelError(f"{builder} must return a torch.nn.Module, got {type(model).__name__}")
    return model


def _fit_shapes(model: nn.Module, state: Mapping[str, Tensor], layers: Mapping[str, Any]) -> None:
    """Give parameters the shapes they were saved with: channels may be pruned, biases come from folded BatchNorms."""
    for name, about in layers.items():
        layer = model.get_submodule(name)
        shape, groups = about["weight_shape"], about["groups"]
        if isinstance(layer, nn.ConvTranspose2d):  # (inputs, outputs / groups, ...); saved as a convolution's
            shape = [shape[1] * groups, shape[0] // groups, *shape[2:]]
        if not isinstance(layer, nn.Linear):
            layer.groups = groups
        if layer.weight.shape != torch.Size(shape):
            layer.weight = nn.Parameter(torch.zeros(shape))
        if about["bias"]:
            layer.bias = nn.Parameter(torch.zeros(about["weight_shape"][0]))
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        saved = state.get(name)
        if saved is not None and saved.shape != tensor.shape and name.rpartition(".")[0] not in layers:
            owner, _, attribute = name.rpartition(".")
            fresh = torch.zeros_like(saved)
            is_parameter = isinstance(tensor, nn.Parameter)
            setattr(model.get_submodule(owner), attribute, nn.Parameter(fresh) if is_parameter else fresh)


def _layer_plan(layer: ApproxLayer, multiplier: str) -> dict[str, Any]:
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


def _memory(content: Mapping[str, Any] | None) -> FaultyMemory | None:
    return None if content is None else FaultyMemory(**content)


def _codes(layers: Mapping[str, ApproxLayer]) -> dict[str, Tensor]:
    tensors = {}
    with torch.no_grad():
        for name, layer in layers.items():
            prefix = f"{name}." if name else ""
            narrow = layer.config.weight_bits <= 8
            tensors[f"{prefix}weight_codes"] = layer.stored_codes().to(torch.int8 if narrow else torch.int16)
            tensors[f"{prefix}weight_scale"] = layer.learned_weight_scale
            tensors[f"{prefix}activation_scale"] = layer.learned_activation_scale
            if layer.bias is not None:
                tensors[f"{prefix}bias"] = layer.bias
        return {name: _owned(tensor) for name, tensor in tensors.items()}


def _codes_metadata(layers: Mapping[str, ApproxLayer]) -> dict[str, str]:
    return {
        name or "model": json.dumps(
            {
                "weight_bits": layer.config.weight_bits,
                "activation_bits": layer.config.activation_bits,
                "activation_signed": layer.activation_signed,
                "multiplier": layer.multiplier.name,
            }
        )
        for name, layer in layers.items()
    }


def _fault_maps(layers: Mapping[str, ApproxLayer], chip_seed: int) -> dict[str, Tensor]:
    maps = {}
    for name, layer in layers.items():
        faults = layer.weight_faults(name, chip_seed)
        if faults is not None:
            inverted = faults.only(layer.mask).dense().reshape(layer.weight.shape)
            maps[name or "model"] = inverted.to(torch.int16)
    return maps


def _multiplier_names(multipliers: Mapping[str, Multiplier]) -> dict[str, str]:
    """Digest -> a name that says what the operands are, different for different multipliers."""
    names: dict[str, str] = {}
    for digest, one in multipliers.items():
        name = f"{one.name}_w{one.weight_bits}a{one.activation_bits}{'s' if one.activation_signed else 'u'}"
        names[digest] = f"{name}_{digest[:8]}" if name in names.values() else name
    return names


def _multiplier_plan(multiplier: Multiplier) -> dict[str, Any]:
    return {
        "name": multiplier.name,
        "weight_bits": multiplier.weight_bits,
        "activation_bits": multiplier.activation_bits,
        "weight_signed": multiplier.weight_signed,
        "activation_signed": multiplier.activation_signed,
        "constrains_weights": multiplier.constrains_weights,
        "provenance": multiplier.provenance,
        "sha256": multiplier.digest,
    }


def _tables(name: str, multiplier: Multiplier) -> dict[str, np.ndarray[Any, Any]]:
    tables = {}
    if max(multiplier.weight_bits, multiplier.activation_bits) <= MAX_TABLE_BITS:
        tables["table"] = multiplier.table()
    if multiplier.weight_recoding is not None:
        tables["weight_recoding"] = multiplier.weight_recoding
    if multiplier.activation_recoding is not None:
        tables["activation_recoding"] = multiplier.activation_recoding
    return {f"{name}.{kind}": table.numpy() for kind, table in tables.items()}


def _multiplier(name: str, about: Mapping[str, Any], tables: Mapping[str, np.ndarray[Any, Any]]) -> Multiplier:
    def table(kind: str) -> Tensor | None:
        found = tables.get(f"{name}.{kind}")
        return None if found is None else torch.from_numpy(found)

    recoding = table("weight_recoding")
    multiplier = Multiplier(
        name=about["name"],
        weight_bits=about["weight_bits"],
        activation_bits=about["activation_bits"],
        weight_signed=about["weight_signed"],
        activation_signed=about["activation_signed"],
        lut=table("table") if recoding is None else None,
        weight_recoding=recoding,
        activation_recoding=table("activation_recoding"),
        constrains_weights=about["constrains_weights"],
        provenance=about["provenance"],
    )
    if multiplier.digest != about["sha256"]:
        raise SavedModelError(f"the multiplier {name} in {_MULTIPLIERS} is not the one that was saved")
    return multiplier


def _owned(tensor: Tensor) -> Tensor:
    """A copy that shares its memory with nothing: layers may be known under several names."""
    return tensor.detach().cpu().contiguous().clone()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _own_version() -> str:
    try:
        return version("crosslayer")
    except PackageNotFoundError:
        return "unknown"
