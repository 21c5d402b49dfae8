import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, IntDistribution

import energy
from approx import Architecture, build_network, error_metrics, find_multiplier, multiplier_names, network_family, trace
from energy.cost_table import known_costs
from energy.hardware_parts import Cell
from search.defaults import DEFAULT_HARDWARE
from search.errors import UsageError
from search.evaluation.workload import workload_of
from search.multipliers.choice import MULTIPLIERS, ChosenMultiplier, choose
from search.space.candidate import Candidate
from search.space.search_space import SearchSpace
from search.space.task import Task, find_task, task_names

SPACE = find_task("digits").space
NARROW = (
    ChosenMultiplier(identity="exact"),
    ChosenMultiplier(identity="asm-1"),
    ChosenMultiplier(identity="mine@00000000", max_weight_bits=6, max_activation_bits=7),
)


@st.composite
def genomes(draw: st.DrawFn, space: SearchSpace = SPACE) -> dict[str, object]:
    genome: dict[str, object] = {}
    for name, distribution in space.distributions().items():
        if isinstance(distribution, CategoricalDistribution):
            genome[name] = draw(st.sampled_from(distribution.choices))
        else:
            assert isinstance(distribution, IntDistribution)
            values = range(distribution.low, distribution.high + 1, distribution.step)
            genome[name] = draw(st.sampled_from(values))
    return genome


# With separate layers, with different steps, and with both.
SPACES = (
    SPACE,
    replace(SPACE, layered=True),
    replace(
        SPACE,
        families=("lenet",),
        depth=range(2, 4),
        width=(1, 5, 7),
        sparsity_percent=(0, 33, 99),
        weight_bits=(3, 4, 8),
        activation_bits=range(5, 8, 2),
        supply_mv=(615, 700, 900),
        robust_bits=(0, 2, 7),
        baseline_family="mlp",
    ),
    replace(SPACE, layered=True, robust_bits=range(2, 4), weight_bits=range(6, 9)),
)


@pytest.mark.parametrize("cell", ["6T", "8T", "hybrid"])
@pytest.mark.parametrize("searched", SPACES)
@given(data=st.data())
def test_decoding_and_encoding_agree(cell: Cell, searched: SearchSpace, data: st.DataObject) -> None:
    space = searched.restricted(NARROW, cell)
    candidate = space.decode(data.draw(genomes(space)))
    assert candidate == candidate.canonical()
    assert space.decode(space.encode(candidate)) == candidate
    assert space.holds(candidate)
    assert candidate.weight_bits in space.weight_bits
    assert candidate.activation_bits in space.activation_bits
    for gene, distribution in space.distributions().items():
        assert distribution._contains(distribution.to_internal_repr(space.encode(candidate)[gene]))


def test_the_default_space_is_stable() -> None:
    assert SPACE.distributions() == {
        "family": CategoricalDistribution(("lenet", "mlp")),
        "depth": IntDistribution(1, 3),
        "width": IntDistribution(1, 8),
        "sparsity_percent": IntDistribution(0, 95, step=5),
        "weight_bits": IntDistribution(2, 8),
        "activation_bits": IntDistribution(2, 8),
        "multiplier": CategoricalDistribution(MULTIPLIERS),
        "supply_mv": IntDistribution(620, 900, step=10),
        "robust_bits": IntDistribution(0, 8),
    }
    layered = replace(SPACE, layered=True).distributions()
    assert list(layered) == [
        *SPACE.distributions(),
        "multiplier_first",
        "multiplier_last",
        "robust_bits_first",
        "robust_bits_last",
    ]


@pytest.mark.parametrize("space", SPACES)
def test_a_space_survives_json_and_keeps_the_baseline(space: SearchSpace) -> None:
    again = SPACE.with_values(json.loads(json.dumps(space.to_dict())))
    assert again.to_dict() == space.to_dict()
    assert again.distributions() == space.distributions()
    assert again.baseline() == space.baseline() == SPACE.baseline()
    assert space.holds(SPACE.baseline()) == (space.families == SPACE.families)


def test_a_space_holds_the_candidates_of_its_genomes() -> None:
    low = replace(SPACE.baseline(), depth=2, supply_v=0.8)
    space = replace(SPACE, robust_bits=(0, 3, 4), weight_bits=(2, 4, 8))
    for change, held in (
        ({}, True),
        ({"robust_bits": 3}, True),
        ({"robust_bits": 1}, False),
        ({"robust_bits": 2, "weight_bits": 2}, True),
        ({"weight_bits": 5}, False),
        ({"multiplier": "drum-4"}, False),
        ({"multiplier_last": "asm-1"}, False),
        ({"supply_v": 0.705}, False),
        ({"depth": 4}, False),
    ):
        assert space.holds(replace(low, **change)) == held, change
    assert replace(space, layered=True).holds(replace(low, multiplier_last="asm-1"))


def test_a_multiplier_that_supports_none_of_the_widths_is_rejected() -> None:
    with pytest.raises(UsageError, match=r"multiplier mine is searched with at most 6-bit weights .* leave mine out"):
        replace(SPACE, weight_bits=range(7, 9)).restricted(NARROW, "hybrid")


