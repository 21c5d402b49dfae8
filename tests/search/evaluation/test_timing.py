import gc
from dataclasses import replace

import pytest
import torch
from torch import nn

import approx
from search.evaluation import timing
from search.evaluation.timing import time_steps
from search.space.task import find_task

pytestmark = pytest.mark.slow

EFFORT = find_task("digits").effort
CONFIG = approx.LayerApproximation(weight_bits=8, activation_bits=8)


class Counting(nn.Module):
    """A network that counts the images that pass it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)
        self.seen: list[int] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(inputs))
        found: torch.Tensor = self.layer(inputs.flatten(1))
        return found


@pytest.fixture
def images() -> approx.LabelledImages:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (600, 1, 4, 4), dtype=torch.uint8, generator=rng)
    return approx.LabelledImages(pixels, torch.arange(600) % 3, 255)


def test_every_part_of_an_evaluation_is_timed(images: approx.LabelledImages) -> None:
    network, state = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.get_rng_state()
    found = time_steps(network, images, EFFORT, CONFIG, trains=True, limit_s=0.2)
    assert 0 < found.image_s < found.train_step_s < found.retrain_step_s < 1
    assert 0 < found.convert_s < 1
    assert torch.equal(torch.get_rng_state(), state)  # what is random elsewhere stays as it is


def test_nothing_is_trained_where_evaluations_train_nothing(images: approx.LabelledImages) -> None:
    network = Counting()
    before = network.layer.weight.detach().clone()
    found = time_steps(network, images, EFFORT, CONFIG, trains=False, limit_s=0.2)
    assert (found.train_step_s, found.retrain_step_s) == (0, 0)
    assert found.image_s > 0
    assert torch.equal(network.layer.weight, before)


def test_steps_are_those_of_the_effort(images: approx.LabelledImages) -> None:
    network = Counting()
    time_steps(network, images, replace(EFFORT, batch_size=48), CONFIG, trains=True, limit_s=2.0)
    assert 48 in network.seen
    assert max(network.seen) == 600  # classified at a time


def test_no_garbage_is_collected_meanwhile(images: approx.LabelledImages) -> None:
    """It takes longer than hundreds of small steps, and a step that it interrupts would count for all of them."""

    class Fails(Counting):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            assert not gc.isenabled()
            if len(self.seen) == 5:
                raise ArithmeticError
            return super().forward(inputs)

    assert gc.isenabled()
    with pytest.raises(ArithmeticError):
        time_steps(Fails(), images, EFFORT, CONFIG, trains=True, limit_s=1.0)
    assert gc.isenabled()


def test_two_steps_are_timed_at_least() -> None:
    assert not timing._is_enough([0.0, 9.0], until=0.5)
    assert timing._is_enough([0.0, 9.0, 9.1], until=0.5)
    assert not timing._is_enough([0.0, 9.0, 9.1], until=20.0)
    assert timing._is_enough([0.0, 0.1, 0.2, 0.3, 0.4], until=20.0)


@pytest.mark.parametrize("batch", [100, 128])
def test_what_takes_long_is_timed_with_few_images(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sizes = [0.0], []
    monkeypatch.setattr("search.evaluation.timing.time.process_time", lambda: clock[0])

    def seconds_of(size: int, until: float) -> float:
        sizes.append(size)
        clock[0] += 0.5 + size  # a second each, and half a second for whatever their number
        return 0.5 + size

    assert timing._at_full_size(seconds_of, batch, 0.1) == pytest.approx(2.5 * batch / 2)  # two at least
    assert sizes == [2, 2]  # the first to warm up
    assert timing._at_full_size(seconds_of, batch, 40.0) == pytest.approx(0.5 + batch)
    assert max(sizes) == 8
    assert timing._at_full_size(seconds_of, batch, 1e9) == 0.5 + batch
    assert max(sizes) == batch
