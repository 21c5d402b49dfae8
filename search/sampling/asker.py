"""Asks an Optuna study for candidates: samplers by name, generations, starting configurations.

A whole generation is asked for before the study learns any of its results, so the order in which evaluations finish
does not matter. Every ask has its own sampler, seeded by the search's seed and the trial's index, so a stopped search
resumes as if it had never been stopped. Asynchronous searches give this up: they ask for one candidate whenever a
worker is free.

Optuna is asked in memory, and a trial is stored once it has all of its genes: in a database Optuna would read all
trials again for every ask and write gene by gene, so that a killed search would leave incomplete trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseGASampler,
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.content_hash import content_hash
from search.sampling.area import AreaBound, BoundedSampler
from search.sampling.offspring import Breeder, Genes, GenomeModel

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

GENERATION = "generation"  # user attribute of a trial: the generation in which it was asked
_SOFT_BOUND = 0.03  # distance below the target accuracy within which candidates count as feasible


def population_size(budget: int) -> int:
    """Return the number of evaluations per generation: budget / 16, but at least 10.

    Within a few hundred evaluations, small generations find more than Optuna's default of 50.
    """
    return max(10, budget // 16)


class _Enrolling(BaseGASampler):
    """A genetic sampler whose population includes enrolled trials, such as the baseline.

    Optuna stores each trial's generation under the class's name, so renaming a subclass restarts stored searches.
    """

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Give the trial its generation, wherever its parameters come from."""
        super().before_trial(study, trial)
        self.get_trial_generation(study, trial)

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the elite in order of trial number.

        Optuna stores a generation's parents and reads them back in that order; with another order when they are first
        chosen, the first child of a generation would differ after a restart.
        """
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)  # type: ignore[safe-super]


class CrosslayerSampler(_Enrolling, NSGAIISampler):
    """NSGA-II with children from a breeder.

    Args:
        population_size: Number of trials in a generation.
        seed: Seed of this ask.
        breeder: Makes the children; None leaves them to Optuna.
        min_accuracy: The target accuracy, if any. While few trials come near it, the nearest are the parents; otherwise
            NSGA-II chooses the parents, because candidates below the target have good genes too.
    """

    def __init__(
        self,
        *,
        population_size: int,
        seed: int | None = None,
        breeder: Breeder | None = None,
        min_accuracy: float | None = None,
    ) -> None:
        self._breeder = breeder
        self._children = np.random.default_rng(seed)
        self._bound = None if min_accuracy is None else min_accuracy - _SOFT_BOUND
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(
                population_size=population_size,
                seed=seed,
                child_generation_strategy=None if breeder is None else self._child,
            )

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the genes with a choice, which a breeder knows; Optuna would read every trial to find them."""
        if self._breeder is None:
            return super().infer_relative_search_space(study, trial)
        return self._breeder.open_genes

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the elite or, while the target accuracy is rare, the trials nearest to it."""
        assert self.population_size is not None
        if self._bound is not None:
            bound = self._bound
            everyone = self.get_population(study, generation - 1) + self.get_parent_population(study, generation - 1)
            near = [trial for trial in everyone if trial.values[0] >= bound]
            if len(near) < self.population_size // 4:
                nearest = sorted(everyone, key=lambda trial: (max(0.0, bound - trial.values[0]), trial.number))
                return sorted(nearest[: self.population_size], key=lambda trial: trial.number)
        return super().select_parent(study, generation)

    def _child(
        self, study: Study, search_space: Mapping[str, BaseDistribution], parents: Sequence[FrozenTrial]
    ) -> dict[str, Any]:
        assert self._breeder is not None
        ordered = sorted(parents, key=lambda trial: trial.number)
        genes = self._breeder.child([trial.params for trial in ordered], self._children)
        return {name: genes[name] for name in search_space}


class CrosslayerNSGAIIISampler(_Enrolling, NSGAIIISampler):
    """NSGA-III whose population includes enrolled trials."""


class Asker:
    """Asks a study for the next trials of a search.

    Args:
        study: The study; its trials are all that is known.
        genome_model: The space, with features and costs of genomes.
        sampler: One of `SAMPLERS`.
        seed: Seed of the search.
        population_size: Trials per generation; the first also has all the starting configurations.
        starts: Distinct genomes to begin with; they come first in the first generation.
        needed: Identity of the start that a search cannot do without, which is asked again if it failed; None if there
            is none.
        prescreen: Whether a surrogate screens the children of `nsga2`.
        min_accuracy: The target accuracy, if any.
        area: A bound that everything but the starting configurations keeps, if any.
    """

    def __init__(
        self,
        study: Study,
        genome_model: GenomeModel,
        *,
        sampler: str,
        seed: int,
        population_size: int,
        starts: Sequence[Genes],
        needed: str | None = None,
        prescreen: bool = True,
        min_accuracy: float | None = None,
        area: AreaBound | None = None,
    ) -> None:
        self._study = study
        self._genome_model = genome_model
        self._sampler = sampler
        self._seed = seed
        self._size = population_size
        self._starts = starts
        self._needed = needed
        self._prescreen = prescreen
        self._min_accuracy = min_accuracy
        self._area = area
        self._distributions = dict(genome_model.distributions())
        # A copy of the study in memory, in which Optuna is asked.
        self._mirror = optuna.create_study(directions=study.directions)

    def running(self) -> list[FrozenTrial]:
        """Return the trials that have no result yet, in order of number."""
        return self._asked(TrialState.RUNNING)

    def next_generation(self) -> int:
        """Return the generation of the next ask."""
        held = [trial for trial in self._asked() if trial.state is not TrialState.FAIL]
        generation = max(map(generation_of, held), default=0)
        members = [trial for trial in held if generation_of(trial) == generation]
        if len(members) >= self._size and all(trial.state is TrialState.COMPLETE for trial in members):
            return generation + 1
        return generation

    def ask_generation(self, *, budget: int) -> list[FrozenTrial]:
        """Return the trials to evaluate next: those still running and the rest of their generation, or a new one.

        Failed trials are replaced once the whole generation has ended, as in a search that was not interrupted.

        Args:
            budget: Total number of trials that may complete.

        Returns:
            Trials in order of number; empty when the budget is spent.
        """
        running = self.running()
        generation = self.next_generation()
        if running and any(one.state.is_finished() and generation_of(one) == generation for one in self._asked()):
            return running
        complete = self._asked(TrialState.COMPLETE)
        members = [trial for trial in [*complete, *running] if generation_of(trial) == generation]
        starts = self._not_held(self._starts)
        wanted = max(self._size - len(members), len(starts))
        count = max(0, min(wanted, budget - len(complete) - len(running)))
        breeder = self._breeder(generation) if count and generation else None
        self._ask(count, generation, starts, breeder)
        return self.running()

    def ask_enrolled(self, genomes: Iterable[Genes], *, budget: int) -> list[FrozenTrial]:
        """Return the trials still running, and new ones for these genomes within the budget."""
        enrolled = self._not_held(genomes)
        spent = len(self._asked(TrialState.COMPLETE, TrialState.RUNNING))
        self._ask(min(budget - spent, len(enrolled)), 0, enrolled, None)
        return self.running()

    def ask_one(self) -> FrozenTrial:
        """Return one new trial, based on everything known now."""
        starts = self._not_held(self._starts)
        complete = self._asked(TrialState.COMPLETE)
        generation = (len(complete) + len(self.running())) // self._size
        breeder = self._breeder(None) if complete and not starts else None
        self._ask(1, generation, starts, breeder)
        return self.running()[-1]

    def _not_held(self, genomes: Iterable[Genes]) -> list[Genes]:
        """Return the genomes that no trial has yet, without duplicates."""
        asked = self._asked()
        held = {self._genome_model.identity(one.params) for one in asked if one.state is not TrialState.FAIL}
        failed = {self._genome_model.identity(one.params) for one in asked if one.state is TrialState.FAIL}
        known = held | failed - {self._needed}
        return [
            genes
            for identity, genes in {self._genome_model.identity(one): one for one in genomes}.items()
            if identity not in known
        ]

    def _ask(self, count: int, generation: int, enrolled: Sequence[Genes], breeder: Breeder | None) -> None:
        """Ask for `count` trials, the enrolled genomes first."""
        asked = self._asked()
        self._update_mirror(asked)
        for place in range(len(asked), len(asked) + count):
            sampler = self._sampler_of(place, breeder)
            if self._area is not None and breeder is None:  # a breeder keeps the bound itself
                sampler = BoundedSampler(sampler, self._distributions, self._area, seed=self._seed_of(place))
            self._mirror.sampler = sampler
            if place - len(asked) < len(enrolled):
                self._mirror.enqueue_trial(dict(enrolled[place - len(asked)]))
            trial = self._mirror.ask(self._distributions)
            trial.set_user_attr(GENERATION, generation)
            self._study.add_trial(self._mirror.get_trials(deepcopy=False)[trial.number])

    def _update_mirror(self, asked: Sequence[FrozenTrial]) -> None:
        """Update the trials in memory from the stored ones, which another process may have continued."""
        known = self._mirror.get_trials(deepcopy=False)
        if [trial.params for trial in known] != [trial.params for trial in asked[: len(known)]]:
            self._mirror, known = optuna.create_study(directions=self._study.directions), []
        for mine, stored in zip(known, asked, strict=False):
            if stored.state.is_finished() and not mine.state.is_finished():
                self._mirror.tell(mine.number, stored.values, stored.state)
        self._mirror.add_trials(asked[len(known) :])
        if not known:
            self._choose_parents()

    def _choose_parents(self) -> None:
        """Choose the parents of every complete generation in memory as they were chosen when it was asked.

        This goes generation by generation, because the parents of each depend on those before, and Optuna's recursion
        would exceed Python's stack.
        """
        sampler = self._sampler_of(0, None)
        if not isinstance(sampler, BaseGASampler):
            return
        latest = 0
        for place, trial in enumerate(self._mirror.get_trials(deepcopy=False)):
            generation = sampler.get_trial_generation(self._mirror, trial)
            for one in range(latest + 1, generation + 1):
                choosing = self._sampler_of(place, None)
                assert isinstance(choosing, BaseGASampler)
                choosing.get_parent_population(self._mirror, one)
            latest = max(latest, generation)

    def _sampler_of(self, place: int, breeder: Breeder | None) -> BaseSampler:
        """Return the sampler of a trial by its index among all trials."""
        return make_sampler(
            self._sampler,
            population_size=self._size,
            seed=self._seed_of(place),
            breeder=breeder,
            min_accuracy=self._min_accuracy,
        )

    def _seed_of(self, place: int) -> int:
        return int(content_hash({"seed": self._seed, "place": place})[:8], 16)

    def _breeder(self, generation: int | None) -> Breeder | None:
        """Return the breeder of a generation, from what was known before it; for None, from all that is known now."""
        if self._sampler != "nsga2":
            return None
        asked = self._asked()
        over = {
            trial.number
            for trial in asked
            if trial.state.is_finished() and (generation is None or generation_of(trial) < generation)
        }
        return Breeder(
            self._genome_model,
            # A failed trial counts as one of accuracy 0, so that similar ones are not asked.
            known=[(one.params, one.values[0] if one.values else 0.0) for one in asked if one.number in over],
            pending=[trial.params for trial in asked if trial.number not in over],
            prescreen=self._prescreen,
            min_accuracy=self._min_accuracy,
            area=self._area,
        )

    def _asked(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials of the search in order of number: all of them, or those in some states."""
        trials = self._study.get_trials(deepcopy=False, states=states or None)
        return [trial for trial in trials if was_asked(trial, self._distributions)]


