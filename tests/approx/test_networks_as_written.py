"""Networks as people write them: what surrounds the products of layers stays, or they are refused in a sentence."""

import math
import types
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.utils.data import DataLoader, TensorDataset

import approx
from approx.verification import signal_to_noise_db

EIGHT = approx.LayerApproximation(weight_bits=8, activation_bits=8)
SIGNED = replace(EIGHT, activation_signed=True)
IMAGES = torch.randn(16, 3, 12, 12, generator=torch.Generator().manual_seed(1))
VALUES = 3 * 12 * 12


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


class Flat(nn.Module):
    """A linear layer on all pixels, in a forward pass that subclasses change."""

    layer: Any

    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(VALUES, 5) if layer is None else layer

    def forward(self, images: Tensor) -> Any:
        return self.layer(images.flatten(1))


def hooked(place: int, hook: Callable[..., Any], **options: Any) -> nn.Module:
    network = convolutional()
    network[place].register_forward_hook(hook, **options)
    return network


def before(place: int, hook: Callable[..., Any]) -> nn.Module:
    network = convolutional()
    network[place].register_forward_pre_hook(hook)
    return network


class ReadsSizes(Flat):
    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layer(images.reshape(-1, self.layer.in_features))
        return found


class ReadsWeight(Flat):
    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layer(images.flatten(1)) / self.layer.weight.norm()
        return found


class ReadsAttribute(Flat):
    def __init__(self) -> None:
        super().__init__()
        self.layer.gain = 3.0
        self.layer.register_buffer("shift", torch.arange(5.0))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layer(images.flatten(1)) * self.layer.gain + self.layer.shift
        return found


class Twice(nn.Module):
    """Two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(VALUES, VALUES), nn.Linear(VALUES, VALUES)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.second(self.first(images.flatten(1)).relu())
        return found


class KeepsState(Flat):
    def forward(self, images: Tensor) -> Any:
        self.kept = {"all": [self.layer(images.flatten(1))]}
        return self.kept["all"][0]


def with_state() -> nn.Module:
    network = KeepsState()
    network(IMAGES)  # with gradients, so that what it keeps is no leaf
    return network


class AlwaysDrops(Flat):
    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layer(F.dropout(images.flatten(1), 0.5))
        return found


class SpareHead(Flat):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(VALUES, 5)
        self.early = False

    def forward(self, images: Tensor) -> Any:
        flat = images.flatten(1)
        if self.training:
            return self.layer(flat), self.spare(flat)
        return self.spare(flat) if self.early else self.layer(flat)


class Several(Flat):
    def forward(self, images: Tensor) -> Any:
        found = self.layer(images.flatten(1))
        return {"logits": found, "more": (found * 2, [found + 1])}


def pruned_by_torch() -> Any:
    network: Any = convolutional()
    prune.l1_unstructured(network[0], "weight", amount=0.5)  # type: ignore[no-untyped-call]
    prune.ln_structured(network[5], "weight", amount=0.25, n=2, dim=1)  # type: ignore[no-untyped-call]
    return network


def old(normalise: Callable[..., nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        network = convolutional()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            normalise(network[0])
        return network

    return build


def of_new_norm() -> nn.Module:
    network = convolutional()
    parametrizations.weight_norm(network[0])
    return network


def one_dimensional() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(2),
        nn.Conv1d(3, 8, 5, stride=2, padding=2, dilation=2),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Conv1d(8, 8, 4, padding="same", padding_mode="circular", groups=2),
        nn.ReLU(),
        nn.Conv1d(8, 8, 4, padding="same", bias=False),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


KEPT: dict[str, Callable[[], nn.Module]] = {
    "a hook that scales": lambda: hooked(0, lambda layer, given, output: output * 0.5),
    "a hook that ends the network": lambda: hooked(5, lambda layer, given, output: output.softmax(-1)),
    "a hook of names": lambda: hooked(5, lambda layer, given, named, output: output * 2, with_kwargs=True),
    "a hook before a layer": lambda: before(0, lambda layer, given: (given[0].abs(),)),
    "a hook of a norm": lambda: hooked(1, lambda layer, given, output: output + 1),
    "sizes that are read": ReadsSizes,
    "a weight that is read": ReadsWeight,
    "attributes of a layer": ReadsAttribute,
    "a shared weight": Twice,
    "state that forward leaves": with_state,
    "a dropout that is always on": AlwaysDrops,
    "a head for training": SpareHead,
    "several outputs": Several,
    "torch's pruning": pruned_by_torch,
    "the older weight_norm": old(weight_norm),
    "the older spectral_norm": old(spectral_norm),
    "a parametrization": of_new_norm,
    "Conv1d": one_dimensional,
}


def first_tensor(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else first_tensor(next(iter(output.values())))


def run(network: nn.Module) -> Tensor:
    torch.manual_seed(7)
    with torch.no_grad():
        return first_tensor(network(IMAGES))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("kind", KEPT)
def test_what_surrounds_the_products_stays(kind: str) -> None:
    network = KEPT[kind]().eval()
    expected = run(network)
    converted = approx.approximate(network, EIGHT, calibration_data=IMAGES)
    assert all(isinstance(layer, approx.ApproxLayer) for _, layer in approx.approx_layers(converted))
    assert 33 < signal_to_noise_db(expected, run(converted)) < 70, "that of 8 bits"
    assert torch.equal(run(network), expected), "the network itself is not changed"


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("kind", KEPT)
def test_few_bits_keep_it_too(kind: str) -> None:
    """The check in floating point does not depend on bits."""
    network = KEPT[kind]().eval()
    config = replace(EIGHT, weight_bits=3, activation_bits=3, multiplier="mitchell")
    converted = approx.approximate(network, config, calibration_data=IMAGES)
    assert run(converted).shape == run(network).shape


class Doubles(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


class HasTimes(nn.Linear):
    def times(self, given: Tensor) -> Tensor:
        found: Tensor = self(given)
        return found * 2


class CallsTimes(Flat):
    def forward(self, images: Tensor) -> Any:
        return self.layer.times(images.flatten(1))


RUNS: list[int] = []


class Counts(Flat):
    """Adds to every other output, by what is in no network and so is not copied with it."""

    def forward(self, images: Tensor) -> Any:
        RUNS.append(1)
        return self.layer(images.flatten(1)) + 100 * (len(RUNS) % 2)


class InList(Flat):
    def __init__(self) -> None:
        super().__init__(nn.Linear(5, 5))
        self.hidden = [nn.Linear(VALUES, 5)]

    def forward(self, images: Tensor) -> Any:
        return self.layer(self.hidden[0](images.flatten(1)))


class FarColumn(Flat):
    """One column is a million times as large as all others, and does not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer.weight.data[:, 0] = 0

    def forward(self, images: Tensor) -> Any:
        flat = images.flatten(1)
        return self.layer(torch.cat([1e6 * flat[:, :1], flat[:, 1:]], 1))


