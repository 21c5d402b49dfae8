from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, IntDistribution

import energy
from approx import Architecture, build_network, multiplier_names, network_family, trace
from search.candidate import Candidate
from search.space import MULTIPLIERS
from search.task import Task, find_task, task_names


@st.composite
def genomes(draw: st.DrawFn) -> dict[str, object]:
    genome: dict[str, object] = {}
    for name, distribution in find_task("digits").space.distributions().items():
        if isinstance(distribution, CategoricalDistribution):
            genome[name] = draw(st.sampled_from(distribution.choices))
        else:
            assert isinstance(distribution, IntDistribution)
            values = range(distribution.low, distribution.high + 1, distribution.step)
            genome[name] = draw(st.sampled_from(values))
    return genome


@given(genomes())
def test_decoding_and_encoding_agree(genome: dict[str, object]) -> None:
    space = find_task("digits").space
    candidate = space.decode(genome)
    assert candidate == candidate.canonical()
    assert space.decode(space.encode(candidate)) == candidate


@pytest.mark.parametrize("name", task_names())
def test_every_network_of_the_space_can_be_built(name: str) -> None:
    task = find_task(name)
    distributions = task.space.distributions()
    depths, widths = distributions["depth"], distributions["width"]
    assert isinstance(depths, IntDistribution)
    assert isinstance(widths, IntDistribution)
    assert (depths.low, widths.low) == (1, 1)
    for name in task.space.families:
        family = network_family(name)
        assert depths.high <= family.max_depth
        assert widths.high <= family.max_width
        for depth in range(1, depths.high + 1):
            for width in {1, widths.high}:
                architecture = Architecture(family=name, depth=depth, width=width)
                network = build_network(architecture, image_shape=task.image_shape, classes=task.classes, seed=0)
                assert network.eval()(torch.zeros(1, *task.image_shape)).shape == (1, task.classes)


def test_published_networks_are_in_the_space() -> None:
    # LeNet-5, which was published with MNIST.
    space = find_task("mnist").space
    assert "lenet" in space.families
    assert space.max_depth >= 3
    assert space.max_width >= 6


@pytest.mark.parametrize("name", task_names())
def test_the_baseline_is_in_the_space(name: str) -> None:
    space = find_task(name).space
    baseline = space.baseline()
    assert space.decode(space.encode(baseline)) == baseline
    for gene, distribution in space.distributions().items():
        assert distribution._contains(distribution.to_internal_repr(space.encode(baseline)[gene]))


def energy_of(task: Task, candidate: Candidate) -> float:
    architecture = Architecture(family=candidate.family, depth=candidate.depth, width=candidate.width)
    network = build_network(architecture, image_shape=task.image_shape, classes=task.classes, seed=0)
    layers = tuple(
        energy.LayerWorkload(
            name=shape.name,
            positions=shape.positions,
            inner=shape.inner,
            outputs=shape.outputs,
            input_values=shape.input_values,
            stored_weights=shape.inner * shape.outputs,
            compressed=False,
        )
        for shape in trace(network, torch.zeros(1, *task.image_shape))
    )
    workload = energy.Workload(
        layers=layers, weight_bits=8, activation_bits=8, multiplier="exact", weight_memory_v=0.9, robust_bits=0
    )
    return energy.estimate(workload, energy.load_hardware("weight-stationary-45nm")).energy_pj


@pytest.mark.parametrize("name", task_names())
def test_the_baseline_is_the_most_expensive_network(name: str) -> None:
    task = find_task(name)
    baseline = task.space.baseline()
    networks = [
        replace(baseline, family=family, depth=depth, width=width)
        for family in task.space.families
        for depth in range(1, baseline.depth + 1)
        for width in (baseline.width - 1, baseline.width)
    ]
    assert max(networks, key=lambda candidate: energy_of(task, candidate)) == baseline


def test_every_multiplier_is_in_the_catalogue_the_space_and_the_energy_table() -> None:
    assert set(MULTIPLIERS) == set(energy.multiplier_energies())
    assert set(MULTIPLIERS) <= set(multiplier_names())
