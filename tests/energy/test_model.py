from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy import (
    COMPONENTS,
    CostTable,
    EnergyTable,
    Estimate,
    Hardware,
    Overhead,
    Widths,
    Workload,
    WorkloadBatch,
    WorkloadError,
    count_actions,
    estimate,
    estimate_batch,
    hardware_names,
    load_hardware,
    multiplier_cost,
    register_multiplier_cost,
)
from energy.cost_table import exact_rows
from tests.support.networks import ALEXNET, LENET, convolution, fully_connected, workload

HARDWARE = load_hardware("weight-stationary-45nm")
ONES = EnergyTable.ones()
ROWS = exact_rows()
UNIT = ROWS["layer", 8, 8]  # its energy with random operands is the published 0.2 pJ
PER_OUTPUT = 32 + 16 + 5  # bits stored for each output: bias, scale and shift


def ones(work: Workload, hardware: Hardware = HARDWARE) -> Mapping[str, float]:
    (layer,) = estimate(work, hardware, ONES).layers.values()
    return layer


def entries(work: Workload, hardware: Hardware = HARDWARE) -> dict[str, float]:
    return estimate(work, hardware).table.values()


class TestAllOnes:
    """With a table in which every action costs 1, energies are counts, which can be worked out by hand."""

    def test_a_convolution(self) -> None:
        # 3x3 kernels over one channel of 10x10: 64 positions, 9 products, 2 outputs
        assert ones(workload(convolution("conv", 1, 10, 3, 2))) == {
            # each MAC is one multiplication and one addition of 8 + 8 + 4 bits (9 products: 4 more bits); each of the
            # 18 weights comes to its multiplier once, and stays for all 64 positions
            "mac": 64 * 9 * 2 * (1 + 20) + 18,
            # read: weight, activation, sum; written: activation, sum, and each weight on its way to one of 16 rows
            "registers": 1152 * (8 + 8 + 20) + 1152 * (8 + 20) + 18 * 8 * 8.5,
            "weight_sram": 18 * 8,
            "clock": 1152 * (8 + 8 + 20),  # an element is clocked while it has a product: bits of its registers
            "metadata": 0,
            "biases": 2 * 53,  # read once, as the weights are
            # one column fold reads 64 * 9 activations; 64 * 2 outputs are written
            "activation_sram": (576 + 128) * 8,
            "partial_sums": 0,  # 9 rows fit one fold
            "requantisation": 64 * 2,  # each output becomes a code
            "dram": 0,
            "leakage": 2 * 16 + 16 + 64 - 2,  # cycles of the only fold
            "overhead": 110 + 1,  # the same cycles, and one inference
        }

    def test_a_depthwise_convolution(self) -> None:
        # 3 channels, each with its own 5x5 kernel, over 8x8: 16 positions, 25 products, one output per group
        layer = convolution("dw", 3, 8, 5, 3, groups=3)
        assert ones(workload(layer, weight_bits=4)) == {
            "mac": 3 * 16 * 25 * (1 + 17) + 75,  # 4 + 8 + 5 bits; 75 weights
            "registers": 1200 * (4 + 8 + 17) + 1200 * (8 + 17) + 75 * 4 * 8.5,
            "weight_sram": 75 * 4,
            "clock": 1200 * (4 + 8 + 17),
            "metadata": 0,
            "biases": 3 * 53,
            "activation_sram": (3 * 16 * 25 + 3 * 16) * 8,  # no column is shared
            "partial_sums": 2 * 3 * 16 * 17,  # 25 rows are two folds: written once, read once
            "requantisation": 3 * 16,  # only finished sums
            "dram": 0,
            "leakage": 3 * 2 * (46 + 16),  # each group has the array to itself
            "overhead": 372 + 1,
        }

    def test_a_pruned_fully_connected_layer(self) -> None:
        hardware = load_hardware("weight-stationary-45nm-dram")
        layer = replace(fully_connected("fc", 32, 17, nonzero=272), activation_density=0.5)
        assert ones(workload(layer, weight_bits=4), hardware) == {
            # half of the weights times half of the activations, each product with another weight
            "mac": 136 * (1 + 17) + 136,
            # all weights and activations pass the array, each with a flag of a bit: half are zeros, of which the flag
            # alone is written, so 4 / 2 + 1 and 8 / 2 + 1 bits; the rest switches for 136 products
            "registers": 136 * (4 + 8 + 17) + 544 * 3 * 8.5 + 544 * 5 + 136 * 17,
            # half of the weights left: a bitmask is the smallest; read once, and written from DRAM with its mask and
            # with the biases
            "weight_sram": 272 * 4 + (272 * 4 + 544 + 17 * 53),
            "clock": 544 * (4 + 8 + 17),  # also for a product that a zero keeps from switching
            "metadata": 544,
            "biases": 17 * 53,
            # 2 column folds read 32 activations each, 17 outputs are written; the input comes from DRAM, the output
            # goes there
            "activation_sram": (2 * 32 + 17) * 8 + (32 + 17) * 8,
            "partial_sums": 2 * 17 * 17,
            "requantisation": 17,
            "dram": 272 * 4 + 544 + 17 * 53 + (32 + 17) * 8,
            "leakage": 2 * 2 * (46 + 1),
            "overhead": 188 + 1,
        }

    def test_a_convolution_whose_outputs_stay(self) -> None:
        layer = convolution("conv", 1, 10, 3, 2)
        assert ones(workload(layer), load_hardware("output-stationary-45nm")) == {
            "mac": 1152 * (21 + 1),  # each product with another weight than the one before
            "registers": 1152 * (8 + 8 + 20) + 1152 * (8 + 8 + 20),
            "weight_sram": 4 * 18 * 8,  # 64 positions are 4 folds
            "clock": 1152 * (8 + 8 + 20),
            "metadata": 0,
            "biases": 4 * 2 * 53,  # as often as the weights
            "activation_sram": (576 + 128) * 8,
            "partial_sums": 0,
            "requantisation": 128,
            "dram": 0,
            "leakage": 4 * (30 + 9),
            "overhead": 156 + 1,
        }

    def test_the_first_layer_has_what_the_inference_itself_costs(self) -> None:
        two = estimate(workload(convolution("conv", 1, 10, 3, 2), fully_connected("fc", 128, 16)), HARDWARE, ONES)
        assert two.layers["conv"]["overhead"] == 110 + 1
        assert two.layers["fc"]["overhead"] == 8 * (46 + 1)  # 128 inputs are 8 folds
        batch = estimate(workload(convolution("conv", 1, 10, 3, 2), batch=4), HARDWARE, ONES)
        assert batch.components["overhead"] == (46 + 4 * 64) / 4 + 1


