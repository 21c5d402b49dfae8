"""The amount of work in one evaluation, and the rule that gives it for images that are not built in."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from search.errors import UsageError

AUGMENTATIONS = ("none", "crop-flip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """The amount of work in one evaluation.

    Attributes:
        train_epochs: Epochs of training a network from scratch.
        prune_epochs: Epochs of retraining after pruning, and of fine-tuning a trained network with fewer channels.
        approximate_epochs: Epochs of retraining on integer codes with the chosen multiplier.
        batch_size: Images per training step.
        learning_rate: Adam's rate for training from scratch.
        prune_learning_rate: Adam's rate for retraining after pruning.
        approximate_learning_rate: Adam's rate for retraining on integer codes; for custom networks the highest, see
            `search.evaluation.training`.
        chips: Chips, each with its own failing memory cells, over which accuracy is averaged.
        augmentation: How training images are varied, one of `AUGMENTATIONS`.
        confirmations: Fresh runs that confirm an answer; see `search.answers.confirmation`.
    """

    train_epochs: float
    prune_epochs: float
    approximate_epochs: float
    batch_size: int
    learning_rate: float
    prune_learning_rate: float
    approximate_learning_rate: float
    chips: int
    augmentation: str = "none"
    confirmations: int = 5

    def to_dict(self) -> dict[str, Any]:
        """Return all fields on which an evaluation depends, as a JSON object, for content hashes."""
        return {name: value for name, value in asdict(self).items() if name != "confirmations"}

    def scaled(self, name: str) -> Effort:
        """Return this standard effort scaled to another one of `EFFORTS`."""
        if name == "standard":
            return self  # exactly, so that results stored under its hash are found
        share, chips, confirmations = _SCALES[name]
        return replace(
            self,
            train_epochs=self.train_epochs * share,
            prune_epochs=self.prune_epochs * share,
            approximate_epochs=self.approximate_epochs * share,
            chips=max(2, round(self.chips * chips)),
            confirmations=confirmations,
        )

    def with_recipe(self, recipe: Recipe, *, trained: bool) -> Effort:
        """Return this effort as a recipe says otherwise.

        Epochs and rate are those of training from scratch or, for a network that comes trained, of fine-tuning it;
        those of the other stages change by the same factor.
        """
        longer = 1.0 if recipe.epochs is None else recipe.epochs / (self.prune_epochs if trained else self.train_epochs)
        usual_rate = self.prune_learning_rate if trained else self.learning_rate
        faster = 1.0 if recipe.learning_rate is None else recipe.learning_rate / usual_rate
        return replace(
            self,
            train_epochs=self.train_epochs * longer,
            prune_epochs=self.prune_epochs * longer,
            approximate_epochs=self.approximate_epochs * longer,
            batch_size=recipe.batch_size or self.batch_size,
            learning_rate=self.learning_rate * faster,
            prune_learning_rate=self.prune_learning_rate * faster,
            approximate_learning_rate=self.approximate_learning_rate * faster,
            augmentation=recipe.augment or self.augmentation,
        )


# Effort -> epochs and chips as a share of the standard effort's, and confirmation runs.
_SCALES = {"quick": (0.4, 0.4, 3), "standard": (1.0, 1.0, 5), "thorough": (2.0, 2.0, 10)}
EFFORTS = tuple(_SCALES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a task's training does otherwise than the rule; None where it does not.

    Attributes:
        epochs: Epochs of training from scratch or, for a network that comes trained, of fine-tuning.
        learning_rate: Adam's rate in them.
        batch_size: Images per training step.
        augment: How training images are varied, one of `AUGMENTATIONS`.

    Raises:
        UsageError: If a value is out of range or of the wrong type.
    """

    epochs: float | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    augment: str | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (is_number and 0 < value < math.inf):
                raise UsageError(f"`{name}` must be a number above 0, got {value!r}")
        size = self.batch_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise UsageError(f"`batch_size` must be a whole number of at least 1, got {size!r}")
        if self.augment not in (None, *AUGMENTATIONS):
            raise UsageError(f"`augment` must be one of {', '.join(AUGMENTATIONS)}, got {self.augment!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return what it says, as a JSON object."""
        return {name: value for name, value in asdict(self).items() if value is not None}


# The rule of steps: the built-in tasks of small images take about these, whatever their number of images.
_TRAIN_STEPS = 1300
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
        prune_epochs=epochs(_PRUNE_STEPS),
        approximate_epochs=epochs(_APPROXIMATE_STEPS),
        batch_size=batch_size,
        learning_rate=1e-3,
        prune_learning_rate=3e-4,
        approximate_learning_rate=3e-4 if trained else 1e-3,
        chips=5 if few else 3,
    )
