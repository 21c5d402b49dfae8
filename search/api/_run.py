"""Run a search: `search.run`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from energy import Hardware
from search.answers.result import SearchResult, result_of
from search.api.area import check_area
from search.api.checks import (
    check_effort,
    check_max_area,
    check_names,
    check_numbers,
    check_observer,
    check_value,
    find_hardware,
    target_of,
)
from search.api.images import given_data_dir, resumed_images
from search.api.options import THIRD_OBJECTIVES, SearchOptions
from search.api.planning import plan
from search.api.resumption import check_same_settings, find_resumed, space_of
from search.api.workplace import Workplace
from search.api.workshop import Workshop, key_function
from search.defaults import DEFAULT_BUDGET, DEFAULT_EFFORT, DEFAULT_HARDWARE
from search.errors import UsageError
from search.evaluation.work import Evaluate, Failed
from search.multipliers.choice import ChosenMultiplier, choose, choose_for
from search.multipliers.folder import MultiplierFolder
from search.observer import Observer
from search.space.candidate import Candidate
from search.space.plan import Plan
from search.space.search_space import SearchSpace
from search.space.space_file import choose_space
from search.space.target import Target
from search.space.task import Task
from search.space.task_request import TaskRequest, searched_task
from search.space.unemulated import check_metadata, check_partial_sums
from search.store.claims import claimed
from search.store.database import Store
from search.store.records import Record, SearchRecord, SearchSettings
from search.store.setup import Setup

if TYPE_CHECKING:
    from torch import nn

    from search.evaluation.cache.cache import TrainingCache
    from search.evaluation.work import Executor
    from search.sampling.area import AreaBound
    from search.sampling.forecast import HardwareGenomeModel

_EARLIER = 6  # candidates of earlier searches that a new one begins with
_EARLIER_LOSS = 0.2  # how far below the most accurate of these they may be


def run(
    *,
    dataset: str | os.PathLike[str] | None = None,
    data: Any = None,
    network: str | None = None,
    model: nn.Module | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    train: str | None = None,
    task: TaskRequest = TaskRequest(),
    hardware: str | os.PathLike[str] = DEFAULT_HARDWARE,
    min_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    max_area: float | None = None,
    budget: int | None = None,
    seed: int = 0,
    effort: str | None = None,
    multipliers: Sequence[str] | None = None,
    options: SearchOptions = SearchOptions(),
    workplace: Workplace = Workplace(),
    observer: Observer | None = None,
) -> SearchResult:
    """Search for the best trade-offs between accuracy and energy.

    Args:
        dataset: Where the images are: a name, a path or an import path; see `TaskRequest` for this and the next five.
        data: Instead: the images as Python objects.
        network: Import path of a function that builds a custom network, instead of the built-in families.
        model: Instead: the network itself, trained.
        checkpoint: File of the weights of the network that the function builds.
        train: `scratch`, `finetune` or `none`; a search that is resumed by its name keeps how it trains and measures.
        task: The rest of what the task is: size and normalisation of images, metric, length and rate of training.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file.
        min_accuracy: Accuracy that the answer must have, in (0, 1].
        max_accuracy_drop: Instead: how far below the baseline's accuracy it may be, in [0, 1); by default 0.02.
        max_area: Largest area of array and memories over the baseline's, above 0; by default there is no bound. Only
            the baseline itself is evaluated beyond it.
        budget: Evaluations to make, by default 200; of a resumed search in total, by default as many as before, never
            fewer.
        seed: Seed of everything random; the same seed gives the same front whatever the number of workers.
        effort: `quick`, `standard` (the default) or `thorough`: epochs, chips and fresh runs of each evaluation.
        multipliers: Names of multipliers to choose among, beside the exact one: built-in or imported ones whose energy
            is known; by default those of the space's file, else `search.multipliers.choice.MULTIPLIERS`, and those of
            the resumed search.
        options: How the search proceeds.
        workplace: Where it works.
        observer: Notified of progress; by default a line below the cell in a notebook, and nobody elsewhere.

    Raises:
        UsageError: If an argument is of the wrong type, out of range, unknown, or contradicts the search to be resumed;
            or if the hardware's partial sums cannot be emulated.
        DatasetError: If the images are missing or damaged.
        StorageError: If the database cannot be used.
        ExecutorError: If Ray cannot start.
        SearchError: If too many evaluations fail.
    """
    check_numbers(budget=budget, seed=seed)
    check_effort(effort)
    check_max_area(max_area)
    check_value("options", options, SearchOptions)
    check_value("workplace", workplace, Workplace)
    check_observer(observer)
    target = None
    if min_accuracy is not None or max_accuracy_drop is not None:
        target = target_of(min_accuracy, max_accuracy_drop)
    if max_area is not None and options.sampler == "greedy":
        raise UsageError("the greedy strategy begins at the largest, most exact candidate; leave out `max_area`")
    hardware_found = find_hardware(hardware)
    check_partial_sums(hardware_found)
    check_value("task", task, TaskRequest)
    asked = task.with_shortcuts(
        dataset=dataset, data=data, network=network, model=model, checkpoint=checkpoint, train=train
    )
    if observer is None:
        from search.report.progress import default_observer

        observer = default_observer()
    begun = _named(options.name, workplace).task if options.resume and options.name is not None else None
    return run_task(
        searched_task(asked, workplace.images, begun=begun, on_image=observer.reading_images),
        hardware_found,
        target=target,
        max_area=max_area,
        budget=budget,
        seed=seed,
        effort=effort,
        multipliers=multipliers,
        options=options,
        workplace=workplace,
        observer=observer,
    )


def _named(name: str, workplace: Workplace) -> SearchRecord:
    """The search of a name."""
    with Store.open(workplace.url, create=True) as store:
        return store.searches.find(name)


def run_task(
    task: Task,
    hardware: Hardware,
    *,
    target: Target | None,
    max_area: float | None,
    budget: int | None,
    seed: int,
    effort: str | None,
    multipliers: Sequence[str] | None,
    options: SearchOptions,
    workplace: Workplace,
    observer: Observer | None,
) -> SearchResult:
    """Search for the best trade-offs of a task that was found; see `run` for the arguments."""
    chosen, space = _choices(task, hardware, multipliers, options, workplace.multipliers)
    request = _Request(
        task=task,
        hardware=hardware,
        target=target,
        max_area=max_area,
        budget=budget,
        seed=seed,
        effort=effort,
        multipliers=chosen,
        space=space,
        options=options,
    )
    cache = workplace.open_cache()
    with Store.open(workplace.url, create=True) as store:
        begun = _find_begun(store, request) if options.resume else None
        return _run_in(store, request, begun, workplace, cache, observer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What was asked for, after its checks; None where nothing was said.

    Attributes:
        task: What is classified.
        hardware: What energy is modelled for.
        target: The accuracy that the answer has to keep; a resumed search takes it over.
        max_area: Largest area over the baseline's; a resumed search has to have the same.
        budget: Evaluations.
        seed: Seed of the search.
        effort: Effort of each evaluation.
        multipliers: Multipliers to choose among.
        space: The space, before it is restricted to multipliers and hardware.
        options: How the search proceeds.
    """

    task: Task
    hardware: Hardware
    target: Target | None
    max_area: float | None
    budget: int | None
    seed: int
    effort: str | None
    multipliers: tuple[ChosenMultiplier, ...] | None
    space: SearchSpace | None
    options: SearchOptions

    @property
    def settings(self) -> SearchSettings:
        """The settings of a new search, without what it begins with."""
        options = self.options
        return SearchSettings(
            sampler=options.sampler or "nsga2",
            prescreen=options.prescreen,
            asynchronous=options.asynchronous,
            effort=self.effort or DEFAULT_EFFORT,
            third=None if options.third_objective is None else THIRD_OBJECTIVES[options.third_objective],
        )


