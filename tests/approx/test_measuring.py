from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from approx import (
    ApproxLayer,
    Architecture,
    FaultyMemory,
    LabelledImages,
    LayerApproximation,
    NetworkApproximation,
    Schedule,
    accuracy,
    allocate_robust_bits,
    approx_layers,
    approximate,
    build_network,
    chip_accuracies,
    chip_predictions,
    fit,
    predictions,
    set_memory,
    use_chip,
)
from approx.errors import ArgumentError


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    from sklearn.datasets import load_digits

    found = load_digits()
    return LabelledImages(torch.tensor(found.images).to(torch.uint8)[:, None], torch.tensor(found.target), 16)


@pytest.fixture(scope="module")
def trained(digits: LabelledImages) -> nn.Module:
    architecture = Architecture(family="mlp", depth=1, width=3)
    model = build_network(architecture, image_shape=(1, 8, 8), classes=10, seed=0)
    fit(model, digits, Schedule(epochs=15, batch_size=64, learning_rate=3e-3), seed=0)
    return model


def converted(model: nn.Module, images: LabelledImages, **options: Any) -> nn.Module:
    return approximate(model, LayerApproximation(**options), calibration_data=images.inputs(slice(0, 200)))


class Single(nn.Module):
    """Converts what it gets to single precision."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float()


class Table(nn.Module):
    """Gives the outputs in the row that the only value of an image names."""

    def __init__(self, outputs: list[list[float]]) -> None:
        super().__init__()
        self.outputs = torch.tensor(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.outputs[inputs.flatten().round().to(torch.int64)]


def numbered(labels: list[int]) -> LabelledImages:
    """Image i has the value i."""
    pixels = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None]
    return LabelledImages(pixels, torch.tensor(labels), 1)


def test_the_largest_output_is_the_class_and_accuracy_the_share_that_is_right() -> None:
    model = Table([[0.1, 0.7, 0.2], [3, 2, 1], [-2, -3, -1], [0, 1, 0], [5, 4, 5.5]])
    images = numbered([1, 0, 0, 1, 1])
    model.train()
    for batch_size in (1, 2, 5, 100):
        found = predictions(model, images, batch_size=batch_size)
        assert found.dtype == torch.int64
        assert found.tolist() == [1, 0, 2, 1, 2]
        assert accuracy(model, images, batch_size=batch_size) == 3 / 5
    assert not model.training


@pytest.mark.parametrize(
    ("side", "batches"), [(45, [1000, 1000, 500]), (100, [419, 419, 419, 419, 419, 405]), (2100, [1, 1, 1])]
)
def test_a_forward_pass_has_fewer_images_if_they_are_large(side: int, batches: list[int]) -> None:
    """Four million values at most."""
    count = sum(batches)
    pixels, rows = torch.zeros(1, 1, side, side, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    seen: list[int] = []

    class First(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(len(inputs))
            return inputs[:, 0, :2, 0]

    predictions(First(), LabelledImages(pixels, rows, 1, rows=rows))
    assert seen == batches
    assert max(seen) == 1 or max(seen) * side**2 <= 2**22


def test_nothing_follows_from_the_labels() -> None:
    model = Table([[0, 1], [1, 0]])
    assert torch.equal(predictions(model, numbered([0, 0])), predictions(model, numbered([1, 0])))


@pytest.mark.parametrize("batch_size", [1, 7, 2000])
def test_a_loader_gives_the_accuracy_of_its_images(trained: nn.Module, digits: LabelledImages, batch_size: int) -> None:
    dataset = TensorDataset(digits.inputs(slice(0, len(digits))), digits.labels)
    expected = accuracy(trained, digits)
    assert 0.9 < expected < 1
    assert accuracy(trained, DataLoader(dataset, batch_size=batch_size, shuffle=batch_size == 7)) == expected
    inputs, labels = dataset.tensors

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        yield inputs[:1000], labels[:1000].to(torch.uint8)
        yield inputs[1000:], labels[1000:]

    assert accuracy(trained, batches()) == expected


@pytest.mark.parametrize(
    ("dtype", "how"), [(torch.uint8, r"inputs\.float\(\) / 255"), (torch.float64, r"inputs\.to\(torch\.float32\)")]
)
def test_batches_of_another_type_than_the_weights_say_how_to_convert_them(dtype: torch.dtype, how: str) -> None:
    model, labels = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(3, dtype=torch.int64)
    images = torch.ones(3, 1, 2, 2)
    batches = DataLoader(TensorDataset(images.to(dtype), labels), batch_size=2)
    for one in (model, approximate(model, LayerApproximation(), calibration_data=images)):
        with pytest.raises(
            ArgumentError, match=rf"the inputs in batch 0 of `images` are {dtype}, and .*, such as by {how}$"
        ):
            accuracy(one, batches)
    assert accuracy(nn.Sequential(Single(), *model), batches) == accuracy(model, [(images, labels)])  # converts itself
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        accuracy(model, [(torch.ones(3, 5), labels)])


PAIR = (torch.zeros(2, 1, 1, 1), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        ([], "`images` has no image, so there is no accuracy; an iterator can be used only once"),
        ([(PAIR[0][:0], PAIR[1][:0])], "`images` has no image"),
        (numbered([0]).subset(torch.tensor([], dtype=torch.int64)), "`images` has no image"),
        (PAIR, r"batch 0 of `images` must be a pair of tensors, .* got a torch.Tensor; .* pass \[\(inputs, labels\)\]"),
        ([PAIR, (*PAIR, 3)], "batch 1 of `images` must be a pair of tensors, .* got a tuple of 3"),
        ([{"image": PAIR[0]}], "batch 0 of `images` must be a pair of tensors, .* got a dict;"),
        ([(PAIR[0], [0, 1])], "batch 0 of `images` must be a pair of tensors, .* got a pair with a list"),
        ([PAIR, (PAIR[0], torch.zeros(2, 3))], r"classes in batch 1 .* must have shape \(n,\) .* got \(2, 3\) for"),
        ([(PAIR[0], PAIR[1][:1])], r"classes in batch 0 .* got \(1,\) for inputs of shape \(2, 1, 1, 1\)"),
        ([(PAIR[0], torch.zeros(2))], "classes in batch 0 of `images` must be whole numbers, got torch.float32"),
        (PAIR[0], "`images` must be an approx.LabelledImages, a DataLoader or another iterable of .* got a torch.Ten"),
        (TensorDataset(*PAIR), "got a torch.utils.data.dataset.TensorDataset; wrap it in a torch.utils.data.DataLoa"),
        (None, "`images` must be an approx.LabelledImages, a DataLoader or .* got None"),
    ],
)
def test_what_has_no_accuracy_is_refused(images: Any, complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        accuracy(Table([[0, 1]]), images)


@pytest.mark.parametrize(
    ("outputs", "given"), [([0.0, 1.0], r"shape \(2,\)"), ([[[0.0]], [[1.0]]], r"shape \(2, 1, 1\)")]
)
def test_outputs_that_are_no_row_for_each_image_are_refused(outputs: Any, given: str) -> None:
    wanted = rf"`model` must give .* shape \(2, classes\), but for inputs of shape \(2, 1, 1, 1\) it gave {given}"
    for measure in (accuracy, predictions):
        with pytest.raises(ArgumentError, match=wanted):
            measure(Table(outputs), numbered([0, 1]))


def test_batches_of_no_image_are_refused() -> None:
    images = numbered([0])
    for measure in (accuracy, predictions):
        with pytest.raises(ArgumentError, match="`batch_size` must be at least 1, got 0"):
            measure(Table([[0, 1]]), images, batch_size=0)
    for on_chips in (chip_accuracies, chip_predictions):
        with pytest.raises(ArgumentError, match="`batch_size` must be at least 1, got -1"):
            on_chips(Table([[0, 1]]), images, [1], batch_size=-1)


# ---- on chips ----------------------------------------------------------------------------------------------------


def test_predictions_on_chips_are_those_on_each(trained: nn.Module, digits: LabelledImages) -> None:
    model = converted(trained, digits, weight_memory=FaultyMemory(bit_error_rate=0.1))
    perfect = predictions(model, digits)
    found = chip_predictions(model, digits, (3, 4, 3), batch_size=700)
    assert found.dtype == torch.int64
    assert found.shape == (3, len(digits))
    assert torch.equal(found[0], found[2])
    assert torch.equal(predictions(model, digits), perfect)
    use_chip(model, 4)
    assert torch.equal(predictions(model, digits), found[1])
    assert len({tuple(row.tolist()) for row in (*found, perfect)}) == 3
    shares = tuple(fmean((row == digits.labels).tolist()) for row in found)
    assert chip_accuracies(model, digits, (3, 4, 3)) == pytest.approx(shares, abs=1e-12)


def test_accuracy_on_chips_is_that_on_each(trained: nn.Module, digits: LabelledImages) -> None:
    model = converted(trained, digits, weight_memory=FaultyMemory(bit_error_rate=0.1))
    perfect = accuracy(model, digits)
    found = chip_accuracies(model, digits, (3, 4, 3), batch_size=700)
    assert found[0] == found[2] != found[1]
    assert accuracy(model, digits) == perfect
    use_chip(model, 4)
    assert accuracy(model, digits) == found[1]


def test_weights_are_quantised_once_for_all_chips(
    trained: nn.Module, digits: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = converted(trained, digits, weight_memory=FaultyMemory(bit_error_rate=0.1))
    ran, quantised, usual = [], [], ApproxLayer.stored_codes

    def counted(layer: ApproxLayer) -> Tensor:
        quantised.append(layer)
        return usual(layer)

    monkeypatch.setattr(ApproxLayer, "stored_codes", counted)
    model.register_forward_hook(lambda *_: ran.append(1))
    chip_accuracies(model, digits, range(10), batch_size=len(digits))
    assert len(ran) == 10
    assert len(quantised) == len(list(approx_layers(model)))


def test_robust_bits_are_the_fewest_that_keep_the_accuracy(trained: nn.Module, digits: LabelledImages) -> None:
    model = converted(trained, digits)
    memory, chips, drop = FaultyMemory(bit_error_rate=0.05, robust_bits=1), (1, 2), 0.01
    found = allocate_robust_bits(model, digits, memory, chip_seeds=chips, max_drop=drop)
    assert found.keys() == dict(approx_layers(model)).keys()
    assert all(layer.weight_memory is None for _, layer in approx_layers(model))
    perfect = accuracy(model, digits)

    def lost(name: str, bits: int) -> float:
        """By faults in one layer alone."""
        set_memory(model, weights=FaultyMemory(bit_error_rate=0))
        dict(approx_layers(model))[name].weight_memory = replace(memory, robust_bits=bits)
        return perfect - fmean(chip_accuracies(model, digits, chips))

    assert max(found.values()) > 1
    for name, bits in found.items():
        assert lost(name, bits) <= drop
        assert bits == 1 or lost(name, bits - 1) > drop


def test_layers_narrower_than_the_fewest_robust_bits_are_robust_altogether(
    trained: nn.Module, digits: LabelledImages
) -> None:
    network = NetworkApproximation(
        default=LayerApproximation(), overrides={"1": LayerApproximation(weight_bits=3, activation_bits=8)}
    )
    model = approximate(trained, network, calibration_data=digits.inputs(slice(0, 200)))
    memory = FaultyMemory(bit_error_rate=0.3, robust_bits=5)
    found = allocate_robust_bits(model, digits, memory, chip_seeds=(1,), max_drop=1.0)
    assert found == {"1": 3, "3": 5}
