"""Jobs: start, list, follow, cancel, resume and delete searches."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from search.errors import StorageError
from service.checks import check_possible, question_of
from service.dependencies import Caller, CallerDep, Services, ServicesDep, needs
from service.jobs import Job, JobEvent, UnknownJobError
from service.keys import Scope
from service.limits import StrictRoute
from service.problems import ProblemError, responses
from service.questions import Question
from service.schemas import JobPage, JobQuery, JobSchema, OptimizeRequest, OptimizeResponse

_log = logging.getLogger(__name__)

_POLL_S = 0.3
_KEEP_ALIVE_S = 15.0

_RETRY_S = 5

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=StrictRoute)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Any text: requests with the same key and body create one job, however often they are sent",
    ),
]

ACCEPTED: dict[str, Any] = {
    "model": JobSchema,
    "description": "A search was started, or is already under way",
    "headers": {
        "Location": {"description": "The job", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds", "schema": {"type": "integer"}},
    },
}


@router.post(
    "",
    status_code=202,
    responses={202: ACCEPTED, **responses(400, 401, 403, 413, 415, 422, 429, 503)},
)
def create_job(
    request: Request,
    body: OptimizeRequest,
    services: ServicesDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a search, whatever is stored; its results are added to the stored ones."""
    caller.needs(Scope.SUBMIT)
    question = question_of(body, services, caller)
    job = submit(services, caller, question, idempotency_key)
    answer = services.answers.to(question)
    return accepted(
        request, job, caller, None if answer is None else OptimizeResponse.model_validate_json(answer.content)
    )


@router.get("", responses=responses(401, 403, 422, 503), dependencies=[Depends(needs(Scope.READ))])
def list_jobs(
    request: Request, services: ServicesDep, caller: CallerDep, query: Annotated[JobQuery, Query()]
) -> JobPage:
    """Jobs, newest first."""
    before = None if query.cursor is None else int(query.cursor)
    found = services.queue.jobs(before=before, limit=query.limit + 1, state=query.state)
    page = found[: query.limit]
    return JobPage(
        jobs=[job_json(request, job, caller) for job in page],
        next=str(page[-1].number) if len(found) > query.limit else None,
    )


@router.get("/{job_id}", responses=responses(401, 403, 404, 422, 503), dependencies=[Depends(needs(Scope.READ))])
def get_job(request: Request, services: ServicesDep, caller: CallerDep, job_id: str) -> JobSchema:
    """The state of a job."""
    return job_json(request, services.queue.find(job_id), caller)


@router.post(
    "/{job_id}/cancel", responses=responses(401, 403, 404, 409, 422, 503), dependencies=[Depends(needs(Scope.SUBMIT))]
)
def cancel_job(request: Request, services: ServicesDep, caller: CallerDep, job_id: str) -> JobSchema:
    """Cancel a job. Its evaluations are kept, and it can be resumed."""
    _check_owner(services, caller, job_id)
    return job_json(request, services.queue.cancel(job_id), caller)


@router.post(
    "/{job_id}/resume",
    responses=responses(401, 403, 404, 409, 422, 429, 503),
    dependencies=[Depends(needs(Scope.SUBMIT))],
)
def resume_job(request: Request, services: ServicesDep, caller: CallerDep, job_id: str) -> JobSchema:
    """Put a failed or cancelled job back in the queue; it resumes where it stopped."""
    _check_owner(services, caller, job_id)
    return job_json(request, services.queue.resume(job_id, limits=services.settings.queue), caller)


