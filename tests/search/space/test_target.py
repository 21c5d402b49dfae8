import math

import pytest

from search.errors import UsageError
from search.space.target import Target


def test_a_target_is_an_accuracy_or_relative_to_the_baseline() -> None:
    assert Target(min_accuracy=0.9).accuracy(baseline=0.97) == 0.9
    assert Target(max_accuracy_drop=0.02).accuracy(baseline=0.97) == 0.97 - 0.02
    assert str(Target(min_accuracy=0.9)) == "at 90.00% or more"
    assert str(Target(max_accuracy_drop=0.02)) == "within 2.00 points of the baseline"


def test_a_bound_on_area_is_relative_to_the_baseline() -> None:
    assert Target(min_accuracy=0.9).area_mm2(2.0) == math.inf
    bounded = Target(min_accuracy=0.9, max_area=0.4)
    assert bounded.area_mm2(2.0) == 0.8
    assert str(bounded) == "at 90.00% or more, on at most 0.4x the baseline's area"
    assert (
        str(Target(max_accuracy_drop=0.02, max_area=1)) == "within 2.00 points of the baseline, on at most 1x its area"
    )


@pytest.mark.parametrize("given", [{}, {"min_accuracy": 0.9, "max_accuracy_drop": 0.02}])
def test_a_target_is_exactly_one_of_the_two(given: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="either min_accuracy or max_accuracy_drop"):
        Target(**given)
