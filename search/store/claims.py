"""A claim on a search, so that only one process runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

from search.content_hash import content_hash
from search.errors import SearchBusyError
from search.locations import cache_folder, sqlite_path
from search.store.records import SearchRecord
from search.store.schema import engine_options, storage_errors


@contextmanager
def claimed(search: SearchRecord, url: str) -> Iterator[None]:
    """Keep other processes from running a search; the claim ends with the process at the latest.

    In a database that is a file, or on a server other than PostgreSQL, the claim holds on this machine only. In
    PostgreSQL it holds everywhere until the server restarts.

    Args:
        search: The search.
        url: SQLAlchemy URL of its database.

    Raises:
        SearchBusyError: If another process runs it.
        StorageError: If the database cannot be used.
    """
    folder = cache_folder(url)
    folder.mkdir(parents=True, exist_ok=True)
    # Databases on servers share a folder, as do files that differ in their suffix, and searches in them share names.
    path = sqlite_path(url)
    database = content_hash({"url": url})[:12] if path is None else path.resolve().name
    lock = FileLock(folder / f"{search.name}@{database}.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise _busy(search) from None
    try:
        with _claimed_in_postgresql(search, url) if url.startswith("postgresql") else nullcontext():
            yield
    finally:
        lock.release()


@contextmanager
def _claimed_in_postgresql(search: SearchRecord, url: str) -> Iterator[None]:
    """Hold an advisory lock through a separate connection, which the server ends when this machine is gone."""
    number = int(content_hash({"search": search.name})[:15], 16)
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT", **engine_options(url))
    try:
        with storage_errors(url):
            connection = engine.connect()
        try:
            with storage_errors(url):
                for setting, seconds in (("idle", 10), ("interval", 5), ("count", 4)):
                    connection.exec_driver_sql(f"SET tcp_keepalives_{setting} = {seconds}")
                free = connection.scalar(sa.select(sa.func.pg_try_advisory_lock(number)))
            if not free:
                raise _busy(search)
            yield
        finally:
            with suppress(SQLAlchemyError):  # the server is gone, and the lock with it
                connection.close()
    finally:
        engine.dispose()


def _busy(search: SearchRecord) -> SearchBusyError:
    return SearchBusyError(f"search {search.name!r} is being run by another process; wait for it, or stop it")
