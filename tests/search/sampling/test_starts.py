"""The starting configurations of a search."""

from dataclasses import replace

import pytest

from search.multipliers.choice import MULTIPLIERS, choose
from search.sampling.starts import starting_genomes
from search.space.task import find_task, task_names
from search.space.techniques import TECHNIQUES, techniques_of

SPACE = find_task("digits").space.restricted(choose(MULTIPLIERS), "hybrid")


@pytest.mark.parametrize("name", task_names())
def test_each_technique_alone_and_all_together_are_tried(name: str) -> None:
    space = find_task(name).space
    baseline = space.baseline()
    candidates = [space.decode(genes) for genes in starting_genomes(space, budget=200)]
    assert candidates[0] == baseline
    assert len(set(candidates)) == len(candidates)
    used = [techniques_of(candidate, baseline) for candidate in candidates]
    for technique in TECHNIQUES:
        assert used.count(frozenset({technique})) == 2  # mildly and strongly
    assert used.count(frozenset(TECHNIQUES)) == 6
    assert {candidate.family for candidate in candidates} == set(space.families)


def test_they_are_the_same_every_time_and_take_at_most_half_of_the_budget() -> None:
    assert starting_genomes(SPACE, budget=200) == starting_genomes(SPACE, budget=200)
    for budget in (1, 2, 10, 20):
        assert len(starting_genomes(SPACE, budget=budget)) == max(1, budget // 2)


def test_requested_candidates_come_first_whatever_the_budget() -> None:
    requested = [replace(SPACE.baseline(), width=width, supply_v=0.8) for width in (3, 4, 5)]
    candidates = [SPACE.decode(genes) for genes in starting_genomes(SPACE, budget=2, requested=requested)]
    assert candidates == [SPACE.baseline(), *requested]


def test_candidates_outside_of_the_space_are_left_out() -> None:
    small = replace(SPACE, width=range(1, 4), baseline_family="mlp", families=("mlp",))
    earlier = [replace(SPACE.baseline(), width=2), replace(SPACE.baseline(), width=7)]
    candidates = [small.decode(genes) for genes in starting_genomes(small, budget=100, earlier=earlier)]
    assert earlier[0] in candidates
    assert {candidate.width for candidate in candidates} <= {1, 2, 3}


def test_a_space_of_one_technique_has_steps_of_that_technique_alone() -> None:
    space = SPACE.of_techniques(["pruning"]).restricted(choose(["exact"]), "hybrid")
    candidates = [space.decode(genes) for genes in starting_genomes(space, budget=100)]
    assert {techniques_of(one, SPACE.baseline()) for one in candidates[1:]} == {frozenset({"pruning"})}
    assert len(candidates) > 3


def test_a_layered_space_has_starts_too() -> None:
    space = replace(SPACE, layered=True)
    genomes = starting_genomes(space, budget=100)
    assert all(genes.keys() == space.distributions().keys() for genes in genomes)
    assert space.decode(genomes[0]) == SPACE.baseline()
