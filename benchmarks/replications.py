"""Published results, replicated: `make replicate`, or `python -m benchmarks.replications [PART ...] --data-dir DIR`.

Each part says beforehand how long it takes, keeps each of its runs in replications.json as soon as it is done, and goes
on from there if it was stopped. `python -m benchmarks.tables` writes docs/replications.md from the results, published
figures beside ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import approx
from benchmarks.recipes import perceptron
from search.evaluation import datasets
from search.evaluation.task_images import TaskImages
from search.evaluation.training import schedule_from_scratch
from search.images.places import ImagePlaces
from search.locations import user_cache_dir
from search.space.task import Task, find_task

RESULTS = Path(__file__).parent / "replications.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A replication.

    Attributes:
        title: What is replicated, and where it was published.
        minutes: About how long it takes on one thread of an AMD EPYC of family 26 (Zen 5).
        run: Makes the runs that are not among the results yet; given the results so far, it calls its argument with
            each new one.
        table: The results as Markdown, with what was published.
    """

    title: str
    minutes: float
    run: Callable[[Runs], None]
    table: Callable[[Sequence[Mapping[str, Any]]], str]


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a part, kept as they are made.

    Attributes:
        part: Name of the part.
        data_dir: Folder of the images.
        keep: Folder of trained networks.
    """

    part: str
    data_dir: str | None
    keep: Path

    def done(self, **what: Any) -> Mapping[str, Any] | None:
        """Return the run of this description, if it is among the results."""
        return next((one for one in results().get(self.part, []) if what.items() <= one.items()), None)

    def add(self, run: Mapping[str, Any]) -> None:
        """Keep a run."""
        content = results()
        content.setdefault(self.part, []).append(dict(run))
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
        print(f"{self.part}: {json.dumps(run)}", flush=True)  # noqa: T201


def results() -> dict[str, list[dict[str, Any]]]:
    """Return the committed results: part -> runs."""
    found: dict[str, list[dict[str, Any]]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def _images(name: str, data_dir: str | None) -> tuple[Task, TaskImages]:
    task = find_task(name)
    return task, TaskImages(task, datasets.load(task, ImagePlaces.at(data_dir)))


# Cells that fail at low voltages -------------------------------------------------------------------------------------

# Of the 1,048,576 cells of 32 arrays of 512 x 64, percent that fail at 24ths of the voltage at which none does,
# measured by Chandramoorthy et al., HPCA 2019, as plotted by Stutz et al., MLSys 2021. `approx.SILICON_14NM` goes
# through these points; what is replicated is that chips which are drawn have as many failing cells.
PUBLISHED_FAILURES = {18: 20.56, 19: 5.573, 20: 1.115, 21: 0.129, 22: 0.00686646, 23: 0.000190735, 24: 0.0}
CHIPS, WORDS = 10, 32 * 512 * 64 // 8  # of as many cells, in words of 8 bits


def failures(runs: Runs) -> None:
    """Count the failing cells of chips at the published voltages."""
    for part in PUBLISHED_FAILURES:
        if runs.done(part=part) is None:
            memory = approx.SILICON_14NM.at(part / 24 * approx.SILICON_14NM.nominal_v)
            cells = [_failing_cells(memory, chip) for chip in range(CHIPS)]
            runs.add({"part": part, "cells": cells, "percent": 100 * statistics.fmean(cells) / (8 * WORDS)})


def _failing_cells(memory: approx.FaultyMemory, chip: int) -> int:
    codes = torch.zeros(WORDS)
    faults = approx.fault_map(memory, words=WORDS, bits=8, seed=(chip,))
    struck = approx.read_back(codes, faults, bits=8, signed=False, storage="twos-complement").to(torch.int32)
    return sum(int((struck >> bit & 1).sum()) for bit in range(8))


def failures_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of failing cells."""
    rows = ["| voltage over that at which none fails | failing cells, published | of chips drawn |", "|---|---|---|"]
    for run in runs:
        published = PUBLISHED_FAILURES[run["part"]]
        rows.append(f"| {run['part']}/24 | {published:.4g} % | {run['percent']:.4g} % |")
    return "\n".join(rows)


