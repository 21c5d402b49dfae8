import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import approx
import energy
from energy.hardware_parts import Cell
from search.errors import UsageError
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.chips import Chips
from search.evaluation.emulation import Emulation
from search.evaluation.evaluation import Evaluation, evaluation_key
from search.evaluation.evaluator import Evaluator
from search.evaluation.task_images import TaskImages
from search.evaluation.training import Training
from search.evaluation.work import Done, Evaluate, Failed
from search.evaluation.workload import on_hardware
from search.images.image_set import ImageSet
from search.images.places import ImagePlaces
from search.multipliers.choice import MULTIPLIERS, choose
from search.space.candidate import Candidate
from search.space.effort import Effort
from search.space.task import Task, find_task
from tests.support.fakes import chosen_import, imported

pytestmark = pytest.mark.slow

HARDWARE = energy.load_hardware("weight-stationary-45nm")
EMULATION = Emulation(failures=HARDWARE.weight_failures, circuit_bits=None, partial_sums=None, multipliers={})
QUICK = Effort(
    train_epochs=6,
    derive_epochs=6,
    prune_epochs=1,
    approximate_epochs=1,
    batch_size=64,
    learning_rate=3e-3,
    derive_learning_rate=1e-2,
    prune_learning_rate=1e-3,
    approximate_learning_rate=1e-3,
    chips=3,
)
TASK: Task = replace(find_task("digits"), effort=QUICK)
STAGES = ["derive", "prune", "approximate"]  # from the baseline, which comes with the package
CANDIDATE = Candidate(
    family="mlp",
    depth=1,
    width=4,
    sparsity=0.5,
    weight_bits=6,
    activation_bits=6,
    multiplier="asm-1-3",
    supply_v=0.74,
    robust_bits=1,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> datasets.TaskData:
    return datasets.load(TASK, ImagePlaces.at(tmp_path_factory.mktemp("data")))


def evaluator(data: datasets.TaskData, cache_folder: Path, seed: int = 0) -> Evaluator:
    return Evaluator(TASK, data, HARDWARE, seed=seed, cache=TrainingCache(cache_folder))


def training(
    data: datasets.TaskData,
    cache_folder: Path,
    *,
    task: Task = TASK,
    on_training: Callable[[str], None] = lambda stage: None,
) -> Training:
    return Training(
        task,
        TaskImages(task, data),
        seed=0,
        cache=TrainingCache(cache_folder),
        emulation=EMULATION,
        on_training=on_training,
    )


def without_time(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, seconds=0.0, cpu_seconds=0.0, joules=None)


def test_an_evaluation_depends_on_candidate_and_seed_alone(data: datasets.TaskData, tmp_path: Path) -> None:
    first = evaluator(data, tmp_path / "a").evaluate(CANDIDATE, "validation")
    threads = torch.get_num_threads()
    fresh = evaluator(data, tmp_path / "b")
    fresh.evaluate(replace(CANDIDATE, multiplier="truncated-4"), "validation")
    torch.rand(7)
    second = fresh.evaluate(CANDIDATE, "validation")
    assert without_time(first) == without_time(second)
    assert torch.get_num_threads() == threads
    other = evaluator(data, tmp_path / "c", seed=1).evaluate(CANDIDATE, "validation")
    assert other.chip_accuracies != first.chip_accuracies


def test_timing_a_network_changes_no_result(data: datasets.TaskData, tmp_path: Path) -> None:
    timed = evaluator(data, tmp_path / "a")
    threads = torch.get_num_threads()
    times = timed.time(CANDIDATE, 0.2)
    assert torch.get_num_threads() == threads
    assert 0 < times.train_step_s < times.retrain_step_s
    assert not (tmp_path / "a").exists()  # nothing of it is kept
    found = timed.evaluate(CANDIDATE, "validation")
    assert without_time(found) == without_time(evaluator(data, tmp_path / "b").evaluate(CANDIDATE, "validation"))


def test_stages_are_shared_between_candidates_that_share_them(data: datasets.TaskData, tmp_path: Path) -> None:
    def cache() -> int:
        return len(list(tmp_path.glob("*/*.pt")))

    shared = evaluator(data, tmp_path)
    counts = []
    for change in ({}, {"supply_v": 0.8}, {"weight_bits": 4}, {"sparsity": 0.8}, {"sparsity": 0.0}, {"width": 2}):
        shared.evaluate(replace(CANDIDATE, **change), "validation")
        counts.append(cache())
    # derive, prune and approximate; then only the stages that a changed knob affects, as a voltage at which cells fail;
    # no prune stage without pruning
    assert counts == [3, 4, 5, 7, 8, 11]


def test_accuracy_is_over_chips_and_falls_with_the_voltage(data: datasets.TaskData, tmp_path: Path) -> None:
    shared = evaluator(data, tmp_path)
    nominal, low, lowest = (
        shared.evaluate(replace(CANDIDATE, supply_v=v, robust_bits=0), "validation") for v in (0.9, 0.74, 0.6)
    )
    assert len(low.chip_accuracies) == 3
    assert len(set(low.chip_accuracies)) > 1
    assert len(set(nominal.chip_accuracies)) == 1
    assert nominal.accuracy > 0.85
    assert nominal.accuracy > lowest.accuracy
    assert low.accuracy_worst == min(low.chip_accuracies) < low.accuracy
    assert lowest.energy_pj < low.energy_pj < nominal.energy_pj


def test_fully_robust_memory_does_not_fail(data: datasets.TaskData, tmp_path: Path) -> None:
    shared = evaluator(data, tmp_path)
    perfect = shared.evaluate(replace(CANDIDATE, supply_v=0.9), "validation")
    robust = shared.evaluate(replace(CANDIDATE, supply_v=0.6, robust_bits=6), "validation")
    assert robust.chip_accuracies == perfect.chip_accuracies


LAYERED = replace(
    CANDIDATE, depth=2, multiplier_first="exact", multiplier_last="truncated-4", robust_bits_first=4, robust_bits_last=0
)


def test_accuracy_is_that_of_the_partial_sums_of_the_hardware(
    data: datasets.TaskData, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Hardware whose sums are narrower costs less, and its networks are retrained and measured with such sums."""
    candidate = replace(CANDIDATE, weight_bits=8, activation_bits=8, supply_v=0.9, robust_bits=0)
    trained: list[str] = []

    def on(hardware: energy.Hardware) -> tuple[Evaluation, list[str]]:
        trained.clear()
        one = Evaluator(TASK, data, hardware, seed=0, cache=TrainingCache(tmp_path))
        one._networks._on_training = trained.append  # type: ignore[attr-defined]
        return one.evaluate(candidate, "validation"), list(trained)

    wide, stages = on(HARDWARE)
    assert wide.narrow_sums is None
    assert stages == STAGES
    found = {}
    for overflow in ("saturate", "wrap"):
        narrow, stages = on(replace(HARDWARE, partial_sum_bits=16, partial_sum_overflow=overflow))
        assert stages == ["approximate"]  # what does not depend on sums is shared
        assert narrow.narrow_sums is not None
        assert (narrow.narrow_sums.bits, narrow.narrow_sums.overflow) == (16, overflow)
        assert narrow.narrow_sums.overflowed is not None
        assert 0 < narrow.narrow_sums.overflowed < 1
        assert narrow.chip_accuracies != wide.chip_accuracies
        assert narrow.energy_pj < wide.energy_pj
        assert Evaluation.from_dict(json.loads(json.dumps(narrow.to_dict()))) == narrow
        found[overflow] = narrow
    assert found["saturate"].accuracy > found["wrap"].accuracy
    for dataflow in ("output-stationary", "best"):  # every output is the same running sum there
        narrow, stages = on(replace(HARDWARE, partial_sum_bits=16, dataflow=dataflow))
        assert stages == []
        assert narrow.chip_accuracies == found["saturate"].chip_accuracies
    for bits in (32, 40):  # which hold every sum
        enough, stages = on(replace(HARDWARE, partial_sum_bits=bits))
        assert stages == []
        assert (enough.narrow_sums, enough.chip_accuracies) == (None, wide.chip_accuracies)
    assert not [one for one in recwarn if one.category is approx.OverflowWarning]


def test_hardware_whose_sums_cannot_be_emulated_evaluates_nothing(data: datasets.TaskData, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="row-stationary-65nm is row-stationary and its partial sums saturate"):
        Evaluator(TASK, data, energy.load_hardware("row-stationary-65nm"), seed=0, cache=TrainingCache(tmp_path))


def test_a_layered_candidate_equals_one_built_by_hand_with_approx(data: datasets.TaskData, tmp_path: Path) -> None:
    found = evaluator(data, tmp_path).evaluate(LAYERED, "validation")
    made = training(data, tmp_path / "other")
    images = TaskImages(TASK, data)
    pruned = made.pruned(LAYERED)
    first, middle, last = names = [name for name, _ in approx.weight_layers(pruned.model)]
    assert approx.layer_order(pruned.model, images.example()) == names
    config = approx.LayerApproximation(weight_bits=6, activation_bits=6, multiplier="asm-1-3")
    by_hand = approx.approximate(
        pruned.model,
        approx.NetworkApproximation(
            default=config,
            overrides={first: replace(config, multiplier="exact"), last: replace(config, multiplier="truncated-4")},
        ),
        calibration_data=images.calibration_data(),
        masks=pruned.masks,
    )
    trained, _ = made.approximated(LAYERED, pruned)
    assert approx.layer_order(trained, images.example()) == names
    by_hand.load_state_dict(trained.state_dict())
    memory = approx.SILICON_14NM.at(0.74)
    approx.set_memory(by_hand, weights=memory, robust_bits={first: 4, middle: 1, last: 0})
    validation = approx.LabelledImages(
        torch.tensor(data.validation.images()), torch.tensor(data.validation.labels), TASK.pixel_max
    )
    seeds = Chips(images, EMULATION, count=QUICK.chips, seed=0).seeds("validation")
    wanted = approx.chip_accuracies(by_hand, validation, seeds)
    assert found.chip_accuracies == tuple(wanted)
    assert len(set(wanted)) > 1


def test_the_energy_of_a_layered_candidate_is_that_of_its_layers(data: datasets.TaskData, tmp_path: Path) -> None:
    found = evaluator(data, tmp_path).evaluate(LAYERED, "validation")
    kept = energy.Workload.from_dict(found.workload)
    assert [(layer.multiplier, layer.robust_bits) for layer in kept.layers] == [
        ("exact", 4),
        (None, None),
        ("truncated-4", 0),
    ]
    assert found.components_pj == energy.estimate(kept, HARDWARE).components
    assert Evaluation.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    every = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, cell="8T"))
    assert {layer.robust_bits for layer in on_hardware(kept, LAYERED, every).layers} == {None}
    assert on_hardware(on_hardware(kept, LAYERED, every), LAYERED, HARDWARE) == kept


def test_each_stage_has_its_own_learning_rate(data: datasets.TaskData, tmp_path: Path) -> None:
    trained: list[str] = []

    def train(effort: Effort) -> list[str]:
        trained.clear()
        made = training(data, tmp_path, task=replace(TASK, effort=effort), on_training=trained.append)
        made.approximated(CANDIDATE, made.pruned(CANDIDATE))
        return trained

    assert train(QUICK) == STAGES
    assert train(replace(QUICK, approximate_learning_rate=2e-3)) == ["approximate"]
    assert train(replace(QUICK, prune_learning_rate=2e-3)) == ["prune", "approximate"]
    assert train(replace(QUICK, derive_learning_rate=2e-3)) == STAGES
    assert train(replace(QUICK, learning_rate=2e-3)) == []  # of the baseline
    assert train(QUICK) == []


def test_candidates_that_differ_only_in_memory_share_all_training(data: datasets.TaskData, tmp_path: Path) -> None:
    trained: list[str] = []
    made = training(data, tmp_path, on_training=trained.append)
    reliable = replace(CANDIDATE, supply_v=0.88)
    for candidate in (
        reliable,
        replace(reliable, robust_bits_last=3),
        replace(reliable, supply_v=0.9),
        # two layers: the choices of those in the middle do not matter
        replace(reliable, multiplier="exact", multiplier_first="asm-1-3", multiplier_last="asm-1-3"),
    ):
        made.approximated(candidate, made.pruned(candidate))
    assert trained == STAGES
    layered = replace(reliable, multiplier_last="exact")
    made.approximated(layered, made.pruned(layered))
    assert trained == [*STAGES, "approximate"]


def test_candidates_whose_memory_fails_differently_are_retrained_each(data: datasets.TaskData, tmp_path: Path) -> None:
    trained: list[str] = []
    made = training(data, tmp_path, on_training=trained.append)
    for candidate in (CANDIDATE, replace(CANDIDATE, robust_bits_last=3), replace(CANDIDATE, supply_v=0.7)):
        made.approximated(candidate, made.pruned(candidate))
    assert trained == [*STAGES, "approximate", "approximate"]


def test_energy_counts_the_weights_left_by_pruning(data: datasets.TaskData, tmp_path: Path) -> None:
    found = evaluator(data, tmp_path).evaluate(CANDIDATE, "validation")
    weights = 64 * 64 + 64 * 10
    assert found.macs == weights
    assert found.density == pytest.approx(0.5)
    workload = energy.Workload.from_dict(found.workload)
    assert sum(layer.nonzero_weights for layer in workload.layers) == weights / 2
    assert all(0 < layer.activation_density < 1 for layer in workload.layers)
    assert (workload.multiplier, workload.robust_bits) == ("asm-1-3", 1)
    assert workload.weight_memory_v == pytest.approx(0.74 / 0.9 * HARDWARE.weight_memory.supply_v)
    report = energy.estimate(workload, HARDWARE)
    assert found.components_pj == report.components
    assert found.energy_pj == sum(found.components_pj.values()) == pytest.approx(report.energy_pj)
    assert found.energy_range_pj == (report.energy_band.low, report.energy_band.high)


def test_zeros_that_are_stored_can_fail(data: datasets.TaskData, tmp_path: Path) -> None:
    narrow = replace(CANDIDATE, weight_bits=2, sparsity=0.3, supply_v=0.6, robust_bits=0, multiplier="exact")
    stored = evaluator(data, tmp_path).evaluate(narrow, "validation")
    # A bitmask would be half the size of 2-bit weights, and more than a third of them are left.
    assert len(stored.dense_layers) == 2
    assert evaluator(data, tmp_path).evaluate(CANDIDATE, "validation").dense_layers == ()
    dense = replace(HARDWARE, compressed_weights=False)
    always = Evaluator(TASK, data, dense, seed=0, cache=TrainingCache(tmp_path)).evaluate(CANDIDATE, "validation")
    assert len(always.dense_layers) == 2
    left_out = evaluator(data, tmp_path).evaluate(CANDIDATE, "validation")
    assert always.chip_accuracies != left_out.chip_accuracies
    assert Evaluation.from_dict(stored.to_dict()).dense_layers == stored.dense_layers


def test_an_imported_multiplier_is_emulated_and_costed(
    data: datasets.TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = chosen_import(imported(dropped_bits=6))
    job = Evaluate(key="k", candidate=replace(CANDIDATE, multiplier=chosen.identity), split="validation")
    unknown = evaluator(data, tmp_path).run(job)
    assert isinstance(unknown, Failed)
    assert chosen.identity in unknown.error
    found = Evaluator(TASK, data, HARDWARE, seed=0, cache=TrainingCache(tmp_path), multipliers=[chosen]).run(job)
    assert isinstance(found, Done)
    assert found.result.candidate.multiplier == chosen.identity
    like = evaluator(data, tmp_path).evaluate(replace(CANDIDATE, multiplier="truncated-4"), "validation")
    assert found.result.components_pj == like.components_pj  # whose costs it has
    assert found.result.chip_accuracies != like.chip_accuracies


def test_multipliers_of_one_name_share_no_stage(data: datasets.TaskData, tmp_path: Path) -> None:
    both = [chosen_import(imported(dropped_bits=dropped_bits)) for dropped_bits in (0, 9)]
    shared = Evaluator(TASK, data, HARDWARE, seed=0, cache=TrainingCache(tmp_path), multipliers=both)
    fine, coarse = (
        shared.evaluate(replace(CANDIDATE, supply_v=0.9, multiplier=chosen.identity), "validation") for chosen in both
    )
    assert len(list(tmp_path.glob("*/*.pt"))) == 4
    assert fine.accuracy > coarse.accuracy


@pytest.mark.parametrize("cell", ["6T", "8T"])
def test_a_weight_memory_of_one_kind_of_cell(data: datasets.TaskData, tmp_path: Path, cell: Cell) -> None:
    hardware = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, cell=cell))
    space = TASK.space.restricted(choose(MULTIPLIERS), cell)
    genes = {**space.encode(CANDIDATE), "supply_mv": 700, "robust_bits": 0 if cell == "6T" else 8}
    shared = Evaluator(TASK, data, hardware, seed=0, cache=TrainingCache(tmp_path))
    low = shared.evaluate(space.decode(genes), "validation")
    nominal = shared.evaluate(space.decode({**genes, "supply_mv": 900}), "validation")
    assert low.energy_pj < nominal.energy_pj
    assert (low.chip_accuracies == nominal.chip_accuracies) == (cell == "8T")
    assert low.workload["robust_bits"] == 0


def test_each_split_is_measured_on_its_own_images(data: datasets.TaskData, tmp_path: Path) -> None:
    wrong = replace(data.test, labels=(data.test.labels + 1) % 10)
    shuffled = replace(data, test=wrong)
    shared = evaluator(shuffled, tmp_path)
    candidate = replace(CANDIDATE, supply_v=0.9)
    chosen_by, tested = shared.evaluate(candidate, "validation"), shared.evaluate(candidate, "test")
    assert chosen_by.accuracy > 0.85
    assert tested.accuracy < 0.1
    assert (chosen_by.images, tested.images) == (len(data.validation.labels), len(data.test.labels))


def test_read_only_images_are_fine(data: datasets.TaskData, tmp_path: Path) -> None:
    def frozen(images: ImageSet) -> ImageSet:
        pixels, labels = images.images().copy(), images.labels.copy()
        pixels.setflags(write=False)
        labels.setflags(write=False)
        return ImageSet(pixels, labels)

    read_only = replace(data, train=frozen(data.train), validation=frozen(data.validation), test=frozen(data.test))
    assert evaluator(read_only, tmp_path).evaluate(CANDIDATE, "validation").accuracy > 0.5


def test_an_invalid_candidate_becomes_a_failed_outcome(data: datasets.TaskData, tmp_path: Path) -> None:
    bad = Evaluate(key="k", candidate=replace(CANDIDATE, multiplier="asm-7"), split="validation")
    outcome = evaluator(data, tmp_path).run(bad)
    assert isinstance(outcome, Failed)
    assert "asm-7" in outcome.error


def test_evaluations_survive_json(data: datasets.TaskData, tmp_path: Path) -> None:
    found = evaluator(data, tmp_path).evaluate(CANDIDATE, "validation")
    assert Evaluation.from_dict(found.to_dict()) == found


def test_of_several_accelerators_each_candidate_takes_the_cheapest(data: datasets.TaskData, tmp_path: Path) -> None:
    either = energy.load_hardware("weight-stationary-45nm,output-stationary-45nm")
    cache = TrainingCache(tmp_path)
    found, *alone = (
        Evaluator(TASK, data, hardware, seed=0, cache=cache).evaluate(CANDIDATE, "validation")
        for hardware in (either, *either.alternatives)
    )
    cheapest = min(alone, key=lambda evaluation: evaluation.energy_pj)
    assert found.hardware == cheapest.hardware == "output-stationary-45nm"
    assert without_time(found) == without_time(cheapest)
    assert {one.chip_accuracies for one in alone} == {found.chip_accuracies}  # they store weights alike


def test_a_batch_of_images_shares_the_weights_that_are_read(data: datasets.TaskData, tmp_path: Path) -> None:
    one, four = (
        Evaluator(TASK, data, replace(HARDWARE, batch=batch), seed=0, cache=TrainingCache(tmp_path)).evaluate(
            CANDIDATE, "validation"
        )
        for batch in (1, 4)
    )
    assert four.components_pj["weight_sram"] == pytest.approx(one.components_pj["weight_sram"] / 4)
    assert four.chip_accuracies == one.chip_accuracies


def test_the_key_covers_everything_an_evaluation_depends_on(data: datasets.TaskData) -> None:
    def key(candidate: Candidate = CANDIDATE, task: Task = TASK, **changes: object) -> str:
        settings = {"fingerprint": data.fingerprint, "hardware": HARDWARE, "seed": 0, **changes}
        return evaluation_key(candidate, task, **settings)  # type: ignore[arg-type]

    keys = [
        key(),
        key(replace(CANDIDATE, width=5)),
        key(task=replace(TASK, effort=replace(QUICK, chips=4))),
        key(fingerprint="other"),
        key(seed=1),
        key(hardware=energy.load_hardware("weight-stationary-45nm-dram")),
    ]
    assert len(set(keys)) == len(keys)
    assert key(replace(CANDIDATE, supply_v=0.9)) == key(replace(CANDIDATE, supply_v=0.9, robust_bits=0))


def test_a_network_that_learned_something_beats_its_shuffled_labels(data: datasets.TaskData, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(len(data.train.labels))
    noise = replace(data, train=replace(data.train, labels=data.train.labels[order]), fingerprint="noise")
    task = replace(TASK, from_scratch=True)  # or the baseline in the package would teach it
    one = Evaluator(task, noise, HARDWARE, seed=0, cache=TrainingCache(tmp_path))
    assert one.evaluate(replace(CANDIDATE, supply_v=0.9), "validation").accuracy < 0.4


def test_an_error_of_any_kind_becomes_an_outcome(
    data: datasets.TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotADirectoryError("none of ours")

    monkeypatch.setattr(approx, "fit", fail)
    job = Evaluate(key="k", candidate=CANDIDATE, split="validation")
    outcome = evaluator(data, tmp_path).run(job)
    assert isinstance(outcome, Failed)
    assert outcome.error == "NotADirectoryError: none of ours"


def test_test_images_are_read_on_other_chips(data: datasets.TaskData, tmp_path: Path) -> None:
    same_images = replace(data, test=data.validation)
    shared = evaluator(same_images, tmp_path)
    candidate = replace(CANDIDATE, supply_v=0.7, robust_bits=0)
    chosen = shared.evaluate(candidate, "validation").chip_accuracies
    assert chosen != shared.evaluate(candidate, "test").chip_accuracies
