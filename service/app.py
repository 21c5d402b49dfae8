"""The application: the API under /v1, `POST /optimize` also at the root, errors as problem+json."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from service import problems
from service.dependencies import Services
from service.limits import BodyLimit, KnownHosts
from service.routes import datasets, health, jobs, optimize, page, results
from service.settings import Settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Create the application.

    Args:
        settings: Its settings; by default for the database in $CROSSLAYER_STORAGE, else the file in the user's data
            folder, and for requests from this machine.

    Raises:
        StorageError: If the database cannot be used.
    """
    settings = settings or Settings.of(None)
    services = Services.open(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        services.close()

    app = FastAPI(
        title="Crosslayer",
        summary="The cheapest way to run an image classifier in approximate hardware at a given accuracy",
        version=version("crosslayer"),
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from other sites; openapi.json is enough
        redoc_url=None,
    )
    app.state.services = services
    app.include_router(optimize.router, prefix="/v1")
    app.include_router(optimize.router, include_in_schema=False)
    app.include_router(jobs.router, prefix="/v1")
    app.include_router(results.router, prefix="/v1")
    app.include_router(datasets.router, prefix="/v1")
    app.include_router(health.router)
    app.include_router(page.router)
    problems.install(app)
    app.add_middleware(
        BodyLimit, max_bytes=settings.max_body_bytes, streamed={"/v1/datasets": settings.max_upload_bytes}
    )
    if settings.hosts is not None:
        app.add_middleware(KnownHosts, hosts=settings.hosts)
    return app
