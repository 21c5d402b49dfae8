"""Small images for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.images.content import Source, SourceSplit


def patterns(
    count: int, *, classes: int = 3, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images that a small network can tell apart, and their classes: each class is bright in rows of its own.

    Args:
        count: Number of images, at most one more of one class than of another.
        classes: Number of classes, at most as many as there are rows.
        shape: Channels, height and width.
        seed: Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 80, (count, *shape))
    rows = np.arange(shape[1]) * classes // shape[1]  # the class of each row
    pixels += 120 * (rows[None, None, :, None] == labels[:, None, None, None])
    return pixels.astype(np.uint8), labels


def in_memory(
    splits: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]],
    *,
    name: str = "patterns",
    class_names: Sequence[str] | None = None,
    location: str | None = None,
    signature: str | None = None,
) -> Source:
    """Return arrays as a source: split -> pixels and labels."""
    pixels, _ = next(iter(splits.values()))
    classes = 1 + max(int(labels.max()) for _, labels in splits.values())
    return Source(
        name=name,
        splits={
            split: SourceSplit(labels=labels, read=images.__getitem__) for split, (images, labels) in splits.items()
        },
        class_names=tuple(class_names or map(str, range(classes))),
        image_shape=(pixels.shape[1], pixels.shape[2], pixels.shape[3]),
        location=location,
        signature=signature,
    )
