"""Answers are those that fresh runs confirm."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import numpy as np
import pytest

from approx import LayerShape
from search.answers.confirmation import Answer
from search.answers.confirmer import Confirmer, FreshRuns
from search.answers.margins import Mean, paired_error
from search.answers.result import knee
from search.evaluation.confirmation_run import ConfirmationRun
from search.evaluation.early_stopping import Rival
from search.evaluation.evaluation import Evaluation, Split, share_error
from search.evaluation.work import Confirm, Done, Failed, Outcome, Result, WorkItem
from search.space.candidate import Candidate
from search.space.plan import StepTimes
from search.space.target import Target
from search.space.task import find_task
from search.store.database import Store
from search.store.records import Record
from tests.support.fakes import SETUP, formula

TASK = find_task("digits")
BASELINE = TASK.space.baseline()
RUNS = TASK.effort.confirmations


class Truth:
    """Trains nothing: a candidate's runs are drawn around the accuracy that it truly has."""

    workers = 2

    def __init__(
        self,
        truth: dict[Candidate, float],
        *,
        noise: float = 0.0,
        images: int = 100_000,
        seed: int = 0,
        failing: Candidate | None = None,
    ) -> None:
        self.truth = truth
        self.noise = noise
        self.images = images
        self.jobs: list[WorkItem[Any]] = []
        self.failing = failing
        self._seed = seed

    def run(self, jobs: Iterable[WorkItem[Result]]) -> Iterator[Outcome[Result]]:
        for job in jobs:
            self.jobs.append(job)
            try:
                yield Done(key=job.key, result=job.done_by(self))
            except ArithmeticError as error:
                yield Failed(key=job.key, error=str(error))

    def evaluate(
        self,
        candidate: Candidate,
        split: Split,
        *,
        rivals: tuple[Rival, ...],
        costs: tuple[str, ...],
        keep_as: str | None,
    ) -> Evaluation:
        raise NotImplementedError

    def keep(self, key: str, candidate: Candidate, *, seed: int, dense_layers: tuple[str, ...]) -> bool:
        raise NotImplementedError

    def inspect(self, candidate: Candidate) -> tuple[LayerShape, ...]:
        raise NotImplementedError

    def time(self, candidate: Candidate, limit_s: float) -> StepTimes:
        raise NotImplementedError

    def confirm(self, candidate: Candidate, run: int) -> ConfirmationRun:
        if candidate == self.failing:
            raise ArithmeticError("it diverged")
        rng = np.random.default_rng([self._seed, run, int(candidate.key[:8], 16)])
        accuracy = self.truth[candidate] + float(rng.normal(0, self.noise))
        return ConfirmationRun(
            candidate=candidate,
            run=run,
            chip_accuracies=(accuracy - 0.01, accuracy + 0.01),
            images=self.images,
            pool=10 * self.images,
            outcomes=None,
            retrained=True,
            test_accuracies=(accuracy - 0.2,),  # which decide nothing
            test_class_accuracies=(accuracy - 0.2,) * 10,
            seconds=1.0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None


def record(width: int, accuracy: float, energy_pj: float, *, stopped: bool = False) -> Record:
    candidate = replace(BASELINE, width=width)
    evaluation = replace(
        formula(candidate), chip_accuracies=(accuracy,), components_pj={"mac": energy_pj}, stopped=stopped
    )
    return Record(key=candidate.key, setup=SETUP, seed=0, evaluation=evaluation, test_accuracies=None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=True) as opened:
        yield opened


def answer(
    store: Store, executor: Truth | None, records: list[Record], target: Target, *, baseline: Record | None = None
) -> Answer:
    fresh = FreshRuns(store, executor, SETUP)
    return Confirmer(fresh, TASK, kept_only=executor is None).answer(records, baseline or records[0], target)


BASE = record(8, 0.97, 100.0)
LUCKY = record(1, 0.955, 1.0)
SOUND = record(2, 0.96, 2.0)
DEARER = record(3, 0.965, 3.0)
HIDDEN = record(4, 0.954, 1.5)
ALL = [BASE, LUCKY, SOUND, DEARER]
TRUE = {
    BASE.evaluation.candidate: 0.97,
    LUCKY.evaluation.candidate: 0.94,
    SOUND.evaluation.candidate: 0.958,
    DEARER.evaluation.candidate: 0.965,
}


def test_the_cheapest_that_is_truly_accurate_enough_is_the_answer(store: Store) -> None:
    executor = Truth(TRUE)
    found = answer(store, executor, ALL, Target(min_accuracy=0.95))
    assert found.record == SOUND
    assert found.confirmed
    assert found.shortfall == 0
    assert [one for one, _ in found.rejected] == [LUCKY]
    assert found.confirmation is not None
    assert found.confirmation.accuracy.value == pytest.approx(0.958)
    assert found.confirmation.test_accuracy == pytest.approx(0.758)
    # A candidate whose first two runs are below what is wanted gets no more.
    assert [job.candidate.width for job in executor.jobs] == [1] * 2 + [2] * RUNS


def test_runs_are_kept_and_not_made_again(store: Store) -> None:
    first = answer(store, Truth(TRUE), ALL, Target(min_accuracy=0.95))
    again = Truth(TRUE)
    assert answer(store, again, ALL, Target(min_accuracy=0.95)) == first
    assert answer(store, None, ALL, Target(min_accuracy=0.95)) == first
    assert again.jobs == []


def test_without_fresh_runs_an_answer_says_that_it_is_not_confirmed(store: Store) -> None:
    found = answer(store, None, ALL, Target(min_accuracy=0.95))
    assert found.record == LUCKY
    assert not found.confirmed
    assert found.confirmation is None
    assert found.shortfall is None


def test_what_comes_nearest_is_named_with_its_shortfall(store: Store) -> None:
    found = answer(store, Truth(TRUE), ALL[:2], Target(min_accuracy=0.95))
    assert found.record == BASE
    assert found.confirmed
    short = answer(store, Truth(TRUE), [LUCKY, LUCKY], Target(min_accuracy=0.95))
    assert short.record == LUCKY
    assert not short.confirmed
    assert short.shortfall is not None
    assert 0.01 < short.shortfall < 0.02


def test_what_an_answer_lacks_is_what_its_lower_bound_lacks(store: Store) -> None:
    found = answer(store, Truth(TRUE), [SOUND], Target(min_accuracy=0.5))
    assert found.confirmation is not None
    # On average it is above the target, but not with confidence.
    margin = Mean(value=0.01, standard_error=0.005, lower_bound=-0.004)
    doubtful = replace(found, confirmation=replace(found.confirmation, margin=margin, confirmed=False))
    assert doubtful.shortfall == pytest.approx(0.004)


def test_what_decides_is_held_out_and_what_is_shown_beside_it_is_of_test_images(store: Store) -> None:
    found = answer(store, Truth(TRUE, noise=0.001), [SOUND], Target(min_accuracy=0.95)).confirmation
    assert found is not None
    held_out = fmean(fmean(run.chip_accuracies) for run in found.runs)
    assert found.accuracy.value == pytest.approx(held_out)
    assert found.margin.value == pytest.approx(held_out - 0.95)
    assert found.test_accuracy == pytest.approx(held_out - 0.2)


def test_what_a_lucky_one_hid_is_tried_when_that_is_rejected(store: Store) -> None:
    """In the search, `LUCKY` beat `HIDDEN`: it costs less and was measured to be more accurate."""
    executor = Truth({**TRUE, HIDDEN.evaluation.candidate: 0.953})
    found = answer(store, executor, [*ALL, HIDDEN], Target(min_accuracy=0.95))
    assert (found.record, found.confirmed) == (HIDDEN, True)
    assert [one for one, _ in found.rejected] == [LUCKY]
    # Without it there would be this answer, which was found before.
    assert [job.candidate.width for job in executor.jobs] == [1] * 2 + [2] * RUNS + [4] * RUNS
    assert answer(store, None, [*ALL, HIDDEN], Target(min_accuracy=0.95)) == found


def test_a_hidden_one_is_not_tried_where_a_better_one_was_rejected(store: Store) -> None:
    """`LUCKY` is on average as accurate as is wanted, which is more than `HIDDEN` was measured to be."""
    executor = Truth({**TRUE, LUCKY.evaluation.candidate: 0.9545, HIDDEN.evaluation.candidate: 0.99}, images=100)
    found = answer(store, executor, [*ALL, HIDDEN], Target(min_accuracy=0.95))
    assert HIDDEN.evaluation.candidate not in {job.candidate for job in executor.jobs}
    assert LUCKY in [one for one, _ in found.rejected]


def test_so_many_hidden_ones_are_tried_and_no_more(store: Store) -> None:
    hidden = [record(10 + number, 0.954 - 0.0001 * number, 1.1 + number / 100) for number in range(20)]
    executor = Truth({**TRUE, **{one.evaluation.candidate: 0.94 for one in hidden}})
    found = answer(store, executor, [*ALL, *hidden], Target(min_accuracy=0.95))
    assert found.record == SOUND
    assert [job.candidate.width for job in executor.jobs if job.candidate.width >= 10] == sorted(2 * [*range(10, 20)])
    assert len(found.rejected) == 11


def test_nothing_is_confirmed_but_the_baseline(store: Store) -> None:
    """Which others beat in the search."""
    base = record(8, 0.95, 100.0)
    truth = Truth({**TRUE, **{one.evaluation.candidate: 0.9 for one in (LUCKY, SOUND, DEARER)}})
    target = Target(max_accuracy_drop=0.02)
    found = answer(store, truth, [base, LUCKY, SOUND, DEARER], target)
    assert (found.record, found.confirmed) == (base, True)
    assert [one for one, _ in found.rejected] == [LUCKY, SOUND, DEARER]
    # It is no answer where it is not among the evaluations, nor while another is not tried yet.
    alone = answer(store, truth, [LUCKY], target, baseline=base)
    assert (alone.record, alone.confirmed) == (LUCKY, False)
    untried = record(4, 0.97, 5.0)
    open_yet = answer(store, None, [base, LUCKY, SOUND, DEARER, untried], target)
    assert (open_yet.record, open_yet.confirmation) == (untried, None)


def test_a_candidate_whose_runs_fail_hides_nothing(store: Store) -> None:
    executor = Truth(TRUE, failing=LUCKY.evaluation.candidate)
    found = answer(store, executor, ALL, Target(min_accuracy=0.95))
    assert (found.record, found.confirmed, found.rejected) == (SOUND, True, ())
    nearest = answer(store, executor, [LUCKY, SOUND], Target(min_accuracy=0.9599))
    assert nearest.record == SOUND
    assert nearest.shortfall is not None
    alone = answer(store, executor, [LUCKY], Target(min_accuracy=0.95))
    assert (alone.record, alone.confirmation) == (LUCKY, None)


def test_a_drop_is_measured_against_the_baseline_on_the_same_images(store: Store) -> None:
    executor = Truth(TRUE)
    found = answer(store, executor, ALL, Target(max_accuracy_drop=0.015))
    assert found.record == SOUND
    assert found.confirmed
    assert found.baseline_confirmation is not None
    runs = {job.run for job in executor.jobs if isinstance(job, Confirm) and job.candidate == BASELINE}
    assert runs == set(range(RUNS))


def test_what_was_stopped_early_or_never_reached_the_target_is_not_tried(store: Store) -> None:
    stopped = record(4, 0.99, 0.5, stopped=True)
    below = record(5, 0.94, 0.7)
    executor = Truth({**TRUE, stopped.evaluation.candidate: 0.99, below.evaluation.candidate: 0.99})
    assert answer(store, executor, [*ALL, stopped, below], Target(min_accuracy=0.95)).record == SOUND


def test_none_reaches_the_target(store: Store) -> None:
    found = answer(store, Truth(TRUE), ALL, Target(min_accuracy=0.999))
    assert found.record is None
    assert not found.confirmed


@pytest.mark.slow
def test_confirmed_answers_are_hardly_ever_below_the_target(tmp_path: Path) -> None:
    """Of candidates that lie on both sides of the target, as measured in a search and as they truly are."""
    wrong, confirmed = 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        records, truth = [BASE], {BASE.evaluation.candidate: 0.97}
        for width in range(1, 8):
            true = 0.94 + 0.003 * width
            one = record(width, true + float(rng.normal(0, 0.006)), float(width))
            records.append(one)
            truth[one.evaluation.candidate] = true
        with Store.open(f"sqlite:///{tmp_path / f'{seed}.db'}", create=True) as store:
            found = answer(store, Truth(truth, noise=0.006, seed=seed), records, Target(min_accuracy=0.95))
        if found.confirmed and found.record is not None:
            confirmed += 1
            wrong += truth[found.record.evaluation.candidate] < 0.95
    assert confirmed > 30
    assert wrong <= 0.05 * confirmed


def test_a_lower_bound_is_that_of_student() -> None:
    values = [0.95, 0.96, 0.97]
    found = Mean.of(values, least_error=0.0)
    assert found.value == pytest.approx(0.96)
    assert found.standard_error == pytest.approx(0.01 / np.sqrt(3))
    assert found.lower_bound == pytest.approx(0.96 - 4.302653 * 0.01 / np.sqrt(3))  # t of 2 degrees of freedom


def test_runs_that_agree_by_chance_do_not_make_an_answer_certain() -> None:
    assert share_error(1.0, 300) == pytest.approx(np.sqrt(302 / 304 * 2 / 304 / 300))
    assert Mean.of([1.0, 1.0, 1.0], least_error=share_error(1.0, 300)).lower_bound < 1
    # 3 of 300 images differ at least, and two more are added.
    assert paired_error([0.01, -0.01, 0.01], 300) == pytest.approx(np.sqrt(5) / 300)
    assert paired_error([0.0, 0.0], 300) == pytest.approx(np.sqrt(2) / 300)


def test_a_candidate_that_equals_the_baseline_by_chance_is_not_certain_to_lose_nothing(store: Store) -> None:
    """Five runs of 10 images on which both are as accurate: none of 50 images differs, and two are added."""
    equal = {BASE.evaluation.candidate: 0.9, SOUND.evaluation.candidate: 0.9}
    found = answer(store, Truth(equal, images=10), [BASE, SOUND], Target(max_accuracy_drop=0.03))
    ((record, confirmation),) = found.rejected
    assert record == SOUND
    assert confirmation.margin.value == pytest.approx(0.03)
    assert confirmation.margin.standard_error == pytest.approx(np.sqrt(2) / 50)
    assert confirmation.margin.lower_bound == pytest.approx(0.03 - 2.776 * np.sqrt(2) / 50, abs=1e-4)  # t of 4 degrees


def test_images_that_are_held_out_again_do_not_count_twice(store: Store) -> None:
    few = answer(store, Truth(TRUE, images=100), [SOUND], Target(min_accuracy=0.5)).confirmation
    assert few is not None
    assert few.accuracy.standard_error == share_error(few.accuracy.value, 500)
    again = replace(few, runs=tuple(replace(run, pool=400) for run in few.runs))
    assert again.accuracy.standard_error == share_error(few.accuracy.value, 400)


def test_the_baseline_loses_nothing_to_itself(store: Store) -> None:
    for drop in (0.0, 0.001):
        found = answer(store, Truth(TRUE, noise=0.02, images=10), [BASE], Target(max_accuracy_drop=drop))
        assert found.record == BASE
        assert found.confirmed
        assert found.shortfall == 0


def test_the_knee_bends_most() -> None:
    front = [record(1, 0.80, 1.0), record(2, 0.95, 2.0), record(3, 0.96, 20.0), record(4, 0.97, 100.0)]
    assert knee(front) == front[1]
    assert knee(front[:1]) == front[0]
    assert knee([*front, record(5, 0.1, 0.001)]) == front[1]


def test_targets_in_words() -> None:
    assert str(Target(min_accuracy=0.95)) == "at 95.00% or more"
    assert str(Target(max_accuracy_drop=0.01)) == "within 1.00 points of the baseline"
    assert Target(max_accuracy_drop=0.01).accuracy(0.97) == pytest.approx(0.96)


def test_a_mean_over_runs_is_over_chips_first(store: Store) -> None:
    found = answer(store, Truth(TRUE), ALL, Target(min_accuracy=0.95))
    assert found.confirmation is not None
    assert found.confirmation.accuracy.value == pytest.approx(fmean(run.accuracy for run in found.confirmation.runs))


def sized(one: Record, area_mm2: float) -> Record:
    return replace(one, evaluation=replace(one.evaluation, area_mm2=area_mm2))


def test_an_answer_keeps_the_bound_on_area(store: Store) -> None:
    """The baseline has 0.1 mm2. Fresh runs are made of nothing larger than the bound, except of the baseline."""
    executor = Truth(TRUE)
    records = [BASE, sized(SOUND, 0.06), sized(DEARER, 0.05)]
    found = answer(store, executor, records, Target(max_accuracy_drop=0.02, max_area=0.5))
    assert (found.record, found.confirmed) == (records[2], True)
    assert {job.candidate.width for job in executor.jobs} == {8, 3}
    found = answer(store, executor, records, Target(max_accuracy_drop=0.02, max_area=0.6))
    assert (found.record, found.confirmed) == (records[1], True)


def test_the_baseline_is_no_answer_beyond_the_bound(store: Store) -> None:
    lucky = sized(LUCKY, 0.01)
    target = Target(max_accuracy_drop=0.02)
    assert answer(store, Truth(TRUE), [BASE, lucky], target).record == BASE
    within = answer(store, Truth(TRUE), [BASE, lucky], replace(target, max_area=0.5))
    assert (within.record, within.confirmed) == (lucky, False)
    assert within.baseline_confirmation is not None  # what the loss is relative to
    nothing = answer(store, Truth(TRUE), [BASE, lucky], replace(target, max_area=0.05))
    assert (nothing.record, nothing.rejected) == (None, ())
    assert answer(store, Truth(TRUE), [BASE, lucky], replace(target, max_area=1.0)).record == BASE


def test_a_dearer_one_within_the_bound_is_tried_where_the_baseline_is_not(store: Store) -> None:
    """`HIDDEN` costs more than the baseline, and `LUCKY` was measured to beat it."""
    lucky, dear = sized(LUCKY, 0.01), sized(record(4, 0.954, 200.0), 0.05)
    executor = Truth({**TRUE, dear.evaluation.candidate: 0.96})
    found = answer(store, executor, [BASE, lucky, dear], Target(max_accuracy_drop=0.02, max_area=0.5))
    assert (found.record, found.confirmed) == (dear, True)
