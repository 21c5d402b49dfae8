"""`POST /optimize`, without a worker."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.job_state import JobState
from service.leases import Leases
from service.queue import QueueLimits
from tests.support.fakes import formula
from tests.support.requests import ask, assert_problem
from tests.support.stored import SPACE, candidate, client_of, opened_jobs, store_results


@pytest.mark.parametrize("path", ["/optimize", "/v1/optimize"])
def test_a_confirmed_answer_comes_at_once(client: TestClient, path: str) -> None:
    response = ask(client, path, min_accuracy=0.9)
    assert response.status_code == 200
    body = response.json()
    assert body["confirmed"] is True
    assert body["shortfall"] == 0
    assert body["caution"] is None  # trained from scratch
    assert [one["candidate"]["width"] for one in body["configurations"]] == [2, 4, 8]
    best = body["configurations"][0]
    assert best["saving"] == pytest.approx(4)
    assert best["confirmation"]["confirmed"] is True
    assert best["confirmation"]["accuracy"] < best["accuracy"]
    assert body["baseline"]["candidate"] == SPACE.baseline().to_dict()


def test_a_relative_target_is_against_the_baseline(client: TestClient) -> None:
    body = ask(client, max_accuracy_drop=0.03).json()
    assert body["confirmed"] is True
    assert [one["candidate"]["width"] for one in body["configurations"]] == [4, 8]
    assert body["wanted_accuracy"] == pytest.approx(formula(SPACE.baseline()).accuracy - 0.03)


def test_no_confirmed_answer_makes_a_job_that_says_what_is_known(database: Path) -> None:
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


def test_nothing_stored_makes_a_job_too(database: Path) -> None:
    response = ask(client_of(database), min_accuracy=0.9)
    assert response.status_code == 202
    assert response.json()["best_known"] is None


def test_what_no_stored_configuration_reaches_is_searched_once(client: TestClient, leases: Leases) -> None:
    response = ask(client, min_accuracy=1.0)
    assert response.status_code == 202
    assert response.json()["best_known"]["configurations"] == []
    held = leases.claim("w", lease_s=30)
    assert held is not None
    leases.finish(held, "w", JobState.FINISHED, confirmed=False)
    searched = ask(client, min_accuracy=1.0)
    assert searched.status_code == 200
    body = searched.json()
    assert (body["confirmed"], body["configurations"], body["shortfall"]) == (False, [], None)
    assert body["highest_accuracy"] == formula(SPACE.baseline()).accuracy


def test_a_search_that_found_none_is_not_made_again(database: Path) -> None:
    store_results(database, confirmed=())
    client = client_of(database)
    job = ask(client, min_accuracy=0.9).json()
    with opened_jobs(f"sqlite:///{database}") as (_, leases):
        held = leases.claim("w", lease_s=30)
        assert held is not None
        leases.finish(held, "w", JobState.FINISHED, confirmed=False)
    response = ask(client, min_accuracy=0.9)
    assert response.status_code == 200
    assert response.json()["confirmed"] is False
    assert ask(client, min_accuracy=0.9, seed=1).json()["id"] != job["id"]


def test_configurations_rejected_by_fresh_runs_are_listed_apart(client: TestClient) -> None:
    body = ask(client, min_accuracy=formula(candidate(width=4)).accuracy - 0.001).json()
    assert [one["candidate"]["width"] for one in body["rejected"]] == [4]
    assert [one["candidate"]["width"] for one in body["configurations"]] == [8]
    assert body["rejected"][0]["confirmation"]["margin_lower_bound"] < 0


def test_the_baseline_alone_is_no_answer_before_a_search(database: Path) -> None:
    store_results(database, confirmed=(8,))
    client = client_of(database)
    response = ask(client, max_accuracy_drop=0.0)
    assert response.status_code == 202
    assert response.json()["best_known"]["configurations"][0]["saving"] == 1


def test_waiting_ends_when_the_job_does(database: Path) -> None:
    with client_of(database) as client, opened_jobs(f"sqlite:///{database}") as (_, leases):
        asked = ask(client, min_accuracy=0.9)
        held = leases.claim("w", lease_s=30)
        assert held is not None
        store_results(database)
        leases.finish(held, "w", JobState.FINISHED, confirmed=True)
        again = ask(client, min_accuracy=0.9, headers={"Prefer": "respond-async, wait=20"})
    assert asked.status_code == 202
    assert again.status_code == 200


def test_waiting_is_bounded(database: Path) -> None:
    with client_of(database, max_wait_s=0.2) as client:
        assert ask(client, min_accuracy=0.9, headers={"Prefer": "wait=5000"}).status_code == 202


def test_a_job_that_fails_is_named(database: Path) -> None:
    with client_of(database) as client, opened_jobs(f"sqlite:///{database}") as (_, leases):
        job = ask(client, min_accuracy=0.9).json()
        held = leases.claim("w", lease_s=30)
        assert held is not None
        leases.finish(held, "w", JobState.FAILED, error="the data set is damaged")
        found = client.get(job["links"]["self"]).json()
    assert (found["state"], found["error"]) == ("failed", "the data set is damaged")


def test_idempotency(database: Path) -> None:
    client = client_of(database)
    key = {"Idempotency-Key": "k"}
    first = ask(client, min_accuracy=0.9, headers=key).json()["id"]
    client.post(f"/v1/jobs/{first}/cancel")
    assert ask(client, min_accuracy=0.9, headers=key).json()["id"] == first
    assert ask(client, min_accuracy=0.9).json()["id"] != first
    assert_problem(ask(client, min_accuracy=0.8, headers=key), 422, "was used for another request")


def test_idempotency_where_the_answer_is_stored(database: Path) -> None:
    client = client_of(database)
    key = {"Idempotency-Key": "k"}
    assert ask(client, min_accuracy=0.9, headers=key).status_code == 202
    store_results(database)
    assert ask(client, min_accuracy=0.9, headers=key).status_code == 200
    assert_problem(ask(client, min_accuracy=0.8, headers=key), 422, "was used for another request")


def test_a_full_queue(database: Path) -> None:
    client = client_of(database, queue=QueueLimits(total=1, per_client=1))
    ask(client, min_accuracy=0.9)
    refused = ask(client, min_accuracy=0.8)
    assert_problem(refused, 429, "1 jobs are waiting")
    assert int(refused.headers["retry-after"]) > 0
