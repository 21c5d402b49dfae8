"""NumPy's .npz archives of images and labels.

The arrays are named as by Keras (x_train, y_train, x_test, y_test), as by MedMNIST (train_images, train_labels,
val_images, ...), or images and labels (x and y) where the images are not split.

Nothing is unpickled, and no array is held in memory: one that is not compressed is mapped from the file, another from a
temporary file to which it is decompressed. How large they are is known before, from the first bytes of each.
"""

from __future__ import annotations

import io
import math
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from search.errors import DatasetInvalidError
from search.images.array_images import array_images
from search.images.assembly import assemble
from search.images.content import (
    SPLIT_WORDS,
    WHOLE,
    Source,
    check_image_size,
    listed,
    signature_of,
    split_named,
    suggested_name,
)
from search.images.labels import classes_of
from search.images.pixel_values import PixelValues

_KEYS = {  # images, labels -> split
    **{("images", "labels"): WHOLE, ("x", "y"): WHOLE, ("X", "y"): WHOLE},
    **{(f"x_{word}", f"y_{word}"): split_named(word) or "" for word in SPLIT_WORDS},
    **{(f"{word}_images", f"{word}_labels"): split_named(word) or "" for word in SPLIT_WORDS},
}
_EXPECTED = (
    "x_train, y_train, x_test, y_test (and x_val, y_val), or train_images, train_labels, val_images, val_labels, "
    "test_images, test_labels, or images, labels"
)
_HEADER_BYTES = 16_384  # NumPy reads headers of up to 10,000
_CHUNK_BYTES = 1 << 20
_MOST_KEYS = 12  # named in a message
_LOCAL_HEADER = struct.Struct("<26xHH")  # before each member: ..., bytes of its name, bytes of extra fields
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # NumPy's. Others may inflate a few bytes to gigabytes at once.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """An array in an archive, of which only the header was read.

    Attributes:
        info: What the archive's directory says of it.
        shape: Shape of the array.
        dtype: Type of its elements.
        fortran: Whether the first index changes fastest.
        header_bytes: Where the elements begin in the member.
        data_bytes: Bytes of all elements.
    """

    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    header_bytes: int
    data_bytes: int


def read_npz(
    file: Path | BinaryIO,
    *,
    name: str,
    max_bytes: int | None = None,
    image_size: tuple[int, int] | None = None,
    parameter: str = "dataset",
) -> Source:
    """Return an .npz archive as a source.

    Args:
        file: An absolute path; or a binary file that can seek, which is not needed after this call.
        name: A suggestion for the data set's name.
        max_bytes: The most that all arrays may take once they are decompressed; None for no limit.
        image_size: Height and width that images are resized to.
        parameter: The parameter that messages name.

    Raises:
        DatasetInvalidError: If it is no such archive, is damaged, is too large, or holds no images with labels.
    """
    check_image_size(image_size)
    path = file if isinstance(file, Path) else None
    subject = f"`{parameter}` {path}" if path else f"`{parameter}`"
    try:
        archive = zipfile.ZipFile(file)
    except OSError as error:
        raise DatasetInvalidError(f"{subject} cannot be read: {error.strerror}") from None
    except Exception:  # BadZipFile, and others if its directory is damaged
        raise DatasetInvalidError(f"{subject} {_what_it_is(file)}") from None
    with archive:
        keys = _keys(archive, subject)
        members = {split: tuple(_member(archive, key, subject) for key in pair) for split, pair in keys.items()}
        _check_size([member for pair in members.values() for member in pair], max_bytes, subject)
        arrays = {
            split: tuple(_array(archive, member, path, subject) for member in members[split]) for split in members
        }
    labels, class_names = classes_of({split: labels for split, (_, labels) in arrays.items()}, subject=subject)
    values = PixelValues(subject)
    images = {
        split: array_images(pixels, given, values, channels_first=False, subject=subject, split=split)
        for split, (pixels, given) in arrays.items()
    }
    values.check()
    return assemble(
        subject=subject,
        name=suggested_name(name),
        images=images,
        labels=labels,
        class_names=class_names,
        image_size=image_size,
        location=str(path) if path else None,
        signature=signature_of([str(path)], path.parent) if path else None,
    )


def _what_it_is(file: Path | BinaryIO) -> str:
    """Return what a file is that is no archive; completes "the file ..."."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            start = opened.read(8)
    else:
        file.seek(0)
        start = file.read(8)
    together = "; save images and labels together, with numpy.savez(FILE, images=..., labels=...)"
    if not start:
        return "is empty"
    if start.startswith(b"\x93NUMPY"):
        return f"is a single array (.npy){together}"
    if start.startswith(b"\x80"):
        return f"is a pickle, which is not opened because it may run any code{together}"
    if start.startswith(b"PK"):
        return "is a damaged archive, as when a copy was interrupted"
    return f"is no .npz archive{together}"


