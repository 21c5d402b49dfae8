"""What networks take, keep and return, in the forms that people give it: kept, or refused in a sentence."""

import types
import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.data import DataLoader, TensorDataset

import approx
from approx.custom_modules import import_custom_module
from approx.outputs import tensors_in
from approx.verification import signal_to_noise_db

EIGHT = approx.LayerApproximation(weight_bits=8, activation_bits=8)
IMAGES = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(20) % 5
PIXELS = approx.LabelledImages(torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8), LABELS, 255)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pruned_by_torch(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.5)  # type: ignore[no-untyped-call]


@dataclass
class Found:
    scores: Tensor
    features: Tensor


Pair = namedtuple("Pair", ["scores", "features"])


class Normed(nn.Module):
    """A convolution with a BatchNorm, and scores; subclasses say what becomes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.scores = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)
        assert self.norm.running_mean is not None
        self.norm.running_mean.normal_()
        self.eval()

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.first(images)
        return self.scores(self.norm(features).relu().mean((2, 3))), features

    def forward(self, images: Tensor) -> Any:
        return self.both(images)[0]


class InDataClass(Normed):
    def forward(self, images: Tensor) -> Any:
        return Found(*self.both(images))


class InNamespace(Normed):
    def forward(self, images: Tensor) -> Any:
        scores, features = self.both(images)
        return types.SimpleNamespace(scores=scores, loss=None, more=[{"features": features}])


class InNamedTuple(Normed):
    def forward(self, images: Tensor) -> Any:
        return Pair(*self.both(images))


class InState(Normed):
    def forward(self, images: Tensor) -> Any:
        scores, self.features = self.both(images)
        return scores


KEPT: dict[str, Tensor] = {}


def keep(module: nn.Module, given: object, output: Tensor) -> None:
    KEPT["features"] = output


class InHook(Normed):
    """A hook of the module around a layer keeps what that gives."""

    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Sequential(self.first)
        self.around.register_forward_hook(keep)

    def forward(self, images: Tensor) -> Any:
        return self.scores(self.norm(self.around(images)).relu().mean((2, 3)))


def tensors(network: nn.Module, *given: Tensor) -> list[Tensor]:
    with torch.no_grad():
        output = network(*given)
    return tensors_in([output, getattr(network, "features", None), KEPT.pop("features", None)])


@pytest.mark.parametrize("kind", [InDataClass, InNamespace, InNamedTuple, InState, InHook])
def test_features_that_are_kept_are_those_before_the_norm(kind: type[Normed]) -> None:
    network = kind()
    converted = approx.approximate(network, EIGHT, calibration_data=IMAGES)
    expected, found = tensors(network, IMAGES), tensors(converted, IMAGES)
    assert len(expected) == 2
    assert all(signal_to_noise_db(one, other) > 30 for one, other in zip(expected, found, strict=True))


def test_a_norm_is_folded_where_nothing_keeps_its_input() -> None:
    converted: Any = approx.approximate(Normed(), EIGHT, calibration_data=IMAGES)
    assert not isinstance(converted.norm, nn.BatchNorm2d)


@pytest.mark.parametrize("kind", [InDataClass, InNamespace, InNamedTuple])
def test_channels_that_are_returned_stay(kind: type[Normed]) -> None:
    with pytest.raises(approx.ArgumentError, match="removes no channel"):
        approx.prune_channels(kind(), 0.5, example_input=IMAGES)


@pytest.mark.parametrize(
    ("kind", "name"), [(InDataClass, "a .*Found"), (InNamespace, "a types.SimpleNamespace"), (InNamedTuple, "a .*Pair")]
)
def test_outputs_that_cannot_be_written_down_are_not_saved(kind: type[Normed], name: str, tmp_path: Path) -> None:
    converted = approx.approximate(kind(), EIGHT, calibration_data=IMAGES)
    with pytest.raises(approx.ArgumentError, match=f"the network returns {name} in its output, which cannot be saved"):
        approx.save(converted, tmp_path / "model", example_input=IMAGES)


def test_tensors_are_found_in_any_output() -> None:
    one, two, three, four = torch.zeros(4).unbind()
    itself: list[Any] = [three]
    itself.append(itself)
    output = OrderedDict(first=Found(one, two), none=None, text="x", all=(itself, {"a": four}), function=len)
    assert [id(tensor) for tensor in tensors_in(output)] == [id(tensor) for tensor in (one, two, three, four)]


RUNS: list[int] = []


class Drifts(Normed):
    """Gets darker with every run, by what is not copied with it."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.form = form

    def forward(self, images: Tensor) -> Any:
        RUNS.append(1)
        return self.form(super().forward(images - len(RUNS)))


