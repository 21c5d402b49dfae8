"""From a trained network to one that computes as approximate hardware would."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from approx.arithmetic.ops import INT32_MAX
from approx.attention import SplitAttention, can_split
from approx.config import FaultyMemory, LayerApproximation, NetworkApproximation
from approx.errors import ArgumentError
from approx.modules import ApproxConv2d, ApproxConvTranspose2d, ApproxLayer, ApproxLinear
from approx.multipliers.catalog import find_multiplier
from approx.multipliers.multiplier import Multiplier
from approx.observation import LayerInputs, observe
from approx.quantization import calibrate_scale, code_range, percentile_scale

WeightLayer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


class FoldedBatchNorm(nn.Identity):
    """Where a BatchNorm was that is part of the layer before it now."""


def weight_layers(model: nn.Module) -> Iterator[tuple[str, WeightLayer]]:
    """The layers that can be approximated, with their names, in the order of `named_modules`."""
    for name, module in model.named_modules():
        if isinstance(module, WeightLayer) and _computes_as(module):
            yield name, module


def approx_layers(model: nn.Module) -> Iterator[tuple[str, ApproxLayer]]:
    """The approximate layers of a converted model, with their names."""
    for name, module in model.named_modules():
        if isinstance(module, ApproxLayer):
            yield name, module


def approximate(
    model: nn.Module,
    config: LayerApproximation | NetworkApproximation,
    *,
    calibration_data: Tensor | Iterable[Tensor],
    masks: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """A copy of `model` whose layers compute on integer codes with approximate multipliers and memories.

    Conv2d, ConvTranspose2d and Linear layers are approximated, and the projections of MultiheadAttention, which become
    its layers `query`, `key`, `value` and `out_proj`. A BatchNorm that alone uses the output of such a layer is folded
    into it. Everything else stays in floating point.

    Args:
        model: The trained network; left as it is.
        config: How every layer computes, or how each does.
        calibration_data: A batch of network inputs from which activation scales are set, or several.
        masks: Layer name -> bool mask of its weight, as from `magnitude_masks`; missing layers are dense.

    Returns:
        The converted copy, in evaluation mode, on a chip without faults; see `use_chip`.

    Raises:
        ArgumentError: If weights are multiplied elsewhere than in layers that can be approximated, a layer does not run
            on the calibration data, and neither is left in floating point by the configuration; if a mask does not fit
            its layer, a pattern matches no layer, an input of a layer is not finite, the sums of a layer could leave 32
            bits, or the network has nothing to approximate.
        UnknownNameError: If a multiplier is unknown.
    """
    network = config if isinstance(config, NetworkApproximation) else NetworkApproximation(default=config)
    converted = split_attention(copy.deepcopy(model).eval())
    layers = dict(weight_layers(converted))
    masks = dict(masks or {})
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
                replacement = _calibrated(name, layers[name], layer_config, seen.inputs[name], masks.get(name))
                if problem := _sums_problem(replacement):
                    if network.leave_unsupported:
                        continue
                    raise ArgumentError(
                        f"layer {name!r}: {problem}. Use fewer bits, or leave it in floating point by "
                        f"overrides={{{name!r}: None}} or leave_unsupported=True in a NetworkApproximation"
                    )
                converted = replace_everywhere(converted, layers[name], replacement)
    return converted.eval()


def set_memory(
    model: nn.Module,
    *,
    weights: FaultyMemory | None = None,
    activations: FaultyMemory | None = None,
    robust_bits: Mapping[str, int] | None = None,
    dense_layers: Collection[str] = (),
) -> None:
    """Change what the memories of all layers do, in place, and take the model off its chip.

    Args:
        model: From `approximate`.
        weights: What the memory of weights does; None is perfect.
        activations: Likewise that of activations.
        robust_bits: Layer name -> how many top bits of its weights sit in 8T cells, for layers that differ from
            `weights`; see `allocate_robust_bits`.
        dense_layers: Layers whose pruned weights are stored too; those of the others are if `weights` says so.

    Raises:
        ArgumentError: If a name is not that of a layer, or there is no memory of weights to have robust bits.
    """
    layers = dict(approx_layers(model))
    robust = dict(robust_bits or {})
    for what, names in (("robust bits", robust.keys()), ("dense storage", set(dense_layers))):
        if unknown := sorted(names - layers.keys()):
            raise ArgumentError(f"{what} for {unknown[0]!r}, but the approximate layers are {', '.join(layers)}")
    if robust and weights is None:
        raise ArgumentError(
            "robust_bits are of the memory of weights, which is perfect; give weights=FaultyMemory(...)"
        )
    for name, layer in layers.items():
        layer.weight_memory = weights
        if weights is not None and name in robust:
            layer.weight_memory = replace(weights, robust_bits=robust[name])
        if layer.weight_memory is not None and name in dense_layers:
            layer.weight_memory = replace(layer.weight_memory, stores_pruned=True)
        layer.activation_memory = activations
    use_chip(model, None)


def use_chip(model: nn.Module, chip_seed: int | None) -> None:
    """Put a model on a chip, in place: what its memories do to codes shows from now on.

    The same chip has the same failed cells at every error rate, so those at a lower rate are among those at a higher.
    Pruned weights cannot fail, unless the memory stores them.

    Args:
        model: From `approximate`.
        chip_seed: Names the chip, 0 or more; None is a chip whose memories are perfect.

    Raises:
        ArgumentError: If the seed is negative.
    """
    if chip_seed is not None and chip_seed < 0:
        raise ArgumentError(f"chip_seed must be at least 0, got {chip_seed}")
    for name, layer in approx_layers(model):
        layer.put_on_chip(name, chip_seed)


def split_attention(model: nn.Module) -> nn.Module:
    """The model with its attention in layers that can be approximated, as far as they can; in place but for itself.

    Weights that are computed from other parameters, such as normalised ones, become what they amount to.
    """
    for module in list(model.modules()):
        if isinstance(module, nn.MultiheadAttention) and type(module) is nn.MultiheadAttention and can_split(module):
            model = replace_everywhere(model, module, SplitAttention(module))
    for module in list(model.modules()):
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # it would look for the attention's own weights
        if isinstance(module, WeightLayer) and parametrize.is_parametrized(module):
            _fix_parametrised(module)
    return model


def _fix_parametrised(layer: nn.Module) -> None:
    """Give a layer the parameters that its parametrizations compute, in place.

    torch's own `remove_parametrizations` would break other copies of the layer, which share its class (torch 2.13).
    """
    assert isinstance(layer.parametrizations, nn.ModuleDict)
    fixed = {name: nn.Parameter(getattr(layer, name).detach().clone()) for name in layer.parametrizations}
    del layer.parametrizations
    layer.__class__ = type(layer).__bases__[0]
    for name, value in fixed.items():
        layer.register_parameter(name, value)


def replace_everywhere(model: nn.Module, module: nn.Module, replacement: nn.Module) -> nn.Module:
    """The model with a layer in the place of another under all its names; in place but for itself."""
    if module is model:
        return replacement
    names = [name for name, one in model.named_modules(remove_duplicate=False) if one is module]
    for name in names:
        model.set_submodule(name, replacement)
    module.forward = partial(_refuse, names[0])
    return model


def _refuse(name: str, *_: object, **__: object) -> NoReturn:
    """What a layer does that was replaced, so that none still runs where it cannot be found."""
    raise ArgumentError(
        f"layer {name!r} was replaced, but the network runs it past its name, as from a plain list; hold it in an "
        "nn.ModuleList or nn.ModuleDict"
    )


def fold_batch_norm(model: nn.Module, layer_name: str, norm_name: str) -> None:
    """Make a BatchNorm part of the layer before it, in place.

    y = gamma (w x + b - mean) / sqrt(variance + eps) + beta is a layer with other weights and another bias.
    """
    layer, norm = model.get_submodule(layer_name), model.get_submodule(norm_name)
    assert isinstance(layer, WeightLayer)
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.detach().double()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().double()
    factor = gamma / (variance + norm.eps).sqrt()
    bias = torch.zeros_like(mean) if layer.bias is None else layer.bias.detach().double()
    weight = layer.weight.detach().double()
    if isinstance(layer, nn.ConvTranspose2d):  # (inputs, outputs / groups, ...)
        per_group = factor.reshape(layer.groups, 1, -1)
        weight = (weight.reshape(layer.groups, -1, *weight.shape[1:]) * per_group[..., None, None]).flatten(0, 1)
    else:
        weight = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
    trained = layer.weight.requires_grad
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype), trained)
    layer.bias = nn.Parameter(((bias - mean) * factor + beta).to(layer.weight.dtype), trained)
    replace_everywhere(model, norm, FoldedBatchNorm())


def build_layer(
    layer: WeightLayer,
    config: LayerApproximation,
    *,
    activation_signed: bool,
    mask: Tensor | None = None,
    multiplier: Multiplier | None = None,
) -> ApproxLayer:
    """The approximate form of a layer, not calibrated.

    Args:
        layer: Its parameters become those of the approximate layer.
        config: How it computes.
        activation_signed: Whether activation codes are signed.
        mask: bool, shape of the layer's weight; dense if None.
        multiplier: What multiplies; by default what the configuration's name stands for.
    """
    if isinstance(layer, nn.Conv2d):
        return ApproxConv2d(layer, config, activation_signed=activation_signed, mask=mask, multiplier=multiplier)
    if isinstance(layer, nn.ConvTranspose2d):
        return ApproxConvTranspose2d(
            layer, config, activation_signed=activation_signed, mask=mask, multiplier=multiplier
        )
    return ApproxLinear(
        layer.weight, layer.bias, config, activation_signed=activation_signed, mask=mask, multiplier=multiplier
    )


def _computes_as(layer: WeightLayer) -> bool:
    """Whether it computes as torch's own layer does, with a weight of its own, not one made of other parameters."""
    if not isinstance(layer.weight, nn.Parameter):
        return False
    own = next(kind for kind in (nn.Linear, nn.Conv2d, nn.ConvTranspose2d) if isinstance(layer, kind))
    methods = ("forward", "_conv_forward") if own is nn.Conv2d else ("forward",)
    return all(getattr(type(layer), method) is getattr(own, method) for method in methods)


