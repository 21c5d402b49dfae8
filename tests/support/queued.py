"""Jobs in the queue of an empty database."""

from service.jobs import Job
from service.leases import Leases
from service.questions import Question
from service.queue import JobQueue, QueueLimits

LEASE_S = 30.0
MANY = QueueLimits(total=1000, per_client=1000)


def question(seed: int = 0) -> Question:
    return Question(dataset="digits", min_accuracy=0.9, seed=seed)


def submit(
    queue: JobQueue, seed: int = 0, *, client: str = "anna", limits: QueueLimits = MANY, key: str | None = None
) -> Job:
    job, _ = queue.submit(question(seed), client=client, limits=limits, idempotency_key=key)
    return job


def claim(leases: Leases, worker: str = "w1", lease_s: float = LEASE_S) -> Job:
    job = leases.claim(worker, lease_s=lease_s)
    assert job is not None
    return job


def states(queue: JobQueue, job: Job) -> list[str]:
    return [event.data["state"] for event in queue.events(job) if event.kind == "state"]
