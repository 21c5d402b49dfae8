"""Early stopping of retraining for candidates that are clearly beaten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHARE = 0.3  # share of the retraining on integer codes after which a candidate is judged
# The most that the rest of the retraining gains, with rare exceptions: an accuracy, or a share of the remaining error.
# `python -m benchmarks.early_stopping` measures it on stored evaluations.
MARGIN = 0.05
MARGIN_OF_ERROR = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """An evaluation that a candidate has to beat if the candidate costs as much or more.

    Attributes:
        costs: The objectives to minimise, such as (energy in pJ,).
        accuracy: Accuracy, in [0, 1].
    """

    costs: tuple[float, ...]
    accuracy: float


def bar(rivals: Sequence[Rival], costs: tuple[float, ...]) -> float | None:
    """Return the highest accuracy of the rivals that cost no more in any respect; None if there are none."""
    accuracies = [
        rival.accuracy for rival in rivals if all(one <= other for one, other in zip(rival.costs, costs, strict=True))
    ]
    return max(accuracies, default=None)


def is_beaten(early_accuracy: float, bar: float | None) -> bool:
    """Whether a candidate with this early accuracy is unlikely to reach the bar in the end."""
    return bar is not None and early_accuracy + max(MARGIN, MARGIN_OF_ERROR * (1 - early_accuracy)) < bar
