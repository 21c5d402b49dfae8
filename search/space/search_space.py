"""The search space: a flat, fixed set of genes, and the candidates that they encode.

Every candidate has every gene, because NSGA-II only crosses genes that all candidates have; a gene made meaningless by
another is neutralised by the candidate's canonical form. Ordered knobs are integers, so that crossover sees their
order. A layered space always has separate genes for the first and the last layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from energy.cost_table import CostTable
from search.errors import UsageError
from search.multipliers.choice import MULTIPLIERS
from search.multipliers.identity import multiplier_name
from search.space.candidate import NOMINAL_V, Candidate

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from energy.hardware_parts import Cell
    from search.multipliers.choice import ChosenMultiplier

_ORDERED = ("depth", "width", "sparsity_percent", "weight_bits", "activation_bits", "supply_mv", "robust_bits")


def rising(numbers: Iterable[int]) -> Sequence[int]:
    """Return numbers as the values of an ordered knob: a range if their steps are equal, or else a tuple.

    Args:
        numbers: At least one number, in any order.
    """
    values = sorted(set(numbers))
    steps = {after - before for before, after in pairwise(values)}
    return tuple(values) if len(steps) > 1 else range(values[0], values[-1] + 1, *steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The joint space over some network families.

    The values of ordered knobs are as `rising` returns them. The baseline belongs to the task: it is the same for all
    values, and may lie outside of the space, so that savings can be compared.

    Attributes:
        families: Network families to choose among.
        max_depth: The baseline's depth, which every family allows.
        max_width: The baseline's width, which every family allows.
        baseline_family: The baseline's family; None for the last of `families`.
        depth: Depths; None for all up to `max_depth`.
        width: Widths; None for all up to `max_width`.
        sparsity_percent: Shares of each layer's weights to prune, in percent.
        weight_bits: Widths of weights.
        activation_bits: Widths of activations.
        supply_mv: Supply voltages of the weight memory, in mV.
        robust_bits: Numbers of top bits of each weight that are held in 8T cells; all bits of narrower weights.
        multipliers: Multipliers by the names that candidates use, among them the exact one.
        widest: Multipliers with limits -> their widest weights and activations. Wider operands are narrowed to these,
            so that every genome encodes a candidate that can be evaluated.
        layered: Whether the multiplier and robust bits of the first and the last layer are chosen separately.
        multiplier_costs: Costs of the multipliers; those that are not built in are added by `restricted`.
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
    supply_mv: Sequence[int] = range(620, 901, 10)
    robust_bits: Sequence[int] = range(9)
    multipliers: tuple[str, ...] = MULTIPLIERS
    widest: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    layered: bool = False
    multiplier_costs: CostTable = field(default_factory=CostTable, compare=False, repr=False)

    def restricted(
        self, multipliers: Sequence[ChosenMultiplier], weight_cell: Cell, *, lowest_mv: int = 0
    ) -> SearchSpace:
        """Return this space with a choice of multipliers, for hardware whose weight memory has cells of one kind.

        Only a hybrid memory leaves a choice of robust bits: no 6T cell is robust, and all 8T cells are.

        Args:
            multipliers: The multipliers to choose among.
            weight_cell: Cells of the weight memory.
            lowest_mv: Its lowest supply voltage; lower ones are left out. At most the nominal voltage.

        Raises:
            UsageError: If a multiplier supports none of the widths.
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
            supply_mv=rising(mv for mv in self.supply_mv if mv >= lowest_mv),
            robust_bits={"6T": range(1), "8T": range(8, 9), "hybrid": self.robust_bits}[weight_cell],
            multiplier_costs=CostTable({one.identity: one.costs for one in multipliers if one.costs is not None}),
        )

    def of_techniques(self, techniques: Sequence[str]) -> SearchSpace:
        """Return this space with only some of `TECHNIQUES`; the knobs of the others are fixed to the baseline's."""
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
        """Return the baseline, and a candidate of every family, depth and width."""
        alleles, baseline = self._alleles(), self.baseline()
        sizes = product(alleles["family"], alleles["depth"], alleles["width"])
        return [
            baseline,
            *(replace(baseline, family=family, depth=depth, width=width) for family, depth, width in sizes),
        ]

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the Optuna distribution of each gene.

        If the steps between a knob's values differ, the gene is the index of the value.
        """
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
        """Return the candidate, in canonical form, that a genome encodes."""
        alleles = self._alleles()
        found = {gene: values[genes[gene]] if _is_index(values) else genes[gene] for gene, values in alleles.items()}
        used = [self.widest.get(found[gene], (8, 8)) for gene in alleles if gene.startswith("multiplier")]
        separate = ("multiplier_first", "multiplier_last", "robust_bits_first", "robust_bits_last")
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
            **{gene: found[gene] for gene in separate if gene in found},
        ).canonical()

    def encode(self, candidate: Candidate) -> dict[str, Any]:
        """Return the genome of a candidate of this space."""
        alleles = self._alleles()
        return {
            gene: alleles[gene].index(value) if _is_index(alleles[gene]) else value
            for gene, value in self._values(candidate).items()
        }

    def holds(self, candidate: Candidate) -> bool:
        """Whether some genome encodes a candidate, given in canonical form."""
        alleles = self._alleles()
        values = self._values(candidate)
        return (
            all(values[gene] in alleles[gene] for gene in alleles) and self.decode(self.encode(candidate)) == candidate
        )

    def _alleles(self) -> dict[str, Sequence[Any]]:
        """Return the values of each gene's knob."""
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

    def _values(self, candidate: Candidate) -> dict[str, Any]:
        """Return a candidate's value of each gene's knob."""
        first, main, last = candidate.groups
        values = {
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
            values |= {"multiplier_first": first.multiplier, "multiplier_last": last.multiplier}
            values |= {"robust_bits_first": self._robust(first.robust_bits)}
            values |= {"robust_bits_last": self._robust(last.robust_bits)}
        return values

    def _robust(self, bits: int) -> int:
        """Return the value of the space that the canonical form may have reduced to this number of robust bits."""
        return next((value for value in self.robust_bits if value >= bits), bits)

    def baseline(self) -> Candidate:
        """Return the reference of all savings: the largest network, dense, 8-bit exact, at nominal voltage."""
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
        """Return all but the baseline and the multipliers as a JSON object, which a search stores."""
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
        """Return this space with the values from `to_dict` of another one for the same task."""
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


def _is_index(values: Sequence[Any]) -> bool:
    """Whether a gene is the index of one of these values instead of the value itself."""
    return isinstance(values[0], int) and not isinstance(values, range)


def _widest(values: Sequence[int], *most: int) -> int:
    """Return the largest of the values that does not exceed any of `most`."""
    return max(value for value in values if value <= min(most))
