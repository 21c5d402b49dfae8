"""Fresh runs, on which confirmed answers rest: which images, chips and random numbers each one takes.

Networks are not trained and not measured here: what would train and measure them notes what it is given. Each image has
its number in its pixels, so that it can be found again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import approx
import energy
from approx import pruning
from search.evaluation import datasets, networks
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.datasets import TaskData
from search.evaluation.emulation import Emulation
from search.evaluation.evaluator import Evaluator
from search.evaluation.task_images import TaskImages
from search.evaluation.training import Training
from search.images.image_set import ImageSet
from search.space.candidate import Candidate
from search.space.custom_network import find_model
from search.space.task import CHANNEL_STEPS, METRICS, Metric, Task, Train, find_task

DIGITS = find_task("digits").with_effort("quick")
TASK = replace(DIGITS, effort=replace(DIGITS.effort, chips=3))
HARDWARE = energy.load_hardware("weight-stationary-45nm")
CANDIDATE = Candidate(
    family="mlp",
    depth=2,
    width=1,
    sparsity=0.5,
    weight_bits=6,
    activation_bits=6,
    multiplier="asm-1-3",
    supply_v=0.6,
    robust_bits=1,
)
TRAIN, VALIDATION, TEST = range(60), range(79, 59, -1), range(80, 110)
POOL = {*TRAIN, *VALIDATION}  # of which a fifth is held out
FOLDS = 4
HIGHEST_SEED = 2**31 - 1  # of a search; see `search.api.checks.check_numbers`


def images(numbers: Sequence[int]) -> ImageSet:
    """Images that have their number in the first two pixels, in turn of all classes."""
    pixels = np.zeros((len(numbers), *TASK.image_shape), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.divmod(numbers, 16)
    return ImageSet(pixels, np.array(numbers, dtype=np.int64) % 10)


def pixels_of(given: approx.LabelledImages) -> Tensor:
    return (given.inputs(slice(None)) * given.pixel_max).round()


def numbers_of(pixels: Tensor | np.ndarray) -> set[int]:
    first, second = pixels[:, 0, 0, 0], pixels[:, 0, 0, 1]
    found = [int(one) * 16 + int(other) for one, other in zip(first, second, strict=True)]
    assert len(set(found)) == len(found)
    return set(found)


CONFIRMATION = range(110, 134)
DATA = TaskData(train=images(TRAIN), validation=images(VALIDATION), test=images(TEST), fingerprint="the images")


@dataclass
class Spy:
    """What training, calibration and measurement were given.

    Attributes:
        fits: Numbers of the images, seed and masks of each training.
        calibrated: Numbers of the images of each calibration.
        measured: Numbers of the images, chips and network, as it was then, of each measurement on chips.
        seeds: Seed of each `Training` that was made.
    """

    fits: list[tuple[set[int], int, dict[str, Tensor] | None]] = field(default_factory=list)
    calibrated: list[set[int]] = field(default_factory=list)
    measured: list[tuple[set[int], list[int], nn.Module]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)


def right_on(numbers: set[int], chip: int = 0) -> int:
    """How many images are right, which tells on which images and on which chip it was measured."""
    return (20 if numbers <= set(TEST) else 5 + min(numbers) % 7) + chip


def accuracy_on(numbers: set[int], chip: int = 0) -> float:
    return right_on(numbers, chip) / len(numbers)


def predicted(given: approx.LabelledImages, chip: int) -> Tensor:
    """The right class of as many images, and a wrong one of the others."""
    is_right = torch.arange(len(given)) < right_on(numbers_of(pixels_of(given)), chip)
    return torch.where(is_right, given.labels, (given.labels + 1) % 10)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    found = Spy()
    approximate = approx.approximate

    def fit(model: nn.Module, given: approx.LabelledImages, schedule: object, *, seed: int, **others: Any) -> None:
        found.fits.append((numbers_of(pixels_of(given)), seed, others.get("masks")))

    def calibrate(model: nn.Module, *arguments: Any, calibration_data: Tensor, **others: Any) -> nn.Module:
        found.calibrated.append(numbers_of(calibration_data * TASK.pixel_max))
        return approximate(model, *arguments, calibration_data=calibration_data, **others)

    def on_chips(model: nn.Module, given: approx.LabelledImages, chips: Sequence[int]) -> Tensor:
        found.measured.append((numbers_of(pixels_of(given)), list(chips), copy.deepcopy(model)))
        return torch.stack([predicted(given, place) for place in range(len(chips))])

    class NotedTraining(Training):
        def __init__(self, *arguments: Any, seed: int, **others: Any) -> None:
            found.seeds.append(seed)
            super().__init__(*arguments, seed=seed, **others)

    monkeypatch.setattr(approx, "fit", fit)
    monkeypatch.setattr(pruning, "fit", fit)
    monkeypatch.setattr(approx, "approximate", calibrate)
    monkeypatch.setattr(approx, "chip_predictions", on_chips)
    monkeypatch.setattr(approx, "predictions", lambda model, given: predicted(given, 0))
    monkeypatch.setattr(networks, "Training", NotedTraining)
    return found


def of_search(folder: Path, *, seed: int = 0, data: TaskData = DATA, hardware: energy.Hardware = HARDWARE) -> Evaluator:
    return Evaluator(TASK, data, hardware, seed=seed, cache=TrainingCache(folder))


def test_each_run_holds_out_the_next_fold_until_every_image_was_held_out_once() -> None:
    held_out = [numbers_of(datasets.fold(DATA, run, "accuracy").validation.images()) for run in range(FOLDS)]
    assert [len(fold) for fold in held_out] == [len(VALIDATION)] * FOLDS  # as large as the validation set
    assert set.union(*held_out) == POOL
    assert sum(map(len, held_out)) == len(POOL)


def test_after_the_last_fold_the_images_are_dealt_anew() -> None:
    folds = [numbers_of(datasets.fold(DATA, run, "accuracy").validation.images()) for run in range(2 * FOLDS)]
    first, second = folds[:FOLDS], folds[FOLDS:]
    assert set.union(*second) == POOL
    assert sum(map(len, second)) == len(POOL)
    assert not [fold for fold in second if fold in first]


@pytest.mark.parametrize("run", range(2 * FOLDS))
def test_a_fold_keeps_what_it_does_not_hold_out_and_every_image_its_class(run: int) -> None:
    data = datasets.fold(DATA, run, "accuracy")
    assert numbers_of(data.train.images()) == POOL - numbers_of(data.validation.images())
    for part in (data.train, data.validation):
        assert [number % 10 for number in map(one_number, part.images())] == part.labels.tolist()
    assert np.bincount(data.validation.labels).tolist() == [2] * 10  # stratified: a fold of 20 images of 10 classes
    assert data.test is DATA.test


def one_number(pixels: np.ndarray) -> int:
    (number,) = numbers_of(pixels[None])
    return number


def test_results_on_different_folds_are_never_taken_for_each_other() -> None:
    prints = [DATA.fingerprint, *(datasets.fold(DATA, run, "accuracy").fingerprint for run in range(2 * FOLDS))]
    assert len(set(prints)) == len(prints)
    assert datasets.fold(DATA, 1, "accuracy").fingerprint == datasets.fold(DATA, 1, "accuracy").fingerprint
    other = replace(DATA, fingerprint="other images")
    assert datasets.fold(other, 1, "accuracy").fingerprint not in prints


@pytest.mark.parametrize(
    ("train", "validation", "folds"),
    [
        (54_000, 6_000, 10),  # MNIST, with the validation share of a tenth
        (1_010, 337, 4),  # digits, with a quarter
        (30, 30, 2),
        (10, 30, 2),  # one fold would leave nothing to train on
    ],
)
def test_there_are_as_many_folds_as_validation_sets_in_the_pool(train: int, validation: int, folds: int) -> None:
    def blank(count: int) -> ImageSet:
        return ImageSet(np.arange(count, dtype=np.uint16).view(np.uint8).reshape(count, 1, 1, 2), np.arange(count) % 10)

    data = TaskData(train=blank(train), validation=blank(validation), test=blank(10), fingerprint="")
    held_out = len(datasets.fold(data, 0, "accuracy").validation.labels)
    assert held_out == pytest.approx((train + validation) / folds, abs=1)


@pytest.mark.parametrize("run", [0, 1, FOLDS])
def test_a_fresh_run_trains_on_its_fold_and_is_measured_on_what_it_holds_out(
    spy: Spy, tmp_path: Path, run: int
) -> None:
    data = datasets.fold(DATA, run, "accuracy")
    kept, held_out = numbers_of(data.train.images()), numbers_of(data.validation.images())
    found = of_search(tmp_path).confirm(CANDIDATE, run)
    assert [numbers for numbers, _, _ in spy.fits] == [kept] * 4  # trained, derived, pruned and approximated
    assert spy.calibrated == [kept]
    assert [numbers for numbers, _, _ in spy.measured] == [held_out, set(TEST)]
    assert found.chip_accuracies == tuple(accuracy_on(held_out, chip) for chip in range(3))
    assert found.test_accuracies == (20 / 30, 21 / 30, 22 / 30)
    assert (found.accuracy, found.test_accuracy) == pytest.approx((accuracy_on(held_out, 1), 21 / 30))
    assert (found.run, found.images, found.pool) == (run, len(VALIDATION), len(POOL))
    assert (found.retrained, found.outcomes) == (True, None)
    assert found.candidate == CANDIDATE.canonical()


def test_where_no_cell_fails_a_fresh_run_is_measured_on_the_same_images(spy: Spy, tmp_path: Path) -> None:
    held_out = numbers_of(datasets.fold(DATA, 2, "accuracy").validation.images())
    found = of_search(tmp_path).confirm(replace(CANDIDATE, supply_v=0.9), 2)
    assert spy.measured == []  # chips do not differ
    assert found.chip_accuracies == (accuracy_on(held_out),) * TASK.effort.chips
    assert found.test_accuracies == (accuracy_on(set(TEST)),) * TASK.effort.chips


def test_the_test_images_train_nothing_and_choose_nothing(spy: Spy, tmp_path: Path) -> None:
    search = of_search(tmp_path)
    search.evaluate(CANDIDATE, "validation")
    search.confirm(CANDIDATE, 0)
    given = set.union(*(numbers for numbers, _, _ in spy.fits), *spy.calibrated)
    assert not given & set(TEST)
    (chosen_by, *_), *_ = spy.measured
    assert not chosen_by & set(TEST)


def test_a_search_trains_and_measures_on_its_own_split(spy: Spy, tmp_path: Path) -> None:
    search = of_search(tmp_path)
    chosen_by, tested = search.evaluate(CANDIDATE, "validation"), search.evaluate(CANDIDATE, "test")
    assert [numbers for numbers, _, _ in spy.fits] == [set(TRAIN)] * 3  # from the baseline in the package
    assert [numbers for numbers, _, _ in spy.measured] == [set(VALIDATION), set(TEST)]
    assert (chosen_by.images, tested.images) == (len(VALIDATION), len(TEST))
    assert tested.chip_accuracies == (20 / 30, 21 / 30, 22 / 30)


def test_a_fresh_run_shares_no_random_number_with_the_search_or_another_run(spy: Spy, tmp_path: Path) -> None:
    """Neither those of training nor the chips; and the chips of test images are others than those of held-out ones."""
    runs = (0, 1, FOLDS, FOLDS + 1)
    of_search(tmp_path / "0").evaluate(CANDIDATE, "validation")
    of_search(tmp_path / "1", seed=1).evaluate(CANDIDATE, "validation")
    for run in runs:
        of_search(tmp_path / "runs").confirm(CANDIDATE, run)
    seeds = [seed for _, seed, _ in spy.fits]
    assert len(seeds) == 3 * 2 + 4 * len(runs)
    assert len(set(seeds)) == len(seeds)
    chips = [chip for _, given, _ in spy.measured for chip in given]
    assert len(chips) == TASK.effort.chips * (2 + 2 * len(runs))
    assert len(set(chips)) == len(chips)


def test_no_search_can_have_the_seed_of_a_fresh_run(spy: Spy, tmp_path: Path) -> None:
    search = of_search(tmp_path)
    spy.seeds.clear()
    for run in range(3):
        search.confirm(CANDIDATE, run)
    assert len(set(spy.seeds)) == 3
    assert min(spy.seeds) > HIGHEST_SEED


def test_a_fresh_run_depends_on_its_number_alone(spy: Spy, tmp_path: Path) -> None:
    """So that another machine, or a search with another seed, makes the same run."""
    of_search(tmp_path / "a", seed=0).confirm(CANDIDATE, 1)
    first = [(sorted(numbers), seed) for numbers, seed, _ in spy.fits], [chips for _, chips, _ in spy.measured]
    spy.fits.clear()
    spy.measured.clear()
    of_search(tmp_path / "b", seed=7).confirm(CANDIDATE, 1)
    assert first == (
        [(sorted(numbers), seed) for numbers, seed, _ in spy.fits],
        [chips for _, chips, _ in spy.measured],
    )


def test_a_fresh_run_takes_no_network_that_the_search_trained(spy: Spy, tmp_path: Path) -> None:
    search = of_search(tmp_path)
    search.evaluate(CANDIDATE, "validation")
    search.confirm(CANDIDATE, 0)
    search.confirm(CANDIDATE, 1)
    assert len(spy.fits) == 3 + 2 * 4
    search.confirm(CANDIDATE, 1)  # the same run again takes its own
    assert len(spy.fits) == 3 + 2 * 4


def test_no_network_is_taken_from_the_cache_that_other_images_trained(spy: Spy, tmp_path: Path) -> None:
    of_search(tmp_path).evaluate(CANDIDATE, "validation")
    of_search(tmp_path, data=replace(DATA, fingerprint="other images")).evaluate(CANDIDATE, "validation")
    assert len(spy.fits) == 6


def test_no_network_is_taken_from_the_cache_that_images_trained_in_another_normalisation(
    spy: Spy, tmp_path: Path
) -> None:
    tasks = (TASK, replace(TASK, mean=(0.5,)), replace(TASK, std=(0.5,)), replace(TASK, mean=(0.5,), std=(0.5,)))
    for number, task in enumerate(tasks):
        Evaluator(task, DATA, HARDWARE, seed=0, cache=TrainingCache(tmp_path)).evaluate(CANDIDATE, "validation")
        assert len(spy.fits) == 3 + 4 * number  # the baseline in the package has none


def test_an_early_accuracy_is_that_of_the_metric(spy: Spy, tmp_path: Path) -> None:
    """Even where the network is in the cache: images 79 down to 60 are of all classes in turn, the first are right."""
    found = {}
    for metric in METRICS:
        task = replace(TASK, metric=metric)
        uneven = replace(DATA, validation=replace(DATA.validation, labels=DATA.validation.labels // 7))  # of 14 and 6
        one = Evaluator(task, uneven, HARDWARE, seed=0, cache=TrainingCache(tmp_path))
        found[metric] = one.evaluate(CANDIDATE, "validation")
        assert found[metric].early_accuracy == found[metric].chip_accuracies[0]
    assert found["accuracy"].early_accuracy != found["balanced-accuracy"].early_accuracy


def test_pruned_weights_stay_pruned_in_retraining(spy: Spy, tmp_path: Path) -> None:
    of_search(tmp_path).confirm(CANDIDATE, 0)
    trained, derived, pruned, _ = (masks for _, _, masks in spy.fits)
    assert (trained, derived) == (None, None)
    assert pruned is not None
    weights = sum(mask.numel() for mask in pruned.values())
    assert sum(int(mask.sum()) for mask in pruned.values()) == pytest.approx(weights / 2, abs=1)


def memories(model: nn.Module) -> list[approx.FaultyMemory]:
    found = [layer.weight_memory for layer in model.modules() if isinstance(layer, approx.ApproxLinear)]
    assert all(found)
    return [memory for memory in found if memory is not None]


def test_each_layer_of_a_fresh_run_has_its_own_robust_bits_at_the_voltage(spy: Spy, tmp_path: Path) -> None:
    of_search(tmp_path).confirm(replace(CANDIDATE, supply_v=0.75, robust_bits_first=4, robust_bits_last=0), 0)
    for _, _, model in spy.measured:
        found = memories(model)
        assert [memory.robust_bits for memory in found] == [4, 1, 0]
        assert {memory.bit_error_rate for memory in found} == {approx.SILICON_14NM.bit_error_rate(0.75)}


def test_zeros_that_the_hardware_stores_can_fail_in_a_fresh_run(spy: Spy, tmp_path: Path) -> None:
    of_search(tmp_path).confirm(CANDIDATE, 0)
    assert not any(memory.stores_pruned for _, _, model in spy.measured for memory in memories(model))
    spy.measured.clear()
    of_search(tmp_path, hardware=replace(HARDWARE, compressed_weights=False)).confirm(CANDIDATE, 0)
    assert len(spy.measured) == 2
    assert all(memory.stores_pruned for _, _, model in spy.measured for memory in memories(model))


def test_zeros_of_a_layer_that_runs_twice_are_stored_once(spy: Spy, tmp_path: Path) -> None:
    """The energy model calls the second run of a layer NAME#2."""
    task_images = TaskImages(TASK, DATA)
    emulation = Emulation(failures=HARDWARE.weight_failures, circuit_bits=None, partial_sums=None, multipliers={})
    made = Training(TASK, task_images, seed=0, cache=TrainingCache(tmp_path), emulation=emulation)
    model, _ = made.approximated(CANDIDATE, made.pruned(CANDIDATE))
    names = approx.layer_order(model, task_images.example())
    emulation.put_in_memory(model, CANDIDATE, names, [f"{names[1]}#2"])
    assert [memory.stores_pruned for memory in memories(model)] == [False, True, False]


