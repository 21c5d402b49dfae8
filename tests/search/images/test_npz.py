"""Archives of arrays: whole ones, damaged ones, and ones made to do harm."""

import io
import os
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from search.errors import DatasetInvalidError, UsageError
from search.images.content import Source
from search.images.npz import read_npz
from tests.support.pictures import channels_last, content_of, pictures, pixels_of, refused

PIXELS, LABELS = pictures(24)


def write(file: Any, *, compressed: bool = False, **arrays: Any) -> Any:
    given: dict[str, Any] = arrays
    (np.savez_compressed if compressed else np.savez)(file, **given)
    return file


def stream(**arrays: Any) -> io.BytesIO:
    found: io.BytesIO = write(io.BytesIO(), **arrays)
    found.seek(0)
    return found


def read(file: Path | BinaryIO, **options: Any) -> Source:
    return read_npz(file, name="made", **options)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, ">u2", np.int64, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_however_they_are_stored(compressed: bool, kind: Any, order: Any, tmp_path: Path) -> None:
    pixels = channels_last(PIXELS).astype(kind)
    pixels = np.asarray(pixels / 255 if pixels.dtype.kind == "f" else pixels, order=order)
    file = write(tmp_path / "made.npz", compressed=compressed, before=0, images=pixels, labels=LABELS)
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name != "before.npy"]
        contents = {name: archive.read(name) for name in names}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name in names:
            archive.writestr(name, contents[name])
    for source in (read(file), read(io.BytesIO(file.read_bytes()))):
        assert np.array_equal(pixels_of(source), PIXELS)
        assert [int(label) for label in source.splits["all"].labels] == LABELS.tolist()


