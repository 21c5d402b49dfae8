"""The greedy strategy with which a joint search is compared: it moves one knob at a time.

Starting from the baseline, it tries to move each knob alone by one step, takes the step that saves most energy for the
accuracy it loses, and repeats this until no step keeps the target accuracy. Accelerators are often tuned by hand like
this. Every step is trained as in a joint search. The network family is fixed, because families have no order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from search.sampling.offspring import Genes
from search.sampling.starts import along
from search.space.search_space import SearchSpace
from search.space.target import Target

_STEPS = 8  # from the dearest to the cheapest value of a gene
_LEAST_LOSS = 0.001  # accuracy; steps that lose less are compared by their savings alone


Found = Mapping[str, tuple[float, float] | None]


class Greedy:
    """Chooses the next genomes to evaluate from the results so far.

    Args:
        space: The space; its largest, most exact candidate is the starting point.
        target: The accuracy that every step has to keep, relative to the starting point.
    """

    def __init__(self, space: SearchSpace, target: Target) -> None:
        self._space = space
        self._target = target
        distributions = space.distributions()
        self._genes = [name for name, one in distributions.items() if name != "family" and not one.single()]
        # Computed once, because every call of `missing` walks the path from the start.
        self._values = {
            name: [along(space, name, share / _STEPS) for share in range(_STEPS + 1)] for name in distributions
        }

    def missing(self, found: Found) -> list[Genes]:
        """Return the genomes to evaluate before the next step can be chosen; empty at the end.

        Args:
            found: Key of a candidate -> its accuracy and energy, or None if it failed.
        """
        place = dict.fromkeys(self._genes, 0)
        if self._key(place) not in found:
            return [self._genome(place)]
        here = found[self._key(place)]
        if here is None:
            return []
        wanted = self._target.accuracy(baseline=here[0])
        while here is not None:
            steps = self._steps(place)
            unknown = {self._key(step): self._genome(step) for step in steps if self._key(step) not in found}
            if unknown:
                return list(unknown.values())
            best, worth, reached = place, 0.0, None
            for step in steps:
                there = found[self._key(step)]
                if there is not None and there[0] >= wanted and _worth(here, there) > worth:
                    best, worth, reached = step, _worth(here, there), there
            place, here = best, reached
        return []

    def _steps(self, place: Mapping[str, int]) -> list[dict[str, int]]:
        """Return the smallest moves of each gene alone that change the candidate."""
        steps = []
        for gene in self._genes:
            for share in range(place[gene] + 1, _STEPS + 1):
                step = {**place, gene: share}
                if self._key(step) != self._key(place):
                    steps.append(step)
                    break
        return steps

    def _genome(self, place: Mapping[str, int]) -> Genes:
        return {name: values[place.get(name, 0)] for name, values in self._values.items()}

    def _key(self, place: Mapping[str, int]) -> str:
        return self._space.decode(self._genome(place)).key


def _worth(here: tuple[float, float], there: tuple[float, float]) -> float:
    """Return the decades of energy saved per accuracy lost."""
    return math.log10(here[1] / there[1]) / max(here[0] - there[0], _LEAST_LOSS)