# Baselines that are trained once ------------------------------------------------------------------------------------


def test_where_the_baseline_is_fixed_it_is_trained_once_for_all_searches_and_runs(spy: Spy, tmp_path: Path) -> None:
    task = replace(TASK, baseline_is_fixed=True, from_scratch=True)
    data = replace(DATA, confirmation=images(CONFIRMATION))

    def search(seed: int) -> Evaluator:
        return Evaluator(task, data, HARDWARE, seed=seed, cache=TrainingCache(tmp_path))

    search(0).evaluate(CANDIDATE, "validation")
    assert len(spy.fits) == 4  # trained, derived, pruned and approximated
    search(1).evaluate(CANDIDATE, "validation")
    assert len(spy.fits) == 4 + 3
    for run in range(2):
        found = search(0).confirm(CANDIDATE, run)
        assert (found.images, found.pool, found.retrained) == (len(CONFIRMATION), len(CONFIRMATION), True)
    assert len(spy.fits) == 4 + 3 + 2 * 3
    assert all(numbers == set(TRAIN) for numbers, _, _ in spy.fits)
    assert [numbers for numbers, _, _ in spy.measured[2:]] == [set(CONFIRMATION), set(TEST)] * 2
    seeds = [seed for _, seed, _ in spy.fits]
    assert len(set(seeds)) == len(seeds)


