import importlib
import importlib.util
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import energy
from benchmarks import energy_validation
from search.cli.main import cli
from search.crosscheck import agreement, zigzag
from search.crosscheck.zigzag import INSTALL, Parts, run_zigzag
from search.crosscheck.zigzag_inputs import (
    ZigzagLayer,
    dense,
    zigzag_accelerator,
    zigzag_layers,
    zigzag_mapping,
    zigzag_workload,
)
from search.errors import UsageError
from search.space.candidate import Candidate
from search.space.task import find_task
from search.store.database import Store
from search.store.records import Record
from search.store.setup import Setup
from tests.support.fakes import formula, new_search

NEEDS_ZIGZAG = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("zigzag", "six")),
    reason=f"ZigZag is not installed: {INSTALL}",
)
HARDWARE = energy.load_hardware("weight-stationary-45nm")
SETUP = Setup(task="digits", hardware=HARDWARE.identity, effort="standard")
DRAM = energy.load_hardware("weight-stationary-45nm-dram")
CONVOLUTION = energy.LayerWorkload(
    name="conv",
    positions=64,
    inner=9,
    outputs=4,
    input_values=64,
    nonzero_weights=20,
    kernel_height=3,
    kernel_width=3,
    output_height=8,
    activation_density=0.5,
)
LINEAR = energy.LayerWorkload(
    name="fc", positions=1, inner=64, outputs=10, input_values=64, nonzero_weights=100, activation_density=0.5
)


def network(*layers: energy.LayerWorkload, batch: int = 1) -> energy.Workload:
    return energy.Workload(
        layers=layers or (CONVOLUTION, LINEAR),
        weight_bits=6,
        activation_bits=5,
        multiplier="exact",
        weight_memory_v=0.8,
        robust_bits=2,
        batch=batch,
    )


def fake_zigzag(layer: ZigzagLayer) -> Parts:
    return Parts(mac=1.0, weight_sram=layer.outputs * layer.channels * 10.0, activation_sram=2.0, dram=3.0)


def record(workload: energy.Workload, candidate: Candidate | None = None, key: str = "abc") -> Record:
    evaluation = formula(candidate or find_task("digits").space.baseline())
    evaluation = replace(evaluation, workload=workload.to_dict())
    return Record(key=key, setup=SETUP, seed=0, evaluation=evaluation, test_accuracies=None)


@pytest.mark.parametrize("values", [4, 9, 40])
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_rank_correlations_are_those_of_scipy(values: int, levels: int) -> None:
    stats = importlib.import_module("scipy.stats")
    random = np.random.default_rng(values * levels)
    for _ in range(20):
        first, second = (random.integers(levels, size=values).astype(float).tolist() for _ in range(2))
        if min(len(set(first)), len(set(second))) == 1:
            continue
        assert agreement.spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
        assert agreement.kendall(first, second) == pytest.approx(stats.kendalltau(first, second).statistic)


