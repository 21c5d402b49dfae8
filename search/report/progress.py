"""The progress of a search: a live display on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from search.answers import words
from search.answers.result import cheapest_at, front, front_hypervolume
from search.observer import Observer, Stoppable
from search.space.candidate import Candidate
from search.space.plan import Plan
from search.store.records import Record, SearchRecord, within_area

_IMAGES_S = 0.1  # between two updates of a bar
_PACE_AFTER = 5  # evaluations; the first includes starting the workers


@dataclass(kw_only=True)
class SearchState:
    """The state of a search, as all displays show it."""

    search: SearchRecord | None = None
    baseline_candidate: Candidate | None = None
    records: dict[str, Record] = field(default_factory=dict)
    baseline: Record | None = None
    trials: int = 0
    made: int = 0
    to_go: int = 0
    workers: int = 0
    first_made_at: float | None = None

    def start(self, search: SearchRecord, done: Sequence[Record], trials: int) -> None:
        """Begin or resume a search, and forget an earlier one."""
        self.records, self.baseline = {}, None
        self.made, self.to_go, self.first_made_at = 0, 0, None
        self.search = search
        self.baseline_candidate = search.task.space.baseline()
        for record in done:
            self.add(record)
        self.trials = trials

    def end_trial(self, record: Record, *, reused: bool) -> None:
        """Count a trial that ended with an evaluation, new or reused."""
        self.add(record)
        self.trials += 1
        if not reused:
            self.made += 1
            self.end_job()
            self.first_made_at = self.first_made_at or time.monotonic()

    def end_job(self) -> None:
        """Count down the evaluations under way, whether this one succeeded or failed."""
        self.to_go = max(0, self.to_go - 1)

    def add(self, record: Record) -> None:
        """Add an evaluation."""
        self.records[record.key] = record
        if record.evaluation.candidate == self.baseline_candidate:
            self.baseline = record

    def seconds_left(self) -> float | None:
        """Return the time left at the current pace; None before the pace is known."""
        if self.search is None or self.first_made_at is None or self.made < _PACE_AFTER:
            return None
        pace = (time.monotonic() - self.first_made_at) / (self.made - 1)
        return pace * max(0, self.search.budget - self.trials)

    def running(self) -> int:
        """Return the number of evaluations under way."""
        return min(self.to_go, self.workers)

    def hypervolume(self) -> float | None:
        """Return the hypervolume of the front so far; None before the baseline is known."""
        if self.baseline is None:
            return None
        return front_hypervolume(front(self._offered()), self.baseline)

    def _offered(self) -> list[Record]:
        """Return the evaluations within the bound on area of the search."""
        found = list(self.records.values())
        if self.search is None or self.baseline is None:
            return found
        return within_area(found, self.search.target, self.baseline)

    def target(self) -> tuple[str, float] | None:
        """Return the target accuracy, in words and as a number; None before it is known."""
        target = None if self.search is None else self.search.target
        if target is None or (target.min_accuracy is None and self.baseline is None):
            return None
        return str(target), target.accuracy(self.baseline.evaluation.accuracy if self.baseline else 0.0)

    def cheapest(self) -> str:
        """Return the cheapest candidate at the target so far, in one line."""
        target = self.target()
        if target is None:
            return "evaluating the baseline first"
        wanted, accuracy = target
        record = cheapest_at(self._offered(), accuracy)
        if record is None:
            return f"nothing {wanted} yet"
        evaluation = record.evaluation
        parts = [f"{words.energy(evaluation.energy_pj)} at {evaluation.accuracy:.2%}"]
        if record is self.baseline:
            parts.append("the baseline itself")
        elif self.baseline is not None:
            ratio = self.baseline.evaluation.energy_pj / evaluation.energy_pj
            parts.append(f"{words.less(ratio)} the baseline")
        used = [value for value in words.configuration(evaluation.candidate).values() if value != "-"]
        return f"cheapest measured {wanted}: {', '.join(parts)} ({', '.join(used)})"


class LineProgress(Stoppable):
    """Prints a plain line every few seconds, for logs and pipes.

    Args:
        console: Where they are printed.
        interval_s: Seconds between two lines about the state.
        worded: Puts a message into the words of the interface; see `search.errors.in_words_of`.
    """

    def __init__(
        self, console: Console, *, interval_s: float = 5.0, worded: Callable[[str], str] = lambda message: message
    ) -> None:
        self.search_name: str | None = None  # of the search that was begun, if any
        self._console = console
        self._worded = worded
        self._interval_s = interval_s
        self._state = SearchState()
        self._last_line = 0.0
        self._last_image = 0.0

    def reading_images(self, done: int, of: int) -> None:
        """Write a line if the last one is old enough."""
        self._last_image = self._last_image or time.monotonic()  # what takes no time needs no line
        if time.monotonic() - self._last_image >= self._interval_s:
            self._last_image = time.monotonic()
            self._show(f"storing images: {done:,} of {of:,}")

    def stored(self, search: SearchRecord) -> None:
        """Note the name of the search."""
        self.search_name = search.name

    def noted(self, text: str) -> None:
        """Write the note."""
        self._write(text)

    def started(self, search: SearchRecord, done: Sequence[Record], trials: int) -> None:
        """Say what is being searched."""
        self._state.start(search, done, trials)
        task = search.task
        network = f"; network {task.network.path}" if task.network else ""
        known = f", {trials} evaluated before" if trials else ""
        self._write(f"search {search.name}: {task.dataset.title}{network}; budget {search.budget}{known}")

    def planned(self, plan: Plan) -> None:
        """Write the plan."""
        self._write(words.plan(plan))

    def evaluating(self, count: int, workers: int) -> None:
        """Note how many evaluations are under way."""
        super().evaluating(count, workers)
        self._state.to_go, self._state.workers = count, workers

    def evaluated(self, record: Record, *, reused: bool) -> None:
        """Write a line if the last one is old enough, or the search is over."""
        super().evaluated(record, reused=reused)
        state = self._state
        state.end_trial(record, reused=reused)
        assert state.search is not None
        ended = state.trials >= state.search.budget
        if ended or time.monotonic() - self._last_line >= self._interval_s:
            self._last_line = time.monotonic()
            left = state.seconds_left()
            volume = state.hypervolume()
            self._show(
                f"{state.trials}/{state.search.budget} evaluated"
                + ("" if ended else f", {state.running()} running")
                + ("" if left is None or ended else f", {_duration(left)} left")
                + ("" if volume is None else f", hypervolume {volume:.4f}")
                + f"; {state.cheapest()}"
            )

    def failed(self, candidate: Candidate, error: str) -> None:
        """Say which candidate failed and why."""
        self._state.end_job()
        self._write(f"failed: {', '.join(words.configuration(candidate).values())}: {error}")

    def testing(self, count: int) -> None:
        """Say that the search is over."""
        if count:
            self._show(f"measuring {words.count(count, 'result')} on the test images")

    def sizing(self, candidate: Candidate) -> None:
        """Say that the answer's network is evaluated without approximations."""
        self._show(f"evaluating without approximations: {', '.join(words.configuration(candidate).values())}")

    def confirming(self, candidate: Candidate, runs: int) -> None:
        """Say what is confirmed."""
        self._show(f"confirming by {words.count(runs, 'run')}: {', '.join(words.configuration(candidate).values())}")

    def _write(self, line: str) -> None:
        self._console.print(self._worded(line), soft_wrap=True, highlight=False, markup=False)

    def _show(self, line: str) -> None:
        """Write the state of the search."""
        self._write(line)

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(self, *exception: object) -> None:
        return None


