"""How an answer is confirmed: candidates are retrained, cheapest first, until fresh runs confirm one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias

from search.answers.confirmation import FIRST_RUNS, Answer, Confirmation, RightSized
from search.answers.margins import Mean, each_above, margin_above
from search.evaluation.confirmation_run import ConfirmationRun
from search.evaluation.work import Confirm, Executor, Failed
from search.space.candidate import Candidate
from search.space.target import Target
from search.space.task import Task
from search.store.database import Store
from search.store.records import Record, within_area
from search.store.setup import Setup

if TYPE_CHECKING:
    from search.observer import Observer

_MOST_HIDDEN = 10  # candidates off the front that are tried for an answer

RunsOf: TypeAlias = Callable[[Candidate, int], Sequence[ConfirmationRun]]


class FreshRuns:
    """Makes fresh runs of candidates, or finds stored ones.

    Args:
        store: Keeps every run.
        executor: Makes runs; None to find stored runs only.
        setup: The task, hardware and effort of each run.
        observer: Is notified of the runs that are under way.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor | None,
        setup: Setup,
        *,
        observer: Observer | None = None,
    ) -> None:
        self._store = store
        self._executor = executor
        self._setup = setup
        self._observer = observer

    def __call__(self, candidate: Candidate, count: int) -> list[ConfirmationRun]:
        """The first `count` runs of a candidate, or fewer if they are not stored and cannot be made."""
        kept = {run.run: run for run in self._store.runs.of(candidate, self._setup)}
        missing = [number for number in range(count) if number not in kept]
        if missing and self._executor is not None:
            if self._observer is not None:
                self._observer.confirming(candidate, len(missing))
            jobs = [Confirm(key=f"{candidate.key}/{number}", candidate=candidate, run=number) for number in missing]
            for outcome in self._executor.run(jobs):
                if isinstance(outcome, Failed):
                    if self._observer is not None:
                        self._observer.failed(candidate, outcome.error)
                    continue
                if self._observer is not None:
                    self._observer.storing()
                self._store.runs.record(outcome.result, self._setup)
                kept[outcome.result.run] = outcome.result
        return [kept[number] for number in range(count) if number in kept]


