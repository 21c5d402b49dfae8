"""Which evaluations belong to a question: conditions on what is stored, and the front among what meets them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy.orm import Session

from search.evaluation.evaluation import EVALUATION_VERSION
from search.space.candidate import Candidate
from search.store.schema import ConfirmationRow, EvaluationRow


def comparable(task: str, hardware: str, effort: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on evaluations that can be compared with ones made now.

    Args:
        task: Task identity.
        hardware: Hardware identity.
        effort: Of them.
    """
    return (
        EvaluationRow.task == task,
        EvaluationRow.hardware == hardware,
        EvaluationRow.version == EVALUATION_VERSION,
        EvaluationRow.effort == effort,
        sa.not_(EvaluationRow.stopped),
    )


def without_multipliers(session: Session, multipliers: Collection[str]) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on evaluations whose candidates have none of some imported multipliers.

    Args:
        session: By which it is read what multipliers stored candidates have.
        multipliers: By identity.
    """
    if not multipliers:
        return ()
    stored = EvaluationRow.own_multipliers
    found = session.scalars(sa.select(stored).where(stored.is_not(None)).distinct())
    left_out = [names for names in found if names is not None and not {*multipliers}.isdisjoint(json.loads(names))]
    return (sa.or_(stored.is_(None), stored.not_in(left_out)),) if left_out else ()


def alike(candidate: Candidate, *, but: Collection[str]) -> Iterator[sa.ColumnElement[bool]]:
    """Conditions on evaluations whose candidates have the same knobs as another, but for some.

    Args:
        candidate: The other, in canonical form.
        but: Knobs that may differ.
    """
    for field in fields(candidate):
        if field.name not in but:
            stored = EvaluationRow.content[("candidate", field.name)]
            match getattr(candidate, field.name):
                case None:
                    yield stored.as_string().is_(None)  # such knobs are not stored
                case int() | float() as number:
                    yield stored.as_float() == number
                case text:
                    yield stored.as_string() == text


def comparable_runs(task: str, hardware: str, effort: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on fresh runs that can be compared with ones made now.

    Args:
        task: Task identity.
        hardware: Hardware identity.
        effort: Of them.
    """
    return (
        ConfirmationRow.task == task,
        ConfirmationRow.hardware == hardware,
        ConfirmationRow.version == EVALUATION_VERSION,
        ConfirmationRow.effort == effort,
    )


def has_runs(task: str, hardware: str, effort: str) -> sa.ColumnElement[bool]:
    """The condition that fresh runs were made of an evaluation's candidate.

    Args:
        task: Task identity.
        hardware: Hardware identity.
        effort: Of them.
    """
    made = sa.select(ConfirmationRow.candidate_key).where(*comparable_runs(task, hardware, effort))
    return EvaluationRow.candidate_key.in_(made)


def rising(session: Session, conditions: Sequence[sa.ColumnElement[bool]]) -> list[tuple[str, float]]:
    """Keys and accuracies of the evaluations that are more accurate than all cheaper ones, cheapest first.

    Each is looked up from the one before it, so that the index is gone through once, by the database: ten times faster
    than to read it whole, for a front of ten among 10,000.

    Args:
        session: By which they are read.
        conditions: That evaluations have to meet.
    """
    following = (
        sa.select(EvaluationRow.key, EvaluationRow.accuracy, EvaluationRow.energy_pj)
        .where(
            *conditions,
            EvaluationRow.energy_pj >= sa.bindparam("energy_pj"),
            EvaluationRow.accuracy > sa.bindparam("accuracy"),
        )
        .order_by(EvaluationRow.energy_pj, EvaluationRow.accuracy.desc(), EvaluationRow.key)
        .limit(1)
    )
    found: list[tuple[str, float]] = []
    last = {"energy_pj": 0.0, "accuracy": -1.0}
    while (row := session.execute(following, last).first()) is not None:
        found.append((row.key, row.accuracy))
        last = {"energy_pj": row.energy_pj, "accuracy": row.accuracy}
    return found
