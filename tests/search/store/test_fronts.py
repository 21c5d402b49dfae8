"""The fronts that a database finds, against those worked out from all evaluations."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.space.task import find_task
from search.space.techniques import TECHNIQUES, techniques_of
from search.store.store import Record, Store
from tests.support.fakes import formula
from tests.support.postgresql import running_server

BASELINE = find_task("digits").space.baseline()
PLACE: dict[str, Any] = {"task": "digits", "hardware": "any"}
CHANGES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("width", (1, 2, 8)),
    ("sparsity", (0.0, 0.3, 0.7)),
    ("multiplier", ("exact", "truncated-2")),
    ("multiplier_last", (None, "truncated-3")),
    ("supply_v", (0.9, 0.7)),
    ("robust_bits", (0, 2)),
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
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
            )
            opened.record_evaluation(random.bytes(32).hex(), evaluation, **PLACE, seed=number)
        yield opened


def expected(store: Store, wanted: Callable[[Record], bool]) -> list[str]:
    """The keys of those that none beats, of all that are wanted."""
    found: list[Record] = []
    for record in sorted(
        filter(wanted, store.evaluations(**PLACE)),
        key=lambda one: (one.evaluation.energy_pj, -one.evaluation.accuracy, one.key),
    ):
        if not found or record.evaluation.accuracy > found[-1].evaluation.accuracy:
            found.append(record)
    return [record.key for record in found]


def keys(records: list[Record]) -> list[str]:
    return [record.key for record in records]


def test_the_front(store: Store) -> None:
    assert len(expected(store, lambda _: True)) >= 3
    assert keys(store.front(**PLACE)) == expected(store, lambda _: True)
    assert [key for key, _ in store.front_points(**PLACE, effort="standard")] == expected(store, lambda _: True)
    assert keys(store.front(**PLACE, min_accuracy=0.6)) == expected(store, lambda one: one.evaluation.accuracy >= 0.6)
    assert keys(store.front(**PLACE, min_accuracy=1.01)) == []


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_the_front_of_a_technique_alone(store: Store, technique: str) -> None:
    alone = expected(store, lambda one: techniques_of(one.evaluation.candidate, BASELINE) == {technique})
    assert len(alone) >= 2
    assert keys(store.front(**PLACE, near=BASELINE, by=TECHNIQUES[technique])) == alone
