"""Every error has the same form."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from service.queue import JobQueue
from tests.support.requests import ask, assert_problem


def test_what_is_no_json(client: TestClient) -> None:
    response = client.post("/optimize", content=b'{"dataset": }', headers={"content-type": "application/json"})
    assert_problem(response, 422, "invalid JSON: Expecting value at character 12", "#")


def test_other_errors_have_the_same_form(client: TestClient) -> None:
    assert_problem(client.get("/nowhere"), 404, "Not Found")
    assert_problem(client.get("/optimize"), 405, "Method Not Allowed")
    broken = client.post("/optimize", content=b"{", headers={"Content-Type": "application/json"})
    assert_problem(broken, 422, "JSON")


def test_a_bug_says_nothing_of_itself(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the service")

    monkeypatch.setattr(JobQueue, "find", broken)
    response = client.get("/v1/jobs/x")
    assert_problem(response, 500, "internal error; see the service's log")
    assert "secret" not in response.text


def test_a_database_that_is_gone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("the server closed the connection"))

    monkeypatch.setattr("sqlalchemy.orm.Session.execute", gone)
    monkeypatch.setattr("sqlalchemy.orm.Session.scalars", gone)
    monkeypatch.setattr("sqlalchemy.orm.Session.scalar", gone)
    monkeypatch.setattr("sqlalchemy.engine.Connection.scalar", gone)
    for path in ("/readyz", "/v1/jobs", "/v1/fronts/digits", "/optimize"):
        response = ask(client, min_accuracy=0.9) if path == "/optimize" else client.get(path)
        assert_problem(response, 503, "see the service's log")
        assert "closed" not in response.text
        assert "the server closed the connection" in caplog.text
        caplog.clear()
        assert int(response.headers["retry-after"]) > 0
