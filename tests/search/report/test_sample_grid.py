from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from search.errors import UsageError
from search.images.dataset import Dataset
from search.images.image_set import ImageSet
from search.report.sample_grid import draw_samples

pytestmark = pytest.mark.slow  # matplotlib

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


def dataset(classes: int, image_shape: tuple[int, int, int], pixel_max: int = 255) -> Dataset:
    return Dataset(
        name="mine",
        digest="0" * 64,
        title="mine",
        image_shape=image_shape,
        pixel_max=pixel_max,
        class_names=tuple(f"kind {number}" for number in range(classes)),
        counts={"all": 9},
    )


def uniform(labels: NDArray[np.int64], image_shape: tuple[int, int, int], pixel_max: int = 255) -> ImageSet:
    """Images of one colour each, by their class."""
    colours = (COLOURS[labels % 3] // (255 // pixel_max))[:, : image_shape[0], None, None]
    return ImageSet(np.broadcast_to(colours, (len(labels), *image_shape)).copy(), labels)


def read(picture: Path) -> NDArray[np.uint8]:
    """The pixels of a picture: shape (H, W, 3)."""
    with Image.open(picture) as opened:
        return np.asarray(opened.convert("RGB"))


def shares(picture: Path) -> list[float]:
    """The share of pixels that are red, green and blue."""
    pixels = read(picture).reshape(-1, 3)
    return [float((pixels == colour).all(axis=1).mean()) for colour in COLOURS]


@pytest.mark.parametrize("image_shape", [(3, 8, 8), (3, 200, 150)])
def test_each_class_has_a_row_of_its_images(tmp_path: Path, image_shape: tuple[int, int, int]) -> None:
    labels = np.repeat([0, 1, 2], [40, 10, 5])
    drawn = draw_samples(dataset(3, image_shape), uniform(labels, image_shape), tmp_path / "samples.png")
    red, green, blue = shares(drawn)
    assert red > 0.15
    assert red == pytest.approx(green, rel=0.05)  # ten of each at most
    assert blue == pytest.approx(green / 2, rel=0.05)


def test_of_many_classes_some_are_drawn(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(300), 2)
    many = draw_samples(dataset(300, (1, 5, 5)), uniform(labels, (1, 5, 5)), tmp_path / "many.png")
    twenty = labels[labels < 20]
    few = draw_samples(dataset(20, (1, 5, 5)), uniform(twenty, (1, 5, 5)), tmp_path / "few.png")
    heights = [len(read(picture)) for picture in (many, few)]
    assert heights[0] == pytest.approx(heights[1], rel=0.02)


def test_pixels_are_scaled_to_their_largest_value(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], 10)
    sixteen = uniform(labels, (3, 8, 8), pixel_max=15)
    assert sixteen.pixels.max() == 15
    drawn = draw_samples(dataset(3, (3, 8, 8), pixel_max=15), sixteen, tmp_path / "samples.png")
    assert min(shares(drawn)) > 0.15


def test_a_class_without_images_has_an_empty_row(tmp_path: Path) -> None:
    labels = np.repeat([0, 2], 10)
    drawn = draw_samples(dataset(3, (3, 8, 8)), uniform(labels, (3, 8, 8)), tmp_path / "samples.png")
    assert shares(drawn)[1] == 0


def test_a_place_that_cannot_be_drawn_to_is_named(tmp_path: Path) -> None:
    images, one = uniform(np.repeat([0, 1], 3), (3, 8, 8)), dataset(2, (3, 8, 8))
    with pytest.raises(UsageError, match=r"samples.jpg: `picture` must end in .png"):
        draw_samples(one, images, tmp_path / "samples.jpg")
    with pytest.raises(UsageError, match=r"cannot draw to .*none/samples.png: .*; name another file with `picture`"):
        draw_samples(one, images, tmp_path / "none" / "samples.png")
