"""A search and its answer in sentences, for consoles and notebooks.

What to do next is said in the words of either: a command, or a call.
"""

from __future__ import annotations

from collections import Counter

from search.answers import words
from search.answers.confirmation import Answer, Confirmation
from search.answers.result import SearchResult
from search.multipliers.folder import MultiplierFolder
from search.multipliers.identity import is_imported, multiplier_name
from search.report.rows import SHOWN_LOSS, shown_front
from search.store.records import Record

_MOST_CLASSES = 10  # whose accuracies are listed
SPREAD = "; ±: its standard error over images and chips; test: on images and chips used for nothing else."


def legend_lines(answer: Answer, *, about_spread: str = SPREAD) -> list[str]:
    """Return what the columns and marks of a table of a front mean.

    Args:
        answer: The answer for the target.
        about_spread: What there is to say of the spread of accuracies.
    """
    return [
        f"Accuracy: mean over chips on validation images, by which the front was chosen{about_spread}",
        f"✓: {words.confirming(answer.task)} confirm {answer.target}; ✗: they reject it; grey: not confirmed. Saves, "
        "right-sized: energy of the baseline and of the right-sized network over this one's. Area: relative to the "
        "baseline's.",
    ]


def result_lines(result: SearchResult, *, whole_front: str, confirm: str) -> list[str]:
    """Return how a search was made, and its answer.

    Args:
        result: The result of the search.
        whole_front: How to see the members that `shown_front` leaves out; empty if the table has them.
        confirm: How to confirm the answer.
    """
    answer = result.answer
    different = "" if result.finished == 1 else f", {result.distinct:,} of them different"
    failed = f", {result.failed:,} failed" if result.failed else ""
    lines = [
        f"{words.count(result.finished, 'evaluation')}{different}{failed}; hypervolume {result.hypervolume:.4f}.",
    ]
    if "," in result.search.hardware:
        lines.append(_hardware_line(result))
    if whole_front and (hidden := len(result.front) - len(shown_front(result))):
        lines.append(
            f"{hidden} more on the front, over {SHOWN_LOSS * 100:.0f} points below the baseline: {whole_front}"
        )
    if answer.record is None:
        nearest = ""
        if result.front:
            nearest = f"; the most accurate reaches {words.percent(result.front[0].evaluation.accuracy)}%"
        lines.append(f"No configuration is {answer.target}{nearest}.")
    else:
        lines += _found_lines(answer, answer.record, confirm)
    lines += [*_reference_lines(answer), *_stated_lines(answer.record), *_caution_lines(answer)]
    return lines + _sums_lines(answer.record or result.baseline, result.baseline)


def answer_lines(answer: Answer, *, confirm: str) -> list[str]:
    """Return an answer in sentences.

    Args:
        answer: The answer.
        confirm: How to confirm it.
    """
    record = answer.record
    if record is None:
        return [f"No configuration is {answer.target}."]
    lines = [*_found_lines(answer, record, confirm), *_reference_lines(answer)]
    lines += [*_stated_lines(record), *_caution_lines(answer)]
    if "," in record.setup.hardware:
        lines.append(f"It takes {record.evaluation.hardware}, of {record.setup.hardware}.")
    return lines + _sums_lines(record, answer.baseline)


def _hardware_line(result: SearchResult) -> str:
    """Say which of several accelerators the members of the front take."""
    taken = Counter(record.evaluation.hardware for record in result.front)
    counts = ", ".join(f"{name} {count}" for name, count in taken.most_common())
    answer = result.answer.record
    of_answer = "" if answer is None else f"; the answer takes {answer.evaluation.hardware}"
    return (
        f"Hardware: each candidate takes the one that costs it least. Of the front: {counts}{of_answer}; the baseline "
        f"takes {result.baseline.evaluation.hardware}."
    )