@pytest.mark.parametrize(
    "form",
    [
        lambda scores: scores.argmax(-1),
        lambda scores: None,
        lambda scores: torch.fft.fft(scores),
        lambda scores: types.SimpleNamespace(scores=scores),
    ],
    ids=["classes", "nothing", "complex numbers", "an object"],
)
def test_no_form_of_output_hides_a_difference(form: Callable[[Tensor], Any]) -> None:
    with pytest.raises(approx.ConversionError, match="the output of layer 'first', the first to differ, has a signal"):
        approx.approximate(Drifts(form), EIGHT, calibration_data=IMAGES)


class Masks(Normed):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images).masked_fill(torch.tensor([False, True, False, False, True]), -torch.inf)


def test_scores_may_be_masked_by_infinity() -> None:
    network = Masks()
    converted = approx.approximate(network, EIGHT, calibration_data=IMAGES)
    (expected,), (found,) = tensors(network, IMAGES), tensors(converted, IMAGES)
    assert torch.equal(expected.isinf(), found.isinf())
    smaller: Any = approx.prune_channels(network, 0.5, example_input=IMAGES)
    assert smaller.first.out_channels == 4


class Remembers(Normed):
    """Returns a mean over its runs, in a buffer and in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(20, 5))
        self.runs = 0

    def forward(self, images: Tensor) -> Any:
        self.runs += 1
        self.mean = self.mean + super().forward(images) / 2
        return self.mean / self.runs


def test_conversion_leaves_the_state_of_a_network_as_it_was() -> None:
    network: Any = Remembers()
    network(IMAGES)
    before = network.mean.clone()
    converted: Any = approx.approximate(network, EIGHT, calibration_data=[IMAGES, IMAGES])
    assert torch.equal(network.mean, before)
    assert torch.equal(converted.mean, before)
    assert converted.runs == network.runs == 1
    for _ in range(3):
        (expected, *_), (found, *_) = tensors(network, IMAGES), tensors(converted, IMAGES)
        assert signal_to_noise_db(expected, found) > 30


class WritesInput(Normed):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images.sub_(0.5))


def test_inputs_stay_as_they_are() -> None:
    network, given = WritesInput(), IMAGES.clone()
    converted = approx.approximate(network, EIGHT, calibration_data=given)
    approx.correct_bias(converted, network, given)
    approx.trace(network, given)
    smaller: Any = approx.prune_channels(network, 0.5, example_input=given)
    assert torch.equal(given, IMAGES)
    assert smaller.first.out_channels == 4


@pytest.mark.slow
def test_a_network_that_changes_its_input_is_saved(tmp_path: Path) -> None:
    given = IMAGES.clone()
    converted = approx.approximate(WritesInput(), EIGHT, calibration_data=given)
    approx.save(converted, tmp_path / "model", example_input=given)
    assert torch.equal(given, IMAGES)
    loaded = approx.load(tmp_path / "model")
    assert torch.equal(tensors(converted, IMAGES.clone())[0], tensors(loaded, IMAGES.clone())[0])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend, self.scores = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Any:
        words = images.flatten(1, 2)
        return self.scores(self.attend(words, words, words)[0].mean(1))


def hooked(network: Attention) -> None:
    network.attend.register_forward_hook(lambda module, given, output: (output[0] * 3, output[1]))


def pruned_and_trained(network: Attention) -> None:
    prune.l1_unstructured(network.attend, "in_proj_weight", 0.5)  # type: ignore[no-untyped-call]
    weights: Any = network.attend
    weights.in_proj_weight_orig.data *= 2


def pruned_at_the_end(network: Attention) -> None:
    prune.l1_unstructured(network.attend.out_proj, "weight", 0.5)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("change", [hooked, pruned_and_trained, pruned_at_the_end])
def test_what_attention_has_besides_its_projections_stays(change: Callable[[Attention], None]) -> None:
    network = Attention().eval()
    change(network)
    converted = approx.approximate(network, EIGHT, calibration_data=IMAGES)
    assert len(list(approx.approx_layers(converted))) == 5
    (expected,), (found,) = tensors(network, IMAGES), tensors(converted, IMAGES)
    assert signal_to_noise_db(expected, found) > 30


class Padded(nn.Module):
    """torch's own encoder makes zeros of what is padded, but only by a kernel that multiplies weights itself."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)

    def forward(self, images: Tensor) -> Any:
        return self.encode(images.flatten(1, 2), src_key_padding_mask=torch.arange(24).expand(len(images), 24) > 10)


