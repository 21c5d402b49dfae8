"""The results database as the service uses it: an engine, and transactions on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, sessionmaker

from search.errors import ServerAwayError
from search.store.schema import RECONNECT_S, open_engine, storage_errors

T = TypeVar("T")


class Database:
    """A results database. Open it with `Database.open`, close it after use; threads may share it.

    Attributes:
        url: SQLAlchemy URL.
        engine: Its connections.
    """

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    @classmethod
    def open(cls, url: str, *, patient: bool = True) -> Database:
        """Open the database, creating it if it does not exist.

        Args:
            url: SQLAlchemy URL.
            patient: Whether to wait for a server that restarts meanwhile; see `search.store.schema.open_engine`.

        Raises:
            StorageError: If it cannot be used.
        """
        return cls(url, open_engine(url, create=True, patient=patient))

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A transaction, committed at the end of the block.

        Raises:
            StorageError: If the database fails.
        """
        with storage_errors(self.url), self._sessions.begin() as session:
            yield session

    @contextmanager
    def exclusive_transaction(self) -> Iterator[Session]:
        """A transaction in which what was read stays true until it is written.

        Raises:
            StorageError: If the database fails.
        """
        with self.transaction() as session:
            if self.engine.dialect.name == "sqlite":
                # Python's sqlite3 begins a transaction only at the first write, and SQLite has no row locks.
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session

    def seconds(self, session: Session) -> float:
        """Seconds since 1970, by the clock that all users of the database share."""
        if self.engine.dialect.name == "sqlite":
            return time.time()
        return float(session.scalar(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))) or 0.0)


def once_reachable(start: Callable[[], T], *, log: Callable[[str], None]) -> T:
    """Start what needs the database of a server that may be restarting too: try for half a minute.

    Args:
        start: Opens the database.
        log: Called with each reason to try again.

    Raises:
        StorageError: If it cannot be used.
    """
    for pause_s in RECONNECT_S:
        try:
            return start()
        except ServerAwayError as error:
            log(f"{error} (trying again in {pause_s:g} s)")
            time.sleep(pause_s)
    return start()
