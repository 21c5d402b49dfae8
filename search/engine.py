"""The search itself: Optuna's NSGA-II asks, an executor evaluates, the store keeps.

Three properties follow from how asks are scheduled. A whole generation is asked before any of it is told, so the order
in which evaluations finish changes nothing. Every ask has a sampler of its own, seeded by the search's seed and the
trial's place, so a search that was stopped goes on as if it had not been. A trial is told only after its evaluation is
stored, so that a kill at any moment loses no finished evaluation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.candidate import Candidate, content_hash
from search.errors import SearchError, StorageError
from search.executor import Executor, Job, Outcome
from search.locations import without_password
from search.result import SearchResult, result_of
from search.schema import tune_sqlite
from search.space import SearchSpace
from search.store import Record, SearchRecord, Store

OBJECTIVES = ("accuracy", "energy_pj")
_APART = -1  # stands for the trial of a baseline that lies outside of the space


def population_size(budget: int) -> int:
    """Evaluations per generation: budget / 16, but at least 10.

    Small generations find more within a few hundred evaluations than Optuna's default of 50 does.
    """
    return max(10, budget // 16)


class CrosslayerSampler(NSGAIISampler):
    """NSGA-II that also counts enqueued trials, such as the baseline, among its population.

    Optuna keeps each trial's generation under this class's name: renaming it makes stored searches start over.
    """

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Give the trial its generation, whatever its parameters come from."""
        super().before_trial(study, trial)
        self.get_trial_generation(study, trial)

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The elite in order of trial number.

        Optuna keeps a generation's parents and reads them back in that order; had they another one when they are first
        chosen, the first child of a generation would differ in a search that was stopped there.
        """
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


class Observer:
    """Is told how a search goes on, in the process that runs it. This one ignores it; others override."""

    def noted(self, text: str) -> None:
        """There is something that a reader of the results has to know."""

    def started(self, search: SearchRecord, done: Sequence[Record], trials: int) -> None:
        """The search begins or goes on, with so many trials ended before in these evaluations."""

    def evaluating(self, count: int, workers: int) -> None:
        """This many evaluations are handed to the executor, of which so many run at a time."""

    def evaluated(self, record: Record, *, reused: bool) -> None:
        """A trial ended with an evaluation, made now or known before."""

    def failed(self, candidate: Candidate, error: str) -> None:
        """A trial, or a measurement on the test images, ended without an evaluation."""

    def testing(self, count: int) -> None:
        """The search is over; this many of its results are being measured on the test images."""


def run_search(
    search: SearchRecord,
    space: SearchSpace,
    store: Store,
    executor: Executor,
    *,
    key_of: Callable[[Candidate], str],
    observer: Observer,
) -> SearchResult:
    """Run a stored search to its budget, from wherever it stands.

    Args:
        search: From `Store.create_search` or found there again.
        space: The space to search.
        store: Keeps every evaluation; its database also holds the Optuna study.
        executor: Evaluates.
        key_of: The key under which a candidate's evaluation is stored.
        observer: Is told of progress.

    Raises:
        SearchError: If the search was begun in another space, the baseline fails, more evaluations fail than a
            generation has, or no worker can be kept alive.
    """
    driver = _Driver(search, space, store, executor, key_of, observer)
    driver.run()
    store.finish_search(search)
    return result_of(store, store.find_search(search.name))


class _Driver:
    """One run of a search."""

    def __init__(
        self,
        search: SearchRecord,
        space: SearchSpace,
        store: Store,
        executor: Executor,
        key_of: Callable[[Candidate], str],
        observer: Observer,
    ) -> None:
        self._search = search
        self._space = space
        self._store = store
        self._executor = executor
        self._key_of = key_of
        self._observer = observer
        self._study = open_study(store.url, search)
        self._baseline_is_apart = not space.holds(space.baseline())

    def run(self) -> None:
        self._check_space()
        done = self._store.search_evaluations(self._search)
        self._observer.started(self._search, done, self._store.trial_counts(self._search).finished)
        trials = self._left_running()
        if self._baseline_is_apart:
            self._evaluate_baseline(done)
        else:
            self._enqueue_baseline()
        while trials or (trials := self._ask_generation()):
            self._evaluate(trials)
            trials = []
        self._test_front()

    def _check_space(self) -> None:
        """Refuse to go on with a search whose space an older version had otherwise."""
        genes = self._space.distributions()
        for trial in self._study.get_trials(deepcopy=False):
            for name, distribution in trial.distributions.items():
                try:
                    check_distribution_compatibility(distribution, genes[name])
                except (KeyError, ValueError):
                    raise SearchError(
                        f"search {self._search.name!r} was begun by another version of crosslayer, whose space differs "
                        f"in {name!r}; begin a new search without --resume (search show {self._search.name} still "
                        "shows what it found)"
                    ) from None

    def _enqueue_baseline(self) -> None:
        """Have the baseline asked for next, unless a trial holds it or waits to; nothing else is ever enqueued."""
        baseline = self._space.baseline()
        live = [*self._trials(TrialState.COMPLETE), *self._trials(TrialState.RUNNING)]
        if not self._trials(TrialState.WAITING) and all(self._space.decode(t.params) != baseline for t in live):
            self._study.enqueue_trial(self._space.encode(baseline))

    def _evaluate_baseline(self, done: Sequence[Record]) -> None:
        """Evaluate the baseline beside the study, unless that was done before.

        It counts as one of the search's evaluations. A study of a restricted space has no place for it: Optuna refuses
        categories outside of a distribution, and parents with other values outside of theirs have offspring that it has
        to draw again and again.
        """
        baseline = self._space.baseline()
        key = self._key_of(baseline)
        if any(record.key == key for record in done):
            return
        known = self._store.find_evaluation(key)
        record = known
        if record is None:
            self._observer.evaluating(1, 1)
            (outcome,) = self._executor.run([Job(key=key, candidate=baseline, split="validation")])
            if outcome.evaluation is None:
                self._store.record_trial(self._search, _APART, error=outcome.error)
                self._observer.failed(baseline, outcome.error or "")
                raise _no_baseline(outcome.error)
            record = self._store.record_evaluation(
                key,
                outcome.evaluation,
                task=self._search.task,
                hardware=self._search.hardware,
                seed=self._search.seed,
            )
        self._store.record_trial(self._search, _APART, evaluation_key=key)
        self._observer.evaluated(record, reused=known is not None)

    def _left_running(self) -> list[FrozenTrial]:
        """Trials of an earlier run that were asked and never told; one cut off while it was asked is given up."""
        genes = self._space.distributions().keys()
        complete = []
        for trial in self._trials(TrialState.RUNNING):
            if trial.params.keys() == genes:
                complete.append(trial)
            else:
                self._study.tell(trial.number, state=TrialState.FAIL)
        return complete

    def _ask_generation(self) -> list[FrozenTrial]:
        """Ask for what the current generation lacks; nothing when the budget is spent."""
        done = len(self._trials(TrialState.COMPLETE))
        failures = self._store.trial_counts(self._search).failed
        size = self._search.population_size
        budget = self._search.budget - (1 if self._baseline_is_apart else 0)
        count = min(size - done % size, budget - done)
        distributions = self._space.distributions()
        asked = []
        for place in range(done, done + max(0, count)):
            self._study.sampler = CrosslayerSampler(
                population_size=size, seed=_ask_seed(self._search.seed, place, failures)
            )
            asked.append(self._study.ask(distributions).number)
        return [t for t in self._trials(TrialState.RUNNING) if t.number in asked]

    def _evaluate(self, trials: Sequence[FrozenTrial]) -> None:
        """Evaluate trials; equal ones once, and those known already not at all."""
        numbers: dict[str, list[int]] = {}
        jobs: list[Job] = []
        for trial in trials:
            candidate = self._space.decode(trial.params)
            key = self._key_of(candidate)
            known = self._store.find_evaluation(key)
            if known is not None:
                self._tell(trial.number, known, reused=True)
            elif key in numbers:
                numbers[key].append(trial.number)
            else:
                numbers[key] = [trial.number]
                jobs.append(Job(key=key, candidate=candidate, split="validation"))
        self._observer.evaluating(len(jobs), min(len(jobs), self._executor.workers))
        candidates = {job.key: job.candidate for job in jobs}
        for outcome in self._executor.run(jobs):
            if outcome.evaluation is None:
                self._tell_failure(numbers[outcome.key], candidates[outcome.key], outcome)
                continue
            record = self._store.record_evaluation(
                outcome.key,
                outcome.evaluation,
                task=self._search.task,
                hardware=self._search.hardware,
                seed=self._search.seed,
            )
            for position, number in enumerate(numbers[outcome.key]):
                self._tell(number, record, reused=position > 0)

    def _tell(self, number: int, record: Record, *, reused: bool) -> None:
        evaluation = record.evaluation
        self._store.record_trial(self._search, number, evaluation_key=record.key)
        self._study.tell(number, (evaluation.accuracy, evaluation.energy_pj))
        self._observer.evaluated(record, reused=reused)

    def _tell_failure(self, numbers: list[int], candidate: Candidate, outcome: Outcome) -> None:
        assert outcome.error is not None
        for number in numbers:
            self._store.record_trial(self._search, number, error=outcome.error)
            self._study.tell(number, state=TrialState.FAIL)
            self._observer.failed(candidate, outcome.error)
        if candidate == self._space.baseline():
            raise _no_baseline(outcome.error)
        failed = self._store.trial_counts(self._search).failed
        if failed > self._search.population_size:
            raise SearchError(
                f"{failed} evaluations failed, more than a generation holds; the last one: {outcome.error}"
            )

    def _test_front(self) -> None:
        """Measure the front and the baseline on the test images, where that was not done before."""
        result = result_of(self._store, self._search)
        records = {record.key: record for record in (result.baseline, *result.front)}
        jobs = [
            Job(key=key, candidate=record.evaluation.candidate, split="test")
            for key, record in records.items()
            if record.test_accuracies is None
        ]
        self._observer.testing(len(jobs))
        for outcome in self._executor.run(jobs):
            if outcome.evaluation is None:
                self._observer.failed(records[outcome.key].evaluation.candidate, outcome.error or "")
            else:
                self._store.record_test(outcome.key, outcome.evaluation.chip_accuracies)

    def _trials(self, state: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))


def _no_baseline(error: str | None) -> SearchError:
    return SearchError(f"the baseline cannot be evaluated, and no saving can be told without: {error}")


def open_study(url: str, search: SearchRecord) -> Study:
    """The Optuna study of a search, made if need be, in the database at `url`."""
    study = optuna.create_study(
        study_name=search.name,
        storage=_open_optuna(url),
        directions=["maximize", "minimize"],
        sampler=CrosslayerSampler(population_size=search.population_size),
        load_if_exists=True,
    )
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(OBJECTIVES))
    return study


def study_names(url: str) -> set[str]:
    """Names of the Optuna studies in a database, whoever made them.

    Raises:
        StorageError: If Optuna cannot use its tables there.
    """
    return set(optuna.get_all_study_names(_open_optuna(url)))


def _open_optuna(url: str) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sqlite = url.startswith("sqlite")
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}} if sqlite else {})
    except (RuntimeError, optuna.exceptions.StorageInternalError) as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"Optuna cannot use its tables in {without_password(url)}: {reason}") from error
    if sqlite:
        tune_sqlite(storage.engine)
    return storage


def _ask_seed(seed: int, place: int, failures: int) -> int:
    """A seed for one ask; failures count, so that a candidate that fails is not asked for again."""
    key = content_hash({"seed": seed, "place": place, "failures": failures})
    return int(key[:8], 16)
