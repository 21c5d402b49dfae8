"""Liveness, readiness and metrics."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Depends, Response

from service.dependencies import ServicesDep, needs
from service.keys import Scope
from service.problems import responses
from service.schemas import Health, Readiness

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz(services: ServicesDep) -> Health:
    """Whether the process responds, and its version."""
    return Health(status="ok", version=version("crosslayer"), keys_required=services.settings.keys_required)


@router.get("/readyz", responses=responses(503))
def readyz(services: ServicesDep) -> Readiness:
    """Whether the database responds, and the number of workers."""
    schema = services.schema()
    workers = services.leases.workers()
    return Readiness(status="ready" if workers else "degraded", database="ok", workers=workers, schema_version=schema)


@router.get(
    "/metrics",
    dependencies=[Depends(needs(Scope.READ))],
    response_class=Response,
    responses={
        200: {"description": "Prometheus text format", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **responses(401, 403, 503),
    },
)
def metrics(services: ServicesDep) -> Response:
    """Numbers of jobs, workers and stored evaluations, for Prometheus."""
    evaluations, confirmations, _ = services.store.revision()
    lines = [
        "# HELP crosslayer_jobs Jobs by state.",
        "# TYPE crosslayer_jobs gauge",
        *(f'crosslayer_jobs{{state="{state}"}} {count}' for state, count in services.queue.counts().items()),
        "# HELP crosslayer_workers Workers that gave a sign of life in the last 30 seconds.",
        "# TYPE crosslayer_workers gauge",
        f"crosslayer_workers {services.leases.workers()}",
        "# HELP crosslayer_evaluations Stored evaluations.",
        "# TYPE crosslayer_evaluations gauge",
        f"crosslayer_evaluations {evaluations}",
        "# HELP crosslayer_confirmation_runs Stored fresh runs.",
        "# TYPE crosslayer_confirmation_runs gauge",
        f"crosslayer_confirmation_runs {confirmations}",
        "",
    ]
    return Response("\n".join(lines), media_type="text/plain; version=0.0.4; charset=utf-8")
