"""The commands of the service, as processes."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from search.cli.main import cli
from search.store.schema import SCHEMA
from service.job_state import JobState
from tests.support.serving import call, serving, session_of
from tests.support.stored import opened_jobs


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def test_keys_are_made_listed_and_revoked(database: Path) -> None:
    made = invoke("keys", "create", "anna", "--scope", "read", "--storage", database)
    assert made.exit_code == 0
    assert made.stdout.startswith("crosslayer_")
    again = invoke("keys", "create", "anna", "--storage", database)
    assert again.exit_code == 2
    assert "there is a key named 'anna'" in again.stderr
    assert "letters, digits" in invoke("keys", "create", "an na", "--storage", database).stderr
    assert "anna\tread\t" in invoke("keys", "list", "--storage", database).stdout
    assert invoke("keys", "revoke", "anna", "--storage", database).exit_code == 0
    assert "revoked" in invoke("keys", "list", "--storage", database).stdout
    unknown = invoke("keys", "revoke", "ben", "--storage", database)
    assert unknown.exit_code == 2
    assert "search keys list" in unknown.stderr


def test_the_schema_is_brought_up_to_date(database: Path) -> None:
    found = invoke("db", "upgrade", "--storage", database)
    assert found.exit_code == 0
    assert f"has schema {SCHEMA}" in found.stdout


@pytest.mark.process
def test_other_machines_need_keys(database: Path) -> None:
    refused = invoke("serve", "--host", "0.0.0.0", "--no-keys", "--storage", database)  # noqa: S104
    assert refused.exit_code == 2
    assert "--no-keys with --host 0.0.0.0 would give access to everybody" in refused.stderr
    with serving("--storage", database, "--host", "0.0.0.0", "--no-worker") as (address, _):  # noqa: S104
        asked = {"dataset": "digits", "min_accuracy": 0.9}
        assert call(f"{address}/optimize", asked).status_code == 401
        key = invoke("keys", "create", "anna", "--storage", database).stdout.strip()
        assert call(f"{address}/optimize", asked, {"Authorization": f"Bearer {key}"}).status_code == 202


@pytest.mark.process
def test_a_proxy_on_this_machine_needs_keys_too(database: Path) -> None:
    refused = invoke("serve", "--public-host", "results.example", "--no-keys", "--storage", database)
    assert "--no-keys with --public-host results.example would give access to everybody" in refused.stderr
    with serving("--storage", database, "--public-host", "results.example", "--no-worker") as (address, _):
        asked = {"dataset": "digits", "min_accuracy": 0.9}
        assert call(f"{address}/optimize", asked, {"Host": "results.example"}).status_code == 401
        assert call(f"{address}/healthz", headers={"Host": "elsewhere.example"}).status_code == 421


@pytest.mark.process
@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_any_address_of_this_machine(database: Path, host: str) -> None:
    url_host = f"[{host}]" if ":" in host else host
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")
    with serving("--storage", database, "--host", host, "--no-worker", host=url_host) as (address, _):
        assert call(f"{address}/healthz").json()["status"] == "ok"


@pytest.mark.process
def test_ctrl_c_ends_the_server_and_returns_its_job_to_the_queue(database: Path, cache: Path) -> None:
    with serving("--storage", database, "--workers", 0, "--cache", cache) as (address, process):
        asked = {"dataset": "digits", "max_accuracy_drop": 0.9, "effort": "quick"}
        job = call(f"{address}/optimize", asked).json()["id"]
        deadline = time.monotonic() + 60
        while not call(f"{address}/v1/jobs/{job}").json()["evaluations"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        process.wait(timeout=60)
        assert not session_of(process.pid)
    with opened_jobs(f"sqlite:///{database}") as (queue, _):
        assert queue.find(job).state is JobState.QUEUED


def test_a_port_that_is_taken(database: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = invoke("serve", "--no-worker", "--storage", database, "--port", taken.getsockname()[1])
    assert found.exit_code == 2
    assert "Address already in use; choose another --port" in found.stderr


@pytest.mark.process
def test_serving_and_its_worker(database: Path, cache: Path) -> None:
    """One command answers, runs a job, and leaves no process behind."""
    with serving("--storage", database, "--workers", 0, "--cache", cache) as (address, process):
        asked = {"dataset": "digits", "max_accuracy_drop": 0.9, "budget": 3, "effort": "quick"}
        answer = call(f"{address}/optimize", asked, {"Prefer": "wait=60"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["confirmed"] is True
        assert call(f"{address}/readyz").json()["workers"] == 1
        members = session_of(process.pid)
        assert len(members) >= 2
    deadline = time.monotonic() + 20
    while session_of(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)
