"""The memories of a converted network, and the chip whose failed cells they have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import replace

from torch import nn

from approx.checks import check_model, check_seed, check_type
from approx.config import FaultyMemory
from approx.errors import ArgumentError
from approx.surgery import approx_layers


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
        weights: Faults of the weight memory; None is a perfect one.
        activations: Faults of the activation memory; None is a perfect one.
        robust_bits: Layer name -> number of top bits of its weights in 8T cells, for layers that differ from
            `weights`; see `allocate_robust_bits`.
        dense_layers: Names of layers whose pruned weights are stored too; in other layers `weights` decides.

    Raises:
        ArgumentError: If no layer has a given name, or robust bits are given without a weight memory.
    """
    check_model("model", model)
    for parameter, memory in (("weights", weights), ("activations", activations)):
        check_type(parameter, memory, (FaultyMemory, type(None)), "an approx.FaultyMemory or None")
    check_type("robust_bits", robust_bits, (Mapping, type(None)), "a mapping from layer names to numbers of bits")
    check_type("dense_layers", dense_layers, (list, tuple, Set), "a list of layer names")
    layers = dict(approx_layers(model))
    robust = dict(robust_bits or {})
    for parameter, names in (("robust_bits", robust.keys()), ("dense_layers", set(dense_layers))):
        if unknown := sorted(names - layers.keys()):
            raise ArgumentError(
                f"`{parameter}` names {unknown[0]!r}, but the approximate layers are {', '.join(layers)}"
            )
    if robust and weights is None:
        raise ArgumentError("`robust_bits` needs a weight memory; pass weights=FaultyMemory(...)")
    for name, layer in layers.items():
        layer.weight_memory = weights
        if weights is not None and name in robust:
            layer.weight_memory = replace(weights, robust_bits=robust[name])
        if layer.weight_memory is not None and name in dense_layers:
            layer.weight_memory = replace(layer.weight_memory, stores_pruned=True)
        layer.activation_memory = activations
    use_chip(model, None)


def use_chip(model: nn.Module, chip_seed: int | None) -> None:
    """Put a model on a chip, in place: from now on the faults of its memories change codes.

    A chip has the same failed cells at every error rate: those at a lower rate are among those at a higher rate. Pruned
    weights cannot fail, unless the memory stores them.

    Args:
        model: From `approximate`.
        chip_seed: The number of the chip, at least 0; None is a chip whose memories are perfect.

    Raises:
        ArgumentError: If the seed is negative.
    """
    check_model("model", model)
    if chip_seed is not None:
        check_seed("chip_seed", chip_seed)
    for name, layer in approx_layers(model):
        layer.put_on_chip(name, chip_seed)
