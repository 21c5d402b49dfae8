"""The same images in every form, and what is no form at all."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from search.errors import UsageError
from search.images.source import Source, open_source, source_of
from tests.support.pictures import (
    as_png,
    channels_last,
    content_of,
    pictures,
    pixels_of,
    refused,
    write_folder,
    write_parquet,
)

PIXELS, LABELS = pictures(300, height=12, width=9)
PARTS = {"train": slice(0, 180), "validation": slice(180, 240), "test": slice(240, 300)}
Size = tuple[int, int] | None
EXPECTED = {
    split: sorted((image.tobytes(), int(label)) for image, label in zip(PIXELS[part], LABELS[part], strict=True))
    for split, part in PARTS.items()
}


@pytest.fixture(autouse=True)
def own_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forgets what a test imports from its folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def folder(tmp_path: Path, size: Size = None) -> Source:
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        write_folder(tmp_path / "made" / name, PIXELS[PARTS[split]], LABELS[PARTS[split]])
    return open_source(tmp_path / "made", folder=tmp_path, image_size=size)


def keras(tmp_path: Path, size: Size = None) -> Source:
    arrays: dict[str, Any] = {
        f"{axis}_{name}": values[PARTS[split]]
        for split, name in (("train", "train"), ("validation", "val"), ("test", "test"))
        for axis, values in (("x", channels_last(PIXELS).astype(np.float32) / 255), ("y", LABELS[:, None]))
    }
    np.savez_compressed(tmp_path / "made.npz", **arrays)
    return open_source(tmp_path / "made.npz", folder=tmp_path, image_size=size)


def medmnist(tmp_path: Path, size: Size = None) -> Source:
    arrays: dict[str, Any] = {
        f"{name}_{kind}": values[PARTS[split]]
        for split, name in (("train", "train"), ("validation", "val"), ("test", "test"))
        for kind, values in (("images", channels_last(PIXELS)), ("labels", LABELS[:, None].astype(np.uint8)))
    }
    np.savez(tmp_path / "made.npz", **arrays)
    return open_source(str(tmp_path / "made.npz"), folder=tmp_path, image_size=size)


def parquet(tmp_path: Path, size: Size = None) -> Source:
    for split, part in PARTS.items():
        contents, labels = [as_png(image) for image in PIXELS[part]], LABELS[part]
        half = len(labels) // 2
        for shard, rows in enumerate((slice(0, half), slice(half, None))):
            file = tmp_path / "made" / "data" / f"{split}-0000{shard}-of-00002.parquet"
            write_parquet(file, contents[rows], labels[rows], rows_of_group=50)
    return open_source(tmp_path / "made", folder=tmp_path, image_size=size)


def function(tmp_path: Path, size: Size = None) -> Source:
    np.save(tmp_path / "pixels.npy", PIXELS)
    np.save(tmp_path / "labels.npy", LABELS)
    (tmp_path / "made_images.py").write_text(
        "import numpy as np, torch\n"
        "from pathlib import Path\n"
        "from torch.utils.data import Subset, TensorDataset\n"
        "def load():\n"
        "    arrays = [np.load(Path(__file__).with_name(name)) for name in ('pixels.npy', 'labels.npy')]\n"
        "    x, y = map(torch.from_numpy, arrays)\n"
        "    both = TensorDataset(x / 255, y)\n"
        "    return Subset(both, range(180)), Subset(both, range(180, 240)), Subset(both, range(240, 300))\n"
    )
    return open_source("made_images:load", folder=tmp_path, image_size=size)


def arrays(tmp_path: Path, size: Size = None) -> Source:
    return source_of(
        tuple((channels_last(PIXELS)[part], LABELS[part].tolist()) for part in PARTS.values()), image_size=size
    )


def tensors(tmp_path: Path, size: Size = None) -> Source:
    x, y = torch.from_numpy(PIXELS), torch.from_numpy(LABELS)
    parts = {"train": (x[:180], y[:180]), "val": (x[180:240], y[180:240]), "test": (x[240:], y[240:])}
    return source_of(parts, image_size=size)


def datasets(tmp_path: Path, size: Size = None) -> Source:
    x, y = torch.from_numpy(PIXELS), torch.from_numpy(LABELS)
    return source_of(tuple(TensorDataset(x[part], y[part]) for part in PARTS.values()), image_size=size)


@pytest.mark.parametrize("form", [folder, keras, medmnist, parquet, function, arrays, tensors, datasets])
def test_the_same_images_are_the_same_in_every_form(form: Any, tmp_path: Path) -> None:
    source = form(tmp_path)
    assert list(source.splits) == ["train", "validation", "test"]
    assert source.image_shape == (3, 12, 9)
    assert source.class_names == ("0", "1", "2")
    assert content_of(source) == EXPECTED


@pytest.mark.parametrize("form", [folder, keras, parquet, function, datasets])
def test_resized_images_are_the_same_in_every_form(form: Any, tmp_path: Path) -> None:
    source = form(tmp_path, (16, 6))
    assert source.image_shape == (3, 16, 6)
    assert content_of(source) == content_of(arrays(tmp_path, (16, 6)))


def test_a_source_says_where_it_is_and_what_to_call_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = pictures()
    write_folder(tmp_path / "My birds (2026)", pixels, labels)
    np.savez(tmp_path / "arrays.npz", x=channels_last(pixels), y=labels)
    monkeypatch.chdir(tmp_path)
    opened = open_source("My birds (2026)/../My birds (2026)", folder=tmp_path)
    assert (opened.name, opened.location) == ("My-birds-2026", str(tmp_path / "My birds (2026)"))
    opened = open_source("arrays.npz", folder=tmp_path)
    assert (opened.name, opened.location) == ("arrays", str(tmp_path / "arrays.npz"))
    (tmp_path / "given.py").write_text(
        "import numpy\ndef load():\n    return numpy.zeros((8, 2, 2), 'uint8'), [0, 1] * 4\n"
    )
    opened = open_source("given:load", folder=tmp_path)
    assert (opened.name, opened.location, opened.signature) == ("given-load", "given:load", None)
    given = source_of((channels_last(pixels), labels))
    assert (given.name, given.location, given.signature) == ("images", None, None)
    assert source_of("arrays.npz").location == str(tmp_path / "arrays.npz")


def test_a_path_that_exists_is_not_taken_for_an_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "a:b", *pictures())
    monkeypatch.chdir(tmp_path)
    assert open_source("a:b", folder=tmp_path).location == str(tmp_path / "a:b")


def test_what_is_nowhere_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(f"nothing at {tmp_path}/mnits; `dataset` takes ", "`search datasets`"):
        open_source("mnits", folder=tmp_path)
    with refused("nothing at ", "; a function is named without .py: nets:load"):
        open_source("nets.py:load", folder=tmp_path)
    with refused("nothing at ", "; `data` takes"):
        source_of(tmp_path / "mnits")
    with refused("nothing at"):
        open_source("null\0character", folder=tmp_path)


@pytest.mark.parametrize("given", ["", 3, None, b"bytes"])
def test_what_is_no_text_is_refused(given: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`dataset` must be a folder of images"):
        open_source(given, folder=tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with refused("`dataset` ", "images.h5 is a file of another kind; give a folder"):
        open_source(tmp_path / "images.h5", folder=tmp_path)


def test_files_are_known_by_their_content(tmp_path: Path) -> None:
    pixels, labels = pictures()
    write_parquet(tmp_path / "images.parquet", [as_png(image) for image in pixels], labels).rename(tmp_path / "images")
    assert pixels_of(open_source(tmp_path / "images", folder=tmp_path)).tolist() == pixels.tolist()
    np.savez(tmp_path / "arrays.npz", x=pixels, y=labels)
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays")
    assert pixels_of(open_source(tmp_path / "arrays", folder=tmp_path)).tolist() == pixels.tolist()
    np.save(tmp_path / "array.npy", pixels)
    with refused("array.npy is a single array (.npy); save images and labels"):
        open_source(tmp_path / "array.npy", folder=tmp_path)


def test_parquet_files_beside_folders_of_images_are_refused(tmp_path: Path) -> None:
    pixels, labels = pictures()
    write_folder(tmp_path, pixels, labels)
    write_parquet(tmp_path / "train.parquet", [as_png(image) for image in pixels], labels)
    with refused("holds Parquet files (train.parquet) beside folders of images (0/"):
        open_source(tmp_path, folder=tmp_path)


def test_parquet_files_beside_pictures_and_text_are_read(tmp_path: Path) -> None:
    """As in what Hugging Face keeps."""
    pixels, labels = pictures()
    write_parquet(tmp_path / "data" / "train.parquet", [as_png(image) for image in pixels], labels)
    (tmp_path / "README.md").write_text("A data set")
    (tmp_path / "preview.png").write_bytes(as_png(pixels[0]))
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".hidden.parquet").write_text("")
    assert pixels_of(open_source(tmp_path, folder=tmp_path), "train").tolist() == pixels.tolist()


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "arrays.npz").write_bytes(b"PK")

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with refused("`dataset` ", "arrays.npz cannot be read: Permission denied"):
        open_source(tmp_path / "arrays.npz", folder=tmp_path)
    monkeypatch.setattr(Path, "stat", refuse)
    with refused("`dataset` ", "arrays.npz cannot be read: Permission denied"):
        open_source(tmp_path / "arrays.npz", folder=tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def load(root, train=True): ...", ["`dataset` given:load needs root; it must need no arguments"]),
        ("def load():\n    raise OSError('no disk\\nhere')", ["`dataset` given:load() failed: OSError: no disk here"]),
        ("def load():\n    raise SystemExit(3)", ["`dataset` given:load() failed: SystemExit: 3"]),
        ("def load():\n    return 'folder'", ["what `dataset` given:load returns must be (x, y), ", ", got str"]),
        ("def load():\n    return None", ["what `dataset` given:load returns must be (x, y), ", ", got NoneType"]),
        ("def laod(): ...", ["`dataset` given:load: ", "given.py has no 'load'; did you mean 'laod'"]),
        ("load = 3", ["`dataset` given:load: 'load' in ", " is of type int; name a function that returns images"]),
        ("1 / 0", ["`dataset` given:load: 'given' cannot be imported from ", ": ZeroDivisionError: division by zero"]),
    ],
)
def test_a_function_that_gives_no_images_is_refused(source: str, message: list[str], tmp_path: Path) -> None:
    (tmp_path / "given.py").write_text(source)
    with refused(*message):
        open_source("given:load", folder=tmp_path)


def test_a_module_that_is_nowhere_is_named(tmp_path: Path) -> None:
    with refused(f"`dataset` nowhere:load: there is no module 'nowhere' in {tmp_path}"):
        open_source("nowhere:load", folder=tmp_path)


def test_arguments_that_may_be_left_out_are(tmp_path: Path) -> None:
    (tmp_path / "given.py").write_text(
        "import numpy\n"
        "def load(*rest, width=2, **options):\n"
        "    return numpy.zeros((8, 2, width), 'uint8'), [0, 1] * 4\n"
        "class Made:\n"
        "    def __new__(cls):\n"
        "        return load(width=3)\n"
    )
    assert open_source("given:load", folder=tmp_path).image_shape == (1, 2, 2)
    assert open_source("given:Made", folder=tmp_path).image_shape == (1, 2, 3)


@pytest.mark.parametrize("size", [(0, 5), (5,), (5, 5, 5), 5, (5.0, 5), "16x16"])
def test_a_size_that_is_none_is_refused(size: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`image_size` must be a height and a width in pixels"):
        open_source(tmp_path, image_size=size, folder=tmp_path)
    with pytest.raises(UsageError, match="`image_size` must be a height and a width in pixels"):
        source_of(pictures(), image_size=size)


@pytest.mark.process
@pytest.mark.parametrize("statement", ["", "source_of((x, y))", "open_source('images.npz', folder=Path())"])
def test_arrays_are_read_without_torch(statement: str, tmp_path: Path) -> None:
    pixels, labels = pictures()
    np.savez(tmp_path / "images.npz", x=pixels, y=labels)
    code = (
        "import sys\nfrom pathlib import Path\nfrom search.images.source import open_source, source_of\n"
        "assert not {'numpy', 'PIL', 'pyarrow', 'torch'} & set(sys.modules)\n"
        "import numpy\nx, y = numpy.zeros((8, 2, 2), 'uint8'), [0, 1] * 4\n"
        f"{statement}\nassert not {{'pyarrow', 'torch'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
