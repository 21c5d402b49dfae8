"""Searches and evaluations in SQL: SQLite by default, PostgreSQL by URL.

Optuna keeps its own tables in the same database, where its dashboard finds them; these tables hold what Optuna has no
place for and what later searches share.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, TypeVarTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from search.content_hash import content_hash
from search.errors import UnknownNameError, UsageError
from search.evaluation.evaluation import EVALUATION_VERSION, ConfirmationRun, Evaluation
from search.locations import without_password
from search.multipliers.identity import is_imported
from search.pareto import non_dominated_mask
from search.space.candidate import Candidate
from search.space.task import stored_names
from search.store import queries as selecting
from search.store.schema import ConfirmationRow, EvaluationRow, SearchRow, TrialRow, open_engine, storage_errors

Columns = TypeVarTuple("Columns")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How a search goes about it, fixed when it begins.

    Attributes:
        sampler: One of `search.sampling.asker.SAMPLERS`, or `greedy`; see `search.sampling.greedy`.
        prescreen: Whether children are screened by a surrogate.
        asynchronous: Whether a candidate is asked for whenever a worker is free, instead of whole generations.
        effort: Of each evaluation, one of `search.space.task.EFFORTS`.
        third: What is minimised beside energy: area_mm2, latency_us or nothing.
        max_accuracy_drop: How far below the baseline's the accuracy of the answer may be; None for what is usual.
        starts: Genomes that it begins with; none for the baseline alone, as in earlier releases.
    """

    sampler: str = "nsga2"
    prescreen: bool = True
    asynchronous: bool = False
    effort: str = "standard"
    third: str | None = None
    max_accuracy_drop: float | None = None
    starts: tuple[Mapping[str, Any], ...] = ()

    @property
    def costs(self) -> tuple[str, ...]:
        """What is minimised, as `Evaluation` calls it."""
        return ("energy_pj",) if self.third is None else ("energy_pj", self.third)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecord:
    """A stored search.

    Attributes:
        id: Its number in the database.
        name: Its name, also that of its Optuna study.
        task: Task identity.
        hardware: Hardware identity.
        seed: Of everything random in it.
        budget: Evaluations asked for.
        population_size: Evaluations per generation.
        min_accuracy: The accuracy asked for, or None.
        created_at: In UTC.
        finished_at: In UTC; None while it is unfinished.
        multipliers: Those among which it chooses, as candidates call them; None for a release's own, as earlier ones
            noted none.
        settings: How it goes about it.
        space: What it searches, as `SearchSpace.to_dict` has it; None for an earlier release's own.
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
    multipliers: tuple[str, ...] | None = None
    settings: SearchSettings = SearchSettings()
    space: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A stored evaluation.

    Attributes:
        key: Content hash of all it depends on.
        seed: Of the search that made it.
        evaluation: Measured on the validation images.
        test_accuracies: Accuracy on the test images per chip, where it was ever reported.
        effort: With which it was made.
    """

    key: str
    seed: int
    evaluation: Evaluation
    test_accuracies: tuple[float, ...] | None
    effort: str = "standard"

    @property
    def id(self) -> str:
        """The beginning of its key, by which commands name it."""
        return self.key[:12]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnd:
    """How one trial of a search ended: with an evaluation or with an error.

    Attributes:
        number: Of the trial.
        evaluation_key: Key of its evaluation, or None.
        error: What went wrong, or None.
    """

    number: int
    evaluation_key: str | None
    error: str | None


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
        engine = open_engine(url, create=create)
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
        with storage_errors(self.url), self._sessions.begin() as session:
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
        multipliers: Sequence[str] | None = None,
        settings: SearchSettings = SearchSettings(),
        space: Mapping[str, Any] | None = None,
        taken: Collection[str] = (),
    ) -> SearchRecord:
        """Store a new search.

        Args:
            name: Its name; by default the dataset's name and the first free number.
            task: Task identity.
            hardware: Hardware identity.
            seed: Of everything random in it.
            budget: Evaluations to make.
            population_size: Evaluations per generation.
            min_accuracy: The accuracy asked for, or None.
            multipliers: Those among which it chooses, as candidates call them; None for this release's own.
            settings: How it goes about it.
            space: What it searches, as `SearchSpace.to_dict` has it; None for this release's own.
            taken: Names that are in use elsewhere, such as those of a person's own Optuna studies.

        Raises:
            UsageError: If the name is taken, or has characters other than letters, digits, '.', '_' and '-'.
        """
        if name is not None and not re.fullmatch(r"[\w.-]{1,100}", name, re.ASCII):
            raise UsageError(f"`name` may have up to 100 letters, digits, '.', '_' and '-', got {name!r}")
        with self._session() as session:
            taken = {*taken, *session.scalars(sa.select(SearchRow.name))}
            if name is None:
                dataset, _ = stored_names(task)
                number = 1
                while f"{dataset}-{number}" in taken:
                    number += 1
                name = f"{dataset}-{number}"
            elif name in taken:
                raise UsageError(
                    f"a search or study named {name!r} exists; continue it with `resume`, or choose another `name`"
                )
            row = SearchRow(
                name=name,
                task=task,
                hardware=hardware,
                seed=seed,
                budget=budget,
                population_size=population_size,
                min_accuracy=min_accuracy,
                multipliers=None if multipliers is None else list(multipliers),
                settings=asdict(settings),
                space=None if space is None else dict(space),
                created_at=_now(),
            )
            session.add(row)
            session.flush()
            return _search_record(row)

    def searches(self) -> list[SearchRecord]:
        """All searches, newest first."""
        with self._session() as session:
            rows = session.scalars(sa.select(SearchRow).order_by(SearchRow.id.desc()))
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
        raise UnknownNameError(
            f"no search named {name!r} in {without_password(self.url)}; {hint}list them with: search show"
        )

    def reopen_search(
        self,
        search: SearchRecord,
        *,
        budget: int,
        min_accuracy: float | None = None,
        max_accuracy_drop: float | None = None,
    ) -> SearchRecord:
        """Mark a search unfinished, with this budget and, if one is given, this target instead of its own."""
        with self._session() as session:
            row = session.get_one(SearchRow, search.id)
            row.budget = budget
            if min_accuracy is not None or max_accuracy_drop is not None:
                row.min_accuracy = min_accuracy
                row.settings = asdict(replace(search.settings, max_accuracy_drop=max_accuracy_drop))
            row.finished_at = None
            session.flush()
            return _search_record(row)

    def finish_search(self, search: SearchRecord) -> None:
        """Mark a search finished."""
        with self._session() as session:
            session.get_one(SearchRow, search.id).finished_at = _now()

    def revision(self) -> tuple[int, int, datetime | None]:
        """Differs once an evaluation or a fresh run was stored, or a search ended, which ends with its tests."""
        columns = (
            sa.select(sa.func.count()).select_from(EvaluationRow).scalar_subquery(),
            sa.select(sa.func.count()).select_from(ConfirmationRow).scalar_subquery(),
            sa.select(sa.func.max(SearchRow.finished_at)).scalar_subquery(),
        )
        with self._session() as session:
            evaluations, runs, ended = session.execute(sa.select(*columns)).one()
        return evaluations, runs, ended

    def find_evaluation(self, key: str) -> Record | None:
        """The evaluation stored under a key."""
        with self._session() as session:
            row = session.get(EvaluationRow, key)
            return None if row is None else _record(row)

    def evaluation_with_id(self, evaluation_id: str) -> tuple[Record, str, str]:
        """The evaluation whose key begins so, with the identities of its task and its hardware.

        Raises:
            UsageError: If the id is not hexadecimal, several evaluations have it, or another release made it.
            UnknownNameError: If there is none.
        """
        if not re.fullmatch(r"[0-9a-f]{4,64}", evaluation_id):
            raise UsageError(f"an evaluation's id is 4 to 64 hexadecimal digits, got {evaluation_id!r}")
        with self._session() as session:
            rows = session.scalars(
                sa.select(EvaluationRow).where(EvaluationRow.key.startswith(evaluation_id)).limit(2)
            ).all()
            if not rows:
                raise UnknownNameError(
                    f"no stored evaluation has the id {evaluation_id!r}; see the ids with: search show NAME --ids"
                )
            if len(rows) > 1:
                raise UsageError(f"several evaluations have an id that begins with {evaluation_id!r}; give more of it")
            (row,) = rows
            if row.version != EVALUATION_VERSION:
                raise UsageError(
                    f"evaluation {evaluation_id!r} was made by another release, which trained and measured in another "
                    "way; search again"
                )
            return _record(row), row.task, row.hardware

    def record_evaluation(
        self, key: str, evaluation: Evaluation, *, task: str, hardware: str, seed: int, effort: str = "standard"
    ) -> Record:
        """Store an evaluation; one that another process stored meanwhile is left as it is."""
        row = EvaluationRow(
            key=key,
            version=EVALUATION_VERSION,
            task=task,
            hardware=hardware,
            effort=effort,
            stopped=evaluation.stopped,
            seed=seed,
            candidate_key=evaluation.candidate.key,
            own_multipliers=_own_multipliers(evaluation.candidate),
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
                row = session.get_one(EvaluationRow, key)
            return _record(row)

    def record_test(self, key: str, accuracies: Sequence[float]) -> None:
        """Store an evaluation's accuracies on the test images, one per chip."""
        with self._session() as session:
            session.get_one(EvaluationRow, key).test_accuracies = list(accuracies)

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
                TrialRow(
                    search_id=search.id,
                    trial_number=trial_number,
                    evaluation_key=evaluation_key,
                    error=error,
                )
            )

    def trial_counts(self, search: SearchRecord) -> TrialCounts:
        """How the trials of a search ended."""
        columns = (
            sa.func.count(TrialRow.evaluation_key),
            sa.func.count(TrialRow.evaluation_key.distinct()),
            sa.func.count(TrialRow.error),
        )
        with self._session() as session:
            row = session.execute(sa.select(*columns).where(TrialRow.search_id == search.id)).one()
        return TrialCounts(finished=row[0], distinct=row[1], failed=row[2])

    def trial_ends(self, search: SearchRecord) -> list[TrialEnd]:
        """How each trial of a search ended, in order of trial."""
        with self._session() as session:
            rows = session.scalars(
                sa.select(TrialRow).where(TrialRow.search_id == search.id).order_by(TrialRow.trial_number)
            )
            return [
                TrialEnd(number=row.trial_number, evaluation_key=row.evaluation_key, error=row.error) for row in rows
            ]

    def search_evaluations(
        self, search: SearchRecord, *, candidate: Candidate | None = None, limit: int | None = None
    ) -> list[Record]:
        """The distinct evaluations of a search in order of first trial.

        Args:
            search: The search.
            candidate: Of which, if not of all.
            limit: How many at most; by default all.
        """
        chosen = _of_search(sa.select(EvaluationRow), search).limit(limit)
        if candidate is not None:
            chosen = chosen.where(EvaluationRow.candidate_key == candidate.key)
        with self._session() as session:
            return [_record(row) for row in session.scalars(chosen)]

    def search_evaluations_with_runs(self, search: SearchRecord) -> list[Record]:
        """Those whose candidates have fresh runs."""
        made = selecting.has_runs(search.task, search.hardware, search.settings.effort)
        with self._session() as session:
            return [_record(row) for row in session.scalars(_of_search(sa.select(EvaluationRow), search).where(made))]

    def search_front(self, search: SearchRecord) -> list[Record]:
        """The evaluations of a search that no other beats in accuracy and all costs, most accurate first."""
        costs = [EvaluationRow.energy_pj]
        if search.settings.third is not None:
            costs.append(EvaluationRow.content[search.settings.third].as_float())
        columns = sa.select(EvaluationRow.key, -EvaluationRow.accuracy, *costs)
        with self._session() as session:
            # As in `front`, only the figures of all are read.
            rows = session.execute(_of_search(columns, search).where(sa.not_(EvaluationRow.stopped))).all()
            points = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 1 + len(costs))
            keys = [row[0] for row, kept in zip(rows, non_dominated_mask(points), strict=True) if kept]
            members = session.scalars(sa.select(EvaluationRow).where(EvaluationRow.key.in_(keys)))
            records = [_record(row) for row in members]
        return sorted(records, key=lambda one: (-one.evaluation.accuracy, one.evaluation.energy_pj, one.key))

    def evaluation_of(
        self, candidate: Candidate, *, task: str, hardware: str, effort: str = "standard"
    ) -> Record | None:
        """A current evaluation of a candidate, under any seed."""
        with self._session() as session:
            row = session.scalars(
                sa.select(EvaluationRow)
                .where(*selecting.comparable(task, hardware, effort), EvaluationRow.candidate_key == candidate.key)
                .order_by(EvaluationRow.seed)
            ).first()
            return None if row is None else _record(row)

    def evaluations(
        self,
        *,
        task: str,
        hardware: str,
        min_accuracy: float = 0.0,
        max_pj: float = math.inf,
        effort: str = "standard",
        without_multipliers: Collection[str] = (),
    ) -> list[Record]:
        """Every current, whole evaluation of a task on a hardware at or above an accuracy, cheapest first.

        Args:
            task: Task identity.
            hardware: Hardware identity.
            min_accuracy: Of them.
            max_pj: Their highest energy.
            effort: Of them.
            without_multipliers: Imported ones, by identity; evaluations of candidates with one of them are left out.
        """
        with self._session() as session:
            rows = session.scalars(
                sa.select(EvaluationRow)
                .where(
                    *selecting.comparable(task, hardware, effort),
                    *selecting.without_multipliers(session, without_multipliers),
                    EvaluationRow.accuracy >= min_accuracy,
                    *([] if math.isinf(max_pj) else [EvaluationRow.energy_pj <= max_pj]),
                )
                .order_by(EvaluationRow.energy_pj, EvaluationRow.key)
            )
            return [_record(row) for row in rows]

    def evaluations_with_runs(
        self,
        *,
        task: str,
        hardware: str,
        effort: str,
        without_multipliers: Collection[str] = (),
    ) -> list[Record]:
        """Those whose candidates have fresh runs, whatever their accuracy; see `evaluations`."""
        with self._session() as session:
            rows = session.scalars(
                sa.select(EvaluationRow).where(
                    *selecting.comparable(task, hardware, effort),
                    *selecting.without_multipliers(session, without_multipliers),
                    selecting.has_runs(task, hardware, effort),
                )
            )
            # Not sorted by SQLite, which would read every evaluation for it.
            return [_record(row) for row in sorted(rows, key=lambda row: (row.energy_pj, row.key))]

    def keys_with_runs(self, *, task: str, hardware: str, effort: str) -> list[str]:
        """The keys of all evaluations whose candidates have fresh runs."""
        with self._session() as session:
            chosen = sa.select(EvaluationRow.key).where(
                *selecting.comparable(task, hardware, effort), selecting.has_runs(task, hardware, effort)
            )
            return sorted(session.scalars(chosen))  # sorted by SQLite, it would read every evaluation for it

    def front(
        self,
        *,
        task: str,
        hardware: str,
        effort: str = "standard",
        min_accuracy: float = 0.0,
        without_multipliers: Collection[str] = (),
        without_seed: int | None = None,
        near: Candidate | None = None,
        by: Collection[str] = (),
    ) -> list[Record]:
        """The current, whole evaluations that no other beats in accuracy and energy, cheapest first.

        Args:
            task: Task identity.
            hardware: Hardware identity.
            effort: Of the evaluations.
            min_accuracy: Of them.
            without_multipliers: As for `evaluations`.
            without_seed: Of searches whose evaluations are left out.
            near: A candidate; only of those that differ from it.
            by: And do so by no other knobs than these.
        """
        conditions = [*selecting.comparable(task, hardware, effort), EvaluationRow.accuracy >= min_accuracy]
        if without_seed is not None:
            conditions.append(EvaluationRow.seed != without_seed)
        if near is not None:
            conditions += [EvaluationRow.candidate_key != near.key, *selecting.alike(near.canonical(), but=by)]
        with self._session() as session:
            # Only the figures of all are read, and all of the few on the front.
            keys = [
                key
                for key, _ in selecting.rising(
                    session, [*conditions, *selecting.without_multipliers(session, without_multipliers)]
                )
            ]
            members = session.scalars(sa.select(EvaluationRow).where(EvaluationRow.key.in_(keys)))
            rows = {row.key: row for row in members}
            return [_record(rows[key]) for key in keys]

    def front_points(
        self, *, task: str, hardware: str, effort: str, without_multipliers: Collection[str] = ()
    ) -> list[tuple[str, float]]:
        """The keys and accuracies of the same, without what is known of each."""
        with self._session() as session:
            return selecting.rising(
                session,
                [
                    *selecting.comparable(task, hardware, effort),
                    *selecting.without_multipliers(session, without_multipliers),
                ],
            )

    def confirmation_runs(
        self, candidate: Candidate, *, task: str, hardware: str, effort: str
    ) -> list[ConfirmationRun]:
        """The fresh runs of a candidate, in order of their number."""
        with self._session() as session:
            rows = session.scalars(
                sa.select(ConfirmationRow)
                .where(ConfirmationRow.key == _confirmation_key(candidate, task, hardware, effort))
                .order_by(ConfirmationRow.run)
            )
            return [ConfirmationRun.from_dict(row.content) for row in rows]

    def all_confirmation_runs(self, *, task: str, hardware: str, effort: str) -> dict[str, list[ConfirmationRun]]:
        """The fresh runs of every candidate, each in order of their number: key of the candidate -> runs."""
        found: dict[str, list[ConfirmationRun]] = {}
        with self._session() as session:
            rows = session.scalars(
                sa.select(ConfirmationRow)
                .where(*selecting.comparable_runs(task, hardware, effort))
                .order_by(ConfirmationRow.run)
            )
            for row in rows:
                found.setdefault(row.candidate_key, []).append(ConfirmationRun.from_dict(row.content))
        return found

    def record_confirmation(self, run: ConfirmationRun, *, task: str, hardware: str, effort: str) -> None:
        """Store a fresh run of a candidate; one that is stored already is left as it is."""
        row = ConfirmationRow(
            key=_confirmation_key(run.candidate, task, hardware, effort),
            run=run.run,
            version=EVALUATION_VERSION,
            task=task,
            hardware=hardware,
            effort=effort,
            candidate_key=run.candidate.key,
            content=run.to_dict(),
            created_at=_now(),
        )
        with self._session() as session:
            try:
                with session.begin_nested():
                    session.add(row)
            except IntegrityError:
                pass


