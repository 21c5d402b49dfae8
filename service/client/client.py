"""The two clients, blocking and for asyncio: how calls are sent, repeated and followed."""

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

from service.client.calls import Call, Event, path_of
from service.client.errors import (
    ClientError,
    JobDeletedError,
    JobFailedError,
    Retries,
    ServiceError,
    UnreachableError,
    check,
    connection_errors,
)
from service.client.operations import Operations
from service.job_state import JobState
from service.schemas import JobSchema, Problem

DEFAULT_URL = "http://127.0.0.1:8000"
_RETRIES_FOLLOWING = 10  # in a row: more than a minute, long enough for a service to restart
_SILENCE_S = 15.0  # between keep-alive messages of the service while a job has no events

T = TypeVar("T")


class Client(Operations):
    """A blocking client. Use it in a `with` block, or close it; threads may share it.

    A request that is safe to repeat is sent again if the connection is lost or the service is busy. That excludes
    `cancel`, `resume`, `health`, `readiness` and `metrics`. Searches carry an idempotency key, so they start once.

    Args:
        url: URL of the service.
        key: A key created by `search keys create`, where the service needs one.
        timeout_s: Seconds to wait for a response, in addition to the time that the service is asked to wait.
        retries: How often a request is repeated, after half a second, one, two and so on, or after the time that the
            service names; more often while a job is followed.

    Raises:
        ServiceError: In all operations, if the service rejects the request.
        UnreachableError: In all operations, if the service does not respond.
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
        """Close the connections."""
        self._http.close()

    def events(self, job_id: str, *, after: int = 0) -> Generator[Event]:
        """The events of a job as they happen, until it ends; a lost connection is reopened.

        Args:
            job_id: Id of the job.
            after: Number of the last event already known.

        Raises:
            JobDeletedError: If somebody deletes the job meanwhile.
        """
        stream = _EventStream(job_id, after)
        while True:
            try:
                request = _request(self._http, stream.call(), self._timeout_s)
                with connection_errors(self._http), closing(self._http.send(request, stream=True)) as response:
                    if not response.is_success:
                        response.read()
                    check(response)
                    for line in response.iter_lines():
                        event = stream.read(line)
                        if event is not None:
                            yield event
                if stream.ended or stream.at_end_of(self.job(job_id)):
                    return
                raise UnreachableError("the event stream ended before the job did")
            except ClientError as error:
                pause_s = stream.pause_s(error)
                if pause_s is None:
                    raise
                time.sleep(pause_s)

    def _send(self, call: Call[T]) -> T:
        response = self._response(call)
        while call.on_event is not None and response.status_code == 202:
            job_id = _job_to_follow(response)
            for event in self.events(job_id):
                call.on_event(event)
            _check_answered(self.job(job_id))
            response = self._response(call)
        return _result(call, response)

    def _response(self, call: Call[Any]) -> httpx2.Response:
        retries = Retries(self._retries if call.repeatable else 0)
        while True:
            try:
                with connection_errors(self._http):
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
    """The same operations as `Client`, for asyncio. Use it in an `async with` block, or close it.

    Args:
        url: See `Client`.
        key: See `Client`.
        timeout_s: See `Client`.
        retries: See `Client`.

    Raises:
        ServiceError: In all operations, if the service rejects the request.
        UnreachableError: In all operations, if the service does not respond.
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
        """Close the connections."""
        await self._http.aclose()

    async def events(self, job_id: str, *, after: int = 0) -> AsyncGenerator[Event]:
        """See `Client.events`."""
        stream = _EventStream(job_id, after)
        while True:
            try:
                request = _request(self._http, stream.call(), self._timeout_s)
                with connection_errors(self._http):
                    async with aclosing(await self._http.send(request, stream=True)) as response:
                        if not response.is_success:
                            await response.aread()
                        check(response)
                        async for line in response.aiter_lines():
                            event = stream.read(line)
                            if event is not None:
                                yield event
                if stream.ended or stream.at_end_of(await self.job(job_id)):
                    return
                raise UnreachableError("the event stream ended before the job did")
            except ClientError as error:
                pause_s = stream.pause_s(error)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)

    async def _send(self, call: Call[T]) -> T:
        response = await self._response(call)
        while call.on_event is not None and response.status_code == 202:
            job_id = _job_to_follow(response)
            async with aclosing(self.events(job_id)) as events:
                async for event in events:
                    awaitable = call.on_event(event)
                    if inspect.isawaitable(awaitable):
                        await awaitable
            _check_answered(await self.job(job_id))
            response = await self._response(call)
        return _result(call, response)

    async def _response(self, call: Call[Any]) -> httpx2.Response:
        retries = Retries(self._retries if call.repeatable else 0)
        while True:
            try:
                with connection_errors(self._http):
                    response = await self._http.send(_request(self._http, call, self._timeout_s))
                if not (retries.made and _is_gone(call, response)):
                    check(response)
                return response
            except ClientError as error:
                pause_s = retries.pause_s(error)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)


class _EventStream:
    """The position in a job's events, across lost connections.

    Parses https://html.spec.whatwg.org/multipage/server-sent-events.html.

    Args:
        job_id: Id of the job.
        after: Number of the last event already known.
    """

    def __init__(self, job_id: str, after: int) -> None:
        self._job_id = job_id
        self._after = after
        self._fields: dict[str, str] = {}
        self._retries = Retries(_RETRIES_FOLLOWING)
        self._found = False  # whether the job existed
        self._quiet = True  # whether this connection has delivered no event
        self.ended = False  # whether the last event was the end of the job

    def call(self) -> Call[None]:
        """The call that requests the remaining events over a new connection."""
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
        """Parse a line; returns the event that it completes, if it completes one."""
        self._found = True
        if line:
            name, _, value = line.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if fields.keys() != {"retry"}:  # sent first on each connection, so no sign that the service works
            self._retries.made = 0
        if not fields.keys() >= {"id", "event", "data"}:
            return None
        event = Event(number=int(fields["id"]), kind=fields["event"], data=json.loads(fields["data"]))
        self._after, self._quiet = event.number, False
        if event.kind == "state":
            self.ended = JobState(event.data["state"]).ended
        return event

    def at_end_of(self, job: JobSchema) -> bool:
        """Whether the stream ended because the job had no further events, as when all were known before."""
        return job.state.ended and self._quiet

    def pause_s(self, error: ClientError) -> float | None:
        """Seconds to wait before reconnecting after an error; None to give up.

        Raises:
            JobDeletedError: If the error means that the job was deleted.
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
        content=call.content,
        headers=dict(call.headers),
        timeout=timeout_s + call.wait_s,
    )


def _is_gone(call: Call[Any], response: httpx2.Response) -> bool:
    """Whether a response says that the resource to delete does not exist."""
    return call.method == "DELETE" and response.status_code == 404


def _result(call: Call[T], response: httpx2.Response) -> T:
    try:
        return call.read(response)
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(map(str, first["loc"]))
        detail = f"this client cannot read the response to {call.method} {response.url}: {where} {first['msg']}"
        problem = Problem(title=response.reason_phrase, status=response.status_code, detail=detail)
        raise ServiceError(response.status_code, problem) from None


def _job_to_follow(response: httpx2.Response) -> str:
    """The id of the job in a response.

    Raises:
        JobFailedError: If it has already ended without an answer.
    """
    job = JobSchema.model_validate_json(response.content)
    if job.state.ended:
        raise JobFailedError(job)
    return job.id


def _check_answered(job: JobSchema) -> None:
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        raise JobFailedError(job)