def _choices(
    task: Task,
    hardware: Hardware,
    multipliers: Sequence[str] | None,
    options: SearchOptions,
    folder: MultiplierFolder,
) -> tuple[tuple[ChosenMultiplier, ...] | None, SearchSpace | None]:
    """What is to be chosen from: multipliers and space, each None where nothing was said.

    Raises:
        UsageError: If it is chosen twice, or unknown.
    """
    wanted = None if options.space is None else choose_space(os.fspath(options.space), task, hardware, folder)
    chosen, space = (None, None) if wanted is None else (wanted.multipliers, wanted.space)
    if multipliers is not None:
        if chosen is not None:
            raise UsageError(
                f"multipliers are chosen twice, by `multipliers` and in {os.fspath(options.space or '')}; choose once"
            )
        chosen = choose(check_names("multipliers", multipliers, example="drum-4"), folder)
    if options.techniques is not None:
        if "multiplier" not in options.techniques:
            if chosen is not None:
                raise UsageError("multipliers are chosen, and `techniques` leaves them out; leave out one of the two")
            chosen = choose(["exact"])
        space = (space or task.space).of_techniques(options.techniques)
    return chosen, space


def _find_begun(store: Store, request: _Request) -> SearchRecord:
    """The search to be resumed.

    Raises:
        UsageError: If there is none, or it was begun in another way.
    """
    begun = find_resumed(
        store,
        request.options.name,
        request.task,
        request.seed,
        request.hardware,
        request.multipliers,
        request.space,
        request.effort,
        request.max_area,
    )
    check_same_settings(begun, request.settings, effort=request.effort, options=request.options)
    if request.options.starts:
        raise UsageError(f"search {begun.name!r} has begun already; leave out `starts`")
    return begun


