"""Runs by which answers are confirmed, and which images they classified correctly."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.space.candidate import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Which images were classified correctly on each chip.

    Attributes:
        groups: Number of images in each group; accuracy is the mean over groups of the share of a group that is right.
        chips: Number of chips.
        packed: Base64 of the zlib compressed bits, eight a byte, of (chips, images): images are in order of groups.
    """

    groups: tuple[int, ...]
    chips: int
    packed: str

    @classmethod
    def of(cls, right: NDArray[np.bool_], groups: Sequence[int]) -> Outcomes:
        """Pack outcomes.

        Args:
            right: Whether each image was classified correctly on each chip, shape (chips, images), images in order of
                groups.
            groups: Number of images in each group.
        """
        packed = base64.b64encode(zlib.compress(np.packbits(right).tobytes())).decode()
        return cls(groups=tuple(groups), chips=len(right), packed=packed)

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(self.groups)

    def right(self) -> NDArray[np.bool_]:
        """Whether each image was classified correctly on each chip, shape (chips, images)."""
        packed = np.frombuffer(zlib.decompress(base64.b64decode(self.packed)), np.uint8)
        count = self.chips * self.images
        return np.unpackbits(packed, count=count).astype(np.bool_).reshape(self.chips, self.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationRun:
    """A measurement of a candidate by which an answer is confirmed.

    A network that is trained is retrained for it from other random numbers; from scratch, also on another split of the
    images than in the search. A network that is converted without training is the same as in the search, and is
    measured on other images and chips.

    Attributes:
        candidate: The candidate, in canonical form.
        run: Number of the run.
        chip_accuracies: Accuracy on each chip, on images that trained and chose nothing in the run.
        images: Number of these images, by `search.evaluation.metrics.effective_images`.
        pool: Number of images from which they were drawn, likewise; the same as `images` if all runs share them.
        outcomes: Which of the images were right on which chip, if all runs share them; else None.
        retrained: Whether the network was retrained.
        test_accuracies: Accuracy on each chip on the test images, which decides nothing.
        test_class_accuracies: Share of each class's test images that is right, as a mean over chips; None for a class
            without any.
        seconds: Time the run took.
    """

    candidate: Candidate
    run: int
    chip_accuracies: tuple[float, ...]
    images: int
    pool: int
    outcomes: Outcomes | None
    retrained: bool
    test_accuracies: tuple[float, ...]
    test_class_accuracies: tuple[float | None, ...]
    seconds: float

    @property
    def accuracy(self) -> float:
        """Mean over chips on the images that decide."""
        return fmean(self.chip_accuracies)

    @property
    def test_accuracy(self) -> float:
        """Mean over chips on the test images."""
        return fmean(self.test_accuracies)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        outcomes = self.outcomes
        return {
            "candidate": self.candidate.to_dict(),
            "run": self.run,
            "chip_accuracies": list(self.chip_accuracies),
            "images": self.images,
            "pool": self.pool,
            "outcomes": None
            if outcomes is None
            else {"groups": list(outcomes.groups), "chips": outcomes.chips, "packed": outcomes.packed},
            "retrained": self.retrained,
            "test_accuracies": list(self.test_accuracies),
            "test_class_accuracies": list(self.test_class_accuracies),
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ConfirmationRun:
        """From the JSON object that `to_dict` made."""
        outcomes = content["outcomes"]
        return cls(
            candidate=Candidate.from_dict(content["candidate"]),
            run=content["run"],
            chip_accuracies=tuple(content["chip_accuracies"]),
            images=content["images"],
            pool=content["pool"],
            outcomes=None if outcomes is None else Outcomes(**{**outcomes, "groups": tuple(outcomes["groups"])}),
            retrained=content["retrained"],
            test_accuracies=tuple(content["test_accuracies"]),
            test_class_accuracies=tuple(content["test_class_accuracies"]),
            seconds=content["seconds"],
        )
