"""Fixtures that more than one room uses."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from approx.multipliers import catalog
from energy import cost_table
from tests.support.browser import Browser, find_browser
from tests.support.postgresql import Server, running_server

TEST_DATA_VARIABLE = "CROSSLAYER_TEST_DATA"


_STARTING = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}  # audit events
_STARTING_FIXTURES = {"browser", "postgresql"}
_started: list[str] = []


def _note_started(event: str, arguments: tuple[object, ...]) -> None:
    # matplotlib lists the fonts where its cache is empty, in whichever test draws first.
    if event in _STARTING and "fc-list" not in arguments:
        _started.append(f"{event}: {arguments[0]}" if arguments else event)


# torch's compiler asks `uname` for the processor, in whichever test loads it first; the answer is kept.
platform.uname().processor  # noqa: B018

sys.addaudithook(_note_started)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests whose fixtures start a process, and order all: slow ones first, for they would be waited for last."""
    for item in items:
        if isinstance(item, pytest.Function) and _STARTING_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.process)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _processes_are_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that starts a process and is not marked so, for `make quick` would run it."""
    _started.clear()
    yield
    if request.node.get_closest_marker("process") is None:
        assert _started == [], "mark this test with pytest.mark.process"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the results and datasets of the person who runs them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg-data"))
    for variable in (
        "CROSSLAYER_STORAGE",
        "CROSSLAYER_DATA_DIR",
        "CROSSLAYER_MULTIPLIER_DIR",
        "CROSSLAYER_IMAGE_DIR",
        "CROSSLAYER_CACHE",
        "CROSSLAYER_CACHE_LIMIT",
    ):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def _own_multipliers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a test registers in this process from the tests after it."""
    monkeypatch.setattr(catalog, "_registered", dict(catalog._registered))
    monkeypatch.setattr(cost_table, "_known", cost_table.known_costs())


@pytest.fixture
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser, in which the tests of a module open pages."""
    path = find_browser()
    if path is None:
        pytest.skip("needs a browser: chromium or google-chrome")
    with Browser(path, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder with the real MNIST archives, named by an environment variable."""
    folder = os.environ.get(TEST_DATA_VARIABLE)
    if not folder or not (Path(folder) / "MNIST" / "raw").is_dir():
        pytest.skip(f"needs real MNIST files: set {TEST_DATA_VARIABLE} to a folder that holds MNIST/raw")
    return Path(folder)


@pytest.fixture(scope="session")
def real_cifar10(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real CIFAR-10 in its binary version, from the program beside MNIST."""
    fetch = real_data / "fetch-cifar10"
    if not os.access(fetch, os.X_OK):
        pytest.skip(f"needs a program {fetch} that puts CIFAR-10's binary version into a folder")
    folder = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, fetch, folder], check=True, capture_output=True)
    return folder