def test_a_baseline_that_comes_along_trains_no_fresh_run_whose_held_out_images_it_has_seen(
    spy: Spy, tmp_path: Path
) -> None:
    baseline = replace(TASK.space.baseline(), supply_v=0.9)
    search = of_search(tmp_path)
    search.evaluate(baseline, "validation")
    assert len(spy.fits) == 1  # on codes alone
    search.confirm(baseline, 0)
    assert len(spy.fits) == 3  # trained, and on codes
    Evaluator(replace(TASK, from_scratch=True), DATA, HARDWARE, seed=0, cache=TrainingCache(tmp_path)).evaluate(
        baseline, "validation"
    )
    assert len(spy.fits) == 5


# Bit errors in training ---------------------------------------------------------------------------------------------


def bit_errors_of(
    monkeypatch: pytest.MonkeyPatch, folder: Path, candidate: Candidate, hardware: energy.Hardware = HARDWARE
) -> list[dict[str, approx.FaultyMemory | None] | None]:
    """The memories of layers in each training of an evaluation."""
    given: list[dict[str, approx.FaultyMemory | None] | None] = []
    monkeypatch.setattr(approx, "fit", lambda *_, **others: given.append(others.get("bit_errors")))
    monkeypatch.setattr(pruning, "fit", lambda *_, **others: given.append(others.get("bit_errors")))
    of_search(folder, hardware=hardware).evaluate(candidate, "validation")
    return given


