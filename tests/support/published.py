"""Small data sets in the formats of published ones, and ways to pack their files."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat

from search.images.built_in import BUILT_IN
from search.images.releases import Release

Contents = Mapping[str, bytes]  # file name -> content, unpacked


def idx(values: NDArray[np.integer]) -> bytes:
    """A file in the format of MNIST."""
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()


def mnist_files(seed: int = 0) -> Contents:
    """200 + 50 random images, named like MNIST's and Fashion-MNIST's."""
    random = np.random.default_rng(seed)
    files = {}
    for part, count in (("train", 200), ("t10k", 50)):
        files[f"{part}-images-idx3-ubyte"] = idx(random.integers(0, 256, (count, 28, 28)))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(count) % 10)
    return files


def cifar_records(names: Iterable[str], classes: int = 10) -> dict[str, NDArray[np.uint8]]:
    """Batches of 40 random records like CIFAR-10's: a label, then the pixels."""
    random = np.random.default_rng(0)
    batches = {}
    for name in names:
        batches[name] = random.integers(0, 256, (40, 3073), dtype=np.uint8)
        batches[name][:, 0] = random.integers(0, classes, 40)
    return batches


CIFAR10_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def cifar10_record_files() -> Contents:
    """CIFAR-10's binary version, with fewer images."""
    return {f"{name}.bin": batch.tobytes() for name, batch in cifar_records(CIFAR10_BATCHES).items()}


def pickled(values: Mapping[str, object]) -> bytes:
    """A pickle as the Python 2 of CIFAR's authors wrote it."""
    return pickle.dumps(values, protocol=2).replace(b"numpy._core", b"numpy.core")


def cifar10_pickle_files() -> Contents:
    """CIFAR-10's Python version, with the images of `cifar10_record_files`."""
    return {
        name: pickled({"data": batch[:, 1:].copy(), "labels": batch[:, 0].tolist()})
        for name, batch in cifar_records(CIFAR10_BATCHES).items()
    }


def cifar100_files() -> Contents:
    """CIFAR-100's Python version, with fewer images."""
    return {
        name: pickled(
            {"data": batch[:, 1:].copy(), "fine_labels": batch[:, 0].tolist(), "coarse_labels": [0] * len(batch)}
        )
        for name, batch in cifar_records(("train", "test"), classes=100).items()
    }


def svhn_files() -> Contents:
    """SVHN's two MATLAB files, with 30 and 20 random images."""
    random = np.random.default_rng(0)
    files = {}
    for name, count in (("train_32x32.mat", 30), ("test_32x32.mat", 20)):
        content = io.BytesIO()
        labels = np.resize(np.arange(1, 11, dtype=np.uint8), (count, 1))
        pixels = random.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        savemat(content, {"X": pixels, "y": labels}, do_compression=True)
        files[name] = content.getvalue()
    return files


def hashed(contents: Contents, algorithm: str = "sha256") -> dict[str, str]:
    """The hashes of files, as a release keeps them."""
    return {
        name: f"{algorithm}:{hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()}"
        for name, content in contents.items()
    }


def declare(monkeypatch: pytest.MonkeyPatch, name: str, contents: Contents) -> None:
    """Take files for the published ones of a built-in data set."""

    def declared(release: Release) -> Release:
        hashes = hashed(contents)
        return replace(release, hashes={name: hashes.get(name, wanted) for name, wanted in release.hashes.items()})

    facts = BUILT_IN[name]
    monkeypatch.setitem(BUILT_IN, name, replace(facts, releases=tuple(map(declared, facts.releases))))


def unpack(folder: Path, contents: Contents) -> None:
    """Write files as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def gzip_each(folder: Path, contents: Contents, level: int = 9, mtime: int = 0) -> None:
    """Write each file gzipped."""
    unpack(folder, {f"{name}.gz": gzip.compress(content, level, mtime=mtime) for name, content in contents.items()})


def tar(path: Path, contents: Contents, prefix: str = "") -> None:
    """Write a tar archive of files in their order; a gzipped one if the path says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{prefix}{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def tree(folder: Path) -> dict[Path, bytes]:
    """What is in a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
