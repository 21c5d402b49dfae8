"""Observers, which are notified of the progress of a search."""

from __future__ import annotations

from collections.abc import Sequence

from search.space.candidate import Candidate
from search.space.plan import Plan
from search.store.records import Record, SearchRecord


class Observer:
    """Is notified of a search's progress, in the process that runs it. This one ignores it; subclasses override."""

    def reading_images(self, done: int, of: int) -> None:
        """Called while images are stored, before the search: after each, with the number so far and of all."""

    def stored(self, search: SearchRecord) -> None:
        """Called once the search has a name and is stored, and can be resumed whatever happens."""

    def noted(self, text: str) -> None:
        """Called with a note for readers of the results."""

    def started(self, search: SearchRecord, done: Sequence[Record], trials: int) -> None:
        """Called when the search begins or is resumed, after `trials` trials that ended in the evaluations `done`."""

    def planned(self, plan: Plan) -> None:
        """Called before the first evaluation, with how long the search will take."""

    def storing(self) -> None:
        """Called before a trial is asked for or stored; an exception raised here prevents it."""

    def evaluating(self, count: int, workers: int) -> None:
        """Called when the executor gets `count` evaluations, of which it runs up to `workers` at a time."""

    def evaluated(self, record: Record, *, reused: bool) -> None:
        """Called when a trial ended with an evaluation, new or reused."""

    def failed(self, candidate: Candidate, error: str) -> None:
        """Called when a trial, or a measurement on the test images, ended without an evaluation."""

    def testing(self, count: int) -> None:
        """Called when the search is over, before `count` of its results are measured on the test images."""

    def sizing(self, candidate: Candidate) -> None:
        """Called before the network of the answer is evaluated without approximations."""

    def confirming(self, candidate: Candidate, runs: int) -> None:
        """Called before `runs` runs of a candidate are made that confirm it or do not."""


class Stoppable(Observer):
    """Ends a search that was asked to stop, even if the exception that the signal raised was lost.

    A signal raises wherever the process happens to be, and Python ignores exceptions in destructors and some callbacks.
    """

    stopping = False

    def evaluating(self, count: int, workers: int) -> None:
        """Stop if asked to."""
        if self.stopping:
            raise KeyboardInterrupt

    def evaluated(self, record: Record, *, reused: bool) -> None:
        """Stop if asked to; the evaluation is stored."""
        if self.stopping:
            raise KeyboardInterrupt
