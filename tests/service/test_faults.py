"""Both clients against a server that breaks off, is busy, or answers what it should not."""

import asyncio
import inspect
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import pytest

from service.app import create_app
from service.client import (
    AsyncClient,
    Client,
    ClientError,
    Event,
    JobDeletedError,
    JobFailedError,
    ServiceError,
    UnreachableError,
)
from service.faults import Retries
from service.operations import Operations
from service.schemas import OptimizeRequest, Problem
from service.settings import Settings

ASKED = OptimizeRequest(dataset="digits", min_accuracy=0.9)
JOB = {
    "id": "j",
    "state": "running",
    "cancelling": False,
    "request": {"dataset": "digits", "min_accuracy": 0.9},
    "evaluations": 0,
    "search": None,
    "confirmed": None,
    "error": None,
    "may_change": True,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": None,
    "ended_at": None,
    "links": {},
}
NONE = {"status": 404, "title": "Not Found", "detail": "there is no job 'j'"}


@dataclass
class Reply:
    """What is answered: an object as JSON or, in parts, a stream; or nothing, if it is cut off before that."""

    content: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] | None = None
    cut: bool = False
    after_s: float = 0.0


CUT = Reply(cut=True)
BUSY = Reply({"status": 503, "title": "Service Unavailable", "detail": "not now"}, 503)


def event(number: int, kind: str = "note", **data: object) -> str:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


def stream(*parts: str, cut: bool = False) -> Reply:
    return Reply(parts=("retry: 2000\n\n", *parts), cut=cut)


@dataclass
class Asked:
    """A request that arrived."""

    method: str
    path: str
    query: set[str]
    headers: dict[str, str]
    body: dict[str, Any]


class Script(ThreadingHTTPServer):
    """Answers as it is told, one reply after the other, then with 404; and keeps what it was asked."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.asked: list[Asked] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def paths(self) -> list[str]:
        return [f"{one.method} {one.path}" for one in self.asked]


class _Handler(BaseHTTPRequestHandler):
    server: Script
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, url.path, {*parse_qs(url.query)}, headers, json.loads(body) if body else {})
        self.server.asked.append(asked)
        reply = self.server.replies.pop(0) if self.server.replies else Reply(NONE, 404)
        time.sleep(reply.after_s)
        if reply.cut and reply.parts is None:
            self.close_connection = True
            return
        content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
        self.send_response(reply.status)
        self.send_header("Connection", "close")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.parts is None:
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in reply.parts:
            self.wfile.write(f"{len(part):x}\r\n{part}\r\n".encode())
        if not reply.cut:
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the clients would have paused; they do not."""
    made: list[float] = []
    pause_s = Retries.pause_s

    def noted(self: Retries, error: ClientError) -> float | None:
        found = pause_s(self, error)
        if found is None:
            return None
        made.append(found)
        return 0.0

    monkeypatch.setattr(Retries, "pause_s", noted)
    return made


class Do(Protocol):
    """Has a client do something, and gives what comes of it, or the events."""

    def __call__(
        self, url: str, operation: Callable[[Any], Any], *, retries: int = 3, timeout_s: float = 30
    ) -> Any: ...


def blocking(url: str, operation: Callable[[Any], Any], *, retries: int = 3, timeout_s: float = 30) -> Any:
    with Client(url, retries=retries, timeout_s=timeout_s) as client:
        found = operation(client)
        return [*found] if inspect.isgenerator(found) else found


def awaited(url: str, operation: Callable[[Any], Any], *, retries: int = 3, timeout_s: float = 30) -> Any:
    async def run() -> Any:
        async with AsyncClient(url, retries=retries, timeout_s=timeout_s) as client:
            found = operation(client)
            return [one async for one in found] if inspect.isasyncgen(found) else await found

    return asyncio.run(run())


@pytest.fixture(params=[blocking, awaited], ids=["Client", "AsyncClient"])
def do(request: pytest.FixtureRequest) -> Do:
    found: Do = request.param
    return found


def test_what_passes_is_waited_for(script: Script, do: Do, pauses: list[float]) -> None:
    soon = Reply(BUSY.content, 503, {"Retry-After": "7"})
    script.replies = [CUT, soon, Reply(status=429), Reply([])]
    assert do(script.url, lambda client: client.datasets(), retries=5) == []
    assert pauses == [0.5, 7.0, 2.0]
    assert len(script.asked) == 4


@pytest.mark.parametrize(("reply", "error"), [(CUT, UnreachableError), (BUSY, ServiceError)])
def test_but_not_for_ever(script: Script, do: Do, reply: Reply, error: type[Exception]) -> None:
    script.replies = [reply] * 9
    with pytest.raises(error, match=f"no answer from {script.url}: Server disconnected|503: not now"):
        do(script.url, lambda client: client.job("j"))
    assert len(script.asked) == 4
    with pytest.raises(error):
        do(script.url, lambda client: client.job("j"), retries=0)
    assert len(script.asked) == 5


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_passes(script: Script, do: Do, status: int) -> None:
    script.replies = [Reply(b"<h1>busy</h1>", status), Reply([])]
    assert do(script.url, lambda client: client.hardware()) == []


