"""A search without training: evaluations by formula, at once, in any order."""

from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np

from search.candidate import Candidate
from search.evaluation import Evaluation
from search.executor import Job, Outcome


def formula(candidate: Candidate) -> Evaluation:
    """More of everything is more accurate and costs more; too low a voltage without robust bits is fatal."""
    size = candidate.depth * candidate.width
    accuracy = 1 - 0.5 / size - 0.2 / candidate.weight_bits**2 - 0.1 * candidate.sparsity**4
    accuracy -= max(0.0, 0.8 - candidate.supply_v) * (5 - candidate.robust_bits)
    work = size * candidate.weight_bits * candidate.activation_bits * (1 - candidate.sparsity)
    return Evaluation(
        candidate=candidate,
        chip_accuracies=(max(0.0, accuracy), max(0.0, accuracy - 0.01)),
        components_pj={"mac": work, "weight_sram": work * candidate.supply_v**2},
        latency_us=1.0,
        macs=size,
        density=1 - candidate.sparsity,
        seconds=0.0,
    )


class FakeExecutor:
    """Yields outcomes in a shuffled order and notes what it was asked for."""

    workers = 1

    def __init__(self, order_seed: int = 0, evaluate: Callable[[Candidate], Evaluation] = formula) -> None:
        self._random = np.random.default_rng(order_seed)
        self._evaluate = evaluate
        self.jobs: list[Job] = []

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        for index in self._random.permutation(len(jobs)):
            job = jobs[index]
            self.jobs.append(job)
            try:
                evaluation = self._evaluate(job.candidate)
            except ArithmeticError as error:
                yield Outcome(key=job.key, evaluation=None, error=str(error))
            else:
                yield Outcome(key=job.key, evaluation=evaluation, error=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None
