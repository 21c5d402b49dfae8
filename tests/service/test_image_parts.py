"""Images on their way through the database."""

import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from search.errors import DatasetCorruptError, DatasetError
from search.images.dataset import Dataset
from search.images.image_set import ImageSet
from search.images.library import ImageLibrary
from service import image_parts
from service.image_parts import parts_of, store_parts
from service.npz_upload import store_npz
from tests.support.uploads import archive, pictures


@pytest.fixture
def here(tmp_path: Path) -> ImageLibrary:
    return ImageLibrary(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> ImageLibrary:
    return ImageLibrary(tmp_path / "there")


@pytest.fixture
def dataset(here: ImageLibrary, tmp_path: Path) -> Dataset:
    """Images that are split in two, stored here."""
    (images, labels), (more, others) = pictures(60), pictures(12, seed=1)
    file = tmp_path / "upload.npz"
    file.write_bytes(archive(x_train=images, y_train=labels, x_test=more, y_test=others))
    return store_npz(file, here, name="flowers", class_names=("a", "b", "c"), max_bytes=10**6)


def contents(sets: dict[str, ImageSet]) -> dict[str, tuple[bytes, bytes]]:
    return {name: (one.images().tobytes(), one.labels.tobytes()) for name, one in sets.items()}


def test_images_are_the_same_elsewhere(
    dataset: Dataset, here: ImageLibrary, there: ImageLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_parts, "_PART_BYTES", 1000)
    parts = [*parts_of(dataset, here)]
    assert len(parts) == 1 + 5  # 72 labels of 8 bytes, 72 images of 64
    store_parts(dataset, parts, there)
    stored = there.get("flowers")
    assert stored.dataset == dataset
    assert not stored.added
    assert contents(there.open(dataset)) == contents(here.open(dataset))
    assert [path.name for path in there.folder.iterdir()] == [dataset.identity]


@pytest.mark.parametrize("damage", ["lacking", "changed", "more"])
def test_damaged_images_are_not_stored(dataset: Dataset, here: ImageLibrary, there: ImageLibrary, damage: str) -> None:
    parts = [*parts_of(dataset, here)]
    pixels = bytearray(zlib.decompress(parts[-1]))
    pixels[0] ^= 1
    damaged = {"lacking": parts[:-1], "changed": [*parts[:-1], zlib.compress(pixels)], "more": [*parts, parts[0]]}
    with pytest.raises(DatasetCorruptError, match=f"the images of {dataset.identity} in the database are damaged"):
        store_parts(dataset, damaged[damage], there)
    assert [*there.folder.iterdir()] == []


def test_several_processes_may_fetch_the_same_images_at_once(
    dataset: Dataset, here: ImageLibrary, there: ImageLibrary
) -> None:
    parts = [*parts_of(dataset, here)]
    failures: list[Exception] = []

    def fetch() -> None:
        try:
            store_parts(dataset, parts, there)
        except DatasetError as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert contents(there.open(dataset)) == contents(here.open(dataset))


def test_a_folder_that_cannot_be_written_is_named(dataset: Dataset, here: ImageLibrary) -> None:
    nowhere = ImageLibrary(Path("/proc/nowhere"))
    with pytest.raises(DatasetError, match="images cannot be stored in /proc/nowhere"):
        store_parts(dataset, parts_of(dataset, here), nowhere)


def test_labels_keep_their_byte_order(dataset: Dataset, here: ImageLibrary) -> None:
    labels = np.frombuffer(zlib.decompress(next(parts_of(dataset, here))), "<i8")
    assert np.array_equal(labels, np.concatenate([one.labels for one in here.open(dataset).values()]))
