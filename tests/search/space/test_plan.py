from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.images.dataset import Dataset
from search.images.splits import SplitSizes
from search.space.effort import Effort, Recipe
from search.space.plan import LONG_S, Plan, StepTimes, TypicalCandidates, plan_search, stage_times
from search.space.search_space import SearchSpace
from search.space.task import CustomNetwork, Task, find_task, task_of

SIZES = SplitSizes(train=1010, validation=337, test=450)  # with 32 images a step: 32 steps an epoch
TIMES = StepTimes(train_step_s=0.5, retrain_step_s=2.0, convert_s=3.0, image_s=0.125)
EFFORT = Effort(
    train_epochs=10,
    derive_epochs=3,
    prune_epochs=4,
    approximate_epochs=2,
    batch_size=32,
    learning_rate=1e-3,
    derive_learning_rate=1e-3,
    prune_learning_rate=1e-3,
    approximate_learning_rate=1e-3,
    chips=3,
)
CUSTOM = CustomNetwork(path="nets:build", folder="", max_depth=1, max_width=1, fingerprint="0")
DIGITS = replace(find_task("digits"), effort=EFFORT, from_scratch=True)
ONE = replace(DIGITS.with_network(CUSTOM), effort=EFFORT)  # whose only network is the baseline's
UNPRUNED = replace(ONE.space, sparsity_percent=range(1))
TEACHER_S = 0.5 / 3
TRAIN_S, DERIVE_S, PRUNE_S = 10 * 32 * 0.5, 3 * 32 * (0.5 + TEACHER_S), 4 * 32 * (0.5 + TEACHER_S)
APPROXIMATE_S = 3.0 + 2 * 32 * (2.0 + TEACHER_S) + (1 + 3) * 337 * 0.125


def plan(
    task: Task = ONE,
    space: SearchSpace | None = None,
    *,
    times: StepTimes = TIMES,
    middle: float = 1.0,
    smallest: float = 1.0,
    **change: Any,
) -> Plan:
    """Plan a search.

    Args:
        task: Its task.
        space: Its space; by default the task's.
        times: Of the baseline.
        middle: Times of the middle networks over the baseline's.
        smallest: Times of the smallest networks over the baseline's.
        change: Other arguments of `plan_search`.
    """
    space = space or task.space
    candidates = TypicalCandidates.of(space)
    timed = dict.fromkeys(candidates.other_starts, times)
    timed |= dict.fromkeys(candidates.smallest, times.scaled(smallest))
    timed |= dict.fromkeys(candidates.middle, times.scaled(middle))
    asked: dict[str, Any] = {
        "effort": "standard",
        "times": {**timed, candidates.baseline: times},
        "sizes": SIZES,
        "evaluations": 100,
        "before": 0,
        "workers": 1,
        "confirm": False,
        "known": False,
    }
    return plan_search(task, space=space, **{**asked, **change})


def test_stages_take_their_steps() -> None:
    baseline = ONE.space.baseline()
    scratch = stage_times(ONE, baseline, TIMES, SIZES, teacher_s=TEACHER_S)
    assert (scratch.train_s, scratch.prune_s, scratch.approximate_s) == (TRAIN_S, PRUNE_S, APPROXIMATE_S)
    assert scratch.test_s == 3 * 450 * 0.125
    tuned = replace(ONE, train="finetune")
    fewer_channels = stage_times(tuned, replace(baseline, width=5), TIMES, SIZES, teacher_s=TEACHER_S)
    assert (fewer_channels.train_s, fewer_channels.approximate_s) == (DERIVE_S, APPROXIMATE_S)
    as_given = stage_times(tuned, replace(baseline, width=8), TIMES, SIZES, teacher_s=TEACHER_S)
    assert (as_given.train_s, as_given.prune_s) == (0, PRUNE_S)


def test_of_a_built_in_family_the_largest_is_trained_unless_it_comes_along_and_others_are_derived() -> None:
    baseline = DIGITS.space.baseline()
    smaller, other = replace(baseline, width=3), replace(baseline, family="lenet")
    for task, train_s in ((DIGITS, TRAIN_S), (replace(DIGITS, from_scratch=False), 0.0)):
        found = [
            stage_times(task, one, TIMES, SIZES, teacher_s=TEACHER_S).train_s for one in (baseline, smaller, other)
        ]
        assert found == [train_s, DERIVE_S, TRAIN_S]


def test_a_network_that_is_not_trained_is_only_converted_mended_and_measured() -> None:
    task, baseline = replace(ONE, train="none"), ONE.space.baseline()
    found = stage_times(task, baseline, TIMES, SIZES, teacher_s=TEACHER_S)
    mended_s = 2 * 512 * 0.125  # 512 images, before and after
    assert (found.train_s, found.prune_s) == (0, mended_s)
    assert found.approximate_s == 3.0 + mended_s + 3 * 337 * 0.125
    assert stage_times(task, baseline, TIMES, replace(SIZES, train=100), teacher_s=TEACHER_S).prune_s == 2 * 100 * 0.125
    assert plan(task).epochs == 0


