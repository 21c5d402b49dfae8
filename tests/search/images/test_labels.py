from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.images.labels import classes_of
from tests.support.pictures import refused

REPEATED = 4  # of each class, as many as are needed to split one part


def classes(labels: Any, names: list[str] | None = None) -> tuple[list[int], tuple[str, ...]]:
    """The classes of labels that are one part, each repeated so that there are enough of it."""
    found, texts = classes_of({"all": np.repeat(np.array(labels), REPEATED, axis=0)}, subject="`data`", names=names)
    assert found["all"].dtype == np.int64
    return found["all"][::REPEATED].tolist(), texts


@given(st.lists(st.integers(-(2**53), 2**53), min_size=2).filter(lambda labels: len(set(labels)) > 1))
def test_classes_are_the_distinct_labels_in_order(labels: list[int]) -> None:
    found, texts = classes(labels)
    ordered = sorted(set(labels))
    assert found == [ordered.index(label) for label in labels]
    assert texts == tuple(map(str, ordered))


@pytest.mark.parametrize(
    ("labels", "found", "texts"),
    [
        ([0, 2, 1], [0, 2, 1], ("0", "1", "2")),
        ([10, 2, 10, -1], [2, 1, 2, 0], ("-1", "2", "10")),
        ([True, False], [1, 0], ("0", "1")),
        ([2.0, 7.0], [0, 1], ("2", "7")),
        (["dog", "cat", "10"], [2, 1, 0], ("10", "cat", "dog")),
        ([b"dog", "köter".encode()], [0, 1], ("dog", "köter")),
        ([[3], [5]], [0, 1], ("3", "5")),
        ([["b"], ["a"]], [1, 0], ("a", "b")),
        ([[0, 0, 1], [1, 0, 0]], [1, 0], ("0", "2")),
        ([[0.0, 1.0], [1.0, 0.0]], [1, 0], ("0", "1")),
        ([[True, False], [False, True]], [0, 1], ("0", "1")),
        (np.array(["b", "a"], dtype=object), [1, 0], ("a", "b")),
        (np.array([3, 200], dtype=np.uint8), [0, 1], ("3", "200")),
        (np.array([3, 200], dtype=">u8"), [0, 1], ("3", "200")),
    ],
)
def test_labels_may_be_numbers_text_or_one_hot(labels: Any, found: list[int], texts: tuple[str, ...]) -> None:
    assert classes(labels) == (found, texts)


def test_known_names_are_those_of_the_labels_that_occur() -> None:
    assert classes([3, 0], names=["ant", "bee", "cow", "dog"]) == ([1, 0], ("ant", "dog"))


def test_names_are_text_that_can_be_stored() -> None:
    _, texts = classes([0, 1], names=["caf\udce9", "tea"])  # a folder's name in Latin-1
    assert texts == ("caf\\udce9", "tea")
    "".join(texts).encode()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0.5, 1], ["`data`: labels look like measurements, not classes: they must be whole numbers, got 0.5"]),
        ([np.nan, 1], ["`data`: labels must be whole numbers, got nan (4 times)"]),
        ([np.inf, 1], ["must be whole numbers, got inf"]),
        ([1e300, 1], ["must be whole numbers of at most 2^53"]),
        ([2**60, 1], ["must be whole numbers of at most 2^53"]),
        ([1j, 2], ["must be whole numbers or text, got complex128"]),
        (np.array([1, "a"], dtype=object), ["must be whole numbers or text, got objects"]),
        (np.array([0, 1], dtype="M8[s]"), ["must be whole numbers or text, got datetime64[s]"]),
        ([[0, 1], [1, 1]], ["labels have shape (8, 2), several for each image", "one-hot, a single 1 in each row"]),
        ([[0, 1], [0, 0]], ["labels have shape (8, 2), several for each image"]),
        ([[0, 1], [2, 1]], ["labels have shape (8, 2), several for each image"]),
        ([[0, 1], [0.5, 1]], ["labels have shape (8, 2), several for each image"]),
        ([["a", "b"], ["b", "a"]], ["labels have shape (8, 2), several for each image"]),
        (np.zeros((2, 1, 1)), ["must be one for each image, of shape (N,), got shape (8, 1, 1)"]),
        (np.zeros(0), ["`data`: labels are none"]),
        (np.zeros((3, 0)), ["must be one for each image"]),
        ([7, 7], ["`data` has one class alone, '7'; at least two are needed"]),
        (np.arange(10_001), ["labels look like measurements, not classes: they take 10,001 values; at most 10,000"]),
    ],
)
def test_labels_that_name_no_classes_are_refused(labels: Any, words: list[str]) -> None:
    with refused(*words):
        classes(labels)


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0]])
def test_labels_outside_of_the_known_names_are_refused(labels: list[int]) -> None:
    with refused("has labels outside of its 4 classes 0 to 3: ", "give each image one of these"):
        classes(labels, names=["a", "b", "c", "d"])


def parts(**labels: list[Any]) -> Any:
    return classes_of({split: np.array(given) for split, given in labels.items()}, subject="`data`")


def test_splits_share_their_classes() -> None:
    found, texts = parts(test=[9, 7], train=[9, 9, 7, 7])
    assert list(found) == ["train", "test"]
    assert found["train"].tolist() == [1, 1, 0, 0]
    assert found["test"].tolist() == [1, 0]
    assert texts == ("7", "9")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            {"train": [0, 0, 1, 1], "test": [0, 1, 5]},
            ["has no images of the class '5' in train; every class must be in every part"],
        ),
        ({"train": [0, 0, 1, 1], "test": [0]}, ["has no images of the class '1' in test"]),
        ({"train": [0, 0, 1, 1, 2, 2], "validation": [1]}, ["has no images of the classes '0', '2' in validation"]),
        ({"train": [0, 0, 1, 1], "test": ["0", "1"]}, ["has labels that are numbers in one part and text in another"]),
        ({"train": [0, 0, 0.5, 1], "test": [0, 1]}, ["labels of train look like measurements"]),
        ({"test": [0, 0, 1, 1]}, ["has images for test, but none to train on; name a part 'train'"]),
        ({"test": [0], "validation": [0]}, ["has images for validation and test, but none to train on"]),
    ],
)
def test_splits_that_do_not_fit_are_refused(labels: dict[str, list[Any]], words: list[str]) -> None:
    with refused(*words):
        parts(**labels)


def test_a_class_needs_two_images_to_train_on_and_four_to_be_split() -> None:
    assert parts(train=[0, 0, 1, 1], test=[0, 1])
    with refused("has too few images of one class: '1' has 1; each class needs at least 2 to train on"):
        parts(train=[0, 0, 1], test=[0, 1])
    for split in ("all", "train"):
        assert parts(**{split: [0, 1] * 4})
        with refused("too few images of 2 classes: '0' has 3, '1' has 2; to be split into train"):
            parts(**{split: [0, 0, 0, 1, 1, 2, 2, 2, 2]})