def test_a_candidate_whose_memory_fails_is_retrained_with_its_own_bit_errors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    candidate = replace(CANDIDATE, supply_v=0.75, robust_bits_first=4, robust_bits_last=0)
    derived, pruned, codes = bit_errors_of(monkeypatch, tmp_path, candidate)
    assert (derived, pruned) == (None, None)
    assert codes is not None
    memories = list(codes.values())
    assert [memory.robust_bits for memory in memories if memory] == [4, 1, 0]
    assert {memory.bit_error_rate for memory in memories if memory} == {approx.SILICON_14NM.bit_error_rate(0.75)}
    assert not any(memory.stores_pruned for memory in memories if memory)
    dense = replace(HARDWARE, compressed_weights=False)
    *_, codes = bit_errors_of(monkeypatch, tmp_path / "dense", candidate, dense)
    assert codes is not None
    assert all(memory and memory.stores_pruned for memory in codes.values())


def test_candidates_with_hardly_a_failed_cell_learn_without_bit_errors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number, supply_v in enumerate((0.9, 0.86)):  # no cell, and two in a million of about 10,000
        assert bit_errors_of(monkeypatch, tmp_path / str(number), replace(CANDIDATE, supply_v=supply_v)) == [None] * 3


# Networks that come trained -----------------------------------------------------------------------------------------

