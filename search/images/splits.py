"""How many images of a data set train, choose and test, whatever splits it comes with.

A data set without validation images gives some of its training images; one without test images halves its validation
images, or, without these too, first gives some of all images for testing.

A network that comes trained may have seen all of the training images. So what confirms an answer may not be cut from
these, as it is for a network that is trained from scratch, if there are validation images: half of them confirm. If
there are none, as many as validate are cut from the training images, and nothing can tell whether they are clean. Its
evaluations take little time beside that of measuring them, so at most 4,000 images choose; the others confirm too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_FEW_IMAGES = 10_000  # below which shares are larger, because accuracies would be coarse
_SHARE, _SHARE_OF_FEW = 0.1, 0.25
MOST_CHOOSING = 4_000  # images that choose between networks that come trained


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSizes:
    """Numbers of images.

    Attributes:
        train: For training.
        validation: For choosing between candidates.
        test: For the final report.
        confirmation: For confirming answers of networks that come trained; 0 for those trained from scratch.
    """

    train: int
    validation: int
    test: int
    confirmation: int = 0


def held_out(images: int) -> int:
    """Return how many of some images are held out: a quarter of few, and a tenth of 10,000 or more."""
    return max(1, round(images * (_SHARE_OF_FEW if images < _FEW_IMAGES else _SHARE)))


def split_sizes(counts: Mapping[str, int], *, trained: bool = False) -> SplitSizes:
    """Return the sizes of the splits that are made from those that a data set has.

    Args:
        counts: Split -> number of images, of `search.images.dataset.SPLITS`.
        trained: Whether networks come trained.
    """
    train = counts.get("all", 0) or counts["train"]
    validation, test = counts.get("validation", 0), counts.get("test", 0)
    if not test and validation:
        test = validation // 2
        validation -= test
    elif not test:
        test = held_out(train)
        train -= test
    confirmation = 0
    if not validation:
        validation = 2 * held_out(train) if trained else held_out(train)
        train -= validation
    if trained:
        choosing = min(validation // 2, MOST_CHOOSING)
        validation, confirmation = choosing, validation - choosing
    return SplitSizes(train=train, validation=validation, test=test, confirmation=confirmation)