def _keys(archive: zipfile.ZipFile, subject: str) -> dict[str, tuple[str, str]]:
    """Return split -> keys of its images and its labels."""
    files = archive.namelist()
    foreign = [name for name in files if not name.endswith(".npy")]
    if foreign or not files:
        raise DatasetInvalidError(
            f"{subject} is a .zip archive, but not one of NumPy's arrays: it holds {listed(foreign) or 'nothing'}; if "
            "these are images, unpack it and give the folder"
        )
    keys = [name.removesuffix(".npy") for name in files]
    found = {split: pair for pair, split in _KEYS.items() if set(pair) <= set(keys)}
    unknown = set(keys).difference(*found.values())
    if unknown or (WHOLE in found and len(found) > 1):
        raise DatasetInvalidError(
            f"{subject} holds arrays called {', '.join([*keys[:_MOST_KEYS], '...'][: len(keys)])}; expected are "
            f"{_EXPECTED}, and no others"
        )
    return found


def _member(archive: zipfile.ZipFile, key: str, subject: str) -> _Member:
    """Read the header of an array."""
    info = archive.getinfo(f"{key}.npy")
    if info.flag_bits & 1 or info.compress_type not in _METHODS:
        raise DatasetInvalidError(
            f"{subject}: {info.filename} is encrypted, or compressed by a method that NumPy does not use; save it with "
            "numpy.savez_compressed"
        )
    with _damage_reported(info.filename, subject):
        with archive.open(info) as stream:
            start = io.BytesIO(stream.read(_HEADER_BYTES))
        version = npy.read_magic(start)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that were written by Python 2
            shape, fortran, dtype = read_header(start)
    if dtype.hasobject:
        raise DatasetInvalidError(
            f"{subject}: {info.filename} is an array of Python objects, which is not opened because it may run any "
            "code; save numbers or text"
        )
    elements = math.prod(shape)
    member = _Member(
        info=info,
        shape=shape,
        dtype=dtype,
        fortran=fortran,
        header_bytes=start.tell(),
        data_bytes=elements * dtype.itemsize,
    )
    if min(shape, default=0) < 0 or (elements and not dtype.itemsize):
        raise DatasetInvalidError(f"{subject}: {info.filename} is damaged: it has shape {shape} and type {dtype}")
    if member.header_bytes + member.data_bytes != info.file_size:
        raise DatasetInvalidError(
            f"{subject}: {info.filename} is damaged: an array of shape {shape} and type {dtype} takes "
            f"{member.data_bytes:,} bytes, not {info.file_size - member.header_bytes:,}"
        )
    return member


def _check_size(members: list[_Member], max_bytes: int | None, subject: str) -> None:
    total = sum(member.info.file_size for member in members)
    if max_bytes is not None and total > max_bytes:
        raise DatasetInvalidError(
            f"{subject} holds {total:,} bytes once it is decompressed; at most {max_bytes:,} are allowed"
        )


def _array(archive: zipfile.ZipFile, member: _Member, path: Path | None, subject: str) -> NDArray[Any]:
    """Return an array that is mapped from a file, after reading all of it once, which checks its size and checksum."""
    in_place = path is not None and member.info.compress_type == zipfile.ZIP_STORED
    with tempfile.TemporaryFile() as copy:
        copied = 0
        with _damage_reported(member.info.filename, subject), archive.open(member.info) as stream:
            stream.read(member.header_bytes)
            while chunk := stream.read(_CHUNK_BYTES):
                copied += len(chunk)
                if not in_place:
                    copy.write(chunk)
            copy.flush()
        if copied != member.data_bytes:
            raise DatasetInvalidError(f"{subject}: {member.info.filename} is damaged: it ends too early")
        if copied == 0:
            return np.empty(member.shape, member.dtype)
        mapped = np.memmap(
            path if path is not None and in_place else copy,
            dtype=member.dtype,
            mode="r",
            offset=_data_offset(path, member) if path is not None and in_place else 0,
            shape=member.shape,
            order="F" if member.fortran else "C",
        )
    return mapped.view(np.ndarray)


def _data_offset(path: Path, member: _Member) -> int:
    """Return where the elements of an array that is not compressed begin in the archive."""
    with path.open("rb") as file:
        file.seek(member.info.header_offset)
        name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    offset: int = member.info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes + member.header_bytes
    return offset


@contextmanager
def _damage_reported(filename: str, subject: str) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except OSError as error:
        raise DatasetInvalidError(
            f"{subject}: {filename} cannot be decompressed into {tempfile.gettempdir()}: {error.strerror}"
        ) from None
    except Exception:  # of a damaged file, zipfile and NumPy raise almost anything
        raise DatasetInvalidError(f"{subject}: {filename} is damaged, or no array") from None
