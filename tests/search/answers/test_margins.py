"""Bounds of runs that retrain on images which all of them share, and of runs that are one measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from search.answers.bootstrap import bootstrap_bound, exact_bound
from search.answers.margins import CONFIDENCE, each_above, margin_above, mean_accuracy
from search.evaluation.confirmation_run import ConfirmationRun, Outcomes
from search.evaluation.evaluation import share_error
from search.space.target import Target
from search.space.task import find_task
from tests.support.fakes import fresh_run

Right = NDArray[np.bool_]
CANDIDATE = find_task("digits").space.baseline()
IMAGES, CHIPS, RUNS = 500, 3, 5


def runs_of(outcomes: Sequence[Right], *, retrained: bool, groups: tuple[int, ...] = ()) -> list[ConfirmationRun]:
    """Runs on the same images, from what was right in each: (chips, images)."""
    groups = groups or (outcomes[0].shape[1],)
    ends = np.cumsum(groups)[:-1]
    return [
        replace(
            fresh_run(CANDIDATE, number),
            chip_accuracies=tuple(fmean(part.mean() for part in np.split(chip, ends)) for chip in right),
            images=sum(groups),
            pool=sum(groups),
            outcomes=Outcomes.of(right, groups),
            retrained=retrained,
        )
        for number, right in enumerate(outcomes)
    ]


def drawn(accuracy: float, *, seed: int, spread: float = 0.01, images: int = IMAGES, runs: int = RUNS) -> list[Right]:
    """What runs got right that deviate from each other, on the same images, whose difficulty is drawn by the seed."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random(images)
    return [
        difficulty + 0.05 * rng.standard_normal((CHIPS, images)) < accuracy + spread * rng.standard_normal()
        for _ in range(runs)
    ]


def test_runs_that_share_their_images_have_the_error_of_both() -> None:
    outcomes, others = drawn(0.8, seed=0, spread=0.02), drawn(0.9, seed=1, spread=0.02)
    runs, base = runs_of(outcomes, retrained=True), runs_of(others, retrained=True)
    differences = [float(right.mean() - other.mean()) for right, other in zip(outcomes, others, strict=True)]
    among_runs = stdev(differences) / math.sqrt(RUNS)
    by_image = [right.mean(axis=0) - other.mean(axis=0) for right, other in zip(outcomes, others, strict=True)]
    among_images = np.mean(by_image, axis=0).std() / math.sqrt(IMAGES)
    found = margin_above(runs, Target(max_accuracy_drop=0.3), base)
    assert found.value == pytest.approx(fmean(differences) + 0.3)
    assert found.standard_error == pytest.approx(math.hypot(among_runs, among_images))
    unsure = math.hypot(stats.t.ppf(CONFIDENCE, RUNS - 1) * among_runs, 1.96 * among_images)
    assert found.lower_bound == pytest.approx(found.value - unsure, abs=1e-4)
    assert unsure > 1.5 * max(1.96 * among_images, among_runs)  # so that neither is all of it


def test_an_accuracy_on_shared_images_has_the_error_of_a_share_at_least() -> None:
    outcomes = drawn(0.9, seed=0)
    runs = runs_of(outcomes, retrained=True)
    among_runs = stdev(run.accuracy for run in runs) / math.sqrt(RUNS)
    least = share_error(fmean(run.accuracy for run in runs), IMAGES)
    assert mean_accuracy(runs).standard_error == pytest.approx(math.hypot(among_runs, least))


def test_images_on_which_two_networks_disagree_both_ways_are_no_less_uncertain() -> None:
    """In every run 40 images are right with one alone, and 40 with the other: the runs agree that nothing differs."""
    right, other = np.ones((CHIPS, IMAGES), bool), np.ones((CHIPS, IMAGES), bool)
    right[:, :40], other[:, 40:80] = False, False
    runs, base = (runs_of([one] * RUNS, retrained=True) for one in (right, other))
    found = margin_above(runs, Target(max_accuracy_drop=0.02), base)
    assert found.value == pytest.approx(0.02)
    assert found.standard_error == pytest.approx(math.sqrt(80) / IMAGES)
    assert found.lower_bound == pytest.approx(0.02 - 1.96 * math.sqrt(80) / IMAGES, abs=0.003)


