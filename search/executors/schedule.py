"""In which order the evaluations of a generation are begun. It changes no result, only how long workers wait."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator

from search.evaluation.evaluation import Evaluation
from search.evaluation.job import Evaluate
from search.space.candidate import Candidate, Network

_TRAINING = 3  # times what retraining takes, after pruning or on integer codes


class LongestFirst:
    """Hands jobs out, the longest first, so that a generation does not end with one worker at a long one.

    How long a job takes is guessed from what has to be trained, multiplications, and what others of its family took.
    How many multiplications there are is known of networks that were evaluated; others are not built for it here, as
    what builds a person's own network may hang. While a network is being trained for one job, others that lack it come
    later, as long as there are any: a second worker would only wait for the first.

    Args:
        jobs: The jobs.
        evaluations: What was evaluated, in that order: of its candidates, the networks before and after pruning are
            trained already.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        jobs: Collection[Evaluate],
        evaluations: Collection[Evaluation],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._past = _Past(evaluations)
        self._left = sorted(jobs, key=lambda job: self._past.seconds(job.candidate), reverse=True)
        self._running: dict[str, Network] = {}
        self._trained_at = dict.fromkeys(self._past.macs, -math.inf)  # or when it should be, by the clock

    def __iter__(self) -> Iterator[Evaluate]:
        while self._left:
            now = self._clock()
            waits = [self._trained_at.get(job.candidate.network, now) - now for job in self._left]
            job = self._left.pop(min(range(len(waits)), key=lambda place: max(0.0, waits[place])))
            network = self._running[job.key] = job.candidate.network
            self._trained_at.setdefault(network, now + self._past.training_seconds(job.candidate))
            yield job

    def ended(self, key: str) -> None:
        """A job ended, and its network is trained."""
        self._trained_at[self._running.pop(key)] = -math.inf


class _Past:
    """What earlier evaluations tell of how long others take.

    Attributes:
        macs: Network -> its multiplications, of all that are trained.
    """

    def __init__(self, evaluations: Collection[Evaluation]) -> None:
        self.macs: dict[Network, int] = {}
        self._pruned: set[tuple[Network, float]] = set()
        spent: dict[str, tuple[float, float]] = {}  # family -> seconds, and what was trained in these
        for one in evaluations:
            seconds, size = spent.get(one.candidate.family, (0.0, 0.0))
            trained = self._stages(one.candidate) * _size(one.macs)
            spent[one.candidate.family] = seconds + one.cpu_seconds, size + trained
            self.macs[one.candidate.network] = one.macs
            self._pruned.add((one.candidate.network, one.candidate.sparsity))
        self._pace = {family: seconds / size for family, (seconds, size) in spent.items() if seconds and size}

    def seconds(self, candidate: Candidate) -> float:
        """How long a candidate should take; infinite where nothing is known of its family."""
        return self._stages(candidate) * self._seconds_a_stage(candidate)

    def training_seconds(self, candidate: Candidate) -> float:
        """How much of that is the training of its network before all else."""
        return _TRAINING * self._seconds_a_stage(candidate)

    def _stages(self, candidate: Candidate) -> int:
        network, sparsity = candidate.network, candidate.sparsity
        pruning = sparsity > 0 and (network, sparsity) not in self._pruned
        return 1 + pruning + _TRAINING * (network not in self.macs)

    def _seconds_a_stage(self, candidate: Candidate) -> float:
        family, _, width = network = candidate.network
        alike = [
            (abs(math.log(width / other_width)), count * width / other_width)
            for (other_family, _, other_width), count in self.macs.items()
            if other_family == family
        ]
        macs = self.macs[network] if network in self.macs else min(alike, default=(0.0, math.inf))[1]
        return self._pace.get(family, 1.0) * _size(macs)


def _size(macs: float) -> float:
    return math.sqrt(macs)  # small networks take longer than their share
