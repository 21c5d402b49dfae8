"""Which knobs decide: of the space that was searched, each once."""

import re
from dataclasses import replace
from datetime import datetime
from itertools import cycle, islice, product

import pytest

from search.answers.confirmation import Answer, RightSized
from search.answers.result import SearchResult, front
from search.answers.stored import Stored
from search.multipliers.choice import choose
from search.report.page.importance import knob_importance, knobs_of, searched_space
from search.report.page.page import importance_section
from search.space.candidate import Candidate
from search.space.search_space import SearchSpace
from search.space.task import find_task
from search.store.records import Record, SearchRecord
from tests.support.fakes import SETTINGS, SETUP, TARGET, formula

SPACE = find_task("digits").space
LAYERED = replace(SPACE, layered=True)
SHARED = {
    "family",
    "depth",
    "width",
    "sparsity",
    "weight_bits",
    "activation_bits",
    "multiplier",
    "supply_v",
    "robust_bits",
}
OF_LAYERS = {"multiplier_first", "multiplier_last", "robust_bits_first", "robust_bits_last"}


def records_of(candidates: list[Candidate]) -> list[Record]:
    return [
        Record(key=f"{i:064}", setup=SETUP, seed=0, evaluation=formula(c.canonical()), test_accuracies=None)
        for i, c in enumerate(candidates)
    ]


def shares(candidates: list[Candidate], space: SearchSpace) -> dict[str, float]:
    records = records_of(candidates)
    return knob_importance(records, [r.evaluation.accuracy for r in records], space, maximised=True).shares


def result_of(candidates: list[Candidate], space: SearchSpace) -> SearchResult:
    """A result of evaluations of a space, the first of which is the baseline."""
    records = records_of(candidates)
    began = datetime(2026, 1, 1)
    return SearchResult(
        search=SearchRecord(
            id=1,
            name="digits-1",
            task=find_task("digits"),
            hardware="any",
            seed=0,
            budget=len(records),
            population_size=10,
            target=TARGET,
            multipliers=space.multipliers,
            settings=SETTINGS,
            space=space.to_dict(),
            data_dir=None,
            created_at=began,
            finished_at=began,
        ),
        baseline=records[0],
        front=tuple(front(records)),
        evaluations=tuple(records),
        finished=len(records),
        distinct=len(records),
        failed=0,
        answer=Answer(
            task=find_task("digits"),
            target=TARGET,
            baseline=records[0],
            right_sized=RightSized(record=records[0], confirmation=None),
            record=None,
            confirmation=None,
            baseline_confirmation=None,
            rejected=(),
            confirmations={},
        ),
        stored=Stored(
            task=find_task("digits"),
            hardware="any",
            effort="standard",
            baseline=records[0],
            max_area=None,
            front=(),
            tried=(),
            plain=(),
            runs={},
        ),
    )


def rows(section: str) -> list[str]:
    """The knobs of the table, from top to bottom."""
    return re.findall(r"<th scope=row>([^<]*)</th>", section)


def not_varied(section: str) -> str:
    """The knobs below the table."""
    return "".join(re.findall(r"Not varied: (.*)\.</p>", section))


