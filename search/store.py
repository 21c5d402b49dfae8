"""Searches and evaluations in SQL: SQLite by default, PostgreSQL by URL.

Optuna keeps its own tables in the same database, where its dashboard finds them; these tables hold what Optuna has no
place for and what later searches share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DatabaseError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from search.candidate import Candidate
from search.errors import StorageError, UnknownNameError, UsageError
from search.evaluation import EVALUATION_VERSION, Evaluation
from search.locations import sqlite_path

_VERSION_TABLE = "crosslayer_version"
_SCHEMA = "0001"  # the newest file in search/migrations/versions
# Optuna's tables, so that a database of its own is not mistaken for a foreign one.
_OPTUNA_TABLE = re.compile("alembic_version|version_info|stud(y|ies)(_.*)?|trials?(_.*)?")


class _Base(DeclarativeBase):
    pass


class _SearchRow(_Base):
    __tablename__ = "searches"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(200), unique=True)
    task: Mapped[str] = mapped_column(sa.String(50))
    hardware: Mapped[str] = mapped_column(sa.String(500))
    seed: Mapped[int]
    budget: Mapped[int]
    population_size: Mapped[int]
    min_accuracy: Mapped[float | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class _EvaluationRow(_Base):
    __tablename__ = "evaluations"
    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    version: Mapped[int]
    task: Mapped[str] = mapped_column(sa.String(50))
    hardware: Mapped[str] = mapped_column(sa.String(500))
    seed: Mapped[int]
    candidate_key: Mapped[str] = mapped_column(sa.String(64))
    accuracy: Mapped[float]
    energy_pj: Mapped[float]
    content: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    test_accuracies: Mapped[list[float] | None] = mapped_column(sa.JSON(none_as_null=True))
    created_at: Mapped[datetime]
    __table_args__ = (sa.Index("evaluations_by_energy", "task", "hardware", "energy_pj"),)


class _TrialRow(_Base):
    __tablename__ = "search_evaluations"
    search_id: Mapped[int] = mapped_column(sa.ForeignKey("searches.id"), primary_key=True)
    trial_number: Mapped[int] = mapped_column(primary_key=True)
    evaluation_key: Mapped[str | None] = mapped_column(sa.ForeignKey("evaluations.key"))
    error: Mapped[str | None] = mapped_column(sa.Text)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecord:
    """A stored search.

    Attributes:
        id: Its number in the database.
        name: Its name, also that of its Optuna study.
        task: Task name.
        hardware: Hardware name.
        seed: Of everything random in it.
        budget: Evaluations asked for.
        population_size: Evaluations per generation.
        min_accuracy: The accuracy asked for, or None.
        created_at: In UTC.
        finished_at: In UTC; None while it is unfinished.
    """

    id: int
    name: str
    task: str
    hardware: str
    seed: int
    budget: int
    population_size: int
    min_accuracy: float | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A stored evaluation.

    Attributes:
        key: Content hash of all it depends on.
        seed: Of the search that made it.
        evaluation: Measured on the validation images.
        test_accuracies: Accuracy on the test images per chip, where it was ever reported.
    """

    key: str
    seed: int
    evaluation: Evaluation
    test_accuracies: tuple[float, ...] | None

    @property
    def test_accuracy(self) -> float | None:
        """Mean over chips on the test images."""
        if self.test_accuracies is None:
            return None
        return sum(self.test_accuracies) / len(self.test_accuracies)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCounts:
    """How the trials of a search ended.

    Attributes:
        finished: With an evaluation.
        distinct: Different evaluations among those.
        failed: With an error.
    """

    finished: int
    distinct: int
    failed: int


