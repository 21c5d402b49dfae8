"""Which knobs decided: how much each of them sets the best evaluations of a search apart from the rest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.space.candidate import Candidate
from search.store.records import Record

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_FEWEST = 30  # the best tenth of fewer is one evaluation or two, which say nothing of a knob


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """How much each knob decided about one objective.

    Attributes:
        shares: Knob -> its share, largest first; they add up to 1. Empty if they cannot be told.
        missing: Why they cannot be told, as a sentence; empty if they can.
    """

    shares: dict[str, float]
    missing: str = ""


def knob_importance(records: Sequence[Record], values: Sequence[float], *, maximised: bool) -> Importance:
    """The importance of each knob for being among the best tenth, by PED-ANOVA (Watanabe et al., 2023).

    It is told from the different evaluations, whose candidates are in canonical form, and not from the search's trials:
    so a repeated evaluation counts once, and a gene that another one made meaningless does not count at all.

    Args:
        records: The different evaluations of a search.
        values: The objective of each; only its order matters.
        maximised: Whether more of it is better.
    """
    if len(records) < _FEWEST:
        return Importance(shares={}, missing=f"It takes at least {_FEWEST} different evaluations to tell.")
    if len(set(values)) == 1:
        return Importance(shares={}, missing="Nothing to tell: all evaluations have the same value.")
    candidates = [_knobs(record.evaluation.candidate) for record in records]
    distributions = {}
    for knob in candidates[0]:
        found = _distribution([candidate[knob] for candidate in candidates])
        if found is not None:
            distributions[knob] = found
    if not distributions:
        return Importance(shares={}, missing="Nothing to tell: no knob was varied.")

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if maximised else "minimize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={knob: candidate[knob] for knob in distributions}, distributions=distributions, value=value
            )
            for candidate, value in zip(candidates, values, strict=True)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of experimental methods, and of trials that tie for the best tenth
        shares = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    if not all(share == share for share in shares.values()) or not sum(shares.values()):
        return Importance(shares={}, missing="Nothing to tell: the best evaluations are like the others.")
    return Importance(shares=dict(sorted(shares.items(), key=lambda item: (-item[1], item[0]))))


def _knobs(candidate: Candidate) -> dict[str, Any]:
    """All knobs of a candidate, with those of the first and the last layer."""
    first, _, last = candidate.groups
    return {
        **candidate.to_dict(),
        "multiplier_first": first.multiplier,
        "multiplier_last": last.multiplier,
        "robust_bits_first": first.robust_bits,
        "robust_bits_last": last.robust_bits,
    }


def _distribution(values: Sequence[Any]) -> BaseDistribution | None:
    """What a knob varied over; None if it did not vary."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    different = sorted(set(values))
    if len(different) == 1:
        return None
    if isinstance(different[0], str):
        return CategoricalDistribution(different)
    if isinstance(different[0], int):
        return IntDistribution(different[0], different[-1])
    return FloatDistribution(different[0], different[-1])
