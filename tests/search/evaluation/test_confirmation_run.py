import json
from dataclasses import replace

import numpy as np
import pytest

from search.evaluation.confirmation_run import ConfirmationRun, Outcomes
from search.space.task import find_task
from tests.support.fakes import fresh_run


@pytest.mark.parametrize(("chips", "groups"), [(1, (1,)), (3, (5, 6)), (20, (1001,)), (7, (8, 8, 16))])
def test_outcomes_are_what_was_packed(chips: int, groups: tuple[int, ...]) -> None:
    right = np.random.default_rng(0).random((chips, sum(groups))) < 0.9
    packed = Outcomes.of(right, groups)
    assert np.array_equal(packed.right(), right)
    assert packed.right().dtype == np.bool_
    assert (packed.chips, packed.images, packed.groups) == (chips, sum(groups), groups)


def test_outcomes_of_chips_that_are_alike_take_little_room() -> None:
    right = np.random.default_rng(0).random((1, 6000)) < 0.98
    one, many = (len(Outcomes.of(np.broadcast_to(right, (chips, 6000)), (6000,)).packed) for chips in (1, 20))
    assert many < 2 * one


def test_a_run_survives_json() -> None:
    run = fresh_run(find_task("digits").space.baseline(), 3)
    assert ConfirmationRun.from_dict(json.loads(json.dumps(run.to_dict()))) == run
    outcomes = Outcomes.of(np.array([[True, False, True]]), (1, 2))
    measured = replace(run, outcomes=outcomes, retrained=False, test_class_accuracies=(0.5, None))
    again = ConfirmationRun.from_dict(json.loads(json.dumps(measured.to_dict())))
    assert again == measured
    assert hash(again.outcomes) == hash(outcomes)
