from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import energy
import search
from search.api.options import SearchOptions
from search.api.planning import plan
from search.api.workplace import Workplace, default_workers
from search.api.workshop import Workshop
from search.evaluation.datasets import TaskData
from search.evaluation.work import Done, Executor, Failed, Outcome, Result, Time, WorkItem
from search.images.image_set import ImageSet
from search.observer import Observer
from search.space.candidate import Candidate
from search.space.plan import Plan, StepTimes, TypicalCandidates
from search.space.task import find_task
from search.store.records import Record, SearchRecord

DIGITS = find_task("digits")
TIMES = StepTimes(train_step_s=0.1, retrain_step_s=0.2, convert_s=0.1, image_s=0.001)


class Timing:
    """An executor that times what it is not told to fail."""

    def __init__(self, *, workers: int = 1, failing: Iterable[str] = ()) -> None:
        self.workers = workers
        self.jobs: list[Time] = []
        self._failing = set(failing)

    def run(self, jobs: Iterable[WorkItem[Result]]) -> Iterator[Outcome[Result]]:
        for job in jobs:
            assert isinstance(job, Time)
            self.jobs.append(job)
            if job.candidate.family in self._failing:
                yield Failed(key=job.key, error="it hangs")
            else:
                yield cast("Outcome[Result]", Done(key=job.key, result=TIMES))


def workshop(tmp_path: Path, **where: Any) -> Workshop:
    def images(count: int) -> ImageSet:
        return ImageSet(np.zeros((count, 1, 8, 8), np.uint8), np.zeros(count, np.int64))

    here = Workplace(storage=tmp_path / "results.db", **where)
    data = TaskData(train=images(300), validation=images(100), test=images(50), fingerprint="0")
    return Workshop(
        task=DIGITS,
        effort="standard",
        hardware=energy.load_hardware("flexible-45nm"),
        data=data,
        cache=here.open_cache(),
        workplace=here,
    )


def planned(
    executor: Timing, tmp_path: Path, *, is_safe: Callable[[Candidate], bool] = lambda candidate: True, **where: Any
) -> Plan | None:
    return plan(
        DIGITS,
        DIGITS.space,
        workshop(tmp_path, **where),
        cast("Executor", executor),
        is_safe=is_safe,
        evaluations=50,
        before=0,
        confirm=True,
        known=False,
    )


def test_workers_time_typical_networks_for_about_two_seconds(tmp_path: Path) -> None:
    executor = Timing()
    found = planned(executor, tmp_path)
    assert found is not None
    assert (found.evaluations, found.images, found.workers) == (50, 300, 1)
    assert [job.candidate for job in executor.jobs] == [*TypicalCandidates.of(DIGITS.space).all]
    assert sum(job.limit_s for job in executor.jobs) == pytest.approx(2)


def test_a_network_that_cannot_be_timed_is_left_out_unless_it_is_the_baseline(tmp_path: Path) -> None:
    assert planned(Timing(failing=["lenet"]), tmp_path) == planned(Timing(), tmp_path)
    assert planned(Timing(failing=["mlp"]), tmp_path) is None


def test_networks_that_may_do_harm_are_not_timed_but_for_the_baseline(tmp_path: Path) -> None:
    executor = Timing()
    assert planned(executor, tmp_path, is_safe=lambda candidate: False) is not None
    assert [job.candidate for job in executor.jobs] == [DIGITS.space.baseline()]


def test_more_workers_than_cores_take_turns(tmp_path: Path) -> None:
    found = planned(Timing(workers=1000), tmp_path)
    assert found is not None
    assert found.workers == default_workers()
    cluster = planned(Timing(workers=1000), tmp_path, ray_address="auto")
    assert cluster is not None
    assert cluster.workers == 1000


class Watching(Observer):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def started(self, search: SearchRecord, done: Any, trials: int) -> None:
        self.seen.append("started")

    def planned(self, plan: Plan) -> None:
        self.seen.append(plan)

    def evaluated(self, record: Record, *, reused: bool) -> None:
        self.seen.append(record.evaluation)


@pytest.mark.slow
def test_a_search_is_planned_before_its_first_evaluation_and_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, budget: int) -> list[Any]:
        watching = Watching()
        search.run(
            budget=budget,
            effort="quick",
            options=SearchOptions(confirm=False, name=name, resume=budget > 3),
            workplace=Workplace(workers=0, storage=tmp_path / f"{name}.db"),
            observer=watching,
        )
        return watching.seen

    started, first, *evaluated = run("planned", 3)
    assert started == "started"
    assert isinstance(first, Plan)
    assert (first.evaluations, first.confirmation_s, first.known) == (3, None, False)
    assert first.first_s is not None
    _, rest, *_ = run("planned", 4)
    assert isinstance(rest, Plan)
    assert (rest.evaluations, rest.first_s, rest.known) == (1, None, False)
    assert not any(isinstance(one, Plan) for one in run("planned", 4))  # nothing is left to evaluate

    again = Watching()
    search.run(
        budget=3,
        effort="quick",
        options=SearchOptions(confirm=False, name="again"),
        workplace=Workplace(workers=0, storage=tmp_path / "planned.db"),
        observer=again,
    )
    assert again.seen[1].known  # the networks of the first search

    monkeypatch.setattr("search.api._run.plan", lambda *_, **__: None)
    unplanned = run("unplanned", 3)[1:]
    assert [replace(one, seconds=0.0, cpu_seconds=0.0, joules=None) for one in unplanned] == [
        replace(one, seconds=0.0, cpu_seconds=0.0, joules=None) for one in evaluated
    ]


@pytest.mark.slow
def test_a_search_takes_about_as_long_as_was_planned(tmp_path: Path) -> None:
    watching = Watching()
    search.run(
        budget=24,
        effort="quick",
        options=SearchOptions(confirm=False, fresh=True),
        workplace=Workplace(workers=0, storage=tmp_path / "results.db"),
        observer=watching,
    )
    _, first, *evaluated = watching.seen
    spent = sum(one.cpu_seconds for one in evaluated)
    assert 1 / 3 < first.search_s / spent < 3  # on an idle machine within a factor of two
