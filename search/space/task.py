"""Tasks: a data set, its preprocessing and metric, the networks that suit it, and the effort of an evaluation."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal

from search.content_hash import content_hash
from search.errors import UnknownNameError, UsageError
from search.images.built_in import built_in_dataset
from search.images.dataset import Dataset
from search.images.splits import split_sizes
from search.space.built_in_tasks import BUILT_IN_TASKS
from search.space.candidate import Network
from search.space.effort import EFFORTS, FEW_IMAGES, SHORTCUTS, Effort, Recipe, effort_for
from search.space.search_space import SearchSpace
from search.space.shipped import ShippedBaseline, shipped_baseline

Train = Literal["scratch", "finetune", "none"]
Metric = Literal["accuracy", "balanced-accuracy"]
TRAININGS: tuple[Train, ...] = ("scratch", "finetune", "none")
METRICS: tuple[Metric, ...] = ("accuracy", "balanced-accuracy")
CHANNEL_STEPS = 8  # widths of a network that comes trained: eighths of its channels

# Raise whenever the same task would give other results; `EVALUATION_VERSION` would make all tasks anew.
RETRAINING_VERSION = 1  # of retraining custom networks on codes
_FOLDS_VERSION = 1  # of fresh runs by balanced accuracy

_DIGITS = 16  # of the digest in an identity
_FEW_REPEATED = 0.01  # share of validation images


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomNetwork:
    """A network from outside of this project; see `search.space.custom_network`.

    Attributes:
        path: Import path of the function that builds it, `package.module:function`; for a network that was given as a
            Python object the name of its class, `package.module.Class`.
        folder: Folder in which the module is looked for first; empty if the network cannot be built here.
        max_depth: Largest depth to search; 1 if the function takes none, or the network comes trained.
        max_width: Largest width to search; 1 if the function takes none, `CHANNEL_STEPS` if the network comes trained.
        fingerprint: SHA-256 of the path, the source files that define the function and the network's modules, the
            layers and shapes of the largest network, the operations that it runs and, if it comes trained, its weights.
        min_width: Smallest width to search: `max_width` for a trained network that no channel can be removed from.
        weights_sha256: SHA-256 of its weights, if it comes trained; None if it is trained from scratch.
        checkpoint: Absolute path of the file of its weights; None if it is built with them, or trained from scratch.
        model: The network itself, if it was given as a Python object.
    """

    path: str
    folder: str
    max_depth: int
    max_width: int
    fingerprint: str
    min_width: int = 1
    weights_sha256: str | None = None
    checkpoint: str | None = None
    model: Any = field(default=None, compare=False, repr=False)

    @property
    def trained(self) -> bool:
        """Whether it comes with its weights, of which a width is the share of channels kept."""
        return self.weights_sha256 is not None

    @property
    def family(self) -> str:
        """The name of its networks in candidates: the path, and `/8` if their widths are eighths of its channels."""
        return f"{self.path}/{CHANNEL_STEPS}" if self.trained else self.path

    @property
    def is_object(self) -> bool:
        """Whether it was given as a Python object, which no import path builds again."""
        return ":" not in self.path

    def to_dict(self) -> dict[str, Any]:
        """Return all but the folder and the object, as a JSON object."""
        return {
            "path": self.path,
            "max_depth": self.max_depth,
            "max_width": self.max_width,
            "fingerprint": self.fingerprint,
            "min_width": self.min_width,
            "weights_sha256": self.weights_sha256,
            "checkpoint": self.checkpoint,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CustomNetwork:
        """Return the network of a JSON object made by `to_dict`, which cannot be built."""
        return cls(**content, folder="")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the places of modules before the object, whose class another process imports from one of them."""
        return _unpickled, (tuple(sys.path) if self.model is not None else (),), self.__getstate__()


