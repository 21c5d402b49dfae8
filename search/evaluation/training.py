"""The stages by which a candidate's network is trained, pruned and approximated, and its accuracy on chips.

Each stage is a function of what came before it, its own knobs and a seed, kept under a content hash of exactly those,
so that candidates which share a network train it once. The seed of every stage is drawn from that hash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from glob import escape
from typing import Any

import torch
from torch import Tensor, nn

import approx
from search.content_hash import content_hash
from search.evaluation import early_stopping as stopping
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.datasets import ImageSet, TaskData
from search.evaluation.evaluation import EVALUATION_VERSION, Split
from search.multipliers.identity import name_in_layers
from search.space.candidate import Candidate
from search.space.custom_network import build_own_network
from search.space.task import Task
from search.space.weight_memory import weight_memory

_EARLY = "early_accuracy"  # beside a network's tensors, whose names have a dot
_CALIBRATION_IMAGES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetwork:
    """A trained network between two stages.

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
        """Layer name -> weights left, of the layers that are pruned."""
        return {name: int(mask.sum()) for name, mask in self.masks.items()}


class Training:
    """Trains the networks of one task under one seed, or takes them from what is kept.

    Args:
        task: What is classified.
        data: Its images.
        seed: Of the search.
        cache: Keeps what is trained.
        failures: How cells of the weight memory fail, one of `energy.hardware.FAILURES`.
        multipliers: Imported multipliers by the names that networks use; see `KnownMultipliers.tables`.
        on_training: Is told the name of each stage that is not kept, before it is trained.
    """

    def __init__(
        self,
        task: Task,
        data: TaskData,
        *,
        seed: int,
        cache: TrainingCache,
        failures: str,
        multipliers: Mapping[str, approx.Multiplier],
        on_training: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self._failures = failures
        self._multipliers = multipliers
        self._task = task
        self._seed = seed
        self._fingerprint = data.fingerprint
        self._images = {
            split: _as_tensors(images, task.pixel_max)
            for split, images in (("train", data.train), ("validation", data.validation), ("test", data.test))
        }
        self._cache = cache
        self._on_training = on_training

    def _trained(self, candidate: Candidate) -> TrainedNetwork:
        effort, own = self._task.effort, self._task.network
        knobs: dict[str, Any] = {
            "stage": "train",
            "version": EVALUATION_VERSION,
            "data": self._fingerprint,
            "seed": self._seed,
            "family": candidate.family,
            "depth": candidate.depth,
            "width": candidate.width,
            **({"network": own.fingerprint} if own else {}),
        }
        model = untrained(self._task, candidate, seed=_seed(content_hash(knobs)))
        key = self._fit(model, knobs, effort.train_epochs, effort.learning_rate)
        return TrainedNetwork(model=model, masks={}, key=key)

    def pruned(self, candidate: Candidate) -> TrainedNetwork:
        """The candidate's network, trained, and pruned and retrained where it is sparse."""
        trained = self._trained(candidate)
        if candidate.sparsity == 0:
            return trained
        effort = self._task.effort
        knobs = {"stage": "prune", "after": trained.key, "sparsity": candidate.sparsity}
        weights = {name: layer.weight for name, layer in approx.weight_layers(trained.model)}
        masks = approx.magnitude_masks(weights, candidate.sparsity)
        key = self._fit(trained.model, knobs, effort.prune_epochs, effort.prune_learning_rate, masks)
        return TrainedNetwork(model=trained.model, masks=masks, key=key)

    def approximated(
        self, candidate: Candidate, pruned: TrainedNetwork, *, judge: Callable[[float], None] = lambda early: None
    ) -> tuple[nn.Module, float]:
        """The same on integer codes, retrained; its memories are perfect.

        Args:
            candidate: In canonical form.
            pruned: Its network so far.
            judge: Is told the accuracy early in the retraining, and may raise to give up.

        Returns:
            The network, and that accuracy.
        """
        effort = self._task.effort
        knobs_of = candidate.knobs_of(self._layers(pruned.model))
        multipliers = {layer: name_in_layers(knobs.multiplier) for layer, knobs in knobs_of.items()}
        # Where there is a layer in the middle it tells what all there have; else nothing hangs on what they would have.
        config = approx.LayerApproximation(
            weight_bits=candidate.weight_bits,
            activation_bits=candidate.activation_bits,
            multiplier=list(multipliers.values())[len(multipliers) // 2],
        )
        others = {layer: name for layer, name in multipliers.items() if name != config.multiplier}
        knobs = {
            "stage": "approximate",
            "after": pruned.key,
            **asdict(config),
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
                early.append(approx.accuracy(model, self._images["validation"]))
                judge(early[0])

        def finished() -> dict[str, Tensor]:
            # Without a single step, early is at the end.
            measured = early[0] if early else approx.accuracy(model, self._images["validation"])
            return {**model.state_dict(), _EARLY: torch.tensor(measured, dtype=torch.float64)}

        schedule = self._schedule(effort.approximate_epochs, effort.approximate_learning_rate)
        kept = self._stage(model, knobs, schedule, after_step=after_step, finished=finished)
        measured = kept.pop(_EARLY).item()
        model.load_state_dict(kept)
        judge(measured)
        return model, measured

    def _fit(
        self,
        model: nn.Module,
        knobs: Mapping[str, Any],
        epochs: float,
        learning_rate: float,
        masks: Mapping[str, Tensor] | None = None,
    ) -> str:
        """Train in place, or take over what the same stage found before; returns the stage's key."""
        schedule = self._schedule(epochs, learning_rate)
        model.load_state_dict(self._stage(model, knobs, schedule, masks=masks, finished=model.state_dict))
        return _stage_key(knobs, schedule)

    def _schedule(self, epochs: float, learning_rate: float) -> approx.Schedule:
        return approx.Schedule(epochs=epochs, batch_size=self._task.effort.batch_size, learning_rate=learning_rate)

    def _stage(
        self,
        model: nn.Module,
        knobs: Mapping[str, Any],
        schedule: approx.Schedule,
        *,
        finished: Callable[[], dict[str, Tensor]],
        masks: Mapping[str, Tensor] | None = None,
        after_step: Callable[[int, int], None] | None = None,
    ) -> dict[str, Tensor]:
        """What is kept of a stage: what `finished` gives once the model is trained, now or at an earlier time."""
        key = _stage_key(knobs, schedule)

        def compute() -> dict[str, Tensor]:
            self._on_training(knobs["stage"])
            approx.fit(model, self._images["train"], schedule, seed=_seed(key), masks=masks, after_step=after_step)
            return finished()

        return self._cache.get_or_compute(key, compute)

    def chip_accuracies(
        self, candidate: Candidate, model: nn.Module, split: Split, *, dense_layers: Collection[str] = ()
    ) -> tuple[float, ...]:
        """Accuracy on each chip. Chips differ in their failing cells only, so one tells all where none fails.

        The test images are read on other chips than those by which candidates are chosen.

        Args:
            candidate: In canonical form.
            model: Its network, approximated.
            split: Whose images are read.
            dense_layers: Layers whose pruned weights are stored too.
        """
        images = self._images[split]
        chips = self.chip_seeds(split)
        memory = weight_memory(candidate, self._failures)
        if memory.bit_error_rate == 0 or all(knobs.robust_bits == candidate.weight_bits for knobs in candidate.groups):
            return (approx.accuracy(model, images),) * len(chips)
        self.put_in_memory(model, candidate, dense_layers)
        return approx.chip_accuracies(model, images, chips)

    def put_in_memory(self, model: nn.Module, candidate: Candidate, dense_layers: Collection[str]) -> None:
        """Store a candidate's weights in its memory, in place; see `approx.set_memory`."""
        names = {name.partition("#")[0] for name in dense_layers}  # a layer that runs twice is stored once
        robust = {layer: knobs.robust_bits for layer, knobs in candidate.knobs_of(self._layers(model)).items()}
        approx.set_memory(
            model, weights=weight_memory(candidate, self._failures), robust_bits=robust, dense_layers=names
        )

    def _layers(self, model: nn.Module) -> list[str]:
        """Its layers in the order in which they first run."""
        return approx.layer_order(model, self.example())

    def chip_seeds(self, split: Split) -> list[int]:
        """The names of the chips on which a split is read."""
        chips = range(self._task.effort.chips)
        return [_seed(content_hash({"chip": chip, "split": split, "seed": self._seed})) for chip in chips]

    def calibration_data(self) -> Tensor:
        """The training images by which scales are chosen and densities measured."""
        return self._images["train"].inputs(slice(0, _CALIBRATION_IMAGES))

    def example(self) -> Tensor:
        """A batch of network inputs: two training images."""
        return self._images["train"].inputs(slice(0, 2))


def untrained(task: Task, candidate: Candidate, *, seed: int) -> nn.Module:
    """The network of a candidate before it is trained.

    Raises:
        UsageError: If a person's own network cannot be built, or was edited meanwhile.
    """
    depth, width, shape, classes = candidate.depth, candidate.width, task.image_shape, task.classes
    if task.network is not None:
        return build_own_network(task.network, depth=depth, width=width, image_shape=shape, classes=classes, seed=seed)
    architecture = approx.Architecture(family=candidate.family, depth=depth, width=width)
    return approx.build_network(architecture, image_shape=shape, classes=classes, seed=seed)


def untrained_layers(task: Task, candidate: Candidate) -> tuple[approx.LayerShape, ...]:
    """The layers of a candidate's network before it is trained; the densities of their inputs say nothing.

    Raises:
        UsageError: As for `untrained`.
        approx.ApproxError: If it has no layers that can be approximated.
    """
    return tuple(approx.trace(untrained(task, candidate, seed=0), torch.ones(1, *task.image_shape)))


def _stage_key(knobs: Mapping[str, Any], schedule: approx.Schedule) -> str:
    return content_hash({**knobs, **asdict(schedule)})


def _seed(key: str) -> int:
    """A seed for torch.Generator from a content hash."""
    return int(key[:12], 16)


def _as_tensors(images: ImageSet, pixel_max: int) -> approx.LabelledImages:
    # Copies: arrays that Ray shares between processes are read-only, which torch does not support.
    return approx.LabelledImages(torch.tensor(images.pixels), torch.tensor(images.labels), pixel_max)
