"""Checks of the names and limits in requests."""

from __future__ import annotations

import json
from functools import lru_cache

from energy import CostTable, Hardware, hardware_names, load_hardware, parse_hardware
from search.api.area import check_area, smallest_area
from search.errors import UnknownNameError, UsageError
from search.multipliers.choice import ChosenMultiplier, choose, choose_for
from search.multipliers.identity import is_imported
from search.space.space_file import choose_space
from search.space.task import Task, check_networks, task_names
from search.space.unemulated import check_metadata, check_partial_sums
from service.dependencies import Caller, Services
from service.problems import ProblemError
from service.questions import Question
from service.schemas import OptimizeRequest
from service.uploads import UploadedMultiplier, Uploads


def may_name_uploads(request: OptimizeRequest) -> bool:
    """Whether a request may name uploads, which only the database knows."""
    built_in = request.dataset in task_names() and request.hardware in hardware_names()
    return bool(request.multipliers) or not built_in


def question_of(request: OptimizeRequest, services: Services, caller: Caller) -> Question:
    """The question of a request, with the identity of its data set, which names the same images for ever.

    Raises:
        ProblemError: 422, if a name is unknown, the images or the budget are too large, or something of the hardware is
            not emulated.
    """
    task = task_named(request.dataset, services, caller, pointer="#/dataset")
    hardware = hardware_named(request.hardware, services.uploads, pointer="#/hardware")
    try:
        check_networks(task)
    except UsageError as error:
        raise ProblemError(422, str(error), pointer="#/dataset") from None
    try:
        check_partial_sums(hardware)
        check_metadata(task.space, hardware)
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
    return Question.from_dict({**request.model_dump(), "dataset": task.identity})


def check_possible(question: Question, services: Services) -> None:
    """Refuse a bound on area that no candidate of the question's space keeps.

    Raises:
        UsageError: If no candidate does, or a multiplier cannot be in the array of the hardware.
    """
    if question.max_area is None:
        return
    task, uploads = services.datasets.task(question.dataset), services.uploads
    if task.network is not None:  # whose size is known to workers alone
        return
    hardware, named = question.hardware, question.multipliers
    least = _smallest_area(
        json.dumps(task.to_dict()),
        hardware if hardware in hardware_names() else uploads.hardware_text(hardware),
        question.space,
        None if named is None else tuple(name for name in named if not is_imported(name)),
        tuple(uploads.multiplier(name) for name in question.uploaded_multipliers),
    )
    check_area(question.max_area, least)


@lru_cache(maxsize=1000)  # because it takes about half a second
def _smallest_area(
    task_json: str,
    hardware: str,
    space: str,
    built_in: tuple[str, ...] | None,
    uploaded: tuple[UploadedMultiplier, ...],
) -> float:
    """The area of the smallest candidate over the baseline's.

    Args:
        task_json: The task, as JSON.
        hardware: Name of built-in hardware, or the text of an uploaded file.
        space: Name of the space.
        built_in: Built-in multipliers to choose among; None for the default ones.
        uploaded: Uploaded multipliers to choose among.
    """
    task = Task.from_dict(json.loads(task_json))
    found = load_hardware(hardware) if hardware in hardware_names() else parse_hardware(hardware, name="the file")
    chosen = None
    if built_in is not None:
        custom = [ChosenMultiplier(identity=one.identity, costs=dict(one.costs)) for one in uploaded]
        chosen = (*choose(built_in), *custom)
    searched = choose_space(space, task, found).space
    return smallest_area(searched.restricted(choose_for(found, chosen), found.weight_memory.cell), task, found)


def task_named(name: str, services: Services, caller: Caller, *, status: int = 422, pointer: str) -> Task:
    """The task of a data set, by its name or identity; see `service.datasets`.

    Raises:
        ProblemError: With this status, if there is none; 422, if there are several.
    """
    try:
        return services.datasets.named(name, client=caller.name)
    except UnknownNameError as error:
        raise ProblemError(status, str(error), pointer=pointer) from None
    except UsageError as error:
        raise ProblemError(422, str(error), pointer=pointer) from None


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
