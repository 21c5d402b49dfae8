import math
from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score

from search.evaluation.metrics import chip_accuracies, class_accuracies, effective_images, grouped

LABELS = np.array([2, 0, 0, 2, 2, 1, 2, 0, 2, 2], dtype=np.int64)  # 3 of class 0, 1 of class 1, 6 of class 2
PREDICTED = np.array(
    [
        [2, 0, 1, 2, 2, 1, 0, 0, 2, 2],
        [2, 0, 0, 2, 2, 0, 2, 0, 1, 2],
    ]
)
RIGHT = PREDICTED == LABELS


def test_accuracy_is_the_share_of_images_that_are_right() -> None:
    assert chip_accuracies(RIGHT, LABELS, "accuracy") == (8 / 10, 8 / 10)


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    found = chip_accuracies(RIGHT, LABELS, "balanced-accuracy")
    assert found == pytest.approx([balanced_accuracy_score(LABELS, row) for row in PREDICTED])
    assert found[0] > 0.8 > found[1]  # the one image of the rare class is right on the first chip only


def test_a_class_without_images_counts_for_nothing() -> None:
    """Class 1 of four is not among these images."""
    labels = np.array([0, 0, 2, 3], dtype=np.int64)
    right = np.array([[True, False, True, False]])
    assert chip_accuracies(right, labels, "balanced-accuracy") == pytest.approx([(0.5 + 1 + 0) / 3])
    assert class_accuracies(right, labels, 5) == (0.5, None, 1.0, 0.0, None)


def test_accuracies_of_classes_are_recalls_over_chips() -> None:
    recalls = [recall_score(LABELS, row, average=None) for row in PREDICTED]
    assert class_accuracies(RIGHT, LABELS, 3) == pytest.approx(np.mean(recalls, axis=0).tolist())


def test_images_are_grouped_by_class_for_balanced_accuracy_alone() -> None:
    order, sizes = grouped(LABELS, "balanced-accuracy")
    assert LABELS[order].tolist() == [0] * 3 + [1] + [2] * 6
    assert order.tolist() == [1, 2, 7, 5, 0, 3, 4, 6, 8, 9]  # those of a class in their own order
    assert sizes == (3, 1, 6)
    order, sizes = grouped(LABELS, "accuracy")
    assert (order.tolist(), sizes) == (list(range(10)), (10,))


def test_as_many_images_of_each_class_count_as_many_as_they_are() -> None:
    assert effective_images((300,)) == 300
    assert effective_images((49,) * 7) == 343
    assert effective_images((1,) * 3) == 3


@pytest.mark.parametrize("sizes", [(3, 1, 6), (1000, 10), (5, 50, 500, 20)])
def test_balanced_accuracy_deviates_as_a_share_among_the_effective_number_of_images(sizes: tuple[int, ...]) -> None:
    """The exact variance of a mean of independent shares."""
    p = Fraction(9, 10)
    variance = sum(p * (1 - p) / size for size in sizes) / len(sizes) ** 2
    effective = effective_images(sizes)
    assert p * (1 - p) / (effective + 1) < variance <= p * (1 - p) / effective


def test_balanced_accuracy_deviates_so_in_many_draws() -> None:
    sizes, rng = (40, 400), np.random.default_rng(0)
    labels = np.repeat([0, 1], sizes)
    right = rng.random((20_000, sum(sizes))) < 0.9
    found = np.std(chip_accuracies(right, labels, "balanced-accuracy"))
    assert found == pytest.approx(math.sqrt(0.9 * 0.1 / effective_images(sizes)), rel=0.02)
    assert np.std(chip_accuracies(right, labels, "accuracy")) < 0.7 * found
