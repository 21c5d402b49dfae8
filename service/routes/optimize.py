"""`POST /optimize`: the cheapest configuration for a target, at once if it is known, else by a search."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.asking import names_uploads, question_of
from service.dependencies import ClientDep, Services, ServicesDep
from service.jobs import Job, JobState
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
    asked: OptimizeRequest,
    services: ServicesDep,
    client: ClientDep,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """The cheapest stored configuration for a target that fresh runs confirm.

    If none is confirmed yet, a search for it is put in the queue: 202, with what is known so far. A search that was
    made to its end and found none is not made again: its answer says that it is not confirmed.
    """
    if names_uploads(asked):
        question = await run_in_threadpool(question_of, asked, services)
    else:
        question = question_of(asked, services)
    if idempotency_key is not None:
        await run_in_threadpool(
            services.jobs.asked_before, question, client=client.name, idempotency_key=idempotency_key
        )
    known, answer = services.answers.kept(question)
    if not known:
        answer = await run_in_threadpool(services.answers.to, question)
    if answer is not None and (answer.confirmed or await run_in_threadpool(_searched, services, question)):
        return Response(answer.content, media_type="application/json")
    client.needs(Scope.SUBMIT)
    job = await run_in_threadpool(submit, services, client, question, idempotency_key)
    seconds = _wait_of(prefer, services.settings.longest_wait_s)
    if seconds:
        services.streams.check()
        with services.streams.one():
            job = await _ended(request, services, job, seconds)
    answer = await run_in_threadpool(services.answers.to, question)
    if job.state is JobState.FINISHED and answer is not None:
        return Response(answer.content, media_type="application/json", headers=_applied(prefer))
    return accepted(
        request, job, client, None if answer is None else OptimizeResponse.model_validate_json(answer.content)
    )


async def _ended(request: Request, services: Services, job: Job, seconds: float) -> Job:
    """A job once it has ended, or after so long, or once its client is gone."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not job.state.ended and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_POLL_S)
        if await request.is_disconnected():
            break
        job = await run_in_threadpool(services.jobs.find, job.id)
    return job


def _searched(services: Services, question: Question) -> bool:
    """Whether a search for exactly this was made to its end."""
    return services.jobs.newest(question, JobState.FINISHED) is not None


def _wait_of(prefer: str | None, longest: float) -> float:
    """The seconds that a client would wait; what else it prefers is ignored, as RFC 7240 has it."""
    found = re.search(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:[,;]|$)", prefer or "", re.IGNORECASE)
    return min(float(found[1]), longest) if found else 0.0


def _applied(prefer: str | None) -> dict[str, str]:
    return {"Preference-Applied": "wait"} if prefer else {}
