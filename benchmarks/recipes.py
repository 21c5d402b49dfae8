"""What the recipes of the built-in tasks reach: `python -m benchmarks.recipes cifar10 --data-dir DIR`.

Trains the published network of each task from scratch over three seeds, without the validation images, by which the
recipes were chosen, and writes the accuracies into recipes.json after each run; runs that are in it already are left
out. `--ship` then writes the baselines that come with the package, search/baselines: those of seed 0, in half
precision. Trained networks are kept in a folder.

On one thread of an AMD EPYC of family 26 (Zen 5): 1 s for digits, 1 min for MNIST, 50 min for CIFAR-10, each seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import approx
from benchmarks.measuring import machine
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.precision import chosen_precision
from search.evaluation.task_images import TaskImages
from search.evaluation.training import schedule_from_scratch
from search.images.places import ImagePlaces
from search.locations import user_cache_dir
from search.space.shipped import FOLDER, ShippedBaseline
from search.space.task import Task, find_task

RESULTS = Path(__file__).parent / "recipes.json"
SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A published network on a data set.

    Attributes:
        name: Its name.
        build: Builds it untrained from a seed.
        asked: Accuracy on the test images that others publish, or that was aimed at; None for none.
    """

    name: str
    build: Callable[[Task, int], nn.Module]
    asked: float | None


def baseline(task: Task, seed: int) -> nn.Module:
    """Build the baseline of a task."""
    found = task.space.baseline()
    architecture = approx.Architecture(family=found.family, depth=found.depth, width=found.width)
    return approx.build_network(architecture, image_shape=task.image_shape, classes=task.classes, seed=seed)


def perceptron(task: Task, seed: int) -> nn.Module:
    """Build the 784-300-100-10 perceptron of LeCun et al., Proc. IEEE 1998."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, task.classes)]
        return nn.Sequential(nn.Flatten(), *layers)


NETWORKS = {
    "digits": [Network(name="MLP 64-128-128-128-10", build=baseline, asked=None)],
    "mnist": [
        Network(name="LeNet-5", build=baseline, asked=0.992),
        Network(name="MLP 784-300-100-10", build=perceptron, asked=0.984),
    ],
    "fashion-mnist": [Network(name="LeNet-5", build=baseline, asked=0.91)],
    "cifar10": [Network(name="ResNet-20", build=baseline, asked=0.915)],
    "svhn": [Network(name="ResNet-20", build=baseline, asked=None)],
    "cifar100": [Network(name="ResNet-20", build=baseline, asked=None)],
}


def main() -> None:
    """Train what is not in the results yet, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", choices=[*NETWORKS, []], help="data sets (default: all)")
    parser.add_argument("--data-dir", help="folder with their images; by default where `search` looks")
    parser.add_argument("--keep", type=Path, default=user_cache_dir() / "recipes", help="folder of trained networks")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS, help="seeds (default: 0 1 2)")
    parser.add_argument("--precision", help="precision of the training; by default what is fastest here")
    parser.add_argument("--ship", action="store_true", help="write the baselines that come with the package")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.datasets or NETWORKS:
        places = ImagePlaces.at(arguments.data_dir)
        task = find_task(name)
        images = TaskImages(task, datasets.load(task, places))
        precision = arguments.precision or chosen_precision(task, images, TrainingCache(arguments.keep))
        task = replace(task, effort=replace(task.effort, precision=precision))
        for network in NETWORKS[name]:
            for seed in arguments.seeds:
                _run(task, network, images, seed, arguments.keep)
        if arguments.ship:
            _ship(task, images, arguments.keep)
    print(table(results()))  # noqa: T201


def results() -> dict[str, Any]:
    """Return the committed results."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": []}
    return found


def _run(task: Task, network: Network, images: TaskImages, seed: int, keep: Path) -> None:
    """Train a network, unless that is among the results."""
    schedule = asdict(schedule_from_scratch(task.effort))
    run = {"dataset": task.name, "network": network.name, "seed": seed, "schedule": schedule}
    if any(run.items() <= one.items() for one in results()["runs"]):
        return
    model = network.build(task, seed)
    started = time.process_time()
    approx.fit(model, images.train, schedule_from_scratch(task.effort), seed=seed)
    run |= {
        "cpu_minutes": round((time.process_time() - started) / 60, 2),
        "validation": approx.accuracy(model, images.of("validation")),
        "test": approx.accuracy(model, images.of("test")),
        "machine": machine(),
    }
    keep.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), _kept(keep, task, network, seed))
    content = results()
    others = [one for one in content["runs"] if any(one[key] != run[key] for key in ("dataset", "network", "seed"))]
    content["runs"] = sorted([*others, run], key=lambda one: (one["dataset"], one["network"], one["seed"]))
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{task.name} {network.name} {seed}: {run['test']:.2%} on test images", flush=True)  # noqa: T201


def _kept(keep: Path, task: Task, network: Network, seed: int) -> Path:
    return keep / f"{task.name}-{network.name.replace(' ', '-')}-{seed}.pt"


def _ship(task: Task, images: TaskImages, keep: Path) -> None:
    """Write the baseline of a task into the package: the one of seed 0, in half precision."""
    seed, network = SEEDS[0], NETWORKS[task.name][0]
    state: dict[str, Tensor] = torch.load(_kept(keep, task, network, seed), weights_only=True)
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    FOLDER.mkdir(exist_ok=True)
    weights = FOLDER / f"{task.name}.safetensors"
    save_file({name: value.contiguous() for name, value in half.items()}, weights)
    weights.chmod(0o644)  # safetensors keeps files to their owner
    model = network.build(task, seed)
    model.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in half.items()})
    found = task.space.baseline()
    shipped = ShippedBaseline(
        dataset=task.name,
        family=found.family,
        depth=found.depth,
        width=found.width,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        seed=seed,
        command=f"python -m benchmarks.recipes {task.name} --seeds {seed} --ship",
        versions={"torch": torch.__version__},
        machine=machine()["cpu"],
        validation_accuracy=approx.accuracy(model, images.of("validation")),
        test_accuracy=approx.accuracy(model, images.of("test")),
    )
    shipped.weights.with_suffix(".json").write_text(json.dumps(asdict(shipped), indent=1) + "\n")


def table(content: Mapping[str, Any]) -> str:
    """Format the results as Markdown.

    Args:
        content: What recipes.json holds.
    """
    lines = [
        "| data set | network | test images, mean ± standard deviation | asked | epochs | minutes of a core |",
        "|---|---|---|---|---|---|",
    ]
    for name, networks in NETWORKS.items():
        for network in networks:
            runs = [one for one in content["runs"] if (one["dataset"], one["network"]) == (name, network.name)]
            if not runs:
                continue
            asked = "" if network.asked is None else f"{network.asked:.1%}"
            minutes = statistics.fmean(one["cpu_minutes"] for one in runs)
            lines.append(
                f"| {name} | {network.name} | {_mean([one['test'] for one in runs])} | {asked} "
                f"| {runs[0]['schedule']['epochs']:g} | {minutes:.3g} |"
            )
    return "\n".join(lines)


def _mean(accuracies: Sequence[float]) -> str:
    found = f"{statistics.fmean(accuracies):.2%}"
    if len(accuracies) < 2:
        return f"{found}, one seed"
    return f"{found} ± {statistics.stdev(accuracies):.2%}, {len(accuracies)} seeds"


if __name__ == "__main__":
    main()
