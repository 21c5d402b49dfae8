from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from search.images.assembly import Images
from search.images.pixel_values import PixelValues
from search.images.torch_datasets import (
    array_of,
    class_names_of,
    dataset_images,
    is_dataset,
    is_iterable_dataset,
    label_array,
)
from tests.support.pictures import as_pillow, channels_last, pictures, refused

PIXELS, LABELS = pictures(24)
GRAY, _ = pictures(24, channels=1)


class Made(Dataset[Any]):
    """A dataset whose items are made by a function."""

    def __init__(self, item: Callable[[int], Any], length: int = 24) -> None:
        self._item = item
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> Any:
        return self._item(i)


def opened(dataset: Any, split: str = "train") -> tuple[Any, Images]:
    values = PixelValues("`data`")
    labels, images = dataset_images(dataset, values, subject="`data`", split=split)
    values.check()
    return labels, images


@pytest.mark.parametrize(
    ("image", "pixels"),
    [
        (lambda i: as_pillow(PIXELS[i]), PIXELS),
        (lambda i: as_pillow(GRAY[i]), GRAY),
        (lambda i: torch.from_numpy(PIXELS[i]), PIXELS),
        (lambda i: torch.from_numpy(PIXELS[i]) / 255, PIXELS),
        (lambda i: (torch.from_numpy(PIXELS[i]) / 255).to(torch.float64).requires_grad_(), PIXELS),
        (lambda i: torch.from_numpy(PIXELS[i]).to(torch.bfloat16), PIXELS),
        (lambda i: torch.from_numpy(GRAY[i, 0]), GRAY),
        (lambda i: PIXELS[i], PIXELS),
        (lambda i: channels_last(PIXELS)[i], PIXELS),
        (lambda i: channels_last(GRAY)[i] / 255, GRAY),
        (lambda i: GRAY[i, 0].astype(np.int64), GRAY),
    ],
)
@pytest.mark.parametrize("label", [int, np.int64, torch.tensor, lambda label: np.array([label]), float, str])
def test_items_are_images_with_labels(image: Any, pixels: Any, label: Any) -> None:
    labels, images = opened(Made(lambda i: (image(i), label(int(LABELS[i])))))
    assert labels.reshape(24).astype(int).tolist() == LABELS.tolist()
    assert images.shapes == {pixels.shape[1:]: 24}
    for i in range(24):
        assert np.array_equal(images.read(i), pixels[i])
    assert images.place(3) == "item 3 of train"


def test_tensors_have_their_channels_first_and_arrays_last_where_both_fit() -> None:
    image = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    _, images = opened(Made(lambda i: (torch.from_numpy(image), i)))
    assert np.array_equal(images.read(0), image)
    _, images = opened(Made(lambda i: (image, i)))
    assert np.array_equal(images.read(0), image.transpose(2, 0, 1))


def test_torchs_own_datasets_are_read() -> None:
    both = TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(LABELS))
    labels, images = opened(Subset(both, range(12, 24)))
    assert labels.tolist() == LABELS[12:].tolist()
    assert np.array_equal(images.read(0), PIXELS[12])


def test_sizes_and_colours_may_differ() -> None:
    tall, _ = pictures(1, channels=1, height=9)
    _, images = opened(Made(lambda i: (as_pillow(tall[0]) if i == 5 else PIXELS[i], 0)))
    assert images.shapes == {(3, 5, 7): 23, (1, 9, 7): 1}


@pytest.mark.parametrize("chance", [0.5, 0.2])
def test_random_items_are_refused(chance: float) -> None:
    generator = np.random.default_rng(0)

    def flipped(i: int) -> Any:
        return PIXELS[i][..., ::-1] if generator.random() < chance else PIXELS[i], 0

    with refused("`data`: item ", " of train differs each time it is read; give a dataset without random"):
        opened(Made(flipped))


def test_random_labels_are_refused() -> None:
    numbers = iter(range(1000))
    with refused("`data`: item 0 of train differs each time it is read"):
        opened(Made(lambda i: (PIXELS[i], next(numbers))))


