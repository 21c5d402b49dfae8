"""The evaluation of one candidate: its accuracy with `approx`, its energy with `energy`.

    candidate -> train -> prune + retrain -> approximate + retrain -> store in faulty memory -> accuracy
                                                  +-> workload ----------------------------> energy

The stages are in `search.evaluation.training` or, for networks that are converted as they come, in
`search.evaluation.post_training`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import torch

import approx
import energy
from approx.partial_sums import MAX_SUM_BITS
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.chips import Chips
from search.evaluation.confirmation_run import ConfirmationRun, Outcomes
from search.evaluation.datasets import TaskData, fold
from search.evaluation.early_stopping import Rival, bar, is_beaten
from search.evaluation.emulation import Emulation, TrainedNetwork
from search.evaluation.evaluation import Evaluation, NarrowSums, Split
from search.evaluation.finished import FinishedNetworks
from search.evaluation.meter import Meter
from search.evaluation.metrics import chip_accuracies, class_accuracies, effective_images, grouped
from search.evaluation.networks import Networks, networks_of
from search.evaluation.task_images import TaskImages
from search.evaluation.threads import one_thread
from search.evaluation.timing import time_steps
from search.evaluation.training import untrained, untrained_layers
from search.evaluation.work import Done, Failed, Outcome, Result, WorkItem
from search.evaluation.workload import circuit_bits, workload_of
from search.multipliers.choice import ChosenMultiplier
from search.multipliers.known import KnownMultipliers
from search.space.candidate import Candidate
from search.space.plan import StepTimes
from search.space.task import Task
from search.space.unemulated import check_partial_sums

_CONFIRMING = 2**32  # first seed of confirmation runs, above all seeds of searches
_CONFIRMING_CHIPS = 20  # at least, in all runs together, of a network that is not retrained for each
_TRACED_IMAGES = 64  # enough for the share of activations that are zero


class Evaluator:
    """Evaluates candidates of one task on one hardware under one seed.

    Args:
        task: The task.
        data: Its images.
        hardware: Hardware for which energy is modelled.
        seed: Seed of the search.
        cache: Cache of trained networks.
        multipliers: Multipliers that candidates may have.

    Raises:
        UsageError: If the hardware's partial sums cannot be emulated.
    """

    def __init__(
        self,
        task: Task,
        data: TaskData,
        hardware: energy.Hardware,
        *,
        seed: int,
        cache: TrainingCache,
        multipliers: Iterable[ChosenMultiplier] = (),
    ) -> None:
        self._known = KnownMultipliers.of(multipliers)
        self._task = task
        self._hardware = hardware
        self._partial_sums = _partial_sums(hardware)
        self._emulation = Emulation(
            failures=hardware.weight_failures,
            circuit_bits=circuit_bits(hardware),
            partial_sums=self._partial_sums,
            multipliers=self._known.tables,
        )
        self._data = data
        self._cache = cache
        self._images = TaskImages(task, data)
        self._networks = self._networks_on(self._images, seed)
        self._finished = FinishedNetworks(task, cache)
        self._chips = Chips(self._images, self._emulation, count=task.effort.chips, seed=seed)

    def _networks_on(self, images: TaskImages, seed: int, *, own_baseline: bool = False) -> Networks:
        return networks_of(
            self._task, images, seed=seed, cache=self._cache, emulation=self._emulation, own_baseline=own_baseline
        )

    def run(self, job: WorkItem[Result]) -> Outcome[Result]:
        """Run one job. Any error becomes its outcome, so that one candidate never ends a search."""
        try:
            return Done(key=job.key, result=job.done_by(self))
        except Exception as error:
            return Failed(key=job.key, error=f"{type(error).__name__}: {error}")

    def inspect(self, candidate: Candidate) -> tuple[approx.LayerShape, ...]:
        """Return the layers of a candidate's untrained network; see `untrained_layers`."""
        return untrained_layers(self._task, candidate)

    def time(self, candidate: Candidate, limit_s: float) -> StepTimes:
        """Time a few steps of a candidate's network, on one thread; see `search.evaluation.timing`."""
        with one_thread():
            return time_steps(
                untrained(self._task, candidate, seed=0),
                self._images.train,
                self._task.effort,
                self._emulation.config(candidate),
                trains=self._task.train != "none",
                limit_s=limit_s,
            )

    def evaluate(
        self,
        candidate: Candidate,
        split: Split,
        *,
        rivals: Sequence[Rival] = (),
        costs: Sequence[str] = ("energy_pj",),
        keep_as: str | None = None,
    ) -> Evaluation:
        """Train the stages that are not cached, measure accuracy on `split` and model the energy.

        Runs on one thread regardless of the process's settings, so that every worker gets the same result.

        Args:
            candidate: Candidate to evaluate.
            split: Images to measure accuracy on.
            rivals: Evaluations that end the retraining early if they clearly beat the candidate.
            costs: Fields of `Evaluation` that the costs of `rivals` are.
            keep_as: Key of the evaluation, under which the finished network is kept; None to keep it not.

        Raises:
            approx.ApproxError: If the candidate names something unknown, or its training diverges.
            UsageError: If a custom network cannot be built, or was edited meanwhile.
            energy.EnergyError: If no energy is known for its multiplier.
        """
        meter = Meter()
        candidate = candidate.canonical()
        with one_thread():
            pruned = self._networks.pruned(candidate)
            workload = self._workload(candidate, pruned, self._images)
            report = energy.estimate(workload, self._hardware, costs=self._known.costs)
            figures = {
                "energy_pj": report.energy_pj,
                "area_mm2": report.area_mm2.value,
                "latency_us": report.latency_us,
            }
            to_reach = bar(rivals, tuple(figures[cost] for cost in costs))
            labels, metric = self._images.labels(split), self._task.metric
            _, groups = grouped(labels, metric)
            accuracies: tuple[float, ...]
            by_class: tuple[float | None, ...] = ()
            overflowed = None
            early: float | None
            try:
                model, early = self._networks.approximated(
                    candidate, pruned, dense_layers=report.dense_layers, judge=partial(_judge, to_reach)
                )
            except _BeatenError as beaten:
                stopped, early, accuracies = True, beaten.early, (beaten.early,)
            else:
                stopped = False
                approx.reset_overflows(model)
                right = self._chips.right(candidate, model, split, dense_layers=report.dense_layers)
                accuracies = chip_accuracies(right, labels, metric)
                by_class = class_accuracies(right, labels, self._task.classes)
                overflowed = _overflowed(model)
                if keep_as is not None:
                    self._finished.keep(keep_as, candidate, model, self._emulation, report.dense_layers)
        weights = sum(layer.weights for layer in workload.layers)
        spent = meter.spent()
        return Evaluation(
            candidate=candidate,
            chip_accuracies=accuracies,
            class_accuracies=by_class,
            components_pj=report.components,
            latency_us=report.latency_us,
            macs=workload.macs,
            density=sum(layer.nonzero_weights for layer in workload.layers) / weights,
            energy_range_pj=(report.energy_band.low, report.energy_band.high),
            area_mm2=report.area_mm2.value,
            workload=workload.to_dict(),
            hardware=report.hardware.name,
            dense_layers=report.dense_layers,
            failures=self._hardware.weight_failures,
            circuit_bits=circuit_bits(self._hardware),
            narrow_sums=self._narrow_sums(overflowed),
            precision=None if self._task.train == "none" else self._task.effort.precision,
            early_accuracy=early,
            stopped=stopped,
            seconds=spent.seconds,
            cpu_seconds=spent.cpu_seconds,
            joules=spent.joules,
            images=effective_images(groups),
        )

    def keep(self, key: str, candidate: Candidate, *, seed: int, dense_layers: Sequence[str]) -> bool:
        """Keep the finished network of an evaluation, unless a stage of it is no longer cached.

        Args:
            key: The evaluation's key.
            candidate: The candidate.
            seed: Seed of the search that made the evaluation.
            dense_layers: Layers whose pruned weights are stored too, as the evaluation says.

        Returns:
            Whether it is kept.
        """
        candidate = candidate.canonical()
        networks = networks_of(
            self._task,
            self._images,
            seed=seed,
            cache=self._cache,
            emulation=self._emulation,
            on_training=_no_training,
        )
        with one_thread():
            try:
                model, _ = networks.approximated(candidate, networks.pruned(candidate), dense_layers=dense_layers)
            except _NotCachedError:
                return False
            self._finished.keep(key, candidate, model, self._emulation, dense_layers)
        return True

    def confirm(self, candidate: Candidate, run: int) -> ConfirmationRun:
        """Measure a candidate on images and chips that did not choose it; see `fold` and `ConfirmationRun`.

        Unless the task's networks are converted as they come, it is retrained from other random numbers for that.

        Args:
            candidate: The candidate.
            run: Number of the run, from 0, which determines all that differs from the search.

        Raises:
            approx.ApproxError: If the candidate names something unknown, or its training diverges.
            UsageError: If a custom network cannot be built, or was edited meanwhile.
            energy.EnergyError: If no energy is known for its multiplier.
        """
        started = time.perf_counter()
        candidate = candidate.canonical()
        task, data, seed = self._task, fold(self._data, run, self._task.metric), _CONFIRMING + run
        images = TaskImages(task, data)
        retrained = task.train != "none"
        networks = self._networks
        if retrained:  # and the baseline too, unless all runs begin with the same one
            networks = self._networks_on(images, seed, own_baseline=not task.baseline_is_fixed)
        chips, tested_chips = self._confirming_chips(images, seed)
        with one_thread():
            pruned = networks.pruned(candidate)
            workload = self._workload(candidate, pruned, images)
            report = energy.estimate(workload, self._hardware, costs=self._known.costs)
            model, _ = networks.approximated(candidate, pruned, dense_layers=report.dense_layers)
            held_out = chips.right(candidate, model, "validation", dense_layers=report.dense_layers)
            tested = tested_chips.right(candidate, model, "test", dense_layers=report.dense_layers)
        labels, tested_labels, metric = images.labels("validation"), images.labels("test"), task.metric
        shared = self._data.confirmation is not None
        order, groups = grouped(labels, metric)
        _, pool = grouped(labels if shared else np.concatenate([labels, data.train.labels]), metric)
        return ConfirmationRun(
            candidate=candidate,
            run=run,
            chip_accuracies=chip_accuracies(held_out, labels, metric),
            images=effective_images(groups),
            pool=effective_images(pool),
            outcomes=Outcomes.of(held_out[:, order], groups) if shared else None,
            retrained=retrained,
            test_accuracies=chip_accuracies(tested, tested_labels, metric),
            test_class_accuracies=class_accuracies(tested, tested_labels, task.classes),
            seconds=time.perf_counter() - started,
        )

    def _confirming_chips(self, images: TaskImages, seed: int) -> tuple[Chips, Chips]:
        """Return the chips of a confirmation run for the images that confirm, and for the test images."""
        effort = self._task.effort
        count, tested = effort.chips, effort.chips
        if self._task.train == "none":
            # The runs differ in chips alone, and test images decide nothing.
            count, tested = max(effort.chips, -(-_CONFIRMING_CHIPS // effort.confirmations)), 1
        return (
            Chips(images, self._emulation, count=count, seed=seed),
            Chips(images, self._emulation, count=tested, seed=seed),
        )

    def _narrow_sums(self, overflowed: float | None) -> NarrowSums | None:
        sums = self._partial_sums
        return None if sums is None else NarrowSums(bits=sums.bits, overflow=sums.overflow, overflowed=overflowed)

    def _workload(self, candidate: Candidate, pruned: TrainedNetwork, images: TaskImages) -> energy.Workload:
        shapes = approx.trace(pruned.model, images.calibration_data()[:_TRACED_IMAGES])
        return workload_of(candidate, shapes, self._hardware, kept=pruned.kept_weights)


def _partial_sums(hardware: energy.Hardware) -> approx.PartialSums | None:
    check_partial_sums(hardware)
    bits = hardware.partial_sum_bits
    if bits is None or bits >= MAX_SUM_BITS:  # which hold every sum that is emulated
        return None
    return approx.PartialSums(bits=bits, overflow=hardware.partial_sum_overflow)


def _overflowed(model: torch.nn.Module) -> float | None:
    """Return the share of sums that overflowed; None where none can."""
    counts = approx.overflows(model).values()
    sums = sum(count.sums for count in counts)
    return sum(count.overflowed for count in counts) / sums if sums else None


class _NotCachedError(Exception):
    """Raised where a stage is not cached, and is not to be trained again."""


def _no_training(stage: str) -> None:
    raise _NotCachedError(stage)


class _BeatenError(Exception):
    """Raised early in the retraining of a candidate that others clearly beat."""

    def __init__(self, early: float) -> None:
        super().__init__(early)
        self.early = early


def _judge(to_reach: float | None, early: float) -> None:
    if is_beaten(early, to_reach):
        raise _BeatenError(early)
