"""The images of tasks, split for training, choosing and testing.

Validation images are split off stratified by class, always in the same way. Candidates are selected by them alone; the
test images are for the final report.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.images.built_in import check_built_in, read_built_in
from search.images.image_set import ImageSet
from search.images.places import ImagePlaces
from search.images.splits import held_out
from search.space.task import Task

_SPLIT_SEED = 2018
_FOLD_SEED = 1602  # for confirmation runs


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TaskData:
    """A task's images.

    Attributes:
        train: Images for training.
        validation: Images for choosing between candidates.
        test: Images for the final report only.
        fingerprint: Hash of all three, so that results on other images are never mixed in.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    fingerprint: str

    def closed(self) -> TaskData:
        """Return them without the pixels that are in files, to be sent to another process of this machine."""
        return TaskData(
            train=self.train.closed(),
            validation=self.validation.closed(),
            test=self.test.closed(),
            fingerprint=self.fingerprint,
        )

    def opened(self) -> TaskData:
        """Return them with the pixels that are in files."""
        return TaskData(
            train=self.train.opened(),
            validation=self.validation.opened(),
            test=self.test.opened(),
            fingerprint=self.fingerprint,
        )


def load(task: Task, places: ImagePlaces) -> TaskData:
    """Load a task's images, downloading missing files of built-in data sets.

    Args:
        task: The task.
        places: Where images are, and to where files of built-in data sets are downloaded.

    Raises:
        DatasetMissingError: If images are missing and cannot be downloaded.
        DatasetCorruptError: If a file is damaged.
    """
    dataset = task.dataset
    if dataset.digest is None:
        development, test = read_built_in(dataset.name, places.data_dir)
        train, validation = _sklearn_split(development, held_out(len(development.labels)))
        digest = hashlib.sha256()
        for images in (train, validation, test):
            digest.update(images.images().tobytes())
            digest.update(images.labels.tobytes())
        return TaskData(train=train, validation=validation, test=test, fingerprint=digest.hexdigest())
    train, validation, test = _three_splits(places.library.open(dataset))
    return TaskData(train=train, validation=validation, test=test, fingerprint=dataset.digest)


def check_present(task: Task, places: ImagePlaces) -> None:
    """Check that the images of a task are here. Nothing is read or downloaded.

    Raises:
        DatasetMissingError: If they are not.
    """
    if task.dataset.digest is None:
        check_built_in(task.dataset.name, places.data_dir)
    else:
        places.library.open(task.dataset)


def fold(data: TaskData, run: int) -> TaskData:
    """Return a task's images with another split of training and validation for each run, as in cross-validation.

    They are divided into stratified folds of about the size of the validation set. Each run holds out the next fold for
    validation; once each was held out, the images are shuffled and divided again.

    Args:
        data: From `load`.
        run: Number of the run, from 0.
    """
    from sklearn.model_selection import StratifiedKFold

    both = _joined(data.train, data.validation)
    folds = max(2, round(len(both.labels) / len(data.validation.labels)))
    dealer = StratifiedKFold(folds, shuffle=True, random_state=_FOLD_SEED + run // folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes with fewer images than folds are in some folds only
        dealt = list(dealer.split(both.labels, both.labels))
    kept, out = dealt[run % folds]
    return TaskData(
        train=both.subset(kept), validation=both.subset(out), test=data.test, fingerprint=f"{data.fingerprint}/{run}"
    )


def _joined(first: ImageSet, second: ImageSet) -> ImageSet:
    """Return the images of two sets; where they share their pixels, so does the result."""
    labels = np.concatenate([first.labels, second.labels])
    if first.pixels is second.pixels and first.rows is not None and second.rows is not None:
        return ImageSet(first.pixels, labels, np.concatenate([first.rows, second.rows]), first.file)
    return ImageSet(np.concatenate([first.images(), second.images()]), labels)


def _three_splits(given: Mapping[str, ImageSet]) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Return training, validation and test images of the splits that there are; see `search.images.splits`."""
    train = given["all"] if "all" in given else given["train"]
    validation, test = given.get("validation"), given.get("test")
    if test is None and validation is not None:
        validation, test = _cut(validation, len(validation.labels) // 2)
    elif test is None:
        train, test = _cut(train, held_out(len(train.labels)))
    if validation is None:
        train, validation = _cut(train, held_out(len(train.labels)))
    return train, validation, test


def _cut(images: ImageSet, count: int) -> tuple[ImageSet, ImageSet]:
    """Cut about `count` images off, of each class its share, and of each at least one unless it has one only."""
    rng = np.random.default_rng(_SPLIT_SEED)
    out = np.zeros(len(images.labels), bool)
    for label in np.unique(images.labels):
        (members,) = np.nonzero(images.labels == label)
        share = max(1, round(len(members) * count / len(out)))
        out[rng.permutation(members)[: min(share, len(members) - 1)]] = True
    return images.subset(np.flatnonzero(~out)), images.subset(np.flatnonzero(out))


def _sklearn_split(images: ImageSet, count: int) -> tuple[ImageSet, ImageSet]:
    """Cut `count` images off, stratified by class, in scikit-learn's way: built-in sets have always been split so."""
    from sklearn.model_selection import train_test_split

    index: NDArray[np.int64] = np.arange(len(images.labels))
    kept, out = train_test_split(index, test_size=count, stratify=images.labels, random_state=_SPLIT_SEED)
    return images.subset(kept), images.subset(out)
