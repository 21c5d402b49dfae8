"""Errors of the clients, and which of them lead to another attempt.

ClientError
├── UnreachableError   the service does not respond
├── ServiceError       the service rejected the request
├── JobFailedError     a search ended without an answer
└── JobDeletedError    a job was deleted while it was followed
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from pydantic import ValidationError

from service.job_state import JobState
from service.schemas import JobSchema, Problem

_TRANSIENT = (429, 502, 503, 504)  # statuses of a service, or its proxy, that is busy or restarting
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
_LONGEST_RETRY_AFTER_S = 60.0


class ClientError(Exception):
    """Base class of the clients' errors."""


class UnreachableError(ClientError, ConnectionError):
    """The service does not respond."""


class ServiceError(ClientError):
    """The service rejected a request.

    Attributes:
        status: HTTP status.
        problem: The service's description of the error, after RFC 9457.
        retry_after_s: Seconds after which the service asks to retry, if it does.
    """

    def __init__(self, status: int, problem: Problem, *, retry_after_s: float | None = None) -> None:
        fields = [one.pointer for one in problem.errors or () if one.pointer not in problem.detail]
        super().__init__(f"{status}: {problem.detail}" + (f" (at {', '.join(fields)})" if fields else ""))
        self.status = status
        self.problem = problem
        self.retry_after_s = retry_after_s


class JobFailedError(ClientError):
    """A search ended without an answer.

    Attributes:
        job: The job of the search.
    """

    def __init__(self, job: JobSchema) -> None:
        reasons = {JobState.CANCELLED: "somebody cancelled it", JobState.FINISHED: "the service has no answer"}
        super().__init__(f"job {job.id} {job.state}: {job.error or reasons.get(job.state, 'unknown reason')}")
        self.job = job


class JobDeletedError(ClientError):
    """A job was deleted while it was followed.

    Attributes:
        job_id: Id of the job.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} was deleted while it was followed")
        self.job_id = job_id


class Retries:
    """Counts the repetitions of a request, and decides whether to repeat it once more.

    Args:
        limit: Maximum number of repetitions.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.made = 0

    def pause_s(self, error: ClientError) -> float | None:
        """Seconds to wait before repeating the request after an error; None to give up."""
        transient = isinstance(error, UnreachableError) or (
            isinstance(error, ServiceError) and error.status in _TRANSIENT
        )
        if not transient or self.made >= self._limit:
            return None
        pause_s = min(_FIRST_PAUSE_S * 2.0**self.made, _LONGEST_PAUSE_S)
        if isinstance(error, ServiceError) and error.retry_after_s is not None:
            if error.retry_after_s > _LONGEST_RETRY_AFTER_S:
                return None
            pause_s = max(pause_s, error.retry_after_s)
        self.made += 1
        return pause_s


@contextmanager
def connection_errors(http: httpx2.Client | httpx2.AsyncClient) -> Iterator[None]:
    """Turn errors of the connection into an `UnreachableError` that names the service."""
    try:
        yield
    except httpx2.TransportError as error:
        where = f"{http.base_url.scheme}://{http.base_url.netloc.decode()}"
        hint = "; is `search serve` running?" if isinstance(error, httpx2.ConnectError) else ""
        raise UnreachableError(f"no response from {where}: {str(error) or type(error).__name__}{hint}") from None


def check(response: httpx2.Response) -> None:
    """Raise the error that a response describes, if it is one."""
    if response.is_success:
        return
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:  # sent by something other than the service, such as a proxy
        detail = response.text[:500] or response.reason_phrase
        problem = Problem(title=response.reason_phrase, status=response.status_code, detail=detail)
    retry_after = response.headers.get("Retry-After", "")
    raise ServiceError(
        response.status_code, problem, retry_after_s=float(retry_after) if retry_after.isdecimal() else None
    )
