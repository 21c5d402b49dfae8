"""The starting configurations of a search: those that an engineer would try first.

They show how far each technique reaches, and give the first generation good genes to cross.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution, IntDistribution

import energy
from search.space.candidate import Candidate
from search.space.search_space import SearchSpace
from search.space.techniques import TECHNIQUES

Genes = Mapping[str, Any]

# Shares of the way from the baseline to the cheapest value of each knob; further along, networks fail completely.
_ALONE = (0.4, 0.7)
_DIAGONAL = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8)
_ROBUST_SHARE = 0.4  # share of the choice of bits in 8T cells, if the voltage is lowered
_GENES = {"sparsity": "sparsity_percent", "supply_v": "supply_mv"}  # knobs whose gene has a different name
_RISING = ("sparsity_percent",)  # genes whose largest value is the cheapest


def starting_genomes(
    space: SearchSpace,
    *,
    budget: int,
    requested: Sequence[Candidate] = (),
    earlier: Iterable[Candidate] = (),
    fit: Callable[[Genes], Genes] | None = None,
) -> list[Genes]:
    """Return the genomes to evaluate first, without duplicates: the baseline, requested ones, then others.

    The others are all techniques together from mild to aggressive, each technique alone, and the best of earlier
    searches, until half of the budget is filled.

    Args:
        space: The space. Candidates outside of it are left out, even the baseline.
        budget: Number of evaluations of the search.
        requested: Candidates that the user requests; they are evaluated regardless of the budget.
        earlier: Good candidates of earlier searches.
        fit: Brings the others within the search's bound on area, if it has one.
    """
    first = [one.canonical() for one in (space.baseline(), *requested) if space.holds(one.canonical())]
    genomes = {candidate: space.encode(candidate) for candidate in first}
    others: list[Genes] = [*_diagonal(space), *_each_alone(space)]
    others += [space.encode(candidate) for candidate in earlier if space.holds(candidate)]
    for genes in others if fit is None else map(fit, others):
        candidate = space.decode(genes)
        if len(genomes) < budget // 2 and candidate not in genomes:
            genomes[candidate] = dict(genes)
    return list(genomes.values())


def _diagonal(space: SearchSpace) -> list[Genes]:
    """Return points with all techniques together. They alternate families, so that something is known of each."""
    start = dearest(space)
    families = space.families
    return [
        {
            **{gene: along(space, gene, share) for gene in start},
            "family": families[(families.index(start["family"]) - place) % len(families)],
        }
        for place, share in enumerate(_DIAGONAL)
    ]


def _each_alone(space: SearchSpace) -> list[Genes]:
    start = dearest(space)
    return [
        {**start, **{gene: along(space, gene, share) for gene in start if _belongs(gene, knobs)}}
        for share in _ALONE
        for knobs in TECHNIQUES.values()
    ]


def _belongs(gene: str, knobs: Iterable[str]) -> bool:
    """Whether a gene belongs to one of these knobs."""
    return any(gene == _GENES.get(knob, knob) for knob in knobs)


def dearest(space: SearchSpace) -> dict[str, Any]:
    """Return the genome of the largest, most exact candidate: the baseline, if the space holds it."""
    start: dict[str, Any] = {}
    for gene, distribution in space.distributions().items():
        if isinstance(distribution, CategoricalDistribution):
            wanted = space.baseline().family if gene == "family" else "exact"
            start[gene] = wanted if wanted in distribution.choices else distribution.choices[-1]
        else:
            assert isinstance(distribution, IntDistribution)
            cheap_is_high = gene in _RISING or gene.startswith("robust_bits")
            start[gene] = distribution.low if cheap_is_high else distribution.high
    return start


def along(space: SearchSpace, gene: str, share: float) -> Any:
    """Return the value a share of the way from the dearest to the cheapest value of a gene; the family is fixed.

    Bits in 8T cells are some or none: they cost energy, and save it only by allowing lower voltages.
    """
    distribution, first = space.distributions()[gene], dearest(space)[gene]
    if isinstance(distribution, CategoricalDistribution):
        if gene == "family":
            return first
        # An approximate multiplier may cost more than the exact one, which still comes first.
        ordered = sorted(
            distribution.choices, key=lambda name: (name != first, -_relative_energy(str(name), space.multiplier_costs))
        )
        return ordered[round(share * (len(ordered) - 1))]
    assert isinstance(distribution, IntDistribution)
    if gene.startswith("robust_bits"):
        share = _ROBUST_SHARE if share > 0 else 0.0
    steps = round(share * (distribution.high - distribution.low) / distribution.step) * distribution.step
    return first + steps if first == distribution.low else first - steps


def _relative_energy(multiplier: str, costs: energy.CostTable) -> float:
    """Return a multiplier's energy relative to the exact one, at the widest operands with known cost."""
    for bits in (8, 4, 2):
        try:
            return costs.cost(multiplier, weight_bits=bits, activation_bits=bits).relative_energy_held
        except energy.WorkloadError:
            continue
    return 1.0