def _found_lines(answer: Answer, record: Record, confirm: str) -> list[str]:
    """Return what was found, and how to confirm it if it was not yet."""
    confirmation = answer.confirmation
    energies = f"{words.energy(record.evaluation.energy_pj)}, {words.savings(answer, record)}"
    cheaper = f" {len(answer.rejected)} cheaper rejected." if answer.rejected else ""
    if confirmation is None:
        return [
            f"NOT CONFIRMED {answer.target} by {words.confirming(answer.task)} yet. Cheapest measured: {record.id}, "
            f"{energies}; the cheapest of many is, on average, a little lucky.{cheaper} {confirm}",
            _class_line(answer),
        ]
    fresh = _runs(answer, confirmation, record)
    fresh = fresh[0].upper() + fresh[1:]  # it begins a sentence
    if answer.confirmed and record.key == answer.baseline.key and answer.rejected:
        near, runs = max(answer.rejected, key=lambda one: one[1].margin.lower_bound)
        return [
            f"Nothing cheaper is confirmed {answer.target}, {record.id}.{cheaper} Nearest, not confirmed: {near.id}, "
            f"{words.savings(answer, near)}; with 97.5 % confidence it falls {-runs.margin.lower_bound * 100:.2f} "
            "points short. Ask for less, or search more.",
            _class_line(answer),
        ]
    if answer.confirmed:
        found = f"Cheapest {answer.target}, confirmed: {record.id}, {energies}.{cheaper}"
        return [found, f"{fresh}.", _class_line(answer)]
    return [
        f"NOT CONFIRMED {answer.target}.{cheaper} Nearest: {record.id}, {energies}; with 97.5 % confidence it falls "
        f"{(answer.shortfall or 0) * 100:.2f} points short. Ask for less, or search more.",
        f"{fresh}.",
        _class_line(answer),
    ]


def _reference_lines(answer: Answer) -> list[str]:
    """Return what savings are against, the right-sized network and the baseline, with their fresh runs."""
    baseline, right_sized = answer.baseline, answer.right_sized
    found = right_sized.record
    if found.key == baseline.key:
        reaches = baseline.evaluation.accuracy >= answer.target.accuracy(baseline.evaluation.accuracy)
        whose = "the baseline" if reaches else "the baseline, which was not measured to keep it either"
        sized = f"Right-sized: {whose}; no smaller dense, exact, 8-bit network that keeps the accuracy was evaluated."
    else:
        sized = (
            "Right-sized, the cheapest dense, exact, 8-bit network at nominal voltage among those evaluated that keeps "
            "the accuracy: "
            f"{found.id}, {words.configuration(found.evaluation.candidate)['network']}, "
            f"{words.energy(found.evaluation.energy_pj)}, {words.less(answer.saving(found))} the baseline; "
            f"{_runs(answer, right_sized.confirmation, found)}."
        )
    return [sized, f"Baseline: {_runs(answer, answer.baseline_confirmation, baseline)}."]


def _runs(answer: Answer, confirmation: Confirmation | None, record: Record) -> str:
    """Return the accuracies of runs in words, or that there are none."""
    measured = f"{record.evaluation.accuracy:.2%} in the search"
    if confirmation is None:
        return f"{words.verdicts(answer.task)['untried']}, {measured}"
    accuracy, tested = confirmation.accuracy, f"{confirmation.test_accuracy:.2%} on test images"
    told = f"{words.runs(confirmation)}: {accuracy.value:.2%} ± {accuracy.standard_error:.2%}"
    if confirmation.retrained:
        told += " on images held out"
    # What may be too high does not lead.
    return f"{told} ({measured}), {tested}" if answer.task.is_clean else f"{tested}; {told} ({measured})"


def _class_line(answer: Answer) -> str:
    """Return the accuracy of each class, or of those that are least accurate."""
    names = answer.task.dataset.class_names
    split, shares = answer.class_accuracies
    found = words.class_accuracies(names, shares, most=_MOST_CLASSES)
    which = "By class" if len(names) <= _MOST_CLASSES else f"Least accurate of {len(names)} classes"
    return f"{which}, on {split} images: {', '.join(f'{name} {words.percent(share)}%' for name, share in found)}."


def _stated_lines(record: Record | None) -> list[str]:
    """Say of which multipliers the energy is stated by somebody, and not measured here."""
    taken = [] if record is None else [*filter(is_imported, record.evaluation.candidate.multipliers)]
    claims = MultiplierFolder.default().claims() if taken else {}
    return [
        f"The energy of {name} is {claims[name].relative_energy:.3g} of an exact one, not measured here: "
        f"{claims[name].source}."
        for name in map(multiplier_name, taken)
        if name in claims
    ]


def _caution_lines(answer: Answer) -> list[str]:
    """Return what the accuracies cannot know."""
    caution = words.caution(answer.task)
    return [] if caution is None else [caution]


def _sums_lines(record: Record, baseline: Record) -> list[str]:
    """Say how many sums overflowed, if partial sums are narrow: a baseline that overflows is a weak reference."""
    sums, of_baseline = record.evaluation.narrow_sums, baseline.evaluation.narrow_sums
    if sums is None or of_baseline is None or sums.overflowed is None or of_baseline.overflowed is None:
        return []
    own = "" if record.key == baseline.key else f", and {sums.overflowed:.2%} of the answer's"
    return [f"Partial sums {sums.overflow} at {sums.bits} bits: {of_baseline.overflowed:.2%} of the baseline's{own}."]
