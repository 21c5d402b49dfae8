"""The images of a data set as bytes, as the database keeps those that clients upload.

They are the labels (int64, little-endian) and then the pixels (uint8), in the order of `search.images.library`, in
parts that are compressed one by one.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from search.errors import DatasetCorruptError, DatasetError
from search.images.dataset import SPLITS, Dataset
from search.images.library import ImageLibrary
from search.images.source import Source, SourceSplit

UPLOADED = "uploaded"  # the signature in the library of what came from the database, where it may be deleted

_PART_BYTES = 2**22
_LEVEL = 1  # of compression: twice as fast as the default, and images hardly get smaller
_LABEL = np.dtype("<i8")


def parts_of(dataset: Dataset, library: ImageLibrary) -> Iterator[bytes]:
    """Yield the images of a stored data set in parts.

    Raises:
        DatasetError: If they are not stored, or damaged.
    """
    splits = library.open(dataset)
    labels = np.concatenate([splits[name].labels for name in SPLITS if name in splits])
    pixels = next(iter(splits.values())).pixels  # of all splits
    for values in (labels.astype(_LABEL).view(np.uint8), pixels.reshape(-1)):
        for start in range(0, len(values), _PART_BYTES):
            yield zlib.compress(values[start : start + _PART_BYTES].tobytes(), level=_LEVEL)


def store_parts(dataset: Dataset, parts: Iterable[bytes], library: ImageLibrary) -> None:
    """Store the images of a data set that are given in parts. Several processes may do so at the same time.

    Raises:
        DatasetCorruptError: If they are not those of the data set.
        DatasetError: If they cannot be stored.
    """
    try:
        library.folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".fetching-", dir=library.folder) as place:
            file = Path(place) / "images"
            with file.open("wb") as opened:
                for part in parts:
                    opened.write(zlib.decompress(part))
            stored = library.store(_source(dataset, file), name=dataset.name)
    except (OSError, DatasetError) as error:
        if library.find(dataset.identity) is not None:  # another process was faster
            return
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"images cannot be stored in {library.folder}: {error.strerror or error}") from None
    if stored.digest != dataset.digest:
        library.remove(stored.identity)
        raise _corrupt(dataset)


def _source(dataset: Dataset, file: Path) -> Source:
    """Return the images in a file, mapped into memory."""
    size = math.prod(dataset.image_shape)
    if file.stat().st_size != dataset.images * (_LABEL.itemsize + size):
        raise _corrupt(dataset)
    labels = np.fromfile(file, _LABEL, dataset.images).astype(np.int64)
    shape = (dataset.images, *dataset.image_shape)
    pixels = np.memmap(file, np.uint8, "r", offset=labels.nbytes, shape=shape)
    splits, start = {}, 0
    for name in SPLITS:
        if name in dataset.counts:
            rows = slice(start, start + dataset.counts[name])
            splits[name] = SourceSplit(labels=labels[rows], read=_reader(pixels[rows]))
            start = rows.stop
    return Source(
        name=dataset.name,
        splits=splits,
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        location=None,
        signature=UPLOADED,
    )


def _reader(pixels: NDArray[np.uint8]) -> Callable[[int], NDArray[np.uint8]]:
    def read(number: int) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = pixels[number]
        return image

    return read


def _corrupt(dataset: Dataset) -> DatasetCorruptError:
    return DatasetCorruptError(
        f"the images of {dataset.identity} in the database are damaged; delete the data set and upload it again"
    )
