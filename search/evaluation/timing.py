"""The times of a few steps of one network, from which the time of a search is planned.

They are processor times, because a machine that does something else too would make some of them many times longer.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

import torch
from torch import nn

import approx
from search.space.effort import Effort
from search.space.plan import StepTimes

_GROWTH = 4  # from batch to batch, until one is of full size or the time is up
_STEPS = 4  # of each batch size, of which the shortest counts
_CALIBRATION_IMAGES = 512  # of a conversion in `search.evaluation.training`
_CLASSIFIED = 1000  # images at a time
_TRAINING, _RETRAINING, _CLASSIFYING, _CONVERSION = 0.35, 0.4, 0.1, 0.05  # shares of the time; classifying takes two


def time_steps(
    model: nn.Module,
    images: approx.LabelledImages,
    effort: Effort,
    config: approx.LayerApproximation,
    *,
    trains: bool,
    limit_s: float,
) -> StepTimes:
    """Time the parts of an evaluation with one network, whose weights change.

    What takes long is timed with few images.

    Args:
        model: The network.
        images: Training images.
        effort: Says what a step is.
        config: How the network is converted to integer codes.
        trains: Whether evaluations train; else steps take no time.
        limit_s: About how many seconds this may take, where two images take less.
    """

    def step_s(trained: nn.Module, share: float) -> float:
        if not trains:
            return 0.0
        return _at_full_size(
            lambda size, until: _step_s(trained, images, effort, size, until),
            min(effort.batch_size, len(images)),
            share * limit_s,
        )

    def image_s(classifier: nn.Module) -> float:
        most = min(_CLASSIFIED, len(images))
        seconds = _at_full_size(
            lambda size, until: _classifying_s(classifier, images, size, until), most, _CLASSIFYING * limit_s
        )
        return seconds / most

    with _without_garbage_collection():
        train_step_s, float_image_s = step_s(model, _TRAINING), image_s(model)
        calibrating = min(_CALIBRATION_IMAGES, len(images))
        few = min(calibrating, max(2, int(_CONVERSION * limit_s / float_image_s)))
        started = time.process_time()
        converted = approx.approximate(model, config, calibration_data=images.inputs(slice(0, few)))
        convert_s = time.process_time() - started + (calibrating - few) * float_image_s
        return StepTimes(
            train_step_s=train_step_s,
            retrain_step_s=step_s(converted, _RETRAINING),
            convert_s=convert_s,
            image_s=image_s(converted),
        )


def _at_full_size(seconds_of: Callable[[int, float], float], largest: int, limit_s: float) -> float:
    """Return the seconds of a batch, along the line through two smaller ones if the time does not allow more.

    Args:
        seconds_of: Returns the seconds of a batch of some size, and does not begin anew after a time.
        largest: Size of the batch.
        limit_s: About how many seconds this may take, without the warm-up.
    """
    size = min(2, largest)
    seconds_of(size, 0.0)  # the first step of a process loads much
    until = time.process_time() + limit_s
    seconds, slope = seconds_of(size, until), None
    while size < largest and time.process_time() + 2 * _GROWTH * seconds < until:
        larger = min(largest, _GROWTH * size)
        more = seconds_of(larger, until)
        slope = max(0.0, more - seconds) / (larger - size)
        size, seconds = larger, more
    return seconds * largest / size if slope is None else seconds + slope * (largest - size)


class _EnoughError(Exception):
    """Raised when a few steps are done, to end a training."""


def _step_s(model: nn.Module, images: approx.LabelledImages, effort: Effort, size: int, until: float) -> float:
    """Return the seconds of a training step with a batch of some size."""
    times = [time.process_time()]

    def after_step(_: int, steps: int) -> None:
        times.append(time.process_time())
        if _is_enough(times, until):
            raise _EnoughError

    schedule = approx.Schedule(
        epochs=_STEPS, batch_size=size, learning_rate=effort.learning_rate, augmentation=effort.augmentation
    )
    with suppress(_EnoughError):
        approx.fit(model, images, schedule, seed=0, after_step=after_step)
    return _shortest(times)


@torch.no_grad()
def _classifying_s(model: nn.Module, images: approx.LabelledImages, size: int, until: float) -> float:
    """Return the seconds in which a model classifies some images."""
    model.eval()
    times = [time.process_time()]
    while not _is_enough(times, until):
        model(images.inputs(slice(0, size)))
        times.append(time.process_time())
    return _shortest(times)


def _is_enough(times: list[float], until: float) -> bool:
    """Whether enough steps were timed: several, or two once the time is up, as one may be interrupted."""
    steps = len(times) - 1
    return steps >= _STEPS or (steps >= 2 and times[-1] > until)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Collect no garbage meanwhile, which takes longer than many steps."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _shortest(times: list[float]) -> float:
    return min(after - before for before, after in pairwise(times))
