"""The leases: who gets which job, and what happens to it when its worker dies."""

import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from search.store.schema import open_engine
from service.database import Database
from service.job_state import JobState
from service.jobs import LeaseLostError
from service.leases import Leases
from service.queue import JobQueue
from service.tables import JobRow
from tests.support.queued import LEASE_S, claim, states, submit
from tests.support.stored import opened_jobs


@pytest.fixture
def opened(either_database: Database) -> Database:
    return either_database


def test_a_job_is_claimed_once_and_ends(queue: JobQueue, leases: Leases) -> None:
    job = submit(queue)
    assert job.state is JobState.QUEUED
    held = claim(leases)
    assert (held.id, held.state, held.worker) == (job.id, JobState.RUNNING, "w1")
    assert leases.claim("w2", lease_s=LEASE_S) is None
    leases.note(held, "w1", "evaluated", {"number": 1}, evaluations=1)
    leases.finish(held, "w1", JobState.FINISHED, confirmed=True)
    ended = queue.find(job.id)
    assert (ended.state, ended.confirmed, ended.evaluations, ended.worker) == (JobState.FINISHED, True, 1, None)
    assert ended.ended_at is not None
    assert [event.number for event in queue.events(job)] == [1, 2, 3, 4]
    assert states(queue, job) == ["queued", "running", "finished"]
    assert [event.number for event in queue.events(job, after=3)] == [4]


def test_a_job_that_is_to_be_cancelled_is_not_returned_to_the_queue(queue: JobQueue, leases: Leases) -> None:
    job = submit(queue)
    held = claim(leases)
    queue.cancel(job.id)
    leases.finish(held, "w1", JobState.QUEUED)
    assert queue.find(job.id).state is JobState.CANCELLED


def test_restarting_is_not_progress(queue: JobQueue, leases: Leases) -> None:
    job = submit(queue)
    for number in range(11):
        held = leases.claim(f"w{number}", lease_s=-1)
        if held is None:
            break
        leases.note(held, f"w{number}", "search", {}, evaluations=3)
    assert "its worker was lost 10 times in a row" in str(queue.find(job.id).error)


def test_clients_take_turns(queue: JobQueue, leases: Leases) -> None:
    for seed in range(3):
        submit(queue, seed, client="anna")
    submit(queue, 0, client="ben")
    submit(queue, 0, client="carl")
    claimed = []
    for number in range(5):
        job = claim(leases, f"w{number}")
        claimed.append(job.client)
        if number >= 2:  # they end at once; the first two go on running
            leases.finish(job, f"w{number}", JobState.FINISHED, confirmed=True)
    assert claimed == ["anna", "ben", "carl", "anna", "anna"]


def test_a_dead_workers_job_is_taken_over_and_the_dead_worker_writes_nothing_more(
    queue: JobQueue, leases: Leases
) -> None:
    submit(queue)
    held = claim(leases, "dead", lease_s=0.05)
    time.sleep(0.1)
    taken = claim(leases, "heir")
    assert (taken.id, taken.worker) == (held.id, "heir")
    for write in (
        lambda: leases.renew(held, "dead", lease_s=LEASE_S),
        lambda: leases.note(held, "dead", "evaluated", {}, evaluations=5),
        lambda: leases.finish(held, "dead", JobState.FINISHED, confirmed=True),
    ):
        with pytest.raises(LeaseLostError):
            write()
    assert queue.find(held.id).evaluations == 0
    assert leases.renew(taken, "heir", lease_s=LEASE_S) is False


@pytest.mark.slow
def test_a_renewed_lease_holds(queue: JobQueue, leases: Leases) -> None:
    submit(queue)
    held = claim(leases, lease_s=0.3)
    for _ in range(4):
        time.sleep(0.1)
        leases.renew(held, "w1", lease_s=0.3)
        assert leases.claim("w2", lease_s=LEASE_S) is None


def test_lost_jobs_come_before_waiting_ones(queue: JobQueue, leases: Leases) -> None:
    lost = submit(queue, 0)
    claim(leases, "dead", lease_s=0.01)
    submit(queue, 0, client="ben")
    time.sleep(0.05)
    assert claim(leases).id == lost.id


