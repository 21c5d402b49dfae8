from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy import (
    ActionCounts,
    Dram,
    Hardware,
    LayerWorkload,
    Widths,
    Workload,
    WorkloadBatch,
    count_actions,
    load_hardware,
)
from energy.actions import count_batch
from tests.support.networks import ALEXNET, LENET, convolution, fully_connected, workload

WEIGHTS_STAY = load_hardware("weight-stationary-45nm")
OUTPUTS_STAY = load_hardware("output-stationary-45nm")
ROWS_STAY = load_hardware("row-stationary-65nm")
PER_OUTPUT = 32 + 16 + 5  # bits stored for each output: bias, scale and shift


def counts(work: Workload | LayerWorkload, hardware: Hardware) -> dict[str, list[float]]:
    found = count_actions(work if isinstance(work, Workload) else workload(work), hardware)
    return {one.name: np.broadcast_to(getattr(found, one.name), found.macs.shape).tolist() for one in fields(found)}


# 28x28 LeNet on a 16x16 array: accesses to the input, filter and output memories as SCALE-Sim counts them (Samajdar et
# al., ISPASS 2020).
def test_weight_stationary_counts_are_those_of_scale_sim() -> None:
    found = counts(workload(*LENET), WEIGHTS_STAY)
    assert found["activation_reads"] == [28800, 128000, 25600, 500]
    assert [bits / 8 for bits in found["weight_read_bits"]] == [500, 25000, 400000, 5000]
    written = zip(found["output_writes"], found["partial_sum_writes"], strict=True)
    assert [sum(pair) for pair in written] == [23040, 102400, 25000, 320]


def test_output_stationary_counts_are_those_of_scale_sim() -> None:
    found = counts(workload(*LENET), OUTPUTS_STAY)
    assert found["activation_reads"] == [28800, 128000, 25600, 500]
    assert [bits / 8 for bits in found["weight_read_bits"]] == [18000, 100000, 400000, 5000]
    assert found["output_writes"] == [11520, 3200, 500, 10]
    assert found["partial_sum_writes"] == [0, 0, 0, 0]


def test_cycles_by_hand() -> None:
    # 25 inner products need 2 folds of 16 rows, 20 outputs 2 folds of 16 columns. Each fold fills 16 rows with weights
    # and streams 576 positions through 16 + 16 - 2 further stages.
    assert counts(LENET[0], WEIGHTS_STAY)["cycles"] == [2 * 2 * (16 + 576 + 30)]
    # 576 positions need 36 folds; each sums 25 products, the last of which reach the far corner 30 cycles later.
    assert counts(LENET[0], OUTPUTS_STAY)["cycles"] == [36 * 2 * (25 + 30)]


def test_an_array_that_is_not_square_by_hand() -> None:
    """8 rows and 4 columns for 576 positions of 25 products and 20 outputs."""
    weights_stay, outputs_stay = (
        counts(LENET[0], replace(hardware, array_rows=8, array_columns=4)) for hardware in (WEIGHTS_STAY, OUTPUTS_STAY)
    )
    # Products along the rows, in 4 folds, and outputs along the columns, in 5; 8 cycles bring the weights.
    assert weights_stay["cycles"] == [4 * 5 * (8 + 576 + (8 + 4 - 2))]
    assert weights_stay["partial_sum_reads"] == [576 * 20 * 3]
    # Positions along the rows, in 72 folds, and outputs along the columns.
    assert outputs_stay["cycles"] == [72 * 5 * (25 + (8 + 4 - 2))]
    assert outputs_stay["weight_read_bits"] == [72 * 500 * 8]
    assert weights_stay["activation_reads"] == outputs_stay["activation_reads"] == [576 * 25 * 5]


def test_the_edge_of_the_array_costs_cycles_but_no_products() -> None:
    full, edge = (counts(fully_connected("fc", size, 16), WEIGHTS_STAY) for size in (16, 17))
    assert edge["cycles"] == [2 * full["cycles"][0]]
    assert edge["macs"] == [17 * 16]
    assert (full["partial_sum_reads"], edge["partial_sum_reads"]) == ([0], [16])


