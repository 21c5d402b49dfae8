"""A search survives what happens to it: each test injects one accident, with real processes where one is meant.

What a search finds is a function of its seed, so whatever the accident, it ends like one that nothing happened to.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import TrialState

import search
from search.answers.result import SearchResult
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.errors import StorageError
from search.observer import Observer
from search.sampling.asker import GENERATION
from search.space.candidate import Candidate
from search.space.task import find_task
from search.store.database import Store
from search.store.records import Record
from search.store.studies import open_study
from tests.support.postgresql import Server

BUDGET = 11  # a generation, and one evaluation of the next
SEED = 3
TECHNIQUES = ("network", "multiplier")
SEARCH = [sys.executable, "-m", "search"]
# Each network takes as long to build as a test wants: what has to be interrupted must not be over before.
NETWORK = """
import os, time
from torch import nn

def build(image_shape, classes, depth, width):
    time.sleep(float(os.environ.get("BUILDING_S", "0")))
    hidden = [layer for _ in range(depth) for layer in (nn.LazyLinear(4 * width), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.LazyLinear(classes))
"""
POISON = """
import os, time
import torch
from torch import nn

class Poison(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width

    def forward(self, images):
        if self.width == 1:
            time.sleep(3600)
        if self.width == 2:
            os._exit(1)
        if self.width == 3:
            raise MemoryError("no room for it")
        return images * torch.nan if self.width == 4 else images

def build(image_shape, classes, depth, width):
    pixels = image_shape[1] * image_shape[2]
    poison = Poison(width if depth == 2 else 0)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 8), poison, nn.ReLU(), nn.Linear(8, classes))
"""
Ends = list[tuple[int, dict[str, Any], list[float]]]


def ends(database: Path | str) -> Ends:
    """The trials of a search that have ended with an evaluation."""
    url = str(database) if "://" in str(database) else f"sqlite:///{database}"
    with Store.open(url, create=False) as store:
        storage = RDBStorage(url)
        found = open_study(url, store.searches.find("mine"), storage).get_trials(states=[TrialState.COMPLETE])
        storage.remove_session()
        storage.engine.dispose()
    return [(trial.number, trial.params, trial.values) for trial in found]


def front(result: SearchResult) -> list[tuple[str, float, tuple[float, ...] | None]]:
    return [(record.key, record.evaluation.accuracy, record.test_accuracies) for record in result.front]


def run(
    storage: Path | str,
    *,
    workers: int = 0,
    cache: Path | None = None,
    observer: Observer | None = None,
) -> SearchResult:
    return search.run(
        budget=BUDGET,
        seed=SEED,
        effort="quick",
        options=SearchOptions(name="mine", techniques=TECHNIQUES, confirm=False, fresh=True),
        workplace=Workplace(storage=str(storage), workers=workers, cache=cache),
        observer=observer,
    )


def resume(storage: Path | str) -> SearchResult:
    return search.resume("mine", confirm=False, workplace=Workplace(storage=str(storage), workers=0))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ends, list[Any]]:
    """What a search finds that nothing happens to."""
    storage = tmp_path_factory.mktemp("undisturbed") / "results.db"
    result = run(storage)
    found = ends(storage)
    assert len(found) == BUDGET
    return found, front(result)


def begin(storage: Path, *options: str, budget: int = BUDGET, **environment: str) -> subprocess.Popen[str]:
    """A search in a process of its own."""
    command = ["run", "--budget", str(budget), "--seed", str(SEED), "--effort", "quick", "--name", "mine", "--fresh"]
    command += ["--techniques", ",".join(TECHNIQUES)]
    return subprocess.Popen(
        [*SEARCH, *command, "--no-confirm", "--storage", str(storage), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd(), **environment},
        cwd=storage.parent,
    )


def evaluations(storage: Path) -> int:
    """How many are stored, without making anything of a database that is not there yet."""
    try:
        with sqlite3.connect(f"file:{storage}?mode=ro", uri=True) as connection:
            (count,) = connection.execute("SELECT count(*) FROM search_evaluations").fetchone()
    except sqlite3.OperationalError:
        return 0
    else:
        return int(count)
    finally:
        if "connection" in locals():
            connection.close()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(2400):
        if condition():
            return
        if process.poll() is not None:
            raise AssertionError(f"ended too early: {process.communicate()}")
        time.sleep(0.05)
    raise AssertionError("it takes too long")


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Number and name of all processes that a process began."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = stat.read_text().split(" (", 1)
        except OSError:  # it ended meanwhile
            continue
        name, rest = rest.rsplit(") ", 1)
        parents.setdefault(int(rest.split()[1]), []).append((int(number), name))
    left = [pid]
    while left:
        for child in parents.get(left.pop(), []):
            left.append(child[0])
            yield child


class Once(Observer):
    """Does something when the first evaluation is there, and notes what fails."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act
        self.errors: list[str] = []

    def evaluated(self, record: Record, *, reused: bool) -> None:
        if self._act is not None:
            act, self._act = self._act, None
            act()

    def failed(self, candidate: Candidate, error: str) -> None:
        self.errors.append(error)


