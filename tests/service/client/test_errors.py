"""Both clients against a server that breaks off, is busy, or sends wrong responses."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from service.client import ClientError, Event, JobDeletedError, JobFailedError, ServiceError, UnreachableError
from service.client.errors import Retries
from service.schemas import Problem
from tests.support.scripted_server import ASKED, BUSY, CUT, JOB, NONE, Do, Reply, Script, awaited, event, stream

pytestmark = pytest.mark.usefixtures("pauses")


def test_transient_errors_are_retried(script: Script, do: Do, pauses: list[float]) -> None:
    soon = Reply(BUSY.content, 503, {"Retry-After": "7"})
    script.replies = [CUT, soon, Reply(status=429), Reply([])]
    assert do(script.url, lambda client: client.datasets(), retries=5) == []
    assert pauses == [0.5, 7.0, 2.0]
    assert len(script.asked) == 4


@pytest.mark.parametrize(("reply", "error"), [(CUT, UnreachableError), (BUSY, ServiceError)])
def test_but_not_for_ever(script: Script, do: Do, reply: Reply, error: type[Exception]) -> None:
    script.replies = [reply] * 9
    with pytest.raises(error, match=f"no response from {script.url}: Server disconnected|503: not now"):
        do(script.url, lambda client: client.job("j"))
    assert len(script.asked) == 4
    with pytest.raises(error):
        do(script.url, lambda client: client.job("j"), retries=0)
    assert len(script.asked) == 5


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_transient_statuses(script: Script, do: Do, status: int) -> None:
    script.replies = [Reply(b"<h1>busy</h1>", status), Reply([])]
    assert do(script.url, lambda client: client.hardware()) == []


def test_a_response_may_take_its_time(script: Script, do: Do) -> None:
    script.replies = [Reply(JOB, 202, after_s=0.3), Reply(JOB, after_s=0.3), Reply(JOB)]
    assert do(script.url, lambda client: client.ask(ASKED, wait_s=9), timeout_s=0.1, retries=0).id == "j"
    assert do(script.url, lambda client: client.job("j"), timeout_s=0.1).id == "j"
    assert len(script.asked) == 3


def test_a_pause_that_is_too_long_is_not_made(script: Script, do: Do) -> None:
    script.replies = [Reply(BUSY.content, 503, {"Retry-After": "3600"})]
    with pytest.raises(ServiceError) as caught:
        do(script.url, lambda client: client.job("j"))
    assert caught.value.retry_after_s == 3600
    assert len(script.asked) == 1


def test_pauses_grow_to_ten_seconds(pauses: list[float]) -> None:
    retries = Retries(10)
    while retries.pause_s(UnreachableError()) is not None:
        pass
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10, 10, 10, 10]


@pytest.mark.parametrize("reply", [CUT, BUSY])
@pytest.mark.parametrize(
    "operation",
    [
        lambda client: client.cancel("j"),
        lambda client: client.resume("j"),
        lambda client: client.health(),
        lambda client: client.readiness(),
        lambda client: client.metrics(),
    ],
)
def test_operations_that_are_not_repeated(
    script: Script, do: Do, operation: Callable[[Any], Any], reply: Reply
) -> None:
    script.replies = [reply, Reply(JOB)]
    with pytest.raises(ClientError):
        do(script.url, operation)
    assert len(script.asked) == 1


@pytest.mark.parametrize("status", [307, 400, 401, 404, 422, 500])
def test_permanent_statuses(script: Script, do: Do, status: int) -> None:
    script.replies = [Reply(NONE, status), Reply(JOB)]
    with pytest.raises(ServiceError, match=f"{status}: there is no job 'j'"):
        do(script.url, lambda client: client.job("j"))
    assert len(script.asked) == 1


def test_a_search_is_started_once(script: Script, do: Do) -> None:
    script.replies = [CUT, Reply(JOB, 202), Reply(JOB, 202), Reply(JOB, 202), CUT, Reply(JOB, 202)]
    do(script.url, lambda client: client.search(ASKED))
    do(script.url, lambda client: client.search(ASKED))
    do(script.url, lambda client: client.search(ASKED, idempotency_key="mine"))
    do(script.url, lambda client: client.ask(ASKED))
    keys = [one.headers["idempotency-key"] for one in script.asked]
    assert keys[0] == keys[1]
    assert keys[3] == "mine"
    assert keys[4] == keys[5]
    assert len(set(keys)) == 4
    assert len(keys[0]) >= 32


def test_deleted_without_an_answer(script: Script, do: Do) -> None:
    script.replies = [CUT, Reply(NONE, 404)]
    do(script.url, lambda client: client.delete("j"))
    with pytest.raises(ServiceError, match="404"):
        do(script.url, lambda client: client.delete("j"))


def test_events_resume_where_they_were_cut(script: Script, do: Do) -> None:
    script.replies = [
        stream(event(1, "state", state="queued"), event(2), event(3)[:-1], cut=True),
        BUSY,
        CUT,
        stream(event(3)),  # ended properly, as by a proxy
        Reply(JOB),
        stream(event(4, "state", state="finished")),
    ]
    seen = do(script.url, lambda client: client.events("j"))
    assert [one.number for one in seen] == [1, 2, 3, 4]
    asked = [one.headers.get("last-event-id") for one in script.asked if one.path.endswith("/events")]
    assert asked == [None, "2", "2", "2", "3"]


def test_events_of_a_job_that_was_resumed(script: Script, do: Do) -> None:
    before = [event(1, "state", state="queued"), event(2, "state", state="cancelled")]
    script.replies = [
        stream(*before, cut=True),
        stream(event(3, "state", state="queued"), event(4, "state", state="finished")),
    ]
    assert len(do(script.url, lambda client: client.events("j"))) == 4


def test_events_that_end_before_the_end_of_the_job(script: Script, do: Do) -> None:
    finished = Reply({**JOB, "state": "finished"})
    script.replies = [
        stream(),
        Reply(JOB),
        stream(event(1)),
        finished,
        stream(event(2, "state", state="finished")),
    ]
    assert len(do(script.url, lambda client: client.events("j"))) == 2
    script.replies = [stream(event(8)), finished, stream(), finished]
    assert len(do(script.url, lambda client: client.events("j", after=7))) == 1


def test_events_that_are_all_known(script: Script, do: Do) -> None:
    script.replies = [stream(), Reply({**JOB, "state": "finished"})]
    assert do(script.url, lambda client: client.events("j", after=9)) == []
    assert script.asked[0].headers["last-event-id"] == "9"


def test_events_are_not_waited_for_for_ever(script: Script, do: Do) -> None:
    alive = stream(": keep-alive\n\n", cut=True)
    script.replies = [*[stream(cut=True)] * 9, alive, *[stream(cut=True)] * 20]
    with pytest.raises(UnreachableError, match="no response from"):
        do(script.url, lambda client: client.events("j"))
    assert len(script.asked) == 20  # nine failures, then ten more after a sign of life


@pytest.mark.parametrize("cut", [True, False])
def test_a_job_that_is_deleted_while_it_is_followed(script: Script, do: Do, cut: bool) -> None:
    script.replies = [stream(event(1, "state", state="queued"), cut=cut), Reply(NONE, 404)]
    with pytest.raises(JobDeletedError, match="job j was deleted while it was followed") as caught:
        do(script.url, lambda client: client.events("j"))
    assert caught.value.job_id == "j"
    with pytest.raises(ServiceError, match="404: there is no job 'j'"):
        do(script.url, lambda client: client.events("j"))
    script.replies = [Reply(JOB, 202), stream(event(1), cut=cut), Reply(NONE, 404)]
    with pytest.raises(JobDeletedError):
        do(script.url, lambda client: client.optimize("digits", min_accuracy=0.9))


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ({"state": "failed", "error": "the disk is full"}, "job j failed: the disk is full"),
        ({"state": "cancelled"}, "job j cancelled: somebody cancelled it"),
    ],
)
def test_a_job_without_an_answer(script: Script, do: Do, end: Mapping[str, object], text: str) -> None:
    ended = {**JOB, **end}
    script.replies = [Reply(JOB, 202), stream(event(1, "state", **end)), Reply(ended)]
    seen: list[Event] = []
    with pytest.raises(JobFailedError, match=text) as caught:
        do(script.url, lambda client: client.optimize("digits", min_accuracy=0.9, on_event=seen.append))
    assert caught.value.job.state == end["state"]
    assert [one.kind for one in seen] == ["state"]
    script.replies = [Reply(ended, 202)]
    with pytest.raises(JobFailedError, match=text):
        do(script.url, lambda client: client.optimize("digits", min_accuracy=0.9))


def test_a_job_that_finishes_without_an_answer(script: Script, do: Do) -> None:
    finished = {**JOB, "state": "finished"}
    end = stream(event(1, "state", state="finished"))
    script.replies = [Reply(JOB, 202), end, Reply(finished), Reply(finished, 202)]
    with pytest.raises(JobFailedError, match="job j finished: the service has no answer"):
        do(script.url, lambda client: client.optimize("digits", min_accuracy=0.9))
    first, *_, last = script.asked
    assert first.headers["idempotency-key"] == last.headers["idempotency-key"]


def test_coroutines_are_called_with_events(script: Script) -> None:
    seen: list[int] = []

    async def record(one: Event) -> None:
        await asyncio.sleep(0)
        seen.append(one.number)

    script.replies = [Reply(JOB, 202), stream(event(1), event(2, "state", state="failed"))]
    with pytest.raises(ServiceError):
        awaited(script.url, lambda client: client.optimize("digits", min_accuracy=0.9, on_event=record))
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(b"<h1>hello</h1>"), "200: this client cannot read the response to GET http://[^ ]*/v1/jobs/j: .*JSON"),
        (Reply({**JOB, "state": "dreaming"}), "/v1/jobs/j: state Input should be 'queued'"),
        (Reply(b"<h1>no</h1>", 500), "500: <h1>no</h1>"),
        (Reply(b"", 500), "500: Internal Server Error"),
    ],
)
def test_responses_that_are_not_of_the_service(script: Script, do: Do, reply: Reply, text: str) -> None:
    script.replies = [reply]
    with pytest.raises(ServiceError, match=text):
        do(script.url, lambda client: client.job("j"))


def test_errors_say_where() -> None:
    errors = [{"pointer": "#/dataset", "detail": "unknown"}, {"pointer": "#/budget", "detail": "too much"}]
    problem = Problem.model_validate({"title": "", "status": 422, "detail": "#/budget: too much", "errors": errors})
    assert str(ServiceError(422, problem)) == "422: #/budget: too much (at #/dataset)"
