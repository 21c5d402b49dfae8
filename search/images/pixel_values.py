"""Numbers that stand for pixels become bytes, by one rule for all images of a source.

Bytes (uint8) stay what they are, and booleans become 0 and 255. Other integers must be from 0 to 255. Floats are
fractions, scaled by 255 and rounded, if all are from 0 to 1; else all must be whole numbers from 0 to 255.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.errors import DatasetInvalidError

_ALLOWED = "bytes (uint8), fractions from 0 to 1, and whole numbers from 0 to 255"


class PixelValues:
    """What the numbers of a source are, found by showing it all of them, then asking it for bytes."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._lowest = 0.0
        self._highest = 0.0  # so fractions, if no image has floats
        self._whole = True

    def include(self, values: NDArray[Any]) -> None:
        """Take note of an array of pixels, of any shape.

        Raises:
            DatasetInvalidError: If it holds no numbers, or integers out of range.
        """
        kind = values.dtype.kind
        if kind not in "buif":
            raise DatasetInvalidError(f"{self._subject} has pixels of type {values.dtype}; {_ALLOWED} are allowed")
        if kind == "b" or values.dtype == np.uint8 or values.size == 0:
            return
        lowest, highest = float(values.min()), float(values.max())
        if np.isnan(lowest):
            raise DatasetInvalidError(f"{self._subject} has pixels that are not a number (NaN); {_ALLOWED} are allowed")
        if kind == "f":
            self._lowest = min(self._lowest, lowest)
            self._highest = max(self._highest, highest)
            self._whole = self._whole and bool(np.all(values == np.rint(values)))
        elif lowest < 0 or highest > 255:
            raise self._out_of_range(lowest, highest)

    def check(self) -> None:
        """Check that all floats follow one rule.

        Raises:
            DatasetInvalidError: If they do not.
        """
        if self._lowest < 0 or self._highest > 255:
            raise self._out_of_range(self._lowest, self._highest)
        if self._highest > 1 and not self._whole:
            raise DatasetInvalidError(
                f"{self._subject} has pixels up to {self._highest:g} that are not whole; {_ALLOWED} are allowed: round "
                "them, or scale them to at most 1"
            )

    def to_bytes(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return an array that was shown, or part of it, as bytes in memory of its own."""
        if values.dtype.kind == "b":
            return values.astype(np.uint8, order="C") * np.uint8(255)
        if values.dtype.kind == "f":
            scale = 255 if self._highest <= 1 else 1
            wide = values.astype(
                np.promote_types(values.dtype, np.float32)
            )  # float16 would round v / 255 * 255 wrongly
            return np.asarray(np.rint(wide * scale), np.uint8, order="C")
        return values.astype(np.uint8, order="C")

    def _out_of_range(self, lowest: float, highest: float) -> DatasetInvalidError:
        return DatasetInvalidError(
            f"{self._subject} has pixels from {lowest:g} to {highest:g}; {_ALLOWED} are allowed: scale them"
        )
