"""What fresh runs say of a candidate, and the answer to a target.

The cheapest of many measured configurations is, on average, a lucky one. So candidates are retrained several times,
cheapest first, and the answer is the first whose accuracy is, with 97.5 % confidence, not below the target: see
`search.answers.confirmer`. Networks that are converted without training are measured anew instead, on other images and
chips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from search.answers.margins import Mean, images_measured, mean_accuracy
from search.evaluation.confirmation_run import ConfirmationRun
from search.evaluation.evaluation import Split
from search.space.target import Target
from search.space.task import Task
from search.store.records import Record

Verdict = Literal["confirmed", "rejected", "untried"]  # of fresh runs on an evaluation that reaches a target

FIRST_RUNS = 2  # after which a candidate is given up if its mean is below the target


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """Runs of a candidate.

    Attributes:
        runs: The runs, in order of their number; at least two.
        margin: Distance of its accuracy above the target; negative if it is below.
        confirmed: Whether it is not below, with `search.answers.margins.CONFIDENCE`, after all runs.
    """

    runs: tuple[ConfirmationRun, ...]
    margin: Mean
    confirmed: bool

    @property
    def accuracy(self) -> Mean:
        """Accuracy on the images that decide."""
        return mean_accuracy(self.runs)

    @property
    def retrained(self) -> bool:
        """Whether each run retrained the candidate; otherwise all of them together are one measurement."""
        return self.runs[0].retrained

    @property
    def images(self) -> int:
        """The number of different images on which it was measured."""
        outcomes = self.runs[0].outcomes
        return images_measured(self.runs) if outcomes is None else outcomes.images

    @property
    def chips(self) -> int:
        """The number of chips on which it was measured."""
        return sum(len(run.chip_accuracies) for run in self.runs)

    @property
    def test_accuracy(self) -> float:
        """Mean accuracy on the test images, which decided nothing."""
        return fmean(run.test_accuracy for run in self.runs)

    @property
    def test_class_accuracies(self) -> tuple[float | None, ...]:
        """Mean share of each class's test images that is right; None for a class without any."""
        by_class = zip(*(run.test_class_accuracies for run in self.runs), strict=True)
        return tuple(None if shares[0] is None else fmean(share or 0.0 for share in shares) for shares in by_class)


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
        task: What is classified.
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

    task: Task
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

    @property
    def records(self) -> list[Record]:
        """The evaluations of the configuration, if there is one, and of the right-sized network."""
        return [*([] if self.record is None else [self.record]), self.right_sized.record]

    def saving(self, record: Record) -> float:
        """Return the baseline's energy over an evaluation's."""
        return self.baseline.evaluation.energy_pj / record.evaluation.energy_pj

    def saving_right_sized(self, record: Record) -> float:
        """Return the right-sized network's energy over an evaluation's; below 1 if the evaluation costs more."""
        return self.right_sized.record.evaluation.energy_pj / record.evaluation.energy_pj

    @property
    def class_accuracies(self) -> tuple[Split, tuple[float | None, ...]]:
        """The accuracy of each class, and the images on which it was measured: test images, if any confirmed it.

        There has to be a configuration.
        """
        if self.confirmation is not None:
            return "test", self.confirmation.test_class_accuracies
        assert self.record is not None
        return "validation", self.record.evaluation.class_accuracies

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
