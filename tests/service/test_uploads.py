"""Hardware and multipliers that clients upload."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

import energy
from search.api.workplace import Workplace
from search.store.database import Store
from service.database import Database
from service.job_state import JobState
from service.keys import KeyStore, Scope
from service.queue import JobQueue
from service.worker import Worker
from tests.support.fakes import formula, fresh_run
from tests.support.requests import ask, assert_problem
from tests.support.stored import RUNS, SETUP, SPACE, candidate, client_of, opened_jobs, store_results

FILE = (resources.files("energy") / "hardware" / "weight-stationary-45nm.yaml").read_text()
MINE = FILE.replace("name: weight-stationary-45nm", "name: mine").replace("clock_mhz: ", "clock_mhz: 1")
EXACT = np.multiply.outer(np.arange(256), np.arange(256))
TRUNCATED = EXACT - EXACT % 16
CLAIMS = {"relative_energy": 0.5, "relative_area": 0.6}


@pytest.fixture
def client(database: Path) -> Iterator[TestClient]:
    """A client of a service without results."""
    with client_of(database) as client:
        yield client


def upload(client: TestClient, kind: str, **body: Any) -> Any:
    return client.post(f"/v1/{kind}", json=body)


def upload_table(client: TestClient, table: Any, name: str = "mine", **changes: Any) -> Any:
    return upload(client, "multipliers", name=name, table=np.asarray(table).tolist(), **{**CLAIMS, **changes})


def search(database: Path, client: TestClient, cache: Path, **asked: Any) -> Any:
    """Request a small search and run it as a worker would; returns the answer to the same question."""
    body = {"dataset": "digits", "max_accuracy_drop": 0.9, "budget": 4, "effort": "quick", **asked}
    job = client.post("/optimize", json=body)
    assert job.status_code == 202, job.text
    with Database.open(f"sqlite:///{database}") as opened:
        Worker(opened, Workplace(storage=opened.url, workers=0, cache=str(cache))).run(once=True)
        ended = JobQueue(opened).find(job.json()["id"])
        assert ended.state is JobState.FINISHED, ended.error
    answer = client.post("/optimize", json=body)
    assert answer.status_code == 200
    return answer.json()


@pytest.mark.slow
def test_hardware_of_a_client_is_searched_for(client: TestClient, database: Path, cache: Path) -> None:
    uploaded = upload(client, "hardware", yaml=MINE)
    assert uploaded.status_code == 201, uploaded.text
    name = uploaded.json()["name"]
    assert name.startswith("mine@")
    assert upload(client, "hardware", yaml=MINE).json()["name"] == name
    listed = {one["name"]: one["uploaded"] for one in client.get("/v1/hardware").json()}
    assert listed == {**dict.fromkeys(energy.hardware_names(), False), name: True}
    asked = {"dataset": "digits", "candidate": SPACE.baseline().to_dict()}
    ours, theirs = (client.post("/v1/energy", json={**asked, "hardware": one}).json() for one in (name, "hybrid-22nm"))
    assert ours["latency_us"] != theirs["latency_us"]
    answer = search(database, client, cache, hardware=name)
    assert (answer["hardware"], answer["confirmed"]) == (name, True)
    found = client.get(f"/v1/evaluations/{answer['configurations'][0]['id']}").json()
    assert found["hardware"] == name
    assert sum(sum(layer.values()) for layer in found["layers_pj"].values()) == pytest.approx(found["energy_pj"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("- 1", "the file must be a mapping"),
        ("[" * 5000, "nested too deeply"),
        (MINE.replace("rows:", "rwos:"), "rwos"),
        (MINE.replace("technology: 45nm", "technology: /etc/passwd.yaml"), "technology must be one of"),
        (MINE.replace("technology: 45nm", "technology: 45nm.yaml"), "technology must be one of"),
    ],
)
def test_invalid_hardware(client: TestClient, text: str, words: str) -> None:
    assert_problem(upload(client, "hardware", yaml=text), 422, words, "#/yaml")


def test_all_mistakes_of_hardware_are_listed(client: TestClient) -> None:
    answer = upload(client, "hardware", yaml=MINE.replace("rows: 16", "rows: 016").replace("dram: none", "dram: no"))
    assert_problem(answer, 422, "array.rows must be in decimal notation, got 016")
    found = answer.json()
    assert [one["pointer"] for one in found["errors"]] == ["#/yaml", "#/yaml"]
    assert found["errors"][1]["detail"].endswith(
        "dram must be a mapping of keys to values, or none, got 'no'; did you mean 'none'?"
    )
    assert found["detail"] == "; ".join(one["detail"] for one in found["errors"])


def test_hardware_of_another_name_or_size(client: TestClient) -> None:
    assert_problem(upload(client, "hardware", yaml=MINE.replace("name: mine", "name: ../mine")), 422, "letters, digits")
    assert_problem(upload(client, "hardware", yaml=MINE + "#" * 2**16), 422, "at most 65536 characters", "#/yaml")
    same = upload(client, "hardware", yaml=FILE).json()
    assert (same["name"], same["uploaded"]) == ("weight-stationary-45nm", False)


@pytest.mark.slow
def test_a_multiplier_of_a_client_is_searched_for(client: TestClient, database: Path, cache: Path) -> None:
    uploaded = upload_table(client, TRUNCATED)
    assert uploaded.status_code == 201, uploaded.text
    name = uploaded.json()["name"]
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
    answer = search(database, client, cache, multipliers=[name], budget=8)
    used = {one["candidate"]["multiplier"] for one in (*answer["configurations"], *answer["rejected"])}
    front = client.get("/v1/fronts/digits?effort=quick").json()["configurations"]
    assert used | {one["candidate"]["multiplier"] for one in front} <= {"exact", name}
    with opened_jobs(f"sqlite:///{database}") as (queue, _):
        candidates = [event.data for event in queue.events(queue.jobs(limit=1)[0]) if event.kind == "evaluated"]
    multipliers = {client.get(f"/v1/evaluations/{one['id']}").json()["candidate"]["multiplier"] for one in candidates}
    assert name in multipliers


@pytest.mark.parametrize(
    ("table", "name", "words"),
    [
        (EXACT[:100], "mine", "each a power of two"),
        ([[1, 2], [3]], "mine", "the rows of table 'mine' differ in length"),
        (EXACT, "../mine", "mine"),
        (EXACT, "drum-4", "is the name of a built-in multiplier"),
        (EXACT * 2**20, "mine", "do not fit 32 bits"),
    ],
)
def test_invalid_tables(client: TestClient, table: Any, name: str, words: str) -> None:
    rows = table if isinstance(table, list) else table.tolist()
    assert_problem(upload(client, "multipliers", name=name, table=rows, **CLAIMS), 422, words)


def test_uploads_are_never_replaced(client: TestClient) -> None:
    first = upload_table(client, TRUNCATED).json()["name"]
    assert upload_table(client, TRUNCATED).json()["name"] == first
    assert upload_table(client, EXACT).json()["name"] != first
    assert_problem(upload_table(client, TRUNCATED, relative_energy=0.4), 422, "with other figures")
    assert_problem(upload_table(client, TRUNCATED, relative_energy=0.0), 422, "greater than 0", "#/relative_energy")


def test_unknown_ones_are_named(client: TestClient) -> None:
    asked = {"dataset": "digits", "min_accuracy": 0.9, "multipliers": ["exact", "mine@01234567"]}
    assert_problem(client.post("/optimize", json=asked), 422, "GET /v1/multipliers", "#/multipliers/1")


@pytest.mark.slow
def test_the_number_of_uploads_is_limited(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.uploads.MAX_UPLOADS", 1)
    upload(client, "hardware", yaml=MINE)
    assert_problem(upload(client, "hardware", yaml=MINE.replace("mine", "other")), 422, "which is the maximum")


def test_comments_do_not_change_the_identity_of_hardware(client: TestClient) -> None:
    first = upload(client, "hardware", yaml=MINE).json()["name"]
    again = upload(client, "hardware", yaml=MINE + "\n# the same\n")
    assert (again.status_code, again.json()["name"]) == (201, first)


def test_two_of_one_name_are_not_searched_together(client: TestClient) -> None:
    names = [upload_table(client, table).json()["name"] for table in (TRUNCATED, EXACT)]
    asked = {"dataset": "digits", "min_accuracy": 0.9, "multipliers": names}
    assert_problem(client.post("/optimize", json=asked), 422, "have the same name", "#/multipliers/1")


def test_lists_are_the_same_after_use(client: TestClient) -> None:
    name = upload_table(client, TRUNCATED).json()["name"]
    before = client.get("/v1/multipliers").json()
    candidate = {**SPACE.baseline().to_dict(), "multiplier": name}
    assert client.post("/v1/energy", json={"dataset": "digits", "candidate": candidate}).status_code == 200
    assert client.get("/v1/multipliers").json() == before


def test_unverified_costs_are_in_nobody_elses_answers(client: TestClient, database: Path) -> None:
    store_results(database)
    name = upload_table(client, TRUNCATED).json()["name"]
    claimed = candidate(width=2, sparsity=0.3, multiplier=name)
    with Store.open(f"sqlite:///{database}", create=False) as store:
        store.evaluations.record(claimed.key, formula(claimed), SETUP, seed=0)
        for run in range(RUNS):
            store.runs.record(fresh_run(claimed, run), SETUP)

    def multipliers(configurations: list[dict[str, Any]]) -> set[str]:
        return {one["candidate"]["multiplier"] for one in configurations}

    asked = {"dataset": "digits", "min_accuracy": 0.8}
    for forgotten in (False, True):
        assert multipliers(client.post("/optimize", json=asked).json()["configurations"]) == {"exact"}
        assert multipliers(client.get("/v1/fronts/digits").json()["configurations"]) == {"exact"}
        if not forgotten:
            named = client.post("/optimize", json={**asked, "multipliers": ["exact", name]}).json()
            assert (named["confirmed"], multipliers(named["configurations"][:1])) == (True, {name})
            front = client.get("/v1/fronts/digits", params={"multipliers": name}).json()["configurations"]
            assert multipliers(front[:1]) == {name}
        client.delete(f"/v1/multipliers/{name}")


def test_uploads_are_deleted_once_no_job_needs_them(client: TestClient) -> None:
    multiplier = upload_table(client, TRUNCATED).json()["name"]
    hardware = upload(client, "hardware", yaml=MINE).json()["name"]
    asked = {"dataset": "digits", "min_accuracy": 0.9, "multipliers": [multiplier], "hardware": hardware}
    job = client.post("/optimize", json=asked).json()
    for path in (f"/v1/multipliers/{multiplier}", f"/v1/hardware/{hardware}"):
        assert_problem(client.delete(path), 409, f"job {job['id']} needs")
    client.post(job["links"]["cancel"])
    for path in (f"/v1/multipliers/{multiplier}", f"/v1/hardware/{hardware}"):
        assert client.delete(path).status_code == 204
        assert_problem(client.delete(path), 404, "nobody uploaded", "name")
    assert hardware not in {one["name"] for one in client.get("/v1/hardware").json()}
    assert client.post("/optimize", json=asked).status_code == 422
    assert_problem(upload_table(client, TRUNCATED, relative_energy=0.4), 422, "with other figures")
    assert upload_table(client, TRUNCATED).json()["name"] == multiplier
    assert upload(client, "hardware", yaml=MINE).json()["name"] == hardware
    assert client.post("/optimize", json=asked).status_code == 202


def test_only_the_uploader_deletes_an_upload(database: Path) -> None:
    with Database.open(f"sqlite:///{database}") as opened:
        keys = KeyStore(opened)
        secrets = {name: keys.create(name, scope) for name, scope in (("anna", Scope.SUBMIT), ("ben", Scope.SUBMIT))}
        secrets["root"] = keys.create("root", Scope.ADMIN)
    with client_of(database, keys_required=True) as client:

        def call(method: str, path: str, name: str, body: Any = None) -> Any:
            return client.request(method, path, json=body, headers={"Authorization": f"Bearer {secrets[name]}"})

        name = call("POST", "/v1/hardware", "anna", {"yaml": MINE}).json()["name"]
        assert_problem(call("DELETE", f"/v1/hardware/{name}", "ben"), 403, "another client's")
        assert call("DELETE", f"/v1/hardware/{name}", "root").status_code == 204


def test_names_that_no_database_accepts(client: TestClient) -> None:
    asked = {"dataset": "digits", "min_accuracy": 0.9}
    for change in ({"hardware": "a\0b"}, {"multipliers": ["a\0b"]}):
        assert client.post("/optimize", json={**asked, **change}).status_code == 422


def test_a_search_on_hardware_whose_faults_are_not_emulated_is_refused_before_it_waits(client: TestClient) -> None:
    six = MINE.replace("cell: hybrid", "cell: 6T", 1)
    name = upload(client, "hardware", yaml=six).json()["name"]
    answer = ask(client, min_accuracy=0.999, hardware=name)
    assert_problem(answer, 422, "keeps the positions of nonzero weights in 6T cells", "#/hardware")
    assert client.get("/v1/jobs").json()["jobs"] == []
