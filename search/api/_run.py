"""Run a search and ask for its answers, from Python: what the command line and the service call."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from energy import Hardware, hardware_names, load_hardware
from search.answers.confirmation import Answer, Target
from search.answers.confirmation import knee as find_knee
from search.answers.confirmation import target_of as stored_target
from search.answers.result import SearchResult
from search.answers.stored import Configurations, Stored
from search.api._resume import check_same_settings, claimed, find_resumed, space_of
from search.api.checks import (
    check_numbers,
    check_work,
    known_techniques,
    multiplier_names,
    settings_of,
    target_of,
    task_of,
)
from search.api.workshop import Workshop, key_function, open_stages
from search.defaults import DEFAULT_BUDGET, DEFAULT_DATASET, DEFAULT_EFFORT, DEFAULT_HARDWARE
from search.errors import UnknownNameError, UsageError
from search.locations import storage_url
from search.multipliers.choice import ChosenMultiplier, choose, register
from search.space.candidate import Candidate
from search.space.search_space import MULTIPLIERS, SearchSpace
from search.space.space_file import choose_space
from search.space.task import Task, find_task, stored_names
from search.store.store import Record, SearchRecord, SearchSettings, Store

if TYPE_CHECKING:
    from search.evaluation.job import Executor
    from search.observer import Observer

_EARLIER = 6  # candidates of earlier searches that a new one begins with
_EARLIER_LOSS = 0.2  # how far below the most accurate of these they may be


def run(
    *,
    dataset: str = DEFAULT_DATASET,
    network: str | None = None,
    budget: int | None = None,
    min_accuracy: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    multipliers: Sequence[str] | None = None,
    space: str | os.PathLike[str] | None = None,
    hardware: str = DEFAULT_HARDWARE,
    storage: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    stages: str | os.PathLike[str] | None = None,
    stages_limit: str | int | None = None,
    name: str | None = None,
    resume: bool = False,
    effort: str | None = None,
    sampler: str | None = None,
    prescreen: bool = True,
    asynchronous: bool = False,
    third_objective: str | None = None,
    techniques: Sequence[str] | None = None,
    starts: Sequence[Candidate] = (),
    fresh: bool = False,
    max_accuracy_drop: float | None = None,
    confirm: bool = True,
    ray_address: str | None = None,
    timeout_s: float | None = None,
    observer: Observer | None = None,
) -> SearchResult:
    """Search for the best trade-offs between accuracy and energy.

    Args:
        dataset: A name from `task_names()`.
        network: Import path of a function that builds your own network, `package.module:function`, instead of the
            families; see `search.space.custom_network`. The module is looked for in the current folder first.
        budget: Evaluations to make, by default 200; with `resume`, in total, by default as many as before, never less.
        min_accuracy: The accuracy that is wanted, in (0, 1]; noted with the search, which looks for the whole front.
        seed: Of everything random; the same seed gives the same front whatever the number of workers.
        workers: Ray workers; by default one a core. 0 evaluates in this process, without Ray.
        multipliers: Names to choose among, beside the exact one: of the catalogue or imported ones, whose energy is
            known; by default those of the space's file or else `search_space.MULTIPLIERS`, and with
            `resume` those of the resumed search.
        space: `default`, `layered`, or the path of a YAML file that restricts or extends the space; see
            `search.space.space_file`. By default `default`, and with `resume` that of the resumed search.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file.
        storage: Results database; see `search.locations.storage_url`.
        data_dir: Folder of datasets; see `search.locations.data_dir`.
        stages: Folder or fsspec URL of trained networks; see `search.locations.stage_location`.
        stages_limit: Of what is kept there, such as "10GB", or in bytes; see `search.locations.stage_limit`.
        name: Of the search; by default the dataset's name and a number.
        resume: Go on with the search of this name or, without a name, with the newest one of this dataset, network,
            seed, hardware and, if given, multipliers and space.
        effort: Of each evaluation: `quick`, `standard` (the default) or `thorough`; it sets epochs, chips and fresh
            runs.
        sampler: One of `search.sampling.asker.SAMPLERS`, by default `nsga2`; or `greedy`, the sequential strategy.
        prescreen: Whether a surrogate screens what `nsga2` proposes.
        asynchronous: Whether a candidate is asked for whenever a worker is free, instead of in whole generations.
            Results then depend on the order in which evaluations finish.
        third_objective: `area` or `latency`, to be minimised beside energy.
        techniques: Those of `search.space.techniques.TECHNIQUES` to be searched; the others stay as in the baseline.
        starts: Candidates to be evaluated first, whatever else is.
        fresh: Whether to begin without the best of earlier searches with other seeds.
        max_accuracy_drop: How far below the baseline's the accuracy of the answer may be, in [0, 1); by default 0.02,
            unless there is a `min_accuracy`.
        confirm: Whether the answer is confirmed by fresh runs when the search is over.
        ray_address: Of a Ray cluster to join, as `ray.init` takes it.
        timeout_s: Time after which an evaluation is given up; by default many times what others took.
        observer: Is told of progress; by default a line below the cell in a notebook, and nobody elsewhere.

    Raises:
        UsageError: If an argument is out of range, unknown, or contradicts the search to be resumed.
        DatasetError: If the images are missing or damaged.
        StorageError: If the database cannot be used.
        ExecutorError: If Ray cannot start.
        SearchError: If too many evaluations fail.
    """
    task = find_task(dataset)
    check_numbers(budget=budget, seed=seed)
    check_work(workers, ray_address, timeout_s)
    target_of(min_accuracy, max_accuracy_drop)
    settings = settings_of(
        effort=effort,
        sampler=sampler,
        prescreen=prescreen,
        asynchronous=asynchronous,
        third_objective=third_objective,
        max_accuracy_drop=max_accuracy_drop,
        starts=starts,
    )
    platform = load_hardware(hardware)
    task = task_of(dataset, network)
    wanted = None if space is None else choose_space(os.fspath(space), task, platform)
    if multipliers is not None and wanted is not None and wanted.multipliers is not None:
        raise UsageError(f"multipliers are chosen twice, by --multipliers and in {os.fspath(space or '')}; choose once")
    chosen, searched = (None, None) if wanted is None else (wanted.multipliers, wanted.space)
    if multipliers is not None:
        chosen = choose(multiplier_names(multipliers))
    if techniques is not None:
        if "multiplier" not in known_techniques(techniques):
            if chosen is not None:
                raise UsageError("multipliers are chosen, and --techniques leaves them out; leave out one of the two")
            chosen = choose(["exact"])
        searched = (searched or task.space).of_techniques(techniques)
    url = storage_url(storage)
    stage_store = open_stages(url, stages, stages_limit)
    with Store.open(url, create=True) as store:
        # Imported late, because they bring torch and scikit-learn: a mistyped option is answered at once.
        from search.engine import study_names
        from search.sampling.asker import population_size
        from search.sampling.starts import starting_genomes

        begun = find_resumed(store, name, task, seed, platform, chosen, searched, effort) if resume else None
        if begun is not None:
            check_same_settings(begun, settings, effort=effort, sampler=sampler, third_objective=third_objective)
            if starts:
                raise UsageError(f"search {begun.name!r} has begun already; leave out --start")
            chosen, searched = choose(begun.multipliers or MULTIPLIERS), space_of(begun, task)
        chosen, searched = chosen or choose(MULTIPLIERS), searched or task.space
        restricted = searched.restricted(chosen, platform.weight_memory.cell)
        if missing := [one for one in starts if not restricted.holds(one.canonical())]:
            raise UsageError(f"the space does not hold the candidate to start with: {missing[0].to_dict()}")
        workshop = Workshop.open(
            task,
            settings.effort if begun is None else begun.settings.effort,
            platform,
            stage_store,
            data_dir=data_dir,
            workers=workers,
            ray_address=ray_address,
            timeout_s=timeout_s,
        )
        observer = workshop.told(observer, chosen)
        with ExitStack() as stack:
            # What is refused, and what cannot begin, leaves nothing behind: not even another budget.
            if begun is not None:
                stack.enter_context(claimed(begun, url))
            executor = stack.enter_context(workshop.executor(chosen, seed=seed))
            if begun is not None:
                search = store.reopen_search(
                    begun,
                    budget=max(budget or 0, begun.budget),
                    min_accuracy=min_accuracy,
                    max_accuracy_drop=max_accuracy_drop,
                )
            else:
                budget = budget or DEFAULT_BUDGET
                earlier = [] if fresh else _best_of_earlier(store, task, platform, seed, settings)
                search = store.create_search(
                    name=name,
                    task=task.identity,
                    hardware=platform.identity,
                    seed=seed,
                    budget=budget,
                    population_size=max(population_size(budget), _least_population(settings, executor.workers)),
                    min_accuracy=min_accuracy,
                    multipliers=tuple(one.identity for one in chosen),
                    space=searched.to_dict(),
                    settings=replace(
                        settings,
                        starts=tuple(starting_genomes(restricted, budget=budget, own=starts, earlier=earlier)),
                    ),
                    taken=study_names(url),
                )
                stack.enter_context(claimed(search, url))
            observer.stored(search)
            return _run(search, restricted, workshop, store, executor, chosen, observer, confirm=confirm)


def resume(
    name: str | None = None,
    *,
    budget: int | None = None,
    hardware: str | None = None,
    workers: int | None = None,
    storage: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    stages: str | os.PathLike[str] | None = None,
    stages_limit: str | int | None = None,
    confirm: bool = True,
    ray_address: str | None = None,
    timeout_s: float | None = None,
    observer: Observer | None = None,
) -> SearchResult:
    """Go on with a search, whatever stopped it, as it was begun.

    Args:
        name: Of the search; by default the newest one that is unfinished.
        budget: Evaluations in all, by default as many as before, never less.
        hardware: The YAML file of hardware of your own; what comes along is known by the search.
        workers: As for `run`, like all that follow.
        storage: Results database.
        data_dir: Folder of datasets.
        stages: Folder or fsspec URL of trained networks.
        stages_limit: Of what is kept there.
        confirm: Whether the answer is confirmed.
        ray_address: Of a Ray cluster to join.
        timeout_s: Time after which an evaluation is given up.
        observer: Is told of progress.

    Raises:
        UnknownNameError: If there is no such search, or none is unfinished.
        UsageError: If its hardware is not known here; see `run` for the others.
    """
    url = storage_url(storage)
    with Store.open(url, create=False) as store:
        if name is None:
            unfinished = [search for search in store.searches() if search.finished_at is None]
            if not unfinished:
                raise UnknownNameError(
                    "no search is unfinished; give the name of one and a larger --budget to go on: search resume NAME "
                    "--budget N"
                )
            search = unfinished[0]
        else:
            search = store.find_search(name)
    if hardware is None and search.hardware not in hardware_names():
        raise UsageError(
            f"search {search.name!r} has hardware of your own, {search.hardware}; give its file: search resume "
            f"{search.name} --hardware FILE.yaml"
        )
    dataset, network = stored_names(search.task)
    return run(
        dataset=dataset,
        network=network,
        budget=budget,
        seed=search.seed,
        workers=workers,
        hardware=hardware or search.hardware,
        storage=storage,
        data_dir=data_dir,
        stages=stages,
        stages_limit=stages_limit,
        name=search.name,
        resume=True,
        confirm=confirm,
        ray_address=ray_address,
        timeout_s=timeout_s,
        observer=observer,
    )


def best(
    *,
    min_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    knee: bool = False,
    dataset: str = DEFAULT_DATASET,
    network: str | None = None,
    hardware: str = DEFAULT_HARDWARE,
    effort: str = DEFAULT_EFFORT,
    confirm: bool = True,
    workers: int | None = None,
    storage: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    stages: str | os.PathLike[str] | None = None,
    stages_limit: str | int | None = None,
    ray_address: str | None = None,
    timeout_s: float | None = None,
    observer: Observer | None = None,
) -> Answer:
    """The cheapest stored configuration for a target whose accuracy fresh runs confirm; see `search.answers`.

    Runs that were made before are not made again.

    Args:
        min_accuracy: The accuracy that is wanted, in (0, 1].
        max_accuracy_drop: Instead: how far below the baseline's it may be, in [0, 1); by default 0.02.
        knee: Instead of the cheapest, the knee of the front above the target; see `search.answers.confirmation.knee`.
        dataset: A name from `task_names()`.
        network: Import path of your own network, as for `run`: evaluations of what it is now.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file.
        effort: Of the evaluations and of the fresh runs.
        confirm: Whether missing runs are made. Without, an answer that was not confirmed before says so.
        workers: As for `run`, like all that follow.
        storage: Results database.
        data_dir: Folder of datasets.
        stages: Folder or fsspec URL of trained networks.
        stages_limit: Of what is kept there.
        ray_address: Of a Ray cluster to join.
        timeout_s: Time after which a run is given up.
        observer: Is told of progress.

    Raises:
        UsageError: If an argument is out of range or unknown.
        StorageError: If the database does not exist or cannot be used.
        NothingFoundError: If no stored evaluation reaches the target.
    """
    target = target_of(min_accuracy, max_accuracy_drop)
    check_work(workers, ray_address, timeout_s)
    find_task(dataset).with_effort(effort)
    platform = load_hardware(hardware)
    task = task_of(dataset, network)
    url = storage_url(storage)
    stage_store = open_stages(url, stages, stages_limit)
    with Store.open(url, create=False) as store:
        stored = Stored.read(store, task, platform, effort=effort)
        found = stored.configurations(target, hardware=hardware)
        if knee:
            records = [find_knee(found.records)]
            answer = stored.answer(target, records)
        else:
            answer = stored.with_confirmed_before(stored.answer(target))
            most = answer.record.evaluation.energy_pj if answer.record and answer.confirmed else math.inf
            wanted = target.accuracy(found.baseline.evaluation.accuracy)
            place = {"task": task.identity, "hardware": platform.identity, "effort": effort}
            records = store.evaluations(**place, min_accuracy=wanted, max_pj=most) if confirm else []
        if not (confirm and stored.lacks_runs(target, records)):
            return answer
        workshop = Workshop.open(
            task,
            effort,
            platform,
            stage_store,
            data_dir=data_dir,
            workers=workers,
            ray_address=ray_address,
            timeout_s=timeout_s,
        )
        (answer,) = _confirmed([(records, target)], found.baseline, workshop, store, observer)
        if knee:
            return answer
        return Stored.read(store, task, platform, effort=effort).with_confirmed_before(answer)  # runs were made


def answers(
    questions: Sequence[tuple[Sequence[Record], Target]],
    baseline: Record,
    *,
    dataset: str = DEFAULT_DATASET,
    network: str | None = None,
    hardware: str = DEFAULT_HARDWARE,
    effort: str = DEFAULT_EFFORT,
    workers: int | None = None,
    storage: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    stages: str | os.PathLike[str] | None = None,
    stages_limit: str | int | None = None,
    ray_address: str | None = None,
    timeout_s: float | None = None,
    observer: Observer | None = None,
) -> list[Answer]:
    """Of each of some sets of stored evaluations, the cheapest for a target that fresh runs confirm.

    One set of workers makes all the runs; those of a candidate in several sets, and those made before, are made once.

    Args:
        questions: Evaluations and what is wanted of them.
        baseline: The evaluation that savings and relative targets are against.
        dataset: A name from `task_names()`; that of the evaluations, like all that describes them.
        network: Import path of your own network, as for `run`.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file.
        effort: Of the fresh runs.
        workers: As for `run`, like all that follow.
        storage: Results database.
        data_dir: Folder of datasets.
        stages: Folder or fsspec URL of trained networks.
        stages_limit: Of what is kept there.
        ray_address: Of a Ray cluster to join.
        timeout_s: Time after which a run is given up.
        observer: Is told of progress.

    Returns:
        An answer to each question, in their order.

    Raises:
        UsageError: If an argument is out of range or unknown; see `run` for the others.
    """
    check_work(workers, ray_address, timeout_s)
    task = task_of(dataset, network)
    url = storage_url(storage)
    with Store.open(url, create=False) as store:
        workshop = Workshop.open(
            task,
            effort,
            load_hardware(hardware),
            open_stages(url, stages, stages_limit),
            data_dir=data_dir,
            workers=workers,
            ray_address=ray_address,
            timeout_s=timeout_s,
        )
        return _confirmed(questions, baseline, workshop, store, observer)


def configurations(
    *,
    min_accuracy: float,
    dataset: str = DEFAULT_DATASET,
    network: str | None = None,
    hardware: str = DEFAULT_HARDWARE,
    storage: str | None = None,
) -> Configurations:
    """The cheapest stored evaluations of a dataset at or above a validation accuracy.

    They are not confirmed by fresh runs: the accuracy of the cheapest of many is, on average, a little lucky. The
    accuracy on test images, where there is one, was not used to choose them.

    Args:
        min_accuracy: In (0, 1].
        dataset: A name from `task_names()`.
        network: Import path of your own network, as for `run`: evaluations of what it is now.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file.
        storage: Results database; see `search.locations.storage_url`.

    Raises:
        UsageError: If an argument is out of range or unknown.
        StorageError: If the database does not exist or cannot be used.
        NothingFoundError: If no stored evaluation reaches the accuracy.
    """
    target = target_of(min_accuracy, None)
    find_task(dataset)
    platform = load_hardware(hardware)
    task = task_of(dataset, network)
    with Store.open(storage_url(storage), create=False) as store:
        return Stored.read(store, task, platform, effort=DEFAULT_EFFORT).configurations(target, hardware=hardware)


def _run(
    search: SearchRecord,
    space: SearchSpace,
    workshop: Workshop,
    store: Store,
    executor: Executor,
    multipliers: Sequence[ChosenMultiplier],
    observer: Observer,
    *,
    confirm: bool,
) -> SearchResult:
    """Run a search to its budget, and confirm its answer."""
    from search.answers.result import result_of
    from search.engine import run_search
    from search.sampling.forecast import HardwareProblem

    register(multipliers)
    problem = HardwareProblem(space, workshop.task, workshop.platform, costs=search.settings.costs)
    if workshop.task.network is not None and search.settings.sampler == "nsga2" and search.settings.prescreen:
        problem.build_networks(executor)
    key_of = key_function(workshop.task, workshop.data.fingerprint, workshop.platform, search.seed, multipliers)
    result = run_search(search, space, store, executor, problem=problem, key_of=key_of, observer=observer)
    if confirm:
        workshop.confirmer(store, executor, observer).answer(result.evaluations, result.baseline, stored_target(search))
    store.finish_search(search)
    return result_of(store, store.find_search(search.name))


def _confirmed(
    questions: Sequence[tuple[Sequence[Record], Target]],
    baseline: Record,
    workshop: Workshop,
    store: Store,
    observer: Observer | None,
) -> list[Answer]:
    """An answer to each question, all by the same workers."""
    observer = workshop.told(observer)
    everything = [baseline, *(record for records, _ in questions for record in records)]
    multipliers: dict[str, ChosenMultiplier] = {}
    unknown: set[str] = set()
    for name in sorted({name for one in everything for name in one.evaluation.candidate.multipliers}):
        try:
            multipliers |= {one.identity: one for one in choose([name])}
        except UsageError as error:  # it was imported once, and is not kept any more, or is another one now
            unknown.add(name)
            observer.noted(f"configurations with the multiplier {name} are left out: {error}")
    with workshop.executor([*multipliers.values()]) as executor:
        confirmer = workshop.confirmer(store, executor, observer)
        return [
            confirmer.answer(
                [one for one in records if not unknown & set(one.evaluation.candidate.multipliers)], baseline, target
            )
            for records, target in questions
        ]


def _least_population(settings: SearchSettings, workers: int) -> int:
    """Asynchronous asks are told apart by generations only if these are larger than what is under way."""
    return math.ceil(1.5 * workers) if settings.asynchronous else 0


def _best_of_earlier(
    store: Store, task: Task, platform: Hardware, seed: int, settings: SearchSettings
) -> list[Candidate]:
    """Candidates from all along the front of searches with other seeds; with the same one they are found anew."""
    found = store.front(task=task.identity, hardware=platform.identity, effort=settings.effort, without_seed=seed)
    if not found:
        return []
    floor = max(record.evaluation.accuracy for record in found) - _EARLIER_LOSS
    near = [record.evaluation.candidate for record in found if record.evaluation.accuracy >= floor]
    places = sorted({round(place * (len(near) - 1) / (_EARLIER - 1)) for place in range(_EARLIER)})
    return [near[place] for place in places]
