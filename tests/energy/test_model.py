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
    Hardware,
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
from tests.support.networks import ALEXNET, LENET, convolution, fully_connected, workload

HARDWARE = load_hardware("weight-stationary-45nm")
ONES = EnergyTable.ones()


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
            # each MAC is one multiplication and one addition of 8 + 8 + 4 bits (9 products: 4 more bits)
            "mac": 64 * 9 * 2 * (1 + 20),
            # read: weight, activation, sum; written: activation, sum, and each weight on its way to one of 16 rows
            "registers": 1152 * (8 + 8 + 20) + 1152 * (8 + 20) + 18 * 8 * 8.5,
            "weight_sram": 18 * 8,
            "clock": 1152 * (8 + 8 + 20),  # an element is clocked while it has a product: bits of its registers
            "metadata": 0,
            # one column fold reads 64 * 9 activations; 64 * 2 outputs are written
            "activation_sram": (576 + 128) * 8,
            "partial_sums": 0,  # 9 rows fit one fold
            "dram": 0,
            "leakage": 2 * 16 + 16 + 64 - 2,  # cycles of the only fold
        }

    def test_a_depthwise_convolution(self) -> None:
        # 3 channels, each with its own 5x5 kernel, over 8x8: 16 positions, 25 products, one output per group
        layer = convolution("dw", 3, 8, 5, 3, groups=3)
        assert ones(workload(layer, weight_bits=4)) == {
            "mac": 3 * 16 * 25 * (1 + 17),  # 4 + 8 + 5 bits
            "registers": 1200 * (4 + 8 + 17) + 1200 * (8 + 17) + 75 * 4 * 8.5,
            "weight_sram": 75 * 4,
            "clock": 1200 * (4 + 8 + 17),
            "metadata": 0,
            "activation_sram": (3 * 16 * 25 + 3 * 16) * 8,  # no column is shared
            "partial_sums": 2 * 3 * 16 * 17,  # 25 rows are two folds: written once, read once
            "dram": 0,
            "leakage": 3 * 2 * (46 + 16),  # each group has the array to itself
        }

    def test_a_pruned_fully_connected_layer(self) -> None:
        hardware = load_hardware("weight-stationary-45nm-dram")
        layer = replace(fully_connected("fc", 32, 17, nonzero=272), activation_density=0.5)
        assert ones(workload(layer, weight_bits=4), hardware) == {
            # half of the weights times half of the activations
            "mac": 136 * (1 + 17),
            # weights pass the array all; the rest switches for 136 products
            "registers": 136 * (4 + 8 + 17) + 544 * 4 * 8.5 + 544 * 8 + 136 * 17,
            # half of the weights left: a bitmask is the smallest; read once, and written from DRAM with its mask
            "weight_sram": 272 * 4 + (272 * 4 + 544),
            "clock": 544 * (4 + 8 + 17),  # also for a product that a zero keeps from switching
            "metadata": 544,
            # 2 column folds read 32 activations each, 17 outputs are written; the input comes from DRAM, the output
            # goes there
            "activation_sram": (2 * 32 + 17) * 8 + (32 + 17) * 8,
            "partial_sums": 2 * 17 * 17,
            "dram": 272 * 4 + 544 + (32 + 17) * 8,
            "leakage": 2 * 2 * (46 + 1),
        }

    def test_a_convolution_whose_outputs_stay(self) -> None:
        layer = convolution("conv", 1, 10, 3, 2)
        assert ones(workload(layer), load_hardware("output-stationary-45nm")) == {
            "mac": 1152 * 21,
            "registers": 1152 * (8 + 8 + 20) + 1152 * (8 + 8 + 20),
            "weight_sram": 4 * 18 * 8,  # 64 positions are 4 folds
            "clock": 1152 * (8 + 8 + 20),
            "metadata": 0,
            "activation_sram": (576 + 128) * 8,
            "partial_sums": 0,
            "dram": 0,
            "leakage": 4 * (30 + 9),
        }


