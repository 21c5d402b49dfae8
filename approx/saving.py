"""A converted model as files, for use here and for building hardware elsewhere. No pickle.

    config.json            what the network runs, in which order, and how each layer computes; every file's SHA-256
    state.safetensors      the state dict of the model
    codes.safetensors      per layer: weight codes, scales and bias, as the hardware holds them
    multipliers.npz        what each multiplier computes
    fault_map.safetensors  per layer with a faulty memory: the failed cells of one chip
    network.onnx           the network in QDQ form; see `approx.onnx_export`

`approx.rebuilding` rebuilds the model from these.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
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
from torch.utils._pytree import tree_flatten, treespec_dumps

from approx.checks import check_model, check_seed, check_type, shown
from approx.chips import use_chip
from approx.copying import copied
from approx.errors import ArgumentError, SavedModelError
from approx.inputs import Inputs, check_inputs, like, run
from approx.layer import ApproxLayer
from approx.layer_memory import stored_format, stored_words
from approx.multipliers.saved_multipliers import arrays_of, described, multiplier_key, multiplier_names, multiplier_of
from approx.onnx_export import equal_in_onnx, to_onnx
from approx.outputs import tensors_in
from approx.rebuilding import DESCRIPTION_KEYS, description, rebuilt, state_of
from approx.structure import structure_of
from approx.surgery import approx_layers

FORMAT = "crosslayer model"
FORMAT_VERSION = 2
_CONFIG, _STATE, _CODES = "config.json", "state.safetensors", "codes.safetensors"
_MULTIPLIERS, _FAULTS, _ONNX = "multipliers.npz", "fault_map.safetensors", "network.onnx"
_KEYS = {"version", "input", "multipliers", "files", "facts", *DESCRIPTION_KEYS}
_MEANING = {
    _STATE: "the state dict of the model that approx.load returns",
    _CODES: (
        "NAME.weight_codes: signed integers, shape (outputs, inputs / groups, kernel height, kernel width) or "
        "(outputs, inputs), those of a transposed convolution as of the equivalent convolution; NAME.weight_scale: "
        "per output; NAME.activation_scale; NAME.bias: real-valued. An output is sum(multiplier(activation code, "
        "weight code)) x weight_scale x activation_scale + bias; an activation code is value / activation_scale, "
        "clipped to 0 ... 2^bits - 1, or if signed to 1 - 2^(bits - 1) ... 2^(bits - 1) - 1, and rounded, halves to "
        "even. Zeros of padding and of upsampling are multiplied as others. A layer with `partial_sums` adds the "
        "products one after the other, in the order of its weight codes, to a sum of as many bits, which saturates or "
        "wraps"
    ),
    _MULTIPLIERS: (
        "NAME.table: product of [activation code, weight code], codes as unsigned indices, signed codes modulo 2^bits; "
        "above 8 bits NAME.weight_recoding and NAME.activation_recoding: the value multiplied exactly for each code"
    ),
    _FAULTS: "NAME: per stored weight code, the cells that fail on this chip, bit i with the value 2^i; they are read "
    "inverted, or, if there is NAME.stuck_at, as its bits. The header says how each layer's codes are stored",
    _ONNX: (
        "the network in QDQ form, whose products and sums are exact. On x86 CPUs without VNNI instructions ONNX "
        "Runtime is exact only with its session option session.x64quantprecision = 1"
    ),
}


def save(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    example_input: Inputs,
    chip_seed: int = 0,
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a converted model to a folder. A new folder appears complete or not at all; an existing one is filled.

    What is saved is what the model runs in evaluation mode, traced with the example. So it loads without the code of
    the network; layers that do not run are left out.

    Args:
        model: From `approximate`.
        folder: The folder.
        example_input: A batch of network inputs, for tracing: a tensor, or for a network of several inputs a tuple of
            tensors or a mapping from argument names to tensors. The loaded model takes them in the same way.
        chip_seed: The chip whose faults are written as an example.
        facts: JSON values that are kept with the model; see `saved_facts`. How inputs are made of pixels, which the
            model itself cannot say, has its place under `preprocessing`, as docs/approximation.md describes.
        overwrite: Whether to replace a model that was saved there before.

    Raises:
        ArgumentError: If the model has no approximate layer, cannot be traced for batches of any size, or would not be
            restored to the bit; ONNX cannot express it, a fact is not a JSON value, or the folder is in use.
    """
    check_model("model", model)
    check_type("folder", folder, (str, os.PathLike), "a path")
    check_inputs("example_input", example_input)
    check_type("facts", facts, (Mapping, type(None)), "a mapping or None")
    target = Path(folder).resolve()
    check_target(target, overwrite)
    check_seed("chip_seed", chip_seed)
    _check_json("facts", facts or {})
    saved = copied(model).cpu().eval()
    use_chip(saved, None)
    inputs = like(example_input, lambda one: one.detach().cpu().clone())  # tracing may change it
    layers = dict(approx_layers(saved))
    if not layers:
        raise ArgumentError("`model` has no approximate layer; convert it with approximate() first")
    _check_output(run(saved, inputs))
    multipliers = {multiplier_key(layer.multiplier): layer.multiplier for layer in layers.values()}
    names = multiplier_names(multipliers.values())
    structure, constants = structure_of(saved, inputs)
    state = {name: _owned(value) for name, value in state_of(saved, structure, constants).items()}
    plan = {
        "input": _input_description(inputs),
        **description(saved, structure, names),
        "multipliers": {names[key]: described(one) for key, one in multipliers.items()},
    }
    proto = to_onnx(saved, example_input=inputs)
    partial = _folder_beside(target)
    try:
        (partial / _STATE).write_bytes(bytes_of(state))
        (partial / _CODES).write_bytes(bytes_of(_codes(layers), metadata=_codes_metadata(layers)))
        arrays = {name: array for key, one in multipliers.items() for name, array in arrays_of(names[key], one).items()}
        np.savez_compressed(partial / _MULTIPLIERS, allow_pickle=False, **arrays)
        faults = _fault_maps(layers, chip_seed)
        (partial / _FAULTS).write_bytes(bytes_of(faults, metadata=_fault_metadata(layers, chip_seed)))
        (partial / _ONNX).write_bytes(proto.SerializeToString(deterministic=True))
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "crosslayer": _own_version(),
            "torch": torch.__version__,
            **plan,
            "onnx_equals_model": equal_in_onnx(saved),
            "files": {name: {"sha256": _sha256(partial / name), "meaning": _MEANING[name]} for name in _MEANING},
            "facts": dict(facts or {}),
        }
        (partial / _CONFIG).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        _check_equal(saved, _loaded(partial), inputs, state)
        if target.exists():  # filled, not replaced: it may be the current folder of a shell
            for name in (_CONFIG, *_MEANING):  # hashes first, so that a mixture is not taken for a model
                (partial / name).replace(target / name)
        else:
            partial.replace(target)
    except SavedModelError as error:
        raise ArgumentError(f"the model cannot be saved, because it would not be the same: {error}") from error
    except OSError as error:
        raise ArgumentError(f"the model cannot be saved in {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(folder: str | os.PathLike[str]) -> nn.Module:
    """The model that was saved in a folder, equal to the bit, on a chip whose memories are perfect.

    It runs what the saved one did in evaluation mode. Trained further, its layers and parameters change as they would
    have, but dropout and batch statistics stay as in evaluation.

    Raises:
        SavedModelError: If the folder does not contain a saved model, a file is missing or damaged, another release
            wrote it, or this version of torch lacks one of its operations.
    """
    check_type("folder", folder, (str, os.PathLike), "a path")
    return _loaded(Path(folder))


def saved_facts(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The `facts` that were saved with a model.

    Raises:
        SavedModelError: As for `load`.
    """
    check_type("folder", folder, (str, os.PathLike), "a path")
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
    with np.load(folder / _MULTIPLIERS, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    multipliers = {name: multiplier_of(name, about, arrays) for name, about in content["multipliers"].items()}
    return rebuilt(content, state, multipliers)


def check_target(target: Path, overwrite: bool) -> None:
    """Reject a folder in which a model cannot be saved.

    Raises:
        ArgumentError: If it contains something else, or a model that must not be overwritten, or cannot be made.
    """
    if not target.exists():
        _folder_beside(target).rmdir()
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    try:
        _config(target)
    except SavedModelError:
        raise ArgumentError(f"{target} exists and is not a saved model; choose another folder") from None
    if others := sorted({path.name for path in target.iterdir()} - {_CONFIG, *_MEANING}):
        raise ArgumentError(f"{target} contains {others[0]!r} besides a saved model; choose another folder")
    if not overwrite:
        raise ArgumentError(f"{target} already contains a saved model; choose another folder or set `overwrite`")


def _folder_beside(target: Path) -> Path:
    """Make an empty folder beside a folder, of a name that nobody has.

    Raises:
        ArgumentError: If it cannot be made.
    """
    try:
        folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        folder.mkdir(parents=True)
        return folder
    except OSError as error:
        raise ArgumentError(f"the model cannot be saved in {target}: {error.strerror or error}") from None


def _config(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / _CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise SavedModelError(f"{folder} is not a saved model: no {_CONFIG} can be read in it ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SavedModelError(f"{folder} is not a saved model: its {_CONFIG} describes something else")
    if content.get("version") != FORMAT_VERSION:
        raise SavedModelError(
            f"{folder} was written by crosslayer {content.get('crosslayer')} in version {content.get('version')} of "
            f"the format; this release reads version {FORMAT_VERSION}"
        )
    if missing := sorted(_KEYS - content.keys()):
        raise SavedModelError(f"{folder / _CONFIG} is damaged: it lacks {missing[0]!r}; export the model again")
    return content


def _check_json(what: str, values: Mapping[str, Any]) -> None:
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"`{what}` must be JSON values: {error}") from None


def _check_output(output: object) -> None:
    """Reject an output whose form cannot be written down."""
    leaves, form = tree_flatten(output)
    others = [leaf for leaf in leaves if not isinstance(leaf, Tensor | None)]
    try:
        treespec_dumps(form)
    except NotImplementedError:  # of a named tuple
        others.append(output)
    if others:
        raise ArgumentError(
            f"the network returns {shown(others[0])} in its output, which cannot be saved; let it return tensors, "
            "tuples, lists or dicts of them"
        )


def _input_description(inputs: Inputs) -> Any:
    """The shape and type of an input without its batch, as a JSON object; of several, in a list or by name."""
    if isinstance(inputs, Tensor):
        return {"shape": list(inputs.shape[1:]), "type": str(inputs.dtype).removeprefix("torch.")}
    if isinstance(inputs, Mapping):
        return {name: _input_description(one) for name, one in inputs.items()}
    return [_input_description(one) for one in inputs]


def _check_equal(saved: nn.Module, loaded: nn.Module, inputs: Inputs, state: Mapping[str, Tensor]) -> None:
    """Check that a model was restored to the bit: what it runs may depend on more than was traced.

    Raises:
        SavedModelError: If its state or its output differs.
    """
    if bytes_of(dict(state)) != bytes_of({name: _owned(value) for name, value in loaded.state_dict().items()}):
        raise SavedModelError("its state differs")
    outputs = []
    for model in (saved, loaded):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            run(model, inputs)  # twice, as the network may change while it runs
            leaves = tensors_in(run(model, inputs))
        outputs.append(bytes_of({str(number): _owned(leaf) for number, leaf in enumerate(leaves)}))
    if outputs[0] != outputs[1]:
        raise SavedModelError("its output for the example input differs")


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
    about = {
        name: {
            "weight_bits": layer.config.weight_bits,
            "activation_bits": layer.config.activation_bits,
            "activation_signed": layer.activation_signed,
            "multiplier": layer.multiplier.name,
            **({} if layer.config.partial_sums is None else {"partial_sums": asdict(layer.config.partial_sums)}),
        }
        for name, layer in layers.items()
    }
    return {"layers": json.dumps(about)}  # under one key: safetensors writes several keys in any order


def _fault_maps(layers: Mapping[str, ApproxLayer], chip_seed: int) -> dict[str, Tensor]:
    maps = {}
    for name, layer in layers.items():
        faults = layer.weight_faults(name, chip_seed)
        if faults is not None:
            assert layer.weight_memory is not None
            faults = faults.only(stored_words(layer.weight_memory, layer.mask))
            found = {"": faults.dense(), ".stuck_at": faults.dense_stuck_at()}
            for suffix, bits in found.items():
                if bits is not None:
                    maps[f"{name or 'model'}{suffix}"] = bits.reshape(layer.weight.shape).to(torch.int16)
    return maps


def _fault_metadata(layers: Mapping[str, ApproxLayer], chip_seed: int) -> dict[str, str]:
    storage = {
        name or "model": stored_format(layer.weight_memory, layer.multiplier.weight_format)
        for name, layer in layers.items()
        if layer.weight_memory is not None
    }
    return {"about": json.dumps({"chip_seed": chip_seed, "storage": storage}, sort_keys=True)}


def _owned(tensor: Tensor) -> Tensor:
    """A copy that shares no memory: layers may have several names."""
    return tensor.detach().cpu().contiguous().clone()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _own_version() -> str:
    try:
        return version("crosslayer")
    except PackageNotFoundError:
        return "unknown"
