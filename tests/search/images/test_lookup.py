from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.errors import UsageError
from search.images import lookup
from search.images.lookup import add_dataset, find_dataset, is_here
from search.images.places import ImagePlaces
from tests.support.sources import shapes

SOURCES = {
    "first": shapes({"all": (5, 4)}),
    "second": shapes({"all": (5, 4)}, seed=1, location="/photos/second"),
    "held-out": shapes({"all": (2, 2)}, seed=2),
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImagePlaces:
    """Where images are, and what is opened instead of files."""

    def opened(given: str, **_: Any) -> Any:
        return SOURCES[given]

    monkeypatch.setattr(lookup, "open_source", opened)
    return ImagePlaces.at(tmp_path / "data", tmp_path / "images")


def test_a_name_means_the_images_that_were_added_last(places: ImagePlaces) -> None:
    first = add_dataset("mine", "first", places)
    assert (first.known, first.before) == (False, None)
    assert find_dataset("mine", places) == first.dataset
    second = add_dataset("mine", "second", places)
    assert (second.known, second.before) == (False, first.dataset)
    assert find_dataset("mine", places) == second.dataset
    assert find_dataset(first.dataset.identity, places) == first.dataset
    again = add_dataset("mine", "first", places)
    assert (again.known, again.before) == (True, second.dataset)
    assert find_dataset("mine", places) == first.dataset
    once_more = add_dataset("mine", "first", places)
    assert (once_more.known, once_more.before) == (True, None)
    assert len(places.library.all()) == 2


def test_validation_images_can_be_added_from_elsewhere(places: ImagePlaces) -> None:
    added = add_dataset("mine", "first", places, validation="held-out").dataset
    assert added.counts == {"train": 9, "validation": 4}
    held_out = places.library.open(added)["validation"].images()
    expected = [SOURCES["held-out"].splits["all"].read(number) for number in range(4)]
    assert {image.tobytes() for image in held_out} == {image.tobytes() for image in np.stack(expected)}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("digits", "`name` digits is the name of a built-in data set"), ("a/b", "`name` of a data set may have")],
)
def test_a_name_that_cannot_be_given_is_refused_before_anything_is_read(
    places: ImagePlaces, name: str, complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        add_dataset(name, "nothing to open", places)


def test_each_image_that_is_stored_is_reported_once(places: ImagePlaces) -> None:
    seen: list[tuple[int, int]] = []

    def note(done: int, of: int) -> None:
        seen.append((done, of))

    find_dataset("first", places, on_image=note)
    assert seen == [(number, 9) for number in range(1, 10)]
    find_dataset("first", places, on_image=note)  # stored already
    assert len(seen) == 9


def test_a_built_in_data_set_is_stored_once_in_another_size(places: ImagePlaces) -> None:
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        small = find_dataset("digits", places, image_size=(4, 6), on_image=lambda done, of: seen.append((done, of)))
        assert small.image_shape == (1, 4, 6)
        assert small.location == "digits"
    assert len(seen) == small.images
    smaller = find_dataset("digits", places, image_size=(3, 3))
    assert smaller.identity != small.identity


def test_built_in_images_are_here_if_their_files_are(places: ImagePlaces) -> None:
    assert is_here("digits", places)
    assert not is_here("mnist", places)
    raw = places.data_dir / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte.gz").touch()
    assert is_here("mnist", places)
