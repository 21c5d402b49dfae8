"""Networks that are derived from a trained one against networks trained from scratch: `python -m benchmarks.derived`.

Trains networks of three sizes of a family by the recipe of their task, and derives the same from the baseline that
comes with the package in a fifth of the steps, otherwise as searches do. Results go into derived.json after each run;
runs that are in it already are left out.

On one thread of an AMD EPYC of family 26 (Zen 5): 4 minutes for MNIST, 2 hours for CIFAR-10.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

import approx
from benchmarks.measuring import machine
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.precision import chosen_precision
from search.evaluation.task_images import TaskImages
from search.evaluation.training import TEACHING, schedule_from_scratch, schedule_of_derived
from search.images.places import ImagePlaces
from search.locations import user_cache_dir
from search.space.effort import Effort
from search.space.task import Task, find_task

RESULTS = Path(__file__).parent / "derived.json"
SIZES = {  # data set -> depths and widths
    "mnist": ((3, 3), (2, 4), (1, 6)),
    "cifar10": ((3, 8), (2, 12), (1, 16)),
}
SEEDS = {"mnist": (0, 1, 2), "cifar10": (0,)}
SHARE = 0.2  # of the steps, in which derived networks are fine-tuned at most


def main() -> None:
    """Train and derive what is not in the results yet, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", choices=[*SIZES, []], help="data sets (default: both)")
    parser.add_argument("--data-dir", help="folder with their images; by default where `search` looks")
    parser.add_argument("--only", choices=("scratch", "derived"), help="only networks made in this way")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.datasets or SIZES:
        task = find_task(name)
        images = TaskImages(task, datasets.load(task, ImagePlaces.at(arguments.data_dir)))
        precision = chosen_precision(task, images, TrainingCache(user_cache_dir() / "recipes"))
        task = replace(task, effort=replace(task.effort, precision=precision))
        for way in ("derived", "scratch"):
            if arguments.only in (None, way):
                for depth, width in SIZES[name]:
                    for seed in SEEDS[name]:
                        _run(task, images, way, depth, width, seed)
    print(table(results()))  # noqa: T201


def results() -> dict[str, Any]:
    """Return the committed results."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": []}
    return found


def _run(task: Task, images: TaskImages, way: str, depth: int, width: int, seed: int) -> None:
    """Train or derive a network, unless that is among the results."""
    effort = _effort(task.effort)
    schedule = schedule_from_scratch(effort) if way == "scratch" else schedule_of_derived(effort)
    run = {"dataset": task.name, "way": way, "depth": depth, "width": width, "seed": seed, "schedule": asdict(schedule)}
    if any(run.items() <= one.items() for one in results()["runs"]):
        return
    baseline = task.space.baseline()
    small = approx.Architecture(family=baseline.family, depth=depth, width=width)
    started = time.process_time()
    if way == "scratch":
        model: nn.Module = approx.build_network(small, image_shape=task.image_shape, classes=task.classes, seed=seed)
        approx.fit(model, images.train, schedule, seed=seed)
    else:
        large = approx.Architecture(family=baseline.family, depth=baseline.depth, width=baseline.width)
        teacher = _baseline(task, large)
        model = approx.derive_network(
            teacher, of=large, to=small, image_shape=task.image_shape, classes=task.classes, seed=seed
        )
        distillation = approx.Distillation(teacher=teacher, **TEACHING)
        approx.fit(model, images.train, schedule, seed=seed, distillation=distillation)
    run |= {
        "cpu_minutes": round((time.process_time() - started) / 60, 2),
        "validation": approx.accuracy(model, images.of("validation")),
        "test": approx.accuracy(model, images.of("test")),
        "machine": machine(),
    }
    content = results()
    keys = ("dataset", "way", "depth", "width", "seed")
    others = [one for one in content["runs"] if any(one[key] != run[key] for key in keys)]
    content["runs"] = sorted([*others, run], key=lambda one: [str(one[key]) for key in keys])
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{task.name} {way} {depth}x{width} {seed}: {run['test']:.2%} on test images", flush=True)  # noqa: T201


def _effort(effort: Effort) -> Effort:
    """Return an effort whose derived networks take a fifth of the steps of training."""
    return replace(effort, derive_epochs=SHARE * effort.train_epochs)


def _baseline(task: Task, large: approx.Architecture) -> nn.Module:
    shipped = task.shipped_baseline
    assert shipped is not None
    model = approx.build_network(large, image_shape=task.image_shape, classes=task.classes, seed=0)
    model.load_state_dict(load_file(shipped.weights))
    return model.eval()


def table(content: Mapping[str, Any]) -> str:
    """Format the results as Markdown.

    Args:
        content: What derived.json holds.
    """
    lines = [
        "| data set | network | from scratch, on test images | epochs, minutes | derived | epochs, minutes |",
        "|---|---|---|---|---|---|",
    ]
    for name, sizes in SIZES.items():
        baseline = find_task(name).space.baseline()
        for depth, width in sizes:
            if not any((one["dataset"], one["depth"], one["width"]) == (name, depth, width) for one in content["runs"]):
                continue
            cells = []
            for way in ("scratch", "derived"):
                size = (name, way, depth, width)
                runs = [one for one in content["runs"] if tuple(one[key] for key in _KEYS) == size]
                if not runs:
                    cells += ["", ""]
                    continue
                accuracies = [one["test"] for one in runs]
                spread = f" ± {statistics.stdev(accuracies):.2%}" if len(runs) > 1 else ""
                minutes = statistics.fmean(one["cpu_minutes"] for one in runs)
                cells += [
                    f"{statistics.fmean(accuracies):.2%}{spread}",
                    f"{runs[0]['schedule']['epochs']:g}, {minutes:.2g}",
                ]
            lines.append(f"| {name} | {baseline.family} {depth}x{width} | {' | '.join(cells)} |")
    return "\n".join(lines)


_KEYS = ("dataset", "way", "depth", "width")


if __name__ == "__main__":
    main()
