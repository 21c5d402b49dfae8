"""A service that listens: `search serve` as a process, or the application in a thread; and requests to it."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from service.app import create_app
from service.settings import Settings


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def serving(
    *arguments: object, port: int | None = None, host: str = "127.0.0.1"
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`search serve` on a port that is free, and its address."""
    port = port or free_port()
    command = [sys.executable, "-m", "search", "serve", "--port", str(port), *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        address = f"http://{host}:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                call(f"{address}/healthz")
                break
            except httpx2.TransportError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield address, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def call(url: str, body: object = None, headers: Mapping[str, str] | None = None) -> httpx2.Response:
    return httpx2.request("GET" if body is None else "POST", url, json=body, headers=headers, timeout=90)


def session_of(leader: int) -> set[int]:
    """The processes of a session that live, its leader among them."""
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.add(int(folder.name))
    return found


@contextmanager
def served(database: Path, *, port: int = 0, **settings: Any) -> Iterator[str]:
    """The address of a service on a database."""
    app = create_app(Settings(storage=f"sqlite:///{database}", **settings))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
