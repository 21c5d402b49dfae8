"""The stages that train, prune and approximate a candidate's network.

Each stage depends on the stage before it, its own settings and a seed, and is cached under a content hash of exactly
those, so that candidates that share a network train it once. The seed of every stage is drawn from that hash.

Retraining on integer codes can undo a network. A BatchNorm that was folded no longer makes good for large steps: then a
step of Adam, which moves each weight by about the rate, moves the sums of all inputs of a wide layer far. The rates of
the built-in families suit their layers. Custom networks have any, so their rate is at most half of one over the inputs
of a sum, as in Yang et al. (Tensor Programs V, NeurIPS 2021), where Adam's rate falls with the width; and where a
network is clearly worse after retraining, on images that it was retrained on, it is kept as it was converted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

import approx
from approx.copying import copied
from approx.state import restore, whole_state
from approx.surgery import fix_computed_weights
from search.content_hash import content_hash, seed_of
from search.errors import UsageError
from search.evaluation import early_stopping as stopping
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.chips import right_without_faults
from search.evaluation.emulation import Emulation, TrainedNetwork
from search.evaluation.evaluation import share_error
from search.evaluation.metrics import chip_accuracies, effective_images, grouped
from search.evaluation.task_images import TaskImages
from search.space.candidate import Candidate
from search.space.custom_network import build_custom_network
from search.space.task import CHANNEL_STEPS, RETRAINING_VERSION, Task

_VERSION = 7  # raise whenever the same stage would be trained differently
_LARGEST_STEP = 0.5  # of Adam in a sum, in inputs of mean size
_CLEARLY = 2.0  # standard errors
_EARLY = "early_accuracy"  # beside a network's tensors, whose names have a dot


class Training:
    """Trains the networks of one task under one seed, or takes them from the cache.

    Args:
        task: The task. Its networks are trained from scratch, or come trained and are fine-tuned.
        images: Its images.
        seed: Seed of the search, or of a fresh run.
        cache: Cache of trained networks.
        emulation: How networks compute.
        on_training: Called with the name of each stage that is not cached, before it is trained.
    """

    def __init__(
        self,
        task: Task,
        images: TaskImages,
        *,
        seed: int,
        cache: TrainingCache,
        emulation: Emulation,
        on_training: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self._task = task
        self._images = images
        self._seed = seed
        self._cache = cache
        self._emulation = emulation
        self._on_training = on_training

    def pruned(self, candidate: Candidate) -> TrainedNetwork:
        """Return the candidate's network: trained and, if the candidate is sparse, pruned and retrained."""
        trained = self._trained(candidate) if self._task.train == "scratch" else self._derived(candidate)
        if candidate.sparsity == 0:
            return trained
        effort = self._task.effort
        settings = {"stage": "prune", "after": trained.key, "sparsity": candidate.sparsity}
        fix_computed_weights(trained.model)  # which would not be found
        weights = {name: layer.weight for name, layer in approx.weight_layers(trained.model)}
        masks = approx.magnitude_masks(weights, candidate.sparsity)
        key = self._fit(trained.model, settings, effort.prune_epochs, effort.prune_learning_rate, masks)
        return TrainedNetwork(model=trained.model, masks=masks, key=key)

    def _trained(self, candidate: Candidate) -> TrainedNetwork:
        """Return the candidate's network, trained from scratch."""
        effort, settings = self._task.effort, self._origin("train", candidate)
        model = untrained(self._task, candidate, seed=seed_of(content_hash(settings)))
        key = self._fit(model, settings, effort.train_epochs, effort.learning_rate)
        return TrainedNetwork(model=model, masks={}, key=key)

    def _derived(self, candidate: Candidate) -> TrainedNetwork:
        """Return the network that comes trained; one from which channels were removed is fine-tuned."""
        effort, settings = self._task.effort, self._origin("derive", candidate)
        model = untrained(self._task, candidate, seed=0)
        if candidate.width == CHANNEL_STEPS:
            return TrainedNetwork(model=model, masks={}, key=content_hash(settings))  # as it was given
        key = self._fit(model, settings, effort.prune_epochs, effort.prune_learning_rate)
        return TrainedNetwork(model=model, masks={}, key=key)

    def _origin(self, stage: str, candidate: Candidate) -> dict[str, Any]:
        """Return the settings of a first stage."""
        task = self._task
        return {
            "stage": stage,
            "version": _VERSION,
            "data": self._images.data.fingerprint,
            "seed": self._seed,
            "family": candidate.family,
            "depth": candidate.depth,
            "width": candidate.width,
            **({"network": task.network.fingerprint} if task.network else {}),
            **({"mean": list(task.mean), "std": list(task.std)} if task.mean or task.std else {}),
        }

    def approximated(
        self, candidate: Candidate, network: TrainedNetwork, *, judge: Callable[[float], None] = lambda early: None
    ) -> tuple[nn.Module, float]:
        """Convert a candidate's network to integer codes and retrain it, with a perfect memory.

        A custom network is kept as it was converted if retraining makes it clearly worse.

        Args:
            candidate: Candidate in canonical form.
            network: Its network from `pruned`.
            judge: Called with the accuracy early in the retraining; may raise an exception to stop it.

        Returns:
            The network, and its early accuracy.
        """
        effort, metric = self._task.effort, self._task.metric
        layers = approx.layer_order(network.model, self._images.example())
        settings = {
            "stage": "approximate",
            "after": network.key,
            **self._emulation.settings(candidate, layers),
            **({"metric": metric} if metric != "accuracy" else {}),  # of the early accuracy
            **({"retraining": RETRAINING_VERSION} if self._task.network else {}),
        }
        model = self._emulation.approximated(
            candidate, network, layers, calibration_data=self._images.calibration_data()
        )
        early: list[float] = []

        def after_step(step: int, steps: int) -> None:
            if step == math.ceil(stopping.SHARE * steps):
                early.append(self._validation_accuracy(model))
                judge(early[0])

        def finished() -> dict[str, Tensor]:
            # If there was no step, the accuracy is measured at the end.
            measured = early[0] if early else self._validation_accuracy(model)
            return {**whole_state(model), _EARLY: torch.tensor(measured, dtype=torch.float64)}

        rate: float = effort.approximate_learning_rate
        guard: AbstractContextManager[None] | None = None
        if self._task.network is not None:
            rate = min([rate, *(_LARGEST_STEP / inputs for inputs in _inputs_of_folded(network.model, model))])
            guard = self._restored_if_worse(model)
        schedule = self._schedule(effort.approximate_epochs, rate)
        result = self._stage(model, settings, schedule, after_step=after_step, finished=finished, guard=guard)
        measured = result.pop(_EARLY).item()
        restore(model, result)
        judge(measured)
        return model, measured

    @contextmanager
    def _restored_if_worse(self, model: nn.Module) -> Iterator[None]:
        """Restore a network that is clearly less accurate on training images at the end of the context, or diverges."""
        images = self._images.training_sample()
        labels, metric = images.labels.numpy(), self._task.metric

        def accuracy() -> float:
            (found,) = chip_accuracies(right_without_faults(model, images)[None], labels, metric)
            return found

        before, state = accuracy(), copy.deepcopy(whole_state(model))
        try:
            yield
        except approx.DivergedError:
            restore(model, state)
            return
        after, count = accuracy(), effective_images(grouped(labels, metric)[1])
        if before - after > _CLEARLY * math.hypot(share_error(before, count), share_error(after, count)):
            restore(model, state)

    def _validation_accuracy(self, model: nn.Module) -> float:
        right = right_without_faults(model, self._images.of("validation"))
        (accuracy,) = chip_accuracies(right[None], self._images.labels("validation"), self._task.metric)
        return accuracy

    def _fit(
        self,
        model: nn.Module,
        settings: Mapping[str, Any],
        epochs: float,
        learning_rate: float,
        masks: Mapping[str, Tensor] | None = None,
    ) -> str:
        """Train in place, or load the stage's cached result; return the stage's key."""
        schedule = self._schedule(epochs, learning_rate)
        restore(model, self._stage(model, settings, schedule, masks=masks, finished=lambda: whole_state(model)))
        return _stage_key(settings, schedule)

    def _schedule(self, epochs: float, learning_rate: float) -> approx.Schedule:
        effort = self._task.effort
        return approx.Schedule(
            epochs=epochs,
            batch_size=effort.batch_size,
            learning_rate=learning_rate,
            augmentation=effort.augmentation,
        )

    def _stage(
        self,
        model: nn.Module,
        settings: Mapping[str, Any],
        schedule: approx.Schedule,
        *,
        finished: Callable[[], dict[str, Tensor]],
        masks: Mapping[str, Tensor] | None = None,
        after_step: Callable[[int, int], None] | None = None,
        guard: AbstractContextManager[None] | None = None,
    ) -> dict[str, Tensor]:
        """Return the result of a stage, from the cache or by training within `guard` and calling `finished`."""
        key = _stage_key(settings, schedule)

        def compute() -> dict[str, Tensor]:
            self._on_training(settings["stage"])
            before = copied(model) if self._task.network is not None else None
            with guard or nullcontext():
                approx.fit(model, self._images.train, schedule, seed=seed_of(key), masks=masks, after_step=after_step)
            if before is not None:
                self._check_restorable(before, model)
            return finished()

        return self._cache.get_or_compute(key, compute)

    def _check_restorable(self, before: nn.Module, after: nn.Module) -> None:
        """Check that what a network learned is all in its tensors, by which it is kept.

        Args:
            before: A copy of the network before it was trained; it is changed.
            after: The network.

        Raises:
            UsageError: If the copy computes something else with the tensors of the network.
        """
        restore(before, {name: value.clone() for name, value in whole_state(after).items()})
        example = self._images.example()
        outputs = []
        for model in (after, after, before):
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(0)
                was_training = model.training
                outputs.append(approx.scores_of(model.eval()(example)))
                model.train(was_training)
        first, again, restored = outputs
        if torch.equal(first, again) and not torch.allclose(first, restored, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise UsageError(
                "`network` keeps something that it learns in training outside of its parameters and buffers, so that "
                "it cannot be kept: make that a buffer, with register_buffer"
            )


def untrained(task: Task, candidate: Candidate, *, seed: int) -> nn.Module:
    """Build the network of a candidate, untrained; one that comes trained with its weights, whatever the seed.

    Raises:
        UsageError: If a custom network cannot be built, or it or its weights have changed meanwhile.
    """
    depth, width, shape, classes = candidate.depth, candidate.width, task.image_shape, task.classes
    if task.network is not None:
        return build_custom_network(
            task.network, depth=depth, width=width, image_shape=shape, classes=classes, seed=seed
        )
    architecture = approx.Architecture(family=candidate.family, depth=depth, width=width)
    return approx.build_network(architecture, image_shape=shape, classes=classes, seed=seed)


def untrained_layers(task: Task, candidate: Candidate) -> tuple[approx.LayerShape, ...]:
    """Return the layers of a candidate's network before any training; the densities of their inputs mean nothing.

    Raises:
        UsageError: If a custom network cannot be built, or it or its weights have changed meanwhile.
        approx.ApproxError: If it has no layers that can be approximated.
    """
    return tuple(approx.trace(untrained(task, candidate, seed=0), torch.ones(1, *task.image_shape)))


def _inputs_of_folded(model: nn.Module, converted: nn.Module) -> Iterator[int]:
    """Yield the inputs of a sum in each layer that a BatchNorm was folded into, which gives it another bias."""
    before = dict(approx.weight_layers(model))
    for name, layer in approx.approx_layers(converted):
        bias = before[name].bias if name in before else layer.bias
        if layer.bias is not None and (bias is None or not torch.equal(bias, layer.bias)):
            yield layer.weight[0].numel()


def _stage_key(settings: Mapping[str, Any], schedule: approx.Schedule) -> str:
    return content_hash({**settings, **asdict(schedule)})
