"""The built-in data sets."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from search.errors import DatasetCorruptError, DatasetMissingError
from search.images.dataset import Dataset
from search.images.image_set import ImageSet
from search.locations import DATA_DIR_VARIABLE


def read_built_in(name: str, data_dir: Path) -> tuple[ImageSet, ImageSet]:
    """Read it."""
    if name == "digits":
        return _digits()
    layout = _found_layout(name, data_dir) or _download(name, data_dir)
    return layout.parse(_checked_contents(layout, data_dir))


def check_built_in(name: str, data_dir: Path) -> None:
    """Check."""
    if name in _LAYOUTS and _found_layout(name, data_dir) is None:
        raise DatasetMissingError(_absence(name, data_dir))


def built_in_dataset(name: str) -> Dataset:
    """Return what is known of a built-in data set."""
    facts = {
        "digits": ("scikit-learn's handwritten digits, 8x8", (1, 8, 8), 16, 1348, 449, 10),
        "mnist": ("MNIST, handwritten digits, 28x28", (1, 28, 28), 255, 60000, 10000, 10),
        "fashion-mnist": ("Fashion-MNIST, articles of clothing, 28x28", (1, 28, 28), 255, 60000, 10000, 10),
        "cifar10": ("CIFAR-10, photographs of ten kinds of objects, 32x32", (3, 32, 32), 255, 50000, 10000, 10),
        "svhn": ("SVHN, house numbers, 32x32", (3, 32, 32), 255, 73257, 26032, 10),
        "cifar100": (
            "CIFAR-100, photographs of a hundred kinds of objects, 32x32",
            (3, 32, 32),
            255,
            50000,
            10000,
            100,
        ),
    }
    title, shape, pixel_max, train, test, classes = facts[name]
    return Dataset(
        name=name,
        title=title,
        image_shape=shape,
        pixel_max=pixel_max,
        class_names=tuple(map(str, range(classes))),
        counts={"train": train, "test": test},
    )


def _digits() -> tuple[ImageSet, ImageSet]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    from sklearn.model_selection import train_test_split

    images = ImageSet(digits.images.astype(np.uint8)[:, None], digits.target.astype(np.int64))
    kept, cut = train_test_split(
        np.arange(len(images.labels)), test_size=0.25, stratify=images.labels, random_state=2018
    )
    return images.subset(kept), images.subset(cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """A set of files in which a data set is distributed.

    Attributes:
        folder: Folder below the data folder; empty for the data folder itself.
        hashes: File name -> hash, in the order in which `parse` expects the files.
        algorithm: Hash algorithm, a name from `hashlib`.
        parse: Returns the training and the test images from the files' contents.
        mirrors: URLs that end in `/`, tried in order; empty if the files are not downloaded.
    """

    folder: str
    hashes: Mapping[str, str]
    algorithm: str
    parse: Callable[[Mapping[str, bytes]], tuple[ImageSet, ImageSet]]
    mirrors: tuple[str, ...] = ()

    def missing(self, data_dir: Path) -> list[str]:
        """Return the names of missing files."""
        return [name for name in self.hashes if not (data_dir / self.folder / name).is_file()]

    def __str__(self) -> str:
        names = ", ".join(self.hashes)
        return f"{self.folder} with {names}" if self.folder else names


def _found_layout(name: str, data_dir: Path) -> _Layout | None:
    """Return the first layout whose files are all there; None if there is none."""
    return next((layout for layout in _LAYOUTS[name] if not layout.missing(data_dir)), None)


def _absence(name: str, data_dir: Path) -> str:
    """Return the message that a folder does not hold a task's files, with the files that it should hold."""
    layouts = _LAYOUTS[name]
    expected = f"expected there: {', or '.join(map(str, layouts))}"
    if not data_dir.is_dir():
        return f"`data_dir` does not exist: {data_dir}; {expected}"
    lacking = [
        f"{layout.folder} lacks {', '.join(layout.missing(data_dir))}; "
        for layout in layouts
        if layout.folder and (data_dir / layout.folder).is_dir()
    ]
    return f"`data_dir` does not hold the dataset {name!r}: {data_dir}; {''.join(lacking)}{expected}"


def _checked_contents(layout: _Layout, data_dir: Path) -> dict[str, bytes]:
    """Read each file of a layout and check its hash.

    Raises:
        DatasetMissingError: If a file cannot be read.
        DatasetCorruptError: If it has the wrong hash.
    """
    contents = {}
    for name, wanted in layout.hashes.items():
        path = data_dir / layout.folder / name
        try:
            contents[name] = path.read_bytes()
        except OSError as error:
            raise DatasetMissingError(f"cannot read {path}: {error.strerror}") from None
        found = hashlib.new(layout.algorithm, contents[name], usedforsecurity=False).hexdigest()
        if found != wanted:
            raise DatasetCorruptError(
                f"{path} is damaged: its {layout.algorithm.upper()} is {found}, it should be {wanted}. "
                "Delete it and run the same command again"
            )
    return contents


