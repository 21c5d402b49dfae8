"""Searches of a small network that comes trained, from its evaluations to a confirmed answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import approx
import search
from search.answers import words
from search.evaluation.finished import finished_key
from search.observer import Observer
from search.space.task_request import TaskRequest
from search.store.database import Store
from tests.support.images import patterns
from tests.support.trained import small_network

pytestmark = pytest.mark.slow  # searches


class Notes(Observer):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def noted(self, text: str) -> None:
        self.texts.append(text)


def run(
    folder: Path, train: str, *, budget: int = 12, effort: str = "quick", request: TaskRequest | None = None
) -> tuple[search.SearchResult, list[str]]:
    notes = Notes()
    result = search.run(
        data=patterns(600, seed=3),
        model=small_network(),
        train=train,
        task=request or TaskRequest(),
        budget=budget,
        effort=effort,
        max_accuracy_drop=0.05,
        workplace=search.Workplace(workers=0, storage=folder / "results.db", image_dir=folder / "images"),
        observer=notes,
    )
    return result, notes.texts


def test_without_training_an_answer_is_bootstrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*arguments: object, **others: object) -> None:
        raise AssertionError("it trains")

    small_network()
    monkeypatch.setattr(approx, "fit", fit)
    result, notes = run(tmp_path, "none")
    answer = result.answer
    assert answer.confirmed
    assert answer.confirmation is not None
    assert not answer.confirmation.retrained
    assert answer.confirmation.chips >= 20
    sizes = result.baseline.evaluation.images, answer.confirmation.images
    assert sum(sizes) == pytest.approx(2 * 0.25 * 450, abs=4)  # a quarter of what tests leave, twice
    assert words.CAUTION in notes
    assert result.baseline.evaluation.early_accuracy is None
    assert not any(record.evaluation.stopped for record in result.evaluations)
    given = approx.accuracy(small_network(), _images(patterns(300, seed=11)))
    assert result.baseline.evaluation.accuracy == pytest.approx(given, abs=0.05)
    again = search.best(
        max_accuracy_drop=0.05,
        effort="quick",
        task=TaskRequest(data=patterns(600, seed=3), model=small_network(), train="none"),
        workplace=search.Workplace(workers=0, storage=tmp_path / "results.db", image_dir=tmp_path / "images"),
    )
    assert again.record is not None
    assert again.confirmed
    assert answer.record is not None
    assert again.record.evaluation.energy_pj <= answer.record.evaluation.energy_pj
    cache = search.Workplace(storage=tmp_path / "results.db").open_cache()
    for record in (*answer.records, *again.records):
        assert cache.holds_finished(finished_key(record.key))


def test_a_search_is_the_same_again(tmp_path: Path) -> None:
    first, second = (run(tmp_path / name, "none")[0] for name in ("a", "b"))
    assert [record.key for record in first.front] == [record.key for record in second.front]
    assert [record.evaluation.chip_accuracies for record in first.front] == [
        record.evaluation.chip_accuracies for record in second.front
    ]
    assert first.answer.confirmation is not None
    assert second.answer.confirmation is not None
    assert first.answer.confirmation.margin == second.answer.confirmation.margin


def test_fine_tuning_has_fresh_runs_on_images_that_all_of_them_share(tmp_path: Path) -> None:
    result, _ = run(tmp_path, "finetune", budget=6, request=TaskRequest(epochs=0.5))
    answer = result.answer
    assert answer.confirmation is not None
    assert answer.confirmation.retrained
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=False) as store:
        runs = store.runs.by_candidate(result.search.setup)
    assert len(runs) >= 2
    for of_candidate in runs.values():
        outcomes = [one.outcomes for one in of_candidate]
        assert all(one is not None and one.images == answer.confirmation.images for one in outcomes)
        assert {one.pool for one in of_candidate} == {answer.confirmation.images}


def test_images_that_the_network_never_saw_need_no_caution(tmp_path: Path) -> None:
    request = TaskRequest(validation=patterns(200, seed=5))
    result, notes = run(tmp_path, "none", request=request)
    assert words.CAUTION not in notes
    assert result.search.task.is_clean
    assert result.answer.confirmation is not None
    # Half of them are the test images that there are not, and the others choose and confirm.
    assert (result.baseline.evaluation.images, result.answer.confirmation.images) == pytest.approx((50, 50), abs=3)


def test_rare_classes_count_the_same_where_it_is_asked_for(tmp_path: Path) -> None:
    pixels, labels = patterns(600, seed=3)
    kept = np.concatenate([np.flatnonzero(labels != 2), np.flatnonzero(labels == 2)[:40]])
    request = TaskRequest(
        data=(pixels[kept], labels[kept]), model=small_network(), train="none", metric="balanced-accuracy"
    )
    notes = Notes()
    result = search.run(
        task=request,
        budget=6,
        effort="quick",
        max_accuracy_drop=0.1,
        workplace=search.Workplace(workers=0, storage=tmp_path / "results.db", image_dir=tmp_path / "images"),
        observer=notes,
    )
    assert any(text.startswith("the training images are imbalanced: ") for text in notes.texts)
    for record in result.evaluations:
        by_class = [share for share in record.evaluation.class_accuracies if share is not None]
        assert record.evaluation.accuracy == pytest.approx(np.mean(by_class))
    confirmation = result.answer.confirmation
    assert confirmation is not None
    groups = confirmation.runs[0].outcomes
    assert groups is not None
    assert len(groups.groups) == 3
    assert confirmation.runs[0].images < confirmation.images  # the effective number
    assert confirmation.runs[0].test_accuracy == pytest.approx(np.mean([*confirmation.runs[0].test_class_accuracies]))


def _images(given: tuple[np.ndarray, np.ndarray]) -> approx.LabelledImages:
    import torch

    pixels, labels = given
    return approx.LabelledImages(torch.from_numpy(pixels), torch.from_numpy(labels), 255)
