"""The result of a search as a web page in one file: text and tables here, the data of charts in `charts.py`.

The page is `page.html` with its style sheet, its script and Plotly's inside, so it loads nothing; its content security
policy forbids it to. All names that users chose are escaped: text for HTML, values for a script element.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from search.answers import words
from search.answers.result import SearchResult
from search.evaluation.evaluation import Evaluation
from search.report.page.answer import answer_section
from search.report.page.charts import MOST_POINTS, alone, chart_data, lines, spread
from search.report.page.importance import Importance, knob_importance, knobs_of, searched_space
from search.space.commands import export_command
from search.space.search_space import SearchSpace
from search.store.records import Record, TrialEnd

_THIRD_WORDS = {"area_mm2": "area", "latency_us": "latency"}
_KNOB_WORDS = {
    "family": "network",
    "depth": "depth",
    "width": "width",
    "sparsity": "prune",
    "weight_bits": "weight bits",
    "activation_bits": "activation bits",
    "multiplier": "multiplier",
    "supply_v": "memory voltage",
    "robust_bits": "robust bits",
    "multiplier_first": "multiplier, first layer",
    "multiplier_last": "multiplier, last layer",
    "robust_bits_first": "robust bits, first layer",
    "robust_bits_last": "robust bits, last layer",
}


def render(result: SearchResult, trials: Sequence[TrialEnd], *, written_by: Mapping[str, str]) -> str:
    """Render the page as HTML.

    Args:
        result: The result of the search.
        trials: How each of its trials ended, in order.
        written_by: Name -> version of the programs that write the page.
    """
    from plotly.offline import get_plotlyjs  # imported late, because it reads a file of almost 5 MB

    third = result.search.settings.third
    parts = {
        "name": escape(result.search.name),
        "task": escape(_task_words(result)),
        "answer": answer_section(result),
        "front_words": escape(_front_words(result)),
        "front_notes": _front_notes(result),
        "confirming": words.confirming(result.search.task),
        "objectives": "both" if third is None else f"accuracy, energy and {_THIRD_WORDS[third]} at once",
        "lines": f"A line for {_lines_words(result)}.",
        "importance": importance_section(result),
        "table": _table(result),
        "run": _run(result, written_by),
        "failures": _failures(trials),
        "style": _beside("css"),
        "data": _in_script(chart_data(result, trials)),
        "script": _beside("js"),
        "plotly": re.sub(r"</(?=script)", r"<\\/", get_plotlyjs(), flags=re.IGNORECASE),
    }
    # In one pass, so that inserted text is never taken for a placeholder.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _beside("html"))


def _beside(ending: str) -> str:
    return Path(__file__).with_suffix(f".{ending}").read_text(encoding="utf-8")


def _in_script(value: Any) -> str:
    """Return JSON that no HTML parser takes for markup, such as the end of the script element that holds it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII by default
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _task_words(result: SearchResult) -> str:
    task = result.search.task
    return task.dataset.title + (f", with the network {task.network.path}" if task.network else "")


# The words of charts -----------------------------------------------------------------------------------------------


def _front_words(result: SearchResult) -> str:
    """Describe the chart of the front for readers who do not see it."""
    baseline = result.baseline.evaluation
    if not result.front:
        return "Chart of accuracy against energy. The front is empty: no evaluation is within the bound on area yet."
    first, last = result.front[0].evaluation, result.front[-1].evaluation
    rejected = sum(result.answer.verdict(record) == "rejected" for record in result.front)
    hollow = f"; {words.confirming(result.search.task)} rejected {rejected} of them" if rejected else ""
    return (
        f"Chart of accuracy against energy. The front has {words.count(len(result.front), 'configuration')}, from "
        f"{words.percent(first.accuracy)} % at {words.energy(first.energy_pj)} to {words.percent(last.accuracy)} % "
        f"at {words.energy(last.energy_pj)}{hollow}; the baseline has {words.percent(baseline.accuracy)} % at "
        f"{words.energy(baseline.energy_pj)}. The table below has the same numbers."
    )


def _front_notes(result: SearchResult) -> str:
    notes = []
    absent = [technique for technique, records in alone(result).items() if not records]
    if absent:
        notes.append(f"No evaluation differs from the baseline by {_or(absent)} alone.")
    if len(result.evaluations) > MOST_POINTS:
        notes.append(
            f"Behind the front, {MOST_POINTS:,} of {len(result.evaluations):,} evaluations are drawn, evenly over the "
            "search."
        )
    return "".join(f" {note}" for note in notes)


def _lines_words(result: SearchResult) -> str:
    drawn = len(lines(result))
    if drawn == len(result.evaluations):
        return "every evaluation"
    return f"{drawn:,} of {len(result.evaluations):,} evaluations: the front, and others evenly over the search"


