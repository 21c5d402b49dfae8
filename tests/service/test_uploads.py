"""Hardware and multipliers that clients bring."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

import energy
from service.jobs import JobState, JobStore
from service.worker import Work, Worker
from tests.service.stored import SPACE, client_of
from tests.service.test_app import assert_problem

FILE = (resources.files("energy") / "hardware" / "weight-stationary-45nm.yaml").read_text()
MINE = FILE.replace("name: weight-stationary-45nm", "name: mine").replace("clock_mhz: ", "clock_mhz: 1")
EXACT = np.multiply.outer(np.arange(256), np.arange(256))
TRUNCATED = EXACT - EXACT % 16
CLAIMS = {"relative_energy": 0.5, "relative_area": 0.6}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture
def client(database: Path) -> Iterator[TestClient]:
    with client_of(database) as client:
        yield client


def bring(client: TestClient, kind: str, **body: Any) -> Any:
    return client.post(f"/v1/{kind}", json=body)


def bring_table(client: TestClient, table: Any, name: str = "mine", **changes: Any) -> Any:
    return bring(client, "multipliers", name=name, table=np.asarray(table).tolist(), **{**CLAIMS, **changes})


def search(database: Path, client: TestClient, tmp_path: Path, **asked: Any) -> Any:
    """Ask for a small search, and run it as a worker would; returns the answer to the same question."""
    body = {"dataset": "digits", "max_accuracy_drop": 0.9, "budget": 4, "effort": "quick", **asked}
    job = client.post("/optimize", json=body)
    assert job.status_code == 202, job.text
    with JobStore.open(f"sqlite:///{database}") as jobs:
        Worker(jobs, Work(storage=jobs.url, workers=0, stages=str(tmp_path / "stages"))).run(once=True)
        ended = jobs.find(job.json()["id"])
        assert ended.state is JobState.FINISHED, ended.error
    answer = client.post("/optimize", json=body)
    assert answer.status_code == 200
    return answer.json()


def test_hardware_of_a_client_is_searched_for(client: TestClient, database: Path, tmp_path: Path) -> None:
    brought = bring(client, "hardware", yaml=MINE)
    assert brought.status_code == 201, brought.text
    name = brought.json()["name"]
    assert name.startswith("mine@")
    assert bring(client, "hardware", yaml=MINE).json()["name"] == name
    listed = {one["name"]: one["uploaded"] for one in client.get("/v1/hardware").json()}
    assert listed == {**dict.fromkeys(energy.hardware_names(), False), name: True}
    asked = {"dataset": "digits", "candidate": SPACE.baseline().to_dict()}
    ours, theirs = (client.post("/v1/energy", json={**asked, "hardware": one}).json() for one in (name, "hybrid-22nm"))
    assert ours["latency_us"] != theirs["latency_us"]
    answer = search(database, client, tmp_path, hardware=name)
    assert (answer["hardware"], answer["confirmed"]) == (name, True)
    found = client.get(f"/v1/evaluations/{answer['configurations'][0]['id']}").json()
    assert found["hardware"] == name
    assert sum(sum(layer.values()) for layer in found["layers_pj"].values()) == pytest.approx(found["energy_pj"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("- 1", "the file must be a mapping"),
        ("[" * 5000, "stand too deep"),
        (MINE.replace("rows:", "rwos:"), "rwos"),
        (MINE.replace("technology: 45nm", "technology: /etc/passwd.yaml"), "technology must be one of"),
        (MINE.replace("technology: 45nm", "technology: 45nm.yaml"), "technology must be one of"),
    ],
)
def test_hardware_that_is_none(client: TestClient, text: str, words: str) -> None:
    assert_problem(bring(client, "hardware", yaml=text), 422, words, "#/yaml")


def test_hardware_of_another_name_or_size(client: TestClient) -> None:
    assert_problem(bring(client, "hardware", yaml=MINE.replace("name: mine", "name: ../mine")), 422, "letters, digits")
    assert_problem(bring(client, "hardware", yaml=MINE + "#" * 2**16), 422, "at most 65536 characters", "#/yaml")
    same = bring(client, "hardware", yaml=FILE).json()
    assert (same["name"], same["uploaded"]) == ("weight-stationary-45nm", False)


def test_a_multiplier_of_a_client_is_searched_for(client: TestClient, database: Path, tmp_path: Path) -> None:
    brought = bring_table(client, TRUNCATED)
    assert brought.status_code == 201, brought.text
    name = brought.json()["name"]
    assert name.startswith("mine@")
    listed = {one["name"]: one for one in client.get("/v1/multipliers").json()}
    assert listed[name]["uploaded"]
    assert listed[name]["relative_energy"] == 0.5
    exact, ours = (
        client.post(
            "/v1/energy", json={"dataset": "digits", "candidate": {**SPACE.baseline().to_dict(), "multiplier": one}}
        )
        for one in ("exact", name)
    )
    assert ours.status_code == 200, ours.text
    assert ours.json()["components_pj"]["mac"] < exact.json()["components_pj"]["mac"]
    answer = search(database, client, tmp_path, multipliers=[name], budget=8)
    used = {one["candidate"]["multiplier"] for one in (*answer["configurations"], *answer["rejected"])}
    front = client.get("/v1/fronts/digits?effort=quick").json()["configurations"]
    assert used | {one["candidate"]["multiplier"] for one in front} <= {"exact", name}
    with JobStore.open(f"sqlite:///{database}") as jobs:
        candidates = [event.data for event in jobs.events(jobs.jobs(limit=1)[0]) if event.kind == "evaluated"]
    multipliers = {client.get(f"/v1/evaluations/{one['id']}").json()["candidate"]["multiplier"] for one in candidates}
    assert name in multipliers


@pytest.mark.parametrize(
    ("table", "name", "words"),
    [
        (EXACT[:100], "mine", "each a power of two"),
        ([[1, 2], [3]], "mine", "shape"),
        (EXACT, "../mine", "mine"),
        (EXACT, "drum-4", "comes along"),
        (EXACT * 2**20, "mine", "must fit 32 bits"),
    ],
)
def test_tables_that_are_none(client: TestClient, table: Any, name: str, words: str) -> None:
    rows = table if isinstance(table, list) else table.tolist()
    assert_problem(bring(client, "multipliers", name=name, table=rows, **CLAIMS), 422, words)


def test_what_is_known_is_never_replaced(client: TestClient) -> None:
    first = bring_table(client, TRUNCATED).json()["name"]
    assert bring_table(client, TRUNCATED).json()["name"] == first
    assert bring_table(client, EXACT).json()["name"] != first
    assert_problem(bring_table(client, TRUNCATED, relative_energy=0.4), 422, "with other figures")
    assert_problem(bring_table(client, TRUNCATED, relative_energy=0.0), 422, "greater than 0", "#/relative_energy")


def test_unknown_ones_are_named(client: TestClient) -> None:
    asked = {"dataset": "digits", "min_accuracy": 0.9, "multipliers": ["exact", "mine@01234567"]}
    assert_problem(client.post("/optimize", json=asked), 422, "GET /v1/multipliers", "#/multipliers/1")


def test_no_more_than_so_many(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.uploads.MOST_UPLOADS", 1)
    bring(client, "hardware", yaml=MINE)
    assert_problem(bring(client, "hardware", yaml=MINE.replace("mine", "other")), 422, "no more may be")
