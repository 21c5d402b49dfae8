"""The Python client against a real service."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from service.client import AsyncClient, Client, Event, JobFailedError, ServiceError
from service.jobs import JobState, JobStore
from service.schemas import JobSchema, OptimizeRequest, OptimizeResponse
from tests.service.stored import SPACE, store_results
from tests.service.test_cli import free_port, serving

ASKED = OptimizeRequest(dataset="digits", min_accuracy=0.9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Of a service with confirmed results, and no worker."""
    store_results(folder / "results.db")
    with serving("--storage", folder / "results.db", "--no-worker") as (address, _):
        yield address


@pytest.fixture
def jobs(address: str, folder: Path) -> Iterator[JobStore]:
    with JobStore.open(f"sqlite:///{folder / 'results.db'}") as store:
        yield store


def work(jobs: JobStore, state: JobState, *, error: str | None = None) -> threading.Thread:
    """What a worker would do: claim the next job, and end it."""

    def run() -> None:
        while (job := jobs.claim("w", lease_s=30)) is None:
            pass
        jobs.note(job, "w", "evaluated", {"number": 1}, evaluations=1)
        jobs.finish(job, "w", state, confirmed=False, error=error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_what_is_stored(address: str) -> None:
    with Client(address) as client:
        answer = client.optimize("digits", min_accuracy=0.9)
        assert answer.confirmed
        best = answer.configurations[0]
        assert best.saving == pytest.approx(4)
        assert client.front("digits", select="cheapest").configurations[0].id == best.id
        assert client.evaluation(best.id).candidate == best.candidate
        assert client.energy(SPACE.baseline().to_dict(), dataset="digits").saving == pytest.approx(1)
        assert "digits" in [one.name for one in client.datasets()]
        assert sum(one.default for one in client.hardware()) == 1
        assert "exact" in [one.name for one in client.multipliers()]


def test_a_search_is_followed_to_its_end(address: str, jobs: JobStore) -> None:
    worker = work(jobs, JobState.FINISHED)
    told: list[Event] = []
    with Client(address) as client:
        answer = client.optimize("digits", min_accuracy=1.0, told=told.append)
    worker.join()
    assert not answer.confirmed
    assert answer.configurations == []
    assert [event.number for event in told] == [1, 2, 3, 4]
    assert [event.kind for event in told] == ["state", "state", "evaluated", "state"]


def test_a_search_that_fails(address: str, jobs: JobStore) -> None:
    worker = work(jobs, JobState.FAILED, error="the disk is full")
    with Client(address) as client, pytest.raises(JobFailedError, match="failed: the disk is full") as caught:
        client.optimize("digits", min_accuracy=0.999)
    worker.join()
    assert caught.value.job.state is JobState.FAILED


def test_jobs(address: str) -> None:
    with Client(address) as client:
        job = client.search(ASKED, idempotency_key="k")
        assert client.search(ASKED, idempotency_key="k").id == job.id
        assert client.job(job.id).state is JobState.QUEUED
        assert client.jobs(limit=1).jobs[0].id == job.id
        assert client.cancel(job.id).state is JobState.CANCELLED
        assert [event.data["state"] for event in client.events(job.id)] == ["queued", "cancelled"]
        assert client.resume(job.id).state is JobState.QUEUED
        client.cancel(job.id)
        client.delete(job.id)
        with pytest.raises(ServiceError, match=f"404: there is no job '{job.id}'") as caught:
            client.job(job.id)
        assert caught.value.status == 404


def test_what_cannot_be_asked(address: str) -> None:
    with Client(address) as client:
        with pytest.raises(ServiceError, match="did you mean 'digits'") as caught:
            client.optimize("digit", min_accuracy=0.9)
        assert [one.pointer for one in caught.value.problem.errors or ()] == ["#/dataset"]
        with pytest.raises(ValueError, match="give one of min_accuracy and max_accuracy_drop"):
            client.optimize("digits")
    with Client(f"http://127.0.0.1:{free_port()}") as nobody, pytest.raises(httpx2.TransportError):
        nobody.datasets()


def test_the_same_from_asyncio(address: str, jobs: JobStore) -> None:
    async def ask() -> tuple[OptimizeResponse, OptimizeResponse, JobSchema, list[Event]]:
        told: list[Event] = []
        async with AsyncClient(address) as client:
            stored, searched = await asyncio.gather(
                client.optimize("digits", min_accuracy=0.9),
                client.optimize("digits", min_accuracy=1.0, seed=5, told=told.append),
            )
            job = await client.search(ASKED)
            await client.cancel(job.id)
            page = await client.jobs(limit=1)
            assert page.jobs[0].id == job.id
            await client.delete(job.id)
            with pytest.raises(ServiceError, match="404"):
                await client.job(job.id)
            best = stored.configurations[0]
            assert (await client.evaluation(best.id)).id == best.id
            assert (await client.front("digits")).baseline == stored.baseline.model_copy(update={"confirmation": None})
            assert (await client.energy(best.candidate, dataset="digits")).saving > 1
            assert len(await client.datasets()) > 1
            assert len(await client.hardware()) > 1
            assert len(await client.multipliers()) > 1
            return stored, searched, job, told

    worker = work(jobs, JobState.FINISHED)
    stored, searched, job, told = asyncio.run(ask())
    worker.join()
    assert stored.confirmed
    assert searched.configurations == []
    assert [event.number for event in told] == [1, 2, 3, 4]
    assert job.state is JobState.QUEUED


def test_a_killed_service_loses_no_event(tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    port = free_port()
    told: list[Event] = []
    with Client(f"http://127.0.0.1:{port}") as client, JobStore.open(f"sqlite:///{database}") as jobs:
        with serving("--storage", database, "--no-worker", port=port) as (_, process):
            job = client.search(ASKED)
            held = jobs.claim("w", lease_s=60)
            assert held is not None
            following = threading.Thread(target=lambda: told.extend(client.events(job.id)))
            following.start()
            jobs.note(held, "w", "note", {"text": "before"})
            process.send_signal(signal.SIGKILL)
            process.wait()
            jobs.note(held, "w", "note", {"text": "meanwhile"})
        with serving("--storage", database, "--no-worker", port=port):
            jobs.note(held, "w", "note", {"text": "after"})
            jobs.finish(held, "w", JobState.FINISHED, confirmed=False)
            following.join(timeout=30)
    assert [event.number for event in told] == [1, 2, 3, 4, 5, 6]
    assert [event.data["text"] for event in told if event.kind == "note"] == ["before", "meanwhile", "after"]


def test_keys(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from search.cli import cli

    database = tmp_path / "results.db"
    store_results(database)
    secret = CliRunner().invoke(cli, ["keys", "create", "anna", "--storage", str(database)]).stdout.strip()
    with serving("--storage", database, "--no-worker", "--require-keys") as (address, _):
        with Client(address) as client, pytest.raises(ServiceError, match="401: a key is needed"):
            client.optimize("digits", min_accuracy=0.9)
        with Client(address, key=secret) as client:
            assert client.optimize("digits", min_accuracy=0.9).confirmed