@router.delete(
    "/{job_id}",
    status_code=204,
    responses=responses(401, 403, 404, 409, 422, 503),
    dependencies=[Depends(needs(Scope.SUBMIT))],
)
def delete_job(services: ServicesDep, caller: CallerDep, job_id: str) -> Response:
    """Delete a job that has ended. The results of its search are kept."""
    _check_owner(services, caller, job_id)
    services.queue.delete(job_id)
    return Response(status_code=204)


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events: `state`, `search`, `plan`, `evaluated`, `failed`, `testing`, "
            "`confirming`, `note` and `answer`, each with JSON; the stream ends with the job",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The job has ended, and that event was its last; browsers do not reconnect"},
        **responses(401, 403, 404, 422, 503),
    },
    dependencies=[Depends(needs(Scope.READ))],
)
async def job_events(
    services: ServicesDep,
    job_id: str,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", max_length=9, description="Only events after this number"),
    ] = None,
) -> Response:
    """The events of a job as they happen, from the beginning or from where the client was disconnected."""
    after = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else 0
    job = await run_in_threadpool(services.queue.find, job_id)
    if job.state.ended and after >= job.last_event:
        return Response(status_code=204)
    services.streams.check()
    return StreamingResponse(
        _follow(services, job, min(after, job.last_event)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache"},
    )


async def _follow(services: Services, job: Job, after: int) -> AsyncIterator[str]:
    """The events of a job as text, until it has ended."""
    quiet_s = 0.0
    with services.streams.one():
        yield "retry: 2000\n\n"
        while True:
            try:
                events = await run_in_threadpool(services.queue.events, job, after=after)
                if not events:
                    job = await run_in_threadpool(services.queue.find, job.id)
            except UnknownJobError:  # it was deleted
                return
            except StorageError as error:  # too late for an error response; the client will reconnect from here
                _log.error("%s", error)
                return
            for event in events:
                yield _as_text(event)
                after, quiet_s = event.number, 0.0
            if events:
                continue
            if job.state.ended and after >= job.last_event:
                return
            if quiet_s >= _KEEP_ALIVE_S:
                quiet_s = 0.0
                yield ": keep-alive\n\n"
            await asyncio.sleep(_POLL_S)
            quiet_s += _POLL_S


def _as_text(event: JobEvent) -> str:
    data = {**event.data, "at": event.created_at.isoformat(timespec="milliseconds") + "Z"}
    return f"id: {event.number}\nevent: {event.kind}\ndata: {json.dumps(data)}\n\n"


def accepted(request: Request, job: Job, caller: Caller, best_known: OptimizeResponse | None) -> Response:
    """The response with a job that was submitted."""
    content = job_json(request, job, caller).model_copy(update={"best_known": best_known})
    headers = {"Location": content.links["self"], "Retry-After": str(_RETRY_S)}
    return JSONResponse(content.model_dump(mode="json"), 202, headers)


def submit(services: Services, caller: Caller, question: Question, idempotency_key: str | None) -> Job:
    """Put a question in the queue.

    Raises:
        UsageError: If no search can answer it.
        QueueFullError: If the maximum number of jobs is waiting.
        IdempotencyError: If the key was used for a different question.
    """
    check_possible(question, services)
    job, _ = services.queue.submit(
        question,
        client=caller.name,
        limits=services.settings.queue,
        idempotency_key=idempotency_key,
    )
    return job


def job_json(request: Request, job: Job, caller: Caller) -> JobSchema:
    """A job as clients see it."""
    here = request.app.url_path_for("get_job", job_id=job.id)
    return JobSchema(
        id=job.id,
        state=job.state,
        cancelling=job.cancelling,
        request=OptimizeRequest.model_validate(job.question.to_dict()),
        evaluations=job.evaluations,
        search=job.search_name,
        confirmed=job.confirmed,
        error=job.error,
        may_change=_may_change(caller, job),
        created_at=job.created_at.replace(tzinfo=UTC),
        started_at=_utc(job.started_at),
        ended_at=_utc(job.ended_at),
        links={"self": here, "events": f"{here}/events", "cancel": f"{here}/cancel", "resume": f"{here}/resume"},
    )


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)


def _check_owner(services: Services, caller: CallerDep, job_id: str) -> None:
    """Check that a job is the caller's own, unless the caller is an administrator.

    Raises:
        ProblemError: 403, if it is not.
    """
    if not _may_change(caller, services.queue.find(job_id)):
        raise ProblemError(403, "this job is another client's; changing it requires a key with the scope admin")


def _may_change(caller: Caller, job: Job) -> bool:
    return caller.scope >= Scope.ADMIN or (caller.scope >= Scope.SUBMIT and job.client == caller.name)
