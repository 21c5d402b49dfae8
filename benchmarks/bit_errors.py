"""The accuracy that bit errors in the weights cost a CIFAR-10 network, and two ways to recover it.

`python -m benchmarks.bit_errors` trains a network, converts it to 8-bit codes, and measures the accuracy on the test
images over several chips: unprotected; with the top bits in robust cells; and after random bit error training. The
figures of Stutz et al., MLSys 2021 (arXiv 2006.13977), for unprotected 8-bit weights are shown beside.

Trained networks are kept in a folder, so a stopped run resumes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import approx
from search.evaluation import datasets
from search.images.places import ImagePlaces
from search.locations import user_cache_dir
from search.space.task import find_task

RATES = (0.0, 0.001, 0.005, 0.01)
PUBLISHED = {  # bit error rate -> accuracy in percent
    "ResNet18": {0.0: 92.6, 0.005: 70.1, 0.01: 38.9},
    "VGG11": {0.0: 88.4, 0.005: 63.6, 0.01: 42.2},
    "VGG16": {0.0: 90.3, 0.005: 66.6, 0.01: 35.7},
}
ROBUST_BITS = 3
STORAGE = "twos-complement"  # as published
PER_CHANNEL = approx.LayerApproximation(weight_bits=8, activation_bits=8)
# As published: a scale for each layer that covers its largest weight.
PER_LAYER = replace(PER_CHANNEL, granularity="tensor", calibration="percentile", percentile=100.0)


def main() -> None:
    """Train networks that are not kept, measure and print."""
    arguments = _arguments()
    network = approx.Architecture(family=arguments.family, depth=arguments.depth, width=arguments.width)
    task = find_task("cifar10")
    data = datasets.load(task, ImagePlaces.at(arguments.data_dir))
    train, test = (
        approx.LabelledImages(torch.tensor(images.images()), torch.tensor(images.labels), task.pixel_max)
        for images in (data.train, data.test)
    )
    test = approx.LabelledImages(test.pixels[: arguments.images], test.labels[: arguments.images], test.pixel_max)
    floating = approx.build_network(network, image_shape=task.image_shape, classes=task.classes, seed=0)
    name = f"{network.family}-{network.depth}-{network.width}"
    schedule = approx.Schedule(
        epochs=arguments.epochs,
        batch_size=128,
        learning_rate=0.2,
        warm_up=0.2,
        optimizer="sgd",
        weight_decay=5e-4,
        augmentation="crop-flip",
    )
    _trained(
        floating,
        arguments.keep / f"{name}-{schedule.epochs:g}.pt",
        lambda: approx.fit(floating, train, schedule, seed=0),
    )
    calibration_data = train.inputs(slice(0, 512))
    per_layer, per_channel, hardened = (
        approx.approximate(floating, config, calibration_data=calibration_data)
        for config in (PER_LAYER, PER_CHANNEL, PER_LAYER)
    )
    retraining = approx.Schedule(
        epochs=arguments.retrain_epochs, batch_size=128, learning_rate=1e-3, warm_up=0.1, augmentation="crop-flip"
    )
    errors = approx.FaultyMemory(bit_error_rate=max(RATES), storage=STORAGE)
    _trained(
        hardened,
        arguments.keep / f"{name}-{schedule.epochs:g}-errors-{retraining.epochs:g}.pt",
        lambda: approx.fit(hardened, train, retraining, seed=1, bit_errors=errors),
    )
    clean = approx.accuracy(floating, test)
    rows = {
        "a scale for each layer, unprotected": _row(per_layer, test, arguments.chips, 0),
        f"the same, top {ROBUST_BITS} bits in 8T cells": _row(per_layer, test, arguments.chips, ROBUST_BITS),
        "the same, random bit error training": _row(hardened, test, arguments.chips, 0),
        "a scale for each channel, unprotected": _row(per_channel, test, arguments.chips, 0),
    }
    content = {
        "network": name,
        "epochs": arguments.epochs,
        "retrain_epochs": arguments.retrain_epochs,
        "test_images": len(test),
        "torch": torch.__version__,
        "accuracy_float32": clean,
        "accuracies": rows,
    }
    print(table(content))  # noqa: T201
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder with CIFAR-10; by default where `search` looks")
    parser.add_argument("--family", default="resnet", choices=approx.family_names())
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=float, default=10, help="epochs of training (default: 10, about 20 minutes)")
    parser.add_argument(
        "--retrain-epochs", type=float, default=3, help="epochs of training with bit errors (default: 3)"
    )
    parser.add_argument("--chips", type=int, default=10, help="chips to average accuracy over (default: 10)")
    parser.add_argument("--images", type=int, default=10_000, help="images of the test set (default: all 10,000)")
    parser.add_argument("--keep", type=Path, default=user_cache_dir() / "bit-errors", help="folder of trained networks")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    return parser.parse_args()


def _trained(model: nn.Module, path: Path, train: Callable[[], None]) -> None:
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        model.eval()
        return
    started = time.perf_counter()
    train()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    print(f"trained {path.name} in {time.perf_counter() - started:.0f} s", flush=True)  # noqa: T201


def _row(model: nn.Module, images: approx.LabelledImages, chips: int, robust_bits: int) -> list[tuple[float, ...]]:
    """Return the accuracy at each rate on each chip."""
    found = []
    for rate in RATES:
        memory = approx.FaultyMemory(bit_error_rate=rate, robust_bits=robust_bits, storage=STORAGE)
        approx.set_memory(model, weights=memory)
        found.append(approx.chip_accuracies(model, images, range(chips if rate else 1)))
    return found


def table(content: Mapping[str, Any]) -> str:
    """Format the results as Markdown.

    Args:
        content: The JSON object that `--json` writes.
    """
    rows = content["accuracies"]
    chips = max(len(accuracies) for row in rows.values() for accuracies in row)
    lines = [
        f"Accuracy of {content['network']} on {content['test_images']} test images of CIFAR-10 in percent, mean and "
        f"standard deviation over {chips} chips; {content['accuracy_float32']:.1%} in float32. Published: Stutz et "
        "al., MLSys 2021.",
        "",
        "| bit errors | " + " | ".join(f"{rate:.1%}" for rate in RATES) + " |",
        "|---|" + "---|" * len(RATES),
    ]
    for what, row in rows.items():
        cells = []
        for accuracies in row:
            found = [100 * accuracy for accuracy in accuracies]
            spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
            cells.append(f"{statistics.fmean(found):.1f}{spread}")
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    for what, published in PUBLISHED.items():
        cells = [str(published.get(rate, "")) for rate in RATES]
        lines.append(f"| published: {what}, unprotected | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
