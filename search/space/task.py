"""Tasks by name: a dataset, the networks that suit it, and the effort of an evaluation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any

from search.errors import UnknownNameError, UsageError
from search.space.search_space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """The amount of work in one evaluation.

    Attributes:
        train_epochs: Epochs of training a network from scratch.
        prune_epochs: Epochs of retraining after pruning.
        approximate_epochs: Epochs of retraining on integer codes with the chosen multiplier.
        batch_size: Images per training step.
        learning_rate: Adam's rate for training from scratch.
        prune_learning_rate: Adam's rate for retraining after pruning.
        approximate_learning_rate: Adam's rate for retraining on integer codes.
        chips: Chips, each with its own failing memory cells, over which accuracy is averaged.
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


# Effort -> epochs and chips as a share of the standard effort's, and confirmation runs.
_SCALES = {"quick": (0.4, 0.4, 3), "standard": (1.0, 1.0, 5), "thorough": (2.0, 2.0, 10)}
EFFORTS = tuple(_SCALES)


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomNetwork:
    """A network that a function outside of this project builds; see `search.space.custom_network`.

    Attributes:
        path: Import path of the function, `package.module:function`.
        folder: Folder in which the module is looked for first; empty if only a stored identity is known, so that the
            network cannot be built.
        max_depth: Largest depth to search; 1 if the function takes none.
        max_width: Largest width to search; 1 if the function takes none.
        fingerprint: SHA-256 of the path, the source files that define the function and the network's modules, and the
            layers and shapes of the largest network. Pretrained weights are not part of it.
    """

    path: str
    folder: str
    max_depth: int
    max_width: int
    fingerprint: str

    @property
    def identity(self) -> str:
        """The key of stored results, so that those of an edited network are never taken for the original's."""
        return f"{self.path}@{self.max_depth}x{self.max_width}@{self.fingerprint}"

    @classmethod
    def from_identity(cls, identity: str) -> CustomNetwork:
        """Return the network of an identity, without a folder."""
        path, largest, fingerprint = identity.split("@")
        max_depth, max_width = map(int, largest.split("x"))
        return cls(path=path, folder="", max_depth=max_depth, max_width=max_width, fingerprint=fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A dataset with its preprocessing, split and networks.

    Attributes:
        name: Name of the dataset, as `--dataset` takes it.
        title: Title for people.
        image_shape: Channels, height and width.
        classes: Number of classes.
        pixel_max: Pixel value that is scaled to 1.0.
        space: Search space.
        effort: Effort of one evaluation.
        network: Custom network to search instead of the families, if any.
    """

    name: str
    title: str
    image_shape: tuple[int, int, int]
    classes: int
    pixel_max: int
    space: SearchSpace
    effort: Effort
    network: CustomNetwork | None = None

    @property
    def identity(self) -> str:
        """The key of stored searches and evaluations: the name, with the identity of a custom network."""
        return self.name if self.network is None else f"{self.name}@{self.network.identity}"

    @property
    def options(self) -> str:
        """The command-line options that select the task."""
        return f"--dataset {self.name}" + ("" if self.network is None else f" --network {self.network.path}")

    @property
    def words(self) -> str:
        """The task in words, for messages."""
        return repr(self.name) + (f", network {self.network.path} as it is now," if self.network else "")

    def with_effort(self, name: str) -> Task:
        """Return this task with one of `EFFORTS` for each evaluation.

        Raises:
            UnknownNameError: If there is no such effort.
        """
        if name not in EFFORTS:
            raise UnknownNameError(f"`effort` must be one of {', '.join(EFFORTS)}, got {name!r}")
        return replace(self, effort=self.effort.scaled(name))

    def with_network(self, network: CustomNetwork) -> Task:
        """Return this task with a custom network instead of the families."""
        space = SearchSpace(families=(network.path,), max_depth=network.max_depth, max_width=network.max_width)
        return replace(self, space=space, network=network)


_MNIST_EFFORT = Effort(
    train_epochs=3,
    prune_epochs=1,
    approximate_epochs=0.5,
    batch_size=128,
    learning_rate=2e-3,
    prune_learning_rate=5e-4,
    approximate_learning_rate=2e-3,
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
            space=SearchSpace(families=("lenet", "mlp"), max_depth=3, max_width=8),
            effort=Effort(
                train_epochs=40,
                prune_epochs=10,
                approximate_epochs=3,
                batch_size=32,
                learning_rate=3e-3,
                prune_learning_rate=1e-3,
                approximate_learning_rate=5e-3,
                chips=5,
            ),
        ),
        Task(
            name="mnist",
            title="MNIST, handwritten digits, 28x28",
            image_shape=(1, 28, 28),
            classes=10,
            pixel_max=255,
            space=SearchSpace(families=("mlp", "lenet"), max_depth=3, max_width=12),
            effort=_MNIST_EFFORT,
        ),
        Task(
            name="fashion-mnist",
            title="Fashion-MNIST, articles of clothing, 28x28",
            image_shape=(1, 28, 28),
            classes=10,
            pixel_max=255,
            space=SearchSpace(families=("mlp", "lenet"), max_depth=3, max_width=12),
            effort=_MNIST_EFFORT,
        ),
        Task(
            name="cifar10",
            title="CIFAR-10, photographs of ten kinds of objects, 32x32",
            image_shape=(3, 32, 32),
            classes=10,
            pixel_max=255,
            space=SearchSpace(families=("lenet", "resnet", "vgg"), max_depth=3, max_width=7),
            effort=Effort(
                train_epochs=4,
                prune_epochs=1,
                approximate_epochs=0.5,
                batch_size=128,
                learning_rate=1e-3,
                prune_learning_rate=3e-4,
                approximate_learning_rate=1e-3,
                chips=3,
            ),
        ),
    )
}


def task_names() -> list[str]:
    """Return the names of the tasks."""
    return list(_TASKS)


def find_task(name: str) -> Task:
    """Return the task of a name.

    Raises:
        UnknownNameError: If there is none; the message suggests a similar name.
    """
    if not isinstance(name, str):
        raise UsageError(f"`dataset` must be a name, such as 'digits', got {name!r}")
    if name in _TASKS:
        return _TASKS[name]
    near = get_close_matches(name.lower(), _TASKS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? Datasets" if near else "datasets"
    raise UnknownNameError(f"unknown dataset {name!r}; {hint} are {', '.join(_TASKS)}")


def stored_names(identity: str) -> tuple[str, str | None]:
    """Return the dataset of a stored identity, and the import path of its custom network, if any."""
    dataset, _, network = identity.partition("@")
    return dataset, network.partition("@")[0] or None


def task_words(identity: str) -> str:
    """Return a stored task in words: its dataset, and the import path of a custom network, if any."""
    return ", ".join(filter(None, stored_names(identity)))


def stored_task(identity: str) -> Task:
    """Return the task of a stored identity.

    Raises:
        UnknownNameError: If there is no such dataset.
    """
    name, _, network = identity.partition("@")
    task = find_task(name)
    return task.with_network(CustomNetwork.from_identity(network)) if network else task
