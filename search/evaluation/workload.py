"""What a candidate's network asks of hardware: the bridge from `approx` to `energy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import energy
from search.space.candidate import NOMINAL_V, Candidate

if TYPE_CHECKING:
    import approx

T = TypeVar("T")


def workload_of(
    candidate: Candidate, shapes: Sequence[approx.LayerShape], hardware: energy.Hardware, *, kept: Mapping[str, int]
) -> energy.Workload:
    """The workload of one inference.

    Args:
        candidate: In canonical form.
        shapes: The layers of its network, in the order in which they run; at least one. One that runs twice counts
            twice.
        hardware: What runs it.
        kept: Layer name -> weights left after pruning; all, for a layer that is not named.

    Raises:
        energy.WorkloadError: If no energy is known for its multiplier.
    """
    knobs = candidate.knobs_of(list(dict.fromkeys(shape.name for shape in shapes)))
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
                multiplier=_own(knobs[shape.name].multiplier, candidate.multiplier),
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


def kept_weights(shapes: Sequence[approx.LayerShape], sparsity: float) -> dict[str, int]:
    """Return how many weights `approx.magnitude_masks` would keep in each layer: layer name -> weights left.

    Args:
        shapes: The layers of a network.
        sparsity: Share of each layer's weights to prune, in [0, 1).
    """
    weights = {shape.name: shape.inner * shape.outputs for shape in shapes}
    return {name: count - min(round(sparsity * count), count - 1) for name, count in weights.items()}


def on_hardware(workload: energy.Workload, candidate: Candidate, hardware: energy.Hardware) -> energy.Workload:
    """A candidate's workload with the voltage and the robust bits that it means on some hardware.

    The first and the last layer may have robust bits of their own. The voltage is relative to `NOMINAL_V`, at which no
    cell fails; that of the hardware's weight memory takes its place, so that a candidate means the same in any node. In
    a memory of 8T cells all bits are robust, without being named.
    """
    all_robust = hardware.weight_memory.cell == "8T"
    robust_bits = 0 if all_robust else candidate.robust_bits
    knobs = candidate.knobs_of(list(dict.fromkeys(_stored(layer.name) for layer in workload.layers)))
    return replace(
        workload,
        layers=tuple(
            replace(layer, robust_bits=_own(0 if all_robust else knobs[_stored(layer.name)].robust_bits, robust_bits))
            for layer in workload.layers
        ),
        weight_memory_v=round(candidate.supply_v / NOMINAL_V * hardware.weight_memory.supply_v, 6),
        robust_bits=robust_bits,
    )


def _stored(run: str) -> str:
    """The layer that a run is of; runs of one layer after the first have a number behind its name."""
    return run.partition("#")[0]


def _own(value: T, shared: T) -> T | None:
    """A layer's value, unless it is the one that all share."""
    return None if value == shared else value
