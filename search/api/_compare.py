"""How much each technique saves alone, in pairs, and all four together, at the same budget: `search.compare`.

The question of the paper that this project follows: at accuracy losses of 0.5, 1, 2 and 5 points, is it worth searching
all four techniques jointly? Each combination has a search of its own, stored under a name of its own, so that a
comparison that was stopped resumes where it was. None begins with what another found. A greedy strategy, which takes
one step after the other, gets the same budget for all four.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from search.answers import words
from search.answers.comparison import COMBINATIONS, Choice, Combination, Comparison, Row
from search.answers.confirmation import Answer
from search.answers.result import SearchResult, cheapest_at, result_of
from search.api._best import answers
from search.api._run import run_task
from search.api.checks import (
    check_effort,
    check_flag,
    check_losses,
    check_numbers,
    check_observer,
    check_value,
    find_hardware,
)
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.defaults import DEFAULT_EFFORT, DEFAULT_HARDWARE
from search.errors import StorageError, UsageError
from search.observer import Observer
from search.space.target import Target
from search.space.task import Task
from search.space.task_request import TaskRequest, searched_task
from search.store.database import Store
from search.store.records import Record, SearchRecord

LOSSES = (0.005, 0.01, 0.02, 0.05)
DEFAULT_BUDGET = 60


def compare(
    *,
    dataset: str | os.PathLike[str] | None = None,
    network: str | None = None,
    task: TaskRequest = TaskRequest(),
    hardware: str | os.PathLike[str] = DEFAULT_HARDWARE,
    budget: int | None = None,
    losses: Sequence[float] = LOSSES,
    seed: int = 0,
    effort: str | None = None,
    confirm: bool = True,
    name: str | None = None,
    workplace: Workplace = Workplace(),
    observer: Observer | None = None,
) -> Comparison:
    """Search every combination of `COMBINATIONS`, and say what each saves at some accuracy losses.

    With the name of a comparison that was begun before, it resumes: finished searches and fresh runs are taken as they
    are. The same seed gives the same comparison, whatever the number of workers.

    A choice is the cheapest of its search whose loss fresh runs confirm. Where none is confirmed, it is the cheapest
    whose fresh runs lose no more on average, and says that it is not confirmed; where there is none either, it is the
    baseline. Without fresh runs, it is the cheapest by what the search measured.

    Args:
        dataset: Where the images are, as for `search.run`.
        network: Import path of a custom network, as for `search.run`.
        task: The rest of what the task is, as for `search.run`.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file.
        budget: Evaluations of each search, by default 60, or as many as the comparison was begun with.
        losses: How far below the baseline's accuracy, each in [0, 1). The greedy strategy goes down 5 points at most.
        seed: Seed of every search.
        effort: Effort of each evaluation, as for `search.run`; by default `standard`, or that of the comparison.
        confirm: Whether fresh runs are made.
        name: Name of the comparison, with which those of its searches begin; by default DATASET-compare-NUMBER.
        workplace: Where it works.
        observer: Notified of progress, and by a note before each search which one it is.

    Raises:
        UsageError: If an argument is of the wrong type, out of range, unknown, or contradicts the comparison to be
            resumed.
        DatasetError: If the images are missing or damaged.
        StorageError: If the database cannot be used.
        ExecutorError: If Ray cannot start.
        SearchError: If too many evaluations of a search fail.
    """
    limits = check_losses(losses)
    check_numbers(budget=budget, seed=seed)
    check_effort(effort)
    check_value("workplace", workplace, Workplace)
    check_flag("confirm", confirm)
    check_observer(observer)
    if name is not None and not (isinstance(name, str) and re.fullmatch(r"[\w.-]{1,70}", name, re.ASCII)):
        raise UsageError(f"`name` may have up to 70 letters, digits, '.', '_' and '-', got {name!r}")
    check_value("task", task, TaskRequest)
    on_image = (observer or Observer()).reading_images
    asked = task.with_shortcuts(dataset=dataset, network=network)
    found_task = searched_task(asked, workplace.images, on_image=on_image)
    found_hardware = find_hardware(hardware)
    name = name or free_name(found_task.name, workplace)
    stored = _stored(workplace.url)
    begun = {one: stored[name + one.suffix] for one in COMBINATIONS if name + one.suffix in stored}
    first = next(iter(begun.values()), None)
    budget = budget or (DEFAULT_BUDGET if first is None else first.budget)
    effort = effort or (DEFAULT_EFFORT if first is None else first.settings.effort)
    for combination, search in begun.items():
        _check_same(
            name,
            search,
            combination,
            found_task,
            hardware=found_hardware.identity,
            seed=seed,
            budget=budget,
            effort=effort,
        )

    results: list[SearchResult] = []
    for number, combination in enumerate(COMBINATIONS, 1):
        search_begun = begun.get(combination)
        finished = search_begun is not None and search_begun.finished_at is not None
        if observer is not None:
            state = ", finished before" if finished else ""
            observer.noted(f"{name}, search {number} of {len(COMBINATIONS)}: {combination.label}{state}")
        if search_begun is not None and finished:
            with Store.open(workplace.url, create=False) as store:
                results.append(result_of(store, search_begun))
            continue
        results.append(
            run_task(
                found_task,
                found_hardware,
                target=Target(max_accuracy_drop=max(LOSSES)) if combination.strategy == "greedy" else None,
                max_area=None,
                budget=budget,
                seed=seed,
                effort=effort,
                multipliers=None,
                options=SearchOptions(
                    name=name + combination.suffix,
                    resume=search_begun is not None,
                    sampler="greedy" if combination.strategy == "greedy" else None,
                    techniques=combination.techniques,
                    fresh=True,
                    confirm=False,
                ),
                workplace=workplace,
                observer=observer,
            )
        )

    baseline = results[0].baseline
    choices = [[_measured(result.front, baseline, loss) for loss in limits] for result in results]
    if confirm:
        if observer is not None:
            observer.noted(f"{name}: confirming the cheapest of each search")
        questions = [(result.evaluations, Target(max_accuracy_drop=loss)) for result in results for loss in limits]
        found = iter(
            answers(
                questions,
                baseline,
                found_task,
                found_hardware,
                effort=effort,
                workplace=workplace,
                observer=observer,
            )
        )
        choices = [[_confirmed(next(found), loss) for loss in limits] for _ in results]
    return Comparison(
        name=name,
        dataset=found_task.dataset.identity,
        network=None if found_task.network is None else found_task.network.path,
        hardware=found_hardware.identity,
        seed=seed,
        budget=budget,
        effort=effort,
        confirm=confirm,
        caution=words.caution(found_task),
        losses=limits,
        baseline=_choice(0.0, baseline, baseline, None),
        rows=tuple(
            Row(
                combination=combination,
                search=result.search.name,
                evaluations=result.finished,
                distinct=result.distinct,
                failed=result.failed,
                choices=tuple(row),
            )
            for combination, result, row in zip(COMBINATIONS, results, choices, strict=True)
        ),
    )


def free_name(dataset: str, workplace: Workplace = Workplace()) -> str:
    """Return the name of a new comparison: the dataset's with the first free number.

    Args:
        dataset: Name of the data set.
        workplace: Where it works.
    """
    taken = {_comparison_of(name) for name in _stored(workplace.url)}
    number = 1
    while f"{dataset}-compare-{number}" in taken:
        number += 1
    return f"{dataset}-compare-{number}"


def _comparison_of(search_name: str) -> str | None:
    """The name of the comparison that a search of this name belongs to; None if it belongs to none."""
    for suffix in sorted((one.suffix for one in COMBINATIONS), key=len, reverse=True):
        if search_name.endswith(suffix) and search_name != suffix:
            return search_name.removesuffix(suffix)
    return None


def _measured(records: Iterable[Record], baseline: Record, loss: float) -> Choice:
    """The cheapest by what the search measured."""
    record = cheapest_at([*records, baseline], baseline.evaluation.accuracy - loss)
    assert record is not None  # the baseline itself loses nothing
    return _choice(loss, record, baseline, None)


def _confirmed(answer: Answer, loss: float) -> Choice:
    """The confirmed answer; else the cheapest that fresh runs find good enough on average; else the baseline."""
    if answer.record is None or (answer.confirmed and answer.record.key != answer.baseline.key):
        return _choice(loss, answer.record or answer.baseline, answer.baseline, answer)
    if answer.confirmation is None:  # its runs failed, so that there is only what the search measured
        return _choice(loss, answer.record, answer.baseline, None)
    tried = [(answer.record, answer.confirmation), *answer.rejected]
    fair = [record for record, confirmation in tried if confirmation.margin.value >= 0]
    cheapest = min([*fair, answer.baseline], key=lambda record: (record.evaluation.energy_pj, record.key))
    return _choice(loss, cheapest, answer.baseline, answer)


def _choice(loss: float, record: Record, baseline: Record, answer: Answer | None) -> Choice:
    is_baseline = record.key == baseline.key
    fresh = None
    if answer is not None:
        tried = [(answer.record, answer.confirmation), *answer.rejected]
        fresh = next((runs for one, runs in tried if one is not None and one.key == record.key), None)
        if is_baseline:
            fresh = answer.baseline_confirmation
    return Choice(
        loss=loss,
        id=record.id,
        candidate=record.evaluation.candidate,
        energy_pj=record.evaluation.energy_pj,
        saving=baseline.evaluation.energy_pj / record.evaluation.energy_pj,
        accuracy=record.evaluation.accuracy,
        confirmed=is_baseline or (fresh is not None and fresh.confirmed),
        fresh_runs=0 if fresh is None else len(fresh.runs),
        fresh_accuracy=None if fresh is None else fresh.accuracy.value,
        fresh_test_accuracy=None if fresh is None else fresh.test_accuracy,
    )


def _stored(url: str) -> dict[str, SearchRecord]:
    """The stored searches by name; a database that cannot be opened is complained about when it is written to."""
    try:
        with Store.open(url, create=False) as store:
            return {search.name: search for search in store.searches.all()}
    except StorageError:
        return {}


def _check_same(
    name: str,
    search: SearchRecord,
    combination: Combination,
    task: Task,
    *,
    hardware: str,
    seed: int,
    budget: int,
    effort: str,
) -> None:
    """Refuse to resume a comparison that was begun in another way."""
    if search.task.identity != task.identity:
        raise UsageError(
            f"comparison {name!r} was begun with {search.task.words}, or with a network that was edited "
            "since; choose another `name`"
        )
    for parameter, stored, given in (
        ("hardware", search.hardware, hardware),
        ("seed", search.seed, seed),
        ("budget", search.budget, budget),
        ("effort", search.settings.effort, effort),
    ):
        if stored != given:
            raise UsageError(
                f"comparison {name!r} has {parameter} {stored}, not {given}; resume it with `{parameter}` {stored}, or "
                "choose another `name`"
            )
    space = task.space.of_techniques(combination.techniques).to_dict()
    if search.space != space or (search.settings.sampler == "greedy") != (combination.strategy == "greedy"):
        raise UsageError(
            f"search {search.name!r} has another space or strategy than comparison {name!r} has now; choose another "
            "`name`"
        )
