"""The stored data sets: a folder with one folder each, whose pixels are mapped into memory.

    NAME@DIGEST/about.json    what is known without reading the images
                labels.npy    int64, shape (N,)
                pixels.npy    uint8, shape (N, C, H, W)

Splits follow each other in the order of `search.images.dataset.SPLITS`. In each, images are in the order of their
classes and their own hashes, so that the same images have the same digest in whatever order they came.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from search.errors import DatasetCorruptError, DatasetError, DatasetMissingError, UnknownNameError, UsageError
from search.images.content import Source, SourceSplit
from search.images.dataset import SPLITS, Dataset
from search.images.image_set import ImageSet, mapped_pixels

_ABOUT, _LABELS, _PIXELS = "about.json", "labels.npy", "pixels.npy"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,59}", re.ASCII)
_CHUNK = 256  # images that are copied at a time
_STORING = ".storing-"
_LEFT_BEHIND_S = 24 * 3600.0  # age of what a killed process left

OnImage: TypeAlias = Callable[[int, int], None]  # called with the number of images read so far, and of all


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDataset:
    """A data set of the library.

    Attributes:
        dataset: The data set.
        added: Whether it was added by name, rather than by a search of a folder, a file or a function.
        signature: `Source.signature` of what it was read from; None if unknown.
        created_at: When it was stored, in UTC.
        size_bytes: Size of its files.
    """

    dataset: Dataset
    added: bool
    signature: str | None
    created_at: datetime
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ImageLibrary:
    """The stored data sets of a folder.

    Attributes:
        folder: The folder; it is made when something is stored.
    """

    folder: Path

    def all(self) -> list[StoredDataset]:
        """Return all stored data sets, by name, the newest of each name first."""
        found = [stored for path in self._paths() if (stored := _read_about(path)) is not None]
        newest_first = sorted(found, key=lambda one: (one.added, one.created_at), reverse=True)
        return sorted(newest_first, key=lambda one: one.dataset.name)

    def find(self, name: str) -> StoredDataset | None:
        """Return the data set of a name, that which was added last if there are several, or of an identity."""
        for stored in self.all():
            if name in (stored.dataset.name, stored.dataset.identity):
                return stored
        return None

    def get(self, name: str) -> StoredDataset:
        """Return the data set of a name or an identity.

        Raises:
            UnknownNameError: If there is none; the message suggests a similar name.
        """
        found = self.find(name)
        if found is None:
            names = {one.dataset.name for one in self.all()}
            near = get_close_matches(name, names, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UnknownNameError(
                f"no data set {name!r} is stored in {self.folder}; {hint}list them with: search datasets"
            )
        return found

    def of_source(self, source: Source) -> Dataset | None:
        """Return the data set that was stored of a source whose files have not changed since; None if there is none."""
        if source.signature is None:
            return None
        for stored in self.all():
            if (stored.signature, stored.dataset.location) == (source.signature, source.location):
                return stored.dataset
        return None

    def store(
        self,
        source: Source,
        *,
        name: str | None = None,
        added: bool = False,
        on_image: OnImage = lambda done, of: None,
    ) -> Dataset:
        """Store the images of a source, unless they are stored already.

        What processes that were killed meanwhile left behind is removed after a day.

        Args:
            source: The source.
            name: Name of the data set; by default what the source suggests.
            added: Whether a user names it, so that `find` prefers it.
            on_image: Notified of each image that is read; may raise to stop, and then nothing is kept.

        Raises:
            UsageError: If the name is not allowed.
            DatasetError: If an image cannot be read, or the images do not fit on the disk.
        """
        name = checked_name(name) if name is not None else source.name
        if source.splits.keys() == {"train"}:  # which means the same, and is to be stored as the same
            source = replace(source, splits={"all": source.splits["train"]})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            _check_room(self.folder, source)
            with TemporaryDirectory(prefix=_STORING, dir=self.folder) as place:
                written, digest, repeated = _write(source, Path(place), on_image)
                dataset = Dataset(
                    name=name,
                    digest=digest,
                    title=f"{name}, images of {len(source.class_names)} classes, {size_words(source.image_shape)}",
                    image_shape=source.image_shape,
                    class_names=source.class_names,
                    counts={split: len(source.splits[split].labels) for split in SPLITS if split in source.splits},
                    repeated=repeated,
                    location=source.location,
                )
                return self._keep(dataset, written, added=added, signature=source.signature)
        except OSError as error:
            raise DatasetError(f"images cannot be stored in {self.folder}: {error.strerror or error}") from None

    def _keep(self, dataset: Dataset, written: Path, *, added: bool, signature: str | None) -> Dataset:
        """Give what was written its place; if it is there already, only what is known of it changes.

        What is known of a data set that was added by name changes when it is added again, and not by a use of its
        images in another place.
        """
        path = self.folder / dataset.identity
        kept = _read_about(path)
        if kept is not None and kept.added and not added:
            return dataset
        about = {
            "dataset": dataset.to_dict(),
            "added": added,
            "signature": signature,
            "created_at": datetime.now(UTC).isoformat(),
        }
        _write_json(written / _ABOUT, about)
        if kept is None:
            if path.exists():  # damaged, or half removed
                shutil.rmtree(path)
            written.replace(path)
        else:
            (written / _ABOUT).replace(path / _ABOUT)
        return dataset

    def open(self, dataset: Dataset) -> dict[str, ImageSet]:
        """Return the images of a data set: split -> its images, whose pixels are mapped into memory.

        Raises:
            DatasetMissingError: If it is not stored here.
            DatasetCorruptError: If its files are damaged.
        """
        path = self.folder / dataset.identity
        if not path.is_dir():
            raise DatasetMissingError(
                f"the images of {dataset.identity} are not in {self.folder}; add them again with: search datasets add "
                f"{dataset.name} {dataset.location or 'SOURCE'}"
            )
        try:
            pixels = mapped_pixels(path / _PIXELS)
            labels: NDArray[np.int64] = np.load(path / _LABELS, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DatasetCorruptError(
                f"the stored images {path} cannot be read ({error}); remove them and add them again"
            ) from None
        if pixels.shape != (dataset.images, *dataset.image_shape) or labels.shape != (dataset.images,):
            raise DatasetCorruptError(f"the stored images {path} are damaged; remove them and add them again")
        found, start = {}, 0
        for split in SPLITS:
            if split in dataset.counts:
                rows = np.arange(start, start + dataset.counts[split])
                found[split] = ImageSet(pixels, labels[rows], rows, path / _PIXELS)
                start += dataset.counts[split]
        return found

    def remove(self, name: str) -> Dataset:
        """Remove the images of a data set; results with them are kept.

        Raises:
            UnknownNameError: If there is none of this name or identity.
        """
        dataset = self.get(name).dataset
        path = self.folder / dataset.identity
        with TemporaryDirectory(prefix=".removing-", dir=self.folder, ignore_cleanup_errors=True) as place:
            path.replace(Path(place) / path.name)  # at once, so that nobody finds half of it
        return dataset

    def _remove_leftovers(self) -> None:
        for path in self.folder.glob(f"{_STORING}*"):
            with suppress(FileNotFoundError):  # another process removes it too, or has just stored it
                if time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:
                    shutil.rmtree(path, ignore_errors=True)

    def _paths(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (path for path in sorted(self.folder.iterdir()) if "@" in path.name and path.is_dir())


def checked_name(name: str) -> str:
    """Return a name for a data set.

    Raises:
        UsageError: If it has other characters than are allowed, or too many.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            "the `name` of a data set may have up to 60 letters, digits, '.', '_' and '-', and begins with a letter or "
            f"a digit, got {name!r}"
        )
    return name


