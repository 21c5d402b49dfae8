"""The dataflow of each layer: that of the hardware, or the cheapest that its array supports.

A mapper would choose for each layer how it runs. Here it has two ways, weights that stay and outputs that stay, and
takes the one that costs the layer less. Unfinished sums of weights that stay may need a larger activation memory, which
makes every access dearer; so the network also has the choice to keep weights only in layers whose sums fit the memory
that it needs anyway, and to have one way for all layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    outputs_stay = _priced(work, _under(counts, _OUTPUTS_STAY), hardware, costs)
    with_weights, with_outputs = _layer_energies(counts, outputs_stay.table)
    keeps_weights = with_weights < with_outputs
    if hardware.dram is None and not keeps_weights.any():
        return replace(outputs_stay, chosen=np.full(shape, _OUTPUTS_STAY))
    fits = counts.live_activation_bits[_WEIGHTS_STAY] <= outputs_stay.sizes.activation_kb * 8192
    is_fitted = hardware.activation_memory.capacity_kb is None
    if not is_fitted and hardware.dram is None:
        keeps_weights &= fits  # what is larger cannot run
    # A layer's choice matters to the others if unfinished sums need a larger memory, which is dearer for all; and by
    # the feature maps that stay in a memory of given size.
    matters = (keeps_weights & ~fits).any(axis=-1) if is_fitted else np.full(shape[:1], hardware.dram is not None)
    chosen = np.where(keeps_weights, _WEIGHTS_STAY, _OUTPUTS_STAY)
    if not matters.any():
        return replace(outputs_stay, counts=_under(counts, chosen), chosen=chosen)
    some, everywhere = work.subset(matters), np.ones_like(keeps_weights)
    ways = [
        np.where(keeps, _WEIGHTS_STAY, _OUTPUTS_STAY)[matters]
        for keeps in (keeps_weights & fits, keeps_weights, everywhere, ~everywhere)
    ]
    totals = [_total_energies(some, hardware, costs, way) for way in ways]
    chosen[matters] = np.array(ways)[np.argmin(totals, axis=0), np.arange(len(totals[0]))]
    return _priced(work, count_batch(work, hardware, chosen), hardware, costs, chosen)


def _total_energies(work: WorkloadBatch, hardware: Hardware, costs: CostTable, chosen: NDArray[np.intp]) -> Array:
    """Compute the likely energy of workloads under chosen dataflows: shape (workloads,)."""
    priced = _priced(work, count_batch(work, hardware, chosen), hardware, costs)
    return np.asarray(_layer_energies(priced.counts, priced.table).sum(axis=-1))


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
    return ActionCounts(**{name: getattr(counts, name)[0] for name in ActionCounts.__slots__})


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


def _under(counts: ActionCounts, chosen: NDArray[np.intp] | int) -> ActionCounts:
    """Return the counts of layers under one dataflow each, given as its index."""
    found = {name: getattr(counts, name) for name in ActionCounts.__slots__}
    first = chosen == 0
    for name, count in found.items():
        if count.ndim == 3:
            found[name] = count[chosen] if isinstance(chosen, int) else np.where(first, count[0], count[1])
    return ActionCounts(**found)
