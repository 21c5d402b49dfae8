"""Which bits fail, and what that does to codes and to layers on a chip."""

from dataclasses import replace
from math import sqrt
from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from approx import (
    FaultyMemory,
    LayerApproximation,
    approx_layers,
    approximate,
    fault_map,
    multiplier_from_function,
    read_back,
    set_memory,
    use_chip,
)
from approx.config import FAILED_CELLS
from approx.errors import ArgumentError
from approx.faults import BANK_COLUMNS, BANK_ROWS, FaultMap, memory_seed

STORAGES = ["twos-complement", "sign-magnitude"]
rates = st.floats(0, 1)


def flips(rate: float, robust: int = 0, *, seed: int = 0, bits: int = 8, words: int = 400, **more: float) -> Tensor:
    """The inverted bits of every word."""
    memory = FaultyMemory(bit_error_rate=rate, robust_bits=robust, **more)  # type: ignore[arg-type]
    return fault_map(memory, words=words, bits=bits, seed=(seed,)).dense()


def failed(found: Tensor, bits: int = 8) -> Tensor:
    """Whether each cell failed: bool, shape (words, bits)."""
    return (found[:, None] >> torch.arange(bits)) & 1 == 1


@settings(deadline=None)
@given(
    st.tuples(rates, rates).map(sorted),
    st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted),
    st.tuples(st.floats(0, 0.1), st.floats(0, 0.1)).map(sorted),
    st.integers(2, 12),
    st.sampled_from([0.0, 0.1, 0.5, 0.99]),
    st.integers(0, 2**63),
)
def test_a_chip_fails_in_more_places_at_a_higher_rate_or_with_fewer_robust_bits(
    cells: list[float], robust: list[int], cells_8t: list[float], bits: int, correlation: float, seed: int
) -> None:
    def found(rate: float, robust_bits: int, rate_8t: float) -> Tensor:
        return flips(
            rate,
            robust_bits,
            seed=seed,
            bits=bits,
            words=100,
            robust_bit_error_rate=min(rate, rate_8t),
            column_correlation=correlation,
        )

    few, many = found(cells[0], robust[1], cells_8t[0]), found(cells[1], robust[0], cells_8t[1])
    assert torch.equal(few & many, few)
    assert many.max() < 2**bits


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_no_bit_fails_at_rate_zero_and_all_do_at_one(correlation: float) -> None:
    for bits in (2, 5, 8, 9, 12):
        assert not flips(0, bits=bits, column_correlation=correlation).any()
        assert (flips(1, bits=bits, column_correlation=correlation) == 2**bits - 1).all()


@pytest.mark.parametrize(("bits", "robust"), [(8, 3), (5, 3), (12, 3), (4, 7)])
def test_robust_bits_are_the_top_bits_and_fail_at_a_rate_of_their_own(bits: int, robust: int) -> None:
    low = 2 ** max(0, bits - robust) - 1
    assert (flips(1, robust, bits=bits) == low).all()
    assert (flips(0, robust, bits=bits, robust_bit_error_rate=1) == 2**bits - 1 - low).all()
    assert (flips(1, robust, bits=bits, robust_bit_error_rate=1) == 2**bits - 1).all()


@pytest.mark.parametrize("bits", [3, 8, 12])
@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.1, 0.5, 0.9])
def test_the_rate_is_met_on_every_bit(rate: float, bits: int) -> None:
    words = 40_000
    shares = failed(flips(rate, bits=bits, words=words), bits).to(torch.float64).mean(0)
    assert ((shares - rate).abs() <= 5 * sqrt(rate * (1 - rate) / words)).all()  # five standard deviations


