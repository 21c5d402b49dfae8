"""Evaluate one candidate: the only file that knows both `approx` and `energy`.

    candidate -> train -> prune + retrain -> approximate + retrain -> store in faulty memory -> accuracy
                                                  +-> workload ----------------------------> energy

The stages are in `search.training`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch

import approx
import energy
from search.candidate import Candidate
from search.datasets import TaskData
from search.evaluation import Evaluation, Split
from search.executor import Job, Outcome
from search.multiplier_choice import ChosenMultiplier, register
from search.stages import StageStore
from search.task import Task
from search.training import TrainedNetwork, Training
from search.workload import workload_of

_TRACED_IMAGES = 64  # enough for the share of activations that are zero


class Evaluator:
    """Evaluates candidates of one task on one hardware under one seed.

    Args:
        task: What is classified.
        data: Its images.
        hardware: What energy is modelled for.
        seed: Of the search.
        stages: Keeps what is trained.
        multipliers: What this process has to know of multipliers that do not come with the package.
    """

    def __init__(
        self,
        task: Task,
        data: TaskData,
        hardware: energy.Hardware,
        *,
        seed: int,
        stages: StageStore,
        multipliers: Iterable[ChosenMultiplier] = (),
    ) -> None:
        register(multipliers)
        self._task = task
        self._hardware = hardware
        self._training = Training(task, data, seed=seed, stages=stages, failures=hardware.weight_failures)

    def run(self, job: Job) -> Outcome:
        """Evaluate one job; whatever goes wrong becomes its outcome, so that one candidate never ends a search."""
        try:
            evaluation = self.evaluate(job.candidate, job.split)
        except Exception as error:
            return Outcome(key=job.key, evaluation=None, error=f"{type(error).__name__}: {error}")
        return Outcome(key=job.key, evaluation=evaluation, error=None)

    def evaluate(self, candidate: Candidate, split: Split) -> Evaluation:
        """Train what is not kept yet, then measure accuracy on `split` and model the energy.

        Runs on one thread whatever the process is set to, so that every worker finds the same result.

        Raises:
            approx.ApproxError: If the candidate names something unknown, or its training diverges.
            UsageError: If a person's own network cannot be built, or was edited meanwhile.
            energy.EnergyError: If no energy is known for its multiplier.
        """
        started = time.perf_counter()
        candidate = candidate.canonical()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            pruned = self._training.pruned(candidate)
            workload = self._workload(candidate, pruned)
            report = energy.estimate(workload, self._hardware)
            model = self._training.approximated(candidate, pruned)
            accuracies = self._training.chip_accuracies(candidate, model, split, dense_layers=report.dense_layers)
        finally:
            torch.set_num_threads(threads)
        weights = sum(layer.weights for layer in workload.layers)
        return Evaluation(
            candidate=candidate,
            chip_accuracies=accuracies,
            components_pj=report.components,
            latency_us=report.latency_us,
            macs=workload.macs,
            density=sum(layer.nonzero_weights for layer in workload.layers) / weights,
            energy_range_pj=(report.energy_band.low, report.energy_band.high),
            area_mm2=report.area_mm2.value,
            workload=workload.to_dict(),
            dense_layers=report.dense_layers,
            failures=self._hardware.weight_failures,
            seconds=time.perf_counter() - started,
        )

    def _workload(self, candidate: Candidate, pruned: TrainedNetwork) -> energy.Workload:
        shapes = approx.trace(pruned.model, self._training.calibration_data()[:_TRACED_IMAGES])
        return workload_of(candidate, shapes, self._hardware, kept=pruned.kept_weights)