def test_a_network_that_becomes_another_before_its_layers_are_converted_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, of its kernel
        with pytest.raises(approx.ConversionError, match=r"its output, .* unless made with enable_nested_tensor=False"):
            approx.approximate(Padded().eval(), EIGHT, calibration_data=IMAGES)


class Fixed(nn.Module):
    """Takes batches of 20 only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(192, 5)

    def forward(self, images: Tensor) -> Any:
        return self.layer(images.reshape(20, 192))


class Graph(nn.Module):
    """Nodes, and how they are connected: no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)

    def forward(self, nodes: Tensor, edges: Tensor) -> Any:
        return edges @ self.layer(nodes)


@pytest.mark.parametrize(
    ("network", "given"), [(Fixed(), (IMAGES,)), (Graph(), (torch.randn(40, 12), torch.rand(40, 40)))]
)
def test_a_batch_may_be_needed_as_a_whole(network: nn.Module, given: tuple[Tensor, ...]) -> None:
    converted = approx.approximate(network, EIGHT, calibration_data=[given])
    (expected,), (found,) = tensors(network, *given), tensors(converted, *given)
    assert signal_to_noise_db(expected, found) > 30


class Pair2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.meta = nn.Linear(192, 5), nn.Linear(4, 5)

    def forward(self, image: Tensor, meta: Tensor) -> Any:
        return self.image(image.flatten(1)) + self.meta(meta)


META = torch.randn(20, 4, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("network", "data"),
    [
        (Normed(), DataLoader(TensorDataset(IMAGES, LABELS, torch.arange(20)), batch_size=8)),
        (Normed(), [(IMAGES, LABELS, torch.arange(20))]),
        (Pair2(), [((IMAGES, META), LABELS)]),
        (Pair2(), [[[IMAGES, META], LABELS]]),
        (Pair2(), [({"meta": META, "image": IMAGES}, LABELS)]),
        (Pair2(), {"meta": META, "image": IMAGES, "labels": LABELS}),
    ],
    ids=["indices", "a tuple with indices", "a pair and labels", "lists", "names and labels", "names of labels"],
)
def test_labels_and_the_like_are_left_out(network: nn.Module, data: Any) -> None:
    assert len(list(approx.approx_layers(approx.approximate(network, EIGHT, calibration_data=data)))) == 2


class OfMapping(Pair2):
    def forward(self, batch: dict[str, Tensor]) -> Any:  # type: ignore[override]
        return super().forward(**batch)


@pytest.mark.parametrize(
    ("network", "data", "words"),
    [
        (Normed(), IMAGES[:, :1], r"fails on an input of shape \(20, 1, 8, 8\), type torch.float32, on cpu: RuntimeE"),
        (
            Normed(),
            IMAGES.double(),
            r"the network fails on an input of shape \(20, 3, 8, 8\), type torch.float64, on cpu",
        ),
        (
            OfMapping(),
            {"image": IMAGES, "meta": META},
            "none of which is an argument of the network, whose arguments are",
        ),
        (
            OfMapping(),
            [{"image": IMAGES, "label": LABELS}],
            r"`calibration_data\[0\]` is a mapping of 'image', 'label'",
        ),
        (Normed(), TensorDataset(IMAGES), r"TensorDataset; of a data set take torch.utils.data.DataLoader\(data_set"),
        (Normed(), torch.zeros(4, 3, 8, 8), "`calibration_data` holds nothing but zeros"),
    ],
    ids=["channels", "double", "a mapping", "mappings", "a data set", "zeros"],
)
def test_other_data_is_refused(network: nn.Module, data: Any, words: str) -> None:
    with pytest.raises(approx.ArgumentError, match=words):
        approx.approximate(network, EIGHT, calibration_data=data)


