"""Image files of every kind, made with Pillow and compared with what they were made of."""

import io
import struct
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from search.images.decoding import UnusableImageError, decoded, resized, shape_of
from search.images.decoding import pixels_of as pixels_of_image
from tests.support.pictures import Pixels, as_pillow, pictures

GRAY = pictures(1, channels=1, classes=1)[0][0]
COLOURED = pictures(1, classes=1)[0][0]
DAMAGED = r"^is damaged, or no image$"


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    stream.seek(0)
    return stream


def read(file: Any) -> Pixels:
    """Decode a file, whose header must say the same as its pixels."""
    pixels = decoded(file)
    if not isinstance(file, Path):
        file.seek(0)
    assert shape_of(file) == pixels.shape
    assert pixels.dtype == np.uint8
    return pixels


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("image", [GRAY, COLOURED], ids=["gray", "coloured"])
def test_files_without_loss_are_read_exactly(kind: str, image: Pixels) -> None:
    assert np.array_equal(read(saved(as_pillow(image), kind)), image)


def test_webp_without_loss_is_read_exactly() -> None:
    assert np.array_equal(read(saved(as_pillow(COLOURED), "WEBP", lossless=True)), COLOURED)


@pytest.mark.parametrize("image", [GRAY, COLOURED], ids=["gray", "coloured"])
def test_jpeg_is_read_as_pillow_reads_it(image: Pixels) -> None:
    file = saved(as_pillow(image), "JPEG")
    expected = np.asarray(Image.open(file))
    found = read(file)
    assert np.array_equal(found, expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1))
    assert len(found) == len(image)


