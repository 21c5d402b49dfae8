"""The latency of stored answers while a search runs: `python -m benchmarks.service`.

Twenty clients, each of which asks again as soon as it is answered, send `POST /optimize` for a hundred different
targets on 10,000 stored evaluations, over persistent connections on loopback. The clients share the machine with the
server and with the search, whose worker has low priority, as `search serve` starts it. Results are kept in
service.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import search
from benchmarks.searches import STORED, fill
from search.api.workplace import Workplace, default_workers
from service.client import Client
from service.schemas import OptimizeRequest

KEPT = Path(__file__).parent / "service.json"
CLIENTS = 20
SECONDS = 20.0
WARMING_S = 3.0  # not measured: every target is asked for once
TARGETS = tuple(round(0.5 + number * 0.004, 3) for number in range(100))
BOUNDS_MS = {"median": 15, "99th percentile": 60}


@contextmanager
def serving(database: Path) -> Iterator[int]:
    """Run a service on a database, with a worker; yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "search", "serve", "--port", str(port), "--storage", str(database)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


async def ask(port: int, number: int, until: float, noted_from: float, waits: list[float]) -> None:
    """Ask for one target after the other, and record how long each answer took, in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (began := time.perf_counter()) < until:
        number += CLIENTS + 1  # all targets, in another order for each client
        asked = {"dataset": "digits", "effort": "quick", "min_accuracy": TARGETS[number % len(TARGETS)]}
        body = json.dumps(asked).encode()
        writer.write(
            b"POST /optimize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        answer = await reader.readexactly(int(length.partition(b":")[2]))
        if began >= noted_from:
            waits.append(time.perf_counter() - began)
        assert b'"configurations":[{' in answer
    writer.close()
    await writer.wait_closed()


async def load(port: int) -> list[float]:
    """Return the waits that all clients recorded, in seconds."""
    waits: list[float] = []
    began = time.perf_counter()
    noted_from, until = began + WARMING_S, began + WARMING_S + SECONDS
    await asyncio.gather(*(ask(port, client, until, noted_from, waits) for client in range(CLIENTS)))
    return waits


def shares(waits: Sequence[float]) -> dict[str, float]:
    """Return the median, 99th percentile and longest wait in milliseconds, and answers a second."""
    ordered = sorted(waits)
    return {
        "median": round(median(ordered) * 1000, 2),
        "99th percentile": round(ordered[int(len(ordered) * 0.99)] * 1000, 2),
        "longest": round(ordered[-1] * 1000, 2),
        "a second": round(len(ordered) / SECONDS),
    }


def measure(folder: Path) -> dict[str, Any]:
    """Measure the load without and with a search beside it."""
    database = folder / "results.db"
    result = search.run(
        dataset="digits",
        effort="quick",
        budget=40,
        max_accuracy_drop=0.5,
        workplace=Workplace(storage=str(database), workers=0),
    )
    fill(database, result)
    found: dict[str, Any] = {"stored": STORED, "clients": CLIENTS}
    with serving(database) as port:
        found["alone"] = shares(asyncio.run(load(port)))
        with Client(f"http://127.0.0.1:{port}") as client:
            job = client.search(OptimizeRequest(dataset="digits", max_accuracy_drop=0.02, effort="quick", seed=1))
            for event in client.events(job.id):
                if event.kind == "evaluated":
                    break
            before = client.job(job.id).evaluations
            found["beside a search"] = shares(asyncio.run(load(port)))
            ended = client.job(job.id)
            found["evaluations meanwhile"] = ended.evaluations - before
            assert not ended.state.ended
            client.cancel(job.id)
    return found


def table(kept: dict[str, Any]) -> str:
    """Format the measurements with their bounds as a Markdown table."""
    rows = ["| 20 clients, 10,000 evaluations stored | alone | beside a search | bound |", "|---|---|---|---|"]
    for name, bound in BOUNDS_MS.items():
        rows.append(f"| {name} | {kept['alone'][name]} ms | {kept['beside a search'][name]} ms | < {bound} ms |")
    rows.append(f"| answers a second | {kept['alone']['a second']} | {kept['beside a search']['a second']} | |")
    return "\n".join(rows)


def main() -> int:
    """Measure, keep the results, and return 1 if a bound is missed."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    found["machine"] = f"{platform.machine()}, {default_workers()} cores"
    KEPT.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(table(found) + "\n")
    return int(any(found["beside a search"][name] >= bound for name, bound in BOUNDS_MS.items()))


if __name__ == "__main__":
    sys.exit(main())