def _download(name: str, data_dir: Path) -> _Layout:
    """Download the missing files of a task and return their layout.

    A file appears under its name once it is complete, so downloads may be killed, and several processes may download
    the same file. A failed download leaves no folder behind.

    Raises:
        DatasetMissingError: If a file cannot be downloaded or written, or part of another layout is there, in which
            case a download would be unexpected.
    """
    layout, *others = sorted(_LAYOUTS[name], key=lambda layout: not layout.mirrors)
    absence = _absence(name, data_dir)
    if any((data_dir / other.folder).is_dir() for other in others):
        raise DatasetMissingError(
            f"{absence}. Add what is missing, or delete the folder and run the same command again to download it all"
        )
    folder = data_dir / layout.folder
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in layout.missing(data_dir):
            with TemporaryDirectory(prefix=f"{name}.partial-", dir=folder) as partial:
                _download_file(layout, name, partial)
                (Path(partial) / name).replace(folder / name)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DatasetMissingError(
            f"dataset {name!r} is not on this machine and could not be downloaded ({reason}): {absence}. "
            f"Put the files there, name another folder with `data_dir` or ${DATA_DIR_VARIABLE}, or connect to the "
            "network and run the same command again"
        ) from error
    finally:
        for path in created:
            with suppress(OSError):  # it is not empty
                path.rmdir()
    return layout


def _download_file(layout: _Layout, name: str, folder: str) -> None:
    from approx.custom_modules import import_custom_module

    download_url = import_custom_module("torchvision.datasets.utils").download_url
    *others, last = layout.mirrors
    for mirror in others:
        with suppress(OSError, RuntimeError, HTTPException):
            download_url(f"{mirror}{name}", folder, name, layout.hashes[name])
            return
    download_url(f"{last}{name}", folder, name, layout.hashes[name])


def _parse_idx(contents: Mapping[str, bytes]) -> tuple[ImageSet, ImageSet]:
    """Parse gzipped idx files: images and labels for training, then for testing."""
    train_pixels, train_labels, test_pixels, test_labels = map(_idx_array, contents.values())
    return (
        ImageSet(train_pixels[:, None], train_labels.astype(np.int64)),
        ImageSet(test_pixels[:, None], test_labels.astype(np.int64)),
    )


def _idx_array(archive: bytes) -> NDArray[np.uint8]:
    """Return the array of bytes in a gzipped idx file, whose header is its number of dimensions and their sizes."""
    content = gzip.decompress(archive)
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _parse_cifar10_records(contents: Mapping[str, bytes]) -> tuple[ImageSet, ImageSet]:
    """Parse records of one label byte and 3,072 pixel bytes, channel first."""
    batches = [np.frombuffer(content, np.uint8).reshape(-1, 3073) for content in contents.values()]
    return _cifar10_images((batch[:, 1:], batch[:, 0]) for batch in batches)


def _parse_cifar10_pickles(contents: Mapping[str, bytes]) -> tuple[ImageSet, ImageSet]:
    """Parse pickled dicts of pixels, as in the records, and labels."""
    batches = [pickle.loads(content, encoding="latin1") for content in contents.values()]  # noqa: S301  hash checked
    return _cifar10_images((batch["data"], np.asarray(batch["labels"])) for batch in batches)


def _parse_cifar10_archive(contents: Mapping[str, bytes]) -> tuple[ImageSet, ImageSet]:
    """Parse an archive of the pickled dicts."""
    (archive,) = contents.values()
    pickles = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for name in _CIFAR10_PICKLES.hashes:
            member = members.extractfile(f"{_CIFAR10_PICKLES.folder}/{name}")
            assert member is not None
            pickles[name] = member.read()
    return _parse_cifar10_pickles(pickles)


def _cifar10_images(batches: Iterable[tuple[NDArray[np.uint8], NDArray[np.integer]]]) -> tuple[ImageSet, ImageSet]:
    """Join the batches of training images; the last batch is the test images."""
    *train, test = (ImageSet(pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)) for pixels, labels in batches)
    return (
        ImageSet(np.concatenate([batch.pixels for batch in train]), np.concatenate([batch.labels for batch in train])),
        test,
    )


# MD5 hashes and mirrors as in torchvision 0.28 (torchvision/datasets/mnist.py and cifar.py), SHA-1 hashes of the binary
# version at https://www.cs.toronto.edu/~kriz/cifar.html.
_MNIST = _Layout(
    folder="MNIST/raw",
    hashes={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    algorithm="md5",
    parse=_parse_idx,
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
)
_FASHION_MNIST = _Layout(
    folder="FashionMNIST/raw",
    hashes={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    algorithm="md5",
    parse=_parse_idx,
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
)
_CIFAR10_RECORDS = _Layout(
    folder="cifar-10-batches-bin",
    hashes={
        "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
        "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
        "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
        "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
        "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
        "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
    },
    algorithm="sha1",
    parse=_parse_cifar10_records,
)
_CIFAR10_PICKLES = _Layout(
    folder="cifar-10-batches-py",
    hashes={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    algorithm="md5",
    parse=_parse_cifar10_pickles,
)
_CIFAR10_ARCHIVE = _Layout(
    folder="",
    hashes={"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    algorithm="md5",
    parse=_parse_cifar10_archive,
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
)
# Task name -> layouts. The first whose files are all there is read: an archive rather than its unpacked content.
_LAYOUTS = {
    "mnist": (_MNIST,),
    "fashion-mnist": (_FASHION_MNIST,),
    "cifar10": (_CIFAR10_RECORDS, _CIFAR10_ARCHIVE, _CIFAR10_PICKLES),
}

BUILT_IN = ("digits", "mnist", "fashion-mnist", "cifar10", "svhn", "cifar100")
