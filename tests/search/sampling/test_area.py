"""A bound on area: what is asked for keeps it, and the smallest candidate is known before anything is trained."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.trial import TrialState

from energy import load_hardware
from search.defaults import SAMPLERS
from search.multipliers.choice import choose_for
from search.sampling.area import AreaBound
from search.sampling.asker import Asker
from search.sampling.forecast import HardwareGenomeModel
from search.sampling.starts import starting_genomes
from search.space.candidate import Candidate
from search.space.search_space import SearchSpace
from search.space.space_file import choose_space
from search.space.task import find_task
from tests.support.fakes import FakeGenomeModel, formula

pytestmark = pytest.mark.slow

TASK = find_task("digits")
SPACE = TASK.space


def areas(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """Areas by a formula, for which the smallest candidate of the space has 1/12 of the baseline's."""
    found = [0.02 * one.depth * one.width + 0.02 * one.weight_bits + 0.0025 * one.robust_bits for one in candidates]
    return np.array(found)


def bound(max_area: float = 0.3) -> AreaBound:
    return AreaBound(SPACE, areas, max_area)


def ratio(genes: Any) -> float:
    mine, baseline = areas([SPACE.decode(genes), SPACE.baseline()])
    return float(mine / baseline)


def random_genomes(space: SearchSpace, count: int, seed: int = 0) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [dict(study.ask(space.distributions()).params) for _ in range(count)]


@pytest.mark.parametrize("hardware", ["flexible-45nm", "given-8bit-45nm", "row-stationary-65nm"])
@pytest.mark.parametrize("name", ["default", "layered"])
def test_no_candidate_of_a_space_is_smaller_than_the_smallest(hardware: str, name: str) -> None:
    accelerator = load_hardware(hardware)
    chosen = choose_for(accelerator, None)
    space = choose_space(name, TASK, accelerator).space.restricted(chosen, accelerator.weight_memory.cell)
    model = HardwareGenomeModel(space, TASK, accelerator)
    found = AreaBound(space, model.areas, 1.0)
    smallest = found.fitted(space.encode(space.baseline()), np.random.default_rng(0))
    assert smallest == space.encode(space.baseline())  # which is within a bound of 1
    tight = AreaBound(space, model.areas, found.least * (1 + 1e-9))
    smallest = tight.fitted(smallest, np.random.default_rng(0))
    # Anything, and what differs from the smallest in a few genes, where a smaller one would be.
    rng = np.random.default_rng(0)
    near = [
        {gene: value if rng.random() < 0.3 else smallest[gene] for gene, value in genes.items()}
        for genes in random_genomes(space, 500)
    ]
    everyone = model.areas([space.decode(genes) for genes in [*random_genomes(space, 500, seed=1), *near, smallest]])
    assert everyone.min() == everyone[-1]
    assert everyone[-1] / model.areas([space.baseline()])[0] == pytest.approx(found.least)


def test_a_genome_beyond_the_bound_takes_over_no_more_than_it_needs() -> None:
    tight, rng = bound(0.3), np.random.default_rng(0)
    for genes in random_genomes(SPACE, 100):
        fitted = tight.fitted(genes, rng)
        assert ratio(fitted) <= 0.3
        if ratio(genes) <= 0.3:
            assert fitted == genes
        # Genes that area does not depend on stay as they are.
        kept = ("sparsity_percent", "activation_bits", "multiplier")
        assert {gene: fitted[gene] for gene in kept} == {gene: genes[gene] for gene in kept}
    assert bound().least == pytest.approx(0.06 / 0.64)


def test_starting_configurations_are_brought_within_the_bound() -> None:
    starts = starting_genomes(SPACE, budget=60, fit=bound(0.2).fitting(seed=-3))
    assert starts == starting_genomes(SPACE, budget=60, fit=bound(0.2).fitting(seed=-3))
    assert SPACE.decode(starts[0]) == SPACE.baseline()  # with which all are compared
    assert all(ratio(genes) <= 0.2 for genes in starts[1:])
    assert len(starts) > 5


def asked(sampler: str, max_area: float | None, *, budget: int, stop_after: int | None = None) -> list[Any]:
    """Return the genomes that a search asks for; it may be stopped and resumed by another process."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    area = None if max_area is None else bound(max_area)
    left = stop_after
    while True:
        asker = Asker(
            study,
            FakeGenomeModel(SPACE),
            sampler=sampler,
            seed=3,
            population_size=10,
            starts=[SPACE.encode(SPACE.baseline())],
            area=area,
        )
        while trials := asker.ask_generation(budget=budget):
            for trial in trials:
                if left == 0:
                    break
                evaluation = formula(SPACE.decode(trial.params))
                study.tell(trial.number, (evaluation.accuracy, evaluation.energy_pj))
                left = None if left is None else left - 1
            if left == 0:
                break
        if left != 0:
            return [trial.params for trial in study.get_trials(states=(TrialState.COMPLETE,))]
        left = None


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_keeps_the_bound(sampler: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    assert max(map(ratio, asked(sampler, None, budget=11)[1:])) > 0.3
    genomes = asked(sampler, 0.3, budget=13)
    assert len(genomes) == 13
    assert SPACE.decode(genomes[0]) == SPACE.baseline()
    assert max(map(ratio, genomes[1:])) <= 0.3
    assert genomes == asked(sampler, 0.3, budget=13, stop_after=11)


def test_no_candidate_is_asked_twice_close_to_the_smallest() -> None:
    genomes = asked("nsga2", 0.12, budget=60)
    assert max(map(ratio, genomes[1:])) <= 0.12
    assert len({SPACE.decode(genes) for genes in genomes[10:]}) == 50  # the first generation is drawn at random


def test_what_cannot_be_built_is_not_small() -> None:
    hardware = load_hardware("flexible-45nm")
    model = HardwareGenomeModel(SPACE, TASK, hardware)
    baseline = SPACE.baseline()
    other = SPACE.decode({**SPACE.encode(baseline), "width": 1})
    model._layers[other.network] = None  # as of a custom network that cannot be built at this size
    assert np.isfinite(model.areas([baseline, other])).tolist() == [True, False]
