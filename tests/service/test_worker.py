"""Jobs as a worker runs them: real searches of digits, small and in this process."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from search.answers.result import result_of
from search.api import _run as api
from search.api.workplace import Workplace
from search.errors import NewerSchemaError, StorageError
from search.store.database import Store
from search.store.schema import open_engine
from service.database import Database
from service.job_state import JobState
from service.jobs import Job
from service.leases import Leases
from service.questions import Question
from service.queue import JobQueue, QueueLimits
from service.tables import JobRow
from service.worker import Worker
from tests.support.stored import client_of

pytestmark = [
    pytest.mark.slow,  # searches
    # An interrupt that arrives while a weak reference dies is only printed; the search stops after its evaluation.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

BUDGET = 5


@pytest.fixture
def work(opened: Database, tmp_path: Path, cache: Path) -> Workplace:
    """In this process, without data sets other than the built-in one."""
    return Workplace(storage=opened.url, workers=0, data_dir=str(tmp_path / "none"), cache=str(cache))


@pytest.fixture
def worker(opened: Database, work: Workplace) -> Worker:
    return Worker(opened, work, lease_s=5)


def submit(queue: JobQueue, *, dataset: str = "digits", budget: int = BUDGET) -> Job:
    asked = Question(dataset=dataset, max_accuracy_drop=0.9, budget=budget, effort="quick")
    job, _ = queue.submit(asked, client="anna", limits=QueueLimits(total=9, per_client=9))
    return job


def kinds(queue: JobQueue, job: Job) -> list[str]:
    return [event.kind for event in queue.events(job)]


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
        [search] = store.searches.all()
        return store.searches.trial_counts(search).finished


def test_a_job_is_run_and_answers_its_question(
    queue: JobQueue, worker: Worker, opened: Database, database: Path
) -> None:
    job = submit(queue)
    worker.run(once=True)
    ended = queue.find(job.id)
    assert (ended.state, ended.confirmed, ended.evaluations) == (JobState.FINISHED, True, BUDGET)
    assert ended.search_name == f"job-{job.id}"
    found = kinds(queue, job)
    assert found[:4] == ["state", "state", "search", "plan"]
    (plan,) = [event.data for event in queue.events(job) if event.kind == "plan"]
    assert plan["text"].startswith("plan: an evaluation takes about ")
    assert plan["evaluations"] == BUDGET
    assert plan["search_s"] > 0
    assert found.count("evaluated") == BUDGET
    assert "confirming" in found
    assert found[-2:] == ["answer", "state"]
    numbers = [event.data["number"] for event in queue.events(job) if event.kind == "evaluated"]
    assert numbers == [*range(1, BUDGET + 1)]
    asked = {"dataset": "digits", "max_accuracy_drop": 0.9, "budget": BUDGET, "effort": "quick"}
    response = client_of(database).post("/optimize", json=asked)
    assert response.status_code == 200
    [answer] = [event.data for event in queue.events(job) if event.kind == "answer"]
    assert response.json()["configurations"][0]["id"] == answer["best"]["id"]
    assert Leases(opened).workers() == 0  # it has left


def test_a_job_keeps_the_bound_on_area_of_its_question(queue: JobQueue, worker: Worker, opened: Database) -> None:
    asked = Question(dataset="digits", max_accuracy_drop=0.9, max_area=0.5, budget=BUDGET, effort="quick")
    job, _ = queue.submit(asked, client="anna", limits=QueueLimits(total=9, per_client=9))
    worker.run(once=True)
    [answer] = [event.data for event in queue.events(job) if event.kind == "answer"]
    assert answer["max_area"] == 0.5
    assert answer["best"]["area_mm2"] <= 0.5 * answer["baseline"]["area_mm2"]
    with Store.open(opened.url, create=False) as store:
        found = result_of(store, store.searches.find(f"job-{job.id}"))
    assert found.search.target.max_area == 0.5
    assert [one.evaluation.area_mm2 > 0.5 * found.baseline.evaluation.area_mm2 for one in found.evaluations] == [
        True,  # the baseline
        *[False] * (len(found.evaluations) - 1),
    ]


def test_a_cancelled_job_stops_and_resumes_where_it_was(queue: JobQueue, worker: Worker, database: Path) -> None:
    job = submit(queue, budget=12)
    canceller = when(lambda: queue.find(job.id).evaluations >= 2, lambda: queue.cancel(job.id))
    worker.run(once=True)
    canceller.join()
    stopped = queue.find(job.id)
    assert stopped.state is JobState.CANCELLED
    assert 2 <= stopped.evaluations < 12
    assert not stopped.cancelling
    queue.resume(job.id, limits=QueueLimits(total=9, per_client=9))
    worker.run(once=True)
    ended = queue.find(job.id)
    assert (ended.state, ended.evaluations) == (JobState.FINISHED, 12)
    assert trials(database) == 12


def test_a_worker_that_is_asked_to_end_returns_its_job_to_the_queue(
    queue: JobQueue, worker: Worker, work: Workplace, opened: Database, database: Path
) -> None:
    job = submit(queue, budget=12)
    ender = when(lambda: queue.find(job.id).evaluations >= 2, worker.end)
    worker.run()
    ender.join()
    waiting = queue.find(job.id)
    assert (waiting.state, waiting.worker) == (JobState.QUEUED, None)
    heir = Worker(opened, work, lease_s=5)
    heir.run(once=True)
    assert queue.find(job.id).state is JobState.FINISHED
    assert trials(database) == 12


def test_a_worker_that_lost_its_job_leaves_it_alone(queue: JobQueue, worker: Worker, database: Path) -> None:
    url = f"sqlite:///{database}"
    job = submit(queue, budget=12)

    def take() -> None:
        engine = open_engine(url, create=False)
        with engine.begin() as connection:
            connection.execute(sa.update(JobRow).values(worker="heir", lease_until=time.time() + 600))
        engine.dispose()

    thief = when(lambda: queue.find(job.id).evaluations >= 2, take)
    worker.run(once=True)
    thief.join()
    held = queue.find(job.id)
    assert (held.state, held.worker) == (JobState.RUNNING, "heir")
    assert held.evaluations < 12


def test_a_job_that_cannot_be_run_fails_and_the_next_is_run(queue: JobQueue, worker: Worker) -> None:
    broken, good = submit(queue, dataset="mnist"), submit(queue)
    worker.run(once=True)
    failed = queue.find(broken.id)
    assert failed.state is JobState.FAILED
    assert "MNIST" in str(failed.error)
    assert queue.find(good.id).state is JobState.FINISHED


def test_a_database_that_fails_for_a_moment_fails_no_job(
    queue: JobQueue, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(queue)
    run, failures = api.run, [StorageError("the database is restarting")]

    def sometimes(**options: object) -> object:
        if failures:
            raise failures.pop()
        return run(**options)  # type: ignore[arg-type]

    monkeypatch.setattr(api, "run", sometimes)
    worker.run(once=True)
    assert queue.find(job.id).state is JobState.FINISHED
    states = [event.data["state"] for event in queue.events(job) if event.kind == "state"]
    assert states == ["queued", "running", "queued", "running", "finished"]
    (note,) = [event.data["text"] for event in queue.events(job) if event.kind == "note"]
    assert note == "returned to the queue: the database is restarting"


def test_a_worker_that_cannot_return_its_job_ends_nevertheless(
    queue: JobQueue, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(queue, budget=12)

    def gone(*_: object, **__: object) -> None:
        raise StorageError("the database is gone")

    def end() -> None:
        monkeypatch.setattr(Leases, "finish", gone)
        os.kill(os.getpid(), signal.SIGTERM)

    ender = when(lambda: queue.find(job.id).evaluations >= 2, end)
    worker.run()
    ender.join()
    assert queue.find(job.id).state is JobState.RUNNING  # until its lease runs out


def test_a_worker_that_knows_an_older_schema_ends(
    queue: JobQueue, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(queue)

    def newer(**options: object) -> None:
        raise NewerSchemaError("it was written by a newer version")

    monkeypatch.setattr(api, "run", newer)
    with pytest.raises(NewerSchemaError):
        worker.run()
    assert queue.find(job.id).state is JobState.QUEUED  # for one that knows it
