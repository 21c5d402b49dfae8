"""Labels as people give them become classes: 0 to K - 1, in the order of what the labels say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.errors import DatasetInvalidError
from search.images.content import WHOLE, check_splits, counted, in_order, listed, of_split

_MOST_CLASSES = 10_000
_FEWEST_TO_TRAIN = 2  # of a class: one to train on, one to validate on
_FEWEST_TO_SPLIT = 4  # of a class, where one part becomes train, validation and test: two to train on


def classes_of(
    labels: Mapping[str, NDArray[Any]], *, subject: str, names: Sequence[str] | None = None
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Return the classes of the labels of all splits, and the names of the classes.

    The classes are the distinct labels, numbers in ascending order, text in alphabetical order. So labels 0 to K - 1
    stay what they are, and a number that no image has is no class.

    Args:
        labels: Split -> labels of its N images: integers, whole floats, booleans or text, of shape (N,) or (N, 1); or
            one-hot, of shape (N, K).
        subject: What was given, with which messages begin.
        names: Names that integer labels are places in, if known; else a class is named by its label.

    Raises:
        DatasetInvalidError: If the labels name no classes, or there are too few of a class to train on, or the splits
            have different classes.
    """
    check_splits(labels, subject)
    flat = flat_labels(labels, subject)
    if len({given.dtype.kind for given in flat.values()}) > 1:
        raise DatasetInvalidError(f"{subject} has labels that are numbers in one part and text in another; use one")
    values = np.unique(np.concatenate(list(flat.values())))
    if len(values) > _MOST_CLASSES:
        raise DatasetInvalidError(
            f"{subject}: labels look like measurements, not classes: they take {len(values):,} values; at most "
            f"{_MOST_CLASSES:,} classes are allowed"
        )
    texts = _texts(values, names, subject)
    if len(values) < 2:
        raise DatasetInvalidError(f"{subject} has one class alone, {texts[0]!r}; at least two are needed")
    found = {split: np.searchsorted(values, given).astype(np.int64) for split, given in flat.items()}
    counts = {split: np.bincount(given, minlength=len(values)) for split, given in found.items()}
    _check_counts(counts, texts, subject)
    return found, texts


def _check_counts(counts: Mapping[str, NDArray[np.intp]], texts: Sequence[str], subject: str) -> None:
    trained = WHOLE if WHOLE in counts else "train"
    for split, count in counts.items():
        lacking = [text for text, images in zip(texts, count, strict=True) if images == 0]
        if lacking:
            raise DatasetInvalidError(
                f"{subject} has no images of the {'class' if len(lacking) == 1 else 'classes'} "
                f"{listed(map(repr, lacking))} in {split}; every class must be in every part"
            )
    fewest = _FEWEST_TO_SPLIT if len(counts) == 1 else _FEWEST_TO_TRAIN
    few = [(text, images) for text, images in zip(texts, counts[trained], strict=True) if images < fewest]
    if few:
        why = (
            f"to be split into train, validation and test, each class needs at least {fewest}"
            if len(counts) == 1
            else f"each class needs at least {fewest} to train on"
        )
        raise DatasetInvalidError(
            f"{subject} has too few images of {'one class' if len(few) == 1 else f'{len(few):,} classes'}: "
            f"{listed(f'{text!r} has {images}' for text, images in few)}; {why}"
        )


def flat_labels(labels: Mapping[str, NDArray[Any]], subject: str) -> dict[str, NDArray[Any]]:
    """Return the labels of all splits as int64 or text, of shape (N,); see `classes_of`.

    Raises:
        DatasetInvalidError: If they name no classes.
    """
    return {split: _flat(labels[split], f"{subject}: labels{of_split(split)}") for split in in_order(labels)}


def _flat(labels: NDArray[Any], subject: str) -> NDArray[Any]:
    """Return labels as int64 or text, of shape (N,)."""
    if labels.ndim and not len(labels):
        raise DatasetInvalidError(f"{subject} are none")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2) or 0 in labels.shape:
        raise DatasetInvalidError(f"{subject} must be one for each image, of shape (N,), got shape {labels.shape}")
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(str)
    if labels.dtype.kind == "S":
        labels = np.strings.decode(labels, "utf-8", "replace")
    if labels.ndim == 2:
        return _from_one_hot(labels, subject)
    if labels.dtype.kind == "U":
        return labels
    if labels.dtype.kind not in "biuf":
        raise DatasetInvalidError(
            f"{subject} must be whole numbers or text, got {'objects' if labels.dtype.kind == 'O' else labels.dtype}"
        )
    if labels.dtype.kind == "f":
        strange = labels[~np.isfinite(labels)]
        if len(strange):
            raise DatasetInvalidError(f"{subject} must be whole numbers, got {strange[0]} ({len(strange):,} times)")
        if np.any(labels != np.rint(labels)):
            raise DatasetInvalidError(
                f"{subject} look like measurements, not classes: they must be whole numbers, got "
                f"{labels[labels != np.rint(labels)][0]}"
            )
    limit = 2**53  # beyond it, floats skip whole numbers
    if labels.dtype.kind != "b" and (labels.min() < -limit or labels.max() > limit):
        raise DatasetInvalidError(f"{subject} must be whole numbers of at most 2^53, got {labels.max()}")
    return labels.astype(np.int64)


def _from_one_hot(labels: NDArray[Any], subject: str) -> NDArray[np.int64]:
    ones = labels == 1 if labels.dtype.kind in "biuf" else np.zeros(labels.shape, bool)
    if not (np.all(ones.sum(axis=1) == 1) and np.all(ones | (labels == 0))):
        raise DatasetInvalidError(
            f"{subject} have shape {labels.shape}, several for each image; give one class for each, of shape (N,), or "
            "one-hot, a single 1 in each row"
        )
    return np.asarray(ones.argmax(axis=1), np.int64)


def _texts(values: NDArray[Any], names: Sequence[str] | None, subject: str) -> tuple[str, ...]:
    """Return the names of classes that have these labels."""
    if names is None:
        given = [str(value) for value in values.tolist()]
    elif values.dtype.kind == "U" or values[0] < 0 or values[-1] >= len(names):
        outside = [value for value in values.tolist() if not isinstance(value, int) or not 0 <= value < len(names)]
        raise DatasetInvalidError(
            f"{subject} has labels outside of its {counted(len(names), 'class')} 0 to {len(names) - 1}: "
            f"{listed(outside)}; give each image one of these"
        )
    else:
        given = [names[value] for value in values.tolist()]
    return tuple(
        name.encode("utf-8", "backslashreplace").decode() for name in given
    )  # names of folders may be any bytes
