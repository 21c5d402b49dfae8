from collections import Counter
from collections.abc import Sequence

import numpy as np

from search.images.assembly import Images, assemble
from search.images.content import Source
from search.images.decoding import UnusableImageError, resized
from tests.support.pictures import Pixels, pictures, pixels_of, refused


def images_of(pixels: Sequence[Pixels], damaged: tuple[int, ...] = ()) -> Images:
    def read(i: int) -> Pixels:
        if i in damaged:
            raise UnusableImageError("is damaged")
        return pixels[i]

    return Images(shapes=Counter(image.shape for image in pixels), read=read, place=lambda i: f"image {i}")


def assembled(image_size: tuple[int, int] | None = None, **images: Images) -> Source:
    return assemble(
        subject="`data`",
        name="made",
        images=images,
        labels={split: np.zeros(part.shapes.total(), np.int64) for split, part in images.items()},
        class_names=("a", "b"),
        image_size=image_size,
        location=None,
        signature=None,
    )


GRAY: list[Pixels] = list(pictures(4, channels=1)[0])
COLOURED: list[Pixels] = list(pictures(4)[0])


def test_images_of_one_shape_stay_what_they_are() -> None:
    for pixels in (GRAY, COLOURED):
        source = assembled(test=images_of(pixels), train=images_of(pixels[:2]))
        assert list(source.splits) == ["train", "test"]
        assert source.image_shape == pixels[0].shape
        assert np.array_equal(pixels_of(source, "test"), np.stack(pixels))


def test_gray_images_among_coloured_ones_become_rgb() -> None:
    source = assembled(train=images_of([*GRAY, *COLOURED]), test=images_of(GRAY))
    assert source.image_shape == (3, 5, 7)
    for band in range(3):
        assert np.array_equal(pixels_of(source, "test")[:, band], np.stack(GRAY)[:, 0])
    assert np.array_equal(pixels_of(source, "train")[4:], np.stack(COLOURED))


SIZES = [*COLOURED, *pictures(2, height=9, width=3)[0], *pictures(1, channels=1, height=2, width=8)[0]]


def test_images_of_several_sizes_are_refused_with_the_sizes() -> None:
    with refused(
        "`data` has images of 3 sizes (height x width) between 2x3 and 9x8, most often 5x7 (4 of 7 images); give "
        "`image_size` to resize all to one"
    ):
        assembled(train=images_of(SIZES[:5]), test=images_of(SIZES[5:]))


def test_images_of_several_sizes_are_resized() -> None:
    source = assembled((4, 6), train=images_of(SIZES))
    assert source.image_shape == (3, 4, 6)
    for found, image in zip(pixels_of(source, "train"), SIZES, strict=True):
        assert np.array_equal(found, np.broadcast_to(resized(image, 4, 6), (3, 4, 6)))


def test_all_images_that_are_damaged_are_named_at_the_first() -> None:
    source = assembled(train=images_of(COLOURED, damaged=(1, 3)), test=images_of(GRAY, damaged=(0,)))
    assert np.array_equal(source.splits["train"].read(0), COLOURED[0])
    with refused(
        "`data` has 3 of 8 images that cannot be used: image 1 is damaged, image 3 is damaged, image 0 is damaged"
    ):
        source.splits["train"].read(1)


def test_an_image_that_was_damaged_for_a_moment_is_named() -> None:
    failures = [UnusableImageError("cannot be read (Input/output error)")]

    def read(i: int) -> Pixels:
        if failures:
            raise failures.pop()
        return COLOURED[i]

    source = assembled(train=Images(shapes=Counter({(3, 5, 7): 4}), read=read, place=lambda i: f"image {i}"))
    with refused("`data` has 1 of 4 images that cannot be used: image 2 cannot be read (Input/output error)"):
        source.splits["train"].read(2)


def test_an_image_that_has_changed_is_noticed() -> None:
    images = Images(shapes=Counter({(3, 5, 5): 4}), read=lambda i: COLOURED[i], place=lambda i: f"image {i}")
    read = assembled(train=images).splits["train"].read
    with refused("image 1 has changed since it was first read; its shape is now (3, 5, 7), not (3, 5, 5)"):
        read(1)
