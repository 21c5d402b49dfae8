"""Samplers, generations and the trials that a search asks."""

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from search.defaults import SAMPLERS
from search.pareto import hypervolume
from search.sampling.asker import GENERATION, Asker, CrosslayerSampler, make_sampler, population_size
from search.sampling.offspring import Breeder
from search.sampling.starts import starting_genomes
from search.space.task import find_task
from tests.support.fakes import FakeGenomeModel, formula

pytestmark = pytest.mark.slow

SPACE = find_task("digits").space
GENOME_MODEL = FakeGenomeModel(SPACE)


def study_of() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=["maximize", "minimize"])


def asker(study: optuna.Study, *, sampler: str = "nsga2", prescreen: bool = True, **settings: Any) -> Asker:
    return Asker(
        study,
        GENOME_MODEL,
        sampler=sampler,
        seed=settings.pop("seed", 0),
        population_size=settings.pop("population_size", 10),
        starts=settings.pop("starts", starting_genomes(SPACE, budget=40)),
        prescreen=prescreen,
        **settings,
    )


def tell(study: optuna.Study, trials: list[Any]) -> None:
    for trial in trials:
        evaluation = formula(SPACE.decode(trial.params))
        study.tell(trial.number, (evaluation.accuracy, evaluation.energy_pj))


def run(study: optuna.Study, budget: int = 60, **settings: Any) -> list[dict[str, Any]]:
    asking = asker(study, **settings)
    while trials := asking.ask_generation(budget=budget):
        tell(study, trials)
    asked = [trial for trial in study.get_trials() if GENERATION in trial.user_attrs]
    return [trial.params for trial in asked if trial.state is TrialState.COMPLETE]


def test_population_size_is_a_function_of_the_budget() -> None:
    assert [population_size(budget) for budget in (1, 40, 160, 200, 1600)] == [10, 10, 10, 12, 100]


def test_a_search_begins_with_its_starting_configurations_in_the_first_generation() -> None:
    study = study_of()
    starts = starting_genomes(SPACE, budget=40)
    assert len(starts) > 10
    genomes = run(study)
    assert genomes[: len(starts)] == starts
    assert SPACE.decode(genomes[0]) == SPACE.baseline()
    generations = [trial.user_attrs[GENERATION] for trial in study.get_trials()]
    assert generations[: len(starts)] == [0] * len(starts)
    # Optuna counts the same generations, so that the starting configurations are among the parents.
    assert generations == [trial.system_attrs["CrosslayerSampler:generation"] for trial in study.get_trials()]
    assert generations[len(starts) :] == [1 + place // 10 for place in range(60 - len(starts))]


def test_no_candidate_is_asked_twice() -> None:
    for prescreen in (True, False):
        genomes = run(study_of(), budget=120, prescreen=prescreen)
        assert len({GENOME_MODEL.identity(genes) for genes in genomes}) == 120


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_seed_gives_one_search(sampler: str) -> None:
    budget = len(starting_genomes(SPACE, budget=40)) + 3 if sampler == "gp" else 40
    first, again = run(study_of(), budget=budget, sampler=sampler), run(study_of(), budget=budget, sampler=sampler)
    assert first == again
    assert len(first) == budget
    if sampler != "gp":  # which takes seconds for each
        assert run(study_of(), budget=budget, sampler=sampler, seed=1) != first


@cache
def undisturbed(sampler: str) -> list[dict[str, Any]]:
    """The genomes of a search that is not interrupted."""
    return run(study_of(), sampler=sampler)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])  # which takes seconds for each
