"""The task that a request means: images, a network, and how it is trained and measured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any

from search.defaults import DEFAULT_DATASET, LARGEST_SIDE
from search.errors import SearchError, UsageError, named_parameters
from search.images.dataset import Dataset
from search.images.library import OnImage
from search.images.lookup import dataset_of, find_dataset
from search.images.places import ImagePlaces
from search.space.commands import resume_command
from search.space.effort import SHORTCUTS, Recipe
from search.space.task import METRICS, TRAININGS, CustomNetwork, Metric, Task, Train, check_networks, task_of


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TaskRequest:
    """A task as it is asked for; None where it is as by default.

    Attributes:
        dataset: The images: the name of a built-in data set, by default `digits`, or of one that was added; a folder of
            class folders or of Parquet files; an .npz file; or the import path of a function that returns images. See
            `search.images.lookup`.
        data: Instead: the images as Python objects; see `search.images.source.source_of`.
        network: Import path of a function that builds a custom network, `package.module:function`, instead of the
            built-in families; see `search.space.network_function`. The module is looked for in the current folder
            first.
        model: Instead: the network itself, a `torch.nn.Module`, trained. It is copied.
        checkpoint: File of the weights of the network that the function builds: `.safetensors`, or `.pt` or `.pth`; see
            `search.space.checkpoint`.
        train: `scratch`; or for a network that comes trained `finetune`, or `none`, which converts it without any
            training. By default `finetune` for a `model` or with a `checkpoint`, else `scratch`. Without either, the
            weights are those with which the function of `network` builds it.
        image_size: Height and width to which all images are resized.
        validation: Where validation images come from, instead of the data set's own: as `dataset`, or as `data`.
        mean: Mean of each channel that is subtracted from pixels in [0, 1]; one number for all channels, or one each,
            in [0, 1].
        std: Standard deviation by which each channel is then divided, likewise, in (0, 1].
        metric: `accuracy`, the share of images (the default); or `balanced-accuracy`, the mean over classes of the
            share of their images.
        epochs: Epochs of training from scratch or, for a network that comes trained, of fine-tuning it; by default a
            rule gives them from the number of images: see `search.space.effort.effort_for`. This and the next four are
            nothing for `train` none.
        learning_rate: The peak rate in them.
        batch_size: Images per training step.
        augment: How training images are varied: `none` or `crop-flip`; by default as suits a built-in data set, else
            `none`.
        recipe: What else is done otherwise, by names: see `search.space.effort.Recipe`.
        from_scratch: Whether to train the baseline here, though one comes with the package.

    Raises:
        UsageError: If a value is out of range or of the wrong type, or two exclude each other.
    """

    dataset: str | os.PathLike[str] | None = None
    data: Any = None
    network: str | None = None
    model: Any = None
    checkpoint: str | os.PathLike[str] | None = None
    train: str | None = None
    image_size: Sequence[int] | None = None
    validation: Any = None
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    metric: str | None = None
    epochs: float | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    augment: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    from_scratch: bool = False

    def __repr__(self) -> str:
        given = [f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if self._says(one.name)]
        return f"TaskRequest({', '.join(given)})"

    def __post_init__(self) -> None:
        for one, other in (("dataset", "data"), ("network", "model"), ("checkpoint", "model")):
            if self._says(one) and self._says(other):
                raise UsageError(f"`{one}` and `{other}` exclude each other; give one of them")
        if self.network is not None and not isinstance(self.network, str):
            raise UsageError(
                "`network` must be the import path of a function that builds it, such as 'package.module:build', got a "
                f"value of type {type(self.network).__name__}; give a network itself as `model`"
            )
        if self.checkpoint is not None and not isinstance(self.checkpoint, str | os.PathLike):
            raise UsageError(f"`checkpoint` must be the path of a file, got {self.checkpoint!r}")
        if self.checkpoint is not None and self.network is None:
            raise UsageError("`checkpoint` needs `network`, the function that builds the network of these weights")
        for name, allowed in (("train", TRAININGS), ("metric", METRICS)):
            if getattr(self, name) not in (None, *allowed):
                raise UsageError(f"`{name}` must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        size = self.image_size
        if size is not None and not (
            isinstance(size, Sequence)
            and len(size) == 2
            and all(isinstance(one, int) and not isinstance(one, bool) and 1 <= one <= LARGEST_SIDE for one in size)
        ):
            raise UsageError(f"`image_size` must be height and width, each from 1 to {LARGEST_SIDE}, got {size!r}")
        for name, range_words in (("mean", "from 0 to 1"), ("std", "above 0 and at most 1")):
            values = getattr(self, name)
            if values is not None:
                _check_pixels(name, values, range_words)
        if not isinstance(self.from_scratch, bool):
            raise UsageError(f"`from_scratch` must be True or False, got {self.from_scratch!r}")
        _ = self.training  # checks its values

    def _says(self, name: str) -> bool:
        return getattr(self, name) not in (None, False, {})

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the images; None if they stay as they are."""
        return None if self.image_size is None else (self.image_size[0], self.image_size[1])

    @property
    def training(self) -> Recipe:
        """What training does otherwise than the rule."""
        shortcuts = {name: getattr(self, name) for name in SHORTCUTS if self._says(name)}
        Recipe.of(self.recipe)
        if twice := [name for name in shortcuts if name in self.recipe]:
            raise UsageError(f"`{twice[0]}` is given twice, beside `recipe` and in it; give it once")
        return Recipe.of({**self.recipe, **shortcuts})

    def with_shortcuts(
        self,
        *,
        dataset: str | os.PathLike[str] | None = None,
        data: Any = None,
        network: str | None = None,
        model: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        train: str | None = None,
    ) -> TaskRequest:
        """Return this request with what was given beside it; see the attributes.

        Raises:
            UsageError: If something is given twice.
        """
        for name, value in (
            ("dataset", dataset),
            ("data", data),
            ("network", network),
            ("model", model),
            ("checkpoint", checkpoint),
            ("train", train),
        ):
            if value is not None and self._says(name):
                raise UsageError(f"`{name}` is given twice, beside `task` and in it; give it once")
        return replace(
            self,
            dataset=self.dataset if dataset is None else dataset,
            data=self.data if data is None else data,
            network=network or self.network,
            model=self.model if model is None else model,
            checkpoint=checkpoint or self.checkpoint,
            train=train or self.train,
        )


