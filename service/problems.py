"""Errors as clients see them: problem+json after RFC 9457, for every error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from energy import EnergyError
from search.errors import (
    NothingFoundError,
    SearchError,
    StorageError,
    UsageError,
    in_words_of,
    named_parameters,
)
from service.jobs import IdempotencyError, JobError, JobStateError, QueueFullError, UnknownJobError
from service.schemas import FieldProblem, OptimizeRequest, Problem

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_RETRY_S = 30


class ProblemError(Exception):
    """A request that is rejected.

    Args:
        status: HTTP status.
        detail: What is wrong, and what can be done about it; a line for each mistake.
        pointer: JSON pointer to the field, or name of the parameter, if one is wrong.
        headers: Headers of the response.
    """

    def __init__(
        self, status: int, detail: str, *, pointer: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.pointer = status, detail, pointer
        self.headers = dict(headers or {})


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation, for the OpenAPI document."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in sorted(statuses)}


def install(app: FastAPI) -> None:
    """Make an application answer every error with a problem."""
    app.add_exception_handler(ProblemError, _of_problem)
    app.add_exception_handler(JobError, _of_job)
    app.add_exception_handler(SearchError, _of_search)
    app.add_exception_handler(EnergyError, _of_energy)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _of_bug)


def problem(
    status: int, detail: str, *, errors: list[FieldProblem] | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response to an error."""
    content = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors)
    return JSONResponse(content.model_dump(exclude_none=True), status, dict(headers or {}), MEDIA_TYPE)


def _of_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    lines = in_words_of(error.detail, str).splitlines()  # one for each mistake of a file
    errors = None if error.pointer is None else [FieldProblem(pointer=error.pointer, detail=line) for line in lines]
    return problem(error.status, "; ".join(lines), errors=errors, headers=error.headers)


def _of_job(request: Request, error: Exception) -> JSONResponse:
    statuses: dict[type, int] = {UnknownJobError: 404, JobStateError: 409, QueueFullError: 429, IdempotencyError: 422}
    status = statuses.get(type(error), 500)
    return problem(status, str(error), headers={"Retry-After": str(_RETRY_S)} if status == 429 else None)


def _of_search(request: Request, error: Exception) -> JSONResponse:
    detail = in_words_of(str(error), str)
    if isinstance(error, NothingFoundError):
        return problem(404, detail)
    if isinstance(error, UsageError):
        fields = [name for name in named_parameters(str(error)) if name in OptimizeRequest.model_fields]
        errors = [FieldProblem(pointer=f"#/{name}", detail=detail) for name in fields]
        return problem(422, detail, errors=errors or None)
    _log.error("%s", error)
    if isinstance(error, StorageError):
        return database_lost()
    return problem(503, detail, headers={"Retry-After": str(_RETRY_S)})


def database_lost() -> JSONResponse:
    """The response when the database cannot be used; its location and its error are written to the log only."""
    detail = "the results database is unavailable; see the service's log"
    return problem(503, detail, headers={"Retry-After": str(_RETRY_S)})


def _of_energy(request: Request, error: Exception) -> JSONResponse:
    return problem(422, in_words_of(str(error), str))


def _of_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [_field_problem(one) for one in error.errors()]
    return problem(422, "; ".join(f"{one.pointer}: {one.detail}" for one in errors), errors=errors)


def _of_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, headers=error.headers)


def _of_bug(request: Request, error: Exception) -> JSONResponse:
    return problem(500, "internal error; see the service's log")


def _field_problem(error: Mapping[str, Any]) -> FieldProblem:
    if error["type"] == "json_invalid":  # its location ends with the position in the text
        return FieldProblem(
            pointer="#", detail=f"invalid JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
        )
    return FieldProblem(pointer=_pointer(error["loc"]), detail=error["msg"])


def _pointer(location: tuple[str | int, ...]) -> str:
    """A JSON pointer to a field of the body, or the name of a parameter."""
    where, *parts = location
    if where != "body":
        return "/".join(map(str, parts)) or str(where)
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