@pytest.mark.parametrize("hardware", [WEIGHTS_STAY, OUTPUTS_STAY], ids=["weights", "outputs"])
def test_a_depthwise_layer_uses_one_column(hardware: Hardware) -> None:
    depthwise = convolution("dw", 32, 10, 3, 32, groups=32)
    single = convolution("one", 1, 10, 3, 1)
    whole, part = counts(depthwise, hardware), counts(single, hardware)
    for action in ("macs", "cycles", "activation_reads", "weight_read_bits", "output_writes", "partial_sum_writes"):
        assert whole[action] == [32 * part[action][0]], action


@given(
    st.integers(1, 6), st.integers(1, 40), st.integers(1, 40), st.sampled_from([WEIGHTS_STAY, OUTPUTS_STAY, ROWS_STAY])
)
def test_a_grouped_layer_is_its_groups_beside_each_other(
    groups: int, channels: int, outputs: int, hardware: Hardware
) -> None:
    grouped = convolution("g", channels * groups, 8, 3, outputs * groups, groups=groups)
    single = convolution("s", channels, 8, 3, outputs)
    whole, part = counts(grouped, hardware), counts(single, hardware)
    for action in ("macs", "activation_reads", "weight_read_bits", "partial_sum_reads", "output_writes", "cycles"):
        assert whole[action] == pytest.approx([groups * part[action][0]]), action


def test_a_batch_shares_its_weights() -> None:
    one, four = (counts(workload(LENET[1], batch=batch), WEIGHTS_STAY) for batch in (1, 4))
    assert four["weight_read_bits"] == one["weight_read_bits"]
    for action in ("macs", "activation_reads", "output_writes", "partial_sum_reads"):
        assert four[action] == [4 * one[action][0]]
    assert four["cycles"] < [4 * one["cycles"][0]]
    # Where outputs stay, the images of a batch are further positions.
    assert counts(workload(LENET[1], batch=4), OUTPUTS_STAY)["weight_read_bits"] == [25000 * 8 * 16]


def test_a_weight_comes_to_its_multiplier_as_often_as_it_does_not_stay() -> None:
    weights, macs = [500, 25000, 400000, 5000], [288000, 1600000, 400000, 5000]
    assert counts(workload(*LENET), WEIGHTS_STAY)["weight_changes"] == weights
    assert counts(workload(*LENET), OUTPUTS_STAY)["weight_changes"] == macs
    # a batch of 4 streams past the same weights; where outputs stay, no weight stays for two products
    assert counts(workload(*LENET, batch=4), WEIGHTS_STAY)["weight_changes"] == weights
    assert counts(workload(*LENET, batch=4), OUTPUTS_STAY)["weight_changes"] == [4 * one for one in macs]
    assert counts(workload(*LENET), ROWS_STAY)["weight_changes"] == macs


@pytest.mark.parametrize("zeros", ["gated", "fetch-gated", "skipped"])
def test_a_weight_that_meets_only_zeros_does_not_reach_its_multiplier(zeros: str) -> None:
    layer = convolution("c", 8, 4, 3, 16, density=0.5, nonzero=288)  # of 1152 weights, for 4 positions
    found = counts(layer, replace(WEIGHTS_STAY, zeros=zeros))  # type: ignore[arg-type]
    assert found["weight_changes"] == [288 * (1 - 0.5**4)]
    streaming = counts(layer, replace(OUTPUTS_STAY, zeros=zeros))  # type: ignore[arg-type]
    assert streaming["weight_changes"] == streaming["macs"] == [4 * 288 * 0.5]
    none = counts(layer, replace(WEIGHTS_STAY, zeros="none"))
    assert none["weight_changes"] == [1152]


