"""What a search found, as a table."""

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from search.answers.result import SearchResult, front, result_of
from search.engine import run_search
from search.evaluation.evaluation import EVALUATION_VERSION
from search.observer import Observer
from search.pareto import non_dominated_mask
from search.space.task import find_task
from search.store.database import Store
from search.store.records import SearchSettings
from search.store.tables import EvaluationRow, TrialRow
from tests.support.fakes import SETUP, FakeExecutor, FakeGenomeModel, formula, new_search

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    with Store.open(f"sqlite:///{tmp_path_factory.mktemp('result') / 'results.db'}", create=True) as store:
        search = new_search(store)
        space = find_task("digits").space
        return run_search(
            search,
            space,
            store,
            FakeExecutor(),
            genome_model=FakeGenomeModel(space),
            key_of=lambda candidate: candidate.key,
            observer=Observer(),
        )


def test_a_frame_has_a_row_for_each_different_evaluation(result: SearchResult) -> None:
    frame = result.to_frame()
    assert list(frame["id"]) == [record.id for record in result.evaluations]
    assert len(frame) == result.distinct
    assert set(frame.loc[frame["on_front"], "id"]) == {record.id for record in result.front}
    (baseline,) = frame[frame["is_baseline"]].to_dict("records")
    assert baseline["id"] == result.baseline.id
    assert baseline["saving"] == 1
    assert (baseline["family"], baseline["depth"], baseline["width"]) == ("mlp", 3, 8)
    row, record = frame.iloc[7], result.evaluations[7]
    assert {name: row[name] for name in record.evaluation.candidate.to_dict()} == record.evaluation.candidate.to_dict()
    assert row["accuracy"] == record.evaluation.accuracy
    assert row["accuracy_standard_error"] == record.evaluation.accuracy_standard_error
    assert row["energy_mac_pj"] + row["energy_weight_sram_pj"] == pytest.approx(row["energy_pj"])


def test_what_is_not_known_is_nan_in_a_frame(result: SearchResult) -> None:
    frame = result.to_frame()
    untested = frame[~frame["on_front"] & ~frame["is_baseline"]]
    assert all(math.isnan(value) for value in untested["test_accuracy"])
    assert not frame.loc[frame["on_front"], "test_accuracy"].isna().any()


@pytest.mark.parametrize("third", [None, "latency_us"])
def test_the_front_is_found_by_figures_alone(tmp_path: Path, third: str | None) -> None:
    rng = np.random.default_rng(1)
    baseline = formula(find_task("digits").space.baseline())
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=True) as store:
        search = new_search(store, settings=SearchSettings(third=third))
        for number in range(60):
            accuracy = int(rng.integers(80, 100))  # few values, so that some are equal
            evaluation = replace(
                baseline,
                chip_accuracies=(accuracy / 100,),
                components_pj={"mac": float(accuracy + rng.integers(10))},
                latency_us=float(rng.integers(1, 20)),
                stopped=bool(number and rng.random() < 0.2),
            )
            store.evaluations.record(f"{number:02}", evaluation, SETUP, seed=0)
            store.searches.record_trial(search, number, evaluation_key=f"{number:02}")
            store.searches.record_trial(search, 100 + number, evaluation_key=f"{number:02}")
        whole, brief = result_of(store, search), result_of(store, search, evaluations=False)
    assert whole.front == brief.front == tuple(front(whole.evaluations, search.settings.costs))
    assert len(whole.evaluations) == 60
    assert brief.evaluations == ()
    assert brief.baseline == whole.baseline
    assert len(whole.front) > 3


def test_ten_thousand_evaluations_are_answered_from_at_once(tmp_path: Path) -> None:
    baseline = formula(find_task("digits").space.baseline())
    # As large as real ones are, with the workload of a network of ten layers.
    content = {**baseline.to_dict(), "workload": {"layers": [{"name": "n" * 300}] * 10}}
    rng = np.random.default_rng(2)
    accuracies, energies = rng.random(10_000), rng.random(10_000) + 0.1
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=True) as store:
        search = new_search(store)
        rows = [
            {
                "key": f"{number:064}",
                "version": EVALUATION_VERSION,
                "task": "digits",
                "hardware": "any",
                "effort": "standard",
                "stopped": False,
                "seed": 0,
                "candidate_key": f"{number:064}" if number else baseline.candidate.key,
                "accuracy": accuracy,
                "energy_pj": energy,
                "content": {**content, "chip_accuracies": [accuracy], "components_pj": {"mac": energy}},
                "created_at": search.created_at,
            }
            for number, (accuracy, energy) in enumerate(zip(accuracies.tolist(), energies.tolist(), strict=True))
        ]
        engine = sa.create_engine(store.url)
        with engine.begin() as connection:
            connection.execute(sa.insert(EvaluationRow), rows)
            ends = [
                {"search_id": search.id, "trial_number": number, "evaluation_key": row["key"]}
                for number, row in enumerate(rows)
            ]
            connection.execute(sa.insert(TrialRow), ends)
        engine.dispose()
        began = time.process_time()
        result = result_of(store, search, evaluations=False)
        best = store.evaluations.front(SETUP, min_accuracy=0.5)
        seconds = time.process_time() - began
    assert seconds < 1  # 0.15 on a Xeon core
    wanted = non_dominated_mask(np.column_stack([-accuracies, energies]))
    assert {int(record.key) for record in result.front} == set(np.flatnonzero(wanted).tolist())
    assert {record.key for record in best} <= {record.key for record in result.front}


def test_a_result_prints_as_a_short_table(result: SearchResult) -> None:
    lines = repr(result).splitlines()
    assert str(result) == repr(result)
    assert lines[0] == "Search digits-1 (digits): 40 evaluations"
    assert lines[1].split() == ["acc", "%", "energy", "saves", "network", "prune", "bits", "multiplier", "memory"]
    assert lines[2].startswith(result.front[0].id)
    assert lines[-1].startswith("baseline")
    assert len(lines) == 3 + min(len(result.front), 13)
    assert max(map(len, lines)) < 100
