"""Commands of the service: `search serve`, `search worker`, `search dashboard`, `search keys`, `search db`."""

from __future__ import annotations

import errno
import ipaddress
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import ceil
from typing import Any

import click

from search.cli import options
from search.cli.errors import reported_errors
from search.cli.running import command_line
from search.errors import UsageError
from search.locations import STORAGE_VARIABLE

_lease = click.option(
    "--lease",
    "lease_s",
    type=click.FloatRange(1),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a worker may be silent before another takes over its job.",
)


_host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
_public_hosts = click.option(
    "--public-host",
    "public_hosts",
    multiple=True,
    metavar="NAME",
    help="Name under which a proxy on this machine passes requests on; may be repeated.",
)
_require_keys = click.option(
    "--require-keys/--no-keys",
    "require_keys",
    default=None,
    help="Whether each request needs a key, as `search keys create` makes it.  [default: unless only this machine "
    "can ask]",
)


@click.command()
@_host
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@_public_hosts
@click.option("--no-worker", is_flag=True, help="Start no worker: others run jobs, by `search worker`.")
@_require_keys
@click.option("--max-queued", type=click.IntRange(1), default=100, show_default=True, help="Jobs that may wait.")
@click.option(
    "--max-budget", type=click.IntRange(1), default=1000, show_default=True, help="Evaluations that one job may have."
)
@options.storage
@options.work
@_lease
@click.pass_obj
def serve(
    debug: bool,
    host: str,
    port: int,
    public_hosts: tuple[str, ...],
    no_worker: bool,
    require_keys: bool | None,
    max_queued: int,
    max_budget: int,
    storage: str | None,
    workers: int | None,
    ray_address: str | None,
    timeout_s: float | None,
    data_dir: str | None,
    stages: str | None,
    stages_limit: str | None,
    lease_s: float,
) -> None:
    """Answer `POST /optimize` over HTTP, and run the searches that are asked for."""
    with reported_errors(debug):
        import uvicorn

        from search.locations import storage_url
        from service.app import create_app
        from service.jobs import QueueLimits
        from service.settings import Settings

        url = storage_url(storage)
        required = _keys_required(url, host, public_hosts, require_keys)
        settings = Settings(
            storage=url,
            keys_required=required,
            queue=QueueLimits(all=max_queued, each=ceil(max_queued / 4) if required else max_queued),
            largest_budget=max_budget,
            hosts=_hosts(host, public_hosts),
        )
        app = create_app(settings)
        given = {
            "workers": workers,
            "ray_address": ray_address,
            "timeout_s": timeout_s,
            "data_dir": data_dir,
            "stages": stages,
            "stages_limit": stages_limit,
            "lease": lease_s,
        }
        listening = _listen(host, port)
        server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=5))
        with listening, _worker_beside(url, given) if not no_worker else nullcontext():
            click.echo(_address(host, listening), err=True)
            server.run(sockets=[listening])


@click.command()
@_host
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@_public_hosts
@_require_keys
@options.storage
@click.pass_obj
def dashboard(
    debug: bool, host: str, port: int, public_hosts: tuple[str, ...], require_keys: bool | None, storage: str | None
) -> None:
    """Show the searches in Optuna's dashboard, which changes nothing; a key is asked for as the password."""
    with reported_errors(debug):
        import uvicorn

        from search.locations import storage_url
        from service.dashboard import create_dashboard
        from service.settings import Settings

        url = storage_url(storage)
        settings = Settings(
            storage=url,
            keys_required=_keys_required(url, host, public_hosts, require_keys),
            hosts=_hosts(host, public_hosts),
        )
        app = create_dashboard(settings)
        with _listen(host, port) as listening:
            click.echo(f"{_address(host, listening)}/dashboard", err=True)
            uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=5)).run(sockets=[listening])


@click.command()
@options.storage
@options.work
@_lease
@click.option("--once", is_flag=True, help="End when no job waits.")
@click.option("--until-stdin-ends", is_flag=True, hidden=True)
@click.pass_obj
def worker(
    debug: bool,
    storage: str | None,
    once: bool,
    until_stdin_ends: bool,
    workers: int | None,
    ray_address: str | None,
    timeout_s: float | None,
    data_dir: str | None,
    stages: str | None,
    stages_limit: str | None,
    lease_s: float,
) -> None:
    """Run the searches that are asked for over HTTP, one after the other; start several to run several at once."""
    with reported_errors(debug):
        from search.locations import storage_url
        from service.jobs import JobStore
        from service.worker import Work, Worker

        url = storage_url(storage)
        work = Work(
            storage=url,
            workers=workers,
            data_dir=data_dir,
            stages=stages,
            stages_limit=stages_limit,
            ray_address=ray_address,
            timeout_s=timeout_s,
        )
        with JobStore.open(url) as jobs:
            running = Worker(jobs, work, lease_s=lease_s, told=lambda text: click.echo(f"worker: {text}", err=True))

            def end(*_: object) -> None:
                running.end()

            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, end)
            if until_stdin_ends:
                os.nice(10)  # answers come first, where a server is beside it

                def end_with_stdin() -> None:
                    sys.stdin.buffer.read()
                    running.end()

                threading.Thread(target=end_with_stdin, daemon=True).start()
            click.echo(f"worker: {running.name} waits for jobs", err=True)
            running.run(once=once)


