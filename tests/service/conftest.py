"""A service with confirmed results, and its queue."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from service.database import Database
from service.leases import Leases
from service.queue import JobQueue
from tests.support.postgresql import Server, running_server
from tests.support.stored import client_of, store_results


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture
def client(database: Path) -> Iterator[TestClient]:
    """A client of a service with confirmed results."""
    store_results(database)
    with client_of(database) as client:
        yield client


@pytest.fixture
def opened(database: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{database}") as opened:
        yield opened


@pytest.fixture
def queue(opened: Database) -> JobQueue:
    return JobQueue(opened)


@pytest.fixture
def leases(opened: Database) -> Leases:
    return Leases(opened)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for trained networks, which the searches of all tests here share."""
    return tmp_path_factory.mktemp("shared") / "stages"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server whose database tests empty."""
    with running_server() as found:
        yield found


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.process)])
def either_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'results.db'}"
    else:
        url = request.getfixturevalue("server").url
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        engine.dispose()
    with Database.open(url) as database:
        yield database
