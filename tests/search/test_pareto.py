import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.pareto import hypervolume, non_dominated_mask

points = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=15).map(
    lambda rows: np.array(rows, dtype=np.float64).reshape(-1, 2)
)


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(all(a <= b) and any(a < b))


@given(points)
def test_front_equals_the_definition(rows: np.ndarray) -> None:
    expected = [not any(dominates(other, row) for other in rows) for row in rows]
    assert non_dominated_mask(rows).tolist() == expected


def test_nan_is_never_in_the_front() -> None:
    assert non_dominated_mask(np.array([[np.nan, 0.0], [1.0, 1.0]])).tolist() == [False, True]


@given(points)
def test_hypervolume_counts_the_dominated_unit_squares(rows: np.ndarray) -> None:
    squares = sum(any(x <= column and y <= line for x, y in rows) for column in range(8) for line in range(8))
    assert hypervolume(rows, (8, 8)) == pytest.approx(squares)


@given(points, st.tuples(st.integers(0, 8), st.integers(0, 8)))
def test_hypervolume_never_shrinks(rows: np.ndarray, row: tuple[int, int]) -> None:
    more = np.vstack([rows, np.array(row, dtype=np.float64)])
    assert hypervolume(more, (8, 8)) >= hypervolume(rows, (8, 8))


def test_points_beyond_the_reference_add_nothing() -> None:
    assert hypervolume(np.array([[2.0, 0.0], [1.0, 1.0]]), (1.0, 1.0)) == 0
    assert hypervolume(np.array([[0.5, 0.25]]), (1.0, 1.0)) == 0.375
