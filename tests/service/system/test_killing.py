"""Whatever is killed while a job runs, at any moment, nothing is lost and nothing counts twice.

$CROSSLAYER_TEST_KILLS sets the number of kills, 4 by default.
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

import search
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.errors import StorageError
from search.store.database import Store
from service.client import Client, Event, UnreachableError
from service.job_state import JobState
from service.questions import Question
from service.queue import JobQueue, QueueLimits
from service.schemas import JobSchema, OptimizeRequest
from tests.support.postgresql import Server
from tests.support.serving import free_port
from tests.support.stored import opened_jobs

KILLS = int(os.environ.get("CROSSLAYER_TEST_KILLS", "4"))
BUDGET = 20 * KILLS
ASKED = OptimizeRequest(dataset="digits", max_accuracy_drop=0.9, effort="quick", budget=BUDGET)
LEASE_S = 1

pytestmark = pytest.mark.process


class Process:
    """A process that is restarted as soon as it is killed."""

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
def undisturbed(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The front of the same search without kills, whose trained networks the killed searches reuse."""
    result = search.run(
        dataset=ASKED.dataset,
        hardware=ASKED.hardware,
        budget=ASKED.budget,
        seed=ASKED.seed,
        effort=ASKED.effort,
        options=SearchOptions(confirm=False),
        workplace=Workplace(
            storage=str(tmp_path_factory.mktemp("undisturbed") / "results.db"), cache=str(cache), workers=0
        ),
    )
    return [record.key for record in result.front]


def endure(url: str, cache: Path, undisturbed: list[str], more: Iterator[Callable[[], None]]) -> None:
    """Kill the service, the worker and more, at random moments, while a job runs."""
    moments = random.Random(KILLS)  # noqa: S311
    port = free_port()
    service = Process("serve", "--no-worker", "--port", port, "--storage", url)
    worker = Process("worker", "--workers", 0, "--lease", LEASE_S, "--cache", cache, "--storage", url)
    victims = [service.kill, worker.kill, *more]
    seen: list[Event] = []
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            job = begin(client)
            following = threading.Thread(target=lambda: seen.extend(client.events(job.id)))
            following.start()
            killed = 0
            with opened_jobs(url) as (queue, _):
                for number in range(KILLS):
                    time.sleep(moments.uniform(0.5, 4))
                    victims[number % len(victims)]()
                    killed += not_ended(queue, job.id)
            following.join(timeout=400)
            assert not following.is_alive()
        assert killed > KILLS / 2  # while it ran
    finally:
        service.stop()
        worker.stop()
    with opened_jobs(url) as (queue, _):
        ended = queue.find(job.id)
        assert (ended.state, ended.confirmed, ended.evaluations) == (JobState.FINISHED, True, BUDGET), ended
        assert [event.number for event in seen] == [*range(1, ended.last_event + 1)]
    assert counted(seen) == BUDGET
    check_whole(url, undisturbed)


def check_whole(url: str, undisturbed: list[str]) -> None:
    """The search has made its budget, and its front is that of the undisturbed search."""
    with Store.open(url, create=False) as store:
        (search,) = store.searches.all()
        counts = store.searches.trial_counts(search)
        assert (counts.finished, counts.failed) == (BUDGET, 0)
        assert [record.key for record in store.evaluations.front_of_search(search)] == undisturbed


def begin(client: Client) -> JobSchema:
    """Start the search as soon as the service responds."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return client.search(ASKED, idempotency_key="once")
        except UnreachableError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def counted(seen: list[Event]) -> int:
    """The evaluations in the events, each once: one whose event a kill prevented is counted by the next start."""
    count = 0
    for event in seen:
        if event.kind == "search":
            assert event.data["evaluations"] in (count, count + 1)
            count = event.data["evaluations"]
        elif event.kind == "evaluated":
            count += 1
            assert event.data["number"] == count
    return count


def not_ended(queue: JobQueue, job_id: str) -> bool:
    for _ in range(50):
        try:
            return not queue.find(job_id).state.ended
        except StorageError:  # the server is starting
            time.sleep(0.1)
    raise AssertionError("the database does not respond")


@pytest.mark.slow
def test_service_and_worker(tmp_path: Path, cache: Path, undisturbed: list[str]) -> None:
    endure(f"sqlite:///{tmp_path / 'results.db'}", cache, undisturbed, iter(()))


@pytest.mark.slow
def test_service_worker_and_postgresql(postgresql: Server, cache: Path, undisturbed: list[str]) -> None:
    def kill() -> None:
        postgresql.kill()
        postgresql.start()

    endure(postgresql.url, cache, undisturbed, iter((kill,)))


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_worker_that_is_suspended_past_its_lease(
    database: str, request: pytest.FixtureRequest, tmp_path: Path, cache: Path, undisturbed: list[str]
) -> None:
    """Another worker may take the job over, and the first one, once it continues, stores nothing that counts."""
    file = tmp_path / "results.db"
    url = f"sqlite:///{file}" if database == "sqlite" else request.getfixturevalue("postgresql").url
    options = ("--workers", 0, "--lease", LEASE_S, "--cache", cache, "--storage", url)
    with opened_jobs(url) as (queue, _):
        question = Question.from_dict(ASKED.model_dump())
        job, _ = queue.submit(question, client="anna", limits=QueueLimits(total=1, per_client=1))
        workers = {process.number: process for process in (Process("worker", *options) for _ in range(2))}
        try:
            left = 3
            deadline = time.monotonic() + 240
            while not (found := queue.find(job.id)).state.ended:
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
        seen = [Event(number=one.number, kind=one.kind, data=one.data) for one in queue.events(job)]
    assert sum(event.data.get("state") == "running" for event in seen) > 1
    assert counted(seen) == BUDGET
    check_whole(url, undisturbed)


@pytest.mark.parametrize(
    ("command", "ready"),
    [
        (("worker", "--once", "--workers", "0"), "is waiting for jobs"),
        (("serve", "--no-worker", "--port", "0"), "http://127.0.0.1:"),
        (("dashboard", "--port", "0"), "/dashboard"),
    ],
)
def test_what_starts_while_the_database_restarts(postgresql: Server, command: tuple[str, ...], ready: str) -> None:
    postgresql.kill()
    whole = [sys.executable, "-m", "search", *command, "--storage", postgresql.url]
    with subprocess.Popen(whole, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "Make sure that its server is running" in process.stderr.readline()
        postgresql.start()
        assert any(ready in line for line in process.stderr)
        process.terminate()


def test_a_worker_whose_database_does_not_exist_does_not_wait(postgresql: Server) -> None:
    url = postgresql.url.replace("/postgres?", "/nowhere?")
    command = [sys.executable, "-m", "search", "worker", "--storage", url]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.count("does not exist") == 1
    assert "again" not in ended.stderr
