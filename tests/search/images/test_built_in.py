import hashlib
import os
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from approx.custom_modules import import_custom_module
from search.errors import DatasetCorruptError, DatasetMissingError
from search.images.built_in import BUILT_IN, check_built_in, read_built_in
from search.images.image_set import ImageSet
from tests.support import published
from tests.support.published import Contents

WITH_FILES = [name for name, facts in BUILT_IN.items() if facts.releases]
SMALL: Mapping[str, Callable[[], Contents]] = {
    "mnist": published.mnist_files,
    "fashion-mnist": lambda: published.mnist_files(seed=1),
    "svhn": published.svhn_files,
    "cifar10": published.cifar10_pickle_files,
    "cifar100": published.cifar100_files,
}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes downloads fail at once, as without a network."""

    def refuse(*arguments: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(import_custom_module("torchvision.datasets.utils"), "download_url", refuse)


def assert_same(images: tuple[ImageSet, ImageSet], others: tuple[ImageSet, ImageSet]) -> None:
    for one, other in zip(images, others, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.labels, other.labels)


# What is known of them


@pytest.fixture(scope="module")
def torchvision() -> ModuleType:
    return import_custom_module("torchvision.datasets")


@pytest.mark.parametrize(("name", "theirs"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_files_and_mirrors_of_mnist_are_torchvisions(name: str, theirs: str, torchvision: ModuleType) -> None:
    published_there = getattr(torchvision, theirs)
    (release,) = BUILT_IN[name].releases
    assert [f"{file}{release.ending}" for file in release.hashes] == [file for file, _ in published_there.resources]
    assert [*release.mirrors] == published_there.mirrors
    assert release.folder == f"{theirs}/raw"
    if name == "fashion-mnist":
        assert [*BUILT_IN[name].class_names] == published_there.classes


@pytest.mark.parametrize(("name", "theirs"), [("cifar10", "CIFAR10"), ("cifar100", "CIFAR100")])
def test_files_hashes_and_mirrors_of_cifar_are_torchvisions(name: str, theirs: str, torchvision: ModuleType) -> None:
    published_there = getattr(torchvision, theirs)
    release = BUILT_IN[name].releases[-1]
    hashes = {file: f"md5:{md5}" for file, md5 in published_there.train_list + published_there.test_list}
    assert [*release.hashes.items()] == [*hashes.items()]
    assert [f"{mirror}{release.archive}.tar.gz" for mirror in release.mirrors] == [published_there.url]
    assert f"{release.archive}.tar.gz" == published_there.filename
    assert release.folder == published_there.base_folder


def test_files_hashes_and_mirrors_of_svhn_are_torchvisions(torchvision: ModuleType) -> None:
    (release,) = BUILT_IN["svhn"].releases
    splits = [torchvision.SVHN.split_list[split] for split in ("train", "test")]
    assert [*release.hashes.items()] == [(file, f"md5:{md5}") for _, file, md5 in splits]
    assert [f"{release.mirrors[0]}{file}" for file in release.hashes] == [url for url, _, _ in splits]
    assert release.folder == ""


def pickled_by_python_2(value: object, memo: list[object]) -> bytes:
    """A value in the words of Python 2's pickle protocol 2, in which every string, list and dict is remembered."""
    if isinstance(value, int):
        return b"M" + struct.pack("<H", value)
    memo.append(value)
    remembered = b"q" + bytes([len(memo)])
    if isinstance(value, str):
        return b"U" + bytes([len(value)]) + value.encode() + remembered
    if isinstance(value, list):
        return b"]" + remembered + b"(" + b"".join(pickled_by_python_2(item, memo) for item in value) + b"e"
    assert isinstance(value, dict)
    items = (pickled_by_python_2(part, memo) for item in value.items() for part in item)
    return b"}" + remembered + b"(" + b"".join(items) + b"u"


# The classes into which CIFAR-100's are grouped, from https://www.cs.toronto.edu/~kriz/cifar.html.
COARSE_CLASSES = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
    insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
    medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""


