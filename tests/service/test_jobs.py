"""The queue: who gets which job, and what happens to it when its worker dies."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from search.store.schema import open_engine
from service.jobs import (
    IdempotencyError,
    Job,
    JobState,
    JobStateError,
    JobStore,
    LeaseLostError,
    QueueFullError,
    QueueLimits,
    UnknownJobError,
)
from service.questions import Question
from service.tables import JobRow
from tests.support.postgresql import Server, running_server

LEASE_S = 30.0
MANY = QueueLimits(all=1000, each=1000)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    """The jobs of an empty database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'results.db'}"
    else:
        url = request.getfixturevalue("server").url
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        engine.dispose()
    with JobStore.open(url) as store:
        yield store


def question(seed: int = 0) -> Question:
    return Question(dataset="digits", min_accuracy=0.9, seed=seed)


def submit(
    jobs: JobStore, seed: int = 0, *, client: str = "anna", limits: QueueLimits = MANY, key: str | None = None
) -> Job:
    job, _ = jobs.submit(question(seed), client=client, limits=limits, idempotency_key=key)
    return job


def claim(jobs: JobStore, worker: str = "w1", lease_s: float = LEASE_S) -> Job:
    job = jobs.claim(worker, lease_s=lease_s)
    assert job is not None
    return job


def states(jobs: JobStore, job: Job) -> list[str]:
    return [event.data["state"] for event in jobs.events(job) if event.kind == "state"]


def test_a_job_is_claimed_once_and_ends(jobs: JobStore) -> None:
    job = submit(jobs)
    assert job.state is JobState.QUEUED
    held = claim(jobs)
    assert (held.id, held.state, held.worker) == (job.id, JobState.RUNNING, "w1")
    assert jobs.claim("w2", lease_s=LEASE_S) is None
    jobs.note(held, "w1", "evaluated", {"number": 1}, evaluations=1)
    jobs.finish(held, "w1", JobState.FINISHED, confirmed=True)
    ended = jobs.find(job.id)
    assert (ended.state, ended.confirmed, ended.evaluations, ended.worker) == (JobState.FINISHED, True, 1, None)
    assert ended.ended_at is not None
    assert [event.number for event in jobs.events(job)] == [1, 2, 3, 4]
    assert states(jobs, job) == ["queued", "running", "finished"]
    assert [event.number for event in jobs.events(job, after=3)] == [4]


def test_the_same_question_of_a_client_is_one_job_while_it_lives(jobs: JobStore) -> None:
    first = submit(jobs)
    assert submit(jobs).id == first.id
    assert submit(jobs, client="ben").id != first.id
    assert submit(jobs, seed=1).id != first.id
    jobs.cancel(first.id)
    assert submit(jobs).id != first.id


def test_a_job_that_is_being_cancelled_is_not_joined(jobs: JobStore) -> None:
    first = submit(jobs)
    claim(jobs)
    assert jobs.cancel(first.id).cancelling
    assert submit(jobs).id != first.id


def test_an_idempotency_key_names_one_job_even_after_its_end(jobs: JobStore) -> None:
    first = submit(jobs, key="k")
    jobs.cancel(first.id)
    assert submit(jobs, key="k").id == first.id
    assert submit(jobs, key="other").id != first.id
    assert submit(jobs, client="ben", key="k").id != first.id
    with pytest.raises(IdempotencyError, match="was used for another request; use a new key"):
        submit(jobs, seed=1, key="k")


def test_a_full_queue_refuses_new_jobs_but_not_those_it_has(jobs: JobStore) -> None:
    first = submit(jobs, 0, limits=QueueLimits(all=2, each=2))
    submit(jobs, 1, limits=QueueLimits(all=2, each=2))
    with pytest.raises(QueueFullError, match="2 jobs are waiting"):
        submit(jobs, 2, limits=QueueLimits(all=2, each=2))
    assert submit(jobs, 0, limits=QueueLimits(all=2, each=2)).id == first.id
    claim(jobs)
    submit(jobs, 2, limits=QueueLimits(all=2, each=2))


def test_one_client_cannot_fill_the_queue(jobs: JobStore) -> None:
    limits = QueueLimits(all=9, each=2)
    for seed in range(2):
        submit(jobs, seed, limits=limits)
    with pytest.raises(QueueFullError, match="2 of your jobs are waiting, and no more of one client may"):
        submit(jobs, 2, limits=limits)
    submit(jobs, 2, client="ben", limits=limits)


