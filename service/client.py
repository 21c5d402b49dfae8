"""A client of the service, for programs: `Client`, and `AsyncClient` with the same operations.

with Client("http://127.0.0.1:8000") as client:
    answer = client.optimize("digits", max_accuracy_drop=0.02)
    print(answer.configurations[0].saving)
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

import httpx2
from pydantic import BaseModel, TypeAdapter, ValidationError

from search.defaults import DEFAULT_BUDGET, DEFAULT_EFFORT, DEFAULT_HARDWARE
from service.job_state import JobState
from service.schemas import (
    DatasetSchema,
    Effort,
    EnergyResponse,
    EvaluationSchema,
    FrontSchema,
    HardwareSchema,
    JobPage,
    JobSchema,
    MultiplierSchema,
    OptimizeRequest,
    OptimizeResponse,
    Problem,
    Space,
)

DEFAULT_URL = "http://127.0.0.1:8000"
_AGAIN_S = 1.0  # after a connection was lost
_PATIENCE_S = 60.0  # with a service that restarts
_WAIT_S = 20.0  # that one request waits for a job

T = TypeVar("T")


class ServiceError(Exception):
    """The service refused a request.

    Attributes:
        status: HTTP status.
        problem: What it says, after RFC 9457.
    """

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(f"{status}: {problem.detail}")
        self.status = status
        self.problem = problem


class JobFailedError(Exception):
    """A search ended without an answer.

    Attributes:
        job: It.
    """

    def __init__(self, job: JobSchema) -> None:
        super().__init__(f"job {job.id} {job.state}: {job.error or 'somebody cancelled it'}")
        self.job = job


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a job; see `GET /v1/jobs/{id}/events`.

    Attributes:
        number: Within the job, from 1.
        kind: `state`, `search`, `evaluated`, `failed`, `testing`, `confirming`, `note` or `answer`.
        data: What there is to say of it.
    """

    number: int
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call(Generic[T]):
    """A request, and what its response is read as."""

    method: str
    path: str
    read: Callable[[httpx2.Response], T]
    json: Any = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def _as(kind: Any) -> Callable[[httpx2.Response], Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return lambda response: adapter.validate_json(response.content)


def _asked(asked: OptimizeRequest) -> dict[str, Any]:
    return asked.model_dump(exclude_none=True)


def _ask(asked: OptimizeRequest, wait_s: float) -> _Call[OptimizeResponse | JobSchema]:
    def read(response: httpx2.Response) -> OptimizeResponse | JobSchema:
        kind: type[BaseModel] = JobSchema if response.status_code == 202 else OptimizeResponse
        found = kind.model_validate_json(response.content)
        assert isinstance(found, JobSchema | OptimizeResponse)
        return found

    headers = {"Prefer": f"wait={int(wait_s)}"} if wait_s else {}
    return _Call(method="POST", path="/v1/optimize", json=_asked(asked), headers=headers, read=read)


def _submit(asked: OptimizeRequest, idempotency_key: str | None) -> _Call[JobSchema]:
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    return _Call(method="POST", path="/v1/jobs", json=_asked(asked), headers=headers, read=_as(JobSchema))


def _job(job_id: str, action: str = "") -> _Call[JobSchema]:
    path = f"/v1/jobs/{job_id}" + (f"/{action}" if action else "")
    return _Call(method="POST" if action else "GET", path=path, read=_as(JobSchema))


def _delete(job_id: str) -> _Call[None]:
    return _Call(method="DELETE", path=f"/v1/jobs/{job_id}", read=lambda response: None)


def _jobs(state: JobState | None, limit: int, cursor: str | None) -> _Call[JobPage]:
    query = {"limit": limit, "state": state, "cursor": cursor}
    given = {name: value for name, value in query.items() if value is not None}
    return _Call(method="GET", path="/v1/jobs", query=given, read=_as(JobPage))


def _front(dataset: str, min_accuracy: float | None, select: str, hardware: str, effort: str) -> _Call[FrontSchema]:
    query: dict[str, Any] = {"select": select, "hardware": hardware, "effort": effort}
    if min_accuracy is not None:
        query["min_accuracy"] = min_accuracy
    return _Call(method="GET", path=f"/v1/fronts/{dataset}", query=query, read=_as(FrontSchema))


def _evaluation(evaluation_id: str) -> _Call[EvaluationSchema]:
    return _Call(method="GET", path=f"/v1/evaluations/{evaluation_id}", read=_as(EvaluationSchema))


def _energy(candidate: Mapping[str, Any], dataset: str, hardware: str) -> _Call[EnergyResponse]:
    asked = {"dataset": dataset, "candidate": dict(candidate), "hardware": hardware}
    return _Call(method="POST", path="/v1/energy", json=asked, read=_as(EnergyResponse))


def _list(name: str, kind: Any) -> _Call[Any]:
    return _Call(method="GET", path=f"/v1/{name}", read=_as(list[kind]))


def _refuse(response: httpx2.Response) -> None:
    """Raise what a response says is wrong."""
    if response.is_success:
        return
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:  # of something between the service and us
        problem = Problem(title=response.reason_phrase, status=response.status_code, detail=response.text[:500])
    raise ServiceError(response.status_code, problem)


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


class _EventReader:
    """Makes events of the lines of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def read(self, line: str) -> Event | None:
        """The event that a line ends, if it ends one."""
        if line:
            name, _, value = line.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if "event" not in fields:
            return None
        return Event(number=int(fields["id"]), kind=fields["event"], data=json.loads(fields["data"]))


class Client:
    """Asks a service, and waits for what it answers. Use it in a `with` block, or close it.

    Args:
        url: Of the service.
        key: As `search keys create` made it, where one is needed.
        timeout_s: For one response, beyond what the service is asked to wait.
    """

    def __init__(self, url: str = DEFAULT_URL, *, key: str | None = None, timeout_s: float = 30.0) -> None:
        self._http = httpx2.Client(base_url=url, headers=_headers(key), timeout=timeout_s + _WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections."""
        self._http.close()

    def _send(self, call: _Call[T]) -> T:
        response = self._http.request(
            call.method, call.path, json=call.json, params=call.query, headers=dict(call.headers)
        )
        _refuse(response)
        return call.read(response)

    def optimize(
        self,
        dataset: str,
        *,
        min_accuracy: float | None = None,
        max_accuracy_drop: float | None = None,
        budget: int = DEFAULT_BUDGET,
        hardware: str = DEFAULT_HARDWARE,
        space: Space = "default",
        effort: Effort = DEFAULT_EFFORT,
        seed: int = 0,
        told: Callable[[Event], object] = lambda event: None,
    ) -> OptimizeResponse:
        """The cheapest configuration for a target, by a search if none is stored that fresh runs confirm.

        Args:
            dataset: See `datasets`.
            min_accuracy: Accuracy to reach, in (0, 1]; or else
            max_accuracy_drop: how far below the baseline's it may be, in [0, 1).
            budget: Evaluations of a search.
            hardware: See `hardware`.
            space: What a search searches.
            effort: How much work each evaluation is.
            seed: Of a search.
            told: Is told what happens in the search.

        Returns:
            The answer: `confirmed` says whether fresh runs confirm it, and its `configurations` are empty if the search
            found nothing that reaches the target.

        Raises:
            pydantic.ValidationError: If what is asked makes no sense.
            ServiceError: If the service refuses it.
            JobFailedError: If the search fails, or somebody cancels it.
            httpx2.TransportError: If the service cannot be reached.
        """
        asked = OptimizeRequest(
            dataset=dataset,
            min_accuracy=min_accuracy,
            max_accuracy_drop=max_accuracy_drop,
            budget=budget,
            hardware=hardware,
            space=space,
            effort=effort,
            seed=seed,
        )
        while True:
            found = self.ask(asked)
            if isinstance(found, OptimizeResponse):
                return found
            for event in self.events(found.id):
                told(event)
            job = self.job(found.id)
            if job.state is not JobState.FINISHED:
                raise JobFailedError(job)

    def ask(self, asked: OptimizeRequest, *, wait_s: float = 0.0) -> OptimizeResponse | JobSchema:
        """`POST /optimize`: the answer if it is stored, else the job that searches for it.

        Raises:
            ServiceError: If the service refuses it, here and below.
            httpx2.TransportError: If it cannot be reached, here and below.
        """
        return self._send(_ask(asked, min(wait_s, _WAIT_S)))

    def search(self, asked: OptimizeRequest, *, idempotency_key: str | None = None) -> JobSchema:
        """`POST /v1/jobs`: a search, whatever is stored."""
        return self._send(_submit(asked, idempotency_key))

    def jobs(self, *, state: JobState | None = None, limit: int = 20, cursor: str | None = None) -> JobPage:
        """Jobs, the newest first."""
        return self._send(_jobs(state, limit, cursor))

    def job(self, job_id: str) -> JobSchema:
        """Where a job stands."""
        return self._send(_job(job_id))

    def cancel(self, job_id: str) -> JobSchema:
        """Cancel a job; what it has evaluated is kept."""
        return self._send(_job(job_id, "cancel"))

    def resume(self, job_id: str) -> JobSchema:
        """Have a job that failed or was cancelled go on."""
        return self._send(_job(job_id, "resume"))

    def delete(self, job_id: str) -> None:
        """Forget a job that has ended."""
        self._send(_delete(job_id))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """What happens to a job, as it happens, until it ends; a connection that is lost is made again.

        Args:
            job_id: Of the job.
            after: Number of the last event that is known.
        """
        since = time.monotonic()
        while True:
            try:
                with self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=_after(after)) as response:
                    if not response.is_success:
                        response.read()
                    _refuse(response)
                    reader = _EventReader()
                    for line in response.iter_lines():
                        event = reader.read(line)
                        if event is not None:
                            after, since = event.number, time.monotonic()
                            yield event
                return
            except (httpx2.TransportError, ServiceError) as error:
                if not _passes(error) or time.monotonic() - since > _PATIENCE_S:
                    raise
                time.sleep(_AGAIN_S)

    def front(
        self,
        dataset: str,
        *,
        min_accuracy: float | None = None,
        select: Literal["all", "cheapest", "knee"] = "all",
        hardware: str = DEFAULT_HARDWARE,
        effort: Effort = DEFAULT_EFFORT,
    ) -> FrontSchema:
        """The stored configurations that no other beats, not confirmed by fresh runs."""
        return self._send(_front(dataset, min_accuracy, select, hardware, effort))

    def evaluation(self, evaluation_id: str) -> EvaluationSchema:
        """One stored evaluation, by the first digits of its key."""
        return self._send(_evaluation(evaluation_id))

    def energy(self, candidate: Mapping[str, Any], *, dataset: str, hardware: str = DEFAULT_HARDWARE) -> EnergyResponse:
        """The energy of a candidate that need never have been trained."""
        return self._send(_energy(candidate, dataset, hardware))

    def datasets(self) -> list[DatasetSchema]:
        """What can be searched."""
        found: list[DatasetSchema] = self._send(_list("datasets", DatasetSchema))
        return found

    def hardware(self) -> list[HardwareSchema]:
        """What energy can be modelled for."""
        found: list[HardwareSchema] = self._send(_list("hardware", HardwareSchema))
        return found

    def multipliers(self) -> list[MultiplierSchema]:
        """The multipliers whose energy is known."""
        found: list[MultiplierSchema] = self._send(_list("multipliers", MultiplierSchema))
        return found


