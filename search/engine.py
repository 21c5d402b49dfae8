"""The search loop: an asker asks for candidates, an executor evaluates them, the store keeps the results.

The study learns a result only after the evaluation is stored, so that a kill at any moment loses no finished
evaluation; when a search is resumed, trials without a result are evaluated first. `search.sampling.asker` decides what
is asked for, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.answers.result import SearchResult, result_of
from search.content_hash import content_hash
from search.errors import SearchError
from search.evaluation.early_stopping import Rival, bar, is_beaten
from search.evaluation.evaluation import Evaluation
from search.evaluation.work import Evaluate, Executor, Failed, Outcome
from search.executors.schedule import LongestFirst
from search.observer import Observer
from search.pareto import non_dominated_mask
from search.sampling.area import AreaBound
from search.sampling.asker import Asker, generation_of, was_asked
from search.sampling.greedy import Greedy
from search.sampling.offspring import GenomeModel
from search.sampling.starts import starting_genomes
from search.space.candidate import Candidate
from search.space.plan import Plan
from search.space.search_space import SearchSpace
from search.store.database import Store
from search.store.records import Record, SearchRecord
from search.store.studies import open_study, optuna_storage

_APART = -1  # number of the trial of a baseline that lies outside the space


class LearningGenomeModel(GenomeModel, Protocol):
    """A genome model that learns from every evaluation."""

    def learn(self, evaluations: Iterable[Evaluation]) -> None:
        """Improve the forecast of costs with these evaluations, in order of trial."""
        ...


def run_search(
    search: SearchRecord,
    space: SearchSpace,
    store: Store,
    executor: Executor,
    *,
    genome_model: LearningGenomeModel,
    key_of: Callable[[Candidate], str],
    observer: Observer,
    planner: Callable[[int, int], Plan | None] = lambda evaluations, before: None,
    remark: Callable[[Evaluation], str | None] = lambda baseline: None,
    area: AreaBound | None = None,
) -> SearchResult:
    """Run a stored search to its budget, from wherever it stands.

    Args:
        search: From `Searches.create` or `Searches.find`.
        space: The space to search.
        store: Keeps every evaluation; its database also holds the Optuna study.
        executor: Evaluates candidates.
        genome_model: Forecasts costs of candidates of the space without training them.
        key_of: Returns the key under which a candidate's evaluation is stored.
        observer: Is notified of progress.
        planner: Plans a number of evaluations, after those made before; None if their time is not known.
        remark: Returns what readers of the results have to know of the baseline's evaluation, if anything.
        area: The bound on area of what it asks for, if it has one.

    Raises:
        SearchError: If the baseline fails, more evaluations fail than a generation holds, or no worker stays alive.
        StorageError: If the database fails, such as when its disk is full; what was stored before is kept.
    """
    with optuna_storage(store.url) as storage:
        study = open_study(store.url, search, storage)
        _Driver(search, study, space, genome_model, store, executor, key_of, observer, planner, remark, area).run()
    return result_of(store, search)


class _Driver:
    """One run of a search."""

    def __init__(
        self,
        search: SearchRecord,
        study: Study,
        space: SearchSpace,
        genome_model: LearningGenomeModel,
        store: Store,
        executor: Executor,
        key_of: Callable[[Candidate], str],
        observer: Observer,
        planner: Callable[[int, int], Plan | None],
        remark: Callable[[Evaluation], str | None],
        area: AreaBound | None,
    ) -> None:
        self._search = search
        self._space = space
        self._genome_model = genome_model
        self._store = store
        self._executor = executor
        self._key_of = key_of
        self._observer = observer
        self._planner = planner
        self._remark = remark
        self._remarked = False
        self._study = study
        self._asker = Asker(
            self._study,
            genome_model,
            sampler=search.settings.sampler,
            seed=search.seed,
            population_size=search.population_size,
            starts=search.settings.starts or starting_genomes(space, budget=0),
            needed=genome_model.identity(space.encode(space.baseline())) if space.holds(space.baseline()) else None,
            prescreen=search.settings.prescreen,
            min_accuracy=search.target.min_accuracy,
            area=area,
        )
        self._genes = tuple(space.distributions())
        self._greedy = Greedy(space, search.target)
        self._evaluations: dict[int, Evaluation] = {}  # of the trials that are complete, by their number
        self._budget = search.budget
        self._failed_in_a_row = 0

    def run(self) -> None:
        done = self._store.evaluations.of_search(self._search)
        # A trial that was recorded but whose result the study never got is evaluated again, and counts then.
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        ended = {_APART, *(trial.number for trial in complete)}
        ends = self._store.searches.trial_ends(self._search)
        ends = [end for end in ends if end.evaluation_key and end.number in ended]
        self._observer.started(self._search, done, len(ends))
        if len(ends) < self._budget and (plan := self._planner(self._budget - len(ends), len(ends))) is not None:
            self._observer.planned(plan)
        for record in done:
            self._remark_on(record)
        if not self._space.holds(self._space.baseline()):
            self._evaluate_baseline(done)
            self._budget -= 1
        evaluations = {record.key: record.evaluation for record in done}
        self._evaluations = {
            end.number: evaluations[end.evaluation_key]
            for end in ends
            if end.evaluation_key is not None and end.number != _APART
        }
        if self._search.settings.sampler == "greedy":
            while trials := self._ask_steps():
                self._evaluate(trials)
        elif self._search.settings.asynchronous:
            self._evaluate_as_workers_are_free()
        else:
            while trials := self._ask_generation():
                self._evaluate(trials)
        self._test_front()

    def _evaluate_baseline(self, done: Sequence[Record]) -> None:
        """Evaluate the baseline outside the study, unless that was done before.

        It counts as one of the search's evaluations. A study of a restricted space cannot hold it: Optuna rejects
        categories outside a distribution, and for parents with numbers outside of theirs it has to draw offspring again
        and again.
        """
        baseline = self._space.baseline()
        key = self._key_of(baseline)
        if any(record.key == key for record in done):
            return
        known = self._store.evaluations.find(key)
        record = known
        if record is None:
            self._observer.evaluating(1, 1)
            (outcome,) = self._executor.run([Evaluate(key=key, candidate=baseline)])
            if isinstance(outcome, Failed):
                self._store.searches.record_trial(self._search, _APART, error=outcome.error)
                self._observer.failed(baseline, outcome.error)
                raise _no_baseline(outcome.error)
            record = self._record(key, outcome.result)
        self._store.searches.record_trial(self._search, _APART, evaluation_key=key)
        self._observer.evaluated(record, reused=known is not None)
        self._remark_on(record)

    def _remark_on(self, record: Record) -> None:
        """Note what there is to say of the baseline, once."""
        if self._remarked or record.evaluation.candidate != self._space.baseline():
            return
        self._remarked = True
        if (text := self._remark(record.evaluation)) is not None:
            self._observer.noted(text)

    def _ask_generation(self) -> list[FrozenTrial]:
        self._observer.storing()
        generation = self._asker.next_generation()
        self._learn(before=generation)
        return self._asker.ask_generation(budget=self._budget)

    def _learn(self, *, before: int | None) -> None:
        """Teach the model what was evaluated before a generation, or until now if None."""
        self._genome_model.learn(self._evaluations[trial.number] for trial in self._complete(before=before))

    def _complete(self, *, before: int | None) -> list[FrozenTrial]:
        """Return the complete trials of the search, those of generations before one, or all if None."""
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        found = [trial for trial in trials if trial.number in self._evaluations]
        return [trial for trial in found if before is None or generation_of(trial) < before]

    def _ask_steps(self) -> list[FrozenTrial]:
        """Ask for the candidates that the greedy strategy has to know before its next step."""
        self._observer.storing()
        found: dict[str, tuple[float, float] | None] = {
            self._space.decode(trial.params).key: trial.values and (trial.values[0], trial.values[1])
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
            if was_asked(trial, self._genes)  # the study may hold trials that others added
        }
        return self._asker.ask_enrolled(self._greedy.missing(found), budget=self._budget)

    def _evaluate(self, trials: Sequence[FrozenTrial]) -> None:
        """Evaluate a generation: equal candidates once, known ones not at all."""
        numbers: dict[str, list[int]] = {}
        jobs: list[Evaluate] = []
        rivals = self._rivals(before=min(map(generation_of, trials)))
        for trial in trials:
            candidate = self._space.decode(trial.params)
            key = self._key_of(candidate)
            if key in numbers:
                numbers[key].append(trial.number)
            elif (known := self._known(key, rivals)) is not None:
                self._tell(trial.number, known, reused=True)
            else:
                numbers[key] = [trial.number]
                jobs.append(self._job(key, candidate, rivals))
        self._observer.evaluating(len(jobs), min(len(jobs), self._executor.workers))
        candidates = {job.key: job.candidate for job in jobs}
        schedule = LongestFirst(jobs, self._evaluations.values())
        for outcome in self._executor.run(schedule):
            schedule.ended(outcome.key)
            self._take(outcome, candidates[outcome.key], numbers[outcome.key])

    def _evaluate_as_workers_are_free(self) -> None:
        """Ask for a candidate whenever a worker is free, based on all evaluations so far."""
        asked: dict[str, tuple[Candidate, list[int]]] = {}
        left = self._asker.running()

        def jobs() -> Iterator[Evaluate]:
            while True:
                running = [number for _, numbers in asked.values() for number in numbers]
                if left:
                    trial = left.pop(0)
                elif len(self._evaluations) + len(running) < self._budget:
                    self._observer.storing()
                    self._learn(before=None)
                    trial = self._asker.ask_one()
                else:
                    return
                candidate = self._space.decode(trial.params)
                key = self._key_of(candidate)
                rivals = self._rivals(before=None)
                if key in asked:
                    asked[key][1].append(trial.number)
                elif (known := self._known(key, rivals)) is not None:
                    self._tell(trial.number, known, reused=True)
                else:
                    asked[key] = (candidate, [trial.number])
                    self._observer.evaluating(len(asked), min(len(asked), self._executor.workers))
                    yield self._job(key, candidate, rivals)

        # A job may fail after the whole budget was asked for; another candidate then takes its place.
        while left or len(self._evaluations) < self._budget:
            for outcome in self._executor.run(jobs()):
                candidate, numbers = asked.pop(outcome.key)
                self._take(outcome, candidate, numbers)

    def _job(self, key: str, candidate: Candidate, rivals: tuple[Rival, ...]) -> Evaluate:
        if candidate == self._space.baseline():
            rivals = ()  # never stopped early: everything is compared with it
        return Evaluate(key=key, candidate=candidate, rivals=rivals, costs=self._search.settings.costs)

    def _rivals(self, *, before: int | None) -> tuple[Rival, ...]:
        """Return the front of the evaluations before a generation, or until now if None."""
        known = [trial.values for trial in self._complete(before=before)]
        if not known:
            return ()
        points = np.array(known) * [-1, *[1] * len(self._search.settings.costs)]
        return tuple(
            Rival(costs=tuple(values[1:]), accuracy=values[0])
            for values, unbeaten in zip(known, non_dominated_mask(points), strict=True)
            if unbeaten
        )

    def _known(self, key: str, rivals: tuple[Rival, ...]) -> Record | None:
        """Return the stored evaluation of a candidate if this search would have measured the same; else None.

        Another search may have trained to the end a candidate that this one would have stopped, or vice versa.
        """
        whole = self._store.evaluations.find(key)
        if whole is not None:
            evaluation = whole.evaluation
            early, reach = evaluation.early_accuracy, bar(rivals, self._costs(evaluation))
            if early is None or not is_beaten(early, reach):
                return whole
        stopped = self._store.evaluations.find(_stopped_key(key))
        if stopped is not None and is_beaten(stopped.evaluation.accuracy, bar(rivals, self._costs(stopped.evaluation))):
            return stopped
        return None

    def _costs(self, evaluation: Evaluation) -> tuple[float, ...]:
        return tuple(getattr(evaluation, cost) for cost in self._search.settings.costs)

    def _take(self, outcome: Outcome[Evaluation], candidate: Candidate, numbers: Sequence[int]) -> None:
        """Store how the trials of a candidate ended, and tell the study."""
        self._observer.storing()
        if isinstance(outcome, Failed):
            self._tell_failure(numbers, candidate, outcome.error)
            return
        record = self._record(outcome.key, outcome.result)
        for position, number in enumerate(numbers):
            self._tell(number, record, reused=position > 0)

    def _record(self, key: str, evaluation: Evaluation) -> Record:
        return self._store.evaluations.record(
            _stopped_key(key) if evaluation.stopped else key,
            evaluation,
            self._search.setup,
            seed=self._search.seed,
        )

    def _tell(self, number: int, record: Record, *, reused: bool) -> None:
        evaluation = record.evaluation
        self._store.searches.record_trial(self._search, number, evaluation_key=record.key)
        # A driver that was suspended and the one that replaced it tell the same values.
        self._study.tell(number, (evaluation.accuracy, *self._costs(evaluation)), skip_if_finished=True)
        self._evaluations[number] = evaluation
        self._failed_in_a_row = 0
        self._observer.evaluated(record, reused=reused)
        self._remark_on(record)

    def _tell_failure(self, numbers: Sequence[int], candidate: Candidate, error: str) -> None:
        for number in numbers:
            self._store.searches.record_trial(self._search, number, error=error)
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
            self._observer.failed(candidate, error)
        if candidate == self._space.baseline():
            raise _no_baseline(error)
        self._failed_in_a_row += len(numbers)
        if self._failed_in_a_row > max(self._search.population_size, len(self._search.settings.starts)):
            raise SearchError(
                f"{self._failed_in_a_row} consecutive evaluations failed, more than one generation; the last one: "
                f"{error}"
            )

    def _test_front(self) -> None:
        """Measure the front and the baseline on the test images, and keep their networks, unless it was done before."""
        result = result_of(self._store, self._search, evaluations=False)
        records = {record.key: record for record in (result.baseline, *result.front)}
        jobs = [
            Evaluate(key=key, candidate=record.evaluation.candidate, split="test", keeps=True)
            for key, record in records.items()
            if record.test_accuracies is None
        ]
        self._observer.testing(len(jobs))
        for outcome in self._executor.run(jobs):
            if isinstance(outcome, Failed):
                self._observer.failed(records[outcome.key].evaluation.candidate, outcome.error)
            else:
                self._store.evaluations.record_test(outcome.key, outcome.result.chip_accuracies)


def _no_baseline(error: str) -> SearchError:
    return SearchError(f"the baseline cannot be evaluated, so savings cannot be computed: {error}")


def _stopped_key(key: str) -> str:
    """Return the key of an evaluation that was stopped early, which differs from that of one trained to the end."""
    return content_hash({"stopped": key})
