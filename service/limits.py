"""Limits on requests: known host names, bodies of limited size in JSON, known parameters, few open streams."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import ProblemError, problem

_METHODS = ("POST", "PUT", "PATCH")


class Streams:
    """Counts the clients that are waiting for or following a job, each of which polls the database.

    Args:
        limit: Maximum number at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open = 0

    def check(self) -> None:
        """Check that one more client may wait.

        Raises:
            ProblemError: 503, if the maximum number is waiting.
        """
        if self._open >= self._limit:
            raise ProblemError(
                503,
                f"{self._open} clients are waiting for jobs, which is the maximum; poll the job instead",
                headers={"Retry-After": "30"},
            )

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one more client during the block."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


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
    """Rejects bodies that are too large, whatever length they declare, and bodies that are not JSON.

    A page of another site can make a browser send a form or plain text here without permission, but not JSON.

    Args:
        app: Application that receives all other requests.
        max_bytes: Largest body.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request, or pass it on."""
        if scope["type"] != "http" or scope["method"] not in _METHODS:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        content = b""
        if not length.isdigit() or int(length) > self._max_bytes:
            await self._reject(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            content += message.get("body", b"")
            if len(content) > self._max_bytes:
                await self._reject(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if content and kind != b"application/json":
            rejection = problem(415, f"the body must be application/json, got {kind.decode('latin-1') or 'no type'}")
            await rejection(scope, receive, send)
            return
        delivered = False

        async def receive_again() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": content, "more_body": False}

        await self._app(scope, receive_again, send)

    async def _reject(self, scope: Scope, receive: Receive, send: Send) -> None:
        await problem(413, f"the body may have at most {self._max_bytes} bytes")(scope, receive, send)
