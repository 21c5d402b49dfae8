from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from search.evaluation.datasets import TaskData
from search.evaluation.task_images import TaskImages
from search.images.image_set import ImageSet
from search.space.task import Task, find_task

CIFAR = replace(find_task("cifar10"), mean=(), std=())
rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (700, 3, 4, 4)).astype(np.uint8)


def images(first: int, last: int) -> ImageSet:
    return ImageSet(PIXELS[first:last], np.arange(first, last) % 10)


DATA = TaskData(train=images(0, 600), validation=images(600, 640), test=images(640, 700), fingerprint="")


def scaled(first: int, last: int) -> Tensor:
    return torch.from_numpy(PIXELS[first:last]).to(torch.float32) / 255


@pytest.mark.parametrize("mean", [(), (0.4, 0.5, 0.6)])
@pytest.mark.parametrize("std", [(), (0.2, 0.3, 0.1)])
def test_pixels_are_normalised_by_what_is_given_of_mean_and_deviation(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    task: Task = replace(CIFAR, mean=mean, std=std)
    expected = scaled(600, 640)
    if mean:
        expected = expected - torch.tensor(mean)[:, None, None]
    if std:
        expected = expected / torch.tensor(std)[:, None, None]
    assert torch.allclose(TaskImages(task, DATA).of("validation").inputs(slice(None)), expected)


def test_each_split_has_its_images_and_classes() -> None:
    found = TaskImages(CIFAR, DATA)
    assert torch.equal(found.of("test").inputs(slice(None)), scaled(640, 700))
    assert found.of("test").labels.tolist() == found.labels("test").tolist() == DATA.test.labels.tolist()
    assert found.of("validation").labels.tolist() == found.labels("validation").tolist()


def test_the_first_training_images_calibrate() -> None:
    found = TaskImages(CIFAR, DATA)
    assert torch.equal(found.calibration_data(), scaled(0, 512))
    assert torch.equal(found.example(), scaled(0, 2))