class TestTable:
    def test_by_hand(self) -> None:
        table = entries(workload(fully_connected("fc", 32, 16)))
        assert table["multiply_pj"] == pytest.approx(0.2, rel=1e-3)
        assert table["add_pj_per_bit"] == pytest.approx(0.1 / 32)
        # the smallest memories have 8 KB: 10 pJ for 64 bits
        for action in ("weight_read", "weight_write", "activation_read", "activation_write"):
            assert table[f"{action}_bit_pj"] == pytest.approx(10 / 64)
        assert table["dram_bit_pj"] == 0
        # 2 x 8 KB at 0.0272 mW/MB, in pJ per 5 ns
        assert table["leakage_pj_per_cycle"] == pytest.approx(16 / 1024 * 0.0272 * 5)

    def test_memories_are_as_large_as_the_compressed_network_needs_in_whole_banks(self) -> None:
        sizes = [
            estimate(workload(fully_connected("fc", 128, 512, nonzero=nonzero)), HARDWARE).weight_memory_kb
            for nonzero in (65536, 57344, 57343, 49152, 16384, 0)
        ]
        # dense 64 KB; bitmask: a bit for each weight is 8 KB more; relative index: 12 bits a weight and a few fillers
        assert sizes == [64, 64, 64, 56, 24, 8]
        fixed = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, capacity_kb=128))
        assert estimate(workload(fully_connected("fc", 8, 8)), fixed).weight_memory_kb == 128

    def test_a_memory_that_is_too_small_without_dram(self) -> None:
        small = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, capacity_kb=8))
        with pytest.raises(WorkloadError, match=r"the weights need 420\.4 KB, but weight-stationary-45nm has 8 KB"):
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
            "weights": {"weight_read_bit_pj", "weight_write_bit_pj", "metadata_read_bit_pj"},
            "array": {"multiply_pj", "add_pj_per_bit", "register_write_bit_pj", "clock_bit_pj"},
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
        with pytest.raises(WorkloadError, match=r"has 6T cells only, so robust_bits must be 0, got 2; choose hardware"):
            estimate(replace(work, robust_bits=2), all_6t)

    def test_robust_bits_are_a_share_of_whole_words(self) -> None:
        words = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, word_bits=8))
        wide, narrow = (workload(fully_connected("fc", 32, 16), weight_bits=b, robust_bits=2) for b in (8, 4))
        assert entries(wide, words)["weight_read_bit_pj"] == entries(narrow, words)["weight_read_bit_pj"]
        assert entries(wide)["weight_read_bit_pj"] < entries(narrow)["weight_read_bit_pj"]

    def test_a_voltage_in_the_wrong_unit(self) -> None:
        with pytest.raises(WorkloadError, match=r"must be in volts, between 0\.2 and 1\.5 times the nominal 0\.9 V"):
            estimate(workload(*LENET, weight_memory_v=900.0), HARDWARE)

    def test_metadata_leaks_as_8t_cells_do(self) -> None:
        sparse = workload(fully_connected("fc", 100, 100, nonzero=5000), weight_bits=4)
        area = HARDWARE.technology.eight_transistor_cell.area.value
        # 20,000 bits of weights in 6T and 10,000 of bitmask in 8T cells share the smallest memory
        kb = 8 + 8 * (1 + (area - 1) / 3)
        assert entries(sparse)["leakage_pj_per_cycle"] == pytest.approx(kb / 1024 * 0.0272 * 5)

    @pytest.mark.parametrize("name", ["asm-1", "drum-4", "truncated-4"])
    def test_an_approximate_multiplier_costs_its_share_of_the_exact_one(self, name: str) -> None:
        work = workload(*LENET, weight_bits=6, activation_bits=7)
        found = replace(work, multiplier=name)
        cost = multiplier_cost(name, weight_bits=6, activation_bits=7)
        multiply_pj = entries(work)["multiply_pj"]
        assert entries(found)["multiply_pj"] == pytest.approx(multiply_pj * cost.relative_energy_stationary)
        other = load_hardware("output-stationary-45nm")  # where the weight is another one for each product
        assert entries(found, other)["multiply_pj"] == pytest.approx(multiply_pj * cost.relative_energy)
        assert {key for key, value in entries(found).items() if value != entries(work)[key]} == {"multiply_pj"}

    def test_leakage_grows_with_time_and_flavour(self) -> None:
        work = workload(*LENET)
        fast = load_hardware("weight-stationary-45nm-high-performance")
        slow_clock = replace(HARDWARE, clock_mhz=100.0)
        leaks = [estimate(work, one).components["leakage"] for one in (HARDWARE, slow_clock, fast)]
        assert leaks[1] == pytest.approx(2 * leaks[0])
        assert leaks[2] == pytest.approx(leaks[0] * 100 / 0.0272)


class TestReport:
    def test_energy_is_additive_over_layers(self) -> None:
        whole = estimate(workload(*LENET), HARDWARE, ONES)
        assert tuple(whole.components) == COMPONENTS
        for layer in LENET:
            assert estimate(workload(layer), HARDWARE, ONES).layers[layer.name] == whole.layers[layer.name]
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
        assert eight.components["mac"] == pytest.approx(one.components["mac"])
        assert eight.components["weight_sram"] == pytest.approx(one.components["weight_sram"] / 8)
        assert one.latency_us < eight.latency_us < 8 * one.latency_us

    def test_area_by_hand(self) -> None:
        work = workload(fully_connected("fc", 16, 16), robust_bits=8)
        table = HARDWARE.technology
        element = 64 * table.multiply_um2_per_bit2.value + 20 * table.add_um2_per_bit.value
        element += (8 + 8 + 20) * table.register_um2_per_bit.value
        bits = 8 * 8192
        memories = bits * table.sram_um2_per_bit.value * (1 + table.eight_transistor_cell.area.value)
        assert estimate(work, HARDWARE).area_mm2.value == pytest.approx((256 * element + memories) / 1e6)

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

    @given(st.sampled_from(hardware_names()), st.integers(2, 7), st.integers(2, 8), st.floats(0.5, 1.0))
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
            return estimate(work, hardware).energy_pj

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


def test_dram_is_an_option() -> None:
    work = workload(convolution("conv", 1, 10, 3, 2), fully_connected("fc", 128, 16))
    without = estimate(work, HARDWARE)
    with_dram = estimate(work, load_hardware("weight-stationary-45nm-dram"))
    weights, image, answer = 18 + 2048, 100, 16
    assert without.components["dram"] == 0
    assert with_dram.components["dram"] == pytest.approx((weights + image + answer) * 8 * 20.3)
    onto_chip = (weights + image + answer) * 8 * 10 / 64  # what moves is written to, or read from, an 8 KB memory too
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
