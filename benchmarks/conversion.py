"""What conversion to integer codes does to networks of many kinds: `python -m benchmarks.conversion`.

Each network is converted to 8 bits with exact products, before and after `approx.prune_channels` has taken a quarter of
its channels, and the ratio of signal to noise between the outputs of the converted and the given network is printed in
decibels (`approx.signal_to_noise_db`). Networks are classifiers of torchvision with random weights and the statistics
of noise, and small ones each with something that networks of people have. Nothing is downloaded.

With `--json FILE` the figures are also written to a file, each as soon as it is known, and a run that was stopped goes
on. From benchmarks/conversion.json `python -m benchmarks.tables` writes the table in docs/approximation.md.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import approx
from approx.custom_modules import import_custom_module
from approx.inputs import Inputs, run

EIGHT = approx.LayerApproximation(weight_bits=8, activation_bits=8)
PRUNED = 0.25
CLASSES = 10
IMAGES = 8
# torchvision's classifiers -> side of their images; the others cannot be this small, are larger forms of these, or
# multiply weights by functions, as Swin Transformers do.
TORCHVISION = {
    **dict.fromkeys(
        (
            "alexnet", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "mnasnet0_5", "mnasnet1_0",
            "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf",
            "resnet18", "resnet34", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0",
            "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg11_bn", "vgg16_bn", "convnext_tiny",
        ),
        64,
    ),
    "inception_v3": 96,
}  # fmt: skip


class _Flat(nn.Module):
    """A hidden layer on all values, and one of scores."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.scores = nn.Linear(3 * 12 * 12, 32), nn.Linear(32, CLASSES)

    def features(self, images: Tensor) -> Tensor:
        return F.relu(self.hidden(images.flatten(1)))

    def forward(self, images: Tensor) -> Any:
        return self.scores(self.features(images))


class _Tuple(_Flat):
    def forward(self, images: Tensor) -> Any:
        scores = super().forward(images)
        return scores, scores.softmax(-1)


class _Named(_Flat):
    def forward(self, images: Tensor) -> Any:
        return {"logits": super().forward(images), "features": self.features(images)}


class _Casts(_Flat):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images.to(torch.float32) / 255)


class _MakesTensors(_Flat):
    def forward(self, images: Tensor) -> Any:
        start = torch.zeros(len(images), CLASSES)
        return start + super().forward(images)


class _KeepsState(_Flat):
    def forward(self, images: Tensor) -> Any:
        self.kept = super().forward(images)
        return self.kept


class _SpareHead(_Flat):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(32, CLASSES)

    def forward(self, images: Tensor) -> Any:
        features = self.features(images)
        return (self.scores(features), self.spare(features)) if self.training else self.scores(features)


class _TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.meta, self.scores = nn.Conv2d(3, 32, 3), nn.Linear(4, 32), nn.Linear(32, CLASSES)

    def forward(self, images: Tensor, meta: Tensor) -> Any:
        return self.scores(self.image(images).relu().mean((2, 3)) + self.meta(meta))


class _Embedded(nn.Module):
    """Whole numbers in."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.hidden, self.scores = nn.Embedding(20, 16), nn.Linear(16, 32), nn.Linear(32, CLASSES)

    def forward(self, words: Tensor) -> Any:
        return self.scores(self.hidden(self.table(words).mean(1)).relu())


class _Shared(_Flat):
    """Two layers of one weight, and one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Any:
        return self.scores(self.second(self.first(self.first(self.features(images))).relu()))


