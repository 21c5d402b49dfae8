import os
import shutil
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.errors import DatasetCorruptError, DatasetError, DatasetMissingError, UnknownNameError, UsageError
from search.images.library import ImageLibrary
from search.images.source import SourceSplit
from tests.support.images import in_memory, patterns

TRAIN, TEST = patterns(30), patterns(12, seed=1)
SOURCE = in_memory({"train": TRAIN, "test": TEST}, location="/photos", signature="first")


@pytest.fixture
def library(tmp_path: Path) -> ImageLibrary:
    return ImageLibrary(tmp_path / "images")


def pairs(pixels: np.ndarray, labels: np.ndarray) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(pixels, labels, strict=True)}


def test_images_come_back_as_they_went_in(library: ImageLibrary) -> None:
    dataset = library.store(SOURCE)
    assert (dataset.name, dataset.image_shape, dataset.classes) == ("patterns", (1, 8, 8), 3)
    assert dataset.counts == {"train": 30, "test": 12}
    found = library.open(dataset)
    assert list(found) == ["train", "test"]
    assert pairs(found["train"].images(), found["train"].labels) == pairs(*TRAIN)
    assert pairs(found["test"].images(), found["test"].labels) == pairs(*TEST)
    assert [one.dataset for one in library.all()] == [dataset]


def test_the_pixels_are_one_memory_map_that_nobody_can_write(library: ImageLibrary) -> None:
    found = library.open(library.store(SOURCE))
    assert isinstance(found["train"].pixels, np.memmap)
    assert found["train"].pixels is found["test"].pixels
    assert not found["train"].pixels.flags.writeable
    sent = found["train"].closed()
    assert sent.pixels.nbytes == 0  # another process of this machine maps the file itself
    assert np.array_equal(sent.opened().images(), found["train"].images())


def test_the_same_images_in_another_order_are_the_same_data_set(library: ImageLibrary) -> None:
    dataset = library.store(SOURCE)
    order = np.random.default_rng(0).permutation(30)
    again = library.store(in_memory({"train": (TRAIN[0][order], TRAIN[1][order]), "test": TEST}))
    assert again.identity == dataset.identity
    assert len(library.all()) == 1


def test_training_images_alone_are_all_there_is(library: ImageLibrary) -> None:
    assert library.store(in_memory({"train": TRAIN})) == library.store(in_memory({"all": TRAIN}))


def test_other_images_classes_or_splits_are_another_data_set(library: ImageLibrary) -> None:
    pixels, labels = TRAIN
    changed = pixels.copy()
    changed[7, 0, 3, 3] ^= 1
    moved = labels.copy()
    moved[:2] = moved[1], moved[0]
    wide = pixels.reshape(30, 1, 4, 16)
    others = [
        in_memory({"train": (changed, labels), "test": TEST}),
        in_memory({"train": (pixels, moved), "test": TEST}),
        in_memory({"train": TRAIN, "validation": TEST}),
        in_memory({"train": (pixels[:-1], labels[:-1]), "test": TEST}),
        in_memory({"train": (wide, labels), "test": (TEST[0].reshape(12, 1, 4, 16), TEST[1])}),
    ]
    identities = {library.store(one).identity for one in (SOURCE, *others)}
    assert len(identities) == 1 + len(others)


def test_names_of_classes_and_places_are_no_content(library: ImageLibrary) -> None:
    dataset = library.store(SOURCE)
    named = library.store(replace(SOURCE, class_names=("a", "b", "c"), location="/elsewhere"))
    assert named.identity == dataset.identity
    assert library.get("patterns").dataset.class_names == ("a", "b", "c")  # as it was stored last


def test_a_source_that_did_not_change_is_not_read_again(library: ImageLibrary) -> None:
    assert library.of_source(SOURCE) is None
    dataset = library.store(SOURCE)
    assert library.of_source(SOURCE) == dataset
    assert library.of_source(replace(SOURCE, signature="second")) is None
    assert library.of_source(replace(SOURCE, location="/elsewhere")) is None
    assert library.of_source(replace(SOURCE, signature=None)) is None


