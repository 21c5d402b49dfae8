"""The Python client against a real service."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np
import pytest

from service.client import (
    AsyncClient,
    Client,
    Event,
    JobFailedError,
    JobState,
    OptimizeRequest,
    ServiceError,
    UnreachableError,
)
from service.leases import Leases
from service.schemas import EvaluationSchema, FrontSchema, HardwareSchema, JobSchema, OptimizeResponse
from tests.project.test_imports import loaded_by
from tests.service.test_uploads import MINE
from tests.support.serving import free_port, serving
from tests.support.stored import SPACE, opened_jobs, store_results

pytestmark = pytest.mark.slow

ASKED = OptimizeRequest(dataset="digits", min_accuracy=0.9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The address of a service with confirmed results and no worker."""
    store_results(folder / "results.db")
    with serving("--storage", folder / "results.db", "--no-worker") as (address, _):
        yield address


@pytest.fixture
def leases(address: str, folder: Path) -> Iterator[Leases]:
    with opened_jobs(f"sqlite:///{folder / 'results.db'}") as (_, leases):
        yield leases


def work(leases: Leases, state: JobState, *, error: str | None = None) -> threading.Thread:
    """Claim the next job and end it, as a worker would."""

    def run() -> None:
        while (job := leases.claim("w", lease_s=30)) is None:
            time.sleep(0.02)
        leases.note(job, "w", "evaluated", {"number": 1}, evaluations=1)
        leases.finish(job, "w", state, confirmed=False, error=error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.process
def test_what_is_stored(address: str) -> None:
    with Client(address) as client:
        answer = assert_type(client.optimize("digits", min_accuracy=0.9), OptimizeResponse)
        assert answer.confirmed
        best = answer.configurations[0]
        assert best.saving == pytest.approx(4)
        front = assert_type(client.front("digits", min_accuracy=0.9, select="cheapest"), FrontSchema)
        assert front.configurations[0].id == best.id
        assert client.front("digits", min_accuracy=0.9999).configurations == []
        assert client.techniques("digits").techniques["network"][0].id == best.id
        evaluation = assert_type(client.evaluation(best.id), EvaluationSchema)
        assert evaluation.candidate == best.candidate
        assert json.loads(client.export(best.id))["id"] == best.id
        assert client.energy(SPACE.baseline().to_dict(), dataset="digits").saving == pytest.approx(1)


def test_what_there_is_to_choose_from(address: str) -> None:
    with Client(address) as client:
        assert "digits" in [one.name for one in client.datasets()]
        assert sum(one.default for one in assert_type(client.hardware(), list[HardwareSchema])) == 1
        assert "exact" in [one.name for one in client.multipliers()]
        hardware = client.upload_hardware(MINE)
        assert hardware in client.hardware()
        table = np.multiply.outer(np.arange(16), np.arange(16))
        multiplier = client.upload_multiplier("mine", table, relative_energy=0.5, relative_area=0.5)
        assert multiplier in client.multipliers()
        with pytest.raises(TypeError):
            client.upload_multiplier("mine", table / 2, relative_energy=0.5, relative_area=0.5)
        asked = OptimizeRequest(
            dataset="digits", min_accuracy=0.9, hardware=hardware.name, multipliers=[multiplier.name], space="layered"
        )
        job = client.search(asked)
        assert job.request == asked
        client.cancel(job.id)


def test_how_the_service_is(address: str) -> None:
    with Client(address) as client:
        assert not client.health().keys_required
        assert (client.readiness().status, client.readiness().workers) == ("degraded", 0)
        assert "crosslayer_evaluations 3" in client.metrics()


def test_a_search_is_followed_to_its_end(address: str, leases: Leases) -> None:
    worker = work(leases, JobState.FINISHED)
    seen: list[Event] = []
    with Client(address) as client:
        answer = client.optimize("digits", min_accuracy=1.0, on_event=seen.append)
    worker.join()
    assert not answer.confirmed
    assert answer.configurations == []
    assert [event.number for event in seen] == [1, 2, 3, 4]
    assert [event.kind for event in seen] == ["state", "state", "evaluated", "state"]


def test_a_search_that_fails(address: str, leases: Leases) -> None:
    worker = work(leases, JobState.FAILED, error="the disk is full")
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
        with pytest.raises(ServiceError, match=r"422: .*did you mean 'digits'.*#/dataset") as caught:
            client.optimize("digit", min_accuracy=0.9)
        assert [one.pointer for one in caught.value.problem.errors or ()] == ["#/dataset"]
        with pytest.raises(ValueError, match="give one of min_accuracy and max_accuracy_drop"):
            client.optimize("digits")
        with pytest.raises(ServiceError, match=r"422: .*#/candidate"):
            client.energy({"width": "wide"}, dataset="digits")
    nowhere = f"http://127.0.0.1:{free_port()}"
    with Client(nowhere, retries=0) as nobody, pytest.raises(UnreachableError, match=f"{nowhere}: .* `search serve`"):
        nobody.datasets()


def test_the_same_from_asyncio(address: str, leases: Leases) -> None:
    async def ask() -> tuple[OptimizeResponse, OptimizeResponse, JobSchema, list[Event]]:
        seen: list[Event] = []
        async with AsyncClient(address) as client:
            stored, searched = await asyncio.gather(
                client.optimize("digits", min_accuracy=0.9),
                client.optimize("digits", min_accuracy=1.0, seed=5, on_event=seen.append),
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
            front = assert_type(await client.front("digits", min_accuracy=0.9), FrontSchema)
            assert front.answer == stored
            assert (await client.energy(best.candidate, dataset="digits")).saving > 1
            assert len(await client.datasets()) > 1
            assert len(assert_type(await client.hardware(), list[HardwareSchema])) > 1
            assert len(await client.multipliers()) > 1
            return stored, searched, job, seen

    worker = work(leases, JobState.FINISHED)
    stored, searched, job, seen = asyncio.run(ask())
    worker.join()
    assert stored.confirmed
    assert searched.configurations == []
    assert [event.number for event in seen] == [1, 2, 3, 4]
    assert job.state is JobState.QUEUED


@pytest.mark.process
def test_a_killed_service_loses_no_event(tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    port = free_port()
    seen: list[Event] = []
    with Client(f"http://127.0.0.1:{port}") as client, opened_jobs(f"sqlite:///{database}") as (_, leases):
        with serving("--storage", database, "--no-worker", port=port) as (_, process):
            job = client.search(ASKED)
            held = leases.claim("w", lease_s=60)
            assert held is not None
            following = threading.Thread(target=lambda: seen.extend(client.events(job.id)))
            following.start()
            leases.note(held, "w", "note", {"text": "before"})
            process.send_signal(signal.SIGKILL)
            process.wait()
            leases.note(held, "w", "note", {"text": "meanwhile"})
        with serving("--storage", database, "--no-worker", port=port):
            leases.note(held, "w", "note", {"text": "after"})
            leases.finish(held, "w", JobState.FINISHED, confirmed=False)
            following.join(timeout=30)
    assert [event.number for event in seen] == [1, 2, 3, 4, 5, 6]
    assert [event.data["text"] for event in seen if event.kind == "note"] == ["before", "meanwhile", "after"]


@pytest.mark.process
def test_keys(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from search.cli.main import cli

    database = tmp_path / "results.db"
    store_results(database)
    secret = CliRunner().invoke(cli, ["keys", "create", "anna", "--storage", str(database)]).stdout.strip()
    with serving("--storage", database, "--no-worker", "--require-keys") as (address, _):
        with Client(address) as client, pytest.raises(ServiceError, match="401: a key is needed"):
            client.optimize("digits", min_accuracy=0.9)
        with Client(address, key=secret) as client:
            assert client.optimize("digits", min_accuracy=0.9).confirmed


@pytest.mark.process
def test_a_client_loads_no_server() -> None:
    heavy = {"fastapi", "starlette", "sqlalchemy", "numpy", "torch", "optuna", "ray", "click"}
    assert not loaded_by("import service.client") & heavy


def test_a_url_without_its_beginning() -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="begins with http:// or https://, got 'localhost:8000'"):
            kind("localhost:8000")