@pytest.mark.parametrize(
    ("name", "theirs", "content"),
    [
        ("cifar10", "CIFAR10", {"num_cases_per_batch": 10_000, "label_names": None, "num_vis": 3072}),
        ("cifar100", "CIFAR100", {"fine_label_names": None, "coarse_label_names": COARSE_CLASSES.split()}),
    ],
)
def test_classes_of_cifar_are_named_as_in_its_file_of_names(
    name: str, theirs: str, content: dict[str, object], torchvision: ModuleType
) -> None:
    """The file is built from them, and then has the published hash."""
    names = {key: [*BUILT_IN[name].class_names] if value is None else value for key, value in content.items()}
    file = b"\x80\x02" + pickled_by_python_2(names, []) + b"."
    assert pickle.loads(file) == names  # noqa: S301
    assert hashlib.md5(file, usedforsecurity=False).hexdigest() == getattr(torchvision, theirs).meta["md5"]


def test_every_data_set_has_one_name_for_each_class_and_one_release_to_download() -> None:
    for name, facts in BUILT_IN.items():
        assert len({*facts.class_names}) == len(facts.class_names) == (100 if name == "cifar100" else 10), name
        assert [bool(release.mirrors) for release in facts.releases].count(True) == (name != "digits"), name


# Digits


def test_digits_are_scikit_learns_divided_as_stored_evaluations_are() -> None:
    development, test = read_built_in("digits", Path("/dev/null"))
    digits = load_digits()
    pixels, labels = digits.images.reshape(-1, 1, 8, 8), digits.target
    cut = train_test_split(pixels, labels, test_size=0.25, stratify=labels, random_state=2018)
    found: tuple[NDArray[np.generic], ...] = (development.pixels, test.pixels, development.labels, test.labels)
    for one, wanted in zip(found, cut, strict=True):
        assert np.array_equal(one, wanted)


def test_digits_are_as_the_table_says() -> None:
    check_as_told("digits", read_built_in("digits", Path("/dev/null")))


def check_as_told(name: str, images: tuple[ImageSet, ImageSet]) -> None:
    facts = BUILT_IN[name]
    for part, count in zip(images, (facts.development_count, facts.test_count), strict=True):
        assert part.pixels.shape == (count, *facts.image_shape)
        assert part.pixels.dtype == np.uint8
        assert part.pixels.max() == facts.pixel_max
        assert part.labels.dtype == np.int64
        assert np.unique(part.labels).tolist() == [*range(len(facts.class_names))]


# Real files


# Published means of the training images by channel, as they are used to normalise images.
MEANS = {
    "mnist": [0.1307],
    "fashion-mnist": [0.2860],
    "svhn": [0.4377, 0.4438, 0.4728],
    "cifar10": [0.4914, 0.4822, 0.4465],
    "cifar100": [0.5071, 0.4867, 0.4408],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*WITH_FILES} - {"cifar10"}))
def test_real_images_are_as_the_table_says(name: str, real_data: Path) -> None:
    try:
        check_built_in(name, real_data)
    except DatasetMissingError as error:
        pytest.skip(f"needs the real files of {name}: {error}")
    images = read_built_in(name, real_data)
    check_as_told(name, images)
    assert (images[0].pixels.mean(axis=(0, 2, 3)) / 255).tolist() == pytest.approx(MEANS[name], abs=1e-3)


@pytest.mark.slow
def test_real_images_of_cifar10_are_as_the_table_says(real_cifar10: Path) -> None:
    images = read_built_in("cifar10", real_cifar10)
    check_as_told("cifar10", images)
    assert (images[0].pixels.mean(axis=(0, 2, 3)) / 255).tolist() == pytest.approx(MEANS["cifar10"], abs=1e-3)
    names = [BUILT_IN["cifar10"].class_names[label] for label in images[1].labels[:5]]
    assert names == ["cat", "ship", "ship", "airplane", "frog"]