def make_sampler(
    name: str,
    *,
    population_size: int,
    seed: int | None = None,
    breeder: Breeder | None = None,
    min_accuracy: float | None = None,
) -> BaseSampler:
    """Return the sampler with a name.

    Args:
        name: One of `SAMPLERS`.
        population_size: Trials per generation of genetic samplers, or random trials at the start of others.
        seed: Seed of the next ask.
        breeder: Makes the children of `nsga2`.
        min_accuracy: The target accuracy of `nsga2`; see `CrosslayerSampler`.
    """
    if name == "nsga2":
        return CrosslayerSampler(population_size=population_size, seed=seed, breeder=breeder, min_accuracy=min_accuracy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "nsga3":
            return CrosslayerNSGAIIISampler(population_size=population_size, seed=seed)
        if name == "tpe":
            return TPESampler(multivariate=True, constant_liar=True, n_startup_trials=population_size, seed=seed)
        if name == "gp":
            return GPSampler(seed=seed, n_startup_trials=population_size)
    return RandomSampler(seed=seed)


def was_asked(trial: FrozenTrial, genes: Collection[str]) -> bool:
    """Whether a trial is a search's, and not that of another user of its study.

    Args:
        trial: A trial in any state.
        genes: Names of all genes.
    """
    return trial.params.keys() == set(genes) and GENERATION in trial.user_attrs


def generation_of(trial: FrozenTrial) -> int:
    """Return the generation in which a search asked for a trial."""
    generation: int = trial.user_attrs[GENERATION]
    return generation
