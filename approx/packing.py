"""A converted model as a dictionary of tensors, as caches keep them.

Packing takes milliseconds, where `approx.save` takes a second.

What all conversions of a network share is its `Frame`: what runs, in which order. Finding it takes far longer than the
rest, so it is found once for several models, and left out of packages of networks whose frame can be found again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from approx.errors import SavedModelError
from approx.inputs import Inputs
from approx.multipliers.saved_multipliers import arrays_of, described, multiplier_key, multiplier_names, multiplier_of
from approx.rebuilding import all_tensors, frame_description, layers_description, rebuilt, state_of, used_tensors
from approx.structure import structure_of
from approx.surgery import approx_layers

_DESCRIPTION, _STATE, _MULTIPLIER = "description", "state.", "multiplier."


@dataclass(frozen=True, slots=True)
class Frame:
    """What all conversions of a network share, whatever its weights and its layers' codes.

    Attributes:
        description: From `frame_description`.
        constants: Name -> tensor that the network's code holds.
    """

    description: Mapping[str, Any]
    constants: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, example_input: Inputs) -> Frame:
        """Find the frame of a converted model.

        Raises:
            ArgumentError: If it cannot be traced for batches of any size, or does what cannot be saved.
        """
        structure, constants = structure_of(model, example_input)
        return cls(frame_description(model, structure), constants)


def packed(model: nn.Module, frame: Frame | None) -> dict[str, Tensor]:
    """Return a converted model as tensors, on a chip whose memories are perfect.

    Args:
        model: From `approximate`; it is not changed.
        frame: Its frame; None if `unpacked` is given it, because it can be found again.
    """
    layers = [layer for _, layer in approx_layers(model)]
    multipliers = {multiplier_key(layer.multiplier): layer.multiplier for layer in layers}
    names = multiplier_names(multipliers.values())
    content = {
        "layers": layers_description(model, names),
        "multipliers": {names[key]: described(one) for key, one in multipliers.items()},
        "frame": None if frame is None else frame.description,
    }
    state = all_tensors(model) if frame is None else state_of(model, frame.description["structure"], frame.constants)
    arrays = {name: array for key, one in multipliers.items() for name, array in arrays_of(names[key], one).items()}
    return {
        _DESCRIPTION: torch.from_numpy(np.frombuffer(json.dumps(content).encode(), np.uint8).copy()),
        **{f"{_STATE}{name}": tensor.detach().cpu() for name, tensor in state.items()},
        **{f"{_MULTIPLIER}{name}": torch.from_numpy(array) for name, array in arrays.items()},
    }


def unpacked(tensors: Mapping[str, Tensor], frame: Frame | None = None) -> nn.Module:
    """Return the model from its `packed`, equal to the bit, on a chip whose memories are perfect.

    Args:
        tensors: From `packed`.
        frame: The frame of a conversion of the same network, if it was packed without.

    Raises:
        SavedModelError: If they do not fit each other, or this version of torch lacks an operation of the network.
    """
    content = json.loads(tensors[_DESCRIPTION].numpy().tobytes())
    state, arrays = (
        {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for prefix in (_STATE, _MULTIPLIER)
    )
    if frame is not None:
        content["frame"], state = frame.description, {**frame.constants, **state}
    if content["frame"] is None:
        raise SavedModelError("it was packed without the frame of its network; give that as `frame`")
    about = {**content["frame"], "layers": content["layers"]}
    used, of_layers = (
        set(used_tensors(about["structure"])),
        tuple(f"{name}." if name else "" for name in about["layers"]),
    )
    multipliers = {
        name: multiplier_of(name, one, {key: array.numpy() for key, array in arrays.items()})
        for name, one in content["multipliers"].items()
    }
    needed = {name: value for name, value in state.items() if name in used or name.startswith(of_layers)}
    return rebuilt(about, needed, multipliers)
