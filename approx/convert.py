"""From a trained network to one that computes as approximate hardware would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from approx.arithmetic.ops import INT32_MAX
from approx.checks import check_model, check_names_to_tensors, check_type
from approx.config import LayerApproximation, NetworkApproximation
from approx.copying import copied
from approx.errors import ArgumentError, ConversionError
from approx.inputs import Batches, Inputs, batches_of, tensors_of
from approx.layer import ApproxLayer
from approx.modules import ApproxConv1d, ApproxConv2d, ApproxConvTranspose2d, ApproxLinear
from approx.multipliers.catalog import find_multiplier
from approx.multipliers.multiplier import Multiplier
from approx.observation import UNREGISTERED, LayerInputs, observe
from approx.quantization import calibrate_scale, code_range, percentile_scale
from approx.surgery import (
    WeightLayer,
    approx_layers,
    fold_batch_norm,
    has_hooks,
    prepared,
    pruning_masks,
    replace_everywhere,
    take_over,
    use_pooling_kernel,
    weight_layers,
)
from approx.verification import check_in_floating_point, check_on_codes, checked_inputs

_PRECISE_BITS = 8  # from which codes hold nearly what floating point does


def approximate(
    model: nn.Module,
    config: LayerApproximation | NetworkApproximation,
    *,
    calibration_data: Batches,
    masks: Mapping[str, Tensor] | None = None,
    multipliers: Mapping[str, Multiplier] | None = None,
) -> nn.Module:
    """A copy of `model` whose layers compute on integer codes with approximate multipliers and memories.

    Conv1d, Conv2d, ConvTranspose2d and Linear layers are approximated, and the projections of MultiheadAttention, which
    become its layers `query`, `key`, `value` and `out_proj`. A BatchNorm that is the only user of such a layer's output
    is folded into it. Everything else stays in floating point, and hooks of layers stay where they are.

    The converted network is run in floating point on some of the calibration data and has to give what `model` does;
    if all its codes have 8 bits or more and its products are exact, also on codes, nearly.

    Args:
        model: The trained network; it is not changed.
        config: How every layer computes, or how each one does.
        calibration_data: Network inputs from which activation scales are set: a tensor or, for a network of several
            inputs, a tuple of tensors or a mapping from argument names to tensors; or batches of these, such as a
            DataLoader, of which 1,024 inputs are taken. Labels after the inputs of a batch are left out.
        masks: Layer name -> bool mask of its weight, as from `magnitude_masks`; missing layers are dense, but for
            weights that `torch.nn.utils.prune` has pruned.
        multipliers: Custom multipliers by the names that `config` uses for them, in addition to the catalogue. By
            default these are the multipliers given to `register_multiplier`.

    Returns:
        The converted copy, in evaluation mode, on a chip without faults; see `use_chip`.

    Raises:
        ConversionError: If weights are multiplied outside layers that can be approximated, or the sums of a layer could
            leave 32 bits, and the configuration does not leave them in floating point; or if the converted network does
            not compute what `model` does.
        ArgumentError: If a mask does not fit its layer, a pattern matches no layer, an input of a layer is not finite,
            or the network has nothing to approximate. When the converted network runs in evaluation mode, if it reaches
            a layer that the calibration data did not.
        UnknownNameError: If a multiplier is unknown.
    """
    check_model("model", model)
    network = _network_config(config)
    if multipliers is not None:
        check_type("multipliers", multipliers, Mapping, "a mapping from names to approx.Multiplier")
        for name, multiplier in multipliers.items():
            check_type(f"multipliers[{name!r}]", multiplier, Multiplier, "an approx.Multiplier")
    converted = prepared(model)
    if any(True for _ in approx_layers(converted)):
        raise ArgumentError("`model` was converted by approximate() already; give the network as it was before")
    for name, parameter in converted.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise ArgumentError(
                f"the network must compute in float32, but its parameter {name!r} is {parameter.dtype}; convert it "
                "with model.float(), and its inputs too"
            )
    use_pooling_kernel(converted)
    layers = dict(weight_layers(converted))
    given_masks, masks = masks, pruning_masks(model) if masks is None else masks
    _check_masks(masks, layers)
    norms = [
        name
        for name, module in converted.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        and type(module).forward is nn.BatchNorm2d.forward
        and module.running_mean is not None
        and not has_hooks(module)
    ]
    batches = _Batches(model, calibration_data)
    seen = observe(converted, layers, norms, batches)
    if batches.are_zero:
        raise ArgumentError("`calibration_data` holds nothing but zeros; give inputs such as the network gets in use")
    configs = _layer_configs(network, layers, list(seen.inputs), seen.other_weights)
    folded = {}
    with torch.no_grad():
        for name, layer_config in configs.items():
            if name in seen.foldable and layer_config is not None and not has_hooks(layers[name]):
                folded[name] = seen.foldable[name]
                fold_batch_norm(converted, name, folded[name])
            if layer_config is not None:
                inputs = seen.inputs[name]
                replacement = _calibrated(name, layers[name], layer_config, inputs, masks.get(name), multipliers)
                if problem := _sums_problem(replacement):
                    if network.leave_unsupported:
                        continue
                    raise ConversionError(
                        f"layer {name!r}: {problem}",
                        f"Use fewer bits, or leave it in floating point with overrides={{{name!r}: None}} or "
                        "leave_unsupported=True in a NetworkApproximation",
                    )
                converted = replace_everywhere(converted, layers[name], replacement)
    for name in layers.keys() - configs.keys():
        if _matching(network, name) is not None and not network.leave_unsupported:
            layers[name].register_forward_pre_hook(_NotCalibrated(name))
    converted.eval()
    checked, original = copied(converted), copied(model).eval()
    if given_masks:
        original = prepared(model)
        with torch.no_grad():
            for name, weight in [(name, layer.weight) for name, layer in weight_layers(original) if name in masks]:
                weight.mul_(masks[name])
    few = checked_inputs(copied(model).eval(), batches.first)
    check_in_floating_point(original, checked, few, folded)
    if all(one is None or _is_nearly_exact(one) for one in configs.values()):
        check_on_codes(checked, few)
    return converted


class _Batches:
    """The batches of calibration data, the first of which is kept.

    Attributes:
        first: The first batch.
        are_zero: Whether all batches so far hold nothing but zeros.
    """

    def __init__(self, model: nn.Module, data: object) -> None:
        self._model = model
        self._data = data
        self.first: Inputs = ()
        self.are_zero = True

    def __iter__(self) -> Iterator[Inputs]:
        for number, batch in enumerate(batches_of(self._model, self._data, "calibration_data")):
            if not number:
                self.first = batch
            self.are_zero = self.are_zero and not any(bool(one.any()) or not one.numel() for one in tensors_of(batch))
            yield batch


class _NotCalibrated:
    """A hook of a layer that the calibration data did not reach: it may run in training only, as heads may."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, layer: nn.Module, inputs: object) -> None:
        if not layer.training:
            raise ArgumentError(
                f"layer {self._name!r} did not run on the calibration data, so that it has no scales and was left in "
                "floating point; calibrate with inputs that reach it"
            )