def size_words(image_shape: tuple[int, int, int]) -> str:
    """Return the size of images in words: height x width, and whether they have colours."""
    channels, height, width = image_shape
    return f"{height}x{width} {'gray' if channels == 1 else 'RGB'}"


def _check_room(folder: Path, source: Source) -> None:
    images = sum(len(split.labels) for split in source.splits.values())
    needed = 2 * images * int(np.prod(source.image_shape))  # once as they come, once in their order
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            f"{images} images of {size_words(source.image_shape)} need {needed / 1e9:.1f} GB of disk while they are "
            f"stored, but {folder} has {free / 1e9:.1f} GB free; make room, give another folder as "
            "$CROSSLAYER_IMAGE_DIR, or smaller images with `image_size`"
        )


def _write(source: Source, place: Path, on_image: OnImage) -> tuple[Path, str, dict[str, int]]:
    """Write labels and pixels, and return their folder, the digest of both and `Dataset.repeated`."""
    splits = [(name, source.splits[name]) for name in SPLITS if name in source.splits]
    count = sum(len(split.labels) for _, split in splits)
    written = place / "data"
    written.mkdir()
    shape = (count, *source.image_shape)
    ordered = np.lib.format.open_memmap(written / _PIXELS, mode="w+", dtype=np.uint8, shape=shape)
    labels = np.empty(count, np.int64)
    whole = hashlib.sha256(json.dumps([*source.image_shape]).encode())
    start, before, repeated = 0, set[bytes](), dict[str, int]()
    for name, split in splits:
        unordered = np.memmap(place / "unordered", np.uint8, "w+", shape=(len(split.labels), *source.image_shape))
        hashes = _copy(split, unordered, partial(_from, on_image, start, count))
        order = np.lexsort((hashes, split.labels))
        for chunk in range(0, len(order), _CHUNK):
            rows = order[chunk : chunk + _CHUNK]
            ordered[start + chunk : start + chunk + len(rows)] = unordered[rows]
        labels[start : start + len(order)] = split.labels[order]
        whole.update(json.dumps([name, len(order)]).encode())
        whole.update(split.labels[order].astype("<i8").tobytes())
        whole.update(hashes[order].tobytes())
        start += len(order)
        own = set(hashes.tolist())
        seen = len(hashes) - len(own) if name == "all" else sum(one in before for one in hashes.tolist())
        repeated |= {name: seen} if seen else {}
        before |= own
    ordered.flush()
    np.save(written / _LABELS, labels, allow_pickle=False)
    return written, whole.hexdigest(), repeated


def _from(on_image: OnImage, start: int, count: int, done: int) -> None:
    on_image(start + done, count)


def _copy(split: SourceSplit, pixels: NDArray[np.uint8], on_image: Callable[[int], None]) -> NDArray[np.bytes_]:
    """Copy the images of a split, and return the hash of each: shape (N,)."""
    hashes = np.empty(len(split.labels), "S32")
    for number in range(len(split.labels)):
        image = split.read(number)
        pixels[number] = image
        hashes[number] = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).hexdigest()
        on_image(number + 1)
    return hashes


def _read_about(path: Path) -> StoredDataset | None:
    """Return what is known of a stored data set; None if it is damaged or gone."""
    try:
        content: dict[str, Any] = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
        return StoredDataset(
            dataset=Dataset.from_dict(content["dataset"]),
            added=content["added"],
            signature=content["signature"],
            created_at=datetime.fromisoformat(content["created_at"]),
            size_bytes=sum(file.stat().st_size for file in path.iterdir()),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
