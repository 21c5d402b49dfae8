"""Run a search and ask for its answers, from Python: what the command line and the service call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from energy import Hardware, load_hardware
from search.candidate import Candidate, content_hash
from search.errors import NothingFoundError, UsageError
from search.evaluation import evaluation_key
from search.locations import data_dir as find_data_dir
from search.locations import stage_dir, stage_limit, stage_location, storage_url
from search.multiplier_choice import ChosenMultiplier, choose
from search.result import SearchResult, front
from search.space import MULTIPLIERS, SearchSpace
from search.space_choice import choose_space
from search.store import Record, SearchRecord, Store
from search.task import Task, find_task, stored_names

if TYPE_CHECKING:
    from search.datasets import TaskData
    from search.engine import Observer
    from search.executor import Executor
    from search.stages import StageStore

DEFAULT_BUDGET = 200
DEFAULT_DATASET = "digits"
DEFAULT_HARDWARE = "weight-stationary-45nm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configurations:
    """The answer to "what are the cheapest configurations at this accuracy?".

    Attributes:
        records: The non-dominated stored evaluations whose validation accuracy reaches the target, cheapest first; at
            least one.
        baseline: The evaluation that savings are against.
    """

    records: tuple[Record, ...]
    baseline: Record

    @property
    def best(self) -> Record:
        """The cheapest."""
        return self.records[0]


def default_workers() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    observer: Observer | None = None,
) -> SearchResult:
    """Search for the best trade-offs between accuracy and energy.

    Args:
        dataset: A name from `task_names()`.
        network: Import path of a function that builds your own network, `package.module:function`, instead of the
            families; see `search.own_network`. The module is looked for in the current folder first.
        budget: Evaluations to make, by default 200; with `resume`, in total, by default as many as before, never less.
        min_accuracy: The accuracy that is wanted, in (0, 1]; noted with the search, which looks for the whole front.
        seed: Of everything random; the same seed gives the same front whatever the number of workers.
        workers: Ray workers; by default one a core. 0 evaluates in this process, without Ray.
        multipliers: Names to choose among, beside the exact one: of the catalogue or imported ones, whose energy is
            known; by default those of the space's file or else `search.space.MULTIPLIERS`, and with `resume` those of
            the resumed search.
        space: `default`, `layered`, or the path of a YAML file that restricts or extends the space; see
            `search.space_choice`. By default `default`, and with `resume` that of the resumed search.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file.
        storage: Results database; see `search.locations.storage_url`.
        data_dir: Folder of datasets; see `search.locations.data_dir`.
        stages: Folder or fsspec URL of trained networks; see `search.locations.stage_location`.
        stages_limit: Of what is kept there, such as "10GB", or in bytes; see `search.locations.stage_limit`.
        name: Of the search; by default the dataset's name and a number.
        resume: Go on with the search of this name or, without a name, with the newest one of this dataset, network,
            seed, hardware and, if given, multipliers and space.
        observer: Is told of progress; nobody is by default.

    Raises:
        UsageError: If an argument is out of range, unknown, or contradicts the search to be resumed.
        DatasetError: If the images are missing or damaged.
        StorageError: If the database cannot be used.
        ExecutorError: If Ray cannot start.
        SearchError: If too many evaluations fail.
    """
    task = find_task(dataset)
    if budget is not None and budget < 1:
        raise UsageError(f"--budget must be at least 1, got {budget}")
    _check_accuracy(min_accuracy)
    workers = default_workers() if workers is None else workers
    if workers < 0:
        raise UsageError(f"--workers must be at least 0, got {workers}")
    if not -(2**31) <= seed < 2**31:
        raise UsageError(f"--seed must be a 32-bit whole number, got {seed}")
    platform = load_hardware(hardware)
    task = _with_network(task, network)
    wanted = None if space is None else choose_space(os.fspath(space), task, platform)
    if multipliers is not None and wanted is not None and wanted.multipliers is not None:
        raise UsageError(f"multipliers are chosen twice, by --multipliers and in {os.fspath(space or '')}; choose once")
    chosen, searched = (None, None) if wanted is None else (wanted.multipliers, wanted.space)
    if multipliers is not None:
        chosen = choose(_names(multipliers))
    url = storage_url(storage)
    from search.stages import StageStore  # imported late, because it brings fsspec

    stage_store = StageStore(stage_location(stages, url), limit_bytes=stage_limit(stages_limit))
    with Store.open(url, create=True) as store:
        # Imported late, because they bring torch and scikit-learn: a mistyped option is answered at once.
        from search import datasets
        from search.engine import Observer, population_size, run_search, study_names

        data = datasets.load(task, find_data_dir(data_dir))
        if resume:
            search = _find_resumed(store, name, task, seed, platform, chosen, searched)
            searched = _space_of(search, task)
            chosen = choose(search.multipliers or MULTIPLIERS)
            search = store.reopen_search(
                search,
                budget=max(budget or 0, search.budget),
                min_accuracy=search.min_accuracy if min_accuracy is None else min_accuracy,
            )
        else:
            chosen, searched = chosen or choose(MULTIPLIERS), searched or task.space
            searched.restricted(chosen, platform.weight_memory.cell)  # before anything is stored
            search = store.create_search(
                name=name,
                task=task.identity,
                hardware=platform.identity,
                seed=seed,
                budget=budget or DEFAULT_BUDGET,
                population_size=population_size(budget or DEFAULT_BUDGET),
                min_accuracy=min_accuracy,
                multipliers=_identities(chosen),
                space=searched.to_dict(),
                taken=study_names(url),
            )
        observer = observer or Observer()
        for limits in filter(None, (one.limits for one in chosen)):
            observer.noted(limits)
        unwritable = stage_store.why_unwritable()
        if unwritable is not None:
            observer.noted(unwritable)
        key_of = _key_function(task, data.fingerprint, platform, search.seed, chosen)
        with (
            _claimed(search, stage_dir(url)),
            _executor(task, data, platform, search.seed, stage_store, workers, chosen) as executor,
        ):
            return run_search(
                search,
                searched.restricted(chosen, platform.weight_memory.cell),
                store,
                executor,
                key_of=key_of,
                observer=observer,
            )


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
    task = find_task(dataset)
    _check_accuracy(min_accuracy)
    platform = load_hardware(hardware)
    task = _with_network(task, network)
    command = f"search run {task.options}"
    if hardware != DEFAULT_HARDWARE:
        command += f" --hardware {hardware}"
    with Store.open(storage_url(storage), create=False) as store:
        baseline = store.evaluation_of(task.space.baseline(), task=task.identity, hardware=platform.identity)
        if baseline is None:
            raise NothingFoundError(
                f"no search of {_words(task)} on {platform.identity} is stored yet; make one with: {command}"
            )
        meeting = store.evaluations(task=task.identity, hardware=platform.identity, min_accuracy=min_accuracy)
        if not meeting:
            all_records = store.evaluations(task=task.identity, hardware=platform.identity)
            highest = max(record.evaluation.accuracy for record in all_records)
            raise NothingFoundError(
                f"no stored configuration of {_words(task)} reaches {min_accuracy:.2%}; the most accurate reaches "
                f"{highest:.2%}. Ask for less, or search more with another --seed or a larger --budget: {command}"
            )
    return Configurations(records=tuple(reversed(front(meeting))), baseline=baseline)


def _with_network(task: Task, path: str | None) -> Task:
    if path is None:
        return task
    from search.own_network import find_network  # which brings torch

    network = find_network(path, folder=str(Path.cwd()), image_shape=task.image_shape, classes=task.classes)
    return task.with_network(network)


def _words(task: Task) -> str:
    return repr(task.name) + (f", network {task.network.path} as it is now," if task.network else "")


def _check_accuracy(accuracy: float | None) -> None:
    if accuracy is not None and not 0 < accuracy <= 1:
        raise UsageError(f"--min-accuracy must be above 0 and at most 1, such as 0.95 for 95 %, got {accuracy:g}")


def _names(given: Sequence[str]) -> list[str]:
    names = [name.strip() for name in given]
    if not all(names):
        raise UsageError(f"--multipliers takes names with a comma between two of them, got {','.join(given)!r}")
    return names


def _identities(multipliers: Sequence[ChosenMultiplier]) -> tuple[str, ...]:
    return tuple(one.identity for one in multipliers)


def _find_resumed(
    store: Store,
    name: str | None,
    task: Task,
    seed: int,
    hardware: Hardware,
    multipliers: Sequence[ChosenMultiplier] | None,
    space: SearchSpace | None,
) -> SearchRecord:
    """The search to be resumed; without a choice of multipliers or a space, whatever its own is."""
    wanted = None if multipliers is None else _identities(multipliers)
    if name is not None:
        search = store.find_search(name)
        dataset, network = stored_names(search.task)
        for what, stored, given in (
            ("dataset", dataset, task.name),
            ("hardware", search.hardware, hardware.identity),
            ("seed", search.seed, seed),
        ):
            if stored != given:
                raise UsageError(f"search {name!r} has {what} {stored}, not {given}; resume it with --{what} {stored}")
        if network != (task.network and task.network.path):
            raise UsageError(
                f"search {name!r} has {f'the network {network}' if network else 'the built-in networks'}; resume it "
                + (f"with --network {network}" if network else "without --network")
            )
        if search.task != task.identity:
            raise UsageError(
                f"{network} was edited after search {name!r} began, so its evaluations cannot be compared; search with "
                "what it is now without --resume"
            )
        if wanted not in (None, search.multipliers):
            own = ", ".join(search.multipliers) if search.multipliers else "the multipliers of an earlier release"
            raise UsageError(
                f"search {name!r} chooses among {own}, not {', '.join(wanted or ())}; resume it without --multipliers"
            )
        if space is not None and space.to_dict() != _space_of(search, task).to_dict():
            raise UsageError(
                f"search {name!r} searches another space than --space says now; resume it without --space (search show "
                f"{name} --json has its own)"
            )
        return search
    same = [
        search
        for search in store.searches()
        if (search.task, search.seed, search.hardware) == (task.identity, seed, hardware.identity)
        and wanted in (None, search.multipliers)
        and (space is None or space.to_dict() == _space_of(search, task).to_dict())
    ]
    if not same:
        among = "" if wanted is None else f" that chooses among {', '.join(wanted)}"
        among += "" if space is None else " in this --space"
        raise UsageError(
            f"there is no search of {_words(task)} with seed {seed} on {hardware.identity}{among} to "
            "resume; start one without --resume, or list all with: search show"
        )
    return same[0]


def _space_of(search: SearchRecord, task: Task) -> SearchSpace:
    """The space of a stored search, before it is restricted."""
    return task.space if search.space is None else task.space.with_values(search.space)


@contextmanager
def _claimed(search: SearchRecord, folder: Path) -> Iterator[None]:
    """Keep a second process of this machine from running the same search; the claim ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{search.name}.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(f"search {search.name!r} is being run by another process; wait for it, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def _key_function(
    task: Task, fingerprint: str, hardware: Hardware, seed: int, multipliers: Sequence[ChosenMultiplier]
) -> Callable[[Candidate], str]:
    own_costs = {one.identity: one.costs for one in multipliers if one.costs is not None}

    def key_of(candidate: Candidate) -> str:
        key = evaluation_key(candidate, task, fingerprint=fingerprint, hardware=hardware, seed=seed)
        # What was characterised here may be characterised anew, with another outcome.
        figures = [
            {name: figure for name, figure in asdict(cost).items() if name != "source"}
            for cost in (
                own_costs[multiplier]["layer", candidate.weight_bits, candidate.activation_bits]
                for multiplier in candidate.multipliers
                if multiplier in own_costs
            )
        ]
        if not figures:
            return key
        return content_hash({"evaluation": key, "multiplier_cost": figures[0] if len(figures) == 1 else figures})

    return key_of


def _executor(
    task: Task,
    data: TaskData,
    hardware: Hardware,
    seed: int,
    stages: StageStore,
    workers: int,
    multipliers: Sequence[ChosenMultiplier],
) -> Executor:
    if workers == 0:
        from search.evaluate import Evaluator
        from search.executor import SerialExecutor

        evaluator = Evaluator(task, data, hardware, seed=seed, stages=stages, multipliers=multipliers)
        return SerialExecutor(evaluator.run)
    from search.ray_executor import RayExecutor

    return RayExecutor(task, data, hardware, seed=seed, stages=stages, workers=workers, multipliers=multipliers)
