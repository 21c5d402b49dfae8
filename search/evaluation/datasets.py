"""Real images for the tasks: found on disk or downloaded once, checked by hash, split.

The validation images are cut from the training images, stratified by class and the same for everyone. Selection uses
them alone; the test images are for the final report.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from search.errors import DatasetCorruptError, DatasetMissingError
from search.locations import DATA_DIR_VARIABLE, cache_dir
from search.space.task import Task

_SPLIT_SEED = 2018
_FOLD_SEED = 1602  # of confirmation runs
_VALIDATION_SHARE = 0.1
_DIGITS_VALIDATION_SHARE = 0.25  # of few images: fewer would make accuracies coarse
_DIGITS_TEST_SHARE = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images and their classes.

    Attributes:
        pixels: uint8, shape (N, C, H, W).
        labels: int64, shape (N,).
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TaskData:
    """A task's images.

    Attributes:
        train: For training.
        validation: For choosing between candidates.
        test: For the final report only.
        fingerprint: Hash of all three, so that results of other images are never mixed in.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    fingerprint: str


def load(task: Task, data_dir: Path) -> TaskData:
    """Load a task's images, downloading them if need be.

    Args:
        task: The task.
        data_dir: Folder in which its files are looked for, and into which they are downloaded.

    Raises:
        DatasetMissingError: If the files are not there and cannot be downloaded.
        DatasetCorruptError: If a file's content is not what it should be.
    """
    if task.name == "digits":
        development, test = _digits()
        share = _DIGITS_VALIDATION_SHARE
    elif task.name == "cifar10":
        development, test = _cifar10(data_dir)
        share = _VALIDATION_SHARE
    else:
        development, test = _mnist_like(task, data_dir)
        share = _VALIDATION_SHARE
    train, validation = _stratified_split(development, share)
    digest = hashlib.sha256()
    for images in (train, validation, test):
        digest.update(images.pixels.tobytes())
        digest.update(images.labels.tobytes())
    return TaskData(train=train, validation=validation, test=test, fingerprint=digest.hexdigest())


