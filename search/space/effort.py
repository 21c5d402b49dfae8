"""The amount of work in one evaluation, and the rule that gives it for images that are not built in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from search.errors import UsageError

AUGMENTATIONS = ("none", "crop-flip")
OPTIMIZERS = ("adam", "sgd")
PRUNINGS = ("global", "uniform")
SHORTCUTS = ("epochs", "learning_rate", "batch_size", "augment")  # of a recipe, which have options of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """The amount of work in one evaluation, and how it is done.

    Networks are trained, fine-tuned and pruned by `optimizer`; on integer codes they are retrained by Adam.

    Attributes:
        train_epochs: Epochs of training a network from scratch.
        derive_epochs: Epochs of fine-tuning a network that was taken from a larger one that is trained.
        prune_epochs: Epochs of retraining while and after weights are pruned.
        approximate_epochs: Epochs of retraining on integer codes with the chosen multiplier.
        batch_size: Images per training step.
        learning_rate: Peak rate of training from scratch.
        derive_learning_rate: Peak rate of fine-tuning a smaller network.
        prune_learning_rate: Peak rate of retraining after pruning.
        approximate_learning_rate: Adam's rate for retraining on integer codes; for custom networks the highest, see
            `search.evaluation.training`.
        chips: Chips, each with its own failing memory cells, over which accuracy is averaged.
        optimizer: `adam`, or `sgd` with a Nesterov momentum of 0.9.
        warm_up: Share of training from scratch in which the rate rises.
        weight_decay: L2 penalty of weights, in all stages that use `optimizer`.
        label_smoothing: Share of a target that is spread over all classes, in all stages.
        augmentation: How training images are varied, one of `AUGMENTATIONS`.
        pruning: Which weights are pruned, one of `PRUNINGS`: the smallest of all layers together, or of each layer the
            same share.
        prune_steps: Steps in which weights are pruned.
        precision: How training computes in floating point, one of `approx.precision.PRECISIONS`; chosen where a search
            begins.
        confirmations: Fresh runs that confirm an answer; see `search.answers.confirmation`.
    """

    train_epochs: float
    derive_epochs: float
    prune_epochs: float
    approximate_epochs: float
    batch_size: int
    learning_rate: float
    derive_learning_rate: float
    prune_learning_rate: float
    approximate_learning_rate: float
    chips: int
    optimizer: str = "adam"
    warm_up: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    augmentation: str = "none"
    pruning: str = "global"
    prune_steps: int = 4
    precision: str = "float32"
    confirmations: int = 5

    def to_dict(self) -> dict[str, Any]:
        """Return all fields on which an evaluation depends, as a JSON object, for content hashes."""
        return {name: value for name, value in asdict(self).items() if name != "confirmations"}

    def scaled(self, name: str) -> Effort:
        """Return this standard effort scaled to another one of `EFFORTS`."""
        if name == "standard":
            return self  # exactly, so that results stored under its hash are found
        share, chips, confirmations = _SCALES[name]
        longer = self._longer(share)
        return replace(longer, chips=max(2, round(self.chips * chips)), confirmations=confirmations)

    def _longer(self, factor: float) -> Effort:
        return replace(
            self,
            train_epochs=self.train_epochs * factor,
            derive_epochs=self.derive_epochs * factor,
            prune_epochs=self.prune_epochs * factor,
            approximate_epochs=self.approximate_epochs * factor,
        )

    def with_recipe(self, recipe: Recipe, *, trained: bool) -> Effort:
        """Return this effort as a recipe says otherwise.

        Epochs and rate are those of training from scratch or, for a network that comes trained, of fine-tuning it;
        those of the other stages change by the same factor, except Adam's on integer codes where the recipe has another
        optimizer.

        Raises:
            UsageError: If the recipe has another optimizer, and no rate for it.
        """
        other_optimizer = recipe.optimizer not in (None, self.optimizer)
        if other_optimizer and recipe.learning_rate is None:
            raise UsageError(
                f"`optimizer` {recipe.optimizer} needs a `learning_rate`; that of {self.optimizer} does not suit it"
            )
        usual_epochs, usual_rate = self.train_epochs, self.learning_rate
        if trained:
            usual_epochs, usual_rate = self.derive_epochs, self.derive_learning_rate
        longer = 1.0 if recipe.epochs is None else recipe.epochs / usual_epochs
        faster = 1.0 if recipe.learning_rate is None else recipe.learning_rate / usual_rate
        said: dict[str, Any] = {
            "batch_size": recipe.batch_size,
            "augmentation": recipe.augment,
            "optimizer": recipe.optimizer,
            "warm_up": recipe.warm_up,
            "weight_decay": recipe.weight_decay,
            "label_smoothing": recipe.label_smoothing,
            "pruning": recipe.pruning,
            "prune_steps": recipe.prune_steps,
        }
        return replace(
            self._longer(longer),
            learning_rate=self.learning_rate * faster,
            derive_learning_rate=self.derive_learning_rate * faster,
            prune_learning_rate=self.prune_learning_rate * faster,
            approximate_learning_rate=self.approximate_learning_rate * (1.0 if other_optimizer else faster),
            **{name: value for name, value in said.items() if value is not None},
        )


# Effort -> epochs and chips as a share of the standard effort's, and confirmation runs.
_SCALES = {"quick": (0.4, 0.4, 3), "standard": (1.0, 1.0, 5), "thorough": (2.0, 2.0, 10)}
EFFORTS = tuple(_SCALES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a task's training does otherwise than the rule; None where it does not.

    Attributes:
        epochs: Epochs of training from scratch or, for a network that comes trained, of fine-tuning.
        learning_rate: The peak rate in them.
        batch_size: Images per training step.
        augment: How training images are varied, one of `AUGMENTATIONS`.
        optimizer: One of `OPTIMIZERS`; see `Effort`, as for the rest.
        warm_up: Share of training from scratch in which the rate rises, in [0, 1).
        weight_decay: L2 penalty of weights, at least 0.
        label_smoothing: Share of a target that is spread over all classes, in [0, 1).
        pruning: One of `PRUNINGS`.
        prune_steps: Steps in which weights are pruned.

    Raises:
        UsageError: If a value is out of range or of the wrong type.
    """

    epochs: float | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    augment: str | None = None
    optimizer: str | None = None
    warm_up: float | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    pruning: str | None = None
    prune_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise UsageError(f"`{name}` must be a number above 0, got {value!r}")
        if self.weight_decay is not None and not (_is_number(self.weight_decay) and 0 <= self.weight_decay < math.inf):
            raise UsageError(f"`weight_decay` must be a number of at least 0, got {self.weight_decay!r}")
        for name in ("warm_up", "label_smoothing"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 <= value < 1):
                raise UsageError(f"`{name}` must be a number of at least 0 and below 1, got {value!r}")
        for name in ("batch_size", "prune_steps"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"`{name}` must be a whole number of at least 1, got {value!r}")
        for name, allowed in (("augment", AUGMENTATIONS), ("optimizer", OPTIMIZERS), ("pruning", PRUNINGS)):
            value = getattr(self, name)
            if value not in (None, *allowed):
                raise UsageError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}")

    @classmethod
    def of(cls, content: object) -> Recipe:
        """Return the recipe of a mapping from these names to values.

        Raises:
            UsageError: If it is something else, or has an unknown key or a wrong value.
        """
        if not isinstance(content, Mapping):
            raise UsageError(f"`recipe` must be a mapping from names to values, got {content!r}")
        known = [one.name for one in fields(cls)]
        for key in content:
            if key not in known:
                near = get_close_matches(str(key), known, n=1)
                hint = f"did you mean {near[0]!r}? Keys" if near else "keys"
                raise UsageError(f"`recipe` has the unknown key {key!r}; {hint} are {', '.join(known)}")
        return cls(**content)

    def to_dict(self) -> dict[str, Any]:
        """Return what it says, as a JSON object."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def trains_otherwise(self) -> bool:
        """Whether it says something about training from scratch, and not about pruning alone."""
        return bool(self.to_dict().keys() - {"pruning", "prune_steps"})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# The rule of steps: the built-in tasks of small images take about these, whatever their number of images.
_TRAIN_STEPS = 1300
_DERIVE_STEPS = 350
_PRUNE_STEPS = 350
_APPROXIMATE_STEPS = 200
FEW_IMAGES = 10_000  # up to which batches are small
_MOST_EPOCHS = 100  # of few images, which more epochs would only learn by heart


def effort_for(images: int, *, trained: bool = False) -> Effort:
    """Return the standard effort for a number of training images.

    Training takes 1,300 steps of 32 images, or of 128 if there are 10,000 images or more; retraining after pruning
    takes 350, retraining on integer codes 200; never more than 100 epochs, and at least one of training.

    Networks that come trained are fine-tuned as long as others are retrained after pruning. Their weights are worth
    more than a few hundred steps can make, and are often of networks that higher rates would undo; so integer codes are
    retrained at a third of the rate. A small network of MNIST ends within 0.1 points of what a rate of 1e-3 gives as
    long as it keeps three bits and half of its channels or 30 % of its weights, and below it where less is left.

    Args:
        images: Number of images to train on.
        trained: Whether networks come trained.
    """
    few = images < FEW_IMAGES
    batch_size = 32 if few else 128
    steps_per_epoch = -(-images // batch_size)

    def epochs(steps: int) -> float:
        most = _MOST_EPOCHS * steps / _TRAIN_STEPS
        return min(most, steps / steps_per_epoch)

    return Effort(
        train_epochs=max(1.0, epochs(_TRAIN_STEPS)),
        derive_epochs=epochs(_DERIVE_STEPS),
        prune_epochs=epochs(_PRUNE_STEPS),
        approximate_epochs=epochs(_APPROXIMATE_STEPS),
        batch_size=batch_size,
        learning_rate=1e-3,
        derive_learning_rate=3e-4 if trained else 1e-3,
        prune_learning_rate=3e-4,
        approximate_learning_rate=3e-4 if trained else 1e-3,
        chips=5 if few else 3,
    )