def test_biases_are_read_as_often_as_the_weights_of_their_outputs() -> None:
    stored = [20 * PER_OUTPUT, 50 * PER_OUTPUT, 500 * PER_OUTPUT, 10 * PER_OUTPUT]
    for hardware in (WEIGHTS_STAY, OUTPUTS_STAY, ROWS_STAY):
        assert counts(workload(*LENET), hardware)["stored_bias_bits"] == stored
    assert counts(workload(*LENET), WEIGHTS_STAY)["bias_read_bits"] == stored
    # 24 x 24 and 8 x 8 positions are 36 and 4 folds of 16
    outputs_stay = [36 * stored[0], 4 * stored[1], *stored[2:]]
    assert counts(workload(*LENET), OUTPUTS_STAY)["bias_read_bits"] == outputs_stay
    # 24 rows are 2 strips of 14 columns of elements
    assert counts(workload(*LENET), ROWS_STAY)["bias_read_bits"] == [2 * stored[0], *stored[1:]]
    # weights that are not fetched have a bias all the same
    pruned = workload(replace(fully_connected("fc", 32, 16, nonzero=0), activation_density=0.25))
    for zeros in ("gated", "fetch-gated", "skipped"):
        assert counts(pruned, replace(WEIGHTS_STAY, zeros=zeros))["bias_read_bits"] == [16 * PER_OUTPUT]
    narrow = replace(WEIGHTS_STAY, bias_bits=16, scale_bits=8)
    assert counts(fully_connected("fc", 32, 16), narrow)["bias_read_bits"] == [16 * (16 + 8 + 5)]


def test_inferences_are_counted_once() -> None:
    assert counts(workload(*LENET, batch=3), WEIGHTS_STAY)["inferences"] == [3, 0, 0, 0]


def test_an_array_of_given_widths_adds_and_clocks_bits_that_narrow_codes_leave_at_rest() -> None:
    given = replace(WEIGHTS_STAY, widths=Widths(weights=8, activations=8))
    work = workload(fully_connected("fc", 32, 16), weight_bits=4, activation_bits=3)
    found, fitted = counts(work, given), counts(work, WEIGHTS_STAY)
    assert (found["sum_bits"], fitted["sum_bits"]) == ([8 + 8 + 5], [4 + 3 + 5])
    assert found["added_bits"] == [512 * 21]
    assert found["clocked_bits"] == [512 * (8 + 8 + 21)]
    # operands move at their own widths: read for 512 products; weights pass 8.5 registers on average
    assert found["register_read_bits"] == [512 * (4 + 3) + 512 * 21]
    assert found["register_write_bits"] == [512 * 8.5 * 4 + 512 * 3 + 512 * 21]
    assert found["partial_sum_bits"] == [2 * 16 * 21]  # 32 rows are two folds
    for action in ("weight_read_bits", "activation_read_bits", "cycles", "weight_changes"):
        assert found[action] == fitted[action], action


def test_row_stationary_counts_by_hand() -> None:
    # 6 kernels of 3x3 over 4 channels of 6x6, on 3 x 4 elements that hold 2 channels and 3 outputs each.
    pads = replace(ROWS_STAY.scratchpads, weights=18, inputs=6, sums=8)  # type: ignore[type-var]
    hardware = replace(ROWS_STAY, array_rows=3, array_columns=4, scratchpads=pads)
    found = counts(convolution("c", 4, 6, 3, 6), hardware)
    # one set: 3 kernel rows by 4 output rows; 2 passes over channels, 2 over outputs, 1 strip of output rows
    assert found["activation_reads"] == [4 * 36 * 2]
    assert found["partial_sum_writes"] == [16 * 6 * (2 - 1)]
    assert found["weight_read_bits"] == [4 * 9 * 6 * 16]
    # each pass: 2 channels, 3 outputs, 3 weights of a row, at 4 places of a row
    assert found["cycles"] == [2 * 2 * 2 * 3 * 3 * 4]
    assert found["cycles"][0] * 12 == found["macs"][0]  # every element is busy


def test_a_stride_lets_an_element_use_each_input_less_often() -> None:
    """A kernel of 4 x 4 with a stride of 2: in a row each input meets 2 of the 4 weights, of each of 4 outputs."""
    layer = convolution("conv", 1, 8, 4, 4, stride=2, padding=1)
    found = counts(layer, replace(ROWS_STAY, zeros="none"))
    macs, weight_fills = 4 * 4 * 16 * 4, 16 * 4 * 4  # 4 x 4 positions; each of 4 output rows has separate elements
    assert found["macs"] == [macs]
    assert found["register_write_bits"] == [(weight_fills + macs / (4 * 2)) * 8 + macs * 16]


