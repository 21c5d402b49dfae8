"""Evaluate one candidate: the only file that knows both `approx` and `energy`.

    candidate -> train -> prune + retrain -> approximate + retrain -> store in faulty memory -> accuracy
                                                  +-> workload ----------------------------> energy

Each training stage is a function of what came before it, its own knobs and a seed, kept under a content hash of exactly
those, so that candidates which share a network train it once. The seed of every stage is drawn from that hash.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import approx
import energy
from search.candidate import Candidate, content_hash
from search.datasets import ImageSet, TaskData
from search.evaluation import EVALUATION_VERSION, Evaluation, Split
from search.executor import Job, Outcome
from search.stages import StageStore
from search.task import Task

_CALIBRATION_IMAGES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A trained network between two stages.

    Attributes:
        model: The network.
        masks: Layer name -> bool mask; empty when dense.
        key: Content hash of everything it depends on.
    """

    model: nn.Module
    masks: Mapping[str, Tensor]
    key: str


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
        self._seed = seed
        self._fingerprint = data.fingerprint
        self._images = {
            split: _as_tensors(images, task.pixel_max)
            for split, images in (
                ("train", data.train),
                ("validation", data.validation),
                ("test", data.test),
            )
        }
        self._stages = StageStore(stage_dir)

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
            energy.EnergyError: If no energy is known for its multiplier.
        """
        started = time.perf_counter()
        candidate = candidate.canonical()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            pruned = self._pruned(candidate)
            workload = self._workload(candidate, pruned)
            report = energy.estimate(workload, self._hardware)
            model = self._approximated(candidate, pruned)
            accuracies = self._chip_accuracies(candidate, model, split)
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

    def _trained(self, candidate: Candidate) -> Network:
        task, effort = self._task, self._task.effort
        knobs = {
            "stage": "train",
            "version": EVALUATION_VERSION,
            "data": self._fingerprint,
            "seed": self._seed,
            "family": candidate.family,
            "depth": candidate.depth,
            "width": candidate.width,
        }
        model = approx.build_network(
            approx.Architecture(family=candidate.family, depth=candidate.depth, width=candidate.width),
            image_shape=task.image_shape,
            classes=task.classes,
            seed=_seed(content_hash(knobs)),
        )
        key = self._fit(model, knobs, effort.train_epochs, effort.learning_rate)
        return Network(model=model, masks={}, key=key)

    def _pruned(self, candidate: Candidate) -> Network:
        trained = self._trained(candidate)
        if candidate.sparsity == 0:
            return trained
        effort = self._task.effort
        knobs = {"stage": "prune", "after": trained.key, "sparsity": candidate.sparsity}
        weights = {name: layer.weight for name, layer in approx.weight_layers(trained.model)}
        masks = approx.magnitude_masks(weights, candidate.sparsity)
        key = self._fit(trained.model, knobs, effort.prune_epochs, effort.retrain_learning_rate, masks)
        return Network(model=trained.model, masks=masks, key=key)

    def _approximated(self, candidate: Candidate, pruned: Network) -> nn.Module:
        effort = self._task.effort
        config = approx.LayerApproximation(
            weight_bits=candidate.weight_bits,
            activation_bits=candidate.activation_bits,
            multiplier=candidate.multiplier,
        )
        knobs = {"stage": "approximate", "after": pruned.key, **asdict(config)}
        calibration_data = self._images["train"].inputs(slice(0, _CALIBRATION_IMAGES))
        model = approx.approximate(pruned.model, config, calibration_data=calibration_data, masks=pruned.masks)
        self._fit(model, knobs, effort.approximate_epochs, effort.retrain_learning_rate)
        return model

    def _fit(
        self,
        model: nn.Module,
        knobs: Mapping[str, Any],
        epochs: float,
        learning_rate: float,
        masks: Mapping[str, Tensor] | None = None,
    ) -> str:
        """Train in place, or take over what the same stage found before; returns the stage's key."""
        schedule = approx.Schedule(epochs=epochs, batch_size=self._task.effort.batch_size, learning_rate=learning_rate)
        key = content_hash({**knobs, **asdict(schedule)})

        def compute() -> dict[str, Tensor]:
            approx.fit(model, self._images["train"], schedule, seed=_seed(key), masks=masks)
            return model.state_dict()

        model.load_state_dict(self._stages.get_or_compute(key, compute))
        return key

    def _chip_accuracies(self, candidate: Candidate, model: nn.Module, split: Split) -> tuple[float, ...]:
        """Accuracy on each chip. Chips differ in their failing cells only, so one tells all where none fails.

        The test images are read on other chips than those by which candidates are chosen.
        """
        images = self._images[split]
        rate = approx.SILICON_14NM.bit_error_rate(candidate.supply_v)
        chips = self._task.effort.chips
        if rate == 0 or candidate.robust_bits == candidate.weight_bits:
            return (approx.accuracy(model, images),) * chips
        accuracies = []
        for chip in range(chips):
            approx.set_faults(
                model,
                bit_error_rate=rate,
                robust_bits=candidate.robust_bits,
                chip_seed=_seed(content_hash({"chip": chip, "split": split, "seed": self._seed})),
            )
            accuracies.append(approx.accuracy(model, images))
        return tuple(accuracies)

    def _workload(self, candidate: Candidate, pruned: Network) -> energy.Workload:
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


def _seed(key: str) -> int:
    """A seed for torch.Generator from a content hash."""
    return int(key[:12], 16)


def _as_tensors(images: ImageSet, pixel_max: int) -> approx.LabelledImages:
    # Copies: arrays that Ray shares between processes are read-only, which torch does not support.
    return approx.LabelledImages(torch.tensor(images.pixels), torch.tensor(images.labels), pixel_max)
