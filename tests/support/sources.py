"""Images in memory, as sources to be stored."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from search.images.content import Source, SourceSplit


def shapes(
    counts: Mapping[str, tuple[int, ...]],
    *,
    name: str = "shapes",
    image_shape: tuple[int, int, int] = (1, 6, 7),
    seed: int = 0,
    location: str | None = "/photos/shapes",
) -> Source:
    """Return noise, a little brighter from class to class.

    Args:
        counts: Split -> number of its images of each class.
        name: Name of the source.
        image_shape: Channels, height and width.
        seed: Other seeds give other images.
        location: Where it was read from.
    """
    classes = len(next(iter(counts.values())))
    splits = {}
    for place, (split, numbers) in enumerate(counts.items()):
        labels = np.repeat(np.arange(classes), numbers)
        splits[split] = SourceSplit(labels=labels, read=partial(_noise, labels, image_shape, (seed, place)))
    return Source(
        name=name,
        splits=splits,
        class_names=tuple(f"kind {number}" for number in range(classes)),
        image_shape=image_shape,
        location=location,
        signature=f"{name}, seed {seed}",
    )


def _noise(
    labels: NDArray[np.int64], image_shape: tuple[int, int, int], seed: tuple[int, int], number: int
) -> NDArray[np.uint8]:
    rng = np.random.default_rng((*seed, number))
    image: NDArray[np.uint8] = (rng.integers(0, 100, image_shape) + 10 * labels[number]).astype(np.uint8)
    return image
