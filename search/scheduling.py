"""In which order the evaluations of a generation are begun. It changes no result, only how long workers wait."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from search.candidate import Candidate
from search.evaluation import Evaluation
from search.executor import Job

Network = tuple[str, int, int]


def network_of(candidate: Candidate) -> Network:
    """What has to be trained before all else, and is shared by candidates that have it in common."""
    return candidate.family, candidate.depth, candidate.width


class LongestFirst:
    """Hands jobs out, the longest first, so that a generation does not end with one worker at a long one.

    What takes longest is guessed from what has to be trained and from multiplications. How many these are is known of
    networks that were evaluated; others are not built for it here, as what builds a person's own network may hang. Two
    jobs that lack the same network are not begun together as long as there is another: one worker would train it and
    the other wait.

    Args:
        jobs: The jobs.
        evaluations: What was evaluated: of its candidates, the networks before and after pruning are trained already.
    """

    def __init__(self, jobs: Collection[Job], evaluations: Collection[Evaluation]) -> None:
        macs = {network_of(one.candidate): one.macs for one in evaluations}
        pruned = {(network_of(one.candidate), one.candidate.sparsity) for one in evaluations}

        def expected_macs(network: Network) -> float:
            family, _, width = network
            alike = [
                (abs(math.log(width / other_width)), count * width / other_width)
                for (other_family, _, other_width), count in macs.items()
                if other_family == family
            ]
            return macs[network] if network in macs else min(alike, default=(0.0, math.inf))[1]

        def effort(job: Job) -> float:
            network, sparsity = network_of(job.candidate), job.candidate.sparsity
            stages = 1 + 3 * (network not in macs) + (sparsity > 0 and (network, sparsity) not in pruned)
            return stages * math.sqrt(expected_macs(network))  # small networks take longer than their share

        self._trained = set(macs)
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
