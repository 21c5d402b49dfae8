import gzip
import hashlib
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search.errors import DatasetCorruptError, DatasetMissingError, UnknownNameError
from search.evaluation import datasets
from search.space.task import find_task


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads fail at once, as they do without a network."""
    from urllib.error import URLError

    def refuse(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    torchvision = datasets.import_torchvision()
    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", refuse)
    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", refuse)


def test_digits_are_split_in_proportion_and_the_same_for_everyone(tmp_path: Path) -> None:
    data = datasets.load(find_task("digits"), tmp_path)
    sizes = [len(images.labels) for images in (data.train, data.validation, data.test)]
    assert sum(sizes) == 1797
    assert sizes[1] > 300
    assert sizes[2] > 400
    rows = [images.pixels.reshape(len(images.labels), -1) for images in (data.train, data.validation, data.test)]
    assert all(row.max() == 16 for row in rows)
    seen = [{row.tobytes() for row in part} for part in rows]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    for images in (data.validation, data.test):
        share = np.bincount(images.labels) / len(images.labels)
        assert np.abs(share - 0.1).max() < 0.01
    assert datasets.load(find_task("digits"), tmp_path).fingerprint == data.fingerprint


def test_real_mnist(real_data: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in (real_data / "MNIST" / "raw").iterdir())
    data = datasets.load(find_task("mnist"), real_data)
    assert data.train.pixels.shape == (54000, 1, 28, 28)
    assert data.validation.pixels.shape == (6000, 1, 28, 28)
    assert data.test.pixels.shape == (10000, 1, 28, 28)
    # Figures of the published data set: mean pixel of the 60,000 training images, and the first test labels.
    both = np.concatenate([data.train.pixels, data.validation.pixels])
    assert both.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert sorted(path.name for path in (real_data / "MNIST" / "raw").iterdir()) == before
    assert datasets.load(find_task("mnist"), real_data).fingerprint == data.fingerprint


def test_a_damaged_archive_is_named(real_data: Path, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for archive in (real_data / "MNIST" / "raw").glob("*.gz"):
        shutil.copyfile(archive, raw / archive.name)
    damaged = raw / "t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"\0" * 9)
    with pytest.raises(DatasetCorruptError, match=r"t10k-labels-idx1-ubyte\.gz is damaged: its MD5 is"):
        datasets.load(find_task("mnist"), tmp_path)


def idx(path: Path, values: np.ndarray) -> None:
    """A gzipped file in the format of MNIST."""
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    with gzip.open(path, "wb") as file:
        file.write(header + values.astype(np.uint8).tobytes())


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like MNIST's with 200 + 50 random images, whose hashes are declared to be right."""
    random = np.random.default_rng(0)
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 200), ("t10k", 50)):
        idx(raw / f"{part}-images-idx3-ubyte.gz", random.integers(0, 256, (count, 28, 28)))
        idx(raw / f"{part}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    mnist = datasets.import_torchvision().datasets.MNIST
    hashes = [
        (name, hashlib.md5((raw / name).read_bytes(), usedforsecurity=False).hexdigest()) for name, _ in mnist.resources
    ]
    monkeypatch.setattr(mnist, "resources", hashes)
    return tmp_path / "data"


def test_archives_are_unpacked_elsewhere_once(small_mnist: Path, tmp_path: Path) -> None:
    data = datasets.load(find_task("mnist"), small_mnist)
    assert data.train.pixels.shape == (180, 1, 28, 28)
    assert len(list((small_mnist / "MNIST" / "raw").iterdir())) == 4
    unpacked = tmp_path / "xdg-cache" / "crosslayer" / "datasets" / "MNIST" / "raw"
    times = {path: path.stat().st_mtime_ns for path in unpacked.iterdir()}
    assert len(times) == 4
    assert datasets.load(find_task("mnist"), small_mnist).fingerprint == data.fingerprint
    assert {path: path.stat().st_mtime_ns for path in unpacked.iterdir()} == times


def test_two_processes_may_unpack_the_same_archives(small_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, others = shutil.copyfileobj, ["at work as well"]

    def copy_after_another_did(*arguments: object) -> None:
        if others:
            others.pop()
            datasets.load(find_task("mnist"), small_mnist)
        copy(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(shutil, "copyfileobj", copy_after_another_did)
    data = datasets.load(find_task("mnist"), small_mnist)
    assert not others
    assert datasets.load(find_task("mnist"), small_mnist).fingerprint == data.fingerprint


def test_a_damaged_unpacked_file_is_named(small_mnist: Path) -> None:
    archive = small_mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    content = gzip.decompress(archive.read_bytes())
    archive.with_suffix("").write_bytes(content[:-1] + b"\7")
    with pytest.raises(DatasetCorruptError, match=r"train-labels-idx1-ubyte is damaged.*Delete it"):
        datasets.load(find_task("mnist"), small_mnist)


def test_unpacked_files_alone_cannot_be_checked(small_mnist: Path) -> None:
    for archive in list((small_mnist / "MNIST" / "raw").glob("*.gz")):
        archive.with_suffix("").write_bytes(gzip.decompress(archive.read_bytes()))
        archive.unlink()
    with pytest.raises(DatasetMissingError, match="not all of the archives by which they are checked"):
        datasets.load(find_task("mnist"), small_mnist)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("fashion-mnist", "train-images-idx3-ubyte.gz"),
        ("cifar10", "cifar-10-python.tar.gz"),
    ],
)
def test_no_data_and_no_network(name: str, file: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError) as caught:
        datasets.load(find_task(name), tmp_path)
    message = str(caught.value)
    assert f"dataset {name!r} is not on this machine and could not be downloaded" in message
    assert file in message
    assert str(tmp_path) in message
    assert "--data-dir or $CROSSLAYER_DATA_DIR" in message
    assert "\n" not in message


@pytest.fixture
def small_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10's binary version with 40 records a file, whose hashes are declared to be right."""
    random = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    hashes = {}
    for name in datasets._CIFAR10_BINARY_SHA1:
        records = random.integers(0, 256, (40, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(40) % 10
        (folder / name).write_bytes(records.tobytes())
        hashes[name] = hashlib.sha1(records.tobytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(datasets, "_CIFAR10_BINARY_SHA1", hashes)
    return tmp_path


def test_cifar10_binary(small_cifar10: Path) -> None:
    data = datasets.load(find_task("cifar10"), small_cifar10)
    assert data.train.pixels.shape == (180, 3, 32, 32)
    assert data.test.pixels.shape == (40, 3, 32, 32)
    records = np.fromfile(small_cifar10 / "cifar-10-batches-bin" / "test_batch.bin", np.uint8).reshape(40, 3073)
    # A record is a label, then all red, all green and all blue pixels, each in rows.
    assert data.test.labels[3] == records[3, 0]
    assert data.test.pixels[3, 1, 2, 5] == records[3, 1 + 1024 + 2 * 32 + 5]


def test_damaged_or_incomplete_cifar10_is_named(small_cifar10: Path) -> None:
    path = small_cifar10 / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(DatasetCorruptError, match=r"data_batch_3\.bin is damaged: its SHA1 is"):
        datasets.load(find_task("cifar10"), small_cifar10)
    path.unlink()
    with pytest.raises(DatasetMissingError, match=r"lacks data_batch_3\.bin; get cifar-10-binary"):
        datasets.load(find_task("cifar10"), small_cifar10)


@pytest.mark.slow
def test_real_cifar10(real_cifar10: Path) -> None:
    data = datasets.load(find_task("cifar10"), real_cifar10)
    assert data.train.pixels.shape == (45000, 3, 32, 32)
    assert data.validation.pixels.shape == (5000, 3, 32, 32)
    assert data.test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    # Published means of the training images, by colour.
    both = np.concatenate([data.train.pixels, data.validation.pixels]).mean(axis=(0, 2, 3)) / 255
    assert both.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-3)


def test_unknown_datasets_offer_near_names() -> None:
    with pytest.raises(UnknownNameError, match="unknown dataset 'MINST'; did you mean 'mnist'"):
        find_task("MINST")


def test_torchvision_imports_in_a_fresh_process() -> None:
    code = (
        "from search.evaluation.datasets import import_torchvision as load\n"
        "module = load()\n"
        "assert load() is module\n"
        "import torchvision\n"
        "assert torchvision.datasets.CIFAR10 and torchvision.models.resnet18\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
