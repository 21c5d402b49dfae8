"""Evaluations and their fronts, which are compared with those worked out from all evaluations."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.errors import UsageError
from search.space.task import CustomNetwork, find_task
from search.space.techniques import TECHNIQUES, techniques_of
from search.store import evaluations, queries
from search.store.database import Store
from search.store.records import Record
from tests.support.fakes import SETUP, formula, new_search
from tests.support.postgresql import running_server

BASELINE = find_task("digits").space.baseline()
CHANGES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("width", (1, 2, 8)),
    ("sparsity", (0.0, 0.3, 0.7)),
    ("multiplier", ("exact", "truncated-2")),
    ("multiplier_last", (None, "truncated-3")),
    ("supply_v", (0.9, 0.7)),
    ("robust_bits", (0, 2)),
)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.process)])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One of 400 evaluations, many with the same energy or accuracy, and many of one technique alone."""
    random = np.random.default_rng(7)
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'results.db'}"
        if request.param == "postgresql":
            url = stack.enter_context(running_server()).url
        opened = stack.enter_context(Store.open(url, create=True))
        for number in range(400):
            changed = random.choice(len(CHANGES), size=random.integers(4), replace=False)
            values = {CHANGES[knob][0]: CHANGES[knob][1][random.integers(len(CHANGES[knob][1]))] for knob in changed}
            candidate = replace(BASELINE, **values).canonical()
            energy = int(random.integers(1, 30))
            evaluation = replace(
                formula(candidate),
                chip_accuracies=(int(random.integers(energy)) / 30,),
                components_pj={"mac": float(energy)},
                stopped=bool(random.random() < 0.1),
                area_mm2=float(random.integers(1, 10)),
            )
            opened.evaluations.record(random.bytes(32).hex(), evaluation, SETUP, seed=number)
        yield opened


def expected(many: Store, wanted: Callable[[Record], bool]) -> list[str]:
    """The keys of those that none beats, of all that are wanted."""
    found: list[Record] = []
    for record in sorted(
        filter(wanted, many.evaluations.all(SETUP)),
        key=lambda one: (one.evaluation.energy_pj, -one.evaluation.accuracy, one.key),
    ):
        if not found or record.evaluation.accuracy > found[-1].evaluation.accuracy:
            found.append(record)
    return [record.key for record in found]


def keys(records: list[Record]) -> list[str]:
    return [record.key for record in records]


def test_the_front(many: Store) -> None:
    assert len(expected(many, lambda _: True)) >= 3
    assert keys(many.evaluations.front(SETUP)) == expected(many, lambda _: True)
    assert [key for key, _ in many.evaluations.front_points(SETUP)] == expected(many, lambda _: True)
    assert keys(many.evaluations.front(SETUP, min_accuracy=0.6)) == expected(
        many, lambda one: one.evaluation.accuracy >= 0.6
    )
    assert keys(many.evaluations.front(SETUP, min_accuracy=1.01)) == []


def test_the_front_within_an_area(many: Store) -> None:
    small = expected(many, lambda one: one.evaluation.area_mm2 <= 3)
    assert len(small) >= 2
    assert small != expected(many, lambda _: True)
    assert keys(many.evaluations.front(SETUP, max_area_mm2=3.0)) == small
    assert [key for key, _ in many.evaluations.front_points(SETUP, max_area_mm2=3.0)] == small
    assert keys(many.evaluations.front(SETUP, max_area_mm2=0.5)) == []


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_the_front_of_a_technique_alone(many: Store, technique: str) -> None:
    alone = expected(many, lambda one: techniques_of(one.evaluation.candidate, BASELINE) == {technique})
    assert len(alone) >= 2
    assert keys(many.evaluations.front(SETUP, near=BASELINE, by=TECHNIQUES[technique])) == alone


def test_evaluations_come_back_as_they_were_and_are_never_overwritten(store: Store) -> None:
    evaluation = formula(BASELINE)
    store.evaluations.record("k", evaluation, SETUP, seed=1)
    store.evaluations.record_test("k", (0.5, 0.7))
    kept = store.evaluations.record("k", formula(replace(BASELINE, depth=1)), SETUP, seed=1)
    assert kept.evaluation == evaluation
    with Store.open(store.url, create=False) as again:
        found = again.evaluations.find("k")
        assert found is not None
        assert found.evaluation == evaluation
        assert (found.setup, found.seed) == (SETUP, 1)
        assert found.test_accuracy == pytest.approx(0.6)
        assert again.evaluations.find("other") is None


def test_evaluations_are_listed_by_energy_and_by_what_they_belong_to(store: Store) -> None:
    for depth in (3, 1, 2):
        store.evaluations.record(str(depth), formula(replace(BASELINE, depth=depth)), SETUP, seed=0)
    for number, change in enumerate(({"task": "mnist"}, {"hardware": "other"}, {"effort": "quick"})):
        store.evaluations.record(f"other-{number}", formula(BASELINE), replace(SETUP, **change), seed=0)
    assert keys(store.evaluations.all(SETUP)) == ["1", "2", "3"]
    two = store.evaluations.all(SETUP, min_accuracy=formula(BASELINE).accuracy - 0.02)
    assert keys(two) == ["2", "3"]


def test_evaluations_of_another_version_are_not_offered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.evaluations.record("k", formula(BASELINE), SETUP, seed=0)
    assert store.evaluations.all(SETUP)
    monkeypatch.setattr(queries, "EVALUATION_VERSION", 99)
    assert store.evaluations.all(SETUP) == []


def test_a_search_of_another_version_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    search = new_search(store)
    store.evaluations.record("0123456789abcdef", formula(BASELINE), SETUP, seed=0)
    store.searches.record_trial(search, 0, evaluation_key="0123456789abcdef")
    assert keys(store.evaluations.of_search(search)) == ["0123456789abcdef"]
    monkeypatch.setattr(evaluations, "EVALUATION_VERSION", 99)
    with pytest.raises(UsageError, match=r"'0123456789ab' was made by a version of crosslayer that .*; search again"):
        store.evaluations.of_search(search)


@pytest.mark.process
def test_evaluations_of_a_custom_network_are_kept_apart(store: Store) -> None:
    network = CustomNetwork(path=f"{'p' * 290}:build", folder="", max_depth=3, max_width=8, fingerprint="0" * 64)
    task = find_task("digits").with_network(network)
    own = replace(SETUP, task=task.identity)
    store.evaluations.record("own", formula(task.space.baseline()), own, seed=0)
    assert store.evaluations.all(SETUP) == []
    assert keys(store.evaluations.all(own)) == ["own"]
