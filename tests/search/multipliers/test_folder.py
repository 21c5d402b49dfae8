"""The costs that are kept with imported multipliers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import approx
from energy import WorkloadError
from energy.cost_table import CostTable, exact_rows, shipped_rows
from search.multipliers.folder import Claim, MultiplierFolder, stated


def _claim(*, energy: float = 0.5, area: float = 0.6, bits: int = 8, signed: bool = False) -> Claim:
    products = np.zeros((2**bits, 2**bits), int)
    multiplier = approx.multiplier_from_table("mine", products, signed=signed, source="a test")
    return stated(multiplier, relative_energy=energy, relative_area=area, source="a paper")


@pytest.mark.parametrize("signed", [True, False])
def test_an_exact_one_costs_what_the_exact_one_does(signed: bool) -> None:
    costs = _claim(energy=1, area=1, signed=signed).costs()
    widest = ("layer", 8, 7) if signed else ("layer", 8, 8)
    assert max(key[1:] for key in costs) == widest[1:]
    assert costs[widest].relative_energy == pytest.approx(1)
    assert costs[widest].relative_area == pytest.approx(1)


def test_logic_for_signed_weights_is_not_saved() -> None:
    exact = exact_rows()
    unsigned, layer = exact["unsigned", 8, 8].energy_recorded_fj, exact["layer", 8, 8].energy_recorded_fj
    cost = _claim().costs()["layer", 8, 8]
    assert cost.relative_energy == pytest.approx((0.5 * unsigned + layer - unsigned) / layer)
    assert cost.source == "a paper"
    assert _claim(signed=True).costs()["layer", 8, 7].relative_energy == pytest.approx(0.5)


def test_narrower_operands_run_in_the_whole_circuit() -> None:
    exact = exact_rows()
    costs = _claim(signed=True).costs()
    whole = (
        0.5
        * exact["layer", 8, 7].energy_held_fj
        * exact["8x8", 4, 4].energy_held_fj
        / exact["8x8", 8, 7].energy_held_fj
    )
    assert costs["layer", 4, 4].relative_energy_held == pytest.approx(whole / exact["layer", 4, 4].energy_held_fj)
    assert costs["8x8", 4, 4].relative_energy_held == pytest.approx(whole / exact["8x8", 4, 4].energy_held_fj)
    assert costs["layer", 4, 4].relative_area > 1
    narrow = _claim(bits=4, signed=True).costs()  # what narrower operands save in it is not known
    saved = 0.5 * exact["layer", 4, 3].energy_held_fj / exact["layer", 2, 2].energy_held_fj
    assert narrow["layer", 2, 2].relative_energy_held == pytest.approx(saved)


def test_the_last_costs_are_kept(tmp_path: Path) -> None:
    folder = MultiplierFolder(tmp_path)
    measured = [replace(row, name="mine") for row in shipped_rows() if row.name == "drum-4"]
    folder.keep_claim("mine", _claim())
    folder.keep_claim("other", _claim(energy=0.7))
    assert folder.costs().cost("mine", weight_bits=8, activation_bits=8).source == "a paper"
    folder.keep_costs(measured)
    assert "gates" in folder.costs().cost("mine", weight_bits=8, activation_bits=8).source
    folder.keep_claim("mine", _claim())
    assert folder.costs().cost("mine", weight_bits=8, activation_bits=8).source == "a paper"
    folder.forget_costs("mine")
    assert set(folder.costs().added) == {"other"}
    assert folder.costs().names[:-1] == CostTable().names


def test_a_damaged_file_of_claims_is_named(tmp_path: Path) -> None:
    folder = MultiplierFolder(tmp_path)
    folder.claims_file.write_text("{")
    with pytest.raises(WorkloadError, match=r"stated_costs\.json is damaged; delete it and import"):
        folder.costs()