def _or(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def importance_section(result: SearchResult) -> str:
    """Return a table with a bar for each knob of the space and each objective."""
    space = searched_space(result.search)
    searched: Sequence[Record] = result.evaluations
    if not space.holds(result.baseline.evaluation.candidate):  # then it is evaluated all the same
        searched = [record for record in searched if record.key != result.baseline.key]
    records = spread(searched, MOST_POINTS)  # more take seconds and give the same
    found = {
        "accuracy": knob_importance(records, [r.evaluation.accuracy for r in records], space, maximised=True),
        "energy": knob_importance(records, [r.evaluation.energy_pj for r in records], space, maximised=False),
    }
    reasons = {objective: one.missing for objective, one in found.items() if one.missing}
    known = {objective: one for objective, one in found.items() if not one.missing}
    if len(set(reasons.values())) == 1 and not known:
        return f"<p class=missing>{escape(next(iter(reasons.values())))}</p>"
    text = "".join(f"<p class=missing>For {name}: {escape(reason)}</p>" for name, reason in reasons.items())
    best = max(1, len(records) // 10)
    meaning = (
        f"<p>How far each knob sets the best tenth, {best:,} of {len(records):,}, apart from the rest "
        "(PED-ANOVA); shares add up to 100 %. A search looks where it expects good ones, so these are hints, not "
        "proof.</p>"
    )
    return meaning + text + _bars(known, space)


def _bars(found: Mapping[str, Importance], space: SearchSpace) -> str:
    knobs = sorted(
        {knob for one in found.values() for knob in one.shares},
        key=lambda knob: (-max(one.shares.get(knob, 0.0) for one in found.values()), knob),
    )
    heads = "".join(f"<th scope=col>for {name}</th>" for name in found)
    rows = []
    for knob in knobs:
        cells = "".join(
            f'<td><span class="bar {name}" style="--share:{one.shares.get(knob, 0.0):.4f}" aria-hidden=true></span>'
            f"<span class=number>{one.shares.get(knob, 0.0):.0%}</span></td>"
            for name, one in found.items()
        )
        rows.append(f"<tr><th scope=row>{_knob_words(knob, space)}</th>{cells}</tr>")
    constant = [_knob_words(knob, space) for knob in knobs_of(space) if knob not in knobs]
    note = f"<p class=note>Not varied: {', '.join(constant)}.</p>" if constant else ""
    return (
        f"<table class=bars><thead><tr><th scope=col>knob</th>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>{note}"
    )


def _knob_words(knob: str, space: SearchSpace) -> str:
    between = ", layers between" if space.layered and f"{knob}_first" in _KNOB_WORDS else ""
    return f"{_KNOB_WORDS[knob]}{between}"


# The table of the front ----------------------------------------------------------------------------------------------

# Heading, unit or explanation, whether the values are numbers.
_COLUMNS = (
    ("accuracy", "%", True),
    ("worst chip", "%", True),
    ("test", "%", True),
    ("energy", "low to high", True),
    ("saves", "", True),
    ("right-sized", "", True),
    ("target", "", False),
    ("latency", "us", True),
    ("area", "mm²", True),
    ("network", "", False),
    ("prune", "", True),
    ("bits", "", False),
    ("multiplier", "", False),
    ("memory", "", True),
    ("id", "", False),
)


def _table(result: SearchResult) -> str:
    heads = "".join(
        f'<th scope=col{" class=numeric" if numeric else ""} aria-sort="{"descending" if not place else "none"}">'
        f"<button type=button><span>{name}</span>{f' <small>{unit}</small>' if unit else ''}</button></th>"
        for place, (name, unit, numeric) in enumerate(_COLUMNS)
    )
    rows = "".join(_row(result, record) for record in result.front)
    below = (result.answer.record or result.baseline, result.answer.right_sized.record, result.baseline)
    others = {one.key: one for one in below}
    off_front = "".join(_row(result, record) for record in others.values() if record not in result.front)
    others_body = f"<tbody class=baseline>{off_front}</tbody>" if off_front else ""
    return (
        f"<table class=front><caption class=unseen>The front of {escape(result.search.name)}, most accurate first"
        f"</caption><thead><tr>{heads}<th scope=col>copy</th></tr></thead>"
        f"<tbody>{rows}</tbody>{others_body}</table>"
    )


def _row(result: SearchResult, record: Record) -> str:
    evaluation, candidate = record.evaluation, record.evaluation.candidate
    answer, verdict = result.answer, result.answer.verdict(record)
    verdict_words = words.verdicts(answer.task)["untried"] if verdict == "untried" else verdict or "-"
    area = evaluation.area_mm2 / result.baseline.evaluation.area_mm2
    configuration = {name: escape(words) for name, words in words.configuration(candidate).items()}
    cells: tuple[tuple[str, float | str | None], ...] = (
        (_accuracy(evaluation), evaluation.accuracy),
        (words.percent(evaluation.accuracy_worst), evaluation.accuracy_worst),
        (words.percent(record.test_accuracy), record.test_accuracy),
        (_energy_range(record), evaluation.energy_pj),
        (words.saving(answer.saving(record)), answer.saving(record)),
        (words.saving(answer.saving_right_sized(record)), answer.saving_right_sized(record)),
        (verdict_words, verdict_words),
        (f"{evaluation.latency_us:.3g}", evaluation.latency_us),
        (f"{words.area(area)} <small>{evaluation.area_mm2:.3g}</small>", area),
        (configuration["network"], f"{candidate.family} {candidate.depth:03} {candidate.width:03}"),
        (configuration["prune"], candidate.sparsity),
        (configuration["bits"], f"{candidate.weight_bits} {candidate.activation_bits}"),
        (configuration["multiplier"], candidate.multiplier),
        (configuration["memory"], candidate.supply_v),
        (f"<code>{escape(record.id)}</code>", record.id),
    )
    shown = "".join(
        f"<td{' class=numeric' if numeric else ''} data-value={_attribute('' if value is None else value)}>{text}</td>"
        for (text, value), (_, _, numeric) in zip(cells, _COLUMNS, strict=True)
    )
    copied = {"JSON": json.dumps(candidate.to_dict()), "command": export_command(answer.task, record.id)}
    buttons = "".join(
        f'<button type=button class=copy data-copy={_attribute(text)} aria-label="Copy the {what} of '
        f'{escape(record.id)}" title={_attribute(text)}>{what}</button>'
        for what, text in copied.items()
        if text is not None
    )
    marks = {
        "answer": answer.confirmed and record == answer.record,
        "right-sized": record == answer.right_sized.record,
        "baseline": record == result.baseline,
        "unsure": verdict != "confirmed",
    }
    names = " ".join(name for name, meant in marks.items() if meant)
    return f"<tr class='{names}'>{shown}<td class=copies>{buttons}</td></tr>"


def _attribute(value: object) -> str:
    return f'"{escape(str(value))}"'


def _accuracy(evaluation: Evaluation) -> str:
    error = words.percent(evaluation.accuracy_standard_error)
    return f"{words.percent(evaluation.accuracy)} <small>± {error}</small>"


def _energy_range(record: Record) -> str:
    evaluation = record.evaluation
    size, unit = words.energy_unit(evaluation.energy_pj)
    value = f"{evaluation.energy_pj / size:.3g}&nbsp;{unit}"
    low, high = (f"{float(f'{pj / size:.3g}'):,g}" for pj in evaluation.energy_range_pj)
    return f"{value} <small>{low} to {high}</small>"


# How it was run ------------------------------------------------------------------------------------------------------


def _run(result: SearchResult, written_by: Mapping[str, str]) -> str:
    search = result.search
    task = search.task
    finished = search.finished_at
    seconds = sum(record.evaluation.seconds for record in result.evaluations)
    facts = {
        "data set": task.dataset.identity,
        "network": task.network.path if task.network else f"built-in families: {', '.join(task.space.families)}",
        "hardware": search.hardware,
        **({"taken by the answer": _taken(result)} if "," in search.hardware else {}),
        "seed": str(search.seed),
        "budget": f"{words.count(search.budget, 'evaluation')}, {search.population_size} in a generation",
        "asked for": str(result.answer.target),
        "effort": search.settings.effort,
        "sampler": search.settings.sampler,
        "multipliers": ", ".join(search.multipliers),
        "evaluations": f"{result.finished:,}, {result.distinct:,} of them different, {result.failed} failed",
        "hypervolume": f"{result.hypervolume:.4f}",
        "began": f"{search.created_at:%Y-%m-%d %H:%M} UTC",
        "ended": "not yet" if finished is None else f"{finished:%Y-%m-%d %H:%M} UTC",
        "time in evaluations": f"{_duration(seconds)}, {seconds / len(result.evaluations):.3g} s each",
        "page written by": ", ".join(f"{name} {number}" for name, number in written_by.items()),
    }
    listed = "".join(f"<div><dt>{name}</dt><dd>{escape(words)}</dd></div>" for name, words in facts.items())
    return f"<dl class=facts>{listed}</dl>"


def _taken(result: SearchResult) -> str:
    """Return the accelerator of the answer, or of the baseline if there is none."""
    return (result.answer.record or result.baseline).evaluation.hardware


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _failures(trials: Sequence[TrialEnd]) -> str:
    """Return the errors without duplicates, with the trials that ended in each."""
    errors = Counter(trial.error for trial in trials if trial.error is not None)
    if not errors:
        return ""
    rows = "".join(
        f"<tr><td class=numeric>{count}</td><td>{_trial_numbers(error, trials)}</td>"
        f"<td><pre>{escape(error)}</pre></td></tr>"
        for error, count in errors.most_common()
    )
    return (
        "<h3>Failed evaluations</h3><p>Each was replaced by another one and does not count towards the budget.</p>"
        "<div class=scroll tabindex=0 role=region aria-label='Failed evaluations'><table class=failures><thead><tr>"
        "<th scope=col class=numeric>times</th><th scope=col>trials</th><th scope=col>error</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _trial_numbers(error: str, trials: Sequence[TrialEnd]) -> str:
    numbers = [str(trial.number) for trial in trials if trial.error == error]
    return ", ".join(numbers[:8]) + (" …" if len(numbers) > 8 else "")
