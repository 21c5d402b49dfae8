"""The search space: a flat, fixed set of genes, and what they mean.

Every candidate has every gene, because NSGA-II only crosses genes that all candidates have; a gene made meaningless by
another is neutralised by the candidate's canonical form. Ordered knobs are integers, so that crossover sees their
order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from search.candidate import NOMINAL_V, Candidate

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from energy.hardware import Cell
    from search.multiplier_choice import ChosenMultiplier

# Unless a search is given others: the exact one; of the catalogue, those that no other beats in both mean absolute
# error and energy (with weights held), unless they make something of a zero operand, which hardware skips; and the
# alphabet sets, whose networks are trained for them, so that their error says little. A test computes them anew.
MULTIPLIERS = (
    "exact",
    "asm-1",
    "asm-1-3",
    "asm-1-3-5-7",
    "broken-array-1-4",
    "broken-array-2-6",
    "ssm-4",
    "truncated-2",
    "truncated-4",
    "truncated-6",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The joint space over some network families.

    Attributes:
        families: Network families; the last one's largest member is the baseline.
        max_depth: The largest depth, which every family allows.
        max_width: The largest width, which every family allows.
        multipliers: As candidates call them; the exact one is among them.
        widest: Of multipliers that do not take all operands, the widest weights and activations. Wider ones are
            narrowed to these, so that every genome stands for a candidate that can be evaluated.
        robust_bits: Fewest and most top bits of a weight in 8T cells.
    """

    families: tuple[str, ...]
    max_depth: int
    max_width: int
    multipliers: tuple[str, ...] = MULTIPLIERS
    widest: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    robust_bits: tuple[int, int] = (0, 4)

    def restricted(self, multipliers: Sequence[ChosenMultiplier], weight_cell: Cell) -> SearchSpace:
        """This space with a choice of multipliers, on hardware whose weight memory has such cells.

        Only a hybrid memory leaves a choice of robust bits: of 6T cells none is robust, of 8T cells all are.
        """
        return replace(
            self,
            multipliers=tuple(chosen.identity for chosen in multipliers),
            widest={
                chosen.identity: (chosen.max_weight_bits, chosen.max_activation_bits)
                for chosen in multipliers
                if chosen.limits
            },
            robust_bits={"6T": (0, 0), "8T": (8, 8), "hybrid": self.robust_bits}[weight_cell],
        )

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
            "multiplier": CategoricalDistribution(self.multipliers),
            "supply_mv": IntDistribution(700, 900, step=10),
            "robust_bits": IntDistribution(*self.robust_bits),
        }

    def decode(self, genes: Mapping[str, Any]) -> Candidate:
        """The candidate, in canonical form, that a genome stands for."""
        most_weight_bits, most_activation_bits = self.widest.get(genes["multiplier"], (8, 8))
        return Candidate(
            family=genes["family"],
            depth=genes["depth"],
            width=genes["width"],
            sparsity=genes["sparsity_percent"] / 100,
            weight_bits=min(genes["weight_bits"], most_weight_bits),
            activation_bits=min(genes["activation_bits"], most_activation_bits),
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
            "robust_bits": max(candidate.robust_bits, self.robust_bits[0]),
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