def _run_in(
    store: Store,
    request: _Request,
    begun: SearchRecord | None,
    workplace: Workplace,
    cache: TrainingCache,
    observer: Observer | None,
) -> SearchResult:
    """Begin a search, or resume the one that was begun, and run it."""
    from search.space.weight_memory import check_signs, lowest_supply_mv  # loads torch

    task, hardware = request.task, request.hardware
    if begun is not None:
        chosen, searched = choose(begun.multipliers, workplace.multipliers), space_of(begun, task)
    else:
        chosen, searched = choose_for(hardware, request.multipliers), request.space or task.space
    cell = hardware.weight_memory.cell
    space = searched.restricted(chosen, cell, lowest_mv=lowest_supply_mv(hardware.weight_failures, cell))
    check_metadata(space, hardware)
    check_signs(space, chosen)
    if missing := [one for one in request.options.starts if not space.holds(one.canonical())]:
        raise UsageError(f"the space does not hold the candidate to start with: {missing[0].to_dict()}")
    settings, max_area = request.settings, request.max_area
    if begun is not None:
        settings, max_area = begun.settings, begun.target.max_area
    genome_model, area = _genome_model(space, task, hardware, settings), None
    if max_area is not None and task.network is None:
        area = _area_bound(space, genome_model, max_area, request.options.starts)
    workshop = Workshop.open(
        task,
        settings.effort,
        hardware,
        workplace,
        cache=cache,
        images=workplace.images if begun is None else resumed_images(workplace, begun),
        precision=request.options.precision if begun is None else settings.precision,
    )
    observer = workshop.notified(observer, chosen)
    with ExitStack() as stack:
        # What is refused, and what cannot begin, leaves nothing behind: not even another budget.
        if begun is not None:
            stack.enter_context(claimed(begun, store.url))
        executor = stack.enter_context(workshop.executor(chosen, seed=request.seed))
        screened = settings.sampler == "nsga2" and settings.prescreen
        if task.network is not None and (screened or max_area is not None):
            genome_model.build_networks(executor)
        if max_area is not None and area is None:
            area = _area_bound(space, genome_model, max_area, request.options.starts)
        if begun is not None:
            search = store.searches.reopen(
                begun,
                budget=max(request.budget or 0, begun.budget),
                target=None if request.target is None else replace(request.target, max_area=max_area),
                data_dir=None if workplace.data_dir is None else given_data_dir(workplace),
            )
            store.tasks.record(task)  # the weights of its network may be in another file by now
        else:
            search = _new_search(store, request, searched, space, workshop, executor, area)
            stack.enter_context(claimed(search, store.url))
        observer.stored(search)
        return _run_stored(
            search,
            task,
            space,
            genome_model,
            area,
            workshop,
            store,
            executor,
            chosen,
            observer,
            confirm=request.options.confirm,
        )


def _genome_model(space: SearchSpace, task: Task, hardware: Hardware, settings: SearchSettings) -> HardwareGenomeModel:
    from search.sampling.forecast import HardwareGenomeModel  # imported late, because it brings Optuna and torch

    return HardwareGenomeModel(space, task, hardware, costs=settings.costs)


def _area_bound(
    space: SearchSpace, genome_model: HardwareGenomeModel, max_area: float, starts: Sequence[Candidate]
) -> AreaBound:
    """Return the bound on area of a search, whose networks this process builds unless they are built already.

    Raises:
        UsageError: If no candidate keeps it, or one to start with does not.
    """
    from search.sampling.area import AreaBound

    area = AreaBound(space, genome_model.areas, max_area)
    check_area(max_area, area.least)
    for one in starts:
        if (ratio := area.ratio(one.canonical())) > max_area and one.canonical() != space.baseline():
            raise UsageError(
                f"a candidate to start with needs {ratio:.3g} times the baseline's area, more than `max_area` "
                f"{max_area:g}: {one.to_dict()}"
            )
    return area


