"""Results as JSON values, as `--json` prints them and the service sends them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from search.answers import words
from search.answers.confirmation import Answer, Confirmation
from search.answers.result import SearchResult
from search.store.records import Record, SearchRecord


def record_json(record: Record, baseline: Record) -> dict[str, Any]:
    """Return one evaluation with its saving. Accuracies are shares in [0, 1], energies pJ per inference.

    `area_ratio` is its area over the baseline's.
    """
    evaluation = record.evaluation
    tested = record.test_accuracies
    return {
        "id": record.id,
        "candidate": evaluation.candidate.to_dict(),
        "accuracy": evaluation.accuracy,
        "accuracy_standard_error": evaluation.accuracy_standard_error,
        "accuracy_worst_chip": evaluation.accuracy_worst,
        "test_accuracy": record.test_accuracy,
        "test_accuracy_worst_chip": None if tested is None else min(tested),
        "energy_pj": evaluation.energy_pj,
        "energy_low_pj": evaluation.energy_range_pj[0],
        "energy_high_pj": evaluation.energy_range_pj[1],
        "saving": baseline.evaluation.energy_pj / evaluation.energy_pj,
        "components_pj": dict(evaluation.components_pj),
        "hardware": evaluation.hardware,
        "latency_us": evaluation.latency_us,
        "area_mm2": evaluation.area_mm2,
        "area_ratio": evaluation.area_mm2 / baseline.evaluation.area_mm2,
        "macs": evaluation.macs,
        "density": evaluation.density,
        "narrow_sums": None if evaluation.narrow_sums is None else asdict(evaluation.narrow_sums),
        "seed": record.seed,
        "effort": record.setup.effort,
        "seconds": evaluation.seconds,
        "cpu_seconds": evaluation.cpu_seconds,
        "joules": evaluation.joules,
    }


def row_json(record: Record, answer: Answer) -> dict[str, Any]:
    """Return one evaluation beside an answer: with its saving against both references, and its verdict.

    `verdict` is null if the evaluation does not reach the target in the search's own measurement.
    """
    return {
        **record_json(record, answer.baseline),
        "saving_right_sized": answer.saving_right_sized(record),
        "verdict": answer.verdict(record),
    }


def search_json(search: SearchRecord) -> dict[str, Any]:
    """Return a search without its results."""
    task = search.task
    return {
        "name": search.name,
        "dataset": task.dataset.identity,
        "network": None if task.network is None else task.network.path,
        "train": task.train,
        "metric": task.metric,
        "hardware": search.hardware,
        "seed": search.seed,
        "budget": search.budget,
        "population_size": search.population_size,
        "min_accuracy": search.target.min_accuracy,
        "max_area": search.target.max_area,
        "multipliers": list(search.multipliers),
        "space": dict(search.space),
        "sampler": search.settings.sampler,
        "prescreen": search.settings.prescreen,
        "asynchronous": search.settings.asynchronous,
        "effort": search.settings.effort,
        "precision": search.settings.precision,
        "third_objective": search.settings.third,
        "created_at": search.created_at.isoformat(timespec="seconds") + "Z",
        "finished": search.finished_at is not None,
    }


def result_json(result: SearchResult) -> dict[str, Any]:
    """Return a search with its baseline and front, most accurate first."""
    return {
        **search_json(result.search),
        "evaluations": result.finished,
        "distinct": result.distinct,
        "failed": result.failed,
        "hypervolume": result.hypervolume,
        "baseline": row_json(result.baseline, result.answer),
        "front": [row_json(record, result.answer) for record in result.front],
        "answer": answer_json(result.answer),
    }


def answer_json(answer: Answer) -> dict[str, Any]:
    """Return the cheapest configuration for a target, with the runs that confirm it or do not.

    `class_accuracies` are on the images that `class_accuracies_on` names. `caution` says what the accuracies cannot
    know.
    """
    target = answer.target
    found: dict[str, Any] = {
        "min_accuracy": target.min_accuracy,
        "max_accuracy_drop": target.max_accuracy_drop,
        "max_area": target.max_area,
        "confirmed": answer.confirmed,
        "shortfall": answer.shortfall,
        "baseline": row_json(answer.baseline, answer),
        "right_sized": right_sized_json(answer),
        "caution": words.caution(answer.task),
        "best": None,
        "class_accuracies": None,
        "class_accuracies_on": None,
        "confirmation": None if answer.confirmation is None else confirmation_json(answer.confirmation),
        "baseline_confirmation": None,
        "rejected": [
            {**row_json(record, answer), "confirmation": confirmation_json(confirmation)}
            for record, confirmation in answer.rejected
        ],
    }
    if answer.record is not None:
        found["best"] = row_json(answer.record, answer)
        found["class_accuracies_on"], shares = answer.class_accuracies
        found["class_accuracies"] = dict(zip(answer.task.dataset.class_names, shares, strict=True))
    if answer.baseline_confirmation is not None:
        found["baseline_confirmation"] = confirmation_json(answer.baseline_confirmation)
    return found


def right_sized_json(answer: Answer) -> dict[str, Any]:
    """Return the right-sized network of an answer with its fresh runs, null if there are none."""
    confirmation = answer.right_sized.confirmation
    runs = None if confirmation is None else confirmation_json(confirmation)
    return {**row_json(answer.right_sized.record, answer), "confirmation": runs}


def confirmation_json(confirmation: Confirmation) -> dict[str, Any]:
    """Return the runs of a candidate. Accuracies are shares in [0, 1].

    `retrained` says whether each run is a fresh one; if not, all of them are one measurement, which was bootstrapped
    over `images` and `chips`.
    """
    accuracy = confirmation.accuracy
    return {
        "confirmed": confirmation.confirmed,
        "runs": len(confirmation.runs),
        "retrained": confirmation.retrained,
        "images": confirmation.images,
        "chips": confirmation.chips,
        "accuracy": accuracy.value,
        "accuracy_standard_error": accuracy.standard_error,
        "accuracy_lower_bound": accuracy.lower_bound,
        "margin_lower_bound": confirmation.margin.lower_bound,
        "test_accuracy": confirmation.test_accuracy,
        "test_class_accuracies": list(confirmation.test_class_accuracies),
    }