# Pruning a perceptron of MNIST ---------------------------------------------------------------------------------------

LEFT = 1 / 12  # of the weights
PRUNING_SEEDS = (0, 1, 2)


def pruning(runs: Runs) -> None:
    """Prune LeNet-300-100 to a twelfth, gradually over all layers, and as it was done here before: at once in each."""
    task, images = _images("mnist", runs.data_dir)
    effort = task.effort
    for seed in PRUNING_SEEDS:
        ways: tuple[tuple[str, int, float], ...] = (
            ("gradually, over all layers", 10, effort.train_epochs),
            ("gradually, over all layers, as a search does", effort.prune_steps, effort.prune_epochs),
            ("at once, the same share of each layer", 1, 1.0),
        )
        if all(runs.done(seed=seed, way=way) for way, _, _ in ways):
            continue
        trained = perceptron(task, seed)
        approx.fit(trained, images.train, schedule_from_scratch(effort), seed=seed)
        dense = 1 - approx.accuracy(trained, images.of("test"))
        for way, steps, epochs in ways:
            if runs.done(seed=seed, way=way):
                continue
            model = perceptron(task, seed)
            model.load_state_dict(trained.state_dict())
            schedule = replace(schedule_from_scratch(effort), epochs=epochs, warm_up=0.0)
            method = approx.magnitude_masks if steps == 1 else approx.global_magnitude_masks
            approx.prune_and_retrain(
                model, images.train, schedule, sparsity=1 - LEFT, steps=steps, method=method, seed=seed
            )
            pruned = 1 - approx.accuracy(model, images.of("test"))
            left = 1 - approx.measured_sparsity(model).total
            runs.add({"seed": seed, "way": way, "dense": dense, "pruned": pruned, "left": left, "epochs": epochs})


def pruning_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of errors before and after pruning."""
    rows = [
        "| LeNet-300-100 on MNIST | weights | error before | after | epochs of retraining |",
        "|---|---|---|---|---|",
        "| Han et al., NeurIPS 2015, table 1 | 1/12 | 1.64 % | 1.59 % | |",
    ]
    for way in dict.fromkeys(run["way"] for run in runs):
        same = [run for run in runs if run["way"] == way]
        before, after = (
            f"{statistics.fmean(100 * run[name] for run in same):.2f} ± "
            f"{statistics.stdev(100 * run[name] for run in same) if len(same) > 1 else 0:.2f} %"
            for name in ("dense", "pruned")
        )
        left = statistics.fmean(run["left"] for run in same)
        rows.append(f"| ours, {way} | 1/{1 / left:.3g} | {before} | {after} | {same[0]['epochs']:g} |")
    return "\n".join(rows)


PARTS = {
    "failures": Part(
        title="Cells that fail at low voltages (Chandramoorthy et al., HPCA 2019; Stutz et al., MLSys 2021)",
        minutes=0,
        run=failures,
        table=failures_table,
    ),
    "pruning": Part(
        title="Pruning to a twelfth (Han et al., NeurIPS 2015)", minutes=1.5, run=pruning, table=pruning_table
    ),
}


def table(content: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Format all results as Markdown.

    Args:
        content: What replications.json holds.
    """
    return "\n\n".join(
        f"## {part.title}\n\n{part.table(content[name])}" for name, part in PARTS.items() if content.get(name)
    )


def main() -> None:
    """Make the runs of the parts that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="parts (default: all)")
    parser.add_argument("--data-dir", help="folder with their images; by default where `search` looks")
    parser.add_argument("--keep", type=Path, default=user_cache_dir() / "replications", help="folder of networks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.parts or PARTS:
        part = PARTS[name]
        print(f"{part.title}: about {part.minutes:g} minutes, less what is done", flush=True)  # noqa: T201
        part.run(Runs(name, arguments.data_dir, arguments.keep))


if __name__ == "__main__":
    main()
