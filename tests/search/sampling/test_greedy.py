"""The greedy strategy: its steps on made-up figures, and whole searches by it on evaluations by formula."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import energy
from search.answers.result import SearchResult
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.engine import run_search
from search.errors import UsageError
from search.evaluation.evaluation import Evaluation
from search.evaluation.work import Outcome, Result, WorkItem
from search.observer import Observer
from search.sampling.forecast import HardwareGenomeModel
from search.sampling.greedy import Greedy
from search.space.candidate import Candidate
from search.space.search_space import SearchSpace
from search.space.target import Target
from search.space.task import find_task
from search.store.database import Store
from search.store.records import SearchRecord, SearchSettings
from search.store.studies import open_study
from tests.support.fakes import FakeExecutor, InterruptAfter, InterruptionError, formula, new_search

pytestmark = pytest.mark.slow

TASK = find_task("digits")
SPACE = TASK.space
BASELINE = SPACE.baseline()
HARDWARE = energy.load_hardware("weight-stationary-45nm")
WITHIN_5_POINTS = Target(max_accuracy_drop=0.05)
Figures = tuple[float, float]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=True) as opened:
        yield opened


def measure(candidate: Candidate) -> Figures:
    found = formula(candidate)
    return found.accuracy, found.energy_pj


def explore(
    space: SearchSpace,
    figures: Callable[[Candidate], Figures | None] = measure,
    *,
    target: Target = WITHIN_5_POINTS,
) -> tuple[dict[str, Figures | None], list[list[Candidate]]]:
    """Return what a greedy strategy found, and the candidates of each of its steps."""
    greedy, found, asked = Greedy(space, target), dict[str, Figures | None](), []
    while genomes := greedy.missing(found):
        candidates = [space.decode(genes) for genes in genomes]
        found |= {one.key: figures(one) for one in candidates}
        asked.append(candidates)
    return found, asked


def two_knobs(accuracies: dict[tuple[float, int], float]) -> Callable[[Candidate], Figures]:
    """Accuracies by sparsity and weight bits, and energies that are bits times the share of weights kept."""

    def figures(candidate: Candidate) -> Figures:
        place = (candidate.sparsity, candidate.weight_bits)
        return accuracies.get(place, 0.0), candidate.weight_bits * (1 - candidate.sparsity)

    return figures


PRUNED = replace(
    SPACE.of_techniques(("pruning", "multiplier")),
    sparsity_percent=(0, 50, 75),
    weight_bits=(4, 6, 8),
    activation_bits=range(8, 9),
    multipliers=("exact",),
)


def test_it_starts_at_the_baseline_and_takes_the_step_that_saves_most_per_loss() -> None:
    # From (0, 8 bits): half the weights save 0.301 decades for 0.02, 15.1 for 1; 6 bits save 0.125 for 0.005, 25.
    # So the bits are first. From (0, 6): 4 bits save 0.176 for 0.02, 8.8; half the weights 0.301 for 0.01, 30.1.
    found, asked = explore(
        PRUNED, two_knobs({(0, 8): 0.95, (0.5, 8): 0.93, (0, 6): 0.945, (0.5, 6): 0.935, (0, 4): 0.925})
    )
    places = [[(one.sparsity, one.weight_bits) for one in question] for question in asked]
    assert places == [[(0, 8)], [(0.5, 8), (0, 6)], [(0.5, 6), (0, 4)], [(0.75, 6), (0.5, 4)]]
    assert len(found) == 7


def test_it_ends_when_no_step_keeps_the_accuracy() -> None:
    accuracies = {(0, 8): 0.95, (0.5, 8): 0.89, (0, 6): 0.899}
    assert len(explore(PRUNED, two_knobs(accuracies))[1]) == 2  # 5 points below 0.95 at most
    assert len(explore(PRUNED, two_knobs(accuracies), target=Target(min_accuracy=0.89))[1]) == 3
    assert len(explore(PRUNED, two_knobs(accuracies), target=Target(min_accuracy=0.96))[1]) == 2


def test_a_step_that_costs_energy_is_not_taken() -> None:
    def figures(candidate: Candidate) -> Figures:
        return 0.9, 1.0 if candidate == BASELINE else 2.0

    assert len(explore(PRUNED, figures)[1]) == 2


def test_failed_candidates_are_not_steps() -> None:
    def figures(candidate: Candidate) -> Figures | None:
        return None if candidate.sparsity else (0.9, float(candidate.weight_bits))

    _, asked = explore(PRUNED, figures)
    assert [[(one.sparsity, one.weight_bits) for one in question] for question in asked] == [
        [(0, 8)],
        [(0.5, 8), (0, 6)],
        [(0.5, 6), (0, 4)],
        [(0.5, 4)],
    ]
    assert len(explore(PRUNED, lambda _: None)[1]) == 1


@pytest.mark.parametrize(
    "space",
    [
        SPACE,
        replace(SPACE, layered=True),
        replace(SPACE, width=(1, 2, 4), depth=range(2, 3), baseline_family="mlp"),
        SPACE.of_techniques(("memory",)),
        SPACE.of_techniques(()),
    ],
    ids=["default", "layered", "restricted", "memory", "nothing"],
)
def test_every_step_moves_one_knob_within_the_space(space: SearchSpace) -> None:
    found, asked = explore(space)
    candidates = [one for question in asked for one in question]
    assert len({one.key for one in candidates}) == len(candidates) == len(found)
    assert all(space.holds(one) for one in candidates)
    assert (asked[0] == [BASELINE]) == space.holds(BASELINE)
    start = measure(asked[0][0])
    assert {one.family for one in candidates} == {BASELINE.family}
    reaching = [figures for figures in found.values() if figures is not None and figures[0] >= start[0] - 0.05]
    assert min(energy for _, energy in reaching) <= start[1]
    if not space.distributions()["supply_mv"].single():
        assert min(energy for _, energy in reaching) < start[1]


def test_steps_of_the_layered_space_change_layers_separately() -> None:
    _, asked = explore(replace(SPACE, layered=True))
    assert any(one.multiplier_last is not None for question in asked for one in question)


class Executor(FakeExecutor):
    """Runs the jobs of any iterable."""

    def run(self, jobs: Iterable[WorkItem[Result]]) -> Iterator[Outcome[Result]]:
        return super().run(list(jobs))


def greedy_search(store: Store, *, budget: int = 40) -> SearchRecord:
    return new_search(store, budget=budget, target=WITHIN_5_POINTS, settings=SearchSettings(sampler="greedy"))


def run(
    store: Store,
    search: SearchRecord,
    executor: Executor,
    observer: Observer | None = None,
    space: SearchSpace = SPACE,
) -> SearchResult:
    return run_search(
        search,
        space,
        store,
        executor,
        genome_model=HardwareGenomeModel(space, TASK, HARDWARE),
        key_of=lambda candidate: candidate.key,
        observer=observer or Observer(),
    )


def evaluated(executor: Executor) -> list[Candidate]:
    return [job.candidate for job in executor.evaluated()]


def test_a_search_takes_the_steps_and_ends_before_its_budget(store: Store) -> None:
    executor, search = Executor(), greedy_search(store, budget=60)
    result = run(store, search, executor, space=PRUNED)
    found, asked = explore(PRUNED)
    assert {one.key for one in evaluated(executor)} == set(found)
    assert evaluated(executor)[0] == asked[0][0] == BASELINE
    assert result.finished == len(found) < 60
    assert all(not job.rivals for job in executor.evaluated())


@pytest.mark.parametrize("budget", [1, 2, 11])
def test_a_search_keeps_to_its_budget_and_resumes_with_a_larger_one(store: Store, budget: int) -> None:
    search, executor = greedy_search(store, budget=budget), Executor()
    assert run(store, search, executor).finished == len(evaluated(executor)) == budget
    longer = store.searches.reopen(search, budget=20)
    assert run(store, longer, executor).finished == len(evaluated(executor)) == 20
    keys = [one.key for one in evaluated(executor)]
    assert len(set(keys)) == 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, list[Candidate]]:
    """What a search finds and evaluates that nothing happens to."""
    executor = Executor()
    with Store.open(f"sqlite:///{tmp_path_factory.mktemp('whole') / 'results.db'}", create=True) as store:
        return run(store, greedy_search(store, budget=20), executor), evaluated(executor)


@pytest.mark.parametrize("evaluations", [1, 4, 9])
def test_an_interrupted_search_resumes_as_if_it_had_not_been(
    store: Store, whole: tuple[SearchResult, list[Candidate]], evaluations: int
) -> None:
    search, first, second = greedy_search(store, budget=20), Executor(1), Executor(2)
    with pytest.raises(InterruptionError):
        run(store, search, first, InterruptAfter(evaluations))
    result = run(store, search, second)
    found = evaluated(first) + evaluated(second)
    assert len(found) == len({one.key for one in found}) == 20
    assert {one.key for one in found} == {one.key for one in whole[1]}
    assert [one.key for one in result.front] == [one.key for one in whole[0].front]


@pytest.mark.parametrize("suggested", [0, 3, 9])
def test_a_step_that_other_users_asked_is_still_asked(store: Store, suggested: int) -> None:
    search, executor = greedy_search(store, budget=20), Executor()
    with pytest.raises(InterruptionError):
        run(store, search, executor, InterruptAfter(1))
    study = open_study(store.url, search)
    steps = Greedy(SPACE, WITHIN_5_POINTS).missing({BASELINE.key: measure(BASELINE)})
    study.enqueue_trial(dict(steps[0]))
    trial = study.ask()
    for name, distribution in [*SPACE.distributions().items()][:suggested]:
        trial._suggest(name, distribution)
    result = run(store, search, executor)
    assert result.finished == 20
    assert SPACE.decode(steps[0]) in evaluated(executor)


def test_failed_steps_are_recorded_and_skipped(store: Store) -> None:
    def sometimes(candidate: Candidate) -> Evaluation:
        if candidate.sparsity:
            raise ArithmeticError("diverged")
        return formula(candidate)

    search, executor = greedy_search(store, budget=60), Executor(evaluate=sometimes)
    result = run(store, search, executor, space=PRUNED)
    assert result.failed > 0
    assert {record.evaluation.candidate.sparsity for record in result.evaluations} == {0.0}
    assert min(record.evaluation.candidate.weight_bits for record in result.evaluations) == 4
    asked = [one.key for one in evaluated(executor)]
    assert len(asked) == len(set(asked))


def test_a_baseline_outside_of_the_space_is_evaluated_beside_it(store: Store) -> None:
    space = replace(SPACE, width=(1, 2, 4), baseline_family="mlp", layered=True)
    search, executor = greedy_search(store, budget=15), Executor()
    result = run(store, search, executor, space=space)
    assert result.finished == 15
    assert result.baseline.evaluation.candidate == BASELINE
    assert {one.width for one in evaluated(executor)[1:]} <= {1, 2, 4}


def test_it_takes_no_starting_configurations(tmp_path: Path) -> None:
    import search

    with pytest.raises(UsageError, match="the greedy strategy begins at the largest, most exact candidate"):
        search.run(
            options=SearchOptions(sampler="greedy", starts=[BASELINE]),
            workplace=Workplace(storage=str(tmp_path / "results.db")),
        )


def test_worth_is_decades_saved_for_accuracy_lost() -> None:
    # Losses below a thousandth count as one, so that those steps are compared by their savings.
    def figures(candidate: Candidate) -> Figures:
        saved = 0.5 if candidate.sparsity else 0.25 if candidate.weight_bits == 6 else 0.0
        return 0.95 - (0.0008 if candidate.sparsity else 0.0001 if saved else 0), math.pow(10, -saved)

    assert explore(PRUNED, figures)[1][2][0].sparsity == 0.75
