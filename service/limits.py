"""What is refused before it is read: names that are not ours, bodies that are too large, or not JSON."""

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
    """How many clients wait or follow a job at the moment: each asks the database again and again.

    Args:
        most: At a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0

    def check(self) -> None:
        """Refuse one more where there is no room.

        Raises:
            ProblemError: 503, if as many are there as may.
        """
        if self._open >= self._most:
            raise ProblemError(
                503,
                f"{self._open} clients wait or follow jobs, and no more may; ask for the job again and again instead",
                headers={"Retry-After": "30"},
            )

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one more while it lasts."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


class StrictRoute(APIRoute):
    """Refuses query parameters where an operation has none; models of parameters refuse those that are not theirs."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with the check before it."""
        handle = super().get_route_handler()
        if self.dependant.query_params:
            return handle

        async def check(request: Request) -> Response:
            if request.query_params:
                name = next(iter(request.query_params))
                raise ProblemError(422, f"unknown parameter {name!r}: this takes none", pointer=name)
            return await handle(request)

        return check


class KnownHosts:
    """Refuses requests for other hosts: a page of another site can give its name the address of this machine.

    Args:
        app: What gets the others.
        hosts: Names of this one.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] == "http":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            name = re.sub(r":\d*$", "", host).lower()
            if name not in self._hosts:
                refused = problem(421, f"this service is not {name!r}; ask for it by {', '.join(self._hosts)}")
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses requests whose body is too large, whether they say so or not; and bodies of another type than JSON.

    A page of another site can have a browser send a form or plain text here without asking; JSON it cannot.

    Args:
        app: What gets the others.
        most_bytes: Of a body.
    """

    def __init__(self, app: ASGIApp, *, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http" or scope["method"] not in _METHODS:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        content = b""
        if not length.isdigit() or int(length) > self._most_bytes:
            await self._refuse(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            content += message.get("body", b"")
            if len(content) > self._most_bytes:
                await self._refuse(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if content and kind != b"application/json":
            refused = problem(415, f"the body must be application/json, got {kind.decode('latin-1') or 'no type'}")
            await refused(scope, receive, send)
            return
        given = False

        async def receive_again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": content, "more_body": False}

        await self._app(scope, receive_again, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await problem(413, f"the body may have at most {self._most_bytes} bytes")(scope, receive, send)
