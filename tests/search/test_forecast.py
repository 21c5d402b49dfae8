"""Costs are known before training but for how many activations are zero."""

from pathlib import Path

import numpy as np
import pytest

import energy
from search import datasets
from search.evaluate import Evaluator
from search.evaluation import Evaluation
from search.forecast import HardwareProblem
from search.stages import StageStore
from search.task import find_task

TASK = find_task("digits").with_effort("quick")
HARDWARE = energy.load_hardware("weight-stationary-45nm")
COSTS = ("energy_pj", "area_mm2")
GENES = {
    **TASK.space.encode(TASK.space.baseline()),
    "depth": 1,
    "width": 2,
    "sparsity_percent": 50,
    "weight_bits": 5,
    "multiplier": "truncated-4",
    "supply_mv": 800,
    "robust_bits": 2,
}


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder: Path = tmp_path_factory.mktemp("stages")
    data = datasets.load(TASK, folder)
    evaluator = Evaluator(TASK, data, HARDWARE, seed=0, stages=StageStore(folder))
    return evaluator.evaluate(TASK.space.decode(GENES), "validation")


def test_costs_are_exact_once_the_network_was_evaluated(evaluation: Evaluation) -> None:
    problem = HardwareProblem(TASK.space, TASK, HARDWARE, costs=COSTS)
    problem.learn([evaluation])
    assert problem.costs([GENES]) == pytest.approx(np.array([[evaluation.energy_pj, evaluation.area_mm2]]))
    other = {**GENES, "supply_mv": 900}
    assert problem.costs([other])[0, 0] > problem.costs([GENES])[0, 0]


def test_costs_are_near_before(evaluation: Evaluation) -> None:
    problem = HardwareProblem(TASK.space, TASK, HARDWARE)
    assert problem.costs([GENES])[0, 0] == pytest.approx(evaluation.energy_pj, rel=0.25)


def test_what_cannot_run_costs_more_than_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(workloads: object, hardware: object) -> energy.BatchReport:
        raise energy.WorkloadError("too large")

    problem = HardwareProblem(TASK.space, TASK, HARDWARE, costs=COSTS)
    monkeypatch.setattr("search.forecast.energy.estimate_batch", refuse)
    assert (problem.costs([GENES, GENES]) == 1e30).all()


def test_features_are_finite_and_tell_genomes_apart() -> None:
    problem = HardwareProblem(TASK.space, TASK, HARDWARE)
    (features,) = problem.features([GENES])
    assert np.isfinite(features).all()
    assert (np.abs(features) < 10).all()
    for gene, value in {"width": 3, "sparsity_percent": 55, "multiplier": "asm-1", "supply_mv": 790}.items():
        other, again = problem.features([{**GENES, gene: value}, GENES])
        assert not np.array_equal(other, features)
        assert np.array_equal(again, features)
