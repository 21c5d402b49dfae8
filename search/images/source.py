"""What people give as their images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSplit:
    """The images of one split.

    Attributes:
        labels: int64, shape (N,).
        read: Returns image i: uint8, shape (C, H, W).
    """

    labels: NDArray[np.int64]
    read: Callable[[int], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Images to be stored; see `search.images.dataset.Dataset` for the attributes of the same names."""

    name: str
    splits: Mapping[str, SourceSplit]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    location: str | None
    signature: str | None