@pytest.mark.parametrize(
    ("outputs", "moved"),
    [
        (500, [512, 500]),  # 256 + 500 B fit in 1 KB beside each other: the map between the layers stays
        (800, [512 + 256, 256 + 800]),  # 256 + 800 B do not: it is written by the one layer and read by the other
    ],
)
def test_a_map_stays_if_it_fits_in_both_layers(outputs: int, moved: list[int]) -> None:
    memory = replace(OUTPUTS_STAY.activation_memory, capacity_kb=1)
    dram = Dram(interface="generic", keeps_feature_maps=True, compressed=False)
    work = workload(fully_connected("one", 512, 256), fully_connected("two", 256, outputs))
    found = counts(work, replace(OUTPUTS_STAY, activation_memory=memory, dram=dram))
    assert found["dram_activation_bits"] == [8 * values for values in moved]


def test_what_zeros_save() -> None:
    layer = convolution("c", 8, 10, 3, 16, density=0.5, nonzero=288)  # of 1152 weights
    dense = replace(WEIGHTS_STAY, compressed_weights=False)
    none, gated, fetched, skipped = (
        counts(layer, replace(dense, zeros=zeros)) for zeros in ("none", "gated", "fetch-gated", "skipped")
    )
    assert none["macs"] == [64 * 1152]
    assert gated["macs"] == fetched["macs"] == skipped["macs"] == [64 * 1152 * 0.5 * 0.25]
    # gated: everything is still read, and every cycle passes
    for action in ("activation_reads", "weight_read_bits", "cycles", "metadata_read_bits", "partial_sum_reads"):
        assert gated[action] == none[action], action
    # fetch-gated: an activation all of whose 16 weights are zero is not read; all 64 that meet a weight never are
    needed = 1 - 0.75**16
    assert fetched["activation_reads"] == [none["activation_reads"][0] * needed]
    assert fetched["weight_read_bits"] == pytest.approx(none["weight_read_bits"])
    assert fetched["cycles"] == none["cycles"]
    # skipped: only nonzero activations are read, with a bit for each that says so, and only their cycles pass
    assert skipped["activation_reads"] == [none["activation_reads"][0] * needed * 0.5]
    masks = none["activation_reads"][0]
    assert skipped["activation_read_bits"] == [skipped["activation_reads"][0] * 8 + masks]
    assert skipped["activation_write_bits"] == [64 * 16 * (8 + 1)]
    assert skipped["metadata_read_bits"] == [0]
    folds = 5  # 72 inner products; one fold of 16 outputs
    assert skipped["cycles"] == [folds * (46 + 64 * 0.125)]


def written(layer: LayerWorkload, hardware: Hardware, weight_bits: int = 8) -> list[float]:
    """Bits of operands written to registers, without those of sums."""
    found = counts(workload(layer, weight_bits=weight_bits), hardware)
    return [all_bits - sums for all_bits, sums in zip(found["register_write_bits"], found["added_bits"], strict=True)]


class TestZerosInRegisters:
    """Zeros pass registers as a flag of a bit where products with them are gated."""

    layer = fully_connected("fc", 160, 40)  # 6,400 weights, which pass 8.5 registers each on average

    def pruned(self, nonzero: int, density: float = 1.0) -> LayerWorkload:
        return replace(self.layer, nonzero_weights=nonzero, activation_density=density)

    def test_95_percent_of_zeros_leave_a_flag_and_a_twentieth_of_the_bits(self) -> None:
        assert written(self.layer, WEIGHTS_STAY) == [6400 * 8.5 * 8 + 6400 * 8]
        assert written(self.pruned(320), WEIGHTS_STAY) == [pytest.approx(6400 * 8.5 * (8 * 0.05 + 1) + 6400 * 8)]
        assert written(self.pruned(320), OUTPUTS_STAY) == [pytest.approx(6400 * (8 * 0.05 + 1) + 6400 * 8)]

    def test_zero_activations_too(self) -> None:
        assert written(self.pruned(6400, 0.25), WEIGHTS_STAY) == [6400 * 8.5 * 8 + 6400 * (8 * 0.25 + 1)]

    def test_a_flag_that_would_cost_more_than_it_saves_is_not_there(self) -> None:
        assert written(self.pruned(6080), WEIGHTS_STAY) == written(self.layer, WEIGHTS_STAY)  # 8 x 0.95 + 1 > 8
        # 2 x 0.5 + 1 = 2
        assert written(self.pruned(3200), WEIGHTS_STAY, 2) == [6400 * 8.5 * 2 + 6400 * 8]

    def test_where_nothing_knows_of_zeros_all_bits_are_written(self) -> None:
        unaware = replace(WEIGHTS_STAY, zeros="none")
        assert written(self.pruned(320, 0.25), unaware) == [6400 * 8.5 * 8 + 6400 * 8]

    def test_operands_that_meet_only_zeros_are_not_written_where_they_are_not_fetched(self) -> None:
        fetched = replace(WEIGHTS_STAY, zeros="fetch-gated")
        # at one position a weight meets a nonzero activation with 0.25; an activation one of 16 weights
        weights, activations = 6400 * 8.5 * 0.25 * (8 * 0.05 + 1), 6400 * (1 - 0.95**16) * (8 * 0.25 + 1)
        assert written(self.pruned(320, 0.25), fetched) == [pytest.approx(weights + activations)]

    def test_skipped_zeros_never_enter_the_array(self) -> None:
        skipped = replace(WEIGHTS_STAY, zeros="skipped")
        # 320 weights that meet a nonzero activation with 0.25; nonzero activations that meet one of 16 weights
        weights, activations = 320 * 8.5 * 0.25 * 8, 6400 * 0.25 * (1 - 0.95**16) * 8
        assert written(self.pruned(320, 0.25), skipped) == [pytest.approx(weights + activations)]


