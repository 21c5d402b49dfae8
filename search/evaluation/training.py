"""The stages that train, prune and approximate a candidate's network, and its accuracy on chips.

Each stage depends on the stage before it, its own settings and a seed, and is cached under a content hash of exactly
those, so that candidates that share a network train it once. The seed of every stage is drawn from that hash.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from glob import escape
from typing import Any

import torch
from torch import Tensor, nn

import approx
from search.content_hash import content_hash
from search.evaluation import early_stopping as stopping
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.datasets import TaskData
from search.evaluation.evaluation import EVALUATION_VERSION, Split
from search.evaluation.timing import time_steps
from search.images.image_set import ImageSet
from search.multipliers.identity import name_in_layers
from search.space.candidate import Candidate
from search.space.custom_network import build_custom_network
from search.space.plan import StepTimes
from search.space.task import Task
from search.space.weight_memory import weight_memory

_EARLY = "early_accuracy"  # beside a network's tensors, whose names have a dot
_CALIBRATION_IMAGES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetwork:
    """A network between two stages.

    Attributes:
        model: The network.
        masks: Layer name -> bool mask; empty when dense.
        key: Content hash of everything it depends on.
    """

    model: nn.Module
    masks: Mapping[str, Tensor]
    key: str

    @property
    def kept_weights(self) -> dict[str, int]:
        """Weights left in each pruned layer: layer name -> count."""
        return {name: int(mask.sum()) for name, mask in self.masks.items()}


class Training:
    """Trains the networks of one task under one seed, or takes them from the cache.

    Args:
        task: The task.
        data: Its images.
        seed: Seed of the search.
        cache: Cache of trained networks.
        failures: Failure model of the weight memory, one of `energy.hardware.FAILURES`.
        circuit_bits: Widths of weights and activations that multipliers are built for; None for each candidate's own.
        partial_sums: Partial sums of the array; None if they are wide enough for every sum.
        multipliers: Imported multipliers by the names that networks use; see `KnownMultipliers.tables`.
        on_training: Called with the name of each stage that is not cached, before it is trained.
    """

    def __init__(
        self,
        task: Task,
        data: TaskData,
        *,
        seed: int,
        cache: TrainingCache,
        failures: str,
        circuit_bits: tuple[int, int] | None,
        partial_sums: approx.PartialSums | None,
        multipliers: Mapping[str, approx.Multiplier],
        on_training: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self._failures = failures
        self._circuit_bits = circuit_bits
        self._partial_sums = partial_sums
        self._multipliers = multipliers
        self._task = task
        self._seed = seed
        self._fingerprint = data.fingerprint
        self._images = {
            split: _as_tensors(images, task)
            for split, images in (("train", data.train), ("validation", data.validation), ("test", data.test))
        }
        self._cache = cache
        self._on_training = on_training

    def _trained(self, candidate: Candidate) -> TrainedNetwork:
        effort, custom = self._task.effort, self._task.network
        settings: dict[str, Any] = {
            "stage": "train",
            "version": EVALUATION_VERSION,
            "data": self._fingerprint,
            "seed": self._seed,
            "family": candidate.family,
            "depth": candidate.depth,
            "width": candidate.width,
            **({"network": custom.fingerprint} if custom else {}),
        }
        model = untrained(self._task, candidate, seed=_seed(content_hash(settings)))
        key = self._fit(model, settings, effort.train_epochs, effort.learning_rate)
        return TrainedNetwork(model=model, masks={}, key=key)

    def pruned(self, candidate: Candidate) -> TrainedNetwork:
        """Return the candidate's network: trained and, if the candidate is sparse, pruned and retrained."""
        trained = self._trained(candidate)
        if candidate.sparsity == 0:
            return trained
        effort = self._task.effort
        settings = {"stage": "prune", "after": trained.key, "sparsity": candidate.sparsity}
        weights = {name: layer.weight for name, layer in approx.weight_layers(trained.model)}
        masks = approx.magnitude_masks(weights, candidate.sparsity)
        key = self._fit(trained.model, settings, effort.prune_epochs, effort.prune_learning_rate, masks)
        return TrainedNetwork(model=trained.model, masks=masks, key=key)

    def approximated(
        self, candidate: Candidate, pruned: TrainedNetwork, *, judge: Callable[[float], None] = lambda early: None
    ) -> tuple[nn.Module, float]:
        """Convert a candidate's network to integer codes and retrain it, with a perfect memory.

        Args:
            candidate: Candidate in canonical form.
            pruned: Its network from `pruned`.
            judge: Called with the accuracy early in the retraining; may raise an exception to stop it.

        Returns:
            The network, and its early accuracy.
        """
        effort = self._task.effort
        choices = candidate.layer_choices(self._layers(pruned.model))
        multipliers = {layer: name_in_layers(choice.multiplier) for layer, choice in choices.items()}
        # All layers in the middle have the same multiplier; if there are none, the default does not matter.
        config = approx.LayerApproximation(
            weight_bits=candidate.weight_bits,
            activation_bits=candidate.activation_bits,
            multiplier=list(multipliers.values())[len(multipliers) // 2],
            circuit_bits=self._circuit_bits,
            partial_sums=self._partial_sums,
        )
        others = {layer: name for layer, name in multipliers.items() if name != config.multiplier}
        computed = asdict(config)
        if self._partial_sums is None:  # as if there were no such choice, so that what was kept before it is found
            del computed["partial_sums"]
        settings = {
            "stage": "approximate",
            "after": pruned.key,
            **computed,
            **({"others": others} if others else {}),
        }
        network = approx.NetworkApproximation(
            default=config,
            overrides={escape(layer): replace(config, multiplier=name) for layer, name in others.items()},
        )
        model = approx.approximate(
            pruned.model,
            network,
            calibration_data=self.calibration_data(),
            masks=pruned.masks,
            multipliers=self._multipliers,
        )
        early: list[float] = []

        def after_step(step: int, steps: int) -> None:
            if step == math.ceil(stopping.SHARE * steps):
                early.append(self._accuracy(model, "validation"))
                judge(early[0])

        def finished() -> dict[str, Tensor]:
            # If there was no step, the accuracy is measured at the end.
            measured = early[0] if early else self._accuracy(model, "validation")
            return {**model.state_dict(), _EARLY: torch.tensor(measured, dtype=torch.float64)}

        schedule = self._schedule(effort.approximate_epochs, effort.approximate_learning_rate)
        result = self._stage(model, settings, schedule, after_step=after_step, finished=finished)
        measured = result.pop(_EARLY).item()
        model.load_state_dict(result)
        judge(measured)
        return model, measured

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
        model.load_state_dict(self._stage(model, settings, schedule, masks=masks, finished=model.state_dict))
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
    ) -> dict[str, Tensor]:
        """Return the result of a stage, from the cache or by training the model and calling `finished`."""
        key = _stage_key(settings, schedule)

        def compute() -> dict[str, Tensor]:
            self._on_training(settings["stage"])
            approx.fit(model, self._images["train"], schedule, seed=_seed(key), masks=masks, after_step=after_step)
            return finished()

        return self._cache.get_or_compute(key, compute)

    def step_times(self, candidate: Candidate, limit_s: float) -> StepTimes:
        """Time a few steps of a candidate's network, untrained and with the widths and the multiplier of its layers.

        Args:
            candidate: Candidate in canonical form.
            limit_s: About how many seconds this may take.
        """
        config = approx.LayerApproximation(
            weight_bits=candidate.weight_bits,
            activation_bits=candidate.activation_bits,
            multiplier=name_in_layers(candidate.multiplier),
            circuit_bits=self._circuit_bits,
            partial_sums=self._partial_sums,
        )
        model = untrained(self._task, candidate, seed=0)
        return time_steps(
            model,
            self._images["train"],
            self._task.effort,
            config,
            trains=self._task.train != "none",
            limit_s=limit_s,
        )

    def chip_accuracies(
        self, candidate: Candidate, model: nn.Module, split: Split, *, dense_layers: Collection[str] = ()
    ) -> tuple[float, ...]:
        """Return the accuracy on each chip. Chips differ in failing cells only, so one run is enough if none fails.

        The test images run on other chips than those by which candidates are chosen.

        Args:
            candidate: Candidate in canonical form.
            model: Its approximated network.
            split: Images to measure accuracy on.
            dense_layers: Layers whose pruned weights are stored too.
        """
        chips = self.chip_seeds(split)
        memory = weight_memory(candidate, self._failures)
        all_robust = all(choice.robust_bits == candidate.weight_bits for choice in candidate.groups)
        highest_rate = memory.robust_bit_error_rate if all_robust else memory.bit_error_rate
        if highest_rate == 0:  # 8T cells never fail more often than 6T cells
            return (self._accuracy(model, split),) * len(chips)
        self.put_in_memory(model, candidate, dense_layers)
        with _overflows_expected():
            return approx.chip_accuracies(model, self._images[split], chips)

    def _accuracy(self, model: nn.Module, split: Split) -> float:
        with _overflows_expected():
            return approx.accuracy(model, self._images[split])

    def put_in_memory(self, model: nn.Module, candidate: Candidate, dense_layers: Collection[str]) -> None:
        """Store a candidate's weights in its memory, in place; see `approx.set_memory`."""
        names = {name.partition("#")[0] for name in dense_layers}  # a layer that runs twice is stored once
        choices = candidate.layer_choices(self._layers(model))
        robust = {layer: choice.robust_bits for layer, choice in choices.items()}
        approx.set_memory(
            model, weights=weight_memory(candidate, self._failures), robust_bits=robust, dense_layers=names
        )

    def _layers(self, model: nn.Module) -> list[str]:
        """Return the model's layers in the order in which they first run."""
        return approx.layer_order(model, self.example())

    def chip_seeds(self, split: Split) -> list[int]:
        """Return the seeds of the chips on which a split runs."""
        chips = range(self._task.effort.chips)
        return [_seed(content_hash({"chip": chip, "split": split, "seed": self._seed})) for chip in chips]

    def calibration_data(self) -> Tensor:
        """Return the training images by which scales are chosen and densities measured."""
        return self._images["train"].inputs(slice(0, _CALIBRATION_IMAGES))

    def example(self) -> Tensor:
        """Return a batch of network inputs: two training images."""
        return self._images["train"].inputs(slice(0, 2))


