"""The API keeps the promises of its OpenAPI document for any request."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import SkipTest

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.app import create_app
from service.database import Database
from service.keys import KeyStore, Scope
from service.queue import QueueLimits
from service.settings import Settings
from tests.support.stored import store_results

EXAMPLES = 15  # of each operation, good and bad


@dataclass
class Guarded:
    """A service that needs keys, and a key that allows everything."""

    schema: schemathesis.BaseSchema
    headers: dict[str, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    database = tmp_path_factory.mktemp("service") / "results.db"
    store_results(database)
    url = f"sqlite:///{database}"
    with Database.open(url) as opened:
        secret = KeyStore(opened).create("anybody", Scope.ADMIN)
    app = create_app(
        Settings(
            storage=url,
            keys_required=True,
            hosts=None,
            max_wait_s=0.0,
            queue=QueueLimits(total=10_000, per_client=10_000),
        )
    )
    yield Guarded(schemathesis.openapi.from_asgi("/openapi.json", app), {"Authorization": f"Bearer {secret}"})
    app.state.services.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation_keeps_its_promises(guarded: Guarded, mode: GenerationMode) -> None:
    """No server error, no undocumented status, media type or body, and nothing without a key, for good and bad data."""
    labels = []
    for found in guarded.schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        try:
            strategy = operation.as_strategy(generation_mode=mode)
            check(strategy, guarded.headers)
        except (Unsatisfiable, SkipTest):  # nothing can be wrong with it
            assert mode is GenerationMode.NEGATIVE
        labels.append(operation.label)
    assert len(labels) > 15


def check(strategy: SearchStrategy[Any], headers: dict[str, str]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(case=strategy)
    def promised(case: Any) -> None:
        # That one of two fields must be there, and what data sets there are, the document says in words only.
        case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

    promised()


@pytest.mark.slow
def test_the_document_names_every_operation(guarded: Guarded) -> None:
    document: dict[str, Any] = guarded.schema.raw_schema
    assert document["openapi"].startswith("3.1")
    paths = set(document["paths"])
    assert paths >= {"/v1/optimize", "/v1/jobs", "/v1/jobs/{job_id}/events", "/v1/energy", "/healthz", "/metrics"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            assert {"422", "503"} & set(operation["responses"]) or path in {"/healthz"} or method == "get", path
