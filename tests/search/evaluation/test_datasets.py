from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.errors import DatasetInvalidError, DatasetMissingError
from search.evaluation import datasets
from search.evaluation.datasets import TaskData
from search.images.image_set import ImageSet
from search.images.places import ImagePlaces
from search.images.splits import split_sizes
from search.space.task import METRICS, Task, Train, find_task, task_of
from tests.support.fakes import formula
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


def parts_of(data: TaskData) -> dict[str, ImageSet]:
    assert data.confirmation is not None
    return {"train": data.train, "validation": data.validation, "test": data.test, "confirmation": data.confirmation}


@pytest.mark.parametrize("train", ["none", "finetune"])
@pytest.mark.parametrize(
    "counts",
    [
        {"train": 60, "validation": 30, "test": 30},
        {"train": 60, "validation": 60},
        {"train": 120, "test": 30},
        {"train": 180},
        {"all": 180},
    ],
)
def test_for_a_network_that_comes_trained_no_image_has_two_roles(
    counts: dict[str, int], train: Train, tmp_path: Path
) -> None:
    task, places = stored(tmp_path, **counts)
    task = task.with_training(train)
    parts = parts_of(datasets.load(task, places))
    sizes = split_sizes(counts, trained=True)
    for name, part in parts.items():
        assert len(part.labels) == pytest.approx(getattr(sizes, name), abs=3)
        assert np.ptp(np.bincount(part.labels)) <= 1  # stratified
    seen = [bytes_of(part) for part in parts.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == sum(counts.values())
    given = places.library.open(task.dataset)
    clean = "validation" in counts
    assert task.is_clean == clean
    # Given validation images choose and confirm, and none of them trains; without them training images do.
    chosen_by = bytes_of(parts["validation"]) | bytes_of(parts["confirmation"])
    assert chosen_by <= bytes_of(given["validation" if clean else "all" if "all" in given else "train"])
    if clean:
        assert bytes_of(parts["train"]) == bytes_of(given["train"])
    again = parts_of(datasets.load(task, places))
    assert all(again[name].labels.tolist() == part.labels.tolist() for name, part in parts.items())


def test_built_in_images_are_split_so_too(tmp_path: Path) -> None:
    task = find_task("digits").with_training("none")
    parts = parts_of(datasets.load(task, ImagePlaces.at(tmp_path)))
    sizes = split_sizes(task.dataset.counts, trained=True)
    assert [len(parts[name].labels) for name in ("validation", "confirmation")] == pytest.approx([337, 337], abs=5)
    assert len(parts["train"].labels) == pytest.approx(sizes.train, abs=5)
    seen = [bytes_of(part) for part in parts.values()]
    whole = datasets.load(find_task("digits"), ImagePlaces.at(tmp_path))
    assert seen[2] == bytes_of(whole.test)
    assert set.union(*seen) == bytes_of(whole.train) | bytes_of(whole.validation) | bytes_of(whole.test)
    assert sum(len(one & other) for one, other in combinations(seen, 2)) == 0


def test_results_on_images_in_other_roles_are_never_taken_for_each_other(tmp_path: Path) -> None:
    task, places = stored(tmp_path, train=60, test=30)
    prints = {
        datasets.load(one, places).fingerprint
        for one in (task, task.with_training("none"), find_task("digits"), find_task("digits").with_training("none"))
    }
    assert len(prints) == 4


def test_images_that_are_stored_class_by_class_calibrate_in_another_order(tmp_path: Path) -> None:
    pixels, labels = patterns(300)
    order = np.argsort(labels, kind="stable")
    places = ImagePlaces.at(tmp_path, tmp_path / "images")
    source = in_memory({"train": (pixels[order], labels[order]), "test": patterns(30, seed=1)})
    task = task_of(places.library.store(source))
    for train in ("scratch", "none"):
        images = datasets.load(task.with_training(train), places).train
        assert np.bincount(images.labels[:30], minlength=3).min() >= 4


def test_images_are_said_to_be_imbalanced_if_a_class_has_three_times_as_many(tmp_path: Path) -> None:
    task, _ = stored(tmp_path, train=60, test=30)
    images = ImageSet(np.zeros((100, 1, 8, 8), np.uint8), np.repeat([0, 1, 2], [30, 60, 10]))
    assert datasets.imbalance(task, images) == (
        "the training images are imbalanced: 60 of '1', 10 of '2'; accuracy hardly depends on rare classes, with "
        "`metric` balanced-accuracy all count the same"
    )
    balanced = replace(task, metric="balanced-accuracy")
    assert datasets.imbalance(balanced, images) == "the training images are imbalanced: 60 of '1', 10 of '2'"
    for counts, expected in (([21, 60, 19], True), ([20, 60, 20], True), ([21, 59, 20], False), ([33, 34, 33], False)):
        found = datasets.imbalance(task, replace(images, labels=np.repeat([0, 1, 2], counts)))
        assert (found is not None) == expected, counts
    assert "60 of '0', 0 of '2'" in str(datasets.imbalance(task, ImageSet(images.pixels, np.repeat([0, 1], [60, 40]))))


def test_a_baseline_that_is_no_better_than_one_answer_for_all_images_is_said_to_be_weak() -> None:
    task = find_task("digits")
    often = ImageSet(np.zeros((1000, 1, 8, 8), np.uint8), np.repeat([3, *range(10)], [100, *[90] * 10]))  # 19 % are 3

    def measured(accuracy: float, **change: Any) -> str | None:
        found = replace(formula(task.space.baseline()), chip_accuracies=(accuracy,) * 2, images=1000)
        return datasets.weakness(replace(task, **change), often, found)

    said = "the baseline's accuracy, 19.00%, is not clearly better than the 19.00% of always answering '3'"
    assert str(measured(0.19)).startswith(said)
    assert "`learning_rate`" in str(measured(0.21))  # two standard errors are 2.5 points
    assert measured(0.22) is None
    assert measured(0.13, metric="balanced-accuracy") is None
    assert "the 10.00% of always" in str(measured(0.11, metric="balanced-accuracy"))
    assert "`mean` and `std`" in str(measured(0.19, train="none"))


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
        fold = datasets.fold(data, run, "accuracy")
        assert fold.train.pixels is data.train.pixels is fold.validation.pixels
        assert bytes_of(fold.train) | bytes_of(fold.validation) == bytes_of(data.train) | bytes_of(data.validation)
        assert fold.fingerprint != data.fingerprint
        held_out.append(bytes_of(fold.validation))
    assert sum(map(len, held_out)) == len(set.union(*held_out)) == 60


def rare(folder: Path, **counts: tuple[int, int]) -> tuple[Task, ImagePlaces]:
    """Store this many images of each of two classes in each split; the metric is balanced accuracy."""
    places = ImagePlaces.at(folder, folder / "images")
    splits = {
        split: (patterns(sum(count), seed=number)[0], np.repeat([0, 1], count))
        for number, (split, count) in enumerate(counts.items())
    }
    return replace(task_of(places.library.store(in_memory(splits))), metric="balanced-accuracy"), places


def test_folds_of_balanced_accuracy_hold_every_class(tmp_path: Path) -> None:
    task, places = rare(tmp_path, all=(200, 4))
    data = datasets.load(task, places)
    of_rare = int((data.train.labels == 1).sum() + (data.validation.labels == 1).sum())
    assert of_rare == 3  # the other tests
    folds = [datasets.fold(data, run, "balanced-accuracy") for run in range(2 * of_rare)]
    for one in folds:
        assert (one.validation.labels == 1).sum() == 1
        assert (one.train.labels == 1).sum() == of_rare - 1
    for round_ in (folds[:of_rare], folds[of_rare:]):  # each image is held out once
        assert sum(len(one.validation.labels) for one in round_) == len(data.train.labels) + len(data.validation.labels)
    by_accuracy = [datasets.fold(data, run, "accuracy") for run in range(2 * of_rare)]
    assert min((one.validation.labels == 1).sum() for one in by_accuracy) == 0
    assert not {one.fingerprint for one in folds} & {one.fingerprint for one in by_accuracy}


def test_folds_do_not_depend_on_the_metric_where_all_classes_are_in_each(tmp_path: Path) -> None:
    task, places = stored(tmp_path, train=60, test=30)
    data = datasets.load(task, places)
    for run in range(5):
        one, other = (datasets.fold(data, run, metric) for metric in METRICS)
        assert one.fingerprint == other.fingerprint
        assert bytes_of(one.validation) == bytes_of(other.validation)


@pytest.mark.parametrize(
    ("counts", "train", "found"),
    [
        (
            {"train": (40, 10), "validation": (20, 1), "test": (20, 2)},
            "none",
            "for choosing, and there are none of '1'. Of its images there are 10 for training, 0 for choosing, "
            "2 for testing, 1 for confirming.",
        ),
        (
            {"train": (40, 10), "validation": (20, 1)},
            "scratch",
            "for testing, and there are none of '1'. Of its images there are 10 for training, 1 for choosing, "
            "0 for testing.",
        ),
        ({"all": (40, 4)}, "finetune", "for choosing, and there are none of '1'."),
    ],
)
def test_balanced_accuracy_is_refused_where_a_part_lacks_a_class(
    counts: dict[str, tuple[int, int]], train: Train, found: str, tmp_path: Path
) -> None:
    task, places = rare(tmp_path, **counts)
    task = task.with_training(train)
    assert datasets.load(replace(task, metric="accuracy"), places).validation.labels.any() == (train == "scratch")
    with pytest.raises(DatasetInvalidError) as caught:
        datasets.load(task, places)
    assert found in str(caught.value)
    assert "Give more images of it, or other splits, or choose `metric` accuracy" in str(caught.value)


def test_images_are_sent_to_other_processes_without_their_pixels(tmp_path: Path) -> None:
    task, places = stored(tmp_path, train=60, test=30)
    data = datasets.load(task, places)
    sent = data.closed()
    assert all(part.pixels.nbytes == 0 for part in (sent.train, sent.validation, sent.test))
    separate = datasets.load(task.with_training("none"), places)
    assert all(part.pixels.nbytes == 0 for part in parts_of(separate.closed()).values())
    reopened = parts_of(separate.closed().opened())["confirmation"]
    assert np.array_equal(reopened.images(), parts_of(separate)["confirmation"].images())
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