class Multiplies(nn.Module):
    """Multiplies a weight outside a layer, in a way that subclasses change."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.own = nn.Linear(192, 16), nn.Parameter(torch.randn(5, 16))
        self.constant = torch.rand(5, 16).round()  # neither a parameter nor a buffer

    def weight(self) -> Tensor:
        return self.own * self.constant

    def forward(self, images: Tensor) -> Any:
        return F.linear(self.layer(images.flatten(1)), self.weight())


class WithMadeMask(Multiplies):
    def weight(self) -> Tensor:
        return self.own * torch.ones(5, 1).sub(0.5)


class WithMadeNoise(Multiplies):
    def weight(self) -> Tensor:
        return self.own + torch.randn(5, 16)


class Attends(Multiplies):
    """Learned queries."""

    def forward(self, images: Tensor) -> Any:
        keys = self.layer(images.flatten(1))[None, None]
        return F.scaled_dot_product_attention(self.own[None, None], keys, keys)


@pytest.mark.parametrize("kind", [Multiplies, WithMadeMask, WithMadeNoise, Attends])
def test_weights_are_found_behind_constants(kind: type[Multiplies]) -> None:
    with pytest.raises(approx.ConversionError, match="'own' is multiplied outside"):
        approx.approximate(kind(), EIGHT, calibration_data=IMAGES)


class FillsIn(Multiplies):
    """Activations are written into zeros, and weighted: their product with a constant is not one of weights."""

    def forward(self, images: Tensor) -> Any:
        hidden = torch.zeros(len(images), 16)
        hidden[:] = self.layer(images.flatten(1))
        return (hidden * self.own[0]) @ self.constant.T


class BiasOfAttention(Multiplies):
    """A learned mask is added, not multiplied."""

    def forward(self, images: Tensor) -> Any:
        hidden = self.layer(images.flatten(1))[:5, None]
        return F.scaled_dot_product_attention(hidden, hidden, hidden, attn_mask=self.own[:, None, :1])


@pytest.mark.parametrize("kind", [FillsIn, BiasOfAttention])
def test_activations_are_not_taken_for_weights(kind: type[Multiplies]) -> None:
    network = kind()
    converted = approx.approximate(network, EIGHT, calibration_data=IMAGES)
    (expected,), (found,) = tensors(network, IMAGES), tensors(converted, IMAGES)
    assert signal_to_noise_db(expected, found) > 30


def scripted() -> nn.Module:
    return nn.Sequential(torch.jit.trace(nn.Conv2d(3, 8, 3), IMAGES), nn.Flatten(), nn.Linear(288, 5))  # type: ignore[no-untyped-call]


def quantized() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 5))
    return torch.ao.quantization.quantize_dynamic(network, {nn.Linear})  # type: ignore[no-any-return, no-untyped-call]


class Autocast(Normed):
    def forward(self, images: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(images)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.turn, self.scores = nn.Linear(192, 8, dtype=torch.complex64), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Any:
        return self.scores(self.turn(images.flatten(1).to(torch.complex64)).abs())


KINDS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "TorchScript": (scripted, "module '0' of the network is TorchScript; give the torch.nn.Module it was made from"),
    "quantized": (quantized, "module '2' of the network was quantized by torch; give the network as it was before"),
    "no values": (lambda: Normed().to("meta"), "'first.weight' of the network has no values, as it is on the meta dev"),
    "converted": (
        lambda: approx.approximate(Normed(), EIGHT, calibration_data=IMAGES),
        r"`model` was converted by approximate\(\) already",
    ),
    "autocast": (Autocast, "layer 'scores': its input on the calibration data is torch.bfloat16"),
    "complex": (Complex, "'turn.weight' is multiplied outside"),
}


@pytest.mark.filterwarnings("ignore")  # torch's own, of what it will no longer make
@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_other_kinds_are_refused(kind: str) -> None:
    build, words = KINDS[kind]
    with pytest.raises(approx.ArgumentError, match=words):
        approx.approximate(build(), EIGHT, calibration_data=IMAGES)


def test_a_frozen_network_and_a_single_image_are_not_trained() -> None:
    schedule = approx.Schedule(epochs=1, batch_size=8, learning_rate=1e-3)
    with pytest.raises(
        approx.ArgumentError, match="cannot be trained: its output depends on no parameter that requires"
    ):
        approx.fit(Normed().requires_grad_(False), PIXELS, schedule, seed=0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, 5))
    with pytest.raises(
        approx.ArgumentError, match=r"cannot be trained on a single image .* a `batch_size` of at least 2"
    ):
        approx.fit(network, PIXELS.subset(torch.arange(1)), schedule, seed=0)


@pytest.mark.parametrize("way", [pruned_by_torch, parametrizations.weight_norm])
def test_weights_that_are_computed_do_not_escape_pruning(way: Callable[[nn.Module], object]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 5))
    way(network[1])
    found = approx.measured_sparsity(network)
    assert found.layers.keys() == {"1", "3"}
    assert found.layers["1"] == (0.5 if way is pruned_by_torch else 0)
    schedule = approx.Schedule(epochs=1, batch_size=8, learning_rate=1e-3)
    with pytest.raises(approx.ArgumentError, match="layer '1' computes its weight from other parameters"):
        approx.prune_and_retrain(network, PIXELS, schedule, sparsity=0.5, seed=0)
    masks = {"1": torch.ones(8, 192, dtype=torch.bool)}
    with pytest.raises(
        approx.ArgumentError, match=r"`masks` names '1', but the layers whose weights are plain .* are 3"
    ):
        approx.fit(network, PIXELS, schedule, seed=0, masks=masks)


class Shuffles(nn.Module):
    """Channels change places between groups, as in ShuffleNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.groups = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=2)
        self.hidden, self.scores = nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Any:
        left, right = self.first(images).chunk(2, 1)
        both = torch.cat([left, right.relu()], 1)
        mixed = self.groups(both.view(-1, 2, 4, 8, 8).transpose(1, 2).reshape(-1, 8, 8, 8))
        return self.scores(self.hidden(mixed).relu().mean((2, 3)))


