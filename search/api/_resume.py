"""Which search a person wants to go on with, and that nobody else runs it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

from energy import Hardware
from search.content_hash import content_hash
from search.errors import SearchBusyError, UsageError
from search.locations import sqlite_path, stage_dir
from search.multipliers.choice import ChosenMultiplier
from search.space.search_space import SearchSpace
from search.space.task import Task, stored_names
from search.store.schema import engine_options, storage_errors
from search.store.store import SearchRecord, SearchSettings, Store


def find_resumed(
    store: Store,
    name: str | None,
    task: Task,
    seed: int,
    hardware: Hardware,
    multipliers: Sequence[ChosenMultiplier] | None,
    space: SearchSpace | None,
    effort: str | None,
) -> SearchRecord:
    """The search to be resumed: that of this name, or else the newest that fits all the rest.

    Args:
        store: Where it is stored.
        name: Its name.
        task: Its task.
        seed: Its seed.
        hardware: Its hardware.
        multipliers: Those among which it chooses; None for whatever they are.
        space: Its space before it is restricted; None for whatever that is.
        effort: By which the newest is found; None for whatever it is.

    Raises:
        UnknownNameError: If there is no search of this name.
        UsageError: If it differs in another respect, or none fits.
    """
    wanted = None if multipliers is None else tuple(one.identity for one in multipliers)
    if name is not None:
        search = store.find_search(name)
        dataset, network = stored_names(search.task)
        for what, stored, given in (
            ("dataset", dataset, task.name),
            ("hardware", search.hardware, hardware.identity),
            ("seed", search.seed, seed),
        ):
            if stored != given:
                raise UsageError(f"search {name!r} has {what} {stored}, not {given}; resume it with --{what} {stored}")
        if network != (task.network and task.network.path):
            raise UsageError(
                f"search {name!r} has {f'the network {network}' if network else 'the built-in networks'}; resume it "
                + (f"with --network {network}" if network else "without --network")
            )
        if search.task != task.identity:
            raise UsageError(
                f"{network} was edited after search {name!r} began, so its evaluations cannot be compared; search with "
                "what it is now without --resume"
            )
        if wanted not in (None, search.multipliers):
            own = ", ".join(search.multipliers) if search.multipliers else "the multipliers of an earlier release"
            raise UsageError(
                f"search {name!r} chooses among {own}, not {', '.join(wanted or ())}; resume it without --multipliers"
            )
        if space is not None and space.to_dict() != space_of(search, task).to_dict():
            raise UsageError(
                f"search {name!r} searches another space than --space says now; resume it without --space (search show "
                f"{name} --json has its own)"
            )
        return search
    same = [
        search
        for search in store.searches()
        if (search.task, search.seed, search.hardware) == (task.identity, seed, hardware.identity)
        and wanted in (None, search.multipliers)
        and effort in (None, search.settings.effort)
        and (space is None or space.to_dict() == space_of(search, task).to_dict())
    ]
    if not same:
        among = "" if wanted is None else f" that chooses among {', '.join(wanted)}"
        among += "" if space is None else " in this --space"
        among += "" if effort is None else f" with effort {effort}"
        raise UsageError(
            f"there is no search of {task.words} with seed {seed} on {hardware.identity}{among} to "
            "resume; start one without --resume, or list all with: search show"
        )
    return same[0]


def check_same_settings(
    search: SearchRecord,
    settings: SearchSettings,
    *,
    effort: str | None,
    sampler: str | None,
    third_objective: str | None,
) -> None:
    """Refuse to go on with a search otherwise than it was begun.

    Args:
        search: The search.
        settings: What was asked for now, with what is usual where nothing was said.
        effort: What was said of the effort, if anything was; likewise the others.
        sampler: Of the sampler.
        third_objective: Of the third objective.

    Raises:
        UsageError: If something was said that differs.
    """
    begun = search.settings
    for option, said, stored, given in (
        ("--effort", effort is not None, begun.effort, settings.effort),
        ("--sampler or --strategy", sampler is not None, begun.sampler, settings.sampler),
        ("--third-objective", third_objective is not None, begun.third, settings.third),
        ("--no-prescreen", not settings.prescreen, begun.prescreen, settings.prescreen),
        ("--asynchronous", settings.asynchronous, begun.asynchronous, settings.asynchronous),
    ):
        if said and stored != given:
            raise UsageError(
                f"search {search.name!r} was begun with other settings; resume it without {option}, which all its "
                "evaluations share"
            )


def space_of(search: SearchRecord, task: Task) -> SearchSpace:
    """The space of a stored search of a task, before it is restricted to what its multipliers and hardware allow."""
    return task.space if search.space is None else task.space.with_values(search.space)


@contextmanager
def claimed(search: SearchRecord, url: str) -> Iterator[None]:
    """Keep a second process from running the same search; the claim ends with the process.

    In a database that is a file, or on a server other than PostgreSQL, it holds on this machine alone. In PostgreSQL it
    holds everywhere until the server restarts.

    Args:
        search: The search.
        url: Of its database.

    Raises:
        SearchBusyError: If another process runs it.
        StorageError: If the database cannot be used.
    """
    folder = stage_dir(url)
    folder.mkdir(parents=True, exist_ok=True)
    # Databases share a folder, those on servers and files that differ in their suffix, and have searches of one name.
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
    """Hold an advisory lock by a connection of its own, which the server ends when this machine is gone."""
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
