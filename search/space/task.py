"""Tasks by name: a dataset, the networks that suit it, and how much work an evaluation is worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any

from search.errors import UnknownNameError, UsageError
from search.space.search_space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much work one evaluation is.

    Attributes:
        train_epochs: Epochs of training a network from scratch.
        prune_epochs: Epochs of retraining after pruning.
        approximate_epochs: Epochs of retraining on integer codes with the chosen multiplier.
        batch_size: Images per training step.
        learning_rate: Adam's rate for training from scratch.
        prune_learning_rate: Adam's rate for retraining after pruning.
        approximate_learning_rate: Adam's rate for retraining on integer codes.
        chips: Chips, each with its own failing memory cells, over which accuracy is averaged.
        confirmations: Fresh runs by which an answer is confirmed; see `search.answers.confirmation`.
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
        """What an evaluation depends on, as a JSON object, for content hashes."""
        return {name: value for name, value in asdict(self).items() if name != "confirmations"}

    def scaled(self, name: str) -> Effort:
        """This, the standard effort of a task, at another one of `EFFORTS`."""
        if name == "standard":
            return self  # to the last digit, so that what is stored under its hash is found
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
class OwnNetwork:
    """A network that a function outside of this project builds; see `search.space.custom_network`.

    Attributes:
        path: Import path of the function, `package.module:function`.
        folder: Where the module is looked for before anywhere else; empty if the network is known from a stored
            identity alone, and cannot be built.
        max_depth: The largest depth to be searched; 1 if the function takes none.
        max_width: The largest width to be searched; 1 if the function takes none.
        fingerprint: SHA-256 of the path, the source files that define the function and the network's modules, and the
            layers and shapes of the largest network. Weights that a network brings along are not part of it.
    """

    path: str
    folder: str
    max_depth: int
    max_width: int
    fingerprint: str

    @property
    def identity(self) -> str:
        """What results are stored under, so that those of an edited network are never taken for the original's."""
        return f"{self.path}@{self.max_depth}x{self.max_width}@{self.fingerprint}"

    @classmethod
    def from_identity(cls, identity: str) -> OwnNetwork:
        """The network of an identity, without the folder."""
        path, largest, fingerprint = identity.split("@")
        max_depth, max_width = map(int, largest.split("x"))
        return cls(path=path, folder="", max_depth=max_depth, max_width=max_width, fingerprint=fingerprint)


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
        network: The person's own network, if that is what is searched.
    """

    name: str
    title: str
    image_shape: tuple[int, int, int]
    classes: int
    pixel_max: int
    space: SearchSpace
    effort: Effort
    network: OwnNetwork | None = None

    @property
    def identity(self) -> str:
        """What searches and evaluations are stored under: the name, with the identity of a person's own network."""
        return self.name if self.network is None else f"{self.name}@{self.network.identity}"

    @property
    def options(self) -> str:
        """The options of the command line that ask for it."""
        return f"--dataset {self.name}" + ("" if self.network is None else f" --network {self.network.path}")

    @property
    def words(self) -> str:
        """As messages call it."""
        return repr(self.name) + (f", network {self.network.path} as it is now," if self.network else "")

    def with_effort(self, name: str) -> Task:
        """The same task with one of `EFFORTS` for each evaluation.

        Raises:
            UnknownNameError: If there is no such effort.
        """
        if name not in EFFORTS:
            raise UnknownNameError(f"`effort` must be one of {', '.join(EFFORTS)}, got {name!r}")
        return replace(self, effort=self.effort.scaled(name))

    def with_network(self, network: OwnNetwork) -> Task:
        """The same task for a person's own network instead of the families."""
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
    """Names of the tasks."""
    return list(_TASKS)


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        UnknownNameError: If there is none; the message offers near names.
    """
    if not isinstance(name, str):
        raise UsageError(f"`dataset` must be a name, such as 'digits', got {name!r}")
    if name in _TASKS:
        return _TASKS[name]
    near = get_close_matches(name.lower(), _TASKS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownNameError(f"unknown dataset {name!r}; {hint}Datasets: {', '.join(_TASKS)}")


def stored_names(identity: str) -> tuple[str, str | None]:
    """The dataset of a stored identity, and the import path of a person's own network, if any."""
    dataset, _, network = identity.partition("@")
    return dataset, network.partition("@")[0] or None


def task_words(identity: str) -> str:
    """Return a stored task in words: its dataset, and the import path of a custom network, if any."""
    return ", ".join(filter(None, stored_names(identity)))


def stored_task(identity: str) -> Task:
    """The task under whose identity something is stored.

    Raises:
        UnknownNameError: If there is none of its name.
    """
    name, _, network = identity.partition("@")
    task = find_task(name)
    return task.with_network(OwnNetwork.from_identity(network)) if network else task
