"""Configurations and figures in the words of tables, charts and messages."""

from __future__ import annotations

from collections.abc import Sequence

from search.answers.confirmation import Answer, Confirmation, Verdict
from search.multipliers.identity import multiplier_name
from search.space.candidate import Candidate
from search.space.plan import Plan
from search.space.task import CHANNEL_STEPS, Task
from search.store.records import Record

COLUMNS = ("network", "prune", "bits", "multiplier", "memory")
_UNKNOWN = "Accuracies may be too high, but for those on test images: the images that choose and confirm are"
_TRAINED = "the training images, on which the network may have been trained. Give validation images that it never saw."
CAUTION = f"{_UNKNOWN} cut from {_TRAINED}"
REPEATED_CAUTION = f"{_UNKNOWN} in part among {_TRAINED}"


def configuration(candidate: Candidate) -> dict[str, str]:
    """Return a candidate in words, under the names in `COLUMNS`.

    If layers differ, there are three words separated by |: for the first layer, the middle and the last.
    """
    bits = _by_layer([str(group.robust_bits) for group in candidate.groups], "|")
    robust = "" if bits == "0" else f" +{bits}"
    parts = f"/{CHANNEL_STEPS}"  # the end of the family of a network that comes trained
    network, is_share = candidate.family.removesuffix(parts), candidate.family.endswith(parts)
    words = (
        f"{network} {candidate.width}{parts}" if is_share else f"{network} {candidate.depth}x{candidate.width}",
        f"{candidate.sparsity:.0%}" if candidate.sparsity else "-",
        f"w{candidate.weight_bits}a{candidate.activation_bits}",
        _by_layer([multiplier_name(group.multiplier) for group in candidate.groups], " | "),
        f"{candidate.supply_v:.2f}V{robust}",
    )
    return dict(zip(COLUMNS, words, strict=True))


def _by_layer(words: list[str], between: str) -> str:
    return between.join(words) if len(set(words)) > 1 else words[0]


def percent(share: float | None) -> str:
    """Format a share as a percentage with two decimals, without the sign; a dash for None."""
    return "-" if share is None else f"{share * 100:.2f}"


def accuracy(mean: float, error: float) -> str:
    """Format a mean share as a percentage, with its standard error; a line may break before the ±."""
    return f"{percent(mean)} ±\u00a0{percent(error)}\u00a0%"


def energy(pj: float) -> str:
    """Format an energy with a fitting unit and three significant digits."""
    size, unit = energy_unit(pj)
    return f"{pj / size:.3g} {unit}"


def energy_unit(pj: float) -> tuple[float, str]:
    """Return the unit that fits an energy: its size in pJ, and its name."""
    rounded = float(f"{pj:.3g}")  # as it is shown: 999.6 pJ are 1 nJ
    for unit, size in (("mJ", 1e9), ("uJ", 1e6), ("nJ", 1e3)):
        if rounded >= size:
            return size, unit
    return 1.0, "pJ"


def caution(task: Task) -> str | None:
    """Return what cannot be known of the accuracies of a task; None if its images are clean."""
    if task.is_clean:
        return None
    return REPEATED_CAUTION if task.dataset.counts.get("validation") else CAUTION


def confirming(task: Task) -> str:
    """Return what confirms answers of a task, in the plural."""
    return "bootstraps" if task.train == "none" else "fresh runs"


def verdicts(task: Task) -> dict[Verdict, str]:
    """Return what the verdicts on a task's evaluations mean."""
    by = confirming(task)
    return {
        "confirmed": f"confirmed by {by}",
        "rejected": f"rejected by {by}",
        "untried": "measured once" if task.train == "none" else "not retrained",
    }


def runs(confirmation: Confirmation) -> str:
    """Return what runs of a candidate are, such as "5 fresh runs"."""
    if confirmation.retrained:
        return f"{len(confirmation.runs)} fresh runs"
    return f"bootstrapped over {confirmation.images:,} images and {confirmation.chips} chips"


def class_accuracies(names: Sequence[str], shares: Sequence[float | None], *, most: int) -> list[tuple[str, float]]:
    """Return classes with their accuracies: all in their order or, if there are many, the least accurate first.

    Args:
        names: Names of the classes.
        shares: Accuracy of each; None for a class without images, which is left out.
        most: The largest number to return.
    """
    known = [(name, share) for name, share in zip(names, shares, strict=True) if share is not None]
    return known if len(known) <= most else sorted(known, key=lambda one: one[1])[:most]


def savings(answer: Answer, record: Record) -> str:
    """Return what an evaluation saves against both references of an answer."""
    if record.key == answer.baseline.key:
        return "the baseline itself"
    if record.key == answer.right_sized.record.key:
        return f"{less(answer.saving(record))} the baseline, the right-sized network itself"
    return (
        f"{less(answer.saving(record))} the baseline, {less(answer.saving_right_sized(record))} the right-sized network"
    )


def less(ratio: float) -> str:
    """Return how an energy compares with one that is `ratio` times as large: "2x less than", or "the same as"."""
    if saving(1.0) in (saving(ratio), saving(1 / ratio)):
        return "the same as"
    return f"{saving(ratio)} less than" if ratio > 1 else f"{saving(1 / ratio)} more than"


def saving(ratio: float) -> str:
    """Format a ratio of energies, such as 12.3x."""
    return f"{ratio:.3g}x" if ratio < 100 else f"{ratio:.0f}x"


def area(ratio: float) -> str:
    """Format an area relative to the baseline's, such as 0.31x."""
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def plan(found: Plan) -> str:
    """Return how long a search will take, in one line, with what to change if that is over an hour.

    Parameters are in backticks; see `search.errors.in_words_of`.
    """
    first = ""
    if found.first_s is not None and found.evaluations > 1 and not found.known:
        first = f" (the first {duration(found.first_s)})"
    parts = [
        f"an evaluation takes about {duration(found.evaluation_s)}{first}",
        f"{count(found.evaluations, 'evaluation')} about {duration(found.search_s)} "
        f"on {count(found.workers, 'worker')}",
    ]
    if found.confirmation_s is not None:
        parts.append(f"confirmation about {duration(found.confirmation_s)}")
    trained = (
        f"{count(found.epochs, 'epoch')} of {count(found.images, 'image')}" if found.epochs else "nothing is trained"
    )
    text = f"plan: {', '.join(parts)}; {trained}"
    if found.known:
        text += "; less, as networks of earlier searches are kept"
    if found.remedies:
        changes = ", ".join(f"`{one.parameter}` {one.value} (about {duration(one.seconds)})" for one in found.remedies)
        text += f". To take less: {changes}"
    return text


def duration(seconds: float) -> str:
    """Format a rough duration with a fitting unit and one or two significant digits, such as 8 min, 1.5 h or 40 h."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 72)):
        if seconds < most * size:
            return f"{_rough(seconds / size)} {unit}"
    return f"{_rough(seconds / 86400)} days"


def _rough(value: float) -> str:
    digits = 2 if 1 <= value < 2 or value >= 10 else 1
    return f"{float(f'{value:.{digits}g}'):g}"


def count(number: float, what: str) -> str:
    """Format a number of things, in the plural unless it is one; one that is not whole has two digits at least."""
    whole = isinstance(number, int) or number >= 10
    figure = f"{number:,.0f}" if whole else f"{number:.2g}"
    return f"{figure} {what}" + ("" if number == 1 else "s")
