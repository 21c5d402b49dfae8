"""How many images of a data set train, choose and test, whatever splits it comes with.

A data set without validation images gives some of its training images; one without test images halves its validation
images, or, without these too, first gives some of all images for testing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_FEW_IMAGES = 10_000  # below which shares are larger, because accuracies would be coarse
_SHARE, _SHARE_OF_FEW = 0.1, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSizes:
    """Numbers of images.

    Attributes:
        train: For training.
        validation: For choosing between candidates.
        test: For the final report.
    """

    train: int
    validation: int
    test: int


def held_out(images: int) -> int:
    """Return how many of some images are held out: a quarter of few, and a tenth of 10,000 or more."""
    return max(1, round(images * (_SHARE_OF_FEW if images < _FEW_IMAGES else _SHARE)))


def split_sizes(counts: Mapping[str, int]) -> SplitSizes:
    """Return the sizes of the splits that are made from those that a data set has.

    Args:
        counts: Split -> number of images, of `search.images.dataset.SPLITS`.
    """
    train = counts.get("all", 0) or counts["train"]
    validation, test = counts.get("validation", 0), counts.get("test", 0)
    if not test and validation:
        test = validation // 2
        validation -= test
    elif not test:
        test = held_out(train)
        train -= test
    if not validation:
        validation = held_out(train)
        train -= validation
    return SplitSizes(train=train, validation=validation, test=test)