_SHORTCUTS = ("dataset", "data", "network", "model", "checkpoint", "train")  # parameters of `search.run` itself


def searched_task(
    request: TaskRequest,
    places: ImagePlaces,
    *,
    begun: Task | None = None,
    on_image: OnImage = lambda done, of: None,
) -> Task:
    """Return the task that a request means. Images that are not stored yet are stored.

    Args:
        request: The request.
        places: Where images are.
        begun: The task of a search that is resumed, which says how the network is trained and measured where the
            request does not.
        on_image: Notified of each image that is stored.

    Raises:
        UsageError: If there is no such data set, the network cannot be used, the images are too large for the built-in
            networks, or parts of the request contradict each other.
        DatasetError: If images cannot be read or stored.
    """
    if not isinstance(request, TaskRequest):
        raise UsageError(f"`task` must be a search.TaskRequest, got {request!r}")
    try:
        _training(request, begun)  # so that nothing is stored for a request that is refused
        return task_on(request, _dataset(request, places, on_image), begun=begun)
    except SearchError as error:
        known = [one.name for one in fields(TaskRequest) if one.name not in _SHORTCUTS]
        for name in named_parameters(str(error)):
            if name in known:
                error.add_note(f"In Python, `{name}` is a parameter of a search.TaskRequest, which is given as `task`.")
        raise


def task_on(request: TaskRequest, dataset: Dataset, *, begun: Task | None = None) -> Task:
    """Return the task that a request means, with a data set that was found.

    Args:
        request: The request.
        dataset: The data set.
        begun: As for `searched_task`.

    Raises:
        UsageError: As for `searched_task`.
    """
    train = _training(request, begun)
    task = task_of(dataset)
    network = _network(request, dataset, trained=train != "scratch")
    if network is not None:
        task = task.with_network(network)
    check_networks(task)
    metric: Metric = next((one for one in METRICS if one == request.metric), begun.metric if begun else "accuracy")
    mean, std = (
        _per_channel(name, getattr(request, name), dataset.image_shape[0]) or getattr(begun or task, name)
        for name in ("mean", "std")
    )
    task = replace(task.with_training(train), metric=metric, mean=mean, std=std)
    # Where none comes with the package, all are trained here.
    scratch = (request.from_scratch or (begun is not None and begun.from_scratch)) and task.shipped_baseline is not None
    task = replace(task, from_scratch=scratch)
    recipe = request.training
    if begun is not None and train == begun.train:
        recipe = Recipe(**begun.recipe.to_dict() | recipe.to_dict())
    return task.with_recipe(recipe)


def rebuilt_task(task: Task, *, name: str = "NAME") -> Task:
    """Return a stored task with its custom network as it is here now.

    Args:
        task: The task.
        name: Name of its search, for messages.

    Raises:
        UsageError: If the network cannot be built, or is not what it was.
    """
    network = task.network
    if network is None or network.folder:
        return task
    if network.is_object:
        raise UsageError(
            f"the network {network.path} was given as a Python object, which is not stored; give it again: "
            f"{resume_command(task, name)}"
        )
    from search.space.custom_network import find_network  # imports torch

    if network.checkpoint is not None and not Path(network.checkpoint).is_file():
        elsewhere = replace(task, network=replace(network, checkpoint="FILE"))
        raise UsageError(
            f"the weights of `network` {network.path} were read from {network.checkpoint}, which is gone; put them "
            f"back, or say where they are: search run {elsewhere.options} --resume --name {name}"
        )
    here = find_network(
        network.path,
        folder=str(Path.cwd()),
        image_shape=task.image_shape,
        classes=task.classes,
        checkpoint=network.checkpoint,
        trained=network.trained,
    )
    if network.checkpoint is not None and here.weights_sha256 != network.weights_sha256:
        raise UsageError(
            f"`checkpoint` {network.checkpoint} has other weights since, so it is another network and its results "
            "cannot be compared; put those back, or search again"
        )
    if here.fingerprint != network.fingerprint:
        raise UsageError(
            f"`network` {network.path} was edited since, so it is another network and its results cannot be compared; "
            "search again"
        )
    return replace(task, network=here)


