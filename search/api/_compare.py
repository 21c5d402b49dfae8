"""How much each technique saves alone, in pairs, and all four together, at the same budget.

The question of the paper that this project follows: at accuracy losses of 0.5, 1, 2 and 5 points, is it worth searching
all four techniques jointly? Each combination has a search of its own, stored under a name of its own, so that a
comparison that was stopped goes on where it was. None begins with what another found. A greedy strategy, which takes
one step after the other, gets the same budget for all four.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from energy import load_hardware
from search.answers.comparison import COMBINATIONS, Choice, Combination, Comparison, Row
from search.answers.confirmation import Answer, Target
from search.answers.result import SearchResult, result_of
from search.api import _run as api
from search.api.checks import check_numbers, check_work, task_of
from search.defaults import DEFAULT_DATASET, DEFAULT_EFFORT, DEFAULT_HARDWARE
from search.errors import StorageError, UsageError
from search.locations import storage_url
from search.report import words as report
from search.space.task import EFFORTS, Task
from search.store.store import Record, SearchRecord, Store

if TYPE_CHECKING:
    from search.observer import Observer

LOSSES = (0.005, 0.01, 0.02, 0.05)
DEFAULT_BUDGET = 60


def compare(
    *,
    dataset: str = DEFAULT_DATASET,
    network: str | None = None,
    budget: int | None = None,
    losses: Sequence[float] = LOSSES,
    seed: int = 0,
    effort: str | None = None,
    hardware: str = DEFAULT_HARDWARE,
    confirm: bool = True,
    name: str | None = None,
    workers: int | None = None,
    storage: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    stages: str | os.PathLike[str] | None = None,
    stages_limit: str | int | None = None,
    ray_address: str | None = None,
    timeout_s: float | None = None,
    observer: Observer | None = None,
) -> Comparison:
    """Search every combination of `COMBINATIONS`, and say what each saves at some accuracy losses.

    With the name of a comparison that was begun before, it goes on where it stopped: finished searches and fresh runs
    are taken as they are. The same seed gives the same comparison, whatever the number of workers.

    A choice is the cheapest of its search whose loss fresh runs confirm. Where none is confirmed, it is the cheapest
    whose fresh runs lose no more on average, and says that it is not confirmed; where there is none either, it is the
    baseline. Without fresh runs, it is the cheapest by what the search measured.

    Args:
        dataset: A name from `task_names()`.
        network: Import path of your own network, as for `search.run`.
        budget: Evaluations of each search, by default 60, or as many as the comparison was begun with.
        losses: How far below the baseline's accuracy, each in [0, 1). The greedy strategy goes down 5 points at most.
        seed: Of every search.
        effort: Of each evaluation, as for `search.run`; by default `standard`, or that of the comparison.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file.
        confirm: Whether fresh runs are made.
        name: Of the comparison; its searches have names that begin so. By default a new one, DATASET-compare-NUMBER.
        workers: As for `search.run`, like all that follow.
        storage: Results database.
        data_dir: Folder of datasets.
        stages: Folder or fsspec URL of trained networks.
        stages_limit: Of what is kept there.
        ray_address: Of a Ray cluster to join.
        timeout_s: Time after which an evaluation is given up.
        observer: Is told of progress, and by a note before each search which one it is.

    Raises:
        UsageError: If an argument is out of range, unknown, or contradicts the comparison to be gone on with.
        DatasetError: If the images are missing or damaged.
        StorageError: If the database cannot be used.
        ExecutorError: If Ray cannot start.
        SearchError: If too many evaluations of a search fail.
    """
    limits = _checked(losses)
    check_numbers(budget=budget, seed=seed)
    check_work(workers, ray_address, timeout_s)
    if effort is not None and effort not in EFFORTS:
        raise UsageError(f"--effort must be one of {', '.join(EFFORTS)}, got {effort!r}")
    if name is not None and not re.fullmatch(r"[\w.-]{1,70}", name, re.ASCII):
        raise UsageError(f"--name may have up to 70 letters, digits, '.', '_' and '-', got {name!r}")
    task = task_of(dataset, network)
    platform = load_hardware(hardware)
    name = name or free_name(dataset, storage=storage)
    stored = _stored(storage_url(storage))
    begun = {one: stored[name + one.suffix] for one in COMBINATIONS if name + one.suffix in stored}
    first = next(iter(begun.values()), None)
    budget = budget or (DEFAULT_BUDGET if first is None else first.budget)
    effort = effort or (DEFAULT_EFFORT if first is None else first.settings.effort)
    for combination, search in begun.items():
        _check_same(
            name, search, combination, task, hardware=platform.identity, seed=seed, budget=budget, effort=effort
        )

    results: list[SearchResult] = []
    for number, combination in enumerate(COMBINATIONS, 1):
        search_begun = begun.get(combination)
        finished = search_begun is not None and search_begun.finished_at is not None
        if observer is not None:
            state = ", finished before" if finished else ""
            observer.noted(f"{name}, search {number} of {len(COMBINATIONS)}: {combination.label}{state}")
        if search_begun is not None and finished:
            with Store.open(storage_url(storage), create=False) as store:
                results.append(result_of(store, search_begun))
            continue
        results.append(
            api.run(
                dataset=dataset,
                network=network,
                budget=budget,
                seed=seed,
                workers=workers,
                hardware=hardware,
                storage=storage,
                data_dir=data_dir,
                stages=stages,
                stages_limit=stages_limit,
                name=name + combination.suffix,
                resume=search_begun is not None,
                effort=effort,
                sampler="greedy" if combination.strategy == "greedy" else None,
                techniques=combination.techniques,
                fresh=True,
                confirm=False,
                ray_address=ray_address,
                timeout_s=timeout_s,
                observer=observer,
            )
        )

    baseline = results[0].baseline
    choices = [[_measured(result.front, baseline, loss) for loss in limits] for result in results]
    if confirm:
        if observer is not None:
            observer.noted(f"{name}: confirming the cheapest of each search by fresh runs")
        found = iter(
            api.answers(
                [(result.evaluations, Target(max_accuracy_drop=loss)) for result in results for loss in limits],
                baseline,
                dataset=dataset,
                network=network,
                hardware=hardware,
                effort=effort,
                workers=workers,
                storage=storage,
                data_dir=data_dir,
                stages=stages,
                stages_limit=stages_limit,
                ray_address=ray_address,
                timeout_s=timeout_s,
                observer=observer,
            )
        )
        choices = [[_confirmed(next(found), loss) for loss in limits] for _ in results]
    return Comparison(
        name=name,
        dataset=dataset,
        network=network,
        hardware=platform.identity,
        seed=seed,
        budget=budget,
        effort=effort,
        confirm=confirm,
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


def free_name(dataset: str, *, storage: str | None = None) -> str:
    """The name of a new comparison: the dataset's with the first free number.

    Args:
        dataset: A name from `task_names()`.
        storage: Results database; see `search.locations.storage_url`.
    """
    taken = {_comparison_of(name) for name in _stored(storage_url(storage))}
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
    record = report.cheapest_at([*records, baseline], baseline.evaluation.accuracy - loss)
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


def _checked(losses: Sequence[float]) -> tuple[float, ...]:
    if not losses:
        raise UsageError("a comparison needs at least one accuracy loss, such as 0.01 for one percentage point")
    for loss in losses:
        if not 0 <= loss < 1:
            raise UsageError(
                f"an accuracy loss must be at least 0 and below 1, such as 0.01 for one percentage point, got {loss:g}"
            )
    return tuple(sorted(set(losses)))


def _stored(url: str) -> dict[str, SearchRecord]:
    """The stored searches by name; a database that cannot be opened is complained about when it is written to."""
    try:
        with Store.open(url, create=False) as store:
            return {search.name: search for search in store.searches()}
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
    """Refuse to go on with a comparison that was begun otherwise."""
    if search.task != task.identity:
        raise UsageError(
            f"comparison {name!r} was begun with {report.task_words(search.task)}, or with a network that was edited "
            "meanwhile; choose another --name"
        )
    for option, stored, given in (
        ("hardware", search.hardware, hardware),
        ("seed", search.seed, seed),
        ("budget", search.budget, budget),
        ("effort", search.settings.effort, effort),
    ):
        if stored != given:
            raise UsageError(
                f"comparison {name!r} has {option} {stored}, not {given}; go on with --{option} {stored}, or choose "
                "another --name"
            )
    space = task.space.of_techniques(combination.techniques).to_dict()
    if search.space != space or (search.settings.sampler == "greedy") != (combination.strategy == "greedy"):
        raise UsageError(
            f"search {search.name!r} searches otherwise than comparison {name!r} does now; choose another --name"
        )