def test_a_full_queue_takes_no_job_again_either(jobs: JobStore) -> None:
    first = submit(jobs)
    jobs.cancel(first.id)
    submit(jobs, 1)
    with pytest.raises(QueueFullError):
        jobs.resume(first.id, limits=QueueLimits(all=1, each=1))
    assert jobs.find(first.id).state is JobState.CANCELLED


def test_what_is_under_way_is_not_resumed_beside_it(jobs: JobStore) -> None:
    first = submit(jobs)
    jobs.cancel(first.id)
    second = submit(jobs)
    with pytest.raises(JobStateError, match=f"job {second.id} of the same client asks for the same and is queued"):
        jobs.resume(first.id, limits=MANY)


def test_a_job_whose_worker_died_is_cancelled_at_once(jobs: JobStore) -> None:
    job = submit(jobs)
    held = claim(jobs, lease_s=-1)
    assert jobs.cancel(job.id).state is JobState.CANCELLED
    with pytest.raises(LeaseLostError):
        jobs.note(held, "w1", "note", {})


def test_a_job_that_is_to_be_cancelled_is_not_given_back(jobs: JobStore) -> None:
    job = submit(jobs)
    held = claim(jobs)
    jobs.cancel(job.id)
    jobs.finish(held, "w1", JobState.QUEUED)
    assert jobs.find(job.id).state is JobState.CANCELLED


def test_the_number_of_a_deleted_job_is_not_given_again(jobs: JobStore) -> None:
    first = submit(jobs)
    jobs.cancel(first.id)
    jobs.delete(first.id)
    assert submit(jobs).number > first.number


def test_beginning_again_is_no_progress(jobs: JobStore) -> None:
    job = submit(jobs)
    for number in range(11):
        held = jobs.claim(f"w{number}", lease_s=-1)
        if held is None:
            break
        jobs.note(held, f"w{number}", "search", {}, evaluations=3)
    assert "its worker was lost 10 times in a row" in str(jobs.find(job.id).error)


def test_clients_take_turns(jobs: JobStore) -> None:
    for seed in range(3):
        submit(jobs, seed, client="anna")
    submit(jobs, 0, client="ben")
    submit(jobs, 0, client="carl")
    claimed = []
    for number in range(5):
        job = claim(jobs, f"w{number}")
        claimed.append(job.client)
        if number >= 2:  # they end at once; the first two go on running
            jobs.finish(job, f"w{number}", JobState.FINISHED, confirmed=True)
    assert claimed == ["anna", "ben", "carl", "anna", "anna"]


def test_a_dead_workers_job_is_taken_over_and_the_dead_writes_no_more(jobs: JobStore) -> None:
    submit(jobs)
    held = claim(jobs, "dead", lease_s=0.05)
    time.sleep(0.1)
    taken = claim(jobs, "heir")
    assert (taken.id, taken.worker) == (held.id, "heir")
    for write in (
        lambda: jobs.renew(held, "dead", lease_s=LEASE_S),
        lambda: jobs.note(held, "dead", "evaluated", {}, evaluations=5),
        lambda: jobs.finish(held, "dead", JobState.FINISHED, confirmed=True),
    ):
        with pytest.raises(LeaseLostError):
            write()
    assert jobs.find(held.id).evaluations == 0
    assert jobs.renew(taken, "heir", lease_s=LEASE_S) is False


def test_a_renewed_lease_holds(jobs: JobStore) -> None:
    submit(jobs)
    held = claim(jobs, lease_s=0.3)
    for _ in range(4):
        time.sleep(0.1)
        jobs.renew(held, "w1", lease_s=0.3)
        assert jobs.claim("w2", lease_s=LEASE_S) is None


def test_what_was_lost_comes_before_what_waits(jobs: JobStore) -> None:
    lost = submit(jobs, 0)
    claim(jobs, "dead", lease_s=0.01)
    submit(jobs, 0, client="ben")
    time.sleep(0.05)
    assert claim(jobs).id == lost.id


def test_a_job_that_loses_its_workers_in_vain_fails(jobs: JobStore) -> None:
    job = submit(jobs)
    for _ in range(10):
        claim(jobs, "dead", lease_s=-1)
    assert jobs.claim("next", lease_s=LEASE_S) is None
    failed = jobs.find(job.id)
    assert failed.state is JobState.FAILED
    assert "lost 10 times in a row" in str(failed.error)


def test_a_job_that_gets_on_may_lose_any_number_of_workers(jobs: JobStore) -> None:
    submit(jobs)
    for number in range(15):
        held = claim(jobs, f"w{number}", lease_s=-1)
        jobs.note(held, f"w{number}", "evaluated", {}, evaluations=number + 1, fruitful=True)
    assert claim(jobs).evaluations == 15


