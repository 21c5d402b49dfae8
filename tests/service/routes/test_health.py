"""Liveness, readiness and metrics."""

from importlib.metadata import version
from pathlib import Path

from fastapi.testclient import TestClient

from search.store.schema import SCHEMA, open_engine
from service.leases import Leases
from tests.support.requests import ask, assert_problem


def test_health(client: TestClient, leases: Leases) -> None:
    health = client.get("/healthz").json()
    assert health == {"status": "ok", "version": version("crosslayer"), "keys_required": False}
    ready = client.get("/readyz").json()
    assert ready == {"status": "degraded", "database": "ok", "workers": 0, "schema_version": SCHEMA}
    leases.beat("w", version="1")
    assert client.get("/readyz").json()["status"] == "ready"


def test_a_database_of_another_schema_is_not_ready(client: TestClient, database: Path) -> None:
    engine = open_engine(f"sqlite:///{database}", create=False)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE crosslayer_version SET version_num = '9999'")
    engine.dispose()
    assert_problem(client.get("/readyz"), 503, "see the service's log")


def test_metrics(client: TestClient) -> None:
    ask(client, "/v1/jobs", min_accuracy=0.9)
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'crosslayer_jobs{state="queued"} 1\n' in response.text
    assert "crosslayer_evaluations 3\n" in response.text
    assert response.text.endswith("\n")