def test_uniform_cells_fail_independently() -> None:
    """Neighbours fail together as often as chance has it, and counts by column scatter as a binomial's."""
    rate, words = 0.1, 64 * BANK_COLUMNS
    found = failed(flips(rate, words=words, seed=3))
    both = (found[:-1] & found[1:]).double().mean()
    assert abs(both - rate**2) < 5 * sqrt(rate**2 / (8 * words))
    columns = found.reshape(-1, BANK_COLUMNS)
    scatter = columns.double().sum(0).var() / (len(columns) * rate * (1 - rate))
    assert abs(scatter - 1) < 5 * sqrt(2 / BANK_COLUMNS)  # of a sample variance


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.4])
def test_correlated_cells_fail_by_columns_at_the_same_rate(rate: float) -> None:
    """By the bivariate normal distribution that correlates two cells of a column."""
    correlation, chips, per_bank = 0.4, 8, BANK_ROWS * BANK_COLUMNS
    counts = torch.stack(
        [
            failed(flips(rate, words=2 * per_bank // 8, seed=seed, column_correlation=correlation))
            .reshape(2, BANK_ROWS, BANK_COLUMNS)
            .sum(1)
            .flatten()
            for seed in range(chips)
        ]
    ).double()
    # Each column fails at a rate of its own; integrate over what its cells share.
    shared = [NormalDist().inv_cdf((i + 0.5) / 20_000) for i in range(20_000)]
    reach = NormalDist().inv_cdf(rate)
    of_column = torch.special.ndtr(
        (reach + sqrt(correlation) * torch.tensor(shared, dtype=torch.float64)) / sqrt(1 - correlation)
    )
    between = of_column.var(correction=0)
    assert of_column.mean() == pytest.approx(rate, rel=0.01)
    variance = BANK_ROWS**2 * between + BANK_ROWS * (of_column * (1 - of_column)).mean()
    columns = counts.numel()
    assert abs(counts.mean() / BANK_ROWS - rate) < 5 * sqrt(variance / columns) / BANK_ROWS
    binomial = BANK_ROWS * rate * (1 - rate)
    kurtosis = ((counts - counts.mean()) ** 4).mean() / counts.var() ** 2
    assert abs(counts.var() / variance - 1) < 5 * sqrt((kurtosis - 1) / columns)
    assert counts.var() > 2 * binomial


def test_the_same_chip_fails_in_the_same_places_and_others_elsewhere() -> None:
    for correlation in (0.0, 0.5):
        one, same, other = (flips(0.2, seed=seed, column_correlation=correlation) for seed in (5, 5, 6))
        assert torch.equal(one, same)
        shared = (failed(one) & failed(other)).double().mean()
        assert abs(shared - 0.04) < 0.02


def test_seeds_tell_chips_memories_and_reads_apart() -> None:
    seeds = {
        memory_seed(1, "weights of a"),
        memory_seed(2, "weights of a"),
        memory_seed(1, "weights of b"),
        memory_seed(1, "weights of a", 1),
    }
    assert len(seeds) == 4
    memory = FaultyMemory(bit_error_rate=0.1)
    maps = [fault_map(memory, words=200, bits=8, seed=seed).dense() for seed in seeds]
    assert all(not torch.equal(a, b) for i, a in enumerate(maps) for b in maps[:i])


# ---- codes -------------------------------------------------------------------------------------------------------


def stored_bits(code: int, bits: int, storage: str) -> list[int]:
    """From the top bit down, by hand."""
    if storage == "sign-magnitude":
        return [int(code < 0), *map(int, format(abs(code), f"0{bits - 1}b"))]
    return list(map(int, format(code if code >= 0 else code + 2**bits, f"0{bits}b")))


def value_of(word: list[int], signed: bool, storage: str) -> int:
    place_values: list[int] = [2**i for i in reversed(range(len(word)))]
    if signed and storage == "sign-magnitude":
        return (-1 if word[0] else 1) * value_of(word[1:], False, storage)
    if signed:
        place_values[0] *= -1
    return sum(bit * value for bit, value in zip(word, place_values, strict=True))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 8, 12])
def test_codes_are_read_as_their_bits_say(bits: int, signed: bool, storage: str) -> None:
    low, high = (
        (-(2 ** (bits - 1)) + (storage == "sign-magnitude"), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    )
    codes = torch.arange(low, high + 1, dtype=torch.float32)
    inverted = torch.randint(2**bits, codes.shape, generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    faults = FaultMap(torch.arange(len(codes)), inverted, len(codes))
    read = read_back(codes, faults, bits=bits, signed=signed, storage=storage)
    assert read.dtype == codes.dtype
    for code, flip, found in zip(codes.int().tolist(), inverted.tolist(), read.int().tolist(), strict=True):
        word = stored_bits(code, bits, storage if signed else "unsigned")
        struck = [bit ^ int(one) for bit, one in zip(word, format(flip, f"0{bits}b"), strict=True)]
        assert found == value_of(struck, signed, storage)


@given(st.integers(2, 12), rates, st.integers(0, 2**31), st.booleans())
def test_reading_twice_through_the_same_faults_restores(bits: int, rate: float, seed: int, signed: bool) -> None:
    codes = torch.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else torch.arange(2**bits)
    faults = fault_map(FaultyMemory(bit_error_rate=rate), words=len(codes), bits=bits, seed=(seed,))
    once = read_back(codes, faults, bits=bits, signed=signed, storage="twos-complement")
    assert torch.equal(read_back(once, faults, bits=bits, signed=signed, storage="twos-complement"), codes)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.float32])