def test_a_name_means_what_was_added_by_it_and_else_what_was_stored_last(library: ImageLibrary) -> None:
    first = library.store(SOURCE)
    second = library.store(in_memory({"all": TRAIN}))
    assert library.get("patterns").dataset == second
    library.store(SOURCE, name="patterns", added=True)
    assert library.get("patterns").dataset == first
    library.store(SOURCE)  # by a search of the same images
    assert library.get("patterns").added
    assert library.get(second.identity).dataset == second


def test_an_unknown_name_is_refused_with_a_similar_one(library: ImageLibrary) -> None:
    with pytest.raises(UnknownNameError, match=r"no data set 'patterns' is stored in .*with: search datasets"):
        library.get("patterns")
    library.store(SOURCE)
    with pytest.raises(UnknownNameError, match=r"no data set 'pattern' .*did you mean 'patterns'"):
        library.get("pattern")


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "a@b", "ä", "x" * 61, "a b"])
def test_a_name_that_is_no_file_name_is_refused(library: ImageLibrary, name: str) -> None:
    with pytest.raises(UsageError, match=r"the `name` of a data set may have up to 60 letters"):
        library.store(SOURCE, name=name)
    assert library.all() == []


def test_a_removed_data_set_is_gone_and_says_how_it_comes_back(library: ImageLibrary) -> None:
    dataset = library.store(SOURCE)
    assert library.remove("patterns") == dataset
    assert library.all() == []
    with pytest.raises(
        DatasetMissingError, match=r"not in .*add them again with: search datasets add patterns /photos"
    ):
        library.open(dataset)
    assert library.store(SOURCE) == dataset


@pytest.mark.parametrize("file", ["pixels.npy", "labels.npy"])
def test_a_damaged_file_is_named(library: ImageLibrary, file: str) -> None:
    dataset = library.store(SOURCE)
    path = library.folder / dataset.identity / file
    os.truncate(path, 200)
    with pytest.raises(DatasetCorruptError, match=f"{dataset.identity}.*remove them and add them again"):
        library.open(dataset)


def test_a_folder_without_its_facts_is_stored_again(library: ImageLibrary) -> None:
    dataset = library.store(SOURCE)
    (library.folder / dataset.identity / "about.json").unlink()
    assert library.all() == []
    assert library.store(SOURCE) == dataset
    assert library.get("patterns").dataset == dataset


def test_an_image_that_cannot_be_read_leaves_nothing_behind(library: ImageLibrary) -> None:
    def read(number: int) -> np.ndarray:
        if number == 5:
            raise DatasetError("image 5 is corrupt")
        image: np.ndarray = TRAIN[0][number]
        return image

    broken = replace(SOURCE, splits={"train": SourceSplit(labels=TRAIN[1], read=read)})
    with pytest.raises(DatasetError, match="image 5 is corrupt"):
        library.store(broken)
    assert [*library.folder.iterdir()] == []


def test_images_that_do_not_fit_are_refused_with_the_figure(
    library: ImageLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 1000))
    with pytest.raises(DatasetError, match=r"42 images of 8x8 gray need 0.0 GB of disk .* has 0.0 GB free; make room"):
        library.store(SOURCE)


def test_progress_counts_every_image_once(library: ImageLibrary) -> None:
    seen: list[tuple[int, int]] = []
    library.store(SOURCE, on_image=lambda done, of: seen.append((done, of)))
    assert seen == [(number, 42) for number in range(1, 43)]


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, recent = tmp_path / ".storing-old", tmp_path / ".storing-recent"
    for left in (old, recent):
        (left / "data").mkdir(parents=True)
        (left / "data" / "pixels.npy").write_bytes(b"half")
    day_ago = time.time() - 25 * 3600
    os.utime(old, (day_ago, day_ago))
    ImageLibrary(tmp_path).store(SOURCE)
    assert not old.exists()
    assert recent.exists()


def test_images_that_are_not_stored_to_the_end_leave_nothing(tmp_path: Path) -> None:
    def stop(done: int, of: int) -> None:
        assert of == 42
        if done == 5:
            raise KeyboardInterrupt

    library = ImageLibrary(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        library.store(SOURCE, on_image=stop)
    assert list(tmp_path.iterdir()) == []
    assert library.all() == []