class TestTable:
    def test_by_hand(self) -> None:
        table = entries(workload(fully_connected("fc", 32, 16)))
        # 0.2 pJ, times what a network's operands cost in the same gates while the weight stays, and if it does not
        held = 0.2 * UNIT.energy_held_fj / UNIT.energy_uniform_fj
        assert table["multiply_pj"] == pytest.approx(held)
        fresh = 0.2 * UNIT.energy_recorded_fj / UNIT.energy_uniform_fj
        assert table["weight_change_pj"] == pytest.approx(fresh - held)
        assert table["add_pj_per_bit"] == pytest.approx(0.1 / 32)
        assert table["register_write_bit_pj"] == pytest.approx(0.009)
        assert table["clock_bit_pj"] == pytest.approx(207 / 22570 * 0.2, rel=1e-3)
        # the smallest memories have 8 KB: 10 pJ for 64 bits
        for action in ("weight_read", "weight_write", "activation_read", "activation_write"):
            assert table[f"{action}_bit_pj"] == pytest.approx(10 / 64)
        assert table["bias_read_bit_pj"] == pytest.approx(1.145 * 10 / 64)  # from 8T cells
        assert table["dram_bit_pj"] == 0
        # 2 x 8 KB at 0.0272 mW/MB, in pJ per 5 ns; 16 biases are in 8T cells, which leak 1.31 times as much, beside
        # 512 weights
        kb = 8 + 8 * (1 + 0.31 * 16 * PER_OUTPUT / (16 * PER_OUTPUT + 512 * 8))
        assert table["leakage_pj_per_cycle"] == pytest.approx(kb / 1024 * 0.0272 * 5)
        assert (table["overhead_pj_per_cycle"], table["overhead_pj_per_inference"]) == (0, 0)

    def test_turning_a_sum_into_a_code_by_hand(self) -> None:
        def random(bits: int) -> float:  # energy of an exact multiplication of a sum by a scale of 16 bits, in 0.2 pJ
            return ROWS["layer", bits, 16].energy_uniform_fj / UNIT.energy_uniform_fj

        # 2 + 2 bits and 16 products: sums of 8 bits; a multiplication by the scale, 24 bits of shifter, an addition
        narrow = entries(workload(fully_connected("fc", 16, 16), weight_bits=2, activation_bits=2))
        assert narrow["requantise_pj"] == pytest.approx(0.2 * (random(8) + 0.027 * 24) + 8 * 0.003125)
        # 8 + 8 bits and 32 products: sums of 21 bits, beyond the widest measured, so by partial products
        wide = entries(workload(fully_connected("fc", 32, 16)))
        assert wide["requantise_pj"] == pytest.approx(0.2 * (random(16) * 21 / 16 + 0.027 * 37) + 21 * 0.003125)
        # a scale of 8 bits, and sums of 16
        sums = replace(HARDWARE, partial_sum_bits=16, scale_bits=8)
        unit = ROWS["layer", 16, 8].energy_uniform_fj / UNIT.energy_uniform_fj
        found = entries(workload(fully_connected("fc", 32, 16)), sums)["requantise_pj"]
        assert found == pytest.approx(0.2 * (unit + 0.027 * 24) + 16 * 0.003125)

    def test_what_is_not_modelled_can_be_given(self) -> None:
        nothing = Estimate(0.0, 0.0, 0.0)
        given = Overhead(pj_per_cycle=Estimate(1.0, 2.0, 8.0), pj_per_inference=Estimate(0.0, 50.0, 90.0))
        none, some = (replace(HARDWARE, overhead=one) for one in (Overhead(), given))
        work = workload(convolution("conv", 1, 10, 3, 2))  # 110 cycles
        assert estimate(work, none).component_bands["overhead"] == nothing
        assert estimate(work, some).component_bands["overhead"] == Estimate(110, 220 + 50, 880 + 90)
        more = estimate(work, some).energy_band.high - estimate(work, none).energy_band.high
        assert more == pytest.approx(970)
        # the shipped file leaves it out, and says that a small processor may take 8.3 pJ a cycle
        assert estimate(work, HARDWARE).component_bands["overhead"] == pytest.approx(Estimate(0, 0, 110 * 8.3))

    def test_sums_too_wide_to_be_charged(self) -> None:
        with pytest.raises(WorkloadError, match=r"sums can be at most 64 bits wide, got 69; .*partial_sum_bits"):
            estimate(workload(fully_connected("fc", 32, 16), weight_bits=32, activation_bits=32), HARDWARE)

    def test_memories_are_as_large_as_the_compressed_network_needs_in_whole_banks(self) -> None:
        fine = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, bank_kb=1))
        layers = [
            fully_connected("fc", 128, 512, nonzero=nonzero) for nonzero in (65536, 54805, 54804, 49152, 16384, 0)
        ]
        sizes = [estimate(workload(layer), fine).weight_memory_kb for layer in layers]
        # 512 x 53 bits of biases are 3.3 KB, beside dense 64 KB; bitmask: a bit for each weight is 8 KB more, of 8T
        # cells as large as 1.31 x 8 KB, so worth it where at least 10.5 KB of weights are zeros (10,732 or more), and
        # then 53.5 + 8 or 48 + 8 or 16 + 8 KB; no weights
        assert sizes == [68, 68, 65, 60, 28, 4]
        assert [estimate(workload(layer), HARDWARE).weight_memory_kb for layer in layers] == [72, 72, 72, 64, 32, 8]
        fixed = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, capacity_kb=128))
        assert estimate(workload(fully_connected("fc", 8, 8)), fixed).weight_memory_kb == 128

    def test_a_memory_that_is_too_small_without_dram(self) -> None:
        small = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, capacity_kb=8))
        # 430,500 weights of a byte, and 20 + 50 + 500 + 10 outputs with 53 bits each
        with pytest.raises(WorkloadError, match=r"the weights need 424\.2 KB, but weight-stationary-45nm has 8 KB"):
            estimate(workload(*LENET), small)

    def test_a_wider_port_is_cheaper(self) -> None:
        wide = replace(HARDWARE, activation_memory=replace(HARDWARE.activation_memory, port_bits=256))
        work = workload(*LENET)
        assert entries(work, wide)["activation_read_bit_pj"] < entries(work)["activation_read_bit_pj"]
        assert entries(work, wide)["weight_read_bit_pj"] == entries(work)["weight_read_bit_pj"]

    def test_each_part_follows_the_square_of_its_own_voltage(self) -> None:
        work = workload(*LENET)
        nominal = entries(work)
        weights = entries(replace(work, weight_memory_v=0.45))
        array = entries(work, replace(HARDWARE, supply_v=0.45))
        memory = replace(HARDWARE.activation_memory, supply_v=0.45)
        activations = entries(work, replace(HARDWARE, activation_memory=memory))
        quartered = {
            name: {key for key, value in found.items() if value == pytest.approx(nominal[key] / 4) and value}
            for name, found in (("weights", weights), ("array", array), ("activations", activations))
        }
        assert quartered == {
            "weights": {"weight_read_bit_pj", "weight_write_bit_pj", "metadata_read_bit_pj", "bias_read_bit_pj"},
            "array": {
                "multiply_pj",
                "weight_change_pj",
                "add_pj_per_bit",
                "register_write_bit_pj",
                "clock_bit_pj",
                "requantise_pj",
            },
            "activations": {"activation_read_bit_pj", "activation_write_bit_pj"},
        }
        assert weights["leakage_pj_per_cycle"] < nominal["leakage_pj_per_cycle"]  # by V

    def test_cells(self) -> None:
        work = workload(fully_connected("fc", 32, 16))
        plain, half, robust = (entries(replace(work, robust_bits=bits)) for bits in (0, 4, 8))
        cell = HARDWARE.technology.eight_transistor_cell.access.value
        assert robust["weight_read_bit_pj"] == pytest.approx(plain["weight_read_bit_pj"] * cell)
        assert half["weight_read_bit_pj"] == pytest.approx(plain["weight_read_bit_pj"] * (1 + cell) / 2)
        assert plain["metadata_read_bit_pj"] == robust["metadata_read_bit_pj"] == robust["weight_read_bit_pj"]
        all_8t = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, cell="8T"))
        assert entries(work, all_8t) == robust
        all_6t = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, cell="6T"))
        assert entries(work, all_6t)["metadata_read_bit_pj"] == plain["weight_read_bit_pj"]
        # biases are in 8T cells whatever the others are
        for table in (plain, half, robust, entries(work, all_8t), entries(work, all_6t)):
            assert table["bias_read_bit_pj"] == pytest.approx(plain["weight_read_bit_pj"] * cell)
        assert entries(work, all_6t)["leakage_pj_per_cycle"] == plain["leakage_pj_per_cycle"]
        with pytest.raises(WorkloadError, match=r"has 6T cells only, so robust_bits must be 0, got 2; choose hardware"):
            estimate(replace(work, robust_bits=2), all_6t)

    def test_an_activation_memory_of_8t_cells(self) -> None:
        # An access to an 8T cell takes 1.145 times that of a 6T cell; both at 10 pJ for 64 bits of 8 KB.
        cells = replace(HARDWARE, activation_memory=replace(HARDWARE.activation_memory, cell="8T", supply_v=0.6))
        found = entries(workload(fully_connected("fc", 64, 10)), cells)
        per_bit = 1.145 * 10 / 64 * (0.6 / 0.9) ** 2
        assert found["activation_read_bit_pj"] == found["activation_write_bit_pj"] == pytest.approx(per_bit)

    def test_what_is_written_costs_a_write(self) -> None:
        # Reads and writes of 8 KB are 10 pJ in Horowitz's table, but 4.11 and 5.275 pJ in CACTI's.
        table = estimate(workload(fully_connected("fc", 64, 10)), HARDWARE).table
        for memory in ("weight", "activation"):
            read, written = (np.ravel(getattr(table, f"{memory}_{one}_bit_pj"))[0] for one in ("read", "write"))
            assert (read, written) == (pytest.approx(4.11 / 64), pytest.approx(5.275 / 64))

    def test_robust_bits_are_a_share_of_whole_words(self) -> None:
        words = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, word_bits=8))
        wide, narrow = (workload(fully_connected("fc", 32, 16), weight_bits=b, robust_bits=2) for b in (8, 4))
        assert entries(wide, words)["weight_read_bit_pj"] == entries(narrow, words)["weight_read_bit_pj"]
        assert entries(wide)["weight_read_bit_pj"] < entries(narrow)["weight_read_bit_pj"]

    def test_a_voltage_in_the_wrong_unit(self) -> None:
        with pytest.raises(WorkloadError, match=r"must be in volts, between 0\.2 and 1\.5 times the nominal 0\.9 V"):
            estimate(workload(*LENET, weight_memory_v=900.0), HARDWARE)

    def test_metadata_and_biases_leak_as_8t_cells_do(self) -> None:
        sparse = workload(fully_connected("fc", 100, 100, nonzero=5000), weight_bits=4)
        # 20,000 bits of weights in 6T cells; 10,000 of bitmask and 5,300 of biases in 8T cells
        kb = 8 + 8 * (1 + 0.31 * 15300 / 35300)
        assert entries(sparse)["leakage_pj_per_cycle"] == pytest.approx(kb / 1024 * 0.0272 * 5)

    @pytest.mark.parametrize("name", ["asm-1", "drum-4", "truncated-4"])
    def test_an_approximate_multiplier_costs_its_share_of_the_exact_one(self, name: str) -> None:
        work = workload(*LENET, weight_bits=6, activation_bits=7)
        found = replace(work, multiplier=name)
        cost = multiplier_cost(name, weight_bits=6, activation_bits=7)
        exact = ROWS["layer", 6, 7]
        held, fresh = (0.2 * fj / UNIT.energy_uniform_fj for fj in (exact.energy_held_fj, exact.energy_recorded_fj))
        held, fresh = held * cost.relative_energy_held, fresh * cost.relative_energy
        assert entries(found)["multiply_pj"] == pytest.approx(held)
        assert entries(found)["weight_change_pj"] == pytest.approx(fresh - held)
        changed = {key for key, value in entries(found).items() if value != entries(work)[key]}
        assert changed == {"multiply_pj", "weight_change_pj"}

    def test_leakage_grows_with_time_and_flavour(self) -> None:
        work = workload(*LENET)
        fast = load_hardware("weight-stationary-45nm-high-performance")
        slow_clock = replace(HARDWARE, clock_mhz=100.0)
        leaks = [estimate(work, one).components["leakage"] for one in (HARDWARE, slow_clock, fast)]
        assert leaks[1] == pytest.approx(2 * leaks[0])
        assert leaks[2] == pytest.approx(leaks[0] * 100 / 0.0272)


