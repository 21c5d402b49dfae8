"""Optuna's dashboard of the searches, read-only.

It has its own port, because its page requests /static and /api, and its own process, because it loads Optuna.
"""

from __future__ import annotations

import base64
import binascii

from a2wsgi import WSGIMiddleware
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from search.errors import StorageError
from service.database import Database
from service.keys import KeyStore
from service.limits import KnownHosts
from service.problems import database_lost, problem
from service.settings import Settings

_READS = ("GET", "HEAD")


def create_dashboard(settings: Settings) -> ASGIApp:
    """Create the application.

    Args:
        settings: Storage, keys and hosts; the rest is not used.

    Raises:
        StorageError: If the database cannot be used.
    """
    import optuna_dashboard

    from search.store.studies import open_optuna

    database = Database.open(settings.storage, patient=False)
    pages: ASGIApp = WSGIMiddleware(optuna_dashboard.wsgi(open_optuna(settings.storage)))  # type: ignore[assignment]
    guarded: ASGIApp = ReadOnly(pages)
    if settings.keys_required:
        guarded = KeyRequired(guarded, keys=KeyStore(database))
    if settings.hosts is not None:
        guarded = KnownHosts(guarded, hosts=settings.hosts)
    return guarded


class ReadOnly:
    """Rejects every request that could change something.

    Args:
        app: Application that receives all other requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request, or pass it on."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] != "http" or scope["method"] not in _READS:
            rejection = problem(405, "the dashboard is read-only", headers={"Allow": ", ".join(_READS)})
            await rejection(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class KeyRequired:
    """Rejects requests without a valid key, which a browser prompts for as a password.

    Args:
        app: Application that receives all other requests.
        keys: The clients' keys.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyStore) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request, or pass it on."""
        if scope["type"] == "http":
            secret = _secret(dict(scope["headers"]).get(b"authorization", b""))
            try:
                known = secret is not None and await run_in_threadpool(self._keys.of_secret, secret) is not None
            except StorageError:
                await database_lost()(scope, receive, send)
                return
            if not known:
                challenge = {"WWW-Authenticate": 'Basic realm="Crosslayer: any name, and a key as the password"'}
                await problem(401, "a key is needed, as the password", headers=challenge)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _secret(authorization: bytes) -> str | None:
    """The key in a header: the password of Basic (RFC 7617), or the token of Bearer."""
    scheme, _, rest = authorization.decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(rest.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return decoded.partition(":")[2]


async def _lifespan(receive: Receive, send: Send) -> None:
    """Acknowledge the startup and shutdown of the server."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