def test_the_first_image_of_an_animation_counts() -> None:
    frames = [as_pillow(image) for image in pictures(3, channels=1)[0]]
    for kind in ("GIF", "TIFF", "PNG"):
        found = read(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert np.array_equal(found[0], np.asarray(frames[0]))


def test_black_and_white_is_gray() -> None:
    image = Image.fromarray(GRAY[0] > 127)
    assert image.mode == "1"
    for kind in ("PNG", "TIFF", "PPM", "BMP"):
        assert np.array_equal(read(saved(image, kind))[0], np.where(GRAY[0] > 127, 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_to_8(kind: str) -> None:
    values = np.array([[0, 128, 129, 257, 65407, 65535], [32767, 32768, 1, 256, 385, 386]], dtype=np.uint16)
    found = read(saved(Image.fromarray(values), kind))
    assert np.array_equal(found[0], np.round(values / 257))
    assert found.shape == (1, 2, 6)


def test_bytes_that_were_stored_as_16_bits_become_themselves() -> None:
    found = read(saved(Image.fromarray(GRAY[0].astype(np.uint16) * 257)))
    assert np.array_equal(found, GRAY)


def wide_png(values: NDArray[Any], *, transparent: NDArray[Any] | None = None) -> io.BytesIO:
    """A PNG with 16 bits for each colour, which Pillow does not write: shape (H, W, 3 or 4)."""
    height, width, bands = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[bands], 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if transparent is not None:
        chunks.append((b"tRNS", transparent.astype(">u2").tobytes()))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)  # 0: unfiltered
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + content)


def test_colours_of_16_bits_are_scaled_to_8(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (9, 7, 3))
    values[0, :3] = [[0, 128, 129], [257, 65407, 65535], [32767, 32768, 65408]]
    expected = np.round(values / 257).transpose(2, 0, 1)
    assert np.array_equal(read(wide_png(values)), expected)
    path = tmp_path / "wide.png"
    path.write_bytes(wide_png(values).getvalue())
    assert np.array_equal(read(path), expected)
    alpha = np.zeros((9, 7, 1), int)
    alpha[4:] = 65535
    found = read(wide_png(np.dstack([values, alpha])))
    assert np.array_equal(found[:, 4:], expected[:, 4:])
    assert not found[:, :4].any()
    transparent = read(wide_png(values, transparent=values[5, 5]))
    assert not transparent[:, 5, 5].any()
    expected[:, 5, 5] = 0
    assert np.array_equal(transparent, expected)
    with pytest.raises(UnusableImageError, match=DAMAGED):
        decoded(io.BytesIO(wide_png(values).getvalue()[:-80]))


def with_palette(colours: list[tuple[int, int, int]], indices: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette([value for colour in colours for value in colour])
    assert image.mode == "P"
    return image


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP"])
def test_palettes_are_colours_unless_all_are_gray(kind: str) -> None:
    indices = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    colours = [(200, 10, 30), (5, 5, 5), (250, 250, 0)]
    found = read(saved(with_palette(colours, indices), kind))
    assert np.array_equal(found, np.array(colours, np.uint8)[indices].transpose(2, 0, 1))
    grays = [(200, 200, 200), (5, 5, 5), (77, 77, 77)]
    found = read(saved(with_palette(grays, indices), kind))
    assert found.shape == (1, 2, 3)
    assert np.array_equal(found[0], np.array([200, 5, 77], np.uint8)[indices])


def test_transparency_is_black() -> None:
    alpha = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
    alpha[4, 6] = 255
    weights = alpha / 255
    for image in (GRAY, COLOURED):
        bands = np.concatenate([image, alpha[None]]).transpose(1, 2, 0)
        found = read(saved(Image.fromarray(bands)))
        assert len(found) == len(image)
        assert np.abs(found - image * weights).max() <= 0.5
        assert np.array_equal(found[:, 4, 6], image[:, 4, 6])
        assert not found[:, 0, 0].any()


def test_a_transparent_colour_is_black() -> None:
    indices = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    colours = [(200, 10, 30), (50, 60, 70), (250, 250, 0)]
    expected = np.array([colours[0], (0, 0, 0), colours[2]], np.uint8)[indices].transpose(2, 0, 1)
    for kind in ("PNG", "GIF"):
        assert np.array_equal(read(saved(with_palette(colours, indices), kind, transparency=1)), expected)
    rgb = Image.fromarray(np.array(colours, np.uint8)[indices])
    assert np.array_equal(read(saved(rgb, transparency=colours[1])), expected)
    gray = Image.fromarray(np.array([[9, 8, 7]], np.uint8))
    assert read(saved(gray, transparency=8)).tolist() == [[[9, 0, 7]]]


def test_cmyk_is_read_as_colours() -> None:
    image = Image.new("CMYK", (3, 2), (0, 255, 255, 0))
    assert np.array_equal(read(saved(image, "TIFF")), np.stack([np.full((2, 3), value) for value in (255, 0, 0)]))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_images_are_turned_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(as_pillow(COLOURED), kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
    file.seek(0)
    found = read(file)
    assert np.array_equal(found, expected.transpose(2, 0, 1))
    assert found.shape == ((3, 7, 5) if orientation > 4 else (3, 5, 7))


def test_an_orientation_after_the_pixels_of_a_png_does_not_count() -> None:
    """It would be known only after decoding; header and pixels must agree."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(as_pillow(COLOURED)).getvalue()
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    late = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    end = content.rindex(b"IEND") - 4
    assert np.array_equal(read(io.BytesIO(content[:end] + late + content[end:])), COLOURED)


def test_damaged_metadata_does_no_harm() -> None:
    content = saved(as_pillow(COLOURED), "JPEG", exif=b"Exif\0\0what is this?").getvalue()
    assert read(io.BytesIO(content)).shape == (3, 5, 7)


def test_pixels_are_not_decoded_for_the_shape() -> None:
    content = saved(as_pillow(COLOURED)).getvalue()
    assert shape_of(io.BytesIO(content[: content.index(b"IDAT") + 4])) == (3, 5, 7)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
def test_a_file_that_ends_too_early_is_damaged(kind: str) -> None:
    content = saved(as_pillow(pictures(1, height=64, width=64)[0][0]), kind).getvalue()
    for cut in (content[: len(content) // 2], content[:20], b""):
        with pytest.raises(UnusableImageError, match=DAMAGED):
            decoded(io.BytesIO(cut))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_file_with_other_bytes_is_an_image_or_unusable(kind: str, data: st.DataObject) -> None:
    content = bytearray(saved(as_pillow(COLOURED), kind).getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with pytest.MonkeyPatch.context() as patch, suppress(UnusableImageError):
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # damage makes images huge
        read(io.BytesIO(bytes(content)))


def test_damaged_pixels_are_noticed() -> None:
    content = bytearray(saved(as_pillow(COLOURED)).getvalue())
    content[content.index(b"IDAT") + 12] ^= 255
    with pytest.raises(UnusableImageError, match=DAMAGED):
        decoded(io.BytesIO(bytes(content)))


@pytest.mark.parametrize(
    "content", [b"GIF89a", b"text, not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    for function in (shape_of, decoded):
        with pytest.raises(UnusableImageError, match=DAMAGED):
            function(io.BytesIO(content))


def test_32_bits_are_refused() -> None:
    for kind in (np.int32, np.float32):
        file = saved(Image.fromarray(np.zeros((2, 3), kind)), "TIFF")
        for function in (shape_of, decoded):
            with pytest.raises(
                UnusableImageError, match=r"kind that is not supported \([IF]\); save it with 8 or 16 bits"
            ):
                function(file)
            file.seek(0)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UnusableImageError, match=r"^cannot be read \(No such file or directory\)$"):
        shape_of(tmp_path / "link.png")


def test_huge_images_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (20, 30):  # Pillow warns beyond its limit, and raises beyond twice of it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for function in (shape_of, decoded):
            with pytest.raises(UnusableImageError, match=f"^has more than {limit} pixels$"):
                function(saved(as_pillow(pictures(1, height=8, width=7)[0][0])))


def test_warnings_and_what_pillow_logs_stay_within(
    recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    before = list(warnings.filters)
    test_damaged_metadata_does_no_harm()
    assert warnings.filters == before
    assert not recwarn.list
    content = bytearray(saved(as_pillow(COLOURED), "TIFF").getvalue())
    place = content.index(struct.pack("<HHII", 277, 3, 1, 3))  # the number of samples of a pixel
    content[place + 8] = 200
    with pytest.raises(UnusableImageError, match=DAMAGED):
        shape_of(io.BytesIO(bytes(content)))
    assert capfd.readouterr() == ("", "")


def test_pillows_images_are_taken_as_they_are_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(saved(as_pillow(COLOURED), "PNG", exif=exif))
    assert np.array_equal(pixels_of_image(image), COLOURED)


def test_resizing_is_bilinear_and_antialiased() -> None:
    """Checked on images for which the result is known: constants, slopes and halves."""
    flat = np.full((3, 6, 9), 77, np.uint8)
    assert np.array_equal(resized(flat, 4, 2), np.full((3, 4, 2), 77))
    assert resized(COLOURED, 5, 7) is COLOURED
    slope = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (1, 4, 1))  # of 10 for each pixel, 24 pixels wide
    wider = resized(slope, 4, 48)
    assert wider.shape == (1, 4, 48)
    steps = np.diff(wider[0, 0, 2:-2].astype(int))
    assert set(steps.tolist()) == {5}
    stripes = np.tile(np.array([0, 200], np.uint8), (1, 8, 16))  # finer than what is left: their mean
    assert np.abs(resized(stripes, 8, 8)[0, :, 1:-1].astype(int) - 100).max() <= 1
    tall = resized(COLOURED, 10, 7)
    assert np.array_equal(tall, np.stack([resized(band[None], 10, 7)[0] for band in COLOURED]))
