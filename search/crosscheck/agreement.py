"""Energy of a front by a second model, ZigZag, and how far the two agree on which member costs less.

ZigZag: L. Mei et al., Enlarging joint architecture-mapping design space exploration for DNN accelerators, IEEE
Transactions on Computers 70(8), 2021.

Both models get the same layers, array, memory capacities, widths and energies per bit, so they can differ in one thing
only: how often data move. `energy` counts by closed forms of one fixed dataflow. ZigZag is given the same operand to
hold in the array and the same two memories, and then looks for the cheapest order of loops by itself.

Compared are multiply-accumulates, the weight memory, the activation memory (partial sums included) and DRAM. Left out
of both are registers, clock, leakage and metadata. ZigZag knows nothing of zeros, so both score every network as if it
were dense; what a search reported, with its zeros, is shown beside that.

ZigZag is optional: `pip install 'crosslayer[crosscheck]'`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import energy
from search.crosscheck.zigzag import Parts, load_zigzag, run_zigzag
from search.crosscheck.zigzag_inputs import ZigzagLayer, dense, zigzag_layers
from search.errors import UsageError
from search.store.records import Record

SECONDS = (0.2, 4.0)  # a fully connected layer and a convolution, about: for estimates of the time left


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A dense network by both models.

    Attributes:
        ours: By `energy`.
        zigzag: By ZigZag.
    """

    ours: Parts
    zigzag: Parts

    @property
    def ratio(self) -> float:
        """ZigZag's energy over ours."""
        return self.zigzag.total_pj / self.ours.total_pj


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two rankings agree: 1 for the same order, -1 for the opposite; None where one of them ranks nothing.

    Attributes:
        spearman: Spearman's rank correlation.
        kendall: Kendall's tau-b.
    """

    spearman: float | None
    kendall: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crosscheck:
    """Members of a front by both models.

    Attributes:
        records: The members that were scored.
        comparisons: Of each, as a dense network.
        layers: Different layers that ZigZag scored.
        seconds: Time it took.
    """

    records: tuple[Record, ...]
    comparisons: tuple[Comparison, ...]
    layers: int
    seconds: float

    @property
    def dense(self) -> Agreement:
        """Between the two models, of dense networks: like for like."""
        return agreement([one.ours.total_pj for one in self.comparisons], self._zigzag_pj)

    @property
    def searched(self) -> Agreement:
        """Between ZigZag and what the search reported, which includes zeros, registers, metadata and leakage."""
        return agreement([record.evaluation.energy_pj for record in self.records], self._zigzag_pj)

    @property
    def _zigzag_pj(self) -> list[float]:
        return [one.zigzag.total_pj for one in self.comparisons]


def crosscheck(
    records: Sequence[Record],
    hardware: energy.Hardware,
    *,
    costs: energy.CostTable | None = None,
    on_layer: Callable[[int, int, float], None] = lambda done, layers, seconds: None,
) -> Crosscheck:
    """Score evaluations with ZigZag.

    Args:
        records: Such as the front of a search.
        hardware: What they were evaluated for.
        costs: Costs of their multipliers; by default the built-in ones.
        on_layer: Called with how many of how many layers are scored and how many seconds are left; first with none.

    Raises:
        UsageError: If ZigZag is not installed, cannot express the hardware, or an evaluation has no workload.
        SearchError: If ZigZag finds no mapping.
    """
    load_zigzag()
    began = time.monotonic()
    workloads = [_workload_of(record) for record in records]
    layers = list(dict.fromkeys(layer for workload in workloads for layer in zigzag_layers(workload, hardware)))
    known: dict[ZigzagLayer, Parts] = {}
    likely = [SECONDS[layer.output_height * layer.output_width > 1] for layer in layers]
    on_layer(0, len(layers), sum(likely))
    for done, layer in enumerate(layers, 1):
        known[layer] = run_zigzag(layer)
        pace = (time.monotonic() - began) / sum(likely[:done])
        on_layer(done, len(layers), pace * sum(likely[done:]))
    return Crosscheck(
        records=tuple(records),
        comparisons=tuple(compare(workload, hardware, costs=costs, known=known) for workload in workloads),
        layers=len(layers),
        seconds=time.monotonic() - began,
    )


def compare(
    workload: energy.Workload,
    hardware: energy.Hardware,
    *,
    table: energy.EnergyTable | None = None,
    costs: energy.CostTable | None = None,
    known: dict[ZigzagLayer, Parts] | None = None,
) -> Comparison:
    """Score the dense version of one network by both models.

    Args:
        workload: The network; its zeros are ignored.
        hardware: The accelerator.
        table: Energies per action for both; by default those that `energy.estimate` uses for the dense network.
        costs: Costs of its multipliers; by default the built-in ones.
        known: What ZigZag said of layers before; what it says now is added.
    """
    known = {} if known is None else known
    full = dense(workload)
    report = energy.estimate(full, hardware, table, costs=costs or energy.CostTable())
    components = report.components
    theirs = Parts()
    layers = zip(zigzag_layers(workload, hardware, table=table), report.counts.sum_bits[0], strict=True)
    for index, (layer, sum_bits) in enumerate(layers):
        entries = report.table.values(index)
        if layer not in known:
            known[layer] = run_zigzag(layer)
        mac_pj = entries["multiply_pj"] + entries["add_pj_per_bit"] * float(sum_bits)
        theirs = theirs.plus(replace(known[layer], mac=known[layer].mac * mac_pj))
    return Comparison(
        ours=Parts(
            mac=components["mac"],
            weight_sram=components["weight_sram"],
            activation_sram=components["activation_sram"] + components["partial_sums"],
            dram=components["dram"],
        ),
        zigzag=theirs.times(1 / workload.batch),
    )


def spread(records: Sequence[Record], members: int | None) -> tuple[Record, ...]:
    """So many of them at even distances, the first and the last among them; all, if None or there are no more.

    Raises:
        UsageError: If fewer than two are asked for, which nothing can be ranked by.
    """
    if members is not None and members < 2:
        raise UsageError(f"`members` must be at least 2, because a single one has no rank, got {members}")
    if members is None or members >= len(records):
        return tuple(records)
    return tuple(records[round(at)] for at in np.linspace(0, len(records) - 1, members))


def hardware_of(identity: str, given: str | None = None) -> energy.Hardware:
    """The accelerator that a search was run for.

    Args:
        identity: As stored with the search.
        given: The name or file that a person gives; needed where the search used a file of their own.

    Raises:
        UsageError: If it is not the search's.
        energy.HardwareError: If there is no such description.
    """
    if given is None and identity not in energy.hardware_names():
        raise UsageError(
            f"the search ran on {identity}, which does not come with the package; add `hardware` FILE.yaml"
        )
    hardware = energy.load_hardware(given or identity)
    if hardware.identity != identity:
        raise UsageError(f"the search ran on {identity}, but `hardware` {given} is {hardware.identity}")
    return hardware


def agreement(first: Sequence[float], second: Sequence[float]) -> Agreement:
    """How far two lists of energies rank the same things alike."""
    return Agreement(spearman=spearman(first, second), kendall=kendall(first, second))


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation: Pearson's, of ranks; equal values share the mean of theirs. None if undefined."""
    x, y = (_ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale else None


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b: pairs in the same order less pairs in opposite order, corrected for ties. None if undefined."""
    x, y = (np.sign(np.subtract.outer(values, values)) for values in (first, second))
    scale = math.sqrt(float((x**2).sum()) * float((y**2).sum()))
    return float((x * y).sum()) / scale if scale else None


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 1; ties get the mean of the ranks that they take up."""
    array = np.asarray(values, dtype=np.float64)
    below = (array[None, :] < array[:, None]).sum(axis=1)
    equal = (array[None, :] == array[:, None]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2, dtype=np.float64)


def _workload_of(record: Record) -> energy.Workload:
    return energy.Workload.from_dict(record.evaluation.workload)
