"""What clients are answered, without a worker."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

import energy
from search import best
from search.answers.stored import Stored
from search.errors import StorageError
from search.store.schema import SCHEMA, open_engine
from search.store.store import Store
from service.jobs import JobState, JobStore, QueueLimits
from service.keys import KeyStore, Scope
from tests.support.fakes import formula, fresh_run
from tests.support.stored import HARDWARE, RUNS, SPACE, candidate, client_of, store_results

MULTIPLIER_OF_MINE = "mine@01234567"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture
def client(database: Path) -> Iterator[TestClient]:
    """Of a service with confirmed results."""
    store_results(database)
    with client_of(database) as client:
        yield client


@pytest.fixture
def jobs(client: TestClient, database: Path) -> Iterator[JobStore]:
    with JobStore.open(f"sqlite:///{database}") as store:
        yield store


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


class TestOptimize:
    @pytest.mark.parametrize("path", ["/optimize", "/v1/optimize"])
    def test_a_confirmed_answer_comes_at_once(self, client: TestClient, path: str) -> None:
        response = ask(client, path, min_accuracy=0.9)
        assert response.status_code == 200
        body = response.json()
        assert body["confirmed"] is True
        assert body["shortfall"] == 0
        assert [one["candidate"]["width"] for one in body["configurations"]] == [2, 4, 8]
        best = body["configurations"][0]
        assert best["saving"] == pytest.approx(4)
        assert best["confirmation"]["confirmed"] is True
        assert best["confirmation"]["accuracy"] < best["accuracy"]
        assert body["baseline"]["candidate"] == SPACE.baseline().to_dict()

    def test_a_relative_target_is_against_the_baseline(self, client: TestClient) -> None:
        body = ask(client, max_accuracy_drop=0.03).json()
        assert body["confirmed"] is True
        assert [one["candidate"]["width"] for one in body["configurations"]] == [4, 8]
        assert body["wanted_accuracy"] == pytest.approx(formula(SPACE.baseline()).accuracy - 0.03)

    def test_no_confirmed_answer_makes_a_job_that_says_what_is_known(self, database: Path) -> None:
        store_results(database, confirmed=())
        client = client_of(database)
        response = ask(client, min_accuracy=0.9, budget=30)
        assert response.status_code == 202
        job = response.json()
        assert response.headers["location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
        assert int(response.headers["retry-after"]) > 0
        assert (job["state"], job["evaluations"], job["request"]["budget"]) == ("queued", 0, 30)
        assert job["best_known"]["confirmed"] is False
        assert job["best_known"]["configurations"][0]["candidate"]["width"] == 2
        assert client.get(response.headers["location"]).json() == {**job, "best_known": None}

    def test_nothing_stored_makes_a_job_too(self, database: Path) -> None:
        response = ask(client_of(database), min_accuracy=0.9)
        assert response.status_code == 202
        assert response.json()["best_known"] is None

    def test_what_no_stored_configuration_reaches_is_searched_once(self, client: TestClient, jobs: JobStore) -> None:
        response = ask(client, min_accuracy=1.0)
        assert response.status_code == 202
        assert response.json()["best_known"]["configurations"] == []
        held = jobs.claim("w", lease_s=30)
        assert held is not None
        jobs.finish(held, "w", JobState.FINISHED, confirmed=False)
        searched = ask(client, min_accuracy=1.0)
        assert searched.status_code == 200
        body = searched.json()
        assert (body["confirmed"], body["configurations"], body["shortfall"]) == (False, [], None)
        assert body["highest_accuracy"] == formula(SPACE.baseline()).accuracy

    def test_a_search_that_found_none_is_not_made_again(self, database: Path) -> None:
        store_results(database, confirmed=())
        client = client_of(database)
        job = ask(client, min_accuracy=0.9).json()
        with JobStore.open(f"sqlite:///{database}") as jobs:
            held = jobs.claim("w", lease_s=30)
            assert held is not None
            jobs.finish(held, "w", JobState.FINISHED, confirmed=False)
        response = ask(client, min_accuracy=0.9)
        assert response.status_code == 200
        assert response.json()["confirmed"] is False
        assert ask(client, min_accuracy=0.9, seed=1).json()["id"] != job["id"]

    def test_new_results_change_the_answer(self, client: TestClient, database: Path) -> None:
        before = ask(client, min_accuracy=0.9).json()
        assert (before["configurations"][0]["candidate"]["width"], before["untried"]) == (2, [])
        cheaper = candidate(width=2, sparsity=0.3)
        with Store.open(f"sqlite:///{database}", create=False) as store:
            store.record_evaluation(cheaper.key, formula(cheaper), task="digits", hardware=HARDWARE, seed=0)
        between = ask(client, min_accuracy=0.9).json()
        assert between["configurations"] == before["configurations"]
        assert [one["candidate"] for one in between["untried"]] == [cheaper.to_dict()]
        with Store.open(f"sqlite:///{database}", create=False) as store:
            for run in range(RUNS):
                store.record_confirmation(fresh_run(cheaper, run), task="digits", hardware=HARDWARE, effort="standard")
        after = ask(client, min_accuracy=0.9).json()
        assert after["confirmed"] is True
        assert [one["candidate"]["sparsity"] for one in after["configurations"]] == [0.3, 0, 0, 0]
        assert after["untried"] == after["rejected"] == []

    def test_what_fresh_runs_rejected_is_told_apart(self, client: TestClient) -> None:
        body = ask(client, min_accuracy=formula(candidate(width=4)).accuracy - 0.001).json()
        assert [one["candidate"]["width"] for one in body["rejected"]] == [4]
        assert [one["candidate"]["width"] for one in body["configurations"]] == [8]
        assert body["rejected"][0]["confirmation"]["margin_lower_bound"] < 0

    def test_what_was_confirmed_stays_so(self, client: TestClient, database: Path) -> None:
        before = ask(client, min_accuracy=0.9).json()
        better = replace(formula(candidate(width=2, sparsity=0.05)), chip_accuracies=(0.97,))
        with Store.open(f"sqlite:///{database}", create=False) as store:
            store.record_evaluation(better.candidate.key, better, task="digits", hardware=HARDWARE, seed=0)
        response = ask(client, min_accuracy=0.9)
        assert response.status_code == 200
        after = response.json()
        assert after["configurations"][0] == before["configurations"][0]
        assert [one["candidate"]["sparsity"] for one in after["untried"]] == [0.05]

    def test_a_baseline_of_another_seed_is_another_answer(self, client: TestClient, database: Path) -> None:
        before = ask(client, max_accuracy_drop=0.5).json()
        worse = replace(formula(SPACE.baseline()), chip_accuracies=(0.8,))
        with Store.open(f"sqlite:///{database}", create=False) as store:
            store.record_evaluation("other", worse, task="digits", hardware=HARDWARE, seed=-1)
        after = ask(client, max_accuracy_drop=0.5).json()
        assert before["wanted_accuracy"] != after["wanted_accuracy"]

    def test_search_best_says_the_same(self, client: TestClient, database: Path) -> None:
        better = replace(formula(candidate(width=2, sparsity=0.05)), chip_accuracies=(0.97,))
        with Store.open(f"sqlite:///{database}", create=False) as store:
            store.record_evaluation(better.candidate.key, better, task="digits", hardware=HARDWARE, seed=0)
        for wanted in (0.9, 0.94):
            body = ask(client, min_accuracy=wanted).json()
            answer = best(min_accuracy=wanted, confirm=False, storage=str(database))
            assert answer.record is not None
            assert body["configurations"][0]["id"] == answer.record.id
            assert body["confirmed"] == answer.confirmed

    def test_the_baseline_alone_is_no_answer_before_a_search(self, database: Path) -> None:
        store_results(database, confirmed=(8,))
        client = client_of(database)
        response = ask(client, max_accuracy_drop=0.0)
        assert response.status_code == 202
        assert response.json()["best_known"]["configurations"][0]["saving"] == 1

    def test_waiting_ends_when_the_job_does(self, database: Path) -> None:
        with client_of(database) as client, JobStore.open(f"sqlite:///{database}") as jobs:
            asked = ask(client, min_accuracy=0.9)
            held = jobs.claim("w", lease_s=30)
            assert held is not None
            store_results(database)
            jobs.finish(held, "w", JobState.FINISHED, confirmed=True)
            again = ask(client, min_accuracy=0.9, headers={"Prefer": "respond-async, wait=20"})
        assert asked.status_code == 202
        assert again.status_code == 200

    def test_waiting_is_bounded(self, database: Path) -> None:
        with client_of(database, longest_wait_s=0.2) as client:
            assert ask(client, min_accuracy=0.9, headers={"Prefer": "wait=5000"}).status_code == 202

    def test_a_job_that_fails_is_named(self, database: Path) -> None:
        with client_of(database) as client, JobStore.open(f"sqlite:///{database}") as jobs:
            job = ask(client, min_accuracy=0.9).json()
            held = jobs.claim("w", lease_s=30)
            assert held is not None
            jobs.finish(held, "w", JobState.FAILED, error="the data set is damaged")
            found = client.get(job["links"]["self"]).json()
        assert (found["state"], found["error"]) == ("failed", "the data set is damaged")

    def test_idempotency(self, database: Path) -> None:
        client = client_of(database)
        key = {"Idempotency-Key": "k"}
        first = ask(client, min_accuracy=0.9, headers=key).json()["id"]
        client.post(f"/v1/jobs/{first}/cancel")
        assert ask(client, min_accuracy=0.9, headers=key).json()["id"] == first
        assert ask(client, min_accuracy=0.9).json()["id"] != first
        assert_problem(ask(client, min_accuracy=0.8, headers=key), 422, "was used for another request")

    def test_idempotency_where_the_answer_is_stored(self, database: Path) -> None:
        client = client_of(database)
        key = {"Idempotency-Key": "k"}
        assert ask(client, min_accuracy=0.9, headers=key).status_code == 202
        store_results(database)
        assert ask(client, min_accuracy=0.9, headers=key).status_code == 200
        assert_problem(ask(client, min_accuracy=0.8, headers=key), 422, "was used for another request")

    def test_a_full_queue(self, database: Path) -> None:
        client = client_of(database, queue=QueueLimits(all=1, each=1))
        ask(client, min_accuracy=0.9)
        refused = ask(client, min_accuracy=0.8)
        assert_problem(refused, 429, "1 jobs are waiting")
        assert int(refused.headers["retry-after"]) > 0

    @pytest.mark.parametrize(
        ("body", "words", "pointer"),
        [
            ({"dataset": "mnits", "min_accuracy": 0.9}, "did you mean 'mnist'", "#/dataset"),
            ({"min_accuracy": 0}, "greater than 0", "#/min_accuracy"),
            ({"min_accuracy": 1.1}, "less than or equal to 1", "#/min_accuracy"),
            ({}, "give one of min_accuracy and max_accuracy_drop", "#"),
            ({"min_accuracy": 0.9, "max_accuracy_drop": 0.1}, "give one of", "#"),
            ({"min_accuracy": 0.9, "colour": "red"}, "Extra inputs are not permitted", "#/colour"),
            ({"min_accuracy": 0.9, "hardware": "tpu"}, "unknown hardware 'tpu'", "#/hardware"),
            ({"min_accuracy": 0.9, "hardware": "/etc/x.yaml"}, "unknown hardware", "#/hardware"),
            ({"min_accuracy": 0.9, "space": "/etc/x.yaml"}, "'default' or 'layered'", "#/space"),
            ({"min_accuracy": 0.9, "budget": 1001}, "budget may be at most 1000", "#/budget"),
            ({"min_accuracy": 0.9, "budget": 0}, "greater than or equal to 1", "#/budget"),
            ({"min_accuracy": 0.9, "seed": 2**40}, "less than", "#/seed"),
        ],
    )
    def test_bad_requests_are_explained(
        self, client: TestClient, body: dict[str, object], words: str, pointer: str
    ) -> None:
        for path in ("/optimize", "/v1/jobs"):
            assert_problem(client.post(path, json={"dataset": "digits", **body}), 422, words, pointer)

    def test_unknown_parameters_are_refused(self, client: TestClient) -> None:
        assert_problem(client.get("/v1/datasets?colour=red"), 422, "unknown parameter 'colour'", "colour")
        assert_problem(client.get("/v1/jobs?colour=red"), 422, "not permitted", "colour")
        body = {"dataset": "digits", "min_accuracy": 0.5}
        assert_problem(client.post("/optimize?budget=10", json=body), 422, "unknown parameter 'budget'", "budget")

    def test_what_is_no_json(self, client: TestClient) -> None:
        response = client.post("/optimize", content=b'{"dataset": }', headers={"content-type": "application/json"})
        assert_problem(response, 422, "no JSON: Expecting value at character 12", "#")


class TestJobs:
    def test_a_job_searches_whatever_is_stored(self, client: TestClient) -> None:
        assert ask(client, min_accuracy=0.9).status_code == 200
        response = ask(client, "/v1/jobs", min_accuracy=0.9)
        assert response.status_code == 202
        assert response.json()["best_known"]["confirmed"] is True

    def test_pages(self, client: TestClient) -> None:
        made = [ask(client, "/v1/jobs", min_accuracy=0.9, seed=seed).json()["id"] for seed in range(5)]
        seen: list[str] = []
        cursor = None
        while True:
            query = {"limit": 2, **({} if cursor is None else {"cursor": cursor})}
            page = client.get("/v1/jobs", params=query).json()
            seen += [job["id"] for job in page["jobs"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert seen == made[::-1]
        assert client.get("/v1/jobs", params={"state": "running"}).json() == {"jobs": [], "next": None}
        assert_problem(client.get("/v1/jobs", params={"cursor": "-1"}), 422, "String should match pattern", "cursor")
        assert_problem(client.get("/v1/jobs", params={"sate": "queued"}), 422, "not permitted", "sate")

    def test_cancel_resume_delete(self, client: TestClient) -> None:
        links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
        assert_problem(client.delete(links["self"]), 409, "cancel it first")
        assert client.post(links["cancel"]).json()["state"] == "cancelled"
        assert_problem(client.post(links["cancel"]), 409, "cannot be cancelled")
        assert client.post(links["resume"]).json()["state"] == "queued"
        client.post(links["cancel"])
        assert client.delete(links["self"]).status_code == 204
        assert_problem(client.get(links["self"]), 404, "there is no job")

    def test_events_are_replayed_from_where_the_client_was(self, client: TestClient, jobs: JobStore) -> None:
        links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
        held = jobs.claim("w", lease_s=30)
        assert held is not None
        jobs.note(held, "w", "evaluated", {"number": 1}, evaluations=1)
        jobs.finish(held, "w", JobState.FINISHED, confirmed=True)
        whole = client.get(links["events"])
        assert whole.headers["content-type"].startswith("text/event-stream")
        assert whole.text.startswith("retry: ")
        assert events_of(whole.text) == [(1, "state"), (2, "state"), (3, "evaluated"), (4, "state")]
        rest = client.get(links["events"], headers={"Last-Event-ID": "2"})
        assert events_of(rest.text) == [(3, "evaluated"), (4, "state")]
        last = json.loads(rest.text.split("data: ")[-1])
        assert (last["state"], last["confirmed"]) == ("finished", True)
        assert last["at"].endswith("Z")

    def test_a_stream_that_was_read_to_its_end_is_not_asked_for_again(self, client: TestClient) -> None:
        links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
        client.post(links["cancel"])
        assert client.get(links["events"], headers={"Last-Event-ID": "1"}).status_code == 200
        assert client.get(links["events"], headers={"Last-Event-ID": "2"}).status_code == 204
        assert client.get(links["events"], headers={"Last-Event-ID": "999999999"}).status_code == 204

    def test_a_stream_begins_at_the_end_for_who_claims_to_know_more(self, client: TestClient, jobs: JobStore) -> None:
        links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
        with ThreadPoolExecutor() as threads:
            following = threads.submit(client.get, links["events"], headers={"Last-Event-ID": "999999999"})
            time.sleep(0.5)
            client.post(links["cancel"])
            assert events_of(following.result(timeout=20).text) == [(2, "state")]

    def test_a_stream_ends_when_its_job_is_deleted(self, client: TestClient, jobs: JobStore) -> None:
        links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
        job = jobs.find(links["self"].rpartition("/")[2])
        client.post(links["cancel"])
        with ThreadPoolExecutor() as threads, pytest.MonkeyPatch.context() as patch:
            patch.setattr(JobStore, "find", lambda *_: replace(job, state=JobState.RUNNING))
            following = threads.submit(client.get, links["events"])
            time.sleep(0.5)
            assert not following.done()
            patch.undo()
            jobs.delete(job.id)
            assert following.result(timeout=20).status_code == 200

    def test_a_database_that_fails_ends_a_stream_without_an_error(
        self, client: TestClient, jobs: JobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]

        def gone(*_: object, **__: object) -> None:
            raise StorageError("the server closed the connection")

        monkeypatch.setattr(JobStore, "events", gone)
        assert client.get(links["events"]).text == "retry: 2000\n\n"

    def test_no_more_than_so_many_follow(self, database: Path) -> None:
        with client_of(database, most_streams=0) as client:
            links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
            assert_problem(client.get(links["events"]), 503, "no more may")
            waiting = ask(client, min_accuracy=0.9, headers={"Prefer": "wait=5"})
            assert_problem(waiting, 503, "no more may")

    def test_unknown_jobs(self, client: TestClient) -> None:
        for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/resume"), ("DELETE", "")):
            assert_problem(client.request(method, f"/v1/jobs/nothing{path}"), 404, "there is no job 'nothing'")


def events_of(text: str) -> list[tuple[int, str]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in lines:
            found.append((int(lines["id"]), lines["event"]))
    return found


class TestResults:
    def test_a_front(self, client: TestClient) -> None:
        body = client.get("/v1/fronts/digits").json()
        assert [one["candidate"]["width"] for one in body["configurations"]] == [2, 4, 8]
        high = formula(candidate(width=4)).accuracy
        body = client.get("/v1/fronts/digits", params={"min_accuracy": high, "select": "cheapest"}).json()
        assert [one["candidate"]["width"] for one in body["configurations"]] == [4]
        body = client.get("/v1/fronts/digits", params={"select": "knee"}).json()
        assert len(body["configurations"]) == 1

    def test_no_front(self, client: TestClient) -> None:
        unknown = client.get("/v1/fronts/mnist").json()
        assert (unknown["configurations"], unknown["baseline"]) == ([], None)
        high = client.get("/v1/fronts/digits", params={"min_accuracy": 1.0, "select": "knee"}).json()
        assert high["configurations"] == []
        assert high["baseline"] is not None
        assert not any(client.get("/v1/techniques/mnist").json()["techniques"].values())
        assert_problem(client.get("/v1/fronts/mnits"), 404, "did you mean 'mnist'", "dataset")
        assert_problem(client.get("/v1/fronts/digits", params={"hardware": "x"}), 422, "unknown hardware", "hardware")

    def test_techniques_alone(self, client: TestClient, database: Path) -> None:
        pruned, both = candidate(sparsity=0.5), candidate(sparsity=0.5, width=2)
        with Store.open(f"sqlite:///{database}", create=False) as store:
            for one in (pruned, both):
                store.record_evaluation(one.key, formula(one), task="digits", hardware=HARDWARE, seed=0)
        found = client.get("/v1/techniques/digits").json()["techniques"]
        assert set(found) == {"network", "pruning", "multiplier", "memory"}
        assert [one["candidate"]["width"] for one in found["network"]] == [2, 4]
        assert [one["candidate"] for one in found["pruning"]] == [pruned.to_dict()]
        assert found["multiplier"] == found["memory"] == []

    def test_an_evaluation_and_its_file(self, client: TestClient) -> None:
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

    def test_a_configuration_with_an_imported_multiplier_is_offered(self, client: TestClient, database: Path) -> None:
        own = candidate(multiplier=MULTIPLIER_OF_MINE, width=2, sparsity=0.3)
        with Store.open(f"sqlite:///{database}", create=False) as store:
            store.record_evaluation(own.key, formula(own), task="digits", hardware=HARDWARE, seed=0)
        body = client.get("/v1/fronts/digits").json()
        assert body["configurations"][0]["candidate"]["multiplier"] == MULTIPLIER_OF_MINE

    def test_what_there_is_to_choose_from(self, client: TestClient) -> None:
        assert {one["name"] for one in client.get("/v1/datasets").json()} >= {"digits", "mnist", "cifar10"}
        hardware = client.get("/v1/hardware").json()
        assert sorted(one["name"] for one in hardware) == energy.hardware_names()
        assert [one["name"] for one in hardware if one["default"]] == [HARDWARE]
        multipliers = {one["name"]: one for one in client.get("/v1/multipliers").json()}
        assert multipliers["exact"]["relative_energy"] == 1
        assert 0 < multipliers["asm-1"]["relative_energy"] < 1

    def test_energy_without_training(self, client: TestClient) -> None:
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
    def test_energy_of_what_cannot_be(self, client: TestClient, change: dict[str, object], words: str) -> None:
        wrong = {**SPACE.baseline().to_dict(), **change}
        assert_problem(ask(client, "/v1/energy", candidate=wrong), 422, words, "#/candidate")


class TestHealth:
    def test_health(self, client: TestClient, jobs: JobStore) -> None:
        health = client.get("/healthz").json()
        assert health == {"status": "ok", "version": version("crosslayer"), "keys_required": False}
        ready = client.get("/readyz").json()
        assert ready == {"status": "degraded", "database": "ok", "workers": 0, "schema_version": SCHEMA}
        jobs.beat("w", version="1")
        assert client.get("/readyz").json()["status"] == "ready"

    def test_a_database_of_another_schema_is_not_ready(self, client: TestClient, database: Path) -> None:
        engine = open_engine(f"sqlite:///{database}", create=False)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE crosslayer_version SET version_num = '9999'")
        engine.dispose()
        assert_problem(client.get("/readyz"), 503, "the service's log says why")

    def test_metrics(self, client: TestClient) -> None:
        ask(client, "/v1/jobs", min_accuracy=0.9)
        response = client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'crosslayer_jobs{state="queued"} 1\n' in response.text
        assert "crosslayer_evaluations 3\n" in response.text
        assert response.text.endswith("\n")

    def test_a_database_that_is_gone(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def gone(*_: object, **__: object) -> None:
            raise OperationalError("SELECT 1", {}, Exception("the server closed the connection"))

        monkeypatch.setattr("sqlalchemy.orm.Session.execute", gone)
        monkeypatch.setattr("sqlalchemy.orm.Session.scalars", gone)
        monkeypatch.setattr("sqlalchemy.orm.Session.scalar", gone)
        monkeypatch.setattr("sqlalchemy.engine.Connection.scalar", gone)
        for path in ("/readyz", "/v1/jobs", "/v1/fronts/digits", "/optimize"):
            response = ask(client, min_accuracy=0.9) if path == "/optimize" else client.get(path)
            assert_problem(response, 503, "the service's log says why")
            assert "closed" not in response.text
            assert "the server closed the connection" in caplog.text
            caplog.clear()
            assert int(response.headers["retry-after"]) > 0


class TestGuard:
    @pytest.fixture
    def keys(self, database: Path) -> dict[str, str]:
        """Names of keys with their secrets."""
        store_results(database)
        with Store.open(f"sqlite:///{database}", create=False) as store:
            known = KeyStore(store.url, store._engine)
            return {name: known.create(name, Scope[name.upper()]) for name in ("read", "submit", "admin")}

    @pytest.fixture
    def guarded(self, keys: dict[str, str], database: Path) -> TestClient:
        return client_of(database, keys_required=True)

    def test_nothing_is_told_without_a_key(self, guarded: TestClient) -> None:
        calls = [("POST", "/optimize")]
        open_paths = {"/healthz", "/readyz"}
        for path, operations in guarded.get("/openapi.json").json()["paths"].items():
            if path not in open_paths:
                calls += [(method.upper(), path) for method in operations]
        assert len(calls) > 15
        for method, path in calls:
            response = guarded.request(method, path, json={} if method == "POST" else None)
            assert_problem(response, 401, "a key is needed")
            assert response.headers["www-authenticate"] == "Bearer"

    def test_scopes(self, guarded: TestClient, keys: dict[str, str]) -> None:
        def headers(name: str) -> dict[str, str]:
            return {"Authorization": f"Bearer {keys[name]}"}

        assert guarded.get("/v1/fronts/digits", headers=headers("read")).status_code == 200
        assert ask(guarded, headers=headers("read"), min_accuracy=0.9).status_code == 200  # it is stored
        assert_problem(ask(guarded, headers=headers("read"), min_accuracy=1.0), 403, "a key with the scope submit")
        for path in ("hardware", "multipliers"):
            brought = {"yaml": "", "name": "mine", "table": [[0]], "relative_energy": 1, "relative_area": 1}
            body = {key: brought[key] for key in (["yaml"] if path == "hardware" else [*brought][1:])}
            refused = guarded.post(f"/v1/{path}", json=body, headers=headers("read"))
            assert_problem(refused, 403, "the scope submit")
        made = ask(guarded, headers=headers("submit"), min_accuracy=1.0)
        assert made.status_code == 202
        cancel = made.json()["links"]["cancel"]
        assert_problem(guarded.post(cancel, headers=headers("read")), 403, "the scope submit; yours has read")
        assert [
            guarded.get(made.json()["links"]["self"], headers=headers(name)).json()["may_change"] for name in keys
        ] == [False, True, True]
        assert guarded.post(cancel, headers=headers("submit")).status_code == 200
        other = ask(guarded, headers=headers("admin"), min_accuracy=1.0).json()["links"]["cancel"]
        assert_problem(guarded.post(other, headers=headers("submit")), 403, "another client's")
        assert guarded.post(other, headers=headers("admin")).status_code == 200

    def test_a_revoked_or_wrong_key(self, guarded: TestClient, keys: dict[str, str], database: Path) -> None:
        wrong = guarded.get("/v1/jobs", headers={"Authorization": "Bearer crosslayer_guess"})
        assert_problem(wrong, 401, "unknown or was revoked")
        with Store.open(f"sqlite:///{database}", create=False) as store:
            KeyStore(store.url, store._engine).revoke("admin")
        revoked = guarded.get("/v1/jobs", headers={"Authorization": f"Bearer {keys['admin']}"})
        assert_problem(revoked, 401, "unknown or was revoked")

    def test_secrets_are_not_stored(self, keys: dict[str, str], database: Path) -> None:
        content = b"".join(file.read_bytes() for file in database.parent.glob("results.db*"))
        for secret in keys.values():
            assert secret.encode() not in content


class TestLimits:
    def test_a_page_of_another_site_reaches_nothing(self, client: TestClient) -> None:
        assert_problem(client.get("/healthz", headers={"Host": "evil.example"}), 421, "evil.example")
        assert client.get("/healthz", headers={"Host": "localhost:8000"}).status_code == 200
        form = client.post("/optimize", content=b'{"dataset": "digits"}', headers={"Content-Type": "text/plain"})
        assert_problem(form, 415, "must be application/json, got text/plain")

    def test_large_bodies_are_refused(self, database: Path) -> None:
        client = client_of(database, most_body_bytes=100)
        headers = {"Content-Type": "application/json"}
        assert_problem(client.post("/optimize", content=b" " * 101, headers=headers), 413, "at most 100 bytes")

        def chunks() -> Iterator[bytes]:
            yield from [b" " * 30] * 4

        assert_problem(client.post("/optimize", content=chunks(), headers=headers), 413, "at most 100 bytes")

    def test_other_errors_have_the_same_form(self, client: TestClient) -> None:
        assert_problem(client.get("/nowhere"), 404, "Not Found")
        assert_problem(client.get("/optimize"), 405, "Method Not Allowed")
        broken = client.post("/optimize", content=b"{", headers={"Content-Type": "application/json"})
        assert_problem(broken, 422, "JSON")

    def test_a_bug_says_nothing_of_itself(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a secret of the service")

        monkeypatch.setattr(JobStore, "find", broken)
        response = client.get("/v1/jobs/x")
        assert_problem(response, 500, "its log says how")
        assert "secret" not in response.text


def test_answers_are_those_of_the_store(client: TestClient, database: Path) -> None:
    """The service and `search best` cannot tell different things."""
    from energy import load_hardware
    from search.answers.confirmation import Target
    from search.space.task import find_task

    for wanted in (0.5, 0.9, 0.94):
        with Store.open(f"sqlite:///{database}", create=False) as store:
            stored = Stored.read(store, find_task("digits"), load_hardware(HARDWARE), effort="standard")
            found = stored.configurations(Target(min_accuracy=wanted), hardware=HARDWARE)
        body = client.get("/v1/fronts/digits", params={"min_accuracy": wanted}).json()
        assert [one["id"] for one in body["configurations"]] == [record.id for record in found.records]
