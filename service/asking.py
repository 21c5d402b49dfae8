"""What requests name, checked against what there is."""

from __future__ import annotations

from energy import CostTable, Hardware, hardware_names
from search.errors import UnknownNameError
from search.space.task import Task, find_task
from service.dependencies import Services
from service.problems import ProblemError
from service.questions import Question
from service.schemas import OptimizeRequest
from service.uploads import UploadedMultiplier, Uploads


def names_uploads(asked: OptimizeRequest) -> bool:
    """Whether a request may name what clients brought, for which the database has to be asked."""
    return bool(asked.multipliers) or asked.hardware not in hardware_names()


def question_of(asked: OptimizeRequest, services: Services) -> Question:
    """The question of a request.

    Raises:
        ProblemError: 422, if it names what there is not, or asks for too much.
    """
    task_named(asked.dataset, pointer="#/dataset")
    hardware_named(asked.hardware, services.uploads, pointer="#/hardware")
    largest = services.settings.largest_budget
    if asked.budget > largest:
        raise ProblemError(422, f"budget may be at most {largest} here, got {asked.budget}", pointer="#/budget")
    brought: dict[str, str] = {}
    for place, name in enumerate(asked.multipliers or ()):
        multiplier = multiplier_named(name, services.uploads, pointer=f"#/multipliers/{place}")
        if multiplier is not None and brought.setdefault(multiplier.name, name) != name:
            raise ProblemError(
                422,
                f"{brought[multiplier.name]!r} and {name!r} have the same name; upload one of them under another",
                pointer=f"#/multipliers/{place}",
            )
    return Question.from_dict(asked.model_dump())


def task_named(dataset: str, *, status: int = 422, pointer: str) -> Task:
    """The task of a data set.

    Raises:
        ProblemError: With the status, if there is none of that name.
    """
    try:
        return find_task(dataset)
    except UnknownNameError as error:
        raise ProblemError(status, str(error), pointer=pointer) from None


def hardware_named(name: str, uploads: Uploads, *, pointer: str) -> Hardware:
    """The hardware of a name, or of an identity; a path of the service's own files is none of a client's business.

    Raises:
        ProblemError: 422, if it is unknown.
    """
    try:
        return uploads.hardware(name)
    except UnknownNameError as error:
        raise ProblemError(422, str(error), pointer=pointer) from None


def multiplier_named(name: str, uploads: Uploads, *, pointer: str) -> UploadedMultiplier | None:
    """The multiplier of an identity; None of a name that comes along.

    Raises:
        ProblemError: 422, if it is unknown.
    """
    if name in CostTable().names:
        return None
    try:
        return uploads.multiplier(name)
    except UnknownNameError as error:
        raise ProblemError(422, str(error), pointer=pointer) from None
