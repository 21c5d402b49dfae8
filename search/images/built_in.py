"""Data sets that are built in: what they are, and their images, found on disk or downloaded once.

Mirrors and MD5s are as in torchvision 0.28 (torchvision/datasets/mnist.py, svhn.py and cifar.py). A SHA-256 is that of
the unpacked content of a file that had its published hash: the MD5 of the archive in torchvision for MNIST and
Fashion-MNIST, the SHA-1 at https://www.cs.toronto.edu/~kriz/cifar.html for the binary version of CIFAR-10. The classes
of CIFAR-10 and CIFAR-100 are named as in their files `batches.meta` and `meta`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.errors import DatasetCorruptError, DatasetMissingError
from search.images.dataset import Dataset
from search.images.downloads import download, unexpected_folders
from search.images.formats import (
    parse_cifar10_pickles,
    parse_cifar10_records,
    parse_cifar100_pickles,
    parse_idx,
    parse_svhn,
)
from search.images.image_set import ImageSet
from search.images.releases import Flaw, Release, absence

_DIGITS_TEST_SHARE = 0.25
_DIGITS_SPLIT_SEED = 2018


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltIn:
    """What is known of a built-in data set before it is read.

    Attributes:
        title: Title for people.
        image_shape: Channels, height and width.
        class_names: Names of the classes, in the order of their labels, as published.
        pixel_max: Pixel value that stands for 1.0.
        development_count: Number of images for training and validation.
        test_count: Number of images for testing.
        releases: Forms in which its files may be there, the first complete one is read; none for images that come
            with scikit-learn.
    """

    title: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    pixel_max: int = 255
    development_count: int
    test_count: int
    releases: tuple[Release, ...] = ()


def read_built_in(name: str, data_dir: Path) -> tuple[ImageSet, ImageSet]:
    """Read the images of a built-in data set for development and for testing, downloading missing files.

    Args:
        name: A name of `BUILT_IN`.
        data_dir: Folder that holds the files, or to which they are downloaded.

    Raises:
        DatasetMissingError: If files are missing and cannot be downloaded, or cannot be read.
        DatasetCorruptError: If files do not have the published content, wherever they were found.
    """
    releases = BUILT_IN[name].releases
    if not releases:
        return _digits()
    complete = [release for release in releases if not release.missing(data_dir)]
    flaws: list[Flaw] = []
    for release in complete or [download(name, releases, data_dir)]:
        contents, found = release.read(data_dir)
        if not found:
            return release.parse(contents)
        flaws += found
    said = "; ".join(map(str, flaws))
    if all(flaw.unreadable for flaw in flaws):
        raise DatasetMissingError(f"{said}. Make it readable, or name another folder with `data_dir`")
    raise DatasetCorruptError(f"{said}. {_remedy(flaws, unexpected_folders(releases, data_dir))}")


def check_built_in(name: str, data_dir: Path) -> None:
    """Check that a folder holds the files of a built-in data set. Nothing is read or downloaded.

    Args:
        name: A name of `BUILT_IN`.
        data_dir: The folder.

    Raises:
        DatasetMissingError: If it does not exist or lacks a file.
    """
    releases = BUILT_IN[name].releases
    if releases and all(release.missing(data_dir) for release in releases):
        raise DatasetMissingError(absence(name, releases, data_dir))


def built_in_dataset(name: str) -> Dataset:
    """Return what is known of a built-in data set.

    Args:
        name: A name of `BUILT_IN`.
    """
    facts = BUILT_IN[name]
    return Dataset(
        name=name,
        title=facts.title,
        image_shape=facts.image_shape,
        pixel_max=facts.pixel_max,
        class_names=facts.class_names,
        counts={"train": facts.development_count, "test": facts.test_count},
    )


def _remedy(flaws: list[Flaw], unexpected: list[Path]) -> str:
    """Return what to do about damaged files, knowing the folders beside which nothing is downloaded."""
    it, its = ("it", "its") if len({flaw.path for flaw in flaws}) == 1 else ("them", "their")
    if not unexpected:
        return f"Delete {it} and run the same command again"
    return (
        f"Put the published content in {its} place, or delete {it} and {' and '.join(map(str, unexpected))} "
        "and run the same command again to download the dataset"
    )


def _digits() -> tuple[ImageSet, ImageSet]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels, labels = digits.images.astype(np.uint8)[:, None], digits.target.astype(np.int64)
    development, test = train_test_split(
        np.arange(len(labels)), test_size=_DIGITS_TEST_SHARE, stratify=labels, random_state=_DIGITS_SPLIT_SEED
    )
    return ImageSet(pixels[development], labels[development]), ImageSet(pixels[test], labels[test])


_MNIST = Release(
    folder="MNIST/raw",
    hashes={
        "train-images-idx3-ubyte": "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    parse=parse_idx,
    ending=".gz",
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
)
_FASHION_MNIST = Release(
    folder="FashionMNIST/raw",
    hashes={
        "train-images-idx3-ubyte": "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    parse=parse_idx,
    ending=".gz",
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
)
_SVHN = Release(
    folder="",
    hashes={
        "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
    },
    parse=parse_svhn,
    mirrors=("http://ufldl.stanford.edu/housenumbers/",),
)
_CIFAR10_RECORDS = Release(
    folder="cifar-10-batches-bin",
    hashes={
        "data_batch_1.bin": "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    parse=parse_cifar10_records,
    archive="cifar-10-binary",
)
_CIFAR10_PICKLES = Release(
    folder="cifar-10-batches-py",
    hashes={
        "data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
        "data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "md5:634d18415352ddfa80567beed471001a",
        "data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "md5:40351d587109b95175f43aff81a1287e",
    },
    parse=parse_cifar10_pickles,
    archive="cifar-10-python",
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
)
_CIFAR100 = Release(
    folder="cifar-100-python",
    hashes={"train": "md5:16019d7e3df5f24257cddd939b257f8d", "test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc"},
    parse=parse_cifar100_pickles,
    archive="cifar-100-python",
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
)

_DIGIT_NAMES = tuple("0123456789")
_CIFAR100_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

BUILT_IN: Mapping[str, BuiltIn] = {
    "digits": BuiltIn(
        title="scikit-learn's handwritten digits, 8x8",
        image_shape=(1, 8, 8),
        class_names=_DIGIT_NAMES,
        pixel_max=16,
        development_count=1347,
        test_count=450,
    ),
    "mnist": BuiltIn(
        title="MNIST, handwritten digits, 28x28",
        image_shape=(1, 28, 28),
        class_names=_DIGIT_NAMES,
        development_count=60_000,
        test_count=10_000,
        releases=(_MNIST,),
    ),
    "fashion-mnist": BuiltIn(
        title="Fashion-MNIST, articles of clothing, 28x28",
        image_shape=(1, 28, 28),
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        development_count=60_000,
        test_count=10_000,
        releases=(_FASHION_MNIST,),
    ),
    "svhn": BuiltIn(
        title="SVHN, digits of house numbers in photographs, 32x32",
        image_shape=(3, 32, 32),
        class_names=_DIGIT_NAMES,
        development_count=73_257,
        test_count=26_032,
        releases=(_SVHN,),
    ),
    "cifar10": BuiltIn(
        title="CIFAR-10, photographs of ten kinds of objects, 32x32",
        image_shape=(3, 32, 32),
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        development_count=50_000,
        test_count=10_000,
        releases=(_CIFAR10_RECORDS, _CIFAR10_PICKLES),
    ),
    "cifar100": BuiltIn(
        title="CIFAR-100, photographs of a hundred kinds of objects, 32x32",
        image_shape=(3, 32, 32),
        class_names=tuple(_CIFAR100_NAMES.split()),
        development_count=50_000,
        test_count=10_000,
        releases=(_CIFAR100,),
    ),
}
