"""In which order the evaluations of a generation are begun. It changes no result, only how long workers wait."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

from search.candidate import Candidate
from search.executor import Job

Network = tuple[str, int, int]


def network_of(candidate: Candidate) -> Network:
    """What has to be trained before all else, and is shared by candidates that have it in common."""
    return candidate.family, candidate.depth, candidate.width


class LongestFirst:
    """Hands jobs out, the longest first, so that a generation does not end with one worker at a long one.

    The longest are those whose network was not trained yet, then those with the most multiplications. Two that lack the
    same network are not begun together as long as there is another: one worker would train it and the other wait.

    Args:
        jobs: The jobs.
        trained: Networks that are trained already, with how many multiplications they make for an image.
    """

    def __init__(self, jobs: Collection[Job], trained: Mapping[Network, int]) -> None:
        self._left = sorted(jobs, key=lambda job: -trained.get(network_of(job.candidate), math.inf))
        self._trained = set(trained)
        self._running: dict[str, Network] = {}

    def __iter__(self) -> Iterator[Job]:
        while self._left:
            busy = set(self._running.values()) - self._trained
            place = next((n for n, job in enumerate(self._left) if network_of(job.candidate) not in busy), 0)
            job = self._left.pop(place)
            self._running[job.key] = network_of(job.candidate)
            yield job

    def ended(self, key: str) -> None:
        """A job ended, and its network is trained."""
        self._trained.add(self._running.pop(key))
