"""Both clients offer every operation of the API."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.client import AsyncClient, Client, OptimizeRequest, ServiceError
from service.client.operations import Operations
from service.settings import Settings
from tests.support.scripted_server import Do, Script

pytestmark = pytest.mark.usefixtures("pauses")

SAMPLES: list[tuple[str, Callable[[Any], Any]]] = [
    (
        "optimize",
        lambda client: client.optimize(
            "digits",
            min_accuracy=0.9,
            budget=9,
            hardware="h",
            effort="quick",
            multipliers=["exact"],
            seed=1,
            max_area=0.5,
        ),
    ),
    ("ask", lambda client: client.ask(OptimizeRequest(dataset="digits", max_accuracy_drop=0.1), wait_s=5)),
    ("search", lambda client: client.search(OptimizeRequest(dataset="digits", min_accuracy=0.1, multipliers=["a"]))),
    ("search", lambda client: client.search(OptimizeRequest(dataset="digits", max_accuracy_drop=0.1, max_area=0.5))),
    ("jobs", lambda client: client.jobs(state="queued", limit=2, cursor="3")),
    ("job", lambda client: client.job("j")),
    ("cancel", lambda client: client.cancel("j")),
    ("resume", lambda client: client.resume("j")),
    ("delete", lambda client: client.delete("j")),
    ("events", lambda client: client.events("j", after=1)),
    (
        "front",
        lambda client: client.front(
            "digits", min_accuracy=0.5, max_area=0.5, select="knee", hardware="h", effort="quick", multipliers=["m"]
        ),
    ),
    ("front", lambda client: client.front("digits", max_accuracy_drop=0.02)),
    ("techniques", lambda client: client.techniques("digits", hardware="h", effort="quick", multipliers=["m"])),
    ("techniques", lambda client: client.techniques("digits", min_accuracy=0.5)),
    ("techniques", lambda client: client.techniques("digits", max_accuracy_drop=0.02)),
    ("evaluation", lambda client: client.evaluation("e")),
    ("export", lambda client: client.export("e")),
    ("energy", lambda client: client.energy({}, dataset="digits", hardware="h")),
    ("datasets", lambda client: client.datasets()),
    ("upload_dataset", lambda client: client.upload_dataset(b"PK", name="flowers", class_names=["rose", "tulip"])),
    ("delete_dataset", lambda client: client.delete_dataset("flowers@1")),
    ("tasks", lambda client: client.tasks()),
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


@pytest.mark.slow
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
            if "application/octet-stream" in described.get("requestBody", {}).get("content", {}):
                assert {one.content for one in asked} == {b"PK"}
            elif "requestBody" in described:
                reference = described["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                fields = document["components"]["schemas"][reference.rpartition("/")[2]]["properties"]
                assert fields.keys() <= set().union(*(one.body for one in asked)), f"of {method} {path}"


def test_images_are_uploaded_from_a_file(script: Script, do: Do, tmp_path: Path) -> None:
    (tmp_path / "flowers.npz").write_bytes(b"PK and more")
    with pytest.raises(ServiceError):
        do(script.url, lambda client: client.upload_dataset(tmp_path / "flowers.npz", name="flowers"))
    assert [one.content for one in script.asked] == [b"PK and more"]
    assert script.asked[0].headers["content-type"] == "application/octet-stream"
    assert script.asked[0].query == {"name"}


def test_operations_describe_themselves() -> None:
    for kind in (Client, AsyncClient):
        for name, _ in SAMPLES:
            method = getattr(kind, name)
            assert method.__doc__, name
            assert "Call[" not in str(inspect.signature(method)), name
    assert next(iter(inspect.signature(Client().front).parameters)) == "dataset"


def test_paths_are_quoted(script: Script, do: Do) -> None:
    with pytest.raises(ServiceError):
        do(script.url + "/below", lambda client: client.front("../jobs?limit=1"))
    assert script.paths() == ["GET /below/v1/fronts/..%2Fjobs%3Flimit%3D1"]