def test_a_response_has_its_time(script: Script, do: Do) -> None:
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
def test_what_is_sent_once(script: Script, do: Do, operation: Callable[[Any], Any], reply: Reply) -> None:
    script.replies = [reply, Reply(JOB)]
    with pytest.raises(ClientError):
        do(script.url, operation)
    assert len(script.asked) == 1


@pytest.mark.parametrize("status", [307, 400, 401, 404, 422, 500])
def test_what_does_not_pass(script: Script, do: Do, status: int) -> None:
    script.replies = [Reply(NONE, status), Reply(JOB)]
    with pytest.raises(ServiceError, match=f"{status}: there is no job 'j'"):
        do(script.url, lambda client: client.job("j"))
    assert len(script.asked) == 1


def test_a_search_is_begun_once(script: Script, do: Do) -> None:
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


def test_events_go_on_where_they_were_cut(script: Script, do: Do) -> None:
    script.replies = [
        stream(event(1, "state", state="queued"), event(2), event(3)[:-1], cut=True),
        BUSY,
        CUT,
        stream(event(3)),  # ended in good order, as by a proxy
        Reply(JOB),
        stream(event(4, "state", state="finished")),
    ]
    told = do(script.url, lambda client: client.events("j"))
    assert [one.number for one in told] == [1, 2, 3, 4]
    asked = [one.headers.get("last-event-id") for one in script.asked if one.path.endswith("/events")]
    assert asked == [None, "2", "2", "2", "3"]


def test_events_of_a_job_that_was_resumed(script: Script, do: Do) -> None:
    before = [event(1, "state", state="queued"), event(2, "state", state="cancelled")]
    script.replies = [
        stream(*before, cut=True),
        stream(event(3, "state", state="queued"), event(4, "state", state="finished")),
    ]
    assert len(do(script.url, lambda client: client.events("j"))) == 4


def test_events_that_end_before_the_job_is_told_of(script: Script, do: Do) -> None:
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
    alive = stream(": still here\n\n", cut=True)
    script.replies = [*[stream(cut=True)] * 9, alive, *[stream(cut=True)] * 20]
    with pytest.raises(UnreachableError, match="no answer from"):
        do(script.url, lambda client: client.events("j"))
    assert len(script.asked) == 20  # nine in vain, then ten again after a sign of life


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
    told: list[Event] = []
    with pytest.raises(JobFailedError, match=text) as caught:
        do(script.url, lambda client: client.optimize("digits", min_accuracy=0.9, told=told.append))
    assert caught.value.job.state == end["state"]
    assert [one.kind for one in told] == ["state"]
    script.replies = [Reply(ended, 202)]
    with pytest.raises(JobFailedError, match=text):
        do(script.url, lambda client: client.optimize("digits", min_accuracy=0.9))


def test_a_job_that_finishes_in_vain(script: Script, do: Do) -> None:
    finished = {**JOB, "state": "finished"}
    end = stream(event(1, "state", state="finished"))
    script.replies = [Reply(JOB, 202), end, Reply(finished), Reply(finished, 202)]
    with pytest.raises(JobFailedError, match="job j finished: the service has no answer"):
        do(script.url, lambda client: client.optimize("digits", min_accuracy=0.9))
    first, *_, last = script.asked
    assert first.headers["idempotency-key"] == last.headers["idempotency-key"]


def test_coroutines_are_told(script: Script) -> None:
    told: list[int] = []

    async def tell(one: Event) -> None:
        await asyncio.sleep(0)
        told.append(one.number)

    script.replies = [Reply(JOB, 202), stream(event(1), event(2, "state", state="failed"))]
    with pytest.raises(ServiceError):
        awaited(script.url, lambda client: client.optimize("digits", min_accuracy=0.9, told=tell))
    assert told == [1, 2]


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(b"<h1>hello</h1>"), "200: GET http://[^ ]*/v1/jobs/j answers what this client cannot read: .*JSON"),
        (Reply({**JOB, "state": "dreaming"}), "cannot read: state Input should be 'queued'"),
        (Reply(b"<h1>no</h1>", 500), "500: <h1>no</h1>"),
        (Reply(b"", 500), "500: Internal Server Error"),
    ],
)
def test_an_answer_of_somebody_else(script: Script, do: Do, reply: Reply, text: str) -> None:
    script.replies = [reply]
    with pytest.raises(ServiceError, match=text):
        do(script.url, lambda client: client.job("j"))


