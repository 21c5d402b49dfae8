"""Folders of image files in the ImageFolder layout: a folder for each class, below a folder for each split or alone.

    animals/train/cat/1.png  animals/test/cat/2.png      or      animals/cat/1.png
    animals/train/dog/3.png  animals/test/dog/4.png              animals/dog/2.png

Hidden files, and files that are no images by their suffix, are skipped. Folders within a class belong to it.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from search.errors import DatasetInvalidError
from search.images.assembly import Images, assemble, unusable
from search.images.content import (
    WHOLE,
    Source,
    check_image_size,
    check_splits,
    counted,
    in_order,
    listed,
    signature_of,
    split_named,
    suggested_name,
)
from search.images.decoding import SUFFIXES, UnusableImageError, decoded, shape_of
from search.images.labels import classes_of

_NOT_HIDDEN_BUT_LITTER = "__MACOSX"  # in archives that macOS makes


@dataclass(slots=True)
class _Folder:
    """What a folder holds, apart from what is hidden.

    Attributes:
        folders: Names of the folders in it.
        images: Names of the image files in it.
        others: Names of the other files in it.
    """

    folders: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def read_image_folder(path: Path, *, image_size: tuple[int, int] | None = None, parameter: str = "dataset") -> Source:
    """Return a folder of image files as a source. Its files are opened for their sizes, and decoded when they are read.

    Args:
        path: An absolute path.
        image_size: Height and width that images are resized to.
        parameter: The parameter that messages name.

    Raises:
        DatasetInvalidError: If it has not this layout, or any of its images cannot be used.
    """
    check_image_size(image_size)
    subject = f"`{parameter}` {path}"
    files = {split: _classes_in(path / folder, subject) for split, folder in _splits_in(path, subject).items()}
    names = sorted({name for classes in files.values() for name in classes})
    given = {
        split: np.repeat(np.arange(len(names)), [len(classes.get(name, ())) for name in names])
        for split, classes in files.items()
    }
    labels, class_names = classes_of(given, subject=subject, names=names)
    flat = {split: [file for _, inner in sorted(classes.items()) for file in inner] for split, classes in files.items()}
    shapes = _shapes(flat, path, subject)

    def images(split: str) -> Images:
        files = flat[split]
        return Images(
            shapes=shapes[split],
            read=lambda i: decoded(Path(files[i])),
            place=lambda i: os.path.relpath(files[i], path),
        )

    return assemble(
        subject=subject,
        name=suggested_name(path.name),
        images={split: images(split) for split in flat},
        labels=labels,
        class_names=class_names,
        image_size=image_size,
        location=str(path),
        signature=signature_of([file for split in in_order(flat) for file in flat[split]], path),
    )


def some_image_in_folders(path: Path, subject: str) -> str | None:
    """Return the path of an image file in one of the folders in a folder, relative to it; None if there is none."""
    below = (_images_below(str(path / name), subject) for name in _listing(str(path), subject).folders)
    found = next(itertools.chain.from_iterable(below), None)
    return found and os.path.relpath(found, path)


def _splits_in(path: Path, subject: str) -> dict[str, str]:
    """Return split -> its folder below `path`: one for each split, or "." for images that are not split."""
    top = _listing(str(path), subject)
    named = [(split, folder) for folder in top.folders if (split := split_named(folder))]
    others = [folder for folder in top.folders if not split_named(folder)]
    if not named:
        return {WHOLE: "."}
    if others:
        raise DatasetInvalidError(
            f"{subject} holds folders of splits ({listed(folder for _, folder in named)}) beside others "
            f"({listed(others)}); give a folder that holds splits alone, or classes alone"
        )
    if top.images:
        _refuse_loose(top.images, path, subject)
    splits = dict(named)
    if len(splits) < len(named):
        raise DatasetInvalidError(
            f"{subject} holds several folders for one split: {listed(folder for _, folder in named)}; keep one for each"
        )
    check_splits(splits, subject)
    return {split: splits[split] for split in in_order(splits)}


def _classes_in(folder: Path, subject: str) -> dict[str, list[str]]:
    """Return class -> paths of its images, both in alphabetical order."""
    top = _listing(str(folder), subject)
    if not top.folders:
        _refuse_without_classes(folder, top, subject)
    if top.images:
        _refuse_loose(top.images, folder, subject)
    classes = {name: sorted(_images_below(str(folder / name), subject)) for name in sorted(top.folders)}
    empty = [name for name, files in classes.items() if not files]
    if len(empty) == len(classes):
        _refuse_without_classes(folder, top, subject)
    if empty:
        other = [file for name in empty for file in _listing(str(folder / name), subject).others]
        beside = f", with other files there ({listed(other)})" if other else ""
        raise DatasetInvalidError(
            f"{subject} has {'a class' if len(empty) == 1 else 'classes'} without images in {folder}: {listed(empty)}"
            f"{beside}; images are {', '.join(SUFFIXES)}"
        )
    if len(classes) == 1:
        (name,) = classes
        inner = _listing(str(folder / name), subject)
        hint = f"; if {folder / name} holds the classes, give that" if inner.folders else ""
        raise DatasetInvalidError(f"{subject} has one class alone in {folder}, {name!r}; at least two are needed{hint}")
    return classes


def _refuse_without_classes(folder: Path, held: _Folder, subject: str) -> NoReturn:
    kinds = [
        f"{counted(len(names), thing)}{state} ({listed(names)})"
        for names, thing, state in (
            (held.folders, "folder", " without images"),
            (held.images, "image", ""),
            (held.others, "other file", ""),
        )
        if names
    ]
    raise DatasetInvalidError(
        f"{subject} holds no folders of classes in {folder}, but {' and '.join(kinds) or 'nothing'}; put the images of "
        f"each class ({', '.join(SUFFIXES)}) into a folder that is named after it"
    )


def _refuse_loose(images: list[str], folder: Path, subject: str) -> NoReturn:
    raise DatasetInvalidError(
        f"{subject} holds {counted(len(images), 'image')} in {folder}, outside of the folders of classes: "
        f"{listed(images)}; move each into its class, or away"
    )


def _listing(folder: str, subject: str) -> _Folder:
    """Return what a folder holds, in alphabetical order, without what is hidden.

    Raises:
        DatasetInvalidError: If it cannot be read.
    """
    found = _Folder()
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith(".") or entry.name == _NOT_HIDDEN_BUT_LITTER:
                    continue
                if entry.is_dir():
                    found.folders.append(entry.name)
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                    found.images.append(entry.name)
                else:
                    found.others.append(entry.name)
    except OSError as error:
        raise DatasetInvalidError(f"{subject} cannot be read: {error.strerror}: {folder}") from None
    return found


def _images_below(folder: str, subject: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Yield the paths of the image files in a folder and in the folders in it.

    Args:
        folder: Path of the folder.
        subject: What was given.
        above: Device and inode of each folder in which it is: links may lead back to one.
    """
    held = _listing(folder, subject)
    state = os.stat(folder)
    here = (state.st_dev, state.st_ino)
    if here in above:
        return
    yield from (os.path.join(folder, name) for name in held.images)
    for name in held.folders:
        yield from _images_below(os.path.join(folder, name), subject, (*above, here))


def _shapes(files: dict[str, list[str]], folder: Path, subject: str) -> dict[str, Counter[tuple[int, int, int]]]:
    """Return split -> shapes of its images, from the first bytes of each file.

    Raises:
        DatasetInvalidError: If any of them cannot be used.
    """
    shapes = {}
    for split, paths in files.items():
        shapes[split] = Counter[tuple[int, int, int]]()
        for path in paths:
            try:
                shapes[split][shape_of(Path(path))] += 1
            except UnusableImageError as error:
                problems = _unusable_files(files, folder) or [f"{os.path.relpath(path, folder)} {error}"]
                raise DatasetInvalidError(unusable(subject, problems, sum(map(len, files.values())))) from None
    return shapes


def _unusable_files(files: dict[str, list[str]], folder: Path) -> list[str]:
    """Decode all files to find those that cannot be used: one is known, and people mend all at once."""
    problems = []
    for path in itertools.chain.from_iterable(files.values()):
        try:
            decoded(Path(path))
        except UnusableImageError as error:
            problems.append(f"{os.path.relpath(path, folder)} {error}")
    return problems
