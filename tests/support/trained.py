"""A small network that comes trained, and its task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

import approx
from search.images.places import ImagePlaces
from search.space.custom_network import find_model
from search.space.effort import Recipe
from search.space.task import Metric, Task, Train, task_of
from tests.support.images import in_memory, patterns

SHAPE = (1, 8, 8)
COUNTS = {"train": 120, "validation": 60, "test": 60}


@cache
def small_network(*, trained: bool = True) -> nn.Module:
    """Return a network of 3 classes with a BatchNorm: do not change it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 16),
            nn.ReLU(),
            nn.Linear(16, 3),
        )
    if trained:
        pixels, labels = patterns(240, seed=7)
        images = approx.LabelledImages(torch.from_numpy(pixels), torch.from_numpy(labels), 255)
        approx.fit(model, images, approx.Schedule(epochs=6, batch_size=16, learning_rate=5e-3), seed=0)
    return model.eval()


def trained_task(
    folder: Path, train: Train, *, counts: Mapping[str, int] = COUNTS, metric: Metric = "accuracy"
) -> tuple[Task, ImagePlaces]:
    """Return a task of the small network on images that it did not see, which are stored in a folder."""
    places = ImagePlaces.at(folder, folder / "images")
    splits = {split: patterns(count, seed=number) for number, (split, count) in enumerate(counts.items())}
    task = task_of(places.library.store(in_memory(splits)))
    network = find_model(small_network(), image_shape=SHAPE, classes=3)
    return replace(task.with_network(network), train=train, metric=metric).with_recipe(Recipe()), places