def _check_masks(masks: Mapping[str, Tensor], layers: Mapping[str, WeightLayer]) -> None:
    if unknown := sorted(masks.keys() - layers.keys()):
        raise ArgumentError(f"mask for {unknown[0]!r}, but the layers are {', '.join(layers)}")
    for name, mask in masks.items():
        if mask.shape != layers[name].weight.shape:
            raise ArgumentError(
                f"layer {name!r}: mask has shape {tuple(mask.shape)}, its weight {tuple(layers[name].weight.shape)}"
            )
        if mask.dtype != torch.bool:
            raise ArgumentError(f"layer {name!r}: mask must be bool, got {mask.dtype}")


def _layer_configs(
    network: NetworkApproximation,
    layers: Mapping[str, WeightLayer],
    order: list[str],
    other_weights: Iterable[str],
) -> dict[str, LayerApproximation | None]:
    """How each layer computes; None is in floating point."""
    refused = {name: f"layer {name!r} does not run on the calibration data" for name in layers if name not in order}
    for weight in other_weights:
        refused[_owner(weight)] = (
            f"{weight!r} is multiplied outside of Conv2d, ConvTranspose2d and Linear layers, which alone can be "
            "approximated"
        )
    for name in dict(refused):
        if _matching(network, name) is None or network.leave_unsupported:
            del refused[name]
    if refused:
        first, reason = next(iter(refused.items()))
        raise ArgumentError(
            f"{reason}. To leave it in floating point, say overrides={{{first!r}: None}} or leave_unsupported=True in "
            "a NetworkApproximation"
        )
    known = [*layers, *map(_owner, other_weights)]
    for pattern in network.overrides:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = get_close_matches(pattern, known, n=3, cutoff=0.4) or known
            raise ArgumentError(f"no layer is named {pattern!r}; near are {', '.join(near)}")
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
    """The layer that a parameter is of; a parameter of the network itself stands for itself."""
    layer = weight.partition(".parametrizations.")[0]
    return layer if layer != weight else weight.rpartition(".")[0] or weight