def untrained(task: Task, candidate: Candidate, *, seed: int) -> nn.Module:
    """Build the network of a candidate, untrained.

    Raises:
        UsageError: If a custom network cannot be built, or was edited meanwhile.
    """
    depth, width, shape, classes = candidate.depth, candidate.width, task.image_shape, task.classes
    if task.network is not None:
        return build_custom_network(
            task.network, depth=depth, width=width, image_shape=shape, classes=classes, seed=seed
        )
    architecture = approx.Architecture(family=candidate.family, depth=depth, width=width)
    return approx.build_network(architecture, image_shape=shape, classes=classes, seed=seed)


def untrained_layers(task: Task, candidate: Candidate) -> tuple[approx.LayerShape, ...]:
    """Return the layers of a candidate's untrained network; the densities of their inputs mean nothing.

    Raises:
        UsageError: If a custom network cannot be built, or was edited meanwhile.
        approx.ApproxError: If it has no layers that can be approximated.
    """
    return tuple(approx.trace(untrained(task, candidate, seed=0), torch.ones(1, *task.image_shape)))


@contextmanager
def _overflows_expected() -> Iterator[None]:
    """Silences the warning of overflowing sums: evaluations count them, and hundreds of warnings would say no more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", approx.OverflowWarning)
        yield


def _stage_key(settings: Mapping[str, Any], schedule: approx.Schedule) -> str:
    return content_hash({**settings, **asdict(schedule)})


def _seed(key: str) -> int:
    """Return a seed for torch.Generator from a content hash."""
    return int(key[:12], 16)


def _as_tensors(images: ImageSet, task: Task) -> approx.LabelledImages:
    with warnings.catch_warnings():
        # Pixels that processes share are read-only, which torch warns of, as it cannot enforce it; nobody writes them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        pixels = torch.from_numpy(images.pixels)
    return approx.LabelledImages(
        pixels,
        torch.tensor(images.labels),
        task.dataset.pixel_max,
        mean=task.mean,
        std=task.std,
        rows=None if images.rows is None else torch.tensor(images.rows),
    )
