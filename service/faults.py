"""What goes wrong between a client and the service, and what is tried again.

ClientError
├── UnreachableError   the service does not answer
├── ServiceError       it refuses the request, and says why
├── JobFailedError     a search ended without an answer
└── JobDeletedError    somebody deleted a job that was followed
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from pydantic import ValidationError

from service.job_state import JobState
from service.schemas import JobSchema, Problem

_PASSING = (429, 502, 503, 504)  # of a service that is busy, restarts, or is behind a proxy while it does
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
_LONGEST_RETRY_AFTER_S = 60.0


class ClientError(Exception):
    """A request has no result. Base of the others."""


class UnreachableError(ClientError, ConnectionError):
    """The service does not answer."""


class ServiceError(ClientError):
    """The service refused a request.

    Attributes:
        status: HTTP status.
        problem: What it says, after RFC 9457.
        retry_after_s: When to ask again, if it says that.
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
        job: It.
    """

    def __init__(self, job: JobSchema) -> None:
        why = {JobState.CANCELLED: "somebody cancelled it", JobState.FINISHED: "the service has no answer"}
        super().__init__(f"job {job.id} {job.state}: {job.error or why.get(job.state, 'no reason is known')}")
        self.job = job


class JobDeletedError(ClientError):
    """Somebody deleted a job that was followed.

    Attributes:
        job_id: Its id.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} was deleted while it was followed")
        self.job_id = job_id


class Retries:
    """How often a request was sent again, and whether it is to be once more.

    Args:
        most: How often it may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.made = 0

    def pause_s(self, error: ClientError) -> float | None:
        """How long to wait before it is sent again; None if it is not."""
        passes = isinstance(error, UnreachableError) or (isinstance(error, ServiceError) and error.status in _PASSING)
        if not passes or self.made >= self._most:
            return None
        pause_s = min(_FIRST_PAUSE_S * 2.0**self.made, _LONGEST_PAUSE_S)
        if isinstance(error, ServiceError) and error.retry_after_s is not None:
            if error.retry_after_s > _LONGEST_RETRY_AFTER_S:
                return None
            pause_s = max(pause_s, error.retry_after_s)
        self.made += 1
        return pause_s


@contextmanager
def reaching(http: httpx2.Client | httpx2.AsyncClient) -> Iterator[None]:
    """Have an error of the connection say which service was asked."""
    try:
        yield
    except httpx2.TransportError as error:
        where = f"{http.base_url.scheme}://{http.base_url.netloc.decode()}"
        hint = "; is `search serve` running?" if isinstance(error, httpx2.ConnectError) else ""
        raise UnreachableError(f"no answer from {where}: {str(error) or type(error).__name__}{hint}") from None


def check(response: httpx2.Response) -> None:
    """Raise what a response says is wrong."""
    if response.is_success:
        return
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:  # of something between the service and us
        detail = response.text[:500] or response.reason_phrase
        problem = Problem(title=response.reason_phrase, status=response.status_code, detail=detail)
    retry_after = response.headers.get("Retry-After", "")
    raise ServiceError(
        response.status_code, problem, retry_after_s=float(retry_after) if retry_after.isdecimal() else None
    )