def _new_search(
    store: Store,
    request: _Request,
    searched: SearchSpace,
    space: SearchSpace,
    workshop: Workshop,
    executor: Executor,
    area: AreaBound | None,
) -> SearchRecord:
    """Store a new search.

    Args:
        store: Keeps it.
        request: What was asked for.
        searched: Its space.
        space: The same, restricted to multipliers and hardware.
        workshop: Where it works.
        executor: Evaluates; asynchronous searches have generations larger than its workers.
        area: The bound on area of what it asks for, if it has one.
    """
    # Imported late, because they bring Optuna and torch.
    from search.sampling.asker import population_size
    from search.sampling.starts import starting_genomes
    from search.store.studies import study_names

    budget, options, settings = request.budget or DEFAULT_BUDGET, request.options, request.settings
    earlier = [] if options.fresh else _best_of_earlier(store, request.task, request.hardware, request.seed, settings)
    fit = None if area is None else area.fitting(request.seed)
    starts = starting_genomes(space, budget=budget, requested=options.starts, earlier=earlier, fit=fit)
    # Asynchronous asks belong to different generations only if these are larger than what is under way.
    least_population = math.ceil(1.5 * executor.workers) if settings.asynchronous else 0
    return store.searches.create(
        name=options.name,
        task=request.task,
        hardware=request.hardware.identity,
        seed=request.seed,
        budget=budget,
        population_size=max(population_size(budget), least_population),
        target=replace(request.target or target_of(None, None), max_area=request.max_area),
        multipliers=space.multipliers,
        data_dir=given_data_dir(workshop.workplace),
        space=searched.to_dict(),
        settings=replace(settings, starts=tuple(starts), precision=workshop.task.effort.precision),
        taken=study_names(store.url),
    )


def _run_stored(
    search: SearchRecord,
    task: Task,
    space: SearchSpace,
    genome_model: HardwareGenomeModel,
    area: AreaBound | None,
    workshop: Workshop,
    store: Store,
    executor: Executor,
    multipliers: Sequence[ChosenMultiplier],
    observer: Observer,
    *,
    confirm: bool,
) -> SearchResult:
    """Run a search to its budget, and confirm its answer; `task` is the one with its standard effort."""
    from search.engine import run_search
    from search.evaluation import datasets

    key_of = key_function(workshop.task, workshop.data.fingerprint, workshop.hardware, search.seed, multipliers)

    def planner(evaluations: int, before: int) -> Plan | None:
        known = store.evaluations.find(key_of(space.baseline())) is not None
        return plan(
            task,
            space,
            workshop,
            executor,
            is_safe=genome_model.is_safe,
            evaluations=evaluations,
            before=before,
            confirm=confirm,
            known=known and not before,
        )

    result = run_search(
        search,
        space,
        store,
        executor,
        genome_model=genome_model,
        key_of=key_of,
        observer=observer,
        planner=planner,
        remark=lambda baseline: datasets.weakness(workshop.task, workshop.data.validation, baseline),
        area=area,
    )
    printed = [result.baseline, *result.front]
    if confirm:
        confirmer = workshop.confirmer(store, executor, observer)
        answer = confirmer.answer(result.evaluations, result.baseline, search.target, plain=result.stored.plain)
        if answer.record is not None and _evaluate_plain(answer.record, search, key_of, store, executor, observer):
            plain = result_of(store, search).stored.plain
            answer = confirmer.answer(result.evaluations, result.baseline, search.target, plain=plain)
        printed += answer.records
    workshop.keep_networks(executor, printed)
    store.searches.finish(search)
    return result_of(store, store.searches.find(search.name))


def _evaluate_plain(
    record: Record,
    search: SearchRecord,
    key_of: Callable[[Candidate], str],
    store: Store,
    executor: Executor,
    observer: Observer,
) -> bool:
    """Evaluate the network of an answer without approximations, as it may be the right-sized one.

    A search asks for few such networks, and with a larger one as the reference, what the network saves would count as
    what approximation does.

    Returns:
        Whether there is a new evaluation.
    """
    answer = record.evaluation.candidate
    plain = replace(search.task.space.baseline(), family=answer.family, depth=answer.depth, width=answer.width)
    key = key_of(plain)
    if store.evaluations.find(key) is not None:
        return False
    observer.sizing(plain)
    (outcome,) = executor.run([Evaluate(key=key, candidate=plain)])
    if isinstance(outcome, Failed):
        observer.failed(plain, outcome.error)
        return False
    observer.storing()
    store.evaluations.record(key, outcome.result, search.setup, seed=search.seed)
    return True


def _best_of_earlier(
    store: Store, task: Task, hardware: Hardware, seed: int, settings: SearchSettings
) -> list[Candidate]:
    """Candidates from all along the front of searches with other seeds; with the same one they are found again."""
    found = store.evaluations.front(Setup.of(task, hardware, settings.effort), without_seed=seed)
    if not found:
        return []
    floor = max(record.evaluation.accuracy for record in found) - _EARLIER_LOSS
    near = [record.evaluation.candidate for record in found if record.evaluation.accuracy >= floor]
    places = sorted({round(place * (len(near) - 1) / (_EARLIER - 1)) for place in range(_EARLIER)})
    return [near[place] for place in places]
