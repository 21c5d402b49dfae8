from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from energy.hardware_parts import Cell
from search.answers.result import SearchResult, front, front_hypervolume, result_of
from search.engine import run_search
from search.errors import SearchError
from search.evaluation.evaluation import Evaluation
from search.evaluation.work import Outcome, Result, WorkItem
from search.multipliers.choice import choose
from search.observer import Observer
from search.sampling.asker import population_size
from search.space.candidate import NOMINAL_V, Candidate
from search.space.plan import Plan
from search.space.task import find_task
from search.store.database import Store
from search.store.records import Record, SearchRecord
from search.store.studies import open_study
from tests.support.fakes import (
    SETUP,
    FakeExecutor,
    FakeGenomeModel,
    InterruptAfter,
    InterruptionError,
    formula,
    new_search,
)

pytestmark = pytest.mark.slow

SPACE = find_task("digits").space
PLAN = Plan(
    evaluations=40,
    workers=1,
    first_s=1.0,
    evaluation_s=1.0,
    search_s=40.0,
    confirmation_s=None,
    epochs=1.0,
    images=10,
    known=False,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=True) as opened:
        yield opened


def key_of(candidate: Candidate) -> str:
    return candidate.key


def run(
    store: Store,
    search: SearchRecord,
    executor: FakeExecutor,
    observer: Observer | None = None,
    planner: Callable[[int, int], Plan | None] = lambda evaluations, before: None,
    remark: Callable[[Evaluation], str | None] = lambda baseline: None,
) -> SearchResult:
    return run_search(
        search,
        SPACE,
        store,
        executor,
        genome_model=FakeGenomeModel(SPACE),
        key_of=key_of,
        observer=observer or Observer(),
        planner=planner,
        remark=remark,
    )


Trials = list[tuple[int, dict[str, object], list[float]]]


def trials(store: Store, search: SearchRecord) -> Trials:
    return [(t.number, t.params, t.values) for t in open_study(store.url, search).get_trials()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """The trials of a search that nothing happens to."""
    with Store.open(f"sqlite:///{tmp_path_factory.mktemp('whole') / 'results.db'}", create=True) as store:
        search = new_search(store)
        run(store, search, FakeExecutor())
        return trials(store, search)


def test_population_size_is_a_function_of_the_budget() -> None:
    assert [population_size(budget) for budget in (1, 40, 160, 200, 1600)] == [10, 10, 10, 12, 100]


def test_the_baseline_comes_first_and_belongs_to_the_first_generation(store: Store) -> None:
    search = new_search(store)
    result = run(store, search, FakeExecutor())
    assert result.baseline.evaluation.candidate == SPACE.baseline()
    study = open_study(store.url, search)
    generations = [t.system_attrs["CrosslayerSampler:generation"] for t in study.get_trials()]
    assert generations == [number // 10 for number in range(40)]


def test_what_there_is_to_say_of_the_baseline_is_noted_once_and_again_when_resumed(store: Store) -> None:
    class Notes(Observer):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def noted(self, text: str) -> None:
            self.heard.append(text)

        def evaluated(self, record: Record, *, reused: bool) -> None:
            if record.evaluation.candidate == SPACE.baseline():
                self.heard.append("evaluated")

    def remark(baseline: Evaluation) -> str:
        assert baseline.candidate == SPACE.baseline()
        return "weak"

    search = new_search(store)
    first, again, silent = Notes(), Notes(), Notes()
    run(store, search, FakeExecutor(), first, remark=remark)
    assert first.heard[:2] == ["evaluated", "weak"]
    assert first.heard.count("weak") == 1
    run(store, search, FakeExecutor(), again, remark=remark)
    assert again.heard == ["weak"]
    run(store, search, FakeExecutor(), silent)
    assert silent.heard == []


@pytest.mark.parametrize("order_seed", [1, 2])
def test_the_order_of_completion_changes_nothing(store: Store, whole: Trials, order_seed: int) -> None:
    search = new_search(store)
    run(store, search, FakeExecutor(order_seed))
    assert trials(store, search) == whole
    assert len(whole) == 40


def test_another_seed_searches_elsewhere(store: Store) -> None:
    one, other = new_search(store, seed=1), new_search(store, seed=2)
    run(store, one, FakeExecutor())
    run(store, other, FakeExecutor())
    assert trials(store, one)[1:] != trials(store, other)[1:]


def random_hypervolume(seed: int, budget: int, baseline: Record) -> float:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=seed))
    records = []
    for number in range(budget):
        evaluation = formula(SPACE.decode(study.ask(SPACE.distributions()).params))
        records.append(Record(key=str(number), setup=SETUP, seed=seed, evaluation=evaluation, test_accuracies=None))
    return front_hypervolume(front(records), baseline)


