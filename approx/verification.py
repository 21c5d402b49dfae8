"""Checks that a converted network computes what the network before its conversion did.

What a network is made of is found by running it, and anything may surround the products of its layers: hooks, code
that reads attributes of layers, layers that others replace. So each conversion is checked by a number, the ratio of
signal to noise between the outputs of the two:

- In floating point, they have to be equal but for rounding, whatever the bits and multipliers are.
- On integer codes of 8 bits or more, multiplied exactly, the ratio of each layer has to be near what such codes give.
  It is that of the layer alone, on the inputs that it has in floating point: how errors add up through a deep network
  depends on its weights, and is no fault of the conversion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from approx.errors import ArgumentError, ConversionError
from approx.inputs import Inputs, called, like, rows_of, run
from approx.layer import ApproxLayer
from approx.outputs import tensors_in
from approx.surgery import approx_layers

_CHECKED_INPUTS = 16
_EXACT_DB = 40.0  # rounding in floating point gives more than 80 even in deep networks; half a layer lost gives 6
_CODES_DB = 10.0  # codes of 8 bits give a layer 25 to 50
_Outputs = dict[str, list[Tensor]]


def signal_to_noise_db(expected: Tensor, found: Tensor) -> float:
    """Return the ratio of signal to noise in decibels: that of the squares of what is expected to those of its errors.

    Args:
        expected: The signal, of any shape.
        found: The same with errors.

    Returns:
        The ratio; infinity where there is no error.

    Raises:
        ArgumentError: If the shapes differ.
    """
    if expected.shape != found.shape:
        raise ArgumentError(
            f"`found` must have the shape of `expected`, {tuple(expected.shape)}, got {tuple(found.shape)}"
        )
    expected, found = _as_real(expected), _as_real(found)
    signal = expected.square().sum().item()
    noise = (found - expected).square().sum().item()
    if noise == 0:
        return math.inf
    if signal == 0:
        return -math.inf
    return 10 * math.log10(signal / noise) if math.isfinite(signal) and math.isfinite(noise) else -math.inf


def checked_inputs(model: nn.Module, batch: Inputs) -> Inputs:
    """Return a few inputs of a batch; all of it, if the network cannot do with fewer, such as parts of a graph."""
    few = rows_of(batch, slice(0, _CHECKED_INPUTS))
    try:
        _outputs(model, few, {})
    except Exception:  # of the network's own code
        return batch
    return few


def check_in_floating_point(
    original: nn.Module, converted: nn.Module, inputs: Inputs, folded: Mapping[str, str]
) -> None:
    """Check that a converted network computes the same as the original one, if both compute in floating point.

    Args:
        original: The network before its conversion, in evaluation mode; it is run.
        converted: From `approximate`.
        inputs: A batch of network inputs.
        folded: Name of a layer -> name of the BatchNorm that is folded into it.

    Raises:
        ConversionError: If it does not; the message names the first layer whose output differs.
    """
    with _in_floating_point(converted):
        problem = _first_difference(original, converted, inputs, folded)
    if problem:
        if any(isinstance(one, nn.TransformerEncoder) and one.use_nested_tensor for one in original.modules()):
            problem += ", perhaps where a TransformerEncoder has padding, unless made with enable_nested_tensor=False"
        raise ConversionError(
            f"something that the network does besides running its layers would be lost: in floating point, {problem}",
            "Write it so that layers are called as modules, and nothing else changes what they compute",
        )


@torch.no_grad()
def check_on_codes(converted: nn.Module, inputs: Inputs) -> None:
    """Check that each layer of a network computes on codes of 8 bits or more nearly what it does in floating point.

    Args:
        converted: From `approximate`, with exact products.
        inputs: A batch of network inputs.

    Raises:
        ConversionError: If one does not; the message names the first.
    """
    layers = dict(approx_layers(converted))
    worst: dict[str, float] = {}

    def compare(name: str, layer: ApproxLayer, given: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
        layer.computes_exactly = False
        try:
            on_codes = layer.forward(*given, **named)
        finally:
            layer.computes_exactly = True
        if not _is_near(_CODES_DB, output, on_codes):
            worst.setdefault(name, signal_to_noise_db(output, on_codes))

    handles = [
        # Before other hooks, which may change the output.
        layer.register_forward_hook(partial(compare, name), with_kwargs=True, prepend=True)
        for name, layer in layers.items()
    ]
    try:
        with _in_floating_point(converted), torch.random.fork_rng(devices=[]):
            run(converted, inputs)
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers.values():
            layer.forget_codes()
    for name, ratio in worst.items():
        raise ConversionError(
            f"codes of 8 bits do not hold what layer {name!r} computes: its output has a signal-to-noise ratio of "
            f"{ratio:.1f} dB, as where a few of its weights or inputs are far larger than all others",
            f"Normalise them, or leave it in floating point with overrides={{{name!r}: None}} in a "
            "NetworkApproximation",
        )


def _first_difference(original: nn.Module, converted: nn.Module, inputs: Inputs, folded: Mapping[str, str]) -> str:
    """Return which layer's output is the first to differ, and by how much; empty if the networks' outputs do not.

    Of networks that return nothing with a ratio, such as classes only, all layers have to give the same.
    """
    layers = [name for name, _ in approx_layers(converted)]
    expected, wanted = _outputs(original, inputs, {folded.get(name, name): name for name in layers})
    try:
        found, given = _outputs(converted, inputs, {name: name for name in layers})
    except ArgumentError:
        raise
    except Exception as error:  # of the network's own code
        return f"it fails ({type(error).__name__}: {error})"
    same = len(wanted) == len(given) and all(map(partial(_is_near, _EXACT_DB), wanted, given))
    if same and any(map(_has_ratio, wanted)):
        return ""
    for name, outputs in found.items():
        for one, other in zip(expected.get(name, []), outputs, strict=False):
            if not _is_near(_EXACT_DB, one, other):
                return f"the output of layer {name!r}, the first to differ, {_apart(one, other)}"
    for one, other in zip(wanted, given, strict=False):
        if not _is_near(_EXACT_DB, one, other):
            return f"its output, but of no layer, {_apart(one, other)}"
    return "" if same else "its output has other parts"


def _is_near(least_db: float, expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape:
        return False
    if not _has_ratio(expected):
        return True
    # What is masked by infinities in both has no ratio, and neither has what is zero but for rounding.
    counted = expected.isfinite() | ((expected != found) & ~(expected.isnan() & found.isnan()))
    expected, found = expected[counted], found[counted]
    if bool((found - expected).abs().max() <= 1e-6) if expected.numel() else True:
        return True
    return signal_to_noise_db(expected, found) >= least_db


def _has_ratio(output: Tensor) -> bool:
    """Whether it is of real or complex numbers: not, for example, of classes that were chosen, which may tip over."""
    return output.is_floating_point() or output.is_complex()


def _as_real(values: Tensor) -> Tensor:
    return (torch.view_as_real(values.resolve_conj()) if values.is_complex() else values).double()


def _apart(expected: Tensor, found: Tensor) -> str:
    if expected.shape != found.shape:
        return f"has shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    return f"has a signal-to-noise ratio of {signal_to_noise_db(expected, found):.1f} dB"


def _outputs(model: nn.Module, inputs: Inputs, names: Mapping[str, str]) -> tuple[_Outputs, list[Tensor]]:
    """Run a network: the outputs of some of its modules under new names, as they first run, and its own."""
    seen: _Outputs = {}

    def see(name: str, module: nn.Module, arguments: object, output: object) -> None:
        if isinstance(output, Tensor) and not output.is_nested:
            seen.setdefault(name, []).append(output.detach().clone())

    modules = dict(model.named_modules(remove_duplicate=False))
    handles = [
        modules[name].register_forward_hook(partial(see, known)) for name, known in names.items() if name in modules
    ]
    try:
        # What is drawn at random, as by a dropout that evaluation does not turn off, is the same in both.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            output = called(model, like(inputs, Tensor.clone))
    finally:
        for handle in handles:
            handle.remove()
    return seen, [one.to_padded_tensor(0.0) if one.is_nested else one for one in tensors_in(output)]


@contextmanager
def _in_floating_point(model: nn.Module) -> Iterator[None]:
    layers = [layer for _, layer in approx_layers(model)]
    for layer in layers:
        layer.computes_exactly = True
    try:
        yield
    finally:
        for layer in layers:
            layer.computes_exactly = False