def in_circles() -> nn.Module:
    layers = [nn.Conv1d(24, 8, 3, padding=1, padding_mode="circular"), nn.Conv1d(8, 8, 3, padding=2), nn.ReLU()]
    return nn.Sequential(nn.Flatten(1, 2), *layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 5))


def windows() -> nn.Module:
    """A Swin Transformer, of which torch-pruning's own search takes gigabytes."""
    network: nn.Module = import_custom_module("torchvision.models").SwinTransformer(
        [2, 2], 8, [1, 1], [1, 2], [2, 2], num_classes=5
    )
    return network


@pytest.mark.parametrize("build", [Shuffles, in_circles, pytest.param(windows, marks=pytest.mark.slow)])
def test_channels_are_cut_where_their_numbers_are_hard_to_follow(build: Callable[[], nn.Module]) -> None:
    """And the smaller network still is what the whole one is without them: those that go are dead."""
    network = build().eval()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d) and len(layer.weight) > 5:
                layer.weight[::2] = 0
                if layer.bias is not None:  # large where it is not dead, whatever reads it
                    layer.bias.copy_(torch.tensor([0.0, 5.0]).repeat(len(layer.bias) // 2))
    smaller = approx.prune_channels(network, 0.5, example_input=IMAGES[:2])
    sizes = [sum(one.numel() for one in model.parameters()) for model in (network, smaller)]
    assert sizes[1] < sizes[0]
    torch.testing.assert_close(*(tensors(model, IMAGES)[0] for model in (smaller, network)), rtol=1e-4, atol=1e-5)


def test_classes_alone_do_not_tell_which_channels_may_go() -> None:
    with pytest.raises(approx.ArgumentError, match="returns no tensor that is computed from its weights by different"):
        approx.prune_channels(Drifts(lambda scores: scores.argmax(-1)), 0.5, example_input=IMAGES)
