import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from approx import LabelledImages
from approx.errors import ArgumentError

PIXELS = torch.randint(0, 256, (8, 3, 4, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(8)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def test_inputs_are_shares_of_the_largest_pixel() -> None:
    images = LabelledImages(PIXELS, LABELS, 200)
    assert len(images) == 8
    expected = PIXELS.double() / 200
    for index in (slice(2, 5), torch.tensor([7, 0, 0])):
        found = images.inputs(index)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected[index].float())


@pytest.mark.parametrize("shared", [False, True])
def test_each_channel_is_normalised_after_that(shared: bool) -> None:
    rows = LABELS if shared else None
    images = LabelledImages(PIXELS, LABELS, 255, mean=MEAN, std=STD, rows=rows)
    found = images.inputs(slice(0, 8))
    assert found.dtype == torch.float32
    for channel in range(3):
        expected = (PIXELS[:, channel].double() / 255 - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(found[:, channel], expected.float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("normalised", [False, True])
def test_black_is_the_input_of_a_pixel_of_zero(normalised: bool) -> None:
    given: dict[str, Any] = {"mean": MEAN, "std": STD} if normalised else {}
    black = LabelledImages(PIXELS, LABELS, 255, **given).black
    zeros = LabelledImages(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), LABELS[:1], 255, **given).inputs(slice(0, 1))
    assert torch.equal(zeros, black[None, :, None, None].expand(1, 3, 2, 2))
    assert bool(black.any()) == normalised


def test_subsets_share_the_pixels_and_are_the_same_images() -> None:
    images = LabelledImages(PIXELS, LABELS % 3, 255, mean=MEAN, std=STD)
    every = images.inputs(slice(0, 8))
    some = images.subset(torch.tensor([6, 1, 4, 4]))
    fewer = some.subset(torch.tensor([3, 0]))
    for subset, members in ((some, [6, 1, 4, 4]), (fewer, [4, 6])):
        assert subset.pixels.data_ptr() == PIXELS.data_ptr()
        assert len(subset) == len(members)
        assert subset.labels.tolist() == [member % 3 for member in members]
        assert torch.equal(subset.inputs(slice(0, 10)), every[members])
        assert torch.equal(subset.inputs(torch.tensor([1, 0])), every[[members[1], members[0]]])
    assert torch.equal(fewer.black, images.black)
    assert len(images.subset(torch.tensor([], dtype=torch.int64)).inputs(slice(0, 3))) == 0


def test_only_the_pixels_that_are_asked_for_are_read(tmp_path: Path) -> None:
    """Of a read-only file of 30 GB, which takes no space on the disk because nothing was written to it."""
    file, shape, written = tmp_path / "pixels", (10**7, 3, 32, 32), 9 * 10**6
    with file.open("wb") as opened:
        opened.truncate(math.prod(shape))
        opened.seek(written * math.prod(shape[1:]))
        opened.write(bytes(range(250)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is read-only
        pixels = torch.from_numpy(np.memmap(file, np.uint8, "r", shape=shape))
    rows = torch.tensor([10**6, written])
    images = LabelledImages(pixels, LABELS[:2], 255, mean=MEAN, std=STD, rows=rows)
    empty, found = images.inputs(slice(0, 2))
    assert torch.equal(empty, images.black[:, None, None].expand(3, 32, 32))
    torch.testing.assert_close(found[0].flatten()[:250], (torch.arange(250) / 255 - MEAN[0]) / STD[0])


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "8 images but 3 labels"),
        ({"labels": LABELS.float()}, r"`labels` must be int64 of shape \(N,\), got torch.float32 of shape \(8,\)"),
        ({"labels": LABELS[:, None]}, r"`labels` must be int64 of shape \(N,\), got torch.int64 of shape \(8, 1\)"),
        ({"pixels": PIXELS[0]}, r"`pixels` must have shape \(N, C, H, W\), got \(3, 4, 5\)"),
        ({"pixel_max": 0}, "`pixel_max` must be positive, got 0"),
        ({"mean": MEAN}, "`mean` and `std` go together"),
        ({"std": STD}, "`mean` and `std` go together"),
        ({"mean": (0.5,), "std": (0.5,)}, "`mean` must have a number for each of the 3 channels of `pixels`, got 1"),
        ({"mean": MEAN, "std": (*STD, 0.2)}, "`std` must have a number for each of the 3 channels of `pixels`, got 4"),
        ({"mean": MEAN, "std": (0.2, 0, 0.2)}, r"`std` must be positive, got \(0.2, 0.0, 0.2\)"),
        ({"mean": (0, float("nan"), 0), "std": STD}, "`mean` must be finite, got nan"),
        ({"mean": MEAN, "std": (1, 1, float("inf"))}, "`std` must be finite, got inf"),
        ({"mean": 0.5, "std": 0.5}, "`mean` must be one number for each channel, got 0.5; for one channel, pass a tu"),
        ({"mean": ("0", 0, 0), "std": STD}, "`mean` must be a number, got '0'"),
        ({"rows": LABELS[:3]}, "3 `rows` but 8 labels"),
        ({"rows": LABELS.to(torch.int32)}, r"`rows` must be int64 of shape \(N,\), got torch.int32"),
        ({"rows": LABELS.tolist()}, "`rows` must be a torch.Tensor, got a list"),
        ({"rows": LABELS + 1}, r"`rows` must be in 0\.\.7, the images in `pixels`, got 1\.\.8"),
        ({"rows": LABELS - 1}, r"`rows` must be in 0\.\.7, the images in `pixels`, got -1\.\.6"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    given: dict[str, Any] = {"pixels": PIXELS, "labels": LABELS, "pixel_max": 255, **wrong}
    with pytest.raises(ArgumentError, match=complaint):
        LabelledImages(**given)


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        (torch.tensor([0, 8]), r"`index` must be in 0\.\.7, the images of the set, got 0\.\.8"),
        (torch.tensor([-1]), r"`index` must be in 0\.\.7, the images of the set, got -1\.\.-1"),
        (LABELS > 3, "`index` must be int64 .* got torch.bool"),
    ],
)
def test_images_that_are_not_in_the_set_are_refused(index: Tensor, complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        LabelledImages(PIXELS, LABELS, 255).subset(index)