def _matching(network: NetworkApproximation, name: str) -> LayerApproximation | None:
    chosen: LayerApproximation | None = network.default
    for pattern, config in network.overrides.items():
        if fnmatchcase(name, pattern):
            chosen = config
    return chosen


def _calibrated(
    name: str, layer: WeightLayer, config: LayerApproximation, inputs: LayerInputs, mask: Tensor | None
) -> ApproxLayer:
    if not inputs.samples or not inputs.largest < torch.inf:
        raise ArgumentError(f"layer {name!r}: its input on the calibration data is empty or not finite")
    signed = _activation_signed(name, config, inputs)
    made = build_layer(layer, config, activation_signed=signed, mask=mask)
    weights = (made.weight * made.mask).flatten(1)
    if config.granularity == "tensor":
        weights = weights.reshape(1, -1)
    sample = inputs.sample()[None]
    if config.calibration == "percentile":
        weight_scale = percentile_scale(weights, bits=config.weight_bits, signed=True, percentile=config.percentile)
        most = torch.tensor(float(code_range(config.weight_bits, signed=True)[1]))
        weight_scale *= most / made.multiplier.constrain(most)  # to the largest code that the hardware can hold
        if config.percentile == 100:  # a sample may be without the largest
            sample = sample.new_tensor([[inputs.largest]])
        activation_scale = percentile_scale(
            sample, bits=config.activation_bits, signed=signed, percentile=config.percentile
        )
    else:
        constrain = made.multiplier.constrain
        weight_scale = calibrate_scale(weights, bits=config.weight_bits, signed=True, constrain=constrain)
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


def _activation_signed(name: str, config: LayerApproximation, inputs: LayerInputs) -> bool:
    negative = inputs.least < 0
    if config.activation_signed is not None:
        if negative and not config.activation_signed:
            raise ArgumentError(
                f"layer {name!r}: its activations are to be unsigned, but on the calibration data one is "
                f"{inputs.least:.4g}"
            )
        return config.activation_signed
    if negative:
        return True
    try:
        find_multiplier(
            config.multiplier,
            weight_bits=config.weight_bits,
            activation_bits=config.activation_bits,
            activation_signed=False,
        )
    except ArgumentError:  # a signed circuit, which holds codes without a sign in one bit less
        return True
    return False
