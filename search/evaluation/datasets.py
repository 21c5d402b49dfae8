"""The images of tasks, split for training, choosing, confirming and testing.

Validation images are split off stratified by class, always in the same way. Candidates are selected by them alone; the
test images are for the final report. If networks come trained, which may be on all training images, other images
confirm; see `search.images.splits`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.errors import DatasetInvalidError
from search.evaluation.evaluation import Evaluation
from search.images.built_in import check_built_in, read_built_in
from search.images.dataset import Dataset
from search.images.image_set import ImageSet
from search.images.places import ImagePlaces
from search.images.splits import MOST_CHOOSING, held_out
from search.space.task import Metric, Task

_SPLIT_SEED = 2018
_FOLD_SEED = 1602  # for confirmation runs
_ROLES = {"train": "training", "validation": "choosing", "confirmation": "confirming", "test": "testing"}
IMBALANCED = 3  # times as many training images as another class, or more, has a class of an imbalanced set


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TaskData:
    """A task's images.

    Attributes:
        train: Images for training.
        validation: Images for choosing between candidates.
        test: Images for the final report only.
        confirmation: Images that confirm answers, if networks come trained. None if they are trained from scratch:
            then other splits of the images for training and choosing do; see `fold`.
        fingerprint: Hash of all of them, so that results on other images are never mixed in.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    confirmation: ImageSet | None = None
    fingerprint: str

    def closed(self) -> TaskData:
        """Return them without the pixels that are in files, to be sent to another process of this machine."""
        return self._with_each(ImageSet.closed)

    def opened(self) -> TaskData:
        """Return them with the pixels that are in files."""
        return self._with_each(ImageSet.opened)

    def _with_each(self, change: Callable[[ImageSet], ImageSet]) -> TaskData:
        return TaskData(
            train=change(self.train),
            validation=change(self.validation),
            test=change(self.test),
            confirmation=None if self.confirmation is None else change(self.confirmation),
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
        DatasetInvalidError: If the metric needs images of a class that a part lacks.
    """
    dataset, trained = task.dataset, task.train != "scratch"  # elsewhere than here
    if dataset.digest is not None:
        parts = _split(places.library.open(dataset), trained=trained)
        if task.metric == "balanced-accuracy":
            _check_classes(parts, dataset)
        return TaskData(**parts, fingerprint=f"{dataset.digest}/trained" if trained else dataset.digest)
    development, test = read_built_in(dataset.name, places.data_dir)
    if trained:
        parts = _split({"train": development, "test": test}, trained=True)
    else:
        train, validation = _sklearn_split(development, held_out(len(development.labels)))
        parts = {"train": train, "validation": validation, "test": test}
        if task.begins_trained:  # on these training images
            parts["confirmation"], parts["validation"] = _cut(validation, len(validation.labels) // 2)
    digest = hashlib.sha256()
    for images in parts.values():
        digest.update(images.images().tobytes())
        digest.update(images.labels.tobytes())
    return TaskData(**parts, fingerprint=digest.hexdigest())


def imbalance(task: Task, train: ImageSet) -> str | None:
    """Return a note that training images are imbalanced; None if no class has three times as many as another.

    Args:
        task: The task.
        train: Its training images.
    """
    counts = np.bincount(train.labels, minlength=task.classes)
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] < IMBALANCED * counts[least]:
        return None
    names = task.dataset.class_names
    figures = ", ".join(f"{counts[label]:,} of {names[label]!r}" for label in (most, least))
    said = f"the training images are imbalanced: {figures}"
    if task.metric == "accuracy":
        said += "; accuracy hardly depends on rare classes, with `metric` balanced-accuracy all count the same"
    return said


def weakness(task: Task, validation: ImageSet, baseline: Evaluation) -> str | None:
    """Return a note that the baseline is not clearly better than one answer for all images; None if it is.

    Clearly is by more than two standard errors.

    Args:
        task: The task.
        validation: The images that choose.
        baseline: The baseline's evaluation.
    """
    counts = np.bincount(validation.labels, minlength=task.classes)
    guessed = 1 / task.classes if task.metric == "balanced-accuracy" else counts.max() / counts.sum()
    if baseline.accuracy > guessed + 2 * baseline.accuracy_standard_error:
        return None
    change = (
        "train longer by `epochs`, at another `learning_rate`, another network, or with more images"
        if task.train == "scratch"
        else "check that its weights are of these classes in this order, and that `mean` and `std` are theirs"
    )
    return (
        f"the baseline's accuracy, {baseline.accuracy:.2%}, is not clearly better than the {guessed:.2%} of always "
        f"answering {task.dataset.class_names[int(counts.argmax())]!r}, so almost any configuration keeps it; "
        f"{change}"
    )


def check_present(task: Task, places: ImagePlaces) -> None:
    """Check that the images of a task are here. Nothing is read or downloaded.

    Raises:
        DatasetMissingError: If they are not.
    """
    if task.dataset.digest is None:
        check_built_in(task.dataset.name, places.data_dir)
    else:
        places.library.open(task.dataset)


def fold(data: TaskData, run: int, metric: Metric) -> TaskData:
    """Return a task's images as a confirmation run takes them: its validation images are those that confirm.

    If networks come trained, these are the same images for every run, which trains on the training images. If they are
    trained from scratch, each run has another split of training and validation, as in cross-validation: the images are
    divided into stratified folds of about the size of the validation set, and each run holds out the next fold for
    validation; once each was held out, the images are shuffled and divided again.

    A mean over classes needs images of each: by `balanced-accuracy` there are no more folds than a class has images, so
    that each fold holds every class.

    Args:
        data: From `load`.
        run: Number of the run, from 0.
        metric: The task's metric.
    """
    fingerprint = f"{data.fingerprint}/{run}"
    if data.confirmation is not None:
        return TaskData(train=data.train, validation=data.confirmation, test=data.test, fingerprint=fingerprint)
    from sklearn.model_selection import StratifiedKFold

    both = _joined(data.train, data.validation)
    folds = max(2, round(len(both.labels) / len(data.validation.labels)))
    rarest = int(np.unique(both.labels, return_counts=True)[1].min())
    if metric == "balanced-accuracy" and rarest < folds:
        folds = max(2, rarest)
        fingerprint += f"/{folds}"  # other images than in the folds of accuracy
    dealer = StratifiedKFold(folds, shuffle=True, random_state=_FOLD_SEED + run // folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes with fewer images than folds are in some folds only
        dealt = list(dealer.split(both.labels, both.labels))
    kept, out = dealt[run % folds]
    return TaskData(train=both.subset(kept), validation=both.subset(out), test=data.test, fingerprint=fingerprint)


def _check_classes(parts: Mapping[str, ImageSet], dataset: Dataset) -> None:
    """Check that all classes are in all parts, of which each is measured by a mean over classes.

    Raises:
        DatasetInvalidError: If one is not.
    """
    counts = {part: np.bincount(images.labels, minlength=dataset.classes) for part, images in parts.items()}
    for part, count in counts.items():
        label = int(count.argmin())
        if count[label] == 0:
            found = ", ".join(f"{other[label]:,} for {_ROLES[name]}" for name, other in counts.items())
            raise DatasetInvalidError(
                f"{dataset.name}: `metric` balanced-accuracy needs images of every class for {_ROLES[part]}, and there "
                f"are none of {dataset.class_names[label]!r}. Of its images there are {found}. Give more images of it, "
                "or other splits, or choose `metric` accuracy"
            )


def _joined(first: ImageSet, second: ImageSet) -> ImageSet:
    """Return the images of two sets; where they share their pixels, so does the result."""
    labels = np.concatenate([first.labels, second.labels])
    if first.pixels is second.pixels and first.rows is not None and second.rows is not None:
        return ImageSet(first.pixels, labels, np.concatenate([first.rows, second.rows]), first.file)
    return ImageSet(np.concatenate([first.images(), second.images()]), labels)


def _split(given: Mapping[str, ImageSet], *, trained: bool) -> dict[str, ImageSet]:
    """Return the splits that a task needs, as `TaskData` calls them; see `search.images.splits`."""
    train = given["all"] if "all" in given else given["train"]
    validation, test = given.get("validation"), given.get("test")
    if test is None and validation is not None:
        validation, test = _cut(validation, len(validation.labels) // 2)
    elif test is None:
        train, test = _cut(train, held_out(len(train.labels)))
    if validation is None:
        train, validation = _cut(train, (2 if trained else 1) * held_out(len(train.labels)))
    # Sources are often in order of classes, and the first training images calibrate.
    train = train.subset(np.random.default_rng(_SPLIT_SEED).permutation(len(train.labels)))
    if not trained:
        return {"train": train, "validation": validation, "test": test}
    confirmation, validation = _cut(validation, min(len(validation.labels) // 2, MOST_CHOOSING))
    return {"train": train, "validation": validation, "test": test, "confirmation": confirmation}


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
