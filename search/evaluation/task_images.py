"""A task's images as its networks get them."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import approx
from search.evaluation.datasets import TaskData
from search.evaluation.evaluation import Split
from search.images.image_set import ImageSet
from search.space.task import Task

_CALIBRATION_IMAGES = 512


class TaskImages:
    """A task's images as its networks get them.

    Args:
        task: The task.
        data: Its images.

    Attributes:
        data: Its images.
        train: Images for training.
    """

    def __init__(self, task: Task, data: TaskData) -> None:
        self.data = data
        self.train = _as_tensors(data.train, task)
        self._measured = {"validation": _as_tensors(data.validation, task), "test": _as_tensors(data.test, task)}

    def of(self, split: Split) -> approx.LabelledImages:
        """Return the images on which accuracy is measured."""
        return self._measured[split]

    def labels(self, split: Split) -> NDArray[np.int64]:
        """Return the class of each of these images."""
        return (self.data.validation if split == "validation" else self.data.test).labels

    def calibration_data(self) -> Tensor:
        """Return the training images by which scales are chosen and densities measured."""
        return self.train.inputs(slice(0, _CALIBRATION_IMAGES))

    def training_sample(self) -> approx.LabelledImages:
        """Return the same images with their classes."""
        return self.train.subset(torch.arange(min(_CALIBRATION_IMAGES, len(self.train))))

    def example(self) -> Tensor:
        """Return a batch of network inputs: two training images."""
        return self.train.inputs(slice(0, 2))


def _as_tensors(images: ImageSet, task: Task) -> approx.LabelledImages:
    with warnings.catch_warnings():
        # Pixels that processes share are read-only, which torch warns of, as it cannot enforce it; nobody writes them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        pixels = torch.from_numpy(images.pixels)
    return approx.LabelledImages(
        pixels,
        torch.tensor(images.labels),
        task.dataset.pixel_max,
        # One of the two may be given alone.
        mean=task.mean or (0.0,) * len(task.std),
        std=task.std or (1.0,) * len(task.mean),
        rows=None if images.rows is None else torch.tensor(images.rows),
    )
