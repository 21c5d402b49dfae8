"""Configurations and figures in the words of tables, charts and messages."""

from __future__ import annotations

from search.answers.confirmation import Answer
from search.multipliers.identity import multiplier_name
from search.space.candidate import Candidate
from search.space.task import CHANNEL_STEPS
from search.store.records import Record

COLUMNS = ("network", "prune", "bits", "multiplier", "memory")


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


def savings(answer: Answer, record: Record) -> str:
    """Return what an evaluation saves against both references of an answer."""
    if record.key == answer.right_sized.record.key:
        return f"{saving(answer.saving(record))} less than the baseline, the right-sized network itself"
    return (
        f"{saving(answer.saving(record))} less than the baseline, "
        f"{saving(answer.saving_right_sized(record))} less than the right-sized network"
    )


def saving(ratio: float) -> str:
    """Format a ratio of energies, such as 12.3x."""
    return f"{ratio:.3g}x" if ratio < 100 else f"{ratio:.0f}x"


def area(ratio: float) -> str:
    """Format an area relative to the baseline's, such as 0.31x."""
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"
