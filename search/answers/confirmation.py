"""What fresh runs say of a candidate, and the answer to a target.

The cheapest of many measured configurations is, on average, a lucky one. So candidates are retrained several times,
cheapest first, and the answer is the first whose accuracy is, with 97.5 % confidence, not below the target: see
`search.answers.confirmer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from search.evaluation.evaluation import ConfirmationRun, share_error
from search.space.target import Target
from search.store.records import Record

Verdict = Literal["confirmed", "rejected", "untried"]  # of fresh runs on an evaluation that reaches a target

# For each candidate tried: half of the 5 % of answers that may be wrong, as most answers take more than one.
CONFIDENCE = 0.975
FIRST_RUNS = 2  # after which a candidate is given up if its mean is below the target


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
        from scipy.special import stdtrit  # scipy.stats has the same and takes half a second to load

        error = max(stdev(values) / math.sqrt(len(values)), least_error)
        mean = fmean(values)
        return cls(
            value=mean,
            standard_error=error,
            lower_bound=mean - float(stdtrit(len(values) - 1, CONFIDENCE)) * error,
        )

    @classmethod
    def over(cls, runs: Sequence[ConfirmationRun]) -> Mean:
        """Return the mean accuracy of fresh runs on the images that each held out."""
        accuracies = [run.accuracy for run in runs]
        return cls.of(accuracies, least_error=share_error(fmean(accuracies), images_measured(runs)))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """Fresh runs of a candidate.

    Attributes:
        runs: The runs, in order of their number; at least two.
        margin: Distance of its accuracy above the target; negative if it is below.
        confirmed: Whether it is not below, with `CONFIDENCE`, after all runs.
    """

    runs: tuple[ConfirmationRun, ...]
    margin: Mean
    confirmed: bool

    @property
    def accuracy(self) -> Mean:
        """Accuracy on the images that each run held out."""
        return Mean.over(self.runs)

    @property
    def test_accuracy(self) -> float:
        """Mean accuracy on the test images, which decided nothing."""
        return fmean(run.test_accuracy for run in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class RightSized:
    """The cheapest dense, exact, 8-bit network at nominal voltage that keeps a target.

    It is the fair reference for what approximation saves: a saving against the baseline is partly due to a smaller
    network. Networks that fresh runs rejected are left out. Those without fresh runs are not, as a network that was
    only lucky makes savings against it smaller, never larger.

    Attributes:
        record: Its evaluation; the baseline's if no other such network was evaluated or keeps the target.
        confirmation: Its fresh runs; None if there are none, so that it was chosen by its own measurement.
    """

    record: Record
    confirmation: Confirmation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The cheapest configuration for a target.

    Attributes:
        target: The target.
        baseline: The evaluation that savings are relative to.
        right_sized: The reference for what approximation saves.
        record: The evaluation of the configuration; None if none reaches the target in the search's own measurement.
        confirmation: Its fresh runs; None if there are none.
        baseline_confirmation: Fresh runs of the baseline; None if there are none.
        rejected: Cheaper configurations that fresh runs did not confirm, cheapest first.
        confirmations: What fresh runs say of candidates that were measured to reach the target: key of the candidate ->
            its runs. Of an answer from stored runs it holds all that have enough; otherwise those that were tried.
    """

    target: Target
    baseline: Record
    right_sized: RightSized
    record: Record | None
    confirmation: Confirmation | None
    baseline_confirmation: Confirmation | None
    rejected: tuple[tuple[Record, Confirmation], ...]
    confirmations: Mapping[str, Confirmation]

    def _repr_html_(self) -> str:
        from search.report.notebook import answer_html  # the room above; a result shows itself

        return answer_html(self)

    @property
    def confirmed(self) -> bool:
        """Whether fresh runs confirm that the configuration keeps the target."""
        return self.confirmation is not None and self.confirmation.confirmed

    def saving(self, record: Record) -> float:
        """Return the baseline's energy over an evaluation's."""
        return self.baseline.evaluation.energy_pj / record.evaluation.energy_pj

    def saving_right_sized(self, record: Record) -> float:
        """Return the right-sized network's energy over an evaluation's; below 1 if the evaluation costs more."""
        return self.right_sized.record.evaluation.energy_pj / record.evaluation.energy_pj

    def verdict(self, record: Record) -> Verdict | None:
        """Return what fresh runs say of an evaluation at the target.

        None if it does not reach the target in the search's own measurement, so that it is not tried.
        """
        evaluation = record.evaluation
        if evaluation.stopped or evaluation.accuracy < self.target.accuracy(self.baseline.evaluation.accuracy):
            return None
        confirmation = self.confirmations.get(evaluation.candidate.key)
        if confirmation is None:
            return "untried"
        return "confirmed" if confirmation.confirmed else "rejected"

    @property
    def shortfall(self) -> float | None:
        """Distance of the lower bound below the target; 0 for a confirmed answer, None without fresh runs."""
        return None if self.confirmation is None else max(0.0, -self.confirmation.margin.lower_bound)


def images_measured(runs: Sequence[ConfirmationRun]) -> int:
    """The number of different images on which runs were measured, which cannot exceed the pool."""
    return min(sum(run.images for run in runs), runs[0].pool)
