"""In which order the evaluations of a generation are begun. It changes no result, only how long workers wait."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator

from search.candidate import Candidate
from search.executor import Job

Network = tuple[str, int, int]


def network_of(candidate: Candidate) -> Network:
    """What has to be trained before all else, and is shared by candidates that have it in common."""
    return candidate.family, candidate.depth, candidate.width


class LongestFirst:
    """Hands jobs out, the longest first, so that a generation does not end with one worker at a long one.

    What takes longest is guessed from what has to be trained and from multiplications. Two jobs that lack the same
    network are not begun together as long as there is another: one worker would train it and the other wait.

    Args:
        jobs: The jobs.
        evaluated: Candidates whose networks, as they are before and after pruning, are trained already.
        macs: How many multiplications a candidate makes for an image.
    """

    def __init__(
        self, jobs: Collection[Job], evaluated: Collection[Candidate], *, macs: Callable[[Candidate], int]
    ) -> None:
        self._trained = {network_of(candidate) for candidate in evaluated}
        pruned = {(network_of(candidate), candidate.sparsity) for candidate in evaluated}

        def effort(job: Job) -> float:
            network, sparsity = network_of(job.candidate), job.candidate.sparsity
            stages = 1 + 3 * (network not in self._trained) + (sparsity > 0 and (network, sparsity) not in pruned)
            return stages * math.sqrt(macs(job.candidate))  # small networks take longer than their share

        self._left = sorted(jobs, key=effort, reverse=True)
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
