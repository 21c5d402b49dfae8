"""Ask stored evaluations for an answer: `search.best` and `search.configurations`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from search.answers.confirmation import Answer
from search.answers.result import knee as find_knee
from search.answers.stored import Configurations, Stored, others_stored
from search.api.checks import check_effort, check_flag, check_observer, check_value, find_hardware, target_of
from search.api.images import stored_images
from search.api.workplace import Workplace
from search.api.workshop import Workshop
from search.defaults import DEFAULT_EFFORT, DEFAULT_HARDWARE
from search.errors import DatasetMissingError, StorageError, UnknownNameError, UsageError
from search.multipliers.choice import ChosenMultiplier, choose
from search.space.target import Target
from search.space.task import Task
from search.space.task_request import TaskRequest, searched_task, task_on
from search.store.database import Store
from search.store.records import Record
from search.store.setup import Setup

if TYPE_CHECKING:
    from energy import Hardware
    from search.images.dataset import Dataset
    from search.observer import Observer

Question: TypeAlias = tuple[Sequence[Record], Target]  # stored evaluations, and what is wanted of them


def best(
    *,
    min_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    max_area: float | None = None,
    knee: bool = False,
    dataset: str | os.PathLike[str] | None = None,
    network: str | None = None,
    task: TaskRequest = TaskRequest(),
    hardware: str | os.PathLike[str] = DEFAULT_HARDWARE,
    effort: str = DEFAULT_EFFORT,
    confirm: bool = True,
    workplace: Workplace = Workplace(),
    observer: Observer | None = None,
) -> Answer:
    """Return the cheapest stored configuration for a target whose accuracy fresh runs confirm; see `search.answers`.

    Runs that were made before are not made again.

    Args:
        min_accuracy: Accuracy that the answer must have, in (0, 1].
        max_accuracy_drop: Instead: how far below the baseline's accuracy it may be, in [0, 1); by default 0.02.
        max_area: Largest area of array and memories over the baseline's, above 0; by default there is no bound.
        knee: Instead of the cheapest, the knee of the front above the target; see `search.answers.result.knee`.
        dataset: Where the images are, as for `run`; or, if they were removed, the name or identity of stored results.
        network: Import path of a custom network, as for `run`: evaluations of what it is now.
        task: The rest of what the task is, as for `run`.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file.
        effort: Effort of the evaluations and of the fresh runs.
        confirm: Whether missing runs are made. Without, an answer that was not confirmed before says so.
        workplace: Where evaluations are stored and runs are made.
        observer: Notified of progress.

    Raises:
        UsageError: If an argument is of the wrong type, out of range or unknown.
        StorageError: If the database does not exist or cannot be used.
        NothingFoundError: If no stored evaluation reaches the target within the bound on area.
    """
    target = target_of(min_accuracy, max_accuracy_drop, max_area)
    check_effort(effort)
    check_value("workplace", workplace, Workplace)
    check_flag("knee", knee)
    check_flag("confirm", confirm)
    check_observer(observer)
    found_hardware = find_hardware(hardware)
    found_task = _asked_task(_asked(task, dataset, network), workplace)
    with Store.open(workplace.url, create=False) as store:
        stored = Stored.read(store, found_task, found_hardware, effort=effort, max_area=max_area)
        found = _configurations(stored, store, target, found_task, found_hardware, os.fspath(hardware))
        if knee:
            records = [find_knee(found.records)]
            answer = stored.answer_among(records, target)
        else:
            answer = stored.answer(target)
            most = answer.record.evaluation.energy_pj if answer.record and answer.confirmed else math.inf
            wanted = target.accuracy(found.baseline.evaluation.accuracy)
            setup = Setup.of(found_task, found_hardware, effort)
            records = store.evaluations.all(setup, min_accuracy=wanted, max_pj=most) if confirm else []
        if not (confirm and stored.lacks_runs(target, records)):
            return answer
        try:
            workshop = _workshop(store, found_task, found_hardware, effort, workplace)
        except DatasetMissingError as error:
            raise DatasetMissingError(f"{error}; or leave out fresh runs, which need them: `confirm`") from None
        (answer,) = _confirmed([(records, target)], found.baseline, workshop, store, observer, plain=stored.plain)
        if knee:
            return answer
        # With the runs that were made meanwhile; where some failed, only the answer above knows it.
        again = Stored.read(store, found_task, found_hardware, effort=effort, max_area=max_area).answer(target)
        return again if again.confirmed else answer


def answers(
    questions: Sequence[Question],
    baseline: Record,
    task: Task,
    hardware: Hardware,
    *,
    effort: str = DEFAULT_EFFORT,
    workplace: Workplace = Workplace(),
    observer: Observer | None = None,
) -> list[Answer]:
    """Return an answer to each question, confirmed by fresh runs of the same workers.

    Runs of a candidate in several questions, and those made before, are made once.

    Args:
        questions: Evaluations and what is wanted of them.
        baseline: The evaluation that savings and relative targets are against.
        task: The task of the evaluations.
        hardware: Their hardware.
        effort: Effort of the fresh runs.
        workplace: Where evaluations are stored and runs are made.
        observer: Notified of progress.

    Raises:
        UsageError: If an argument is out of range or unknown; see `run` for other errors.
    """
    with Store.open(workplace.url, create=False) as store:
        workshop = _workshop(store, task, hardware, effort, workplace)
        return _confirmed(questions, baseline, workshop, store, observer)


def _workshop(store: Store, task: Task, hardware: Hardware, effort: str, workplace: Workplace) -> Workshop:
    return Workshop.open(
        task,
        effort,
        hardware,
        workplace,
        cache=workplace.open_cache(),
        images=stored_images(task, workplace, store),
    )


def _confirmed(
    questions: Sequence[Question],
    baseline: Record,
    workshop: Workshop,
    store: Store,
    observer: Observer | None,
    *,
    plain: Sequence[Record] = (),
) -> list[Answer]:
    observer = workshop.notified(observer)
    everything = [baseline, *(record for records, _ in questions for record in records)]
    multipliers: dict[str, ChosenMultiplier] = {}
    unknown: set[str] = set()
    for name in sorted({name for one in everything for name in one.evaluation.candidate.multipliers}):
        try:
            multipliers |= {one.identity: one for one in choose([name], workshop.workplace.multipliers)}
        except UsageError as error:  # it was imported once, and was removed or replaced since
            unknown.add(name)
            observer.noted(f"configurations with the multiplier {name} are left out: {error}")
    with workshop.executor([*multipliers.values()]) as executor:
        confirmer = workshop.confirmer(store, executor, observer)
        found = [
            confirmer.answer(
                [one for one in records if not unknown & set(one.evaluation.candidate.multipliers)],
                baseline,
                target,
                plain=plain,
            )
            for records, target in questions
        ]
        workshop.keep_networks(executor, [record for answer in found for record in answer.records])
        return found


def configurations(
    *,
    min_accuracy: float,
    max_area: float | None = None,
    dataset: str | os.PathLike[str] | None = None,
    network: str | None = None,
    task: TaskRequest = TaskRequest(),
    hardware: str | os.PathLike[str] = DEFAULT_HARDWARE,
    effort: str = DEFAULT_EFFORT,
    storage: str | None = None,
) -> Configurations:
    """Return the cheapest stored evaluations of a dataset at or above a validation accuracy.

    They are not confirmed by fresh runs: the accuracy of the cheapest of many is, on average, a little lucky. The
    accuracy on test images, where there is one, was not used to choose them.

    Args:
        min_accuracy: Accuracy that they have, in (0, 1].
        max_area: Largest area of array and memories over the baseline's, above 0; by default there is no bound.
        dataset: Where the images are, as for `run`; or, if they were removed, the name or identity of stored results.
        network: Import path of a custom network, as for `run`: evaluations of what it is now.
        task: The rest of what the task is, as for `run`.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file.
        effort: Effort of the evaluations.
        storage: Results database; see `Workplace`.

    Raises:
        UsageError: If an argument is of the wrong type, out of range or unknown.
        StorageError: If the database does not exist or cannot be used.
        NothingFoundError: If no stored evaluation reaches the accuracy within the bound on area.
    """
    target = target_of(min_accuracy, None, max_area)
    check_effort(effort)
    found_hardware = find_hardware(hardware)
    workplace = Workplace(storage=storage)
    found_task = _asked_task(_asked(task, dataset, network), workplace)
    with Store.open(workplace.url, create=False) as store:
        stored = Stored.read(store, found_task, found_hardware, effort=effort, max_area=max_area)
        return _configurations(stored, store, target, found_task, found_hardware, os.fspath(hardware))


def _asked(task: TaskRequest, dataset: str | os.PathLike[str] | None, network: str | None) -> TaskRequest:
    check_value("task", task, TaskRequest)
    return task.with_shortcuts(dataset=dataset, network=network)


def _asked_task(request: TaskRequest, workplace: Workplace) -> Task:
    """Return the task that a request means, if its images were removed since by their name in the newest results.

    Raises:
        UsageError: As for `searched_task`.
    """
    try:
        return searched_task(request, workplace.images)
    except UnknownNameError:
        dataset = _searched_before(request, workplace)
        if dataset is None:
            raise
        return task_on(request, dataset)


def _searched_before(request: TaskRequest, workplace: Workplace) -> Dataset | None:
    """Return the data set of stored results whose name or identity a request gives; None if there is none."""
    with suppress(StorageError), Store.open(workplace.url, create=False) as store:
        for dataset in (task.dataset for task in store.tasks.all()):
            if request.dataset in (dataset.name, dataset.identity) and request.size in (None, dataset.image_shape[1:]):
                return dataset
    return None


def _configurations(
    stored: Stored, store: Store, target: Target, task: Task, hardware: Hardware, given: str
) -> Configurations:
    """Return the stored evaluations that reach a target, or say what else is stored of the images."""
    others = others_stored(store, task, hardware, stored.effort) if stored.baseline is None else ""
    return stored.configurations(target, hardware=given, others=others)