def test_items_that_are_random_at_the_end_alone_are_refused() -> None:
    generator = np.random.default_rng(0)
    with refused("`data`: item 999 of train differs each time it is read"):
        opened(Made(lambda i: (PIXELS[0] + np.uint8(generator.integers(256) * (i == 999)), 0), length=1000))


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (lambda i: PIXELS[i], ["item 0 of train must be a pair of an image and a label, got ndarray"]),
        (lambda i: (PIXELS[i], 0, i), ["item 0 of train must be a pair of an image and a label, got 3 values"]),
        (lambda i: {"image": PIXELS[i], "label": 0}, ["must be a pair of an image and a label, got dict"]),
        (lambda i: ("1.png", 0), ["item 0 of train must have a tensor, an array or an image of Pillow's, got str"]),
        (lambda i: (torch.eye(3).to_sparse(), 0), ["must have a tensor, an array or an image of Pillow's, got Tensor"]),
        (lambda i: (np.zeros((2, 5, 5)), 0), ["must be an image of shape (H, W), ", "C being 1 or 3, got (2, 5, 5)"]),
        (lambda i: (np.zeros((0, 5)), 0), ["must be an image of shape (H, W), ", "got (0, 5)"]),
        (lambda i: (PIXELS[i] - 300.0, 0), [" has pixels from -300 to "]),
        (lambda i: (Image.new("F", (3, 2)), 0), ["item 0 of train has pixels of a kind that is not supported (F)"]),
        (lambda i: (PIXELS[i], 0 if i % 2 else "a"), ["labels of train are of several kinds; give a number or a text"]),
        (lambda i: (PIXELS[i], [0] if i % 2 else 0), ["labels of train are of several kinds"]),
        (lambda i: 1 / (i - 3), ["item 0 of train must be a pair of an image and a label, got float"]),
        (lambda i: (PIXELS[i], 1 // (i - 3)), ["item 3 of train cannot be read: ZeroDivisionError: "]),
    ],
)
def test_other_items_are_refused(item: Any, words: list[str]) -> None:
    with refused("`data`", *words):
        opened(Made(item))


def test_images_that_pillow_cannot_decode_are_named(tmp_path: Any) -> None:
    file = tmp_path / "1.png"
    as_pillow(pictures(1, height=60, width=60)[0][0]).save(file)
    file.write_bytes(file.read_bytes()[:2000])

    with Image.open(file) as image, refused("`data`: item 0 of train cannot be decoded: OSError: image file is tru"):
        opened(Made(lambda i: (image, 0)))


def test_datasets_without_images_are_refused() -> None:
    with refused("`data`: there are no images of train"):
        opened(Made(lambda i: None, length=0))

    class Endless(Dataset[Any]):
        def __len__(self) -> int:
            raise TypeError("no length")

        def __getitem__(self, i: int) -> Any:
            return PIXELS[i], 0

    with refused("`data`: the number of images is unknown: TypeError: no length"):
        opened(Endless(), split="all")


def test_what_a_dataset_is() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([])

    both = TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(LABELS))
    assert is_dataset(both)
    assert not is_iterable_dataset(both)
    assert is_iterable_dataset(Stream())
    assert not is_dataset(DataLoader(both))
    assert not is_dataset(iter([]))


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (["ant", "bee"], {("ant", "bee")}),
        ([("tench", "Tinca tinca"), ("goldfish",)], {("tench, Tinca tinca", "goldfish")}),
        (["ant", "ant"], set()),
        ([0, 1], set()),
        (3, set()),
    ],
)
def test_names_of_classes_are_those_of_the_dataset(classes: Any, names: Any) -> None:
    dataset = Made(lambda i: None)
    assert class_names_of(dataset) == set()
    dataset.classes = classes  # type: ignore[attr-defined]
    assert class_names_of(dataset) == names
    assert class_names_of(Subset(dataset, [0])) == names
    other = Made(lambda i: None)
    other.classes = ["cow", "dog"]  # type: ignore[attr-defined]
    assert class_names_of(ConcatDataset([dataset, other])) == {("cow", "dog"), *names}


def test_what_an_array_is() -> None:
    assert array_of([[1, 2]]) is None
    assert array_of("text") is None
    assert array_of(Image.new("L", (2, 2))) is None
    found = array_of(torch.ones(2, requires_grad=True))
    assert found is not None
    assert found.tolist() == [1, 1]
    assert label_array(["a", "b"]).tolist() == ["a", "b"]
    assert label_array([[1], [1, 2]]).dtype == object
