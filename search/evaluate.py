"""Evaluate one candidate: the only file that knows both `approx` and `energy`.

    candidate -> train -> prune + retrain -> approximate + retrain -> store in faulty memory -> accuracy
                                                  +-> workload ----------------------------> energy

The stages are in `search.training`.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

import approx
import energy
from search.candidate import Candidate
from search.datasets import TaskData
from search.evaluation import Evaluation, Split
from search.executor import Job, Outcome
from search.task import Task
from search.training import TrainedNetwork, Training


class Evaluator:
    """Evaluates candidates of one task on one hardware under one seed."""

    def __init__(
        self,
        task: Task,
        data: TaskData,
        hardware: energy.Hardware,
        *,
        seed: int,
        stage_dir: Path,
    ) -> None:
        self._task = task
        self._hardware = hardware
        self._training = Training(task, data, seed=seed, stage_dir=stage_dir)

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
            accuracies = self._training.chip_accuracies(candidate, model, split)
        finally:
            torch.set_num_threads(threads)
        weights = sum(layer.weights for layer in workload.layers)
        return Evaluation(
            candidate=candidate,
            chip_accuracies=accuracies,
            components_pj=report.components,
            latency_us=report.latency_us,
            macs=workload.macs,
            density=sum(layer.stored_weights for layer in workload.layers) / weights,
            seconds=time.perf_counter() - started,
        )

    def _workload(self, candidate: Candidate, pruned: TrainedNetwork) -> energy.Workload:
        example = torch.zeros(1, *self._task.image_shape)
        layers = []
        for shape in approx.trace(pruned.model, example):
            mask = pruned.masks.get(shape.name)
            weights = shape.inner * shape.outputs
            layers.append(
                energy.LayerWorkload(
                    name=shape.name,
                    positions=shape.positions,
                    inner=shape.inner,
                    outputs=shape.outputs,
                    input_values=shape.input_values,
                    stored_weights=weights if mask is None else int(mask.sum()),
                    compressed=mask is not None,
                )
            )
        return energy.Workload(
            layers=tuple(layers),
            weight_bits=candidate.weight_bits,
            activation_bits=candidate.activation_bits,
            multiplier=candidate.multiplier,
            weight_memory_v=candidate.supply_v,
            robust_bits=candidate.robust_bits,
        )
