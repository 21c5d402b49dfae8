"""Layers that override the multiplier and the robust bits of their workload."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy import LayerWorkload, Workload, estimate, estimate_batch, hardware_names, load_hardware, multiplier_cost
from energy.cost_table import exact_rows
from tests.support.networks import LENET, fully_connected, workload

HARDWARE = load_hardware("weight-stationary-45nm")
HYBRID = [name for name in hardware_names() if load_hardware(name).weight_memory.cell == "hybrid"]
MULTIPLIERS = st.sampled_from(["exact", "truncated-4", "asm-1"])  # no approximate one is dearer than the exact one
ROWS = exact_rows()
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
    unit, relative = ROWS["layer", 8, 8], multiplier_cost("asm-1", weight_bits=8, activation_bits=8)
    # of one image, each product has another weight: 0.2 pJ times what a network's operands cost in the same gates
    fresh_pj = 0.2 * unit.energy_recorded_fj / unit.energy_uniform_fj
    assert found.layers["one"]["mac"] == pytest.approx(64 * 32 * (fresh_pj + (8 + 8 + 6) * 0.003125))
    asm_pj = fresh_pj * relative.relative_energy
    assert found.layers["two"]["mac"] == pytest.approx(32 * 10 * (asm_pj + (8 + 8 + 5) * 0.003125))
    # of 8 images, 7 of 8 products have the weight of the one before
    held_pj = 0.2 * unit.energy_held_fj / unit.energy_uniform_fj
    eight = estimate(replace(work, batch=8), HARDWARE).layers
    one_pj, two_pj = fresh_pj + 7 * held_pj, asm_pj + 7 * held_pj * relative.relative_energy_held
    assert eight["one"]["mac"] == pytest.approx(64 * 32 * (one_pj / 8 + 22 * 0.003125))
    assert eight["two"]["mac"] == pytest.approx(32 * 10 * (two_pj / 8 + 21 * 0.003125))
    # each output has one conversion of a sum as wide as its layer's: a multiplication by 16 bits, and a shift of both
    for name, outputs, bits in (("one", 32, 22), ("two", 10, 21)):
        random = ROWS["layer", 16, 16].energy_uniform_fj / unit.energy_uniform_fj * bits / 16
        output_pj = 0.2 * (random + 0.027 * (bits + 16)) + bits * 0.003125
        assert found.layers[name]["requantisation"] == pytest.approx(outputs * output_pj)
    # biases are in 8T cells whatever the layer's weights are in
    for name, outputs in (("one", 32), ("two", 10)):
        assert found.layers[name]["biases"] == pytest.approx(outputs * 53 * 1.145 * 10 / 64 * volts)
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
    # an element has both multipliers; of 2,048 + 320 weights the larger layer's have half of their bits in 8T cells,
    # beside 42 biases and scales of 53 bits, which are in 8T cells anyway
    technology = HARDWARE.technology
    second = multiplier_cost("asm-1", weight_bits=8, activation_bits=8).relative_area * 64
    second *= 256 * technology.multiply_um2_per_bit2.value
    robust = 4 * 2048 / (8 * 2368 + 42 * 53) * (technology.eight_transistor_cell.area.value - 1)
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


def test_means_over_layers_hold_for_layers_of_almost_no_products() -> None:
    # one weight of 8 and one activation of 10 left: a tenth of a product in each layer
    almost = [replace(layer, nonzero_weights=1, activation_density=0.1) for layer in TWO]
    work = layered(("exact", 4), ("asm-1", 0), layers=tuple(almost))
    alone = estimate(work, HARDWARE)
    assert 0 < alone.counts.macs.sum() < 1
    assert estimate_batch([work], HARDWARE).components_pj[:, 1, 0] == pytest.approx(list(alone.components.values()))
