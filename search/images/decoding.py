"""Image files and Pillow's images become arrays of bytes: gray or RGB, upright, without transparency.

Gray is what is stored as gray: black and white, 8 or 16 bits a pixel, or a palette without colours. 16 bits become 8 by
v / 257, rounded, so that 65535 becomes 255; of colours in a TIFF, and of gray with transparency, Pillow gives the upper
8 bits alone. Transparency is black: each pixel is multiplied by its alpha, because what
is stored where nothing is seen is often arbitrary. Of animations and documents, the first image counts.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else what it logs of damaged files reaches the terminal

SUFFIXES = (  # of the files that are taken for images
    ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # no others: some of Pillow's start programs
_SIXTEEN_BITS = {"I;16", "I;16L", "I;16B", "I;16N"}
_GRAY = {"1", "L", "LA", "La", *_SIXTEEN_BITS}
_COLOURED = {"P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV"}
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {  # orientation of an image -> what makes it upright; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING = (5, 6, 7, 8)  # orientations that exchange height and width


class UnusableImageError(Exception):
    """An image cannot be used; its text completes "the image ..."."""


def shape_of(file: Path | BinaryIO) -> tuple[int, int, int]:
    """Return the channels (1 or 3), height and width of an upright image, without decoding its pixels.

    Raises:
        UnusableImageError: If it is no image, or of a kind that is not supported.
    """
    with _opened(file) as image:
        width, height = image.size
        if _orientation(image) in _SWAPPING:
            width, height = height, width
        return _channels(image), height, width


def decoded(file: Path | BinaryIO) -> NDArray[np.uint8]:
    """Return an image file's pixels, upright, as uint8 of shape (C, H, W), C being 1 or 3.

    Raises:
        UnusableImageError: If it is damaged, no image, or of a kind that is not supported.
    """
    with _opened(file) as image:
        turn = _UPRIGHT.get(_orientation(image))  # before decoding, so that it agrees with `shape_of`
        in_bytes = _of_wide_colours(image, file) if _has_wide_colours(image) else image
        return pixels_of(in_bytes if turn is None else in_bytes.transpose(turn))


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """Return an image of Pillow's, as it is turned, as uint8 of shape (C, H, W), C being 1 or 3.

    Raises:
        UnusableImageError: If it is of a kind that is not supported.
    """
    gray = _channels(image) == 1
    if _is_16_bits(image):
        return _rounded(np.asarray(image).astype(np.uint32))[None]
    if image.has_transparency_data:
        bands = np.asarray(image.convert("RGBA")).transpose(2, 0, 1).astype(np.uint32)
        colours, alpha = bands[: 1 if gray else 3], bands[3]
        return np.asarray((colours * alpha + 127) // 255, np.uint8)
    pixels: NDArray[np.uint8] = np.array(image.convert("L" if gray else "RGB"))
    return pixels[None] if gray else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def resized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return an image of shape (C, H, W) at another size: bilinear, and antialiased where it shrinks."""
    if pixels.shape[1:] == (height, width):
        return pixels
    bilinear = Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(band).resize((width, height), bilinear)) for band in pixels])


def _has_wide_colours(image: ImageFile.ImageFile) -> bool:
    """Return whether an opened image is a PNG with 16 bits for each colour."""
    return image.format == "PNG" and bool(image.tile) and image.tile[0].args in ("RGB;16B", "RGBA;16B")


def _of_wide_colours(image: ImageFile.ImageFile, file: Path | BinaryIO) -> Image.Image:
    """Return an opened PNG with 16 bits for each colour as an image of bytes.

    Pillow gives the upper byte of each. Taken for numbers whose lower byte comes first, it gives the other ones.
    """
    if not isinstance(file, Path):
        file.seek(0)
    with _opened(file) as other:
        other.tile = [tile._replace(args=str(tile.args).replace("16B", "16L")) for tile in other.tile]
        low = np.asarray(other).astype(np.uint32)
    if not isinstance(file, Path):
        file.seek(0)
    values = 256 * np.asarray(image).astype(np.uint32) + low
    in_bytes = _rounded(values)
    if "transparency" in image.info:  # a colour, which Pillow compares with the upper bytes
        seen = np.any(values != np.array(image.info["transparency"]), axis=2)
        in_bytes = np.dstack([in_bytes, np.where(seen, np.uint8(255), np.uint8(0))])
    return Image.fromarray(in_bytes)


def _rounded(values: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return values of 16 bits as 8 bits."""
    return ((values + 128) // 257).astype(np.uint8)


def _channels(image: Image.Image) -> int:
    """Return 1 for a gray image and 3 for another."""
    if image.mode == "P":
        palette = np.array(image.getpalette() or [0, 0, 0]).reshape(-1, 3)
        return 1 if np.all(palette == palette[:, :1]) else 3
    if image.mode in _GRAY or _is_16_bits(image):
        return 1
    if image.mode in _COLOURED:
        return 3
    raise UnusableImageError(f"has pixels of a kind that is not supported ({image.mode}); save it with 8 or 16 bits")


def _is_16_bits(image: Image.Image) -> bool:
    return image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format == "PPM")  # which scales to 16 bits


def _orientation(image: Image.Image) -> int:
    """Return the orientation of an opened image, as far as it is known before its pixels are decoded."""
    if image.format == "TIFF":  # Pillow turns these itself
        return 1
    if image.format == "PNG" and "exif" not in image.info:  # else Pillow would decode the pixels in search of it
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata, which other programs ignore too
        return 1


@contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[ImageFile.ImageFile]:
    """Open an image file; whatever fails until it is closed becomes an `UnusableImageError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=_FORMATS) as image:
                yield image
        except (UnusableImageError, MemoryError):
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise UnusableImageError(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
        except Exception as error:  # of a damaged file, Pillow raises almost anything
            if isinstance(error, OSError) and error.strerror is not None:
                raise UnusableImageError(f"cannot be read ({error.strerror})") from None
            raise UnusableImageError("is damaged, or no image") from None
