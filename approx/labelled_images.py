"""Images and their classes, as stored and as network inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from math import isfinite

import torch
from torch import Tensor

from approx.checks import check_number, check_tensor, check_type
from approx.errors import ArgumentError


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Images as stored, and their classes.

    Nothing is ever written to the pixels, so they may be a read-only memory map that several processes share.

    Attributes:
        pixels: uint8, shape (M, C, H, W).
        labels: int64, shape (N,).
        pixel_max: The pixel value that stands for 1.0.
        mean: Subtracted from each channel, after division by `pixel_max`; empty if nothing is.
        std: What each channel is then divided by; given together with `mean`.
        rows: int64, shape (N,): image i is `pixels[rows[i]]`, so that several sets share the same pixels. None: image
            i is `pixels[i]`, and M is N.

    Raises:
        ArgumentError: If the numbers of images and labels differ, a row is not in the pixels, `mean` and `std` do not
            fit the channels, or a value is out of range or of the wrong type.
    """

    pixels: Tensor
    labels: Tensor
    pixel_max: int
    _: KW_ONLY
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    rows: Tensor | None = None

    def __post_init__(self) -> None:
        check_tensor("pixels", self.pixels)
        if self.pixels.dim() != 4:
            raise ArgumentError(f"`pixels` must have shape (N, C, H, W), got {tuple(self.pixels.shape)}")
        _check_whole_numbers("labels", self.labels)
        check_number("pixel_max", self.pixel_max)
        if not self.pixel_max > 0:
            raise ArgumentError(f"`pixel_max` must be positive, got {self.pixel_max}")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _channel_values(name, getattr(self, name), self.pixels))
        if bool(self.mean) != bool(self.std):
            raise ArgumentError("`mean` and `std` go together; pass both or neither")
        if min(self.std, default=1.0) <= 0:
            raise ArgumentError(f"`std` must be positive, got {self.std}")
        if self.rows is None:
            if len(self.pixels) != len(self.labels):
                raise ArgumentError(f"{len(self.pixels)} images but {len(self.labels)} labels")
            return
        _check_whole_numbers("rows", self.rows)
        if len(self.rows) != len(self.labels):
            raise ArgumentError(f"{len(self.rows)} `rows` but {len(self.labels)} labels")
        if len(self.rows):
            first, last = (int(row) for row in self.rows.aminmax())
            if first < 0 or last >= len(self.pixels):
                raise ArgumentError(
                    f"`rows` must be in 0..{len(self.pixels) - 1}, the images in `pixels`, got {first}..{last}"
                )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def black(self) -> Tensor:
        """What a black pixel is as a network input: float32, shape (C,)."""
        channels = self.pixels.shape[1]
        return self._as_inputs(self.pixels.new_zeros(1, channels, 1, 1)).flatten()

    def inputs(self, index: Tensor | slice) -> Tensor:
        """Network inputs: (pixel / `pixel_max` - `mean`) / `std`, float32, shape (n, C, H, W).

        Only the pixels of the images that are asked for are read.

        Args:
            index: Which images: a slice, or a tensor of numbers.
        """
        if self.rows is None:
            return self._as_inputs(self.pixels[index])
        return self._as_inputs(self.pixels.index_select(0, self.rows[index]))

    def subset(self, index: Tensor) -> LabelledImages:
        """Some of the images, which share these pixels.

        Args:
            index: Their numbers in this set, in any order and repeated at will: int64, shape (n,).

        Raises:
            ArgumentError: If a number is not in 0..N - 1, or they are of the wrong type.
        """
        _check_whole_numbers("index", index)
        if len(index):
            first, last = (int(number) for number in index.aminmax())
            if first < 0 or last >= len(self):
                raise ArgumentError(
                    f"`index` must be in 0..{len(self) - 1}, the images of the set, got {first}..{last}"
                )
        return replace(self, labels=self.labels[index], rows=index if self.rows is None else self.rows[index])

    def _as_inputs(self, pixels: Tensor) -> Tensor:
        values = pixels.to(torch.float32) / self.pixel_max
        if not self.mean:
            return values
        mean, std = (values.new_tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return values.sub_(mean).div_(std)


def check_images(name: str, value: object) -> None:
    """Reject anything but labelled images.

    Raises:
        ArgumentError: If it is something else.
    """
    hint = "build one with approx.LabelledImages(pixels, labels, pixel_max)"
    check_type(name, value, LabelledImages, "an approx.LabelledImages", hint)


def _channel_values(name: str, values: object, pixels: Tensor) -> tuple[float, ...]:
    check_type(name, values, Sequence, "one number for each channel", "for one channel, pass a tuple of one")
    assert isinstance(values, Sequence)
    for value in values:
        check_number(name, value)
        if not isfinite(value):
            raise ArgumentError(f"`{name}` must be finite, got {value}")
    if len(values) not in (0, pixels.shape[1]):
        raise ArgumentError(
            f"`{name}` must have a number for each of the {pixels.shape[1]} channels of `pixels`, got {len(values)}"
        )
    return tuple(float(value) for value in values)


def _check_whole_numbers(name: str, value: object) -> None:
    check_tensor(name, value)
    assert isinstance(value, Tensor)
    if value.dtype != torch.int64 or value.dim() != 1:
        raise ArgumentError(f"`{name}` must be int64 of shape (N,), got {value.dtype} of shape {tuple(value.shape)}")