@pytest.mark.slow
def test_real_files_packed_anew_are_good(real_data: Path, tmp_path: Path) -> None:
    originals = real_data / "MNIST" / "raw"
    (release,) = BUILT_IN["mnist"].releases
    contents, flaws = release.read(real_data)
    assert flaws == []
    published.gzip_each(tmp_path / "MNIST" / "raw", contents, level=1)
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        assert path.read_bytes() != (originals / path.name).read_bytes()
    first = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    first.write_bytes(contents[first.name])
    first.with_name(f"{first.name}.gz").unlink()
    assert_same(read_built_in("mnist", tmp_path), read_built_in("mnist", real_data))


def test_a_damaged_real_archive_is_named_with_what_to_do(real_data: Path, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (real_data / "MNIST" / "raw").glob("*.gz"):
        os.symlink(path, raw / path.name)
    damaged = raw / "t10k-labels-idx1-ubyte.gz"
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content[:-9] + b"\0" * 9)
    with pytest.raises(DatasetCorruptError) as caught:
        read_built_in("mnist", tmp_path)
    assert str(caught.value) == (
        f"{damaged} is damaged: it cannot be unpacked. Delete it and run the same command again"
    )


# Small files that are taken for the published ones


@pytest.mark.parametrize("name", WITH_FILES)
def test_images_are_read_where_they_are_and_alike_from_every_form(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = SMALL[name]()
    published.declare(monkeypatch, name, contents)
    release = BUILT_IN[name].releases[-1]
    published.unpack(tmp_path / "unpacked" / release.folder, contents)
    published.gzip_each(tmp_path / "gzipped" / release.folder, contents)
    wanted = release.parse(contents)
    before = published.tree(tmp_path)
    for form in ("unpacked", "gzipped"):
        check_built_in(name, tmp_path / form)
        assert_same(read_built_in(name, tmp_path / form), wanted)
    assert published.tree(tmp_path) == before
    if release.archive:
        published.tar(tmp_path / "archive" / f"{release.archive}.tar.gz", contents, prefix=f"{release.folder}/")
        check_built_in(name, tmp_path / "archive")
        assert_same(read_built_in(name, tmp_path / "archive"), wanted)
        assert [path.name for path in (tmp_path / "archive").iterdir()] == [f"{release.archive}.tar.gz"]


@pytest.fixture
def small_cifar10(monkeypatch: pytest.MonkeyPatch) -> tuple[Contents, Contents]:
    """The files of CIFAR-10's binary and of its Python version, with the same 240 images."""
    records, pickles = published.cifar10_record_files(), published.cifar10_pickle_files()
    published.declare(monkeypatch, "cifar10", {**records, **pickles})
    return records, pickles


def test_both_versions_of_cifar10_are_the_same_images(small_cifar10: tuple[Contents, Contents], tmp_path: Path) -> None:
    records, pickles = small_cifar10
    published.unpack(tmp_path / "records" / "cifar-10-batches-bin", records)
    published.tar(tmp_path / "archive" / "cifar-10-binary.tar.gz", records)
    published.unpack(tmp_path / "pickles" / "cifar-10-batches-py", pickles)
    images = read_built_in("cifar10", tmp_path / "pickles")
    assert_same(read_built_in("cifar10", tmp_path / "records"), images)
    assert_same(read_built_in("cifar10", tmp_path / "archive"), images)


def test_a_good_version_makes_up_for_a_damaged_one(small_cifar10: tuple[Contents, Contents], tmp_path: Path) -> None:
    records, pickles = small_cifar10
    published.unpack(tmp_path / "cifar-10-batches-bin", {**records, "test_batch.bin": b""})
    with pytest.raises(DatasetCorruptError, match=r"test_batch\.bin is damaged"):
        read_built_in("cifar10", tmp_path)
    published.tar(tmp_path / "cifar-10-python.tar.gz", pickles)
    development, _ = read_built_in("cifar10", tmp_path)
    assert len(development.labels) == 200


def test_a_pickle_with_another_hash_is_never_loaded(small_cifar10: tuple[Contents, Contents], tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return os.mkdir, (str(trace),)

    _, pickles = small_cifar10
    attack = {**pickles, "data_batch_2": published.pickled({"data": Attack()})}
    published.tar(tmp_path / "cifar-10-python.tar", attack)
    published.unpack(tmp_path / "cifar-10-batches-py", attack)
    with pytest.raises(DatasetCorruptError, match="the SHA-256 of data_batch_2 in it is"):
        read_built_in("cifar10", tmp_path)
    assert not trace.exists()
    pickle.loads(attack["data_batch_2"])  # noqa: S301  it would have been seen
    assert trace.exists()


def test_damaged_files_beside_which_nothing_is_downloaded_are_to_be_replaced(
    small_cifar10: tuple[Contents, Contents], tmp_path: Path
) -> None:
    records, _ = small_cifar10
    folder = tmp_path / "cifar-10-batches-bin"
    published.unpack(folder, {**records, "data_batch_3.bin": b"", "test_batch.bin": b""})
    with pytest.raises(DatasetCorruptError) as caught:
        read_built_in("cifar10", tmp_path)
    assert str(caught.value).endswith(
        f". Put the published content in their place, or delete them and {folder} and run the same command again to "
        "download the dataset"
    )


@pytest.mark.usefixtures("no_network")
def test_what_is_advised_for_damaged_files_leads_to_a_download(
    small_cifar10: tuple[Contents, Contents], tmp_path: Path
) -> None:
    records, _ = small_cifar10
    paths = [tmp_path / "cifar-10-python.tar.gz", tmp_path / "cifar-10-binary.tar.gz"]
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(DatasetCorruptError, match=r"\. Delete them and run the same command again"):
        read_built_in("cifar10", tmp_path)
    for path in paths:
        path.unlink()
    with pytest.raises(DatasetMissingError, match="could not be downloaded"):
        read_built_in("cifar10", tmp_path)
    published.unpack(tmp_path / "cifar-10-batches-bin", {**records, "test_batch.bin": b""})
    with pytest.raises(DatasetCorruptError, match="or delete it and"):
        read_built_in("cifar10", tmp_path)
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    with pytest.raises(DatasetMissingError, match="cifar-10-batches-bin lacks test_batch"):  # the folder is still there
        read_built_in("cifar10", tmp_path)


def test_a_file_that_cannot_be_read_is_not_called_damaged(
    small_cifar10: tuple[Contents, Contents], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, _ = small_cifar10
    published.unpack(tmp_path / "cifar-10-batches-bin", records)

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DatasetMissingError, match=r"cannot be read: Permission denied\. Make it readable, or name"):
        read_built_in("cifar10", tmp_path)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("fashion-mnist", "train-images-idx3-ubyte.gz"),
        ("svhn", "train_32x32.mat"),
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python.tar.gz"),
    ],
)
def test_no_data_and_no_network(name: str, file: str, tmp_path: Path) -> None:
    folder = tmp_path / "no" / "data"
    with pytest.raises(DatasetMissingError) as caught:
        read_built_in(name, folder)
    message = str(caught.value)
    assert f"dataset {name!r} is not on this machine and could not be downloaded (no network)" in message
    assert file in message
    assert f"`data_dir` does not exist: {folder}" in message
    assert "\n" not in message
    assert not folder.parent.exists()


def test_a_folder_is_checked_without_reading_or_downloading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_built_in("digits", tmp_path / "gone")  # needs no folder
    names = [*BUILT_IN["mnist"].releases[0].hashes]
    raw = tmp_path / "MNIST" / "raw"
    published.unpack(raw, dict.fromkeys(names[:3], b""))
    with pytest.raises(DatasetMissingError, match=r"MNIST/raw lacks t10k-labels-idx1-ubyte\.gz; expected there: MNIST"):
        check_built_in("mnist", tmp_path)
    (raw / f"{names[3]}.gz").write_bytes(b"")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("it is read"))
    check_built_in("mnist", tmp_path)
    with pytest.raises(
        DatasetMissingError, match=r"`data_dir` does not exist: .*gone; expected there: train_32x32\.mat"
    ):
        check_built_in("svhn", tmp_path / "gone")
