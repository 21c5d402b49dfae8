"""What a search found, as a table."""

import math
from pathlib import Path

import pytest

from search.engine import Observer, population_size, run_search
from search.result import SearchResult
from search.store import Store
from search.task import find_task
from tests.search.fakes import FakeExecutor


@pytest.fixture
def result(tmp_path: Path) -> SearchResult:
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=True) as store:
        search = store.create_search(
            name=None,
            task="digits",
            hardware="any",
            seed=0,
            budget=40,
            population_size=population_size(40),
            min_accuracy=None,
        )
        space = find_task("digits").space
        return run_search(
            search, space, store, FakeExecutor(), key_of=lambda candidate: candidate.key, observer=Observer()
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
    assert row["energy_mac_pj"] + row["energy_weight_sram_pj"] == pytest.approx(row["energy_pj"])


def test_what_is_not_known_is_nan_in_a_frame(result: SearchResult) -> None:
    frame = result.to_frame()
    for column in ("energy_low_pj", "energy_high_pj", "area_mm2"):  # the fakes have none
        assert frame[column].dtype == float
        assert frame[column].isna().all()
    untested = frame[~frame["on_front"] & ~frame["is_baseline"]]
    assert all(math.isnan(value) for value in untested["test_accuracy"])
    assert not frame.loc[frame["on_front"], "test_accuracy"].isna().any()
