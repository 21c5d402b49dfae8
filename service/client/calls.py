"""Calls: what an operation sends and how its response is read, whichever client sends it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, get_args, get_type_hints, overload
from urllib.parse import quote

import httpx2
from pydantic import TypeAdapter

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of a job; see `GET /v1/jobs/{id}/events`.

    Attributes:
        number: Position within the job, from 1.
        kind: `state`, `search`, `plan`, `evaluated`, `failed`, `testing`, `confirming`, `note` or `answer`.
        data: Details.
    """

    number: int
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """A request, and how to read its response.

    Attributes:
        method: HTTP method.
        path: Path from the root of the service.
        read: Makes the result of a successful response.
        query: Query parameters; those that are None are left out.
        body: JSON body.
        content: Instead: a body of bytes.
        headers: Additional headers.
        wait_s: Additional seconds that the response may take.
        repeatable: Whether the request may be sent again when it is unknown whether it arrived.
        on_event: If the response is a job: called with each of its events until it ends, and then the call is repeated.
    """

    method: str
    path: str
    read: Callable[[httpx2.Response], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    repeatable: bool
    on_event: Callable[[Event], object] | None = None


class _Sends(Protocol):
    """A client that waits for responses."""

    def _send(self, call: Call[T]) -> T: ...


class _SendsLater(Protocol):
    """A client whose responses are awaited."""

    def _send(self, call: Call[T]) -> Coroutine[Any, Any, T]: ...


class _Operation(Protocol[P, T_co]):
    """The type of an operation, which depends on the kind of client; at run time it is a plain function."""

    @overload
    def __get__(self, client: _Sends, owner: type | None = None) -> Callable[P, T_co]: ...
    @overload
    def __get__(self, client: _SendsLater, owner: type | None = None) -> Callable[P, Coroutine[Any, Any, T_co]]: ...


def operation(call_of: Callable[Concatenate[Any, P], Call[T]]) -> _Operation[P, T]:
    """Turn a method that returns a call into one that sends it."""

    @functools.wraps(call_of)
    def method(client: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        return client._send(call_of(client, *args, **kwargs))

    (result,) = get_args(get_type_hints(call_of)["return"])
    method.__signature__ = inspect.signature(call_of).replace(return_annotation=result)  # type: ignore[attr-defined]
    return cast(_Operation[P, T], method)


def path_of(*parts: str) -> str:
    """A path below /v1, with each part quoted."""
    return "/".join(("/v1", *(quote(part, safe="") for part in parts)))


def json_of(kind: type[T]) -> Callable[[httpx2.Response], T]:
    """A reader of JSON of a type."""
    return lambda response: TypeAdapter(kind).validate_json(response.content)


def get(kind: type[T], *parts: str, query: Mapping[str, Any] | None = None) -> Call[T]:
    """A call that reads something."""
    return Call(method="GET", path=path_of(*parts), read=json_of(kind), query=query or {}, repeatable=True)


def post(kind: type[T], *parts: str, body: Mapping[str, Any]) -> Call[T]:
    """A call that may be repeated, because the service only computes, or stores the same thing once."""
    return Call(method="POST", path=path_of(*parts), read=json_of(kind), body=body, repeatable=True)