@pytest.mark.parametrize("killed_after", [1, 3, 17, 24, 33])
def test_a_search_interrupted_while_asking_resumes_as_if_it_had_not_been(
    killed_after: int, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, asked = study_of(), 0
    add_trial = study.add_trial

    def dying(trial: FrozenTrial) -> None:
        nonlocal asked
        asked += 1
        if asked == killed_after:
            raise KeyboardInterrupt
        add_trial(trial)

    monkeypatch.setattr(study, "add_trial", dying)
    with pytest.raises(KeyboardInterrupt):
        run(study, sampler=sampler)
    monkeypatch.undo()
    assert run(study, sampler=sampler) == undisturbed(sampler)


def test_failed_trials_are_replaced_and_not_asked_again() -> None:
    study = study_of()
    asking = asker(study)
    failed = []
    while trials := asking.ask_generation(budget=50):
        bad = [trial for trial in trials if trial.number % 7 == 3]
        for trial in bad:
            study.tell(trial.number, state=TrialState.FAIL)
            failed.append(GENOME_MODEL.identity(trial.params))
        tell(study, [trial for trial in trials if trial not in bad])
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(complete) == 50
    assert failed
    assert not set(failed) & {GENOME_MODEL.identity(trial.params) for trial in complete}


def failing(study: optuna.Study, *, budget: int, killed_after: int | None = None) -> None:
    """Search with some failures; or be killed after this many trials have ended."""
    asking, ended = asker(study), 0
    while trials := asking.ask_generation(budget=budget):
        for trial in trials:
            if ended == killed_after:
                return
            if int(GENOME_MODEL.identity(trial.params), 16) % 5 == 0:
                study.tell(trial.number, state=TrialState.FAIL)
            else:
                tell(study, [trial])
            ended += 1


@cache
def failing_undisturbed() -> list[FrozenTrial]:
    """The trials of a search in which some fail and that is not killed."""
    study = study_of()
    failing(study, budget=50)
    return study.get_trials()


@pytest.mark.parametrize("killed_after", [3, 22, 27, 33])
def test_a_killed_search_with_failures_resumes_as_if_it_had_not_been_killed(killed_after: int) -> None:
    whole, study = failing_undisturbed(), study_of()
    failing(study, budget=50, killed_after=killed_after)
    failing(study, budget=50)
    assert any(trial.state is TrialState.FAIL for trial in whole)
    assert [trial.params for trial in study.get_trials()] == [trial.params for trial in whole]


def test_a_failed_start_is_asked_again_only_if_the_search_needs_it() -> None:
    starts = starting_genomes(SPACE, budget=40)
    for needed, asked in ((None, 1), (GENOME_MODEL.identity(starts[0]), 3)):
        study = study_of()
        asking, failed = asker(study, starts=starts, needed=needed), 0
        while failed < 3 and (trials := asking.ask_generation(budget=40)):
            for trial in trials:
                if trial.params == starts[0]:
                    study.tell(trial.number, state=TrialState.FAIL)
                    failed += 1
                else:
                    tell(study, [trial])
        assert failed == asked


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
def test_trials_of_other_users_change_nothing(sampler: str) -> None:
    whole = run(study_of(), 30, sampler=sampler)
    study = study_of()
    study.ask().suggest_int("depth", 1, 3)
    study.enqueue_trial({"depth": 2})
    for params in ({"depth": 2}, SPACE.encode(SPACE.baseline())):
        distributions = {name: SPACE.distributions()[name] for name in params}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, values=(0.5, 1.0)))
    others = [trial.state for trial in study.get_trials()]
    generation = len(starting_genomes(SPACE, budget=40))
    assert run(study, generation, sampler=sampler) == whole[:generation]
    study.tell(0, (0.9, 0.1))
    assert run(study, 30, sampler=sampler) == whole
    assert [trial.state for trial in study.get_trials()][1:4] == others[1:]