def test_runs_that_agree_on_every_image_are_not_certain() -> None:
    right = np.ones((CHIPS, IMAGES), bool)
    runs = runs_of([right] * RUNS, retrained=True)
    exact = 0.025 ** (1 / IMAGES)
    assert mean_accuracy(runs).lower_bound <= exact + 1e-9
    assert margin_above(runs, Target(max_accuracy_drop=0.05), runs).lower_bound <= 0.05 - (1 - exact) + 1e-9
    assert mean_accuracy(runs).standard_error > 0


def test_runs_that_are_one_measurement_are_bootstrapped_as_one() -> None:
    outcomes, others = drawn(0.9, seed=1), drawn(0.92, seed=2)
    runs, base = runs_of(outcomes, retrained=False), runs_of(others, retrained=False)
    stacked, stacked_others = np.concatenate(outcomes), np.concatenate(others)
    found = margin_above(runs, Target(max_accuracy_drop=0.03), base)
    error, bound = bootstrap_bound(stacked, stacked_others, (IMAGES,), confidence=CONFIDENCE)
    assert found.value == pytest.approx(stacked.mean() - stacked_others.mean() + 0.03)
    assert found.lower_bound == pytest.approx(bound + 0.03)
    assert found.standard_error == pytest.approx(error)
    alone = margin_above(runs, Target(min_accuracy=0.8), ())
    error, bound = bootstrap_bound(stacked, None, (IMAGES,), confidence=CONFIDENCE)
    assert (alone.value, alone.lower_bound) == pytest.approx((stacked.mean() - 0.8, bound - 0.8))
    assert mean_accuracy(runs).lower_bound == pytest.approx(bound)


def test_a_candidate_that_was_given_up_is_compared_with_as_many_runs_of_the_baseline() -> None:
    outcomes, others = drawn(0.9, seed=1), drawn(0.92, seed=2)
    runs, base = runs_of(outcomes[:2], retrained=False), runs_of(others, retrained=False)
    found = margin_above(runs, Target(max_accuracy_drop=0.0), base)
    first = np.concatenate(outcomes[:2]).mean() - np.concatenate(others[:2]).mean()
    assert found.value == pytest.approx(first)
    assert each_above(runs, Target(max_accuracy_drop=0.01), base) == pytest.approx(
        [run.accuracy - other.accuracy + 0.01 for run, other in zip(runs, base, strict=False)]
    )


def test_what_is_not_retrained_never_seems_certain() -> None:
    right = np.ones((CHIPS, IMAGES), bool)
    found = mean_accuracy(runs_of([right] * RUNS, retrained=False))
    assert found.lower_bound == pytest.approx(0.025 ** (1 / IMAGES))
    assert found.standard_error > 0


def test_every_class_counts_the_same_in_a_bound() -> None:
    """Images are in order of their groups: of the rare class a half is right."""
    right = np.arange(IMAGES)[None].repeat(CHIPS, axis=0) >= 10
    groups = (20, IMAGES - 20)
    for retrained in (True, False):
        found = mean_accuracy(runs_of([right] * RUNS, retrained=retrained, groups=groups))
        assert found.value == pytest.approx(0.75)
        assert found.standard_error == pytest.approx(0.5 / math.sqrt(20) / 2, rel=0.1)
        assert found.lower_bound <= exact_bound(right, None, groups, confidence=CONFIDENCE)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.03])
@pytest.mark.parametrize("paired", [False, True])
def test_fine_tuned_candidates_exactly_at_the_target_are_hardly_ever_confirmed(spread: float, paired: bool) -> None:
    """With images that all runs share; in at most 2.5 % of cases, but for what chance gives 400 simulated ones."""
    simulated, confirmed = 400, 0
    accuracy, baseline = 0.9, 0.92
    for seed in range(simulated):
        rng = np.random.default_rng(seed)
        difficulty = rng.random(IMAGES)

        def trained(
            true: float, rng: np.random.Generator = rng, difficulty: NDArray[np.float64] = difficulty
        ) -> list[ConfirmationRun]:
            own = np.where(rng.random(IMAGES) < 0.1, rng.random(IMAGES), difficulty)  # of this network's architecture
            return runs_of([own[None] < true + spread * rng.standard_normal() for _ in range(RUNS)], retrained=True)

        target = Target(max_accuracy_drop=baseline - accuracy) if paired else Target(min_accuracy=accuracy)
        confirmed += margin_above(trained(accuracy), target, trained(baseline)).lower_bound >= 0
    assert confirmed <= stats.binom.ppf(0.99, simulated, 0.025)