class _Gated(nn.Module):
    """One hidden channel multiplies sixteen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.scores = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 1, 1), nn.Linear(16, CLASSES)

    def forward(self, images: Tensor) -> Any:
        hidden = F.relu(self.first(images))
        return self.scores((hidden * torch.sigmoid(self.gate(hidden))).mean((2, 3)))


def convolutional(change: Callable[[Any], object] = lambda network: None) -> Callable[[], nn.Module]:
    """Return what builds a small network of convolutions, and changes it."""

    def build() -> nn.Module:
        network = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64, CLASSES),
        )
        change(network)
        return network

    return build


def _one_dimensional() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 16, 5, stride=2, padding=2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Conv1d(16, 16, 3, groups=2, padding="same"),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


def _transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True)
    return nn.Sequential(
        nn.Flatten(1, 2), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(3 * 12 * 12, CLASSES)
    )


def _upsampling() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 8, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    )


SMALL: dict[str, Callable[[], nn.Module]] = {
    "convolutions": convolutional(),
    "a hook that scales": convolutional(lambda one: one[0].register_forward_hook(lambda layer, given, out: out * 0.5)),
    "a hook of a BatchNorm": convolutional(lambda one: one[1].register_forward_hook(lambda layer, given, out: out + 1)),
    "a hook before a layer": convolutional(
        lambda one: one[3].register_forward_pre_hook(lambda layer, given: (given[0] * 2,))
    ),
    "torch's pruning": convolutional(lambda one: prune.l1_unstructured(one[3], "weight", 0.5)),  # type: ignore[no-untyped-call]
    "the older weight_norm": convolutional(lambda one: weight_norm(one[0])),
    "the older spectral_norm": convolutional(lambda one: spectral_norm(one[0])),
    "a parametrization": convolutional(lambda one: parametrizations.weight_norm(one[3])),
    "Conv1d": _one_dimensional,
    "ConvTranspose2d": _upsampling,
    "a transformer": _transformer,
    "a tuple as output": _Tuple,
    "a mapping as output": _Named,
    "two inputs": _TwoInputs,
    "whole numbers as input": _Embedded,
    "a forward that casts": _Casts,
    "a forward that makes tensors": _MakesTensors,
    "state that forward leaves": _KeepsState,
    "a head for training only": _SpareHead,
    "shared weights": _Shared,
    "a channel that gates others": _Gated,
}


def main() -> None:
    """Convert all networks, and print or write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the figures to this file, and leave out those in it"
    )
    parser.add_argument("--only", metavar="NAME", help="convert this network only")
    arguments = parser.parse_args()
    file, rows = arguments.json, []
    if file is not None and file.exists():
        rows = [row for row in json.loads(file.read_text())["networks"] if row["name"] in (*TORCHVISION, *SMALL)]
    known = {row["name"] for row in rows}
    for name in (*TORCHVISION, *SMALL):
        if arguments.only in (None, name) and name not in known:
            rows.append({"name": name, **figures(name)})
            print(f"{name:<30} {_shown(rows[-1]['converted']):>8} {_shown(rows[-1]['pruned']):>8}", flush=True)  # noqa: T201
            if file is not None:
                file.write_text(json.dumps({"torch": torch.__version__, "networks": rows}, indent=1) + "\n")


def figures(name: str) -> dict[str, float | str]:
    """Return the ratios of a network, in decibels: `converted` as it is, `pruned` without a quarter of its channels.

    A refusal is its message instead.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        network, inputs = _network(name)
        network.eval()
        found: dict[str, float | str] = {"converted": _ratio(network, inputs)}
        try:
            smaller = approx.prune_channels(network, PRUNED, example_input=inputs)
        except approx.ArgumentError as error:
            return {**found, "pruned": str(error)}
        return {**found, "pruned": _ratio(smaller, inputs)}


def table(content: Mapping[str, Any]) -> str:
    """Return the figures of a file as a table."""
    rows = ["| network | 8 bits | 8 bits, a quarter of its channels pruned |", "|---|---|---|"]
    for network in content["networks"]:
        sides = f", {TORCHVISION[network['name']]} pixels" if network["name"] in TORCHVISION else ""
        rows.append(f"| {network['name']}{sides} | {_shown(network['converted'])} | {_shown(network['pruned'])} |")
    return "\n".join(rows)


def _network(name: str) -> tuple[nn.Module, Inputs]:
    noise = torch.Generator().manual_seed(1)
    if name in TORCHVISION:
        models = import_custom_module("torchvision.models")
        side = TORCHVISION[name]
        network: nn.Module = models.get_model(name, weights=None, num_classes=CLASSES)
        images = torch.randn(4 * IMAGES, 3, side, side, generator=noise)
        approx.reestimate_batch_norm(network, images, batch_size=2 * IMAGES)
        return network, images[:IMAGES]
    images = torch.randn(IMAGES, 3, 12, 12, generator=noise)
    network = SMALL[name]()
    if name == "two inputs":
        return network, (images, torch.randn(IMAGES, 4, generator=noise))
    if name == "Conv1d":
        return network, images.flatten(2)
    if name == "whole numbers as input":
        return network, torch.randint(0, 20, (IMAGES, 5), generator=noise)
    return network, images


def _ratio(network: nn.Module, inputs: Inputs) -> float | str:
    """Return the ratio of signal to noise of the scores once the network is converted, or why it is refused."""
    with torch.no_grad():
        expected = approx.scores_of(run(network, inputs))
        try:
            converted = approx.approximate(network, EIGHT, calibration_data=inputs)
        except approx.ArgumentError as error:
            return str(error)
        return round(approx.signal_to_noise_db(expected, approx.scores_of(run(converted, inputs))), 1)


def _shown(figure: float | str) -> str:
    return f"{figure:.1f} dB" if isinstance(figure, float) else f"refused: {figure.partition(':')[0]}"


if __name__ == "__main__":
    main()
