"""Images that are Python objects: arrays, tensors and datasets, as one part or as several.

(x, y)                                     images and labels, to be split
((x_train, y_train), (x_test, y_test))     two or three parts; each may be a dataset of torch's instead
{"train": ..., "test": ...}                parts by name
dataset                                    one dataset, to be split
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.errors import DatasetInvalidError
from search.images.array_images import array_images
from search.images.assembly import Images, assemble
from search.images.content import WHOLE, Source, check_image_size, check_splits, in_order, listed, of_split, split_named
from search.images.labels import classes_of, flat_labels
from search.images.pixel_values import PixelValues
from search.images.torch_datasets import (
    array_of,
    class_names_of,
    dataset_images,
    is_dataset,
    is_iterable_dataset,
    is_tensor,
    label_array,
)

_EXPECTED = (
    "(x, y), ((x_train, y_train), (x_test, y_test)), torch Datasets (train, test) or (train, validation, test), one "
    "Dataset, or a mapping such as {'train': ..., 'test': ...}"
)
_PART = "a pair of images and labels, or a Dataset with a length and items by number"


def read_objects(
    data: object, *, name: str, subject: str, location: str | None, image_size: tuple[int, int] | None = None
) -> Source:
    """Return Python objects as a source. Datasets are read once in full, for labels and sizes.

    Args:
        data: The objects.
        name: A suggestion for the data set's name.
        subject: What was given, with which messages begin.
        location: See `Source`.
        image_size: Height and width that images are resized to.

    Raises:
        DatasetInvalidError: If they are other objects, or do not hold images with labels.
    """
    check_image_size(image_size)
    parts = _parts(data, subject)
    values = PixelValues(subject)
    images: dict[str, Images] = {}
    given: dict[str, NDArray[Any]] = {}
    for split in in_order(parts):
        part = parts[split]
        if isinstance(part, tuple | list):
            given[split], images[split] = _pair(part, values, subject, split)
        else:
            given[split], images[split] = dataset_images(part, values, subject=subject, split=split)
    values.check()
    flat, names = _alike(flat_labels(given, subject), parts, subject)
    labels, class_names = classes_of(flat, subject=subject, names=names)
    return assemble(
        subject=subject,
        name=name,
        images=images,
        labels=labels,
        class_names=class_names,
        image_size=image_size,
        location=location,
        signature=None,
    )


def _alike(
    labels: dict[str, NDArray[Any]], parts: Mapping[str, Any], subject: str
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...] | None]:
    """Return labels that are places in the same names of classes, and these; None if no part carries names.

    Raises:
        DatasetInvalidError: If parts carry names of different classes, so that one number means several.
    """
    carried = {split: class_names_of(parts[split]) for split in labels}
    if any(given.dtype.kind == "U" for given in labels.values()) or not any(carried.values()):
        return labels, None  # text says itself what it means
    lists = [(split, names) for split in labels for names in sorted(carried[split])]
    (first, names), *others = lists
    for split, other in others:
        if other != names and (set(other) != set(names) or not all(len(own) == 1 for own in carried.values())):
            raise DatasetInvalidError(_of_different_classes(first, names, split, other, subject))
    return {split: _renumbered(labels[split], next(iter(own), names), names) for split, own in carried.items()}, names


def _renumbered(labels: NDArray[Any], own: tuple[str, ...], names: tuple[str, ...]) -> NDArray[Any]:
    """Return labels that are places in `own` as places in `names`, the same in another order."""
    if own == names:
        return labels
    known = (labels >= 0) & (labels < len(own))  # others are refused later
    found = labels.copy()
    found[known] = np.array([names.index(name) for name in own])[labels[known]]
    return found


def _of_different_classes(
    first: str, names: tuple[str, ...], second: str, others: tuple[str, ...], subject: str
) -> str:
    number = next(i for i, (one, other) in enumerate(zip_longest(names, others)) if one != other)
    meanings = " and ".join(repr(own[number]) if number < len(own) else "none" for own in (names, others))
    return (
        f"{subject}: labels{of_split(first)} are numbers of the classes {listed(names)}, but those{of_split(second)} "
        f"of {listed(others)}, where {number} means {meanings}; make all parts of the same classes in the same order"
    )


def _parts(data: object, subject: str) -> dict[str, Any]:
    """Return split -> a pair of arrays or a dataset."""
    if isinstance(data, Mapping):
        return _named_parts(data, subject)
    if isinstance(data, tuple | list):
        if len(data) == 2 and (array_of(data[0]) is not None or _is_list_with_labels(*data)):
            return {WHOLE: data}
        if len(data) in (2, 3):
            splits = ("train", "test") if len(data) == 2 else ("train", "validation", "test")
            return {split: _part(part, f"{subject}: {split}") for split, part in zip(splits, data, strict=True)}
        raise DatasetInvalidError(f"{subject} must be {_EXPECTED}, got a {type(data).__name__} of {len(data)}")
    return {WHOLE: _part(data, subject, _EXPECTED)}


def _is_list_with_labels(images: object, labels: object) -> bool:
    """Return whether two objects are a list of many images, which is refused with what to do, and their labels."""
    listed_labels = isinstance(labels, tuple | list) and all(isinstance(label, int | str) for label in labels)
    return isinstance(images, tuple | list) and len(images) != 2 and (listed_labels or array_of(labels) is not None)


def _named_parts(data: Mapping[Any, Any], subject: str) -> dict[str, Any]:
    parts = {}
    for key, part in data.items():
        split = WHOLE if key == WHOLE else split_named(key) if isinstance(key, str) else None
        if split is None or split in parts:
            raise DatasetInvalidError(
                f"{subject} has the keys {listed(map(repr, data))}; allowed are 'train', 'validation' and 'test', once "
                "each, or 'all'"
            )
        parts[split] = _part(part, f"{subject}: {split}")
    if not parts:
        raise DatasetInvalidError(f"{subject} must be {_EXPECTED}, got an empty mapping")
    if WHOLE in parts and len(parts) > 1:
        raise DatasetInvalidError(f"{subject} has the key 'all' beside others; give all images, or splits")
    check_splits(parts, subject)
    return parts


def _part(part: object, subject: str, expected: str = _PART) -> Any:
    """Return one part after checking what kind of object it is."""
    if isinstance(part, tuple | list):
        if len(part) == 2:
            return part
        raise DatasetInvalidError(f"{subject} must be {_PART}, got {len(part)} objects")
    if array_of(part) is not None:
        raise DatasetInvalidError(f"{subject} is one array; give a pair of images and labels")
    if is_iterable_dataset(part):
        raise DatasetInvalidError(
            f"{subject} is an IterableDataset, which gives images in one order alone; give a Dataset with a length and "
            "items by number"
        )
    if isinstance(part, str | bytes | Mapping) or not is_dataset(part):
        raise DatasetInvalidError(f"{subject} must be {expected}, got {type(part).__name__}")
    return part


def _pair(
    pair: tuple[Any, Any] | list[Any], values: PixelValues, subject: str, split: str
) -> tuple[NDArray[Any], Images]:
    x, y = pair
    pixels, labels = array_of(x), label_array(y)
    if pixels is None:
        raise DatasetInvalidError(
            f"{subject}: images{of_split(split)} must be one array or tensor, got {type(x).__name__}; numpy.stack "
            "makes one of many"
        )
    images = array_images(pixels, labels, values, channels_first=is_tensor(x), subject=subject, split=split)
    return labels, images
