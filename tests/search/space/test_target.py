import pytest

from search.errors import UsageError
from search.space.target import Target


def test_a_target_is_an_accuracy_or_relative_to_the_baseline() -> None:
    assert Target(min_accuracy=0.9).accuracy(baseline=0.97) == 0.9
    assert Target(max_accuracy_drop=0.02).accuracy(baseline=0.97) == 0.97 - 0.02
    assert str(Target(min_accuracy=0.9)) == "at 90.00% or more"
    assert str(Target(max_accuracy_drop=0.02)) == "within 2.00 points of the baseline"


@pytest.mark.parametrize("given", [{}, {"min_accuracy": 0.9, "max_accuracy_drop": 0.02}])
def test_a_target_is_exactly_one_of_the_two(given: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="either min_accuracy or max_accuracy_drop"):
        Target(**given)
