"""Errors of random pairs, and what they say about all."""

from math import comb

import numpy as np
import pytest

from search.multipliers.sampled_errors import sampled_errors


def test_figures_of_a_small_sample() -> None:
    exact = np.array([0, 10, -20, 40, 5, 5, 5, 5, 5, 5])
    found = sampled_errors(exact + np.array([2, -1, 0, 4, 0, 0, 0, 0, 0, 0]), exact)
    assert found.pairs == 10
    assert found.mae == pytest.approx(0.7)
    assert found.wce_seen == 4
    assert found.mre_nonzero == pytest.approx((0.1 + 0.1) / 9)
    assert found.error_probability == pytest.approx(0.3)


def test_the_share_of_wrong_products_has_exact_bounds() -> None:
    exact = np.arange(20)
    found = sampled_errors(exact + (exact < 6), exact)

    def at_most(count: int, share: float) -> float:
        return sum(comb(20, k) * share**k * (1 - share) ** (20 - k) for k in range(count + 1))

    # Clopper and Pearson: half a percent of samples have so few wrong ones at the upper bound, or so many at the other.
    assert at_most(6, found.error_probability_most) == pytest.approx(0.005)
    assert 1 - at_most(5, found.error_probability_least) == pytest.approx(0.005)
    for wrong, bounds in ((0, (0.0, 1 - 0.005 ** (1 / 20))), (20, (0.005 ** (1 / 20), 1.0))):
        extreme = sampled_errors(exact + (exact < wrong), exact)
        assert (extreme.error_probability_least, extreme.error_probability_most) == pytest.approx(bounds)


def test_the_mean_is_below_its_bound_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    misses = 0
    for _ in range(2000):
        errors = random.integers(0, 9, 200)  # of mean 4
        misses += sampled_errors(errors + 1, np.ones(200, dtype=np.int64)).mae_most < 4
    assert 5 < misses < 40  # 20 expected