def test_weights_that_meet_one_zero_activation_only_are_not_fetched() -> None:
    layer = replace(fully_connected("fc", 32, 16), activation_density=0.25)
    gated, fetched = (counts(layer, replace(OUTPUTS_STAY, zeros=zeros)) for zeros in ("gated", "fetch-gated"))
    assert gated["weight_read_bits"] == [512 * 8]
    assert fetched["weight_read_bits"] == pytest.approx([512 * 8 * 0.25])
    assert fetched["activation_reads"] == gated["activation_reads"]  # which is how a zero is known


def test_pruned_weights_are_read_in_the_smallest_format() -> None:
    half = counts(fully_connected("fc", 20, 30, nonzero=300), WEIGHTS_STAY)
    assert (half["weight_read_bits"], half["metadata_read_bits"]) == ([2400], [600])  # bitmask
    tenth = counts(fully_connected("fc", 20, 30, nonzero=60), WEIGHTS_STAY)
    assert tenth["weight_read_bits"] == [480]
    assert 60 * 4 < tenth["metadata_read_bits"][0] < 600  # relative index
    most = counts(fully_connected("fc", 20, 30, nonzero=590), WEIGHTS_STAY)
    assert (most["weight_read_bits"], most["metadata_read_bits"]) == ([4800], [0])  # dense
    assert half["macs"] == [300]


@pytest.mark.parametrize(("inner", "bits"), [(1, 16), (2, 17), (255, 24), (256, 24), (257, 25)])
def test_partial_sums_are_just_wide_enough(inner: int, bits: int) -> None:
    assert counts(fully_connected("fc", inner, 1), WEIGHTS_STAY)["sum_bits"] == [bits]
    assert counts(fully_connected("fc", inner, 1), replace(WEIGHTS_STAY, partial_sum_bits=16))["sum_bits"] == [16]


def test_unfinished_sums_take_room_for_the_outputs_in_flight() -> None:
    # 25 products are two folds; the groups of a depthwise layer come one after another
    depthwise = counts(convolution("dw", 64, 36, 5, 64, groups=64), WEIGHTS_STAY)
    assert depthwise["live_activation_bits"] == [8 * 64 * (36**2 + 32**2) + 1 * 32**2 * (21 - 8)]
    dense = counts(convolution("c", 64, 36, 5, 64), WEIGHTS_STAY)
    assert dense["live_activation_bits"] == [8 * 64 * (36**2 + 32**2) + 16 * 32**2 * (27 - 8)]


def test_values_take_whole_words() -> None:
    memory = replace(WEIGHTS_STAY.weight_memory, word_bits=8)
    narrow = workload(fully_connected("fc", 20, 30), weight_bits=5)
    assert counts(narrow, WEIGHTS_STAY)["weight_read_bits"] == [600 * 5]
    assert counts(narrow, replace(WEIGHTS_STAY, weight_memory=memory))["weight_read_bits"] == [600 * 8]


