"""Evaluations made by different energy models are told apart."""

import json
from pathlib import Path

import pytest

import energy
from benchmarks.energy_validation import LENET, workload
from search.evaluation import EVALUATION_VERSION

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
    return found


def test_whoever_changes_energies_raises_the_version() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["version"] == EVALUATION_VERSION, f"write {GOLDEN.name} anew"
    assert modelled() == pytest.approx(golden["energies_pj"], rel=1e-9), (
        f"stored evaluations cannot be compared with new ones: raise EVALUATION_VERSION, and write {GOLDEN.name} anew"
    )