def test_rank_correlations_by_hand() -> None:
    # 1 2 3 4 against 1 3 2 4: one of six pairs is swapped, and two ranks are off by one.
    assert agreement.kendall([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx((5 - 1) / 6)
    assert agreement.spearman([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert agreement.rank_agreement([1, 2, 3], [6, 5, 4]) == agreement.Agreement(spearman=-1.0, kendall=-1.0)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_nothing_to_rank_has_no_correlation(values: list[float]) -> None:
    assert agreement.rank_agreement(values, values) == agreement.Agreement(spearman=None, kendall=None)


def test_a_dense_network_has_no_zeros() -> None:
    assert [layer.nonzero_weights for layer in dense(network()).layers] == [36, 640]
    assert {layer.activation_density for layer in dense(network()).layers} == {1.0}


@pytest.mark.parametrize("hardware", [HARDWARE, DRAM, energy.load_hardware("output-stationary-45nm")])
def test_layers_keep_their_shape_and_the_table_keeps_its_numbers(hardware: energy.Hardware) -> None:
    workload = network()
    report = energy.estimate(dense(workload), hardware)
    entries = report.table.values()
    for layer, given in zip(zigzag_layers(workload, hardware), workload.layers, strict=True):
        (asked,) = zigzag_workload(layer)
        sizes = dict(zip(asked["loop_dims"], asked["loop_sizes"], strict=True))
        assert math.prod(sizes.values()) == given.macs
        assert sizes["OY"] * sizes["OX"] == given.positions
        assert math.prod(asked["pr_loop_sizes"]) * sizes["C"] * sizes["G"] == given.input_values
        sum_bits = 6 + 5 + math.ceil(math.log2(given.inner))
        assert asked["operand_precision"] == {"W": 6, "I": 5, "O": sum_bits, "O_final": 5}
        accelerator = zigzag_accelerator(layer)
        assert accelerator["operational_array"]["sizes"] == [16, 16]
        memories = accelerator["memories"]
        assert memories["weight_memory"]["size"] == report.weight_memory_kb * 8192
        assert memories["activation_memory"]["size"] == report.activation_memory_kb * 8192
        for name, entry in (
            ("weight_memory", "weight_read_bit_pj"),
            ("activation_memory", "activation_read_bit_pj"),
            ("dram", "dram_bit_pj"),
        ):
            if name in memories:
                port = memories[name]["ports"][0]["bandwidth_max"]
                assert memories[name]["r_cost"] / port == pytest.approx(entries[entry])


def test_layers_that_differ_keep_their_own_energies(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = replace(network(replace(CONVOLUTION, multiplier="asm-1", robust_bits=5), LINEAR), robust_bits=0)
    first, last = zigzag_layers(workload, HARDWARE)
    plain = zigzag_layers(replace(network(), robust_bits=0), HARDWARE)
    assert first.weight_read_pj > last.weight_read_pj
    assert [last.weight_read_pj, last.weight_write_pj] == [plain[1].weight_read_pj, plain[1].weight_write_pj]
    monkeypatch.setattr(agreement, "run_zigzag", lambda layer: replace(fake_zigzag(layer), mac=1.0))
    report = energy.estimate(dense(workload), HARDWARE)
    # ZigZag's MACs, here one in each layer, cost what ours do on average
    expected = sum(
        parts["mac"] / layer.macs for parts, layer in zip(report.layers.values(), workload.layers, strict=True)
    )
    assert agreement.compare(workload, HARDWARE).zigzag.mac == pytest.approx(expected)
    first_pj, last_pj = (
        (report.layers[layer.name]["mac"] / layer.macs, float(bits))
        for layer, bits in zip(workload.layers, report.counts.sum_bits[0], strict=True)
    )
    add_pj = report.table.values()["add_pj_per_bit"]
    assert first_pj[0] - first_pj[1] * add_pj < 0.5 * (last_pj[0] - last_pj[1] * add_pj)  # asm-1 against exact


def test_memories_are_in_order_from_the_array_to_dram() -> None:
    layer = zigzag_layers(network(), DRAM)[0]
    accelerator = zigzag_accelerator(layer)
    assert list(accelerator["memories"]) == ["register", "weight_memory", "activation_memory", "dram"]


def test_the_register_of_an_element_is_that_of_the_dataflow() -> None:
    for name, operand, bits in (("weight-stationary-45nm", "I2", 6), ("output-stationary-45nm", "O", 15)):
        layer = zigzag_layers(network(), energy.load_hardware(name))[0]
        register = zigzag_accelerator(layer)["memories"]["register"]
        assert register["operands"] == [operand]
        assert register["size"] == bits
        assert register["r_cost"] == register["w_cost"] == 0.0


def test_feature_maps_that_stay_on_the_chip_do_not_pass_through_dram() -> None:
    kept = zigzag_layers(network(), DRAM)
    assert [layer.from_dram for layer in kept] == [("I", "W"), ("W", "O")]
    assert DRAM.dram is not None
    moving = replace(DRAM, dram=replace(DRAM.dram, keeps_feature_maps=False))
    assert {layer.from_dram for layer in zigzag_layers(network(), moving)} == {("I", "W", "O")}
    assert {layer.from_dram for layer in zigzag_layers(network(), HARDWARE)} == {()}
    memories = zigzag_accelerator(kept[0])["memories"]
    assert memories["dram"]["operands"] == ["I1", "I2"]


def test_outputs_that_stay_on_chip_fit_at_the_width_of_their_sums() -> None:
    big = replace(CONVOLUTION, outputs=64, nonzero_weights=576)  # 64 * 64 sums of 15 bits and 64 inputs of 5
    (layer,) = zigzag_layers(network(big), HARDWARE)
    assert layer.activation_memory_bits == max(8192 * 8, 64 * 64 * 15 + 64 * 5)
    bigger = replace(big, outputs=128, nonzero_weights=1152)
    (layer,) = zigzag_layers(network(bigger), HARDWARE)
    assert layer.activation_memory_bits == 64 * 128 * 15 + 64 * 5


def test_channels_fill_the_rows_of_the_array_in_the_fewest_folds() -> None:
    for (channels, kernel), folds in {(1, 3): 1, (1, 5): 2, (20, 5): 35, (800, 1): 50, (16, 3): 9}.items():
        layer = replace(
            CONVOLUTION,
            inner=channels * kernel**2,
            kernel_height=kernel,
            kernel_width=kernel,
            input_values=64 * channels,
            nonzero_weights=1,
        )
        (asked,) = zigzag_layers(network(layer), HARDWARE)
        (mapping,) = zigzag_mapping(asked)
        along = dict(text.split(", ") for text in mapping["spatial_mapping"]["D1"])
        sizes = {"C": channels, "FY": kernel, "FX": kernel}
        assert math.prod(int(factor) for factor in along.values()) <= 16
        assert math.prod(-(-size // int(along[name])) for name, size in sizes.items()) == folds
        assert mapping["spatial_mapping"]["D2"] == ["K, 4"]


def test_positions_fill_the_rows_where_outputs_are_stationary() -> None:
    (layer,) = zigzag_layers(network(CONVOLUTION), energy.load_hardware("output-stationary-45nm"))
    (mapping,) = zigzag_mapping(layer)
    assert mapping["spatial_mapping"] == {"D1": ["B, 1", "OY, 2", "OX, 8"], "D2": ["K, 4"]}


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride"),
    [
        ((28, 28), (24, 24), 5, 1),
        ((8, 8), (8, 8), 3, 1),
        ((8, 8), (4, 4), 3, 2),
        ((8, 8), (4, 4), 5, 1),
        ((8, 8), (4, 4), 1, 2),
        ((12, 6), (12, 6), 3, 1),
        ((1, 1), (1, 1), 1, 1),
        ((7, 7), (1, 1), 7, 1),
    ],
)
def test_inputs_and_strides_follow_from_a_layers_numbers(
    inputs: tuple[int, int], outputs: tuple[int, int], kernel: int, stride: int
) -> None:
    layer = energy.LayerWorkload(
        name="conv",
        positions=math.prod(outputs),
        inner=2 * kernel**2,
        outputs=4,
        input_values=2 * math.prod(inputs),
        nonzero_weights=0,
        kernel_height=kernel,
        kernel_width=kernel,
        output_height=outputs[0],
    )
    (found,) = zigzag_layers(network(layer), HARDWARE)
    assert (found.input_height, found.input_width, found.stride) == (*inputs, stride)


def test_a_depthwise_layer_has_a_group_for_every_channel() -> None:
    layer = replace(CONVOLUTION, groups=4, input_values=256)
    (found,) = zigzag_layers(network(layer), HARDWARE)
    assert (found.groups, found.outputs, found.channels) == (4, 1, 1)


def test_hardware_and_layers_that_zigzag_cannot_express_are_rejected() -> None:
    eyeriss = energy.load_hardware("row-stationary-65nm")
    with pytest.raises(UsageError, match="row-stationary-65nm is row-stationary"):
        zigzag_layers(replace(network(), robust_bits=0), eyeriss)
    odd = replace(CONVOLUTION, input_values=3)
    with pytest.raises(UsageError, match="layer 'conv' cannot be expressed in ZigZag: 8 x 8 positions of a 3 x 3"):
        zigzag_layers(network(odd), HARDWARE)


def test_hardware_is_that_of_the_search(tmp_path: Path) -> None:
    assert agreement.hardware_of("weight-stationary-45nm") == HARDWARE
    either = "output-stationary-45nm,weight-stationary-45nm"
    with pytest.raises(UsageError, match=f"the search chose among {either}; cross-check one on a single accelerator"):
        agreement.hardware_of(either)
    with pytest.raises(UsageError, match=r"mine@1234 is custom hardware; give its file as `hardware`"):
        agreement.hardware_of("mine@1234")
    with pytest.raises(UsageError, match="ran on weight-stationary-45nm, but `hardware` hybrid-22nm is hybrid-22nm"):
        agreement.hardware_of("weight-stationary-45nm", "hybrid-22nm")


def test_members_are_spread_over_the_front() -> None:
    records = [record(network(), key=str(number)) for number in range(10)]
    assert [one.key for one in agreement.spread(records, 4)] == ["0", "3", "6", "9"]
    assert agreement.spread(records, None) == agreement.spread(records, 99) == tuple(records)
    with pytest.raises(UsageError, match="`members` must be at least 2"):
        agreement.spread(records, 1)


def test_equal_layers_are_scored_once_and_both_models_take_the_mac_from_one_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored: list[ZigzagLayer] = []
    progress: list[tuple[int, int]] = []

    def scoring(layer: ZigzagLayer) -> Parts:
        scored.append(layer)
        return fake_zigzag(layer)

    monkeypatch.setattr(agreement, "load_zigzag", lambda: None)
    monkeypatch.setattr(agreement, "run_zigzag", scoring)
    twice = network(CONVOLUTION, replace(CONVOLUTION, name="again", nonzero_weights=1), LINEAR)
    found = agreement.crosscheck(
        [record(twice), record(twice)], HARDWARE, on_layer=lambda done, layers, _: progress.append((done, layers))
    )
    assert len(scored) == found.layers == 2
    assert progress == [(0, 2), (1, 2), (2, 2)]
    report = energy.estimate(dense(twice), HARDWARE)
    comparison = found.comparisons[0]
    each = [parts["mac"] / layer.macs for parts, layer in zip(report.layers.values(), twice.layers, strict=True)]
    assert each[0] == each[1]
    assert comparison.zigzag.mac == pytest.approx(sum(each))
    assert found.same_dataflow is None
    assert comparison.zigzag.weight_sram == 2 * 4 * 10 + 10 * 64 * 10
    assert comparison.ours.mac == pytest.approx(energy.estimate(dense(twice), HARDWARE).components["mac"])
    assert found.dense == found.searched == agreement.Agreement(spearman=None, kendall=None)


def stored(folder: Path, workloads: Sequence[energy.Workload]) -> Path:
    """Store a search whose front is the baseline and smaller networks, with these workloads; return the database."""
    path = folder / "results.db"
    with Store.open(f"sqlite:///{path}", create=True) as store:
        search = new_search(store, name="small", setup=SETUP, budget=len(workloads))
        baseline = find_task("digits").space.baseline()
        for number, workload in enumerate(workloads):
            candidate = replace(baseline, width=baseline.width - number)
            evaluation = replace(formula(candidate), workload=workload.to_dict())
            key = f"{number}" * 64
            store.evaluations.record(key, evaluation, SETUP, seed=0)
            store.searches.record_trial(search, number, evaluation_key=key)
    return path


def test_the_command_prints_members_and_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "load_zigzag", lambda: None)
    monkeypatch.setattr(zigzag, "load_zigzag", lambda: None)
    monkeypatch.setattr(agreement, "run_zigzag", fake_zigzag)
    layers = [replace(LINEAR, outputs=outputs, nonzero_weights=1) for outputs in (40, 30, 20)]
    path = stored(tmp_path, [network(layer) for layer in layers])
    runner = CliRunner()
    asked = runner.invoke(cli, ["crosscheck", "small", "--storage", str(path), "--json"])
    assert asked.exit_code == 0, asked.output
    assert "ZigZag: 3 of 3 different layers scored" in asked.stderr
    printed = json.loads(asked.stdout)
    assert printed["agreement"]["dense"] == {"spearman": pytest.approx(1), "kendall": pytest.approx(1)}
    assert [one["id"] for one in printed["members"]] == ["0" * 12, "1" * 12, "2" * 12]
    for member in printed["members"]:
        assert member["ratio"] == pytest.approx(member["zigzag_pj"] / member["dense_pj"])
        assert sum(member["zigzag_components_pj"].values()) == pytest.approx(member["zigzag_pj"])
    table = runner.invoke(cli, ["crosscheck", "small", "--storage", str(path), "--members", "2"])
    assert table.exit_code == 0, table.output
    assert "2 of 3 members" in table.stdout
    assert "Spearman 1.000, Kendall 1.000" in table.stdout


def test_a_missing_zigzag_is_named_with_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "zigzag"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "zigzag", None)
    done = CliRunner().invoke(cli, ["crosscheck", "small", "--storage", str(tmp_path / "none.db")])
    assert done.exit_code == 2
    assert "pip install 'crosslayer[crosscheck]'" in done.stderr


@pytest.mark.slow
@NEEDS_ZIGZAG
@pytest.mark.parametrize("name", ["weight-stationary-45nm", "weight-stationary-45nm-dram", "output-stationary-45nm"])
def test_zigzag_agrees_on_a_tiny_network(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = agreement.compare(network(batch=2), energy.load_hardware(name))
    assert found.zigzag.mac == pytest.approx(found.ours.mac)
    assert found.zigzag.dram == pytest.approx(found.ours.dram)
    assert found.zigzag.weight_sram == pytest.approx(found.ours.weight_sram, rel=0.05)
    assert found.zigzag.activation_sram == pytest.approx(found.ours.activation_sram, rel=0.25)
    assert capfd.readouterr() == ("", "")


@NEEDS_ZIGZAG
def test_zigzag_maps_a_layer_that_fits_the_array_as_a_whole() -> None:
    layer = replace(LINEAR, inner=16, input_values=16, nonzero_weights=1)
    found = agreement.compare(network(layer), HARDWARE)
    assert found.ratio == pytest.approx(1, abs=0.05)


@NEEDS_ZIGZAG
@pytest.mark.slow
def test_the_published_lenet() -> None:
    # 28x28 images, 64 KB + 64 KB, every feature map through DRAM, 0.23 pJ for a MAC
    assert DRAM.dram is not None
    hardware = replace(
        DRAM,
        weight_memory=replace(DRAM.weight_memory, capacity_kb=64, bank_kb=64),
        activation_memory=replace(DRAM.activation_memory, capacity_kb=64, bank_kb=64),
        dram=replace(DRAM.dram, keeps_feature_maps=False),
    )
    workload = energy_validation.workload(energy_validation.LENET)
    table = replace(
        energy.estimate(workload, hardware).table, multiply_pj=0.23, weight_change_pj=0.0, add_pj_per_bit=0.0
    )
    found = agreement.compare(workload, hardware, table=table)
    for parts in (found.ours, found.zigzag):
        assert parts.mac == pytest.approx(0.527e6, rel=0.01)
        assert parts.dram == pytest.approx(73.24e6, rel=0.01)
        # Between the results of two other tools for the same memories: 4.72 and 9.06 uJ.
        assert 4.72e6 < parts.weight_sram + parts.activation_sram < 9.06e6


@NEEDS_ZIGZAG
@pytest.mark.slow
def test_zigzag_chooses_the_same_dataflows() -> None:
    """Weights stay where few products are summed at many positions, outputs where many are summed at few."""
    flexible = energy.load_hardware("flexible-45nm")
    layers = (
        replace(CONVOLUTION, name="few products", positions=576, inner=9, outputs=8, input_values=676,
                nonzero_weights=72, kernel_height=3, kernel_width=3, output_height=24),
        replace(CONVOLUTION, name="many products", positions=16, inner=288, outputs=16, input_values=32 * 36,
                nonzero_weights=288 * 16, kernel_height=3, kernel_width=3, output_height=4),
        LINEAR,
    )  # fmt: skip
    workload = network(*layers)
    report = energy.estimate(dense(workload), flexible)
    assert report.dataflows == ("weight-stationary", "output-stationary", "output-stationary")
    for layer in zigzag_layers(workload, flexible):
        chosen, other = (run_zigzag(one).memories_pj for one in (layer, agreement.other_dataflow(layer)))
        assert chosen < other