def patched() -> nn.Module:
    network = Flat()
    network.layer.forward = types.MethodType(lambda layer, given: F.linear(given, layer.weight) * 3, network.layer)
    return network


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a forward of its own": (lambda: Flat(Doubles(VALUES, 5)), "'layer.weight' is multiplied outside"),
    "a patched forward": (patched, "'layer.weight' is multiplied outside"),
    "a method of its own": (lambda: CallsTimes(HasTimes(VALUES, 5)), "no attribute 'times'"),
    "an output that depends on earlier ones": (Counts, "its output, but of no layer, has a signal-to-noise ratio of"),
    "layers in a list": (InList, r"a parameter of shape \(5, 432\) is multiplied that belongs to no module"),
    "a far column": (FarColumn, "codes of 8 bits do not hold what layer 'layer' computes: its output has a signal"),
    "double precision": (lambda: convolutional().double(), "must compute in float32, but its parameter '0.weight' is"),
    "a lazy layer": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), "'1.weight' of the network has no shape"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_lost_is_refused(kind: str) -> None:
    build, words = REFUSED[kind]
    with pytest.raises(approx.ArgumentError, match=words):
        approx.approximate(build(), EIGHT, calibration_data=IMAGES)


def test_a_layer_that_calibration_did_not_reach_does_not_run_unnoticed() -> None:
    converted: Any = approx.approximate(SpareHead(), EIGHT, calibration_data=IMAGES)
    assert [name for name, _ in approx.approx_layers(converted)] == ["layer"]
    assert isinstance(converted.spare, nn.Linear)
    scores, spare = converted.train()(IMAGES)
    assert scores.shape == spare.shape
    converted.eval().early = True
    with pytest.raises(approx.ArgumentError, match="layer 'spare' did not run on the calibration data"):
        converted(IMAGES)


