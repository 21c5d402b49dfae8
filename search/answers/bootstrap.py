"""Confidence bounds of networks that are measured and not retrained: bootstrapped over images and chips.

Images and chips are both random: a network that is right on these images, on these chips, may be wrong on others. So
both are drawn anew, with replacement, and independently of each other (Owen's pigeonhole bootstrap, Annals of Applied
Statistics 1(2), 2007, which finds that it errs on the safe side). Of two networks that are compared, the images are
drawn together, because both classified the same ones; their chips are drawn apart, because a chip is a draw of the
cells that fail, and each network has a memory of its own.

Bounds are percentiles. Few units vary less in a resample than they should, so the percentile is taken as far out as
Student's t is beyond the normal distribution, for the fewest units that vary (Hesterberg's expanded percentile, The
American Statistician 69(4), 2015).

A resample cannot hold an error that was not measured. So no bound is tighter than `exact_bound`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from search.evaluation.metrics import effective_images

Right = NDArray[np.bool_]  # whether each image is right on each chip: (chips, images), images in order of groups

_RESAMPLES = 2000
_SEED = 1979  # when Efron published the bootstrap
_DRAWN_AT_ONCE = 4_000_000  # counts in memory


def bootstrap_bound(
    right: Right, other: Right | None, groups: Sequence[int], *, confidence: float
) -> tuple[float, float]:
    """Return the standard error of an accuracy, or of how far it is above another, and its lower confidence bound.

    Args:
        right: Outcomes of the network.
        other: Outcomes of the network that it is compared with, on the same images; None for the accuracy itself.
        groups: Number of images in each group; an accuracy is the mean over groups of the share that is right.
        confidence: Confidence of the bound.
    """
    from scipy.special import ndtr, stdtrit  # scipy.stats has the same and takes half a second to load

    sides = [right] if other is None else [right, other]
    rng = np.random.default_rng(_SEED)
    means = np.concatenate(list(_image_resamples(np.concatenate(sides), groups, rng)))  # (resamples, chips of both)
    estimates = np.zeros(_RESAMPLES)
    fewest, column = effective_images(groups), 0
    for sign, side in zip((1, -1), sides, strict=False):
        chips = len(side)
        chip_means = means[:, column : column + chips]
        column += chips
        if (side == side[0]).all():  # no cell failed, so that all chips are one
            estimates += sign * chip_means[:, 0]
            continue
        drawn = rng.multinomial(chips, np.full(chips, 1 / chips), size=_RESAMPLES)
        estimates += sign * (drawn * chip_means).sum(axis=1) / chips
        fewest = min(fewest, chips)
    share = 1 - confidence
    if fewest > 1:
        share = float(ndtr(math.sqrt(fewest / (fewest - 1)) * stdtrit(fewest - 1, share)))
    exact = exact_bound(right, other, groups, confidence=confidence)
    return float(estimates.std()), min(float(np.quantile(estimates, share)), exact)


def exact_bound(right: Right, other: Right | None, groups: Sequence[int], *, confidence: float) -> float:
    """Return a lower confidence bound that is exact where no image, or none but losses, was measured.

    That of an accuracy is Clopper and Pearson's (Biometrika 26(4), 1934). A difference is one between two shares: of
    images that only the one network has right, and that only the other has. The bound takes the distance of each from
    its own Clopper-Pearson bound, and adds both as independent errors are (Zou and Donner, Statistics in Medicine
    27(10), 2008). If no image differs among n, and all that could differ were losses, the bound is that of 0 in n.

    Args:
        right: As for `bootstrap_bound`.
        other: As for `bootstrap_bound`.
        groups: As for `bootstrap_bound`.
        confidence: As for `bootstrap_bound`.
    """
    images = effective_images(groups)
    weights = np.repeat([1 / (len(groups) * size) for size in groups], groups)
    mean = right.mean(axis=0)
    if other is None:
        return _lower(float(mean @ weights), images, confidence)
    difference = mean - other.mean(axis=0)
    gains, losses = (float(np.maximum(sign * difference, 0) @ weights) for sign in (1, -1))
    unsure_gains = gains - _lower(gains, images, confidence)
    unsure_losses = -losses - (_lower(1 - losses, images, confidence) - 1)
    return gains - losses - math.hypot(unsure_gains, unsure_losses)


def _lower(share: float, images: int, confidence: float) -> float:
    """Return Clopper and Pearson's lower bound of a share among images, which need not be a whole number of them."""
    from scipy.special import betaincinv

    if share <= 0:
        return 0.0
    return float(betaincinv(share * images, (1 - share) * images + 1, 1 - confidence))


def _image_resamples(right: Right, groups: Sequence[int], rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Yield the accuracy of each row on images drawn anew from each group: (resamples, rows), in parts.

    Images with the same outcomes are interchangeable, so their number is drawn instead of each of them.
    """
    kinds = []
    for first, size in zip(np.cumsum((0, *groups[:-1])), groups, strict=True):
        packed = np.packbits(right[:, first : first + size], axis=0)
        columns = np.ascontiguousarray(packed.T).view(f"V{len(packed)}").ravel()
        _, examples, counts = np.unique(columns, return_index=True, return_counts=True)
        kinds.append((right[:, first + examples].astype(np.float64), counts, size))
    most = max(len(counts) for _, counts, _ in kinds)
    at_once = max(1, _DRAWN_AT_ONCE // most)
    for start in range(0, _RESAMPLES, at_once):
        means = np.zeros((min(at_once, _RESAMPLES - start), len(right)))
        for outcomes, counts, size in kinds:
            drawn = rng.multinomial(size, counts / size, size=len(means))
            means += drawn @ outcomes.T / (size * len(groups))
        yield means
