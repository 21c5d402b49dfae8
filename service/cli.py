"""The commands of the service: `search serve`, `search worker`, `search dashboard`, `search keys`, `search db`."""

from __future__ import annotations

import errno
import ipaddress
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from math import ceil
from typing import TYPE_CHECKING

import click

from search.cli import options
from search.cli.command_line import command_line
from search.cli.errors import reported_errors
from search.errors import UsageError

if TYPE_CHECKING:
    from service.keys import KeyStore

_lease = click.option(
    "--lease",
    "lease_s",
    type=click.FloatRange(1),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="Time without a sign of life after which another worker takes a job over.",
)
_host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
_public_hosts = click.option(
    "--public-host",
    "public_hosts",
    multiple=True,
    metavar="NAME",
    help="Host name for which a proxy on this machine forwards requests; may be repeated.",
)
_require_keys = click.option(
    "--require-keys/--no-keys",
    "require_keys",
    default=None,
    help="Whether each request needs a key, created by `search keys create`.  [default: unless only this machine "
    "can connect]",
)


@click.command()
@_host
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@_public_hosts
@click.option("--no-worker", is_flag=True, help="Do not start a worker; jobs wait for `search worker`.")
@_require_keys
@click.option("--max-queued", type=click.IntRange(1), default=100, show_default=True, help="Most jobs that may wait.")
@click.option(
    "--max-budget", type=click.IntRange(1), default=1000, show_default=True, help="Largest budget of one job."
)
@click.option("--max-upload", default="200MB", show_default=True, metavar="SIZE", help="Largest upload of images.")
@click.option(
    "--max-unpacked", default="1GB", show_default=True, metavar="SIZE", help="Its largest size once it is decompressed."
)
@options.workplace()
@_lease
@click.pass_context
def serve(
    context: click.Context,
    host: str,
    port: int,
    public_hosts: tuple[str, ...],
    no_worker: bool,
    require_keys: bool | None,
    max_queued: int,
    max_budget: int,
    max_upload: str,
    max_unpacked: str,
    lease_s: float,
) -> None:
    """Serve the API and the web page over HTTP, and run the requested searches."""
    with reported_errors(context.obj):
        import uvicorn

        from search.locations import size_bytes
        from service.app import create_app
        from service.database import once_reachable
        from service.queue import QueueLimits
        from service.settings import Settings
        from service.worker_process import worker_process

        workplace = options.workplace_of(context)
        url = workplace.url
        required = once_reachable(lambda: _keys_required(url, host, public_hosts, require_keys), log=_warn)
        settings = Settings(
            storage=url,
            keys_required=required,
            queue=QueueLimits(total=max_queued, per_client=ceil(max_queued / 4) if required else max_queued),
            max_budget=max_budget,
            max_upload_bytes=size_bytes(max_upload, "max_upload"),
            max_unpacked_bytes=size_bytes(max_unpacked, "max_unpacked"),
            image_dir=workplace.images.library.folder,
            hosts=_hosts(host, public_hosts),
        )
        app = once_reachable(lambda: create_app(settings), log=_warn)
        worker_options = {**asdict(replace(workplace, storage=None)), "lease": lease_s}
        worker_words = ["search", "worker", "--until-stdin-ends"]
        command = [sys.executable, "-m", *shlex.split(command_line(worker_words, worker_options))]
        listening = _listen(host, port)
        server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=5))
        with listening, worker_process(url, command) if not no_worker else nullcontext():
            click.echo(_address(host, listening), err=True)
            server.run(sockets=[listening])


@click.command()
@_host
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@_public_hosts
@_require_keys
@options.workplace("storage")
@click.pass_context
def dashboard(
    context: click.Context, host: str, port: int, public_hosts: tuple[str, ...], require_keys: bool | None
) -> None:
    """Serve Optuna's dashboard of the searches, read-only; if keys are needed, enter one as the password."""
    with reported_errors(context.obj):
        import uvicorn

        from service.dashboard import create_dashboard
        from service.database import once_reachable
        from service.settings import Settings

        url = options.workplace_of(context).url
        settings = Settings(
            storage=url,
            keys_required=once_reachable(lambda: _keys_required(url, host, public_hosts, require_keys), log=_warn),
            hosts=_hosts(host, public_hosts),
        )
        app = once_reachable(lambda: create_dashboard(settings), log=_warn)
        with _listen(host, port) as listening:
            click.echo(f"{_address(host, listening)}/dashboard", err=True)
            uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=5)).run(sockets=[listening])


