"""The precision of training is measured once, kept, and part of what is stored."""

from pathlib import Path

import pytest

from approx import precision as precisions
from search.errors import UsageError
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.precision import check_precision, chosen_precision
from search.evaluation.task_images import TaskImages
from search.images.places import ImagePlaces
from search.space.task import find_task
from tests.support.trained import trained_task

TASK = find_task("digits")


def test_it_is_measured_once_for_all_searches_that_share_their_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def fastest(step: object) -> str:
        measured.append("once")
        return precisions.CHANNELS_LAST

    monkeypatch.setattr(precisions, "fastest", fastest)
    images, cache = TaskImages(TASK, datasets.load(TASK, ImagePlaces.at(None))), TrainingCache(tmp_path)
    assert {chosen_precision(TASK, images, cache) for _ in range(3)} == {precisions.CHANNELS_LAST}
    assert measured == ["once"]
    chosen_precision(TASK, images, TrainingCache(tmp_path / "other"))
    monkeypatch.setattr(precisions, "has_bfloat16", lambda: "another processor")
    chosen_precision(TASK, images, cache)
    assert len(measured) == 3


def test_the_baseline_of_digits_can_be_measured(tmp_path: Path) -> None:
    images = TaskImages(TASK, datasets.load(TASK, ImagePlaces.at(None)))
    assert chosen_precision(TASK, images, TrainingCache(tmp_path)) in precisions.PRECISIONS


def test_what_is_not_trained_has_none_to_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "fastest", lambda step: pytest.fail("measured"))
    task, places = trained_task(tmp_path, "none")
    images = TaskImages(task, datasets.load(task, places))
    assert chosen_precision(task, images, TrainingCache(tmp_path / "cache")) == precisions.FLOAT32


def test_bfloat16_is_said_to_be_slow_where_it_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "has_bfloat16", lambda: False)
    assert "has no instructions for bfloat16 (AVX512-BF16 or AMX) and emulates it" in (
        check_precision("bfloat16") or ""
    )
    assert check_precision("float32") is None
    monkeypatch.setattr(precisions, "has_bfloat16", lambda: True)
    assert check_precision("bfloat16") is None
    with pytest.raises(
        UsageError, match="`precision` must be one of float32, float32-channels-last, bfloat16, got 'f'"
    ):
        check_precision("f")
