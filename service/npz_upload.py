"""From the .npz archive that a client sends to images as the library stores them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from search.errors import DatasetInvalidError
from search.images.dataset import Dataset
from search.images.library import ImageLibrary
from search.images.npz import read_npz
from search.images.source import Source

MAX_IMAGES = 1_000_000  # each is looked at one by one, so that a billion of one pixel would take hours
MAX_CLASSES = 1000
MAX_CLASS_NAME = 100  # characters


def store_npz(file: Path, library: ImageLibrary, *, name: str, class_names: Sequence[str], max_bytes: int) -> Dataset:
    """Store the images of an archive, of which nothing is trusted: nothing is unpickled, and no size that it states.

    Args:
        file: The archive.
        library: Where they are stored.
        name: Name of the data set.
        class_names: Names of the classes, in the order of their labels; empty for the labels themselves.
        max_bytes: The most that the arrays may take once they are decompressed.

    Raises:
        DatasetInvalidError: If it is no such archive, or its images cannot be used; messages name it `body`.
        DatasetError: If they cannot be stored.
    """
    with file.open("rb") as opened:
        source = read_npz(opened, name=name, max_bytes=max_bytes, parameter="body")
    source = replace(source, class_names=_named(source, class_names), location=None, signature=None)
    images = sum(len(split.labels) for split in source.splits.values())
    if images > MAX_IMAGES:
        raise DatasetInvalidError(f"`body` holds {images:,} images; at most {MAX_IMAGES:,} are allowed")
    size = images * math.prod(source.image_shape)
    if size > max_bytes:  # gray images beside images in colour become three times as large
        raise DatasetInvalidError(f"`body` holds images of {size:,} bytes; at most {max_bytes:,} are allowed")
    return library.store(source, name=name)


def _named(source: Source, given: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a source's classes."""
    labels = source.class_names
    if len(labels) > MAX_CLASSES:
        raise DatasetInvalidError(f"`body` has {len(labels):,} classes; at most {MAX_CLASSES:,} are allowed")
    if given and len(given) != len(labels):
        first = ", ".join(label[:20] for label in labels[:5]) + (", ..." if len(labels) > 5 else "")
        raise DatasetInvalidError(
            f"`class_names` must be one for each of the {len(labels)} classes, in the order of their labels ({first}), "
            f"got {len(given)}"
        )
    for name in given or labels:
        if not name.isprintable() or not 0 < len(name) <= MAX_CLASS_NAME:
            raise DatasetInvalidError(
                f"`class_names` may have up to {MAX_CLASS_NAME} characters each, all printable, got "
                f"{name[:MAX_CLASS_NAME]!r}"
            )
    if len(set(given)) < len(given):
        raise DatasetInvalidError("`class_names` must differ from each other")
    return tuple(given) or labels
