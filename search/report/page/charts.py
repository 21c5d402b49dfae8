"""The data of the charts of a search's page, as JSON values. `page.js` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from statistics import median
from typing import Any

from search.answers import words
from search.answers.confirmation import Answer
from search.answers.result import SearchResult, front_hypervolume
from search.multipliers.identity import multiplier_name
from search.report.pictures import COMPONENT_COLOURS
from search.space.target import Target
from search.space.techniques import TECHNIQUES, techniques_of
from search.store.records import Record, TrialEnd, within_area

MOST_POINTS = 2000  # evaluations behind the front: more cannot be distinguished, and are slow to draw
MOST_LINES = 400  # evaluations across the knobs, beside those of the front
LOSSES = (0.5, 1.0, 2.0, 5.0)  # percentage points below the baseline


def chart_data(result: SearchResult, trials: Sequence[TrialEnd]) -> dict[str, Any]:
    """Return the data of all charts. Accuracies are percentages, energies in `unit`."""
    behind = spread(trained(result), MOST_POINTS)
    stopped = spread([record for record in result.evaluations if record.evaluation.stopped], MOST_POINTS)
    size, unit = words.energy_unit(median(record.evaluation.energy_pj for record in result.evaluations))
    target = result.answer.target.accuracy(result.baseline.evaluation.accuracy)
    found = result.answer.record

    def points(records: Sequence[Record]) -> dict[str, list[Any]]:
        return _points(records, size, result.answer)

    return {
        "name": result.search.name,
        "unit": unit,
        "columns": list(words.COLUMNS),
        "target": target * 100,
        "third": result.search.settings.third,
        "baseline": points([result.baseline]),
        "right_sized": result.answer.right_sized.record.evaluation.energy_pj / size,
        "confirmed": result.answer.confirmed,
        "verdicts": words.verdicts(result.search.task),
        "answer": points([] if found is None or found.key == result.baseline.key else [found]),
        "front": points(result.front),
        "behind": points(behind),
        "stopped": points(stopped),
        "alone": {name: points(records) for name, records in alone(result).items()},
        "course": _course(result, trials),
        "breakdown": _breakdown(result),
        "knob_axes": _knob_axes(lines(result)),
    }


def trained(result: SearchResult) -> list[Record]:
    """Return the evaluations that were trained to the end; the others have only an early accuracy."""
    return [record for record in result.evaluations if not record.evaluation.stopped]


def alone(result: SearchResult) -> dict[str, list[Record]]:
    """Return technique -> the evaluations that differ from the baseline by it alone, cheapest first."""
    found: dict[str, list[Record]] = {technique: [] for technique in TECHNIQUES}
    baseline = result.baseline.evaluation.candidate
    for record in sorted(trained(result), key=lambda r: (r.evaluation.energy_pj, r.key)):
        techniques = techniques_of(record.evaluation.candidate, baseline)
        if len(techniques) == 1:
            found[next(iter(techniques))].append(record)
    return found


def chosen(result: SearchResult) -> list[tuple[str, Record]]:
    """Return the baseline and the answers within each of `LOSSES` and at the search's target, with labels.

    Answers are confirmed ones, as everywhere; those that are not are labelled so. Each is there once.
    """
    labels: dict[tuple[str, bool], list[str]] = {}
    records = {result.baseline.key: result.baseline}
    for loss in LOSSES:
        answer = result.stored.answer(Target(max_accuracy_drop=loss / 100, max_area=result.search.target.max_area))
        record = answer.record or result.baseline
        records.setdefault(record.key, record)
        labels.setdefault((record.key, answer.confirmed), []).append(f"{loss:g}")
    labelled = [("Baseline", result.baseline)]
    for (key, confirmed), within in labels.items():
        if key != result.baseline.key:
            joined = " and ".join(filter(None, (", ".join(within[:-1]), within[-1])))
            unsure = "" if confirmed else ", not confirmed"
            labelled.append((f"Within {joined} point{'' if joined == '1' else 's'}{unsure}", records[key]))
    answer = result.answer
    if answer.record is not None and answer.record.key not in records:
        at = str(answer.target).removesuffix(" of the baseline").capitalize()
        labelled.append((f"{at}{'' if answer.confirmed else ', not confirmed'}", answer.record))
    return labelled


def lines(result: SearchResult) -> list[Record]:
    """Return the evaluations to draw across the knobs: the front and others, evenly spread; the best last, on top."""
    records = {record.key: record for record in (*spread(trained(result), MOST_LINES), *result.front)}
    return sorted(records.values(), key=lambda r: (r.evaluation.accuracy, -r.evaluation.energy_pj, r.key))


def _points(records: Sequence[Record], size: float, answer: Answer) -> dict[str, list[Any]]:
    evaluations = [record.evaluation for record in records]
    return {
        "id": [record.id for record in records],
        "accuracy": [round(e.accuracy * 100, 4) for e in evaluations],
        "error": [round(e.accuracy_standard_error * 100, 4) for e in evaluations],
        "worst": [round(e.accuracy_worst * 100, 4) for e in evaluations],
        "energy": [e.energy_pj / size for e in evaluations],
        "verdict": [answer.verdict(record) for record in records],
        "words": [list(words.configuration(e.candidate).values()) for e in evaluations],
    }


def _course(result: SearchResult, trials: Sequence[TrialEnd]) -> dict[str, list[float]]:
    """Return the hypervolume after each trial that ended with an evaluation."""
    offered = within_area(result.evaluations, result.search.target, result.baseline)
    records = {record.key: record for record in offered}
    members: list[Record] = []
    volume, volumes = 0.0, []
    for trial in trials:
        record = None if trial.evaluation_key is None else records.pop(trial.evaluation_key, None)
        if trial.evaluation_key is None:
            continue
        if record is not None and not any(_beats(member, record) for member in members):  # new, and not dominated
            members = [*(member for member in members if not _beats(record, member)), record]
            volume = front_hypervolume(members, result.baseline)
        volumes.append(volume)
    return {"evaluation": [float(number) for number in range(1, len(volumes) + 1)], "hypervolume": volumes}


def _beats(one: Record, other: Record) -> bool:
    """Return whether one is at least as accurate and at most as expensive."""
    a, b = one.evaluation, other.evaluation
    return a.accuracy >= b.accuracy and a.energy_pj <= b.energy_pj


def _breakdown(result: SearchResult) -> dict[str, Any]:
    """Return the energy of the chosen evaluations by component, in pJ and in words."""
    bars = chosen(result)
    found = {name for _, record in bars for name, pj in record.evaluation.components_pj.items() if pj > 0}
    names = [name for name in COMPONENT_COLOURS if name in found]
    names += sorted(found - set(names))  # components without a colour
    return {
        "bars": [
            {"label": label, "total": words.energy(record.evaluation.energy_pj), "pj": record.evaluation.energy_pj}
            for label, record in bars
        ],
        "components": [
            {
                "name": name.replace("_", " "),
                "colour": COMPONENT_COLOURS.get(name, "#777777"),
                "pj": (values := [record.evaluation.components_pj.get(name, 0.0) for _, record in bars]),
                "words": [words.energy(value) for value in values],
            }
            for name in names
        ],
    }


def _knob_axes(records: Sequence[Record]) -> dict[str, Any]:
    """Return an axis for each knob that varies, and the values of those that do not."""
    axes: list[dict[str, Any]] = []
    constant = []
    for (name, unit), values in _knob_values(records).items():
        different = sorted(set(values))
        label = f"{name}, {unit}" if unit else name
        if len(different) == 1:
            constant.append(f"{name} {different[0]} {unit}".strip())
        elif isinstance(different[0], str):
            places = {value: place for place, value in enumerate(different)}
            axes.append({"label": label, "values": [places[value] for value in values], "names": different})
        else:
            axes.append({"label": label, "values": values})
    return {
        "axes": axes,
        "constant": constant,
        "log_energy": [log10(record.evaluation.energy_pj) for record in records],
        "accuracy": [round(record.evaluation.accuracy * 100, 4) for record in records],
    }


def _knob_values(records: Sequence[Record]) -> dict[tuple[str, str], list[Any]]:
    """Return the values of each knob, by its name and unit."""
    candidates = [record.evaluation.candidate for record in records]
    values: dict[tuple[str, str], list[Any]] = {
        ("network", ""): [c.family for c in candidates],
        ("depth", ""): [c.depth for c in candidates],
        ("width", ""): [c.width for c in candidates],
        ("prune", "%"): [round(c.sparsity * 100, 2) for c in candidates],
        ("weight bits", ""): [c.weight_bits for c in candidates],
        ("activation bits", ""): [c.activation_bits for c in candidates],
        ("multiplier", ""): [multiplier_name(c.multiplier) for c in candidates],
        ("memory", "V"): [c.supply_v for c in candidates],
        ("robust bits", ""): [c.robust_bits for c in candidates],
    }
    if any(len(set(c.groups)) > 1 for c in candidates):
        for place, where in ((0, "first layer"), (2, "last layer")):
            values["multiplier", where] = [multiplier_name(c.groups[place].multiplier) for c in candidates]
            values["robust bits", where] = [c.groups[place].robust_bits for c in candidates]
    return values


def spread(records: Sequence[Record], most: int) -> Sequence[Record]:
    """Return at most `most` of the records, evenly spread over their order."""
    if len(records) <= most:
        return records
    return [records[place * len(records) // most] for place in range(most)]
