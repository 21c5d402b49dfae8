"""Whatever is killed in the middle of a job, at whatever moment, nothing is lost and nothing counts twice.

$CROSSLAYER_TEST_KILLS says how often something is killed: 4 times unless it is set.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search.api import _run as api
from search.errors import StorageError
from search.store.store import Store
from service.client import Client, Event, UnreachableError
from service.jobs import JobState, JobStore, QueueLimits
from service.questions import Question
from service.schemas import JobSchema, OptimizeRequest
from tests.service.test_cli import free_port
from tests.support.postgresql import Server

KILLS = int(os.environ.get("CROSSLAYER_TEST_KILLS", "4"))
BUDGET = 20 * KILLS
ASKED = OptimizeRequest(dataset="digits", max_accuracy_drop=0.9, effort="quick", budget=BUDGET)
LEASE_S = 1


class Process:
    """A process that is started again as soon as it is killed."""

    def __init__(self, *arguments: object) -> None:
        self._command = [sys.executable, "-m", "search", *map(str, arguments)]
        self._running = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def number(self) -> int:
        return self._running.pid

    def kill(self) -> None:
        self._running.kill()
        self._running.wait()
        self._running = self._start()

    def pause(self, seconds: float) -> None:
        self._running.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._running.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._running.send_signal(signal.SIGTERM)
        self._running.wait(timeout=60)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "stages"


@pytest.fixture(scope="module")
def undisturbed(stages: Path) -> list[str]:
    """The front of the same search in peace; it leaves its networks to those that are disturbed."""
    result = api.run(
        **ASKED.model_dump(exclude={"min_accuracy", "max_accuracy_drop"}),
        storage=str(stages.parent / "undisturbed.db"),
        stages=str(stages),
        confirm=False,
        workers=0,
    )
    return [record.key for record in result.front]


def endure(url: str, stages: Path, undisturbed: list[str], more: Iterator[Callable[[], None]]) -> None:
    """Kill service, worker and what else there is, at random moments, while a job is run."""
    moments = random.Random(KILLS)  # noqa: S311
    port = free_port()
    service = Process("serve", "--no-worker", "--port", port, "--storage", url)
    worker = Process("worker", "--workers", 0, "--lease", LEASE_S, "--stages", stages, "--storage", url)
    victims = [service.kill, worker.kill, *more]
    told: list[Event] = []
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            job = begin(client)
            following = threading.Thread(target=lambda: told.extend(client.events(job.id)))
            following.start()
            killed = 0
            with JobStore.open(url) as jobs:
                for number in range(KILLS):
                    time.sleep(moments.uniform(0.5, 4))
                    victims[number % len(victims)]()
                    killed += not_ended(jobs, job.id)
            following.join(timeout=400)
            assert not following.is_alive()
        assert killed > KILLS / 2  # while it ran
    finally:
        service.stop()
        worker.stop()
    with JobStore.open(url) as jobs:
        ended = jobs.find(job.id)
        assert (ended.state, ended.confirmed, ended.evaluations) == (JobState.FINISHED, True, BUDGET), ended
        assert [event.number for event in told] == [*range(1, ended.last_event + 1)]
    assert counted(told) == BUDGET
    check_whole(url, undisturbed)


def check_whole(url: str, undisturbed: list[str]) -> None:
    """The search has its budget, and the front that it has in peace."""
    with Store.open(url, create=False) as store:
        (search,) = store.searches()
        counts = store.trial_counts(search)
        assert (counts.finished, counts.failed) == (BUDGET, 0)
        assert [record.key for record in store.search_front(search)] == undisturbed


def begin(client: Client) -> JobSchema:
    """Ask for the search as soon as the service answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return client.search(ASKED, idempotency_key="once")
        except UnreachableError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def counted(told: list[Event]) -> int:
    """The evaluations that events tell of, each once: one that a kill kept from being told is in the next beginning."""
    count = 0
    for event in told:
        if event.kind == "search":
            assert event.data["evaluations"] in (count, count + 1)
            count = event.data["evaluations"]
        elif event.kind == "evaluated":
            count += 1
            assert event.data["number"] == count
    return count


def not_ended(jobs: JobStore, job_id: str) -> bool:
    for _ in range(50):
        try:
            return not jobs.find(job_id).state.ended
        except StorageError:  # the server is starting
            time.sleep(0.1)
    raise AssertionError("the database does not answer")


@pytest.mark.slow
def test_service_and_worker(tmp_path: Path, stages: Path, undisturbed: list[str]) -> None:
    endure(f"sqlite:///{tmp_path / 'results.db'}", stages, undisturbed, iter(()))


@pytest.mark.slow
def test_service_worker_and_postgresql(postgresql: Server, stages: Path, undisturbed: list[str]) -> None:
    def kill() -> None:
        postgresql.kill()
        postgresql.start()

    endure(postgresql.url, stages, undisturbed, iter((kill,)))


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_worker_that_is_held_up_past_its_lease(
    database: str, request: pytest.FixtureRequest, tmp_path: Path, stages: Path, undisturbed: list[str]
) -> None:
    """Another worker may take the job over, and the first one, when it goes on, stores nothing that counts."""
    file = tmp_path / "results.db"
    url = f"sqlite:///{file}" if database == "sqlite" else request.getfixturevalue("postgresql").url
    options = ("--workers", 0, "--lease", LEASE_S, "--stages", stages, "--storage", url)
    with JobStore.open(url) as jobs:
        question = Question.from_dict(ASKED.model_dump())
        job, _ = jobs.submit(question, client="anna", limits=QueueLimits(all=1, each=1))
        workers = {process.number: process for process in (Process("worker", *options) for _ in range(2))}
        try:
            left = 3
            deadline = time.monotonic() + 240
            while not (found := jobs.find(job.id)).state.ended:
                assert time.monotonic() < deadline, found
                owner = workers.get(int(found.worker.split("-")[-2])) if found.worker else None
                if owner is not None and found.evaluations and left:
                    left -= 1
                    owner.pause(2.5 * LEASE_S)
                time.sleep(0.1)
        finally:
            for process in workers.values():
                process.stop()
        assert found.state is JobState.FINISHED, found.error
        told = [Event(number=one.number, kind=one.kind, data=one.data) for one in jobs.events(job)]
    assert sum(event.data.get("state") == "running" for event in told) > 1
    assert counted(told) == BUDGET
    check_whole(url, undisturbed)
