"""Where the networks of candidates come from: training, or conversion alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from torch import nn

from search.evaluation.cache.cache import TrainingCache
from search.evaluation.emulation import Emulation, TrainedNetwork
from search.evaluation.post_training import PostTraining
from search.evaluation.task_images import TaskImages
from search.evaluation.training import Training
from search.space.candidate import Candidate
from search.space.task import Task


class Networks(Protocol):
    """Gives the networks of the candidates of one task."""

    def pruned(self, candidate: Candidate) -> TrainedNetwork:
        """Return the candidate's network, pruned if the candidate is sparse."""
        ...

    def approximated(
        self,
        candidate: Candidate,
        network: TrainedNetwork,
        *,
        dense_layers: Collection[str] = (),
        judge: Callable[[float], None] = lambda early: None,
    ) -> tuple[nn.Module, float | None]:
        """Convert a candidate's network to integer codes, with a perfect memory.

        Args:
            candidate: Candidate in canonical form.
            network: Its network from `pruned`.
            dense_layers: Layers whose pruned weights are stored too, so that they can fail.
            judge: Called with the accuracy early in the retraining, if there is any; may raise an exception to stop it.

        Returns:
            The network, and its early accuracy; None if it was not retrained.
        """
        ...


def networks_of(
    task: Task,
    images: TaskImages,
    *,
    seed: int,
    cache: TrainingCache,
    emulation: Emulation,
    own_baseline: bool = False,
    on_training: Callable[[str], None] = lambda stage: None,
) -> Networks:
    """Return what gives the networks of a task; see `Training` and `PostTraining`."""
    if task.train == "none":
        return PostTraining(task, images, emulation=emulation)
    return Training(
        task,
        images,
        seed=seed,
        cache=cache,
        emulation=emulation,
        own_baseline=own_baseline,
        on_training=on_training,
    )
