"""The precision in which a task's networks are trained on this machine: measured once, and kept."""

from __future__ import annotations

import torch

import approx
from approx import precision as precisions
from search.content_hash import content_hash
from search.errors import UsageError
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.task_images import TaskImages
from search.evaluation.threads import one_thread
from search.evaluation.training import untrained
from search.space.task import Task

_MOST_IMAGES = 32  # in a timed step


def chosen_precision(task: Task, images: TaskImages, cache: TrainingCache) -> str:
    """Return the precision that trains the baseline's network fastest here, one of `approx.precision.PRECISIONS`.

    It is kept with the trained networks, so that all searches of a task that share these train alike on a machine.

    Args:
        task: The task.
        images: Its images.
        cache: Where it is kept.
    """
    if task.train == "none":
        return precisions.FLOAT32
    baseline = task.space.baseline()
    batch_size = min(task.effort.batch_size, _MOST_IMAGES, len(images.train))
    key = content_hash(
        {
            "precision of": list(baseline.network),
            "network": task.network.fingerprint if task.network else None,
            "image_shape": list(task.image_shape),
            "batch_size": batch_size,
            "processor": torch.backends.cpu.get_cpu_capability(),
            "bfloat16": precisions.has_bfloat16(),
            "torch": torch.__version__,
        }
    )

    def measure() -> dict[str, torch.Tensor]:
        few = images.train.subset(torch.arange(batch_size))
        models = {one: untrained(task, baseline, seed=0) for one in precisions.PRECISIONS}

        def step(precision: str) -> None:
            schedule = approx.Schedule(epochs=1, batch_size=batch_size, learning_rate=1e-6, precision=precision)
            approx.fit(models[precision], few, schedule, seed=0)

        with one_thread():
            return {"place": torch.tensor(precisions.PRECISIONS.index(precisions.fastest(step)))}

    return precisions.PRECISIONS[int(cache.get_or_compute(key, measure)["place"])]


def check_precision(precision: str) -> str | None:
    """Check that a precision can be trained in, and return a note where it takes longer here than it need.

    Raises:
        UsageError: If there is none of this name.
    """
    if precision not in precisions.PRECISIONS:
        raise UsageError(f"`precision` must be one of {', '.join(precisions.PRECISIONS)}, got {precision!r}")
    if precision == precisions.BFLOAT16 and not precisions.has_bfloat16():
        return (
            "this processor has no instructions for bfloat16 (AVX512-BF16 or AMX) and emulates it, with the same "
            "results in many times the time"
        )
    return None
