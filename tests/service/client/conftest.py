"""Both clients, and a server with scripted replies."""

import threading
from collections.abc import Iterator

import pytest

from service.client import ClientError
from service.client.errors import Retries
from tests.support.scripted_server import Do, Script, awaited, blocking


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the clients would have made; they make none."""
    made: list[float] = []
    pause_s = Retries.pause_s

    def noted(self: Retries, error: ClientError) -> float | None:
        found = pause_s(self, error)
        if found is None:
            return None
        made.append(found)
        return 0.0

    monkeypatch.setattr(Retries, "pause_s", noted)
    return made


@pytest.fixture(params=[blocking, awaited], ids=["Client", "AsyncClient"])
def do(request: pytest.FixtureRequest) -> Do:
    found: Do = request.param
    return found
