"""The baselines that come with the package are what their provenance says."""

import hashlib
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import approx
from search.evaluation import datasets
from search.evaluation.task_images import TaskImages
from search.images.places import ImagePlaces
from search.space.effort import Recipe
from search.space.shipped import FOLDER, shipped_baseline
from search.space.task import Task, find_task

NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))


def loaded(task: Task) -> torch.nn.Module:
    shipped = shipped_baseline(task.name)
    assert shipped is not None
    architecture = approx.Architecture(family=shipped.family, depth=shipped.depth, width=shipped.width)
    model = approx.build_network(architecture, image_shape=task.image_shape, classes=task.classes, seed=0)
    model.load_state_dict(load_file(shipped.weights))
    return model.float().eval()


def test_some_come_with_the_package() -> None:
    assert {"digits", "mnist"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_the_one_that_was_made_small_and_in_half_precision(name: str) -> None:
    shipped = shipped_baseline(name)
    assert shipped is not None
    content = shipped.weights.read_bytes()
    assert hashlib.sha256(content).hexdigest() == shipped.sha256
    assert len(content) < 1_000_000
    assert {value.dtype for value in load_file(shipped.weights).values()} <= {torch.float16, torch.int64}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_baseline_of_the_task(name: str) -> None:
    task, shipped = find_task(name), shipped_baseline(name)
    assert shipped is not None
    assert task.shipped_baseline == shipped
    assert task.space.baseline().network == (shipped.family, shipped.depth, shipped.width)
    loaded(task)


def test_digits_are_classified_as_it_says() -> None:
    task, shipped = find_task("digits"), shipped_baseline("digits")
    assert shipped is not None
    images = TaskImages(task, datasets.load(task, ImagePlaces.at(None)))
    assert approx.accuracy(loaded(task), images.of("test")) == pytest.approx(shipped.test_accuracy, abs=0.005)
    assert approx.accuracy(loaded(task), images.of("validation")) == pytest.approx(
        shipped.validation_accuracy, abs=0.005
    )


def test_another_recipe_normalisation_or_wish_has_another_baseline() -> None:
    task = find_task("digits")
    assert task.with_recipe(Recipe(pruning="uniform")).shipped_baseline is not None
    assert task.with_recipe(Recipe(epochs=3)).shipped_baseline is None
    assert replace(task, mean=(0.5,)).shipped_baseline is None
    assert replace(task, from_scratch=True).shipped_baseline is None
    assert find_task("svhn").shipped_baseline is None