class TestReport:
    def test_layers_are_stored_dense_where_that_takes_the_fewest_bits(self) -> None:
        # A bitmask saves 8 bits for each pruned weight and costs one for each weight.
        layers = [fully_connected(name, 64, 10, nonzero) for name, nonzero in (("a", 640), ("b", 570), ("c", 500))]
        assert estimate(workload(*layers), HARDWARE).dense_layers == ("a", "b")
        dense = replace(HARDWARE, compressed_weights=False)
        assert estimate(workload(*layers), dense).dense_layers == ("a", "b", "c")

    def test_energy_is_additive_over_layers(self) -> None:
        whole = estimate(workload(*LENET), HARDWARE, ONES)
        assert tuple(whole.components) == COMPONENTS
        for layer in LENET:
            alone = estimate(workload(layer), HARDWARE, ONES).layers[layer.name]
            if layer != LENET[0]:  # which has what the inference itself costs
                alone["overhead"] -= 1
            assert alone == whole.layers[layer.name]
        assert whole.energy_pj == sum(sum(parts.values()) for parts in whole.layers.values())
        assert whole.cycles == sum(estimate(workload(layer), HARDWARE).cycles for layer in LENET)

    def test_the_band_encloses_the_value(self) -> None:
        for name in hardware_names():
            hardware = load_hardware(name)
            work = workload(*LENET, weight_memory_v=hardware.weight_memory.supply_v)
            found = estimate(work, hardware)
            for band in (found.energy_band, found.area_mm2, *found.component_bands.values()):
                assert 0 <= band.low <= band.value <= band.high
            assert found.energy_band.low < found.energy_pj < found.energy_band.high
            assert found.energy_pj == pytest.approx(sum(found.components.values()))

    def test_latency_is_cycles_over_the_clock(self) -> None:
        found = estimate(workload(*LENET), HARDWARE)
        assert found.latency_us == pytest.approx(found.cycles / 200)

    def test_a_batch_costs_each_inference_less(self) -> None:
        one, eight = (estimate(workload(*LENET, batch=batch), HARDWARE) for batch in (1, 8))
        # each of 430,500 weights comes to its multiplier once in a batch, instead of once for each image
        saved = 430_500 * (1 - 1 / 8) * one.table.values()["weight_change_pj"]
        assert one.components["mac"] - eight.components["mac"] == pytest.approx(saved)
        for component in ("weight_sram", "biases"):
            assert eight.components[component] == pytest.approx(one.components[component] / 8)
        assert eight.components["requantisation"] == pytest.approx(one.components["requantisation"])
        assert one.latency_us < eight.latency_us < 8 * one.latency_us

    def test_area_by_hand(self) -> None:
        work = workload(fully_connected("fc", 16, 16), robust_bits=8)
        table = HARDWARE.technology
        # 8 + 8 bits and 16 products: sums of 20 bits
        element = 64 * table.multiply_um2_per_bit2.value + 20 * table.add_um2_per_bit.value
        element += (8 + 8 + 20) * table.register_um2_per_bit.value
        # each of 16 columns multiplies them by scales of 16 bits, which 20 / 16 of a 16-bit multiplier does, shifts
        # 36 bits, and adds a bias
        column = ROWS["layer", 16, 16].area_um2 / UNIT.area_um2 * 20 / 16 + 0.026 * 36
        column = 64 * table.multiply_um2_per_bit2.value * column + 20 * table.add_um2_per_bit.value
        bits = 8 * 8192
        memories = bits * table.sram_um2_per_bit.value * (1 + table.eight_transistor_cell.area.value)
        found = estimate(work, HARDWARE).area_mm2.value
        assert found == pytest.approx((256 * element + 16 * column + memories) / 1e6)

    def test_multipliers_take_the_area_of_their_gates(self) -> None:
        # codes of 4 bits: 256 multipliers with the area of a 4-bit netlist, adders and registers 8 bits narrower, and
        # 16 units for sums of 4 + 4 + 4 instead of 8 + 8 + 4 bits; memories are the smallest for both
        table = HARDWARE.technology
        layer = fully_connected("fc", 16, 16)
        cells = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, cell="8T"))
        wide, narrow = (
            estimate(workload(layer, weight_bits=bits, activation_bits=bits), cells).area_mm2.value for bits in (8, 4)
        )
        multiply = 64 * table.multiply_um2_per_bit2.value / UNIT.area_um2
        saved = 256 * multiply * (UNIT.area_um2 - ROWS["layer", 4, 4].area_um2)
        saved += 256 * (8 * table.add_um2_per_bit.value + 16 * table.register_um2_per_bit.value)
        units = ROWS["layer", 16, 16].area_um2 * 20 / 16 - ROWS["layer", 12, 16].area_um2 + 0.026 * 8 * UNIT.area_um2
        saved += 16 * (multiply * units + 8 * table.add_um2_per_bit.value)
        assert wide - narrow == pytest.approx(saved / 1e6)

    def test_an_array_of_given_widths_has_their_area_whatever_the_codes(self) -> None:
        given = replace(
            HARDWARE,
            widths=Widths(weights=8, activations=8),
            weight_memory=replace(HARDWARE.weight_memory, cell="8T"),
        )
        areas = [
            estimate(workload(fully_connected("fc", 16, 16), weight_bits=bits), given).area_mm2.value
            for bits in (1, 2, 5, 8)
        ]
        assert areas == pytest.approx([areas[-1]] * 4)

    def test_an_approximate_multiplier_takes_its_share_of_the_area(self) -> None:
        exact, approximate = (
            estimate(workload(*LENET, multiplier=name), HARDWARE).area_mm2.value for name in ("exact", "asm-1")
        )
        saved = (1 - multiplier_cost("asm-1", weight_bits=8, activation_bits=8).relative_area) * 64
        saved *= 256 * HARDWARE.technology.multiply_um2_per_bit2.value / 1e6
        assert exact - approximate == pytest.approx(saved)


