"""Tasks by name: a dataset, the networks that suit it, and how much work an evaluation is worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from search.errors import UnknownNameError
from search.space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much work one evaluation is.

    Attributes:
        train_epochs: Epochs of training a network from scratch.
        prune_epochs: Epochs of retraining after pruning.
        approximate_epochs: Epochs of retraining on integer codes with the chosen multiplier.
        batch_size: Images per training step.
        learning_rate: Adam's rate for training from scratch.
        retrain_learning_rate: Adam's rate for both retrainings.
        chips: Chips, each with its own failing memory cells, over which accuracy is averaged.
    """

    train_epochs: float
    prune_epochs: float
    approximate_epochs: float
    batch_size: int
    learning_rate: float
    retrain_learning_rate: float
    chips: int

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object, for content hashes."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A dataset with its preprocessing, split and networks.

    Attributes:
        name: What `--dataset` takes.
        title: What a person reads.
        image_shape: Channels, height and width.
        classes: Number of classes.
        pixel_max: The pixel value that stands for 1.0.
        space: The search space.
        effort: How much work one evaluation is.
    """

    name: str
    title: str
    image_shape: tuple[int, int, int]
    classes: int
    pixel_max: int
    space: SearchSpace
    effort: Effort


_MNIST_EFFORT = Effort(
    train_epochs=3,
    prune_epochs=1,
    approximate_epochs=1,
    batch_size=128,
    learning_rate=2e-3,
    retrain_learning_rate=5e-4,
    chips=3,
)

_TASKS = {
    task.name: task
    for task in (
        Task(
            name="digits",
            title="scikit-learn's handwritten digits, 8x8",
            image_shape=(1, 8, 8),
            classes=10,
            pixel_max=16,
            space=SearchSpace(families=("mlp", "lenet")),
            effort=Effort(
                train_epochs=40,
                prune_epochs=10,
                approximate_epochs=10,
                batch_size=32,
                learning_rate=3e-3,
                retrain_learning_rate=1e-3,
                chips=5,
            ),
        ),
        Task(
            name="mnist",
            title="MNIST, handwritten digits, 28x28",
            image_shape=(1, 28, 28),
            classes=10,
            pixel_max=255,
            space=SearchSpace(families=("mlp", "lenet")),
            effort=_MNIST_EFFORT,
        ),
        Task(
            name="fashion-mnist",
            title="Fashion-MNIST, articles of clothing, 28x28",
            image_shape=(1, 28, 28),
            classes=10,
            pixel_max=255,
            space=SearchSpace(families=("mlp", "lenet")),
            effort=_MNIST_EFFORT,
        ),
        Task(
            name="cifar10",
            title="CIFAR-10, photographs of ten kinds of objects, 32x32",
            image_shape=(3, 32, 32),
            classes=10,
            pixel_max=255,
            space=SearchSpace(families=("lenet", "vgg")),
            effort=Effort(
                train_epochs=4,
                prune_epochs=1,
                approximate_epochs=0.5,
                batch_size=128,
                learning_rate=1e-3,
                retrain_learning_rate=3e-4,
                chips=3,
            ),
        ),
    )
}


def task_names() -> list[str]:
    """Names of the tasks."""
    return list(_TASKS)


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        UnknownNameError: If there is none; the message offers near names.
    """
    if name in _TASKS:
        return _TASKS[name]
    near = get_close_matches(name.lower(), _TASKS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownNameError(f"unknown dataset {name!r}; {hint}Datasets: {', '.join(_TASKS)}")
