from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from search.store import Store
from search.task import find_task
from service import create_app
from tests.search.fakes import formula

SPACE = find_task("digits").space


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    with Store.open(url, create=True) as store:
        for width in (8, 4, 2):
            candidate = SPACE.baseline().from_dict({**SPACE.baseline().to_dict(), "width": width})
            store.record_evaluation(
                str(width), formula(candidate), task="digits", hardware="weight-stationary-45nm", seed=0
            )
    return TestClient(create_app(url), raise_server_exceptions=False)


def ask(client: TestClient, **body: object) -> Any:
    return client.post("/optimize", json=body)


def assert_problem(response: Any, status: int, words: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {"title", "status", "detail"}
    assert body["status"] == status
    assert words in body["detail"]


def test_the_cheapest_configuration_comes_first(client: TestClient) -> None:
    response = ask(client, dataset="digits", min_accuracy=0.5)
    assert response.status_code == 200
    body = response.json()
    assert [c["candidate"]["width"] for c in body["configurations"]] == [2, 4, 8]
    assert body["configurations"][0]["saving"] == pytest.approx(4)
    assert body["baseline"]["candidate"] == SPACE.baseline().to_dict()
    assert body["confirmed"] is False


def test_a_configuration_with_an_imported_multiplier_is_offered(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    with Store.open(url, create=True) as store:
        for name, width in (("exact", 8), ("mine@01234567", 2)):
            candidate = replace(SPACE.baseline(), multiplier=name, width=width)
            store.record_evaluation(name, formula(candidate), task="digits", hardware="weight-stationary-45nm", seed=0)
    body = ask(TestClient(create_app(url)), dataset="digits", min_accuracy=0.5).json()
    assert body["configurations"][0]["candidate"]["multiplier"] == "mine@01234567"


def test_only_what_reaches_the_accuracy_is_offered(client: TestClient) -> None:
    accuracy = formula(SPACE.baseline()).accuracy
    body = ask(client, dataset="digits", min_accuracy=accuracy).json()
    assert [c["candidate"]["width"] for c in body["configurations"]] == [8]


def test_nothing_stored_is_not_found_with_the_command_that_helps(client: TestClient) -> None:
    assert_problem(ask(client, dataset="digits", min_accuracy=1.0), 404, "search run --dataset digits")
    assert_problem(ask(client, dataset="mnist", min_accuracy=0.5), 404, "search run --dataset mnist")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"dataset": "mnits", "min_accuracy": 0.9}, "did you mean 'mnist'"),
        ({"dataset": "digits", "min_accuracy": 0}, "body.min_accuracy"),
        ({"dataset": "digits", "min_accuracy": 1.1}, "body.min_accuracy"),
        ({"dataset": "digits"}, "body.min_accuracy: Field required"),
        ({"dataset": "digits", "min_accuracy": 0.9, "colour": "red"}, "body.colour"),
        ({"dataset": "digits", "min_accuracy": 0.9, "hardware": "tpu"}, "unknown hardware 'tpu'"),
        ({"dataset": "digits", "min_accuracy": 0.9, "hardware": "/etc/x.yaml"}, "unknown hardware"),
    ],
)
def test_bad_requests_are_explained(client: TestClient, body: dict[str, object], words: str) -> None:
    assert_problem(ask(client, **body), 422, words)


def test_other_errors_have_the_same_form(client: TestClient, tmp_path: Path) -> None:
    assert_problem(client.get("/nowhere"), 404, "Not Found")
    assert_problem(client.get("/optimize"), 405, "Method Not Allowed")
    assert_problem(client.post("/optimize", content=b"{", headers={"content-type": "application/json"}), 422, "JSON")
    empty = TestClient(create_app(f"sqlite:///{tmp_path / 'none.db'}"), raise_server_exceptions=False)
    assert_problem(ask(empty, dataset="digits", min_accuracy=0.5), 503, "no results yet")


def test_health(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
