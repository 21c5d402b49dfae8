"""The last step of every form: images of any size, gray or RGB, become a source whose images all have one shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.content_hash import content_hash
from search.errors import DatasetInvalidError
from search.images.content import Source, SourceSplit, counted, in_order, listed
from search.images.decoding import UnusableImageError, resized


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Images:
    """The images of one split as a form gives them.

    Attributes:
        shapes: Channels (1 or 3), height and width -> number of images that have them.
        read: Returns image i as uint8 of shape (C, H, W), of one of these shapes. Raises `UnusableImageError`.
        place: Returns where image i is, for messages.
    """

    shapes: Counter[tuple[int, int, int]]
    read: Callable[[int], NDArray[np.uint8]]
    place: Callable[[int], str]


def assemble(
    *,
    subject: str,
    name: str,
    images: Mapping[str, Images],
    labels: Mapping[str, NDArray[np.int64]],
    class_names: tuple[str, ...],
    image_size: tuple[int, int] | None,
    location: str | None,
    signature: str | None,
) -> Source:
    """Return the source of these images. If any of them is in colour, gray ones become RGB.

    Args:
        subject: What was given, with which messages begin.
        name: A suggestion for the data set's name.
        images: Split -> images.
        labels: Split -> classes, from `classes_of`.
        class_names: Names of the classes.
        image_size: Height and width that images are resized to, without keeping their proportions.
        location: See `Source`.
        signature: Of the files; see `signature_of`.

    Raises:
        DatasetInvalidError: If images have different sizes and `image_size` is None.
    """
    shapes = sum((part.shapes for part in images.values()), Counter[tuple[int, int, int]]())
    sizes = Counter[tuple[int, int]]()
    for (_, *size), count in shapes.items():
        sizes[size[0], size[1]] += count
    if image_size is None and len(sizes) > 1:
        (height, width), count = sizes.most_common(1)[0]
        low, high = ("x".join(map(str, map(choose, zip(*sizes, strict=True)))) for choose in (min, max))
        raise DatasetInvalidError(
            f"{subject} has images of {len(sizes):,} sizes (height x width) between {low} and {high}, most often "
            f"{height}x{width} ({count:,} of {counted(sizes.total(), 'image')}); give `image_size` to resize all to one"
        )
    height, width = image_size or next(iter(sizes))
    shape = (max(channels for channels, _, _ in shapes), height, width)

    def reader(split: str) -> Callable[[int], NDArray[np.uint8]]:
        def read(i: int) -> NDArray[np.uint8]:
            try:
                pixels = images[split].read(i)
            except UnusableImageError as error:
                problems = _unusable_images(images) or [f"{images[split].place(i)} {error}"]
                raise DatasetInvalidError(unusable(subject, problems, shapes.total())) from None
            if image_size is not None:
                pixels = resized(pixels, height, width)
            if pixels.shape[0] < shape[0]:
                pixels = np.repeat(pixels, shape[0], axis=0)
            if pixels.shape != shape:
                raise DatasetInvalidError(
                    f"{subject}: {images[split].place(i)} has changed since it was first read; its shape is now "
                    f"{pixels.shape}, not {shape}"
                )
            return pixels

        return read

    return Source(
        name=name,
        splits={split: SourceSplit(labels=labels[split], read=reader(split)) for split in in_order(images)},
        class_names=class_names,
        image_shape=shape,
        location=location,
        signature=None if signature is None else content_hash([signature, *shape]),  # other sizes are other images
    )


def unusable(subject: str, problems: list[str], images: int) -> str:
    """Return the message that some images cannot be used.

    Args:
        subject: What was given.
        problems: Which ones, each with what is wrong.
        images: Number of all images.
    """
    return (
        f"{subject} has {len(problems):,} of {counted(images, 'image')} that cannot be used: {listed(problems)}; "
        "mend or remove them"
    )


def _unusable_images(images: Mapping[str, Images]) -> list[str]:
    """Decode all images to find those that cannot be used: one is known, and people mend all at once."""
    problems = []
    for part in images.values():
        for i in range(part.shapes.total()):
            try:
                part.read(i)
            except UnusableImageError as error:
                problems.append(f"{part.place(i)} {error}")
    return problems
