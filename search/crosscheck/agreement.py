"""The energy of a front by a second model, ZigZag, and how far the two rankings agree.

ZigZag: L. Mei et al., Enlarging joint architecture-mapping design space exploration for DNN accelerators, IEEE
Transactions on Computers 70(8), 2021.

Both models get the same layers, array, memory capacities, widths and energies per bit, so they can differ in one thing
only: how often data move. `energy` counts by closed forms of a layer's dataflow. ZigZag is given the same stationary
operand and the same two memories, and then searches for the cheapest order of loops.

Multiply-accumulates, the weight memory, the activation memory (with partial sums) and DRAM are compared; registers,
clock, biases, requantisation, leakage and metadata are left out of both. ZigZag does not model zeros, so both score
every network as if it were dense; the energy that the search reported, with zeros, is shown beside.

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
from energy.hardware import FLAT_DATAFLOWS
from search.crosscheck.zigzag import Parts, load_zigzag, run_zigzag
from search.crosscheck.zigzag_inputs import ZigzagLayer, dense, zigzag_layers
from search.errors import UsageError
from search.space.stored_hardware import stored_hardware
from search.store.records import Record

SECONDS = (0.2, 4.0)  # about, for a fully connected layer and a convolution: estimates the time left


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelComparison:
    """The energy of a dense network by both models.

    Attributes:
        ours: Energy by `energy`.
        zigzag: Energy by ZigZag.
    """

    ours: Parts
    zigzag: Parts

    @property
    def ratio(self) -> float:
        """ZigZag's energy over ours."""
        return self.zigzag.total_pj / self.ours.total_pj


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two rankings agree: 1 for the same order, -1 for the opposite; None if all values of one are equal.

    Attributes:
        spearman: Spearman's rank correlation.
        kendall: Kendall's tau-b.
    """

    spearman: float | None
    kendall: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crosscheck:
    """The energies of the members of a front by both models.

    Attributes:
        records: The scored members.
        comparisons: ModelComparison of each member as a dense network.
        layers: Number of different layers that ZigZag scored.
        same_dataflow: Number of these for which ZigZag would choose the same dataflow; None if the hardware has one.
        seconds: Time that this took.
    """

    records: tuple[Record, ...]
    comparisons: tuple[ModelComparison, ...]
    layers: int
    same_dataflow: int | None
    seconds: float

    @property
    def dense(self) -> Agreement:
        """The agreement of the two models on dense networks, like for like."""
        return rank_agreement([one.ours.total_pj for one in self.comparisons], self._zigzag_pj)

    @property
    def searched(self) -> Agreement:
        """The agreement of ZigZag and the search's figures, which include zeros, registers, metadata and leakage."""
        return rank_agreement([record.evaluation.energy_pj for record in self.records], self._zigzag_pj)

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
        records: Evaluations, such as the front of a search.
        hardware: The hardware that they were evaluated for.
        costs: Costs of their multipliers; by default the built-in ones.
        on_layer: Called with the number of scored layers, the number of layers and the seconds left; first with 0.

    Raises:
        UsageError: If ZigZag is not installed, cannot express the hardware, or an evaluation has no workload.
        SearchError: If ZigZag finds no mapping.
    """
    load_zigzag()
    began = time.monotonic()
    workloads = [_workload_of(record) for record in records]
    bare = _without_outputs(hardware)
    layers = dict.fromkeys(
        layer for workload in workloads for layer in zigzag_layers(workload, bare, costs=costs or energy.CostTable())
    )
    alternatives = {layer: other_dataflow(layer) for layer in layers} if hardware.dataflow == "best" else {}
    known: dict[ZigzagLayer, Parts] = {}
    wanted = list(dict.fromkeys([*layers, *alternatives.values()]))
    likely = [SECONDS[layer.output_height * layer.output_width > 1] for layer in wanted]
    on_layer(0, len(wanted), sum(likely))
    for done, layer in enumerate(wanted, 1):
        known[layer] = run_zigzag(layer)
        pace = (time.monotonic() - began) / sum(likely[:done])
        on_layer(done, len(wanted), pace * sum(likely[done:]))
    same = [known[one].memories_pj <= known[other].memories_pj for one, other in alternatives.items()]
    return Crosscheck(
        records=tuple(records),
        comparisons=tuple(compare(workload, hardware, costs=costs, known=known) for workload in workloads),
        layers=len(layers),
        same_dataflow=sum(same) if alternatives else None,
        seconds=time.monotonic() - began,
    )


def other_dataflow(layer: ZigzagLayer) -> ZigzagLayer:
    """Return a layer under the other of the dataflows among which hardware can choose."""
    (other,) = (one for one in FLAT_DATAFLOWS if one != layer.dataflow)
    return replace(layer, dataflow=other)


def _without_outputs(hardware: energy.Hardware) -> energy.Hardware:
    """Return hardware without biases and scales of outputs, which ZigZag does not model."""
    return replace(hardware, bias_bits=0, scale_bits=0)


def compare(
    workload: energy.Workload,
    hardware: energy.Hardware,
    *,
    table: energy.EnergyTable | None = None,
    costs: energy.CostTable | None = None,
    known: dict[ZigzagLayer, Parts] | None = None,
) -> ModelComparison:
    """Score the dense version of one network by both models.

    Args:
        workload: The network; its zeros are ignored.
        hardware: The accelerator.
        table: Energies per action for both; by default those that `energy.estimate` uses for the dense network.
        costs: Costs of its multipliers; by default the built-in ones.
        known: ZigZag's results for layers; new ones are added.
    """
    known = {} if known is None else known
    full, bare = dense(workload), _without_outputs(hardware)
    costs = costs or energy.CostTable()
    report = energy.estimate(full, bare, table, costs=costs)
    components = report.components
    theirs = Parts()
    inputs = zigzag_layers(workload, bare, table=table, costs=costs)
    layers = zip(inputs, report.layers.values(), full.layers, strict=True)
    for layer, parts, ours in layers:
        if layer not in known:
            known[layer] = run_zigzag(layer)
        theirs = theirs.plus(replace(known[layer], mac=known[layer].mac * parts["mac"] / ours.macs))
    return ModelComparison(
        ours=Parts(
            mac=components["mac"],
            weight_sram=components["weight_sram"],
            activation_sram=components["activation_sram"] + components["partial_sums"],
            dram=components["dram"],
        ),
        zigzag=theirs.times(1 / workload.batch),
    )


def spread(records: Sequence[Record], members: int | None) -> tuple[Record, ...]:
    """Return `members` of the records, evenly spread from the first to the last; all if None or if there are fewer.

    Raises:
        UsageError: If `members` is below 2, which leaves nothing to rank.
    """
    if members is not None and members < 2:
        raise UsageError(f"`members` must be at least 2, because a single one has no rank, got {members}")
    if members is None or members >= len(records):
        return tuple(records)
    return tuple(records[round(at)] for at in np.linspace(0, len(records) - 1, members))


def hardware_of(identity: str, given: str | None = None) -> energy.Hardware:
    """Return the accelerator that a search was run for.

    Args:
        identity: Hardware identity that is stored with the search.
        given: A name or the path of a YAML file; not needed for built-in hardware.

    Raises:
        UsageError: If `given` is other hardware than the search's, or is missing.
        energy.HardwareError: If there is no such hardware.
    """
    hardware = stored_hardware(identity, given)
    if hardware.identity != identity:
        raise UsageError(f"the search ran on {identity}, but `hardware` {given} is {hardware.identity}")
    if hardware.alternatives:
        raise UsageError(f"the search chose among {identity}; cross-check one on a single accelerator")
    return hardware


def rank_agreement(first: Sequence[float], second: Sequence[float]) -> Agreement:
    """Return how far two lists of energies agree on the order of the same things."""
    return Agreement(spearman=spearman(first, second), kendall=kendall(first, second))


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation; equal values share the mean of their ranks. None if undefined."""
    x, y = (_ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale else None


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Kendall's tau-b: pairs in the same order minus pairs in opposite order, corrected for ties; or None."""
    x, y = (np.sign(np.subtract.outer(values, values)) for values in (first, second))
    scale = math.sqrt(float((x**2).sum()) * float((y**2).sum()))
    return float((x * y).sum()) / scale if scale else None


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Return ranks from 1; ties get the mean of their ranks."""
    array = np.asarray(values, dtype=np.float64)
    below = (array[None, :] < array[:, None]).sum(axis=1)
    equal = (array[None, :] == array[:, None]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2, dtype=np.float64)


def _workload_of(record: Record) -> energy.Workload:
    return energy.Workload.from_dict(record.evaluation.workload)
