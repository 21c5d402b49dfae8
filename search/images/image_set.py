"""Images with their classes, in memory or in a file that is mapped into it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images and their classes.

    Attributes:
        pixels: uint8, shape (M, C, H, W): an array, or a read-only memory map. Several sets may share it.
        labels: int64, shape (N,).
        rows: int64, shape (N,): image i is `pixels[rows[i]]`; None if it is `pixels[i]`.
        file: The file of the pixels, if they are a memory map.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None
    file: Path | None = None

    def subset(self, index: NDArray[np.int64]) -> ImageSet:
        """Return some of the images, in this order; the pixels are shared."""
        return replace(self, labels=self.labels[index], rows=index if self.rows is None else self.rows[index])

    def images(self) -> NDArray[np.uint8]:
        """Return the images in their order: uint8, shape (N, C, H, W); a copy unless the set has all rows."""
        return self.pixels if self.rows is None else self.pixels[self.rows]

    def closed(self) -> ImageSet:
        """Return the set without the pixels that its file holds, to be sent to another process of this machine."""
        return self if self.file is None else replace(self, pixels=self.pixels[:0].copy())

    def opened(self) -> ImageSet:
        """Return the set with the pixels that its file holds."""
        return self if self.file is None else replace(self, pixels=mapped_pixels(self.file))


def mapped_pixels(file: Path) -> NDArray[np.uint8]:
    """Map a file of pixels into memory, read-only; processes of one machine share it."""
    pixels: NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
    return pixels
