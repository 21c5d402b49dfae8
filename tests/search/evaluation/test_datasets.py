from pathlib import Path

import numpy as np

from search.evaluation import datasets
from search.images.places import ImagePlaces
from search.space.task import find_task


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
