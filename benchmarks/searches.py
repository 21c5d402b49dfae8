"""Times of searches of real tasks, and whether their answers hold: `python -m benchmarks.searches WHAT ...`.

WHAT is `digits`, `mnist`, `cifar10`, `idle`, `caching`, `stored` or `answers`. Results are kept in searches.json, from
which `python -m benchmarks.tables` writes the table in docs/search.md. `answers` and `mnist` take about 20 minutes
each, the others minutes; `cifar10` takes hours, keeps what it has in the folder of `--keep` and goes on from there, and
writes its front and its answer into cifar10_search.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import search
from energy import load_hardware
from search.answers.confirmation import Answer
from search.answers.result import SearchResult
from search.api import _best
from search.api.options import SearchOptions
from search.api.workplace import Workplace, default_workers
from search.defaults import DEFAULT_HARDWARE
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.work import Confirm, Done
from search.executors.ray_executor import RayExecutor
from search.images.places import ImagePlaces
from search.locations import user_cache_dir
from search.multipliers.choice import choose
from search.observer import Observer
from search.report.json_values import result_json
from search.space.candidate import Candidate
from search.space.target import Target
from search.space.task import find_task
from search.store.database import Store
from search.store.records import Record, SearchRecord

KEPT = Path(__file__).parent / "searches.json"
CIFAR10 = Path(__file__).parent / "cifar10_search.json"
TARGETS = (
    *(Target(min_accuracy=accuracy) for accuracy in (0.9, 0.93, 0.95)),
    *(Target(max_accuracy_drop=drop) for drop in (0.01, 0.02, 0.05)),
)
SEEDS = range(10)
FRESH_RUNS = range(1000, 1010)  # numbers that no confirmation reaches
STORED = 10_000


class Phases(Observer):
    """Records when a search began to evaluate and when its phases ended."""

    def __init__(self) -> None:
        self.began = self.searched = 0.0
        self.seconds = 0.0  # of all new evaluations, measured by their workers

    def started(self, search: SearchRecord, done: Sequence[Record], trials: int) -> None:
        """Record when the search begins."""
        self.began = time.perf_counter()

    def evaluated(self, record: Record, *, reused: bool) -> None:
        """Add the time of a new evaluation."""
        if not reused:
            self.seconds += record.evaluation.seconds

    def testing(self, count: int) -> None:
        """Record when the last evaluation was made."""
        self.searched = time.perf_counter()

    def idle(self, workers: int) -> float:
        """Return the share of the workers' time, up to the last evaluation, in which they evaluated nothing."""
        return 1 - self.seconds / (workers * (self.searched - self.began))


def _timed_search(
    dataset: str,
    folder: Path,
    *,
    budget: int | None = None,
    effort: str | None = None,
    options: SearchOptions = SearchOptions(fresh=True),
    workplace: Workplace = Workplace(workers=2),
) -> tuple[SearchResult, Phases, float]:
    phases = Phases()
    started = time.perf_counter()
    result = search.run(
        dataset=dataset,
        budget=budget,
        effort=effort,
        options=options,
        workplace=replace(workplace, storage=str(folder / "results.db")),
        observer=phases,
    )
    return result, phases, time.perf_counter() - started


def _search_row(dataset: str, folder: Path, data_dir: str | None) -> dict[str, Any]:
    result, phases, seconds = _timed_search(dataset, folder, workplace=Workplace(workers=2, data_dir=data_dir))
    assert result.answer is not None
    return {
        "evaluations": result.finished,
        "seconds": round(seconds, 1),
        "of these searching": round(phases.searched - phases.began, 1),
        "not evaluating": round(phases.idle(2), 4),
        "confirmed": result.answer.confirmed,
        "saving": None if result.answer.record is None else round(result.saving(result.answer.record), 2),
    }


def time_digits(folder: Path, data_dir: str | None) -> dict[str, Any]:
    """Time 200 evaluations of digits on two workers, from the import of Ray to the confirmed answer."""
    return _search_row("digits", folder, data_dir)


def time_mnist(folder: Path, data_dir: str | None) -> dict[str, Any]:
    """Time the same on MNIST."""
    return _search_row("mnist", folder, data_dir)


