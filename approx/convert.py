"""From a trained network to one that computes as approximate hardware would."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from approx.errors import ArgumentError
from approx.memory import fault_mask
from approx.modules import ApproxConv2d, ApproxLayer, ApproxLinear, LayerApproximation


def weight_layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    """The layers that can be approximated, with their names, in the order of `named_modules`."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield name, module


def approx_layers(model: nn.Module) -> Iterator[tuple[str, ApproxLayer]]:
    """The approximate layers of a converted model, with their names."""
    for name, module in model.named_modules():
        if isinstance(module, ApproxLayer):
            yield name, module


def approximate(
    model: nn.Module,
    config: LayerApproximation,
    *,
    calibration_data: Tensor,
    masks: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """A copy of `model` whose Conv2d and Linear layers compute on integer codes with an approximate multiplier.

    Args:
        model: The trained network; left as it is.
        config: How every layer computes.
        calibration_data: A batch of network inputs from which activation scales are set.
        masks: Layer name -> bool mask of its weight, as from `magnitude_masks`; missing layers are dense.

    Returns:
        The converted copy, in evaluation mode, on a chip without faults.

    Raises:
        ArgumentError: If a convolution pads otherwise than with a number of zeros, a mask does not fit its layer, or
            the network has nothing to approximate.
        UnknownNameError: If the multiplier is unknown.
    """
    masks = dict(masks or {})
    converted = copy.deepcopy(model).eval()
    layers = dict(weight_layers(converted))
    if not layers:
        raise ArgumentError("the model has no Conv2d or Linear layer to approximate")
    if unknown := sorted(masks.keys() - layers.keys()):
        raise ArgumentError(f"mask for {unknown[0]!r}, but the layers are {', '.join(layers)}")
    inputs = _layer_inputs(converted, layers, calibration_data)
    for name, layer in layers.items():
        mask = masks.get(name, torch.ones_like(layer.weight, dtype=torch.bool))
        if mask.shape != layer.weight.shape:
            raise ArgumentError(
                f"layer {name!r}: mask has shape {tuple(mask.shape)}, its weight {tuple(layer.weight.shape)}"
            )
        replacement: ApproxLayer
        if isinstance(layer, nn.Conv2d):
            _check_convolution(name, layer)
            replacement = ApproxConv2d(layer, config, mask=mask, calibration_inputs=inputs[name])
        else:
            replacement = ApproxLinear(layer, config, mask=mask, calibration_inputs=inputs[name])
        converted.set_submodule(name, replacement)
    return converted.eval()


def set_faults(model: nn.Module, *, bit_error_rate: float, robust_bits: int, chip_seed: int) -> None:
    """Put the model's weights into the memory of one chip, in place.

    Pruned weights are not stored and cannot fail. Codes are stored in two's complement.

    Args:
        model: From `approximate`.
        bit_error_rate: Probability that a 6T bit fails; 0 gives back the perfect chip.
        robust_bits: How many top bits of each weight never fail.
        chip_seed: Names the chip: the same seed gives the same failing cells at every rate.
    """
    generator = torch.Generator().manual_seed(chip_seed)
    for _, layer in approx_layers(model):
        bits = layer.config.weight_bits
        layer.faults = layer.mask * fault_mask(
            layer.weight.shape,
            bits=bits,
            bit_error_rate=bit_error_rate,
            robust_bits=min(robust_bits, bits),
            generator=generator,
        )


def _layer_inputs(model: nn.Module, layers: Mapping[str, nn.Module], data: Tensor) -> dict[str, Tensor]:
    inputs: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            inputs[name] = arguments[0]

        return hook

    handles = [
        layer.register_forward_pre_hook(keep(name))  # type: ignore[arg-type]
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        model(data)
    for handle in handles:
        handle.remove()
    return inputs


def _check_convolution(name: str, layer: nn.Conv2d) -> None:
    problems = {
        f"padding {layer.padding!r}": isinstance(layer.padding, str),
        f"padding mode {layer.padding_mode!r}": layer.padding_mode != "zeros",
    }
    for problem, found in problems.items():
        if found:
            raise ArgumentError(f"layer {name!r}: a convolution with {problem} is not supported")
