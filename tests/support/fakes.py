"""Searches without training, whose evaluations follow a formula, and multipliers as if imported."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution

import approx
import energy
from energy.cost_table import CostKey, CostRow, shipped_rows
from search.defaults import DEFAULT_DROP
from search.evaluation.confirmation_run import ConfirmationRun
from search.evaluation.early_stopping import Rival
from search.evaluation.evaluation import Evaluation, Split
from search.evaluation.work import Done, Evaluate, Failed, Outcome, Result, WorkItem
from search.multipliers.choice import ChosenMultiplier
from search.multipliers.folder import MultiplierFolder
from search.multipliers.identity import multiplier_identity
from search.observer import Observer
from search.sampling.asker import population_size
from search.space.candidate import Candidate
from search.space.plan import StepTimes
from search.space.search_space import SearchSpace
from search.space.target import Target
from search.space.task import Task, find_task
from search.store.database import Store
from search.store.records import Record, SearchRecord, SearchSettings
from search.store.setup import Setup

SETUP = Setup(task="digits", hardware="any", effort="standard")
TARGET = Target(max_accuracy_drop=DEFAULT_DROP)
SETTINGS = SearchSettings()
CLASSES = 10  # of all built-in data sets but one


def new_search(
    store: Store,
    *,
    name: str | None = None,
    setup: Setup = SETUP,
    task: Task | None = None,
    seed: int = 0,
    budget: int = 40,
    target: Target = TARGET,
    settings: SearchSettings = SETTINGS,
) -> SearchRecord:
    """A search that was just begun, of the whole space of its task."""
    task = task or find_task(setup.task)
    return store.searches.create(
        name=name,
        task=task,
        hardware=setup.hardware,
        seed=seed,
        budget=budget,
        population_size=population_size(budget),
        target=target,
        multipliers=task.space.multipliers,
        settings=settings,
        space=task.space.to_dict(),
    )


def formula(candidate: Candidate) -> Evaluation:
    """Return an evaluation: more of everything is more accurate and costs more; low voltage needs robust bits."""
    size = candidate.depth * candidate.width
    accuracy = 1 - 0.5 / size - 0.2 / candidate.weight_bits**2 - 0.1 * candidate.sparsity**4
    accuracy -= max(0.0, 0.8 - candidate.supply_v) * max(0, 5 - candidate.robust_bits)
    work = size * candidate.weight_bits * candidate.activation_bits * (1 - candidate.sparsity)
    return Evaluation(
        candidate=candidate,
        chip_accuracies=(max(0.0, accuracy), max(0.0, accuracy - 0.01)),
        class_accuracies=(max(0.0, accuracy - 0.005),) * CLASSES,
        components_pj={"mac": work, "weight_sram": work * candidate.supply_v**2},
        latency_us=1.0,
        macs=size,
        density=1 - candidate.sparsity,
        energy_range_pj=(work / 2, work * 4),
        area_mm2=0.1,
        workload={"layers": []},
        hardware="flexible-45nm",
        precision="float32",
        dense_layers=(),
        failures="silicon-14nm",
        circuit_bits=None,
        narrow_sums=None,
        early_accuracy=1.0,  # so that none is beaten early
        stopped=False,
        seconds=0.0,
        cpu_seconds=0.0,
        joules=None,
        images=1000,
    )


def fresh_run(candidate: Candidate, run: int) -> ConfirmationRun:
    """Return a fresh run, a little less accurate than the search, as the best of many is a little lucky."""
    accuracy = max(0.0, formula(candidate).accuracy - 0.002 - 0.001 * (run % 3))
    return ConfirmationRun(
        candidate=candidate,
        run=run,
        chip_accuracies=(accuracy,),
        images=10_000,
        pool=100_000,
        outcomes=None,
        retrained=True,
        test_accuracies=(accuracy,),
        test_class_accuracies=(accuracy,) * CLASSES,
        seconds=0,
    )


class FakeGenomeModel:
    """The genome model of a space whose evaluations follow the formula."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def learn(self, evaluations: Iterable[Evaluation]) -> None:
        """Learn nothing: costs are known."""

    def distributions(self) -> Mapping[str, BaseDistribution]:
        return self._space.distributions()

    def identity(self, genes: Mapping[str, Any]) -> str:
        return self._space.decode(genes).key

    def costs(self, genomes: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        return np.array([[formula(self._space.decode(genes)).energy_pj] for genes in genomes])

    def features(self, genomes: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        return np.array([_features(self._space.decode(genes)) for genes in genomes])


def _features(candidate: Candidate) -> list[float]:
    numbers = [candidate.depth / 3, candidate.width / 8, candidate.sparsity, candidate.weight_bits / 8]
    return [*numbers, candidate.supply_v, candidate.robust_bits / 4]


class FakeExecutor:
    """Yields outcomes in a shuffled order and records its jobs."""

    workers = 1

    def __init__(self, order_seed: int = 0, evaluate: Callable[[Candidate], Evaluation] = formula) -> None:
        self._random = np.random.default_rng(order_seed)
        self._evaluate = evaluate
        self.jobs: list[WorkItem[Any]] = []

    def run(self, jobs: Iterable[WorkItem[Result]]) -> Iterator[Outcome[Result]]:
        listed = list(jobs)
        for index in self._random.permutation(len(listed)):
            job = listed[index]
            self.jobs.append(job)
            try:
                yield Done(key=job.key, result=job.done_by(self))
            except ArithmeticError as error:
                yield Failed(key=job.key, error=str(error))

    def evaluated(self, split: Split = "validation") -> list[Evaluate]:
        return [job for job in self.jobs if isinstance(job, Evaluate) and job.split == split]

    def evaluate(
        self,
        candidate: Candidate,
        split: Split,
        *,
        rivals: tuple[Rival, ...],
        costs: tuple[str, ...],
        keep_as: str | None,
    ) -> Evaluation:
        return self._evaluate(candidate)

    def confirm(self, candidate: Candidate, run: int) -> ConfirmationRun:
        return fresh_run(candidate, run)

    def keep(self, key: str, candidate: Candidate, *, seed: int, dense_layers: tuple[str, ...]) -> bool:
        return False  # there is no network

    def inspect(self, candidate: Candidate) -> tuple[approx.LayerShape, ...]:
        raise NotImplementedError("no test builds networks by formula")

    def time(self, candidate: Candidate, limit_s: float) -> StepTimes:
        return StepTimes(train_step_s=1e-3, retrain_step_s=1e-3, convert_s=1e-3, image_s=1e-6)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None


class InterruptionError(Exception):
    """Stands for anything that stops a search."""


class InterruptAfter(Observer):
    """Stops a search after a number of evaluations."""

    def __init__(self, evaluations: int) -> None:
        self.left = evaluations

    def evaluated(self, record: Record, *, reused: bool) -> None:
        self.left -= 1
        if self.left == 0:
            raise InterruptionError


def imported(name: str = "mine", *, signed: bool = False, bits: int = 8, dropped_bits: int = 3) -> approx.Multiplier:
    """Return a multiplier as if imported, whose products lack some of the lowest bits."""
    return approx.multiplier_from_function(
        name,
        lambda activation, weight: (activation * weight >> dropped_bits) << dropped_bits,
        signed=signed,
        weight_bits=bits,
        activation_bits=bits,
    )


def custom_rows(name: str, *, weight_bits: Iterable[int], activation_bits: Iterable[int]) -> list[CostRow]:
    """Return the costs that characterisation would find for a multiplier in layers."""
    widths = set(product(weight_bits, activation_bits))
    return [
        replace(row, name=name)
        for row in shipped_rows()
        if (row.name, row.form) == ("truncated-4", "layer") and (row.weight_bits, row.activation_bits) in widths
    ]


def keep(multiplier: approx.Multiplier, *, weight_bits: int = 8, activation_bits: int = 8) -> str:
    """Keep a multiplier and its cost up to some widths, as the commands do; return its identity."""
    folder = MultiplierFolder.default()
    folder.add(multiplier)
    widths = {"weight_bits": range(2, weight_bits + 1), "activation_bits": range(2, activation_bits + 1)}
    folder.keep_costs(custom_rows(multiplier.name, **widths))
    return multiplier_identity(multiplier.name, multiplier.digest)


def chosen_import(multiplier: approx.Multiplier) -> ChosenMultiplier:
    """Return a multiplier with its costs at all widths, without a folder."""
    costs: dict[CostKey, energy.MultiplierCost] = {
        ("layer", w, a): energy.multiplier_cost("truncated-4", weight_bits=w, activation_bits=a)
        for w, a in product(range(2, 9), range(2, 9))
    }
    return ChosenMultiplier(
        identity=multiplier_identity(multiplier.name, multiplier.digest), imported=multiplier, costs=costs
    )
