"""The data set that a request means: by name, by its place, or as Python objects."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from search.content_hash import content_hash
from search.errors import DatasetInvalidError, DatasetMissingError, UnknownNameError, UsageError
from search.images.built_in import BUILT_IN, built_in_dataset, check_built_in, read_built_in
from search.images.content import Source, SourceSplit, counted, listed
from search.images.dataset import Dataset
from search.images.image_set import ImageSet
from search.images.library import OnImage, StoredDataset, checked_name, size_words
from search.images.places import ImagePlaces
from search.images.source import open_source, source_of

_IDENTITY = re.compile(r"[\w.-]+@[0-9a-f]{16}", re.ASCII)


def find_dataset(
    given: str | os.PathLike[str],
    places: ImagePlaces,
    *,
    image_size: tuple[int, int] | None = None,
    validation: str | os.PathLike[str] | None = None,
    on_image: OnImage = lambda done, of: None,
) -> Dataset:
    """Return the data set of a name or a place. What is not stored yet is stored.

    A name means, in this order: a built-in data set, one that was added, a path or an import path, one that a search
    stored.

    Args:
        given: A name, an identity, a path, or the import path of a function.
        places: Where images are.
        image_size: Height and width to which all images are resized; None leaves them as they are.
        validation: Where validation images come from, instead of the data set's own.
        on_image: Notified of each image that is stored.

    Raises:
        UsageError: If there is no such data set, or a stored one cannot be resized.
        DatasetError: If images cannot be read or stored.
    """
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"`dataset` must be a name or a path, got {given!r}; give Python objects as `data`")
    if isinstance(given, str):
        if given in BUILT_IN and image_size is None and validation is None:
            return built_in_dataset(given)
        stored = _stored(given, places)
        if stored is not None and validation is None:
            _check_size(stored, image_size, given)
            return stored
        if _IDENTITY.fullmatch(given) and not Path(given).exists():
            return places.library.get(given).dataset  # which says that it is gone
    source = _opened(given, places, image_size, validation)
    return places.library.of_source(source) or places.library.store(source, on_image=on_image)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A data set that was added by name.

    Attributes:
        dataset: The data set.
        known: Whether these images were stored under this name before.
        before: The data set with other images that the name meant until now; it keeps its identity.
    """

    dataset: Dataset
    known: bool
    before: Dataset | None


def add_dataset(
    name: str,
    given: str | os.PathLike[str],
    places: ImagePlaces,
    *,
    image_size: tuple[int, int] | None = None,
    validation: str | os.PathLike[str] | None = None,
    on_image: OnImage = lambda done, of: None,
) -> Added:
    """Store images under a name, which means them from now on. A path goes before an added name of the same letters.

    Args:
        name: The name.
        given: Where the images are, as for `find_dataset`.
        places: Where images are kept.
        image_size: Height and width to which all images are resized; None leaves them as they are.
        validation: Where validation images come from, instead of the data set's own.
        on_image: Notified of each image that is stored.

    Raises:
        UsageError: If the name is built in or not allowed, or there are no images.
        DatasetError: If images cannot be read or stored.
    """
    if name in BUILT_IN:
        raise UsageError(f"`name` {name} is the name of a built-in data set; choose another")
    checked_name(name)
    source = _opened(given, places, image_size, validation, place_first=True)
    namesakes = [one.dataset for one in places.library.all() if one.dataset.name == name]  # the first is meant
    dataset = places.library.store(source, name=name, added=True, on_image=on_image)
    known = any(one.identity == dataset.identity for one in namesakes)
    before = namesakes[0] if namesakes and namesakes[0].identity != dataset.identity else None
    return Added(dataset=dataset, known=known, before=before)


def dataset_of(
    data: object,
    places: ImagePlaces,
    *,
    image_size: tuple[int, int] | None = None,
    validation: object = None,
    on_image: OnImage = lambda done, of: None,
) -> Dataset:
    """Return the data set of Python objects or a path, which is stored unless it is already; see `source_of`.

    Raises:
        DatasetError: If the images cannot be used or stored.
    """
    source = source_of(data, image_size=image_size)
    if validation is not None:
        source = _with_validation(source, source_of(validation, image_size=source.image_shape[1:]), validation)
    return places.library.of_source(source) or places.library.store(source, on_image=on_image)


def is_here(name: str, places: ImagePlaces) -> bool:
    """Whether the files of a built-in data set are on this machine."""
    try:
        check_built_in(name, places.data_dir)
    except DatasetMissingError:
        return False
    return True


