"""Answers from stored results, fast enough to be asked for by everybody all the time.

What an answer comes from is read again only when something that it depends on was stored meanwhile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection, Engine

from search.answers.confirmation import Answer
from search.answers.stored import Stored, confirmations_in
from search.errors import NothingFoundError
from search.report import words as report
from search.space.task import find_task
from search.store.schema import storage_errors
from search.store.store import Record, Store
from service.questions import Question
from service.schemas import OptimizeResponse
from service.uploads import Uploads

_KEPT = 1000  # answers
_READ = 100  # places whose stored results are at hand


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """What is stored that answers a question.

    Attributes:
        confirmed: Whether fresh runs confirmed it, and it is more than the baseline for a target relative to it.
        content: An `OptimizeResponse` as JSON.
    """

    confirmed: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class _Source:
    """What the answers of a place come from.

    Attributes:
        revision: Of the database, when it was looked at last.
        basis: Equal while the answers are the same.
        stored: What was read then.
    """

    revision: Hashable
    basis: Hashable
    stored: Stored


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer, and what it came from."""

    stored: Stored
    answer: StoredAnswer | None


class StoredAnswers:
    """Answers questions from the database, and keeps the answers while they are true. Threads may share it.

    An answer depends on the front of its task, hardware and effort, and on the fresh runs. While a search runs,
    something is stored every moment, but few evaluations change the front: so fronts are compared, and only if
    anything was stored.

    Args:
        store: The results.
        engine: To their database.
        uploads: What clients brought.
    """

    def __init__(self, store: Store, engine: Engine, uploads: Uploads) -> None:
        self._store = store
        self._uploads = uploads
        self._changes = _Changes(store.url, engine)
        self._seen: Hashable = None
        self._revision: tuple[Hashable, ...] | None = None
        self._sources: OrderedDict[_Place, _Source] = OrderedDict()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._working: dict[Hashable, tuple[threading.Lock, int]] = {}  # with how many work or wait

    def close(self) -> None:
        """Give back the database connection."""
        self._changes.close()

    def kept(self, question: Question) -> tuple[bool, StoredAnswer | None]:
        """Whether what is kept answers a question as of now, and the answer; without waiting for anything.

        Raises:
            StorageError: If the database cannot be read.
        """
        with self._lock:
            seen = self._changes.seen()
            if seen is None or seen != self._seen:
                return False, None
            source = self._sources.get(_Place.of(question))
            key = _key(question)
            kept = self._kept.get(key)
            if kept is None or source is None or source.revision != self._revision or kept.stored is not source.stored:
                return False, None
            self._kept.move_to_end(key)
            return True, kept.answer

    def to(self, question: Question) -> StoredAnswer | None:
        """The answer to a question; None if there was no search of its task on its hardware.

        Raises:
            UsageError: If its data set or hardware is unknown.
            StorageError: If the database cannot be read.
        """
        place, key = _Place.of(question), _key(question)
        with self._alone(place):  # of many who ask at once, one reads what is stored
            stored = self._stored(place)
        with self._alone(key):  # and one works out the answer
            with self._lock:
                kept = self._kept.get(key)
                if kept is not None and kept.stored is stored:
                    self._kept.move_to_end(key)
                    return kept.answer
            answer = _answer(question, stored)
            with self._lock:
                self._kept[key] = _Kept(stored, answer)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            return answer

    @contextmanager
    def _alone(self, name: Hashable) -> Iterator[None]:
        """Do something of which one at a time is enough."""
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

    def _stored(self, place: _Place) -> Stored:
        """What answers come from, the same object while they stay the same.

        Nothing is read while the lock is held, so that kept answers need not wait.
        """
        with self._lock:
            seen = self._changes.seen()
            revision = self._revision if seen is not None and seen == self._seen else None
        if revision is None:
            revision = self._store.revision()
            with self._lock:
                self._revision, self._seen = revision, seen
        with self._lock:
            source = self._sources.get(place)
        if source is None or source.revision != revision:
            task, hardware = find_task(place.dataset), self._uploads.hardware(place.hardware)
            comparable = {"task": task.identity, "hardware": hardware.identity, "effort": place.effort}
            without = self._uploads.unnamed_multipliers(place.own_multipliers)
            baseline = self._store.evaluation_of(task.space.baseline(), **comparable)
            basis = (
                tuple(self._store.front_points(**comparable, without_multipliers=without)),
                baseline and baseline.key,
                tuple(self._store.keys_with_runs(**comparable)),
                revision[1:],  # of it, the number of evaluations says nothing
            )
            if source is not None and source.basis == basis:
                stored = source.stored
            else:
                stored = Stored.read(self._store, task, hardware, effort=place.effort, without_multipliers=without)
            source = _Source(revision, basis, stored)
            with self._lock:
                self._sources[place] = source
                self._sources.move_to_end(place)
                while len(self._sources) > _READ:
                    self._sources.popitem(last=False)
        return source.stored