def test_rate_zero_is_identity_and_one_is_the_complement(dtype: torch.dtype) -> None:
    codes = torch.arange(-128, 128).to(dtype)
    for rate, expected in ((0.0, codes), (1.0, ~torch.arange(-128, 128).to(torch.int32))):
        faults = fault_map(FaultyMemory(bit_error_rate=rate), words=256, bits=8, seed=(0,))
        assert torch.equal(read_back(codes, faults, bits=8, signed=True, storage="twos-complement"), expected.to(dtype))


def test_codes_of_any_layout_are_read_in_their_order_and_left_as_they_are() -> None:
    codes = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).float()
    faults = fault_map(FaultyMemory(bit_error_rate=0.3), words=codes.numel(), bits=8, seed=(1,))
    options = {"bits": 8, "signed": False, "storage": "twos-complement"}
    expected = read_back(codes, faults, **options)  # type: ignore[arg-type]
    last = codes.to(memory_format=torch.channels_last)
    assert torch.equal(read_back(last, faults, **options), expected)  # type: ignore[arg-type]
    assert torch.equal(read_back(codes.transpose(0, 1).contiguous().transpose(0, 1), faults, **options), expected)  # type: ignore[arg-type]
    assert torch.equal(last, torch.arange(120).reshape(2, 3, 4, 5).float())
    assert not torch.equal(expected, codes)


@pytest.mark.parametrize("failed_cells", FAILED_CELLS)
def test_words_that_are_not_stored_are_left_out(failed_cells: str) -> None:
    memory = FaultyMemory(bit_error_rate=0.3, failed_cells=failed_cells)
    faults = fault_map(memory, words=60, bits=8, seed=(1,))
    stored = torch.arange(60).reshape(3, 20) % 3 > 0
    left = faults.only(stored)
    assert torch.equal(left.dense(), faults.dense() * stored.flatten())
    bits, all_bits = left.dense_stuck_at(), faults.dense_stuck_at()
    if failed_cells == "inverted":
        assert bits is all_bits is None
    else:
        assert bits is not None
        assert all_bits is not None
        assert torch.equal(bits, all_bits * stored.flatten())


