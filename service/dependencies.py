"""What requests share, and who may make them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.engine import Engine

from search.errors import StorageError
from search.store.schema import SCHEMA, open_engine, storage_errors, stored_schema
from search.store.store import Store
from service.answers import StoredAnswers
from service.jobs import JobStore
from service.keys import KeyStore, Scope
from service.limits import Streams
from service.problems import ProblemError
from service.settings import Settings
from service.uploads import Uploads

ANYBODY = "anybody"  # the client where no key is needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the application works with.

    Attributes:
        settings: How it runs.
        engine: To the results database.
        store: Searches and evaluations there.
        jobs: Searches that were asked for.
        keys: Of clients.
        uploads: What clients brought.
        answers: From stored results.
        streams: Clients that wait or follow jobs.
    """

    settings: Settings
    engine: Engine
    store: Store
    jobs: JobStore
    keys: KeyStore
    uploads: Uploads
    answers: StoredAnswers
    streams: Streams

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Open the database.

        Raises:
            StorageError: If it cannot be used.
        """
        engine = open_engine(settings.storage, create=True, patient=False)
        store = Store(settings.storage, engine)
        return cls(
            settings=settings,
            engine=engine,
            store=store,
            jobs=JobStore(settings.storage, engine),
            keys=KeyStore(settings.storage, engine),
            uploads=(uploads := Uploads(settings.storage, engine)),
            answers=StoredAnswers(store, engine, uploads),
            streams=Streams(settings.most_streams),
        )

    def schema(self) -> str:
        """The schema of the database, which is the one that this version knows.

        Raises:
            StorageError: If it has another by now, or cannot be read.
        """
        with storage_errors(self.settings.storage), self.engine.connect() as connection:
            found = stored_schema(connection)
        if found != SCHEMA:
            raise StorageError(f"the database has schema {found}, and this version needs {SCHEMA}; start it again")
        return SCHEMA

    def close(self) -> None:
        """Give back the database connections."""
        self.answers.close()
        self.engine.dispose()


async def services_of(request: Request) -> Services:
    """What the application works with."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]

_bearer = HTTPBearer(auto_error=False, description="A key, as `search keys create` makes it")
_BearerDep = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who makes a request.

    Attributes:
        name: Of their key.
        scope: What it allows.
    """

    name: str
    scope: Scope

    def needs(self, scope: Scope) -> None:
        """Refuse what the key does not allow.

        Raises:
            ProblemError: 403, if it does not.
        """
        if self.scope < scope:
            raise ProblemError(
                403, f"this needs a key with the scope {scope.name.lower()}; yours has {self.scope.name.lower()}"
            )


async def client_of(services: ServicesDep, bearer: _BearerDep) -> Client:
    """Who makes a request.

    Raises:
        ProblemError: 401, if a key is needed and there is none that is good.
    """
    if not services.settings.keys_required:
        return Client(name=ANYBODY, scope=Scope.ADMIN)
    challenge = {"WWW-Authenticate": "Bearer"}
    if bearer is None:
        raise ProblemError(401, "a key is needed: send it as Authorization: Bearer KEY", headers=challenge)
    key = await run_in_threadpool(services.keys.of_secret, bearer.credentials)
    if key is None:
        raise ProblemError(401, "this key is unknown or was revoked", headers=challenge)
    return Client(name=key.name, scope=key.scope)


ClientDep = Annotated[Client, Depends(client_of)]


def needs(scope: Scope) -> Callable[[Client], Awaitable[None]]:
    """A dependency that refuses clients without a scope."""

    async def check(client: ClientDep) -> None:
        client.needs(scope)

    return check
