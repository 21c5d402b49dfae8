"""The results database: SQLite by default, PostgreSQL by URL.

Optuna keeps its own tables in the same database, where its dashboard finds them. Ours hold what Optuna has no place for
and what searches share.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from search.store.evaluations import Evaluations
from search.store.runs import Runs
from search.store.schema import Sessions, open_engine
from search.store.searches import Searches
from search.store.tables import ConfirmationRow, EvaluationRow, SearchRow
from search.store.tasks import Tasks


class Store:
    """The results database. Open it with `Store.open`, close it after use.

    Attributes:
        url: SQLAlchemy URL.
        searches: Searches and how their trials ended.
        evaluations: Evaluations, which searches share.
        runs: Fresh runs, which confirm answers.
        tasks: What results are of.
    """

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self._engine = engine
        self._sessions = Sessions(url, engine)
        self.searches = Searches(self._sessions)
        self.evaluations = Evaluations(self._sessions)
        self.runs = Runs(self._sessions)
        self.tasks = Tasks(self._sessions)

    @classmethod
    def open(cls, url: str, *, create: bool) -> Store:
        """Open the database and bring its schema up to date.

        Args:
            url: SQLAlchemy URL.
            create: Whether to create an SQLite file that does not exist.

        Raises:
            StorageError: If it cannot be opened, is not a database, belongs to another application, or was written by a
                newer version.
        """
        return cls(url, open_engine(url, create=create))

    def close(self) -> None:
        """Close the database connections."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def revision(self) -> tuple[int, int, datetime | None]:
        """A value that changes when an evaluation or a fresh run is stored, or a search finishes.

        Returns:
            The numbers of evaluations and fresh runs, and when the last search finished.
        """
        columns = (
            sa.select(sa.func.count()).select_from(EvaluationRow).scalar_subquery(),
            sa.select(sa.func.count()).select_from(ConfirmationRow).scalar_subquery(),
            sa.select(sa.func.max(SearchRow.finished_at)).scalar_subquery(),
        )
        with self._sessions.begin() as session:
            evaluations, runs, ended = session.execute(sa.select(*columns)).one()
        return evaluations, runs, ended