@pytest.mark.process
@pytest.mark.slow
def test_kills_of_the_process_at_any_moment_change_nothing(undisturbed: tuple[Ends, list[Any]], tmp_path: Path) -> None:
    storage = tmp_path / "results.db"
    moment = random.Random(7)  # noqa: S311  any moments will do
    options: list[str] = []
    for _ in range(3):
        before = evaluations(storage)
        with begin(storage, "--workers", "0", *options) as process:
            wait_for(lambda before=before: evaluations(storage) > before, process)  # type: ignore[misc]
            time.sleep(moment.uniform(0, 0.6))
            process.kill()
            process.communicate()
        options = ["--resume"]
    kept = ends(storage)
    assert kept
    result = resume(storage)
    assert all(one in ends(storage) for one in kept)
    assert (ends(storage), front(result)) == undisturbed


@pytest.mark.process
@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_search_changes_nothing(
    undisturbed: tuple[Ends, list[Any]], tmp_path: Path
) -> None:
    storage = tmp_path / "results.db"
    killed: list[int] = []

    def kill_workers() -> None:
        killed.extend(pid for pid, name in descendants(os.getpid()) if name.startswith("ray::_Worker"))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    observer = Once(kill_workers)
    result = run(storage, workers=2, observer=observer)
    assert len(killed) == 2
    assert observer.errors == []
    assert (ends(storage), front(result)) == undisturbed


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["gcs_server", "raylet"])
def test_without_ray_a_search_says_so_and_can_be_resumed(victim: str, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETWORK)
    storage, budget = tmp_path / "results.db", 2 * BUDGET  # more than is evaluated until the loss is noticed
    with begin(storage, "--workers", "2", "--network", "nets:build", budget=budget, BUILDING_S="1") as process:
        wait_for(lambda: evaluations(storage) > 0, process)
        (pid,) = [pid for pid, name in descendants(process.pid) if name == victim]
        os.kill(pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "Ray was lost" in errors
    assert "Finished evaluations are stored; continue with: search resume" in errors
    kept = ends(storage)
    assert 0 < len(kept) < budget
    if victim == "raylet":  # what is left is the same
        return
    done = subprocess.run(
        [*SEARCH, "resume", "mine", "--workers", "0", "--no-confirm", "--storage", str(storage), "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert json.loads(done.stdout)["name"] == "mine", done.stderr
    after = ends(storage)
    assert len(after) == budget
    assert all(one in after for one in kept)


@pytest.mark.process
@pytest.mark.slow
def test_candidates_that_hang_or_kill_or_fail_are_given_up_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "poison.py").write_text(POISON)
    storage = tmp_path / "results.db"
    baseline = find_task("digits").space.baseline()
    poison = [replace(baseline, family="poison:build", depth=2, width=width) for width in (1, 2, 3, 4)]
    observer = Once(lambda: None)
    result = search.run(
        network="poison:build",
        budget=3,
        seed=SEED,
        effort="quick",
        options=SearchOptions(name="mine", techniques=TECHNIQUES, starts=poison, confirm=False, fresh=True),
        workplace=Workplace(storage=str(storage), workers=2, timeout_s=6),
        observer=observer,
    )
    assert result.finished == 3
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        stored = [end.error for end in store.searches.trial_ends(result.search) if end.error is not None]
    assert len(stored) == len(poison)
    assert sorted(stored) == sorted(observer.errors)
    for reason in (
        "tried 2 times; it took more than 6 s",
        "tried 2 times; its worker died",
        "MemoryError: no room for it",
        "DivergedError: the loss became nan",
    ):
        assert any(reason in error for error in stored), stored


UNBUILDABLE = """
import os, time
from torch import nn

def build(image_shape, classes, width):
    if width == 1:
        time.sleep(3600)
    if width == 2:
        os._exit(1)
    if width == 3:
        raise MemoryError("no room for it")
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.ReLU(), nn.LazyLinear(classes))
"""


@pytest.mark.process
@pytest.mark.slow
def test_networks_whose_building_hangs_or_kills_or_fails_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What children would cost is found where they are evaluated: the driver survives whatever builds them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "unbuildable.py").write_text(UNBUILDABLE)
    result = search.run(
        network="unbuildable:build",
        budget=14,
        seed=SEED,
        effort="quick",
        options=SearchOptions(name="mine", techniques=("network", "multiplier"), confirm=False, fresh=True),
        workplace=Workplace(storage=str(tmp_path / "results.db"), workers=2, timeout_s=6),
    )
    assert result.finished == 14
    asked = open_study(f"sqlite:///{tmp_path / 'results.db'}", result.search).get_trials()
    later = [trial for trial in asked if trial.user_attrs[GENERATION] > 0]
    assert later
    assert all(trial.params["width"] > 3 for trial in later)
    for width, reason in (
        (1, "tried 2 times; it took more than 6 s"),
        (2, "tried 2 times; its worker died"),
        (3, "failed: MemoryError: no room for it"),
    ):
        assert any(f"of depth 1 and width {width}, which" in text and reason in text for text in caplog.messages)


@pytest.mark.process
@pytest.mark.slow
def test_a_search_waits_for_a_locked_database(undisturbed: tuple[Ends, list[Any]], tmp_path: Path) -> None:
    storage = tmp_path / "results.db"
    held: list[float] = []

    def lock() -> None:
        connection = sqlite3.connect(storage, check_same_thread=False, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()

        def release() -> None:
            held.append(time.monotonic() - began)
            connection.execute("ROLLBACK")
            connection.close()

        threading.Timer(3, release).start()

    began = time.monotonic()
    result = run(storage, observer=Once(lock))
    assert held
    assert time.monotonic() - began > held[0] >= 3
    assert (ends(storage), front(result)) == undisturbed


@pytest.mark.slow
def test_a_full_disk_under_the_database_ends_a_search_that_goes_on_afterwards(
    undisturbed: tuple[Ends, list[Any]], tmp_path: Path
) -> None:
    storage = tmp_path / "results.db"
    full = False

    def limit(connection: sa.Connection, *_: object) -> None:
        if connection.dialect.name == "sqlite":
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages if full else 2**30}")

    def fill() -> None:
        nonlocal full
        full = True

    sa.event.listen(sa.Engine, "begin", limit)
    try:
        with pytest.raises(
            StorageError,
            match=r"results\.db: database or disk is full\. Make room on its disk; resume .* with: search resume$",
        ):
            run(storage, observer=Once(fill))
        kept = ends(storage)
        full = False
        result = resume(storage)
    finally:
        sa.event.remove(sa.Engine, "begin", limit)
    assert 0 < len(kept) < BUDGET
    assert (ends(storage), front(result)) == undisturbed


@pytest.mark.slow
def test_networks_that_cannot_be_kept_any_more_cost_time_only(
    undisturbed: tuple[Ends, list[Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage, cache = tmp_path / "results.db", tmp_path / "stages"

    def lose_the_folder() -> None:
        shutil.rmtree(cache)
        cache.touch()

    result = run(storage, cache=cache, observer=Once(lose_the_folder))
    (warning,) = caplog.messages
    assert "trained networks cannot be cached" in warning
    assert (ends(storage), front(result)) == undisturbed


@pytest.mark.slow
def test_a_search_outlives_a_restart_of_postgresql(
    undisturbed: tuple[Ends, list[Any]], postgresql: Server, tmp_path: Path
) -> None:
    started: list[float] = []

    def restart() -> None:
        postgresql.stop()
        began = time.monotonic()

        def start() -> None:
            postgresql.start()
            started.append(time.monotonic() - began)

        threading.Timer(2, start).start()

    result = run(postgresql.url, cache=tmp_path / "stages", observer=Once(restart))
    assert started
    assert (ends(postgresql.url), front(result)) == undisturbed