def test_giving_a_job_back_is_no_fault_of_the_jobs(jobs: JobStore) -> None:
    submit(jobs)
    for _ in range(15):
        jobs.finish(claim(jobs), "w1", JobState.QUEUED)
    assert claim(jobs).state is JobState.RUNNING


def test_cancel_resume_delete(jobs: JobStore) -> None:
    job = submit(jobs)
    with pytest.raises(JobStateError, match="is queued; cancel it first"):
        jobs.delete(job.id)
    assert jobs.cancel(job.id).state is JobState.CANCELLED
    with pytest.raises(JobStateError, match="is cancelled and cannot be cancelled"):
        jobs.cancel(job.id)
    assert jobs.resume(job.id, limits=MANY).state is JobState.QUEUED
    with pytest.raises(JobStateError, match="only a failed or cancelled one can be resumed"):
        jobs.resume(job.id, limits=MANY)
    held = claim(jobs)
    assert jobs.cancel(job.id).state is JobState.RUNNING
    assert jobs.renew(held, "w1", lease_s=LEASE_S) is True
    jobs.finish(held, "w1", JobState.CANCELLED)
    assert not jobs.find(job.id).cancelling
    jobs.delete(job.id)
    with pytest.raises(UnknownJobError, match=f"there is no job '{job.id}'"):
        jobs.find(job.id)


def test_a_cancelled_job_whose_worker_died_is_not_run_again(jobs: JobStore) -> None:
    job = submit(jobs)
    claim(jobs, "dead", lease_s=-1)
    jobs.cancel(job.id)
    assert jobs.claim("next", lease_s=LEASE_S) is None
    assert jobs.find(job.id).state is JobState.CANCELLED


def test_pages_go_back_in_time(jobs: JobStore) -> None:
    made = [submit(jobs, seed).number for seed in range(5)]
    first = jobs.jobs(limit=2)
    assert [job.number for job in first] == made[:2:-1]
    assert [job.number for job in jobs.jobs(before=first[-1].number, limit=9)] == made[2::-1]
    assert jobs.jobs(limit=9, state=JobState.RUNNING) == []


def test_workers_count_while_they_are_heard_of(jobs: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert jobs.workers() == 0
    jobs.beat("w1", version="1")
    jobs.beat("w2", version="1")
    assert jobs.workers() == 2
    jobs.leave("w2")
    assert jobs.workers() == 1
    monkeypatch.setattr("service.jobs._WORKER_SILENT_S", 0.0)
    time.sleep(0.01)
    assert jobs.workers() == 0


def race(url: str, *, count: int, threads: int) -> tuple[list[str], int]:
    """Many workers claim at once; the ids that they got, and the most that ran one job at a time."""
    barrier = threading.Barrier(threads)
    got: list[str] = []
    holders: Counter[str] = Counter()
    most = 0
    lock = threading.Lock()

    def work(name: str) -> None:
        nonlocal most
        with JobStore.open(url) as store:
            barrier.wait()
            while (job := store.claim(name, lease_s=LEASE_S)) is not None:
                with lock:
                    got.append(job.id)
                    holders[job.id] += 1
                    most = max(most, *holders.values())
                store.renew(job, name, lease_s=LEASE_S)
                with lock:
                    holders[job.id] -= 1
                store.finish(job, name, JobState.FINISHED, confirmed=False)

    working = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(threads)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    with JobStore.open(url) as store:
        assert store.counts()[JobState.FINISHED] == count
    return got, most


def test_racing_workers_never_share_a_job(jobs: JobStore) -> None:
    made = [submit(jobs, seed, client=f"c{seed % 7}").id for seed in range(100)]
    got, most = race(jobs.url, count=100, threads=8)
    assert sorted(got) == sorted(made)
    assert most == 1


def test_a_guarded_update_claims(tmp_path: Path) -> None:
    """Were the row read and written apart, two would have it; a second writer waits for the first to commit."""
    url = f"sqlite:///{tmp_path / 'results.db'}"
    with JobStore.open(url) as store:
        submit(store)
        engine = open_engine(url, create=False)
        with engine.connect() as other:
            other.exec_driver_sql("BEGIN IMMEDIATE")
            other.execute(sa.update(JobRow).values(state="running", worker="other", lease_until=time.time() + 60))
            waiting = threading.Timer(0.3, other.commit)
            waiting.start()
            assert store.claim("w1", lease_s=LEASE_S) is None
            waiting.join()
        engine.dispose()