class Store:
    """The results database. Open it with `Store.open`, close it after use."""

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self._engine = engine
        self._sessions = sessionmaker(engine)

    @classmethod
    def open(cls, url: str, *, create: bool) -> Store:
        """Open the database and bring its schema up to date.

        Args:
            url: SQLAlchemy URL.
            create: Whether to make an SQLite file that does not exist.

        Raises:
            StorageError: If it cannot be opened, is not a database, belongs to another application, or was written by a
                newer version.
        """
        path = sqlite_path(url)
        if path is not None:
            _check_sqlite_file(path, create)
        with _storage_errors(url):
            try:
                engine = sa.create_engine(url, connect_args={"timeout": 60} if path else {})
            except ModuleNotFoundError as error:
                raise StorageError(
                    f"{url} needs the Python package {error.name!r}: pip install 'crosslayer[postgresql]'"
                ) from None
            if path is not None:
                tune_sqlite(engine)
            with engine.begin() as connection:
                _migrate(connection, url)
        return cls(url, engine)

    def close(self) -> None:
        """Give back the database connections."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with _storage_errors(self.url), self._sessions.begin() as session:
            yield session

    def create_search(
        self,
        *,
        name: str | None,
        task: str,
        hardware: str,
        seed: int,
        budget: int,
        population_size: int,
        min_accuracy: float | None,
    ) -> SearchRecord:
        """Store a new search.

        Args:
            name: Its name; by default the task's name and the first free number.
            task: Task name.
            hardware: Hardware name.
            seed: Of everything random in it.
            budget: Evaluations to make.
            population_size: Evaluations per generation.
            min_accuracy: The accuracy asked for, or None.

        Raises:
            UsageError: If the name is taken.
        """
        with self._session() as session:
            taken = set(session.scalars(sa.select(_SearchRow.name)))
            if name is None:
                number = 1
                while f"{task}-{number}" in taken:
                    number += 1
                name = f"{task}-{number}"
            elif name in taken:
                raise UsageError(f"a search named {name!r} exists; continue it with --resume, or choose another --name")
            row = _SearchRow(
                name=name,
                task=task,
                hardware=hardware,
                seed=seed,
                budget=budget,
                population_size=population_size,
                min_accuracy=min_accuracy,
                created_at=_now(),
            )
            session.add(row)
            session.flush()
            return _search_record(row)

    def searches(self) -> list[SearchRecord]:
        """All searches, newest first."""
        with self._session() as session:
            rows = session.scalars(sa.select(_SearchRow).order_by(_SearchRow.id.desc()))
            return [_search_record(row) for row in rows]

    def find_search(self, name: str) -> SearchRecord:
        """The search of this name.

        Raises:
            UnknownNameError: If there is none.
        """
        found = {search.name: search for search in self.searches()}
        if name in found:
            return found[name]
        near = get_close_matches(name, found, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownNameError(f"no search named {name!r} in {self.url}; {hint}list them with: search show")

    def extend_search(self, search: SearchRecord, *, budget: int) -> SearchRecord:
        """Set a search's budget and mark it unfinished."""
        with self._session() as session:
            row = session.get_one(_SearchRow, search.id)
            row.budget = budget
            row.finished_at = None
            session.flush()
            return _search_record(row)

    def finish_search(self, search: SearchRecord) -> None:
        """Mark a search finished."""
        with self._session() as session:
            session.get_one(_SearchRow, search.id).finished_at = _now()

    def find_evaluation(self, key: str) -> Record | None:
        """The evaluation stored under a key."""
        with self._session() as session:
            row = session.get(_EvaluationRow, key)
            return None if row is None else _record(row)

    def record_evaluation(self, key: str, evaluation: Evaluation, *, task: str, hardware: str, seed: int) -> Record:
        """Store an evaluation; one that another process stored meanwhile is left as it is."""
        row = _EvaluationRow(
            key=key,
            version=EVALUATION_VERSION,
            task=task,
            hardware=hardware,
            seed=seed,
            candidate_key=evaluation.candidate.key,
            accuracy=evaluation.accuracy,
            energy_pj=evaluation.energy_pj,
            content=evaluation.to_dict(),
            test_accuracies=None,
            created_at=_now(),
        )
        with self._session() as session:
            try:
                with session.begin_nested():
                    session.add(row)
            except IntegrityError:
                row = session.get_one(_EvaluationRow, key)
            return _record(row)

    def record_test(self, key: str, accuracies: Sequence[float]) -> None:
        """Store an evaluation's accuracies on the test images, one per chip."""
        with self._session() as session:
            session.get_one(_EvaluationRow, key).test_accuracies = list(accuracies)

    def record_trial(
        self,
        search: SearchRecord,
        trial_number: int,
        *,
        evaluation_key: str | None = None,
        error: str | None = None,
    ) -> None:
        """Store how a trial ended: with an evaluation or with an error."""
        with self._session() as session:
            session.merge(
                _TrialRow(
                    search_id=search.id,
                    trial_number=trial_number,
                    evaluation_key=evaluation_key,
                    error=error,
                )
            )

    def trial_counts(self, search: SearchRecord) -> TrialCounts:
        """How the trials of a search ended."""
        columns = (
            sa.func.count(_TrialRow.evaluation_key),
            sa.func.count(_TrialRow.evaluation_key.distinct()),
            sa.func.count(_TrialRow.error),
        )
        with self._session() as session:
            row = session.execute(sa.select(*columns).where(_TrialRow.search_id == search.id)).one()
        return TrialCounts(finished=row[0], distinct=row[1], failed=row[2])

    def search_evaluations(self, search: SearchRecord) -> list[Record]:
        """The distinct evaluations of a search in order of first trial; the first is its baseline."""
        with self._session() as session:
            rows = session.scalars(
                sa.select(_EvaluationRow)
                .join(_TrialRow, _TrialRow.evaluation_key == _EvaluationRow.key)
                .where(_TrialRow.search_id == search.id)
                .group_by(_EvaluationRow.key)
                .order_by(sa.func.min(_TrialRow.trial_number))
            )
            return [_record(row) for row in rows]

    def evaluation_of(self, candidate: Candidate, *, task: str, hardware: str) -> Record | None:
        """A current evaluation of a candidate, under any seed."""
        with self._session() as session:
            row = session.scalars(
                sa.select(_EvaluationRow)
                .where(*_current(task, hardware), _EvaluationRow.candidate_key == candidate.key)
                .order_by(_EvaluationRow.seed)
            ).first()
            return None if row is None else _record(row)

    def evaluations(self, *, task: str, hardware: str, min_accuracy: float = 0.0) -> list[Record]:
        """Every current evaluation of a task on a hardware at or above an accuracy, cheapest first."""
        with self._session() as session:
            rows = session.scalars(
                sa.select(_EvaluationRow)
                .where(*_current(task, hardware), _EvaluationRow.accuracy >= min_accuracy)
                .order_by(_EvaluationRow.energy_pj, _EvaluationRow.key)
            )
            return [_record(row) for row in rows]


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _current(task: str, hardware: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on evaluations that can be compared with ones made now."""
    return (
        _EvaluationRow.task == task,
        _EvaluationRow.hardware == hardware,
        _EvaluationRow.version == EVALUATION_VERSION,
    )


def _search_record(row: _SearchRow) -> SearchRecord:
    return SearchRecord(
        id=row.id,
        name=row.name,
        task=row.task,
        hardware=row.hardware,
        seed=row.seed,
        budget=row.budget,
        population_size=row.population_size,
        min_accuracy=row.min_accuracy,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def _record(row: _EvaluationRow) -> Record:
    tested = row.test_accuracies
    return Record(
        key=row.key,
        seed=row.seed,
        evaluation=Evaluation.from_dict(row.content),
        test_accuracies=None if tested is None else tuple(tested),
    )


def _check_sqlite_file(path: Path, create: bool) -> None:
    if path.is_dir():
        raise StorageError(f"{path} is a folder; give the path of an SQLite file")
    if path.exists():
        return
    if not create:
        raise StorageError(f"no results yet: there is no file {path}. Make some with: search run")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {path.parent}: {error.strerror}") from None


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
    tables = set(sa.inspect(connection).get_table_names())
    if _VERSION_TABLE in tables:
        version = connection.scalar(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608
        if version == _SCHEMA:
            return
        if version > _SCHEMA:
            raise StorageError(
                f"{url} was written by a newer version of crosslayer (schema {version}, this one "
                f"knows {_SCHEMA}); install that version, or give another --storage"
            )
    elif foreign := sorted(name for name in tables if not _OPTUNA_TABLE.fullmatch(name)):
        raise StorageError(
            f"{url} belongs to another application: it holds the table {foreign[0]!r}. Give another --storage"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, _SCHEMA)


@contextmanager
def _storage_errors(url: str) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise StorageError(f"cannot use the results database {url}: {reason}") from error
    except SQLAlchemyError as error:
        raise StorageError(f"cannot use the results database {url}: {error}") from error
