from dataclasses import replace
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy import (
    COMPONENTS,
    EnergyTable,
    LayerWorkload,
    Workload,
    WorkloadError,
    energy_table,
    estimate,
    load_hardware,
    multiplier_energies,
)

HARDWARE = load_hardware("weight-stationary-45nm")


def layer(
    name: str, positions: int, inner: int, outputs: int, input_values: int, density: float | None = None
) -> LayerWorkload:
    weights = inner * outputs
    return LayerWorkload(
        name=name,
        positions=positions,
        inner=inner,
        outputs=outputs,
        input_values=input_values,
        stored_weights=weights if density is None else round(weights * density),
        compressed=density is not None,
    )


CONVOLUTION = layer("conv", 64, 9, 2, 64)
FULLY_CONNECTED = layer("fc", 1, 32, 16, 32)


def workload(*layers: LayerWorkload, weight_bits: int = 8, activation_bits: int = 8) -> Workload:
    return Workload(
        layers=layers or (CONVOLUTION, FULLY_CONNECTED),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        multiplier="exact",
        weight_memory_v=0.9,
        robust_bits=0,
    )


def test_a_convolution_by_hand_with_the_all_ones_table() -> None:
    report = estimate(workload(CONVOLUTION), HARDWARE, EnergyTable.ones())
    assert report.layers["conv"] == {
        # 64 * 9 * 2 MACs, each one multiplication and one addition of 8 + 8 + 4 bits (9 products: 4 more bits)
        "mac": 1152 * (1 + 20),
        "weight_sram": 18 * 8,  # each weight once
        "metadata": 0,
        # one column fold reads 64 * 9 activations; 64 * 2 outputs are written; 9 rows fit one fold, so no partial sums
        "activation_sram": (576 + 128) * 8,
        "dram": 18 * 8 + 64 * 8,  # every weight and every pixel once
        "leakage": 2 * 16 + 16 + 64 - 2,  # cycles of the only fold
    }


def test_a_pruned_fully_connected_layer_by_hand_with_the_all_ones_table() -> None:
    sparse = layer("fc", 1, 32, 17, 32, density=0.25)
    report = estimate(workload(sparse, weight_bits=4), HARDWARE, EnergyTable.ones())
    assert report.layers["fc"] == {
        "mac": 136 * (1 + 4 + 8 + 5),
        "weight_sram": 136 * 4,
        "metadata": 544,
        # 2 column folds read 32 activations each; 17 outputs are written; 2 row folds, so one set of 17 partial sums of
        # 17 bits is written and read back
        "activation_sram": (2 * 32 + 17) * 8 + 2 * 17 * 17,
        "dram": 136 * 4 + 544 + 32 * 8,
        "leakage": 2 * 2 * (2 * 16 + 16 + 1 - 2),
    }


def test_default_table_by_hand() -> None:
    table = energy_table(workload(), HARDWARE)
    assert table.multiply_pj == 0.2
    assert table.add_pj_per_bit == 0.1 / 32
    assert table.weight_bit_pj == pytest.approx(10 / 64)  # the smallest memory has 8 KB
    assert table.dram_bit_pj == 0
    # 2 x 8 KB at 0.0272 mW/MB, in pJ per 5 ns
    assert table.leakage_pj_per_cycle == pytest.approx(16 / 1024 * 0.0272 * 5)


def test_energy_is_additive_over_layers() -> None:
    table = EnergyTable.ones()
    both = estimate(workload(CONVOLUTION, FULLY_CONNECTED), HARDWARE, table)
    assert both.energy_pj == sum(sum(components.values()) for components in both.layers.values())
    assert tuple(both.components) == COMPONENTS
    assert both.layers["conv"] == estimate(workload(CONVOLUTION), HARDWARE, table).layers["conv"]


@given(st.integers(2, 7), st.integers(2, 8))
def test_energy_grows_with_every_bit(weight_bits: int, activation_bits: int) -> None:
    low = workload(weight_bits=weight_bits, activation_bits=activation_bits)
    high = workload(weight_bits=weight_bits + 1, activation_bits=activation_bits)
    assert estimate(low, HARDWARE).energy_pj < estimate(high, HARDWARE).energy_pj


@given(st.floats(0.05, 0.85))
def test_energy_grows_with_density(density: float) -> None:
    def total(share: float) -> float:
        return estimate(workload(layer("fc", 1, 100, 100, 100, density=share)), HARDWARE).energy_pj

    assert total(density) < total(density + 0.1)


def test_weight_memory_energy_follows_the_square_of_the_voltage() -> None:
    nominal = energy_table(workload(), HARDWARE)
    low = energy_table(replace(workload(), weight_memory_v=0.9 * 0.82), HARDWARE)
    # Eyeriss, measured from 1.0 V down to 0.82 V: 0.677.
    assert low.weight_bit_pj / nominal.weight_bit_pj == pytest.approx(0.677, rel=0.01)
    assert low.activation_bit_pj == nominal.activation_bit_pj
    assert low.multiply_pj == nominal.multiply_pj
    assert low.leakage_pj_per_cycle < nominal.leakage_pj_per_cycle


