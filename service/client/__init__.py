"""A Python client of the service: `Client`, and `AsyncClient` with the same operations.

with Client("http://127.0.0.1:8000") as client:
    answer = client.optimize("digits", max_accuracy_drop=0.02)
    print(answer.configurations[0].saving)
"""

from service.client.calls import Event
from service.client.client import DEFAULT_URL, AsyncClient, Client
from service.client.errors import ClientError, JobDeletedError, JobFailedError, ServiceError, UnreachableError
from service.job_state import JobState
from service.schemas import OptimizeRequest

__all__ = [
    "DEFAULT_URL",
    "AsyncClient",
    "Client",
    "ClientError",
    "Event",
    "JobDeletedError",
    "JobFailedError",
    "JobState",
    "OptimizeRequest",
    "ServiceError",
    "UnreachableError",
]
