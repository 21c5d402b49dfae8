"""The search space: a flat, fixed set of genes, and what they mean.

Every candidate has every gene, because NSGA-II only crosses genes that all candidates have; a gene made meaningless by
another is neutralised by the candidate's canonical form. Ordered knobs are integers, so that crossover sees their
order. A layered space has genes for the first and the last layer too, always.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from energy.cost_table import CostTable
from search.errors import UsageError
from search.multipliers.identity import multiplier_name
from search.space.candidate import NOMINAL_V, Candidate

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from energy.hardware import Cell
    from search.multipliers.choice import ChosenMultiplier

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


_ORDERED = ("depth", "width", "sparsity_percent", "weight_bits", "activation_bits", "supply_mv", "robust_bits")


def rising(numbers: Iterable[int]) -> Sequence[int]:
    """Numbers as the values of an ordered knob: a range if their steps are equal, or else a tuple.

    Args:
        numbers: At least one, in any order.
    """
    values = sorted(set(numbers))
    steps = {after - before for before, after in pairwise(values)}
    return tuple(values) if len(steps) > 1 else range(values[0], values[-1] + 1, *steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The joint space over some network families.

    The values of ordered knobs are as `rising` gives them. The baseline belongs to the task: it stays the same, in this
    space or outside of it, whatever the values are, so that savings can be compared.

    Attributes:
        families: Network families to choose among.
        max_depth: The baseline's depth, which every family allows.
        max_width: The baseline's width, which every family allows.
        baseline_family: The baseline's family; None for the last of `families`.
        depth: Depths; None for all up to the baseline's.
        width: Widths, likewise.
        sparsity_percent: Shares of each layer's weights that are pruned.
        weight_bits: Widths of weights.
        activation_bits: Widths of activations.
        supply_mv: Supply voltages of the weight memory.
        robust_bits: Numbers of top bits of a weight in 8T cells.
        multipliers: As candidates call them; the exact one is among them.
        widest: Of multipliers that do not take all operands, the widest weights and activations. Wider ones are
            narrowed to these, so that every genome stands for a candidate that can be evaluated.
        layered: Whether the first and the last layer choose a multiplier and robust bits of their own.
        multiplier_costs: Costs of the multipliers; those that are not built in are known once it is `restricted`.
    """

    families: tuple[str, ...]
    max_depth: int
    max_width: int
    baseline_family: str | None = None
    depth: Sequence[int] | None = None
    width: Sequence[int] | None = None
    sparsity_percent: Sequence[int] = range(0, 96, 5)
    weight_bits: Sequence[int] = range(2, 9)
    activation_bits: Sequence[int] = range(2, 9)
    supply_mv: Sequence[int] = range(700, 901, 10)
    robust_bits: Sequence[int] = range(5)
    multipliers: tuple[str, ...] = MULTIPLIERS
    widest: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    layered: bool = False
    multiplier_costs: CostTable = field(default_factory=CostTable, compare=False, repr=False)

    def restricted(self, multipliers: Sequence[ChosenMultiplier], weight_cell: Cell) -> SearchSpace:
        """This space with a choice of multipliers, on hardware whose weight memory has such cells.

        Only a hybrid memory leaves a choice of robust bits: of 6T cells none is robust, of 8T cells all are.

        Raises:
            UsageError: If a multiplier takes none of the widths.
        """
        limited = [chosen for chosen in multipliers if chosen.limits]
        for chosen in limited:
            if chosen.max_weight_bits < self.weight_bits[0] or chosen.max_activation_bits < self.activation_bits[0]:
                raise UsageError(
                    f"{chosen.limits}, but the space begins at {self.weight_bits[0]}-bit weights and "
                    f"{self.activation_bits[0]}-bit activations; leave {multiplier_name(chosen.identity)} out, or "
                    "allow narrower ones"
                )
        return replace(
            self,
            multipliers=tuple(chosen.identity for chosen in multipliers),
            widest={chosen.identity: (chosen.max_weight_bits, chosen.max_activation_bits) for chosen in limited},
            robust_bits={"6T": range(1), "8T": range(8, 9), "hybrid": self.robust_bits}[weight_cell],
            multiplier_costs=CostTable({one.identity: one.costs for one in multipliers if one.costs is not None}),
        )

    def of_techniques(self, techniques: Sequence[str]) -> SearchSpace:
        """This space with only some of `TECHNIQUES`; of the others every knob is the baseline's."""
        baseline = self.baseline()
        space = replace(self, baseline_family=baseline.family)
        if "network" not in techniques:
            depth, width = baseline.depth, baseline.width
            space = replace(
                space, families=(baseline.family,), depth=range(depth, depth + 1), width=range(width, width + 1)
            )
        if "pruning" not in techniques:
            space = replace(space, sparsity_percent=range(1))
        if "multiplier" not in techniques:
            space = replace(space, multipliers=("exact",), weight_bits=range(8, 9), activation_bits=range(8, 9))
        if "memory" not in techniques:
            nominal_mv = round(NOMINAL_V * 1000)
            space = replace(space, supply_mv=range(nominal_mv, nominal_mv + 1), robust_bits=range(1))
        return space

    def networks(self) -> list[Candidate]:
        """The baseline, and a candidate of every family, depth and width."""
        alleles, baseline = self._alleles(), self.baseline()
        sizes = product(alleles["family"], alleles["depth"], alleles["width"])
        return [
            baseline,
            *(replace(baseline, family=family, depth=depth, width=width) for family, depth, width in sizes),
        ]

    def distributions(self) -> dict[str, BaseDistribution]:
        """Gene name -> its Optuna distribution. Where steps differ, a gene is the place among the knob's values."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {}
        for gene, values in self._alleles().items():
            if not isinstance(values[0], int):
                found[gene] = CategoricalDistribution(values)
            elif isinstance(values, range):
                found[gene] = IntDistribution(values[0], values[-1], step=values.step)
            else:
                found[gene] = IntDistribution(0, len(values) - 1)
        return found

    def decode(self, genes: Mapping[str, Any]) -> Candidate:
        """The candidate, in canonical form, that a genome stands for."""
        alleles = self._alleles()
        found = {gene: values[genes[gene]] if _is_by_place(values) else genes[gene] for gene, values in alleles.items()}
        used = [self.widest.get(found[gene], (8, 8)) for gene in alleles if gene.startswith("multiplier")]
        own = ("multiplier_first", "multiplier_last", "robust_bits_first", "robust_bits_last")
        return Candidate(
            family=found["family"],
            depth=found["depth"],
            width=found["width"],
            sparsity=found["sparsity_percent"] / 100,
            weight_bits=_widest(self.weight_bits, found["weight_bits"], *(bits for bits, _ in used)),
            activation_bits=_widest(self.activation_bits, found["activation_bits"], *(bits for _, bits in used)),
            multiplier=found["multiplier"],
            supply_v=found["supply_mv"] / 1000,
            robust_bits=found["robust_bits"],
            **{gene: found[gene] for gene in own if gene in found},
        ).canonical()

    def encode(self, candidate: Candidate) -> dict[str, Any]:
        """The genome of a candidate of this space."""
        alleles = self._alleles()
        return {
            gene: alleles[gene].index(value) if _is_by_place(alleles[gene]) else value
            for gene, value in self._knobs(candidate).items()
        }

    def holds(self, candidate: Candidate) -> bool:
        """Whether some genome stands for a candidate in canonical form."""
        alleles = self._alleles()
        values = self._knobs(candidate)
        return (
            all(values[gene] in alleles[gene] for gene in alleles) and self.decode(self.encode(candidate)) == candidate
        )

    def _alleles(self) -> dict[str, Sequence[Any]]:
        """Gene -> the values of its knob."""
        alleles: dict[str, Sequence[Any]] = {
            "family": self.families,
            "depth": range(1, self.max_depth + 1) if self.depth is None else self.depth,
            "width": range(1, self.max_width + 1) if self.width is None else self.width,
            "sparsity_percent": self.sparsity_percent,
            "weight_bits": self.weight_bits,
            "activation_bits": self.activation_bits,
            "multiplier": self.multipliers,
            "supply_mv": self.supply_mv,
            "robust_bits": self.robust_bits,
        }
        if self.layered:
            alleles |= {f"multiplier_{group}": self.multipliers for group in ("first", "last")}
            alleles |= {f"robust_bits_{group}": self.robust_bits for group in ("first", "last")}
        return alleles

    def _knobs(self, candidate: Candidate) -> dict[str, Any]:
        """Gene -> the value of its knob."""
        first, main, last = candidate.groups
        knobs = {
            "family": candidate.family,
            "depth": candidate.depth,
            "width": candidate.width,
            "sparsity_percent": round(candidate.sparsity * 100),
            "weight_bits": candidate.weight_bits,
            "activation_bits": candidate.activation_bits,
            "multiplier": main.multiplier,
            "supply_mv": round(candidate.supply_v * 1000),
            "robust_bits": self._robust(main.robust_bits),
        }
        if self.layered:
            knobs |= {"multiplier_first": first.multiplier, "multiplier_last": last.multiplier}
            knobs |= {"robust_bits_first": self._robust(first.robust_bits)}
            knobs |= {"robust_bits_last": self._robust(last.robust_bits)}
        return knobs

    def _robust(self, bits: int) -> int:
        """The value that the canonical form made so many bits of, as there are no more or none is needed."""
        return next((value for value in self.robust_bits if value >= bits), bits)

    def baseline(self) -> Candidate:
        """What every saving is measured against: the largest network, dense, 8-bit exact, at nominal voltage."""
        return Candidate(
            family=self.baseline_family or self.families[-1],
            depth=self.max_depth,
            width=self.max_width,
            sparsity=0.0,
            weight_bits=8,
            activation_bits=8,
            multiplier="exact",
            supply_v=NOMINAL_V,
            robust_bits=0,
        )

    def to_dict(self) -> dict[str, Any]:
        """What a search keeps of it, as a JSON object: all but the baseline and the multipliers."""
        alleles = self._alleles()
        return {
            "families": list(self.families),
            **{
                knob: {"low": values[0], "high": values[-1], "step": values.step}
                if isinstance(values := alleles[knob], range)
                else list(values)
                for knob in _ORDERED
            },
            "layered": self.layered,
        }

    def with_values(self, content: Mapping[str, Any]) -> SearchSpace:
        """This space with what `to_dict` made of another one for the same task."""
        ordered: dict[str, Any] = {
            knob: range(values["low"], values["high"] + 1, values["step"])
            if isinstance(values := content[knob], Mapping)
            else tuple(values)
            for knob in _ORDERED
        }
        return replace(
            self,
            baseline_family=self.baseline().family,
            families=tuple(content["families"]),
            layered=content["layered"],
            **ordered,
        )


def _is_by_place(values: Sequence[Any]) -> bool:
    """Whether a gene is the place among these values instead of a value itself."""
    return isinstance(values[0], int) and not isinstance(values, range)


def _widest(values: Sequence[int], *most: int) -> int:
    """The largest of the values that is none larger than any of these."""
    return max(value for value in values if value <= min(most))