def test_robust_bits_cost() -> None:
    plain = energy_table(workload(), HARDWARE)
    robust = energy_table(replace(workload(), robust_bits=8), HARDWARE)
    half = energy_table(replace(workload(), robust_bits=4), HARDWARE)
    assert robust.weight_bit_pj == pytest.approx(plain.weight_bit_pj * sqrt(1.28))
    assert half.weight_bit_pj == pytest.approx((plain.weight_bit_pj + robust.weight_bit_pj) / 2)


@pytest.mark.parametrize(("bits", "share"), [(8, 0.68), (4, 0.75), (6, 0.715), (2, 0.75)])
def test_alphabet_set_neurons_save_what_is_published(bits: int, share: float) -> None:
    # Sarwar et al., ACM JETC 2018: the neuron with alphabet {1} takes 32 % less power at 8 bits and 25 % less at 4.
    exact = estimate(workload(weight_bits=bits), HARDWARE).components["mac"]
    asm = estimate(replace(workload(weight_bits=bits), multiplier="asm-1"), HARDWARE).components["mac"]
    assert asm / exact == pytest.approx(share)


@pytest.mark.parametrize(("columns", "dropped"), [(2, 3), (4, 10), (6, 21)])
def test_truncated_multipliers_save_the_cells_they_drop(columns: int, dropped: int) -> None:
    truncated = energy_table(replace(workload(), multiplier=f"truncated-{columns}"), HARDWARE)
    assert truncated.multiply_pj == pytest.approx(0.2 * (56 - dropped) / 56)


def test_a_truncated_multiplier_that_keeps_no_cell_computes_nothing() -> None:
    from approx import find_multiplier

    for weight_bits, activation_bits in ((2, 4), (2, 2), (3, 2), (3, 4)):
        table = find_multiplier(
            "truncated-4", weight_bits=weight_bits, activation_bits=activation_bits, activation_signed=False
        ).table()
        storable = table[:, [w for w in range(2**weight_bits) if w != 2 ** (weight_bits - 1)]]
        narrow = replace(workload(weight_bits=weight_bits, activation_bits=activation_bits), multiplier="truncated-4")
        assert (energy_table(narrow, HARDWARE).multiply_pj == 0) == bool((storable == 0).all())


def test_bitmasks_leak_as_8t_cells_do() -> None:
    sparse = workload(layer("fc", 1, 100, 100, 100, density=0.5), weight_bits=2)
    leakage = energy_table(sparse, HARDWARE).leakage_pj_per_cycle
    # 10,000 bits of weights in 6T and 10,000 bits of bitmask in 8T cells share the smallest memory.
    assert leakage == pytest.approx((8 + 8 * (1 + 0.28 / 2)) / 1024 * 0.0272 * 5)


def test_dram_is_an_option() -> None:
    without = estimate(workload(), HARDWARE)
    with_dram = estimate(workload(), load_hardware("weight-stationary-45nm-dram"))
    weights, pixels = 18 + 512, 64
    assert without.components["dram"] == 0
    assert with_dram.components["dram"] == pytest.approx((weights + pixels) * 8 * 20.3)
    assert with_dram.energy_pj - without.energy_pj == pytest.approx(with_dram.components["dram"])


def test_high_performance_memories_leak_more() -> None:
    slow, fast = (estimate(workload(), load_hardware(f"weight-stationary-45nm{suffix}")) for suffix in ("", "-fast"))
    assert fast.components["leakage"] / slow.components["leakage"] == pytest.approx(100 / 0.0272)


def test_memories_grow_with_what_they_hold() -> None:
    report = estimate(workload(layer("fc", 1, 1000, 20, 1000)), HARDWARE)
    assert report.weight_memory_kb == 32  # 20,000 bytes in power-of-two numbers of 8 KB banks
    assert report.activation_memory_kb == 8
    pruned = estimate(workload(layer("fc", 1, 1000, 20, 1000, density=0.25)), HARDWARE)
    assert pruned.weight_memory_kb == 8  # 5,000 weights and 2,500 bytes of bitmask


def test_unknown_multipliers_are_refused() -> None:
    with pytest.raises(WorkloadError, match="no energy is known for multiplier 'asm-2'; did you mean 'asm-1'"):
        estimate(replace(workload(), multiplier="asm-2"), HARDWARE)


def test_every_multiplier_energy_has_a_source() -> None:
    for entry in multiplier_energies().values():
        assert len(entry["source"]) > 10
        assert 1980 < entry["year"] < 2030


def test_workload_knobs_are_checked() -> None:
    with pytest.raises(WorkloadError, match="robust_bits must be between 0 and weight_bits=8, got 9"):
        replace(workload(), robust_bits=9)
    with pytest.raises(WorkloadError, match="weight_memory_v must be positive"):
        replace(workload(), weight_memory_v=0)
    with pytest.raises(WorkloadError, match="at least one layer"):
        replace(workload(), layers=())