def test_weights_that_torch_pruned_stay_pruned() -> None:
    network = pruned_by_torch()
    masks = (network[0].weight_mask.bool(), network[5].weight_mask.bool())
    converted = approx.approximate(network, EIGHT, calibration_data=IMAGES)
    layers = [layer for _, layer in approx.approx_layers(converted)]
    assert all(torch.equal(layer.mask, mask) for layer, mask in zip(layers, masks, strict=True))
    images = approx.LabelledImages(torch.randint(0, 256, (40, 3, 12, 12), dtype=torch.uint8), torch.arange(40) % 5, 255)
    approx.fit(converted, images, approx.Schedule(epochs=2, batch_size=20, learning_rate=1e-2), seed=0)
    assert all(bool((layer.stored_codes()[~mask] == 0).all()) for layer, mask in zip(layers, masks, strict=True))
    assert prune.is_pruned(network)


class Two(nn.Module):
    """An image, and values that belong to it."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.meta, self.out = nn.Conv2d(3, 8, 3), nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, image: Tensor, meta: Tensor) -> Any:
        return self.out(self.image(image).mean((2, 3)) + self.meta(meta))


META = torch.randn(16, 4, generator=torch.Generator().manual_seed(2))
LABELS = torch.arange(16) % 3


@pytest.mark.parametrize(
    "data",
    [
        (IMAGES, META),
        {"image": IMAGES, "meta": META},
        [(IMAGES, META), (IMAGES[:2], META[:2])],
        [{"meta": META, "image": IMAGES}],
        [(IMAGES, META, LABELS)],
        [{"meta": META, "image": IMAGES, "labels": LABELS}],
        DataLoader(TensorDataset(IMAGES, META, LABELS), batch_size=8),
        DataLoader(TensorDataset(IMAGES, META), batch_size=16),
    ],
    ids=["tuple", "mapping", "tuples", "mappings", "with labels", "names and labels", "a loader", "without labels"],
)
def test_several_inputs(data: Any) -> None:
    network = Two().eval()
    converted = approx.approximate(network, EIGHT, calibration_data=data)
    assert len(list(approx.approx_layers(converted))) == 3
    with torch.no_grad():
        assert signal_to_noise_db(network(IMAGES, META), converted(IMAGES, META)) > 33
    for inputs in ((IMAGES, META), {"image": IMAGES, "meta": META}):
        shapes = approx.trace(network, inputs)
        assert {one.name: one.input_values for one in shapes} == {"image": 432, "meta": 4, "out": 8}
        assert approx.layer_order(converted, inputs) == ["image", "meta", "out"]


class Masked(nn.Module):
    """Its second input may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(VALUES, 5)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Any:
        return self.layer(images.flatten(1) if mask is None else images.flatten(1) * mask)


def test_a_list_ends_with_labels_and_a_tuple_is_arguments() -> None:
    seen = []

    def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(bool((given[0] == 0).any()))

    network = Masked()
    network.layer.register_forward_pre_hook(note)
    mask = torch.zeros(16, VALUES)
    mask[:, 1:] = 1
    approx.approximate(network, EIGHT, calibration_data=[[IMAGES, mask]])
    assert not any(seen)
    seen.clear()
    approx.approximate(network, EIGHT, calibration_data=[(IMAGES, mask)])
    assert all(seen)


def test_of_a_loader_no_more_is_taken_than_calibration_needs() -> None:
    class Endless:
        def __len__(self) -> int:
            return 10**9

        def __getitem__(self, place: int) -> tuple[Tensor, int]:
            assert place < 2000
            return IMAGES[place % 16], 0

    converted = approx.approximate(Flat(), EIGHT, calibration_data=DataLoader(Endless(), batch_size=128))  # type: ignore[arg-type]
    assert len(list(approx.approx_layers(converted))) == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (IMAGES.numpy(), "got a numpy.ndarray; convert it with torch.from_numpy"),
        ([IMAGES.numpy()], r"`calibration_data\[0\]` must be .* got a numpy.ndarray"),
        ([IMAGES, "image"], r"`calibration_data\[1\]` must be .* got 'image'"),
        (
            approx.LabelledImages(torch.zeros(2, 3, 12, 12, dtype=torch.uint8), torch.zeros(2).long(), 255),
            "take `images.in",
        ),
        (None, "`calibration_data` must be network inputs, .* got None"),
        ([], "`calibration_data` has no batch"),
        ({}, "`calibration_data` must be a torch.Tensor"),
    ],
    ids=["an array", "arrays", "text", "labelled images", "nothing", "no batch", "no names"],
)
def test_other_calibration_data_gets_a_sentence(data: Any, words: str) -> None:
    with pytest.raises(approx.ArgumentError, match=words):
        approx.approximate(Flat(), EIGHT, calibration_data=data)