def test_a_job_that_repeatedly_loses_its_workers_without_progress_fails(queue: JobQueue, leases: Leases) -> None:
    job = submit(queue)
    for _ in range(10):
        claim(leases, "dead", lease_s=-1)
    assert leases.claim("next", lease_s=LEASE_S) is None
    failed = queue.find(job.id)
    assert failed.state is JobState.FAILED
    assert "lost 10 times in a row" in str(failed.error)


def test_a_job_that_makes_progress_may_lose_any_number_of_workers(queue: JobQueue, leases: Leases) -> None:
    submit(queue)
    for number in range(15):
        held = claim(leases, f"w{number}", lease_s=-1)
        leases.note(held, f"w{number}", "evaluated", {}, evaluations=number + 1, fruitful=True)
    assert claim(leases).evaluations == 15


def test_returning_a_job_to_the_queue_does_not_count_against_it(queue: JobQueue, leases: Leases) -> None:
    submit(queue)
    for _ in range(15):
        leases.finish(claim(leases), "w1", JobState.QUEUED)
    assert claim(leases).state is JobState.RUNNING


def test_a_cancelled_job_whose_worker_died_is_not_run_again(queue: JobQueue, leases: Leases) -> None:
    job = submit(queue)
    claim(leases, "dead", lease_s=-1)
    queue.cancel(job.id)
    assert leases.claim("next", lease_s=LEASE_S) is None
    assert queue.find(job.id).state is JobState.CANCELLED


def test_workers_count_while_they_give_signs_of_life(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    assert leases.workers() == 0
    leases.beat("w1", version="1")
    leases.beat("w2", version="1")
    assert leases.workers() == 2
    leases.leave("w2")
    assert leases.workers() == 1
    monkeypatch.setattr("service.leases._WORKER_SILENT_S", 0.0)
    time.sleep(0.01)
    assert leases.workers() == 0


def race(url: str, *, count: int, threads: int) -> tuple[list[str], int]:
    """Many workers claim at once; the ids that they got, and the most that ran one job at a time."""
    barrier = threading.Barrier(threads)
    got: list[str] = []
    holders: Counter[str] = Counter()
    most = 0
    lock = threading.Lock()

    def work(name: str) -> None:
        nonlocal most
        with opened_jobs(url) as (_, leases):
            barrier.wait()
            while (job := leases.claim(name, lease_s=LEASE_S)) is not None:
                with lock:
                    got.append(job.id)
                    holders[job.id] += 1
                    most = max(most, *holders.values())
                leases.renew(job, name, lease_s=LEASE_S)
                with lock:
                    holders[job.id] -= 1
                leases.finish(job, name, JobState.FINISHED, confirmed=False)

    working = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(threads)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    with opened_jobs(url) as (queue, _):
        assert queue.counts()[JobState.FINISHED] == count
    return got, most


@pytest.mark.slow
def test_racing_workers_never_share_a_job(queue: JobQueue, opened: Database) -> None:
    made = [submit(queue, seed, client=f"c{seed % 7}").id for seed in range(100)]
    got, most = race(opened.url, count=100, threads=8)
    assert sorted(got) == sorted(made)
    assert most == 1


def test_a_guarded_update_claims(tmp_path: Path) -> None:
    """Were the row read and written apart, two would have it; a second writer waits for the first to commit."""
    url = f"sqlite:///{tmp_path / 'results.db'}"
    with opened_jobs(url) as (queue, leases):
        submit(queue)
        engine = open_engine(url, create=False)
        with engine.connect() as other:
            other.exec_driver_sql("BEGIN IMMEDIATE")
            other.execute(sa.update(JobRow).values(state="running", worker="other", lease_until=time.time() + 60))
            waiting = threading.Timer(0.3, other.commit)
            waiting.start()
            assert leases.claim("w1", lease_s=LEASE_S) is None
            waiting.join()
        engine.dispose()