@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
        ("x_train", "y_train", "x_valid", "y_valid"),
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("train_images", "train_labels"),
        ("images", "labels"),
        ("x", "y"),
        ("X", "y"),
    ],
)
def test_the_names_of_arrays_name_the_splits(keys: tuple[str, ...]) -> None:
    words = {"train": "train", "val": "validation", "valid": "validation", "test": "test"}
    splits = [next((words[part] for part in key.split("_") if part in words), "all") for key in keys[::2]]
    pixels = {split: pictures(24, seed=number)[0] for number, split in enumerate(splits)}
    arrays = {key: pixels[splits[place // 2]] if place % 2 == 0 else LABELS for place, key in enumerate(keys)}
    source = read(stream(**arrays))
    assert list(source.splits) == splits
    for split in splits:
        assert np.array_equal(pixels_of(source, split), pixels[split])


def test_labels_may_be_in_a_column_text_or_one_hot() -> None:
    expected = content_of(read(stream(x=PIXELS, y=LABELS)))
    for labels in (LABELS[:, None], np.array(["a", "b", "c"])[LABELS], np.eye(3)[LABELS], LABELS.astype(np.float32)):
        assert content_of(read(stream(x=PIXELS, y=labels))) == expected
    assert read(stream(x=PIXELS, y=np.array(["a", "b", "c"])[LABELS])).class_names == ("a", "b", "c")


def test_a_file_has_a_place_and_a_signature_and_a_stream_has_none(tmp_path: Path) -> None:
    file = write(tmp_path / "made.npz", x=PIXELS, y=LABELS)
    source = read_npz(file, name="any name!")
    assert (source.name, source.location) == ("any-name", str(file))
    before = source.signature
    os.utime(file, ns=(1, 1))
    assert read(file).signature != before
    source = read(stream(x=PIXELS, y=LABELS))
    assert (source.location, source.signature) == (None, None)


def test_a_stream_is_not_needed_afterwards() -> None:
    file = stream(x=PIXELS, y=LABELS)
    source = read(file)
    assert not file.closed
    file.close()
    assert np.array_equal(pixels_of(source), PIXELS)


def test_no_file_stays_open_or_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = os.listdir("/proc/self/fd")
    source = read(write(tmp_path / "made.npz", compressed=True, x=PIXELS, y=LABELS))
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 2  # those of the two maps
    assert os.listdir(tmp_path) == ["made.npz"]
    assert np.array_equal(pixels_of(source), PIXELS)


def test_arrays_are_mapped_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not compressed is not even copied."""
    written: list[int] = []
    temporary = tempfile.TemporaryFile

    def noting(*arguments: Any, **options: Any) -> Any:
        file = temporary(*arguments, **options)
        write = file.write
        file = _Noting(file, lambda chunk: written.append(write(chunk)))
        return file

    class _Noting:
        def __init__(self, file: Any, write: Any) -> None:
            self._file, self.write = file, write

        def __enter__(self) -> Any:
            self._file.__enter__()
            return self

        def __exit__(self, *arguments: Any) -> None:
            self._file.__exit__(*arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    monkeypatch.setattr(tempfile, "TemporaryFile", noting)
    read(write(tmp_path / "stored.npz", x=PIXELS, y=LABELS))
    assert written == []
    read(write(tmp_path / "compressed.npz", compressed=True, x=PIXELS, y=LABELS))
    assert sum(written) == PIXELS.nbytes + LABELS.nbytes


def test_the_size_is_bounded_before_anything_is_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    size = PIXELS.nbytes + LABELS.nbytes + 2 * 128  # NumPy's headers fill 128 bytes each
    file = write(io.BytesIO(), compressed=True, x=PIXELS, y=LABELS)
    assert read(file, max_bytes=size)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("nothing may be decompressed")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with refused(f"`dataset` holds {size:,} bytes once it is decompressed; at most {size - 1:,} are allowed"):
        read(file, max_bytes=size - 1)


def test_a_bomb_is_refused_by_its_headers() -> None:
    shape = (1_000_000, 1000, 1000)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(5_000_000))
        archive.writestr("y.npy", header.getvalue())
    with refused("x.npy is damaged: an array of shape (1000000, 1000, 1000) and type uint8 takes 1,000,000,000,000 "):
        read(file, max_bytes=10_000_000)


def test_sizes_in_the_directory_that_lie_are_noticed() -> None:
    """The directory says what fits the limit and the array's header; more, or less, is compressed."""
    for there in (PIXELS.nbytes - 1, PIXELS.nbytes + 1, PIXELS.nbytes + 5_000_000):
        file = io.BytesIO()
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": PIXELS.shape})
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", header.getvalue() + bytes(there))
            said, really = (len(header.getvalue()) + size for size in (PIXELS.nbytes, there))
            labels = io.BytesIO()
            np.save(labels, LABELS)
            archive.writestr("y.npy", labels.getvalue())
        content = file.getvalue()
        lying = content.replace(struct.pack("<I", really), struct.pack("<I", said))
        assert lying != content
        with refused("`dataset`: x.npy is damaged"):
            read(io.BytesIO(lying), max_bytes=PIXELS.nbytes + 1000)


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_pixels_are_noticed(compressed: bool, tmp_path: Path) -> None:
    file = write(tmp_path / "made.npz", compressed=compressed, x=PIXELS, y=LABELS)
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 255
    file.write_bytes(content)
    with refused(f"`dataset` {file}: x.npy is damaged"):
        read(file)


def test_an_archive_that_ends_too_early_is_damaged(tmp_path: Path) -> None:
    file = write(tmp_path / "made.npz", x=PIXELS, y=LABELS)
    file.write_bytes(file.read_bytes()[:-100])
    with refused(f"`dataset` {file} is a damaged archive, as when a copy was interrupted"):
        read(file)


def raw(**members: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_npy", ".npy").replace("_png", ".png"), content)
    return file


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text) + 1)
    return b"\x93NUMPY" + version + length + text.encode() + b"\n"


def described(kind: str, shape: str) -> bytes:
    return header(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"text", ["x.npy is damaged, or no array"]),
        (b"", ["x.npy is damaged, or no array"]),
        (
            header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 2, 2)}"),
            ["x.npy is damaged: it has shape (-1"],
        ),
        (
            header("{'descr': '<U0', 'fortran_order': False, 'shape': (99999999999,)}"),
            ["x.npy is damaged: it has shape"],
        ),
        (
            header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
            ["x.npy is an array of Python objects, which "],
        ),
        (described("[('a', '|O')]", "(1,)"), ["is an array of Python objects"]),
        (header("{'descr': '|u1'}"), ["x.npy is damaged, or no array"]),
        (header("__import__('os').abort()"), ["x.npy is damaged, or no array"]),
        (header("(" * 9000), ["x.npy is damaged, or no array"]),
        (header("{" + " " * 20_000 + "}", b"\x02\x00"), ["x.npy is damaged, or no array"]),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 20_000, ["x.npy is damaged, or no array"]),
        (b"\x93NUMPY\x09\x00" + b" " * 200, ["x.npy is damaged, or no array"]),
    ],
)
def test_headers_that_are_damaged_or_harmful_are_refused(content: bytes, words: list[str]) -> None:
    labels = io.BytesIO()
    np.save(labels, LABELS)
    with refused(*words):
        read(raw(x_npy=content, y_npy=labels.getvalue()))


