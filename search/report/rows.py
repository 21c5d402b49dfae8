"""The rows of a table of configurations, as text, for consoles and notebooks."""

from __future__ import annotations

from search.answers import words
from search.answers.confirmation import Answer, Verdict
from search.answers.result import SearchResult
from search.store.records import Record

SHOWN_LOSS = 0.10  # front members further below the baseline's accuracy are only counted
SPREAD = ("±", "worst", "test")  # columns for which narrow consoles have no room
MARKS: dict[Verdict | None, str] = {"confirmed": " ✓", "rejected": " ✗"}


def searched(result: SearchResult) -> str:
    """Return a search and its task in words."""
    return f"{result.search.name} ({result.search.task.words})"


def shown_front(result: SearchResult) -> list[Record]:
    """Return the members of a front that are not far less accurate than the baseline."""
    floor = result.baseline.evaluation.accuracy - SHOWN_LOSS
    return [record for record in result.front if record.evaluation.accuracy >= floor]


def cells(record: Record, answer: Answer) -> dict[str, str]:
    """Return the cells of an evaluation beside an answer: column -> text."""
    evaluation = record.evaluation
    return {
        "acc %": words.percent(evaluation.accuracy),
        "±": words.percent(evaluation.accuracy_standard_error),
        "worst": words.percent(evaluation.accuracy_worst),
        "test": words.percent(record.test_accuracy),
        "energy": words.energy(evaluation.energy_pj),
        "saves": words.saving(answer.saving(record)),
        "right-sized": words.saving(answer.saving_right_sized(record)),
        "area": words.area(evaluation.area_mm2 / answer.baseline.evaluation.area_mm2),
        **words.configuration(evaluation.candidate),
    }
