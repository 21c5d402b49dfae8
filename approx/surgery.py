"""Network surgery: finding the layers of a network, replacing them, and folding one into another."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from approx.arithmetic.pooling import MaxPool2
from approx.attention import SplitAttention, can_split
from approx.checks import check_model
from approx.copying import copied
from approx.errors import ArgumentError
from approx.layer import ApproxLayer

WeightLayer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d
_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)


_HOOKS = (  # where torch keeps what is called before and after a module
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
)


class FoldedBatchNorm(nn.Identity):
    """Placeholder for a BatchNorm that is now part of the layer before it."""


def weight_layers(model: nn.Module) -> Iterator[tuple[str, WeightLayer]]:
    """The layers that `approximate` can convert, with their names, in the order of `named_modules`."""
    check_model("model", model)
    for name, module in model.named_modules():
        if isinstance(module, WeightLayer) and _computes_as(module):
            yield name, module


def approx_layers(model: nn.Module) -> Iterator[tuple[str, ApproxLayer]]:
    """The approximate layers of a converted model, with their names."""
    check_model("model", model)
    for name, module in model.named_modules():
        if isinstance(module, ApproxLayer):
            yield name, module


def prepared(model: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode, whose layers can be found, observed and replaced.

    Attention is split into layers that can be approximated, where possible. Weights that are computed from other
    parameters, such as normalised and pruned ones, become plain parameters.

    Raises:
        ArgumentError: If the network cannot be copied; see `copied`.
    """
    return split_attention(copied(model).eval())


def split_attention(model: nn.Module) -> nn.Module:
    """See `prepared`, without the copy: in place, unless the network is itself an attention layer."""
    fix_computed_weights(model)
    for module in list(model.modules()):
        if isinstance(module, nn.MultiheadAttention) and type(module) is nn.MultiheadAttention and can_split(module):
            split = SplitAttention(module)
            _take_over_hooks(module, split)
            model = replace_everywhere(model, module, split)
    for module in list(model.modules()):
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # it would look for the attention's own weights
    return model


def fix_computed_weights(model: nn.Module) -> None:
    """Replace weights that layers compute from other parameters by plain parameters, in place.

    Computed weights are those of parametrizations, and of torch's own hooks; see `fix_hooked_weights`.
    """
    for module in model.modules():
        if isinstance(module, WeightLayer) and parametrize.is_parametrized(module):
            _fix_parametrised(module)
    fix_hooked_weights(model)


def fix_hooked_weights(model: nn.Module) -> None:
    """Replace what torch's own hooks compute before a layer runs by plain parameters, in place.

    These are pruned, weight-normalised and spectrally normalised weights, unless they are parametrizations.
    """
    for module in model.modules():
        if isinstance(module, WeightLayer | nn.MultiheadAttention):
            for number, hook in list(module._forward_pre_hooks.items()):
                if isinstance(hook, _COMPUTING_HOOKS):
                    _fix_hooked(module, number, hook)


def pruning_masks(model: nn.Module) -> dict[str, Tensor]:
    """Layer name -> bool mask of the weight, of layers that `torch.nn.utils.prune` has pruned."""
    return {
        name: module.get_buffer("weight_mask").bool()
        for name, module in model.named_modules()
        for hook in module._forward_pre_hooks.values()
        if isinstance(module, WeightLayer) and isinstance(hook, BasePruningMethod) and hook._tensor_name == "weight"
    }


_ComputingHook = BasePruningMethod | WeightNorm | SpectralNorm
_COMPUTING_HOOKS = (BasePruningMethod, WeightNorm, SpectralNorm)  # torch's, which compute a weight before each run


def _fix_hooked(layer: nn.Module, number: int, hook: _ComputingHook) -> None:
    """Replace a hook that computes a parameter by the parameter that it computes, in place."""
    name = hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name
    hook(layer, None)
    value = getattr(layer, name).detach().clone()
    layer._forward_pre_hooks.pop(number)
    layer._forward_pre_hooks_with_kwargs.pop(number, None)
    parts = [one for one in (f"{name}{end}" for end in ("_orig", "_mask", "_g", "_v", "_u")) if hasattr(layer, one)]
    trained = any(getattr(layer, one).requires_grad for one in parts)
    for one in (name, *parts):
        delattr(layer, one)
    layer.register_parameter(name, nn.Parameter(value, trained))


