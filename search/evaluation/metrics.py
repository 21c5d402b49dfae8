"""What accuracy means: of which images classified correctly, by which weights.

Both metrics are a mean over groups of images of the share of each group that is right: `accuracy` of one group of all
images; `balanced-accuracy` of a group for each class that there is, so that rare classes count as much as others
(Brodersen et al., The balanced accuracy and its posterior distribution, ICPR 2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from search.space.task import Metric


def grouped(labels: NDArray[np.int64], metric: Metric) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Return images in the order of their groups, and the size of each group.

    Args:
        labels: Class of each image, shape (N,).
        metric: The metric.

    Returns:
        Numbers of images, shape (N,), those of a group one after another in their own order; sizes that add up to N.
    """
    if metric == "accuracy":
        return np.arange(len(labels)), (len(labels),)
    _, sizes = np.unique(labels, return_counts=True)
    return np.argsort(labels, kind="stable"), tuple(sizes.tolist())


def chip_accuracies(right: NDArray[np.bool_], labels: NDArray[np.int64], metric: Metric) -> tuple[float, ...]:
    """Return the accuracy on each chip.

    Args:
        right: Whether each image is classified correctly on each chip, shape (chips, N).
        labels: Class of each image, shape (N,).
        metric: The metric.
    """
    order, sizes = grouped(labels, metric)
    starts = np.cumsum((0, *sizes[:-1]))
    counts = np.add.reduceat(right[:, order], starts, axis=1, dtype=np.int64)
    shares = counts / np.array(sizes)
    return tuple(float(share) for share in shares.sum(axis=1) / len(sizes))


def class_accuracies(right: NDArray[np.bool_], labels: NDArray[np.int64], classes: int) -> tuple[float | None, ...]:
    """Return the share of each class's images that are right, as a mean over chips; None for a class without images.

    Args:
        right: As for `chip_accuracies`.
        labels: As for `chip_accuracies`.
        classes: Number of classes.
    """
    images = np.bincount(labels, minlength=classes)
    correct = np.bincount(labels, weights=right.mean(axis=0), minlength=classes)
    return tuple(float(share / count) if count else None for share, count in zip(correct, images, strict=True))


def effective_images(groups: Sequence[int]) -> int:
    """Return the number of images whose plain accuracy would have the same standard error, rounded down.

    If images are right with the same probability p, the mean over C groups of n_c images has the variance
    p (1 - p) / C^2 * sum(1 / n_c), which is that of a share among C^2 / sum(1 / n_c) images: for `accuracy` all of
    them, for `balanced-accuracy` the harmonic mean of the classes' numbers, times C.

    Args:
        groups: Number of images in each group.
    """
    return int(len(groups) ** 2 / sum(Fraction(1, size) for size in groups))
