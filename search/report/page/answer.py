"""The answer of a search as HTML: the cheapest configuration that is accurate enough, and how it was confirmed."""

from __future__ import annotations

from html import escape

from search.answers import words
from search.answers.confirmation import Answer, Confirmation
from search.answers.result import SearchResult
from search.space.commands import resume_command
from search.space.target import Target
from search.store.records import Record


def answer_section(result: SearchResult) -> str:
    """Return a headline, the evidence for it, and a card each for the answer and the baseline."""
    answer, baseline = result.answer, result.baseline
    found, condition = answer.record, _condition(answer.target)
    grey = "" if answer.confirmed or found is None else " class=unsure"
    confidence = _confidence(answer, result.search.name)
    sized = answer.right_sized
    cards = [_card(answer, "Baseline", baseline, answer.baseline_confirmation)]
    if sized.record.key != baseline.key:
        title = "Right-sized: dense, exact, 8 bits, nominal voltage"
        cards.insert(0, _card(answer, title, sized.record, sized.confirmation))
    if found is None:
        headline = f"No configuration {condition}."
        sentence = "None is that small yet."
        if result.front:
            sentence = f"The most accurate reaches {words.percent(result.front[0].evaluation.accuracy)} %."
    elif found.key == baseline.key:
        headline = f"Nothing cheaper is confirmed {condition}."
        cheaper = len(answer.rejected)
        measured = f"{cheaper} cheaper {'one was' if cheaper == 1 else 'ones were'}"
        sentence = (
            f"{measured} accurate enough in the search, but {words.confirming(answer.task)} rejected "
            f"{'it' if cheaper == 1 else 'them'}. {_nearest(answer)}"
            if cheaper
            else "No other evaluation costs less."
        )
    else:
        headline = (
            f"{_saving(answer.saving(found))} the baseline {condition}."
            if answer.confirmed
            else f"Nothing is confirmed {condition}."
        )
        unsure = "" if answer.confirmed else f"{_unconfirmed(answer, found)} "
        sentence = (
            f"{unsure}{_against_right_sized(answer, found)} "
            f"One inference costs <b>{_number(words.energy(found.evaluation.energy_pj))}</b> instead of "
            f"{_number(words.energy(baseline.evaluation.energy_pj))}, at {_accuracies(found)} instead of "
            f"{words.percent(baseline.evaluation.accuracy)} %. {confidence}"
        )
        title = condition.replace("the baseline's accuracy", "the baseline")
        kind = "Cheapest" if answer.confirmed else "Not confirmed"
        cards.insert(0, _card(answer, f"{kind} {title}", found, answer.confirmation))
    said = f"<p class=headline>{headline}</p><p{grey}>{sentence} {_effort(result)}</p>{_caution(answer)}"
    if found is not None:
        said += _by_class(answer)
    return f"{said}<div class=cards>{''.join(cards)}</div>"


def _saving(ratio: float) -> str:
    """Return the beginning of a headline for an energy that is the baseline's divided by a ratio."""
    amount = words.saving(ratio)
    if amount == words.saving(1.0):
        return "The same energy as"
    return f"<strong>{_number(amount)}</strong> less energy than"


def _against_right_sized(answer: Answer, record: Record) -> str:
    """Return a sentence about the saving against the right-sized network."""
    if answer.right_sized.record.key == answer.baseline.key:
        return "No smaller dense, exact, 8-bit network that keeps the accuracy was evaluated to compare it with."
    evidence = f"confirmed by {words.confirming(answer.task)}" if answer.right_sized.confirmation else "measured once"
    if record.key == answer.right_sized.record.key:
        compared = "It is the right-sized network itself"
    else:
        compared = f"It costs <b>{_number(words.less(answer.saving_right_sized(record)))}</b> the right-sized network"
    return (
        f"{compared}, the cheapest dense, exact, 8-bit one at nominal voltage among those evaluated that keeps the "
        f"accuracy ({evidence})."
    )


def _unconfirmed(answer: Answer, record: Record) -> str:
    """Return a sentence that names what comes nearest where nothing is confirmed."""
    kind = "cheapest measured" if answer.confirmation is None else "nearest"
    return f"The {kind}, not confirmed, costs {_number(words.less(answer.saving(record)))} the baseline."


def _nearest(answer: Answer) -> str:
    """Return a sentence that names the rejected configuration that comes nearest to the target."""
    near, runs = max(answer.rejected, key=lambda one: one[1].margin.lower_bound)
    return (
        f"<span class=unsure>The nearest, not confirmed: {escape(near.id)}, {escape(words.savings(answer, near))}; "
        f"with 97.5 % confidence it falls {words.percent(-runs.margin.lower_bound)} points short.</span>"
    )


