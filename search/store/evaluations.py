"""Evaluations, which all searches of a database share."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from typing import TypeVarTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from search.errors import UnknownNameError, UsageError
from search.evaluation.evaluation import EVALUATION_VERSION, Evaluation
from search.multipliers.identity import is_imported
from search.pareto import non_dominated_mask
from search.space.candidate import Candidate
from search.store import queries
from search.store.records import Record, SearchRecord, most_accurate_first
from search.store.schema import Sessions
from search.store.setup import Setup
from search.store.tables import EvaluationRow, TrialRow, now

Columns = TypeVarTuple("Columns")


class Evaluations:
    """The evaluations of a database."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def record(self, key: str, evaluation: Evaluation, setup: Setup, *, seed: int) -> Record:
        """Store an evaluation, unless another process stored it meanwhile; returns the stored one.

        Args:
            key: Content hash of everything it depends on.
            evaluation: The evaluation.
            setup: The task, hardware and effort that it was made with.
            seed: Seed of the search that made it.
        """
        row = EvaluationRow(
            key=key,
            version=EVALUATION_VERSION,
            task=setup.task,
            hardware=setup.hardware,
            effort=setup.effort,
            stopped=evaluation.stopped,
            seed=seed,
            candidate_key=evaluation.candidate.key,
            own_multipliers=_imported_multipliers(evaluation.candidate),
            accuracy=evaluation.accuracy,
            energy_pj=evaluation.energy_pj,
            area_mm2=evaluation.area_mm2,
            content=evaluation.to_dict(),
            test_accuracies=None,
            created_at=now(),
        )
        with self._sessions.begin() as session:
            try:
                with session.begin_nested():
                    session.add(row)
            except IntegrityError:
                row = session.get_one(EvaluationRow, key)
            return _record(row)

    def record_test(self, key: str, accuracies: Sequence[float]) -> None:
        """Store an evaluation's accuracies on the test images, one per chip."""
        with self._sessions.begin() as session:
            session.get_one(EvaluationRow, key).test_accuracies = list(accuracies)

    def find(self, key: str) -> Record | None:
        """The evaluation stored under a key."""
        with self._sessions.begin() as session:
            row = session.get(EvaluationRow, key)
            return None if row is None else _record(row)

    def with_id(self, evaluation_id: str) -> Record:
        """The evaluation whose key begins with an id.

        Raises:
            UsageError: If the id is not hexadecimal, several evaluations have it, or evaluations of its version cannot
                be compared with new ones.
            UnknownNameError: If there is none.
        """
        if not re.fullmatch(r"[0-9a-f]{4,64}", evaluation_id):
            raise UsageError(f"an evaluation's id is 4 to 64 hexadecimal digits, got {evaluation_id!r}")
        with self._sessions.begin() as session:
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
            return _record(row)

    def of_search(
        self, search: SearchRecord, *, candidate: Candidate | None = None, limit: int | None = None
    ) -> list[Record]:
        """The distinct evaluations of a search, in the order of their first trials.

        Args:
            search: The search.
            candidate: Only evaluations of this candidate; by default of all.
            limit: The largest number to return; by default all.
        """
        chosen = _of_search(sa.select(EvaluationRow), search).limit(limit)
        if candidate is not None:
            chosen = chosen.where(EvaluationRow.candidate_key == candidate.key)
        with self._sessions.begin() as session:
            return [_record(row) for row in session.scalars(chosen)]

    def of_search_with_runs(self, search: SearchRecord) -> list[Record]:
        """The distinct evaluations of a search whose candidates have fresh runs, in the order of their first trials."""
        chosen = _of_search(sa.select(EvaluationRow), search).where(queries.has_runs(search.setup))
        with self._sessions.begin() as session:
            return [_record(row) for row in session.scalars(chosen)]

    def front_of_search(self, search: SearchRecord, *, max_area_mm2: float = math.inf) -> list[Record]:
        """The evaluations of a search that no other beats in accuracy and all costs, most accurate first.

        Args:
            search: The search.
            max_area_mm2: Only among evaluations of at most this area.
        """
        costs = [EvaluationRow.energy_pj]
        if search.settings.third is not None:
            costs.append(EvaluationRow.content[search.settings.third].as_float())
        columns = sa.select(EvaluationRow.key, -EvaluationRow.accuracy, *costs)
        with self._sessions.begin() as session:
            # Rows are large: only the figures are read of all, and whole rows of the few on the front.
            chosen = _of_search(columns, search).where(sa.not_(EvaluationRow.stopped), *queries.within(max_area_mm2))
            rows = session.execute(chosen).all()
            points = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 1 + len(costs))
            keys = [row[0] for row, kept in zip(rows, non_dominated_mask(points), strict=True) if kept]
            members = session.scalars(sa.select(EvaluationRow).where(EvaluationRow.key.in_(keys)))
            return most_accurate_first(map(_record, members))

    def of_candidate(self, candidate: Candidate, setup: Setup) -> Record | None:
        """An evaluation of a candidate, of whichever seed; None if there is none."""
        with self._sessions.begin() as session:
            row = session.scalars(
                sa.select(EvaluationRow)
                .where(*queries.comparable(setup), EvaluationRow.candidate_key == candidate.key)
                .order_by(EvaluationRow.seed)
            ).first()
            return None if row is None else _record(row)

    def of_candidates(
        self, candidates: Collection[Candidate], setup: Setup, *, seed: int | None = None
    ) -> list[Record]:
        """The evaluations of some candidates that were not stopped early, cheapest first.

        Args:
            candidates: The candidates.
            setup: The task, hardware and effort of the evaluations.
            seed: Only evaluations by searches of this seed; by default of all.
        """
        keys = {candidate.key for candidate in candidates}
        chosen = sa.select(EvaluationRow).where(*queries.comparable(setup), EvaluationRow.candidate_key.in_(keys))
        if seed is not None:
            chosen = chosen.where(EvaluationRow.seed == seed)
        with self._sessions.begin() as session:
            rows = session.scalars(chosen)
            return [_record(row) for row in sorted(rows, key=lambda row: (row.energy_pj, row.key))]

    def keys_of_candidates(self, candidates: Collection[Candidate], setup: Setup) -> list[str]:
        """The keys of the evaluations that `of_candidates` returns, sorted; faster, because it reads only an index."""
        keys = {candidate.key for candidate in candidates}
        with self._sessions.begin() as session:
            chosen = sa.select(EvaluationRow.key).where(
                *queries.comparable(setup), EvaluationRow.candidate_key.in_(keys)
            )
            return sorted(session.scalars(chosen))

    def all(
        self,
        setup: Setup,
        *,
        min_accuracy: float = 0.0,
        max_pj: float = math.inf,
    ) -> list[Record]:
        """Every evaluation of a setup that was not stopped early, cheapest first.

        Args:
            setup: What they share.
            min_accuracy: The lowest accuracy.
            max_pj: The highest energy.
        """
        with self._sessions.begin() as session:
            rows = session.scalars(
                sa.select(EvaluationRow)
                .where(
                    *queries.comparable(setup),
                    EvaluationRow.accuracy >= min_accuracy,
                    *([] if math.isinf(max_pj) else [EvaluationRow.energy_pj <= max_pj]),
                )
                .order_by(EvaluationRow.energy_pj, EvaluationRow.key)
            )
            return [_record(row) for row in rows]

    def with_runs(self, setup: Setup, *, without_multipliers: Collection[str] = ()) -> list[Record]:
        """The evaluations whose candidates have fresh runs, cheapest first.

        Args:
            setup: What they share.
            without_multipliers: As for `front`.
        """
        with self._sessions.begin() as session:
            rows = session.scalars(
                sa.select(EvaluationRow).where(
                    *queries.comparable(setup),
                    *queries.without_multipliers(session, without_multipliers),
                    queries.has_runs(setup),
                )
            )
            # Sorted here, because SQLite would read every evaluation to sort these.
            return [_record(row) for row in sorted(rows, key=lambda row: (row.energy_pj, row.key))]

    def keys_with_runs(self, setup: Setup) -> list[str]:
        """The keys of all evaluations whose candidates have fresh runs, sorted."""
        with self._sessions.begin() as session:
            chosen = sa.select(EvaluationRow.key).where(*queries.comparable(setup), queries.has_runs(setup))
            return sorted(session.scalars(chosen))  # sorted here, because SQLite would read every evaluation for it

    def front(
        self,
        setup: Setup,
        *,
        min_accuracy: float = 0.0,
        max_area_mm2: float = math.inf,
        without_multipliers: Collection[str] = (),
        without_seed: int | None = None,
        near: Candidate | None = None,
        by: Collection[str] = (),
    ) -> list[Record]:
        """The evaluations of a setup that no other beats in accuracy and energy, cheapest first.

        Args:
            setup: What they share.
            min_accuracy: The lowest accuracy.
            max_area_mm2: Only among evaluations of at most this area.
            without_multipliers: Identities of imported multipliers; evaluations of candidates with one are left out.
            without_seed: Evaluations by searches of this seed are left out.
            near: Only evaluations of candidates that differ from this one,
            by: and only in these knobs.
        """
        conditions = [
            *queries.comparable(setup),
            EvaluationRow.accuracy >= min_accuracy,
            *queries.within(max_area_mm2),
        ]
        if without_seed is not None:
            conditions.append(EvaluationRow.seed != without_seed)
        if near is not None:
            conditions += [EvaluationRow.candidate_key != near.key, *queries.alike(near.canonical(), but=by)]
        with self._sessions.begin() as session:
            conditions += queries.without_multipliers(session, without_multipliers)
            keys = [key for key, _ in queries.rising(session, conditions)]
            members = session.scalars(sa.select(EvaluationRow).where(EvaluationRow.key.in_(keys)))
            rows = {row.key: row for row in members}
            return [_record(rows[key]) for key in keys]

    def front_points(
        self, setup: Setup, *, max_area_mm2: float = math.inf, without_multipliers: Collection[str] = ()
    ) -> list[tuple[str, float]]:
        """Keys and accuracies of the front of a setup, cheapest first; faster than `front`, whose arguments it has."""
        with self._sessions.begin() as session:
            conditions = [
                *queries.comparable(setup),
                *queries.within(max_area_mm2),
                *queries.without_multipliers(session, without_multipliers),
            ]
            return queries.rising(session, conditions)


def _of_search(chosen: sa.Select[*Columns], search: SearchRecord) -> sa.Select[*Columns]:
    """A selection of evaluations, limited to the distinct ones of a search in the order of their first trials."""
    return (
        chosen.join(TrialRow, TrialRow.evaluation_key == EvaluationRow.key)
        .where(TrialRow.search_id == search.id)
        .group_by(EvaluationRow.key)
        .order_by(sa.func.min(TrialRow.trial_number))
    )


def _imported_multipliers(candidate: Candidate) -> str | None:
    """The imported multipliers of a candidate, as a row holds them; None if there are none."""
    names = sorted({name for name in candidate.multipliers if is_imported(name)})
    return json.dumps(names) if names else None


def _record(row: EvaluationRow) -> Record:
    if row.version != EVALUATION_VERSION:
        raise UsageError(
            f"evaluation {row.key[:12]!r} was made by a version of crosslayer that trained and measured differently; "
            "search again"
        )
    tested = row.test_accuracies
    return Record(
        key=row.key,
        setup=Setup(task=row.task, hardware=row.hardware, effort=row.effort),
        seed=row.seed,
        evaluation=Evaluation.from_dict(row.content),
        test_accuracies=None if tested is None else tuple(tested),
    )
