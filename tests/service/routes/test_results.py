"""Stored results, and what there is to choose from."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import energy
from search.store.database import Store
from tests.support.fakes import formula
from tests.support.requests import ask, assert_problem
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
    client_of,
    store_rejected,
)

MULTIPLIER_OF_MINE = "mine@01234567"


def test_a_front(client: TestClient) -> None:
    body = client.get("/v1/fronts/digits").json()
    assert [one["candidate"]["width"] for one in body["configurations"]] == [2, 4, 8]
    high = formula(candidate(width=4)).accuracy
    body = client.get("/v1/fronts/digits", params={"min_accuracy": high}).json()
    assert [one["candidate"]["width"] for one in body["configurations"]] == [4, 8]
    body = client.get("/v1/fronts/digits", params={"select": "knee"}).json()
    assert len(body["configurations"]) == 1


def test_a_front_says_what_fresh_runs_say_and_names_the_confirmed_answer(database: Path) -> None:
    store_rejected(database)
    with client_of(database) as client:
        body = client.get("/v1/fronts/digits", params={"max_accuracy_drop": DROP}).json()
        asked = ask(client, max_accuracy_drop=DROP).json()
        (cheapest,) = client.get("/v1/fronts/digits", params={"max_accuracy_drop": DROP, "select": "cheapest"}).json()[
            "configurations"
        ]
        alone = client.get("/v1/techniques/digits", params={"max_accuracy_drop": DROP}).json()["techniques"]["network"]
        assert client.get("/v1/jobs").json()["jobs"] == []
    verdicts = {one["id"]: one["verdict"] for one in body["configurations"]}
    expected = {REJECTED: "rejected", CONFIRMED: "confirmed", RIGHT_SIZED: "untried", SPACE.baseline(): "confirmed"}
    assert verdicts == {one.key[:12]: verdict for one, verdict in expected.items()}
    assert body["answer"] == asked
    assert cheapest["id"] == asked["configurations"][0]["id"] == CONFIRMED.key[:12]
    assert [one["id"] for one in asked["rejected"]] == [REJECTED.key[:12]]
    assert asked["right_sized"]["id"] == RIGHT_SIZED.key[:12]
    assert asked["right_sized"]["confirmation"] is None
    assert cheapest["saving_right_sized"] == pytest.approx(1 / 0.7)
    assert asked["right_sized"]["saving_right_sized"] == 1
    assert cheapest["area_ratio"] == pytest.approx(0.5)
    assert [one["verdict"] for one in alone] == ["untried"]
    assert asked["baseline"]["confirmation"]["runs"] == RUNS


def test_a_front_where_nothing_cheaper_is_confirmed(database: Path) -> None:
    store_rejected(database, confirmed=False)
    with client_of(database) as client:
        body = client.get("/v1/fronts/digits", params={"max_accuracy_drop": DROP}).json()
    assert [one["verdict"] for one in body["configurations"]] == ["rejected", "rejected", "untried", "confirmed"]
    assert body["answer"]["configurations"][0]["id"] == body["baseline"]["id"]
    assert [one["id"] for one in body["answer"]["untried"]] == [RIGHT_SIZED.key[:12]]


def test_a_front_where_nothing_is_confirmed(database: Path) -> None:
    store_rejected(database, runs=0)
    with client_of(database) as client:
        body = client.get("/v1/fronts/digits", params={"max_accuracy_drop": DROP}).json()
    assert {one["verdict"] for one in body["configurations"]} == {"untried"}
    assert body["answer"]["confirmed"] is False
    assert body["answer"]["configurations"][0]["id"] == REJECTED.key[:12]  # which nobody knows yet


def test_what_does_not_reach_the_target_has_no_verdict(client: TestClient) -> None:
    body = client.get("/v1/fronts/digits").json()  # for 2 points below the baseline
    assert [one["verdict"] for one in body["configurations"]] == [None, None, "confirmed"]
    both = {"min_accuracy": 0.9, "max_accuracy_drop": 0.1}
    for path in ("fronts", "techniques"):
        assert_problem(client.get(f"/v1/{path}/digits", params=both), 422, "give one of min_accuracy")


def test_no_front(client: TestClient) -> None:
    unknown = client.get("/v1/fronts/mnist").json()
    assert (unknown["configurations"], unknown["baseline"]) == ([], None)
    high = client.get("/v1/fronts/digits", params={"min_accuracy": 1.0, "select": "knee"}).json()
    assert high["configurations"] == []
    assert high["baseline"] is not None
    assert not any(client.get("/v1/techniques/mnist").json()["techniques"].values())
    assert_problem(client.get("/v1/fronts/mnits"), 404, "did you mean 'mnist'", "dataset")
    assert_problem(client.get("/v1/fronts/digits", params={"hardware": "x"}), 422, "unknown hardware", "hardware")


def test_techniques_alone(client: TestClient, database: Path) -> None:
    pruned, both = candidate(sparsity=0.5), candidate(sparsity=0.5, width=2)
    with Store.open(f"sqlite:///{database}", create=False) as store:
        for one in (pruned, both):
            store.evaluations.record(one.key, formula(one), SETUP, seed=0)
    found = client.get("/v1/techniques/digits").json()["techniques"]
    assert set(found) == {"network", "pruning", "multiplier", "memory"}
    assert [one["candidate"]["width"] for one in found["network"]] == [2, 4]
    assert [one["candidate"] for one in found["pruning"]] == [pruned.to_dict()]
    assert found["multiplier"] == found["memory"] == []


def test_an_evaluation_and_its_file(client: TestClient) -> None:
    best = ask(client, min_accuracy=0.9).json()["configurations"][0]
    found = client.get(f"/v1/evaluations/{best['id']}").json()
    assert found["dataset"] == "digits"
    assert found["hardware"] == HARDWARE
    of_target = ("confirmation", "verdict", "saving_right_sized")
    assert {key: found[key] for key in best if key not in of_target} == {
        key: value for key, value in best.items() if key not in of_target
    }
    file = client.get(f"/v1/evaluations/{best['id']}/export")
    assert f'filename="digits-{best["id"]}.json"' in file.headers["content-disposition"]
    assert file.json() == found
    assert_problem(client.get("/v1/evaluations/ffff"), 404, "ffff")


def test_a_configuration_with_an_imported_multiplier_is_offered(client: TestClient, database: Path) -> None:
    own = candidate(multiplier=MULTIPLIER_OF_MINE, width=2, sparsity=0.3)
    with Store.open(f"sqlite:///{database}", create=False) as store:
        store.evaluations.record(own.key, formula(own), SETUP, seed=0)
    body = client.get("/v1/fronts/digits").json()
    assert body["configurations"][0]["candidate"]["multiplier"] == MULTIPLIER_OF_MINE


def test_what_there_is_to_choose_from(client: TestClient) -> None:
    assert {one["name"] for one in client.get("/v1/datasets").json()} >= {"digits", "mnist", "cifar10"}
    hardware = client.get("/v1/hardware").json()
    assert sorted(one["name"] for one in hardware) == energy.hardware_names()
    assert [one["name"] for one in hardware if one["default"]] == [HARDWARE]
    multipliers = {one["name"]: one for one in client.get("/v1/multipliers").json()}
    assert multipliers["exact"]["relative_energy"] == 1
    assert 0 < multipliers["asm-1"]["relative_energy"] < 1


def test_energy_without_training(client: TestClient) -> None:
    small = candidate(width=4, weight_bits=4, sparsity=0.5)
    response = ask(client, "/v1/energy", candidate=small.to_dict())
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["saving"] > 1
    assert body["energy_low_pj"] < body["energy_pj"] < body["energy_high_pj"]
    assert sum(body["components_pj"].values()) == pytest.approx(body["energy_pj"])
    layers = [sum(parts.values()) for parts in body["layers_pj"].values()]
    assert sum(layers) == pytest.approx(body["energy_pj"])
    other = ask(client, "/v1/energy", candidate=small.to_dict(), hardware="hybrid-22nm").json()
    assert other["energy_pj"] != body["energy_pj"]
    assert ask(client, "/v1/energy", candidate=SPACE.baseline().to_dict()).json()["saving"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "lenot"}, "did you mean 'lenet'"),
        ({"depth": 60}, "depth"),
        ({"weight_bits": 9}, "weight_bits must be between 2 and 8, got 9"),
        ({"width": "wide"}, "must be of type int"),
        ({"multiplier": "mine@00000000"}, "mine"),
        ({"colour": 3}, "unknown candidate key 'colour'"),
    ],
)
def test_energy_of_what_cannot_be(client: TestClient, change: dict[str, object], words: str) -> None:
    wrong = {**SPACE.baseline().to_dict(), **change}
    assert_problem(ask(client, "/v1/energy", candidate=wrong), 422, words, "#/candidate")