@given(genomes())
def test_operands_too_wide_for_a_multiplier_are_narrowed(genome: dict[str, object]) -> None:
    space = SPACE.restricted(NARROW, "hybrid")
    wide = {**genome, "weight_bits": 8, "activation_bits": 8}
    narrowed = space.decode({**wide, "multiplier": "mine@00000000"})
    assert (narrowed.weight_bits, narrowed.activation_bits) == (6, 7)
    asm = space.decode({**wide, "multiplier": "asm-1"})
    assert (asm.weight_bits, asm.activation_bits) == (8, 8)
    assert space.decode({**wide, "weight_bits": 3, "multiplier": "mine@00000000"}).weight_bits == 3


@given(genomes())
def test_only_hybrid_memories_leave_a_choice_of_robust_bits(genome: dict[str, object]) -> None:
    low = {**genome, "supply_mv": 700, "multiplier": "exact"}
    none, every = (SPACE.restricted(NARROW, cell) for cell in ("6T", "8T"))
    assert none.decode({**low, "robust_bits": 0}).robust_bits == 0
    assert every.decode({**low, "robust_bits": 8}).robust_bits == genome["weight_bits"]
    for space, bits in ((none, 0), (every, 8), (SPACE.restricted(NARROW, "hybrid"), None)):
        distribution = space.distributions()["robust_bits"]
        assert isinstance(distribution, IntDistribution)
        assert (distribution.low, distribution.high) == ((0, 8) if bits is None else (bits, bits))
        assert space.baseline() == SPACE.baseline()


@pytest.mark.parametrize("name", task_names())
def test_every_network_of_the_space_can_be_built(name: str) -> None:
    task = find_task(name)
    distributions = task.space.distributions()
    depths, widths = distributions["depth"], distributions["width"]
    assert isinstance(depths, IntDistribution)
    assert isinstance(widths, IntDistribution)
    assert depths.low == 1
    assert widths.low <= widths.high / 4
    for name in task.space.families:
        family = network_family(name)
        assert depths.high <= family.max_depth
        assert widths.high <= family.max_width
        for depth in range(1, depths.high + 1):
            for width in {widths.low, widths.high}:
                architecture = Architecture(family=name, depth=depth, width=width)
                network = build_network(architecture, image_shape=task.image_shape, classes=task.classes, seed=0)
                assert network.eval()(torch.zeros(1, *task.image_shape)).shape == (1, task.classes)


def test_baselines_are_the_published_networks() -> None:
    """LeNet-5 (LeCun et al., Proc. IEEE 1998), and ResNet-20 at width 16 (He et al., CVPR 2016, section 4.2)."""
    published = {"mnist": ("lenet", 3, 6), "fashion-mnist": ("lenet", 3, 6)}
    published |= dict.fromkeys(["cifar10", "cifar100", "svhn"], ("resnet", 3, 16))
    for name, network in published.items():
        assert find_task(name).space.baseline().network == network


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
    hardware = energy.load_hardware(DEFAULT_HARDWARE)
    shapes = [replace(shape, input_density=1.0) for shape in trace(network, torch.zeros(1, *task.image_shape))]
    return energy.estimate(workload_of(candidate, shapes, hardware, kept={}), hardware).energy_pj


@pytest.mark.parametrize("name", task_names())
def test_no_network_is_much_more_expensive_than_the_baseline(name: str) -> None:
    task = find_task(name)
    baseline = task.space.baseline()
    networks = [
        replace(baseline, family=family, depth=depth, width=width)
        for family in task.space.families
        for depth in range(1, baseline.depth + 1)
        for width in (baseline.width - 1, baseline.width)
    ]
    most = max(energy_of(task, candidate) for candidate in networks)
    assert energy_of(task, baseline) > 0.96 * most  # on digits a lenet of that size costs as much as the mlp
    same_family = [one for one in networks if one.family == baseline.family]
    assert max(same_family, key=lambda candidate: energy_of(task, candidate)) == baseline


def test_the_default_multipliers_are_those_that_no_other_beats_and_the_alphabet_sets() -> None:
    names = [name for name in multiplier_names() if name in known_costs().names]
    points = {}
    for name in names:
        multiplier = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
        cost = energy.multiplier_cost(name, weight_bits=8, activation_bits=8)
        errors = error_metrics(multiplier)
        if errors.zero_preserving:  # hardware that gates zeros gives zero for them
            points[name] = (errors.mae, cost.relative_energy_held)
    beaten = {
        name
        for name, (error, spent) in points.items()
        if any(other != (error, spent) and other[0] <= error and other[1] <= spent for other in points.values())
    }
    kept = {name for name in points if name not in beaten or name.startswith("asm-")}
    assert ("exact", *sorted(kept - {"exact"})) == MULTIPLIERS


def test_the_default_multipliers_need_no_imported_ones() -> None:
    chosen = choose(MULTIPLIERS)
    assert chosen == tuple(ChosenMultiplier(identity=name) for name in MULTIPLIERS)
    assert SPACE.restricted(chosen, "hybrid") == SPACE


def test_the_energy_of_every_member_of_the_space_is_known() -> None:
    for name in multiplier_names():
        if name in known_costs().names:
            for bits in range(2, 9):
                energy.multiplier_cost(name, weight_bits=bits, activation_bits=10 - bits)
