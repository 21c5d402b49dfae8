from pathlib import Path

import numpy as np
import pytest

from search.evaluation.datasets import load
from search.evaluation.description import channel_statistics, describe
from search.images.image_set import ImageSet
from search.images.library import ImageLibrary
from search.images.places import ImagePlaces
from search.space.task import task_of
from tests.support.sources import shapes


def test_classes_are_counted_in_the_splits_that_searches_use(tmp_path: Path) -> None:
    places = ImagePlaces(data_dir=tmp_path, library=ImageLibrary(tmp_path))
    dataset = places.library.store(shapes({"train": (40, 8), "test": (3, 9)}))
    described = describe(dataset, load(task_of(dataset), places))
    counts = described.class_counts
    assert counts == {"train": (30, 6), "validation": (10, 2), "test": (3, 9)}
    assert described.imbalance == 30 / 6
    assert described.is_imbalanced
    assert described.largest_share == 10 / 12


def test_a_balanced_set_is_not_said_to_be_imbalanced(tmp_path: Path) -> None:
    places = ImagePlaces(data_dir=tmp_path, library=ImageLibrary(tmp_path))
    dataset = places.library.store(shapes({"train": (40, 30, 25), "validation": (9, 3, 3), "test": (1, 1, 1)}))
    described = describe(dataset, load(task_of(dataset), places))
    assert described.class_counts["train"] == (40, 30, 25)
    assert not described.is_imbalanced
    assert described.largest_share == 9 / 15


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_of_channels_are_those_of_the_scaled_pixels(channels: int) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 101, (3000, channels, 3, 4), np.uint8)
    rows = rng.permutation(3000)[:2500]  # more than are read at a time
    found = channel_statistics(ImageSet(pixels, np.zeros(2500, np.int64), rows), pixel_max=100)
    scaled = pixels[rows].astype(np.float64) / 100
    np.testing.assert_allclose(found.mean, scaled.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(found.std, scaled.std(axis=(0, 2, 3)))
    whole = channel_statistics(ImageSet(pixels, np.zeros(3000, np.int64)), pixel_max=255)
    np.testing.assert_allclose(whole.mean, pixels.mean(axis=(0, 2, 3)) / 255)
