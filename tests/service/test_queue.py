"""The queue: which jobs it takes, and what clients can do with them."""

import pytest

from service.database import Database
from service.job_state import JobState
from service.jobs import IdempotencyError, JobStateError, LeaseLostError, QueueFullError, UnknownJobError
from service.leases import Leases
from service.queue import JobQueue, QueueLimits
from tests.support.queued import LEASE_S, MANY, claim, submit


@pytest.fixture
def opened(either_database: Database) -> Database:
    return either_database


def test_the_same_question_of_a_client_is_one_job_while_it_lives(queue: JobQueue) -> None:
    first = submit(queue)
    assert submit(queue).id == first.id
    assert submit(queue, client="ben").id != first.id
    assert submit(queue, seed=1).id != first.id
    queue.cancel(first.id)
    assert submit(queue).id != first.id


def test_a_job_that_is_being_cancelled_is_not_joined(queue: JobQueue, leases: Leases) -> None:
    first = submit(queue)
    claim(leases)
    assert queue.cancel(first.id).cancelling
    assert submit(queue).id != first.id


def test_an_idempotency_key_names_one_job_even_after_its_end(queue: JobQueue) -> None:
    first = submit(queue, key="k")
    queue.cancel(first.id)
    assert submit(queue, key="k").id == first.id
    assert submit(queue, key="other").id != first.id
    assert submit(queue, client="ben", key="k").id != first.id
    with pytest.raises(IdempotencyError, match="was used for another request; use a new key"):
        submit(queue, seed=1, key="k")


def test_a_full_queue_rejects_new_jobs_but_not_those_it_has(queue: JobQueue, leases: Leases) -> None:
    first = submit(queue, 0, limits=QueueLimits(total=2, per_client=2))
    submit(queue, 1, limits=QueueLimits(total=2, per_client=2))
    with pytest.raises(QueueFullError, match="2 jobs are waiting"):
        submit(queue, 2, limits=QueueLimits(total=2, per_client=2))
    assert submit(queue, 0, limits=QueueLimits(total=2, per_client=2)).id == first.id
    claim(leases)
    submit(queue, 2, limits=QueueLimits(total=2, per_client=2))


def test_one_client_cannot_fill_the_queue(queue: JobQueue) -> None:
    limits = QueueLimits(total=9, per_client=2)
    for seed in range(2):
        submit(queue, seed, limits=limits)
    with pytest.raises(QueueFullError, match="2 of your jobs are waiting, which is the maximum per client"):
        submit(queue, 2, limits=limits)
    submit(queue, 2, client="ben", limits=limits)


def test_a_full_queue_rejects_resumed_jobs_too(queue: JobQueue) -> None:
    first = submit(queue)
    queue.cancel(first.id)
    submit(queue, 1)
    with pytest.raises(QueueFullError):
        queue.resume(first.id, limits=QueueLimits(total=1, per_client=1))
    assert queue.find(first.id).state is JobState.CANCELLED


def test_a_question_that_is_under_way_is_not_resumed_a_second_time(queue: JobQueue) -> None:
    first = submit(queue)
    queue.cancel(first.id)
    second = submit(queue)
    with pytest.raises(JobStateError, match=f"job {second.id} of the same client asks the same question and is queued"):
        queue.resume(first.id, limits=MANY)


@pytest.mark.slow
def test_a_job_whose_worker_died_is_cancelled_at_once(queue: JobQueue, leases: Leases) -> None:
    job = submit(queue)
    held = claim(leases, lease_s=-1)
    assert queue.cancel(job.id).state is JobState.CANCELLED
    with pytest.raises(LeaseLostError):
        leases.note(held, "w1", "note", {})


def test_the_number_of_a_deleted_job_is_not_reused(queue: JobQueue) -> None:
    first = submit(queue)
    queue.cancel(first.id)
    queue.delete(first.id)
    assert submit(queue).number > first.number


def test_cancel_resume_delete(queue: JobQueue, leases: Leases) -> None:
    job = submit(queue)
    with pytest.raises(JobStateError, match="is queued; cancel it first"):
        queue.delete(job.id)
    assert queue.cancel(job.id).state is JobState.CANCELLED
    with pytest.raises(JobStateError, match="is cancelled and cannot be cancelled"):
        queue.cancel(job.id)
    assert queue.resume(job.id, limits=MANY).state is JobState.QUEUED
    with pytest.raises(JobStateError, match="only failed or cancelled jobs can be resumed"):
        queue.resume(job.id, limits=MANY)
    held = claim(leases)
    assert queue.cancel(job.id).state is JobState.RUNNING
    assert leases.renew(held, "w1", lease_s=LEASE_S) is True
    leases.finish(held, "w1", JobState.CANCELLED)
    assert not queue.find(job.id).cancelling
    queue.delete(job.id)
    with pytest.raises(UnknownJobError, match=f"there is no job '{job.id}'"):
        queue.find(job.id)


def test_pages_go_back_in_time(queue: JobQueue) -> None:
    made = [submit(queue, seed).number for seed in range(5)]
    first = queue.jobs(limit=2)
    assert [job.number for job in first] == made[:2:-1]
    assert [job.number for job in queue.jobs(before=first[-1].number, limit=9)] == made[2::-1]
    assert queue.jobs(limit=9, state=JobState.RUNNING) == []
