"""Conditions on stored evaluations and fresh runs, and the front among those that meet them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy.orm import Session

from search.evaluation.evaluation import EVALUATION_VERSION
from search.space.candidate import Candidate
from search.store.setup import Setup
from search.store.tables import ConfirmationRow, EvaluationRow


def comparable(setup: Setup) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on evaluations that can be compared with new ones of a setup."""
    return (
        EvaluationRow.task == setup.task,
        EvaluationRow.hardware == setup.hardware,
        EvaluationRow.version == EVALUATION_VERSION,
        EvaluationRow.effort == setup.effort,
        sa.not_(EvaluationRow.stopped),
    )


def within(max_area_mm2: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on evaluations of at most an area in mm2, which may be infinite."""
    return () if math.isinf(max_area_mm2) else (EvaluationRow.area_mm2 <= max_area_mm2,)


def without_multipliers(session: Session, multipliers: Collection[str]) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on evaluations whose candidates have none of some imported multipliers.

    Args:
        session: Reads which multipliers stored candidates have.
        multipliers: Identities of the imported multipliers.
    """
    if not multipliers:
        return ()
    stored = EvaluationRow.own_multipliers
    found = session.scalars(sa.select(stored).where(stored.is_not(None)).distinct())
    left_out = [names for names in found if names is not None and not {*multipliers}.isdisjoint(json.loads(names))]
    return (sa.or_(stored.is_(None), stored.not_in(left_out)),) if left_out else ()


def alike(candidate: Candidate, *, but: Collection[str]) -> Iterator[sa.ColumnElement[bool]]:
    """Conditions on evaluations whose candidates equal another one, except in some knobs.

    Args:
        candidate: The other candidate, in canonical form.
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


def comparable_runs(setup: Setup) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on fresh runs that can be compared with new ones of a setup."""
    return (
        ConfirmationRow.task == setup.task,
        ConfirmationRow.hardware == setup.hardware,
        ConfirmationRow.version == EVALUATION_VERSION,
        ConfirmationRow.effort == setup.effort,
    )


def has_runs(setup: Setup) -> sa.ColumnElement[bool]:
    """The condition that an evaluation's candidate has fresh runs of a setup."""
    made = sa.select(ConfirmationRow.candidate_key).where(*comparable_runs(setup))
    return EvaluationRow.candidate_key.in_(made)


def rising(session: Session, conditions: Sequence[sa.ColumnElement[bool]]) -> list[tuple[str, float]]:
    """Keys and accuracies of the evaluations that are more accurate than all cheaper ones, cheapest first.

    Each is looked up from the one before it, so that the database walks the index once: ten times faster than reading
    it whole, for a front of ten among 10,000.

    Args:
        session: Reads them.
        conditions: Conditions that evaluations have to meet.
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
