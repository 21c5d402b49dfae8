"""Answers from stored results: the same for a search as for all searches, with the fair reference of savings."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from energy import load_hardware
from search.answers.confirmation import Answer
from search.answers.confirmer import Confirmer, FreshRuns
from search.answers.result import result_of
from search.answers.stored import Stored
from search.space.candidate import Candidate
from search.space.target import Target
from search.space.task import find_task
from search.store.database import Store
from tests.support.fakes import FakeExecutor, formula, fresh_run, new_search
from tests.support.stored import (
    CONFIRMED,
    DROP,
    HARDWARE,
    REJECTED,
    RIGHT_SIZED,
    RUNS,
    SETUP,
    SPACE,
    candidate,
    store_rejected,
)

TARGET = Target(max_accuracy_drop=DROP)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store_rejected(tmp_path / "results.db")
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=False) as opened:
        yield opened


def answer(store: Store, target: Target = TARGET) -> Answer:
    return Stored.read(store, find_task("digits"), load_hardware(HARDWARE), effort="standard").answer(target)


def add(store: Store, one: Candidate, *, runs: int = 0, loss: float = 0.0) -> None:
    """Store an evaluation, and fresh runs that are less accurate by some loss."""
    store.evaluations.record(one.key, formula(one), SETUP, seed=0)
    for run in range(runs):
        made = fresh_run(one, run)
        store.runs.record(replace(made, chip_accuracies=(made.accuracy - loss,)), SETUP)


def test_a_search_has_the_same_answer_as_all_searches(store: Store) -> None:
    """Even where the confirmed configuration was pushed off the front by one that was not retrained."""
    cheaper = replace(CONFIRMED, weight_bits=6)
    better = replace(formula(cheaper), chip_accuracies=(0.96,))
    store.evaluations.record(cheaper.key, better, SETUP, seed=0)
    search = new_search(store, setup=SETUP, target=TARGET)
    for number, one in enumerate((SPACE.baseline(), CONFIRMED, REJECTED, RIGHT_SIZED, cheaper)):
        store.searches.record_trial(search, number, evaluation_key=one.key)
    of_search, of_all = result_of(store, search, evaluations=False).answer, answer(store)
    assert of_search == of_all
    assert of_search.record is not None
    assert of_search.record.key == CONFIRMED.key
    assert of_search.confirmed


def test_verdicts_are_those_at_the_target(store: Store) -> None:
    found = answer(store)
    verdicts = {
        key: found.verdict(record) for key in (CONFIRMED.key, REJECTED.key) if (record := store.evaluations.find(key))
    }
    assert verdicts == {CONFIRMED.key: "confirmed", REJECTED.key: "rejected"}
    strict = answer(store, Target(max_accuracy_drop=0.01))
    record = store.evaluations.find(CONFIRMED.key)
    assert record is not None
    assert strict.verdict(record) is None  # it was not even measured to reach it


def test_the_right_sized_network_is_measured_or_confirmed_but_never_rejected(store: Store) -> None:
    measured = answer(store).right_sized
    assert (measured.record.key, measured.confirmation) == (RIGHT_SIZED.key, None)
    add(store, RIGHT_SIZED, runs=RUNS)
    confirmed = answer(store).right_sized
    assert confirmed.record.key == RIGHT_SIZED.key
    assert confirmed.confirmation is not None
    assert confirmed.confirmation.confirmed
    lucky = candidate(depth=2, width=5)
    assert formula(lucky).energy_pj < formula(RIGHT_SIZED).energy_pj
    store.evaluations.record(lucky.key, replace(formula(lucky), chip_accuracies=(0.96,)), SETUP, seed=0)
    assert answer(store).right_sized.record.key == lucky.key
    add(store, lucky, runs=RUNS, loss=0.1)
    assert answer(store).right_sized == confirmed


def test_where_no_smaller_network_keeps_the_accuracy_the_baseline_is_right_sized(store: Store) -> None:
    found = answer(store, Target(max_accuracy_drop=0.005)).right_sized
    assert found.record.evaluation.candidate == SPACE.baseline()
    assert found.confirmation is not None
    assert answer(store, Target(min_accuracy=0.9999)).right_sized.record.evaluation.candidate == SPACE.baseline()


def test_fresh_runs_of_the_right_sized_network_are_made_where_it_is_asked_for(store: Store) -> None:
    executor = FakeExecutor()
    confirmer = Confirmer(FreshRuns(store, executor, SETUP), find_task("digits"), kept_only=False)
    records = store.evaluations.all(SETUP)
    baseline, plain = records[-1], store.evaluations.of_candidates(SPACE.networks(), SETUP)
    confirmer.answer(records, baseline, TARGET)
    assert executor.jobs == []
    found = confirmer.answer(records, baseline, TARGET, plain=plain).right_sized
    assert {job.candidate for job in executor.jobs} == {RIGHT_SIZED}
    assert found.confirmation is not None
    assert found.record.key == RIGHT_SIZED.key
