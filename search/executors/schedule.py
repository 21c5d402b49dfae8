"""The order in which a generation's evaluations start. It affects no result, only how long workers idle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator

from search.evaluation.evaluation import Evaluation
from search.evaluation.work import Evaluate
from search.space.candidate import Candidate, Network

_TRAINING = 3  # duration of training, in units of one retraining (after pruning or on integer codes)


class LongestFirst:
    """Hands out jobs, the longest first, so that a generation does not end with all workers waiting for one.

    The duration of a job is estimated from the training it needs, its multiplications, and the times of others of its
    family. Multiplications are known for networks that were evaluated; others are not built here, because a custom
    network may hang. While one job trains a network, other jobs that need it are postponed if possible: a second worker
    would only wait for the first.

    Args:
        jobs: Jobs to hand out.
        evaluations: Earlier evaluations, in order. The networks of their candidates, before and after pruning, are
            already trained.
        clock: Returns the time in seconds.
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
        self._trained_at = dict.fromkeys(self._past.macs, -math.inf)  # network -> when its training (should have) ended

    def __iter__(self) -> Iterator[Evaluate]:
        while self._left:
            now = self._clock()
            waits = [self._trained_at.get(job.candidate.network, now) - now for job in self._left]
            job = self._left.pop(min(range(len(waits)), key=lambda place: max(0.0, waits[place])))
            network = self._running[job.key] = job.candidate.network
            self._trained_at.setdefault(network, now + self._past.training_seconds(job.candidate))
            yield job

    def ended(self, key: str) -> None:
        """Record that a job ended, so its network is trained."""
        self._trained_at[self._running.pop(key)] = -math.inf


class _Past:
    """Estimates durations from earlier evaluations.

    Attributes:
        macs: Trained network -> its multiplications.
    """

    def __init__(self, evaluations: Collection[Evaluation]) -> None:
        self.macs: dict[Network, int] = {}
        self._pruned: set[tuple[Network, float]] = set()
        spent: dict[str, tuple[float, float]] = {}  # family -> seconds, and the amount of training done in them
        for one in evaluations:
            seconds, size = spent.get(one.candidate.family, (0.0, 0.0))
            trained = self._stages(one.candidate) * _size(one.macs)
            spent[one.candidate.family] = seconds + one.cpu_seconds, size + trained
            self.macs[one.candidate.network] = one.macs
            self._pruned.add((one.candidate.network, one.candidate.sparsity))
        self._pace = {family: seconds / size for family, (seconds, size) in spent.items() if seconds and size}

    def seconds(self, candidate: Candidate) -> float:
        """Return how long a candidate should take; infinite if nothing is known about its family."""
        return self._stages(candidate) * self._seconds_per_stage(candidate)

    def training_seconds(self, candidate: Candidate) -> float:
        """Return how long the first training of its network should take."""
        return _TRAINING * self._seconds_per_stage(candidate)

    def _stages(self, candidate: Candidate) -> int:
        network, sparsity = candidate.network, candidate.sparsity
        pruning = sparsity > 0 and (network, sparsity) not in self._pruned
        return 1 + pruning + _TRAINING * (network not in self.macs)

    def _seconds_per_stage(self, candidate: Candidate) -> float:
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