def task_with_model(task: Task, model: Any, *, name: str) -> Task:
    """Return a stored task with the network that was given as a Python object, which is given again.

    Args:
        task: The task.
        model: The network; whether it is the same one is not checked here.
        name: Name of its search, for messages.

    Raises:
        UsageError: If the task has no such network, or this one cannot be used.
    """
    network = task.network
    if network is None or not network.is_object:
        what = "the built-in networks" if network is None else f"the network {network.path}"
        raise UsageError(f"search {name!r} has {what}; resume it without `model`")
    from search.space.custom_network import find_model  # imports torch

    return task.with_network(find_model(model, image_shape=task.image_shape, classes=task.classes))


def _training(request: TaskRequest, begun: Task | None) -> Train:
    """Return how the network is trained.

    Raises:
        UsageError: If the network does not come with what that needs, or nothing is trained and the request says how.
    """
    source = next((name for name in ("model", "checkpoint") if getattr(request, name) is not None), None)
    given = request.train or ("scratch" if source is None else "finetune")
    if request.train is None and begun is not None and begun.train != "scratch" and (source or request.network):
        given = begun.train
    train = next(one for one in TRAININGS if one == given)
    if train == "none" and (unused := [f"`{name}`" for name in request.training.to_dict()]):
        raise UsageError(f"`train` none trains nothing, so leave out {', '.join(unused)}, or choose finetune")
    if train == "scratch" and source == "model":
        raise UsageError(
            "`model` has weights, which `train` scratch would not use; choose finetune or none, or give the import "
            "path of a function that builds it as `network`"
        )
    if train == "scratch" and source == "checkpoint":
        raise UsageError(
            "`checkpoint` has weights, which `train` scratch would not use; leave it out, or choose finetune or none"
        )
    if train != "scratch" and request.network is None and source is None:
        raise UsageError(
            f"`train` {train} needs a network that comes trained: give a function as `network` with the file of its "
            "weights as `checkpoint`, or in Python a torch.nn.Module as `model`"
        )
    return train


def _dataset(request: TaskRequest, places: ImagePlaces, on_image: OnImage) -> Dataset:
    if request.data is not None:
        return dataset_of(
            request.data, places, image_size=request.size, validation=request.validation, on_image=on_image
        )
    given = DEFAULT_DATASET if request.dataset is None else request.dataset
    return find_dataset(given, places, image_size=request.size, validation=request.validation, on_image=on_image)


def _network(request: TaskRequest, dataset: Dataset, *, trained: bool) -> CustomNetwork | None:
    if request.network is None and request.model is None:
        return None
    from search.space.custom_network import find_model, find_network  # imports torch

    if request.network is None:
        return find_model(request.model, image_shape=dataset.image_shape, classes=dataset.classes)
    return find_network(
        request.network,
        folder=str(Path.cwd()),
        image_shape=dataset.image_shape,
        classes=dataset.classes,
        checkpoint=None if request.checkpoint is None else str(Path(request.checkpoint).expanduser().absolute()),
        trained=trained,
    )


def _per_channel(name: str, values: float | Sequence[float] | None, channels: int) -> tuple[float, ...]:
    if values is None:
        return ()
    numbers = _numbers(values) or ()
    if len(numbers) not in (1, channels):
        raise UsageError(f"`{name}` must be one number, or one for each of {channels} channels, got {len(numbers)}")
    return numbers * (channels if len(numbers) == 1 else 1)


def _check_pixels(name: str, values: object, range_words: str) -> None:
    """Check statistics of pixels in [0, 1].

    Raises:
        UsageError: If they are out of range or no numbers.
    """
    numbers = _numbers(values)
    if numbers is not None and all(0 <= one <= 1 and (one > 0 or name == "mean") for one in numbers):
        return
    given = repr(values) if numbers is None else ", ".join(f"{one:g}" for one in numbers)
    scaled = numbers is not None and max(numbers) > 1
    hint = "; pixels are scaled to [0, 1], so divide statistics of bytes by 255" if scaled else ""
    raise UsageError(f"`{name}` must be {range_words}, one number or one for each channel, got {given}{hint}")


def _numbers(values: object) -> tuple[float, ...] | None:
    """Return one number or several as floats; None if it is something else."""
    several = values if isinstance(values, Sequence) else (values,)
    if not several or not all(isinstance(one, Real) and not isinstance(one, bool) for one in several):
        return None
    return tuple(map(float, several))