def test_the_knob_that_decides_is_the_most_important() -> None:
    candidates = [
        replace(SPACE.baseline(), width=1 + i % 8, depth=1 + i // 8 % 3, sparsity=i % 5 / 10) for i in range(120)
    ]
    records = records_of(candidates)
    found = knob_importance(records, [float(c.width) for c in candidates], SPACE, maximised=True)
    assert next(iter(found.shares)) == "width"
    assert found.shares.keys() == {"width", "depth", "sparsity"}
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found == knob_importance(records, [-float(c.width) for c in candidates], SPACE, maximised=False)


@pytest.mark.parametrize(
    ("candidates", "values", "missing"),
    [
        ([SPACE.baseline()] * 3, [1.0, 2.0, 3.0], "this takes at least 30"),
        ([SPACE.baseline()] * 40, [float(i) for i in range(40)], "no knob varied"),
        ([replace(SPACE.baseline(), width=1 + i % 8) for i in range(40)], [1.0] * 40, "the same value"),
    ],
)
def test_unknown_importance_has_a_reason(candidates: list[Candidate], values: list[float], missing: str) -> None:
    found = knob_importance(records_of(candidates), values, SPACE, maximised=True)
    assert found.shares == {}
    assert missing in found.missing


def test_the_knobs_are_those_of_the_space_each_once() -> None:
    assert knobs_of(SPACE) == dict.fromkeys(SHARED, True)
    assert knobs_of(LAYERED) == dict.fromkeys(SHARED | OF_LAYERS, True)
    fixed = replace(SPACE, families=("mlp",), supply_mv=range(800, 801), multipliers=("exact",))
    assert {knob for knob, varies in knobs_of(fixed).items() if not varies} == {"family", "supply_v", "multiplier"}


def test_a_knob_that_all_layers_share_counts_once() -> None:
    """The first and the last layer have the same multiplier as the others, so that it would count three times."""
    choices = product(("exact", "asm-1", "truncated-4"), (0, 2, 4), (0.70, 0.74, 0.78, 0.82))
    candidates = [
        replace(SPACE.baseline(), multiplier=multiplier, robust_bits=bits, supply_v=v)
        for multiplier, bits, v in choices
    ]
    found = shares(candidates, SPACE)
    assert found.keys() == {"multiplier", "robust_bits", "supply_v"}
    assert sum(found.values()) == pytest.approx(1)


def test_the_first_and_the_last_layer_of_a_layered_space_are_knobs_of_their_own() -> None:
    choices = product(("exact", "asm-1"), repeat=3)
    candidates = [
        replace(LAYERED.baseline(), multiplier=main, multiplier_first=first, multiplier_last=last, width=width)
        for (first, main, last), width in product(choices, range(1, 9))
    ]
    assert shares(candidates, LAYERED).keys() == {"multiplier", "multiplier_first", "multiplier_last", "width"}
    section = importance_section(result_of([LAYERED.baseline(), *candidates], LAYERED))
    assert set(rows(section)) == {
        "multiplier, layers between",
        "multiplier, first layer",
        "multiplier, last layer",
        "width",
    }
    assert not_varied(section).endswith(
        "robust bits, layers between, robust bits, first layer, robust bits, last layer"
    )


@pytest.mark.parametrize("cell", ["8T", "6T"])
def test_robust_bits_are_no_knob_of_a_memory_of_one_kind_of_cell(cell: str) -> None:
    """In cells that are all robust, a weight has as many robust bits as it has bits: the width is the knob."""
    space = SPACE.restricted(choose(("exact",)), "8T" if cell == "8T" else "6T")
    genes = space.encode(space.baseline())
    candidates = [
        space.decode({**genes, "weight_bits": bits, "supply_mv": mv, "width": width})
        for bits, mv, width in product(range(2, 9), (700, 800, 900), (2, 8))
    ]
    # What is stored of the space does not say of what cells the memory is.
    stored = searched_space(result_of(candidates, replace(SPACE, multipliers=("exact",))).search)
    assert shares(candidates, stored).keys() == {"weight_bits", "supply_v", "width"}


def test_a_baseline_outside_of_the_space_adds_no_knob() -> None:
    """Savings need its evaluation, but the search chose neither its voltage nor its width."""
    space = replace(SPACE, supply_mv=range(800, 801), width=range(1, 5))
    genes = space.encode(replace(space.baseline(), supply_v=0.8, width=1))
    inside = [
        space.decode({**genes, "width": 1 + i % 4, "depth": 1 + i // 4 % 3, "sparsity_percent": 5 * (i // 12)})
        for i in range(60)
    ]
    section = importance_section(result_of([space.baseline(), *inside], space))
    assert set(rows(section)) == {"width", "depth", "prune"}
    assert "the best tenth, 6 of 60" in section
    assert "memory voltage" in not_varied(section)


def test_the_section_names_no_knob_that_the_space_has_not() -> None:
    varied = islice(cycle(product((1, 2, 3), range(1, 9), (0.7, 0.8))), 48)
    candidates = [replace(SPACE.baseline(), depth=depth, width=width, supply_v=v) for depth, width, v in varied]
    section = importance_section(result_of([SPACE.baseline(), *candidates], SPACE))
    assert set(rows(section)) == {"depth", "width", "memory voltage"}
    assert not_varied(section) == "network, prune, weight bits, activation bits, multiplier, robust bits"
