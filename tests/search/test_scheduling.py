"""In which order the evaluations of a generation are begun."""

from dataclasses import replace

from search.executor import Job
from search.scheduling import LongestFirst, network_of
from search.task import find_task

BASELINE = find_task("digits").space.baseline()
LARGE = replace(BASELINE, width=8)
MEDIUM = replace(BASELINE, width=4)
SMALL = replace(BASELINE, width=1)
TRAINED = {network_of(LARGE): 800, network_of(MEDIUM): 400, network_of(SMALL): 100}


def jobs(**candidates: object) -> list[Job]:
    return [Job(key=key, candidate=candidate) for key, candidate in candidates.items()]  # type: ignore[arg-type]


def test_the_longest_are_first() -> None:
    new = replace(BASELINE, width=2)
    among = jobs(small=SMALL, large=LARGE, new=new, medium=MEDIUM)
    assert [job.key for job in LongestFirst(among, TRAINED)] == ["new", "large", "medium", "small"]


def test_two_that_lack_a_network_are_not_begun_together() -> None:
    same = [replace(SMALL, sparsity=share) for share in (0.0, 0.1, 0.2)]
    schedule = LongestFirst(jobs(a=same[0], b=same[1], c=MEDIUM, d=same[2]), {network_of(MEDIUM): 400})
    handed_out = iter(schedule)
    assert [next(handed_out).key, next(handed_out).key] == ["a", "c"]
    schedule.ended("a")
    assert [job.key for job in handed_out] == ["b", "d"]


def test_a_worker_does_not_idle_where_all_lack_the_same_network() -> None:
    same = [replace(SMALL, sparsity=share) for share in (0.0, 0.1)]
    assert [job.key for job in LongestFirst(jobs(a=same[0], b=same[1]), {})] == ["a", "b"]
