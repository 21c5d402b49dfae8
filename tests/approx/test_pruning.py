import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from approx import magnitude_masks
from approx.errors import ArgumentError


@given(st.integers(2, 200), st.floats(0, 0.99))
def test_density_equals_the_request(size: int, sparsity: float) -> None:
    weight = torch.randn(size, generator=torch.Generator().manual_seed(size))
    mask = magnitude_masks({"layer": weight}, sparsity)["layer"]
    assert (~mask).sum() == min(round(sparsity * size), size - 1)
    if 0 < mask.sum() < size:
        assert weight[~mask].abs().max() <= weight[mask].abs().min()


def test_equal_magnitudes_go_in_order() -> None:
    assert magnitude_masks({"layer": torch.ones(4)}, 0.5)["layer"].tolist() == [False, False, True, True]


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan")])
def test_sparsity_out_of_range_is_refused(sparsity: float) -> None:
    with pytest.raises(ArgumentError, match=r"sparsity must be in \[0, 1\)"):
        magnitude_masks({"layer": torch.ones(4)}, sparsity)
