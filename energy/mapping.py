"""The dataflow of each layer: that of the hardware, or the cheapest that its array supports.

A mapper would choose for each layer how it runs. Here it has two ways, weights that stay and outputs that stay, and
takes the one that costs the layer less. Unfinished sums of weights that stay may need a larger activation memory, which
makes every access dearer; so the network also has the choice to keep weights only in layers whose sums fit the memory
that it needs anyway, and to have one way for all layers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from energy.actions import ActionCounts, count_batch
from energy.arrays import Array
from energy.components import parts_pj
from energy.cost_table import CostTable, known_costs
from energy.errors import WorkloadError
from energy.hardware import FLAT_DATAFLOWS, Hardware
from energy.table import EnergyTable, MemorySizes, energy_table, memory_sizes
from energy.workload import Workload, WorkloadBatch

_WEIGHTS_STAY, _OUTPUTS_STAY = (FLAT_DATAFLOWS.index(f"{kind}-stationary") for kind in ("weight", "output"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """Workloads on hardware.

    Attributes:
        counts: Actions of each layer under its dataflow; shape (workloads, layers).
        sizes: Sizes of the memories.
        table: Energy per action.
        chosen: Dataflow of each layer as an index into `FLAT_DATAFLOWS`, of shape (workloads, layers); None if the
            hardware leaves no choice.
    """

    counts: ActionCounts
    sizes: MemorySizes
    table: EnergyTable
    chosen: NDArray[np.intp] | None


def map_batch(work: WorkloadBatch, hardware: Hardware, costs: CostTable) -> Mapped:
    """Count the actions of every layer under its dataflow, and price them.

    Raises:
        WorkloadError: See `energy.estimate`.
    """
    counts = count_batch(work, hardware)
    if hardware.dataflow != "best":
        return _priced(work, counts, hardware, costs)
    shape = counts.sum_bits.shape
    all_weights, all_outputs = (np.full(shape, one) for one in (_WEIGHTS_STAY, _OUTPUTS_STAY))
    outputs_stay = _priced(work, _under(counts, all_outputs), hardware, costs)
    cheapest = np.argmin(_layer_energies(counts, outputs_stay.table), axis=0)
    fits = counts.live_activation_bits[_WEIGHTS_STAY] <= outputs_stay.sizes.activation_kb * 8192
    fitting = np.where(fits, cheapest, _OUTPUTS_STAY)
    is_fitted = hardware.activation_memory.capacity_kb is None
    if (fitting != cheapest).any() if is_fitted else hardware.dram is not None:
        # A layer's choice matters to the others, by the size of the memory or by the feature maps that stay in it.
        ways = np.array([fitting, cheapest, all_weights, all_outputs])
        tried = [_priced(work, count_batch(work, hardware, way), hardware, costs) for way in ways]
        totals = [_layer_energies(one.counts, one.table).sum(axis=-1) for one in tried]
        chosen = ways[np.argmin(totals, axis=0), np.arange(shape[0])]
        return _priced(work, count_batch(work, hardware, chosen), hardware, costs, chosen)
    # Then the memories are those of outputs that stay.
    return Mapped(counts=_under(counts, fitting), sizes=outputs_stay.sizes, table=outputs_stay.table, chosen=fitting)


def count_actions(workload: Workload, hardware: Hardware, *, costs: CostTable | None = None) -> ActionCounts:
    """Count the actions of every layer of a workload: arrays of shape (layers,).

    Args:
        workload: The network's layers and knobs.
        hardware: The accelerator.
        costs: Costs of the multipliers, which matter only if the hardware chooses dataflows; by default the shipped
            table with what `register_multiplier_cost` added.

    Raises:
        WorkloadError: If the hardware chooses dataflows, see `energy.estimate`; or is one of several accelerators.
    """
    if hardware.alternatives:
        raise WorkloadError(f"actions are counted on one accelerator, got a choice of {hardware.name}")
    if hardware.dataflow != "best":
        counts = count_batch(workload.alone, hardware)
    else:
        counts = map_batch(workload.alone, hardware, known_costs() if costs is None else costs).counts
    return ActionCounts(**{one.name: getattr(counts, one.name)[0] for one in fields(counts)})


def _priced(
    work: WorkloadBatch,
    counts: ActionCounts,
    hardware: Hardware,
    costs: CostTable,
    chosen: NDArray[np.intp] | None = None,
) -> Mapped:
    sizes = memory_sizes(work, counts, hardware)
    table = energy_table(work, counts, hardware, sizes, costs)
    return Mapped(counts=counts, sizes=sizes, table=table, chosen=chosen)


def _layer_energies(counts: ActionCounts, table: EnergyTable) -> Array:
    """Compute the likely energy of each layer: shape (..., workloads, layers)."""
    return np.asarray(sum(parts_pj(counts, table.likely)))


def _under(counts: ActionCounts, chosen: NDArray[np.intp]) -> ActionCounts:
    """Return the counts of layers under one dataflow each, given as its index."""
    found = {}
    for one in fields(counts):
        count = getattr(counts, one.name)
        found[one.name] = np.take_along_axis(count, chosen[None], axis=0)[0] if count.ndim > chosen.ndim else count
    return ActionCounts(**found)
