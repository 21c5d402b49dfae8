"""Fresh runs of candidates; see `search.answers.confirmation`."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from search.content_hash import content_hash
from search.evaluation.confirmation_run import ConfirmationRun
from search.evaluation.evaluation import EVALUATION_VERSION
from search.space.candidate import Candidate
from search.store import queries
from search.store.schema import Sessions
from search.store.setup import Setup
from search.store.tables import ConfirmationRow, now


class Runs:
    """The fresh runs of a database."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def of(self, candidate: Candidate, setup: Setup) -> list[ConfirmationRun]:
        """The fresh runs of a candidate, by their number."""
        with self._sessions.begin() as session:
            rows = session.scalars(
                sa.select(ConfirmationRow)
                .where(ConfirmationRow.key == _key(candidate, setup))
                .order_by(ConfirmationRow.run)
            )
            return [ConfirmationRun.from_dict(row.content) for row in rows]

    def by_candidate(self, setup: Setup) -> dict[str, list[ConfirmationRun]]:
        """The fresh runs of every candidate, each candidate's by their number: key of the candidate -> runs."""
        found: dict[str, list[ConfirmationRun]] = {}
        with self._sessions.begin() as session:
            rows = session.scalars(
                sa.select(ConfirmationRow).where(*queries.comparable_runs(setup)).order_by(ConfirmationRow.run)
            )
            for row in rows:
                found.setdefault(row.candidate_key, []).append(ConfirmationRun.from_dict(row.content))
        return found

    def record(self, run: ConfirmationRun, setup: Setup) -> None:
        """Store a fresh run of a candidate, unless it is stored already."""
        row = ConfirmationRow(
            key=_key(run.candidate, setup),
            run=run.run,
            version=EVALUATION_VERSION,
            task=setup.task,
            hardware=setup.hardware,
            effort=setup.effort,
            candidate_key=run.candidate.key,
            content=run.to_dict(),
            created_at=now(),
        )
        with self._sessions.begin() as session:
            try:
                with session.begin_nested():
                    session.add(row)
            except IntegrityError:
                pass


def _key(candidate: Candidate, setup: Setup) -> str:
    return content_hash(
        {
            "version": EVALUATION_VERSION,
            "task": setup.task,
            "hardware": setup.hardware,
            "effort": setup.effort,
            "candidate": candidate.canonical().to_dict(),
        }
    )
