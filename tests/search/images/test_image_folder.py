import os
from pathlib import Path

import numpy as np
import pytest

from search.errors import DatasetInvalidError
from search.images import image_folder
from search.images.content import Source
from search.images.image_folder import read_image_folder, some_image_in_folders
from tests.support.pictures import Pixels, as_pillow, as_png, content_of, pictures, pixels_of, refused, write_folder

PIXELS, LABELS = pictures(24)
NAMES = np.array(["ant", "bee", "cow"])[LABELS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images to train on and twelve to test on."""
    write_folder(tmp_path / "animals" / "train", PIXELS[:12], NAMES[:12])
    return write_folder(tmp_path / "animals" / "test", PIXELS[12:], NAMES[12:]).parent


def expected(pixels: Pixels, labels: list[int]) -> list[tuple[bytes, int]]:
    return sorted((image.tobytes(), label) for image, label in zip(pixels, labels, strict=True))


def test_images_belong_to_the_classes_of_their_folders(folder: Path) -> None:
    source = read_image_folder(folder)
    assert source.class_names == ("ant", "bee", "cow")
    assert source.image_shape == (3, 5, 7)
    assert (source.name, source.location) == ("animals", str(folder))
    assert content_of(source) == {
        "train": expected(PIXELS[:12], LABELS[:12].tolist()),
        "test": expected(PIXELS[12:], LABELS[12:].tolist()),
    }


def test_one_folder_of_classes_is_one_part(folder: Path) -> None:
    assert content_of(read_image_folder(folder / "train")) == {"all": expected(PIXELS[:12], LABELS[:12].tolist())}


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "val", "test"), ["train", "validation", "test"]),
        (("Training", "Testing"), ["train", "test"]),
        (("train", "validation"), ["train", "validation"]),
        (("TRAIN", "valid"), ["train", "validation"]),
        (("train",), ["train"]),
    ],
)
def test_folders_of_splits_have_several_names(names: tuple[str, ...], splits: list[str], tmp_path: Path) -> None:
    for name in names:
        write_folder(tmp_path / name, PIXELS, NAMES)
    assert list(read_image_folder(tmp_path).splits) == splits


def test_what_is_hidden_or_no_image_is_skipped(folder: Path) -> None:
    before = read_image_folder(folder)
    (folder / "README.md").write_text("Animals")
    (folder / ".git").mkdir()
    (folder / "__MACOSX").mkdir()
    (folder / "train" / ".DS_Store").write_bytes(b"")
    (folder / "train" / "labels.csv").write_text("")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "ant" / "._0000.png").write_bytes(b"")
    (folder / "train" / "ant" / "Thumbs.db").write_bytes(b"")
    after = read_image_folder(folder)
    assert content_of(after) == content_of(before)
    assert after.signature == before.signature


def test_folders_in_a_class_belong_to_it(folder: Path) -> None:
    before = content_of(read_image_folder(folder))
    inner = folder / "train" / "ant" / "2024" / "may"
    inner.mkdir(parents=True)
    (folder / "train" / "ant" / "0000.png").rename(inner / "0000.png")
    assert content_of(read_image_folder(folder)) == before


def test_links_are_followed_and_may_lead_back(folder: Path, tmp_path: Path) -> None:
    before = content_of(read_image_folder(folder))
    (folder / "train" / "ant").rename(tmp_path / "elsewhere")
    (folder / "train" / "ant").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    assert content_of(read_image_folder(folder)) == before


def test_suffixes_may_be_of_any_case_and_need_not_fit(folder: Path) -> None:
    before = content_of(read_image_folder(folder))
    file = folder / "train" / "ant" / "0000.png"
    file.rename(file.with_suffix(".JPG"))
    assert content_of(read_image_folder(folder)) == before


def test_the_signature_follows_the_images(folder: Path) -> None:
    before = read_image_folder(folder).signature
    assert read_image_folder(folder).signature == before
    file = folder / "test" / "ant" / "0000.png"
    os.utime(file, ns=(1, 1))
    touched = read_image_folder(folder).signature
    assert touched != before
    file.rename(file.with_name("renamed.png"))
    assert read_image_folder(folder).signature not in (before, touched)


def test_nothing_is_decoded_before_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []

    def noting(file: Path) -> Pixels:
        decoded.append(file)
        image: Pixels = PIXELS[0]
        return image

    monkeypatch.setattr(image_folder, "decoded", noting)
    source = read_image_folder(folder)
    assert decoded == []
    source.splits["test"].read(3)
    assert [path.parent.parent.name for path in decoded] == ["test"]


def test_gray_and_coloured_images_may_be_mixed(folder: Path) -> None:
    gray = pictures(1, channels=1)[0][0]
    (folder / "train" / "ant" / "0000.png").write_bytes(as_png(gray))
    source = read_image_folder(folder)
    assert source.image_shape == (3, 5, 7)
    assert (np.repeat(gray, 3, axis=0).tobytes(), 0) in content_of(source)["train"]


def test_images_of_several_sizes_need_one(folder: Path) -> None:
    as_pillow(pictures(1, height=50, width=30)[0][0]).save(folder / "test" / "bee" / "other.png")
    with refused(
        "`dataset` ",
        "has images of 2 sizes (height x width) between 5x7 and 50x30, most often 5x7 (24 of 25 images); "
        "give `image_size`",
    ):
        read_image_folder(folder)
    source = read_image_folder(folder, image_size=(6, 8))
    assert pixels_of(source, "test").shape == (13, 3, 6, 8)


def test_names_need_not_be_ascii_or_utf_8(tmp_path: Path) -> None:
    write_folder(tmp_path, PIXELS, np.array(["vögel", "鳥", "caf\udce9"])[LABELS])
    source = read_image_folder(tmp_path)
    assert set(source.class_names) == {"vögel", "caf\\udce9", "鳥"}
    assert sorted(label for _, label in content_of(source)["all"]) == [0] * 8 + [1] * 8 + [2] * 8


def damage(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def test_all_damaged_files_are_named_before_anything_is_stored(folder: Path) -> None:
    damage(folder / "train" / "ant" / "0000.png")
    (folder / "test" / "cow" / "0002.png").write_text("no image")
    link = folder / "test" / "bee" / "0001.png"
    link.unlink()
    link.symlink_to("nowhere")
    with refused(
        "`dataset` ",
        "has 3 of 24 images that cannot be used: train/ant/0000.png is damaged, or no image, test/bee/0001.png cannot "
        "be read (No such file or directory), test/cow/0002.png is damaged, or no image; mend or remove them",
    ):
        read_image_folder(folder)


def test_files_that_are_no_images_are_named_with_those_that_end_too_early(folder: Path) -> None:
    (folder / "test" / "cow" / "0002.png").write_text("no image")
    early = folder / "train" / "ant" / "0000.png"
    early.write_bytes(early.read_bytes()[: early.read_bytes().index(b"IDAT") + 20])
    with refused("2 of 24 images that cannot be used: train/ant/0000.png is damaged", "test/cow/0002.png is damaged"):
        read_image_folder(folder)


def test_files_that_end_too_early_are_all_named_when_the_first_is_read(folder: Path) -> None:
    for name in ("train/ant/0000.png", "test/cow/0002.png"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: content.index(b"IDAT") + 20])
    source = read_image_folder(folder)
    with refused(
        "has 2 of 24 images that cannot be used: train/ant/0000.png is damaged, or no image, test/cow/0002.png is "
        "damaged, or no image; mend"
    ):
        for i in range(12):
            source.splits["train"].read(i)


def make(folder: Path, *files: str) -> Path:
    """Write files; those named after images are images."""
    for number, name in enumerate(files):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(as_png(PIXELS[number % 24]) if name.endswith(".png") else b"")
    return folder


CAT_AND_DOG = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(4)]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], ["holds no folders of classes in ", ", but nothing; put the images of each class (.bmp, "]),
        (["1.png", "2.png"], ["holds no folders of classes in ", ", but 2 images (1.png, 2.png); put"]),
        (["mnist.npz"], ["holds no folders of classes in ", ", but 1 other file (mnist.npz); put"]),
        (["cat/a.npy", "dog/b.npy"], [", but 2 folders without images (cat, dog); put"]),
        ([*CAT_AND_DOG, "1.png"], ["holds 1 image in ", ", outside of the folders of classes: 1.png; move each"]),
        (
            [*CAT_AND_DOG, "elk/x.txt"],
            ["has a class without images in ", ": elk, with other files there (x.txt);"],
        ),
        ([*CAT_AND_DOG, "elk/.x.png", "yak/.y"], ["has classes without images in ", ": elk, yak; images are .bmp, "]),
        (["cat/1.png", "cat/2.png"], ["has one class alone in ", ", 'cat'; at least two are needed"]),
        (
            ["all/cat/1.png", "all/dog/2.png"],
            ["has one class alone in ", ", 'all'; at least two are needed; if ", "/all holds the classes, give that"],
        ),
        ([*CAT_AND_DOG, "elk/1.png"], ["has too few images of one class: 'elk' has 1; to be split into", "at least 4"]),
        (
            ["train/cat/1.png", "train/dog/1.png", "train/dog/2.png", "test/cat/1.png", "test/dog/1.png"],
            ["has too few images of one class: 'cat' has 1; each class needs at least 2 to train on"],
        ),
        (
            [*(f"train/{name}" for name in CAT_AND_DOG), "test/cat/1.png", "test/elk/1.png"],
            ["has no images of the class 'elk' in train; every class must be in every part"],
        ),
        (
            [*(f"train/{name}" for name in CAT_AND_DOG), "test/cat/1.png", "test/dog/x.txt"],
            ["has a class without images in ", "/test: dog"],
        ),
        (
            [*(f"train/{name}" for name in [*CAT_AND_DOG, "elk/1.png"]), *(f"val/{name}" for name in CAT_AND_DOG)],
            ["has no images of the class 'elk' in validation"],
        ),
        (
            [*(f"train/{name}" for name in CAT_AND_DOG), "test/1.png"],
            ["no folders of classes in ", "/test, but 1 image"],
        ),
        ([*(f"train/{name}" for name in CAT_AND_DOG), "1.png"], ["holds 1 image in ", ", outside of the folders"]),
        (
            ["train/a/1.png", "val/a/1.png", "valid/a/1.png"],
            ["holds several folders for one split: train, val, valid; keep one"],
        ),
        (["train/a/1.png", "extra/a/1.png"], ["holds folders of splits (train) beside others (extra); give"]),
        (["test/a/1.png", "val/a/1.png"], ["has images for validation and test, but none to train on"]),
    ],
)
def test_folders_of_another_layout_are_refused(files: list[str], words: list[str], tmp_path: Path) -> None:
    with refused(f"`dataset` {tmp_path} ", *words):
        read_image_folder(make(tmp_path, *files))


def test_a_folder_that_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("bee"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with refused(f"`dataset` {folder} cannot be read: Permission denied: {folder}/train/bee"):
        read_image_folder(folder)


def test_messages_name_the_parameter_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalidError, match=r"^`data` "):
        read_image_folder(tmp_path, parameter="data")


def test_some_image_in_folders_is_one_that_is_not_beside_them(tmp_path: Path) -> None:
    make(tmp_path, "preview.png", "docs/page.txt")
    assert some_image_in_folders(tmp_path, "`dataset`") is None
    make(tmp_path, "docs/pictures/1.png")
    assert some_image_in_folders(tmp_path, "`dataset`") == "docs/pictures/1.png"


def test_a_source_is_what_is_returned(folder: Path) -> None:
    assert isinstance(read_image_folder(folder), Source)
