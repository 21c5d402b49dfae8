"""Asking an Optuna study for candidates: samplers by name, generations, starting configurations.

A whole generation is asked before any of it is told, so the order in which evaluations finish changes nothing. Every
ask has a sampler of its own, seeded by the search's seed and the trial's place, so a search that was stopped goes on as
if it had not been. Asynchronous searches give this up: they ask for one candidate whenever a worker is free.

Optuna is asked in memory, and a trial is stored when it has all of its genes: in a database Optuna would read all
trials anew for every ask and write gene by gene, and a search that is killed would leave trials that lack some.
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
from search.sampling.offspring import Breeder, Genes, Problem

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SAMPLERS = ("nsga2", "nsga3", "tpe", "gp", "random")
GENERATION = "generation"  # user attribute of a trial: the generation in which it was asked for
_SOFT_BOUND = 0.03  # accuracy below the target down to which candidates count as feasible


def population_size(budget: int) -> int:
    """Evaluations per generation: budget / 16, but at least 10.

    Small generations find more within a few hundred evaluations than Optuna's default of 50 does.
    """
    return max(10, budget // 16)


class _Enrolling(BaseGASampler):
    """A genetic sampler whose population has the enrolled trials too, such as the baseline.

    Optuna keeps each trial's generation under the class's name: renaming a subclass makes stored searches start over.
    """

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Give the trial its generation, whatever its parameters come from."""
        super().before_trial(study, trial)
        self.get_trial_generation(study, trial)

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The elite in order of trial number.

        Optuna keeps a generation's parents and reads them back in that order; had they another one when they are first
        chosen, the first child of a generation would differ from what it would be if parents were read back for it.
        """
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)  # type: ignore[safe-super]


class CrosslayerSampler(_Enrolling, NSGAIISampler):
    """NSGA-II whose children a breeder makes.

    Args:
        population_size: Of a generation.
        seed: Of this ask.
        breeder: Makes the children; None leaves them to Optuna.
        min_accuracy: What is wanted, if anything is. As long as hardly any trial comes near it, those that come nearest
            are the parents; else parents are those of NSGA-II, because candidates below it have good genes too.
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
        """All genes that have a choice: a breeder knows them, where Optuna reads every trial to find them."""
        if self._breeder is None:
            return super().infer_relative_search_space(study, trial)
        return self._breeder.open_genes

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The elite or, where the wanted accuracy is rare, those that come nearest to it."""
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
    """NSGA-III that also counts enrolled trials among its population."""


class Asker:
    """Asks a study for what a search evaluates next.

    Args:
        study: The study. Its trials are what is known.
        problem: The space.
        sampler: One of `SAMPLERS`.
        seed: Of the search.
        population_size: Trials of a generation; the first also has all the starting configurations.
        starts: Genomes with which a search begins, each once; the first generation is theirs.
        needed: Identity of the one among these without which there is no search, and which is asked for again if it
            failed; None if there is none.
        prescreen: Whether the children of `nsga2` are screened by a surrogate.
        min_accuracy: What is wanted, if anything is.
    """

    def __init__(
        self,
        study: Study,
        problem: Problem,
        *,
        sampler: str,
        seed: int,
        population_size: int,
        starts: Sequence[Genes],
        needed: str | None = None,
        prescreen: bool = True,
        min_accuracy: float | None = None,
    ) -> None:
        self._study = study
        self._problem = problem
        self._sampler = sampler
        self._seed = seed
        self._size = population_size
        self._starts = starts
        self._needed = needed
        self._prescreen = prescreen
        self._min_accuracy = min_accuracy
        self._distributions = dict(problem.distributions())
        # Of the study, in memory: here Optuna is asked.
        self._mirror = optuna.create_study(directions=study.directions)

    def running(self) -> list[FrozenTrial]:
        """Trials that were asked for and not told yet, in order of number."""
        return self._asked(TrialState.RUNNING)

    def next_generation(self) -> int:
        """The generation for which is asked next."""
        held = [trial for trial in self._asked() if trial.state is not TrialState.FAIL]
        generation = max(map(generation_of, held), default=0)
        members = [trial for trial in held if generation_of(trial) == generation]
        if len(members) >= self._size and all(trial.state is TrialState.COMPLETE for trial in members):
            return generation + 1
        return generation

    def ask_generation(self, *, budget: int) -> list[FrozenTrial]:
        """The trials to evaluate next: those left running and what their generation lacks, or a whole new one.

        What lacks because others failed is asked for when all of the generation has ended, as in a search that was not
        interrupted.

        Args:
            budget: Trials that may complete in all.

        Returns:
            In order of number; none when the budget is spent.
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
        """What was left running, and these, as far as the budget goes."""
        enrolled = self._not_held(genomes)
        spent = len(self._asked(TrialState.COMPLETE, TrialState.RUNNING))
        self._ask(min(budget - spent, len(enrolled)), 0, enrolled, None)
        return self.running()

    def ask_one(self) -> FrozenTrial:
        """One trial, chosen by all that is known now."""
        starts = self._not_held(self._starts)
        complete = self._asked(TrialState.COMPLETE)
        generation = (len(complete) + len(self.running())) // self._size
        breeder = self._breeder(None) if complete and not starts else None
        self._ask(1, generation, starts, breeder)
        return self.running()[-1]

    def _not_held(self, genomes: Iterable[Genes]) -> list[Genes]:
        """Those of these that no trial holds yet, each once."""
        asked = self._asked()
        held = {self._problem.identity(one.params) for one in asked if one.state is not TrialState.FAIL}
        failed = {self._problem.identity(one.params) for one in asked if one.state is TrialState.FAIL}
        known = held | failed - {self._needed}
        return [
            genes
            for identity, genes in {self._problem.identity(one): one for one in genomes}.items()
            if identity not in known
        ]

    def _ask(self, count: int, generation: int, enrolled: Sequence[Genes], breeder: Breeder | None) -> None:
        """Ask for so many trials, of which those that are enrolled come first."""
        asked = self._asked()
        self._update_mirror(asked)
        for place in range(len(asked), len(asked) + count):
            self._mirror.sampler = self._sampler_of(place, breeder)
            if place - len(asked) < len(enrolled):
                self._mirror.enqueue_trial(dict(enrolled[place - len(asked)]))
            trial = self._mirror.ask(self._distributions)
            trial.set_user_attr(GENERATION, generation)
            self._study.add_trial(self._mirror.get_trials(deepcopy=False)[trial.number])

    def _update_mirror(self, asked: Sequence[FrozenTrial]) -> None:
        """Bring the trials in memory up to what is stored, from which others may have gone on."""
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
        """Choose the parents of every whole generation in memory as they were chosen when it was asked for.

        One generation after the other: each one's are also chosen among those of the one before, and further back than
        Python's stack is deep.
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
        """The sampler for a trial by its place among all that were asked for."""
        return make_sampler(
            self._sampler,
            population_size=self._size,
            seed=int(content_hash({"seed": self._seed, "place": place})[:8], 16),
            breeder=breeder,
            min_accuracy=self._min_accuracy,
        )

    def _breeder(self, generation: int | None) -> Breeder | None:
        """For a generation, from what was known before it; for None, from all that is known now."""
        if self._sampler != "nsga2":
            return None
        asked = self._asked()
        over = {
            trial.number
            for trial in asked
            if trial.state.is_finished() and (generation is None or generation_of(trial) < generation)
        }
        return Breeder(
            self._problem,
            # What failed is as good as one that classifies nothing: its like is not to be asked for.
            known=[(one.params, one.values[0] if one.values else 0.0) for one in asked if one.number in over],
            pending=[trial.params for trial in asked if trial.number not in over],
            prescreen=self._prescreen,
            min_accuracy=self._min_accuracy,
        )

    def _asked(self, *states: TrialState) -> list[FrozenTrial]:
        """All that the search asked for, in order of number, or those in some states."""
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
    """The sampler of a name.

    Args:
        name: One of `SAMPLERS`.
        population_size: Of the genetic ones.
        seed: Of the next ask.
        breeder: Makes the children of `nsga2`.
        min_accuracy: See `CrosslayerSampler`.
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
    """Whether a search asked for a trial, and not somebody else who uses its study.

    Args:
        trial: The trial, in whatever state.
        genes: Names of all genes.
    """
    return trial.params.keys() == set(genes) and GENERATION in trial.user_attrs


def generation_of(trial: FrozenTrial) -> int:
    """The generation in which a search asked for a trial."""
    generation: int = trial.user_attrs[GENERATION]
    return generation
