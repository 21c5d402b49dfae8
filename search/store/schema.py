"""Opening the results database: checks, tuning, migrations, and errors in our terms.

Optuna keeps its own tables and its own version table in the same database, under other names.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from search.errors import NewerSchemaError, ServerAwayError, StorageError
from search.locations import sqlite_path, without_password

_MIGRATING = 0x73636865  # PostgreSQL's advisory lock, held while the schema is brought up to date
_VERSION_TABLE = "crosslayer_version"
SCHEMA = "0004"  # the newest file in search/store/migrations/versions
RECONNECT_S = (0.5, 1, 2, 4, 8, 15)  # pauses between attempts to reach a server again: half a minute
# What to do about a reason that a database gives.
_REMEDIES = {
    "full": "Make room on its disk",
    "locked": "End the process that has been writing to it for more than a minute",
}
_AWAY = (  # in PostgreSQL's reasons if its server, its socket or its container is gone, starting or ending
    "refused",
    "No such file or directory",
    "resolve host",
    "translate host name",
    "starting up",
    "shutting down",
    "recovery mode",
    "terminating connection",
    "closed the connection",
)
# Optuna's tables, so that a database with its tables alone is not mistaken for another application's.
_OPTUNA_TABLE = re.compile("alembic_version|version_info|stud(y|ies)(_.*)?|trials?(_.*)?")


def open_engine(url: str, *, create: bool, patient: bool = True) -> Engine:
    """Open the database and bring its schema up to date.

    Args:
        url: SQLAlchemy URL.
        create: Whether to create an SQLite file that does not exist.
        patient: Whether to wait up to half a minute if, once it is open, its server restarts, instead of raising an
            error at once.

    Raises:
        ServerAwayError: If its server does not respond.
        StorageError: If it cannot be opened, is not a database, or belongs to another application.
        NewerSchemaError: If it was written by a newer version.
    """
    path = sqlite_path(url)
    if path is not None:
        _check_sqlite_file(path, create)
    with storage_errors(url):
        try:
            engine = sa.create_engine(url, **engine_options(url))
        except ModuleNotFoundError as error:
            raise StorageError(
                f"{without_password(url)} needs the Python package {error.name!r}, which is not installed "
                "(for PostgreSQL: pip install 'crosslayer[postgresql]')"
            ) from None
        if path is not None:
            tune_sqlite(engine)
        with engine.begin() as connection:
            _migrate(connection, url)
    if patient:
        outlive_restarts(engine)
    return engine


def engine_options(url: str) -> dict[str, Any]:
    """SQLAlchemy's options: wait for a locked file, and check that a server's connection works before using it."""
    if sqlite_path(url) is not None:
        return {"connect_args": {"timeout": 60}}
    # Notices within half a minute that a server's machine is gone; by default a connection waits for hours.
    alive = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "connect_timeout": 10}
    return {"pool_pre_ping": True, "connect_args": alive if url.startswith("postgresql") else {}}


def outlive_restarts(engine: Engine) -> None:
    """Reconnect to a server that was reached before, trying for half a minute, which a restart may take."""
    if engine.dialect.name == "sqlite":
        return

    @sa.event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _: object, arguments: list[Any], options: dict[str, Any]) -> Any:
        for pause_s in RECONNECT_S:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError:
                time.sleep(pause_s)
        return dialect.connect(*arguments, **options)


def _check_sqlite_file(path: Path, create: bool) -> None:
    try:
        if path.is_dir():
            raise StorageError(f"{path} is a folder; give the path of an SQLite file")
        if path.exists():
            return
        if not create:
            raise StorageError(f"no results yet: there is no file {path}. Make some with: search run")
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot use the folder {path.parent}: {error.strerror}") from None


def tune_sqlite(engine: Engine) -> None:
    """Let readers and one writer use an SQLite file at the same time, and commit without waiting for the disk.

    A power cut may lose the last commits but never damages the file (https://www.sqlite.org/wal.html).
    """

    @sa.event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    engine.dispose()  # connections that were opened earlier lack the settings


def _migrate(connection: Connection, url: str) -> None:
    """Bring the schema up to date, and refuse a database that is not ours."""
    if stored_schema(connection) == SCHEMA:
        return
    if connection.dialect.name == "sqlite":
        # Python's sqlite3 would commit each table on its own; a kill in between would leave half a schema.
        driver_connection: Any = connection.connection.dbapi_connection
        driver_connection.isolation_level = None
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))  # others wait, and find the work done
    tables = set(sa.inspect(connection).get_table_names())
    version = stored_schema(connection)
    if version is not None:
        if version == SCHEMA:  # another process was faster
            return
        if version > SCHEMA:
            raise NewerSchemaError(
                f"{without_password(url)} was written by a newer version of crosslayer (schema {version}, this one "
                f"knows {SCHEMA}); install that version, or give another `storage`"
            )
    elif foreign := sorted(name for name in tables if not _OPTUNA_TABLE.fullmatch(name)):
        raise StorageError(
            f"{without_password(url)} belongs to another application: it holds the table {foreign[0]!r}. "
            "Give another `storage`"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, SCHEMA)


def stored_schema(connection: Connection) -> str | None:
    """The schema version of a database; None if it does not have our tables."""
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        return None
    version: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608
    return version


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn SQLAlchemy's errors into `StorageError`, with the database's reason and what to do about it."""
    try:
        yield
    except SQLAlchemyError as error:
        raise storage_error(url, error) from error


def storage_error(url: str, error: BaseException) -> StorageError:
    """The `StorageError` for an error of SQLAlchemy, or of a library on top of it."""
    first: DatabaseError | None = None
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:  # the first counts: a failed rollback after it says nothing
        seen.add(id(link))
        if isinstance(link, DatabaseError):
            first = link
        link = link.__cause__ or link.__context__
    if first is None:
        return StorageError(f"cannot use the results database {without_password(url)}: {error}")
    reason = (str(first.orig).strip().splitlines() or [type(first.orig).__name__])[0]
    away = sqlite_path(url) is None and any(word in reason for word in _AWAY)
    remedies = [remedy for word, remedy in _REMEDIES.items() if word in reason]
    remedies += ["Make sure that its server is running"] * away
    what_next = f". {remedies[0]}; resume an interrupted search with: search resume" if remedies else ""
    error_type = ServerAwayError if away else StorageError
    return error_type(f"cannot use the results database {without_password(url)}: {reason}{what_next}")


class Sessions:
    """Transactions on an open database.

    Args:
        url: SQLAlchemy URL, for messages.
        engine: The open database.
    """

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self._begin = sessionmaker(engine).begin

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """One transaction.

        Raises:
            StorageError: If the database fails.
        """
        with storage_errors(self.url), self._begin() as session:
            yield session
