"""Checks of the names and limits in requests."""

from __future__ import annotations

from energy import CostTable, Hardware, hardware_names
from search.errors import UnknownNameError, UsageError
from search.space.partial_sums import check_partial_sums
from search.space.task import Task, find_task
from service.dependencies import Services
from service.problems import ProblemError
from service.questions import Question
from service.schemas import OptimizeRequest
from service.uploads import UploadedMultiplier, Uploads


def may_name_uploads(request: OptimizeRequest) -> bool:
    """Whether a request may name uploads, which only the database knows."""
    return bool(request.multipliers) or request.hardware not in hardware_names()


def question_of(request: OptimizeRequest, services: Services) -> Question:
    """The question of a request.

    Raises:
        ProblemError: 422, if a name is unknown, the hardware's partial sums cannot be emulated, or the budget is too
            large.
    """
    task_named(request.dataset, pointer="#/dataset")
    hardware = hardware_named(request.hardware, services.uploads, pointer="#/hardware")
    try:
        check_partial_sums(hardware)
    except UsageError as error:
        raise ProblemError(422, str(error), pointer="#/hardware") from None
    largest = services.settings.max_budget
    if request.budget > largest:
        raise ProblemError(422, f"budget may be at most {largest} here, got {request.budget}", pointer="#/budget")
    uploaded: dict[str, str] = {}
    for index, name in enumerate(request.multipliers or ()):
        multiplier = multiplier_named(name, services.uploads, pointer=f"#/multipliers/{index}")
        if multiplier is not None and uploaded.setdefault(multiplier.name, name) != name:
            raise ProblemError(
                422,
                f"{uploaded[multiplier.name]!r} and {name!r} have the same name; upload one of them under another",
                pointer=f"#/multipliers/{index}",
            )
    return Question.from_dict(request.model_dump())


def task_named(dataset: str, *, status: int = 422, pointer: str) -> Task:
    """The task of a data set.

    Raises:
        ProblemError: With this status, if there is none with this name.
    """
    try:
        return find_task(dataset)
    except UnknownNameError as error:
        raise ProblemError(status, str(error), pointer=pointer) from None


def hardware_named(name: str, uploads: Uploads, *, pointer: str) -> Hardware:
    """The hardware with a name or an identity; a path is never accepted, so clients cannot probe the service's files.

    Raises:
        ProblemError: 422, if it is unknown.
    """
    try:
        return uploads.hardware(name)
    except UnknownNameError as error:
        raise ProblemError(422, str(error), pointer=pointer) from None


def multiplier_named(name: str, uploads: Uploads, *, pointer: str) -> UploadedMultiplier | None:
    """The uploaded multiplier with an identity; None for the name of a built-in one.

    Raises:
        ProblemError: 422, if it is unknown.
    """
    if name in CostTable().names:
        return None
    try:
        return uploads.multiplier(name)
    except UnknownNameError as error:
        raise ProblemError(422, str(error), pointer=pointer) from None