def test_evolution_beats_random_search(store: Store) -> None:
    gains = []
    for seed in range(2):
        evolved = run(store, new_search(store, seed=seed, budget=80), FakeExecutor())
        gains.append(evolved.hypervolume - random_hypervolume(seed, 80, evolved.baseline))
    assert sum(gains) / len(gains) > 0.05


def test_equal_candidates_are_evaluated_once(store: Store) -> None:
    executor = FakeExecutor()
    result = run(store, new_search(store, budget=100), executor)
    evaluated = [job.key for job in executor.evaluated()]
    assert len(evaluated) == len(set(evaluated)) == result.distinct
    assert result.finished == 100


def test_a_later_search_reuses_what_is_stored(store: Store) -> None:
    run(store, new_search(store, seed=3), FakeExecutor())
    again = FakeExecutor()
    result = run(store, new_search(store, seed=3), again)
    assert again.jobs == []
    assert result.finished == 40


def test_the_front_and_the_baseline_are_measured_on_test_images(store: Store) -> None:
    executor = FakeExecutor()
    result = run(store, new_search(store), executor)
    tested = {job.candidate.key for job in executor.evaluated("test")}
    assert tested == {r.evaluation.candidate.key for r in (result.baseline, *result.front)}
    assert all(record.test_accuracy is not None for record in result.front)


@pytest.mark.parametrize("evaluations", [1, 9, 10, 17, 39])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(store: Store, whole: Trials, evaluations: int) -> None:
    search = new_search(store)
    first, second = FakeExecutor(1), FakeExecutor(2)
    with pytest.raises(InterruptionError):
        run(store, search, first, InterruptAfter(evaluations))
    result = run(store, search, second)
    assert trials(store, search) == whole
    evaluated = [job.key for job in first.evaluated() + second.evaluated()]
    assert len(evaluated) == len(set(evaluated))
    assert result.finished == 40


class LostAfter(Observer):
    """Of a driver that was held up, and whose search another has by then."""

    def __init__(self, evaluations: int) -> None:
        self.left = evaluations

    def evaluated(self, record: Record, *, reused: bool) -> None:
        self.left -= 1

    def storing(self) -> None:
        if self.left == 0:
            raise InterruptionError