def test_errors_say_where() -> None:
    errors = [{"pointer": "#/dataset", "detail": "unknown"}, {"pointer": "#/budget", "detail": "too much"}]
    problem = Problem.model_validate({"title": "", "status": 422, "detail": "#/budget: too much", "errors": errors})
    assert str(ServiceError(422, problem)) == "422: #/budget: too much (at #/dataset)"


def test_paths_are_quoted(script: Script, do: Do) -> None:
    with pytest.raises(ServiceError):
        do(script.url + "/below", lambda client: client.front("../jobs?limit=1"))
    assert script.paths() == ["GET /below/v1/fronts/..%2Fjobs%3Flimit%3D1"]


def test_a_url_without_its_beginning() -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="begins with http:// or https://, got 'localhost:8000'"):
            kind("localhost:8000")


SAMPLES: list[tuple[str, Callable[[Any], Any]]] = [
    (
        "optimize",
        lambda client: client.optimize(
            "digits", min_accuracy=0.9, budget=9, hardware="h", effort="quick", multipliers=["exact"], seed=1
        ),
    ),
    ("ask", lambda client: client.ask(OptimizeRequest(dataset="digits", max_accuracy_drop=0.1), wait_s=5)),
    ("search", lambda client: client.search(OptimizeRequest(dataset="digits", min_accuracy=0.1, multipliers=["a"]))),
    ("search", lambda client: client.search(OptimizeRequest(dataset="digits", max_accuracy_drop=0.1))),
    ("jobs", lambda client: client.jobs(state="queued", limit=2, cursor="3")),
    ("job", lambda client: client.job("j")),
    ("cancel", lambda client: client.cancel("j")),
    ("resume", lambda client: client.resume("j")),
    ("delete", lambda client: client.delete("j")),
    ("events", lambda client: client.events("j", after=1)),
    (
        "front",
        lambda client: client.front(
            "digits", min_accuracy=0.5, select="knee", hardware="h", effort="quick", multipliers=["m"]
        ),
    ),
    ("techniques", lambda client: client.techniques("digits", hardware="h", effort="quick", multipliers=["m"])),
    ("evaluation", lambda client: client.evaluation("e")),
    ("export", lambda client: client.export("e")),
    ("energy", lambda client: client.energy({}, dataset="digits", hardware="h")),
    ("datasets", lambda client: client.datasets()),
    ("hardware", lambda client: client.hardware()),
    ("upload_hardware", lambda client: client.upload_hardware("name: mine")),
    ("delete_hardware", lambda client: client.delete_hardware("mine@1")),
    ("delete_multiplier", lambda client: client.delete_multiplier("mine@1")),
    ("multipliers", lambda client: client.multipliers()),
    (
        "upload_multiplier",
        lambda client: client.upload_multiplier("mine", [[0]], signed=True, relative_energy=1, relative_area=1),
    ),
    ("health", lambda client: client.health()),
    ("readiness", lambda client: client.readiness()),
    ("metrics", lambda client: client.metrics()),
]


def test_the_clients_offer_all_that_the_api_has(script: Script, do: Do, tmp_path: Path) -> None:
    """Every operation of the OpenAPI document, with every parameter, header and field."""
    offered = {name for name in dir(Operations) if not name.startswith("_")} | {"events"}
    assert {name for name, _ in SAMPLES} == offered
    for _, operation in SAMPLES:
        with pytest.raises(ServiceError, match="404"):
            do(script.url, operation)
    app = create_app(Settings(storage=f"sqlite:///{tmp_path / 'results.db'}"))
    document = app.openapi()
    app.state.services.close()
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            pattern = re.sub(r"\{\w+\}", "[^/]+", path)
            asked = [one for one in script.asked if one.method == method.upper() and re.fullmatch(pattern, one.path)]
            assert asked, f"no client offers {method} {path}"
            sent = {
                "query": set().union(*(one.query for one in asked)),
                "header": set().union(*(one.headers for one in asked)),
                "path": set(re.findall(r"\{(\w+)\}", path)),
            }
            for parameter in described.get("parameters", ()):
                name = parameter["name"].lower() if parameter["in"] == "header" else parameter["name"]
                assert name in sent[parameter["in"]], f"no client sends {parameter['name']} with {method} {path}"
            if "requestBody" in described:
                reference = described["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                fields = document["components"]["schemas"][reference.rpartition("/")[2]]["properties"]
                assert fields.keys() <= set().union(*(one.body for one in asked)), f"of {method} {path}"


def test_operations_describe_themselves() -> None:
    for kind in (Client, AsyncClient):
        for name, _ in SAMPLES:
            method = getattr(kind, name)
            assert method.__doc__, name
            assert "Call[" not in str(inspect.signature(method)), name
    assert next(iter(inspect.signature(Client().front).parameters)) == "dataset"
