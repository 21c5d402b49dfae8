"""The worker beside the server lives as long as the server."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.serving import serving, session_of

pytestmark = pytest.mark.process


def test_a_killed_server_takes_its_worker_along(database: Path) -> None:
    with serving("--storage", database) as (_, process):
        deadline = time.monotonic() + 30
        while len(session_of(process.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        while session_of(process.pid):
            assert time.monotonic() < deadline + 30
            time.sleep(0.1)


def test_the_server_keeps_a_worker(database: Path) -> None:
    with serving("--storage", database) as (_, process):
        seen: set[int] = set()
        deadline = time.monotonic() + 60
        while len(seen) < 2:
            assert time.monotonic() < deadline
            for member in session_of(process.pid) - {process.pid} - seen:
                seen.add(member)
                os.kill(member, signal.SIGKILL)
            time.sleep(0.1)
        assert process.poll() is None
