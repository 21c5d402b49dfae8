"""Searches of uploaded images, and of the custom networks of stored results, as a worker runs them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import search
from search.answers.result import result_of
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.images.library import ImageLibrary
from search.space.task_request import TaskRequest
from search.store.database import Store
from service.database import Database
from service.job_state import JobState
from service.jobs import Job
from service.queue import JobQueue
from service.worker import Worker
from tests.support.requests import ask, assert_problem
from tests.support.stored import client_of
from tests.support.uploads import archive, upload

pytestmark = pytest.mark.slow  # searches

ASKED: dict[str, Any] = {"max_accuracy_drop": 0.9, "budget": 3, "effort": "quick"}


@pytest.fixture
def client(database: Path, tmp_path: Path) -> Iterator[TestClient]:
    """A client of a service on another machine than the worker's."""
    with client_of(database, image_dir=tmp_path / "service") as client:
        yield client


@pytest.fixture
def library(tmp_path: Path) -> ImageLibrary:
    """The worker's images."""
    return ImageLibrary(tmp_path / "worker")


@pytest.fixture
def workplace(opened: Database, library: ImageLibrary, cache: Path) -> Workplace:
    return Workplace(storage=opened.url, workers=0, image_dir=library.folder, cache=str(cache))


def work(opened: Database, workplace: Workplace) -> Job:
    """Run the waiting job; returns it."""
    Worker(opened, workplace).run(once=True)
    return JobQueue(opened).jobs(limit=1)[0]


def accuracies(opened: Database, name: str) -> list[tuple[float, ...]]:
    store = Store(opened.url, opened.engine)
    return [one.evaluation.chip_accuracies for one in result_of(store, store.searches.find(name)).evaluations]


def test_uploaded_images_are_searched_as_the_same_images_from_elsewhere(
    client: TestClient, opened: Database, workplace: Workplace, library: ImageLibrary, tmp_path: Path
) -> None:
    identity = upload(client).json()["identity"]
    assert ask(client, dataset="flowers", **ASKED).status_code == 202
    job = work(opened, workplace)
    assert job.state is JobState.FINISHED, job.error
    assert [one.dataset.identity for one in library.all()] == [identity]
    answer = ask(client, dataset="flowers", **ASKED).json()
    assert (answer["dataset"], answer["confirmed"]) == (identity, True)
    found = client.get(f"/v1/evaluations/{answer['configurations'][0]['id']}").json()
    assert (found["task"], found["dataset"], found["network"]) == (identity, identity, None)
    (tmp_path / "mine.npz").write_bytes(archive())
    search.run(
        dataset=tmp_path / "mine.npz",
        max_accuracy_drop=0.9,
        budget=3,
        effort="quick",
        options=SearchOptions(name="same"),
        workplace=workplace,
    )
    assert library.get("mine").dataset.digest == library.get(identity).dataset.digest
    assert accuracies(opened, "same") == accuracies(opened, f"job-{job.id}")


def test_a_job_whose_images_were_deleted_fails_with_a_sentence_and_resumes_with_them(
    client: TestClient, opened: Database, workplace: Workplace
) -> None:
    identity = upload(client).json()["identity"]
    job = ask(client, dataset="flowers", **ASKED).json()
    client.post(job["links"]["cancel"])
    assert client.delete("/v1/datasets/flowers").status_code == 204
    client.post(job["links"]["resume"])
    failed = work(opened, workplace)
    assert failed.state is JobState.FAILED
    assert str(failed.error).startswith(f"the images of {identity} are gone: they are neither uploaded nor stored")
    upload(client)
    client.post(job["links"]["resume"])
    assert work(opened, workplace).state is JobState.FINISHED


NETWORK = """
from torch import nn

def build(image_shape, classes):
    channels, height, width = image_shape
    first = nn.Linear(channels * height * width, {units})
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear({units}, classes))
"""


def test_a_custom_network_that_was_searched_is_asked_about_by_the_identity_of_its_task(
    client: TestClient,
    opened: Database,
    workplace: Workplace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mynet", raising=False)
    (tmp_path / "mynet.py").write_text(NETWORK.format(units=6))
    search.run(
        task=TaskRequest(network="mynet:build"),
        max_accuracy_drop=0.9,
        budget=2,
        effort="quick",
        workplace=workplace,
    )
    (task,) = client.get("/v1/tasks").json()
    assert {name: task[name] for name in ("words", "dataset", "network", "train", "metric")} == {
        "words": "digits, mynet:build",
        "dataset": "digits",
        "network": "mynet:build",
        "train": "scratch",
        "metric": "accuracy",
    }
    asked = {**ASKED, "dataset": task["identity"]}
    answer = ask(client, **asked).json()
    assert (answer["dataset"], answer["confirmed"]) == (task["identity"], True)
    assert answer["baseline"]["candidate"]["family"] == "mynet:build"
    found = client.get(f"/v1/evaluations/{answer['baseline']['id']}").json()
    assert (found["task"], found["dataset"], found["network"]) == (task["identity"], "digits", "mynet:build")
    quoted = task["identity"].replace("/", "%2F")
    for path in ("fronts", "techniques"):
        assert client.get(f"/v1/{path}/{quoted}?effort=quick").json()["dataset"] == task["identity"]
    energy = ask(client, "/v1/energy", dataset=task["identity"], candidate=answer["baseline"]["candidate"])
    assert_problem(energy, 422, "the service builds no custom networks", "#/dataset")

    assert ask(client, "/v1/jobs", **asked, seed=1).status_code == 202
    job = work(opened, workplace)
    assert job.state is JobState.FINISHED, job.error
    store = Store(opened.url, opened.engine)
    assert {one.task.identity for one in store.searches.all()} == {task["identity"]}

    for sources, words in ((NETWORK.format(units=7), "was edited"), (None, "mynet")):
        monkeypatch.delitem(sys.modules, "mynet", raising=False)
        (tmp_path / "mynet.py").unlink()
        if sources is not None:
            (tmp_path / "mynet.py").write_text(sources)
        ask(client, "/v1/jobs", **asked, seed=2)
        failed = work(opened, workplace)
        assert failed.state is JobState.FAILED
        assert words in str(failed.error)