class Confirmer:
    """Finds the cheapest configuration that fresh runs confirm.

    Args:
        runs_of: Returns the first runs of a candidate: the given number, or fewer if there are no more.
        task: What is classified; its effort says how many runs a candidate needs.
        kept_only: Whether missing runs were not made yet; otherwise they failed.
    """

    def __init__(self, runs_of: RunsOf, task: Task, *, kept_only: bool) -> None:
        self._runs = runs_of
        self._task = task
        self._count = task.effort.confirmations
        self._kept_only = kept_only

    def answer(
        self, records: Sequence[Record], baseline: Record, target: Target, *, plain: Sequence[Record] = ()
    ) -> Answer:
        """The cheapest of some evaluations for a target.

        Their front is tried by rising energy. A candidate that was only lucky hides others, which cost more and were
        measured to be less accurate. So once a candidate is rejected, those that it hides are tried too, if they cost
        less than the confirmed one. If none is confirmed, the answer is the baseline, if it is among the evaluations
        and the target is relative to it; else the candidate that comes nearest. Evaluations beyond the target's bound
        on area are left out, even the baseline.

        Args:
            records: The evaluations.
            baseline: The evaluation that savings are relative to.
            target: The target.
            plain: Evaluations of dense, exact, 8-bit networks at nominal voltage, the baseline's too; the right-sized
                one is among them. Without any, it is the baseline.
        """
        wanted = target.accuracy(baseline.evaluation.accuracy)
        records = within_area(records, target, baseline)
        # The baseline loses nothing to itself.
        fallback = baseline if target.min_accuracy is None and within_area([baseline], target, baseline) else None
        base = self._runs(baseline.evaluation.candidate, self._count) if target.min_accuracy is None else ()
        tried: dict[str, tuple[Record, Confirmation | None]] = {}  # by the candidate's key

        def is_confirmed(record: Record) -> bool:
            candidate = record.evaluation.candidate
            confirmation = self._confirmation(candidate, target, base)
            tried[candidate.key] = record, confirmation
            return confirmation is not None and confirmation.confirmed

        reaching = _reaching(records, wanted)
        found = next(filter(is_confirmed, _staircase(reaching)), None)
        hidden = islice(_hidden(reaching, tried, wanted, below=found or fallback), _MOST_HIDDEN)
        found = next(filter(is_confirmed, hidden), found)
        untried = [record for record, confirmation in tried.values() if confirmation is None]
        undecided = bool(untried) and self._kept_only
        if found is None and not undecided and fallback is not None and fallback in records:
            found = fallback if is_confirmed(fallback) else None
        rejected = [
            (record, confirmation)
            for record, confirmation in sorted(tried.values(), key=lambda one: _by_energy(one[0]))
            if confirmation is not None and not confirmation.confirmed
        ]
        if found is not None:
            best: Record | None = found
        elif rejected and not undecided:
            best, _ = max(rejected, key=lambda one: one[1].margin.lower_bound)
        else:
            best = untried[0] if untried else None
        right_sized = self._right_sized(plain, baseline, target, base)
        found_of = {key: runs for key, (_, runs) in tried.items()}
        found_of[right_sized.record.evaluation.candidate.key] = right_sized.confirmation
        return Answer(
            task=self._task,
            target=target,
            baseline=baseline,
            right_sized=right_sized,
            record=best,
            confirmation=None if best is None else tried[best.evaluation.candidate.key][1],
            baseline_confirmation=_as_confirmation(base),
            rejected=tuple(
                one
                for one in rejected
                if one[0] is not best and (found is None or _by_energy(one[0]) < _by_energy(found))
            ),
            confirmations={key: runs for key, runs in found_of.items() if runs is not None},
        )

    def confirmations(self, records: Iterable[Record], baseline: Record, target: Target) -> dict[str, Confirmation]:
        """What fresh runs say of candidates at a target: key of the candidate -> its runs, if it has enough.

        Args:
            records: Evaluations of the candidates.
            baseline: The evaluation that a relative target is relative to.
            target: The target.
        """
        base = self._runs(baseline.evaluation.candidate, self._count) if target.min_accuracy is None else ()
        candidates = {one.evaluation.candidate.key: one.evaluation.candidate for one in records}
        found = {key: self._confirmation(candidate, target, base) for key, candidate in candidates.items()}
        return {key: runs for key, runs in found.items() if runs is not None}

    def _right_sized(
        self, plain: Sequence[Record], baseline: Record, target: Target, base: Sequence[ConfirmationRun]
    ) -> RightSized:
        """The cheapest of some evaluations that reaches a target and that fresh runs do not reject."""
        for record in _reaching(plain, target.accuracy(baseline.evaluation.accuracy)):
            confirmation = self._confirmation(record.evaluation.candidate, target, base)
            if confirmation is None or confirmation.confirmed:
                return RightSized(record=record, confirmation=confirmation)
        return RightSized(record=baseline, confirmation=_as_confirmation(base))

    def _confirmation(
        self, candidate: Candidate, target: Target, base: Sequence[ConfirmationRun]
    ) -> Confirmation | None:
        """The runs of a candidate against a target; None if some of them, or of the baseline's, are missing."""
        if target.min_accuracy is None and len(base) < self._count:
            return None
        found: Sequence[ConfirmationRun] = ()
        for count in dict.fromkeys((min(FIRST_RUNS, self._count), self._count)):
            found = self._runs(candidate, count)
            if len(found) < count:
                return None
            if count < self._count and fmean(each_above(found, target, base)) < 0:
                break
        if target.min_accuracy is None and candidate.canonical() == base[0].candidate:
            return _as_confirmation(found, drop=target.max_accuracy_drop or 0.0)
        margin = margin_above(found, target, base)
        confirmed = len(found) == self._count and margin.lower_bound >= 0
        return Confirmation(runs=tuple(found), margin=margin, confirmed=confirmed)


def _reaching(records: Iterable[Record], wanted: float) -> list[Record]:
    """Evaluations that reach an accuracy, cheapest first; of equally cheap ones, the most accurate first."""
    reaching = [one for one in records if one.evaluation.accuracy >= wanted and not one.evaluation.stopped]
    return sorted(reaching, key=_by_energy)


def _by_energy(record: Record) -> tuple[float, float, str]:
    return record.evaluation.energy_pj, -record.evaluation.accuracy, record.key


def _staircase(records: Iterable[Record]) -> Iterator[Record]:
    """The evaluations that are more accurate than all before them, of evaluations by rising energy."""
    highest = -math.inf
    for record in records:
        if record.evaluation.accuracy > highest:
            highest = record.evaluation.accuracy
            yield record


def _hidden(
    records: Iterable[Record],
    tried: Mapping[str, tuple[Record, Confirmation | None]],
    wanted: float,
    *,
    below: Record | None,
) -> Iterator[Record]:
    """Evaluations that rejected ones hide: all cheaper ones that were tried proved less accurate than these measured.

    Args:
        records: Evaluations by rising energy.
        tried: Candidates tried so far, by their keys; read again for each evaluation.
        wanted: The wanted accuracy.
        below: They have to be cheaper than this; None for no limit.
    """
    for record in records:
        if below is not None and _by_energy(record) >= _by_energy(below):
            return
        if record.evaluation.candidate.key in tried:
            continue
        cheaper = [
            runs for other, runs in tried.values() if runs is not None and _by_energy(other) < _by_energy(record)
        ]
        if cheaper and all(runs.margin.value < record.evaluation.accuracy - wanted for runs in cheaper):
            yield record


def _as_confirmation(runs: Sequence[ConfirmationRun], *, drop: float = 0.0) -> Confirmation | None:
    """The baseline's runs: whatever their accuracy, it loses nothing."""
    if len(runs) < FIRST_RUNS:
        return None
    margin = Mean(value=drop, standard_error=0.0, lower_bound=drop)
    return Confirmation(runs=tuple(runs), margin=margin, confirmed=True)
