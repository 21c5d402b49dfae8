"""Networks that are converted as they come: what is removed, what is mended, and by which images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import approx
from search.evaluation import datasets, post_training
from search.evaluation.emulation import Emulation
from search.evaluation.post_training import PostTraining
from search.evaluation.task_images import TaskImages
from search.space.candidate import Candidate
from search.space.task import Task
from tests.support.trained import small_network, trained_task

EMULATION = Emulation(failures="silicon-14nm", circuit_bits=None, partial_sums=None, multipliers={})


@pytest.fixture(scope="module")
def task_and_images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, TaskImages]:
    task, places = trained_task(tmp_path_factory.mktemp("images"), "none")
    return task, TaskImages(task, datasets.load(task, places))


@pytest.fixture
def task(task_and_images: tuple[Task, TaskImages]) -> Task:
    return task_and_images[0]


@pytest.fixture
def images(task_and_images: tuple[Task, TaskImages]) -> TaskImages:
    return task_and_images[1]


@pytest.fixture(autouse=True)
def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*arguments: Any, **others: Any) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr(approx, "fit", fit)


@pytest.fixture
def networks(task: Task, images: TaskImages) -> PostTraining:
    return PostTraining(task, images, emulation=EMULATION)


def statistics(model: nn.Module) -> list[torch.Tensor]:
    """Running statistics of all BatchNorms."""
    return [buffer for name, buffer in model.named_buffers() if name.endswith(("running_mean", "running_var"))]


def test_the_baseline_is_the_network_as_it_was_given(networks: PostTraining, task: Task) -> None:
    found = networks.pruned(task.space.baseline())
    assert found.masks == {}
    given = small_network().state_dict()
    assert found.model.state_dict().keys() == given.keys()
    assert all(torch.equal(value, given[name]) for name, value in found.model.state_dict().items())


def test_it_becomes_what_approx_makes_of_it(networks: PostTraining, task: Task, images: TaskImages) -> None:
    candidate = replace(task.space.baseline(), weight_bits=4, activation_bits=5, multiplier="drum-3")
    found, early = networks.approximated(candidate, networks.pruned(candidate))
    assert early is None
    data = images.calibration_data()
    config = approx.LayerApproximation(weight_bits=4, activation_bits=5, multiplier="drum-3")
    by_hand = approx.approximate(small_network(), config, calibration_data=data)
    with torch.no_grad():
        assert not torch.equal(found(data), by_hand(data))
        approx.correct_bias(by_hand, small_network(), data)
        assert torch.equal(found(data), by_hand(data))


def test_what_is_pruned_keeps_its_largest_weights_and_has_statistics_of_its_own(
    networks: PostTraining, task: Task, images: TaskImages
) -> None:
    candidate = replace(task.space.baseline(), sparsity=0.6)
    found = networks.pruned(candidate)
    by_hand = networks.pruned(task.space.baseline())
    weights = {name: layer.weight for name, layer in approx.weight_layers(by_hand.model)}
    masks = approx.magnitude_masks(weights, 0.6)
    assert found.masks.keys() == masks.keys()
    for name, layer in approx.weight_layers(found.model):
        assert torch.equal(found.masks[name], masks[name])
        assert torch.equal(layer.weight, weights[name] * masks[name])
    # The statistics are those of the pruned layer before the BatchNorm, on the images that calibrate.
    before = dict(found.model.named_children())["0"](images.calibration_data())
    mean, _ = statistics(found.model)
    assert torch.allclose(mean, before.mean(dim=(0, 2, 3)), atol=1e-5)
    assert not torch.allclose(mean, statistics(small_network())[0], atol=1e-3)
    assert torch.equal(statistics(by_hand.model)[0], statistics(small_network())[0])  # of what was not pruned


def weight_normed(*arguments: Any, **others: Any) -> nn.Module:
    network = small_network()
    parametrizations.weight_norm(next(layer for _, layer in approx.weight_layers(network)))
    return network


def test_weights_that_are_computed_are_pruned_too(
    networks: PostTraining, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = networks.pruned(replace(task.space.baseline(), sparsity=0.5)).masks
    monkeypatch.setattr(post_training, "build_custom_network", weight_normed)
    found = networks.pruned(replace(task.space.baseline(), sparsity=0.6))
    assert found.masks.keys() == expected.keys()


def test_what_pruning_shifts_is_mended_too(networks: PostTraining, task: Task, images: TaskImages) -> None:
    """The mean outputs of layers become those before any weight was removed."""
    candidate = replace(task.space.baseline(), sparsity=0.6)
    pruned = networks.pruned(candidate)
    found, _ = networks.approximated(candidate, pruned)
    data = images.calibration_data()
    by_hand = approx.approximate(pruned.model, approx.LayerApproximation(), calibration_data=data, masks=pruned.masks)
    approx.correct_bias(by_hand, small_network(), data)
    with torch.no_grad():
        assert torch.equal(found(data), by_hand(data))
        assert torch.allclose(found(data).mean(dim=0), small_network()(data).mean(dim=0), atol=1e-4)


def test_what_lost_channels_has_statistics_of_its_own(networks: PostTraining, task: Task, images: TaskImages) -> None:
    found = networks.pruned(replace(task.space.baseline(), width=4)).model
    layers = dict(approx.weight_layers(found))
    assert [len(layer.weight) for layer in layers.values()] == [4, 8, 3]
    mean, _ = statistics(found)
    assert torch.allclose(mean, layers["0"](images.calibration_data()).mean(dim=(0, 2, 3)), atol=1e-5)


def test_mending_is_worth_it(networks: PostTraining, task: Task, images: TaskImages) -> None:
    """Against the same network, pruned and converted without it."""
    candidate = replace(task.space.baseline(), sparsity=0.6, weight_bits=3, activation_bits=4)
    found, _ = networks.approximated(candidate, networks.pruned(candidate))
    weights = {name: layer.weight for name, layer in approx.weight_layers(small_network())}
    config = approx.LayerApproximation(weight_bits=3, activation_bits=4)
    plain = approx.approximate(
        small_network(),
        config,
        calibration_data=images.calibration_data(),
        masks=approx.magnitude_masks(weights, 0.6),
    )
    with torch.no_grad():
        wanted = small_network()(images.of("test").inputs(slice(None)))
        errors = [(model(images.of("test").inputs(slice(None))) - wanted).square().mean() for model in (found, plain)]
    assert errors[0] < 0.7 * errors[1]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The network inputs that mended or calibrated something."""
    found: list[torch.Tensor] = []

    def note(name: str) -> None:
        original = getattr(approx, name)

        def noted(*arguments: Any, **others: Any) -> Any:
            found.append(others.get("calibration_data", arguments[-1]))
            return original(*arguments, **others)

        monkeypatch.setattr(approx, name, noted)

    for name in ("reestimate_batch_norm", "approximate", "correct_bias"):
        note(name)
    return found


