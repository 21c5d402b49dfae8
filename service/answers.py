"""Answers from stored results, cached in memory so that they are fast enough for many clients at once.

Stored results are read again only once something that the answer depends on has been stored.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from search.answers import words
from search.answers.confirmation import Answer
from search.answers.stored import Stored
from search.report import json_values
from search.store.database import Store
from search.store.records import Record
from search.store.schema import storage_errors
from search.store.setup import Setup
from service.database import Database
from service.datasets import Datasets
from service.questions import Question
from service.schemas import OptimizeResponse
from service.uploads import Uploads

_CACHED_ANSWERS = 1000
_CACHED_SOURCES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """An answer from stored results.

    Attributes:
        confirmed: Whether fresh runs confirmed it, and it is not just the baseline for a target relative to it.
        content: An `OptimizeResponse` as JSON.
    """

    confirmed: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class _Source:
    """The stored results that the answers of one scope come from.

    Attributes:
        revision: Revision of the database when it was last checked.
        basis: Value that stays equal while the answers stay the same.
        stored: The results read then.
    """

    revision: Hashable
    basis: Hashable
    stored: Stored


@dataclass(frozen=True, slots=True)
class _Cached:
    """An answer, and the stored results it came from."""

    stored: Stored
    answer: StoredAnswer | None


class StoredAnswers:
    """Answers questions from the database, and caches the answers while they are valid. Threads may share it.

    An answer depends on the front of its task, hardware and effort, and on the fresh runs. While a search runs,
    something is stored every moment, but few evaluations change the front. So fronts are compared, and only when
    anything was stored at all.

    Args:
        store: The stored results.
        database: Their database.
        uploads: The uploads in it.
        datasets: The data sets of tasks.
    """

    def __init__(self, store: Store, database: Database, uploads: Uploads, datasets: Datasets) -> None:
        self._store = store
        self._uploads = uploads
        self._datasets = datasets
        self._changes = _Changes(database)
        self._seen: Hashable = None
        self._revision: tuple[Hashable, ...] | None = None
        self._sources: OrderedDict[_Scope, _Source] = OrderedDict()
        self._cached: OrderedDict[Hashable, _Cached] = OrderedDict()
        self._lock = threading.Lock()
        self._working: dict[Hashable, tuple[threading.Lock, int]] = {}  # with how many hold it or wait

    def close(self) -> None:
        """Close the database connection."""
        self._changes.close()

    def cached(self, question: Question) -> tuple[bool, StoredAnswer | None]:
        """Whether a valid answer to a question is cached, and the answer; never waits for other threads' work.

        Raises:
            StorageError: If the database cannot be read.
        """
        with self._lock:
            seen = self._changes.seen()
            if seen is None or seen != self._seen:
                return False, None
            source = self._sources.get(_Scope.of(question))
            key = _key(question)
            cached = self._cached.get(key)
            if cached is None or source is None or source.revision != self._revision:
                return False, None
            if cached.stored is not source.stored:
                return False, None
            self._cached.move_to_end(key)
            return True, cached.answer

    def to(self, question: Question) -> StoredAnswer | None:
        """The answer to a question; None if there was no search for its task on its hardware.

        Raises:
            UsageError: If its data set or hardware is unknown.
            StorageError: If the database cannot be read.
        """
        stored, key = self.stored(question), _key(question)
        with self._exclusively(key):  # of many threads that ask at once, one computes the answer
            with self._lock:
                cached = self._cached.get(key)
                if cached is not None and cached.stored is stored:
                    self._cached.move_to_end(key)
                    return cached.answer
            answer = _answer(question, stored)
            with self._lock:
                self._cached[key] = _Cached(stored, answer)
                while len(self._cached) > _CACHED_ANSWERS:
                    self._cached.popitem(last=False)
            return answer

    def stored(self, question: Question) -> Stored:
        """The stored results that the answer to a question comes from.

        Raises:
            UsageError: If its data set or hardware is unknown.
            StorageError: If the database cannot be read.
        """
        scope = _Scope.of(question)
        with self._exclusively(scope):  # of many threads that ask at once, one reads them
            return self._stored(scope)

    @contextmanager
    def _exclusively(self, name: Hashable) -> Iterator[None]:
        """Let one thread at a time execute the block for a name."""
        with self._lock:
            lock, waiting = self._working.get(name, (threading.Lock(), 0))
            self._working[name] = lock, waiting + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                _, waiting = self._working[name]
                if waiting > 1:
                    self._working[name] = lock, waiting - 1
                else:
                    del self._working[name]

    def _stored(self, scope: _Scope) -> Stored:
        """The stored results of a scope, the same object while the answers stay the same.

        Nothing is read while the lock is held, so that cached answers need not wait.
        """
        with self._lock:
            seen = self._changes.seen()
            revision = self._revision if seen is not None and seen == self._seen else None
        if revision is None:
            revision = self._store.revision()
            with self._lock:
                self._revision, self._seen = revision, seen
        with self._lock:
            source = self._sources.get(scope)
        if source is None or source.revision != revision:
            task, hardware = self._datasets.task(scope.dataset), self._uploads.hardware(scope.hardware)
            setup = Setup.of(task, hardware, scope.effort)
            without = self._uploads.unnamed_multipliers(scope.uploaded_multipliers)
            baseline = self._store.evaluations.of_candidate(task.space.baseline(), setup)
            most_mm2 = math.inf
            if scope.max_area is not None and baseline is not None:
                most_mm2 = scope.max_area * baseline.evaluation.area_mm2
            points = self._store.evaluations.front_points(setup, max_area_mm2=most_mm2, without_multipliers=without)
            basis = (
                tuple(points),
                baseline and baseline.key,
                tuple(self._store.evaluations.keys_with_runs(setup)),
                tuple(self._store.evaluations.keys_of_candidates(task.space.networks(), setup)),
                revision[1:],  # without the number of evaluations, most of which change nothing
            )
            if source is not None and source.basis == basis:
                stored = source.stored
            else:
                stored = Stored.read(
                    self._store,
                    task,
                    hardware,
                    effort=scope.effort,
                    max_area=scope.max_area,
                    without_multipliers=without,
                )
            source = _Source(revision, basis, stored)
            with self._lock:
                self._sources[scope] = source
                self._sources.move_to_end(scope)
                while len(self._sources) > _CACHED_SOURCES:
                    self._sources.popitem(last=False)
        return source.stored


@dataclass(frozen=True, slots=True)
class _Scope:
    """The evaluations that share one front."""

    dataset: str
    hardware: str
    effort: str
    max_area: float | None
    uploaded_multipliers: tuple[str, ...]

    @classmethod
    def of(cls, question: Question) -> _Scope:
        return cls(
            question.dataset, question.hardware, question.effort, question.max_area, question.uploaded_multipliers
        )


class _Changes:
    """Detects cheaply whether a database may have changed, by a dedicated connection opened on first use."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def seen(self) -> Hashable:
        """A value that stays equal while nobody commits anything; None if that cannot be known."""
        if self._database.engine.dialect.name != "sqlite":
            return None
        with storage_errors(self._database.url):
            if self._connection is None:
                connection = self._database.engine.connect()
                self._connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            # Changes with each commit of any other connection: https://www.sqlite.org/pragma.html#pragma_data_version
            return int(self._connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _key(question: Question) -> Hashable:
    """A value that differs between questions whose stored answers may differ."""
    return _Scope.of(question), question.min_accuracy, question.max_accuracy_drop


def _answer(question: Question, stored: Stored) -> StoredAnswer | None:
    baseline = stored.baseline
    if baseline is None:
        return None
    answer = stored.answer(question.target)
    response = _response(question, stored, answer)
    trivial = question.min_accuracy is None and answer.record is not None and answer.record.key == baseline.key
    return StoredAnswer(confirmed=answer.confirmed and not trivial, content=response.model_dump_json().encode())


def _response(question: Question, stored: Stored, answer: Answer) -> OptimizeResponse:
    rejected = {record.key for record, _ in answer.rejected}
    records = [one for one in stored.front if answer.verdict(one) is not None]
    remaining = [record for record in records if record.key not in rejected]
    first = [] if answer.record is None else [answer.record]
    from_pj = first[0].evaluation.energy_pj if first else 0.0
    costlier = [one for one in remaining if one.evaluation.energy_pj > from_pj]

    def as_json(record: Record) -> dict[str, Any]:
        confirmation = answer.confirmations.get(record.evaluation.candidate.key)
        runs = None if confirmation is None else json_values.confirmation_json(confirmation)
        return {**json_values.row_json(record, answer), "confirmation": runs}

    return OptimizeResponse.model_validate(
        {
            "dataset": question.dataset,
            "hardware": question.hardware,
            "effort": question.effort,
            "min_accuracy": question.min_accuracy,
            "max_accuracy_drop": question.max_accuracy_drop,
            "max_area": question.max_area,
            "wanted_accuracy": answer.target.accuracy(answer.baseline.evaluation.accuracy),
            "confirmed": answer.confirmed,
            "shortfall": answer.shortfall,
            "caution": words.caution(answer.task),
            "baseline": as_json(answer.baseline),
            "right_sized": json_values.right_sized_json(answer),
            "highest_accuracy": stored.highest_accuracy,
            "configurations": [as_json(one) for one in (*first, *costlier)],
            "untried": [as_json(one) for one in remaining if one.evaluation.energy_pj < from_pj],
            "rejected": [as_json(record) for record, _ in answer.rejected],
        }
    )