def test_a_search_that_another_process_continued_is_resumed_from_there() -> None:
    whole = run(study_of(), 50)
    study = study_of()
    held_up, other = asker(study), asker(study)
    for asking in (held_up, other, other, held_up):
        tell(study, asking.ask_generation(budget=50))
    assert run(study, 50) == whole


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_a_search_of_many_generations_is_resumed(sampler: str) -> None:
    study, rng = study_of(), np.random.default_rng(0)
    breeder = Breeder(GENOME_MODEL, known=[], prescreen=False)
    name = type(make_sampler(sampler, population_size=2)).__name__
    for number in range(sys.getrecursionlimit()):
        genes = breeder.random(rng)
        study.add_trial(
            optuna.create_trial(
                params=genes,
                distributions=dict(SPACE.distributions()),
                values=(formula(SPACE.decode(genes)).accuracy, formula(SPACE.decode(genes)).energy_pj),
                user_attrs={GENERATION: number // 2},
                system_attrs={f"{name}:generation": number // 2},
            )
        )
    found = asker(study, population_size=2, sampler=sampler, prescreen=False, starts=()).ask_generation(budget=2000)
    assert [trial.user_attrs[GENERATION] for trial in found] == [sys.getrecursionlimit() // 2] * 2


def test_asynchronous_asks_use_everything_known() -> None:
    study = study_of()
    asking = asker(study)
    running = [asking.ask_one() for _ in range(3)]
    for _ in range(60):
        tell(study, [running.pop(0)])
        running.append(asking.ask_one())
    identities = [GENOME_MODEL.identity(trial.params) for trial in study.get_trials()]
    assert len(set(identities)) == len(identities) == 63


def gained(*, prescreen: bool, seed: int) -> float:
    """Return how much ten children increase the hypervolume of the front of 30 random evaluations."""
    rng = np.random.default_rng(seed)
    breeder = Breeder(GENOME_MODEL, known=[], prescreen=False)
    random = [breeder.random(rng) for _ in range(30)]
    known = [(genes, formula(SPACE.decode(genes)).accuracy) for genes in random]
    screening = Breeder(GENOME_MODEL, known=known, prescreen=prescreen)
    children = [screening.child(random, rng) for _ in range(10)]

    def points(genomes: list[Any]) -> np.ndarray:
        found = [formula(SPACE.decode(genes)) for genes in genomes]
        return np.array([(1 - one.accuracy, float(np.log10(one.energy_pj))) for one in found])

    corner = (0.4, 4.0)
    return hypervolume(points([*random, *children]), corner) - hypervolume(points(random), corner)


def test_screened_children_gain_more_than_others() -> None:
    screened = [gained(prescreen=True, seed=seed) for seed in range(6)]
    others = [gained(prescreen=False, seed=seed) for seed in range(6)]
    assert sum(screened) > 1.5 * sum(others)


class Unbuildable(FakeGenomeModel):
    """Candidates of width 1 cannot be built or evaluated: they cost infinity."""

    def costs(self, genomes: Sequence[Any]) -> np.ndarray:
        return np.where([[genes["width"] == 1] for genes in genomes], np.inf, super().costs(genomes))


def test_genomes_that_cannot_be_built_do_not_affect_others() -> None:
    """If the reference point included such costs, differences between the costs of children would hardly count."""
    found = []
    for genome_model in (GENOME_MODEL, Unbuildable(SPACE)):
        rng = np.random.default_rng(0)
        random = [Breeder(genome_model, known=[], prescreen=False).random(rng) for _ in range(30)]
        known = [
            (genes, 0.0 if genes["width"] == 1 else formula(SPACE.decode(genes)).accuracy)
            for genes in ({**one, "width": 1 + place % 8} for place, one in enumerate(random))
        ]
        breeder = Breeder(genome_model, known=known)
        children = [breeder.child([genes for genes, accuracy in known if accuracy], rng) for _ in range(20)]
        found.append([formula(SPACE.decode(genes)).energy_pj for genes in children if genes["width"] > 1])
    buildable, unbuildable = found
    assert len(unbuildable) == 20
    assert np.median(np.log10(unbuildable)) < np.median(np.log10(buildable)) + 0.3


def test_an_exhausted_space_repeats_genomes_instead_of_looping_forever() -> None:
    from dataclasses import replace

    tiny = FakeGenomeModel(
        replace(
            SPACE,
            families=("mlp",),
            depth=range(1, 2),
            width=range(1, 3),
            sparsity_percent=range(1),
            weight_bits=range(8, 9),
            activation_bits=range(8, 9),
            supply_mv=range(900, 901),
            multipliers=("exact",),
        )
    )
    rng = np.random.default_rng(0)
    breeder = Breeder(tiny, known=[])
    genomes = [breeder.child([{**SPACE.encode(SPACE.baseline()), "width": 1, "depth": 1}], rng) for _ in range(4)]
    assert {genes["width"] for genes in genomes} == {1, 2}


def test_while_the_target_is_rare_the_nearest_trials_are_the_parents() -> None:
    study = study_of()
    sampler = CrosslayerSampler(population_size=10, seed=0, min_accuracy=1.5)
    run(study, budget=30)
    nearest = sampler.select_parent(study, 1)  # of generation 0 alone
    everyone = [trial for trial in study.get_trials() if trial.user_attrs[GENERATION] == 0]
    best = sorted(everyone, key=lambda trial: -trial.values[0])[:10]
    assert {trial.values[0] for trial in nearest} == {trial.values[0] for trial in best}
    usual = CrosslayerSampler(population_size=10, seed=0, min_accuracy=0.1).select_parent(study, 1)
    assert [t.number for t in usual] == [
        t.number for t in CrosslayerSampler(population_size=10).select_parent(study, 1)
    ]
