"""What a source of images holds, and the words that all forms share."""

from __future__ import annotations

import operator
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.content_hash import content_hash
from search.errors import DatasetInvalidError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WHOLE = "all"  # the split of a source that is not split yet
_SPLITS = {  # word -> split
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
SPLIT_WORDS = tuple(_SPLITS)
_LONGEST_NAME = 60
_NAMED = 5  # the largest number of things that a message names


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceSplit:
    """The images of one split, read one by one.

    Attributes:
        labels: int64, shape (N,), from 0 to the number of classes - 1.
        read: Returns image i as uint8 of shape (C, H, W), the same for all images. Raises `DatasetInvalidError` if it
            cannot be decoded. Ascending order is fastest: in another one, Parquet files are read again and again. Not
            for several threads at once.
    """

    labels: NDArray[np.int64]
    read: Callable[[int], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Images that were given in some form, checked as far as that costs no decoding.

    Attributes:
        name: A suggestion for the data set's name: letters, digits, `.`, `_` and `-`, at most 60.
        splits: "train", "validation" and "test", in this order, or those of them that were given, always with "train";
            or "all" alone.
        class_names: Names of the classes. Each class has images in every split.
        image_shape: Channels (1 or 3), height and width.
        location: What finds it again in another process: an absolute path, or an import path; None for Python objects.
        signature: Hash that changes when its files change (paths, sizes, times of change); None where unknown.
    """

    name: str
    splits: Mapping[str, SourceSplit]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    location: str | None
    signature: str | None


def split_named(word: str) -> str | None:
    """Return the split that a folder, a file or a key is named after, such as "validation" for "val"; None if none."""
    return _SPLITS.get(word.lower())


def in_order(splits: Iterable[str]) -> list[str]:
    """Return the names of splits as they follow each other: train, validation, test."""
    return sorted(splits, key=[WHOLE, *dict.fromkeys(_SPLITS.values())].index)


def of_split(split: str) -> str:
    """Return the words that follow "images" or "labels" in a message: " of train", or nothing for a whole source."""
    return "" if split == WHOLE else f" of {split}"


def check_splits(splits: Collection[str], subject: str) -> None:
    """Check that there is something to train on.

    Raises:
        DatasetInvalidError: If there is not.
    """
    if WHOLE not in splits and "train" not in splits:
        raise DatasetInvalidError(
            f"{subject} has images for {' and '.join(in_order(splits))}, but none to train on; name a part 'train', or "
            "give all images as one part, which is then split"
        )


def check_image_size(image_size: object) -> None:
    """Check a height and width that someone gave.

    Raises:
        UsageError: If it is not two whole numbers of at least 1, or None.
    """
    if image_size is None:
        return
    try:
        height, width = map(operator.index, image_size)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise UsageError(
            f"`image_size` must be a height and a width in pixels, whole numbers of at least 1, got {image_size!r}"
        )


def suggested_name(text: str) -> str:
    """Return a text as a name for a data set: other characters than letters, digits, `.`, `_` and `-` become `-`."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^\w.-]+", "-", plain, flags=re.ASCII)
    return name.lstrip(".-_")[:_LONGEST_NAME].rstrip(".-_") or "images"


def signature_of(files: Sequence[str], folder: Path) -> str:
    """Return a hash of files' paths below a folder, their sizes and when they were last changed.

    Raises:
        OSError: If there is no such file any more.
    """
    states = [(os.path.relpath(file, folder), os.stat(file)) for file in files]
    return content_hash([[name, state.st_size, state.st_mtime_ns] for name, state in states])


def listed(things: Iterable[object]) -> str:
    """Return things in words, of many only the first: "a, b, c, d, e and 7 more"."""
    words = [str(thing) for thing in things]
    more = len(words) - _NAMED
    if more <= 1:  # naming the last one is no longer
        return ", ".join(words)
    return f"{', '.join(words[:_NAMED])} and {more} more"


def counted(count: int, thing: str) -> str:
    """Return a number of things: "1 image", "3 images", "2 classes"."""
    return f"{count:,} {thing}{'' if count == 1 else 'es' if thing.endswith('ss') else 's'}"
