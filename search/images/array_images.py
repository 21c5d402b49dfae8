"""Images in arrays: whole splits as one array, which may be a file that is mapped into memory.

Shapes are (N, H, W), (N, H, W, C) or (N, C, H, W), with C being 1 or 3. Where both of the last fit, such as
(N, 3, 32, 3), NumPy arrays have their channels last, as in Keras, and torch's tensors have them first.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.errors import DatasetInvalidError
from search.images.assembly import Images
from search.images.content import of_split
from search.images.pixel_values import PixelValues

_BLOCK_BYTES = 16_000_000  # of an array, so much is looked at at once


def array_images(
    pixels: NDArray[Any],
    labels: NDArray[Any],
    values: PixelValues,
    *,
    channels_first: bool,
    subject: str,
    split: str,
) -> Images:
    """Return the images of one split that lie in an array, which is read once in full to see its values.

    Args:
        pixels: N images.
        labels: N labels, along the first axis.
        values: What the pixels of all splits are; is shown these.
        channels_first: What is meant where both orders fit.
        subject: What was given, with which messages begin.
        split: The name of the split.

    Raises:
        DatasetInvalidError: If shapes, types or numbers are not as they should be.
    """
    if pixels.ndim == 0 or 0 in pixels.shape:
        raise DatasetInvalidError(f"{subject}: images{of_split(split)} have shape {pixels.shape}, without pixels")
    first = as_image(pixels[0], channels_first)
    if first is None:
        raise DatasetInvalidError(
            f"{subject}: images{of_split(split)} must have shape (N, H, W), (N, H, W, C) or (N, C, H, W), where C "
            f"is 1 or 3, got {pixels.shape}"
        )
    if labels.ndim == 0 or len(labels) != len(pixels):
        raise DatasetInvalidError(
            f"{subject}: images{of_split(split)} have shape {pixels.shape}, labels {labels.shape}; give one label for "
            "each image"
        )
    step = max(1, _BLOCK_BYTES // first.nbytes)
    for start in range(0, len(pixels), step):
        values.include(pixels[start : start + step])

    def read(i: int) -> NDArray[np.uint8]:
        image = as_image(pixels[i], channels_first)
        assert image is not None  # for the first one is one, and has the same shape
        return values.to_bytes(image)

    return Images(
        shapes=Counter({first.shape: len(pixels)}),
        read=read,
        place=lambda i: f"image {i}{of_split(split)}",
    )


def as_image(image: NDArray[Any], channels_first: bool) -> NDArray[Any] | None:
    """Return an image as a view of shape (C, H, W), C being 1 or 3; None if it is none.

    Args:
        image: Shape (H, W), (H, W, C) or (C, H, W).
        channels_first: What is meant where both orders fit.
    """
    if image.ndim == 2:
        return image[None]
    if image.ndim != 3:
        return None
    if image.shape[0] in (1, 3) and (channels_first or image.shape[2] not in (1, 3)):
        return image
    return image.transpose(2, 0, 1) if image.shape[2] in (1, 3) else None
