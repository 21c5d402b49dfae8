"""Answers from stored results alone: they take milliseconds, because no runs are made."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from energy import Hardware
from search.answers.confirmation import Answer
from search.answers.confirmer import Confirmer, RunsOf
from search.defaults import DEFAULT_EFFORT, DEFAULT_HARDWARE
from search.errors import NothingFoundError
from search.evaluation.confirmation_run import ConfirmationRun
from search.images.content import listed
from search.space.candidate import Candidate
from search.space.commands import run_command
from search.space.target import Target
from search.space.task import Task
from search.space.techniques import TECHNIQUES, techniques_of
from search.store.database import Store
from search.store.records import Record, SearchRecord
from search.store.setup import Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Configurations:
    """The answer to "what are the cheapest configurations at this accuracy?".

    Attributes:
        records: The non-dominated stored evaluations whose validation accuracy reaches the target, cheapest first; at
            least one.
        baseline: The evaluation that savings are relative to.
    """

    records: tuple[Record, ...]
    baseline: Record

    @property
    def best(self) -> Record:
        """The cheapest."""
        return self.records[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Stored results of a task on a hardware, or of one search, read once to answer many questions.

    Attributes:
        task: The task.
        hardware: Identity of the hardware.
        effort: Effort of the evaluations.
        baseline: The evaluation that savings are relative to; None if there is none yet.
        max_area: Largest area over the baseline's of the evaluations; None for any.
        front: The evaluations that no other beats in accuracy and energy, cheapest first.
        tried: Evaluations whose candidates have fresh runs, cheapest first; they may be off the front by now.
        plain: The evaluations of dense, exact, 8-bit networks at nominal voltage, cheapest first.
        runs: The fresh runs, each candidate's by their number: key of the candidate -> runs.
    """

    task: Task
    hardware: str
    effort: str
    baseline: Record | None
    max_area: float | None
    front: tuple[Record, ...]
    tried: tuple[Record, ...]
    plain: tuple[Record, ...]
    runs: Mapping[str, Sequence[ConfirmationRun]]

    @classmethod
    def read(
        cls,
        store: Store,
        task: Task,
        hardware: Hardware,
        *,
        effort: str,
        max_area: float | None = None,
        without_multipliers: Collection[str] = (),
    ) -> Stored:
        """Read them.

        Args:
            store: The results database.
            task: The task.
            hardware: The hardware.
            effort: Effort of the evaluations.
            max_area: Largest area over the baseline's of the evaluations to read; None for any.
            without_multipliers: Identities of imported multipliers; configurations with one of them are left out.
        """
        setup = Setup.of(task, hardware, effort)
        baseline = store.evaluations.of_candidate(task.space.baseline(), setup)
        most_mm2 = math.inf if max_area is None or baseline is None else max_area * baseline.evaluation.area_mm2
        front = store.evaluations.front(setup, max_area_mm2=most_mm2, without_multipliers=without_multipliers)
        tried = store.evaluations.with_runs(setup, without_multipliers=without_multipliers)
        return cls(
            task=task,
            hardware=hardware.identity,
            effort=effort,
            baseline=baseline,
            max_area=max_area,
            front=tuple(front),
            tried=tuple(record for record in tried if record.evaluation.area_mm2 <= most_mm2),
            plain=tuple(store.evaluations.of_candidates(task.space.networks(), setup)),
            runs=store.runs.by_candidate(setup),
        )

    @classmethod
    def of_search(cls, store: Store, search: SearchRecord, *, baseline: Record, front: Sequence[Record]) -> Stored:
        """Read those of one search.

        Args:
            store: The results database.
            search: The search.
            baseline: Its baseline.
            front: Its front.
        """
        task = search.task
        with_runs = store.evaluations.of_search_with_runs(search)
        return cls(
            task=task,
            hardware=search.hardware,
            effort=search.setup.effort,
            baseline=baseline,
            max_area=search.target.max_area,
            front=tuple(sorted(front, key=_by_energy)),
            tried=tuple(sorted(with_runs, key=_by_energy)),
            plain=tuple(store.evaluations.of_candidates(task.space.networks(), search.setup, seed=search.seed)),
            runs=store.runs.by_candidate(search.setup),
        )

    @property
    def highest_accuracy(self) -> float:
        """The highest accuracy of the evaluations; 0 if there are none."""
        return self.front[-1].evaluation.accuracy if self.front else 0.0

    def configurations(self, target: Target, *, hardware: str, others: str = "") -> Configurations:
        """The evaluations that reach a target, and that no other beats in accuracy and energy.

        Args:
            target: The target.
            hardware: Name or path of the hardware as the user gave it, for messages.
            others: What else is stored of the images, for messages; see `others_stored`.

        Raises:
            NothingFoundError: If there are none; the message has the command that makes some.
        """
        command = run_command(
            self.task,
            hardware=None if hardware == DEFAULT_HARDWARE else hardware,
            effort=None if self.effort == DEFAULT_EFFORT else self.effort,
            max_area=self.max_area,
        )
        within = "" if self.max_area is None else f" on at most {self.max_area:g}x the baseline's area"
        if self.baseline is None:
            but = f" with effort {self.effort}, but there is {others}" if others else ""
            raise NothingFoundError(
                f"no search of {self.task.words} on {self.hardware} is stored yet{but}; make one with: {command}"
            )
        if not self.front:  # without a bound on area, it has the baseline at least
            raise NothingFoundError(
                f"no configuration of {self.task.words}{within} is stored; search for one: {command}"
            )
        wanted = target.accuracy(self.baseline.evaluation.accuracy)
        meeting = tuple(record for record in self.front if record.evaluation.accuracy >= wanted)
        if not meeting:
            raise NothingFoundError(
                f"no stored configuration of {self.task.words}{within} reaches {wanted:.2%}; the most accurate reaches "
                f"{self.highest_accuracy:.2%}. Ask for less, or search more with another `seed` or a larger `budget`: "
                f"{command}"
            )
        return Configurations(records=meeting, baseline=self.baseline)

    def answer(self, target: Target) -> Answer:
        """The cheapest configuration for a target, by stored fresh runs. There has to be a baseline.

        Whoever shows an answer from stored results gets it here, so that all name the same one. A confirmed
        configuration stays confirmed, even if one that may be better has taken its place on the front.
        """
        answer = self.answer_among((*self.front, *self.tried), target)
        for record in self.tried:
            if answer.record is not None and answer.confirmed and _by_energy(record) >= _by_energy(answer.record):
                break
            if answer.verdict(record) == "confirmed" and record.key != answer.baseline.key:
                confirmation = answer.confirmations[record.evaluation.candidate.key]
                cheaper = tuple(one for one in answer.rejected if _by_energy(one[0]) < _by_energy(record))
                return replace(answer, record=record, confirmation=confirmation, rejected=cheaper)
        return answer

    def answer_among(self, records: Sequence[Record], target: Target) -> Answer:
        """The cheapest of some evaluations for a target, by stored fresh runs. There has to be a baseline."""
        assert self.baseline is not None
        confirmer = self._confirmer(self._runs_of)
        everything = (*self.front, *self.tried, *self.plain, self.baseline)
        confirmations = confirmer.confirmations(everything, self.baseline, target)
        return replace(
            confirmer.answer(records, self.baseline, target, plain=self.plain),
            confirmations=confirmations,
            baseline_confirmation=confirmations.get(self.baseline.evaluation.candidate.key),
        )

    def lacks_runs(self, target: Target, records: Sequence[Record]) -> bool:
        """Whether an answer depends on fresh runs that are not stored; see `answer`."""
        lacking = False

        def runs_of(candidate: Candidate, count: int) -> Sequence[ConfirmationRun]:
            nonlocal lacking
            found = self._runs_of(candidate, count)
            lacking |= len(found) < count
            return found

        assert self.baseline is not None
        self._confirmer(runs_of).answer(records, self.baseline, target, plain=self.plain)
        return lacking

    def _confirmer(self, runs_of: RunsOf) -> Confirmer:
        return Confirmer(runs_of, self.task.with_effort(self.effort), kept_only=True)

    def _runs_of(self, candidate: Candidate, count: int) -> Sequence[ConfirmationRun]:
        return [run for run in self.runs.get(candidate.key, ()) if run.run < count]


