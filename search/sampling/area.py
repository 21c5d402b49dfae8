"""A bound on the area of what is asked for, relative to the baseline's.

The area of a candidate is known before it is trained, so none beyond the bound is trained, except the baseline, with
which all are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.sampling.starts import dearest
from search.space.candidate import Candidate
from search.space.search_space import SearchSpace

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Genes = Mapping[str, Any]
Areas = Callable[[Sequence[Candidate]], NDArray[np.float64]]  # in mm2, shape (n,); infinite for what cannot be built

_NETWORK = ("family", "depth", "width")


class AreaBound:
    """Keeps genomes within a bound on area.

    Args:
        space: The space.
        areas: Returns the areas of candidates.
        max_area: Largest area over the baseline's.

    Attributes:
        least: The area of the smallest candidate of the space over the baseline's; infinite if none can be built.
    """

    def __init__(self, space: SearchSpace, areas: Areas, max_area: float) -> None:
        self._space = space
        self._areas = areas
        self._baseline_mm2 = float(areas([space.baseline()])[0])
        self._most_mm2 = max_area * self._baseline_mm2
        self._smallest, least_mm2 = _smallest(space, areas)
        self.least: float = least_mm2 / self._baseline_mm2

    def ratio(self, candidate: Candidate) -> float:
        """Return the area of a candidate over the baseline's."""
        return float(self._areas([candidate])[0]) / self._baseline_mm2

    def holds(self, genes: Genes) -> bool:
        """Whether the candidate of a genome is within the bound."""
        return bool(self._of([genes])[0] <= self._most_mm2)

    def fitted(self, genes: Genes, rng: np.random.Generator) -> Genes:
        """Return a genome within the bound: the same if it is, or else one between it and the smallest.

        Genes that make it smaller are taken from the smallest genome, in random order and no more than needed, so that
        what is asked for spreads along the bound.

        Args:
            genes: A genome of the space.
            rng: Source of all random numbers; none is drawn for a genome within the bound.
        """
        if self.holds(genes):
            return genes
        taken: dict[str, dict[str, Any]] = {}
        for name, value in self._smallest.items():
            taken.setdefault(_together(name), {})[name] = value
        groups = list(taken.values())
        here, *alone = self._of([genes, *({**genes, **group} for group in groups)])
        helpful = [group for group, mm2 in zip(groups, alone, strict=True) if mm2 < here]
        steps = [genes]
        for place in rng.permutation(len(helpful)).tolist():
            steps.append({**steps[-1], **helpful[place]})
        within = np.flatnonzero(self._of(steps) <= self._most_mm2)
        return steps[within[0]] if len(within) else self._smallest

    def fitting(self, seed: int) -> Callable[[Genes], Genes]:
        """Return `fitted` with random numbers of a seed."""
        return partial(self.fitted, rng=np.random.default_rng(seed % 2**32))

    def _of(self, genomes: Sequence[Genes]) -> NDArray[np.float64]:
        return self._areas([self._space.decode(genes) for genes in genomes])


class BoundedSampler(BaseSampler):
    """Another sampler, whose proposals are brought within a bound on area.

    Args:
        sampler: The other sampler.
        distributions: All genes.
        bound: The bound.
        seed: Seed of what is drawn in doing so.
    """

    def __init__(
        self, sampler: BaseSampler, distributions: Mapping[str, BaseDistribution], bound: AreaBound, *, seed: int
    ) -> None:
        self._sampler = sampler
        self._distributions = dict(distributions)
        self._bound = bound
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all genes: area depends on all of them together."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return what the other sampler proposes, gene by gene if it proposes genes alone, within the bound."""
        relative = self._sampler.infer_relative_search_space(study, trial)
        genes = self._sampler.sample_relative(study, trial, relative)
        alone = {
            name: self._sampler.sample_independent(study, trial, name, one)
            for name, one in search_space.items()
            if name not in genes
        }
        return dict(self._bound.fitted({**genes, **alone}, self._rng))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return what the other sampler proposes for a gene."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Tell the other sampler."""
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell the other sampler."""
        self._sampler.after_trial(study, trial, state, values)


def _smallest(space: SearchSpace, areas: Areas) -> tuple[Genes, float]:
    """Return the genome of least area, and its area in mm2.

    It is found by descent from the largest, most exact one, so that genes without influence stay as they are there.
    Each step is to the smallest that differs in the network, or in the codes and the one multiplier of all layers,
    which may be a smaller one for wider codes, or in one other gene.
    """
    values = {name: _values(one) for name, one in space.distributions().items()}
    multipliers = [name for name in values if name.startswith("multiplier")]
    moves: list[Genes] = [
        *({"family": f, "depth": d, "width": w} for f, d, w in product(*(values[name] for name in _NETWORK))),
        *(
            {"weight_bits": w, "activation_bits": a, **dict.fromkeys(multipliers, one)}
            for w, a, one in product(values["weight_bits"], values["activation_bits"], values["multiplier"])
        ),
        *({name: one} for name, ones in values.items() for one in ones if name not in multipliers),
    ]
    smallest: Genes = dearest(space)
    least = np.inf
    while True:
        tried = [{**smallest, **move} for move in moves]
        found = areas([space.decode(genes) for genes in tried])
        best = int(found.argmin())
        if not found[best] < least:
            return smallest, float(least)
        smallest, least = tried[best], found[best]


def _together(gene: str) -> str:
    """Return what a gene says only together with others: the size of the network, the multipliers of the array."""
    if gene in _NETWORK:
        return "network"
    return "multiplier" if gene.startswith("multiplier") else gene


def _values(distribution: BaseDistribution) -> list[Any]:
    """Return all values of a gene."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution)
    return list(range(distribution.low, distribution.high + 1, distribution.step))
