from dataclasses import fields, replace
from typing import Any

import pytest

from search.space.candidate import Candidate
from search.space.task import find_task
from search.space.techniques import TECHNIQUES, techniques_of

BASELINE = find_task("digits").space.baseline()


def test_every_knob_belongs_to_one_technique() -> None:
    knobs = [knob for of_one in TECHNIQUES.values() for knob in of_one]
    assert sorted(knobs) == sorted(field.name for field in fields(Candidate))


@pytest.mark.parametrize(
    ("changed", "techniques"),
    [
        ({}, set()),
        ({"width": 2}, {"network"}),
        ({"family": "lenet"}, {"network"}),
        ({"sparsity": 0.5}, {"pruning"}),
        ({"activation_bits": 4}, {"multiplier"}),
        ({"multiplier": "asm-1", "weight_bits": 4}, {"multiplier"}),
        ({"supply_v": 0.8, "robust_bits": 2}, {"memory"}),
        ({"multiplier_first": "truncated-2"}, {"multiplier"}),
        ({"multiplier_last": "truncated-2"}, {"multiplier"}),
        ({"supply_v": 0.8, "robust_bits_last": 2}, {"memory"}),
        ({"robust_bits_first": 2}, set()),
        ({"depth": 1, "sparsity": 0.5, "weight_bits": 4, "supply_v": 0.8}, set(TECHNIQUES)),
    ],
)
def test_techniques_of_a_candidate(changed: dict[str, Any], techniques: set[str]) -> None:
    assert techniques_of(replace(BASELINE, **changed).canonical(), BASELINE) == techniques
