"""Which images networks classify correctly, on chips of which each has its own failing memory cells."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from torch import nn

import approx
from search.content_hash import content_hash, seed_of
from search.evaluation.emulation import Emulation
from search.evaluation.evaluation import Split
from search.evaluation.task_images import TaskImages
from search.space.candidate import Candidate


class Chips:
    """The chips of a search, or of a fresh run.

    The test images run on other chips than those by which candidates are chosen.

    Args:
        images: The images.
        emulation: How weights are stored, and how cells fail.
        count: Number of chips for each split.
        seed: Seed of the search, or of the run.
    """

    def __init__(self, images: TaskImages, emulation: Emulation, *, count: int, seed: int) -> None:
        self._images = images
        self._emulation = emulation
        self._count = count
        self._seed = seed

    def seeds(self, split: Split) -> list[int]:
        """Return the seeds of the chips on which a split runs."""
        return chip_seeds(split, count=self._count, seed=self._seed)

    def right(
        self, candidate: Candidate, model: nn.Module, split: Split, *, dense_layers: Collection[str] = ()
    ) -> NDArray[np.bool_]:
        """Return whether each image is classified correctly on each chip: shape (chips, N).

        Chips differ in failing cells only, so one run is enough if none fails.

        Args:
            candidate: Candidate in canonical form.
            model: Its approximated network, which keeps the memory.
            split: Images to classify.
            dense_layers: Layers whose pruned weights are stored too.
        """
        images = self._images.of(split)
        if not self._emulation.cells_fail(candidate):
            return np.broadcast_to(right_without_faults(model, images), (self._count, len(images)))
        self._emulation.put_in_memory(model, candidate, approx.layer_order(model, self._images.example()), dense_layers)
        with _overflows_expected():
            found = approx.chip_predictions(model, images, self.seeds(split))
        return (found == images.labels).numpy()


def chip_seeds(split: Split, *, count: int, seed: int) -> list[int]:
    """Return the seeds of the chips on which a split runs, in a search or a fresh run of a seed."""
    return [seed_of(content_hash({"chip": chip, "split": split, "seed": seed})) for chip in range(count)]


def right_without_faults(model: nn.Module, images: approx.LabelledImages) -> NDArray[np.bool_]:
    """Return whether each image is classified correctly with a perfect memory: shape (N,)."""
    with _overflows_expected():
        return (approx.predictions(model, images) == images.labels).numpy()


@contextmanager
def _overflows_expected() -> Iterator[None]:
    """Silences the warning of overflowing sums: evaluations count them, and hundreds of warnings would say no more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", approx.OverflowWarning)
        yield
