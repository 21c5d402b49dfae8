"""Stored results, and what there is to choose from."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import energy
from search.store.database import Store
from tests.support.fakes import formula
from tests.support.requests import ask, assert_problem
from tests.support.stored import HARDWARE, SETUP, SPACE, candidate

MULTIPLIER_OF_MINE = "mine@01234567"


def test_a_front(client: TestClient) -> None:
    body = client.get("/v1/fronts/digits").json()
    assert [one["candidate"]["width"] for one in body["configurations"]] == [2, 4, 8]
    high = formula(candidate(width=4)).accuracy
    body = client.get("/v1/fronts/digits", params={"min_accuracy": high, "select": "cheapest"}).json()
    assert [one["candidate"]["width"] for one in body["configurations"]] == [4]
    body = client.get("/v1/fronts/digits", params={"select": "knee"}).json()
    assert len(body["configurations"]) == 1


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
    assert {key: found[key] for key in best if key != "confirmation"} == {
        key: value for key, value in best.items() if key != "confirmation"
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