def _unpickled(places: tuple[str, ...]) -> CustomNetwork:
    """Return a network without its state, which is unpickled next, once its modules can be imported."""
    sys.path.extend(place for place in places if place not in sys.path)
    return object.__new__(CustomNetwork)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is classified, by which networks, how well and with how much training.

    Attributes:
        dataset: The images.
        space: Search space.
        effort: Effort of one evaluation.
        network: Custom network to search instead of the families, if any.
        train: `scratch`; or for a network that comes trained `finetune`, or `none` to convert it without any gradient.
        metric: What accuracy means: the share of images, or the mean over classes of the share of their images.
        mean: Mean of each channel that is subtracted from pixels in [0, 1]; empty for none.
        std: Standard deviation by which each channel is then divided; empty for none.
        recipe: What training does otherwise than the rule for the images.
        baseline_is_fixed: Whether all searches and fresh runs begin with one trained baseline of the built-in family,
            because training it takes an hour.
        from_scratch: Whether the baseline is trained here, though one comes with the package.
    """

    dataset: Dataset
    space: SearchSpace
    effort: Effort
    network: CustomNetwork | None = None
    train: Train = "scratch"
    metric: Metric = "accuracy"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    recipe: Recipe = field(default_factory=Recipe)
    baseline_is_fixed: bool = False
    from_scratch: bool = False

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.dataset.name

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.dataset.image_shape

    @property
    def pixel_max(self) -> int:
        """Pixel value that is scaled to 1.0."""
        return self.dataset.pixel_max

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.dataset.classes

    @property
    def begins_trained(self) -> bool:
        """Whether all fresh runs begin with the same trained network, so that other images confirm than chose."""
        return self.train != "scratch" or self.baseline_is_fixed

    def start_of(self, network: Network) -> Network:
        """Return the trained network that a network is derived from: itself, if it is trained from scratch or given."""
        family, depth, _ = network
        if self.network is None:
            return family, self.space.max_depth, self.space.max_width
        return (family, depth, CHANNEL_STEPS) if self.train == "finetune" else network

    @property
    def shipped_baseline(self) -> ShippedBaseline | None:
        """The trained baseline that comes with the package; None if the task's is another one, or trained here."""
        if self.network is not None or self.dataset.digest is not None or self.from_scratch:
            return None
        return None if self.recipe.trains_otherwise or any(self._own_statistics) else shipped_baseline(self.name)

    @property
    def identity(self) -> str:
        """The key of results: the data set's, with a digest of all that is not as by default."""
        rest = self._beyond_dataset()
        return self.dataset.identity + (f"/{content_hash(rest)[:_DIGITS]}" if rest else "")

    @property
    def is_clean(self) -> bool:
        """Whether the images that choose and confirm are known not to have trained the network.

        Images that are cut from the training images may have, if it comes trained, and so may validation images of
        which more than a few are training images too.
        """
        if self.train == "scratch":
            return True
        given = self.dataset.counts.get("validation", 0)
        return given > 0 and self.dataset.repeated.get("validation", 0) <= _FEW_REPEATED * given

    @property
    def words(self) -> str:
        """The task in words: the data set, and what is not as by default."""
        return ", ".join([self.name, *self._details()])

    @property
    def options(self) -> str:
        """The command-line options that select the task, without a network that is a Python object."""
        given = ["--dataset", self.dataset.identity]
        if self.network is not None and not self.network.is_object:
            given += ["--network", self.network.path]
            given += [] if self.network.checkpoint is None else ["--checkpoint", self.network.checkpoint]
        for option, value, default in (
            ("--train", self.train, "scratch"),
            ("--metric", self.metric, "accuracy"),
            ("--mean", ",".join(f"{one:g}" for one in self._own_statistics[0]), ""),
            ("--std", ",".join(f"{one:g}" for one in self._own_statistics[1]), ""),
        ):
            given += [] if value == default else [option, value]
        given += ["--from-scratch"] if self.from_scratch else []
        for name, value in self.recipe.to_dict().items():
            text = f"{value:g}" if isinstance(value, float) else str(value)
            given += [f"--{name.replace('_', '-')}", text] if name in SHORTCUTS else ["--recipe", f"{name}={text}"]
        return shlex.join(given)

    def _details(self) -> list[str]:
        told = [] if self.network is None else [self.network.path]
        if self.train != "scratch":
            told.append({"finetune": "fine-tuned", "none": "without training"}[self.train])
        if self.metric != "accuracy":
            told.append(self.metric.replace("-", " "))
        return told

    @property
    def _own_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation, empty where they are as by default."""
        if self.network is None and self.dataset.digest is None:
            built_in = BUILT_IN_TASKS[self.dataset.name]
            if (self.mean, self.std) == (built_in.mean, built_in.std):
                return (), ()
        return self.mean, self.std

    def _beyond_dataset(self) -> dict[str, Any]:
        """All that is not as by default for the data set, as a JSON object."""
        values: dict[str, Any] = {
            "train": self.train if self.train != "scratch" else None,
            "metric": self.metric if self.metric != "accuracy" else None,
            "mean": list(self._own_statistics[0]),
            "std": list(self._own_statistics[1]),
            "recipe": self.recipe.to_dict(),
            "from_scratch": self.from_scratch,
        }
        if self.network is not None:
            network = self.network.to_dict()
            del network["checkpoint"]  # where the weights were; the fingerprint says which
            values["network"] = network
            values["retraining"] = RETRAINING_VERSION if self.train != "none" else None
        if self.metric == "balanced-accuracy" and not self.begins_trained:
            values["folds"] = _FOLDS_VERSION
        return {name: value for name, value in values.items() if value}

    def with_effort(self, name: str) -> Task:
        """Return this task with one of `EFFORTS` for each evaluation.

        Raises:
            UnknownNameError: If there is no such effort.
        """
        if name not in EFFORTS:
            raise UnknownNameError(f"`effort` must be one of {', '.join(EFFORTS)}, got {name!r}")
        return replace(self, effort=self.effort.scaled(name))

    def with_network(self, network: CustomNetwork) -> Task:
        """Return this task with a custom network instead of the families, trained by the rule for its images.

        The baseline is the largest network or, if it comes trained, the network as given.
        """
        space = SearchSpace(families=(network.family,), max_depth=network.max_depth, max_width=network.max_width)
        if network.min_width > 1:
            space = replace(space, width=range(network.min_width, network.max_width + 1))
        if self.network is not None:  # as it was before it was stored
            return replace(self, space=space, network=network)
        return replace(
            self,
            space=space,
            network=network,
            effort=effort_for(split_sizes(self.dataset.counts).train),
            mean=(),
            std=(),
            baseline_is_fixed=False,
        )

    def with_training(self, train: Train) -> Task:
        """Return this task with the effort of another way to train; its recipe has to be given after it."""
        if train == "scratch":
            return self
        images = split_sizes(self.dataset.counts, trained=True).train
        return replace(self, train=train, effort=effort_for(images, trained=True))

    def with_recipe(self, recipe: Recipe) -> Task:
        """Return this task with another training than its rule."""
        if recipe == self.recipe:
            return self  # exactly, so that results stored under the hash of its effort are found
        effort = self.effort.with_recipe(recipe, trained=self.train != "scratch")
        return replace(self, effort=effort, recipe=recipe)

    def to_dict(self) -> dict[str, Any]:
        """Return the task as a JSON object, from which `from_dict` makes it in another process."""
        return {
            "dataset": self.dataset.to_dict(),
            "network": None if self.network is None else self.network.to_dict(),
            "train": self.train,
            "metric": self.metric,
            "mean": list(self.mean),
            "std": list(self.std),
            "recipe": self.recipe.to_dict(),
            "from_scratch": self.from_scratch,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Task:
        """Return the task of a JSON object made by `to_dict`; its custom network cannot be built."""
        task = task_of(Dataset.from_dict(content["dataset"]))
        if content["network"] is not None:
            task = task.with_network(CustomNetwork.from_dict(content["network"]))
        task = replace(
            task.with_training(content["train"]),
            metric=content["metric"],
            mean=tuple(content["mean"]),
            std=tuple(content["std"]),
            from_scratch=content.get("from_scratch", False),
        )
        return task.with_recipe(Recipe(**content["recipe"]))


_SMALLEST = {"mlp": 1, "lenet": 4, "vgg": 8, "resnet": 4}  # image sides that networks of a family can halve (a test)
_MOST_PRODUCTS = 65_793  # of 8-bit codes, at most 255 x 128, in a sum that surely fits 32 bits (a test)
_MAX_DEPTH, _MAX_WIDTH = 3, 8  # of data sets that are not built in
_OF_GRAY = ("mlp", "lenet")
_OF_COLOUR = ("lenet", "resnet", "vgg")


def task_of(dataset: Dataset) -> Task:
    """Return the task of a data set with the networks and the effort that suit its images.

    Photographs get deep networks if there are enough to train these.
    """
    if dataset.digest is None:
        built_in = BUILT_IN_TASKS[dataset.name]
        return Task(
            dataset=dataset,
            space=built_in.space,
            effort=built_in.effort,
            mean=built_in.mean,
            std=built_in.std,
            baseline_is_fixed=built_in.baseline_is_fixed,
        )
    families, images = _suitable(dataset), split_sizes(dataset.counts).train
    depths = _depths(families, dataset.image_shape)
    least = max((one.start for one in depths.values()), default=1)
    space = SearchSpace(
        families=tuple(depths) or families,  # a custom network may take their place: see `check_networks`
        max_depth=_MAX_DEPTH,
        max_width=_MAX_WIDTH,
        depth=None if least == 1 else range(least, _MAX_DEPTH + 1),
    )
    return Task(dataset=dataset, space=space, effort=effort_for(images))


def check_networks(task: Task) -> None:
    """Check that there are networks that compute a task's images.

    Raises:
        UsageError: If the images are too large for every family that suits them.
    """
    dataset = task.dataset
    if task.network is not None or dataset.digest is None:
        return
    families, (channels, height, width) = _suitable(dataset), dataset.image_shape
    if _depths(families, dataset.image_shape):
        return
    side = next(side for side in range(max(height, width), 0, -1) if _depths(families, (channels, side, side)))
    raise UsageError(
        f"images of {height}x{width} are too large for the built-in networks ({', '.join(families)}), whose sums may "
        f"have at most {_MOST_PRODUCTS:,} products; resize them to at most {side}x{side} with `image_size`, or give a "
        "`network` of your own that averages over the image"
    )


def _suitable(dataset: Dataset) -> tuple[str, ...]:
    """Return the families that suit the number and colours of images that are not built in."""
    channels, height, width = dataset.image_shape
    many = channels > 1 and split_sizes(dataset.counts).train >= FEW_IMAGES
    families = _OF_COLOUR if many else _OF_GRAY
    return tuple(family for family in families if min(height, width) >= _SMALLEST[family]) or ("mlp",)


def _depths(families: tuple[str, ...], image_shape: tuple[int, int, int]) -> dict[str, range]:
    """Return family -> the depths at which all of its networks compute such images; without families that have none."""
    found = {}
    for family in families:
        for least in range(1, _MAX_DEPTH + 1):
            if _products(family, least, image_shape) <= _MOST_PRODUCTS:
                found[family] = range(least, _MAX_DEPTH + 1)
                break
    return found


def _products(family: str, depth: int, image_shape: tuple[int, int, int]) -> int:
    """Return the number of products in a sum of a family's widest network that grows with the image (a test).

    Deeper networks of a family do not have longer ones.
    """
    channels, *sides = image_shape
    if family == "mlp":
        return channels * math.prod(sides)
    if family != "lenet":
        return 0  # they average over the image
    small, padded = min(sides) < 20, min(sides) < 32
    for convolution in range(min(depth, 2)):
        lost = 0 if small or (padded and convolution == 0) else 4  # by a 5x5 kernel without padding
        sides = [(side - lost) // 2 for side in sides]
    return round((6, 16)[convolution] * _MAX_WIDTH / 6) * math.prod(sides)


def task_names() -> list[str]:
    """Return the names of the built-in data sets."""
    return list(BUILT_IN_TASKS)


def find_task(name: str) -> Task:
    """Return the task of a built-in data set.

    Raises:
        UnknownNameError: If there is none of this name; the message suggests a similar one.
    """
    if not isinstance(name, str):
        raise UsageError(f"`dataset` must be a name, such as 'digits', got {name!r}")
    if name in BUILT_IN_TASKS:
        return task_of(built_in_dataset(name))
    near = get_close_matches(name.lower(), BUILT_IN_TASKS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? Datasets" if near else "datasets"
    raise UnknownNameError(f"unknown dataset {name!r}; {hint} are {', '.join(BUILT_IN_TASKS)}")
