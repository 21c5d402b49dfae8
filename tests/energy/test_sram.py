"""Memories of banks: an access costs that of a bank, and the way to it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy import estimate, load_hardware
from energy.sram import BankedSram, SramCurve
from tests.support.networks import fully_connected, workload

HARDWARE = load_hardware("weight-stationary-45nm")
TECHNOLOGY = HARDWARE.technology
SRAM = HARDWARE.weight_sram  # of banks of 8 KB with ports of 64 bits
MONOLITH = SramCurve(TECHNOLOGY.sram, TECHNOLOGY.sram_ports, 64)
BANK = TECHNOLOGY.sram[0]  # of 8 KB, in pJ for 64 bits; 10 is likely
# 8 KB are 65,536 bits of 0.494 um2: a square with a side of 0.180 mm
SIDE_MM = math.sqrt(65536 * 0.494) / 1000


def of_memory(sram: BankedSram | SramCurve, capacity_kb: float) -> tuple[list[float], list[float]]:
    """Low, likely and high energy of a bit read, and of a bit written."""
    read, written = sram.pj_per_bit(np.array([[capacity_kb]]))
    return read[:, 0, 0].tolist(), written[:, 0, 0].tolist()


def test_one_bank_costs_what_is_published_for_it() -> None:
    read, written = of_memory(SRAM, 8)
    assert read == pytest.approx([BANK.read_pj.low / 64, 10 / 64, BANK.read_pj.high / 64])
    assert written == pytest.approx([BANK.write_pj.low / 64, 10 / 64, BANK.write_pj.high / 64])


def test_six_banks_by_hand() -> None:
    # They fill a square of sqrt(6) sides of a bank. A bank is a quarter of that away across and half along, 0.75 in
    # all, of which 0.75 of a bank's own side is in its own energy; a bit takes 0.121 pJ per mm (0.059 to 0.24).
    way_mm = 0.75 * (math.sqrt(6) - 1) * SIDE_MM
    assert way_mm == pytest.approx(0.1956, abs=1e-4)
    read, written = of_memory(SRAM, 48)
    assert read[:2] == pytest.approx([BANK.read_pj.low / 64 + 0.059 * way_mm, 10 / 64 + 0.121 * way_mm])
    assert written[:2] == pytest.approx([BANK.write_pj.low / 64 + 0.059 * way_mm, 10 / 64 + 0.121 * way_mm])
    # 0.156 + 0.024 pJ; a single memory of 48 KB, between 20 pJ at 32 KB and 100 pJ at 1 MB, costs 24.1 pJ for 64 bits
    assert read[1] == pytest.approx(0.1799, abs=1e-4)
    single = 20 / 64 * 1.5 ** (math.log(5) / math.log(32))
    assert of_memory(MONOLITH, 48)[0][1] == pytest.approx(single)
    assert single == pytest.approx(0.377, abs=1e-3)
    assert read[1] < 0.5 * single
    # nobody has published one of banks, so it may cost what a single memory costs
    assert read[2] == written[2] == pytest.approx(single)


def test_two_banks_may_cost_what_is_high_for_both_bank_and_way() -> None:
    # with 0.24 pJ a mm; or as much as a single memory of 16 KB, halfway from 10 pJ at 8 KB to 20 pJ at 32 KB
    dear = replace(BANK, read_pj=BANK.read_pj._replace(high=15.0), write_pj=BANK.write_pj._replace(high=11.0))
    memory = replace(HARDWARE, technology=replace(TECHNOLOGY, sram=(dear, *TECHNOLOGY.sram[1:]))).weight_sram
    read, written = of_memory(memory, 16)
    way_mm = 0.75 * (math.sqrt(2) - 1) * SIDE_MM
    assert read[2] == pytest.approx(15 / 64 + 0.24 * way_mm)  # 0.248 pJ
    assert written[2] == pytest.approx(10 / 64 * math.sqrt(2))  # 0.221 pJ, and 0.185 by bank and way


def test_larger_banks_are_dearer_but_nearer() -> None:
    large = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, bank_kb=32)).weight_sram
    # a bank of 32 KB has twice the side; 128 KB are 4 of them
    assert of_memory(large, 128)[0][1] == pytest.approx(20 / 64 + 0.121 * 0.75 * (2 - 1) * 2 * SIDE_MM)
    assert of_memory(SRAM, 128)[0][1] == pytest.approx(10 / 64 + 0.121 * 0.75 * (4 - 1) * SIDE_MM)


def test_a_network_in_six_banks_pays_their_way() -> None:
    # 208 x 208 weights are 42.25 KB, biases and scales of 208 outputs 1.35 KB: six banks
    found = estimate(workload(fully_connected("fc", 208, 208)), HARDWARE)
    assert found.weight_memory_kb == 48
    read_pj = 10 / 64 + 0.121 * 0.75 * (math.sqrt(6) - 1) * SIDE_MM
    assert found.components["weight_sram"] == pytest.approx(208 * 208 * 8 * read_pj)
    assert found.components["biases"] == pytest.approx(208 * 53 * 1.145 * read_pj)


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_more_memory_never_costs_less(banks: int, more: int) -> None:
    for small, large in zip(of_memory(SRAM, 8 * banks), of_memory(SRAM, 8 * (banks + more)), strict=True):
        assert small[0] < small[1] < small[2]
        assert all(less < dearer for less, dearer in zip(small, large, strict=True))


def test_many_memories_cost_what_each_costs_alone() -> None:
    sizes = [8.0, 48.0, 1024.0]
    read, written = SRAM.pj_per_bit(np.array(sizes)[:, None])
    for index, size in enumerate(sizes):
        assert (read[:, index, 0].tolist(), written[:, index, 0].tolist()) == of_memory(SRAM, size)
