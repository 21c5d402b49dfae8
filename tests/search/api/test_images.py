from dataclasses import replace
from pathlib import Path

import pytest

import search
from search.api.images import resumed_images, stored_images
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.errors import DatasetMissingError
from search.space.task import find_task
from search.store.database import Store
from search.store.records import SearchRecord

pytestmark = pytest.mark.slow  # searches

MNIST = find_task("mnist")
NAMES = ("train-images", "train-labels", "t10k-images", "t10k-labels")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files that are called as MNIST's are."""
    raw = tmp_path / "images" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        (raw / f"{name}-idx{3 if 'images' in name else 1}-ubyte.gz").touch()
    return tmp_path / "images"


@pytest.fixture
def searched(tmp_path: Path) -> SearchRecord:
    """A search that was begun with a folder of images."""
    here = Workplace(storage=tmp_path / "results.db", data_dir=tmp_path / "images", workers=0)
    return search.run(budget=1, effort="quick", options=SearchOptions(confirm=False), workplace=here).search


def test_a_search_remembers_its_folder(
    searched: SearchRecord, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert searched.data_dir == folder
    with_mnist = replace(searched, task=MNIST)
    assert resumed_images(Workplace(), with_mnist).data_dir == folder
    assert resumed_images(Workplace(), replace(with_mnist, data_dir=None)) == Workplace().images
    other = tmp_path / "other"
    assert resumed_images(Workplace(data_dir=other), with_mnist).data_dir == other
    monkeypatch.setenv("CROSSLAYER_DATA_DIR", str(other))
    assert resumed_images(Workplace(), with_mnist).data_dir == other


def test_stored_results_are_read_with_a_folder_that_still_holds_the_images(
    searched: SearchRecord, folder: Path, tmp_path: Path
) -> None:
    digits = find_task("digits")
    here = Workplace(storage=tmp_path / "results.db", workers=0)
    with Store.open(here.url, create=False) as store:
        assert stored_images(digits, here, store).data_dir == folder
        assert stored_images(MNIST, here, store) == here.images  # of which there is no search
        assert stored_images(digits, replace(here, data_dir=tmp_path), store).data_dir == tmp_path


def test_a_relative_folder_is_remembered_from_anywhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    here = Workplace(storage=tmp_path / "results.db", data_dir=folder.name, workers=0)
    begun = search.run(budget=1, effort="quick", options=SearchOptions(confirm=False), workplace=here).search
    assert begun.data_dir == folder


def test_a_folder_that_is_given_when_resuming_takes_its_place(searched: SearchRecord, tmp_path: Path) -> None:
    url = tmp_path / "results.db"
    search.resume("digits-1", confirm=False, workplace=Workplace(storage=url, workers=0, data_dir=tmp_path / "moved"))
    with Store.open(f"sqlite:///{url}", create=False) as store:
        assert store.searches.find("digits-1").data_dir == tmp_path / "moved"


def test_a_folder_that_is_gone_is_named(searched: SearchRecord, folder: Path) -> None:
    (folder / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DatasetMissingError, match=f"images of search 'digits-1' are gone from {folder}; .* `data_dir`"):
        resumed_images(Workplace(), replace(searched, task=MNIST))
    assert resumed_images(Workplace(), searched).data_dir == folder  # which needs no files
