"""Keys and their scopes, as callers meet them."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.database import Database
from service.keys import KeyStore, Scope
from tests.support.requests import ask, assert_problem
from tests.support.stored import client_of, store_results
from tests.support.uploads import BINARY


@pytest.fixture
def keys(database: Path, opened: Database) -> dict[str, str]:
    """Secrets of keys by name."""
    store_results(database)
    known = KeyStore(opened)
    return {name: known.create(name, Scope[name.upper()]) for name in ("read", "submit", "admin")}


@pytest.fixture
def guarded(keys: dict[str, str], database: Path) -> TestClient:
    return client_of(database, keys_required=True)


def test_nothing_is_revealed_without_a_key(guarded: TestClient) -> None:
    calls = [("POST", "/optimize")]
    open_paths = {"/healthz", "/readyz"}
    for path, operations in guarded.get("/openapi.json").json()["paths"].items():
        if path not in open_paths:
            calls += [(method.upper(), path) for method in operations]
    assert len(calls) > 15
    for method, path in calls:
        if (method, path) == ("POST", "/v1/datasets"):
            response = guarded.post(path, content=b"", headers=BINARY)
        else:
            response = guarded.request(method, path, json={} if method == "POST" else None)
        assert_problem(response, 401, "a key is needed")
        assert response.headers["www-authenticate"] == "Bearer"


def test_scopes(guarded: TestClient, keys: dict[str, str]) -> None:
    def headers(name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {keys[name]}"}

    assert guarded.get("/v1/fronts/digits", headers=headers("read")).status_code == 200
    assert ask(guarded, headers=headers("read"), min_accuracy=0.9).status_code == 200  # it is stored
    assert_problem(ask(guarded, headers=headers("read"), min_accuracy=1.0), 403, "a key with the scope submit")
    for path in ("hardware", "multipliers"):
        uploads = {"yaml": "", "name": "mine", "table": [[0]], "relative_energy": 1, "relative_area": 1}
        body = {key: uploads[key] for key in (["yaml"] if path == "hardware" else [*uploads][1:])}
        rejected = guarded.post(f"/v1/{path}", json=body, headers=headers("read"))
        assert_problem(rejected, 403, "the scope submit")
    made = ask(guarded, headers=headers("submit"), min_accuracy=1.0)
    assert made.status_code == 202
    cancel = made.json()["links"]["cancel"]
    assert_problem(guarded.post(cancel, headers=headers("read")), 403, "the scope submit; yours has read")
    assert [guarded.get(made.json()["links"]["self"], headers=headers(name)).json()["may_change"] for name in keys] == [
        False,
        True,
        True,
    ]
    assert guarded.post(cancel, headers=headers("submit")).status_code == 200
    other = ask(guarded, headers=headers("admin"), min_accuracy=1.0).json()["links"]["cancel"]
    assert_problem(guarded.post(other, headers=headers("submit")), 403, "another client's")
    assert guarded.post(other, headers=headers("admin")).status_code == 200


def test_a_revoked_or_wrong_key(guarded: TestClient, keys: dict[str, str], opened: Database) -> None:
    wrong = guarded.get("/v1/jobs", headers={"Authorization": "Bearer crosslayer_guess"})
    assert_problem(wrong, 401, "unknown or was revoked")
    KeyStore(opened).revoke("admin")
    revoked = guarded.get("/v1/jobs", headers={"Authorization": f"Bearer {keys['admin']}"})
    assert_problem(revoked, 401, "unknown or was revoked")


def test_secrets_are_not_stored(keys: dict[str, str], database: Path) -> None:
    content = b"".join(file.read_bytes() for file in database.parent.glob("results.db*"))
    for secret in keys.values():
        assert secret.encode() not in content