@click.command()
@options.workplace()
@_lease
@click.option("--once", is_flag=True, help="End when no job is waiting.")
@click.option("--until-stdin-ends", is_flag=True, hidden=True)
@click.pass_context
def worker(context: click.Context, once: bool, until_stdin_ends: bool, lease_s: float) -> None:
    """Run searches requested over HTTP, one at a time; start several workers to run several at once."""
    with reported_errors(context.obj):
        from service.database import Database, once_reachable
        from service.worker import Worker

        url = options.workplace_of(context).url
        workplace = replace(options.workplace_of(context), storage=url)

        def log(text: str) -> None:
            click.echo(f"worker: {text}", err=True)

        with once_reachable(lambda: Database.open(url), log=log) as database:
            running = Worker(database, workplace, lease_s=lease_s, log=log)

            def end(*_: object) -> None:
                running.end()

            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, end)
            if until_stdin_ends:
                os.nice(10)  # the server beside it takes precedence

                def end_with_stdin() -> None:
                    sys.stdin.buffer.read()
                    running.end()

                threading.Thread(target=end_with_stdin, daemon=True).start()
            log(f"{running.name} is waiting for jobs")
            running.run(once=once)


@click.group()
def keys() -> None:
    """Manage clients' keys, with the scopes read, submit and admin, each including those before it."""


@keys.command("create")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(["read", "submit", "admin"]),
    default="submit",
    show_default=True,
    help="read: stored results. submit: also start searches and change own jobs. admin: also change all jobs.",
)
@options.workplace("storage")
@click.pass_context
def create_key(context: click.Context, name: str, scope: str) -> None:
    """Create a key for the client NAME and print it, which is not possible again: only a digest is stored."""
    with reported_errors(context.obj), _keys(options.workplace_of(context).url) as stored:
        from service.keys import Scope

        click.echo(stored.create(name, Scope[scope.upper()]))


@keys.command("list")
@options.workplace("storage")
@click.pass_context
def list_keys(context: click.Context) -> None:
    """List the keys, without their secrets."""
    with reported_errors(context.obj), _keys(options.workplace_of(context).url) as stored:
        for key in stored.all():
            state = "valid" if key.revoked_at is None else f"revoked {key.revoked_at:%Y-%m-%d}"
            click.echo(f"{key.name}\t{key.scope.name.lower()}\t{key.created_at:%Y-%m-%d}\t{state}")


@keys.command("revoke")
@click.argument("name")
@options.workplace("storage")
@click.pass_context
def revoke_key(context: click.Context, name: str) -> None:
    """Revoke the key of the client NAME."""
    with reported_errors(context.obj), _keys(options.workplace_of(context).url) as stored:
        stored.revoke(name)


@click.group()
def db() -> None:
    """Manage the results database."""


@db.command("upgrade")
@options.workplace("storage")
@click.pass_context
def upgrade(context: click.Context) -> None:
    """Create the database if it does not exist, and bring its schema up to date, as all commands do."""
    with reported_errors(context.obj):
        from search.locations import without_password
        from search.store.schema import SCHEMA, open_engine
        from search.store.studies import study_names

        url = options.workplace_of(context).url
        open_engine(url, create=True).dispose()
        study_names(url)  # makes Optuna's tables
        click.echo(f"{without_password(url)} has schema {SCHEMA}")


def _warn(text: str) -> None:
    click.echo(text, err=True)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hosts(host: str, public: tuple[str, ...]) -> tuple[str, ...] | None:
    """The host names that requests may use; None for any, where other machines can connect."""
    from service.settings import LOOPBACK

    return (*dict.fromkeys((*LOOPBACK, _in_url(host), *public)),) if _loopback(host) else None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _address(host: str, listening: socket.socket) -> str:
    return f"http://{_in_url(host)}:{listening.getsockname()[1]}"


def _keys_required(url: str, host: str, public: tuple[str, ...], requested: bool | None) -> bool:
    """Whether requests need a key, which they always do where other machines can connect.

    Raises:
        UsageError: If that was declined.
    """
    local = _loopback(host) and not public
    if requested is False and not local:
        given = f"--public-host {public[0]}" if public else f"--host {host}"
        raise UsageError(f"--no-keys with {given} would give access to everybody who can connect; omit one of the two")
    required = not local if requested is None else requested
    if required:
        with _keys(url) as stored:
            if all(key.revoked_at is not None for key in stored.all()):
                click.echo("no keys exist yet; create one with: search keys create NAME", err=True)
    return required


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Raises:
        UsageError: If it cannot.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        advice = "; choose another --port" if error.errno == errno.EADDRINUSE else ""
        raise UsageError(f"cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}{advice}") from None


@contextmanager
def _keys(url: str) -> Iterator[KeyStore]:
    from service.database import Database
    from service.keys import KeyStore

    with Database.open(url) as database:
        yield KeyStore(database)