SEPARATE = replace(DATA, confirmation=images(CONFIRMATION))


def trained_task(train: Train, *, metric: Metric = "accuracy") -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    network = find_model(model, image_shape=TASK.image_shape, classes=10)
    return replace(DIGITS.with_network(network), effort=DIGITS.effort, train=train, metric=metric)


def of_trained(
    folder: Path, train: Train, *, seed: int = 0, metric: Metric = "accuracy"
) -> tuple[Evaluator, Candidate]:
    """An evaluator, and a candidate that lost channels and weights and whose memory fails."""
    task = trained_task(train, metric=metric)
    candidate = replace(task.space.baseline(), width=6, sparsity=0.5, weight_bits=6, supply_v=0.6, robust_bits=1)
    return Evaluator(task, SEPARATE, HARDWARE, seed=seed, cache=TrainingCache(folder)), candidate


def test_runs_of_networks_that_come_trained_share_the_images_that_neither_trained_nor_chose() -> None:
    folds = [datasets.fold(SEPARATE, run, "accuracy") for run in range(3)]
    for fold in folds:
        assert numbers_of(fold.validation.images()) == set(CONFIRMATION)
        assert numbers_of(fold.train.images()) == set(TRAIN)
        assert numbers_of(fold.test.images()) == set(TEST)
    assert len({SEPARATE.fingerprint, *(fold.fingerprint for fold in folds)}) == 4


