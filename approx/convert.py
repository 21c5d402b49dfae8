"""From a trained network to one that computes as approximate hardware would."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from approx.arithmetic.ops import INT32_MAX
from approx.checks import check_model, check_names_to_tensors, check_type, shown
from approx.config import LayerApproximation, NetworkApproximation
from approx.errors import ArgumentError
from approx.layer import ApproxLayer
from approx.modules import ApproxConv2d, ApproxConvTranspose2d, ApproxLinear
from approx.multipliers.catalog import find_multiplier
from approx.multipliers.multiplier import Multiplier
from approx.observation import LayerInputs, observe
from approx.quantization import calibrate_scale, code_range, percentile_scale
from approx.surgery import (
    WeightLayer,
    fold_batch_norm,
    replace_everywhere,
    split_attention,
    use_pooling_kernel,
    weight_layers,
)


def approximate(
    model: nn.Module,
    config: LayerApproximation | NetworkApproximation,
    *,
    calibration_data: Tensor | Iterable[Tensor],
    masks: Mapping[str, Tensor] | None = None,
    multipliers: Mapping[str, Multiplier] | None = None,
) -> nn.Module:
    """A copy of `model` whose layers compute on integer codes with approximate multipliers and memories.

    Conv2d, ConvTranspose2d and Linear layers are approximated, and the projections of MultiheadAttention, which become
    its layers `query`, `key`, `value` and `out_proj`. A BatchNorm that is the only user of such a layer's output is
    folded into it. Everything else stays in floating point.

    Args:
        model: The trained network; it is not changed.
        config: How every layer computes, or how each one does.
        calibration_data: One batch of network inputs, or several, from which activation scales are set.
        masks: Layer name -> bool mask of its weight, as from `magnitude_masks`; missing layers are dense.
        multipliers: Custom multipliers by the names that `config` uses for them, in addition to the catalogue. By
            default these are the multipliers given to `register_multiplier`.

    Returns:
        The converted copy, in evaluation mode, on a chip without faults; see `use_chip`.

    Raises:
        ArgumentError: If weights are multiplied outside layers that can be approximated or a layer does not run on the
            calibration data, and the configuration does not leave it in floating point; if a mask does not fit its
            layer, a pattern matches no layer, an input of a layer is not finite, the sums of a layer could leave 32
            bits, or the network has nothing to approximate.
        UnknownNameError: If a multiplier is unknown.
    """
    check_model("model", model)
    network = _network_config(config)
    _check_calibration_data(calibration_data)
    if multipliers is not None:
        check_type("multipliers", multipliers, Mapping, "a mapping from names to approx.Multiplier")
        for name, multiplier in multipliers.items():
            check_type(f"multipliers[{name!r}]", multiplier, Multiplier, "an approx.Multiplier")
    converted = split_attention(copy.deepcopy(model).eval())
    use_pooling_kernel(converted)
    layers = dict(weight_layers(converted))
    masks = {} if masks is None else masks
    _check_masks(masks, layers)
    norms = {
        name: module
        for name, module in converted.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        and type(module).forward is nn.BatchNorm2d.forward
        and module.running_mean is not None
    }
    seen = observe(converted, layers, norms, calibration_data)
    configs = _layer_configs(network, layers, list(seen.inputs), seen.other_weights)
    with torch.no_grad():
        for name, layer_config in configs.items():
            if name in seen.foldable and layer_config is not None:
                fold_batch_norm(converted, name, seen.foldable[name])
            if layer_config is not None:
                inputs = seen.inputs[name]
                replacement = _calibrated(name, layers[name], layer_config, inputs, masks.get(name), multipliers)
                if problem := _sums_problem(replacement):
                    if network.leave_unsupported:
                        continue
                    raise ArgumentError(
                        f"layer {name!r}: {problem}. Use fewer bits, or leave it in floating point with "
                        f"overrides={{{name!r}: None}} or leave_unsupported=True in a NetworkApproximation"
                    )
                converted = replace_everywhere(converted, layers[name], replacement)
    return converted.eval()


def build_layer(
    layer: WeightLayer,
    config: LayerApproximation,
    *,
    activation_signed: bool,
    multiplier: Multiplier,
    mask: Tensor | None = None,
) -> ApproxLayer:
    """The approximate form of a layer, not calibrated.

    Args:
        layer: The layer, whose parameters become those of the approximate layer.
        config: How it computes.
        activation_signed: Whether activation codes are signed.
        multiplier: A multiplier for these operands.
        mask: bool, shape of the layer's weight; dense if None.
    """
    if isinstance(layer, nn.Conv2d):
        return ApproxConv2d(layer, config, activation_signed=activation_signed, multiplier=multiplier, mask=mask)
    if isinstance(layer, nn.ConvTranspose2d):
        return ApproxConvTranspose2d(
            layer, config, activation_signed=activation_signed, multiplier=multiplier, mask=mask
        )
    return ApproxLinear(
        layer.weight, layer.bias, config, activation_signed=activation_signed, multiplier=multiplier, mask=mask
    )


def _network_config(config: LayerApproximation | NetworkApproximation) -> NetworkApproximation:
    hint = ""
    if isinstance(config, Mapping):
        hint = "build one with approx.LayerApproximation(**config), or LayerApproximation.from_dict if it was saved"
    elif isinstance(config, str | Multiplier):
        hint = "name the multiplier in one: approx.LayerApproximation(multiplier=...)"
    check_type(
        "config",
        config,
        (LayerApproximation, NetworkApproximation),
        "an approx.LayerApproximation or approx.NetworkApproximation",
        hint,
    )
    return config if isinstance(config, NetworkApproximation) else NetworkApproximation(default=config)


def _check_calibration_data(data: object) -> None:
    if isinstance(data, np.ndarray):
        hint = "convert it with torch.from_numpy(...)"
    elif isinstance(data, Tensor) or (isinstance(data, Iterable) and not isinstance(data, str | Mapping)):
        return
    else:
        hint = "pass a batch of images, such as `images.inputs(slice(0, 512))` of an approx.LabelledImages"
    raise ArgumentError(
        f"`calibration_data` must be a tensor of network inputs or an iterable of such tensors, got {shown(data)}; "
        f"{hint}"
    )


def _check_masks(masks: Mapping[str, Tensor], layers: Mapping[str, WeightLayer]) -> None:
    check_names_to_tensors("masks", masks)
    if unknown := sorted(masks.keys() - layers.keys()):
        raise ArgumentError(f"`masks` names {unknown[0]!r}, but the layers are {', '.join(layers)}")
    for name, mask in masks.items():
        if mask.shape != layers[name].weight.shape:
            raise ArgumentError(
                f"layer {name!r}: its mask has shape {tuple(mask.shape)}, its weight {tuple(layers[name].weight.shape)}"
            )
        if mask.dtype != torch.bool:
            raise ArgumentError(f"layer {name!r}: its mask must be bool, got {mask.dtype}")


def _layer_configs(
    network: NetworkApproximation,
    layers: Mapping[str, WeightLayer],
    order: list[str],
    other_weights: Iterable[str],
) -> dict[str, LayerApproximation | None]:
    """Layer name -> how it computes; None leaves it in floating point."""
    rejected = {name: f"layer {name!r} does not run on the calibration data" for name in layers if name not in order}
    for weight in other_weights:
        rejected[_owner(weight)] = (
            f"{weight!r} is multiplied outside Conv2d, ConvTranspose2d and Linear layers, the only ones that can be "
            "approximated"
        )
    for name in dict(rejected):
        if _matching(network, name) is None or network.leave_unsupported:
            del rejected[name]
    if rejected:
        first, reason = next(iter(rejected.items()))
        raise ArgumentError(
            f"{reason}. To leave it in floating point, pass overrides={{{first!r}: None}} or leave_unsupported=True to "
            "NetworkApproximation"
        )
    known = [*layers, *map(_owner, other_weights)]
    for pattern in network.overrides:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = get_close_matches(pattern, known, n=3, cutoff=0.4) or known
            raise ArgumentError(f"no layer is named {pattern!r}; similar names are {', '.join(near)}")
    ends = {order[0]: network.precise_first, order[-1]: network.precise_last} if order else {}
    configs: dict[str, LayerApproximation | None] = {}
    for name in order:
        named = any(fnmatchcase(name, pattern) for pattern in network.overrides)
        configs[name] = None if ends.get(name) and not named else _matching(network, name)
    if len(order) == 1 and network.precise_first:
        configs[order[0]] = None
    if not any(configs.values()):
        raise ArgumentError(
            "the model has no Conv2d, ConvTranspose2d or Linear layer to approximate"
            if not layers
            else "every layer is left in floating point; approximate at least one"
        )
    return configs


def _owner(weight: str) -> str:
    """The layer that owns a parameter; for a parameter of the network itself, the parameter."""
    layer = weight.partition(".parametrizations.")[0]
    return layer if layer != weight else weight.rpartition(".")[0] or weight


def _matching(network: NetworkApproximation, name: str) -> LayerApproximation | None:
    chosen: LayerApproximation | None = network.default
    for pattern, config in network.overrides.items():
        if fnmatchcase(name, pattern):
            chosen = config
    return chosen


def _calibrated(
    name: str,
    layer: WeightLayer,
    config: LayerApproximation,
    inputs: LayerInputs,
    mask: Tensor | None,
    multipliers: Mapping[str, Multiplier] | None,
) -> ApproxLayer:
    if not inputs.samples or not inputs.largest < torch.inf:
        raise ArgumentError(f"layer {name!r}: its input on the calibration data is empty or not finite")
    signed = _activation_signed(name, config, inputs, multipliers)
    multiplier = _multiplier(config, signed, multipliers)
    made = build_layer(layer, config, activation_signed=signed, multiplier=multiplier, mask=mask)
    weights = (made.weight * made.mask).flatten(1)
    if config.granularity == "tensor":
        weights = weights.reshape(1, -1)
    sample = inputs.sample()[None]
    if config.calibration == "percentile":
        weight_scale = percentile_scale(weights, bits=config.weight_bits, signed=True, percentile=config.percentile)
        most = torch.tensor(float(code_range(config.weight_bits, signed=True)[1]))
        weight_scale *= most / multiplier.constrain(most)  # to the largest code that the hardware can hold
        if config.percentile == 100:  # a sample may lack the largest value
            sample = sample.new_tensor([[inputs.largest]])
        activation_scale = percentile_scale(
            sample, bits=config.activation_bits, signed=signed, percentile=config.percentile
        )
    else:
        weight_scale = calibrate_scale(weights, bits=config.weight_bits, signed=True, constrain=multiplier.constrain)
        largest = sample.new_tensor([inputs.largest])
        activation_scale = calibrate_scale(sample, bits=config.activation_bits, signed=signed, largest=largest)
    made.weight_scale.copy_(weight_scale.expand(len(made.weight)))
    made.activation_scale.copy_(activation_scale[0])
    return made


def _sums_problem(layer: ApproxLayer) -> str:
    """Why a layer's sums could leave 32 bits; empty if they cannot."""
    products, largest = layer.weight.shape[1:].numel(), layer.multiplier.largest_product
    if products * largest <= INT32_MAX:
        return ""
    return f"a sum of {products} products of up to {largest} can leave 32 bits"


def _multiplier(
    config: LayerApproximation, activation_signed: bool, multipliers: Mapping[str, Multiplier] | None
) -> Multiplier:
    return find_multiplier(
        config.multiplier,
        weight_bits=config.weight_bits,
        activation_bits=config.activation_bits,
        activation_signed=activation_signed,
        circuit_bits=config.circuit_bits,
        multipliers=multipliers,
    )


def _activation_signed(
    name: str, config: LayerApproximation, inputs: LayerInputs, multipliers: Mapping[str, Multiplier] | None
) -> bool:
    negative = inputs.least < 0
    if config.activation_signed is not None:
        if negative and not config.activation_signed:
            raise ArgumentError(
                f"layer {name!r}: `activation_signed` is False, but on the calibration data one of its activations is "
                f"{inputs.least:.4g}"
            )
        return config.activation_signed
    if negative:
        return True
    try:
        _multiplier(config, False, multipliers)
    except ArgumentError:  # a signed circuit, which holds unsigned codes of one bit less
        return True
    return False
