"""Images that are Python objects: arrays, tensors and datasets, as one part or as several.

(x, y)                                     images and labels, to be split
((x_train, y_train), (x_test, y_test))     two or three parts; each may be a dataset of torch's instead
{"train": ..., "test": ...}                parts by name
dataset                                    one dataset, to be split
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from search.errors import DatasetInvalidError
from search.images.array_images import array_images
from search.images.assembly import Images, assemble
from search.images.content import WHOLE, Source, check_image_size, check_splits, in_order, listed, of_split, split_named
from search.images.labels import classes_of
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
    names = {class_names_of(part) for part in parts.values()}
    whole_numbers = all(labels.dtype.kind in "iu" and labels.ndim == 1 for labels in given.values())
    labels, class_names = classes_of(
        given, subject=subject, names=names.pop() if len(names) == 1 and whole_numbers else None
    )
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


def _parts(data: object, subject: str) -> dict[str, Any]:
    """Return split -> a pair of arrays or a dataset."""
    if isinstance(data, Mapping):
        return _named_parts(data, subject)
    if isinstance(data, tuple | list):
        if len(data) == 2 and array_of(data[0]) is not None:
            return {WHOLE: data}
        if len(data) in (2, 3):
            splits = ("train", "test") if len(data) == 2 else ("train", "validation", "test")
            return {split: _part(part, f"{subject}: {split}") for split, part in zip(splits, data, strict=True)}
        raise DatasetInvalidError(f"{subject} must be {_EXPECTED}, got a {type(data).__name__} of {len(data)}")
    return {WHOLE: _part(data, subject, _EXPECTED)}


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
