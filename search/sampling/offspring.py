"""Children of one generation: crossed from parents, screened by what earlier generations have shown, none made twice.

Training is what costs time; a child costs microseconds. So many are made for each that is evaluated, their energy,
which needs no training, is worked out, their accuracy predicted, and the one that promises most is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from search.pareto import hypervolume_gains, non_dominated_mask
from search.sampling.surrogate import Surrogate

Genes = Mapping[str, Any]

CHILDREN = 40  # made for each that is asked for
_RANDOM_SHARE = 0.1  # of these, drawn from the whole space, so that what no parent has can come in
_UNSCREENED_SHARE = 0.05  # of those asked for, so that an error of the surrogate cannot rule a region out
_SCREENED_AFTER = 10  # evaluations; with fewer the surrogate knows too little
_CONFIDENCE = 0.5  # standard deviations added to predicted accuracies: what is not known may be good
_CROSSOVER_SHARE = 0.9  # of children with two parents
_NEAR_SHARE = 0.5  # of mutations of an ordered gene, to a value near by
_DEEPEST_LOSS = 0.2  # accuracy below the best that a front is still wanted at
_TRIES = 200  # for a candidate that was not made before


class Problem(Protocol):
    """What has to be known of a space in order to search it."""

    def distributions(self) -> Mapping[str, BaseDistribution]:
        """Gene -> its distribution. Every genome has every gene."""
        ...

    def identity(self, genes: Genes) -> str:
        """Equal for genomes that stand for the same candidate."""
        ...

    def features(self, genomes: Sequence[Genes]) -> NDArray[np.float64]:
        """What accuracy depends on, as numbers of about the size of 1. Shape (n, features)."""
        ...

    def costs(self, genomes: Sequence[Genes]) -> NDArray[np.float64]:
        """What is known without training, to be minimised: energy, then others. Shape (n, 1 or 2), all above 0.

        Infinite where it is known that a candidate cannot be evaluated.
        """
        ...


class Breeder:
    """Makes the children of one generation, one after the other.

    Args:
        problem: The space.
        known: Genomes evaluated in earlier generations, with their accuracies; 0 for those that failed.
        pending: Genomes of this generation that were asked for already, in that order.
        prescreen: Whether children are screened.
        min_accuracy: What is wanted, if anything is: a front is then sought only from a little below it upwards.

    Attributes:
        open_genes: The genes that have more than one value, with their distributions.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        known: Sequence[tuple[Genes, float]],
        pending: Sequence[Genes] = (),
        prescreen: bool = True,
        min_accuracy: float | None = None,
    ) -> None:
        self._problem = problem
        self._distributions = dict(problem.distributions())
        self.open_genes = {name: one for name, one in self._distributions.items() if not one.single()}
        self._made = {problem.identity(genes) for genes, _ in known}
        self._surrogate: Surrogate | None = None
        self._points = np.empty((0, 2))
        if prescreen and len(known) >= _SCREENED_AFTER:
            genomes, accuracies = zip(*known, strict=True)
            self._surrogate = Surrogate(problem.features(genomes), np.array(accuracies))
            self._floor = max(accuracies) - _DEEPEST_LOSS
            if min_accuracy is not None:
                self._floor = max(self._floor, min(min_accuracy, max(accuracies)) - _DEEPEST_LOSS / 4)
            costs = np.log10(problem.costs(genomes))
            points = np.column_stack([1 - np.array(accuracies), costs])
            points = points[np.isfinite(costs).all(axis=1)]
            self._ceilings = points[:, 1:].max(axis=0, initial=-np.inf)
            self._points = points[non_dominated_mask(points)]
        for genes in pending:
            self._take(genes)

    def child(self, parents: Sequence[Genes], rng: np.random.Generator) -> Genes:
        """A genome that was not made before; the same one for the same parents, random numbers and earlier children.

        Args:
            parents: At least one.
            rng: Every random number comes from it.

        Returns:
            All genes. In a space that is all but exhausted, it may be one that was made before.
        """
        unscreened = rng.random() < _UNSCREENED_SHARE
        wanted = 1 if self._surrogate is None or unscreened else CHILDREN
        children: dict[str, Genes] = {}
        genes: Genes = {}
        for _ in range(max(_TRIES, 2 * wanted)):
            genes = self.random(rng) if rng.random() < _RANDOM_SHARE and wanted > 1 else self.bred(parents, rng)
            identity = self._problem.identity(genes)
            if identity not in self._made and (wanted > 1 or self._can_be_evaluated(genes)):
                children.setdefault(identity, genes)
                if len(children) == wanted:
                    break
        if children:
            candidates = list(children.values())
            genes = candidates[self._most_promising(candidates) if len(candidates) > 1 else 0]
        self._take(genes)
        return genes

    def _can_be_evaluated(self, genes: Genes) -> bool:
        return self._surrogate is None or bool(np.isfinite(self._problem.costs([genes])).all())

    def _take(self, genes: Genes) -> None:
        """Note a child: it is not made again, and what it is expected to add is not expected of another."""
        self._made.add(self._problem.identity(genes))
        if self._surrogate is not None:
            self._points = np.vstack([self._points, self._expected([genes], confidence=0.0)])

    def _most_promising(self, candidates: Sequence[Genes]) -> int:
        expected = self._expected(candidates, confidence=_CONFIDENCE)
        gains = hypervolume_gains(self._points, expected, (1 - self._floor, *self._ceilings))
        # Where nothing is gained, as long as none is accurate enough, the most accurate is next.
        return int(np.lexsort((expected[:, 0], -gains, ~np.isfinite(expected).all(axis=1)))[0])

    def _expected(self, genomes: Sequence[Genes], *, confidence: float) -> NDArray[np.float64]:
        """(error, log10 of costs) of each, both to be minimised."""
        assert self._surrogate is not None
        accuracies = self._surrogate.predict(self._problem.features(genomes), confidence=confidence)
        return np.column_stack([1 - accuracies, np.log10(self._problem.costs(genomes))])

    def random(self, rng: np.random.Generator) -> dict[str, Any]:
        """A genome drawn from the whole space, whether it was made before or not."""
        return {name: _drawn(distribution, rng) for name, distribution in self._distributions.items()}

    def bred(self, parents: Sequence[Genes], rng: np.random.Generator) -> dict[str, Any]:
        """Uniform crossover of two parents, or one of them, with one gene mutated on average and at least one."""
        first = parents[int(rng.integers(len(parents)))]
        second = parents[int(rng.integers(len(parents)))] if rng.random() < _CROSSOVER_SHARE else first
        genes = {name: (first if rng.random() < 0.5 else second)[name] for name in self._distributions}
        if not self.open_genes:
            return genes
        mutated = rng.random(len(self.open_genes)) < 1 / len(self.open_genes)
        mutated[rng.integers(len(self.open_genes))] = True
        for name in (name for name, hit in zip(self.open_genes, mutated, strict=True) if hit):
            genes[name] = _mutated(self._distributions[name], genes[name], rng)
        return genes


def _drawn(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    """A value of a distribution, all equally likely."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(rng.integers(len(distribution.choices)))]
    assert isinstance(distribution, IntDistribution)
    steps = (distribution.high - distribution.low) // distribution.step
    return distribution.low + distribution.step * int(rng.integers(steps + 1))


def _mutated(distribution: BaseDistribution, value: Any, rng: np.random.Generator) -> Any:
    if isinstance(distribution, CategoricalDistribution) or rng.random() >= _NEAR_SHARE:
        return _drawn(distribution, rng)
    assert isinstance(distribution, IntDistribution)
    steps = max(1, (distribution.high - distribution.low) // distribution.step // 8)
    moved = value + distribution.step * int(rng.integers(1, steps + 1)) * (1 if rng.random() < 0.5 else -1)
    return int(np.clip(moved, distribution.low, distribution.high))
