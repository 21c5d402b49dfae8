"""The dataflow of each layer where the hardware chooses it: never dearer than one for all layers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy import (
    Dram,
    Hardware,
    LayerWorkload,
    Widths,
    Workload,
    WorkloadError,
    count_actions,
    estimate,
    estimate_batch,
    load_hardware,
)
from energy.cost_table import exact_rows
from tests.support.networks import LENET, convolution, fully_connected, workload

BEST = load_hardware("flexible-45nm")
CONV, FC = convolution("conv", 1, 10, 3, 16), fully_connected("fc", 32, 16)
WEIGHTS, OUTPUTS = "weight-stationary", "output-stationary"


def fixed(hardware: Hardware) -> tuple[Hardware, Hardware]:
    """Return the same hardware on which all layers keep their weights, or all keep their outputs."""
    return replace(hardware, dataflow=WEIGHTS), replace(hardware, dataflow=OUTPUTS)  # type: ignore[arg-type]


def from_dram(hardware: Hardware, *, weight_kb: int | None, activation_kb: int | None) -> Hardware:
    return replace(
        hardware,
        dram=Dram(interface="generic", keeps_feature_maps=True, compressed=False),
        weight_memory=replace(hardware.weight_memory, capacity_kb=weight_kb),
        activation_memory=replace(hardware.activation_memory, capacity_kb=activation_kb),
    )


def test_a_convolution_keeps_its_weights_and_a_fully_connected_layer_its_outputs() -> None:
    work = workload(CONV, FC)
    best = estimate(work, BEST)
    weights, outputs = (estimate(work, hardware) for hardware in fixed(BEST))
    assert best.dataflows == (WEIGHTS, OUTPUTS)
    assert weights.dataflows == (WEIGHTS, WEIGHTS)
    assert outputs.dataflows == (OUTPUTS, OUTPUTS)
    leakage_pj = best.table.values()["leakage_pj_per_cycle"]  # both memories are the smallest in all three

    # The convolution has 144 weights, 64 positions and 9,216 products. If its outputs stayed, 64 positions would be 4
    # folds of 16, so weights and 16 biases of 53 bits would be read 3 times more (8T cells: 1.145); weights would pass
    # an element for each product, instead of 8.5 on their way in; each product would have another weight; and 4 folds
    # of 30 + 9 cycles would take the place of one of 46 + 64.
    rows = exact_rows()
    unit = rows["layer", 8, 8]
    change_pj = 0.2 * (unit.energy_recorded_fj - unit.energy_held_fj) / unit.energy_uniform_fj
    reads_pj = 3 * (144 * 8 + 16 * 53 * 1.145) * 10 / 64
    registers_pj = (9216 - 144 * 8.5) * 8 * 0.009
    saved = reads_pj + registers_pj + (9216 - 144) * change_pj + (156 - 110) * leakage_pj
    assert outputs.energy_pj - best.energy_pj == pytest.approx(saved)

    # The fully connected layer has 512 weights, one position and sums of 8 + 8 + 5 bits. If its weights stayed, 32
    # products would be 2 folds, so 16 sums would leave and come back; weights would pass 8.5 elements each instead of
    # one; 2 folds of 46 + 1 cycles would take the place of one of 30 + 32.
    saved = 2 * 16 * 21 * 10 / 64 + 512 * (8.5 - 1) * 8 * 0.009 + (94 - 62) * leakage_pj
    assert weights.energy_pj - best.energy_pj == pytest.approx(saved)


def test_counts_are_those_of_the_chosen_dataflow() -> None:
    found = count_actions(workload(CONV, FC), BEST)
    assert found.cycles.tolist() == [46 + 64, 30 + 32]
    assert found.weight_changes.tolist() == [144, 512]
    assert found.partial_sum_writes.tolist() == [0, 0]
    assert found.bias_read_bits.tolist() == [16 * 53, 16 * 53]


def test_a_batch_lets_fully_connected_layers_keep_their_weights() -> None:
    # 16 inputs are one fold either way. 64 images: kept weights pass 8.5 elements each instead of 64, and are read once
    # instead of 4 times.
    layer = fully_connected("fc", 16, 16)
    assert estimate(workload(layer), BEST).dataflows == (OUTPUTS,)
    assert estimate(workload(layer, batch=64), BEST).dataflows == (WEIGHTS,)


def test_where_unfinished_sums_do_not_fit_outputs_stay() -> None:
    # 18 products are 2 folds, so 16 outputs at 576 positions are sums of 8 + 2 + 5 bits before they are codes of 2; the
    # large weights of the other layer make it dear to read those of this one for each 16 positions
    work = workload(convolution("a", 2, 26, 3, 57), fully_connected("fc", 3000, 1000), activation_bits=2)
    codes = 2 * (2 * 26**2 + 576 * 57)
    small = replace(BEST, activation_memory=replace(BEST.activation_memory, capacity_kb=16))
    large = replace(BEST, activation_memory=replace(BEST.activation_memory, capacity_kb=64))
    weights, outputs = fixed(small)
    assert count_actions(work, weights).live_activation_bits[0] == codes + 16 * 576 * (15 - 2)  # 23 KB
    assert count_actions(work, outputs).live_activation_bits[0] == codes  # 8 KB
    assert estimate(work, large).dataflows == (WEIGHTS, OUTPUTS)
    with pytest.raises(WorkloadError, match=r"the activations need 23\.0 KB, but flexible-45nm has 16 KB"):
        estimate(work, weights)
    best = estimate(work, small)
    assert best.dataflows == (OUTPUTS, OUTPUTS)
    assert best.energy_pj == estimate(work, outputs).energy_pj
    # nor does it keep others of a batch from running
    other = workload(CONV, FC)
    together = estimate_batch([work, other], small).energy_pj
    assert together == pytest.approx([best.energy_pj, estimate(other, small).energy_pj])


def test_a_larger_memory_for_sums_is_paid_by_all_layers() -> None:
    """The layers that keep outputs in the smaller memory may not be those that should in the larger one."""
    # These transistors leak so much that cycles and kilobytes matter most.
    hardware = replace(
        load_hardware("weight-stationary-45nm-high-performance"), dataflow="best", array_rows=4, zeros="gated"
    )
    layers = (
        convolution("a", 20, 25, 1, 9),
        convolution("b", 3, 18, 1, 71),
        convolution("c", 8, 27, 1, 75),
        convolution("d", 3, 21, 1, 85),
    )
    work = workload(*layers, weight_bits=4)
    weights, outputs = (estimate(work, one) for one in fixed(hardware))
    best = estimate(work, hardware)
    assert weights.activation_memory_kb > outputs.activation_memory_kb
    assert best.energy_pj <= min(weights.energy_pj, outputs.energy_pj) * (1 + 1e-12)


def test_what_a_layer_writes_to_dram_the_next_one_reads() -> None:
    """Whether a feature map stays on the chip depends on how both of its layers run."""
    # 288 products are two folds of 256 rows, so kept weights would leave 16 outputs at 576 positions as sums of 19
    # bits, for which 24 KB are too few beside 9 KB of feature maps. Outputs stay, and fit, so their map is not moved.
    # The next layer has 252 products, one fold, and keeps its weights: the map is on the chip for it too.
    hardware = replace(from_dram(BEST, weight_kb=64, activation_kb=24), array_rows=256)
    work = workload(convolution("a", 32, 26, 3, 28), convolution("b", 28, 24, 3, 128), activation_bits=2)
    best = estimate(work, hardware)
    assert best.dataflows == (OUTPUTS, WEIGHTS)
    assert between_layers(work, hardware) == ([False], [False])
    image, answer = 32 * 26**2, 128 * 22**2
    weights = [288 * 28 * 8 + 28 * 53, 252 * 128 * 8 + 128 * 53]
    assert best.counts.dram_weight_bits.tolist() == [weights]
    assert best.counts.dram_activation_bits.tolist() == [[2 * image, 2 * answer]]


def between_layers(work: Workload, hardware: Hardware) -> tuple[list[bool], list[bool]]:
    """Whether the output of each layer but the last is written to DRAM, and whether the next layer reads it there."""
    found = count_actions(work, hardware)
    sizes = zip(work.layers, found.activation_write_bits.tolist(), found.dram_activation_bits.tolist(), strict=True)
    read, written = [], []
    for layer, written_on_chip, moved in sizes:
        width = hardware.activation_memory.stored_bits(work.activation_bits) + (hardware.zeros == "skipped")
        from_dram = written_on_chip - float(layer.positions * layer.outputs * width * work.batch)
        read.append(from_dram > 0)
        written.append(moved > from_dram)
    return written[:-1], read[1:]


@st.composite
def layers(draw: st.DrawFn, name: str) -> LayerWorkload:
    density = draw(st.sampled_from([1.0, 0.4, 0.1]))
    if draw(st.booleans()):
        layer = fully_connected(name, draw(st.integers(1, 3000)), draw(st.integers(1, 1000)))
        layer = replace(layer, activation_density=density)
    else:
        kernel, channels = draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 40))
        outputs = draw(st.integers(1, 96))
        layer = convolution(name, channels, draw(st.integers(5, 40)), kernel, outputs, density=density)
    return replace(layer, nonzero_weights=round(layer.weights * draw(st.sampled_from([1.0, 0.5, 0.05]))))


@st.composite
def works(draw: st.DrawFn) -> Workload:
    names = [f"layer {index}" for index in range(draw(st.integers(1, 4)))]
    chosen = [draw(layers(name)) for name in names]
    return workload(
        *chosen,
        weight_bits=draw(st.integers(2, 8)),
        activation_bits=draw(st.integers(2, 8)),
        multiplier=draw(st.sampled_from(["exact", "asm-1"])),
        weight_memory_v=draw(st.sampled_from([0.6, 0.9])),
        robust_bits=draw(st.integers(0, 2)),
        batch=draw(st.sampled_from([1, 1, 4, 32])),
    )


@st.composite
def hardwares(draw: st.DrawFn) -> Hardware:
    names = ("flexible-45nm", "flexible-45nm-dram", "given-8bit-45nm", "weight-stationary-45nm-high-performance")
    hardware = replace(
        load_hardware(draw(st.sampled_from(names))),
        dataflow="best",
        array_rows=draw(st.sampled_from([4, 16, 32])),
        zeros=draw(st.sampled_from(["none", "gated", "fetch-gated", "skipped"])),
    )
    kind = draw(st.sampled_from(["fitted", "fixed", "small with DRAM"]))
    if kind == "fixed":
        capacity_kb = draw(st.sampled_from([16, 64, 256]))
        return replace(hardware, activation_memory=replace(hardware.activation_memory, capacity_kb=capacity_kb))
    if kind == "small with DRAM":
        sizes = st.sampled_from([8, 64])
        return from_dram(hardware, weight_kb=draw(sizes), activation_kb=draw(sizes))
    return hardware


@given(st.lists(works(), min_size=1, max_size=3), hardwares())
def test_the_best_dataflow_never_costs_more_than_one_for_all_layers(made: list[Workload], hardware: Hardware) -> None:
    runs = []
    for work in made:
        costs = {}
        for one in fixed(hardware):
            try:
                costs[one.dataflow] = estimate(work, one).energy_pj
            except WorkloadError:  # too large for memories of fixed size without DRAM
                continue
        if OUTPUTS not in costs:  # which need the least memory
            with pytest.raises(WorkloadError, match="the activations need"):
                estimate(work, hardware)
            continue
        best = estimate(work, hardware)
        assert best.energy_pj <= min(costs.values()) * (1 + 1e-12)
        assert len(best.dataflows) == len(work.layers)
        if set(best.dataflows) == {OUTPUTS} or set(best.dataflows) == {WEIGHTS}:
            assert best.energy_pj == pytest.approx(costs[best.dataflows[0]])
        if hardware.dram is not None:
            written, read = between_layers(work, hardware)
            assert written == read
        runs.append((work, best))
    if runs:
        together = estimate_batch([work for work, _ in runs], hardware)
        assert together.energy_pj == pytest.approx([best.energy_pj for _, best in runs])
        assert together.latency_us == pytest.approx([best.latency_us for _, best in runs])
        assert together.area_mm2[1] == pytest.approx([best.area_mm2.value for _, best in runs])


def test_the_shipped_hardware_chooses_per_layer() -> None:
    for name in ("flexible-45nm", "flexible-45nm-dram", "given-8bit-45nm"):
        hardware = load_hardware(name)
        best = estimate(workload(*LENET), hardware)
        assert set(best.dataflows) <= {WEIGHTS, OUTPUTS}
        assert best.dataflows[2:] == (OUTPUTS, OUTPUTS)  # fully connected layers of one image
        weights, outputs = (estimate(workload(*LENET), one) for one in fixed(hardware))
        assert best.energy_pj < weights.energy_pj
        assert best.energy_pj <= outputs.energy_pj


def test_the_choice_needs_the_costs_of_multipliers() -> None:
    with pytest.raises(WorkloadError, match="no energy is known for multiplier 'magic'"):
        count_actions(workload(CONV, multiplier="magic"), BEST)
    wide = replace(BEST, widths=Widths(weights=8, activations=8))
    with pytest.raises(WorkloadError, match="weight_bits can be at most 8 on flexible-45nm, got 9"):
        count_actions(workload(CONV, weight_bits=9), wide)
