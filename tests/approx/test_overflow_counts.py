import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from approx import (
    FaultyMemory,
    LabelledImages,
    LayerApproximation,
    OverflowCount,
    OverflowWarning,
    PartialSums,
    Schedule,
    accuracy,
    allocate_robust_bits,
    approx_layers,
    approximate,
    chip_accuracies,
    fit,
    overflows,
    reset_overflows,
)

NARROW = LayerApproximation(partial_sums=PartialSums(bits=14), weight_memory=FaultyMemory(bit_error_rate=1e-3))


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(40) % 3, 255)


def network(images: LabelledImages, config: LayerApproximation = NARROW) -> nn.Module:
    torch.manual_seed(0)
    floating = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    return approximate(floating, config, calibration_data=images.inputs(slice(0, 40)))


def test_every_forward_pass_counts_until_the_counts_are_reset(images: LabelledImages) -> None:
    model = network(images)
    assert overflows(model) == {"1": OverflowCount(), "3": OverflowCount()}  # calibration does not count
    inputs = images.inputs(slice(0, 10))
    model(inputs)
    once = overflows(model)
    assert {name: count.sums for name, count in once.items()} == {"1": 80, "3": 30}
    assert 0 < once["1"].overflowed <= 80
    model(inputs)
    assert overflows(model)["1"] == OverflowCount(160, 2 * once["1"].overflowed)
    assert once["1"].sums == 80  # what was returned stays
    reset_overflows(model)
    assert overflows(model) == {"1": OverflowCount(), "3": OverflowCount()}
    assert overflows(network(images, LayerApproximation())) == {}


def test_one_warning_names_layers_and_counts(images: LabelledImages) -> None:
    model = network(images)
    model(images.inputs(slice(0, 40)))  # what was counted before is not said again
    with pytest.warns(OverflowWarning) as told:
        accuracy(model, images, batch_size=7)
    count = overflows(model)["1"].overflowed // 2
    assert len(told) == 1
    assert str(told[0].message).startswith(f"sums overflowed the width of partial sums: {count} of 320 in '1', ")
    assert str(told[0].message).endswith("; see approx.overflows")
    assert told[0].filename == __file__
    with pytest.warns(OverflowWarning, match="of 960 in '1'") as told:
        chip_accuracies(model, images, [1, 2, 3])
    assert len(told) == 1
    assert told[0].filename == __file__
    with pytest.warns(OverflowWarning, match="of 320 in '1'") as told:
        allocate_robust_bits(model, images, FaultyMemory(bit_error_rate=0.01), chip_seeds=[1], max_drop=0.9)
    assert len(told) == 1


def test_training_and_sums_that_fit_do_not_warn(images: LabelledImages) -> None:
    schedule = Schedule(epochs=1, batch_size=20, learning_rate=1e-3, patience=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = network(images)
        fit(model, images, schedule, seed=0, validation=images)
        wide = network(images, replace(NARROW, partial_sums=PartialSums(bits=24)))
        accuracy(wide, images)
    assert overflows(model)["1"].overflowed > 0
    assert overflows(wide) == {"1": OverflowCount(320, 0), "3": OverflowCount(120, 0)}


def test_of_many_layers_the_worst_are_named(images: LabelledImages) -> None:
    torch.manual_seed(0)
    deep = nn.Sequential(nn.Flatten(), *(nn.Linear(16, 16) for _ in range(6)), nn.Linear(16, 3))
    model = approximate(
        deep, replace(NARROW, partial_sums=PartialSums(bits=12)), calibration_data=images.inputs(slice(0, 40))
    )
    with pytest.warns(
        OverflowWarning, match=r"(\d+ of \d+ in '\d', ){3}\d+ of 640 in '\d', and more in 3 other layers;"
    ):
        accuracy(model, images)
    assert len(list(approx_layers(model))) == 7