def fold(data: TaskData, run: int) -> TaskData:
    """The same images, with others of the training and validation images held out as validation images.

    As in cross-validation: the images are dealt into folds of about as many as there were validation images, stratified
    by class; run after run holds out another fold, and when all were held out they are dealt anew.

    Args:
        data: From `load`.
        run: Number of the run, from 0.
    """
    from sklearn.model_selection import StratifiedKFold

    pixels = np.concatenate([data.train.pixels, data.validation.pixels])
    labels = np.concatenate([data.train.labels, data.validation.labels])
    folds = max(2, round(len(labels) / len(data.validation.labels)))
    dealt = StratifiedKFold(folds, shuffle=True, random_state=_FOLD_SEED + run // folds).split(labels, labels)
    kept, held_out = list(dealt)[run % folds]
    return TaskData(
        train=ImageSet(pixels[kept], labels[kept]),
        validation=ImageSet(pixels[held_out], labels[held_out]),
        test=data.test,
        fingerprint=f"{data.fingerprint}/{run}",
    )


def _stratified_split(images: ImageSet, share: float) -> tuple[ImageSet, ImageSet]:
    """Cut off `share` of the images, with every class in proportion."""
    from sklearn.model_selection import train_test_split

    kept, cut = train_test_split(
        np.arange(len(images.labels)),
        test_size=share,
        stratify=images.labels,
        random_state=_SPLIT_SEED,
    )
    return (
        ImageSet(images.pixels[kept], images.labels[kept]),
        ImageSet(images.pixels[cut], images.labels[cut]),
    )


def _digits() -> tuple[ImageSet, ImageSet]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = ImageSet(digits.images.astype(np.uint8)[:, None], digits.target.astype(np.int64))
    return _stratified_split(images, _DIGITS_TEST_SHARE)


def _mnist_like(task: Task, data_dir: Path) -> tuple[ImageSet, ImageSet]:
    """MNIST and Fashion-MNIST, in the idx files that torchvision reads."""
    datasets = import_torchvision().datasets
    dataset_class = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[task.name]
    folder = dataset_class.__name__
    raw = data_dir / folder / "raw"
    archives = {raw / name: md5 for name, md5 in dataset_class.resources}
    for archive, md5 in archives.items():
        if archive.exists():
            _check_hash(archive, "md5", md5)
    root = data_dir
    if all(archive.exists() for archive in archives):
        unpacked = [_is_unpacked(archive, raw) for archive in archives]
        if not all(unpacked) or (data_dir / folder / "processed").exists():  # torchvision would prefer the latter
            root = cache_dir() / "datasets"
            _unpack(archives, root / folder / "raw")
    elif any((raw / archive.stem).exists() for archive in archives):
        raise DatasetMissingError(
            f"{raw} holds unpacked files, but not all of the archives by which they are checked: "
            f"{', '.join(archive.name for archive in archives)}. Put the archives beside them, or "
            "delete the folder to have them downloaded"
        )
    else:
        with _downloading(task.name, raw, [archive.name for archive in archives]):
            dataset_class(root, download=True)
    train, test = (dataset_class(root, train=train) for train in (True, False))
    return _from_torch(train.data[:, None], train.targets), _from_torch(test.data[:, None], test.targets)


def _is_unpacked(archive: Path, folder: Path) -> bool:
    """Whether the file packed in a .gz archive lies whole in a folder.

    Raises:
        DatasetCorruptError: If it lies there and its content is not what was packed.
    """
    unpacked = folder / archive.stem
    if not unpacked.exists():
        return False
    with archive.open("rb") as packed:
        packed.seek(-8, 2)  # a gzip file ends in the CRC-32 and the size of its content (RFC 1952)
        crc = int.from_bytes(packed.read(4), "little")
    if zlib.crc32(unpacked.read_bytes()) != crc:
        raise DatasetCorruptError(
            f"{unpacked} is damaged: it is not what {archive} holds. Delete it and run the same command again"
        )
    return True


def _unpack(archives: Iterable[Path], folder: Path) -> None:
    """Unpack archives into the cache, so that a folder of archives that was given to us stays as it is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for archive in archives:
            if _is_unpacked(archive, folder):
                continue
            partial = folder / f"{archive.stem}.{uuid4().hex}"  # another process may be unpacking the same
            with gzip.open(archive) as packed, partial.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
            partial.replace(folder / archive.stem)
    except OSError as error:
        raise DatasetMissingError(
            f"cannot unpack the archives of the dataset into {folder}: {error.strerror}"
        ) from None


# Hashes of the files of CIFAR-10's binary version, https://www.cs.toronto.edu/~kriz/cifar.html.
_CIFAR10_BINARY_SHA1 = {
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}


def _cifar10(data_dir: Path) -> tuple[ImageSet, ImageSet]:
    binary = data_dir / "cifar-10-batches-bin"
    if binary.is_dir():
        return _cifar10_binary(binary)
    dataset_class = import_torchvision().datasets.CIFAR10
    python = data_dir / dataset_class.base_folder
    present = python.is_dir()
    for name, md5 in [*dataset_class.train_list, *dataset_class.test_list] if present else []:
        if not (python / name).exists():
            raise DatasetCorruptError(f"{python} lacks {name}. Delete the folder and run the same command again")
        _check_hash(python / name, "md5", md5)
    if not present:
        wanted = [binary.name, dataset_class.base_folder, dataset_class.filename]
        with _downloading("cifar10", data_dir, wanted):
            dataset_class(data_dir, download=True)
    try:
        train, test = (dataset_class(data_dir, train=train) for train in (True, False))
    except RuntimeError as error:
        raise DatasetCorruptError(f"{python}: {error} Delete the folder and run the same command again") from None
    return (
        ImageSet(np.moveaxis(train.data, 3, 1).copy(), np.asarray(train.targets, np.int64)),
        ImageSet(np.moveaxis(test.data, 3, 1).copy(), np.asarray(test.targets, np.int64)),
    )


def _cifar10_binary(folder: Path) -> tuple[ImageSet, ImageSet]:
    """Records of one label byte and 3,072 pixel bytes, channel first."""
    pixels, labels = [], []
    for name, sha1 in _CIFAR10_BINARY_SHA1.items():
        if not (folder / name).exists():
            raise DatasetMissingError(
                f"{folder} lacks {name}; get cifar-10-binary.tar.gz from "
                "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it there"
            )
        _check_hash(folder / name, "sha1", sha1)
        records = np.fromfile(folder / name, np.uint8).reshape(-1, 3073)
        labels.append(records[:, 0].astype(np.int64))
        pixels.append(records[:, 1:].reshape(-1, 3, 32, 32))
    return (
        ImageSet(np.concatenate(pixels[:-1]), np.concatenate(labels[:-1])),
        ImageSet(pixels[-1], labels[-1]),
    )


@contextmanager
def _downloading(name: str, folder: Path, files: list[str]) -> Iterator[None]:
    """Turn whatever stops a download into an error that says what to do."""
    try:
        yield
    except (OSError, RuntimeError, HTTPException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DatasetMissingError(
            f"dataset {name!r} is not on this machine and could not be downloaded ({reason}). "
            f"Looked for {', '.join(files)} in {folder}. Put them there, or name another "
            f"folder with --data-dir or ${DATA_DIR_VARIABLE}, or connect to the network and run "
            "the same command again"
        ) from error


def _check_hash(path: Path, algorithm: str, wanted: str) -> None:
    found = hashlib.new(algorithm, path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != wanted:
        raise DatasetCorruptError(
            f"{path} is damaged: its {algorithm.upper()} is {found}, it should be {wanted}. "
            "Delete it and run the same command again"
        )


def _from_torch(pixels: Any, labels: Any) -> ImageSet:
    return ImageSet(pixels.numpy(), labels.numpy().astype(np.int64))


def import_torchvision() -> ModuleType:
    """Import torchvision, also where it was built for CUDA and torch was not.

    There its import fails, because it describes operators that its compiled part does not bring
    (https://github.com/pytorch/vision/issues/8985). Declaring them lets everything else work.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    import torch

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    _declared_operators.append(library)
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision")


_declared_operators: list[Any] = []  # a Library takes its operators with it when it is collected
