"""Searches and how their trials ended."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from search.errors import UnknownNameError, UsageError
from search.locations import without_password
from search.space.target import Target
from search.space.task import Task
from search.store.records import SearchRecord, SearchSettings, TrialCounts, TrialEnd
from search.store.schema import Sessions
from search.store.tables import SearchRow, TaskRow, TrialRow, now
from search.store.tasks import keep_task, task_of_row


class Searches:
    """The searches of a database."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def create(
        self,
        *,
        name: str | None,
        task: Task,
        hardware: str,
        seed: int,
        budget: int,
        population_size: int,
        target: Target,
        multipliers: Sequence[str],
        settings: SearchSettings,
        space: Mapping[str, Any],
        data_dir: Path | None = None,
        taken: Collection[str] = (),
    ) -> SearchRecord:
        """Store a new search; see `SearchRecord`.

        Args:
            name: Its name; by default the dataset's name and the first free number.
            task: Its task, which is stored too.
            hardware: Hardware identity.
            seed: Seed of everything random in it.
            budget: Evaluations to make.
            population_size: Evaluations per generation.
            target: What its answer has to keep.
            multipliers: The multipliers among which it chooses, as candidates call them.
            settings: How it proceeds.
            space: The space that it searches, as `SearchSpace.to_dict` returns it.
            data_dir: Absolute path of the folder of images that it is made with.
            taken: Names in use elsewhere, such as those of the user's own Optuna studies.

        Raises:
            UsageError: If the name is taken, or has characters other than letters, digits, '.', '_' and '-'.
        """
        if name is not None and not re.fullmatch(r"[\w.-]{1,100}", name, re.ASCII):
            raise UsageError(f"`name` may have up to 100 letters, digits, '.', '_' and '-', got {name!r}")
        with self._sessions.begin() as session:
            taken = {*taken, *session.scalars(sa.select(SearchRow.name))}
            if name is None:
                number = 1
                while f"{task.name}-{number}" in taken:
                    number += 1
                name = f"{task.name}-{number}"
            elif name in taken:
                raise UsageError(
                    f"a search or study named {name!r} exists; continue it with `resume`, or choose another `name`"
                )
            keep_task(session, task)
            row = SearchRow(
                name=name,
                task=task.identity,
                hardware=hardware,
                seed=seed,
                budget=budget,
                population_size=population_size,
                min_accuracy=target.min_accuracy,
                max_accuracy_drop=target.max_accuracy_drop,
                max_area=target.max_area,
                multipliers=list(multipliers),
                settings=asdict(settings),
                space=dict(space),
                data_dir=None if data_dir is None else str(data_dir),
                created_at=now(),
            )
            session.add(row)
            session.flush()
            return _record(row, task)

    def all(self) -> list[SearchRecord]:
        """All searches, newest first."""
        with self._sessions.begin() as session:
            chosen = (
                sa.select(SearchRow, TaskRow.content)
                .outerjoin(TaskRow, TaskRow.identity == SearchRow.task)
                .order_by(SearchRow.id.desc())
            )
            return [_record(row, task_of_row(row.task, content)) for row, content in session.execute(chosen)]

    def find(self, name: str) -> SearchRecord:
        """The search of this name.

        Raises:
            UnknownNameError: If there is none.
        """
        found = {search.name: search for search in self.all()}
        if name in found:
            return found[name]
        near = get_close_matches(name, found, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownNameError(
            f"no search named {name!r} in {without_password(self._sessions.url)}; {hint}list them with: search show"
        )

    def reopen(
        self, search: SearchRecord, *, budget: int, target: Target | None = None, data_dir: Path | None = None
    ) -> SearchRecord:
        """Mark a search unfinished, with a new budget.

        Args:
            search: The search.
            budget: Evaluations to make, including those made before.
            target: Replaces its target, if given.
            data_dir: Replaces its folder of images, if given.
        """
        with self._sessions.begin() as session:
            row = session.get_one(SearchRow, search.id)
            row.budget = budget
            if target is not None:
                row.min_accuracy, row.max_accuracy_drop = target.min_accuracy, target.max_accuracy_drop
                row.max_area = target.max_area
            if data_dir is not None:
                row.data_dir = str(data_dir)
            row.finished_at = None
            session.flush()
            return _record(row, search.task)

    def finish(self, search: SearchRecord) -> None:
        """Mark a search finished."""
        with self._sessions.begin() as session:
            session.get_one(SearchRow, search.id).finished_at = now()

    def record_trial(
        self,
        search: SearchRecord,
        trial_number: int,
        *,
        evaluation_key: str | None = None,
        error: str | None = None,
    ) -> None:
        """Store how a trial ended: with an evaluation or with an error."""
        with self._sessions.begin() as session:
            session.merge(
                TrialRow(
                    search_id=search.id,
                    trial_number=trial_number,
                    evaluation_key=evaluation_key,
                    error=error,
                )
            )

    def trial_counts(self, search: SearchRecord) -> TrialCounts:
        """How the trials of a search ended, counted."""
        columns = (
            sa.func.count(TrialRow.evaluation_key),
            sa.func.count(TrialRow.evaluation_key.distinct()),
            sa.func.count(TrialRow.error),
        )
        with self._sessions.begin() as session:
            row = session.execute(sa.select(*columns).where(TrialRow.search_id == search.id)).one()
        return TrialCounts(finished=row[0], distinct=row[1], failed=row[2])

    def trial_ends(self, search: SearchRecord) -> list[TrialEnd]:
        """How each trial of a search ended, by trial number."""
        with self._sessions.begin() as session:
            rows = session.scalars(
                sa.select(TrialRow).where(TrialRow.search_id == search.id).order_by(TrialRow.trial_number)
            )
            return [
                TrialEnd(number=row.trial_number, evaluation_key=row.evaluation_key, error=row.error) for row in rows
            ]


def _record(row: SearchRow, task: Task) -> SearchRecord:
    return SearchRecord(
        id=row.id,
        name=row.name,
        task=task,
        hardware=row.hardware,
        seed=row.seed,
        budget=row.budget,
        population_size=row.population_size,
        target=Target(min_accuracy=row.min_accuracy, max_accuracy_drop=row.max_accuracy_drop, max_area=row.max_area),
        multipliers=tuple(row.multipliers),
        settings=SearchSettings(**{**row.settings, "starts": tuple(row.settings["starts"])}),
        space=row.space,
        data_dir=None if row.data_dir is None else Path(row.data_dir),
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