def _stored(name: str, places: ImagePlaces) -> Dataset | None:
    """Return the stored data set of a name, unless this is built in, or also a path and not of an added one."""
    if name in BUILT_IN:  # which may be stored in another size
        return None
    found: StoredDataset | None = places.library.find(name)
    if found is None or (not found.added and name != found.dataset.identity and Path(name).exists()):
        return None
    return found.dataset


def _opened(
    given: str | os.PathLike[str],
    places: ImagePlaces,
    image_size: tuple[int, int] | None,
    validation: str | os.PathLike[str] | None,
    *,
    place_first: bool = False,
) -> Source:
    source = _source(given, places, image_size, "dataset", place_first=place_first)
    if validation is None:
        return source
    size = source.image_shape[1:]
    other = _source(validation, places, size, "validation", place_first=place_first)
    return _with_validation(source, other, validation)


def _source(
    given: str | os.PathLike[str],
    places: ImagePlaces,
    image_size: tuple[int, int] | None,
    parameter: str,
    *,
    place_first: bool,
) -> Source:
    if isinstance(given, str):
        if given in BUILT_IN:
            return _source_of_built_in(given, places, image_size)
        stored = None if place_first and Path(given).exists() else _stored(given, places)
        if stored is not None:
            _check_size(stored, image_size, given)
            return _source_of_stored(stored, places)
    try:
        return open_source(given, image_size=image_size, folder=Path.cwd(), parameter=parameter)
    except DatasetInvalidError:
        if isinstance(given, str) and ":" not in given and not Path(given).exists():
            _refuse_unknown(given, places)
        raise


def _refuse_unknown(given: str, places: ImagePlaces) -> NoReturn:
    names = [*BUILT_IN, *dict.fromkeys(one.dataset.name for one in places.library.all())]
    near = get_close_matches(given.lower(), names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}? It" if near else "it"
    raise UnknownNameError(
        f"unknown dataset {given!r}; {hint} is none of {', '.join(names)}, nor is there a file or a folder "
        f"{Path(given).absolute()}"
    ) from None


def _source_of_built_in(name: str, places: ImagePlaces, image_size: tuple[int, int] | None) -> Source:
    train, test = read_built_in(name, places.data_dir)
    dataset = built_in_dataset(name)
    scale = 255 / dataset.pixel_max
    arrays = [(np.rint(images.images() * scale).astype(np.uint8), images.labels) for images in (train, test)]
    source = source_of((arrays[0], arrays[1]), image_size=image_size)
    return replace(
        source,
        name=name,
        class_names=dataset.class_names,
        location=name,
        signature=content_hash([name, *source.image_shape]),  # its files are always the same
    )


def _check_size(stored: Dataset, image_size: tuple[int, int] | None, given: str) -> None:
    """Check that stored images have the size that is wanted.

    Raises:
        UsageError: If they have another one.
    """
    height, width = stored.image_shape[1:]
    if image_size in (None, (height, width)):
        return
    place = "the place that they were read from"
    if Path(given).exists():
        place = f"{Path('.', given).absolute()}, which is there too and not meant by {given},"
    raise UsageError(
        f"`image_size`: {stored.identity} is stored with images of {height}x{width}; give {place} as `dataset` to "
        "resize them"
    )


def _source_of_stored(dataset: Dataset, places: ImagePlaces) -> Source:
    splits = {
        name: SourceSplit(labels=images.labels, read=partial(_row, images))
        for name, images in places.library.open(dataset).items()
    }
    return Source(
        name=dataset.name,
        splits=splits,
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        location=dataset.location,
        signature=dataset.digest,
    )


def _row(images: ImageSet, number: int) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = images.pixels[number if images.rows is None else images.rows[number]]
    return image


def _with_validation(source: Source, other: Source, given: object) -> Source:
    """Return a source whose validation images are those of another one."""
    chosen = other.splits.get("validation")
    if chosen is None and len(other.splits) == 1:
        (chosen,) = other.splits.values()
    if chosen is None:  # test images must decide nothing, and training images may have trained the network
        raise UsageError(
            f"`validation` {given} has no validation images, but {', '.join(other.splits)}; give a place that holds "
            "only the images that are meant"
        )
    if other.class_names != source.class_names or other.image_shape != source.image_shape:
        raise UsageError(
            f"`validation` {given} has {_classes_and_size(other)}, but the data set has {_classes_and_size(source)}; "
            "both must be the same"
        )
    splits = {("train" if name == "all" else name): split for name, split in source.splits.items()}
    signature = None
    if source.signature is not None and other.signature is not None:
        signature = content_hash([source.signature, other.signature])
    return replace(source, splits={**splits, "validation": chosen}, signature=signature)


def _classes_and_size(source: Source) -> str:
    names = source.class_names
    return f"{counted(len(names), 'class')} ({listed(names)}) and images of {size_words(source.image_shape)}"
