"""The workload of a candidate's network: the bridge from `approx` to `energy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import energy
from search.space.candidate import NOMINAL_V, Candidate

if TYPE_CHECKING:
    import approx

T = TypeVar("T")

_WIDEST = 12  # codes in `approx`


def workload_of(
    candidate: Candidate, shapes: Sequence[approx.LayerShape], hardware: energy.Hardware, *, kept: Mapping[str, int]
) -> energy.Workload:
    """Return the workload of one inference.

    Args:
        candidate: Candidate in canonical form.
        shapes: Layers of its network, in the order in which they run; at least one. One that runs twice counts twice.
        hardware: Hardware that runs it.
        kept: Layer name -> weights left after pruning; layers that are not named keep all weights.

    Raises:
        energy.WorkloadError: If no energy is known for its multiplier.
    """
    choices = candidate.layer_choices(list(dict.fromkeys(shape.name for shape in shapes)))
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
                multiplier=_unless_shared(choices[shape.name].multiplier, candidate.multiplier),
            )
        )
    workload = energy.Workload(
        layers=tuple(layers),
        weight_bits=candidate.weight_bits,
        activation_bits=candidate.activation_bits,
        multiplier=candidate.multiplier,
        weight_memory_v=candidate.supply_v,
        robust_bits=0,
    )
    return on_hardware(workload, candidate, hardware)


def circuit_bits(hardware: energy.Hardware) -> tuple[int, int] | None:
    """Return the widths of weights and activations that multipliers are built for; None for those of each candidate.

    Wider ones than `approx` knows are exact, which compute the same at any width.
    """
    widths = hardware.widths
    return None if widths is None else (min(widths.weights, _WIDEST), min(widths.activations, _WIDEST))


def kept_weights(shapes: Sequence[approx.LayerShape], sparsity: float) -> dict[str, int]:
    """Return how many weights `approx.magnitude_masks` would keep in each layer: layer name -> weights left.

    Args:
        shapes: The layers of a network.
        sparsity: Share of each layer's weights to prune, in [0, 1).
    """
    weights = {shape.name: shape.inner * shape.outputs for shape in shapes}
    return {name: count - min(round(sparsity * count), count - 1) for name, count in weights.items()}


def on_hardware(workload: energy.Workload, candidate: Candidate, hardware: energy.Hardware) -> energy.Workload:
    """Return a candidate's workload with its voltage, robust bits and batch on some hardware.

    The first and the last layer may have different robust bits. The candidate's voltage, relative to `NOMINAL_V`, is
    scaled to the supply voltage of the hardware's weight memory, so that a candidate means the same at any technology
    node. In a memory of 8T cells all bits are robust, so none are listed.
    """
    all_robust = hardware.weight_memory.cell == "8T"
    robust_bits = 0 if all_robust else candidate.robust_bits
    choices = candidate.layer_choices(list(dict.fromkeys(_stored(layer.name) for layer in workload.layers)))
    layer_bits = {layer: 0 if all_robust else choice.robust_bits for layer, choice in choices.items()}
    return replace(
        workload,
        layers=tuple(
            replace(layer, robust_bits=_unless_shared(layer_bits[_stored(layer.name)], robust_bits))
            for layer in workload.layers
        ),
        weight_memory_v=round(candidate.supply_v / NOMINAL_V * hardware.weight_memory.supply_v, 6),
        robust_bits=robust_bits,
        batch=hardware.batch,
    )


def _stored(run: str) -> str:
    """Return the layer of a run; later runs of one layer have a number after its name."""
    return run.partition("#")[0]


def _unless_shared(value: T, shared: T) -> T | None:
    """Return a layer's value, or None if it is the shared one."""
    return None if value == shared else value
