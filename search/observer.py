"""Who is notified of the progress of a search."""

from __future__ import annotations

from collections.abc import Sequence

from search.space.candidate import Candidate
from search.store.records import Record, SearchRecord


class Observer:
    """Is told how a search goes on, in the process that runs it. This one ignores it; others override."""

    def stored(self, search: SearchRecord) -> None:
        """The search has a name and is stored: it can be gone on with, whatever happens from now on."""

    def noted(self, text: str) -> None:
        """There is something that a reader of the results has to know."""

    def started(self, search: SearchRecord, done: Sequence[Record], trials: int) -> None:
        """The search begins or goes on, with so many trials ended before in these evaluations."""

    def storing(self) -> None:
        """Something is about to be asked or stored; what is raised here keeps it from being."""

    def evaluating(self, count: int, workers: int) -> None:
        """This many evaluations are handed to the executor, of which so many run at a time."""

    def evaluated(self, record: Record, *, reused: bool) -> None:
        """A trial ended with an evaluation, made now or known before."""

    def failed(self, candidate: Candidate, error: str) -> None:
        """A trial, or a measurement on the test images, ended without an evaluation."""

    def testing(self, count: int) -> None:
        """The search is over; this many of its results are being measured on the test images."""

    def confirming(self, candidate: Candidate, runs: int) -> None:
        """This many fresh runs of a candidate are being made."""


class Stoppable(Observer):
    """Ends a search that was asked to stop, even where the exception that a signal raised was lost.

    It is raised wherever the process happens to be, and Python ignores what is raised in a destructor or a callback.
    """

    stopping = False

    def evaluating(self, count: int, workers: int) -> None:
        """Stop, if that was asked for."""
        if self.stopping:
            raise KeyboardInterrupt

    def evaluated(self, record: Record, *, reused: bool) -> None:
        """Stop, if that was asked for: the evaluation is stored."""
        if self.stopping:
            raise KeyboardInterrupt
