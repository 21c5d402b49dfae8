"""Datasets as torch has them: objects with a length whose items are pairs of an image and its label."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search.errors import DatasetInvalidError
from search.images.array_images import as_image
from search.images.assembly import Images
from search.images.content import of_split
from search.images.decoding import UnusableImageError, pixels_of
from search.images.pixel_values import PixelValues
from search.images.python_path import words_of

_READ_TWICE = 32  # images, to find out whether they are random: a flip of one in two would escape once in 4e9 times


def is_tensor(value: object) -> bool:
    """Return whether an object is one of torch's tensors. Does not load torch, without which there are none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_dataset(value: object) -> bool:
    """Return whether an object has a length and items by number, as torch's datasets do."""
    return hasattr(value, "__getitem__") and hasattr(value, "__len__")


def is_iterable_dataset(value: object) -> bool:
    """Return whether an object is one of torch's datasets that have no items by number."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(value, data.IterableDataset)


def array_of(value: Any) -> NDArray[Any] | None:
    """Return an array, or one of torch's tensors on any device, as NumPy's array; None for another object."""
    if is_tensor(value):
        value = value.detach().cpu()
        if value.is_sparse:
            return None
        return np.asarray(value.float() if value.dtype == sys.modules["torch"].bfloat16 else value)
    if hasattr(value, "__array__") and hasattr(value, "shape"):
        return np.asarray(value)
    return None


def label_array(value: object) -> NDArray[Any]:
    """Return labels, or one label, as an array; of objects if it is nothing else."""
    found = array_of(value)
    try:
        return np.asarray(value) if found is None else found
    except ValueError:  # lists of different lengths
        return np.array(None)


def dataset_images(dataset: Any, values: PixelValues, *, subject: str, split: str) -> tuple[NDArray[Any], Images]:
    """Return the labels and images of one split that a dataset gives, after reading all of it once.

    Args:
        dataset: Its items are pairs of an image and a label. An image is one of Pillow's, or an array or tensor of
            shape (H, W), (C, H, W) or (H, W, C).
        values: What the pixels of all splits are; is shown these.
        subject: What was given, with which messages begin.
        split: The name of the split.

    Raises:
        DatasetInvalidError: If an item is not such a pair, or differs when it is read again.
    """
    count = _length(dataset, subject, split)
    labels = []
    shapes = Counter[tuple[int, int, int]]()
    repeated = set(np.linspace(0, count - 1, min(count, _READ_TWICE), dtype=int).tolist())
    for i in range(count):
        image, label = _item(dataset, i, subject, split)
        values.include(image)
        shapes[image.shape[0], image.shape[1], image.shape[2]] += 1
        labels.append(label)
        if i in repeated:
            again, other = _item(dataset, i, subject, split)
            if not (np.array_equal(image, again) and np.array_equal(label, other)):
                raise DatasetInvalidError(
                    f"{subject}: item {i}{of_split(split)} differs each time it is read; give a dataset without random "
                    "transforms, because `augment` varies images in training"
                )
    if len({label.shape for label in labels}) > 1 or len({label.dtype.kind in "US" for label in labels}) > 1:
        raise DatasetInvalidError(
            f"{subject}: labels{of_split(split)} are of several kinds; give a number or a text for each"
        )
    return np.stack(labels), Images(
        shapes=shapes,
        read=lambda i: values.to_bytes(_item(dataset, i, subject, split)[0]),
        place=lambda i: f"item {i}{of_split(split)}",
    )


def class_names_of(dataset: object) -> set[tuple[str, ...]]:
    """Return the names of classes that a dataset of torchvision's carries, or that of which it is a part.

    There are none if it carries none, and several if it joins datasets that carry different ones.
    """
    names = getattr(dataset, "classes", None)
    if isinstance(names, list | tuple):
        texts = tuple(
            ", ".join(map(str, name)) if isinstance(name, tuple) else name for name in names
        )  # ImageNet has synonyms
        return {texts} if all(isinstance(text, str) for text in texts) and len(set(texts)) == len(texts) else set()
    data = sys.modules.get("torch.utils.data")
    if data is not None and isinstance(dataset, data.Subset):
        return class_names_of(dataset.dataset)
    if data is not None and isinstance(dataset, data.ConcatDataset):
        return set().union(*map(class_names_of, dataset.datasets))
    return set()


def _length(dataset: Any, subject: str, split: str) -> int:
    try:
        count = len(dataset)
    except Exception as error:
        raise DatasetInvalidError(
            f"{subject}: the number of images{of_split(split)} is unknown: {words_of(error)}"
        ) from error
    if count == 0:
        raise DatasetInvalidError(f"{subject}: there are no images{of_split(split)}")
    return count


def _item(dataset: Any, i: int, subject: str, split: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return an image, of shape (C, H, W), and its label."""
    place = f"{subject}: item {i}{of_split(split)}"
    try:
        item = dataset[i]
    except Exception as error:
        raise DatasetInvalidError(f"{place} cannot be read: {words_of(error)}") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        given = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
        raise DatasetInvalidError(f"{place} must be a pair of an image and a label, got {given}")
    image, label = item
    if isinstance(image, Image.Image):
        try:
            return pixels_of(image), label_array(label)
        except UnusableImageError as error:
            raise DatasetInvalidError(f"{place} {error}") from None
        except Exception as error:  # Pillow decodes a file only now, if the dataset has opened it
            raise DatasetInvalidError(f"{place} cannot be decoded: {words_of(error)}") from error
    array = array_of(image)
    if array is None:
        raise DatasetInvalidError(
            f"{place} must have a tensor, an array or an image of Pillow's, got {type(image).__name__}"
        )
    pixels = as_image(array, channels_first=is_tensor(image))
    if pixels is None or 0 in pixels.shape:
        raise DatasetInvalidError(
            f"{place} must be an image of shape (H, W), (C, H, W) or (H, W, C), C being 1 or 3, got {array.shape}"
        )
    return pixels, label_array(label)
