"""What a data set holds: its classes in the splits that searches use, and the statistics of its pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from search.evaluation.datasets import IMBALANCED, TaskData
from search.images.dataset import Dataset
from search.images.image_set import ImageSet

_CHUNK = 1024  # images that are read at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The classes of a data set.

    Attributes:
        dataset: The data set.
        class_counts: Split that searches use -> the number of its images of each class, in the order of the classes.
    """

    dataset: Dataset
    class_counts: Mapping[str, tuple[int, ...]]

    @property
    def imbalance(self) -> float:
        """The largest class over the smallest one, of training images."""
        counts = self.class_counts["train"]
        return max(counts) / min(counts) if min(counts) else math.inf

    @property
    def is_imbalanced(self) -> bool:
        """Whether the largest class has at least `IMBALANCED` times as many images as the smallest."""
        return self.imbalance >= IMBALANCED

    @property
    def largest_share(self) -> float:
        """The accuracy on validation images of an answer that is always the class most frequent in training."""
        most_frequent = int(np.argmax(self.class_counts["train"]))
        counts = self.class_counts["validation"]
        return counts[most_frequent] / sum(counts)


def describe(dataset: Dataset, data: TaskData) -> Description:
    """Count the images of each class in each split.

    Args:
        dataset: The data set.
        data: Its images, as searches use them.
    """
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    counts = {name: np.bincount(images.labels, minlength=dataset.classes) for name, images in splits.items()}
    return Description(dataset=dataset, class_counts={name: tuple(map(int, found)) for name, found in counts.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatistics:
    """Statistics of pixels in [0, 1] by channel, as `search.TaskRequest` takes them.

    Attributes:
        mean: Mean of each channel.
        std: Standard deviation of each channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


def channel_statistics(images: ImageSet, pixel_max: int) -> ChannelStatistics:
    """Return the exact mean and standard deviation of each channel.

    Args:
        images: The images.
        pixel_max: Pixel value that is scaled to 1.0.
    """
    channels = images.pixels.shape[1]
    histograms = np.zeros((channels, 256), np.int64)
    rows = np.arange(len(images.labels)) if images.rows is None else images.rows
    for start in range(0, len(rows), _CHUNK):
        chunk = images.pixels[rows[start : start + _CHUNK]]
        for channel in range(channels):
            histograms[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    values = np.arange(256) / pixel_max
    mean = histograms @ values / histograms.sum(axis=1)
    variance = (histograms * (values - mean[:, None]) ** 2).sum(axis=1) / histograms.sum(axis=1)
    return ChannelStatistics(mean=tuple(map(float, mean)), std=tuple(map(float, np.sqrt(variance))))
