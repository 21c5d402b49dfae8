"""Ray workers: the same results as in this process, and what happens when one dies."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

import energy
from search.errors import ExecutorError
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.evaluation import Evaluation
from search.evaluation.evaluator import Evaluator
from search.evaluation.work import Done, Evaluate, Executor, Failed, Outcome
from search.executors import ray_executor, ray_pool
from search.executors.ray_executor import RayExecutor
from search.executors.serial import SerialExecutor
from search.images.places import ImagePlaces
from search.space.task import find_task
from tests.search.evaluation.test_evaluator import CANDIDATE, QUICK
from tests.support.fakes import chosen_import, imported

TASK = replace(find_task("digits"), effort=QUICK)
HARDWARE = energy.load_hardware("weight-stationary-45nm")
IMPORTED = chosen_import(imported())
JOBS = [
    Evaluate(key=f"{name} {split}", candidate=replace(CANDIDATE, multiplier=name, supply_v=0.78), split=split)
    for name in ("exact", "truncated-4", "asm-1", IMPORTED.identity, "no such")
    for split in ("validation", "test")
]


def outcomes(executor: Executor) -> dict[str, Outcome[Evaluation]]:
    found: dict[str, Outcome[Evaluation]] = {}
    for outcome in executor.run(JOBS):
        assert outcome.key not in found
        if isinstance(outcome, Done):
            outcome = replace(outcome, result=replace(outcome.result, seconds=0.0, cpu_seconds=0.0, joules=None))
        found[outcome.key] = outcome
    return found


@pytest.mark.process
@pytest.mark.slow
def test_workers_get_the_same_results_as_this_process(tmp_path: Path) -> None:
    data = datasets.load(TASK, ImagePlaces.at(tmp_path))
    evaluator = Evaluator(
        TASK, data, HARDWARE, seed=0, cache=TrainingCache(tmp_path / "serial"), multipliers=[IMPORTED]
    )
    serial = SerialExecutor(evaluator.run)
    with RayExecutor(
        TASK, data, HARDWARE, seed=0, cache=TrainingCache(tmp_path / "ray"), workers=2, multipliers=[IMPORTED]
    ) as executor:
        in_workers = outcomes(executor)
        assert list(executor.run([])) == []
    assert in_workers == outcomes(serial)
    failed = {key for key, outcome in in_workers.items() if isinstance(outcome, Failed)}
    assert failed == {"no such validation", "no such test"}
    assert not ray.is_initialized()


@pytest.mark.process
@pytest.mark.slow
def test_a_warning_of_all_workers_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = datasets.load(TASK, ImagePlaces.at(tmp_path))
    cache = TrainingCache(tmp_path / "stages", limit_bytes=1)
    with RayExecutor(TASK, data, HARDWARE, seed=0, cache=cache, workers=2) as executor:
        assert all(isinstance(outcome, Done) for outcome in executor.run(JOBS[:4]))
    (warning,) = caplog.records
    assert "bytes is not cached: the limit is 1" in warning.getMessage()


def worker_pids(executor: RayExecutor) -> list[int]:
    pool = executor._pool
    actors = [*pool.idle, *pool._coming.values()]
    calls = [actor.__ray_call__.remote(lambda worker: os.getpid()) for actor in actors]
    return [int(pid) for pid in ray.get(calls)]


@pytest.mark.process
@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_its_job_retried(tmp_path: Path) -> None:
    data = datasets.load(TASK, ImagePlaces.at(tmp_path))
    with RayExecutor(
        TASK, data, HARDWARE, seed=0, cache=TrainingCache(tmp_path), workers=2, multipliers=[IMPORTED]
    ) as executor:
        workers = worker_pids(executor)
        assert len(set(workers)) == 2
        found: dict[str, Outcome[Evaluation]] = {}
        for outcome in executor.run(JOBS):
            if not found:
                for pid in workers:
                    os.kill(pid, signal.SIGKILL)
            found[outcome.key] = outcome
        for pid in worker_pids(executor):
            os.kill(pid, signal.SIGKILL)
        # They died before they had a job, so no job is to blame, however often it happens.
        assert all(isinstance(outcome, Done) for outcome in executor.run(JOBS[:2]))
    assert found.keys() == {job.key for job in JOBS}
    assert all(isinstance(outcome, Done) for key, outcome in found.items() if "no such" not in key)


def test_ray_that_cannot_start_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise ConnectionError("port taken\nand more")

    monkeypatch.setattr(ray, "init", refuse)
    data = datasets.load(TASK, ImagePlaces.at(tmp_path))
    with pytest.raises(ExecutorError, match=r"^Ray could not start: port taken\. .* `workers` 0$"):
        RayExecutor(TASK, data, HARDWARE, seed=0, cache=TrainingCache(tmp_path), workers=1)


def test_sockets_lie_where_their_paths_are_short_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    short = f"{ray_executor._SHORT}/ray"
    for length, found in ((20, None), (35, None), (36, short), (80, short)):
        monkeypatch.setattr("tempfile.tempdir", "/" + "d" * (length - 1))
        assert ray_executor._temporary_folder() == found, length
    monkeypatch.setenv("RAY_TMPDIR", "/" + "r" * 90)
    assert ray_executor._temporary_folder() == short
    monkeypatch.setattr(ray_executor, "_SHORT", str(tmp_path / "nowhere"))
    with pytest.raises(ExecutorError, match=r"name a folder of at most 35 characters as \$RAY_TMPDIR"):
        ray_executor._temporary_folder()


@pytest.mark.process
@pytest.mark.slow
def test_an_interrupt_while_it_starts_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray_executor, "RayPool", interrupt)
    with pytest.raises(KeyboardInterrupt):
        RayExecutor(
            TASK,
            datasets.load(TASK, ImagePlaces.at(tmp_path)),
            HARDWARE,
            seed=0,
            cache=TrainingCache(tmp_path / "stages"),
            workers=1,
        )
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("shared", "there", "free", "waits"),
    [
        (True, 2, 0, True),  # another search uses them all, and will end
        (True, 2, 1, False),  # there is room, so something is wrong
        (True, 0, 0, False),
        (False, 2, 0, False),  # this search's own cluster: nobody else will release any
    ],
)
def test_workers_wait_for_their_turn_on_a_cluster(
    shared: bool, there: int, free: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "_START_S", -1)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": float(there)} if there else {})
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": float(free)} if free else {})
    never_there = SimpleNamespace(__ray_ready__=SimpleNamespace(remote=object))
    pool = ray_pool.RayPool(lambda: never_there, 1, shared=shared)
    if waits:
        monkeypatch.setattr(ray_pool, "_START_S", 60)
        pool._alive_at -= 100
        pool.check()
    else:
        with pytest.raises(ExecutorError, match="no worker could be started"):
            pool.check()
