"""Jobs as a worker runs them: real searches of digits, small and in this process."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from search.api import _run as api
from search.errors import NewerSchemaError, StorageError
from search.store.schema import open_engine
from search.store.store import Store
from service.jobs import Job, JobState, JobStore, QueueLimits
from service.questions import Question
from service.tables import JobRow
from service.worker import Work, Worker
from tests.support.stored import client_of

BUDGET = 5


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture
def jobs(database: Path) -> Iterator[JobStore]:
    with JobStore.open(f"sqlite:///{database}") as store:
        yield store


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """In this process, with trained networks that all tests here share."""
    folder = tmp_path_factory.mktemp("work")
    return Work(storage="", workers=0, data_dir=str(folder / "none"), stages=str(folder / "stages"))


@pytest.fixture
def worker(jobs: JobStore, work: Work) -> Worker:
    return Worker(jobs, replace(work, storage=jobs.url), lease_s=5)


def submit(jobs: JobStore, *, dataset: str = "digits", budget: int = BUDGET) -> Job:
    asked = Question(dataset=dataset, max_accuracy_drop=0.9, budget=budget, effort="quick")
    job, _ = jobs.submit(asked, client="anna", limits=QueueLimits(all=9, each=9))
    return job


def kinds(jobs: JobStore, job: Job) -> list[str]:
    return [event.kind for event in jobs.events(job)]


def when(happened: Callable[[], bool], then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as something has happened."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not happened():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def trials(database: Path) -> int:
    """How many trials of the only search ended with an evaluation."""
    with Store.open(f"sqlite:///{database}", create=False) as store:
        [search] = store.searches()
        return store.trial_counts(search).finished


def test_a_job_is_run_and_answers_its_question(jobs: JobStore, worker: Worker, database: Path) -> None:
    job = submit(jobs)
    worker.run(once=True)
    ended = jobs.find(job.id)
    assert (ended.state, ended.confirmed, ended.evaluations) == (JobState.FINISHED, True, BUDGET)
    assert ended.search_name == f"job-{job.id}"
    found = kinds(jobs, job)
    assert found[:3] == ["state", "state", "search"]
    assert found.count("evaluated") == BUDGET
    assert "confirming" in found
    assert found[-2:] == ["answer", "state"]
    numbers = [event.data["number"] for event in jobs.events(job) if event.kind == "evaluated"]
    assert numbers == [*range(1, BUDGET + 1)]
    asked = {"dataset": "digits", "max_accuracy_drop": 0.9, "budget": BUDGET, "effort": "quick"}
    response = client_of(database).post("/optimize", json=asked)
    assert response.status_code == 200
    [answer] = [event.data for event in jobs.events(job) if event.kind == "answer"]
    assert response.json()["configurations"][0]["id"] == answer["best"]["id"]
    assert jobs.workers() == 0  # it has left


def test_a_cancelled_job_stops_and_goes_on_where_it_was(jobs: JobStore, worker: Worker, database: Path) -> None:
    job = submit(jobs, budget=12)
    canceller = when(lambda: jobs.find(job.id).evaluations >= 2, lambda: jobs.cancel(job.id))
    worker.run(once=True)
    canceller.join()
    stopped = jobs.find(job.id)
    assert stopped.state is JobState.CANCELLED
    assert 2 <= stopped.evaluations < 12
    assert not stopped.cancelling
    jobs.resume(job.id, limits=QueueLimits(all=9, each=9))
    worker.run(once=True)
    ended = jobs.find(job.id)
    assert (ended.state, ended.evaluations) == (JobState.FINISHED, 12)
    assert trials(database) == 12


def test_a_worker_that_is_asked_to_end_gives_its_job_back(
    jobs: JobStore, worker: Worker, work: Work, database: Path
) -> None:
    job = submit(jobs, budget=12)
    ender = when(lambda: jobs.find(job.id).evaluations >= 2, worker.end)
    worker.run()
    ender.join()
    waiting = jobs.find(job.id)
    assert (waiting.state, waiting.worker) == (JobState.QUEUED, None)
    heir = Worker(jobs, replace(work, storage=jobs.url), lease_s=5)
    heir.run(once=True)
    assert jobs.find(job.id).state is JobState.FINISHED
    assert trials(database) == 12


def test_a_worker_that_lost_its_job_leaves_it_alone(jobs: JobStore, worker: Worker) -> None:
    job = submit(jobs, budget=12)

    def take() -> None:
        engine = open_engine(jobs.url, create=False)
        with engine.begin() as connection:
            connection.execute(sa.update(JobRow).values(worker="heir", lease_until=time.time() + 600))
        engine.dispose()

    thief = when(lambda: jobs.find(job.id).evaluations >= 2, take)
    worker.run(once=True)
    thief.join()
    held = jobs.find(job.id)
    assert (held.state, held.worker) == (JobState.RUNNING, "heir")
    assert held.evaluations < 12


def test_a_job_that_cannot_be_run_fails_and_the_next_is_run(jobs: JobStore, worker: Worker) -> None:
    broken, good = submit(jobs, dataset="mnist"), submit(jobs)
    worker.run(once=True)
    failed = jobs.find(broken.id)
    assert failed.state is JobState.FAILED
    assert "MNIST" in str(failed.error)
    assert jobs.find(good.id).state is JobState.FINISHED


def test_a_database_that_fails_for_a_moment_fails_no_job(
    jobs: JobStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(jobs)
    run, failures = api.run, [StorageError("the database is restarting")]

    def sometimes(**options: object) -> object:
        if failures:
            raise failures.pop()
        return run(**options)  # type: ignore[arg-type]

    monkeypatch.setattr(api, "run", sometimes)
    worker.run(once=True)
    assert jobs.find(job.id).state is JobState.FINISHED
    states = [event.data["state"] for event in jobs.events(job) if event.kind == "state"]
    assert states == ["queued", "running", "queued", "running", "finished"]
    (note,) = [event.data["text"] for event in jobs.events(job) if event.kind == "note"]
    assert note == "it waits, and is tried again: the database is restarting"


def test_a_worker_that_cannot_give_its_job_back_ends_all_the_same(
    jobs: JobStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(jobs, budget=12)

    def gone(*_: object, **__: object) -> None:
        raise StorageError("the database is gone")

    def end() -> None:
        monkeypatch.setattr(jobs, "finish", gone)
        os.kill(os.getpid(), signal.SIGTERM)

    ender = when(lambda: jobs.find(job.id).evaluations >= 2, end)
    worker.run()
    ender.join()
    assert jobs.find(job.id).state is JobState.RUNNING  # until its lease runs out


def test_a_worker_that_knows_an_older_schema_ends(
    jobs: JobStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(jobs)

    def newer(**options: object) -> None:
        raise NewerSchemaError("it was written by a newer version")

    monkeypatch.setattr(api, "run", newer)
    with pytest.raises(NewerSchemaError):
        worker.run()
    assert jobs.find(job.id).state is JobState.QUEUED  # for one that knows it