def time_cifar10(folder: Path, data_dir: str | None) -> dict[str, Any]:
    """Add up the times of 200 evaluations of CIFAR-10 and of the fresh runs of its answer within one point.

    A search that was stopped is resumed, so times are those of evaluations and runs, which two workers share.
    """
    storage = folder / "cifar10.db"
    folder.mkdir(parents=True, exist_ok=True)
    result = search.run(
        dataset="cifar10",
        max_accuracy_drop=0.01,
        budget=200,
        options=SearchOptions(name="cifar10", resume=storage.exists(), fresh=True),
        workplace=Workplace(workers=2, data_dir=data_dir, storage=str(storage), cache=str(folder / "cache")),
    )
    CIFAR10.write_text(json.dumps(result_json(result), indent=1) + "\n")
    answer = result.answer
    assert answer is not None
    assert answer.baseline_confirmation is not None
    evaluating = sum(one.evaluation.seconds for one in result.evaluations)
    confirming = sum(run.seconds for one in answer.confirmations.values() for run in one.runs)
    return {
        "evaluations": result.finished,
        "hours of two workers": round(evaluating / 2 / 3600, 2),
        "hours of fresh runs": round(confirming / 2 / 3600, 2),
        "confirmed": answer.confirmed,
        "baseline on test images": round(answer.baseline_confirmation.test_accuracy, 4),
        "answer on test images": None if answer.confirmation is None else round(answer.confirmation.test_accuracy, 4),
        "saving": None if answer.record is None else round(result.saving(answer.record), 2),
    }


def idle_times(folder: Path, data_dir: str | None) -> dict[str, Any]:
    """Measure how long workers wait on digits, in whole generations and asynchronously."""
    shares = {}
    for name, asynchronous in (("generations", False), ("asynchronous", True)):
        _, phases, _ = _timed_search(
            "digits",
            folder / name,
            budget=100,
            options=SearchOptions(fresh=True, confirm=False, asynchronous=asynchronous),
        )
        shares[name] = round(phases.idle(2), 4)
    return shares


def caching(folder: Path, data_dir: str | None) -> dict[str, Any]:
    """Time the evaluations of a search of digits with a cache of trained networks and without."""
    evaluating, searching, fronts = [], [], []
    for name, limit in (("kept", None), ("none kept", 1)):
        result, phases, _ = _timed_search(
            "digits",
            folder / name,
            options=SearchOptions(fresh=True, confirm=False),
            workplace=Workplace(workers=2, cache_limit=limit),
        )
        evaluating.append(round(phases.seconds, 1))
        searching.append(round(phases.searched - phases.began, 1))
        fronts.append([record.key for record in result.front])
    assert fronts[0] == fronts[1]
    return {
        "evaluating": evaluating,
        "searching": searching,
        "ratio": round(evaluating[1] / evaluating[0], 2),
        "ratio of searching": round(searching[1] / searching[0], 2),
    }