@pytest.mark.parametrize("run", [0, 1, 5])
def test_a_fine_tuned_network_trains_anew_for_each_run_and_is_measured_on_those_images(
    spy: Spy, tmp_path: Path, run: int
) -> None:
    search, candidate = of_trained(tmp_path, "finetune")
    spy.calibrated.clear()  # by what found the network
    found = search.confirm(candidate, run)
    assert [numbers for numbers, _, _ in spy.fits] == [set(TRAIN)] * 3  # without channels, pruned and approximated
    assert spy.calibrated == [set(TRAIN)]
    assert [numbers for numbers, _, _ in spy.measured] == [set(CONFIRMATION), set(TEST)]
    assert (found.retrained, found.images, found.pool) == (True, len(CONFIRMATION), len(CONFIRMATION))
    assert found.outcomes is not None
    assert found.outcomes.right().mean(axis=1).tolist() == pytest.approx(found.chip_accuracies)


def test_a_network_as_it_was_given_is_fine_tuned_on_codes_alone(spy: Spy, tmp_path: Path) -> None:
    search, candidate = of_trained(tmp_path, "finetune")
    search.evaluate(replace(candidate, width=CHANNEL_STEPS, sparsity=0.0), "validation")
    assert len(spy.fits) == 1
    search.evaluate(replace(candidate, width=CHANNEL_STEPS), "validation")
    assert len(spy.fits) == 3