def _fix_parametrised(layer: nn.Module) -> None:
    """Replace the parametrizations of a layer by the parameters they compute, in place.

    torch's own `remove_parametrizations` would break other copies of the layer, which share its class (torch 2.13).
    """
    assert isinstance(layer.parametrizations, nn.ModuleDict)
    fixed = {name: nn.Parameter(getattr(layer, name).detach().clone()) for name in layer.parametrizations}
    del layer.parametrizations
    layer.__class__ = type(layer).__bases__[0]
    for name, value in fixed.items():
        layer.register_parameter(name, value)


def replace_everywhere(model: nn.Module, module: nn.Module, replacement: nn.Module) -> nn.Module:
    """The model with a layer replaced under all its names: in place, unless the layer is the whole model."""
    if module is model:
        return replacement
    names = [name for name, one in model.named_modules(remove_duplicate=False) if one is module]
    for name in names:
        model.set_submodule(name, replacement)
    module.forward = partial(_reject, names[0])
    return model


def has_hooks(layer: nn.Module) -> bool:
    """Whether something is called before or after a layer runs."""
    return any(getattr(layer, name) for name in _HOOKS)


def take_over(layer: nn.Module, replacement: nn.Module) -> None:
    """Give a replacement the hooks of the layer, and what other code may read of it, such as `in_features`."""
    _take_over_hooks(layer, replacement)
    for name, value in vars(layer).items():
        if not name.startswith("_") and not hasattr(replacement, name):
            setattr(replacement, name, value)
    for name, buffer in layer._buffers.items():
        if not hasattr(replacement, name):
            replacement.register_buffer(name, buffer, persistent=name not in layer._non_persistent_buffers_set)
    for name, parameter in layer._parameters.items():
        if parameter is not None and not hasattr(replacement, name):
            replacement.register_parameter(name, parameter)
    for name, module in layer._modules.items():
        replacement.add_module(name, module)


def _take_over_hooks(module: nn.Module, replacement: nn.Module) -> None:
    for name in _HOOKS:
        getattr(replacement, name).update(getattr(module, name))


def use_pooling_kernel(model: nn.Module) -> None:
    """Let max pooling by two run by the native kernel, in place: the same values and gradients in less time.

    Modules stay the same objects, with their hooks.
    """
    for module in model.modules():
        if type(module) is nn.MaxPool2d and not (module.ceil_mode or module.return_indices):
            sizes = (module.kernel_size, module.stride, module.padding, module.dilation)
            if [one if isinstance(one, tuple) else (one, one) for one in sizes] == [(2, 2), (2, 2), (0, 0), (1, 1)]:
                module.__class__ = MaxPool2


def _reject(name: str, *_: object, **__: object) -> NoReturn:
    """The forward of a layer that was replaced: it must not run unnoticed where it could not be found."""
    raise ArgumentError(
        f"layer {name!r} was replaced, but the network still runs it without using its name, as from a plain list; "
        "keep it in an nn.ModuleList or nn.ModuleDict"
    )


def fold_batch_norm(model: nn.Module, layer_name: str, norm_name: str) -> None:
    """Fold a BatchNorm into the layer before it, in place.

    y = gamma (w x + b - mean) / sqrt(variance + eps) + beta is the same layer with another weight and bias.
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


def _computes_as(layer: WeightLayer) -> bool:
    """Whether a layer computes as torch's own class does, with a weight that is a parameter itself, of real numbers."""
    if not isinstance(layer.weight, nn.Parameter) or layer.weight.is_complex():
        return False
    own = next(kind for kind in _KINDS if isinstance(layer, kind))
    methods = ("forward", "__call__", *(["_conv_forward"] if own in (nn.Conv1d, nn.Conv2d) else []))
    return all(method not in vars(layer) and getattr(type(layer), method) is getattr(own, method) for method in methods)
