"""Geometry of a convolution: how its kernel moves over the input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A two-dimensional convolution without its values. Pairs are along height and width.

    A matrix product is the convolution of 1x1 images by a 1x1 kernel: the defaults.
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for an input of this size; 0 or less where the kernel does not fit."""
        rows = (height + 2 * self.padding[0] - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.stride[0] + 1
        columns = (width + 2 * self.padding[1] - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.stride[1] + 1
        return rows, columns
