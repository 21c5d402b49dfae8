from pathlib import Path

import numpy as np
import pytest

from search.errors import DatasetMissingError
from search.evaluation import datasets
from search.evaluation.datasets import TaskData
from search.images.image_set import ImageSet
from search.images.places import ImagePlaces
from search.images.splits import split_sizes
from search.space.task import Task, find_task, task_of
from tests.support.images import in_memory, patterns


def test_digits_are_split_in_proportion_and_always_alike(tmp_path: Path) -> None:
    data = datasets.load(find_task("digits"), ImagePlaces.at(tmp_path))
    sizes = [len(images.labels) for images in (data.train, data.validation, data.test)]
    assert sum(sizes) == 1797
    assert sizes[1] > 300
    assert sizes[2] > 400
    rows = [images.images().reshape(len(images.labels), -1) for images in (data.train, data.validation, data.test)]
    assert all(row.max() == 16 for row in rows)
    seen = [{row.tobytes() for row in part} for part in rows]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    for images in (data.validation, data.test):
        share = np.bincount(images.labels) / len(images.labels)
        assert np.abs(share - 0.1).max() < 0.01
    assert datasets.load(find_task("digits"), ImagePlaces.at(tmp_path)).fingerprint == data.fingerprint


def stored(folder: Path, **counts: int) -> tuple[Task, ImagePlaces]:
    """Store images in some splits, all different."""
    places = ImagePlaces.at(folder, folder / "images")
    splits = {split: patterns(count, seed=number) for number, (split, count) in enumerate(counts.items())}
    return task_of(places.library.store(in_memory(splits))), places


def bytes_of(images: ImageSet) -> set[bytes]:
    return {image.tobytes() for image in images.images()}


@pytest.mark.parametrize(
    "counts",
    [
        {"train": 60, "validation": 30, "test": 30},
        {"train": 60, "test": 30},
        {"train": 60, "validation": 30},
        {"train": 90},
        {"all": 90},
    ],
)
def test_three_splits_are_made_of_those_that_there_are(counts: dict[str, int], tmp_path: Path) -> None:
    task, places = stored(tmp_path, **counts)
    data = datasets.load(task, places)
    parts = (data.train, data.validation, data.test)
    sizes = split_sizes(counts)
    for part, size in zip(parts, (sizes.train, sizes.validation, sizes.test), strict=True):
        assert len(part.labels) == pytest.approx(size, abs=3)
        assert len(part.images()) == len(part.labels)
        assert np.ptp(np.bincount(part.labels)) <= 1  # stratified
    seen = [bytes_of(part) for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen)) == sum(counts.values())
    again = datasets.load(task, places)
    assert [part.labels.tolist() for part in (again.train, again.validation, again.test)] == [
        part.labels.tolist() for part in parts
    ]
    given = places.library.open(task.dataset)
    if "test" in counts:
        assert seen[2] == bytes_of(given["test"])
    if "validation" in counts:
        assert seen[0] == bytes_of(given["train"])


def test_every_class_is_in_every_split_however_rare(tmp_path: Path) -> None:
    pixels, labels = patterns(300)
    labels = np.where(np.arange(300) < 4, 2, labels % 2)  # four images of the last class
    places = ImagePlaces.at(tmp_path, tmp_path / "images")
    data = datasets.load(task_of(places.library.store(in_memory({"all": (pixels, labels)}))), places)
    for part in (data.train, data.validation, data.test):
        assert np.bincount(part.labels, minlength=3).min() >= 1


def test_folds_share_the_pixels_of_a_stored_data_set(tmp_path: Path) -> None:
    task, places = stored(tmp_path, train=60, test=30)
    data = datasets.load(task, places)
    held_out: list[set[bytes]] = []
    for run in range(4):
        fold = datasets.fold(data, run)
        assert fold.train.pixels is data.train.pixels is fold.validation.pixels
        assert bytes_of(fold.train) | bytes_of(fold.validation) == bytes_of(data.train) | bytes_of(data.validation)
        assert fold.fingerprint != data.fingerprint
        held_out.append(bytes_of(fold.validation))
    assert sum(map(len, held_out)) == len(set.union(*held_out)) == 60


def test_images_are_sent_to_other_processes_without_their_pixels(tmp_path: Path) -> None:
    task, places = stored(tmp_path, train=60, test=30)
    data = datasets.load(task, places)
    sent = data.closed()
    assert all(part.pixels.nbytes == 0 for part in (sent.train, sent.validation, sent.test))
    opened: TaskData = sent.opened()
    assert np.array_equal(opened.validation.images(), data.validation.images())
    digits = datasets.load(find_task("digits"), places)
    assert np.array_equal(digits.closed().train.images(), digits.train.images())  # which are in no file


def test_images_that_are_gone_are_missed_before_anything_is_read(tmp_path: Path) -> None:
    task, places = stored(tmp_path, train=60, test=30)
    datasets.check_present(task, places)
    places.library.remove(task.name)
    with pytest.raises(DatasetMissingError, match="search datasets add patterns SOURCE"):
        datasets.check_present(task, places)
