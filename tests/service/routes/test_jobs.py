"""The jobs of the API, without a worker."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from search.errors import StorageError
from service.job_state import JobState
from service.leases import Leases
from service.queue import JobQueue
from tests.support.requests import ask, assert_problem


def test_a_job_searches_whatever_is_stored(client: TestClient) -> None:
    assert ask(client, min_accuracy=0.9).status_code == 200
    response = ask(client, "/v1/jobs", min_accuracy=0.9)
    assert response.status_code == 202
    assert response.json()["best_known"]["confirmed"] is True


@pytest.mark.slow
def test_pages(client: TestClient) -> None:
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


def test_cancel_resume_delete(client: TestClient) -> None:
    links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
    assert_problem(client.delete(links["self"]), 409, "cancel it first")
    assert client.post(links["cancel"]).json()["state"] == "cancelled"
    assert_problem(client.post(links["cancel"]), 409, "cannot be cancelled")
    assert client.post(links["resume"]).json()["state"] == "queued"
    client.post(links["cancel"])
    assert client.delete(links["self"]).status_code == 204
    assert_problem(client.get(links["self"]), 404, "there is no job")


def test_events_are_replayed_from_where_the_client_was(client: TestClient, leases: Leases) -> None:
    links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
    held = leases.claim("w", lease_s=30)
    assert held is not None
    leases.note(held, "w", "evaluated", {"number": 1}, evaluations=1)
    leases.finish(held, "w", JobState.FINISHED, confirmed=True)
    whole = client.get(links["events"])
    assert whole.headers["content-type"].startswith("text/event-stream")
    assert whole.text.startswith("retry: ")
    assert events_of(whole.text) == [(1, "state"), (2, "state"), (3, "evaluated"), (4, "state")]
    rest = client.get(links["events"], headers={"Last-Event-ID": "2"})
    assert events_of(rest.text) == [(3, "evaluated"), (4, "state")]
    last = json.loads(rest.text.split("data: ")[-1])
    assert (last["state"], last["confirmed"]) == ("finished", True)
    assert last["at"].endswith("Z")


def test_a_stream_that_was_read_to_its_end_is_not_asked_for_again(client: TestClient) -> None:
    links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
    client.post(links["cancel"])
    assert client.get(links["events"], headers={"Last-Event-ID": "1"}).status_code == 200
    assert client.get(links["events"], headers={"Last-Event-ID": "2"}).status_code == 204
    assert client.get(links["events"], headers={"Last-Event-ID": "999999999"}).status_code == 204


@pytest.mark.slow
def test_a_stream_begins_at_the_end_for_who_claims_to_know_more(client: TestClient, queue: JobQueue) -> None:
    links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
    with ThreadPoolExecutor() as threads:
        following = threads.submit(client.get, links["events"], headers={"Last-Event-ID": "999999999"})
        time.sleep(0.5)
        client.post(links["cancel"])
        assert events_of(following.result(timeout=20).text) == [(2, "state")]


@pytest.mark.slow
def test_a_stream_ends_when_its_job_is_deleted(client: TestClient, queue: JobQueue) -> None:
    links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]
    job = queue.find(links["self"].rpartition("/")[2])
    client.post(links["cancel"])
    with ThreadPoolExecutor() as threads, pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobQueue, "find", lambda *_: replace(job, state=JobState.RUNNING))
        following = threads.submit(client.get, links["events"])
        time.sleep(0.5)
        assert not following.done()
        patch.undo()
        queue.delete(job.id)
        assert following.result(timeout=20).status_code == 200


def test_a_database_that_fails_ends_a_stream_without_an_error(
    client: TestClient, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = ask(client, "/v1/jobs", min_accuracy=0.9).json()["links"]

    def gone(*_: object, **__: object) -> None:
        raise StorageError("the server closed the connection")

    monkeypatch.setattr(JobQueue, "events", gone)
    assert client.get(links["events"]).text == "retry: 2000\n\n"


def test_unknown_jobs(client: TestClient) -> None:
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/resume"), ("DELETE", "")):
        assert_problem(client.request(method, f"/v1/jobs/nothing{path}"), 404, "there is no job 'nothing'")


def events_of(text: str) -> list[tuple[int, str]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in lines:
            found.append((int(lines["id"]), lines["event"]))
    return found
