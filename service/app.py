"""The application: `POST /optimize` answers from stored results."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from energy import hardware_names
from search import api, report
from search.errors import NothingFoundError, SearchError, UsageError
from service.schemas import Configuration, OptimizeRequest, OptimizeResponse, Problem

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in (400, 404, 422, 503)
}


def create_app(storage: str | None = None) -> FastAPI:
    """Make the application.

    Args:
        storage: Results database, as `search --storage` takes it; by default $CROSSLAYER_STORAGE, else the file in the
            user's data folder. It is opened for each request, so results of a running search are seen at once.
    """
    app = FastAPI(
        title="Crosslayer",
        summary="The cheapest way to run an image classifier in approximate hardware at a given accuracy",
        responses=_PROBLEMS,
    )

    @app.post("/optimize")
    def optimize(request: OptimizeRequest) -> OptimizeResponse:
        """The stored configurations that reach an accuracy, cheapest first.

        Answered from finished evaluations; 404 where none reaches the accuracy, with the command that makes some.
        """
        if request.hardware not in hardware_names():  # a path of the server's own files is none of a client's business
            raise UsageError(f"unknown hardware {request.hardware!r}; choose one of {', '.join(hardware_names())}")
        found = api.configurations(
            dataset=request.dataset,
            min_accuracy=request.min_accuracy,
            hardware=request.hardware,
            storage=storage,
        )
        return OptimizeResponse(
            dataset=request.dataset,
            min_accuracy=request.min_accuracy,
            hardware=request.hardware,
            confirmed=False,
            baseline=Configuration(**report.record_json(found.baseline, found.baseline)),
            configurations=[Configuration(**report.record_json(r, found.baseline)) for r in found.records],
        )

    @app.get("/healthz")
    def healthz() -> Mapping[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    app.add_exception_handler(SearchError, _search_problem)
    app.add_exception_handler(RequestValidationError, _validation_problem)
    app.add_exception_handler(HTTPException, _http_problem)
    return app


def _problem(status: int, detail: str) -> JSONResponse:
    content = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return JSONResponse(content.model_dump(), status, media_type="application/problem+json")


def _search_problem(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, NothingFoundError):
        return _problem(404, str(error))
    return _problem(422 if isinstance(error, UsageError) else 503, str(error))


def _validation_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    details = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return _problem(422, "; ".join(details))


def _http_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, error.detail)
