"""Services on results without training: evaluations and fresh runs follow a formula."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from search.defaults import DEFAULT_HARDWARE
from search.space.candidate import Candidate
from search.space.task import find_task
from search.store.database import Store
from search.store.setup import Setup
from service.app import create_app
from service.database import Database
from service.leases import Leases
from service.queue import JobQueue
from service.settings import Settings
from tests.support.fakes import formula, fresh_run

HARDWARE = DEFAULT_HARDWARE
SETUP = Setup(task="digits", hardware=HARDWARE, effort="standard")
SPACE = find_task("digits").space
WIDTHS = (8, 4, 2)
DROP = 0.03  # at which the configurations of `store_rejected` have their verdicts
RUNS = find_task("digits").effort.confirmations


def candidate(**changes: Any) -> Candidate:
    return replace(SPACE.baseline(), **changes).canonical()


def store_results(database: Path, *, confirmed: tuple[int, ...] = WIDTHS, more: tuple[Candidate, ...] = ()) -> None:
    """Store evaluations of three widths, the baseline's first, and of `more`; fresh runs of some widths and `more`."""
    with Store.open(f"sqlite:///{database}", create=True) as store:
        for one in (*(candidate(width=width) for width in WIDTHS), *more):
            store.evaluations.record(one.key, formula(one), SETUP, seed=0)
            for run in range(RUNS if one.width in confirmed else 0):
                store.runs.record(fresh_run(one, run), SETUP)


CONFIRMED, REJECTED, RIGHT_SIZED = (replace(SPACE.baseline(), width=4, sparsity=share) for share in (0.3, 0.5, 0.0))


def store_rejected(database: Path, *, confirmed: bool = True, runs: int = RUNS) -> None:
    """Store the baseline, and three of half its width: the cheapest was lucky, the next is sound, the last right-sized.

    Args:
        database: Where to.
        confirmed: Whether fresh runs confirm the sound one; otherwise they reject it too.
        runs: Number of fresh runs of each but the last.
    """
    with Store.open(f"sqlite:///{database}", create=True) as store:
        for one in (SPACE.baseline(), CONFIRMED, REJECTED, RIGHT_SIZED):
            area = formula(one).area_mm2 * one.width / 8
            store.evaluations.record(one.key, replace(formula(one), area_mm2=area), SETUP, seed=0)
            lucky = one == REJECTED or (one == CONFIRMED and not confirmed)
            for run in range(0 if one == RIGHT_SIZED else runs):
                made = fresh_run(one, run)
                accuracies = (made.accuracy - 0.1,) if lucky else made.chip_accuracies
                store.runs.record(replace(made, chip_accuracies=accuracies), SETUP)


def client_of(database: Path, **settings: Any) -> TestClient:
    """Return a client, on this machine, of a service on a database."""
    app = create_app(Settings(storage=f"sqlite:///{database}", **settings))
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


@contextmanager
def opened_jobs(url: str) -> Iterator[tuple[JobQueue, Leases]]:
    """Open the queue of a database, as its clients and its workers see it."""
    with Database.open(url) as database:
        yield JobQueue(database), Leases(database)
