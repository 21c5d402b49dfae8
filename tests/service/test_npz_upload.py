"""Archives of which nothing is trusted."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.errors import DatasetInvalidError
from search.images.dataset import Dataset
from search.images.library import ImageLibrary
from service.npz_upload import store_npz
from tests.support.uploads import archive, pictures

IMAGES, LABELS = pictures()


def stored(folder: Path, content: bytes, *, class_names: tuple[str, ...] = (), max_bytes: int = 10**6) -> Dataset:
    file = folder / "upload.npz"
    file.write_bytes(content)
    return store_npz(file, ImageLibrary(folder / "images"), name="mine", class_names=class_names, max_bytes=max_bytes)


def assert_refused(folder: Path, content: bytes, words: str, **settings: Any) -> None:
    with pytest.raises(DatasetInvalidError, match=words) as caught:
        stored(folder, content, **settings)
    assert str(folder) not in str(caught.value), "clients need not know where the service keeps its files"
    assert ImageLibrary(folder / "images").all() == []


def test_images_come_back_from_the_library_with_their_labels(tmp_path: Path) -> None:
    dataset = stored(tmp_path, archive(), class_names=("dark", "gray", "light"))
    assert (dataset.name, dataset.class_names, dataset.location) == ("mine", ("dark", "gray", "light"), None)
    (found,) = ImageLibrary(tmp_path / "images").open(dataset).values()
    given = sorted((label, image.tobytes()) for image, label in zip(IMAGES, LABELS, strict=True))
    assert sorted((label, image.tobytes()) for image, label in zip(found.images(), found.labels, strict=True)) == given


def test_an_archive_that_would_fill_the_disk_is_refused_by_what_its_headers_say(tmp_path: Path) -> None:
    zeros = np.zeros((2000, 200, 200), np.uint8)
    bomb = archive(images=zeros, labels=np.arange(2000) % 2)
    assert len(bomb) < zeros.nbytes / 500
    assert_refused(tmp_path, bomb, "80,016,.* bytes once it is decompressed; at most 1,000,000 are allowed")
    assert stored(tmp_path, bomb, max_bytes=10**8).images == 2000


@pytest.mark.parametrize("shape", ["true", "small"])
def test_headers_that_understate_what_is_in_an_archive_do_not_help(tmp_path: Path, shape: str) -> None:
    """The directory says less than is there; the array's own header says the truth, or the same lie."""
    lie = np.zeros((4, 8, 8), np.uint8)
    large = io.BytesIO()
    np.save(large, np.zeros((50_000, 8, 8), np.uint8))
    small = io.BytesIO()
    np.save(small, lie)
    header = small.getvalue()[: -lie.nbytes]
    member = large.getvalue() if shape == "true" else header + bytes(50_000 * 64)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("images.npy", member)
        labels = io.BytesIO()
        np.save(labels, np.array([0, 0, 1, 1]))
        opened.writestr("labels.npy", labels.getvalue())
    truth, stated = struct.pack("<I", len(member)), struct.pack("<I", len(header) + lie.nbytes)
    content = file.getvalue().replace(truth, stated)
    assert content.count(stated) >= 2
    assert_refused(tmp_path, content, "images.npy is damaged", max_bytes=10_000)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    payload = Payload(tmp_path / "ran")
    objects = np.empty(1, object)
    objects[0] = payload
    assert_refused(
        tmp_path, archive(images=objects, labels=np.zeros(1, int)), "images.npy is an array of Python objects"
    )
    assert_refused(tmp_path, archive(images=IMAGES, labels=objects), "labels.npy is an array of Python objects")
    assert_refused(tmp_path, pickle.dumps(payload), "is a pickle, which is not opened")
    assert not payload.file.exists()
    pickle.loads(pickle.dumps(payload))  # noqa: S301
    assert payload.file.exists(), "the payload works"


def single_array() -> bytes:
    file = io.BytesIO()
    np.save(file, IMAGES)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"GIF89a", "is no .npz archive"),
        (archive()[:1000], "is a damaged archive"),
        (single_array(), r"is a single array \(.npy\)"),
        (archive(pictures=IMAGES, classes=LABELS), "holds arrays called pictures, classes; expected are x_train"),
        (archive(images=IMAGES[:0], labels=LABELS[:0]), "none|without pixels"),
        (archive(images=IMAGES, labels=LABELS[:15]), "one label for each image"),
        (archive(images=IMAGES, labels=LABELS + 0.5), "measurements, not classes"),
        (archive(images=IMAGES, labels=np.zeros(60, int)), "one class alone"),
    ],
)
def test_what_is_no_archive_of_images(tmp_path: Path, content: bytes, words: str) -> None:
    assert_refused(tmp_path, content, words)


def test_more_classes_or_images_than_a_service_takes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = archive(images=np.zeros((4004, 2, 2), np.uint8), labels=np.arange(4004) // 4)
    assert_refused(tmp_path, many, "has 1,001 classes; at most 1,000 are allowed")
    monkeypatch.setattr("service.npz_upload.MAX_IMAGES", 59)
    assert_refused(tmp_path, archive(), "holds 60 images; at most 59 are allowed")


def test_gray_images_beside_images_in_colour_count_as_large_as_they_become(tmp_path: Path) -> None:
    colours = np.repeat(IMAGES[..., None], 3, axis=-1)
    both = archive(x_train=IMAGES, y_train=LABELS, x_test=colours[:6], y_test=LABELS[:6])
    as_given = IMAGES.nbytes + colours[:6].nbytes + 66 * 8 + 4 * 128  # with four headers
    as_stored = 66 * 3 * 64
    assert as_given < as_stored
    assert_refused(tmp_path, both, f"holds images of {as_stored:,} bytes", max_bytes=as_given)
    assert stored(tmp_path, both, max_bytes=as_stored).image_shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a", "b"), r"one for each of the 3 classes, in the order of their labels \(0, 1, 2\), got 2"),
        (("a", "b", "b"), "must differ"),
        (("a", "b", ""), "printable, got ''"),
        (("a", "b", "c\x1b[2J"), "printable"),
        (("a", "b", "c" * 101), "up to 100 characters"),
    ],
)
def test_names_of_classes_that_are_refused(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    assert_refused(tmp_path, archive(), words, class_names=names)


def test_labels_that_are_no_names_are_refused(tmp_path: Path) -> None:
    texts = np.array(["rose", "tulip", "\x07"])[LABELS]
    assert_refused(tmp_path, archive(images=IMAGES, labels=texts), "printable")
