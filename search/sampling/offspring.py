"""Children of a generation: crossed from parents, screened by a surrogate of earlier results, without duplicates.

Training takes long; a child takes microseconds. So many children are made for each that is evaluated: their energy,
which needs no training, is computed, their accuracy predicted, and the most promising one is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from search.pareto import hypervolume_gains, non_dominated_mask
from search.sampling.area import AreaBound
from search.sampling.surrogate import Surrogate

Genes = Mapping[str, Any]

CHILDREN = 40  # children made per trial
_RANDOM_SHARE = 0.1  # share of children drawn from the whole space, to introduce genes that no parent has
_UNSCREENED_SHARE = 0.05  # share of trials not screened, so that an error of the surrogate cannot rule out a region
_SCREENED_AFTER = 10  # evaluations; with fewer the surrogate knows too little
_CONFIDENCE = 0.5  # standard deviations added to predicted accuracies: the unknown may be good
_CROSSOVER_SHARE = 0.9  # share of children with two parents
_NEAR_SHARE = 0.5  # share of mutations of an ordered gene that go to a nearby value
_DEEPEST_LOSS = 0.2  # how far below the best accuracy the front still matters
_TRIES = 200  # attempts to make a new child


class GenomeModel(Protocol):
    """A space of genomes, with all that is known about a genome before it is trained."""

    def distributions(self) -> Mapping[str, BaseDistribution]:
        """Return the distribution of each gene. Every genome has every gene."""
        ...

    def identity(self, genes: Genes) -> str:
        """Return a string that is equal for genomes of the same candidate."""
        ...

    def features(self, genomes: Sequence[Genes]) -> NDArray[np.float64]:
        """Return the inputs for predicting accuracy, of magnitude about 1. Shape (n, features)."""
        ...

    def costs(self, genomes: Sequence[Genes]) -> NDArray[np.float64]:
        """Return the costs to minimise, known without training: energy first. Shape (n, 1 or 2), all above 0.

        Infinite for candidates that are known to fail.
        """
        ...


class Breeder:
    """Makes the children of one generation, one after another.

    Args:
        genome_model: The space, with features and costs of genomes.
        known: Genomes evaluated in earlier generations, with their accuracies; 0 for those that failed.
        pending: Genomes of this generation that were already asked, in that order.
        prescreen: Whether children are screened.
        min_accuracy: The target accuracy, if any; the front is then sought only from slightly below it upwards.
        area: A bound that all children keep, if any.

    Attributes:
        open_genes: The genes that have more than one value, with their distributions.
    """

    def __init__(
        self,
        genome_model: GenomeModel,
        *,
        known: Sequence[tuple[Genes, float]],
        pending: Sequence[Genes] = (),
        prescreen: bool = True,
        min_accuracy: float | None = None,
        area: AreaBound | None = None,
    ) -> None:
        self._genome_model = genome_model
        self._area = area
        self._distributions = dict(genome_model.distributions())
        self.open_genes = {name: one for name, one in self._distributions.items() if not one.single()}
        self._made = {genome_model.identity(genes) for genes, _ in known}
        self._surrogate: Surrogate | None = None
        self._points = np.empty((0, 2))
        if prescreen and len(known) >= _SCREENED_AFTER:
            genomes, accuracies = zip(*known, strict=True)
            self._surrogate = Surrogate(genome_model.features(genomes), np.array(accuracies))
            self._floor = max(accuracies) - _DEEPEST_LOSS
            if min_accuracy is not None:
                self._floor = max(self._floor, min(min_accuracy, max(accuracies)) - _DEEPEST_LOSS / 4)
            costs = np.log10(genome_model.costs(genomes))
            points = np.column_stack([1 - np.array(accuracies), costs])
            points = points[np.isfinite(costs).all(axis=1)]
            self._ceilings = points[:, 1:].max(axis=0, initial=-np.inf)
            self._points = points[non_dominated_mask(points)]
        for genes in pending:
            self._take(genes)

    def child(self, parents: Sequence[Genes], rng: np.random.Generator) -> Genes:
        """Return a new genome, determined by the parents, the random numbers and earlier children.

        Args:
            parents: At least one genome.
            rng: Source of all random numbers.

        Returns:
            All genes. In an almost exhausted space, it may be a genome that was made before.
        """
        unscreened = rng.random() < _UNSCREENED_SHARE
        wanted = 1 if self._surrogate is None or unscreened else CHILDREN
        children: dict[str, Genes] = {}
        genes: Genes = {}
        for _ in range(max(_TRIES, 2 * wanted)):
            genes = self.random(rng) if rng.random() < _RANDOM_SHARE and wanted > 1 else self.bred(parents, rng)
            identity = self._genome_model.identity(genes)
            if identity not in self._made and self._fits(genes) and (wanted > 1 or self._can_be_evaluated(genes)):
                children.setdefault(identity, genes)
                if len(children) == wanted:
                    break
        if children:
            candidates = list(children.values())
            genes = candidates[self._most_promising(candidates) if len(candidates) > 1 else 0]
        elif self._area is not None:
            genes = self._area.fitted(genes, rng)
        self._take(genes)
        return genes

    def _fits(self, genes: Genes) -> bool:
        return self._area is None or self._area.holds(genes)

    def _can_be_evaluated(self, genes: Genes) -> bool:
        return self._surrogate is None or bool(np.isfinite(self._genome_model.costs([genes])).all())

    def _take(self, genes: Genes) -> None:
        """Record a child, so that neither it nor a child with the same expected gain is made again."""
        self._made.add(self._genome_model.identity(genes))
        if self._surrogate is not None:
            self._points = np.vstack([self._points, self._expected([genes], confidence=0.0)])

    def _most_promising(self, candidates: Sequence[Genes]) -> int:
        expected = self._expected(candidates, confidence=_CONFIDENCE)
        gains = hypervolume_gains(self._points, expected, (1 - self._floor, *self._ceilings))
        # If none gains anything, because none is accurate enough, the most accurate is chosen.
        return int(np.lexsort((expected[:, 0], -gains, ~np.isfinite(expected).all(axis=1)))[0])

    def _expected(self, genomes: Sequence[Genes], *, confidence: float) -> NDArray[np.float64]:
        """Return the expected error and log10 of the costs of each genome, all to be minimised."""
        assert self._surrogate is not None
        accuracies = self._surrogate.predict(self._genome_model.features(genomes), confidence=confidence)
        return np.column_stack([1 - accuracies, np.log10(self._genome_model.costs(genomes))])

    def random(self, rng: np.random.Generator) -> dict[str, Any]:
        """Return a genome drawn from the whole space, made before or not."""
        return {name: _drawn(distribution, rng) for name, distribution in self._distributions.items()}

    def bred(self, parents: Sequence[Genes], rng: np.random.Generator) -> dict[str, Any]:
        """Return a uniform crossover of two parents, or a copy of one, with at least one mutated gene."""
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
    """Return a value of a distribution, drawn uniformly."""
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
