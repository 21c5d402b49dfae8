"""Whether a network classifies the images of a task and can be approximated, with reasons in the user's terms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import approx
from search.errors import UsageError
from search.images.python_path import words_of

_CONVERTED_IMAGES = 4
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


def check_scores(model: nn.Module, given: str, *, image_shape: tuple[int, int, int], classes: int) -> None:
    """Run a network on one image, which gives lazy layers their shape, and check what it returns.

    Args:
        model: The network; it is put in evaluation mode.
        given: What it is called in messages, such as "`network` nets:build".
        image_shape: Channels, height and width of an image.
        classes: Number of classes.

    Raises:
        UsageError: If it fails, or its output is not one score for each class.
    """
    channels, height, width = image_shape
    images = f"images of {channels}x{height}x{width} (channels, height, width)"
    with _calls(model) as calls:
        try:
            with torch.no_grad():
                scores = approx.scores_of(model.eval()(torch.zeros(1, *image_shape)))
        except approx.ArgumentError as error:
            raise UsageError(f"{given}: {error}") from error
        except Exception as error:
            if misfit := _misfit(calls, channels):
                raise UsageError(f"{given} does not fit {images}: {misfit}") from error
            raise UsageError(f"{given} fails on {images}: {words_of(error)}") from error
    if not isinstance(scores, Tensor) or scores.shape != (1, classes):
        found = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise UsageError(
            f"{given}: its output for one image must be a tensor of shape {(1, classes)}, a score for each "
            f"of {classes} classes, got {found}"
        )


def check_approximable(model: nn.Module, given: str, *, image_shape: tuple[int, int, int]) -> None:
    """Check that a network can be converted to approximate hardware.

    Args:
        model: The network; it is not changed.
        given: What it is called in messages.
        image_shape: Channels, height and width of an image.

    Raises:
        UsageError: If it cannot.
    """
    config = approx.LayerApproximation(weight_bits=8, activation_bits=8, multiplier="exact")
    images = torch.rand(_CONVERTED_IMAGES, *image_shape, generator=torch.Generator().manual_seed(0))
    try:
        approx.approximate(model, config, calibration_data=images)
    except approx.ConversionError as error:
        raise UsageError(
            f"{given} cannot be approximated: {error.problem}. A search converts every layer that runs: use Conv1d, "
            "Conv2d, ConvTranspose2d, Linear and MultiheadAttention, called as modules"
        ) from error
    except approx.ApproxError as error:
        raise UsageError(f"{given} cannot be approximated: {error}") from error
    except Exception as error:  # it cannot be copied, or its own code fails
        raise UsageError(f"{given} cannot be approximated: {words_of(error)}") from error


@contextmanager
def _calls(model: nn.Module) -> Iterator[list[tuple[str, nn.Module, torch.Size]]]:
    """Record each call of a layer whose weights fix the shape of its input: its name, itself, and that shape."""
    calls: list[tuple[str, nn.Module, torch.Size]] = []

    def recording(name: str) -> Any:
        def record(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], Tensor):
                calls.append((name, layer, inputs[0].shape))

        return record

    hooks = [
        layer.register_forward_pre_hook(recording(name))
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, *_CONVOLUTIONS))
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _misfit(calls: list[tuple[str, nn.Module, torch.Size]], channels: int) -> str | None:
    """Say which input the last layer that was called takes, if it got another one."""
    if not calls:
        return None
    name, layer, shape = calls[-1]
    if isinstance(layer, nn.Linear):
        takes, gets, what = layer.in_features, shape[-1] if shape else 0, "value"
    elif isinstance(layer, _CONVOLUTIONS):
        takes, gets, what = layer.in_channels, shape[1] if len(shape) > 1 else 0, "channel"
    else:
        return None
    if takes == gets:
        return None
    first = "first " if len(calls) == 1 else ""
    whose = f"its {first}layer {name!r}" if name else "it"
    wanted = f"{takes} {what}{'' if takes == 1 else 's'}"
    told = f"{whose} takes {wanted} and gets {gets}"
    if first and what == "channel" and gets == channels:
        return f"{told}; give images of {wanted}, or a network whose first layer takes {gets}"
    return f"{told}; resize the images with `image_size`, or give a network that is made for them"