def test_a_network_is_trained_once_and_converted_for_each_candidate() -> None:
    found = plan(space=UNPRUNED)
    assert found.search_s == pytest.approx(TRAIN_S + 100 * APPROXIMATE_S)
    assert found.first_s == TRAIN_S + APPROXIMATE_S
    assert found.evaluation_s == pytest.approx(found.search_s / 100)
    assert (found.confirmation_s, found.epochs, found.images) == (None, 10, 1010)


def test_workers_share_the_time() -> None:
    one, three = plan(confirm=True), plan(workers=3, confirm=True)
    assert three.search_s == pytest.approx(one.search_s / 3)
    assert three.confirmation_s == pytest.approx((one.confirmation_s or 0) / 3)
    assert three.evaluation_s == pytest.approx(one.evaluation_s)
    assert three.first_s == one.first_s


def test_fresh_runs_train_anew_and_measure_test_images_too() -> None:
    run_s = TRAIN_S + PRUNE_S + APPROXIMATE_S + 3 * 450 * 0.125
    of_baseline_s = 5 * (run_s - PRUNE_S)
    assert plan(confirm=True).confirmation_s == pytest.approx(of_baseline_s + 25 * run_s)
    assert plan(confirm=True).seconds == pytest.approx(plan().search_s + of_baseline_s + 25 * run_s)


def test_fresh_runs_of_built_in_families_train_every_starting_point_and_derive_from_it() -> None:
    test_s = 3 * 450 * 0.125
    exact = replace(TIMES, retrain_step_s=1e9 / 2**40)
    for task in (DIGITS, replace(DIGITS, from_scratch=False)):
        found = plan(task, confirm=True, times=exact).confirmation_s
        approximate_s = APPROXIMATE_S - 2 * 32 * (2.0 - exact.retrain_step_s)
        others_s = DERIVE_S + PRUNE_S + approximate_s + test_s
        assert found == pytest.approx(5 * (2 * TRAIN_S + approximate_s + test_s) + 25 * others_s)
    fixed = replace(DIGITS, from_scratch=False, baseline_is_fixed=True)
    fixed_s = plan(fixed, confirm=True, times=exact).confirmation_s
    assert fixed_s == pytest.approx(5 * (approximate_s + test_s) + 25 * others_s)


def test_the_baseline_alone_is_not_pruned_and_keeps_one_worker_busy() -> None:
    run_s = TRAIN_S + APPROXIMATE_S + 3 * 450 * 0.125
    alone = plan(ONE, evaluations=1, workers=8, confirm=True)
    assert alone.first_s == alone.search_s == alone.evaluation_s == TRAIN_S + APPROXIMATE_S
    assert alone.confirmation_s == pytest.approx(run_s)  # five at a time


def test_few_evaluations_take_as_long_as_the_first_at_least() -> None:
    one, three = (plan(DIGITS, middle=0.1, smallest=0.1, evaluations=3, workers=workers) for workers in (1, 8))
    assert three.search_s == three.first_s == one.first_s
    assert three.evaluation_s == pytest.approx(one.search_s / 3)
    rest = plan(DIGITS, middle=0.1, smallest=0.1, evaluations=3, workers=8, before=10)
    assert rest.search_s == pytest.approx(rest.evaluation_s)  # all at a time


def test_searches_try_a_share_of_what_random_candidates_would() -> None:
    # Only training takes time, so that time counts networks, or networks and pairs with their sparsities.
    times = replace(TIMES, retrain_step_s=0.0, convert_s=0.0, image_s=0.0)
    training = replace(DIGITS, effort=replace(EFFORT, approximate_epochs=0))
    once = replace(training, effort=replace(training.effort, prune_epochs=0))
    networks = len({one.network for one in DIGITS.space.networks()})
    rng = np.random.default_rng(0)
    for evaluations in (30, 200):
        drawn = rng.integers(0, networks, (2000, evaluations))
        distinct = np.mean([len(np.unique(one)) for one in drawn])
        starts_s = 2 * TRAIN_S - DERIVE_S  # of both families, of which one is the first network
        trained = (plan(once, times=times, evaluations=evaluations).search_s - starts_s) / DERIVE_S
        assert trained == pytest.approx(0.6 * distinct, rel=0.01)
        pairs = round(trained) * len(DIGITS.space.sparsity_percent[1:])
        distinct = np.mean([len(np.unique(one)) for one in rng.integers(0, pairs, (2000, evaluations - 1))])
        rest_s = plan(training, times=times, evaluations=evaluations).search_s - starts_s - trained * DERIVE_S
        pruned = rest_s / PRUNE_S
        assert pruned == pytest.approx(0.6 * distinct, rel=0.02)


