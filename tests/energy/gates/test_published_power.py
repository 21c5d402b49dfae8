"""The method against published power of circuits that can be built here."""

import numpy as np
import pytest

from benchmarks.published_power import CIRCUITS, EXACT, Measured, measure
from energy.gates import Tools

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tools: Tools) -> dict[str, Measured]:
    return {name: measure(circuit) for name, circuit in CIRCUITS.items()}


@pytest.mark.process
def test_they_are_the_published_circuits(found: dict[str, Measured]) -> None:
    assert {name: one.worst_error for name, one in found.items()} == {
        name: circuit.worst_error for name, circuit in CIRCUITS.items()
    }


def test_energy_follows_published_power(found: dict[str, Measured]) -> None:
    published = np.array([circuit.power_mw for circuit in CIRCUITS.values()])
    energies = np.array([one.energy_fj for one in found.values()])
    assert (np.argsort(published) == np.argsort(energies)).all()
    ratios = energies / found[EXACT].energy_fj
    error = np.log(ratios / (published / CIRCUITS[EXACT].power_mw))[1:]
    assert np.sqrt(np.mean(error**2)) < 0.12
    settled = np.array([one.settled_energy_fj for one in found.values()])
    without = np.log(settled / found[EXACT].settled_energy_fj / (published / CIRCUITS[EXACT].power_mw))[1:]
    assert np.sqrt(np.mean(without**2)) > 0.2  # glitches are part of it


def test_area_follows_published_area(found: dict[str, Measured]) -> None:
    for name, circuit in CIRCUITS.items():
        ratio = found[name].area_um2 / found[EXACT].area_um2
        assert ratio == pytest.approx(circuit.area_um2 / CIRCUITS[EXACT].area_um2, rel=0.13)
