"""Costs and features of genomes that are not trained yet."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import approx
import energy
from search.errors import SearchError
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.evaluation import Evaluation
from search.evaluation.evaluator import Evaluator
from search.evaluation.training import untrained_layers
from search.images.places import ImagePlaces
from search.sampling.forecast import HardwareGenomeModel
from search.space.candidate import Candidate
from search.space.task import CustomNetwork, find_task
from tests.support.fakes import FakeExecutor

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
    data = datasets.load(TASK, ImagePlaces.at(folder))
    evaluator = Evaluator(TASK, data, HARDWARE, seed=0, cache=TrainingCache(folder))
    return evaluator.evaluate(TASK.space.decode(GENES), "validation")


def test_costs_are_exact_once_the_network_was_evaluated(evaluation: Evaluation) -> None:
    genome_model = HardwareGenomeModel(TASK.space, TASK, HARDWARE, costs=COSTS)
    genome_model.learn([evaluation])
    assert genome_model.costs([GENES]) == pytest.approx(np.array([[evaluation.energy_pj, evaluation.area_mm2]]))
    other = {**GENES, "supply_mv": 900}
    assert genome_model.costs([other])[0, 0] > genome_model.costs([GENES])[0, 0]


def test_costs_are_approximate_before(evaluation: Evaluation) -> None:
    genome_model = HardwareGenomeModel(TASK.space, TASK, HARDWARE)
    assert genome_model.costs([GENES])[0, 0] == pytest.approx(evaluation.energy_pj, rel=0.25)


def test_genomes_that_cannot_run_cost_infinity(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(workloads: object, hardware: object, costs: object) -> energy.BatchReport:
        raise energy.WorkloadError("too large")

    genome_model = HardwareGenomeModel(TASK.space, TASK, HARDWARE, costs=COSTS)
    monkeypatch.setattr("search.sampling.forecast.energy.estimate_batch", refuse)
    assert np.isposinf(genome_model.costs([GENES, GENES])).all()


CUSTOM = TASK.with_network(
    CustomNetwork(path="nets:build", folder="/nowhere", max_depth=3, max_width=8, fingerprint="00")
)


class Builder(FakeExecutor):
    """Builds multilayer perceptrons, but none of these widths."""

    def __init__(self, *refused: int) -> None:
        super().__init__()
        self._refused = refused

    def inspect(self, candidate: Candidate) -> tuple[approx.LayerShape, ...]:
        if candidate.width in self._refused:
            raise ArithmeticError("tried 2 times; it took more than 10 s")
        return untrained_layers(TASK, replace(candidate, family="mlp"))


def custom(width: int) -> dict[str, object]:
    return {**CUSTOM.space.encode(CUSTOM.space.baseline()), "depth": 1, "width": width}


def test_networks_that_the_executor_cannot_build_cost_infinity(
    caplog: pytest.LogCaptureFixture,
) -> None:
    executor = Builder(2)
    small = replace(CUSTOM.space, depth=range(1, 2))
    genome_model = HardwareGenomeModel(small, CUSTOM, HARDWARE, costs=COSTS)
    with caplog.at_level(logging.WARNING, logger="search"):
        genome_model.build_networks(executor)
    costs = genome_model.costs([custom(1), custom(2), custom(3)])
    assert np.isposinf(costs[1]).all()
    assert np.isfinite(costs[[0, 2]]).all()
    sizes = [(job.candidate.depth, job.candidate.width) for job in executor.jobs]
    assert sorted(sizes) == [*((1, width) for width in range(1, 9)), (3, 8)]  # and the baseline
    assert (np.abs(genome_model.features([custom(2)])) < 10).all()
    (warning,) = caplog.messages
    assert warning == (
        "nets:build cannot build its network of depth 1 and width 2, which is skipped: tried 2 times; it took more "
        "than 10 s"
    )


def test_a_baseline_that_cannot_be_built_ends_a_search() -> None:
    genome_model = HardwareGenomeModel(CUSTOM.space, CUSTOM, HARDWARE)
    with pytest.raises(SearchError, match=r"the network of the baseline cannot be built: tried 2 times"):
        genome_model.build_networks(Builder(8))


def test_features_are_finite_and_distinguish_genomes() -> None:
    genome_model = HardwareGenomeModel(TASK.space, TASK, HARDWARE)
    (features,) = genome_model.features([GENES])
    assert np.isfinite(features).all()
    assert (np.abs(features) < 10).all()
    for gene, value in {"width": 3, "sparsity_percent": 55, "multiplier": "asm-1", "supply_mv": 790}.items():
        other, again = genome_model.features([{**GENES, gene: value}, GENES])
        assert not np.array_equal(other, features)
        assert np.array_equal(again, features)
