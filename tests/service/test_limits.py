"""Requests that are rejected before they are answered."""

from collections.abc import Iterator
from pathlib import Path

from fastapi.testclient import TestClient

from tests.support.requests import ask, assert_problem
from tests.support.stored import client_of


def test_a_page_of_another_site_reaches_nothing(client: TestClient) -> None:
    assert_problem(client.get("/healthz", headers={"Host": "evil.example"}), 421, "evil.example")
    assert client.get("/healthz", headers={"Host": "localhost:8000"}).status_code == 200
    form = client.post("/optimize", content=b'{"dataset": "digits"}', headers={"Content-Type": "text/plain"})
    assert_problem(form, 415, "must be application/json, got text/plain")


def test_large_bodies_are_rejected(database: Path) -> None:
    client = client_of(database, max_body_bytes=100)
    headers = {"Content-Type": "application/json"}
    assert_problem(client.post("/optimize", content=b" " * 101, headers=headers), 413, "at most 100 bytes")

    def chunks() -> Iterator[bytes]:
        yield from [b" " * 30] * 4

    assert_problem(client.post("/optimize", content=chunks(), headers=headers), 413, "at most 100 bytes")


def test_unknown_parameters_are_rejected(client: TestClient) -> None:
    assert_problem(client.get("/v1/datasets?colour=red"), 422, "unknown parameter 'colour'", "colour")
    assert_problem(client.get("/v1/jobs?colour=red"), 422, "not permitted", "colour")
    body = {"dataset": "digits", "min_accuracy": 0.5}
    assert_problem(client.post("/optimize?budget=10", json=body), 422, "unknown parameter 'budget'", "budget")


def test_a_limited_number_of_clients_can_follow(database: Path) -> None:
    with client_of(database, max_streams=0) as client:
        links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
        assert_problem(client.get(links["events"]), 503, "which is the maximum")
        waiting = ask(client, min_accuracy=0.9, headers={"Prefer": "wait=5"})
        assert_problem(waiting, 503, "which is the maximum")
