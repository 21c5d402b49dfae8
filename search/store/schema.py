"""The tables of the results database, and opening it: checks, tuning, migrations. Those of the service are its own.

Optuna keeps its own tables in the same database; the names here, and that of the version table, differ from its.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from search.errors import NewerSchemaError, StorageError
from search.locations import sqlite_path, without_password

_MIGRATING = 0x73636865  # of PostgreSQL's advisory locks, the one of who brings the schema up to date
_VERSION_TABLE = "crosslayer_version"
SCHEMA = "0007"  # the newest file in search/store/migrations/versions
_RECONNECT_S = (0.5, 1, 2, 4, 8, 15)  # pauses between tries to reach a server that was there before: half a minute
# What a person can do about a reason that a database gives.
_REMEDIES = {
    "full": "Make room on its disk",
    "locked": "End what has been writing to it for more than a minute",
    "refused": "See that its server runs",
    "terminating connection": "See that its server runs",
    "closed the connection": "See that its server runs",
}
# Optuna's tables, so that a database of its own is not mistaken for a foreign one.
_OPTUNA_TABLE = re.compile("alembic_version|version_info|stud(y|ies)(_.*)?|trials?(_.*)?")


class Base(DeclarativeBase):
    """Collects the tables."""


class SearchRow(Base):
    """A search."""

    __tablename__ = "searches"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(200), unique=True)
    task: Mapped[str] = mapped_column(sa.String(500))
    hardware: Mapped[str] = mapped_column(sa.String(500))
    seed: Mapped[int]
    budget: Mapped[int]
    population_size: Mapped[int]
    min_accuracy: Mapped[float | None]
    multipliers: Mapped[list[str] | None] = mapped_column(sa.JSON(none_as_null=True))
    settings: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    space: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class EvaluationRow(Base):
    """An evaluation, under the content hash of all it depends on."""

    __tablename__ = "evaluations"
    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    version: Mapped[int]
    task: Mapped[str] = mapped_column(sa.String(500))
    hardware: Mapped[str] = mapped_column(sa.String(500))
    effort: Mapped[str] = mapped_column(sa.String(20))
    stopped: Mapped[bool]
    seed: Mapped[int]
    candidate_key: Mapped[str] = mapped_column(sa.String(64))
    own_multipliers: Mapped[str | None] = mapped_column(sa.String(1000))  # that do not come along: a JSON list
    accuracy: Mapped[float]
    energy_pj: Mapped[float]
    content: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    test_accuracies: Mapped[list[float] | None] = mapped_column(sa.JSON(none_as_null=True))
    created_at: Mapped[datetime]
    # Holds all that a front is found by, so that no row is read for it: rows are large.
    __table_args__ = (
        sa.Index(
            "evaluations_by_energy",
            *("task", "hardware", "effort", "version", "stopped", "energy_pj", "accuracy", "key", "seed"),
            "own_multipliers",
        ),
        sa.Index(
            "evaluations_by_candidate", "candidate_key", "task", "hardware", "effort", "version", "stopped", "key"
        ),
    )


class TrialRow(Base):
    """Which evaluation, or which error, ended a trial of a search."""

    __tablename__ = "search_evaluations"
    search_id: Mapped[int] = mapped_column(sa.ForeignKey("searches.id"), primary_key=True)
    trial_number: Mapped[int] = mapped_column(primary_key=True)
    evaluation_key: Mapped[str | None] = mapped_column(sa.ForeignKey("evaluations.key"))
    error: Mapped[str | None] = mapped_column(sa.Text)


class ConfirmationRow(Base):
    """One fresh run of a candidate; see `search.answers.confirmation`."""

    __tablename__ = "confirmation_runs"
    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    run: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    task: Mapped[str] = mapped_column(sa.String(500))
    hardware: Mapped[str] = mapped_column(sa.String(500))
    effort: Mapped[str] = mapped_column(sa.String(20))
    candidate_key: Mapped[str] = mapped_column(sa.String(64))
    content: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    created_at: Mapped[datetime]
    __table_args__ = (sa.Index("confirmation_runs_by_candidate", "candidate_key"),)


def open_engine(url: str, *, create: bool, patient: bool = True) -> Engine:
    """Open the database and bring its schema up to date.

    Args:
        url: SQLAlchemy URL.
        create: Whether to make an SQLite file that does not exist.
        patient: Whether to wait for a server that restarts, for half a minute; else its absence is an error at once.

    Raises:
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
    """How SQLAlchemy has to open a database: patiently where it is locked, and sure that a connection still works."""
    if sqlite_path(url) is not None:
        return {"connect_args": {"timeout": 60}}
    # A server's machine that is gone is noticed in half a minute; by itself a connection waits for hours.
    alive = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "connect_timeout": 10}
    return {"pool_pre_ping": True, "connect_args": alive if url.startswith("postgresql") else {}}


def outlive_restarts(engine: Engine) -> None:
    """Have a server that was reached before be reached again: for half a minute, as long as a restart may take."""
    if engine.dialect.name == "sqlite":
        return

    @sa.event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _: object, arguments: list[Any], options: dict[str, Any]) -> Any:
        for pause_s in _RECONNECT_S:
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
    """Let readers and one writer of an SQLite file work at the same time, and commit without waiting for the disk.

    A power cut may lose the last commits but never damages the file (https://www.sqlite.org/wal.html).
    """

    @sa.event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    engine.dispose()  # connections made before do not count


def _migrate(connection: Connection, url: str) -> None:
    """Bring the schema up to date, and refuse a database that is not ours."""
    if stored_schema(connection) == SCHEMA:
        return
    if connection.dialect.name == "sqlite":
        # Python's sqlite3 would commit each table by itself; a kill in between would leave half a schema.
        driver_connection: Any = connection.connection.dbapi_connection
        driver_connection.isolation_level = None
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))  # others wait, and find it done
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
    """The schema of a database; None if it has none of ours."""
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        return None
    version: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608
    return version


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn SQLAlchemy's errors into ours, with the database's own reason and what can be done about it."""
    try:
        yield
    except SQLAlchemyError as error:
        raise storage_error(url, error) from error


def storage_error(url: str, error: BaseException) -> StorageError:
    """The error of ours for one of SQLAlchemy, or of what uses it."""
    first: DatabaseError | None = None
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:  # what fails after it, such as to roll back, tells nothing
        seen.add(id(link))
        if isinstance(link, DatabaseError):
            first = link
        link = link.__cause__ or link.__context__
    if first is None:
        return StorageError(f"cannot use the results database {without_password(url)}: {error}")
    reason = (str(first.orig).strip().splitlines() or [type(first.orig).__name__])[0]
    remedies = [remedy for word, remedy in _REMEDIES.items() if word in reason]
    what_next = f". {remedies[0]}; a search that was stopped goes on with: search resume" if remedies else ""
    return StorageError(f"cannot use the results database {without_password(url)}: {reason}{what_next}")