@click.group()
def keys() -> None:
    """Who may ask over HTTP: keys with the scopes read, submit and admin, each including those before it."""


@keys.command("create")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(["read", "submit", "admin"]),
    default="submit",
    show_default=True,
    help="read: what is stored. submit: searches of their own. admin: everybody's jobs.",
)
@options.storage
@click.pass_obj
def create_key(debug: bool, name: str, scope: str, storage: str | None) -> None:
    """Make a key for the client NAME, and print it this once; only a digest of it is kept."""
    with reported_errors(debug), _keys(storage) as known:
        from service.keys import Scope

        click.echo(known.create(name, Scope[scope.upper()]))


@keys.command("list")
@options.storage
@click.pass_obj
def list_keys(debug: bool, storage: str | None) -> None:
    """List the keys, without their secrets."""
    with reported_errors(debug), _keys(storage) as known:
        for key in known.all():
            state = "good" if key.revoked_at is None else f"revoked {key.revoked_at:%Y-%m-%d}"
            click.echo(f"{key.name}\t{key.scope.name.lower()}\t{key.created_at:%Y-%m-%d}\t{state}")


@keys.command("revoke")
@click.argument("name")
@options.storage
@click.pass_obj
def revoke_key(debug: bool, name: str, storage: str | None) -> None:
    """Make the key of the client NAME useless."""
    with reported_errors(debug), _keys(storage) as known:
        known.revoke(name)


@click.group()
def db() -> None:
    """The results database."""


@db.command("upgrade")
@options.storage
@click.pass_obj
def upgrade(debug: bool, storage: str | None) -> None:
    """Bring the schema up to date, as every command does that opens the database; made if it is not there."""
    with reported_errors(debug):
        from search.engine import study_names
        from search.locations import storage_url, without_password
        from search.store.schema import SCHEMA, open_engine

        url = storage_url(storage)
        open_engine(url, create=True).dispose()
        study_names(url)  # makes Optuna's tables
        click.echo(f"{without_password(url)} has schema {SCHEMA}")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hosts(host: str, public: tuple[str, ...]) -> tuple[str, ...] | None:
    """The names that requests may ask by; None for any, where other machines can ask."""
    from service.settings import LOOPBACK

    return (*dict.fromkeys((*LOOPBACK, _in_url(host), *public)),) if _loopback(host) else None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _address(host: str, listening: socket.socket) -> str:
    return f"http://{_in_url(host)}:{listening.getsockname()[1]}"


def _keys_required(url: str, host: str, public: tuple[str, ...], asked: bool | None) -> bool:
    """Whether requests need a key: always where other machines can ask.

    Raises:
        UsageError: If they are to do without.
    """
    local = _loopback(host) and not public
    if asked is False and not local:
        given = f"--public-host {public[0]}" if public else f"--host {host}"
        raise UsageError(f"--no-keys with {given} would let everybody who reaches it ask; leave out one of the two")
    required = not local if asked is None else asked
    if required:
        with _keys(url) as known:
            if all(key.revoked_at is not None for key in known.all()):
                click.echo("nobody can ask yet; make a key with: search keys create NAME", err=True)
    return required


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        UsageError: If it cannot.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        advice = "; choose another --port" if error.errno == errno.EADDRINUSE else ""
        raise UsageError(f"cannot listen at {host}, port {port}: {os.strerror(error.errno or 0)}{advice}") from None


@contextmanager
def _worker_beside(url: str, given: dict[str, Any]) -> Iterator[None]:
    """Keep one worker running, as a process of its own; it ends with the block, or when this process is killed."""
    command = [sys.executable, "-m", *shlex.split(command_line(["search", "worker", "--until-stdin-ends"], given))]
    environment = {**os.environ, STORAGE_VARIABLE: url}  # which may have a password, and commands are seen by all
    ending = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        while not ending.is_set():
            try:  # in a process group of its own, so that Ctrl-C ends this process, which then ends the worker
                process = subprocess.Popen(  # noqa: S603
                    command, stdin=subprocess.PIPE, env=environment, process_group=0
                )
            except OSError as error:
                click.echo(f"no worker could be started: {error.strerror}", err=True)
            else:
                running[:] = [process]
                process.wait()
            ending.wait(2.0)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        for process in running:
            process.terminate()
        thread.join(timeout=30)


@contextmanager
def _keys(storage: str | None) -> Iterator[Any]:
    from search.locations import storage_url
    from search.store.schema import open_engine
    from service.keys import KeyStore

    url = storage_url(storage)
    engine = open_engine(url, create=True)
    try:
        yield KeyStore(url, engine)
    finally:
        engine.dispose()