def test_a_convolution_of_one_dimension_is_one_of_two_with_one_row() -> None:
    given = nn.Conv1d(6, 4, 5, stride=2, padding=3, dilation=2, groups=2)
    wide = nn.Conv2d(6, 4, (1, 5), stride=(1, 2), padding=(0, 3), dilation=(1, 2), groups=2)
    wide.load_state_dict({"weight": given.weight[:, :, None], "bias": given.bias})
    values = torch.randn(7, 6, 33)
    config = approx.LayerApproximation(weight_bits=5, activation_bits=4, multiplier="drum-4")
    ((_, narrow_layer),) = approx.approx_layers(
        approx.approximate(nn.Sequential(given), config, calibration_data=values)
    )
    ((_, wide_layer),) = approx.approx_layers(
        approx.approximate(nn.Sequential(wide), config, calibration_data=values[:, :, None])
    )
    with torch.no_grad():
        assert torch.equal(narrow_layer(values), wide_layer(values[:, :, None])[:, :, 0])
        assert torch.equal(narrow_layer(values[0]), narrow_layer(values)[0]), "without a batch"
    (shape,) = approx.trace(nn.Sequential(given), values)
    (same,) = approx.trace(nn.Sequential(wide), values[:, :, None])
    assert shape == same


@pytest.mark.parametrize("count", [1, 2, 64, 65, 128, 129, 130])
def test_no_batch_is_of_a_single_image(count: int) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 2)
    )
    sizes = []
    network[0].register_forward_pre_hook(lambda layer, given: sizes.append(len(given[0])))
    images = approx.LabelledImages(
        torch.randint(0, 17, (count, 1, 8, 8), dtype=torch.uint8), torch.arange(count) % 2, 16
    )
    schedule = approx.Schedule(epochs=2, batch_size=64, learning_rate=1e-3)
    if count == 1:  # there is nothing that it could join
        with pytest.raises(ValueError, match="more than 1 value"):
            approx.fit(network, images, schedule, seed=0)
        return
    approx.fit(network, images, schedule, seed=0)
    assert sum(sizes) == 2 * count
    assert min(sizes) > 1
    assert max(sizes) <= 65


class Heads(Flat):
    """Returns its scores in a form that depends on what it was made with."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.form = form

    def forward(self, images: Tensor) -> Any:
        return self.form(super().forward(images))


@pytest.mark.parametrize(
    "form",
    [
        lambda scores: (scores, -scores),
        lambda scores: [scores],
        lambda scores: {"loss": scores.sum(), "logits": scores},
        lambda scores: {"out": scores, "aux": -scores},
        lambda scores: {"any": scores},
    ],
)
def test_scores_are_found_among_other_outputs(form: Callable[[Tensor], Any]) -> None:
    images = approx.LabelledImages(torch.randint(0, 256, (50, 3, 12, 12), dtype=torch.uint8), torch.arange(50) % 5, 255)
    network = Heads(form)
    plain = Flat(network.layer)
    assert torch.equal(approx.predictions(network, images), approx.predictions(plain, images))
    before = approx.accuracy(plain, images)
    approx.fit(network, images, approx.Schedule(epochs=20, batch_size=25, learning_rate=1e-2), seed=0)
    assert approx.accuracy(network, images) > before + 0.3


def test_outputs_without_scores_get_a_sentence() -> None:
    images = approx.LabelledImages(torch.zeros(2, 3, 12, 12, dtype=torch.uint8), torch.zeros(2).long(), 255)
    for form, words in (
        (
            lambda scores: {"a": scores, "b": scores},
            "a mapping of 'a', 'b'; its scores of classes must be one of logits",
        ),
        (lambda scores: "none", "must return a tensor of scores, got 'none'"),
    ):
        with pytest.raises(approx.ArgumentError, match=words):
            approx.accuracy(Heads(form), images)


def test_signal_to_noise() -> None:
    signal = torch.tensor([3.0, 4.0])
    assert signal_to_noise_db(signal, signal + torch.tensor([0.3, 0.4])) == pytest.approx(20, abs=1e-5)
    assert signal_to_noise_db(signal, signal) == math.inf
    assert signal_to_noise_db(torch.zeros(2), signal) == -math.inf
    assert signal_to_noise_db(signal, signal * math.nan) == -math.inf
    with pytest.raises(approx.ArgumentError, match="must have the shape"):
        signal_to_noise_db(signal, signal[:1])
