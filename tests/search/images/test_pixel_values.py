from typing import Any

import numpy as np
import pytest

from search.images.pixel_values import PixelValues
from tests.support.pictures import refused

BYTES = np.arange(256, dtype=np.uint8)


def as_bytes(*arrays: Any) -> list[list[int]]:
    values = PixelValues("`data`")
    for array in arrays:
        values.include(np.asarray(array))
    values.check()
    return [values.to_bytes(np.asarray(array)).tolist() for array in arrays]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int64, ">i4", np.float16, np.float32, np.float64])
def test_whole_numbers_up_to_255_are_bytes(kind: Any) -> None:
    assert as_bytes(BYTES.astype(kind)) == [BYTES.tolist()]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble])
def test_fractions_that_were_made_of_bytes_become_them_again(kind: Any) -> None:
    assert as_bytes((BYTES / 255).astype(kind)) == [BYTES.tolist()]


def test_fractions_are_rounded() -> None:
    assert as_bytes([0, 0.4 / 255, 0.6 / 255, 1]) == [[0, 0, 1, 255]]


def test_booleans_are_black_and_white() -> None:
    assert as_bytes([False, True]) == [[0, 255]]


def test_floats_of_all_parts_follow_one_rule() -> None:
    """A test image that is nearly black is not taken for fractions."""
    assert as_bytes([0.0, 200.0], [0.0, 1.0]) == [[0, 200], [0, 1]]
    assert as_bytes([0.0, 0.5], [0.0, 1.0]) == [[0, 128], [0, 255]]


def test_bytes_and_fractions_may_be_mixed() -> None:
    assert as_bytes(np.array([7], np.uint8), [1.0], [True], np.array([3], np.int64)) == [[7], [255], [255], [3]]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            [[-1.0, 1.0]],
            ["`data` has pixels from -1 to 1; bytes (uint8), fractions from 0 to 1, and whole"],
        ),
        ([[0, 256]], ["has pixels from 0 to 256;"]),
        ([[-1, 5]], ["has pixels from -1 to 5;"]),
        ([[0.0, 65535.0]], ["has pixels from 0 to 65535;"]),
        ([[0.0, np.inf]], ["has pixels from 0 to inf;"]),
        ([[0.0, 127.5]], ["has pixels up to 127.5 that are not whole;", "round them, or scale them to at most 1"]),
        ([[0.5], [2.0]], ["has pixels up to 2 that are not whole;"]),
        ([[0.5, np.nan]], ["has pixels that are not a number (NaN);"]),
        ([[1j]], ["has pixels of type complex128;"]),
        ([["a"]], ["has pixels of type <U1;"]),
        ([[None]], ["has pixels of type object;"]),
    ],
)
def test_other_numbers_are_refused_with_their_range(arrays: list[Any], words: list[str]) -> None:
    with refused(*words):
        as_bytes(*arrays)


@pytest.mark.parametrize("kind", [np.uint8, bool, np.int32, np.float32])
def test_bytes_have_memory_of_their_own_in_order(kind: Any) -> None:
    given = np.zeros((4, 5, 3), kind)
    values = PixelValues("`data`")
    values.include(given)
    found = values.to_bytes(given.transpose(2, 0, 1))
    assert found.dtype == np.uint8
    assert found.flags["C_CONTIGUOUS"]
    assert not np.shares_memory(found, given)
