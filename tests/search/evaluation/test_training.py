"""How custom networks are retrained on integer codes: at rates that suit wide layers, and never to their harm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import approx
from approx.copying import copied
from search.errors import UsageError
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.emulation import Emulation
from search.evaluation.task_images import TaskImages
from search.evaluation.training import Training
from search.images.places import ImagePlaces
from search.space.candidate import Candidate
from search.space.task import METRICS, Metric, Task, find_task
from tests.support.trained import small_network, trained_task

EMULATION = Emulation(failures="silicon-14nm", circuit_bits=None, partial_sums=None, multipliers={})


def retrained(
    task: Task,
    places: ImagePlaces,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    fit: Callable[[nn.Module], None],
    candidate: Candidate | None = None,
) -> tuple[list[float], dict[str, Tensor], dict[str, Tensor]]:
    """Retrain a network on codes by `fit`; return the rates, and its parameters before and after."""
    rates: list[float] = []
    before: dict[str, Tensor] = {}
    really_fit = approx.fit

    def noted(model: nn.Module, images: approx.LabelledImages, schedule: approx.Schedule, **others: Any) -> None:
        if not list(approx.approx_layers(model)):
            really_fit(model, images, schedule, **others)
            return
        rates.append(schedule.learning_rate)
        before.update({name: value.clone() for name, value in model.state_dict().items()})
        fit(model)

    monkeypatch.setattr(approx, "fit", noted)
    images, cache = TaskImages(task, datasets.load(task, places)), TrainingCache(folder)
    training = Training(task, images, seed=0, cache=cache, emulation=EMULATION)
    candidate = candidate or task.space.baseline()
    model, _ = training.approximated(candidate, training.pruned(candidate))
    return rates, before, dict(model.state_dict())


def test_weights_that_are_computed_are_pruned_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, places = trained_task(tmp_path, "finetune")

    def weight_normed(*arguments: Any, **others: Any) -> nn.Module:
        network = copied(small_network())
        parametrizations.weight_norm(next(layer for _, layer in approx.weight_layers(network)))
        return network

    monkeypatch.setattr("search.evaluation.training.untrained", weight_normed)
    images, cache = TaskImages(task, datasets.load(task, places)), TrainingCache(tmp_path / "cache")
    training = Training(task, images, seed=0, cache=cache, emulation=EMULATION)
    found = training.pruned(replace(task.space.baseline(), sparsity=0.5))
    assert found.masks.keys() == dict(approx.weight_layers(small_network())).keys()


class Averaging(nn.Module):
    """A network that subtracts the mean of what it was trained on, kept in a buffer or in a plain attribute."""

    def __init__(self, *, in_buffer: bool) -> None:
        super().__init__()
        self.network = copied(small_network())
        if in_buffer:
            self.register_buffer("mean", torch.zeros(()), persistent=False)
        else:
            self.mean = torch.zeros(())

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.mean = self.mean + 1
        scores: Tensor = self.network(images - self.mean)
        return scores


def test_what_training_changes_is_kept_in_stages_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, places = trained_task(tmp_path, "finetune")
    images, cache = TaskImages(task, datasets.load(task, places)), TrainingCache(tmp_path / "cache")
    candidate = replace(task.space.baseline(), sparsity=0.5)
    found = []
    for _ in range(2):  # by training, and from the cache
        monkeypatch.setattr("search.evaluation.training.untrained", lambda *_, **__: Averaging(in_buffer=True).eval())
        training = Training(task, images, seed=0, cache=cache, emulation=EMULATION)
        found.append(training.pruned(candidate).model.eval()(images.example()))
    assert torch.equal(*found)
    monkeypatch.setattr("search.evaluation.training.untrained", lambda *_, **__: Averaging(in_buffer=False).eval())
    training = Training(task, images, seed=1, cache=cache, emulation=EMULATION)
    with pytest.raises(UsageError, match="keeps something that it learns in training outside of its parameters"):
        training.pruned(candidate)


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@torch.no_grad()
def ruin(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.zero_()


def diverge(model: nn.Module) -> None:
    ruin(model)
    raise approx.DivergedError("the loss became nan")


@torch.no_grad()
def change(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.mul_(1.001)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("harm", [ruin, diverge])
def test_a_network_that_retraining_ruins_is_kept_as_it_was_converted(
    harm: Callable[[nn.Module], None], metric: Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, places = trained_task(tmp_path, "finetune", metric=metric)
    _, before, after = retrained(task, places, tmp_path / "cache", monkeypatch, harm)
    assert are_equal(before, after)


def test_a_network_that_is_no_worse_after_retraining_is_kept_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, places = trained_task(tmp_path, "finetune")
    _, before, after = retrained(task, places, tmp_path / "cache", monkeypatch, change)
    assert not are_equal(before, after)


def test_no_step_moves_a_sum_far_where_a_batch_norm_was_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, places = trained_task(tmp_path, "finetune")
    for rate, used in ((1e-3, 1e-3), (1.0, 0.5 / 9)):  # its convolution has nine inputs, and no other layer a BatchNorm
        fast = replace(task, effort=replace(task.effort, approximate_learning_rate=rate))
        rates, *_ = retrained(fast, places, tmp_path / f"{rate}", monkeypatch, change)
        assert rates == [pytest.approx(used)]


@pytest.mark.slow
def test_built_in_networks_are_retrained_at_their_own_rate_whatever_comes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = find_task("digits")
    task = replace(digits, effort=replace(digits.effort, train_epochs=2, approximate_learning_rate=1.0))
    candidate = replace(task.space.baseline(), family="mlp", depth=1, width=1)
    places = ImagePlaces.at(tmp_path)
    rates, before, after = retrained(task, places, tmp_path / "cache", monkeypatch, ruin, candidate)
    assert rates == [1.0]
    assert not are_equal(before, after)
