import gzip
import hashlib
import pickle
import re
import shutil
import struct
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from approx.custom_modules import import_custom_module
from search.errors import DatasetCorruptError, DatasetMissingError, UnknownNameError
from search.evaluation import datasets
from search.space.task import Task, find_task


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes downloads fail at once, as without a network."""

    def refuse(*arguments: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(import_custom_module("torchvision.datasets.utils"), "download_url", refuse)


def test_digits_are_split_in_proportion_and_always_alike(tmp_path: Path) -> None:
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


@pytest.mark.slow
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


def declare(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    """Accept the hashes of a data set's files in a folder."""

    def declared(layout: datasets._Layout) -> datasets._Layout:
        files = {name: folder / layout.folder / name for name in layout.hashes}
        hashes = {
            name: hashlib.new(layout.algorithm, path.read_bytes(), usedforsecurity=False).hexdigest()
            for name, path in files.items()
            if path.exists()
        }
        return replace(layout, hashes={**layout.hashes, **hashes})

    monkeypatch.setitem(datasets._LAYOUTS, name, tuple(map(declared, datasets._LAYOUTS[name])))


@pytest.fixture(params=["mnist", "fashion-mnist"])
def small(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Task, Path]:
    """A task with 200 + 50 random images, and the folder with its archives."""
    random = np.random.default_rng(0)
    raw = tmp_path / "data" / {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[request.param] / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 200), ("t10k", 50)):
        idx(raw / f"{part}-images-idx3-ubyte.gz", random.integers(0, 256, (count, 28, 28)))
        idx(raw / f"{part}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    declare(monkeypatch, request.param, tmp_path / "data")
    return find_task(request.param), raw


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_archives_are_read_where_they_are(small: tuple[Task, Path], tmp_path: Path) -> None:
    task, raw = small
    before = tree(tmp_path)
    data = datasets.load(task, tmp_path / "data")
    assert tree(tmp_path) == before  # nothing is unpacked, neither here nor into the cache
    assert data.train.pixels.shape == (180, 1, 28, 28)
    assert data.test.pixels.shape == (50, 1, 28, 28)
    assert data.test.labels.tolist() == [*range(10)] * 5
    content = gzip.decompress((raw / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert data.test.pixels[3, 0, 2].tobytes() == content[16 + 3 * 784 + 2 * 28 :][:28]
    assert datasets.load(task, tmp_path / "data").fingerprint == data.fingerprint


def test_the_fingerprint_is_that_of_the_images_torchvision_reads(small: tuple[Task, Path], tmp_path: Path) -> None:
    """Stored evaluations are reused by it."""
    task, raw = small
    found = datasets.load(task, tmp_path / "data").fingerprint
    for archive in raw.glob("*.gz"):
        archive.with_suffix("").write_bytes(gzip.decompress(archive.read_bytes()))
    torchvision = import_custom_module("torchvision.datasets")
    train, test = (getattr(torchvision, raw.parent.name)(tmp_path / "data", train=train) for train in (True, False))
    development, last = (
        datasets.ImageSet(images.data[:, None].numpy(), images.targets.numpy().astype(np.int64))
        for images in (train, test)
    )
    digest = hashlib.sha256()
    for images in (*datasets._stratified_split(development, 0.1), last):
        digest.update(images.pixels.tobytes())
        digest.update(images.labels.tobytes())
    assert found == digest.hexdigest()


def test_unpacked_files_beside_archives_are_not_read(small: tuple[Task, Path], tmp_path: Path) -> None:
    task, raw = small
    found = datasets.load(task, tmp_path / "data").fingerprint
    for archive in raw.glob("*.gz"):
        archive.with_suffix("").write_bytes(b"left by a program that was killed while it unpacked")
    (raw.parent / "processed").mkdir()
    assert datasets.load(task, tmp_path / "data").fingerprint == found


@pytest.mark.usefixtures("no_network")
def test_unpacked_files_alone_cannot_be_checked(small: tuple[Task, Path], tmp_path: Path) -> None:
    task, raw = small
    for archive in list(raw.glob("*.gz")):
        archive.with_suffix("").write_bytes(gzip.decompress(archive.read_bytes()))
        archive.unlink()
    with pytest.raises(DatasetMissingError, match=f"{raw.parent.name}/raw lacks train-images-idx3-ubyte.gz, train-"):
        datasets.load(task, tmp_path / "data")


@pytest.fixture
def mirror(small: tuple[Task, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with a task's archives, and a data folder without them."""
    _, raw = small
    mirror = raw.rename(tmp_path / "mirror")
    shutil.rmtree(tmp_path / "data")

    def download(url: str, folder: str, name: str, md5: str) -> None:
        if url.startswith("https"):
            raise URLError("the first mirror is gone")
        shutil.copyfile(mirror / name, Path(folder) / name)

    monkeypatch.setattr(import_custom_module("torchvision.datasets.utils"), "download_url", download)
    return mirror


def test_missing_files_are_downloaded(small: tuple[Task, Path], mirror: Path, tmp_path: Path) -> None:
    task, raw = small
    found = datasets.load(task, tmp_path / "data").fingerprint
    names = sorted(path.name for path in mirror.iterdir())
    assert sorted(path.name for path in raw.iterdir()) == names
    kept = raw / names[0]
    time = kept.stat().st_mtime_ns
    (raw / names[1]).unlink()
    (raw / f"{names[1]}.partial-killed").mkdir()  # what a killed download leaves
    assert datasets.load(task, tmp_path / "data").fingerprint == found
    assert kept.stat().st_mtime_ns == time


def test_two_processes_may_download_the_same(
    small: tuple[Task, Path], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = small
    utils = import_custom_module("torchvision.datasets.utils")
    download, others = utils.download_url, ["at work as well"]

    def download_while_another_does(url: str, folder: str, name: str, md5: str) -> None:
        (Path(folder) / name).write_bytes(b"half of it")
        if others:
            others.pop()
            datasets.load(task, tmp_path / "data")
        download(url, folder, name, md5)

    monkeypatch.setattr(utils, "download_url", download_while_another_does)
    data = datasets.load(task, tmp_path / "data")
    assert not others
    assert datasets.load(task, tmp_path / "data").fingerprint == data.fingerprint


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
    folder = tmp_path / "no" / "data"
    with pytest.raises(DatasetMissingError) as caught:
        datasets.load(find_task(name), folder)
    message = str(caught.value)
    assert f"dataset {name!r} is not on this machine and could not be downloaded" in message
    assert file in message
    assert f"`data_dir` does not exist: {folder}" in message
    assert "`data_dir` or $CROSSLAYER_DATA_DIR" in message
    assert "\n" not in message
    assert not folder.parent.exists()


def test_a_folder_is_checked_without_a_download(small: tuple[Task, Path], tmp_path: Path) -> None:
    task, raw = small
    datasets.check_data_dir(task, tmp_path / "data")
    datasets.check_data_dir(find_task("digits"), tmp_path / "gone")  # needs no folder
    expected = rf"expected there: {raw.parent.name}/raw with train-images-idx3-ubyte\.gz, .*"
    with pytest.raises(DatasetMissingError) as caught:
        datasets.check_data_dir(task, tmp_path / "gone")
    assert re.fullmatch(rf"`data_dir` does not exist: {tmp_path}/gone; {expected}", str(caught.value))
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DatasetMissingError) as caught:
        datasets.check_data_dir(task, tmp_path / "data")
    assert re.fullmatch(
        rf"`data_dir` does not hold the dataset '{task.name}': {tmp_path}/data; "
        rf"{raw.parent.name}/raw lacks t10k-labels-idx1-ubyte\.gz; {expected}",
        str(caught.value),
    )


def records() -> dict[str, np.ndarray]:
    """Six batches of 40 random records like CIFAR-10's: a label, then the pixels."""
    random = np.random.default_rng(0)
    batches = {}
    for name in datasets._CIFAR10_PICKLES.hashes:
        batches[name] = random.integers(0, 256, (40, 3073), dtype=np.uint8)
        batches[name][:, 0] = np.arange(40) % 10
    return batches


def write_records(folder: Path) -> None:
    """Write the binary version."""
    (folder / "cifar-10-batches-bin").mkdir(parents=True)
    for name, batch in records().items():
        (folder / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(batch.tobytes())


def write_pickles(folder: Path) -> None:
    """Write the Python version, pickled as by the Python 2 of its authors."""
    (folder / "cifar-10-batches-py").mkdir(parents=True)
    for name, batch in records().items():
        content = pickle.dumps({"data": batch[:, 1:].copy(), "labels": batch[:, 0].tolist()}, protocol=2)
        (folder / "cifar-10-batches-py" / name).write_bytes(content.replace(b"numpy._core", b"numpy.core"))


def write_archive(folder: Path) -> None:
    """Write the archive of the Python version."""
    write_pickles(folder)
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    shutil.rmtree(folder / "cifar-10-batches-py")


@pytest.mark.parametrize("write", [write_records, write_pickles, write_archive])
def test_every_form_of_cifar10_is_the_same(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    declare(monkeypatch, "cifar10", tmp_path)
    before = tree(tmp_path)
    data = datasets.load(find_task("cifar10"), tmp_path)
    assert tree(tmp_path) == before
    assert data.train.pixels.shape == (180, 3, 32, 32)
    assert data.test.pixels.shape == (40, 3, 32, 32)
    batch = records()["test_batch"]
    # A record is a label, then all red, all green and all blue pixels, each in rows.
    assert data.test.labels[3] == batch[3, 0]
    assert data.test.pixels[3, 1, 2, 5] == batch[3, 1 + 1024 + 2 * 32 + 5]
    write_records(tmp_path / "records")
    declare(monkeypatch, "cifar10", tmp_path / "records")
    assert datasets.load(find_task("cifar10"), tmp_path / "records").fingerprint == data.fingerprint


def test_an_archive_of_cifar10_is_read_rather_than_its_unpacked_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tmp_path)
    declare(monkeypatch, "cifar10", tmp_path)
    found = datasets.load(find_task("cifar10"), tmp_path).fingerprint
    write_pickles(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"")
    assert datasets.load(find_task("cifar10"), tmp_path).fingerprint == found


def test_damaged_or_incomplete_cifar10_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_records(tmp_path)
    declare(monkeypatch, "cifar10", tmp_path)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(DatasetCorruptError, match=r"data_batch_3\.bin is damaged: its SHA1 is"):
        datasets.load(find_task("cifar10"), tmp_path)
    path.unlink()
    with pytest.raises(DatasetMissingError, match=r"cifar-10-batches-bin lacks data_batch_3\.bin; .*\. Add what is"):
        datasets.load(find_task("cifar10"), tmp_path)


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
