import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy import FORMATS, format_bits
from energy.compression import smallest_format_bits


def bits_per_weight(density: float, width: int = 8, weights: int = 100_000) -> dict[str, float]:
    found = format_bits(np.array(float(weights)), np.array(weights * density), np.array(float(width)))
    return {name: float(bits) / weights for name, bits in zip(FORMATS, found, strict=True)}


@pytest.mark.parametrize(("density", "indexed"), [(0.5, 6.0), (0.25, 3.0), (0.1, 1.5)])
def test_sizes_by_hand(density: float, indexed: float) -> None:
    found = bits_per_weight(density)
    assert found["dense"] == 8
    assert found["bitmask"] == pytest.approx(1 + 8 * density)
    assert found["relative-index"] == pytest.approx(indexed, rel=0.02)


def test_fillers_are_as_many_as_a_walk_over_random_zeros_needs() -> None:
    density, weights = 0.06, 400_000
    kept = np.random.default_rng(0).random(weights) < density
    places = np.flatnonzero(kept)
    gaps = np.diff(places, prepend=-1) - 1
    entries = len(places) + int((gaps // 16).sum())
    found = format_bits(np.array(float(weights)), np.array(float(len(places))), np.array(8.0))
    assert float(found[2]) == pytest.approx(entries * 12, rel=0.01)


@pytest.mark.parametrize(
    ("density", "width", "smallest"),
    [(1.0, 8, "dense"), (0.95, 8, "dense"), (0.6, 8, "bitmask"), (0.1, 8, "relative-index"), (0.6, 2, "dense")],
)
def test_the_smallest_is_chosen(density: float, width: int, smallest: str) -> None:
    found = bits_per_weight(density, width)
    assert min(found, key=lambda name: found[name]) == smallest
    values, metadata = smallest_format_bits(np.array(1e5), np.array(1e5 * density), np.array(float(width)))
    assert float(values + metadata) / 1e5 == pytest.approx(found[smallest])
    assert (metadata == 0) == (smallest == "dense")


@given(st.integers(1, 10_000), st.floats(0, 1), st.integers(1, 16))
def test_what_is_stored_lies_between_the_values_and_the_dense_format(weights: int, density: float, width: int) -> None:
    nonzero = round(weights * density)
    values, metadata = smallest_format_bits(np.array(float(weights)), np.array(float(nonzero)), np.array(float(width)))
    assert float(metadata) >= 0
    assert nonzero * width <= float(values + metadata) <= weights * width


def test_metadata_in_larger_cells_weighs_more() -> None:
    # bitmask: 6 bits of values and one of metadata; dense: 8 bits
    sizes = (np.array(1000.0), np.array(750.0), np.array(8.0))
    assert float(smallest_format_bits(*sizes, 1.9)[1]) == 1000
    assert float(smallest_format_bits(*sizes, 2.1)[1]) == 0


def test_nothing_left_needs_next_to_nothing() -> None:
    values, metadata = smallest_format_bits(np.array(100.0), np.array(0.0), np.array(8.0))
    assert (float(values), float(metadata)) == (0, 0)
