"""Network surgery: finding the layers of a network, replacing them, and folding one into another."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NoReturn

import torch
from torch import nn
from torch.nn.utils import parametrize

from approx.arithmetic.pooling import MaxPool2
from approx.attention import SplitAttention, can_split
from approx.checks import check_model
from approx.errors import ArgumentError
from approx.layer import ApproxLayer

WeightLayer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


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


def split_attention(model: nn.Module) -> nn.Module:
    """The model with its attention split into layers that can be approximated, where possible.

    Weights that are computed from other parameters, such as normalised ones, become plain parameters. The model is
    changed in place; only if it is itself an attention layer is another object returned.
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
    """Whether a layer computes as torch's own class does, with a weight that is a parameter itself."""
    if not isinstance(layer.weight, nn.Parameter):
        return False
    own = next(kind for kind in (nn.Linear, nn.Conv2d, nn.ConvTranspose2d) if isinstance(layer, kind))
    methods = ("forward", "_conv_forward") if own is nn.Conv2d else ("forward",)
    return all(getattr(type(layer), method) is getattr(own, method) for method in methods)
