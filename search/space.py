"""The search space: a flat, fixed set of genes, and what they mean.

Every candidate has every gene, because NSGA-II only crosses genes that all candidates have; a gene made meaningless by
another is neutralised by the candidate's canonical form. Ordered knobs are integers, so that crossover sees their
order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.candidate import NOMINAL_V, Candidate

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MULTIPLIERS = (
    "exact",
    "truncated-2",
    "truncated-4",
    "truncated-6",
    "asm-1",
    "asm-1-3",
    "asm-1-3-5-7",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The joint space over some network families.

    Attributes:
        families: Network families; the last one's largest member is the baseline.
        max_depth: The largest depth, which every family allows.
        max_width: The largest width, which every family allows.
    """

    families: tuple[str, ...]
    max_depth: int
    max_width: int

    def distributions(self) -> dict[str, BaseDistribution]:
        """Gene name -> its Optuna distribution."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        return {
            "family": CategoricalDistribution(self.families),
            "depth": IntDistribution(1, self.max_depth),
            "width": IntDistribution(1, self.max_width),
            "sparsity_percent": IntDistribution(0, 95, step=5),
            "weight_bits": IntDistribution(2, 8),
            "activation_bits": IntDistribution(2, 8),
            "multiplier": CategoricalDistribution(MULTIPLIERS),
            "supply_mv": IntDistribution(700, 900, step=10),
            "robust_bits": IntDistribution(0, 4),
        }

    def decode(self, genes: Mapping[str, Any]) -> Candidate:
        """The candidate, in canonical form, that a genome stands for."""
        return Candidate(
            family=genes["family"],
            depth=genes["depth"],
            width=genes["width"],
            sparsity=genes["sparsity_percent"] / 100,
            weight_bits=genes["weight_bits"],
            activation_bits=genes["activation_bits"],
            multiplier=genes["multiplier"],
            supply_v=genes["supply_mv"] / 1000,
            robust_bits=genes["robust_bits"],
        ).canonical()

    def encode(self, candidate: Candidate) -> dict[str, Any]:
        """The genome of a candidate of this space."""
        return {
            "family": candidate.family,
            "depth": candidate.depth,
            "width": candidate.width,
            "sparsity_percent": round(candidate.sparsity * 100),
            "weight_bits": candidate.weight_bits,
            "activation_bits": candidate.activation_bits,
            "multiplier": candidate.multiplier,
            "supply_mv": round(candidate.supply_v * 1000),
            "robust_bits": candidate.robust_bits,
        }

    def baseline(self) -> Candidate:
        """What every saving is measured against: the largest network, dense, 8-bit exact, at nominal voltage."""
        return Candidate(
            family=self.families[-1],
            depth=self.max_depth,
            width=self.max_width,
            sparsity=0.0,
            weight_bits=8,
            activation_bits=8,
            multiplier="exact",
            supply_v=NOMINAL_V,
            robust_bits=0,
        )