def _is_nearly_exact(config: LayerApproximation) -> bool:
    """Whether a layer that computes so gives nearly what it would in floating point."""
    return (
        config.multiplier == "exact"
        and config.weight_bits >= _PRECISE_BITS
        and config.activation_bits >= _PRECISE_BITS
        and config.partial_sums is None
    )


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
    made: ApproxLayer
    if isinstance(layer, nn.Conv1d):
        made = ApproxConv1d(layer, config, activation_signed=activation_signed, multiplier=multiplier, mask=mask)
    elif isinstance(layer, nn.Conv2d):
        made = ApproxConv2d(layer, config, activation_signed=activation_signed, multiplier=multiplier, mask=mask)
    elif isinstance(layer, nn.ConvTranspose2d):
        made = ApproxConvTranspose2d(
            layer, config, activation_signed=activation_signed, multiplier=multiplier, mask=mask
        )
    else:
        made = ApproxLinear(
            layer.weight, layer.bias, config, activation_signed=activation_signed, multiplier=multiplier, mask=mask
        )
    take_over(layer, made)
    return made


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
    rejected = {}
    for weight in other_weights:
        if weight.startswith(UNREGISTERED):
            if not network.leave_unsupported:
                raise ConversionError(
                    f"{weight} is multiplied that belongs to no module of the network, as if its layer were in a plain "
                    "list instead of an nn.ModuleList",
                    "Keep it in an nn.ModuleList or nn.ModuleDict, or leave it in floating point with "
                    "leave_unsupported=True in a NetworkApproximation",
                )
            continue
        rejected[_owner(weight)] = (
            f"{weight!r} is multiplied outside Conv1d, Conv2d, ConvTranspose2d and Linear layers, the only ones that "
            "can be approximated"
        )
    for name in dict(rejected):
        if _matching(network, name) is None or network.leave_unsupported:
            del rejected[name]
    if rejected:
        first, reason = next(iter(rejected.items()))
        raise ConversionError(
            reason,
            f"To leave it in floating point, pass overrides={{{first!r}: None}} or leave_unsupported=True to "
            "NetworkApproximation",
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
            "the model has no Conv1d, Conv2d, ConvTranspose2d or Linear layer to approximate"
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
    if inputs.samples[0].dtype != torch.float32:
        raise ArgumentError(
            f"layer {name!r}: its input on the calibration data is {inputs.samples[0].dtype}, but the network must "
            "compute in float32, without torch.autocast"
        )
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
