"""Bootstraps: against exact bounds where these are known, another way to resample, and simulations of the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from search.answers import bootstrap
from search.answers.bootstrap import bootstrap_bound, exact_bound

CONFIDENCE = 0.975
Right = NDArray[np.bool_]


def bound(right: Right, other: Right | None = None, groups: tuple[int, ...] | None = None) -> float:
    return bootstrap_bound(right, other, groups or right.shape[1:], confidence=CONFIDENCE)[1]


def error(right: Right, other: Right | None = None, groups: tuple[int, ...] | None = None) -> float:
    return bootstrap_bound(right, other, groups or right.shape[1:], confidence=CONFIDENCE)[0]


def first_right(count: int, images: int, chips: int = 1) -> Right:
    """The given number of images, the first ones, are right on every chip."""
    return np.broadcast_to(np.arange(images) < count, (chips, images))


def clopper_pearson(successes: int, images: int) -> float:
    """The largest accuracy at which this number of successes or more has a probability of at most 2.5 %."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stats.binom.sf(successes - 1, images, middle) < 1 - CONFIDENCE else (low, middle)
    return low


def resampled(right: Right, other: Right | None, groups: tuple[int, ...], resamples: int = 4000) -> NDArray[np.float64]:
    """Estimates from images and chips that are drawn one by one."""
    rng = np.random.default_rng(7)

    def accuracy(side: Right, drawn: list[NDArray[np.int64]]) -> float:
        chips = side[rng.integers(0, len(side), len(side))]
        return float(np.mean([chips[:, images].mean() for images in drawn]))

    found = np.empty(resamples)
    ends = np.cumsum(groups)
    for number in range(resamples):
        drawn = [rng.integers(end - size, end, size) for end, size in zip(ends, groups, strict=True)]
        found[number] = accuracy(right, drawn) - (0 if other is None else accuracy(other, drawn))
    return found


def unlike(accuracy: float, images: int, chips: int, *, seed: int, spread: float = 0.03) -> Right:
    """Outcomes of chips that differ, of images of which each is more or less difficult."""
    rng = np.random.default_rng(seed)
    difficulty = np.random.default_rng(99).random(images)  # the same for all networks
    noise = 0.1 * rng.standard_normal((chips, images))
    return difficulty + noise < accuracy + spread * rng.standard_normal((chips, 1))


@pytest.mark.parametrize(("successes", "images"), [(300, 300), (299, 300), (1, 300), (0, 300), (19, 20), (2000, 2000)])
def test_no_bound_is_tighter_than_clopper_pearson(successes: int, images: int) -> None:
    right = first_right(successes, images, chips=5)
    exact = clopper_pearson(successes, images)
    assert exact_bound(right, None, (images,), confidence=CONFIDENCE) == pytest.approx(exact, abs=1e-9)
    assert bound(right) <= exact + 1e-9


def test_an_accuracy_of_a_hundred_percent_is_not_certain() -> None:
    assert bound(first_right(300, 300, chips=20)) == pytest.approx(0.025 ** (1 / 300))
    assert error(first_right(300, 300)) == 0


def test_networks_that_were_right_on_the_same_images_may_differ_on_others() -> None:
    """Among 300 images none differs: with less than 2.5 % probability if more than 1.2 % did."""
    right = first_right(290, 300, chips=5)
    assert bound(right, right) == pytest.approx(0.025 ** (1 / 300) - 1)


def test_losses_alone_have_the_exact_bound_of_their_number() -> None:
    """Whatever the other images, on which both agree."""
    lost, images = 4, 400
    expected = -stats.beta.ppf(CONFIDENCE, lost + 1, images - lost)
    found = exact_bound(first_right(350 - lost, images), first_right(350, images), (images,), confidence=CONFIDENCE)
    assert found == pytest.approx(expected)
    gained = exact_bound(first_right(350, images), first_right(350 - lost, images), (images,), confidence=CONFIDENCE)
    assert gained < clopper_pearson(lost, images)  # as others may be lost
    unsure_gains = lost / images - clopper_pearson(lost, images)
    unsure_losses = 1 - 0.025 ** (1 / images)  # of which there are none
    assert gained == pytest.approx(lost / images - math.hypot(unsure_gains, unsure_losses))


@pytest.mark.slow
@pytest.mark.parametrize("groups", [(240,), (200, 30, 10)], ids=["accuracy", "balanced"])
@pytest.mark.parametrize("paired", [False, True])
def test_images_and_chips_are_resampled_as_one_by_one(groups: tuple[int, ...], paired: bool) -> None:
    right, other = unlike(0.9, 240, 6, seed=1), unlike(0.93, 240, 4, seed=2) if paired else None
    found = resampled(right, other, groups)
    assert error(right, other, groups) == pytest.approx(found.std(), rel=0.06)
    fewest = 4 if paired else 6  # chips
    share = stats.norm.cdf(math.sqrt(fewest / (fewest - 1)) * stats.t.ppf(0.025, fewest - 1))
    assert bound(right, other, groups) <= np.quantile(found, share) + 0.12 * found.std()