def _condition(target: Target) -> str:
    area = "" if target.max_area is None else f", on at most {target.max_area:g}x the baseline's area"
    if target.min_accuracy is not None:
        return f"at {words.percent(target.min_accuracy)} % accuracy or more{area}"
    return f"within {(target.max_accuracy_drop or 0) * 100:g} points of the baseline's accuracy{area}"


def _confidence(answer: Answer, search: str) -> str:
    """Return a sentence that says whether fresh runs confirm the answer."""
    confirmation = answer.confirmation
    if confirmation is None:
        return (
            f"<b>Not confirmed by {words.confirming(answer.task)}</b>: the cheapest of many measured configurations "
            "is, on average, a little lucky. Confirm it with "
            f"<code>{escape(resume_command(answer.task, search))}</code>."
        )
    accuracy = confirmation.accuracy
    mean = words.accuracy(accuracy.value, accuracy.standard_error)
    tested = f"{words.percent(confirmation.test_accuracy)} % on test images"
    if confirmation.retrained:
        runs = f"{words.runs(confirmation)}, each retrained and measured on the images held out from it: {mean}"
    else:
        runs = f"a measurement of the same network, {words.runs(confirmation)}: {mean}"
    runs += f", and {tested}" if answer.task.is_clean else ""
    # What may be too high does not lead.
    leading = "" if answer.task.is_clean else f"<b>{tested}.</b> "
    if answer.confirmed:
        return f"{leading}<b>Confirmed</b> by {runs}."
    short = words.percent(answer.shortfall)
    return f"{leading}<b>Not confirmed</b>: with 97.5 % confidence it falls {short} points short, by {runs}."


def _caution(answer: Answer) -> str:
    """Return a paragraph with what the accuracies cannot know."""
    caution = words.caution(answer.task)
    return "" if caution is None else f"<p>{escape(caution)}</p>"


def _by_class(answer: Answer) -> str:
    """Return the accuracy of each class, folded away."""
    split, shares = answer.class_accuracies
    found = words.class_accuracies(answer.task.dataset.class_names, shares, most=len(shares))
    listed = "".join(f"<div><dt>{escape(name)}</dt><dd>{words.percent(share)} %</dd></div>" for name, share in found)
    return f"<details><summary>By class, on {split} images</summary><dl class=classes>{listed}</dl></details>"


def _effort(result: SearchResult) -> str:
    failed = f", and {result.failed} more failed" if result.failed else ""
    different = "" if result.distinct == result.finished else f", {result.distinct:,} of them different"
    left = max(0, result.search.budget - result.finished)
    are_left = f"{words.count(left, 'evaluation')} {'is' if left == 1 else 'are'} left"
    unfinished = f" The search is not finished: {are_left}." if result.search.finished_at is None else ""
    return f"Found with {words.count(result.finished, 'evaluation')}{different}{failed}.{unfinished}"


def _accuracies(record: Record) -> str:
    """Return the accuracy on validation images, with that of the worst chip if it differs."""
    evaluation = record.evaluation
    mean, worst = words.percent(evaluation.accuracy), words.percent(evaluation.accuracy_worst)
    return f"{mean} % accuracy" + ("" if worst == mean else f" ({worst} % on the worst chip)")


def _card(answer: Answer, title: str, record: Record, confirmation: Confirmation | None) -> str:
    """Return an evaluation as a list of facts, grey unless fresh runs confirm it."""
    evaluation = record.evaluation
    facts = {
        "energy": _number(words.energy(evaluation.energy_pj)),
        "accuracy": words.accuracy(evaluation.accuracy, evaluation.accuracy_standard_error),
        "worst chip": f"{words.percent(evaluation.accuracy_worst)} %",
        "test": "-" if record.test_accuracy is None else f"{words.percent(record.test_accuracy)} %",
    }
    by = words.confirming(answer.task)
    if confirmation is None:
        facts[by] = "none"
    else:
        accuracy = confirmation.accuracy
        facts[by] = words.accuracy(accuracy.value, accuracy.standard_error)
        facts["their test"] = f"{words.percent(confirmation.test_accuracy)} %"
    facts |= {name: escape(words) for name, words in words.configuration(evaluation.candidate).items()}
    listed = "".join(f"<div><dt>{name}</dt><dd>{words}</dd></div>" for name, words in facts.items())
    kind = "card" if confirmation is not None and confirmation.confirmed else "card unsure"
    return f"<section class='{kind}'><h2>{escape(title)}</h2><dl>{listed}</dl></section>"


def _number(words: str) -> str:
    """Return a number with its unit as HTML that no line break separates."""
    return f"<span class=number>{escape(words).replace(' ', '&nbsp;')}</span>"
