"""What the service can be asked, each operation once: `Client` and `AsyncClient` both have all of them.

An operation is written as a method that only describes: it gives the `Call` to make. `@operation` makes it one that
sends the call. A `Client` has it give what the response is read as, an `AsyncClient` something to await for the same.
"""

from __future__ import annotations

import functools
import inspect
import operator
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    SupportsIndex,
    TypeVar,
    cast,
    get_args,
    get_type_hints,
    overload,
)
from urllib.parse import quote

import httpx2
from pydantic import TypeAdapter

from search.defaults import DEFAULT_BUDGET, DEFAULT_EFFORT, DEFAULT_HARDWARE
from service.job_state import JobState
from service.schemas import (
    DatasetSchema,
    Effort,
    EnergyResponse,
    EvaluationSchema,
    FrontSchema,
    HardwareSchema,
    Health,
    JobPage,
    JobSchema,
    MultiplierSchema,
    OptimizeRequest,
    OptimizeResponse,
    Readiness,
    Space,
    TechniquesSchema,
)

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


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
class Call(Generic[T]):
    """A request, and what its response is read as.

    Attributes:
        method: Of HTTP.
        path: From the root of the service.
        read: Makes the result of a response that is no error.
        query: Parameters; those that are None are left out.
        body: As JSON.
        headers: Beside the usual.
        wait_s: How much longer than usual the response may take.
        repeatable: Whether it can be sent again when nobody knows whether it arrived.
        told: If the response is a job: is told of its events to its end, after which the call is made again.
    """

    method: str
    path: str
    read: Callable[[httpx2.Response], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    repeatable: bool
    told: Callable[[Event], object] | None = None


class _Sends(Protocol):
    """A client that waits for responses."""

    def _send(self, call: Call[T]) -> T: ...


class _SendsLater(Protocol):
    """A client that is awaited."""

    def _send(self, call: Call[T]) -> Coroutine[Any, Any, T]: ...


class _Operation(Protocol[P, T_co]):
    """The type of an operation, which depends on whose it is; a plain function is all that it takes to be one."""

    @overload
    def __get__(self, client: _Sends, owner: type | None = None) -> Callable[P, T_co]: ...
    @overload
    def __get__(self, client: _SendsLater, owner: type | None = None) -> Callable[P, Coroutine[Any, Any, T_co]]: ...


def operation(call_of: Callable[Concatenate[Any, P], Call[T]]) -> _Operation[P, T]:
    """A method that sends the call which the given one describes."""

    @functools.wraps(call_of)
    def method(client: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        return client._send(call_of(client, *args, **kwargs))

    (result,) = get_args(get_type_hints(call_of)["return"])
    method.__signature__ = inspect.signature(call_of).replace(return_annotation=result)  # type: ignore[attr-defined]
    return cast(_Operation[P, T], method)


def path_of(*parts: str) -> str:
    """A path below /v1, whatever its parts are."""
    return "/".join(("/v1", *(quote(part, safe="") for part in parts)))


def _json(kind: type[T]) -> Callable[[httpx2.Response], T]:
    return lambda response: TypeAdapter(kind).validate_json(response.content)


def _get(kind: type[T], *parts: str, **query: Any) -> Call[T]:
    return Call(method="GET", path=path_of(*parts), read=_json(kind), query=query, repeatable=True)


def _post(kind: type[T], *parts: str, body: Mapping[str, Any]) -> Call[T]:
    """Of what the service only computes, or keeps once however often it is brought."""
    return Call(method="POST", path=path_of(*parts), read=_json(kind), body=body, repeatable=True)


def _ask(
    path: str,
    asked: OptimizeRequest,
    read: Callable[[httpx2.Response], T],
    *,
    idempotency_key: str | None = None,
    wait_s: int = 0,
    told: Callable[[Event], object] | None = None,
) -> Call[T]:
    headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
    if wait_s:
        headers["Prefer"] = f"wait={wait_s}"
    return Call(
        method="POST",
        path=path_of(path),
        read=read,
        body=asked.model_dump(exclude_none=True),
        headers=headers,
        wait_s=wait_s,
        repeatable=True,
        told=told,
    )


def _answer_or_job(response: httpx2.Response) -> OptimizeResponse | JobSchema:
    return _json(JobSchema)(response) if response.status_code == 202 else _json(OptimizeResponse)(response)


class Operations:
    """All operations."""

    @operation
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
        multipliers: list[str] | None = None,
        seed: int = 0,
        told: Callable[[Event], object] = lambda event: None,
    ) -> Call[OptimizeResponse]:
        """The cheapest configuration for a target, by a search if none is stored that fresh runs confirm.

        Args:
            dataset: See `datasets`.
            min_accuracy: Accuracy to reach, in (0, 1]; or else
            max_accuracy_drop: how far below the baseline's it may be, in [0, 1).
            budget: Evaluations of a search.
            hardware: See `hardware`.
            space: What a search searches.
            effort: How much work each evaluation is.
            multipliers: What a search chooses among, see `multipliers`; None for the usual.
            seed: Of a search.
            told: Is told what happens in the search; of an `AsyncClient` it may be a coroutine function.

        Returns:
            The answer: `confirmed` says whether fresh runs confirm it, and its `configurations` are empty if the search
            found nothing that reaches the target.

        Raises:
            pydantic.ValidationError: If what is asked makes no sense.
            JobFailedError: If the search fails, or somebody cancels it.
            JobDeletedError: If somebody deletes it.
        """
        asked = OptimizeRequest(
            dataset=dataset,
            min_accuracy=min_accuracy,
            max_accuracy_drop=max_accuracy_drop,
            budget=budget,
            hardware=hardware,
            space=space,
            effort=effort,
            multipliers=multipliers,
            seed=seed,
        )
        return _ask("optimize", asked, _json(OptimizeResponse), told=told)

    @operation
    def ask(
        self, asked: OptimizeRequest, *, wait_s: int = 0, idempotency_key: str | None = None
    ) -> Call[OptimizeResponse | JobSchema]:
        """The answer if it is stored, else the job that searches for it.

        Args:
            asked: What is wanted.
            wait_s: Seconds for which the service may wait for the job, at most 60.
            idempotency_key: The same key and request make one job; by default each call has a key of its own.
        """
        return _ask("optimize", asked, _answer_or_job, idempotency_key=idempotency_key, wait_s=wait_s)

    @operation
    def search(self, asked: OptimizeRequest, *, idempotency_key: str | None = None) -> Call[JobSchema]:
        """A search, whatever is stored.

        Args:
            asked: What is wanted.
            idempotency_key: The same key and request make one job; by default each call has a key of its own.
        """
        return _ask("jobs", asked, _json(JobSchema), idempotency_key=idempotency_key)

    @operation
    def jobs(self, *, state: JobState | None = None, limit: int = 20, cursor: str | None = None) -> Call[JobPage]:
        """Jobs, the newest first.

        Args:
            state: Only those that stand there.
            limit: How many at most, up to 100.
            cursor: `next` of the page before.
        """
        return _get(JobPage, "jobs", state=state, limit=limit, cursor=cursor)

    @operation
    def job(self, job_id: str) -> Call[JobSchema]:
        """Where a job stands."""
        return _get(JobSchema, "jobs", job_id)

    @operation
    def cancel(self, job_id: str) -> Call[JobSchema]:
        """Cancel a job; what it has evaluated is kept. Sent once: the service refuses a second time."""
        return Call(method="POST", path=path_of("jobs", job_id, "cancel"), read=_json(JobSchema), repeatable=False)

    @operation
    def resume(self, job_id: str) -> Call[JobSchema]:
        """Have a job that failed or was cancelled go on. Sent once, as `cancel`."""
        return Call(method="POST", path=path_of("jobs", job_id, "resume"), read=_json(JobSchema), repeatable=False)

    @operation
    def delete(self, job_id: str) -> Call[None]:
        """Forget a job that has ended."""
        return Call(method="DELETE", path=path_of("jobs", job_id), read=lambda response: None, repeatable=True)

    @operation
    def front(
        self,
        dataset: str,
        *,
        min_accuracy: float | None = None,
        select: Literal["all", "cheapest", "knee"] = "all",
        hardware: str = DEFAULT_HARDWARE,
        effort: Effort = DEFAULT_EFFORT,
        multipliers: Sequence[str] = (),
    ) -> Call[FrontSchema]:
        """The stored configurations that no other beats, not confirmed by fresh runs.

        Args:
            dataset: See `datasets`.
            min_accuracy: Only what reaches it.
            select: All, or the one that is cheapest or at the knee.
            hardware: See `hardware`.
            effort: Of the evaluations.
            multipliers: Uploaded ones that configurations may have.
        """
        return _get(
            FrontSchema,
            "fronts",
            dataset,
            min_accuracy=min_accuracy,
            select=select,
            hardware=hardware,
            effort=effort,
            multipliers=list(multipliers) or None,
        )

    @operation
    def techniques(
        self,
        dataset: str,
        *,
        hardware: str = DEFAULT_HARDWARE,
        effort: Effort = DEFAULT_EFFORT,
        multipliers: Sequence[str] = (),
    ) -> Call[TechniquesSchema]:
        """What each technique achieves alone, by what is stored; see `front`."""
        return _get(
            TechniquesSchema,
            "techniques",
            dataset,
            hardware=hardware,
            effort=effort,
            multipliers=list(multipliers) or None,
        )

    @operation
    def evaluation(self, evaluation_id: str) -> Call[EvaluationSchema]:
        """One stored evaluation, by the first digits of its key."""
        return _get(EvaluationSchema, "evaluations", evaluation_id)

    @operation
    def export(self, evaluation_id: str) -> Call[bytes]:
        """The same as a file, which `search energy --candidate` and `search run --start` take."""
        path = path_of("evaluations", evaluation_id, "export")
        return Call(method="GET", path=path, read=lambda response: response.content, repeatable=True)

    @operation
    def energy(
        self, candidate: Mapping[str, Any], *, dataset: str, hardware: str = DEFAULT_HARDWARE
    ) -> Call[EnergyResponse]:
        """The energy of a candidate that need never have been trained.

        Args:
            candidate: As configurations have it; see docs/search-space.md.
            dataset: See `datasets`.
            hardware: See `hardware`.
        """
        return _post(
            EnergyResponse, "energy", body={"dataset": dataset, "candidate": dict(candidate), "hardware": hardware}
        )

    @operation
    def datasets(self) -> Call[list[DatasetSchema]]:
        """What can be searched."""
        return _get(list[DatasetSchema], "datasets")

    @operation
    def hardware(self) -> Call[list[HardwareSchema]]:
        """What energy can be modelled for."""
        return _get(list[HardwareSchema], "hardware")

    @operation
    def upload_hardware(self, yaml: str) -> Call[HardwareSchema]:
        """Bring hardware of your own; its name here is in the result.

        Args:
            yaml: Text of its file; see docs/energy-model.md.
        """
        return _post(HardwareSchema, "hardware", body={"yaml": yaml})

    @operation
    def delete_hardware(self, name: str) -> Call[None]:
        """Forget hardware that you brought, once no job needs it."""
        return Call(method="DELETE", path=path_of("hardware", name), read=lambda response: None, repeatable=True)

    @operation
    def delete_multiplier(self, name: str) -> Call[None]:
        """Forget a multiplier that you brought, once no job needs it."""
        return Call(method="DELETE", path=path_of("multipliers", name), read=lambda response: None, repeatable=True)

    @operation
    def multipliers(self) -> Call[list[MultiplierSchema]]:
        """The multipliers whose energy is known."""
        return _get(list[MultiplierSchema], "multipliers")

    @operation
    def upload_multiplier(
        self,
        name: str,
        table: Iterable[Iterable[SupportsIndex]],
        *,
        signed: bool = False,
        relative_energy: float,
        relative_area: float,
    ) -> Call[MultiplierSchema]:
        """Bring a multiplier of your own, for searches to choose; its name here is in the result.

        Args:
            name: Of it.
            table: Its products, indexed [activation code, weight code]: lists, or an array.
            signed: Whether both operands are signed, in two's complement.
            relative_energy: Over that of the exact one of the same widths.
            relative_area: Likewise.
        """
        body = {
            "name": name,
            "table": [[*map(operator.index, row)] for row in table],
            "signed": signed,
            "relative_energy": relative_energy,
            "relative_area": relative_area,
        }
        return _post(MultiplierSchema, "multipliers", body=body)

    # Whoever asks the next three wants to know how it is now: none is sent again.

    @operation
    def health(self) -> Call[Health]:
        """Whether the service answers, and what it is."""
        return Call(method="GET", path="/healthz", read=_json(Health), repeatable=False)

    @operation
    def readiness(self) -> Call[Readiness]:
        """Whether its database answers, and who works."""
        return Call(method="GET", path="/readyz", read=_json(Readiness), repeatable=False)

    @operation
    def metrics(self) -> Call[str]:
        """Counts of jobs, workers and results, in the text format of Prometheus."""
        return Call(method="GET", path="/metrics", read=lambda response: response.text, repeatable=False)