def _of_search(chosen: sa.Select[*Columns], search: SearchRecord) -> sa.Select[*Columns]:
    """Of evaluations, the distinct ones of a search in order of first trial."""
    return (
        chosen.join(TrialRow, TrialRow.evaluation_key == EvaluationRow.key)
        .where(TrialRow.search_id == search.id)
        .group_by(EvaluationRow.key)
        .order_by(sa.func.min(TrialRow.trial_number))
    )


def _confirmation_key(candidate: Candidate, task: str, hardware: str, effort: str) -> str:
    return content_hash(
        {
            "version": EVALUATION_VERSION,
            "task": task,
            "hardware": hardware,
            "effort": effort,
            "candidate": candidate.canonical().to_dict(),
        }
    )


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _own_multipliers(candidate: Candidate) -> str | None:
    """The multipliers of a candidate that do not come along, as they are stored; None if there are none."""
    names = sorted({name for name in candidate.multipliers if is_imported(name)})
    return json.dumps(names) if names else None


def _search_record(row: SearchRow) -> SearchRecord:
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
        multipliers=None if row.multipliers is None else tuple(row.multipliers),
        settings=_settings(row.settings),
        space=row.space,
    )


def _settings(content: Mapping[str, Any] | None) -> SearchSettings:
    if content is None:  # an earlier release's
        return SearchSettings(prescreen=False)
    return SearchSettings(**{**content, "starts": tuple(content["starts"])})


def _record(row: EvaluationRow) -> Record:
    tested = row.test_accuracies
    return Record(
        key=row.key,
        seed=row.seed,
        evaluation=Evaluation.from_dict(row.content),
        test_accuracies=None if tested is None else tuple(tested),
        effort=row.effort,
    )
