import io
from datetime import datetime

from rich.console import Console

from search.candidate import Candidate
from search.progress import LineProgress, LiveProgress, SearchState
from search.store import Record, SearchRecord
from search.task import find_task
from tests.search.fakes import formula

BASELINE = find_task("digits").space.baseline()


def record(**change: object) -> Record:
    candidate = Candidate.from_dict({**BASELINE.to_dict(), **change})
    return Record(key=candidate.key, seed=0, evaluation=formula(candidate), test_accuracies=None)


def search(min_accuracy: float | None = None) -> SearchRecord:
    return SearchRecord(
        id=1,
        name="mine",
        task="digits",
        hardware="any",
        seed=0,
        budget=20,
        population_size=10,
        min_accuracy=min_accuracy,
        created_at=datetime(2026, 1, 1),
        finished_at=None,
    )


def test_state_counts_what_runs_and_what_is_reused() -> None:
    state = SearchState()
    state.start(search(), [record()], trials=2)
    state.to_go, state.workers = 3, 2
    assert (state.trials, state.running()) == (2, 2)
    state.end_trial(record(width=4), reused=False)
    state.end_trial(record(width=4), reused=True)
    assert (state.trials, state.made, state.running()) == (4, 1, 2)
    state.end_job()
    assert state.running() == 1
    assert state.seconds_left() is None


def test_the_cheapest_is_named_against_the_target() -> None:
    state = SearchState()
    state.start(search(), [], trials=0)
    assert state.cheapest() == "evaluating the baseline first"
    state.add(record())
    assert "the baseline itself" in state.cheapest()
    state.add(record(weight_bits=6))
    assert "1.33x less than the baseline" in state.cheapest()
    state.start(search(min_accuracy=0.999), [], trials=0)
    assert state.cheapest() == "nothing at 99.90% or more yet"


def test_both_displays_show_the_same_state() -> None:
    for display in (LineProgress, LiveProgress):
        written = io.StringIO()
        with display(Console(file=written, width=100, force_terminal=display is LiveProgress)) as progress:
            assert progress.search_name is None
            progress.noted("mine takes at most 7 bits [sic]")
            progress.started(search(), [], 0)
            progress.evaluating(2, 2)
            progress.evaluated(record(), reused=False)
            progress.failed(BASELINE, "out of memory [sic]")
            progress.testing(3)
            assert progress.search_name == "mine"
        text = written.getvalue()
        assert "the baseline itself" in text
        assert "out of memory [sic]" in text
        assert "mine takes at most 7 bits [sic]" in text
        assert "measuring 3 results on the test images" in text
