import io
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.io import loadmat

from approx.custom_modules import import_custom_module
from search.images import formats
from search.images.image_set import ImageSet
from tests.support import published
from tests.support.published import Contents


@pytest.fixture(scope="module")
def torchvision() -> ModuleType:
    """Torchvision's data sets, another way to read the same files."""
    return import_custom_module("torchvision.datasets")


def assert_same(images: ImageSet, pixels: object, labels: object) -> None:
    assert images.pixels.dtype == np.uint8
    assert images.labels.dtype == np.int64
    assert np.array_equal(images.pixels, np.asarray(pixels))
    assert np.array_equal(images.labels, np.asarray(labels))


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_idx_files_are_read_as_by_torchvision(name: str, torchvision: ModuleType, tmp_path: Path) -> None:
    contents = published.mnist_files()
    published.unpack(tmp_path / name / "raw", contents)
    for images, train in zip(formats.parse_idx(contents), (True, False), strict=True):
        other = getattr(torchvision, name)(tmp_path, train=train)
        assert_same(images, other.data[:, None], other.targets)


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_pickles_are_read_as_by_torchvision(
    name: str, torchvision: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, parse = {
        "CIFAR10": (published.cifar10_pickle_files(), formats.parse_cifar10_pickles),
        "CIFAR100": (published.cifar100_files(), formats.parse_cifar100_pickles),
    }[name]
    theirs = getattr(torchvision, name)
    published.unpack(tmp_path / theirs.base_folder, contents)
    monkeypatch.setattr(theirs, "_check_integrity", lambda self: True)
    monkeypatch.setattr(theirs, "_load_meta", lambda self: None)
    for images, train in zip(parse(contents), (True, False), strict=True):
        other = theirs(tmp_path, train=train)
        assert_same(images, other.data.transpose(0, 3, 1, 2), other.targets)


def test_matlab_files_are_read_as_by_torchvision(
    torchvision: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = published.svhn_files()
    published.unpack(tmp_path, contents)
    monkeypatch.setattr(torchvision.SVHN, "_check_integrity", lambda self: True)
    for images, split in zip(formats.parse_svhn(contents), ("train", "test"), strict=True):
        other = torchvision.SVHN(tmp_path, split=split)
        assert_same(images, other.data, other.labels)


def test_records_hold_the_images_of_the_pickles() -> None:
    records = formats.parse_cifar10_records(published.cifar10_record_files())
    pickles = formats.parse_cifar10_pickles(published.cifar10_pickle_files())
    for images, others in zip(records, pickles, strict=True):
        assert_same(images, others.pixels, others.labels)


def test_idx_files_are_images_row_by_row() -> None:
    contents = published.mnist_files()
    development, test = formats.parse_idx(contents)
    assert development.pixels.shape == (200, 1, 28, 28)
    assert test.labels.tolist() == [*range(10)] * 5
    row = contents["t10k-images-idx3-ubyte"][16 + 3 * 784 + 2 * 28 :][:28]
    assert test.pixels[3, 0, 2].tobytes() == row


def test_a_record_is_a_label_then_all_red_all_green_and_all_blue_pixels_each_in_rows() -> None:
    development, test = formats.parse_cifar10_records(published.cifar10_record_files())
    batch = published.cifar_records(published.CIFAR10_BATCHES)["test_batch"]
    assert development.pixels.shape == (200, 3, 32, 32)
    assert test.labels[3] == batch[3, 0]
    assert test.pixels[3, 1, 2, 5] == batch[3, 1 + 1024 + 2 * 32 + 5]


def labels_and_one_pixel(content: bytes) -> tuple[list[int], int]:
    variables = loadmat(io.BytesIO(content))
    return variables["y"].ravel().tolist(), variables["X"][4, 9, 2, 7]


def test_the_label_ten_of_matlab_files_is_the_digit_zero() -> None:
    contents: Contents = published.svhn_files()
    for images, content in zip(formats.parse_svhn(contents), contents.values(), strict=True):
        labels, pixel = labels_and_one_pixel(content)
        assert images.labels.tolist() == [0 if label == 10 else label for label in labels]
        assert images.pixels[7, 2, 4, 9] == pixel
        assert images.pixels.flags.c_contiguous
