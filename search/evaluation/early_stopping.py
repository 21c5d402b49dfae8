"""When a candidate is so clearly beaten early in its retraining that it is not trained to the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHARE = 0.3  # of the retraining on integer codes, after which it is judged
# What the rest of the retraining gains at most, but for rare candidates: points, or a share of the error that is left.
# `python -m benchmarks.early_stopping` measures it on stored evaluations.
MARGIN = 0.05
MARGIN_OF_ERROR = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """An evaluation that a candidate has to beat, if that costs no more.

    Attributes:
        costs: What is minimised, such as (energy in pJ,).
        accuracy: Its accuracy.
    """

    costs: tuple[float, ...]
    accuracy: float


def bar(rivals: Sequence[Rival], costs: tuple[float, ...]) -> float | None:
    """The highest accuracy of rivals that cost no more than this, in every respect; None without any."""
    accuracies = [
        rival.accuracy for rival in rivals if all(one <= other for one, other in zip(rival.costs, costs, strict=True))
    ]
    return max(accuracies, default=None)


def is_beaten(early_accuracy: float, bar: float | None) -> bool:
    """Whether a candidate that is this accurate early will hardly reach the bar in the end."""
    return bar is not None and early_accuracy + max(MARGIN, MARGIN_OF_ERROR * (1 - early_accuracy)) < bar
