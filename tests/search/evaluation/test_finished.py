from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import approx
import energy
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.evaluator import Evaluator
from search.evaluation.finished import FinishedNetworks, example_of, finished_key
from search.evaluation.work import Done, Evaluate, Keep
from search.space.task import Task
from tests.support.trained import trained_task

KEY = "ab" * 32

pytestmark = pytest.mark.slow  # trains, or traces


def evaluator_of(folder: Path, task: Task, places: Any) -> Evaluator:
    hardware = energy.load_hardware("flexible-45nm")
    return Evaluator(task, datasets.load(task, places), hardware, seed=0, cache=TrainingCache(folder / "stages"))


@pytest.mark.parametrize("train", ["none", "finetune"])
def test_a_test_keeps_the_network_and_what_is_kept_has_the_measured_accuracy(train: Any, tmp_path: Path) -> None:
    task, places = trained_task(tmp_path, train)
    task = task.with_effort("quick")
    evaluator = evaluator_of(tmp_path, task, places)
    candidate = replace(task.space.baseline(), width=5, sparsity=0.3, supply_v=0.75, robust_bits=2).canonical()
    measured = evaluator.evaluate(candidate, "validation")
    finished = FinishedNetworks(task, TrainingCache(tmp_path / "stages"))
    assert finished.find(KEY, candidate) is None
    outcome = evaluator.run(Evaluate(key=KEY, candidate=candidate, split="test", keeps=True))
    assert isinstance(outcome, Done)
    found = finished.find(KEY, candidate)
    assert found is not None
    right = evaluator._chips.right(candidate, found, "validation", dense_layers=measured.dense_layers)
    assert tuple(right.mean(1)) == pytest.approx(measured.chip_accuracies)

    (path,) = (tmp_path / "stages").rglob("*-finished.pt")
    kept = path.read_bytes()
    path.unlink()
    item = Keep(key=KEY, candidate=candidate, seed=0, dense_layers=measured.dense_layers)
    assert evaluator.run(item) == Done(key=KEY, result=True)
    again = finished.find(KEY, candidate)
    assert again is not None
    assert len(path.read_bytes()) == len(kept)
    with torch.no_grad():
        assert torch.equal(again(example_of(task)), found(example_of(task)))
    for one in (found, again):  # in their memory
        assert all(layer.weight_memory is not None for _, layer in approx.approx_layers(one))


def test_nothing_is_trained_to_keep_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*arguments: Any, **others: Any) -> None:
        raise AssertionError("it trains")

    task, places = trained_task(tmp_path, "finetune")
    evaluator = evaluator_of(tmp_path, task, places)
    monkeypatch.setattr(approx, "fit", fit)
    item = Keep(key=KEY, candidate=task.space.baseline(), seed=0, dense_layers=())
    assert evaluator.run(item) == Done(key=KEY, result=False)
    assert not list((tmp_path / "stages").rglob("*.pt"))


def test_a_network_is_kept_for_one_evaluation(tmp_path: Path) -> None:
    cache = TrainingCache(tmp_path)
    cache.keep_finished(finished_key(KEY), {"weight": torch.ones(1)})
    assert cache.holds_finished(finished_key(KEY))
    assert not cache.holds_finished(finished_key("cd" * 32))
    assert not cache.holds_finished(KEY)
