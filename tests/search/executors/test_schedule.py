"""The order in which the evaluations of a generation start."""

from dataclasses import replace

from search.evaluation.evaluation import Evaluation
from search.evaluation.work import Evaluate
from search.executors.schedule import LongestFirst
from search.space.candidate import Candidate
from search.space.task import find_task
from tests.support.fakes import formula

BASELINE = find_task("digits").space.baseline()
LARGE = replace(BASELINE, width=8)
MEDIUM = replace(BASELINE, width=4)
SMALL = replace(BASELINE, width=1)


def evaluations(*candidates: Candidate) -> list[Evaluation]:
    return [replace(formula(candidate), macs=100 * candidate.width**2) for candidate in candidates]


def jobs(**candidates: object) -> list[Evaluate]:
    return [Evaluate(key=key, candidate=candidate) for key, candidate in candidates.items()]  # type: ignore[arg-type]


def test_the_longest_are_first() -> None:
    """A job takes four times as long if its network is to be trained, twice as long if it is to be pruned."""
    evaluated = evaluations(LARGE, MEDIUM, replace(MEDIUM, sparsity=0.5), replace(MEDIUM, width=5), SMALL)
    among = {
        "small": SMALL,
        "unlike all": replace(SMALL, family="lenet"),
        "pruned": replace(MEDIUM, sparsity=0.5),
        "large": LARGE,
        "new": replace(BASELINE, depth=2, width=3),
        "new pruned": replace(BASELINE, width=3, sparsity=0.5),
        "to be pruned": replace(MEDIUM, sparsity=0.6, width=5),
        "to be pruned more": replace(LARGE, sparsity=0.6),
    }
    found = [job.key for job in LongestFirst(jobs(**among), evaluated)]
    assert found == ["unlike all", "new pruned", "to be pruned more", "new", "to be pruned", "large", "pruned", "small"]


def test_two_jobs_that_need_a_network_do_not_start_together() -> None:
    same = [replace(SMALL, width=3, sparsity=share) for share in (0.1, 0.2, 0.3)]
    schedule = LongestFirst(jobs(a=same[0], b=same[1], c=MEDIUM, d=same[2]), evaluations(MEDIUM))
    handed_out = iter(schedule)
    assert [next(handed_out).key, next(handed_out).key] == ["a", "c"]
    schedule.ended("a")
    assert [job.key for job in handed_out] == ["b", "d"]


def test_a_job_that_needs_a_network_starts_when_it_should_be_trained() -> None:
    """Were it left to the end, a generation would end with it."""
    measured = [
        replace(one, cpu_seconds=30.0) for one in evaluations(MEDIUM)
    ]  # three quarters for training its network
    clock = iter([0.0, 0.0, 22.0, 23.0, 24.0, 25.0])
    same = [replace(MEDIUM, depth=2, sparsity=share) for share in (0.1, 0.2, 0.3)]
    others = {f"{bits}": replace(MEDIUM, activation_bits=bits) for bits in (2, 3, 4)}
    schedule = LongestFirst(jobs(a=same[0], b=same[1], c=same[2], **others), measured, clock=clock.__next__)
    assert [job.key for job in schedule] == ["a", "2", "3", "b", "c", "4"]


def test_if_all_need_networks_in_training_the_first_to_be_trained_is_next() -> None:
    measured = [replace(one, cpu_seconds=30.0) for one in evaluations(MEDIUM, replace(MEDIUM, width=2))]
    large, small = replace(MEDIUM, depth=2), replace(MEDIUM, depth=2, width=2)
    pruned = {f"{one.width}": replace(one, sparsity=0.5) for one in (large, small)}
    schedule = LongestFirst(jobs(a=large, b=small, **pruned), measured, clock=lambda: 1.0)
    assert [job.key for job in schedule] == ["4", "2", "b", "a"]


def test_each_family_has_its_own_pace() -> None:
    slow = replace(SMALL, family="lenet")
    measured = [replace(one, cpu_seconds=1.0) for one in evaluations(LARGE, SMALL)]
    measured += [replace(one, cpu_seconds=20.0) for one in evaluations(slow)]
    assert [job.key for job in LongestFirst(jobs(large=LARGE, slow=slow), measured)] == ["slow", "large"]


def test_a_worker_does_not_idle_if_all_jobs_need_the_same_network() -> None:
    same = [replace(SMALL, sparsity=share) for share in (0.1, 0.2)]
    assert [job.key for job in LongestFirst(jobs(a=same[0], b=same[1]), [])] == ["a", "b"]