CHANGES = st.fixed_dictionaries(
    {
        "weight_bits": st.integers(4, 8),
        "activation_bits": st.integers(2, 8),
        "multiplier": st.sampled_from(["exact", "drum-4", "asm-1"]),
        "weight_memory_v": st.floats(0.5, 1.0),
        "robust_bits": st.integers(0, 4),
        "batch": st.integers(1, 4),
    }
)
LAYER_CHANGES = st.fixed_dictionaries(
    {},
    optional={"multiplier": st.sampled_from(["exact", "drum-4", "asm-1"]), "robust_bits": st.integers(0, 4)},
)
HYBRID = [name for name in hardware_names() if load_hardware(name).weight_memory.cell == "hybrid"]


@given(
    st.lists(
        st.tuples(st.sampled_from([LENET, ALEXNET, LENET[:2]]), CHANGES, LAYER_CHANGES, LAYER_CHANGES),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(HYBRID),
)
def test_many_workloads_cost_what_each_costs_alone(works: list[tuple[Any, ...]], name: str) -> None:
    hardware = load_hardware(name)
    made = [
        workload(replace(layers[0], **first), *layers[1:-1], replace(layers[-1], **last), **knobs)
        for layers, knobs, first, last in works
    ]
    together = estimate_batch(made, hardware)
    for index, work in enumerate(made):
        alone = estimate(work, hardware)
        assert together.energy_pj[index] == pytest.approx(alone.energy_pj)
        assert together.latency_us[index] == pytest.approx(alone.latency_us)
        assert together.area_mm2[:, index].tolist() == pytest.approx(list(alone.area_mm2))
        bands = [list(band) for band in alone.component_bands.values()]
        assert np.allclose(together.components_pj[..., index], bands, rtol=1e-12)


def test_rows_stationary_hardware_takes_many_at_once_too() -> None:
    hardware = load_hardware("row-stationary-65nm")
    made = [workload(*LENET, weight_memory_v=1.0), workload(*ALEXNET, weight_memory_v=1.0, batch=4)]
    together = estimate_batch(WorkloadBatch.of(made), hardware)
    assert together.energy_pj.tolist() == pytest.approx([estimate(work, hardware).energy_pj for work in made])


class TestMonotone:
    """More of anything never costs less."""

    @given(st.sampled_from(hardware_names()), st.integers(2, 7), st.integers(2, 7), st.floats(0.5, 1.0))
    def test_in_bits(self, name: str, weight_bits: int, activation_bits: int, density: float) -> None:
        hardware = load_hardware(name)
        layers = [replace(layer, nonzero_weights=round(layer.weights * density)) for layer in LENET]
        v = hardware.weight_memory.supply_v
        low, more_weight, more_activation = (
            estimate(workload(*layers, weight_bits=w, activation_bits=a, weight_memory_v=v), hardware).energy_pj
            for w, a in (
                (weight_bits, activation_bits),
                (weight_bits + 1, activation_bits),
                (weight_bits, activation_bits + 1),
            )
        )
        assert low < more_weight
        assert low < more_activation

    @given(st.sampled_from(hardware_names()), st.floats(0.0, 0.95), st.integers(2, 8))
    def test_in_density(self, name: str, density: float, weight_bits: int) -> None:
        hardware = load_hardware(name)

        def total(share: float, activations: float) -> float:
            layers = [
                replace(layer, nonzero_weights=round(layer.weights * share), activation_density=activations)
                for layer in LENET
            ]
            work = workload(*layers, weight_bits=weight_bits, weight_memory_v=hardware.weight_memory.supply_v)
            found = estimate(work, hardware)
            # Empty room of a bank leaks as the rest does, and less of that is 8T cells of metadata the denser it is.
            return found.energy_pj - found.components["leakage"]

        assert total(density, 0.5) <= total(density + 0.05, 0.5)
        assert total(0.5, density) < total(0.5, density + 0.05)

    @given(st.sampled_from(HYBRID), st.floats(0.5, 1.0), st.integers(0, 7))
    def test_in_voltage_and_robust_bits(self, name: str, volts: float, robust_bits: int) -> None:
        hardware = load_hardware(name)
        work = workload(*LENET, weight_memory_v=volts, robust_bits=robust_bits)
        energy_pj = estimate(work, hardware).energy_pj
        assert energy_pj < estimate(replace(work, weight_memory_v=volts + 0.01), hardware).energy_pj
        assert energy_pj < estimate(replace(work, robust_bits=robust_bits + 1), hardware).energy_pj

    @given(st.sampled_from(hardware_names()), st.integers(1, 60), st.integers(1, 60), st.integers(4, 20))
    def test_in_products(self, name: str, channels: int, outputs: int, size: int) -> None:
        hardware = load_hardware(name)

        def total(channels: int, outputs: int, size: int) -> float:
            layer = convolution("c", channels, size, 3, outputs)
            return estimate(workload(layer, weight_memory_v=hardware.weight_memory.supply_v), hardware).energy_pj

        base = total(channels, outputs, size)
        assert base < total(channels, outputs + 1, size)
        assert base < total(channels, outputs, size + 1)
        assert base < total(channels + 1, outputs, size)


def test_pruning_saves_registers_what_its_zeros_write_less() -> None:
    """As much as an accelerator saves that hands zeros on as flags of a bit."""
    dense, sparse = (estimate(workload(fully_connected("fc", 160, 40, nonzero=n)), HARDWARE) for n in (6400, 320))
    # A write is 0.009 pJ, a read nothing. Each of 6,400 weights passes 8.5 registers on average: dense all 8 bits, with
    # 95 % zeros the flag and 5 % of 8 bits. All 6,400 activations pass, of 8 bits. Sums have 8 + 8 + 8 bits.
    assert dense.components["registers"] == pytest.approx(0.009 * (6400 * 8.5 * 8 + 6400 * 8 + 6400 * 24))
    assert sparse.components["registers"] == pytest.approx(0.009 * (6400 * 8.5 * 1.4 + 6400 * 8 + 320 * 24))


def test_dram_is_an_option() -> None:
    work = workload(convolution("conv", 1, 10, 3, 2), fully_connected("fc", 128, 16))
    without = estimate(work, HARDWARE)
    with_dram = estimate(work, load_hardware("weight-stationary-45nm-dram"))
    weights, image, answer = (18 + 2048) * 8 + (2 + 16) * PER_OUTPUT, 100 * 8, 16 * 8  # in bits, with the biases
    assert without.components["dram"] == 0
    assert with_dram.components["dram"] == pytest.approx((weights + image + answer) * 20.3)
    onto_chip = (weights + image + answer) * 10 / 64  # what moves is written to, or read from, an 8 KB memory too
    assert with_dram.energy_pj - without.energy_pj == pytest.approx(with_dram.components["dram"] + onto_chip)


@pytest.mark.parametrize(
    "work", [workload(*LENET, multiplier="magic"), workload(replace(LENET[0], multiplier="magic"), *LENET[1:])]
)
def test_unknown_multipliers_have_no_energy(work: Workload) -> None:
    for run in (lambda: estimate(work, HARDWARE), lambda: estimate_batch([workload(*LENET), work], HARDWARE)):
        with pytest.raises(WorkloadError, match=r"multiplier 'magic'.*characterise"):
            run()
    assert count_actions(work, HARDWARE).macs.sum() > 0  # counts need no costs


def test_a_cost_table_gives_multipliers_their_energy_and_area() -> None:
    key = ("layer", 8, 8)
    costs = CostTable({"mine": {key: CostTable().cost("asm-1", weight_bits=8, activation_bits=8)}})
    layered = (replace(LENET[0], multiplier="exact"), *LENET[1:])
    for layers in (LENET, layered):
        mine, twin = (workload(*layers, multiplier=name) for name in ("mine", "asm-1"))
        found, expected = estimate(mine, HARDWARE, costs=costs), estimate(twin, HARDWARE)
        assert found.energies_pj.tolist() == expected.energies_pj.tolist()
        assert found.area_mm2 == expected.area_mm2
        together = estimate_batch([mine, workload(*LENET)], HARDWARE, costs=costs)
        assert together.energy_pj[0] == pytest.approx(expected.energy_pj)
        assert together.area_mm2[1, 0] == pytest.approx(expected.area_mm2.value)
        with pytest.raises(WorkloadError, match="'mine'"):
            estimate(mine, HARDWARE)


def test_a_registered_multiplier_is_known_without_a_table() -> None:
    register_multiplier_cost("mine", {("layer", 8, 8): multiplier_cost("asm-1", weight_bits=8, activation_bits=8)})
    mine, twin = (workload(*LENET, multiplier=name) for name in ("mine", "asm-1"))
    assert estimate(mine, HARDWARE).energy_pj == estimate(twin, HARDWARE).energy_pj
    with pytest.raises(WorkloadError, match="'mine'"):
        estimate(mine, HARDWARE, costs=CostTable())
