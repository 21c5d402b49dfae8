"""A server that breaks off, is busy, or sends wrong responses, and clients that ask it."""

import asyncio
import inspect
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from service.client import AsyncClient, Client, OptimizeRequest

ASKED = OptimizeRequest(dataset="digits", min_accuracy=0.9)
JOB = {
    "id": "j",
    "state": "running",
    "cancelling": False,
    "request": {"dataset": "digits", "min_accuracy": 0.9},
    "evaluations": 0,
    "search": None,
    "confirmed": None,
    "error": None,
    "may_change": True,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": None,
    "ended_at": None,
    "links": {},
}
NONE = {"status": 404, "title": "Not Found", "detail": "there is no job 'j'"}


@dataclass
class Reply:
    """A reply: an object as JSON, or a stream in parts, or nothing if the connection is cut before."""

    content: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] | None = None
    cut: bool = False
    after_s: float = 0.0


CUT = Reply(cut=True)
BUSY = Reply({"status": 503, "title": "Service Unavailable", "detail": "not now"}, 503)


def event(number: int, kind: str = "note", **data: object) -> str:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


def stream(*parts: str, cut: bool = False) -> Reply:
    return Reply(parts=("retry: 2000\n\n", *parts), cut=cut)


@dataclass
class Asked:
    """A request that arrived."""

    method: str
    path: str
    query: set[str]
    headers: dict[str, str]
    body: dict[str, Any]
    content: bytes


class Script(ThreadingHTTPServer):
    """Sends the scripted replies one after the other, then 404, and records the requests."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.asked: list[Asked] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def paths(self) -> list[str]:
        return [f"{one.method} {one.path}" for one in self.asked]


class _Handler(BaseHTTPRequestHandler):
    server: Script
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        is_json = headers.get("content-type") == "application/json"
        content = json.loads(body) if is_json else {}
        asked = Asked(self.command, url.path, {*parse_qs(url.query)}, headers, content, b"" if is_json else body)
        self.server.asked.append(asked)
        reply = self.server.replies.pop(0) if self.server.replies else Reply(NONE, 404)
        time.sleep(reply.after_s)
        if reply.cut and reply.parts is None:
            self.close_connection = True
            return
        content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
        self.send_response(reply.status)
        self.send_header("Connection", "close")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.parts is None:
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in reply.parts:
            self.wfile.write(f"{len(part):x}\r\n{part}\r\n".encode())
        if not reply.cut:
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


class Do(Protocol):
    """Performs an operation with a client; returns its result, or its events as a list."""

    def __call__(
        self, url: str, operation: Callable[[Any], Any], *, retries: int = 3, timeout_s: float = 30
    ) -> Any: ...


def blocking(url: str, operation: Callable[[Any], Any], *, retries: int = 3, timeout_s: float = 30) -> Any:
    with Client(url, retries=retries, timeout_s=timeout_s) as client:
        found = operation(client)
        return [*found] if inspect.isgenerator(found) else found


def awaited(url: str, operation: Callable[[Any], Any], *, retries: int = 3, timeout_s: float = 30) -> Any:
    async def run() -> Any:
        async with AsyncClient(url, retries=retries, timeout_s=timeout_s) as client:
            found = operation(client)
            return [one async for one in found] if inspect.isasyncgen(found) else await found

    return asyncio.run(run())
