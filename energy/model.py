"""The energy model: energy = sum over layers, components and actions of count x energy per action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from energy.actions import ActionCounts
from energy.area import area_mm2
from energy.arrays import Array
from energy.components import COMPONENTS, parts_pj
from energy.cost_table import CostTable, known_costs
from energy.errors import HardwareError, WorkloadError
from energy.estimates import Estimate
from energy.hardware import FLAT_DATAFLOWS, Dataflow, Hardware
from energy.mapping import map_batch
from energy.table import EnergyTable, memory_sizes
from energy.workload import Workload, WorkloadBatch


@dataclass(frozen=True, kw_only=True)
class EnergyReport:
    """Energy, time and area of one inference.

    Attributes:
        energies_pj: Shape (components, 3, layers): components are `COMPONENTS`; the middle axis is low, value, high.
        counts: Actions of a whole batch; shape (1, layers).
        table: The energies per action.
        latency_us: Time to complete a batch, in microseconds.
        cycles: Clock cycles of a batch.
        weight_memory_kb: Capacity of the weight memory, in KB.
        activation_memory_kb: Capacity of the activation memory, in KB.
        workload: The estimated workload.
        hardware: The accelerator; of several alternatives the cheapest.
        dataflows: Dataflow of each layer.
        costs: Costs of the multipliers.
    """

    energies_pj: Array = field(repr=False)
    counts: ActionCounts = field(repr=False)
    table: EnergyTable = field(repr=False)
    latency_us: float
    cycles: int
    weight_memory_kb: int
    activation_memory_kb: int
    workload: Workload = field(repr=False)
    hardware: Hardware = field(repr=False)
    dataflows: tuple[Dataflow, ...] = field(repr=False)
    costs: CostTable = field(repr=False)

    @property
    def area_mm2(self) -> Estimate:
        """Area of an array and memories built for this workload, in mm2."""
        work = self.workload.alone
        sizes = memory_sizes(work, self.counts, self.hardware)
        areas = area_mm2(work, self.counts, self.hardware, sizes, self.costs)
        return Estimate(*areas[:, 0].tolist())

    @property
    def layers(self) -> dict[str, dict[str, float]]:
        """Layer name -> component -> pJ."""
        rows = self.energies_pj[:, 1].T.tolist()
        return {
            layer.name: dict(zip(COMPONENTS, row, strict=True))
            for layer, row in zip(self.workload.layers, rows, strict=True)
        }

    @property
    def dense_layers(self) -> tuple[str, ...]:
        """Layers stored dense, pruned weights included, because that is the smallest format or the only one."""
        width = float(self.hardware.weight_memory.stored_bits(self.workload.weight_bits))
        stored = self.counts.stored_value_bits[0].tolist()
        layers = zip(self.workload.layers, stored, strict=True)
        return tuple(layer.name for layer, bits in layers if bits >= layer.weights * width)

    @property
    def components(self) -> dict[str, float]:
        """Component -> pJ, summed over layers."""
        return dict(zip(COMPONENTS, self.energies_pj[:, 1].sum(axis=1).tolist(), strict=True))

    @property
    def component_bands(self) -> dict[str, Estimate]:
        """Component -> low, likely and high pJ."""
        sums = self.energies_pj.sum(axis=2).tolist()
        return {name: Estimate(*band) for name, band in zip(COMPONENTS, sums, strict=True)}

    @property
    def energy_pj(self) -> float:
        """Energy of one inference, in pJ."""
        return self.energy_band.value

    @property
    def energy_band(self) -> Estimate:
        """Low, likely and high energy of one inference, in pJ."""
        return Estimate(*self.energies_pj.sum(axis=(0, 2)).tolist())


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """Energy, time and area of many workloads; each array's last axis is the workloads.

    Attributes:
        components_pj: Shape (components, 3, workloads): components are `COMPONENTS`; then low, value, high.
        latency_us: Time to complete a batch, in microseconds; shape (workloads,).
        area_mm2: Shape (3, workloads).
    """

    components_pj: Array
    latency_us: Array
    area_mm2: Array

    @property
    def energy_pj(self) -> Array:
        """Energy of one inference of each workload, in pJ."""
        return np.asarray(self.components_pj[:, 1].sum(axis=0))


def estimate(
    workload: Workload, hardware: Hardware, table: EnergyTable | None = None, *, costs: CostTable | None = None
) -> EnergyReport:
    """Estimate energy, time and area of one inference.

    Args:
        workload: The network's layers and knobs.
        hardware: The accelerator, or several of which the one is taken that costs the workload least.
        table: Energy per action; by default it is computed from the workload and the hardware. Dataflows are chosen by
            the computed one.
        costs: Costs of the multipliers; by default the shipped table with what `register_multiplier_cost` added.

    Raises:
        WorkloadError: If the cost of a multiplier is unknown, or the hardware cannot run the workload: its memories are
            too small and it has no DRAM, or it has no cells for the robust bits; or it is not a `Workload`.
        HardwareError: If the hardware is not a `Hardware`.
    """
    if not isinstance(workload, Workload):
        raise WorkloadError(f"workload must be an energy.Workload, got {workload!r}")
    if not isinstance(hardware, Hardware):
        raise HardwareError(f"hardware must be an energy.Hardware, as load_hardware returns it, got {hardware!r}")
    costs = known_costs() if costs is None else costs
    if hardware.alternatives:
        found = [estimate(workload, one, table, costs=costs) for one in hardware.alternatives]
        return min(found, key=lambda report: report.energy_pj)
    work = workload.alone
    mapped = map_batch(work, hardware, costs)
    counts, chosen, sizes = mapped.counts, mapped.chosen, mapped.sizes
    table = table or mapped.table
    cycles = float(counts.cycles.sum())
    return EnergyReport(
        energies_pj=_energies(counts, table, workload.batch)[:, :, 0],
        counts=counts,
        table=table,
        latency_us=cycles / hardware.clock_mhz,
        cycles=round(cycles),
        weight_memory_kb=int(sizes.weight_kb[0, 0]),
        activation_memory_kb=int(sizes.activation_kb[0, 0]),
        workload=workload,
        hardware=hardware,
        dataflows=(hardware.dataflow,) * len(workload.layers)
        if chosen is None
        else tuple(FLAT_DATAFLOWS[one] for one in chosen[0].tolist()),
        costs=costs,
    )


def estimate_batch(
    work: WorkloadBatch | Sequence[Workload], hardware: Hardware, *, costs: CostTable | None = None
) -> BatchReport:
    """Estimate many workloads at once: the same figures as `estimate`, many times faster.

    Args:
        work: The workloads; at least one.
        hardware: The accelerator, or several of which each workload takes the one that costs it least.
        costs: Costs of the multipliers; by default the shipped table with what `register_multiplier_cost` added.

    Raises:
        WorkloadError: If there is no workload, or one of them cannot be estimated; see `estimate`.
    """
    costs = known_costs() if costs is None else costs
    batch = work if isinstance(work, WorkloadBatch) else WorkloadBatch.of(work)
    if hardware.alternatives:
        return _cheapest([estimate_batch(batch, one, costs=costs) for one in hardware.alternatives])
    mapped = map_batch(batch, hardware, costs)
    counts = mapped.counts
    table = mapped.table.averaged(counts)
    # All layers of a workload have the same table now, so their counts can be added up first.
    summed = ActionCounts(**{one.name: getattr(counts, one.name).sum(axis=-1, keepdims=True) for one in fields(counts)})
    energies = _energies(summed, table, batch.layers.batch)
    return BatchReport(
        components_pj=energies[..., 0],
        latency_us=summed.cycles[:, 0] / hardware.clock_mhz,
        area_mm2=area_mm2(batch, counts, hardware, mapped.sizes, costs),
    )


def _cheapest(reports: Sequence[BatchReport]) -> BatchReport:
    """Take each workload from the report in which it costs least."""
    chosen = np.argmin([report.energy_pj for report in reports], axis=0)
    taken = {
        one.name: np.take_along_axis(
            found := np.array([getattr(report, one.name) for report in reports]),
            chosen.reshape(1, *(1,) * (found.ndim - 2), -1),
            axis=0,
        )[0]
        for one in fields(BatchReport)
    }
    return BatchReport(**taken)


def _energies(counts: ActionCounts, table: EnergyTable, batch: Array | int) -> Array:
    """Compute the energy of one inference in pJ: shape (components, 3, ..., layers)."""
    energies = np.empty((len(COMPONENTS), 3, *counts.macs.shape))
    for component, part in zip(energies, parts_pj(counts, table), strict=True):
        component[...] = part
    energies /= batch
    return energies
