"""Finished networks of evaluations, kept so that they are exported without training, images and the network's code.

A search keeps those of its front, of its baseline and of its answer: what it prints. They are in the cache, each under
a key made of the evaluation's.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

import approx
from approx.packing import Frame, packed, unpacked
from search.content_hash import content_hash
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.emulation import Emulation
from search.evaluation.training import untrained
from search.space.candidate import Candidate, Network
from search.space.task import Task

_VERSION = 1  # raise whenever what is kept is read otherwise


class FinishedNetworks:
    """Keeps and returns the finished networks of one task.

    Args:
        task: The task.
        cache: Where they are kept.
    """

    def __init__(self, task: Task, cache: TrainingCache) -> None:
        self._task = task
        self._cache = cache
        self._frames: dict[Network, Frame | None] = {}

    def keep(
        self, key: str, candidate: Candidate, model: nn.Module, emulation: Emulation, dense_layers: Collection[str]
    ) -> None:
        """Keep the network of an evaluation, if it can be traced and there is room.

        Args:
            key: The evaluation's key.
            candidate: Candidate in canonical form.
            model: Its approximated network, which keeps the memory.
            emulation: How weights are stored, and how cells fail.
            dense_layers: Layers whose pruned weights are stored too.
        """
        emulation.put_in_memory(model, candidate, approx.layer_order(model, example_of(self._task)), dense_layers)
        frame = None
        if self._task.network is not None:  # whose code may be gone when it is exported
            frame = self._frame_of_custom(candidate, model)
            if frame is None:
                return
        self._cache.keep_finished(finished_key(key), packed(model, frame))

    def find(self, key: str, candidate: Candidate) -> nn.Module | None:
        """Return the kept network of an evaluation in its memory, equal to the bit; None if there is none.

        Args:
            key: The evaluation's key.
            candidate: Candidate in canonical form.
        """
        tensors = self._cache.find_finished(finished_key(key))
        if tensors is None:
            return None
        try:
            return unpacked(tensors, None if self._task.network is not None else self._frame_of_built_in(candidate))
        except approx.SavedModelError:  # another version of torch kept it
            return None

    def _frame_of_custom(self, candidate: Candidate, model: nn.Module) -> Frame | None:
        """Return the frame of a network and of its other conversions; None if it has none, as its export will say."""
        if candidate.network not in self._frames:
            try:
                self._frames[candidate.network] = Frame.of(model, example_of(self._task))
            except approx.ArgumentError:
                self._frames[candidate.network] = None
        return self._frames[candidate.network]

    def _frame_of_built_in(self, candidate: Candidate) -> Frame:
        """Return the frame of a network that is built here, from a conversion of one that is not trained."""
        network, example = untrained(self._task, candidate, seed=0), example_of(self._task)
        config = approx.LayerApproximation(weight_bits=8, activation_bits=8)
        return Frame.of(approx.approximate(network, config, calibration_data=example), example)


def finished_key(key: str) -> str:
    """Return the key under which the finished network of an evaluation is kept."""
    return content_hash({"finished": key, "version": _VERSION})


def example_of(task: Task) -> Tensor:
    """Return a batch of inputs like those of a task's networks, always the same, for tracing without images."""
    return torch.rand(2, *task.image_shape, generator=torch.Generator().manual_seed(0))