@pytest.mark.parametrize("evaluations", [9, 10])
def test_an_observer_keeps_out_what_a_driver_has_no_right_to_store(store: Store, evaluations: int) -> None:
    search = new_search(store, budget=20)
    with pytest.raises(InterruptionError):
        run(store, search, FakeExecutor(), LostAfter(evaluations))
    asked = open_study(store.url, search).get_trials(deepcopy=False)
    assert sum(trial.state is TrialState.COMPLETE for trial in asked) == evaluations
    assert len(store.evaluations.of_search(search)) == evaluations
    assert len(asked) == -(-evaluations // 10) * 10  # no further generation was asked for
    assert run(store, search, FakeExecutor()).finished == 20


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_trial_cut_off_before_the_study_was_told_counts_once(
    store: Store, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = new_search(store, budget=20)
    search = replace(search, settings=replace(search.settings, asynchronous=asynchronous))

    class Counts(Observer):
        def __init__(self) -> None:
            self.count = 0

        def started(self, search: SearchRecord, done: Sequence[Record], trials: int) -> None:
            self.count = trials

        def evaluated(self, record: Record, *, reused: bool) -> None:
            self.count += 1

    def interrupt(*_: object, **__: object) -> None:
        raise InterruptionError

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", interrupt)
        with pytest.raises(InterruptionError):
            run(store, search, FakeExecutor())
    assert store.searches.trial_counts(search).finished == 1
    counts = Counts()
    assert run(store, search, FakeExecutor(), counts).finished == counts.count == 20


def test_two_drivers_that_tell_the_same_do_not_disturb_each_other(store: Store) -> None:
    """One was held up in the middle of an evaluation, and another made it meanwhile."""
    search = new_search(store, budget=20)

    class Overtaken(FakeExecutor):
        def run(self, jobs: Iterable[WorkItem[Result]]) -> Iterator[Outcome[Result]]:
            for number, outcome in enumerate(super().run(jobs)):
                if number == 2 and not overtaken:
                    overtaken.append(run(store, search, FakeExecutor()))
                yield outcome

    overtaken: list[SearchResult] = []
    result = run(store, search, Overtaken())
    assert [record.key for record in result.front] == [record.key for record in overtaken[0].front]
    assert result.finished == overtaken[0].finished == 20


def test_a_trial_that_others_asked_for_changes_nothing(store: Store, whole: Trials) -> None:
    search = new_search(store)
    with pytest.raises(InterruptionError):
        run(store, search, FakeExecutor(), InterruptAfter(10))
    study = open_study(store.url, search)
    trial = study.ask()
    trial.suggest_int("depth", 1, 3)
    result = run(store, search, FakeExecutor())
    states = [t.state for t in open_study(store.url, search).get_trials()]
    assert states.count(TrialState.COMPLETE) == result.finished == 40
    kept = [t.params for t in open_study(store.url, search).get_trials(states=(TrialState.COMPLETE,))]
    assert kept == [params for _, params, _ in whole]


def test_what_is_left_of_a_search_is_planned_before_it_is_evaluated(store: Store) -> None:
    class Told(InterruptAfter):
        def planned(self, plan: Plan) -> None:
            assert self.left == 15
            plans.append(plan)

    def planner(evaluations: int, before: int) -> Plan | None:
        asked.append((evaluations, before))
        return PLAN if before == 0 else None

    asked: list[tuple[int, int]] = []
    plans: list[Plan] = []
    search = new_search(store)
    for _ in range(2):
        with pytest.raises(InterruptionError):
            run(store, search, FakeExecutor(), Told(15), planner)
    run(store, search, FakeExecutor(), planner=planner)
    run(store, search, FakeExecutor(), planner=planner)  # nothing is left
    assert plans == [PLAN]
    (first, second, third) = asked
    assert first == (40, 0)
    assert second == (25, 15)
    assert third == (10, 30)


def test_the_budget_can_be_raised(store: Store) -> None:
    search = new_search(store, budget=20)
    assert run(store, search, FakeExecutor()).finished == 20
    longer = store.searches.reopen(search, budget=35)
    assert longer.finished_at is None
    assert run(store, longer, FakeExecutor()).finished == 35


def test_budgets_below_a_generation(store: Store) -> None:
    result = run(store, new_search(store, budget=1), FakeExecutor())
    assert result.finished == 1
    assert [r.evaluation.candidate for r in result.front] == [SPACE.baseline()]


class Failures(Observer):
    def __init__(self) -> None:
        self.errors: list[str] = []

    def failed(self, candidate: Candidate, error: str) -> None:
        self.errors.append(error)


def test_a_failing_candidate_is_noted_and_replaced(store: Store) -> None:
    def sometimes(candidate: Candidate) -> Evaluation:
        if candidate.weight_bits == 2:
            raise ArithmeticError("diverged")
        return formula(candidate)

    observer = Failures()
    search = new_search(store)
    result = run(store, search, FakeExecutor(evaluate=sometimes), observer)
    assert result.finished == 40
    assert result.failed == len(observer.errors) > 0
    assert set(observer.errors) == {"diverged"}
    # Every generation still has its full size.
    done = open_study(store.url, search).get_trials(states=(TrialState.COMPLETE,))
    generations = [t.system_attrs["CrosslayerSampler:generation"] for t in done]
    assert sorted(generations) == [number // 10 for number in range(40)]


def test_the_baseline_is_asked_for_although_others_wait_for_it(store: Store) -> None:
    search = new_search(store)
    study = open_study(store.url, search)
    study.enqueue_trial(SPACE.encode(SPACE.baseline()))
    study.ask().suggest_int("depth", 1, 3)
    result = run(store, search, FakeExecutor())
    assert result.baseline.evaluation.candidate == SPACE.baseline()
    assert result.finished == 40


def test_no_search_without_a_baseline(store: Store) -> None:
    def without_baseline(candidate: Candidate) -> Evaluation:
        if candidate == SPACE.baseline():
            raise ArithmeticError("out of memory")
        return formula(candidate)

    search = new_search(store)
    for _ in range(2):
        with pytest.raises(SearchError, match=r"the baseline cannot be evaluated.*out of memory"):
            run(store, search, FakeExecutor(evaluate=without_baseline))
    assert run(store, search, FakeExecutor()).baseline.evaluation.candidate == SPACE.baseline()


def test_a_search_in_which_everything_fails_stops_with_the_reason(store: Store) -> None:
    def never(candidate: Candidate) -> Evaluation:
        if candidate == SPACE.baseline():
            return formula(candidate)
        raise ArithmeticError("no such thing")

    with pytest.raises(SearchError, match=r"11 consecutive evaluations failed.*no such thing"):
        run(store, new_search(store), FakeExecutor(evaluate=never))


def test_a_search_without_evaluations_has_no_result(store: Store) -> None:
    search = new_search(store, name="empty")
    with pytest.raises(SearchError, match=r"is not evaluated yet; resume it with: search resume empty"):
        result_of(store, search)


@pytest.mark.parametrize(("cell", "robust_bits"), [("6T", {0}), ("8T", set(range(2, 9)))])
def test_a_search_without_a_choice_of_robust_bits(store: Store, cell: Cell, robust_bits: set[int]) -> None:
    search = new_search(store)
    space = SPACE.restricted(choose(["asm-1"]), cell)
    result = run_search(
        search, space, store, FakeExecutor(), genome_model=FakeGenomeModel(space), key_of=key_of, observer=Observer()
    )
    assert result.baseline.evaluation.candidate == SPACE.baseline()
    assert result.finished == 40
    candidates = [record.evaluation.candidate for record in store.evaluations.of_search(search)]
    assert {c.robust_bits for c in candidates if c.supply_v < NOMINAL_V} <= robust_bits
    assert {c.multiplier for c in candidates} == {"exact", "asm-1"}


def test_a_baseline_outside_of_the_space_is_evaluated_beside_it(store: Store) -> None:
    space = replace(SPACE, families=("lenet",), baseline_family="mlp", width=(1, 2, 4), layered=True)
    assert not space.holds(SPACE.baseline())
    search = new_search(store, budget=25)
    executor = FakeExecutor()

    def on(budget: int) -> SearchResult:
        longer = store.searches.reopen(search, budget=budget)
        return run_search(
            longer, space, store, executor, genome_model=FakeGenomeModel(space), key_of=key_of, observer=Observer()
        )

    assert on(1).finished == 1
    assert [job.candidate for job in executor.jobs] == [SPACE.baseline()] * 2  # on validation, then on test images
    result = on(25)
    assert result.finished == 25
    assert result.baseline.evaluation.candidate == SPACE.baseline()
    assert len(trials(store, search)) == 24
    found = {record.evaluation.candidate for record in store.evaluations.of_search(search)} - {SPACE.baseline()}
    assert {candidate.family for candidate in found} == {"lenet"}
    assert {candidate.width for candidate in found} == {1, 2, 4}
    assert any(candidate.multiplier_last for candidate in found)
    assert on(25).finished == 25
    other = new_search(store)
    run_search(
        other, space, store, executor, genome_model=FakeGenomeModel(space), key_of=key_of, observer=Observer()
    )  # which knows the baseline already
    assert [job.candidate for job in executor.jobs].count(SPACE.baseline()) == 2


def test_no_search_of_a_restricted_space_without_a_baseline(store: Store) -> None:
    def never(candidate: Candidate) -> Evaluation:
        raise ArithmeticError("out of memory")

    space, search = replace(SPACE, width=range(1, 3)), new_search(store)
    with pytest.raises(SearchError, match=r"the baseline cannot be evaluated.*out of memory"):
        run_search(
            search,
            space,
            store,
            FakeExecutor(evaluate=never),
            genome_model=FakeGenomeModel(space),
            key_of=key_of,
            observer=Observer(),
        )
    result = run_search(
        search, space, store, FakeExecutor(), genome_model=FakeGenomeModel(space), key_of=key_of, observer=Observer()
    )
    assert (result.finished, result.failed) == (40, 0)


def test_optuna_sees_both_objectives_by_name(store: Store) -> None:
    search = new_search(store)
    run(store, search, FakeExecutor())
    study = optuna.load_study(study_name=search.name, storage=store.url)
    assert study.metric_names == ["accuracy", "energy_pj"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
