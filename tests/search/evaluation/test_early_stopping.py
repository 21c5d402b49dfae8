"""Early stopping, measured energy, and efforts."""

from collections.abc import Iterable
from pathlib import Path

import pytest

import energy
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.early_stopping import MARGIN, Rival, bar, is_beaten
from search.evaluation.evaluator import Evaluator
from search.evaluation.meter import Meter
from search.evaluation.work import Done, Evaluate
from search.images.places import ImagePlaces
from search.space.task import find_task

pytestmark = pytest.mark.slow

TASK = find_task("digits").with_effort("quick")
HARDWARE = energy.load_hardware("weight-stationary-45nm")
CANDIDATE = TASK.space.decode({**TASK.space.encode(TASK.space.baseline()), "width": 1, "depth": 1, "weight_bits": 4})


def rivals(*points: tuple[float, float]) -> list[Rival]:
    return [Rival(costs=(cost,), accuracy=accuracy) for cost, accuracy in points]


def test_only_evaluations_that_cost_no_more_are_rivals() -> None:
    assert bar(rivals((1.0, 0.8), (2.0, 0.9), (3.0, 0.99)), (2.0,)) == 0.9
    assert bar(rivals((3.0, 0.99)), (2.0,)) is None
    both = [Rival(costs=(1.0, 5.0), accuracy=0.9)]
    assert bar(both, (2.0, 4.0)) is None
    assert bar(both, (2.0, 5.0)) == 0.9


def test_a_candidate_is_beaten_where_it_is_clearly_below() -> None:
    assert is_beaten(0.95 - MARGIN - 0.001, 0.95)
    assert not is_beaten(0.95 - MARGIN + 0.001, 0.95)
    assert not is_beaten(0.5, 0.67)  # much is left to learn
    assert is_beaten(0.5, 0.68)
    assert not is_beaten(0.1, None)


def evaluate(folder: Path, against: Iterable[Rival]) -> tuple[float, bool, float | None]:
    evaluator = Evaluator(
        TASK, datasets.load(TASK, ImagePlaces.at(folder)), HARDWARE, seed=0, cache=TrainingCache(folder)
    )
    outcome = evaluator.run(Evaluate(key="k", candidate=CANDIDATE, rivals=tuple(against)))
    assert isinstance(outcome, Done), outcome
    return outcome.result.accuracy, outcome.result.stopped, outcome.result.early_accuracy


def test_stopping_depends_on_the_rivals_and_not_on_the_cache(tmp_path: Path) -> None:
    whole = evaluate(tmp_path / "whole", [])
    assert not whole[1]
    assert whole[0] != whole[2]
    stopped = evaluate(tmp_path / "stopped", rivals((1.0, 1.0)))
    assert stopped == (whole[2], True, whole[2])
    # The network is cached by the first evaluation here, and is judged by the same figure.
    assert evaluate(tmp_path / "whole", rivals((1.0, 1.0))) == stopped
    assert evaluate(tmp_path / "whole", rivals((1e30, 1.0))) == whole
    assert evaluate(tmp_path / "stopped", []) == whole


def test_energy_is_measured_if_the_system_reports_it(tmp_path: Path) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "energy_uj").write_text("900000000\n")
    (zone / "max_energy_range_uj").write_text("1000000000\n")
    meter = Meter(tmp_path)
    (zone / "energy_uj").write_text("100000000\n")  # it has wrapped around: 200 J
    total = 0
    while meter.spent().joules is None:  # until the system's count of busy time advances
        total += sum(range(100_000))
    spent = meter.spent()
    assert spent.joules is not None
    assert 0 < spent.joules <= 200
    assert spent.cpu_seconds > 0
    assert spent.seconds > 0


def test_energy_is_unknown_if_the_system_does_not_report_it(tmp_path: Path) -> None:
    assert Meter(tmp_path).spent().joules is None


@pytest.mark.parametrize(("effort", "epochs"), [("quick", 16), ("standard", 40), ("thorough", 80)])
def test_effort_sets_epochs_and_runs(effort: str, epochs: int) -> None:
    found = find_task("digits").with_effort(effort).effort
    assert found.train_epochs == pytest.approx(epochs)
    assert found.confirmations == {"quick": 3, "standard": 5, "thorough": 10}[effort]
