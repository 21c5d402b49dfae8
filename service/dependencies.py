"""Dependencies of the routes: the services behind the application, and the caller of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from search.errors import StorageError
from search.images.places import ImagePlaces
from search.store.database import Store
from search.store.schema import SCHEMA, storage_errors, stored_schema
from service.answers import StoredAnswers
from service.database import Database
from service.datasets import Datasets
from service.image_uploads import ImageUploads
from service.keys import KeyStore, Scope
from service.leases import Leases
from service.limits import Simultaneous
from service.problems import ProblemError
from service.queue import JobQueue
from service.settings import Settings
from service.uploads import Uploads

ANYBODY = "anybody"  # name of every caller where no key is needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The objects behind the application.

    Attributes:
        settings: Settings of the application.
        database: The results database.
        store: Searches and evaluations.
        queue: The job queue.
        leases: The workers and their leases.
        keys: Clients' keys.
        uploads: Uploaded hardware and multipliers.
        image_uploads: Uploaded images.
        datasets: The data sets that requests may name.
        answers: Answers from stored results.
        streams: Clients that wait for or follow jobs.
        uploading: Clients that upload images.
        reading: Lets one upload after the other be read, as that takes a processor.
    """

    settings: Settings
    database: Database
    store: Store
    queue: JobQueue
    leases: Leases
    keys: KeyStore
    uploads: Uploads
    image_uploads: ImageUploads
    datasets: Datasets
    answers: StoredAnswers
    streams: Simultaneous
    uploading: Simultaneous
    reading: CapacityLimiter

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Open the database.

        Raises:
            StorageError: If it cannot be used.
        """
        database = Database.open(settings.storage, patient=False)
        store = Store(settings.storage, database.engine)
        uploads, image_uploads = Uploads(database), ImageUploads(database)
        datasets = Datasets(image_uploads, store.tasks, ImagePlaces.at(image_dir=settings.image_dir).library)
        return cls(
            settings=settings,
            database=database,
            store=store,
            queue=JobQueue(database),
            leases=Leases(database),
            keys=KeyStore(database),
            uploads=uploads,
            image_uploads=image_uploads,
            datasets=datasets,
            answers=StoredAnswers(store, database, uploads, datasets),
            streams=Simultaneous(settings.max_streams, "clients are waiting for jobs", "poll the job instead"),
            uploading=Simultaneous(settings.max_uploads, "clients are uploading images", "try again later"),
            reading=CapacityLimiter(1),
        )

    def schema(self) -> str:
        """The schema version of the database, which is the one that this program needs.

        Raises:
            StorageError: If the database has a different schema by now, or cannot be read.
        """
        with storage_errors(self.settings.storage), self.database.engine.connect() as connection:
            found = stored_schema(connection)
        if found != SCHEMA:
            raise StorageError(f"the database has schema {found}, but this version needs {SCHEMA}; restart the service")
        return SCHEMA

    def close(self) -> None:
        """Close the database connections."""
        self.answers.close()
        self.database.close()


async def services_of(request: Request) -> Services:
    """The services behind the application of a request."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]

_bearer = HTTPBearer(auto_error=False, description="A key, created by `search keys create`")
_BearerDep = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The client who sent a request.

    Attributes:
        name: Name of the client's key.
        scope: What the key allows.
    """

    name: str
    scope: Scope

    def needs(self, scope: Scope) -> None:
        """Check that the key allows something.

        Raises:
            ProblemError: 403, if it does not.
        """
        if self.scope < scope:
            raise ProblemError(
                403, f"this needs a key with the scope {scope.name.lower()}; yours has {self.scope.name.lower()}"
            )


async def caller_of(services: ServicesDep, bearer: _BearerDep) -> Caller:
    """The client who sent a request.

    Raises:
        ProblemError: 401, if a key is needed and the request has no valid one.
    """
    if not services.settings.keys_required:
        return Caller(name=ANYBODY, scope=Scope.ADMIN)
    challenge = {"WWW-Authenticate": "Bearer"}
    if bearer is None:
        raise ProblemError(401, "a key is needed: send it as Authorization: Bearer KEY", headers=challenge)
    key = await run_in_threadpool(services.keys.of_secret, bearer.credentials)
    if key is None:
        raise ProblemError(401, "this key is unknown or was revoked", headers=challenge)
    return Caller(name=key.name, scope=key.scope)


CallerDep = Annotated[Caller, Depends(caller_of)]


def needs(scope: Scope) -> Callable[[Caller], Awaitable[None]]:
    """A dependency that rejects callers without a scope."""

    async def check(caller: CallerDep) -> None:
        caller.needs(scope)

    return check
