"""The workload of a network: the bridge from `approx` to `energy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import energy
from search.space.candidate import NOMINAL_V, Candidate, LayerChoice

if TYPE_CHECKING:
    import approx

T = TypeVar("T")

_WIDEST = 12  # codes in `approx`


def workload_of(
    candidate: Candidate, shapes: Sequence[approx.LayerShape], hardware: energy.Hardware, *, kept: Mapping[str, int]
) -> energy.Workload:
    """Return the workload of one inference of a candidate's network.

    Args:
        candidate: Candidate in canonical form.
        shapes: Layers of its network, in the order in which they run; at least one. One that runs twice counts twice.
        hardware: Hardware that runs it.
        kept: Layer name -> weights left after pruning; layers that are not named keep all weights.
    """
    return network_workload(
        shapes,
        candidate.layer_choices(list(dict.fromkeys(shape.name for shape in shapes))),
        hardware,
        shared=candidate.groups[1],
        weight_bits=candidate.weight_bits,
        activation_bits=candidate.activation_bits,
        supply_share=candidate.supply_v / NOMINAL_V,
        kept=kept,
    )


def network_workload(
    shapes: Sequence[approx.LayerShape],
    choices: Mapping[str, LayerChoice],
    hardware: energy.Hardware,
    *,
    shared: LayerChoice,
    weight_bits: int,
    activation_bits: int,
    supply_share: float,
    kept: Mapping[str, int],
) -> energy.Workload:
    """Return the workload of one inference of any network.

    Args:
        shapes: Its layers, in the order in which they run; at least one. One that runs twice counts twice.
        choices: Layer name -> its multiplier and robust bits.
        hardware: Hardware that runs it.
        shared: The choice of most layers.
        weight_bits: Width of a weight.
        activation_bits: Width of an activation.
        supply_share: Supply voltage of the weight memory over that of the hardware.
        kept: Layer name -> weights left after pruning; layers that are not named keep all weights.
    """
    runs: dict[str, int] = {}
    layers = []
    for shape in shapes:
        runs[shape.name] = runs.get(shape.name, 0) + 1
        layers.append(
            energy.LayerWorkload(
                name=shape.name if runs[shape.name] == 1 else f"{shape.name}#{runs[shape.name]}",
                positions=shape.positions,
                inner=shape.inner,
                outputs=shape.outputs,
                input_values=shape.input_values,
                nonzero_weights=kept.get(shape.name, shape.inner * shape.outputs),
                groups=shape.groups,
                kernel_height=shape.kernel_height,
                kernel_width=shape.kernel_width,
                output_height=shape.output_height,
                activation_density=shape.input_density,
                multiplier=_unless_shared(choices[shape.name].multiplier, shared.multiplier),
            )
        )
    workload = energy.Workload(
        layers=tuple(layers),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        multiplier=shared.multiplier,
        weight_memory_v=hardware.weight_memory.supply_v,
        robust_bits=0,
    )
    return _stored_on(workload, choices, hardware, shared=shared, supply_share=supply_share)


def circuit_bits(hardware: energy.Hardware) -> tuple[int, int] | None:
    """Return the widths of weights and activations that multipliers are built for; None for those of each candidate.

    Wider ones than `approx` knows are exact, which compute the same at any width.
    """
    widths = hardware.widths
    return None if widths is None else (min(widths.weights, _WIDEST), min(widths.activations, _WIDEST))


def kept_weights(
    shapes: Sequence[approx.LayerShape], sparsity: float, *, exponents: Mapping[str, float] = MappingProxyType({})
) -> dict[str, int]:
    """Return how many weights each layer keeps when weights are pruned: layer name -> weights left.

    Args:
        shapes: The layers of a network.
        sparsity: Share of its weights to prune, in [0, 1).
        exponents: Layer name -> e, of a layer that keeps (1 - sparsity)^e of its weights; 1 for others, as
            `approx.magnitude_masks` does.
    """
    weights = {shape.name: shape.inner * shape.outputs for shape in shapes}
    shares = {name: 1 - (1 - sparsity) ** exponents.get(name, 1.0) for name in weights}
    return {name: count - min(round(shares[name] * count), count - 1) for name, count in weights.items()}


def on_hardware(workload: energy.Workload, candidate: Candidate, hardware: energy.Hardware) -> energy.Workload:
    """Return a candidate's workload with its voltage, robust bits and batch on some hardware.

    The candidate's voltage, relative to `NOMINAL_V`, is scaled to the supply voltage of the hardware's weight memory,
    so that a candidate means the same at any technology node.
    """
    choices = candidate.layer_choices(list(dict.fromkeys(_stored(layer.name) for layer in workload.layers)))
    supply_share = candidate.supply_v / NOMINAL_V
    return _stored_on(workload, choices, hardware, shared=candidate.groups[1], supply_share=supply_share)


def _stored_on(
    workload: energy.Workload,
    choices: Mapping[str, LayerChoice],
    hardware: energy.Hardware,
    *,
    shared: LayerChoice,
    supply_share: float,
) -> energy.Workload:
    """Return a workload with its voltage, robust bits and batch on some hardware; see `network_workload`.

    In a memory of 8T cells all bits are robust, so none are listed.
    """
    all_robust = hardware.weight_memory.cell == "8T"
    robust_bits = 0 if all_robust else shared.robust_bits
    layer_bits = {layer: 0 if all_robust else choice.robust_bits for layer, choice in choices.items()}
    return replace(
        workload,
        layers=tuple(
            replace(layer, robust_bits=_unless_shared(layer_bits[_stored(layer.name)], robust_bits))
            for layer in workload.layers
        ),
        weight_memory_v=round(supply_share * hardware.weight_memory.supply_v, 6),
        robust_bits=robust_bits,
        batch=hardware.batch,
    )


def _stored(run: str) -> str:
    """Return the layer of a run; later runs of one layer have a number after its name."""
    return run.partition("#")[0]


def _unless_shared(value: T, shared: T) -> T | None:
    """Return a layer's value, or None if it is the shared one."""
    return None if value == shared else value