def test_images_are_drawn_together_for_both_networks() -> None:
    """Where both are right on the same images but few, the difficulty of these images cancels."""
    right, other = first_right(1500, 2000), first_right(1510, 2000)
    alone = error(right)
    assert alone == pytest.approx(math.sqrt(0.75 * 0.25 / 2000), rel=0.05)
    assert error(right, other) == pytest.approx(math.sqrt(10) / 2000, rel=0.05)
    shuffled = other[:, np.random.default_rng(0).permutation(2000)]
    assert error(right, shuffled) == pytest.approx(math.sqrt(2) * alone, rel=0.06)


def test_chips_are_drawn_apart_for_both_networks() -> None:
    """Chips of one network that are alike those of the other in their order are no pairs."""
    chips = np.repeat(np.arange(20)[:, None] < 10, 1000, axis=1)  # half of the chips get all images wrong
    assert error(chips) == pytest.approx(0.5 / math.sqrt(20), rel=0.05)
    assert error(chips, chips) == pytest.approx(math.sqrt(2) * 0.5 / math.sqrt(20), rel=0.05)


def test_few_chips_have_a_wider_bound_than_many() -> None:
    """Beyond what their standard error says: chips that differ are as few values as for Student's t."""
    found = []
    for chips in (6, 200):
        right = np.random.default_rng(0).random((chips, 1)) < np.linspace(0.3, 1.3, 1000)
        found.append((right.mean() - bound(right)) / error(right))
    assert found[0] == pytest.approx(math.sqrt(6 / 5) * stats.t.ppf(CONFIDENCE, 5), rel=0.1)
    assert found[1] == pytest.approx(1.98, rel=0.1)


def test_every_group_counts_the_same() -> None:
    """A class of 20 images of which half are right, and one of 1,980 that are all right."""
    right, groups = np.arange(2000)[None] >= 10, (20, 1980)
    assert error(right, groups=groups) == pytest.approx(math.sqrt(0.25 / 20) / 2, rel=0.05)
    assert error(right) < 0.002
    assert bound(right, groups=groups) < 0.75 - 1.9 * math.sqrt(0.25 / 20) / 2


def test_groups_of_few_images_make_certain_outcomes_less_certain() -> None:
    """20 and 1,980 images of two classes count as 79: 4 / (1 / 20 + 1 / 1980)."""
    right, groups = first_right(2000, 2000), (20, 1980)
    assert bound(right, groups=groups) == pytest.approx(0.025 ** (1 / 79))
    assert bound(right, right, groups=groups) == pytest.approx(0.025 ** (1 / 79) - 1)


def test_the_same_outcomes_have_the_same_bound() -> None:
    right, other = unlike(0.9, 100, 5, seed=0), unlike(0.9, 100, 5, seed=1)
    assert bootstrap_bound(right, other, (100,), confidence=CONFIDENCE) == bootstrap_bound(
        right.copy(), other.copy(), (100,), confidence=CONFIDENCE
    )


def test_resamples_in_parts_are_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    right = unlike(0.9, 300, 5, seed=0)
    at_once = error(right)
    monkeypatch.setattr(bootstrap, "_DRAWN_AT_ONCE", 700)
    assert error(right) == pytest.approx(at_once, rel=0.05)


def test_there_are_at_least_two_thousand_resamples() -> None:
    assert bootstrap._RESAMPLES >= 2000


def latent(
    rng: np.random.Generator, accuracy: float, spread: float, difficulty: NDArray[np.float64], chips: int
) -> Right:
    """Outcomes of a network that is truly right with a probability of `accuracy` on a new image and a new chip."""
    own = 0.95 * difficulty + math.sqrt(1 - 0.95**2) * rng.standard_normal(len(difficulty))
    noise = spread * (rng.standard_normal((chips, 1)) + rng.standard_normal((chips, len(difficulty))))
    found: Right = own + noise < stats.norm.ppf(accuracy) * math.sqrt(1 + 2 * spread**2)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("spread", [0.0, 0.1], ids=["chips alike", "chips unlike"])
@pytest.mark.parametrize(("accuracy", "baseline"), [(0.9, 0.92), (0.97, 0.985), (0.995, 0.998)])
def test_candidates_exactly_at_the_target_are_hardly_ever_confirmed(
    accuracy: float, baseline: float, spread: float, paired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In at most 2.5 % of cases, but for as many of 400 simulated ones as chance gives one set of 400 in a hundred."""
    monkeypatch.setattr(bootstrap, "_RESAMPLES", 500)
    images, chips, simulated, confirmed = 400, 20, 400, 0
    for seed in range(simulated):
        rng = np.random.default_rng([seed, int(accuracy * 1000)])
        difficulty = rng.standard_normal(images)
        right = latent(rng, accuracy, spread, difficulty, chips)
        other = latent(rng, baseline, 0.0, difficulty, 1) if paired else None
        confirmed += bound(right, other) >= (accuracy - baseline if paired else accuracy)
    assert confirmed <= stats.binom.ppf(0.99, simulated, 0.025)
