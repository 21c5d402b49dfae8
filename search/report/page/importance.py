"""The importance of knobs: how far each sets the best evaluations of a search apart from the rest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from search.space.candidate import NOMINAL_V, Candidate
from search.space.search_space import SearchSpace
from search.store.records import Record, SearchRecord

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_FEWEST = 30  # with fewer, the best tenth is one or two evaluations, which say nothing about a knob

_KNOBS = {"sparsity_percent": "sparsity", "supply_mv": "supply_v"}  # genes whose knob has a different name


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """The importance of each knob for one objective.

    Attributes:
        shares: Knob -> its share, largest first; they add up to 1. Empty if unknown.
        missing: The reason why shares are unknown, as a sentence; else empty.
    """

    shares: dict[str, float]
    missing: str = ""


def searched_space(search: SearchRecord) -> SearchSpace:
    """Return the space of a search with the multipliers that it chooses among."""
    space = search.task.space.with_values(search.space)
    return replace(space, multipliers=search.multipliers)


def knobs_of(space: SearchSpace) -> dict[str, bool]:
    """Return the knobs of a space as `Candidate` names them, each once: knob -> whether the space varies it.

    In a layered space, those of the first and of the last layer are knobs of their own, and `multiplier` and
    `robust_bits` are those of the layers between; in any other space all layers share one.
    """
    return {_KNOBS.get(gene, gene): not values.single() for gene, values in space.distributions().items()}


def knob_importance(
    records: Sequence[Record], values: Sequence[float], space: SearchSpace, *, maximised: bool
) -> Importance:
    """Return the importance of each knob for being among the best tenth, by PED-ANOVA (Watanabe et al., 2023).

    It is computed from the different evaluations, whose candidates are in canonical form, not from the trials: so a
    repeated evaluation counts once, and a gene that another one made meaningless does not count at all.

    Args:
        records: The different evaluations of a search that are in its space.
        values: The objective of each; only the order matters.
        space: The space; only its knobs are considered.
        maximised: Whether larger is better.
    """
    if len(records) < _FEWEST:
        return Importance(shares={}, missing=f"Unknown: this takes at least {_FEWEST} different evaluations.")
    if len(set(values)) == 1:
        return Importance(shares={}, missing="Unknown: all evaluations have the same value.")
    varied = [knob for knob, varies in knobs_of(space).items() if varies]
    if not _has_robust_bits([record.evaluation.candidate for record in records]):
        varied = [knob for knob in varied if not knob.startswith("robust_bits")]
    candidates = [_knobs(record.evaluation.candidate) for record in records]
    distributions = {}
    for knob in varied:
        found = _distribution([candidate[knob] for candidate in candidates])
        if found is not None:
            distributions[knob] = found
    if not distributions:
        return Importance(shares={}, missing="Unknown: no knob varied.")

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
        warnings.simplefilter("ignore")  # about experimental methods, and about ties for the best tenth
        shares = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    if not all(share == share for share in shares.values()) or not sum(shares.values()):
        return Importance(shares={}, missing="Unknown: the best evaluations are like the others.")
    return Importance(shares=dict(sorted(shares.items(), key=lambda item: (-item[1], item[0]))))


def _knobs(candidate: Candidate) -> dict[str, Any]:
    """Return all knobs that a candidate may have, with those of the first and the last layer."""
    first, _, last = candidate.groups
    return {
        **candidate.to_dict(),
        "multiplier_first": first.multiplier,
        "multiplier_last": last.multiplier,
        "robust_bits_first": first.robust_bits,
        "robust_bits_last": last.robust_bits,
    }


def _has_robust_bits(candidates: Sequence[Candidate]) -> bool:
    """Whether robust bits were a choice, as they are in a hybrid memory only.

    The stored space does not say of what cells the memory is. In one of 8T cells every bit is robust, so that the
    canonical form follows the width of the weights, as if it were a knob that varies.
    """
    return any(
        choice.robust_bits < candidate.weight_bits
        for candidate in candidates
        if candidate.supply_v < NOMINAL_V
        for choice in candidate.groups
    )


def _distribution(values: Sequence[Any]) -> BaseDistribution | None:
    """Return the distribution over which a knob varied; None if it did not."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    different = sorted(set(values))
    if len(different) == 1:
        return None
    if isinstance(different[0], str):
        return CategoricalDistribution(different)
    if isinstance(different[0], int):
        return IntDistribution(different[0], different[-1])
    return FloatDistribution(different[0], different[-1])