def test_the_parts_of_a_search_that_is_resumed_take_as_long_as_the_whole() -> None:
    for task in (ONE, DIGITS):
        whole = plan(task, middle=0.3)
        begun = plan(task, middle=0.3, evaluations=30)
        rest = plan(task, middle=0.3, evaluations=70, before=30)
        assert begun.search_s + rest.search_s == pytest.approx(whole.search_s)
        assert rest.first_s is None
        assert rest.remedies == ()


def test_trained_networks_are_like_the_middle_ones_and_candidates_between_these_and_the_smallest() -> None:
    only_training = replace(TIMES, retrain_step_s=0.0, convert_s=0.0, image_s=0.0)
    once = replace(DIGITS, effort=replace(EFFORT, prune_epochs=0, approximate_epochs=0))
    alike = plan(once, times=only_training).search_s - 2 * TRAIN_S
    halved = plan(once, times=only_training, middle=0.5, smallest=9.0).search_s - 2 * TRAIN_S
    steps = alike / (0.5 + TEACHER_S)  # the teacher is as large as before
    assert halved == pytest.approx(steps * (0.25 + TEACHER_S))
    only_measuring = replace(TIMES, train_step_s=0.0)
    measuring_s = APPROXIMATE_S - 2 * 32 * TEACHER_S
    assert plan(times=only_measuring).search_s == pytest.approx(100 * measuring_s)
    shrinking = plan(DIGITS, times=only_measuring, middle=0.5, smallest=0.1).search_s
    assert shrinking == pytest.approx((1 + 99 * 0.3) * measuring_s)


def test_networks_that_could_not_be_timed_are_left_out() -> None:
    baseline = DIGITS.space.baseline()
    alone = plan_search(
        DIGITS,
        "standard",
        DIGITS.space,
        {baseline: TIMES},
        SIZES,
        evaluations=100,
        before=0,
        workers=1,
        confirm=False,
        known=False,
    )
    assert alone == plan(DIGITS)


def test_candidates_to_time_are_the_baseline_and_two_of_each_family() -> None:
    space = DIGITS.space
    found = TypicalCandidates.of(space)
    assert found.baseline == space.baseline()
    for ones, sizes in ((found.middle, range(2, 8)), (found.smallest, (1,))):
        assert [one.family for one in ones] == list(space.families)
        for one in ones:
            assert one.width in sizes
            assert one == replace(found.baseline, family=one.family, depth=one.depth, width=one.width)
    assert found.other_starts == (replace(found.baseline, family="lenet"),)
    assert len(found.all) == 6
    assert TypicalCandidates.of(ONE.space).all == (ONE.space.baseline(),)


PHOTOS = Dataset(
    name="photos",
    digest="0" * 64,
    title="photos",
    image_shape=(3, 100, 64),
    class_names=("a", "b"),
    counts={"all": 1797},
)


def test_a_long_search_says_what_would_make_it_shorter() -> None:
    task = replace(task_of(PHOTOS).with_network(CUSTOM), effort=replace(EFFORT, derive_epochs=4), train="finetune")
    quick = replace(TIMES, image_s=0.001)
    found = plan(task, times=quick, confirm=True)
    assert found.seconds > LONG_S
    shorter = {one.parameter: one for one in found.remedies}
    assert {name: one.value for name, one in shorter.items()} == {
        "budget": "20",
        "effort": "quick",
        "epochs": "1",
        "image_size": "50x32",
        "train": "none",
    }
    once = {
        "budget": plan(task, times=quick, confirm=True, evaluations=20),
        "effort": plan(task, times=quick, confirm=True, effort="quick"),
        "epochs": plan(task.with_recipe(Recipe(epochs=1)), times=quick, confirm=True),
        "image_size": plan(task, confirm=True, times=quick.scaled(0.25)),
        "train": plan(replace(task, train="none"), times=quick, confirm=True),
    }
    assert {name: one.seconds for name, one in shorter.items()} == pytest.approx(
        {name: other.seconds for name, other in once.items()}
    )


def test_the_largest_budget_that_ends_within_an_hour_is_named() -> None:
    times = TIMES.scaled(0.2)
    found = plan(ONE, UNPRUNED, times=times, evaluations=200)
    (budget,) = [one for one in found.remedies if one.parameter == "budget"]
    assert budget.seconds <= LONG_S < plan(space=UNPRUNED, times=times, evaluations=2 * int(budget.value)).seconds


def test_a_short_search_needs_no_advice() -> None:
    assert plan(times=TIMES.scaled(0.01)).remedies == ()