def test_no_random_number_of_fine_tuning_is_that_of_another_run_or_search(spy: Spy, tmp_path: Path) -> None:
    """Even where the network before it is the same, as it was given."""
    for folder, seed in (("0", 0), ("1", 1)):
        search, candidate = of_trained(tmp_path / folder, "finetune", seed=seed)
        for width in (6, CHANNEL_STEPS):
            search.evaluate(replace(candidate, width=width), "validation")
    for run in range(3):
        search.confirm(replace(candidate, width=CHANNEL_STEPS), run)
    seeds = [seed for _, seed, _ in spy.fits]
    assert len(seeds) == 2 * (3 + 2) + 3 * 2
    assert len(set(seeds)) == len(seeds)
    chips = [chip for _, given, _ in spy.measured for chip in given]
    of_searches = chips[: 4 * DIGITS.effort.chips]
    assert len(set(of_searches)) == 2 * DIGITS.effort.chips  # of both widths the same ones
    of_runs = chips[4 * DIGITS.effort.chips :]
    assert len(set(of_runs)) == len(of_runs) == 6 * DIGITS.effort.chips
    assert not set(of_runs) & set(of_searches)


def test_without_training_a_run_measures_the_network_of_the_search_on_other_images_and_chips(
    spy: Spy, tmp_path: Path
) -> None:
    search, candidate = of_trained(tmp_path, "none")
    chosen = search.evaluate(candidate, "validation")
    runs = [search.confirm(candidate, run) for run in range(DIGITS.effort.confirmations)]
    assert spy.fits == []
    assert list(tmp_path.iterdir()) == []  # nothing is kept on disk
    assert chosen.early_accuracy is None
    (numbers, chips, model), *others = spy.measured
    assert numbers == set(VALIDATION)
    assert [numbers for numbers, _, _ in others] == [set(CONFIRMATION), set(TEST)] * len(runs)
    for _, _, other in others:
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    confirming, testing = ([chip for _, given, _ in others[which::2] for chip in given] for which in range(2))
    assert len(confirming) >= 20
    assert len({*chips, *confirming, *testing}) == len([*chips, *confirming, *testing])
    for run in runs:
        assert (run.retrained, run.images, run.pool) == (False, len(CONFIRMATION), len(CONFIRMATION))
        assert run.outcomes is not None
        assert run.outcomes.chips == len(run.chip_accuracies)
        assert run.outcomes.right().mean(axis=1).tolist() == pytest.approx(run.chip_accuracies)


def test_outcomes_are_in_order_of_classes_where_these_count_the_same(spy: Spy, tmp_path: Path) -> None:
    """Images 110 to 133 are of all classes in turn, so that the first four classes have three and the others two."""
    search, candidate = of_trained(tmp_path, "none", metric="balanced-accuracy")
    found = search.confirm(candidate, 0)
    assert found.outcomes is not None
    assert found.outcomes.groups == (3,) * 4 + (2,) * 6
    right = right_on(set(CONFIRMATION))  # on the first chip: the first images are right
    order = sorted(range(len(CONFIRMATION)), key=lambda place: (CONFIRMATION[place] % 10, place))
    assert found.outcomes.right()[0].tolist() == [place < right for place in order]
    shares = [np.mean([place < right for place in order if CONFIRMATION[place] % 10 == label]) for label in range(10)]
    assert found.chip_accuracies[0] == pytest.approx(np.mean(shares))
    assert found.images == found.pool == int(100 / (4 / 3 + 6 / 2))


def test_accuracies_of_classes_are_those_of_test_images(spy: Spy, tmp_path: Path) -> None:
    """On the first chip the first 20 of 30 are right, of all classes in turn, and one more on each other chip."""
    found = of_search(tmp_path).confirm(CANDIDATE, 0)
    assert found.test_class_accuracies == pytest.approx([(2 + 2 / 3) / 3, (2 + 1 / 3) / 3, *[2 / 3] * 8])
    chosen = of_search(tmp_path).evaluate(CANDIDATE, "validation")
    assert len(chosen.class_accuracies) == 10
    assert np.mean([share for share in chosen.class_accuracies if share is not None]) == pytest.approx(chosen.accuracy)