# Bytes of weights, and of 20, 50, 500 and 10 biases and scales.
LENET_BYTES = [500 + 132.5, 25000 + 331.25, 400000 + 3312.5, 5000 + 66.25]


class TestDram:
    hardware = load_hardware("weight-stationary-45nm-dram")

    def sized(self, weight_kb: int, activation_kb: int, *, kept: bool = True, compressed: bool = False) -> Hardware:
        return replace(
            self.hardware,
            weight_memory=replace(self.hardware.weight_memory, capacity_kb=weight_kb),
            activation_memory=replace(self.hardware.activation_memory, capacity_kb=activation_kb),
            dram=Dram(interface="generic", keeps_feature_maps=kept, compressed=compressed),
        )

    def moved(self, hardware: Hardware, *layers: LayerWorkload) -> tuple[list[float], list[float]]:
        found = counts(workload(*layers), hardware)
        return (
            [bits / 8 for bits in found["dram_weight_bits"]],
            [bits / 8 for bits in found["dram_activation_bits"]],
        )

    def test_what_fits_moves_once(self) -> None:
        weights, maps = self.moved(self.hardware, *LENET)
        assert weights == LENET_BYTES
        assert maps == [784, 0, 0, 10]  # the image and the answer

    def test_feature_maps_that_do_not_stay_move_both_ways(self) -> None:
        weights, maps = self.moved(self.sized(512, 512, kept=False), *LENET)
        assert weights == LENET_BYTES
        assert maps == [784 + 11520, 2880 + 3200, 800 + 500, 500 + 10]

    def test_a_feature_map_that_does_not_fit_is_moved_by_both_of_its_layers(self) -> None:
        # Of 10 KB, conv1 needs 784 + 11520 bytes; conv2 2880 + 3200, and 2176 more while 16 of its outputs are sums.
        _, maps = self.moved(self.sized(512, 10), *LENET)
        assert maps == [784 + 11520, 2880, 0, 10]
        _, maps = self.moved(self.sized(512, 8), *LENET)
        assert maps == [784 + 11520, 2880 + 3200, 800, 10]

    def test_what_does_not_fit_is_fetched_again_in_the_cheapest_way(self) -> None:
        # 73,728 weights, 128 biases and scales of 53 bits, 65,536 inputs, 131,072 outputs
        layer = convolution("c", 64, 32, 3, 128, padding=1)
        everything, _ = self.moved(self.sized(128, 1024), layer)
        assert everything == [73728 + 848]
        # With 16 KB for activations inputs are 4 tiles, with 40 KB for weights these are 2, and inputs come twice.
        weights, maps = self.moved(self.sized(40, 16), layer)
        assert (weights, maps) == ([73728 + 848], [65536 * 2 + 131072])

    @pytest.mark.slow
    @given(
        st.integers(1, 200), st.integers(1, 40), st.integers(1, 200), st.integers(1, 64), st.sampled_from([8, 16, 64])
    )
    def test_no_way_of_tiling_moves_less(self, channels: int, size: int, outputs: int, kb: int, weight_kb: int) -> None:
        layer = convolution("c", channels, size, 1, outputs)
        weights, maps = self.moved(self.sized(weight_kb, kb, kept=False), layer)
        sums = kb * 8192 // (16 + (channels - 1).bit_length())  # for which there is room
        inputs = channels * size**2
        blocks = ((min(sums, a), max(1, min(sums // a, size**2))) for a in range(1, min(sums, outputs) + 1))
        best = min(
            channels * outputs * -(-inputs // (kb * 1024)) + inputs,
            channels * outputs + inputs * -(-channels * outputs // (weight_kb * 1024)),
            *(channels * outputs * -(-(size**2) // b) + inputs * -(-outputs // a) for a, b in blocks),
        )
        moved = weights[0] - outputs * PER_OUTPUT / 8 + maps[0] - outputs * size**2
        assert best * 0.999 <= moved <= best * 1.5  # its proportions are rounded, where the loop tries all

    def test_each_tile_of_inputs_refetches_all_weights(self) -> None:
        # 2,048 weights, 64 x 64 positions of 16 inputs: 65,536, of which 16 KB hold a quarter. That all weights come 4
        # times moves less than that all inputs come for each of the 2 KB of weights, of which 1 KB has room for one.
        layer = convolution("c", 16, 64, 1, 128)
        whole, cut = (counts(layer, self.sized(1, kb)) for kb in (4096, 16))
        assert whole["weight_read_bits"] == [2048 * 8]
        assert cut["weight_read_bits"] == [4 * 2048 * 8]
        # biases are read with the weights, but come from DRAM once
        assert cut["dram_weight_bits"] == cut["weight_write_bits"] == [4 * 2048 * 8 + 128 * PER_OUTPUT]
        assert (whole["bias_read_bits"], cut["bias_read_bits"]) == ([128 * PER_OUTPUT], [4 * 128 * PER_OUTPUT])
        # a weight stays for a quarter of the positions each time, and is shifted in 4 times
        assert (whole["weight_changes"], cut["weight_changes"]) == ([2048], [4 * 2048])
        fills = cut["register_write_bits"][0] - whole["register_write_bits"][0]
        assert fills == 3 * 2048 * 8.5 * 8
        assert cut["cycles"] == [8 * (4 * 46 + 4096)]  # 128 outputs are 8 folds
        assert cut["macs"] == whole["macs"]

    def test_groups_are_tiled_one_after_another(self) -> None:
        depthwise = convolution("dw", 512, 32, 3, 512, padding=1, groups=512)
        weights, maps = self.moved(self.sized(8, 64, kept=False), depthwise)
        assert (weights, maps) == ([512 * 9 + 512 * PER_OUTPUT / 8], [2 * 512 * 32 * 32])

    def test_less_memory_never_moves_less(self) -> None:
        layers = (convolution("a", 32, 32, 3, 64, padding=1), convolution("b", 64, 32, 3, 64, padding=1), LENET[2])
        totals = []
        for size in (2048, 256, 64, 32, 16, 8):
            weights, maps = self.moved(self.sized(size, size), *layers)
            totals.append(sum(weights) + sum(maps))
        assert totals == sorted(totals)
        assert totals[-1] > 2 * totals[0]

    def test_compressed_feature_maps_move_without_their_zeros(self) -> None:
        layers = (convolution("a", 8, 10, 3, 8), convolution("b", 8, 8, 3, 8, density=0.25))
        _, maps = self.moved(self.sized(64, 64, kept=False, compressed=True), *layers)
        # the image is dense; the map between is a quarter full, and has a bit for each value; the last counts as dense
        assert maps == [800 + 512 * (0.25 + 1 / 8), 512 * (0.25 + 1 / 8) + 288]

    def test_what_is_moved_is_written_and_read_on_the_chip_too(self) -> None:
        found = counts(workload(*LENET), self.sized(512, 512, kept=False))
        assert found["weight_write_bits"] == found["dram_weight_bits"]
        inputs, outputs = [784, 2880, 800, 500], [11520, 3200, 500, 10]
        assert found["activation_write_bits"] == [8 * (i + o) for i, o in zip(inputs, outputs, strict=True)]
        alone = counts(workload(*LENET), WEIGHTS_STAY)
        assert found["activation_read_bits"] == [
            bits + 8 * o for bits, o in zip(alone["activation_read_bits"], outputs, strict=True)
        ]


@pytest.mark.parametrize("hardware", [WEIGHTS_STAY, OUTPUTS_STAY, TestDram.hardware], ids=lambda h: h.name)
def test_many_workloads_count_as_each_alone(hardware: Hardware) -> None:
    works = [
        workload(*LENET),
        workload(LENET[2], weight_bits=4, robust_bits=2),
        workload(*ALEXNET, activation_bits=6, batch=4),
        workload(fully_connected("fc", 100, 7, nonzero=0)),
    ]
    together = count_batch(WorkloadBatch.of(works), hardware)
    for index, work in enumerate(works):
        alone = count_actions(work, hardware)
        depth = len(work.layers)
        for one in fields(ActionCounts):
            found = np.broadcast_to(getattr(together, one.name), (len(works), 5))[index]
            expected = np.broadcast_to(getattr(alone, one.name), (depth,))
            assert found[:depth].tolist() == expected.tolist(), one.name
            if one.name != "sum_bits":
                assert not found[depth:].any(), one.name
