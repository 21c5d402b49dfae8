"""Mending networks without training: statistics of BatchNorm layers, and biases of converted layers.

Both follow from network inputs alone, without labels and gradients.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from approx.checks import check_integer, check_model
from approx.chips import use_chip
from approx.errors import ArgumentError
from approx.inputs import Inputs, check_inputs, rows_of, run, shapes_of, size_of, tensors_of
from approx.layer import ApproxLayer
from approx.surgery import (
    FoldedBatchNorm,
    WeightLayer,
    approx_layers,
    prepared,
    use_pooling_kernel,
    weight_layers,
)

_BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
_BATCH_SIZE = 128  # images per forward pass


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, inputs: Inputs, *, batch_size: int = _BATCH_SIZE) -> None:
    """Estimate the running means and variances of all BatchNorm layers anew, in place.

    They become those of these inputs, averaged over batches: what pruning did to them is mended. Nothing else changes:
    other layers compute as in evaluation, so that nothing is random, and layers that do not run keep their statistics,
    as BatchNorms do that are folded into another layer or keep no statistics.

    Args:
        model: The network.
        inputs: Network inputs, shape (N, ...); for a network of several inputs a tuple of tensors or a mapping from
            argument names to tensors.
        batch_size: Images per forward pass, at least 2; those left over are spread over the others' batches.

    Raises:
        ArgumentError: If there are fewer than 2 images, or `batch_size` is below 2.
    """
    check_model("model", model)
    check_inputs("inputs", inputs)
    check_integer("batch_size", batch_size)
    if batch_size < 2:
        raise ArgumentError(f"`batch_size` must be at least 2, got {batch_size}")
    if size_of(inputs) < 2:
        raise ArgumentError(
            f"`inputs` must hold at least 2 images, whose variance is estimated, got shape {shapes_of(inputs)}"
        )
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.running_mean is not None]
    if not norms:
        return
    before = [({name: value.clone() for name, value in norm.named_buffers()}, norm.momentum) for norm in norms]
    finished = False
    with _evaluating(model):
        try:
            for norm in norms:
                norm.train()
                norm.momentum = None  # the plain average over batches
                norm.reset_running_stats()
            for batch in torch.arange(size_of(inputs)).tensor_split(max(1, size_of(inputs) // batch_size)):
                run(model, rows_of(inputs, batch))
            finished = True
        finally:
            for norm, (buffers, momentum) in zip(norms, before, strict=True):
                norm.momentum = momentum
                if not (finished and norm.num_batches_tracked):
                    for name, value in norm.named_buffers():
                        value.copy_(buffers[name])


@torch.no_grad()
def correct_bias(converted: nn.Module, original: nn.Module, inputs: Inputs) -> None:
    """Let the mean outputs of a converted network's layers be those of the original's, in place, by their biases.

    Layer by layer, in the order in which they run, the mean of each output channel in the original network minus that
    in the converted one, whose earlier layers are corrected already, is added to the bias (Nagel et al., Data-Free
    Quantization Through Weight Equalization and Bias Correction, ICCV 2019; Finkelstein et al., Fighting Quantization
    Bias With Bias, 2019). This mends what rounding, pruning and above all approximate multipliers shift on average.

    A layer that runs several times is corrected by the mean over its runs, and the others anew after it. A layer
    without a bias gets one. Means are over all inputs and positions. The model is off its chip afterwards, because a
    bias that mends one chip harms another.

    Args:
        converted: From `approximate`.
        original: The network that it was converted from, or that network before pruning of weights; not changed.
        inputs: Network inputs as for `reestimate_batch_norm`, such as those for calibration. They run as one batch.

    Raises:
        ArgumentError: If `converted` has no approximate layers or does not come from `original`, there are no inputs,
            or an output is not finite.
    """
    check_model("converted", converted)
    check_model("original", original)
    check_inputs("inputs", inputs)
    if not all(one.dim() and len(one) for one in tensors_of(inputs)):
        raise ArgumentError(f"`inputs` must hold at least one image, got shape {shapes_of(inputs)}")
    layers = dict(approx_layers(converted))
    if not layers:
        raise ArgumentError("`converted` has no approximate layer; convert it with approximate()")
    folded = [name for name, module in converted.named_modules() if isinstance(module, FoldedBatchNorm)]
    expected = _original_means(original, layers, folded, inputs)
    once = {name: layer for name, layer in layers.items() if name in expected and expected[name].runs == 1}
    several = {name: layer for name, layer in layers.items() if name in expected and expected[name].runs > 1}
    use_chip(converted, None)
    biases = {name: layer.bias for name, layer in layers.items()}
    finished = False
    with _evaluating(converted):
        try:
            found = _correct_in_order(converted, once, several, expected, inputs)
            for name, layer in several.items():
                if name in found:
                    bias = 0 if layer.bias is None else layer.bias
                    _set_bias(name, layer, bias + expected[name].mean() - found[name].mean())
            if several:
                _correct_in_order(converted, once, {}, expected, inputs)
            finished = True
        finally:
            if not finished:
                for name, layer in layers.items():
                    layer.bias = biases[name]


class _Outputs:
    """The outputs of a layer, summed up for each channel.

    Args:
        channel_dim: Their dimension of channels, from the last.
    """

    def __init__(self, channel_dim: int) -> None:
        self.runs = 0
        self._channel_dim = channel_dim
        self._total: Tensor | float = 0.0
        self._values = 0

    def see(self, output: Tensor) -> None:
        """Add the output of one run."""
        self.runs += 1
        others = [dim for dim in range(-output.dim(), 0) if dim != self._channel_dim]
        # The sum over no dimension would be that over all.
        self._total = self._total + (output.sum(others) if others else output).double()
        self._values += output.numel() // output.shape[self._channel_dim]

    def mean(self) -> Tensor:
        """The mean of each channel: float64, shape (channels,)."""
        assert isinstance(self._total, Tensor)
        return self._total / self._values


def _original_means(
    original: nn.Module, layers: Mapping[str, ApproxLayer], folded: Collection[str], inputs: Inputs
) -> dict[str, _Outputs]:
    """Name -> outputs of the layers that run in the original, after the BatchNorm that was folded into them."""
    model = prepared(original)
    use_pooling_kernel(model)
    known, modules = dict(weight_layers(model)), dict(model.named_modules(remove_duplicate=False))
    for name, layer in layers.items():
        if name not in known or _outputs(known[name]) != len(layer.weight):
            raise ArgumentError(
                f"`converted` does not come from `original`, which has no layer {name!r} with {len(layer.weight)} "
                "outputs to convert"
            )
    for name in folded:
        if name not in modules:
            raise ArgumentError(f"`converted` does not come from `original`, which has no BatchNorm {name!r} to fold")
    seen: dict[str, _Outputs] = {}
    normed: dict[str, _Outputs] = {}
    made = WeakTensorKeyDictionary()

    def see(name: str, module: nn.Module, arguments: object, output: Tensor) -> None:
        seen.setdefault(name, _Outputs(_channel_dim(layers[name]))).see(output)
        made[output] = name

    def see_normed(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
        name = made.get(arguments[0] if arguments else named["input"])  # type: ignore[no-untyped-call]
        if name is not None:
            normed.setdefault(name, _Outputs(_channel_dim(layers[name]))).see(output)

    handles = [known[name].register_forward_hook(partial(see, name)) for name in layers]
    handles += [modules[name].register_forward_hook(see_normed, with_kwargs=True) for name in folded]
    with _removed(handles):
        run(model, inputs)
    return seen | normed


def _correct_in_order(
    model: nn.Module,
    corrected: Mapping[str, ApproxLayer],
    watched: Mapping[str, ApproxLayer],
    expected: Mapping[str, _Outputs],
    inputs: Inputs,
) -> dict[str, _Outputs]:
    """Run a model once, and correct each layer when it runs, before others get its output.

    A layer runs without its bias, which is added to its output afterwards: others get what they will get in future, to
    the bit, because layers too add their bias last.

    Returns:
        Name -> outputs of the layers that are only watched.
    """
    seen: dict[str, _Outputs] = {}

    def without_bias(layer: ApproxLayer, arguments: object) -> None:
        layer.bias = None

    def correct(name: str, layer: ApproxLayer, arguments: object, output: Tensor) -> Tensor:
        found = _Outputs(_channel_dim(layer))
        found.see(output)
        bias = _set_bias(name, layer, expected[name].mean() - found.mean())
        return output.add_(bias.reshape(-1, *[1] * (-1 - _channel_dim(layer))))

    def watch(name: str, layer: ApproxLayer, arguments: object, output: Tensor) -> None:
        seen.setdefault(name, _Outputs(_channel_dim(layer))).see(output)

    handles = [layer.register_forward_pre_hook(without_bias) for layer in corrected.values()]
    handles += [layer.register_forward_hook(partial(correct, name)) for name, layer in corrected.items()]
    handles += [layer.register_forward_hook(partial(watch, name)) for name, layer in watched.items()]
    with _removed(handles):
        run(model, inputs)
    return seen


def _set_bias(name: str, layer: ApproxLayer, bias: Tensor) -> nn.Parameter:
    if not bias.isfinite().all():
        raise ArgumentError(f"layer {name!r}: its output for `inputs` is not finite in one of the networks")
    # A new one: layers may share the old one.
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype), layer.weight.requires_grad)
    return layer.bias


def _channel_dim(layer: ApproxLayer) -> int:
    """The dimension of channels in a layer's output, from the last."""
    return 1 - layer.weight.dim()


def _outputs(layer: WeightLayer) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode; afterwards each module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _removed(handles: list[RemovableHandle]) -> Iterator[None]:
    """Removes hooks in the end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
