"""Cached answers follow the stored results."""

from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from energy import load_hardware
from search import best
from search.answers.stored import Stored
from search.api.workplace import Workplace
from search.space.target import Target
from search.space.task import find_task
from search.store.database import Store
from tests.support.fakes import formula, fresh_run
from tests.support.requests import ask
from tests.support.stored import HARDWARE, RUNS, SETUP, SPACE, candidate


def test_new_results_change_the_answer(client: TestClient, database: Path) -> None:
    before = ask(client, min_accuracy=0.9).json()
    assert (before["configurations"][0]["candidate"]["width"], before["untried"]) == (2, [])
    cheaper = candidate(width=2, sparsity=0.3)
    with Store.open(f"sqlite:///{database}", create=False) as store:
        store.evaluations.record(cheaper.key, formula(cheaper), SETUP, seed=0)
    between = ask(client, min_accuracy=0.9).json()
    assert between["configurations"] == before["configurations"]
    assert [one["candidate"] for one in between["untried"]] == [cheaper.to_dict()]
    with Store.open(f"sqlite:///{database}", create=False) as store:
        for run in range(RUNS):
            store.runs.record(fresh_run(cheaper, run), SETUP)
    after = ask(client, min_accuracy=0.9).json()
    assert after["confirmed"] is True
    assert [one["candidate"]["sparsity"] for one in after["configurations"]] == [0.3, 0, 0, 0]
    assert after["untried"] == after["rejected"] == []


def test_what_was_confirmed_stays_so(client: TestClient, database: Path) -> None:
    before = ask(client, min_accuracy=0.9).json()
    better = replace(formula(candidate(width=2, sparsity=0.05)), chip_accuracies=(0.97,))
    with Store.open(f"sqlite:///{database}", create=False) as store:
        store.evaluations.record(better.candidate.key, better, SETUP, seed=0)
    response = ask(client, min_accuracy=0.9)
    assert response.status_code == 200
    after = response.json()
    assert after["configurations"][0] == before["configurations"][0]
    assert [one["candidate"]["sparsity"] for one in after["untried"]] == [0.05]


def test_a_baseline_of_another_seed_is_another_answer(client: TestClient, database: Path) -> None:
    before = ask(client, max_accuracy_drop=0.5).json()
    worse = replace(formula(SPACE.baseline()), chip_accuracies=(0.8,))
    with Store.open(f"sqlite:///{database}", create=False) as store:
        store.evaluations.record("other", worse, SETUP, seed=-1)
    after = ask(client, max_accuracy_drop=0.5).json()
    assert before["wanted_accuracy"] != after["wanted_accuracy"]


def test_search_best_says_the_same(client: TestClient, database: Path) -> None:
    better = replace(formula(candidate(width=2, sparsity=0.05)), chip_accuracies=(0.97,))
    with Store.open(f"sqlite:///{database}", create=False) as store:
        store.evaluations.record(better.candidate.key, better, SETUP, seed=0)
    for wanted in (0.9, 0.94):
        body = ask(client, min_accuracy=wanted).json()
        answer = best(min_accuracy=wanted, confirm=False, workplace=Workplace(storage=str(database)))
        assert answer.record is not None
        assert body["configurations"][0]["id"] == answer.record.id
        assert body["confirmed"] == answer.confirmed


@pytest.mark.slow
def test_answers_are_those_of_the_store(client: TestClient, database: Path) -> None:
    """The service and `search best` cannot tell different things."""

    for wanted in (0.5, 0.9, 0.94):
        with Store.open(f"sqlite:///{database}", create=False) as store:
            stored = Stored.read(store, find_task("digits"), load_hardware(HARDWARE), effort="standard")
            found = stored.configurations(Target(min_accuracy=wanted), hardware=HARDWARE)
        body = client.get("/v1/fronts/digits", params={"min_accuracy": wanted}).json()
        assert [one["id"] for one in body["configurations"]] == [record.id for record in found.records]


def test_stored_results_answer_within_any_area(client: TestClient, database: Path) -> None:
    """The search that stored them had no bound on area, which is 0.1 mm2 for the baseline."""
    small = [replace(formula(candidate(width=width, sparsity=0.05)), area_mm2=width / 100) for width in (2, 4)]
    with Store.open(f"sqlite:///{database}", create=False) as store:
        for one in small:
            store.evaluations.record(one.candidate.key, one, SETUP, seed=0)
            for run in range(RUNS):
                store.runs.record(fresh_run(one.candidate, run), SETUP)
    found = ask(client, min_accuracy=0.8, max_area=0.4)
    assert found.status_code == 200
    body = found.json()
    assert (body["max_area"], body["confirmed"]) == (0.4, True)
    assert [one["candidate"]["width"] for one in body["configurations"]] == [2, 4]
    assert {one["candidate"]["sparsity"] for one in body["configurations"]} == {0.05}
    assert body["highest_accuracy"] == small[1].accuracy
    assert body["baseline"]["area_mm2"] == 0.1
    assert [one["area_mm2"] for one in ask(client, min_accuracy=0.8, max_area=0.3).json()["configurations"]] == [0.02]
    free = ask(client, min_accuracy=0.8).json()
    assert (free["max_area"], len(free["configurations"])) == (None, 5)
    answer = best(min_accuracy=0.8, max_area=0.4, confirm=False, workplace=Workplace(storage=str(database)))
    assert answer.record is not None
    assert body["configurations"][0]["id"] == answer.record.id
    front = client.get("/v1/fronts/digits", params={"max_area": 0.4}).json()
    assert [one["id"] for one in front["configurations"]] == [one["id"] for one in body["configurations"]]
    # What is stored within it is not enough: a search is needed, which begins with another question's answer.
    waiting = ask(client, min_accuracy=0.99, max_area=0.4)
    assert waiting.status_code == 202
    assert waiting.json()["request"]["max_area"] == 0.4
    assert waiting.json()["best_known"]["configurations"] == []


def test_questions_with_other_bounds_are_other_jobs(client: TestClient) -> None:
    asked = [ask(client, min_accuracy=1.0, max_area=ratio).json()["id"] for ratio in (None, 0.5, 0.6)]
    assert len({*asked}) == 3
    assert ask(client, min_accuracy=1.0, max_area=0.5).json()["id"] == asked[1]
