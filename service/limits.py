"""Limits on requests: known host names, bodies of limited size in JSON, known parameters, few open streams."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import ProblemError, problem

BINARY = "application/octet-stream"
_JSON = "application/json"
_METHODS = ("POST", "PUT", "PATCH")


class Simultaneous:
    """Counts clients that do something which takes long, such as following a job, for which the database is polled.

    Args:
        limit: Maximum number at a time.
        doing: What they do, in words: "clients are uploading images".
        instead: What one more can do instead, in words.
    """

    def __init__(self, limit: int, doing: str, instead: str) -> None:
        self._limit = limit
        self._doing = doing
        self._instead = instead
        self._now = 0

    def check(self) -> None:
        """Check that there may be one more.

        Raises:
            ProblemError: 503, if the maximum number is there.
        """
        if self._now >= self._limit:
            raise ProblemError(
                503,
                f"{self._now} {self._doing}, which is the maximum; {self._instead}",
                headers={"Retry-After": "30"},
            )

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one more client during the block."""
        self._now += 1
        try:
            yield
        finally:
            self._now -= 1


class StrictRoute(APIRoute):
    """Rejects query parameters where an operation has none; where it has some, their model rejects unknown ones."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, preceded by the check."""
        handle = super().get_route_handler()
        if self.dependant.query_params:
            return handle

        async def check(request: Request) -> Response:
            if request.query_params:
                name = next(iter(request.query_params))
                raise ProblemError(422, f"unknown parameter {name!r}: this operation has none", pointer=name)
            return await handle(request)

        return check


class KnownHosts:
    """Rejects requests for unknown hosts, as another site can make its own name resolve to this machine.

    Args:
        app: Application that receives all other requests.
        hosts: Host names of this service.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request, or pass it on."""
        if scope["type"] == "http":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            name = re.sub(r":\d*$", "", host).lower()
            if name not in self._hosts:
                rejection = problem(421, f"this service is not {name!r}; it is known as {', '.join(self._hosts)}")
                await rejection(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Rejects bodies that are too large, whatever length they declare, and bodies of the wrong type.

    A page of another site can make a browser send a form or plain text here without permission, but not JSON, nor what
    has no type that browsers know.

    Args:
        app: Application that receives all other requests.
        max_bytes: Largest body, which must be JSON.
        streamed: Path -> largest body there, which must have no other type than `BINARY`; the application reads it
            piece by piece.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, streamed: Mapping[str, int]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request, or pass it on."""
        if scope["type"] != "http" or scope["method"] not in _METHODS:
            await self._app(scope, receive, send)
            return
        is_streamed = scope["path"] in self._streamed
        most = self._streamed[scope["path"]] if is_streamed else self._max_bytes
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > most:
            await _too_large(most)(scope, receive, send)
            return
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
        if is_streamed:
            if kind != BINARY:
                await _wrong_type(BINARY, kind)(scope, receive, send)
                return
            await self._app(scope, _counted(receive, most), send)
            return
        content = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            content += message.get("body", b"")
            if len(content) > most:
                await _too_large(most)(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        if content and kind != _JSON:
            await _wrong_type(_JSON, kind)(scope, receive, send)
            return
        delivered = False

        async def receive_again() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": content, "more_body": False}

        await self._app(scope, receive_again, send)


def _counted(receive: Receive, most: int) -> Receive:
    """A source of messages that raises a `ProblemError` once their bodies are too large."""
    received = 0

    async def receive_counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise ProblemError(413, _words_of_size(most))
        return message

    return receive_counted


def _too_large(most: int) -> Response:
    return problem(413, _words_of_size(most))


def _words_of_size(most: int) -> str:
    return f"the body may have at most {most:,} bytes"


def _wrong_type(wanted: str, given: str) -> Response:
    return problem(415, f"the body must be {wanted}, got {given or 'no type'}")
