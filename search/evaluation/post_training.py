"""The networks of candidates without any training: channels and weights are removed, and scales of codes calibrated.

What this shifts on average is mended from training images without their classes: the statistics of BatchNorm layers
after each removal, and the biases of layers after conversion. Nothing in it is random. It takes less time than it takes
to measure the network, so nothing is kept on disk.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from functools import lru_cache

import torch
from torch import nn

import approx
from approx.surgery import fix_computed_weights
from search.evaluation.emulation import Emulation, TrainedNetwork
from search.evaluation.task_images import TaskImages
from search.space.candidate import Candidate, Network
from search.space.custom_network import build_custom_network
from search.space.task import CHANNEL_STEPS, Task

_KEPT = 4  # networks in memory before conversion, of each kind: successive candidates share some


class PostTraining:
    """Makes the networks of one task, whose network comes trained.

    Args:
        task: The task.
        images: Its images.
        emulation: How networks compute.
    """

    def __init__(self, task: Task, images: TaskImages, *, emulation: Emulation) -> None:
        self._task = task
        self._images = images
        self._emulation = emulation
        self._derived = lru_cache(maxsize=_KEPT)(self._derive)
        self._pruned = lru_cache(maxsize=_KEPT)(self._prune)

    def pruned(self, candidate: Candidate) -> TrainedNetwork:
        """Return the candidate's network, without the channels and the weights that the candidate lacks."""
        return self._pruned(candidate.network, candidate.sparsity)

    def approximated(
        self,
        candidate: Candidate,
        network: TrainedNetwork,
        *,
        dense_layers: Collection[str] = (),
        judge: Callable[[float], None] = lambda early: None,
    ) -> tuple[nn.Module, None]:
        """Convert a candidate's network to integer codes, with a perfect memory.

        Args:
            candidate: Candidate in canonical form.
            network: Its network from `pruned`.
            dense_layers: Nothing depends on them here, as nothing learns from faults.
            judge: Never called, as there is no retraining that it could stop.

        Returns:
            The network, and no early accuracy.
        """
        data = self._images.calibration_data()
        layers = approx.layer_order(network.model, self._images.example())
        model = self._emulation.approximated(candidate, network, layers, calibration_data=data)
        approx.correct_bias(model, self._derived(candidate.network), data)
        return model, None

    def _derive(self, network: Network) -> nn.Module:
        task = self._task
        assert task.network is not None
        _, depth, width = network
        model = build_custom_network(
            task.network, depth=depth, width=width, image_shape=task.image_shape, classes=task.classes, seed=0
        )
        if width < CHANNEL_STEPS:
            approx.reestimate_batch_norm(model, self._images.calibration_data())
        return model.eval()

    def _prune(self, network: Network, sparsity: float) -> TrainedNetwork:
        derived = self._derived(network)
        if sparsity == 0:
            return TrainedNetwork(model=derived, masks={}, key=None)
        model = copy.deepcopy(derived)
        fix_computed_weights(model)  # which would not be found
        weights = {name: layer.weight for name, layer in approx.weight_layers(model)}
        masks = approx.magnitude_masks(weights, sparsity)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.mul_(masks[name])
        approx.reestimate_batch_norm(model, self._images.calibration_data())
        return TrainedNetwork(model=model, masks=masks, key=None)
