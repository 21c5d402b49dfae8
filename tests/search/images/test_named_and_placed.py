"""Names and places of real files: what each of them means, whatever was stored before."""

from pathlib import Path

import numpy as np
import pytest

from search.errors import DatasetInvalidError, UsageError
from search.images.lookup import add_dataset, find_dataset
from search.images.places import ImagePlaces

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 8, 6), np.uint8)
LABELS = np.arange(24) % 3


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImagePlaces:
    monkeypatch.chdir(tmp_path)
    return ImagePlaces.at(tmp_path / "data", tmp_path / "images")


def save(file: str | Path, *, images: np.ndarray = PIXELS, labels: np.ndarray = LABELS) -> str:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, images=images, labels=labels)
    return str(file)


@pytest.mark.parametrize("sizes", [[None, (4, 3), (12, 12), None], [(4, 3), None, (4, 3)]])
def test_a_place_is_read_at_the_size_that_is_asked(places: ImagePlaces, sizes: list[tuple[int, int] | None]) -> None:
    save("photos.npz")
    found = [find_dataset("photos.npz", places, image_size=size) for size in sizes]
    assert [one.image_shape[1:] for one in found] == [size or (8, 6) for size in sizes]
    assert len({one.identity for one in found}) == len(set(sizes))


def test_an_added_size_is_not_that_of_its_place(places: ImagePlaces) -> None:
    save("photos.npz")
    small = add_dataset("small", "photos.npz", places, image_size=(4, 3)).dataset
    assert find_dataset("photos.npz", places).image_shape == (1, 8, 6)
    assert find_dataset("small", places) == small


def test_stored_images_are_not_resized(places: ImagePlaces) -> None:
    save("photos.npz")
    add_dataset("pets", "photos.npz", places)
    for refused in (
        lambda: find_dataset("pets", places, image_size=(4, 4)),
        lambda: find_dataset("pets", places, image_size=(4, 4), validation="photos.npz"),
        lambda: add_dataset("small", "pets", places, image_size=(4, 4)),
    ):
        with pytest.raises(
            UsageError, match=r"`image_size`: pets@.* is stored with images of 8x6; give the place that"
        ):
            refused()
    save("pets/pets.npz")
    with pytest.raises(UsageError, match=r"give /.*/pets, which is there too and not meant by pets, as `dataset`"):
        find_dataset("pets", places, image_size=(4, 4))


def test_what_is_added_is_read_from_its_place_though_a_name_is_the_same(places: ImagePlaces) -> None:
    """A folder that is added under its own name, and again when it has changed."""
    save("pets", images=PIXELS)  # pets.npz
    Path("pets.npz").rename("pets")
    before = add_dataset("pets", "pets", places)
    save("pets", images=PIXELS[:21], labels=LABELS[:21])
    Path("pets.npz").rename("pets")
    after = add_dataset("pets", "pets", places)
    assert (after.dataset.images, after.known, after.before) == (21, False, before.dataset)
    assert find_dataset("pets", places) == after.dataset


def test_a_search_of_the_same_images_elsewhere_changes_no_added_name(places: ImagePlaces) -> None:
    first = add_dataset("pets", save("a/pets.npz"), places).dataset
    second = add_dataset("pets", save("b/pets.npz", images=PIXELS + 1), places).dataset
    assert find_dataset(save("c/pets.npz"), places).identity == first.identity
    assert find_dataset("pets", places) == second
    assert places.library.get(first.identity).dataset == first, "where it came from is known as before"


def test_images_that_are_there_several_times_are_told(places: ImagePlaces) -> None:
    save("train.npz")
    save("seen.npz", images=np.concatenate([PIXELS[:6], PIXELS[:6] // 2]), labels=LABELS[:12])
    seen = find_dataset("train.npz", places, validation="seen.npz")
    assert seen.repeated == {"validation": 6}
    assert seen.repetitions == [
        "6 of 12 validation images are training images too, so that accuracies on them are too high"
    ]
    np.savez("x.npz", x_train=PIXELS, y_train=LABELS, x_test=PIXELS[:9], y_test=LABELS[:9])
    assert find_dataset("x.npz", places).repeated == {"test": 9}
    save("doubled.npz", images=np.concatenate([PIXELS, PIXELS[:3]]), labels=np.concatenate([LABELS, LABELS[:3]]))
    assert find_dataset("doubled.npz", places).repeated == {"all": 3}
    assert find_dataset("train.npz", places).repetitions == []


def test_test_images_never_validate(places: ImagePlaces) -> None:
    np.savez("x.npz", x_train=PIXELS, y_train=LABELS, x_test=PIXELS[:9], y_test=LABELS[:9])
    for given in ("x.npz", "digits"):
        with pytest.raises(UsageError, match=f"`validation` {given} has no validation images, but train, test; give"):
            find_dataset(given, places, validation=given)
    save("held-out.npz", images=PIXELS // 2)
    assert find_dataset("x.npz", places, validation="held-out.npz").counts["validation"] == 24


def test_validation_images_of_other_classes_are_refused_with_both(places: ImagePlaces) -> None:
    save("train.npz", labels=np.array(["cat", "dog", "eel"])[LABELS])
    save("other.npz")
    with pytest.raises(
        UsageError,
        match=r"`validation` other.npz has 3 classes \(0, 1, 2\) and images of 8x6 gray, but the data set has "
        r"3 classes \(cat, dog, eel\) and images of 8x6 gray; both must be the same",
    ):
        find_dataset("train.npz", places, validation="other.npz")
    Path("empty").mkdir()
    with pytest.raises(DatasetInvalidError, match=r"^`validation` .*/empty"):
        find_dataset("train.npz", places, validation="empty")