def test_stuck_cells_give_their_own_bit_whatever_is_stored() -> None:
    memory = FaultyMemory(bit_error_rate=0.2, failed_cells="stuck")
    faults = fault_map(memory, words=4000, bits=8, seed=(3,))
    inverted = fault_map(replace(memory, failed_cells="inverted"), words=4000, bits=8, seed=(3,))
    assert torch.equal(faults.dense(), inverted.dense())  # the same cells fail
    options = {"bits": 8, "signed": False, "storage": "twos-complement"}
    zeros, ones = torch.zeros(4000, dtype=torch.int32), torch.full((4000,), 255, dtype=torch.int32)
    read = [read_back(codes, faults, **options) for codes in (zeros, ones)]  # type: ignore[arg-type]
    found, stuck_at = failed(faults.dense()), failed(read[0])
    assert torch.equal(failed(read[0]) & found, failed(read[1]) & found)
    assert torch.equal(failed(read[1]), stuck_at | ~found)
    for place in range(8):  # stuck at 0 as often as at 1, in every place of a word
        cells = stuck_at[found[:, place], place].double()
        assert abs(cells.mean() - 0.5) < 4 * 0.5 / sqrt(len(cells))
    codes = torch.randint(256, (4000,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    wrong = failed(read_back(codes, faults, **options) ^ codes).sum()  # type: ignore[arg-type]
    assert abs(wrong / found.sum() - 0.5) < 4 * 0.5 / sqrt(int(found.sum()))


def test_every_memory_of_every_chip_has_cells_that_prefer_other_states() -> None:
    """Two memories agree in as many cells as coins do."""
    memory, words = FaultyMemory(bit_error_rate=1.0, failed_cells="stuck"), 1000
    seeds = [memory_seed(chip, layer) for chip in (0, 1) for layer in ("first", "second")]
    states = [fault_map(memory, words=words, bits=8, seed=seed).dense_stuck_at() for seed in seeds]
    for place, one in enumerate(states):
        for other in states[:place]:
            assert one is not None
            assert other is not None
            agreeing = float((~failed(one ^ other)).double().mean())
            assert agreeing == pytest.approx(0.5, abs=5 * 0.5 / sqrt(8 * words))


@given(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted), st.integers(0, 12), st.integers(0, 2**31))
def test_a_cell_is_stuck_at_the_same_bit_at_every_rate(cells: list[float], robust: int, seed: int) -> None:
    few, many = (
        fault_map(
            FaultyMemory(bit_error_rate=rate, robust_bits=bits, failed_cells="stuck"), words=90, bits=12, seed=(seed,)
        )
        for rate, bits in zip(cells, (robust, 0), strict=True)
    )
    at_few, at_many = few.dense_stuck_at(), many.dense_stuck_at()
    assert at_few is not None
    assert at_many is not None
    assert torch.equal(at_many & few.dense(), at_few)


def test_copies_of_a_memory_fail_alike() -> None:
    faults = fault_map(FaultyMemory(bit_error_rate=0.3, failed_cells="stuck"), words=7, bits=8, seed=(1,))
    assert torch.equal(faults.repeated(3).dense(), faults.dense().repeat(3))
    assert torch.equal(faults.repeated(3).dense_stuck_at(), faults.dense_stuck_at().repeat(3))  # type: ignore[union-attr,arg-type]


# ---- layers on a chip --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    """Networks that a test makes are the same whatever ran before it."""
    torch.manual_seed(0)


def inputs_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def two_layers(**config: object) -> nn.Module:
    layers = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 10))
    with torch.no_grad():
        for number, parameter in enumerate(layers.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    made = LayerApproximation(**config)  # type: ignore[arg-type]
    return approximate(layers, made, calibration_data=inputs_of(50, 30) - 0.3)


def weights_on(model: nn.Module, chip: int | None, memory: FaultyMemory | None = None) -> list[Tensor]:
    if memory is not None:
        set_memory(model, weights=memory)
    use_chip(model, chip)
    return [layer.read_codes().detach() for _, layer in approx_layers(model)]


@pytest.mark.parametrize(
    ("multiplier", "storage"), [("exact", "sign-magnitude"), ("asm-1-3", "sign-magnitude"), ("own", "twos-complement")]
)
def test_weights_are_stored_as_their_multiplier_takes_them(multiplier: str, storage: str) -> None:
    own = multiplier_from_function("own", lambda a, w: a * w, signed=True)
    layers = nn.Sequential(nn.Linear(30, 20))
    config = LayerApproximation(multiplier=multiplier, activation_bits=7)
    model = approximate(layers, config, calibration_data=inputs_of(50, 30), multipliers={"own": own})
    memory = FaultyMemory(bit_error_rate=0.1)
    (found,), (wanted,) = weights_on(model, 1, memory), weights_on(model, 1, replace(memory, storage=storage))
    other = next(one for one in STORAGES if one != storage)
    assert torch.equal(found, wanted)
    assert not torch.equal(found, weights_on(model, 1, replace(memory, storage=other))[0])


def test_products_that_are_not_known_are_refused_on_a_chip() -> None:
    layers, data = nn.Sequential(nn.Linear(30, 20)), inputs_of(50, 30)
    failing = FaultyMemory(bit_error_rate=0.1)
    momeni = approximate(layers, LayerApproximation(multiplier="momeni"), calibration_data=data)
    with pytest.raises(ArgumentError, match="'momeni' takes weights as sign and magnitude"):
        weights_on(momeni, 1, failing)
    for memory in (replace(failing, robust_bits=1), replace(failing, storage="twos-complement")):
        weights_on(momeni, 1, memory)
    for memory in (
        replace(failing, robust_bits=1, robust_bit_error_rate=0.1),
        replace(failing, storage="sign-magnitude"),
    ):
        with pytest.raises(ArgumentError, match="a failed sign would negate it"):
            weights_on(momeni, 1, memory)
    wide = approximate(layers, LayerApproximation(multiplier="asm-1", weight_bits=12), calibration_data=data)
    with pytest.raises(ArgumentError, match="is known up to 8 bits, not for 12-bit weights and 8-bit activations"):
        weights_on(wide, 1, failing)
    assert weights_on(wide, None)


@pytest.mark.parametrize("multiplier", ["asm-1", "asm-1-3"])
@pytest.mark.parametrize("chip", [None, 1])
def test_faulty_weights_are_multiplied_as_the_circuit_does(multiplier: str, chip: int | None) -> None:
    config = LayerApproximation(weight_bits=4, activation_bits=4, multiplier=multiplier)
    layers, data = nn.Sequential(nn.Linear(30, 20, bias=False)), inputs_of(50, 30)
    model = approximate(layers, config, calibration_data=data)
    (codes,) = weights_on(model, chip, FaultyMemory(bit_error_rate=0.2))
    ((_, layer),) = approx_layers(model)
    allowed = torch.equal(layer.multiplier.constrain(codes), codes)
    assert allowed == (chip is None)
    activations = (data / layer.activation_scale).round().clamp(0, 15).long()
    products = layer.multiplier.table()[activations[:, None, :], (codes.long() & 15)[None]]
    with torch.no_grad():
        assert torch.allclose(model(data), products.sum(-1) * layer.output_scale(), rtol=1e-6)


def test_a_chip_has_errors_of_its_own_and_without_one_there_are_none() -> None:
    memory = FaultyMemory(bit_error_rate=0.05)
    model, data = two_layers(weight_memory=memory, activation_memory=memory), inputs_of(8, 30)
    with torch.no_grad():
        perfect = model(data)
        seen = []
        for chip in (1, 2, 1):
            use_chip(model, chip)
            seen.append(model(data))
            assert torch.equal(model(data), seen[-1])
        assert torch.equal(seen[0], seen[2])
        assert not torch.equal(seen[0], seen[1])
        use_chip(model, None)
        assert torch.equal(model(data), perfect)
        use_chip(model, 1)
        set_memory(model, weights=memory, activations=memory)  # off its chip
        assert torch.equal(model(data), perfect)
    use_chip(model, 1)
    assert torch.equal(model(data), seen[0])  # with gradients
    with pytest.raises(ArgumentError, match="`chip_seed` must be at least 0, got -1"):
        use_chip(model, -1)


def test_what_fails_in_a_layer_depends_on_its_name_and_size_alone() -> None:
    memory = FaultyMemory(bit_error_rate=0.05, storage="twos-complement")
    small = nn.Sequential(nn.Linear(30, 20))
    alone = approximate(small, LayerApproximation(), calibration_data=inputs_of(9, 30))
    (one,), (first, second) = weights_on(alone, 3, memory), weights_on(two_layers(), 3, memory)
    stored_alone, stored = next(approx_layers(alone))[1].stored_codes(), weights_on(two_layers(), None)[0]
    assert torch.equal(one.int() ^ stored_alone.int(), first.int() ^ stored.int())
    model = two_layers()
    set_memory(model, weights=memory, robust_bits={"0": 8})
    assert torch.equal(weights_on(model, 3)[1], second)
    assert torch.equal(weights_on(model, 3)[0], stored)


def test_errors_of_weights_meet_the_rate_and_spare_robust_bits() -> None:
    model = two_layers()
    stored = weights_on(model, None)[0].int()
    memory = FaultyMemory(bit_error_rate=0.1, storage="twos-complement")
    share = failed((weights_on(model, 1, memory)[0].int() ^ stored).flatten() & 255)
    assert abs(share.double().mean() - 0.1) < 5 * sqrt(0.09 / share.numel())
    top = weights_on(model, 1, replace(memory, bit_error_rate=0.5, robust_bits=3))[0].int()
    assert ((top ^ stored) & 0b11100000 == 0).all()
    assert ((top ^ stored) & 0b00011111 != 0).any()


@pytest.mark.parametrize(
    "layer", [nn.Linear(6, 5), nn.Conv2d(6, 4, 3, groups=2), nn.ConvTranspose2d(6, 4, 3, groups=2)]
)
@pytest.mark.parametrize("transient", [0.0, 0.3])
def test_pruned_weights_never_fail(layer: nn.Module, transient: float) -> None:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    memory = FaultyMemory(bit_error_rate=0.7, storage="twos-complement", transient_rate=transient)
    data = inputs_of(2, 6, 6, 6)
    model = approximate(
        nn.Sequential(layer), LayerApproximation(weight_memory=memory), calibration_data=data, masks={"0": mask}
    )
    (made,) = (one for _, one in approx_layers(model))
    use_chip(model, 1)
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            assert made.mask.sum() == mask.sum()
            assert (made.read_codes()[~made.mask] == 0).all()
            assert (made.read_codes() != made.stored_codes()).any()
    made.mask[1:] = False  # pruned further on its chip
    with torch.no_grad():
        assert (made.read_codes()[~made.mask] == 0).all()
    made.mask.fill_(True)
    assert (made.read_codes() != made.stored_codes()).double().mean() > 0.9


@pytest.mark.parametrize("gradients", [True, False])
def test_transient_errors_differ_from_read_to_read_and_come_again_on_the_same_chip(gradients: bool) -> None:
    transient = FaultyMemory(bit_error_rate=0, storage="twos-complement", transient_rate=0.02)
    model, data = two_layers(), inputs_of(8, 30)
    with torch.set_grad_enabled(gradients):
        for weights, activations in ((transient, None), (None, transient)):
            set_memory(model, weights=weights, activations=activations)
            use_chip(model, 4)
            first, second = model(data), model(data)
            assert not torch.equal(first, second)
            use_chip(model, 4)
            assert torch.equal(model(data), first)
            assert torch.equal(model(data), second)
            use_chip(model, 5)
            assert not torch.equal(model(data), first)


def test_transient_errors_meet_their_rate_on_top_of_those_that_stay() -> None:
    model, both = two_layers(), FaultyMemory(bit_error_rate=0.1, storage="twos-complement", transient_rate=0.05)
    steady = weights_on(model, 1, replace(both, transient_rate=0.0))[0].int()
    read = weights_on(model, 1, both)[0].int()
    share = failed((read ^ steady).flatten() & 255).double()
    assert abs(share.mean() - 0.05) < 5 * sqrt(0.05 * 0.95 / share.numel())


# ---- activation memory: seen through layers that multiply by one -------------------------------------------------


def read_activations(memory: FaultyMemory, data: Tensor, *, chip: int | None = 1, bits: int = 8) -> Tensor:
    """Activation codes as they reach the multiplier: of features, or channels of images."""
    layer: nn.Linear | nn.Conv2d = nn.Linear(data.shape[-1], data.shape[-1], bias=False)
    if data.dim() == 4:
        layer = nn.Conv2d(data.shape[1], data.shape[1], 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(len(layer.weight)).reshape(layer.weight.shape))
    config = LayerApproximation(
        activation_bits=bits, activation_memory=memory, calibration="percentile", percentile=100
    )
    model = approximate(layer, config, calibration_data=data)
    use_chip(model, chip)
    with torch.no_grad():
        codes: Tensor = model(data) / next(approx_layers(model))[1].output_scale()[0] / 127
    return codes.round().int()


@pytest.mark.parametrize("shape", [(5, 40), (5, 7, 40), (5, 6, 4, 4)])
def test_activations_of_all_images_lie_in_the_same_cells(shape: tuple[int, ...]) -> None:
    memory, data = FaultyMemory(bit_error_rate=0.1), inputs_of(*shape)
    errors = read_activations(memory, data) ^ read_activations(memory, data, chip=None)
    assert (errors == errors[:1]).all()
    share = failed(errors[0].flatten()).double()
    assert abs(share.mean() - 0.1) < 5 * sqrt(0.09 / share.numel())


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_every_activation_code_can_be_misread_as_its_complement(bits: int, signed: bool, storage: str) -> None:
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    data = torch.arange(-high if signed else 0, high + 1).float()[None]
    codes = read_activations(FaultyMemory(bit_error_rate=1, storage=storage), data, bits=bits)[0].tolist()
    for value, code in zip(data[0].int().tolist(), codes, strict=True):
        word = [1 - bit for bit in stored_bits(value, bits, storage if signed else "unsigned")]
        assert code == value_of(word, signed, storage)
    if signed and storage == "twos-complement":
        assert min(codes) == -high - 1  # which quantisation does not give


def test_a_chip_without_failures_changes_no_activation() -> None:
    model, data = two_layers(), inputs_of(8, 30)
    with torch.no_grad():
        expected = model(data)
        set_memory(model, activations=FaultyMemory(bit_error_rate=0))
        use_chip(model, 1)
        assert torch.equal(model(data), expected)
        set_memory(model, activations=FaultyMemory(bit_error_rate=0.05))
        use_chip(model, 1)
        assert model(data[:0]).shape == (0, 10)
        assert torch.equal(model(data[0]), model(data[:1])[0])


def test_gradients_pass_straight_through_misread_activations() -> None:
    data = inputs_of(6, 30).requires_grad_()
    model = approximate(nn.Linear(30, 4), LayerApproximation(), calibration_data=data)
    (expected,) = torch.autograd.grad(model(data).sum(), data)
    set_memory(model, activations=FaultyMemory(bit_error_rate=0.2))
    use_chip(model, 1)
    (found,) = torch.autograd.grad(model(data).sum(), data)
    assert torch.allclose(found, expected, rtol=1e-5)
    model(data).sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
