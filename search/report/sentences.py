"""An answer in sentences."""

from __future__ import annotations

from search.answers import words
from search.answers.confirmation import Answer, Confirmation
from search.errors import in_words_of
from search.store.records import Record

_MOST_CLASSES = 10  # whose accuracies are listed


def of_answer(answer: Answer, record: Record, remedy: str) -> list[str]:
    """Return an answer in sentences, with a remedy if it was not confirmed yet."""
    confirmation = answer.confirmation
    energies = f"{words.energy(record.evaluation.energy_pj)}, {words.savings(answer, record)}"
    cheaper = f" {len(answer.rejected)} cheaper rejected." if answer.rejected else ""
    if confirmation is None:
        return [
            f"NOT CONFIRMED {answer.target} by {words.confirming(answer.task)} yet. Cheapest measured: {record.id}, "
            f"{energies}; the cheapest of many is, on average, a little lucky.{cheaper} {remedy}"
        ]
    fresh = _runs(answer, confirmation, record)
    if answer.confirmed and record.key == answer.baseline.key and answer.rejected:
        near, runs = max(answer.rejected, key=lambda one: one[1].margin.lower_bound)
        return [
            f"Nothing cheaper is confirmed {answer.target}, {record.id}.{cheaper} Nearest, not confirmed: {near.id}, "
            f"{words.savings(answer, near)}; with 97.5 % confidence it falls {-runs.margin.lower_bound * 100:.2f} "
            "points short. Ask for less, or search more."
        ]
    if answer.confirmed:
        return [f"Cheapest {answer.target}, confirmed: {record.id}, {energies}.{cheaper}", f"{fresh}."]
    return [
        f"NOT CONFIRMED {answer.target}.{cheaper} Nearest: {record.id}, {energies}; with 97.5 % confidence it falls "
        f"{(answer.shortfall or 0) * 100:.2f} points short. Ask for less, or search more.",
        f"{fresh}.",
    ]


def of_references(answer: Answer) -> list[str]:
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
            f"{words.energy(found.evaluation.energy_pj)}, {words.saving(answer.saving(found))} less than the baseline; "
            f"{_runs(answer, right_sized.confirmation, found)}."
        )
    return [sized, f"Baseline: {_runs(answer, answer.baseline_confirmation, baseline)}."]


def of_classes(answer: Answer) -> list[str]:
    """Return the accuracy of each class, on test images if there are any such figures."""
    names = answer.task.dataset.class_names
    where, shares = answer.class_accuracies
    found = words.class_accuracies(names, shares, most=_MOST_CLASSES)
    which = "By class" if len(found) == len(names) else f"Least accurate of {len(names)} classes"
    listed = ", ".join(f"{name} {words.percent(share)}%" for name, share in found)
    return [f"{which}, on {where} images: {listed}."]


def of_caution(answer: Answer) -> list[str]:
    """Return what the accuracies cannot know."""
    return [] if answer.task.is_clean else [in_words_of(words.CAUTION, lambda name: f"--{name}")]


def of_sums(record: Record, baseline: Record) -> list[str]:
    """Say how many sums overflowed, if partial sums are narrow: a baseline that overflows is a weak reference."""
    sums, of_baseline = record.evaluation.narrow_sums, baseline.evaluation.narrow_sums
    if sums is None or of_baseline is None or sums.overflowed is None or of_baseline.overflowed is None:
        return []
    own = "" if record.key == baseline.key else f", and {sums.overflowed:.2%} of the answer's"
    return [f"Partial sums {sums.overflow} at {sums.bits} bits: {of_baseline.overflowed:.2%} of the baseline's{own}."]


def _runs(answer: Answer, confirmation: Confirmation | None, record: Record) -> str:
    """Return the accuracies of runs in words, or that there are none."""
    measured = f"{record.evaluation.accuracy:.2%} in the search"
    if confirmation is None:
        return f"{words.not_confirmed_yet(answer.task)}, {measured}"
    accuracy, tested = confirmation.accuracy, f"{confirmation.test_accuracy:.2%} on test images"
    mean = f"{accuracy.value:.2%} ± {accuracy.standard_error:.2%}"
    told = f"{words.runs(confirmation)}: {mean}"
    if confirmation.retrained:
        told += " on images held out"
    # What may be too high does not lead.
    return f"{told} ({measured}), {tested}" if answer.task.is_clean else f"{tested}; {told} ({measured})"
