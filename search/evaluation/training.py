"""The stages that train, derive, prune and approximate a candidate's network.

The starting point is a trained network: of built-in families the largest one, which is trained here or comes with the
package; or a network that came trained. Smaller ones are derived from it: channels by importance, fewer blocks. What is
fine-tuned learns from the starting point's outputs as well as from the classes (distillation). Custom networks without
weights are trained from scratch at every size, because nothing is known of what connects their sizes.

Each stage depends on the stage before it, its own settings and a seed, and is cached under a content hash of exactly
those, so that candidates that share a network train it once. The seed of every stage is drawn from that hash.

A candidate whose memory fails is retrained on integer codes with random bit errors at its own rate (Stutz et al., MLSys
2021).

Retraining on integer codes can undo a network. A BatchNorm that was folded no longer makes good for large steps: then a
step of Adam, which moves each weight by about the rate, moves the sums of all inputs of a wide layer far. The rates of
the built-in families suit their layers. Custom networks have any, so their rate is at most half of one over the inputs
of a sum, as in Yang et al. (Tensor Programs V, NeurIPS 2021), where Adam's rate falls with the width; and where a
network is clearly worse after retraining, on images that it was retrained on, it is kept as it was converted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import Any

import torch
from safetensors.torch import load_file
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
from search.space.effort import Effort
from search.space.task import RETRAINING_VERSION, Task

_VERSION = 8  # raise whenever the same stage would be trained differently
_LARGEST_STEP = 0.5  # of Adam in a sum, in inputs of mean size
_CLEARLY = 2.0  # standard errors
_EARLY = "early_accuracy"  # beside a network's tensors, whose names have a dot
_MASK = "mask of "  # and a layer's name
_DERIVED_WARM_UP = 0.1  # share of the steps
TEACHING = {"temperature": 1.0, "share": 0.5}  # of distillation
_FEWEST_FAILURES = 1.0  # cells that fail on a chip, on average, for bit errors in training to matter
_PRUNING_METHODS = {"global": approx.global_magnitude_masks, "uniform": approx.magnitude_masks}


class Training:
    """Trains the networks of one task under one seed, or takes them from the cache.

    Args:
        task: The task. Its networks are trained from scratch, or come trained and are fine-tuned.
        images: Its images.
        seed: Seed of the search, or of a fresh run.
        cache: Cache of trained networks.
        emulation: How networks compute.
        own_baseline: Whether the baseline is trained from this seed on these images, though one comes with the package.
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
        own_baseline: bool = False,
        on_training: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self._task = task
        self._images = images
        self._seed = seed
        self._cache = cache
        self._emulation = emulation
        self._own_baseline = own_baseline
        self._on_training = on_training
        self._starts: dict[str, TrainedNetwork] = {}

    def pruned(self, candidate: Candidate) -> TrainedNetwork:
        """Return the candidate's network: trained and, if the candidate is sparse, pruned and retrained."""
        trained = self._dense(candidate)
        if candidate.sparsity == 0:
            return trained
        effort, model = self._task.effort, trained.model
        fix_computed_weights(model)  # which would not be found
        schedule = self._schedule(effort.prune_epochs, effort.prune_learning_rate)
        settings = self._after(
            "prune", trained.key, sparsity=candidate.sparsity, pruning=effort.pruning, steps=effort.prune_steps
        )
        teacher, key = self._teacher(candidate), _stage_key(settings, schedule)

        def prune() -> dict[str, Tensor]:
            masks = approx.prune_and_retrain(
                model,
                self._images.train,
                schedule,
                sparsity=candidate.sparsity,
                steps=effort.prune_steps,
                method=_PRUNING_METHODS[effort.pruning],
                seed=seed_of(key),
                distillation=_distillation(teacher),
            )
            return {**whole_state(model), **{_MASK + name: mask for name, mask in masks.items()}}

        found = self._stage(key, "prune", model, prune)
        masks = {name.removeprefix(_MASK): found.pop(name).bool() for name in list(found) if name.startswith(_MASK)}
        restore(model, found)
        return TrainedNetwork(model=model, masks=masks, key=key)

    def _dense(self, candidate: Candidate) -> TrainedNetwork:
        """Return the candidate's network before pruning."""
        start = self._start(candidate)
        if candidate.network == self._task.start_of(candidate.network):
            return replace(start, model=copied(start.model))
        effort, task = self._task.effort, self._task
        settings = self._after("derive", start.key, network=list(candidate.network))
        schedule = schedule_of_derived(effort)
        seed = seed_of(content_hash(settings))
        if task.network is not None:
            model = untrained(task, candidate, seed=0)  # without some of its channels, with its weights
        else:
            family, depth, width = self._task.start_of(candidate.network)
            model = approx.derive_network(
                start.model,
                of=approx.Architecture(family=family, depth=depth, width=width),
                to=approx.Architecture(family=family, depth=candidate.depth, width=candidate.width),
                image_shape=task.image_shape,
                classes=task.classes,
                seed=seed,
            )
        key = self._fit(model, settings, schedule, distillation=_distillation(start.model))
        return TrainedNetwork(model=model, masks={}, key=key)

    def _start(self, candidate: Candidate) -> TrainedNetwork:
        """Return the trained network that the candidate's is derived from; it is not to be changed."""
        network = self._task.start_of(candidate.network)
        name = str(network)
        if name not in self._starts:
            largest = replace(candidate, depth=network[1], width=network[2])
            if self._task.train == "finetune":
                model, key = untrained(self._task, largest, seed=0), content_hash(self._origin("given", largest))
                found = TrainedNetwork(model=model, masks={}, key=key)  # as it was given
            else:
                found = self._shipped(largest) or self._trained(largest)
            if self._task.network is not None and self._task.train == "scratch":
                return found  # of each size there is one
            self._starts[name] = found
        return self._starts[name]

    def _teacher(self, candidate: Candidate) -> nn.Module:
        """Return the network whose outputs the candidate's learns."""
        return self._start(candidate).model

    def _shipped(self, largest: Candidate) -> TrainedNetwork | None:
        """Return the baseline that comes with the package, if this is it and fresh runs may begin with it."""
        shipped = self._task.shipped_baseline
        if shipped is None or self._own_baseline or largest.network != (shipped.family, shipped.depth, shipped.width):
            return None
        model = untrained(self._task, largest, seed=0)
        restore(
            model,
            {
                name: value.to(torch.float32) if value.is_floating_point() else value
                for name, value in load_file(shipped.weights).items()
            },
        )
        return TrainedNetwork(model=model, masks={}, key=content_hash({"shipped": shipped.sha256}))

    def _trained(self, candidate: Candidate) -> TrainedNetwork:
        """Return the candidate's network, trained from scratch."""
        settings = self._origin("train", candidate)
        model = untrained(self._task, candidate, seed=seed_of(content_hash(settings)))
        key = self._fit(model, settings, schedule_from_scratch(self._task.effort))
        return TrainedNetwork(model=model, masks={}, key=key)

    def _origin(self, stage: str, candidate: Candidate) -> dict[str, Any]:
        """Return the settings of a first stage."""
        task, data, seed = self._task, self._images.data, self._seed
        if task.baseline_is_fixed:  # of one network for all runs, which train on the same images
            fingerprint, seed = data.fingerprint.partition("/")[0], 0
        else:
            fingerprint = data.fingerprint
        return {
            "stage": stage,
            "version": _VERSION,
            "data": fingerprint,
            "seed": seed,
            "family": candidate.family,
            "depth": candidate.depth,
            "width": candidate.width,
            **({"network": task.network.fingerprint} if task.network else {}),
            **({"mean": list(task.mean), "std": list(task.std)} if task.mean or task.std else {}),
        }

    def _after(self, stage: str, key: str | None, **settings: Any) -> dict[str, Any]:
        """Return the settings of a stage after another one; its images and seed may differ from those before."""
        return {
            "stage": stage,
            "version": _VERSION,
            "after": key,
            "data": self._images.data.fingerprint,
            "seed": self._seed,
            "teaching": TEACHING,
            **settings,
        }

    def approximated(
        self,
        candidate: Candidate,
        network: TrainedNetwork,
        *,
        dense_layers: Collection[str] = (),
        judge: Callable[[float], None] = lambda early: None,
    ) -> tuple[nn.Module, float]:
        """Convert a candidate's network to integer codes and retrain it, with a perfect memory afterwards.

        A custom network is kept as it was converted if retraining makes it clearly worse.

        Args:
            candidate: Candidate in canonical form.
            network: Its network from `pruned`.
            dense_layers: Layers whose pruned weights are stored too, so that they can fail.
            judge: Called with the accuracy early in the retraining; may raise an exception to stop it.

        Returns:
            The network, and its early accuracy.
        """
        effort, metric = self._task.effort, self._task.metric
        layers = approx.layer_order(network.model, self._images.example())
        model = self._emulation.approximated(
            candidate, network, layers, calibration_data=self._images.calibration_data()
        )
        bit_errors = self._bit_errors(candidate, model, layers, dense_layers)
        settings = self._after(
            "approximate",
            network.key,
            **self._emulation.settings(candidate, layers),
            **(
                {}
                if bit_errors is None
                else {"bit_errors": {name: None if one is None else asdict(one) for name, one in bit_errors.items()}}
            ),
            **({"metric": metric} if metric != "accuracy" else {}),  # of the early accuracy
            **({"retraining": RETRAINING_VERSION} if self._task.network else {}),
        )
        early: list[float] = []

        def after_step(step: int, steps: int) -> None:
            if step == math.ceil(stopping.SHARE * steps):
                early.append(self._validation_accuracy(model))
                judge(early[0])

        rate: float = effort.approximate_learning_rate
        guard: AbstractContextManager[None] = nullcontext()
        if self._task.network is not None:
            rate = min([rate, *(_LARGEST_STEP / inputs for inputs in _inputs_of_folded(network.model, model))])
            guard = self._restored_if_worse(model)
        schedule = replace(self._schedule(effort.approximate_epochs, rate), optimizer="adam", weight_decay=0.0)
        teacher, key = self._teacher(candidate), _stage_key(settings, schedule)

        def retrain() -> dict[str, Tensor]:
            with guard:
                approx.fit(
                    model,
                    self._images.train,
                    schedule,
                    seed=seed_of(key),
                    bit_errors=bit_errors,
                    distillation=_distillation(teacher),
                    after_step=after_step,
                )
            # If there was no step, the accuracy is measured at the end.
            measured = early[0] if early else self._validation_accuracy(model)
            return {**whole_state(model), _EARLY: torch.tensor(measured, dtype=torch.float64)}

        result = self._stage(key, "approximate", model, retrain)
        measured = result.pop(_EARLY).item()
        restore(model, result)
        judge(measured)
        return model, measured

    def _bit_errors(
        self, candidate: Candidate, model: nn.Module, layers: Sequence[str], dense_layers: Collection[str]
    ) -> dict[str, approx.FaultyMemory | None] | None:
        """Return the memory of each layer in training; None where hardly a cell of a chip fails."""
        if not self._emulation.cells_fail(candidate):
            return None
        self._emulation.put_in_memory(model, candidate, layers, dense_layers)
        memories, failures = {}, 0.0
        for name, layer in approx.approx_layers(model):
            memories[name], layer.weight_memory = layer.weight_memory, None
            failures += _expected_failures(memories[name], layer)
        return memories if failures >= _FEWEST_FAILURES else None

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
        schedule: approx.Schedule,
        *,
        distillation: approx.Distillation | None = None,
    ) -> str:
        """Train in place, or load the stage's cached result; return the stage's key."""
        key = _stage_key(settings, schedule)

        def train() -> dict[str, Tensor]:
            approx.fit(model, self._images.train, schedule, seed=seed_of(key), distillation=distillation)
            return whole_state(model)

        restore(model, self._stage(key, settings["stage"], model, train))
        return key

    def _schedule(self, epochs: float, learning_rate: float) -> approx.Schedule:
        return _schedule(self._task.effort, epochs, learning_rate)

    def _stage(
        self, key: str, name: str, model: nn.Module, train: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the result of a stage: from the cache, or by training the model in place."""

        def compute() -> dict[str, Tensor]:
            self._on_training(name)
            before = copied(model) if self._task.network is not None else None
            result = train()
            if before is not None:
                self._check_restorable(before, model)
            return result

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


def schedule_from_scratch(effort: Effort) -> approx.Schedule:
    """Return the schedule by which networks are trained from scratch."""
    return replace(_schedule(effort, effort.train_epochs, effort.learning_rate), warm_up=effort.warm_up)


def schedule_of_derived(effort: Effort) -> approx.Schedule:
    """Return the schedule by which derived networks are fine-tuned; new layers in them learn slowly at first."""
    return replace(_schedule(effort, effort.derive_epochs, effort.derive_learning_rate), warm_up=_DERIVED_WARM_UP)


def _schedule(effort: Effort, epochs: float, learning_rate: float) -> approx.Schedule:
    return approx.Schedule(
        epochs=epochs,
        batch_size=effort.batch_size,
        learning_rate=learning_rate,
        optimizer=effort.optimizer,
        weight_decay=effort.weight_decay,
        label_smoothing=effort.label_smoothing,
        augmentation=effort.augmentation,
        precision=effort.precision,
    )


def _distillation(teacher: nn.Module) -> approx.Distillation:
    return approx.Distillation(teacher=teacher, **TEACHING)


def _expected_failures(memory: approx.FaultyMemory | None, layer: approx.ApproxLayer) -> float:
    """Return how many cells of a layer's weights fail on a chip, on average."""
    if memory is None:
        return 0.0
    bits, robust = layer.config.weight_bits, min(memory.robust_bits, layer.config.weight_bits)
    rates = robust * memory.robust_bit_error_rate + (bits - robust) * memory.bit_error_rate
    return layer.weight.numel() * rates


def _stage_key(settings: Mapping[str, Any], schedule: approx.Schedule) -> str:
    return content_hash({**settings, **asdict(schedule)})
