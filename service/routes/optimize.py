"""`POST /optimize`: the cheapest configuration for a target, at once if it is stored, else by a search."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.checks import may_name_uploads, question_of
from service.dependencies import CallerDep, Services, ServicesDep
from service.job_state import JobState
from service.jobs import Job
from service.keys import Scope
from service.limits import StrictRoute
from service.problems import responses
from service.questions import Question
from service.routes.jobs import ACCEPTED, IdempotencyKey, accepted, submit
from service.schemas import OptimizeRequest, OptimizeResponse

_POLL_S = 0.25

router = APIRouter(tags=["optimize"], route_class=StrictRoute)

Prefer = Annotated[
    str | None, Header(max_length=200, description="`wait=N` waits up to N seconds for a confirmed answer (RFC 7240)")
]


@router.post(
    "/optimize",
    response_model=OptimizeResponse,
    responses={
        202: ACCEPTED,
        **responses(400, 401, 403, 413, 415, 422, 429, 503),
    },
)
async def optimize(
    request: Request,
    body: OptimizeRequest,
    services: ServicesDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """The cheapest stored configuration that reaches a target and is confirmed by fresh runs.

    If none is confirmed yet, a search for it is put in the queue, and the response is 202 with the best stored answer.
    A search that was completed without success is not repeated: its answer is marked as not confirmed.
    """
    if may_name_uploads(body):
        question = await run_in_threadpool(question_of, body, services, caller)
    else:
        question = question_of(body, services, caller)
    if idempotency_key is not None:
        await run_in_threadpool(
            services.queue.check_idempotency, question, client=caller.name, idempotency_key=idempotency_key
        )
    cached, answer = services.answers.cached(question)
    if not cached:
        answer = await run_in_threadpool(services.answers.to, question)
    if answer is not None and (answer.confirmed or await run_in_threadpool(_searched, services, question)):
        return Response(answer.content, media_type="application/json")
    caller.needs(Scope.SUBMIT)
    job = await run_in_threadpool(submit, services, caller, question, idempotency_key)
    wait_s = _wait_s(prefer, services.settings.max_wait_s)
    if wait_s:
        services.streams.check()
        with services.streams.one():
            job = await _ended(request, services, job, wait_s)
    answer = await run_in_threadpool(services.answers.to, question)
    if job.state is JobState.FINISHED and answer is not None:
        return Response(answer.content, media_type="application/json", headers=_applied(prefer))
    return accepted(
        request, job, caller, None if answer is None else OptimizeResponse.model_validate_json(answer.content)
    )


async def _ended(request: Request, services: Services, job: Job, wait_s: float) -> Job:
    """A job, as soon as it has ended, the time has passed, or the client has disconnected."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while not job.state.ended and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_POLL_S)
        if await request.is_disconnected():
            break
        job = await run_in_threadpool(services.queue.find, job.id)
    return job


def _searched(services: Services, question: Question) -> bool:
    """Whether a search for exactly this question was completed."""
    return services.queue.newest(question, JobState.FINISHED) is not None


def _wait_s(prefer: str | None, longest: float) -> float:
    """The seconds that a client prefers to wait; its other preferences are ignored, as RFC 7240 allows."""
    found = re.search(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:[,;]|$)", prefer or "", re.IGNORECASE)
    return min(float(found[1]), longest) if found else 0.0


def _applied(prefer: str | None) -> dict[str, str]:
    return {"Preference-Applied": "wait"} if prefer else {}