def _by_energy(record: Record) -> tuple[float, str]:
    return record.evaluation.energy_pj, record.key


def others_stored(store: Store, task: Task, hardware: Hardware, effort: str) -> str:
    """What is stored of a task's images, or of others of their name, in another way, as options that ask for it.

    It is empty if there is nothing.

    Args:
        store: The results database.
        task: The task.
        hardware: The hardware.
        effort: Effort of the evaluations.
    """
    asked = Setup.of(task, hardware, effort)
    others = {one.setup: one for one in store.searches.all() if one.task.name == task.name and one.setup != asked}
    same_images_first = sorted(others.values(), key=lambda one: one.task.dataset.identity != task.dataset.identity)
    return listed(map(_asked_by, same_images_first))


def _asked_by(search: SearchRecord) -> str:
    """The options that ask for the results of a search."""
    task, words = search.task, search.task.options
    if task.network is not None and task.network.is_object:
        words += f" with the model {task.network.path}"
    if search.hardware != DEFAULT_HARDWARE:
        words += f" on {search.hardware}" if "@" in search.hardware else f" --hardware {search.hardware}"
    if search.settings.effort != DEFAULT_EFFORT:
        words += f" --effort {search.settings.effort}"
    return words


def stored_alone(
    store: Store,
    setup: Setup,
    baseline: Record,
    *,
    tried: Iterable[Record] = (),
    without_multipliers: Collection[str] = (),
) -> dict[str, list[Record]]:
    """What each technique achieves alone: technique -> stored evaluations, cheapest first.

    These are the front of those that differ from the baseline by it only, and those off this front that were retrained:
    what fresh runs reject hides them.

    Args:
        store: The results database.
        setup: The task, hardware and effort of the evaluations.
        baseline: The evaluation from which the others differ by one technique.
        tried: Evaluations whose candidates have fresh runs.
        without_multipliers: As for `Stored.read`.
    """
    own = baseline.evaluation.candidate
    found = {
        technique: {
            one.key: one
            for one in store.evaluations.front(setup, without_multipliers=without_multipliers, near=own, by=knobs)
        }
        for technique, knobs in TECHNIQUES.items()
    }
    for record in tried:
        techniques = techniques_of(record.evaluation.candidate, own)
        if len(techniques) == 1:
            found[next(iter(techniques))][record.key] = record
    return {technique: sorted(records.values(), key=_by_energy) for technique, records in found.items()}