class Harmful:
    ran = False

    def __reduce__(self) -> Any:
        return exec, ("from tests.search.images import test_npz; test_npz.Harmful.ran = True",)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    objects = np.array([Harmful()] * 24, dtype=object)
    for arrays in ({"x": PIXELS, "y": objects}, {"x": objects, "y": LABELS}):
        file = io.BytesIO()
        given: dict[str, Any] = arrays
        np.savez(file, allow_pickle=True, **given)
        with refused("npy is an array of Python objects, which is not opened because it may run any code; save"):
            read(file)
    (tmp_path / "made.npz").write_bytes(pickle.dumps({"x": Harmful()}))
    with refused("made.npz is a pickle, which is not opened because it may run any code; save images"):
        read(tmp_path / "made.npz")
    assert not Harmful.ran


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty"]),
        (
            b"text",
            ["is no .npz archive; save images and labels together, with numpy.savez(FILE, "],
        ),
        (b"\x93NUMPY\x01\x00", ["is a single array (.npy); save images and labels together"]),
        (b"\x80\x04\x95", ["is a pickle, which is not opened"]),
        (b"PK\x03\x04 and no more", ["is a damaged archive"]),
    ],
)
def test_files_that_are_no_archives_are_refused(content: bytes, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "made.npz").write_bytes(content)
    with refused(f"`dataset` {tmp_path}/made.npz ", *words):
        read(tmp_path / "made.npz")
    with refused("`dataset` ", *words):
        read(io.BytesIO(content))


def test_archives_of_other_files_are_refused() -> None:
    with refused("`dataset` is a .zip archive, but not one of NumPy's arrays: it holds a.png; if these are"):
        read(raw(a_png=b"", x_npy=b""))
    with refused("it holds nothing"):
        read(raw())


def test_methods_that_numpy_does_not_use_are_refused() -> None:
    """A few bytes of these may inflate to gigabytes in one step."""
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr("x.npy", b"1")
            archive.writestr("y.npy", b"1")
        with refused("x.npy is encrypted, or compressed by a method that NumPy does not use; save"):
            read(file)


@pytest.mark.parametrize(
    "keys",
    [
        ["arr_0", "arr_1"],
        ["x_train", "y_train", "x_test"],
        ["x_train", "y_train", "extra"],
        ["x_train", "y_train", "images", "labels"],
        ["x_train", "y_train", "x_val", "y_val", "x_valid", "y_valid"],
        ["x"],
    ],
)
def test_arrays_of_other_names_are_refused_with_those_that_are_known(keys: list[str]) -> None:
    with refused(
        f"`dataset` holds arrays called {', '.join(keys)}; expected are x_train, ", ", or train_images, ", ", or images"
    ):
        read(stream(**dict.fromkeys(keys, LABELS)))


def test_many_names_are_not_all_listed() -> None:
    with refused("a11, ...; expected are"):
        read(stream(**{f"a{number}": LABELS for number in range(50)}))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS, "y_test": LABELS[1:]},
            ["images of test have shape"],
        ),
        ({"x": PIXELS[:, 0] - 300.0, "y": LABELS}, ["has pixels from -300 to "]),
        ({"x": PIXELS, "y": np.ones((24, 3))}, ["labels have shape (24, 3), several for each image"]),
        ({"x_test": PIXELS, "y_test": LABELS}, ["has images for test, but none to train on"]),
        ({"x": PIXELS[:0], "y": LABELS[:0]}, ["labels are none"]),
        ({"x": LABELS[0], "y": LABELS}, ["images have shape (), without pixels"]),
    ],
)
def test_arrays_that_are_no_images_with_labels_are_refused(arrays: dict[str, Any], words: list[str]) -> None:
    with refused("`dataset`", *words):
        read(stream(**arrays))


def test_splits_of_several_sizes_need_one() -> None:
    file = stream(x_train=PIXELS, y_train=LABELS, x_test=pictures(24, height=9)[0], y_test=LABELS)
    with refused("`dataset` has images of 2 sizes (height x width) between 5x7 and 9x7"):
        read(file)
    assert read(file, image_size=(4, 4)).image_shape == (3, 4, 4)


def test_a_full_disk_is_said_to_be_full(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, chunk: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with refused(f"`dataset`: x.npy cannot be decompressed into {tempfile.gettempdir()}: No space left on device"):
        read(stream(x=PIXELS, y=LABELS))


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    with refused(f"`dataset` {tmp_path}/nowhere.npz cannot be read: No such file or directory"):
        read(tmp_path / "nowhere.npz")


def test_messages_name_the_parameter_that_was_given() -> None:
    with pytest.raises(DatasetInvalidError, match=r"^`upload` is empty"):
        read(io.BytesIO(), parameter="upload")
    with pytest.raises(UsageError, match=r"^`image_size` must be"):
        read(io.BytesIO(), image_size=(0, 0))
