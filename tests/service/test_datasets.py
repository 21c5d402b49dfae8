"""What names of data sets mean."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.errors import DatasetMissingError, UnknownNameError, UsageError
from search.images.dataset import Dataset
from search.images.library import ImageLibrary
from search.images.source import Source, SourceSplit
from search.space.task import find_task, task_names, task_of
from search.store.database import Store
from service.database import Database
from service.datasets import Datasets
from service.image_parts import parts_of
from service.image_uploads import ImageUploads
from tests.support.uploads import archive, pictures


@pytest.fixture
def library(tmp_path: Path) -> ImageLibrary:
    return ImageLibrary(tmp_path / "images")


@pytest.fixture
def uploads(opened: Database) -> ImageUploads:
    return ImageUploads(opened)


@pytest.fixture
def store(opened: Database) -> Store:
    return Store(opened.url, opened.engine)


@pytest.fixture
def datasets(uploads: ImageUploads, store: Store, library: ImageLibrary) -> Datasets:
    return Datasets(uploads, store.tasks, library)


def add(library: ImageLibrary, name: str = "flowers", *, seed: int = 0, added: bool = True) -> Dataset:
    """Store pictures on this machine."""
    images, labels = pictures(seed=seed)
    split = SourceSplit(labels=labels, read=lambda number: images[number][None])
    source = Source(
        name=name,
        splits={"all": split},
        class_names=("a", "b", "c"),
        image_shape=(1, 8, 8),
        location="/home/somebody/flowers",
        signature=None,
    )
    return library.store(source, name=name, added=added)


def put(uploads: ImageUploads, folder: Path, name: str = "flowers", *, seed: int = 0, client: str = "anna") -> Dataset:
    """Upload pictures."""
    elsewhere = ImageLibrary(folder / "elsewhere")
    dataset = replace(add(elsewhere, name, seed=seed), location=None)
    uploads.add(dataset, [*parts_of(dataset, elsewhere)], client=client)
    return dataset


def identity(datasets: Datasets, name: str, client: str = "anna") -> str:
    return datasets.named(name, client=client).identity


def test_a_name_means_the_newest_of_the_service_then_an_own_upload_then_anybodys(
    datasets: Datasets, library: ImageLibrary, uploads: ImageUploads, tmp_path: Path
) -> None:
    assert datasets.named("digits", client="anna") == find_task("digits")
    bens = put(uploads, tmp_path, seed=1, client="ben")
    assert identity(datasets, "flowers") == bens.identity
    annas = put(uploads, tmp_path, seed=2)
    assert identity(datasets, "flowers") == annas.identity
    newer = put(uploads, tmp_path, seed=3)
    assert identity(datasets, "flowers") == newer.identity
    put(uploads, tmp_path, seed=2)
    assert identity(datasets, "flowers") == annas.identity, "uploaded again, so that it is the newest"
    assert identity(datasets, "flowers", "ben") == bens.identity
    with pytest.raises(UsageError, match=f"several data sets are named 'flowers'; .*{bens.identity}"):
        identity(datasets, "flowers", "carla")
    for one in (bens, annas, newer):
        assert identity(datasets, one.identity, "carla") == one.identity
    add(library, seed=4)
    added = add(library, seed=5)
    assert identity(datasets, "flowers") == added.identity
    assert datasets.named("flowers", client="anna") == task_of(added)


def test_paths_import_paths_and_other_texts_are_never_looked_up(
    datasets: Datasets, library: ImageLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flowers.npz").write_bytes(archive())
    (tmp_path / "mine.py").write_text("raise SystemExit('imported')")
    private = add(library, "private", added=False)  # images of a search, which nobody gave this name
    for name in (
        "flowers.npz",
        str(tmp_path / "flowers.npz"),
        "../flowers.npz",
        "mine:images",
        ".",
        "",
        "a\0b",
        "\ud800",
        "digits\n",
        "digits@0123456789abcdef",
        "digits/0123456789abcdef",
        f"{private.name}@{'0' * 16}",
        private.name,
        f"../images/{private.identity}",
    ):
        with pytest.raises(UnknownNameError, match=r"unknown dataset .*GET /v1/datasets lists the known ones"):
            datasets.named(name, client="anna")
    assert [one.dataset for one in library.all()] == [private]
    assert identity(datasets, private.identity) == private.identity


def test_an_unknown_name_gets_a_similar_one(datasets: Datasets, uploads: ImageUploads, tmp_path: Path) -> None:
    put(uploads, tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown dataset 'flower'; did you mean 'flowers'\?"):
        datasets.named("flower", client="anna")


def test_what_is_listed_are_built_in_added_and_uploaded_ones(
    datasets: Datasets, library: ImageLibrary, uploads: ImageUploads, tmp_path: Path
) -> None:
    add(library, "private", added=False)
    added, both = add(library, "ours"), add(library, "both")
    put(uploads, tmp_path, "both", client="ben")
    put(uploads, tmp_path, "both", client="anna")
    listed = {one.dataset.identity: one.owners for one in datasets.all()}
    assert listed == {
        **dict.fromkeys(task_names(), frozenset()),
        added.identity: frozenset(),
        both.identity: {"anna", "ben"},
    }


def test_a_task_is_known_by_stored_results_when_its_images_are_gone(
    datasets: Datasets, uploads: ImageUploads, store: Store, tmp_path: Path
) -> None:
    dataset = put(uploads, tmp_path)
    task = datasets.task(dataset.identity)
    balanced = replace(task, metric="balanced-accuracy")
    store.tasks.record(task)
    store.tasks.record(balanced)
    uploads.delete(dataset.identity)
    assert datasets.named(dataset.identity, client="ben") == task
    assert datasets.named(balanced.identity, client="ben") == balanced
    with pytest.raises(UnknownNameError):
        datasets.named("flowers", client="anna")


def test_names_that_an_upload_cannot_have(
    datasets: Datasets, library: ImageLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(library, "ours")
    for name, words in (
        ("digits", "is the name of a built-in data set"),
        ("ours", "the service has a data set 'ours' of its own"),
        ("../mine", "may have up to 60 letters"),
        ("a\0b", "may have up to 60 letters"),
        ("ünder", "may have up to 60 letters"),
        ("a/b", "may have up to 60 letters"),
        ("-a", "begins with a letter or a digit"),
        ("", "begins with a letter or a digit"),
        ("a@0123456789abcdef", "may have up to 60 letters"),
        ("a" * 61, "may have up to 60 letters"),
    ):
        with pytest.raises(UsageError, match=words):
            datasets.check_new(name, client="anna")
    datasets.check_new("mine", client="anna")
    monkeypatch.setattr("service.image_uploads.MAX_PER_CLIENT", 0)
    with pytest.raises(UsageError, match="which is the maximum"):
        datasets.check_new("mine", client="anna")


def test_images_are_put_where_a_search_needs_them_and_go_when_they_are_deleted(
    datasets: Datasets, library: ImageLibrary, uploads: ImageUploads, store: Store, tmp_path: Path
) -> None:
    dataset = put(uploads, tmp_path)
    balanced = replace(task_of(dataset), metric="balanced-accuracy")
    for _ in range(2):
        datasets.provide(balanced.identity)
        (images,) = library.open(dataset).values()
        assert np.array_equal(np.sort(images.images().sum(axis=(1, 2, 3))), np.sort(pictures()[0].sum(axis=(1, 2))))
    datasets.forget_deleted()
    assert library.find(dataset.identity) is not None
    uploads.delete(dataset.identity)
    datasets.forget_deleted()
    assert [*library.folder.iterdir()] == []
    with pytest.raises(DatasetMissingError, match=f"the images of {dataset.identity} are gone: .* upload or add them"):
        datasets.provide(dataset.identity)


def test_what_is_of_this_machine_stays_when_the_same_images_are_deleted(
    datasets: Datasets, library: ImageLibrary, uploads: ImageUploads, tmp_path: Path
) -> None:
    searched, added = put(uploads, tmp_path, "searched"), put(uploads, tmp_path, "added")
    add(library, "searched", added=False)
    datasets.provide(added.identity)
    add(library, "added")
    for one in (searched, added):
        datasets.provide(one.identity)
        uploads.delete(one.identity)
    datasets.forget_deleted()
    assert {one.dataset.identity for one in library.all()} == {searched.identity, added.identity}
    datasets.provide(searched.identity)
    datasets.provide(find_task("digits").identity)


def test_which_upload_is_to_be_deleted(datasets: Datasets, uploads: ImageUploads, tmp_path: Path) -> None:
    bens, first = put(uploads, tmp_path, client="ben"), put(uploads, tmp_path, seed=1)
    assert datasets.uploaded("flowers", client="anna").dataset == first
    assert datasets.uploaded(bens.identity, client="anna").dataset == bens
    second = put(uploads, tmp_path, seed=2)
    with pytest.raises(UsageError, match=f"name one of them in full: {second.identity}, {first.identity}"):
        datasets.uploaded("flowers", client="anna")
    for name in ("digits", "roses", "a\0b"):
        with pytest.raises(UnknownNameError, match="nobody uploaded a data set"):
            datasets.uploaded(name, client="anna")
