"""How long a search will take, from a few steps that its workers time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from search.api.workplace import default_workers
from search.api.workshop import Workshop
from search.evaluation.work import Done, Time
from search.images.splits import SplitSizes
from search.space.candidate import Candidate
from search.space.plan import Plan, TypicalCandidates, plan_search
from search.space.search_space import SearchSpace
from search.space.task import Task

if TYPE_CHECKING:
    from search.evaluation.work import Executor

_LIMIT_S = 2.0  # about how long all networks together are timed


def plan(
    task: Task,
    space: SearchSpace,
    workshop: Workshop,
    executor: Executor,
    *,
    is_safe: Callable[[Candidate], bool],
    evaluations: int,
    before: int,
    confirm: bool,
    known: bool,
) -> Plan | None:
    """Return how long a search will take; None if the baseline cannot be timed, as its evaluation will say why.

    No result depends on it.

    Args:
        task: The task with its standard effort.
        space: The space that is searched.
        workshop: Where it is searched.
        executor: The workers.
        is_safe: Whether a candidate's network can be built without harm; others are not timed, but the baseline's is.
        evaluations: Evaluations that are left to make; at least one.
        before: Those made before.
        confirm: Whether fresh runs follow.
        known: Whether an earlier search left trained networks.
    """
    workers = executor.workers
    if workshop.workplace.ray_address is None:  # more workers than cores take turns
        workers = min(workers, default_workers())
    baseline, *others = TypicalCandidates.of(space).all
    candidates = [baseline, *filter(is_safe, others)]
    limit_s = min(1.0, _LIMIT_S * workers / len(candidates))
    jobs = [Time(key=str(place), candidate=one, limit_s=limit_s) for place, one in enumerate(candidates)]
    found = {outcome.key: outcome.result for outcome in executor.run(jobs) if isinstance(outcome, Done)}
    times = {job.candidate: found[job.key] for job in jobs if job.key in found}
    if baseline not in times:
        return None
    data = workshop.data
    return plan_search(
        task,
        workshop.effort,
        space,
        times,
        SplitSizes(train=len(data.train.labels), validation=len(data.validation.labels), test=len(data.test.labels)),
        evaluations=evaluations,
        before=before,
        workers=workers,
        confirm=confirm,
        known=known,
    )