class NotebookProgress(LineProgress):
    """Updates one line below a notebook's cell; notes and failures stay above it."""

    def __init__(self) -> None:
        from IPython.display import display

        super().__init__(Console(file=sys.stdout, width=100, force_jupyter=False), interval_s=0.5)
        self._line: Any = display({"text/plain": "preparing"}, raw=True, display_id=True)

    def _show(self, line: str) -> None:
        self._line.update({"text/plain": line}, raw=True)


def default_observer() -> Observer:
    """Return the observer of a search that was given none: a line below the cell in a notebook, else nobody."""
    return NotebookProgress() if in_notebook() else Observer()


def in_notebook() -> bool:
    """Return whether this process runs the cells of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


class LiveProgress(Stoppable):
    """Shows a bar and the state of the search, redrawn in place on a terminal.

    Args:
        console: The terminal.
        worded: Puts a message into the words of the interface; see `search.errors.in_words_of`.
    """

    def __init__(self, console: Console, *, worded: Callable[[str], str] = lambda message: message) -> None:
        self.search_name: str | None = None  # of the search that was begun, if any
        self._worded = worded
        self._state = SearchState()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=console,
        )
        self._task = self._bar.add_task("preparing", total=None, pace="")
        self._last_image = 0.0
        self._details = Text("")
        self._live = Live(Group(self._bar, self._details), console=console, refresh_per_second=4, transient=True)

    def reading_images(self, done: int, of: int) -> None:
        """Show how many images are stored."""
        if done == of:
            self._bar.update(self._task, description="preparing", total=None, completed=0)
        elif time.monotonic() - self._last_image >= _IMAGES_S:
            self._last_image = time.monotonic()
            self._bar.update(self._task, description="storing images", total=of, completed=done)

    def stored(self, search: SearchRecord) -> None:
        """Note the name of the search."""
        self.search_name = search.name

    def noted(self, text: str) -> None:
        """Write the note above the display."""
        self._live.console.print(self._worded(text), markup=False, highlight=False)

    def started(self, search: SearchRecord, done: Sequence[Record], trials: int) -> None:
        """Show the budget."""
        self._state.start(search, done, trials)
        self._bar.update(self._task, description=search.name, total=search.budget)
        self._show()

    def planned(self, plan: Plan) -> None:
        """Write the plan above the display."""
        self._live.console.print(self._worded(words.plan(plan)), markup=False, highlight=False)

    def evaluating(self, count: int, workers: int) -> None:
        """Show how many evaluations are under way."""
        super().evaluating(count, workers)
        self._state.to_go, self._state.workers = count, workers
        self._show()

    def evaluated(self, record: Record, *, reused: bool) -> None:
        """Show the state with this evaluation."""
        super().evaluated(record, reused=reused)
        self._state.end_trial(record, reused=reused)
        self._show()

    def failed(self, candidate: Candidate, error: str) -> None:
        """Write above the display which candidate failed and why."""
        self._state.end_job()
        shown = ", ".join(words.configuration(candidate).values())
        self._live.console.print(self._worded(f"failed: {shown}: {error}"), markup=False, highlight=False)

    def testing(self, count: int) -> None:
        """Show that the search is over."""
        self._details.plain = f"measuring {words.count(count, 'result')} on the test images" if count else ""

    def sizing(self, candidate: Candidate) -> None:
        """Show that the answer's network is evaluated without approximations."""
        self._details.plain = f"evaluating without approximations: {', '.join(words.configuration(candidate).values())}"

    def confirming(self, candidate: Candidate, runs: int) -> None:
        """Show what is confirmed."""
        self._details.plain = (
            f"confirming by {words.count(runs, 'run')}: {', '.join(words.configuration(candidate).values())}"
        )

    def _show(self) -> None:
        state = self._state
        left = state.seconds_left()
        pace = f"{state.running()} running"
        if left is not None:
            pace += f", {_duration(left)} left"
        self._bar.update(self._task, completed=state.trials, pace=pace)
        volume = state.hypervolume()
        self._details.plain = ("" if volume is None else f"hypervolume {volume:.4f}\n") + state.cheapest()

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def open_progress(console: Console, *, worded: Callable[[str], str]) -> LiveProgress | LineProgress:
    """Return a live display on a terminal, plain lines elsewhere."""
    return LiveProgress(console, worded=worded) if console.is_terminal else LineProgress(console, worded=worded)
