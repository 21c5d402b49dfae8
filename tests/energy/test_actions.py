import pytest

from energy import LayerWorkload, WorkloadError, count_actions, load_hardware
from energy.actions import partial_sum_bits


def layer(positions: int, inner: int, outputs: int, stored: int | None = None) -> LayerWorkload:
    weights = inner * outputs
    return LayerWorkload(
        name="layer",
        positions=positions,
        inner=inner,
        outputs=outputs,
        input_values=784,
        stored_weights=weights if stored is None else stored,
        compressed=stored is not None,
    )


# LeNet (conv 20@5x5, conv 50@5x5, fc 500, fc 10) on 28x28 images, 16x16 array, weight stationary: accesses to the
# input, filter and output memories as SCALE-Sim counts them (Samajdar et al., ISPASS 2020).
@pytest.mark.parametrize(
    ("shape", "inputs", "filters", "outputs"),
    [
        ((576, 25, 20), 28800, 500, 23040),
        ((64, 500, 50), 128000, 25000, 102400),
        ((1, 800, 500), 25600, 400000, 25000),
        ((1, 500, 10), 500, 5000, 320),
    ],
)
def test_counts_are_those_of_scale_sim(shape: tuple[int, int, int], inputs: int, filters: int, outputs: int) -> None:
    counts = count_actions(layer(*shape), load_hardware("weight-stationary-45nm"))
    assert counts.activation_reads == inputs
    assert counts.weight_reads == filters
    assert counts.output_writes + counts.partial_sum_writes == outputs


def test_cycles_by_hand() -> None:
    # 25 inner products need 2 folds of 16 rows, 20 outputs 2 folds of 16 columns. Each fold fills 16 rows with weights
    # and streams 576 positions through 16 + 16 - 2 further stages: 16 + 576 + 30 cycles.
    counts = count_actions(layer(576, 25, 20), load_hardware("weight-stationary-45nm"))
    assert counts.cycles == 2 * 2 * (16 + 576 + 30)


def test_pruned_weights_are_not_read_and_their_products_do_not_switch() -> None:
    dense = count_actions(layer(10, 20, 30), load_hardware("weight-stationary-45nm"))
    sparse = count_actions(layer(10, 20, 30, stored=150), load_hardware("weight-stationary-45nm"))
    assert (dense.macs, dense.weight_reads, dense.metadata_bits) == (6000, 600, 0)
    assert (sparse.macs, sparse.weight_reads, sparse.metadata_bits) == (1500, 150, 600)
    assert sparse.activation_reads == dense.activation_reads
    assert sparse.cycles == dense.cycles


@pytest.mark.parametrize(("inner", "bits"), [(1, 16), (2, 17), (255, 24), (256, 24), (257, 25)])
def test_partial_sums_are_just_wide_enough(inner: int, bits: int) -> None:
    assert partial_sum_bits(layer(1, inner, 1), 8, 8) == bits


def test_workloads_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(WorkloadError, match="stored_weights must be between 0 and inner \\* outputs = 6, got 7"):
        layer(1, 2, 3, stored=7)
    with pytest.raises(WorkloadError, match="positions must be at least 1, got 0"):
        layer(0, 2, 3)
    with pytest.raises(WorkloadError, match="stores all 6 weights"):
        LayerWorkload(name="x", positions=1, inner=2, outputs=3, input_values=2, stored_weights=5, compressed=False)