class AsyncClient:
    """The same as `Client`, for asyncio. Use it in an `async with` block, or close it.

    Args:
        url: Of the service.
        key: As `search keys create` made it, where one is needed.
        timeout_s: For one response, beyond what the service is asked to wait.
    """

    def __init__(self, url: str = DEFAULT_URL, *, key: str | None = None, timeout_s: float = 30.0) -> None:
        self._http = httpx2.AsyncClient(base_url=url, headers=_headers(key), timeout=timeout_s + _WAIT_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back the connections."""
        await self._http.aclose()

    async def _send(self, call: _Call[T]) -> T:
        response = await self._http.request(
            call.method, call.path, json=call.json, params=call.query, headers=dict(call.headers)
        )
        _refuse(response)
        return call.read(response)

    async def optimize(
        self,
        dataset: str,
        *,
        min_accuracy: float | None = None,
        max_accuracy_drop: float | None = None,
        budget: int = DEFAULT_BUDGET,
        hardware: str = DEFAULT_HARDWARE,
        space: Space = "default",
        effort: Effort = DEFAULT_EFFORT,
        seed: int = 0,
        told: Callable[[Event], object] = lambda event: None,
    ) -> OptimizeResponse:
        """See `Client.optimize`."""
        asked = OptimizeRequest(
            dataset=dataset,
            min_accuracy=min_accuracy,
            max_accuracy_drop=max_accuracy_drop,
            budget=budget,
            hardware=hardware,
            space=space,
            effort=effort,
            seed=seed,
        )
        while True:
            found = await self.ask(asked)
            if isinstance(found, OptimizeResponse):
                return found
            async for event in self.events(found.id):
                told(event)
            job = await self.job(found.id)
            if job.state is not JobState.FINISHED:
                raise JobFailedError(job)

    async def ask(self, asked: OptimizeRequest, *, wait_s: float = 0.0) -> OptimizeResponse | JobSchema:
        """See `Client.ask`."""
        return await self._send(_ask(asked, min(wait_s, _WAIT_S)))

    async def search(self, asked: OptimizeRequest, *, idempotency_key: str | None = None) -> JobSchema:
        """See `Client.search`."""
        return await self._send(_submit(asked, idempotency_key))

    async def jobs(self, *, state: JobState | None = None, limit: int = 20, cursor: str | None = None) -> JobPage:
        """See `Client.jobs`."""
        return await self._send(_jobs(state, limit, cursor))

    async def job(self, job_id: str) -> JobSchema:
        """See `Client.job`."""
        return await self._send(_job(job_id))

    async def cancel(self, job_id: str) -> JobSchema:
        """See `Client.cancel`."""
        return await self._send(_job(job_id, "cancel"))

    async def resume(self, job_id: str) -> JobSchema:
        """See `Client.resume`."""
        return await self._send(_job(job_id, "resume"))

    async def delete(self, job_id: str) -> None:
        """See `Client.delete`."""
        await self._send(_delete(job_id))

    async def events(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """See `Client.events`."""
        since = time.monotonic()
        while True:
            try:
                async with self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=_after(after)) as response:
                    if not response.is_success:
                        await response.aread()
                    _refuse(response)
                    reader = _EventReader()
                    async for line in response.aiter_lines():
                        event = reader.read(line)
                        if event is not None:
                            after, since = event.number, time.monotonic()
                            yield event
                return
            except (httpx2.TransportError, ServiceError) as error:
                if not _passes(error) or time.monotonic() - since > _PATIENCE_S:
                    raise
                await asyncio.sleep(_AGAIN_S)

    async def front(
        self,
        dataset: str,
        *,
        min_accuracy: float | None = None,
        select: Literal["all", "cheapest", "knee"] = "all",
        hardware: str = DEFAULT_HARDWARE,
        effort: Effort = DEFAULT_EFFORT,
    ) -> FrontSchema:
        """See `Client.front`."""
        return await self._send(_front(dataset, min_accuracy, select, hardware, effort))

    async def evaluation(self, evaluation_id: str) -> EvaluationSchema:
        """See `Client.evaluation`."""
        return await self._send(_evaluation(evaluation_id))

    async def energy(
        self, candidate: Mapping[str, Any], *, dataset: str, hardware: str = DEFAULT_HARDWARE
    ) -> EnergyResponse:
        """See `Client.energy`."""
        return await self._send(_energy(candidate, dataset, hardware))

    async def datasets(self) -> list[DatasetSchema]:
        """See `Client.datasets`."""
        found: list[DatasetSchema] = await self._send(_list("datasets", DatasetSchema))
        return found

    async def hardware(self) -> list[HardwareSchema]:
        """See `Client.hardware`."""
        found: list[HardwareSchema] = await self._send(_list("hardware", HardwareSchema))
        return found

    async def multipliers(self) -> list[MultiplierSchema]:
        """See `Client.multipliers`."""
        found: list[MultiplierSchema] = await self._send(_list("multipliers", MultiplierSchema))
        return found


def _after(number: int) -> dict[str, str]:
    return {"Last-Event-ID": str(number)} if number else {}


def _passes(error: Exception) -> bool:
    """Whether an error is one that ends when the service has restarted."""
    return isinstance(error, httpx2.TransportError) or (isinstance(error, ServiceError) and error.status == 503)
