"""Questions about what is stored, of images that are here or were removed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import search
from search.api.workplace import Workplace
from search.errors import DatasetMissingError, NothingFoundError, UnknownNameError
from search.images.dataset import Dataset
from search.space.task import Task, task_of
from search.space.task_request import TaskRequest
from search.store.database import Store
from search.store.setup import Setup
from tests.support.fakes import SETTINGS, formula, new_search
from tests.support.images import in_memory, patterns


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.chdir(tmp_path)
    return Workplace(storage=tmp_path / "results.db", image_dir=tmp_path / "images", workers=0)


@pytest.fixture
def photos(here: Workplace) -> Dataset:
    """Images that were added by name."""
    return here.images.library.store(in_memory({"all": patterns(60)}, name="photos"), added=True)


def searched(here: Workplace, task: Task, *, effort: str = "standard", hardware: str = "flexible-45nm") -> None:
    """Store a search of a task, and its baseline."""
    setup = Setup(task=task.identity, hardware=hardware, effort=effort)
    with Store.open(here.url, create=True) as store:
        new_search(store, setup=setup, task=task, settings=replace(SETTINGS, effort=effort))
        store.evaluations.record(task.identity + hardware + effort, formula(task.space.baseline()), setup, seed=0)


def test_a_question_about_what_is_not_stored_is_told_what_is(here: Workplace, photos: Dataset) -> None:
    task = task_of(photos)
    searched(here, task, effort="quick")
    searched(here, task, hardware="hybrid-22nm")
    searched(here, replace(task, mean=(0.5,), std=(0.25,)))
    searched(here, task_of(replace(photos, digest="1" * 64)))  # other images of this name
    searched(here, task_of(replace(photos, name="others")))
    same = f"--dataset {photos.identity}"
    with pytest.raises(NothingFoundError) as caught:
        search.best(dataset="photos", workplace=here)
    assert str(caught.value) == (
        "no search of photos on flexible-45nm is stored yet with effort standard, but there is "
        f"{same} --mean 0.5 --std 0.25, {same} --hardware hybrid-22nm, {same} --effort quick, "
        f"--dataset photos@1111111111111111; make one with: search run {same}"
    )
    with pytest.raises(NothingFoundError, match=f"with effort thorough, but there is {same} --mean"):
        search.configurations(min_accuracy=0.5, dataset=photos.identity, effort="thorough", storage=here.url)
    with pytest.raises(NothingFoundError, match="no search of digits on flexible-45nm is stored yet; make one with:"):
        search.best(dataset="digits", workplace=here)


def test_results_of_images_that_were_removed_are_found_by_their_name_and_identity(
    here: Workplace, photos: Dataset
) -> None:
    searched(here, task_of(photos))
    here.images.library.remove("photos")
    for name in ("photos", photos.identity):
        answer = search.best(dataset=name, confirm=False, workplace=here)
        assert answer.task.dataset == photos
        assert answer.record is not None
        with pytest.raises(DatasetMissingError, match=rf"{photos.identity} are not in .*; or leave out .*: `confirm`$"):
            search.best(dataset=name, workplace=here)  # which needs fresh runs
        request = TaskRequest(metric="balanced-accuracy", image_size=(8, 8))
        with pytest.raises(NothingFoundError, match="no search of photos, balanced accuracy on"):
            search.best(dataset=name, task=request, confirm=False, workplace=here)


def test_names_that_nothing_has_are_unknown(here: Workplace, photos: Dataset) -> None:
    with pytest.raises(UnknownNameError, match="unknown dataset 'phots'"):
        search.best(dataset="phots", workplace=here)  # before anything is stored
    searched(here, task_of(photos))
    here.images.library.remove("photos")
    for name in ("phots", "photos@0000000000000000"):
        with pytest.raises(UnknownNameError, match=name):
            search.best(dataset=name, workplace=here)
    with pytest.raises(UnknownNameError, match="photos"):  # whose images had another size
        search.best(dataset="photos", task=TaskRequest(image_size=(9, 9)), workplace=here)
