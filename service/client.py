"""A client of the service, for programs: `Client`, and `AsyncClient` with the same operations.

with Client("http://127.0.0.1:8000") as client:
    answer = client.optimize("digits", max_accuracy_drop=0.02)
    print(answer.configurations[0].saving)
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any, Self, TypeVar

import httpx2
from pydantic import ValidationError

from service.faults import (
    ClientError,
    JobDeletedError,
    JobFailedError,
    Retries,
    ServiceError,
    UnreachableError,
    check,
    reaching,
)
from service.job_state import JobState
from service.operations import Call, Event, Operations, path_of
from service.schemas import JobSchema, OptimizeRequest, Problem

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

DEFAULT_URL = "http://127.0.0.1:8000"
_RETRIES_FOLLOWING = 10  # without a sign of life: a minute and more, in which a service restarts
_SILENCE_S = 15.0  # after which the service says that a job's events go on

T = TypeVar("T")


class Client(Operations):
    """Asks a service, and waits for what it answers. Use it in a `with` block, or close it; threads may share it.

    What can be sent twice without harm is sent again if the connection is lost, or the service says that it is busy:
    all but `cancel`, `resume`, and the questions of how the service is. A search has a key, so it is begun once.

    Args:
        url: Of the service.
        key: As `search keys create` made it, where one is needed.
        timeout_s: For one response, beyond what the service is asked to wait.
        retries: How often one request is sent again, after half a second, one, two and so on, or as long as the service
            says; more often while a job is followed.

    Raises:
        ServiceError: In all operations, if the service refuses the request.
        UnreachableError: Likewise, if it does not answer.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, key: str | None = None, timeout_s: float = 30.0, retries: int = 3
    ) -> None:
        self._http = httpx2.Client(base_url=_checked(url), headers=_headers(key))
        self._timeout_s = timeout_s
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections."""
        self._http.close()

    def events(self, job_id: str, *, after: int = 0) -> Generator[Event]:
        """What happens to a job, as it happens, until it ends; a connection that is lost is made again.

        Args:
            job_id: Of the job.
            after: Number of the last event that is known.

        Raises:
            JobDeletedError: If somebody deletes it meanwhile.
        """
        following = _Following(job_id, after)
        while True:
            try:
                request = _request(self._http, following.call(), self._timeout_s)
                with reaching(self._http), closing(self._http.send(request, stream=True)) as response:
                    if not response.is_success:
                        response.read()
                    check(response)
                    for line in response.iter_lines():
                        event = following.read(line)
                        if event is not None:
                            yield event
                if following.ended or following.at_end_of(self.job(job_id)):
                    return
                raise UnreachableError("the events ended before the job")
            except ClientError as error:
                pause_s = following.pause_s(error)
                if pause_s is None:
                    raise
                time.sleep(pause_s)

    def _send(self, call: Call[T]) -> T:
        response = self._response(call)
        while call.told is not None and response.status_code == 202:
            job_id = _job_to_follow(response)
            for event in self.events(job_id):
                call.told(event)
            _check_answered(self.job(job_id))
            response = self._response(call)
        return _result(call, response)

    def _response(self, call: Call[Any]) -> httpx2.Response:
        retries = Retries(self._retries if call.repeatable else 0)
        while True:
            try:
                with reaching(self._http):
                    response = self._http.send(_request(self._http, call, self._timeout_s))
                if not (retries.made and _is_gone(call, response)):
                    check(response)
                return response
            except ClientError as error:
                pause_s = retries.pause_s(error)
                if pause_s is None:
                    raise
                time.sleep(pause_s)


class AsyncClient(Operations):
    """The same as `Client`, for asyncio. Use it in an `async with` block, or close it.

    Args:
        url: Of the service.
        key: As `search keys create` made it, where one is needed.
        timeout_s: For one response, beyond what the service is asked to wait.
        retries: How often one request is sent again; see `Client`.

    Raises:
        ServiceError: In all operations, if the service refuses the request.
        UnreachableError: Likewise, if it does not answer.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, key: str | None = None, timeout_s: float = 30.0, retries: int = 3
    ) -> None:
        self._http = httpx2.AsyncClient(base_url=_checked(url), headers=_headers(key))
        self._timeout_s = timeout_s
        self._retries = retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back the connections."""
        await self._http.aclose()

    async def events(self, job_id: str, *, after: int = 0) -> AsyncGenerator[Event]:
        """See `Client.events`."""
        following = _Following(job_id, after)
        while True:
            try:
                request = _request(self._http, following.call(), self._timeout_s)
                with reaching(self._http):
                    async with aclosing(await self._http.send(request, stream=True)) as response:
                        if not response.is_success:
                            await response.aread()
                        check(response)
                        async for line in response.aiter_lines():
                            event = following.read(line)
                            if event is not None:
                                yield event
                if following.ended or following.at_end_of(await self.job(job_id)):
                    return
                raise UnreachableError("the events ended before the job")
            except ClientError as error:
                pause_s = following.pause_s(error)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)

    async def _send(self, call: Call[T]) -> T:
        response = await self._response(call)
        while call.told is not None and response.status_code == 202:
            job_id = _job_to_follow(response)
            async with aclosing(self.events(job_id)) as events:
                async for event in events:
                    done = call.told(event)
                    if inspect.isawaitable(done):
                        await done
            _check_answered(await self.job(job_id))
            response = await self._response(call)
        return _result(call, response)

    async def _response(self, call: Call[Any]) -> httpx2.Response:
        retries = Retries(self._retries if call.repeatable else 0)
        while True:
            try:
                with reaching(self._http):
                    response = await self._http.send(_request(self._http, call, self._timeout_s))
                if not (retries.made and _is_gone(call, response)):
                    check(response)
                return response
            except ClientError as error:
                pause_s = retries.pause_s(error)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)


class _Following:
    """How far a job's events were told, over connections that are lost.

    Reads https://html.spec.whatwg.org/multipage/server-sent-events.html.

    Args:
        job_id: Of the job.
        after: Number of the last event that is known.
    """

    def __init__(self, job_id: str, after: int) -> None:
        self._job_id = job_id
        self._after = after
        self._fields: dict[str, str] = {}
        self._retries = Retries(_RETRIES_FOLLOWING)
        self._found = False  # whether there was such a job
        self._quiet = True  # whether this connection has brought no event
        self.ended = False  # whether the last event says that the job has ended

    def call(self) -> Call[None]:
        """What asks for the rest of the events, over a new connection."""
        self._fields, self._quiet = {}, True
        headers = {"Last-Event-ID": str(self._after)} if self._after else {}
        return Call(
            method="GET",
            path=path_of("jobs", self._job_id, "events"),
            read=lambda response: None,
            headers=headers,
            wait_s=_SILENCE_S,
            repeatable=True,
        )

    def read(self, line: str) -> Event | None:
        """The event that a line ends, if it ends one."""
        self._found = True
        if line:
            name, _, value = line.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if fields.keys() != {"retry"}:  # the first thing said, which even a service that then breaks says each time
            self._retries.made = 0
        if not fields.keys() >= {"id", "event", "data"}:
            return None
        event = Event(number=int(fields["id"]), kind=fields["event"], data=json.loads(fields["data"]))
        self._after, self._quiet = event.number, False
        if event.kind == "state":
            self.ended = JobState(event.data["state"]).ended
        return event

    def at_end_of(self, job: JobSchema) -> bool:
        """Whether there was nothing left to tell of a job, as when all its events were known before."""
        return job.state.ended and self._quiet

    def pause_s(self, error: ClientError) -> float | None:
        """How long to wait before the rest is asked for; None if it is not.

        Raises:
            JobDeletedError: If the error says that the job is no more.
        """
        if self._found and isinstance(error, ServiceError) and error.status == 404:
            raise JobDeletedError(self._job_id) from None
        return self._retries.pause_s(error)


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"the URL of a service begins with http:// or https://, got {url!r}")
    return url


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _request(http: httpx2.Client | httpx2.AsyncClient, call: Call[Any], timeout_s: float) -> httpx2.Request:
    return http.build_request(
        call.method,
        call.path,
        params={name: value for name, value in call.query.items() if value is not None},
        json=call.body,
        headers=dict(call.headers),
        timeout=timeout_s + call.wait_s,
    )


def _is_gone(call: Call[Any], response: httpx2.Response) -> bool:
    """Whether a response says that what was to be deleted is not there."""
    return call.method == "DELETE" and response.status_code == 404


def _result(call: Call[T], response: httpx2.Response) -> T:
    try:
        return call.read(response)
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(map(str, first["loc"]))
        detail = f"{call.method} {response.url} answers what this client cannot read: {where} {first['msg']}"
        problem = Problem(title=response.reason_phrase, status=response.status_code, detail=detail)
        raise ServiceError(response.status_code, problem) from None


def _job_to_follow(response: httpx2.Response) -> str:
    """The id of a response's job.

    Raises:
        JobFailedError: If it has ended already, and there is no answer.
    """
    job = JobSchema.model_validate_json(response.content)
    if job.state.ended:
        raise JobFailedError(job)
    return job.id


def _check_answered(job: JobSchema) -> None:
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        raise JobFailedError(job)