def test_training_images_alone_mend_and_calibrate(task: Task, images: TaskImages, seen: list[torch.Tensor]) -> None:
    networks = PostTraining(task, images, emulation=EMULATION)
    candidate = replace(task.space.baseline(), width=6, sparsity=0.5)
    networks.approximated(candidate, networks.pruned(candidate))
    assert len(seen) == 4  # without the channels, without the weights, converted, its biases
    training = {image.numpy().tobytes() for image in images.train.inputs(slice(None))}
    for inputs in seen:
        assert {image.numpy().tobytes() for image in inputs} <= training


def test_nothing_in_it_is_random(task: Task, images: TaskImages) -> None:
    candidate: Candidate = replace(task.space.baseline(), width=5, sparsity=0.4, weight_bits=4)
    states = []
    for _ in range(2):
        torch.rand(3)
        networks = PostTraining(task, images, emulation=EMULATION)
        model, _ = networks.approximated(candidate, networks.pruned(candidate))
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_candidates_that_share_a_network_make_it_once_and_leave_it_as_it_is(
    task: Task, images: TaskImages, seen: list[torch.Tensor]
) -> None:
    networks = PostTraining(task, images, emulation=EMULATION)
    candidate = replace(task.space.baseline(), width=6, sparsity=0.5)
    first = networks.pruned(candidate)
    before = {name: value.clone() for name, value in first.model.state_dict().items()}
    one, _ = networks.approximated(candidate, first)
    made = len(seen)
    other, _ = networks.approximated(
        replace(candidate, weight_bits=3), networks.pruned(replace(candidate, weight_bits=3))
    )
    assert len(seen) == made + 2  # converted, its biases
    assert networks.pruned(candidate) is first
    assert all(torch.equal(value, before[name]) for name, value in first.model.state_dict().items())
    dense = networks.pruned(replace(candidate, sparsity=0.0))
    assert all((layer.weight != 0).all() for _, layer in approx.weight_layers(dense.model))
    assert not torch.equal(one(images.example()), other(images.example()))
