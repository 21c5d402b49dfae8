from dataclasses import replace

from search.space.task import find_task
from search.store.database import Store
from tests.support.fakes import SETUP, fresh_run

BASELINE = find_task("digits").space.baseline()
OTHER = replace(BASELINE, width=4)


def test_runs_come_back_by_their_number_and_are_never_overwritten(store: Store) -> None:
    runs = [fresh_run(BASELINE, number) for number in range(3)]
    for run in reversed(runs):
        store.runs.record(run, SETUP)
    store.runs.record(replace(runs[0], chip_accuracies=(0.1,)), SETUP)
    assert store.runs.of(BASELINE, SETUP) == runs
    assert store.runs.of(OTHER, SETUP) == []


def test_runs_belong_to_a_setup(store: Store) -> None:
    run, quick, other = fresh_run(BASELINE, 0), fresh_run(BASELINE, 1), fresh_run(OTHER, 0)
    store.runs.record(run, SETUP)
    store.runs.record(other, SETUP)
    store.runs.record(quick, replace(SETUP, effort="quick"))
    assert store.runs.by_candidate(SETUP) == {BASELINE.key: [run], OTHER.key: [other]}
    assert store.runs.by_candidate(replace(SETUP, effort="quick")) == {BASELINE.key: [quick]}
    for elsewhere in (replace(SETUP, task="mnist"), replace(SETUP, hardware="other")):
        assert store.runs.by_candidate(elsewhere) == {}
        assert store.runs.of(BASELINE, elsewhere) == []
