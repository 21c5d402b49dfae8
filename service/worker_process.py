"""One worker as a child process of the service."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from search.locations import STORAGE_VARIABLE

_RESTART_S = 2.0


@contextmanager
def worker_process(url: str, command: Sequence[str]) -> Iterator[None]:
    """Keep one worker running during the block; it also ends if this process is killed.

    Args:
        url: Results database, as an SQLAlchemy URL.
        command: Program and arguments of a worker that ends when its standard input does.
    """
    environment = {**os.environ, STORAGE_VARIABLE: url}  # it may contain a password, and all users can see commands
    ending = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        while not ending.is_set():
            try:  # in its own process group, so that Ctrl-C ends only this process, which then ends the worker
                process = subprocess.Popen(  # noqa: S603
                    command, stdin=subprocess.PIPE, env=environment, process_group=0
                )
            except OSError as error:
                click.echo(f"cannot start a worker: {error.strerror}", err=True)
            else:
                running[:] = [process]
                process.wait()
            ending.wait(_RESTART_S)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        for process in running:
            process.terminate()
        thread.join(timeout=30)