def stored_times(folder: Path, data_dir: str | None) -> dict[str, Any]:
    """Time `search show` and `search best` with 10,000 stored evaluations and all fresh runs that are needed."""
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / "results.db"
    result, _, _ = _timed_search(
        "digits",
        folder,
        budget=40,
        effort="quick",
        options=SearchOptions(fresh=True, confirm=False),
        workplace=Workplace(workers=0),
    )
    fill(database, result)

    def seconds(*arguments: str) -> float:
        started = time.perf_counter()
        subprocess.run(  # noqa: S603
            [sys.executable, "-m", "search", *arguments, "--storage", str(database)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - started

    best = ("best", "--effort", "quick")
    seconds(*best)  # makes the runs
    timed = {"show": ("show", result.search.name), "best": best, "best --no-confirm": (*best, "--no-confirm")}
    return {name: round(min(seconds(*arguments) for _ in range(5)), 2) for name, arguments in timed.items()}


def fill(database: Path, result: SearchResult) -> None:
    """Add similar evaluations to a search until it has `STORED`."""
    records = [record for record in result.evaluations if record.key != result.baseline.key]
    with Store.open(f"sqlite:///{database}", create=False) as store:
        for number in range(len(result.evaluations), STORED):
            like = records[number % len(records)].evaluation
            share = 1 + number / STORED
            evaluation = replace(
                like,
                candidate=replace(like.candidate, sparsity=round(0.9 * number / STORED, 4)),
                chip_accuracies=tuple(accuracy / share for accuracy in like.chip_accuracies),
                components_pj={name: pj * share for name, pj in like.components_pj.items()},
            )
            key = f"{number:064x}"
            store.evaluations.record(key, evaluation, result.search.setup, seed=0)
            store.searches.record_trial(result.search, number, evaluation_key=key)


def answers(folder: Path, data_dir: str | None) -> dict[str, Any]:
    """Count the confirmed answers that are truly below their target, by ten independent trainings.

    These have other random numbers and another split of the training and validation images than all searches and
    confirmations, and are measured on the images they hold out and on the test images. Searches share their networks
    and nothing else.
    """
    given: list[tuple[Target, Answer]] = []
    front: set[str] = set()
    for seed in SEEDS:
        here = Workplace(storage=str(folder / f"{seed}.db"), cache=folder / "cache", workers=2)
        result = search.run(seed=seed, options=SearchOptions(fresh=True, confirm=False), workplace=here)
        questions = [(result.evaluations, one) for one in TARGETS]
        found = _best.answers(
            questions, result.baseline, find_task("digits"), load_hardware(DEFAULT_HARDWARE), workplace=here
        )
        given += zip(TARGETS, found, strict=True)
        front |= {record.key for record in result.front}
    # The baseline loses nothing to itself, which is trivial.
    confirmed = [(target, answer) for target, answer in given if answer.confirmed and not _is_trivial(target, answer)]
    candidates = {
        record.evaluation.candidate for _, answer in confirmed for record in (answer.baseline, answer.record) if record
    }
    held_out, test = _retrained(candidates, folder)
    below, below_in_test = _shortfalls(confirmed, held_out), _shortfalls(confirmed, test)
    return {
        "answers": len(given),
        "confirmed": len(confirmed),
        "the baseline": sum(_is_trivial(target, answer) for target, answer in given),
        "off the front": sum(answer.record is not None and answer.record.key not in front for _, answer in confirmed),
        "rejected": round(fmean(len(answer.rejected) for _, answer in given), 2),
        "different": len(candidates),
        "below": sum(miss > 0 for miss in below),
        "by at most": round(max(below, default=0.0), 5),
        "below in test": sum(miss > 0 for miss in below_in_test),
        "in test by at most": round(max(below_in_test, default=0.0), 5),
        "saving": round(fmean(_saving(answer) for _, answer in confirmed), 2) if confirmed else None,
        "luck of the cheapest": round(fmean(_luck(answer, held_out) for _, answer in confirmed), 5)
        if confirmed
        else None,
    }


def _is_trivial(target: Target, answer: Answer) -> bool:
    return target.min_accuracy is None and answer.record == answer.baseline


def _shortfalls(answers: Sequence[tuple[Target, Answer]], truth: Mapping[Candidate, float]) -> list[float]:
    """Return how far each answer is below its target; negative if it is above."""
    below = []
    for target, answer in answers:
        assert answer.record is not None
        wanted = target.accuracy(truth[answer.baseline.evaluation.candidate])
        below.append(wanted - truth[answer.record.evaluation.candidate])
    return below


def _saving(answer: Answer) -> float:
    assert answer.record is not None
    return answer.baseline.evaluation.energy_pj / answer.record.evaluation.energy_pj


def _luck(answer: Answer, truth: Mapping[Candidate, float]) -> float:
    """Return how much better the search measured the answer than it is."""
    assert answer.record is not None
    return answer.record.evaluation.accuracy - truth[answer.record.evaluation.candidate]


def _retrained(
    candidates: Collection[Candidate], folder: Path
) -> tuple[dict[Candidate, float], dict[Candidate, float]]:
    """Return candidate -> mean accuracy over ten trainings, on the images they held out and on the test images."""
    task = find_task("digits")
    ordered = sorted(candidates, key=lambda candidate: candidate.key)
    jobs = [
        Confirm(key=f"{place}/{run}", candidate=candidate, run=run)
        for run in FRESH_RUNS
        for place, candidate in enumerate(ordered)
    ]
    found: dict[int, list[tuple[float, float]]] = {}
    with RayExecutor(
        task,
        datasets.load(task, ImagePlaces.at(folder)),
        load_hardware(DEFAULT_HARDWARE),
        seed=0,
        cache=TrainingCache(folder / "cache"),
        workers=2,
        multipliers=choose(sorted({name for candidate in ordered for name in candidate.multipliers})),
    ) as executor:
        for outcome in executor.run(jobs):
            assert isinstance(outcome, Done), outcome
            found.setdefault(int(outcome.key.partition("/")[0]), []).append(
                (outcome.result.accuracy, outcome.result.test_accuracy)
            )
    held_out, test = (
        {candidate: fmean(run[part] for run in found[place]) for place, candidate in enumerate(ordered)}
        for part in (0, 1)
    )
    return held_out, test


MEASURED: Mapping[str, Callable[[Path, str | None], dict[str, Any]]] = {
    "digits": time_digits,
    "mnist": time_mnist,
    "cifar10": time_cifar10,
    "idle": idle_times,
    "caching": caching,
    "stored": stored_times,
    "answers": answers,
}


RESUMED = ("cifar10",)


def table(kept: Mapping[str, Any]) -> str:
    """Format the measurements with their bounds as a Markdown table."""
    rows = ["| measured | found | bound |", "|---|---|---|"]
    for name, bound in (("digits", 180), ("mnist", 1800)):
        if one := kept.get(name):
            allowed = "" if name == "digits" else "< 5 %" if one["not evaluating"] < 0.05 else "< 5 %, missed"
            rows += [
                f"| {name}, {one['evaluations']} evaluations, two workers, to the end of its fresh runs | "
                f"{one['seconds'] / 60:.1f} min | < {bound // 60} min |",
                f"| {name}: share of the workers' time in which they evaluate nothing | {one['not evaluating']:.1%} | "
                f"{allowed} |",
            ]
    if one := kept.get("cifar10"):
        answered = "none" if one["answer on test images"] is None else f"{one['answer on test images']:.1%}"
        rows += [
            f"| cifar10, {one['evaluations']} evaluations, two workers; and the fresh runs of the answer within one "
            f"point | {one['hours of two workers']:.1f} h; {one['hours of fresh runs']:.1f} h | < 9 h |",
            "| cifar10: baseline and answer on test images, in fresh runs | "
            f"{one['baseline on test images']:.1%}, {answered} | >= 91 % |",
        ]
    if one := kept.get("idle"):
        rows.append(
            f"| the same, 100 evaluations of digits, whole generations and `--asynchronous` | "
            f"{one['generations']:.1%}, {one['asynchronous']:.1%} | |"
        )
    if one := kept.get("caching"):
        missed = "" if one["ratio"] >= 3 else ", missed"
        rows += [
            f"| digits, 200 evaluations: workers' time without kept networks, over that with | {one['ratio']:.2f} | "
            f">= 3{missed} |",
            f"| the same of the whole search, which also asks and stores | {one['ratio of searching']:.2f} | |",
        ]
    if one := kept.get("stored"):
        rows += [
            f"| `search {name}` of {STORED:,} evaluations, with the start of Python | {one[name]:.2f} s | < 1 s |"
            for name in ("show", "best", "best --no-confirm")
        ]
    if one := kept.get("answers"):
        missed = "" if one["below"] <= 0.05 * one["confirmed"] else ", missed"
        below = f"{one['below']} ({one['below'] / max(1, one['confirmed']):.1%})"
        in_test = f"{one['below in test']}, by at most {max(0, one['in test by at most']) * 100:.1f} points"
        rows += [
            f"| digits, {len(SEEDS)} seeds, {len(TARGETS)} targets: confirmed answers | "
            f"{one['confirmed']} of {one['answers']} | |",
            f"| other answers that are the baseline, which loses nothing to itself | {one['the baseline']} | |",
            f"| confirmed answers off the front, dominated by a rejected candidate | {one['off the front']} | |",
            f"| confirmed, but truly below their target by {len(FRESH_RUNS)} retrainings | {below} | <= 5 %{missed} |",
            f"| the same on the 450 test images, whose own standard error is about 1 point | {in_test} | |",
            f"| accuracy of these in the search minus that when retrained | "
            f"{one['luck of the cheapest'] * 100:.2f} points | |",
        ]
    return "\n".join(rows)


def main() -> None:
    """Measure what the arguments name, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", choices=MEASURED)
    parser.add_argument("--data-dir", help="folder of datasets, for `mnist` and `cifar10`")
    parser.add_argument("--keep", type=Path, default=user_cache_dir() / "searches", help="folder of what is resumed")
    arguments = parser.parse_args()
    for what in arguments.what:
        with tempfile.TemporaryDirectory() as folder:
            place = arguments.keep if what in RESUMED else Path(folder)
            found = MEASURED[what](place, arguments.data_dir)
        kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        kept["machine"] = f"{platform.machine()}, {default_workers()} cores"
        KEPT.write_text(json.dumps({**kept, what: found}, indent=1) + "\n")
        sys.stdout.write(f"{what}: {json.dumps(found)}\n")


if __name__ == "__main__":
    main()