@dataclass(frozen=True, slots=True)
class _Place:
    """What has a front of its own."""

    dataset: str
    hardware: str
    effort: str
    own_multipliers: tuple[str, ...]

    @classmethod
    def of(cls, question: Question) -> _Place:
        return cls(question.dataset, question.hardware, question.effort, question.own_multipliers)


class _Changes:
    """Tells cheaply whether a database may have changed. A connection of its own is opened when it is needed."""

    def __init__(self, url: str, engine: Engine) -> None:
        self._url = url
        self._engine = engine
        self._connection: Connection | None = None

    def seen(self) -> Hashable:
        """Equal while nobody has committed anything; None if that is not known."""
        if self._engine.dialect.name != "sqlite":
            return None
        with storage_errors(self._url):
            if self._connection is None:
                self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            # Changes with each commit of any other connection: https://www.sqlite.org/pragma.html#pragma_data_version
            return int(self._connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _key(question: Question) -> Hashable:
    """What tells questions apart whose stored answers may differ."""
    return _Place.of(question), question.min_accuracy, question.max_accuracy_drop


def _answer(question: Question, stored: Stored) -> StoredAnswer | None:
    baseline, target = stored.baseline, question.target
    if baseline is None:
        return None
    configurations: tuple[Record, ...] = ()
    try:
        found = stored.configurations(target, hardware=question.hardware)
    except NothingFoundError:  # nothing reaches the target
        answer = Answer(
            target=target,
            baseline=baseline,
            record=None,
            confirmation=None,
            baseline_confirmation=None,
            rejected=(),
        )
    else:
        configurations = found.records
        answer = stored.with_confirmed_before(stored.answer(target))
    response = _response(question, configurations, answer, highest=stored.highest_accuracy)
    trivial = question.min_accuracy is None and answer.record is not None and answer.record.key == baseline.key
    return StoredAnswer(confirmed=answer.confirmed and not trivial, content=response.model_dump_json().encode())


def _response(
    question: Question,
    records: tuple[Record, ...],
    answer: Answer,
    *,
    highest: float,
) -> OptimizeResponse:
    confirmations = confirmations_in(answer)
    rejected = {record.key for record, _ in answer.rejected}
    left = [record for record in records if record.key not in rejected]
    first = [] if answer.record is None else [answer.record]
    from_pj = first[0].evaluation.energy_pj if first else 0.0
    dearer = [one for one in left if one.evaluation.energy_pj > from_pj]

    def as_json(record: Record) -> dict[str, Any]:
        confirmation = confirmations.get(record.key)
        runs = None if confirmation is None else report.confirmation_json(confirmation)
        return {**report.record_json(record, answer.baseline), "confirmation": runs}

    return OptimizeResponse.model_validate(
        {
            "dataset": question.dataset,
            "hardware": question.hardware,
            "effort": question.effort,
            "min_accuracy": question.min_accuracy,
            "max_accuracy_drop": question.max_accuracy_drop,
            "wanted_accuracy": answer.target.accuracy(answer.baseline.evaluation.accuracy),
            "confirmed": answer.confirmed,
            "shortfall": answer.shortfall,
            "baseline": as_json(answer.baseline),
            "highest_accuracy": highest,
            "configurations": [as_json(one) for one in (*first, *dearer)],
            "untried": [as_json(one) for one in left if one.evaluation.energy_pj < from_pj],
            "rejected": [as_json(record) for record, _ in answer.rejected],
        }
    )
