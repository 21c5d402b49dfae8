"""How accurate runs of a candidate are, and how far above a target, with confidence bounds.

What varies from run to run decides how sure a mean is:

- Networks trained from scratch: random numbers, chips and images, as each run holds out others. The runs are draws of
  all of it, so the bound is Student's.
- Networks that are fine-tuned for each run: random numbers and chips. The images are the same ones in every run, so
  their error is added, which one sees on the images and not among the runs.
- Networks that are converted as they come: chips alone. All runs are one measurement, which is bootstrapped; see
  `search.answers.bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, stdev

import numpy as np

from search.answers.bootstrap import Right, bootstrap_bound, exact_bound
from search.evaluation.confirmation_run import ConfirmationRun, Outcomes
from search.evaluation.evaluation import share_error
from search.space.target import Target

# For each candidate tried: half of the 5 % of answers that may be wrong, as most answers take more than one.
CONFIDENCE = 0.975


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean over runs with its error.

    Attributes:
        value: The mean.
        standard_error: Its standard error.
        lower_bound: Lower confidence bound of the true mean, with `CONFIDENCE`.
    """

    value: float
    standard_error: float
    lower_bound: float

    @classmethod
    def of(cls, values: Sequence[float], *, least_error: float) -> Mean:
        """The mean of values of runs, with the bound of Student's t distribution.

        Args:
            values: One value per run; at least two.
            least_error: Least standard error: that among the runs may be smaller, because few runs may agree by chance.
        """
        error = max(stdev(values) / math.sqrt(len(values)), least_error)
        mean = fmean(values)
        return cls(value=mean, standard_error=error, lower_bound=mean - _student(len(values)) * error)


def mean_accuracy(runs: Sequence[ConfirmationRun]) -> Mean:
    """Return the mean accuracy of runs on the images that decide."""
    return _mean(runs, None, 0.0)


def margin_above(runs: Sequence[ConfirmationRun], target: Target, base: Sequence[ConfirmationRun]) -> Mean:
    """Return how far above a target runs are.

    Args:
        runs: The runs; at least two.
        target: The target.
        base: Runs of the baseline with the same numbers, or more, that a relative target is relative to.
    """
    if target.min_accuracy is not None:
        return _mean(runs, None, -target.min_accuracy)
    return _mean(runs, base[: len(runs)], target.max_accuracy_drop or 0.0)


def each_above(runs: Sequence[ConfirmationRun], target: Target, base: Sequence[ConfirmationRun]) -> list[float]:
    """Return how far above a target each run is; see `margin_above`."""
    if target.min_accuracy is not None:
        return [run.accuracy - target.min_accuracy for run in runs]
    # The same images were held out from both, so that their difficulty cancels.
    drop = target.max_accuracy_drop or 0.0
    return [run.accuracy - other.accuracy + drop for run, other in zip(runs, base, strict=False)]


def images_measured(runs: Sequence[ConfirmationRun]) -> int:
    """The number of different images on which runs were measured, which cannot exceed the pool."""
    return min(sum(run.images for run in runs), runs[0].pool)


def paired_error(differences: Sequence[float], images: int) -> float:
    """The least standard error of a mean difference between two accuracies on the same images.

    Where b images are right with one and wrong with the other, and c the other way round, the difference (b - c) / n
    has the variance (b + c) / n^2 or a little less (McNemar, Psychometrika 12(2), 1947). At least as many images differ
    as the differences of the runs require; two more are added, as in `share_error`.

    Args:
        differences: One per run.
        images: Number of images, of all runs together.
    """
    return math.sqrt(fmean(abs(one) for one in differences) * images + 2) / images


def _mean(runs: Sequence[ConfirmationRun], others: Sequence[ConfirmationRun] | None, above: float) -> Mean:
    """Return the mean accuracy of runs, or how far above others it is, plus a constant."""
    images = images_measured(runs)
    if others is None:
        values = [run.accuracy + above for run in runs]
        least_error = share_error(fmean(run.accuracy for run in runs), images)
    else:
        differences = [run.accuracy - other.accuracy for run, other in zip(runs, others, strict=True)]
        values = [difference + above for difference in differences]
        least_error = paired_error(differences, images)
    if not runs[0].outcomes:
        return Mean.of(values, least_error=least_error)
    mean, outcomes, of_others = fmean(values), _outcomes(runs), None if others is None else _outcomes(others)
    if runs[0].retrained:
        among_runs = stdev(values) / math.sqrt(len(values))
        among_images, exact = _on_shared_images(outcomes, of_others)
        among_images = max(among_images, least_error)
        error = math.hypot(among_runs, among_images)
        bound = min(mean - math.hypot(_student(len(values)) * among_runs, _normal() * among_images), exact + above)
    else:
        error, bound = _bootstrapped(outcomes, of_others)
        error, bound = max(error, least_error), bound + above
    return Mean(value=mean, standard_error=error, lower_bound=bound)


_Outcomes = tuple[Outcomes, ...]  # one of each run


def _outcomes(runs: Sequence[ConfirmationRun]) -> _Outcomes:
    return tuple(run.outcomes for run in runs if run.outcomes is not None)


def _stacked(outcomes: _Outcomes) -> Right:
    return np.concatenate([one.right() for one in outcomes])


@lru_cache(maxsize=1024)  # an answer asks for the same ones again and again, as does a service
def _bootstrapped(outcomes: _Outcomes, others: _Outcomes | None) -> tuple[float, float]:
    """Return the standard error of an accuracy, or of how far above another it is, and its lower bound."""
    other = None if others is None else _stacked(others)
    return bootstrap_bound(_stacked(outcomes), other, outcomes[0].groups, confidence=CONFIDENCE)


@lru_cache(maxsize=1024)
def _on_shared_images(outcomes: _Outcomes, others: _Outcomes | None) -> tuple[float, float]:
    """Return the standard error among images of such a mean over runs, and a bound that none is tighter than."""
    groups, right, other = outcomes[0].groups, _stacked(outcomes), None if others is None else _stacked(others)
    means = right.mean(axis=0) - (0 if other is None else other.mean(axis=0))
    parts = np.split(means, np.cumsum(groups)[:-1])
    variance = sum(part.var() / len(part) for part in parts) / len(groups) ** 2
    return math.sqrt(variance), exact_bound(right, other, groups, confidence=CONFIDENCE)


def _student(runs: int) -> float:
    from scipy.special import stdtrit  # scipy.stats has the same and takes half a second to load

    return float(stdtrit(runs - 1, CONFIDENCE))


def _normal() -> float:
    from scipy.special import ndtri

    return float(ndtri(CONFIDENCE))
