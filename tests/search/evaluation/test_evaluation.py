"""Evaluations: the error of their accuracy, and the version of the energy model."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import energy
from benchmarks.energy_validation import LENET, workload
from search.evaluation.evaluation import EVALUATION_VERSION, Evaluation
from search.space.task import find_task
from tests.support.fakes import formula

GOLDEN = Path(__file__).parent / "energies.json"


def modelled() -> dict[str, float]:
    """Energies in pJ that any change of the model, its technologies or its multipliers would move."""
    found = {}
    for name in energy.hardware_names():
        hardware = energy.load_hardware(name)
        for multiplier in ("exact", "asm-1", "truncated-4"):
            volts = 0.8 * hardware.weight_memory.supply_v
            work = workload(LENET, bits=6, activation_bits=7, multiplier=multiplier, volts=volts)
            found[f"{name}, {multiplier}"] = energy.estimate(work, hardware).energy_pj
            sparse = [replace(layer, nonzero_weights=layer.weights // 3, activation_density=0.4) for layer in LENET]
            robust = 2 if hardware.weight_memory.cell == "hybrid" else 0
            work = workload(sparse, bits=5, multiplier=multiplier, volts=volts, robust_bits=robust, batch=3)
            found[f"{name}, {multiplier}, sparse"] = energy.estimate(work, hardware).energy_pj
    return found


def test_whoever_changes_energies_raises_the_version() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["version"] == EVALUATION_VERSION, f"write {GOLDEN.name} anew"
    assert modelled() == pytest.approx(golden["energies_pj"], rel=1e-9), (
        f"stored evaluations cannot be compared with new ones: raise EVALUATION_VERSION, and write {GOLDEN.name} anew"
    )


def measured(chip_accuracies: tuple[float, ...], images: int) -> Evaluation:
    return replace(formula(find_task("digits").space.baseline()), chip_accuracies=chip_accuracies, images=images)


def test_the_error_of_an_accuracy_is_of_images_and_chips() -> None:
    # (80 + 2) / (100 + 4) = 0.7885 of 100 images, so sqrt(0.7885 * 0.2115 / 100) = 0.04084.
    assert measured((0.8,), 100).accuracy_standard_error == pytest.approx(0.04084, abs=5e-6)
    assert measured((0.8, 0.8, 0.8), 100).accuracy_standard_error == pytest.approx(0.04084, abs=5e-6)
    # Chips of 0.7, 0.8 and 0.9 deviate by 0.1, their mean by 0.05774; sqrt(0.04084**2 + 0.05774**2) = 0.07072.
    assert measured((0.7, 0.8, 0.9), 100).accuracy_standard_error == pytest.approx(0.07072, abs=5e-6)


@pytest.mark.parametrize("deviation", [0.0, 0.03], ids=["like chips", "unlike chips"])
def test_accuracies_deviate_by_their_error(deviation: float) -> None:
    """Over many draws of 300 images and 5 chips, on a network that is right in 90 % of cases on the average chip."""
    rng = np.random.default_rng(0)
    errors, claimed = [], []
    for _ in range(2000):
        difficulty = rng.random(300)  # an image is right on a chip whose accuracy is above its difficulty
        chips = 0.9 + deviation * rng.standard_normal(5)
        found = measured(tuple(float((difficulty < chip).mean()) for chip in chips), 300)
        errors.append(found.accuracy - 0.9)
        claimed.append(found.accuracy_standard_error)
    # Slightly too large if chips differ, because the mean over chips varies less between images than a single chip.
    assert 0.97 < math.sqrt(np.square(claimed).mean()) / np.std(errors) < 1.12
