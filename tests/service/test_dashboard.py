"""Optuna's dashboard behind the service's guard."""

import base64
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from search.store.studies import open_optuna
from service.dashboard import create_dashboard
from service.database import Database
from service.keys import KeyStore, Scope
from service.settings import Settings


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    storage = open_optuna(url)
    from optuna.study import StudyDirection

    storage.create_new_study([StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE], "digits-1")
    storage.remove_session()
    storage.engine.dispose()
    return url


def dashboard(url: str, *, keys_required: bool = False) -> TestClient:
    app = create_dashboard(Settings(storage=url, keys_required=keys_required))
    return TestClient(app, base_url="http://127.0.0.1")


def test_it_shows_the_searches(url: str) -> None:
    with dashboard(url) as client:
        assert "<title>Optuna Dashboard</title>" in client.get("/dashboard").text
        assert [one["study_name"] for one in client.get("/api/studies").json()["study_summaries"]] == ["digits-1"]
        assert client.get("/static/bundle.js").status_code == 200


def test_it_changes_nothing(url: str) -> None:
    with dashboard(url) as client:
        number = client.get("/api/studies").json()["study_summaries"][0]["study_id"]
        for method, path in (
            ("DELETE", f"/api/studies/{number}"),
            ("POST", f"/api/studies/{number}/rename"),
            ("PUT", f"/api/studies/{number}/note"),
            ("POST", "/api/studies"),
        ):
            refused = client.request(method, path, json={"study_name": "mine"})
            assert refused.status_code == 405
            assert refused.headers["content-type"] == "application/problem+json"
        assert [one["study_name"] for one in client.get("/api/studies").json()["study_summaries"]] == ["digits-1"]


@pytest.mark.slow
def test_it_asks_for_a_key(url: str) -> None:
    with Database.open(url) as opened:
        secret = KeyStore(opened).create("anna", Scope.READ)
    with dashboard(url, keys_required=True) as client:
        for path in ("/dashboard", "/api/studies", "/static/bundle.js"):
            assert client.get(path).status_code == 401
            assert client.get(path, auth=("anybody", "guess")).status_code == 401
            assert client.get(path, auth=("anybody", secret)).status_code == 200
        assert client.get("/dashboard").headers["www-authenticate"].startswith("Basic realm=")
        for header in ("Basic !!!", f"Basic {base64.b64encode(b'no colon').decode()}", "Digest x", "Bearer x", "Basic"):
            assert client.get("/dashboard", headers={"Authorization": header}).status_code == 401
        assert client.get("/dashboard", headers={"Authorization": f"Bearer {secret}"}).status_code == 200


def test_it_answers_under_its_own_names_only(url: str) -> None:
    with dashboard(url) as client:
        assert client.get("/dashboard", headers={"Host": "evil.example"}).status_code == 421
