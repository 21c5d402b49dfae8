from collections import Counter
from typing import Any

import numpy as np
import pytest

from search.images import array_images as module
from search.images.array_images import array_images, as_image
from search.images.assembly import Images
from search.images.pixel_values import PixelValues
from tests.support.pictures import pictures, refused


def images_of(pixels: Any, labels: Any = None, *, channels_first: bool = False, split: str = "train") -> Images:
    values = PixelValues("`data`")
    given = np.zeros(len(pixels)) if labels is None else np.asarray(labels)
    images = array_images(pixels, given, values, channels_first=channels_first, subject="`data`", split=split)
    values.check()
    return images


@pytest.mark.parametrize(
    ("shape", "first", "last"),
    [  # of an image; channels, height and width where channels come first, or last, if both fit
        ((5, 7), (1, 5, 7), (1, 5, 7)),
        ((3, 3), (1, 3, 3), (1, 3, 3)),
        ((1, 5, 7), (1, 5, 7), (1, 5, 7)),
        ((3, 5, 7), (3, 5, 7), (3, 5, 7)),
        ((5, 7, 1), (1, 5, 7), (1, 5, 7)),
        ((5, 7, 3), (3, 5, 7), (3, 5, 7)),
        ((3, 5, 3), (3, 5, 3), (3, 3, 5)),
        ((1, 5, 3), (1, 5, 3), (3, 1, 5)),
        ((3, 5, 1), (3, 5, 1), (1, 3, 5)),
        ((4, 5, 7), None, None),
        ((5, 7, 4), None, None),
        ((5,), None, None),
        ((1, 3, 5, 7), None, None),
    ],
)
def test_where_the_channels_are(shape: tuple[int, ...], first: Any, last: Any) -> None:
    image = np.arange(np.prod(shape)).reshape(shape)
    for channels_first, expected in ((True, first), (False, last)):
        found = as_image(image, channels_first)
        assert (None if found is None else found.shape) == expected
        if found is not None:
            assert np.shares_memory(found, image)


def test_pixels_keep_their_places() -> None:
    pixels, _ = pictures(6)
    for given in (pixels, pixels.transpose(0, 2, 3, 1)):
        images = images_of(given)
        assert images.shapes == Counter({(3, 5, 7): 6})
        assert all(np.array_equal(images.read(i), pixels[i]) for i in range(6))
    assert images.place(3) == "image 3 of train"
    assert images_of(pixels, split="all").place(3) == "image 3"


def test_every_block_of_a_large_array_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 3 * 5 * 7 * 8)
    pixels = np.zeros((7, 5, 7))
    for place in range(7):
        pixels[:] = 0
        pixels[place, 4, 6] = 300
        with refused("`data` has pixels from 0 to 300"):
            images_of(pixels)


@pytest.mark.parametrize(
    ("pixels", "labels", "words"),
    [
        (np.zeros((6, 5)), [0] * 6, ["images of train must have shape (N, H, W), ", "got (6, 5)"]),
        (np.zeros((6, 5, 5, 4)), [0] * 6, ["must have shape", "where C is 1 or 3, got (6, 5, 5, 4)"]),
        (np.zeros((6, 1, 5, 5, 3)), [0] * 6, ["must have shape", "got (6, 1, 5, 5, 3)"]),
        (np.zeros((0, 5, 5)), [], ["images of train have shape (0, 5, 5), without pixels"]),
        (np.zeros((6, 0, 5)), [0] * 6, ["images of train have shape (6, 0, 5), without pixels"]),
        (np.zeros((6, 5, 5)), [0] * 5, ["images of train have shape (6, 5, 5), labels (5,); give one label for each"]),
        (np.zeros((6, 5, 5)), 0, ["images of train have shape (6, 5, 5), labels (); give one label for each"]),
    ],
)
def test_arrays_of_other_shapes_are_refused(pixels: Any, labels: Any, words: list[str]) -> None:
    with refused("`data`: ", *words):
        images_of(pixels, labels)


def test_a_number_is_no_images() -> None:
    with refused("`data`: images have shape (), without pixels"):
        array_images(
            np.array(3), np.array(3), PixelValues("`data`"), channels_first=True, subject="`data`", split="all"
        )
