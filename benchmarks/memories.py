"""Approximate against exact weight memory: `python -m benchmarks.memories`.

A trained network's 8-bit weights are stored in memories with 0 to 8 of their top bits in 8T cells. For each, the lowest
supply voltage is found at which the accuracy, the mean over chips, is at most one point lower than with a perfect
memory. What an access costs and how large the memory is follow from it. With all bits in 8T cells no cell fails: that
is the exact memory which an architect takes if area is free. How low it works is an assumption, so the tables have all
three of `approx.SILICON_14NM`.

Writes memories.json beside this file, in about 10 minutes; `python -m benchmarks.tables` makes tables of it in
docs/energy-model.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

import approx
from energy.technology import load_technology
from search.evaluation import datasets
from search.images.places import ImagePlaces
from search.space.task import find_task
from search.space.weight_memory import lowest_supply_mv

HERE = Path(__file__).parent
BITS = 8
MOST_LOSS = 0.01
NOMINAL_MV = 900
STEP_MV = 5
ASSUMPTIONS = {"weaker": "silicon-14nm-weaker-8t", "likely": "silicon-14nm", "stronger": "silicon-14nm-stronger-8t"}
AREAS = (1.0, 1.1, 1.2, 1.31)  # of the memory, over that of 6T cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A memory at the lowest voltage that the accuracy allows.

    Attributes:
        robust_bits: Top bits of each weight in 8T cells.
        supply_mv: Its supply voltage.
    """

    robust_bits: int
    supply_mv: int

    @property
    def area(self) -> float:
        """Area over that of 6T cells."""
        return 1 + self.robust_bits / BITS * (load_technology("45nm").eight_transistor_cell.area.value - 1)

    @property
    def energy(self) -> float:
        """Energy of an access over that of 6T cells at the nominal voltage."""
        more = load_technology("45nm").eight_transistor_cell.access.value - 1
        return (1 + self.robust_bits / BITS * more) * (self.supply_mv / NOMINAL_MV) ** 2


def main() -> None:
    """Train, find the lowest voltages, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist", help="a task of the search; its baseline is trained")
    parser.add_argument("--images", type=int, default=2000, help="test images that accuracy is measured on")
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, test = _trained(arguments.dataset, arguments.data_dir, arguments.images)
    clean = approx.accuracy(model, test)
    lowest = {}
    for robust_bits in range(BITS + 1):
        lowest[robust_bits] = _lowest_mv(model, test, clean, robust_bits, range(arguments.chips))
        print(f"{robust_bits} robust bits: {lowest[robust_bits]} mV", flush=True)  # noqa: T201
    result: dict[str, Any] = {
        "dataset": arguments.dataset,
        "images": len(test),
        "chips": arguments.chips,
        "accuracy": clean,
        "lowest_mv": lowest,
    }
    (HERE / "memories.json").write_text(json.dumps(result, indent=2) + "\n")


def _trained(dataset: str, folder: str | None, images: int) -> tuple[nn.Module, approx.LabelledImages]:
    """The 8-bit network of a task's baseline, and test images."""
    task = find_task(dataset).with_effort("standard")
    data = datasets.load(task, ImagePlaces.at(folder))
    train, test = (
        approx.LabelledImages(torch.tensor(one.images()[:most]), torch.tensor(one.labels[:most]), task.pixel_max)
        for one, most in ((data.train, None), (data.test, images))
    )
    baseline, effort = task.space.baseline(), task.effort
    architecture = approx.Architecture(family=baseline.family, depth=baseline.depth, width=baseline.width)
    model: nn.Module = approx.build_network(architecture, image_shape=task.image_shape, classes=task.classes, seed=0)
    for epochs, learning_rate in (
        (effort.train_epochs, effort.learning_rate),
        (effort.approximate_epochs, effort.approximate_learning_rate),
    ):
        schedule = approx.Schedule(epochs=epochs, batch_size=effort.batch_size, learning_rate=learning_rate)
        approx.fit(model, train, schedule, seed=0)
        if not list(approx.approx_layers(model)):
            calibration = train.inputs(slice(0, 512))
            model = approx.approximate(model, approx.LayerApproximation(), calibration_data=calibration)
    return model, test


def _lowest_mv(
    model: nn.Module, test: approx.LabelledImages, clean: float, robust_bits: int, chips: Sequence[int]
) -> int:
    """The lowest voltage at which the loss is small, by bisection: more cells fail the lower it is.

    0 if half of the 6T cells may fail, so that what is in them might as well be left out.
    """

    def works(step: int) -> bool:
        # Only the 6T cells are looked at: 8T cells, and biases in them, set a limit of their own.
        rate = approx.SILICON_14NM.bit_error_rate(step * STEP_MV / 1000)
        approx.set_memory(model, weights=approx.FaultyMemory(bit_error_rate=rate, robust_bits=robust_bits))
        return fmean(approx.chip_accuracies(model, test, chips)) >= clean - MOST_LOSS

    low, high = -(-lowest_supply_mv("silicon-14nm-stronger-8t", "6T") // STEP_MV), NOMINAL_MV // STEP_MV
    if robust_bits == BITS or works(low):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high * STEP_MV


def table(result: dict[str, Any]) -> str:
    """The tables as Markdown."""
    by_bits = {int(bits): mv for bits, mv in result["lowest_mv"].items()}
    floors = {name: lowest_supply_mv(failures, "8T") for name, failures in ASSUMPTIONS.items()}
    lines = [
        f"The baseline of `{result['dataset']}`, 8-bit weights, {result['accuracy']:.2%} on {result['images']} test "
        f"images, at most {MOST_LOSS:.0%} lower as the mean over {result['chips']} chips. Area and energy of an access "
        f"are over those of 6T cells at {NOMINAL_MV / 1000} V.",
        "",
        "| top bits in 8T cells | area | lowest voltage for 6T cells | energy there | "
        + " | ".join(f"not below {mv / 1000:g} V ({name})" for name, mv in floors.items())
        + " |",
        "|---" * (4 + len(floors)) + "|",
    ]
    for bits, mv in by_bits.items():
        own = "none" if not mv else f"{mv / 1000:.2f} V"
        at = [Memory(robust_bits=bits, supply_mv=max(mv, floor)) for floor in floors.values()]
        energy = f"{Memory(robust_bits=bits, supply_mv=mv).energy:.2f}" if mv else ""
        at_floors = " | ".join(f"{one.energy:.2f}" for one in at)
        lines.append(f"| {bits} | {at[0].area:.2f} | {own} | {energy} | {at_floors} |")
    lines += ["", "| 8T cells | " + " | ".join(f"area at most {area:g}" for area in AREAS) + " |"]
    lines.append("|---" * (1 + len(AREAS)) + "|")
    for name, floor in floors.items():
        cells = []
        for area in AREAS:
            memories = [Memory(robust_bits=bits, supply_mv=max(mv, floor)) for bits, mv in by_bits.items()]
            best = min((one for one in memories if one.area <= area + 1e-9), key=lambda one: one.energy)
            cells.append(f"{best.energy:.2f}: {best.robust_bits} bits, {best.supply_mv / 1000:g} V")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
