"""Answers from what is stored alone: no run is made for them, so they take milliseconds."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from energy import Hardware
from search.confirming import Answer, Confirmation, Confirmer, Target
from search.defaults import DEFAULT_EFFORT, DEFAULT_HARDWARE
from search.errors import NothingFoundError
from search.store import Record, Store
from search.task import Task
from search.techniques import TECHNIQUES, techniques_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Configurations:
    """The answer to "what are the cheapest configurations at this accuracy?".

    Attributes:
        records: The non-dominated stored evaluations whose validation accuracy reaches the target, cheapest first; at
            least one.
        baseline: The evaluation that savings are against.
    """

    records: tuple[Record, ...]
    baseline: Record

    @property
    def best(self) -> Record:
        """The cheapest."""
        return self.records[0]


def stored_configurations(
    store: Store,
    task: Task,
    platform: Hardware,
    target: Target,
    *,
    effort: str,
    hardware: str,
    without_multipliers: Collection[str] = (),
) -> Configurations:
    """The stored evaluations that reach a target, and that no other beats in accuracy and energy.

    Args:
        store: Where they are.
        task: Of what.
        platform: On which hardware.
        target: What is wanted.
        effort: Of the evaluations.
        hardware: As a person called the hardware, for messages.
        without_multipliers: Imported ones, by identity; configurations with one of them are left out.

    Raises:
        NothingFoundError: If there are none; the message has the command that makes some.
    """
    command = f"search run {task.options}"
    if hardware != DEFAULT_HARDWARE:
        command += f" --hardware {hardware}"
    if effort != DEFAULT_EFFORT:
        command += f" --effort {effort}"
    baseline = store.evaluation_of(task.space.baseline(), task=task.identity, hardware=platform.identity, effort=effort)
    if baseline is None:
        raise NothingFoundError(
            f"no search of {task.words} on {platform.identity} is stored yet; make one with: {command}"
        )
    wanted = target.accuracy(baseline.evaluation.accuracy)
    meeting = store.front(
        task=task.identity,
        hardware=platform.identity,
        effort=effort,
        min_accuracy=wanted,
        without_multipliers=without_multipliers,
    )
    if not meeting:
        highest = store.highest_accuracy(
            task=task.identity, hardware=platform.identity, effort=effort, without_multipliers=without_multipliers
        )
        highest = highest or 0.0
        raise NothingFoundError(
            f"no stored configuration of {task.words} reaches {wanted:.2%}; the most accurate reaches "
            f"{highest:.2%}. Ask for less, or search more with another --seed or a larger --budget: {command}"
        )
    return Configurations(records=tuple(meeting), baseline=baseline)


def stored_answer_to(
    store: Store,
    task: Task,
    platform: Hardware,
    target: Target,
    *,
    effort: str,
    hardware: str,
    without_multipliers: Collection[str] = (),
) -> tuple[Configurations, Answer, dict[str, Confirmation]]:
    """The answer to a target by the fresh runs that are kept; see `stored_configurations` for the arguments.

    Returns:
        What reaches the target, the answer, and the fresh runs of all that have some, by the keys of their evaluations.

    Raises:
        NothingFoundError: Likewise.
    """
    found = stored_configurations(
        store, task, platform, target, effort=effort, hardware=hardware, without_multipliers=without_multipliers
    )
    confirmer = Confirmer.of_kept(store, task, platform.identity, effort)
    answer = confirmer.answer(found.records, found.baseline, target)
    answer = with_confirmed_before(
        answer, store, task, platform, effort=effort, without_multipliers=without_multipliers
    )
    known = {record.key: runs for record, runs in answer.rejected}
    if answer.record is not None and answer.confirmation is not None:
        known[answer.record.key] = answer.confirmation
    if answer.baseline_confirmation is not None:
        known[found.baseline.key] = answer.baseline_confirmation
    return found, answer, known


def with_confirmed_before(
    answer: Answer,
    store: Store,
    task: Task,
    platform: Hardware,
    *,
    effort: str,
    without_multipliers: Collection[str] = (),
) -> Answer:
    """An answer from the front, or a cheaper one that fresh runs confirmed before it was pushed off the front.

    What was confirmed once stays so, though another that may be better has taken its place.

    Args:
        answer: From the front.
        store: Where fresh runs are.
        task: Of what.
        platform: On which hardware.
        effort: Of the evaluations.
        without_multipliers: As for `stored_configurations`.
    """
    confirmer = Confirmer.of_kept(store, task, platform.identity, effort)
    cost = math.inf if answer.record is None or not answer.confirmed else answer.record.evaluation.energy_pj
    for record in store.evaluations_with_runs(
        task=task.identity,
        hardware=platform.identity,
        min_accuracy=answer.target.accuracy(answer.baseline.evaluation.accuracy),
        effort=effort,
        without_multipliers=without_multipliers,
    ):
        if record.evaluation.energy_pj >= cost:
            break
        if record.key != answer.baseline.key and (
            (own := confirmer.answer([record], answer.baseline, answer.target)).confirmed
        ):
            return replace(own, rejected=answer.rejected)
    return answer


def stored_alone(
    store: Store,
    task: Task,
    platform: Hardware,
    baseline: Record,
    *,
    effort: str,
    without_multipliers: Collection[str] = (),
) -> dict[str, list[Record]]:
    """What each technique achieves alone: technique -> stored evaluations, cheapest first, each more accurate.

    Args:
        store: Where they are.
        task: Of what.
        platform: On which hardware.
        baseline: What others differ from, by one technique.
        effort: Of the evaluations.
        without_multipliers: As for `stored_configurations`.
    """
    found: dict[str, list[Record]] = {technique: [] for technique in TECHNIQUES}
    exact = baseline.evaluation.candidate
    for record in store.evaluations(
        task=task.identity, hardware=platform.identity, effort=effort, without_multipliers=without_multipliers
    ):
        techniques = techniques_of(record.evaluation.candidate, exact)
        if len(techniques) == 1:
            steps = found[next(iter(techniques))]
            if not steps or record.evaluation.accuracy > steps[-1].evaluation.accuracy:
                steps.append(record)
    return found
