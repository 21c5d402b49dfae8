"""The share of the best front that samplers find within a small budget, on a synthetic space: `make bench-sampling`.

A share is the hypervolume, without noise, of the measured front over that of a reference front, which `--reference`
finds with two thousand times as many evaluations. Figures are means and standard deviations over seeds.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from benchmarks.synthetic import FLOOR, SyntheticProblem
from search.pareto import hypervolume, non_dominated_mask
from search.sampling.asker import Asker, population_size
from search.sampling.offspring import Breeder, Genes

REFERENCE = Path(__file__).parent / "sampling_reference.json"
DOCUMENT = Path(__file__).parents[1] / "docs" / "search.md"
BUDGETS = (50, 100, 200)

PROBLEM = SyntheticProblem()


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to search.

    Attributes:
        sampler: A sampler of `search run --sampler`; None is Optuna's NSGA-II unchanged.
        starts: Whether to begin with the starting configurations.
        prescreen: Whether to screen children.
    """

    sampler: str | None = "nsga2"
    starts: bool = True
    prescreen: bool = True


WAYS = {
    "random": Way(sampler="random", starts=False),
    "NSGA-II as Optuna has it": Way(sampler=None, starts=False),
    "NSGA-II, small generations": Way(starts=False, prescreen=False),
    "with starting configurations": Way(prescreen=False),
    "with the pre-screen": Way(starts=False),
    "with both: the default": Way(),
    "NSGA-III": Way(sampler="nsga3"),
    "TPE": Way(sampler="tpe"),
}


def found(way: Way, seed: int, budget: int) -> list[Genes]:
    """Return the evaluated genomes, in order."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"])
    if way.sampler is None:
        study.sampler = optuna.samplers.NSGAIISampler(seed=seed)
        for _ in range(budget):
            trial = study.ask(dict(PROBLEM.distributions()))
            study.tell(trial, _measured(trial.params, seed))
    else:
        asker = Asker(
            study,
            PROBLEM,
            sampler=way.sampler,
            seed=seed,
            population_size=population_size(budget),
            starts=PROBLEM.starts() if way.starts else [PROBLEM.baseline()],
            prescreen=way.prescreen,
        )
        while trials := asker.ask_generation(budget=budget):
            for one in trials:
                study.tell(one.number, _measured(one.params, seed))
    return [trial.params for trial in study.get_trials(deepcopy=False)]


def _measured(genes: Genes, seed: int) -> tuple[float, float]:
    return PROBLEM.measured_accuracy(genes, seed), float(PROBLEM.costs([genes])[0, 0])


def share_found(way: Way, seed: int) -> dict[int, float]:
    """Return budget -> hypervolume, without noise, of the measured front over the reference's."""
    shares = {}
    genomes = found(way, seed, max(BUDGETS))
    measured = np.array([_measured(genes, seed) for genes in genomes])
    for budget in BUDGETS:
        points = np.column_stack([1 - measured[:budget, 0], measured[:budget, 1]])
        front = [genomes[index] for index in np.flatnonzero(non_dominated_mask(points))]
        shares[budget] = true_hypervolume(front) / json.loads(REFERENCE.read_text())["hypervolume"]
    return shares


def true_hypervolume(genomes: Sequence[Genes]) -> float:
    """Return the hypervolume of accuracies, without noise, above the baseline's less `FLOOR`, and decades of energy."""
    return hypervolume(_points(genomes), (0.0, 0.0))


def _points(genomes: Sequence[Genes]) -> NDArray[np.float64]:
    baseline = [PROBLEM.baseline()]
    floor = float(PROBLEM.accuracy(baseline)[0]) - FLOOR
    decades = np.log10(PROBLEM.costs(genomes)[:, 0] / PROBLEM.costs(baseline)[0, 0])
    return np.column_stack([floor - PROBLEM.accuracy(genomes), decades])


def find_reference(*, rounds: int = 1000, children: int = 400) -> dict[str, Any]:
    """Find the best front: local search from every member of an archive of non-dominated genomes."""
    rng = np.random.default_rng(2018)
    breeder = Breeder(PROBLEM, known=[], prescreen=False)
    archive: list[Genes] = list(PROBLEM.starts())
    for _ in range(rounds):
        bred = [breeder.bred(archive, rng) for _ in range(children)]
        everyone = archive + list({PROBLEM.identity(genes): genes for genes in bred}.values())
        points = _points(everyone)
        order = np.lexsort((points[:, 1], points[:, 0]))
        lowest = np.minimum.accumulate(np.append(np.inf, points[order, 1]))[:-1]
        archive = [everyone[index] for index in order[points[order, 1] < lowest]]
    return {"hypervolume": true_hypervolume(archive), "evaluations": rounds * children, "points": len(archive)}


def main() -> None:
    """Compare the ways, and find the reference front again if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", action="store_true", help="find the reference front again, and keep it")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", help="only the ways whose name contains this")
    parser.add_argument("--write", action="store_true", help="put the table into docs/search.md")
    arguments = parser.parse_args()
    if arguments.reference:
        REFERENCE.write_text(json.dumps(find_reference(), indent=1) + "\n")
    lines = [f"{'':32}" + "".join(f"{f'at {budget}':>15}" for budget in BUDGETS)]
    sys.stdout.write(f"{lines[0]}\n")
    with ProcessPoolExecutor() as pool:
        for name, way in WAYS.items():
            if arguments.only and arguments.only not in name:
                continue
            started = time.perf_counter()
            run: Callable[[int], dict[int, float]] = partial(share_found, way)
            shares = list(pool.map(run, range(arguments.seeds)))
            cells = ""
            for budget in BUDGETS:
                at = [share[budget] for share in shares]
                cells += f"  {fmean(at):6.3f} ±{float(np.std(at)):.3f}"
            lines.append(f"{name:32}{cells}")
            sys.stdout.write(f"{lines[-1]}  ({time.perf_counter() - started:.0f} s)\n")
    if arguments.write:
        pattern = re.compile(r"(<!-- sampling: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
        table = "```\n" + "\n".join(lines) + "\n```\n"
        DOCUMENT.write_text(pattern.sub(lambda match: match[1] + table + match[2], DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
