"""Layers that override the multiplier and the robust bits of their workload."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy import LayerWorkload, Workload, estimate, hardware_names, load_hardware, multiplier_cost
from tests.support.networks import LENET, fully_connected, workload

HARDWARE = load_hardware("weight-stationary-45nm")
HYBRID = [name for name in hardware_names() if load_hardware(name).weight_memory.cell == "hybrid"]
MULTIPLIERS = st.sampled_from(["exact", "truncated-4", "asm-1"])  # no approximate one is dearer than the exact one
TWO = (fully_connected("one", 64, 32), fully_connected("two", 32, 10))


def layered(*changes: tuple[str | None, int | None], layers: tuple[LayerWorkload, ...] = LENET) -> Workload:
    made = [
        replace(layer, multiplier=multiplier, robust_bits=bits)
        for layer, (multiplier, bits) in zip(layers, changes, strict=True)
    ]
    return workload(*made, multiplier="asm-1", robust_bits=1, weight_memory_v=0.7)


@pytest.mark.parametrize("name", hardware_names())
def test_equal_layers_cost_to_the_bit_what_the_workload_says(name: str) -> None:
    hardware = load_hardware(name)
    bits = 3 if hardware.weight_memory.cell == "hybrid" else 0
    volts = hardware.weight_memory.supply_v * 0.9
    plain = workload(*LENET, multiplier="drum-4", robust_bits=bits, weight_memory_v=volts)
    own = tuple(replace(layer, multiplier="drum-4", robust_bits=bits) for layer in LENET)
    for other in ("exact", "drum-4"):
        equal = workload(*own, multiplier=other, weight_memory_v=volts)
        assert estimate(equal, hardware).energies_pj.tolist() == estimate(plain, hardware).energies_pj.tolist()
        assert estimate(equal, hardware).area_mm2 == estimate(plain, hardware).area_mm2


def test_each_layer_costs_what_it_would_in_a_network_of_its_kind() -> None:
    kinds = [("exact", 4), ("asm-1", 0), (None, None), ("truncated-4", 2)]
    found = estimate(layered(*kinds), HARDWARE)
    for layer, (multiplier, bits) in zip(LENET, kinds, strict=True):
        alike = workload(
            *LENET,
            multiplier=multiplier or "asm-1",
            robust_bits=1 if bits is None else bits,
            weight_memory_v=0.7,
        )
        alone = estimate(alike, HARDWARE).layers[layer.name]
        for component, energy_pj in found.layers[layer.name].items():
            if component != "leakage":  # of the memories, which all layers share
                assert energy_pj == alone[component], (layer.name, component)


def test_energies_by_hand() -> None:
    work = layered(("exact", 4), ("asm-1", 0), layers=TWO)
    found = estimate(work, HARDWARE)
    units, volts = HARDWARE.unit_energies, (0.7 / 0.9) ** 2
    relative = multiplier_cost("asm-1", weight_bits=8, activation_bits=8).relative_energy_stationary
    exact_pj = float(units.multiply_per_bit2[1, 0, 0]) * 64 + float(units.multiply_per_bit[1, 0, 0]) * 8
    add_pj = float(units.add_per_bit[1, 0, 0])
    assert found.layers["one"]["mac"] == pytest.approx(64 * 32 * (exact_pj + (8 + 8 + 6) * add_pj))
    assert found.layers["two"]["mac"] == pytest.approx(32 * 10 * (exact_pj * relative + (8 + 8 + 5) * add_pj))
    # half of each bit of the first layer's weights sits in 8T cells, none of the second's
    more = float(units.more_access[1, 0, 0])
    one, two = (
        found.layers[name]["weight_sram"] / layer.weights for name, layer in zip(("one", "two"), TWO, strict=True)
    )
    assert one / two == pytest.approx(1 + more / 2)
    assert found.table.values(1)["weight_read_bit_pj"] == pytest.approx(two / 8)
    nominal = estimate(replace(work, weight_memory_v=0.9), HARDWARE)
    assert nominal.layers["two"]["weight_sram"] * volts == pytest.approx(found.layers["two"]["weight_sram"])


def test_area_by_hand() -> None:
    found = estimate(layered(("exact", 4), ("asm-1", 0), layers=TWO), HARDWARE).area_mm2.value
    plain = estimate(workload(*TWO, weight_memory_v=0.7), HARDWARE)
    # an element has both multipliers, and of 2,048 + 320 weights the larger layer's have half of their bits in 8T cells
    technology = HARDWARE.technology
    second = multiplier_cost("asm-1", weight_bits=8, activation_bits=8).relative_area * 64
    second *= 256 * technology.multiply_um2_per_bit2.value
    robust = 0.5 * 2048 / 2368 * (technology.eight_transistor_cell.area.value - 1)
    cells = robust * plain.weight_memory_kb * 8192 * technology.sram_um2_per_bit.value
    assert found == pytest.approx(plain.area_mm2.value + (second + cells) / 1e6)


@given(
    st.sampled_from(HYBRID),
    st.integers(0, 3),
    st.lists(st.tuples(MULTIPLIERS, st.integers(0, 3)), min_size=4, max_size=4),
)
def test_more_robust_bits_or_an_exact_multiplier_in_a_layer_never_cost_less(
    name: str, at: int, kinds: list[tuple[str, int]]
) -> None:
    hardware = load_hardware(name)
    less = layered(*kinds)
    more = layered(*(("exact", bits + 1) if index == at else (one, bits) for index, (one, bits) in enumerate(kinds)))
    assert estimate(more, hardware).energy_pj > estimate(less, hardware).energy_pj


@given(st.lists(st.tuples(MULTIPLIERS, st.integers(0, 3)), min_size=4, max_size=4))
def test_means_over_layers_give_the_same_energy(kinds: list[tuple[str, int]]) -> None:
    found = estimate(layered(*kinds), HARDWARE)
    mean = estimate(layered(*kinds), HARDWARE, found.table.averaged(found.counts))
    assert mean.energy_pj == pytest.approx(found.energy_pj)
    assert mean.components == pytest.approx(found.components)
