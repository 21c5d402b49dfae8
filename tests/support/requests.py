"""Requests to a service, and the form of its errors."""

from typing import Any

from fastapi.testclient import TestClient


def ask(client: TestClient, path: str = "/optimize", headers: dict[str, str] | None = None, **body: object) -> Any:
    return client.post(path, json={"dataset": "digits", **body}, headers=headers)


def assert_problem(response: Any, status: int, words: str, pointer: str | None = None) -> None:
    body = response.json()
    assert response.status_code == status, body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == "about:blank"
    assert body["status"] == status
    assert words in body["detail"]
    if pointer is not None:
        assert [one["pointer"] for one in body["errors"]] == [pointer]
