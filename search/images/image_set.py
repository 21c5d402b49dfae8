"""Images and their classes, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images and their classes.

    Attributes:
        pixels: uint8, shape (N, C, H, W).
        labels: int64, shape (N,).
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
