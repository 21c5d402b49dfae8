from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import ConcatDataset, IterableDataset, Subset, TensorDataset

from search.images.content import Source
from search.images.python_objects import read_objects
from tests.support.pictures import channels_last, content_of, pictures, pixels_of, refused

PIXELS, LABELS = pictures(24)
OTHERS, _ = pictures(12, seed=1)
DATASET = TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(LABELS))
OTHER = TensorDataset(torch.from_numpy(OTHERS), torch.from_numpy(LABELS[:12]))


def read(data: object, **options: Any) -> Source:
    return read_objects(data, name="made", subject="`data`", location=None, **options)


@pytest.mark.parametrize(
    ("data", "splits"),
    [
        ((PIXELS, LABELS), ["all"]),
        ([PIXELS, LABELS.tolist()], ["all"]),
        ((torch.from_numpy(PIXELS), pd.Series(LABELS)), ["all"]),
        (DATASET, ["all"]),
        ({"all": (PIXELS, LABELS)}, ["all"]),
        ({"all": DATASET}, ["all"]),
        ({"train": DATASET}, ["train"]),
        ([(PIXELS, LABELS), (OTHERS, LABELS[:12])], ["train", "test"]),
        (((PIXELS, LABELS), OTHER), ["train", "test"]),
        ((DATASET, OTHER), ["train", "test"]),
        ((DATASET, OTHER, (OTHERS, LABELS[:12])), ["train", "validation", "test"]),
        ({"test": OTHER, "train": DATASET}, ["train", "test"]),
        ({"train": DATASET, "val": (OTHERS, LABELS[:12])}, ["train", "validation"]),
        ({"Train": DATASET, "valid": OTHER, "test": OTHER}, ["train", "validation", "test"]),
    ],
)
def test_parts_are_arrays_or_datasets(data: object, splits: list[str]) -> None:
    source = read(data)
    assert list(source.splits) == splits
    for split in splits:
        assert np.array_equal(pixels_of(source, split), PIXELS if split in ("all", "train") else OTHERS)
        assert source.splits[split].labels.tolist() == LABELS[: len(source.splits[split].labels)].tolist()
    assert (source.name, source.location, source.signature) == ("made", None, None)


def test_arrays_have_their_channels_last_and_tensors_first_where_both_fit() -> None:
    pixels = np.arange(24 * 3 * 5 * 3, dtype=np.uint64).astype(np.uint8).reshape(24, 3, 5, 3)
    assert read((pixels, LABELS)).image_shape == (3, 3, 5)
    assert read((torch.from_numpy(pixels), LABELS)).image_shape == (3, 5, 3)
    assert np.array_equal(pixels_of(read((torch.from_numpy(pixels), LABELS))), pixels)
    assert np.array_equal(pixels_of(read((pixels, LABELS))), pixels.transpose(0, 3, 1, 2))


def test_one_rule_makes_bytes_of_the_floats_of_all_parts() -> None:
    dark = np.minimum(PIXELS, 1).astype(float)
    source = read({"train": (PIXELS.astype(float), LABELS), "test": (dark, LABELS)})
    assert pixels_of(source, "test").max() == 1
    source = read({"train": (PIXELS / 255, LABELS), "test": (dark, LABELS)})
    assert np.array_equal(pixels_of(source, "train"), PIXELS)
    assert pixels_of(source, "test").max() == 255


def test_gray_and_coloured_parts_become_rgb() -> None:
    gray, _ = pictures(12, channels=1)
    source = read(((PIXELS, LABELS), (channels_last(gray), LABELS[:12])))
    assert source.image_shape == (3, 5, 7)
    assert np.array_equal(pixels_of(source, "test"), np.repeat(gray, 3, axis=1))


class _Items:
    classes: tuple[str, ...] = ("ant", "bee", "cow")

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, i: int) -> Any:
        return self._items[i]


class Named(TensorDataset):
    classes = ("ant", "bee", "cow")


def test_classes_have_the_names_of_the_datasets() -> None:
    named = Named(*DATASET.tensors)
    assert read(named).class_names == ("ant", "bee", "cow")
    assert read((named, named)).class_names == ("ant", "bee", "cow")
    assert read((named, OTHER)).class_names == ("ant", "bee", "cow")
    assert read((OTHER, named)).class_names == ("ant", "bee", "cow")
    assert read((PIXELS, LABELS)).class_names == ("0", "1", "2")
    assert content_of(read(named)) == content_of(read(DATASET))
    text = [(PIXELS[i], "cba"[LABELS[i]]) for i in range(24)]
    assert read(_Items(text)).class_names == ("a", "b", "c")
    with refused("`data` has labels outside of its 3 classes 0 to 2: 3, 4, 5; give each image one of these"):
        read(Named(DATASET.tensors[0], DATASET.tensors[1] + 3))


def named(names: tuple[str, ...], labels: Any = LABELS, pixels: Any = PIXELS) -> _Items:
    """A dataset that carries the names of classes."""
    items = _Items(list(zip(pixels, labels, strict=True)))
    items.classes = names
    return items


def test_parts_with_the_same_names_in_another_order_are_of_the_same_classes() -> None:
    plain = named(("ant", "bee", "cow"))
    turned = named(("cow", "ant", "bee"), (LABELS + 1) % 3)
    source = read((plain, turned))
    assert source.class_names == ("ant", "bee", "cow")
    assert source.splits["test"].labels.tolist() == LABELS.tolist()
    source = read({"test": plain, "train": turned})
    assert source.class_names == ("cow", "ant", "bee")
    assert (
        source.splits["test"].labels.tolist() == ((LABELS + 1) % 3).tolist() == source.splits["train"].labels.tolist()
    )
    floats = named(("cow", "ant", "bee"), (LABELS + 1.0) % 3)
    assert read((plain, floats)).splits["test"].labels.tolist() == LABELS.tolist()
    text = named(("cow", "ant", "bee"), np.array(["ant", "bee", "cow"])[LABELS])
    assert read((text, text)).class_names == ("ant", "bee", "cow")
    with refused("`data` has labels outside of its 3 classes 0 to 2: 3; give each image one of these"):
        read((plain, named(("cow", "ant", "bee"), LABELS + 1)))


def test_parts_of_different_classes_are_refused() -> None:
    ours, theirs = named(("cat", "dog", "fox")), named(("dog", "emu", "fox"))
    ask = "make all parts of the same classes in the same order"
    words = (
        "`data`: labels of train are numbers of the classes cat, dog, fox, but those of test of dog, emu, fox, where"
    )
    with refused(f"{words} 0 means 'cat' and 'dog'; {ask}"):
        read((ours, theirs))
    with refused("those of test of cat, dog, where 2 means 'fox' and none"):
        read((ours, OTHER, named(("cat", "dog"))))
    with refused("those of test of fox, dog, cat, where 0 means 'cat' and 'fox'"):  # of which is the one between them?
        read((ours, OTHER, named(("fox", "dog", "cat"))))


def test_parts_of_datasets_carry_their_names() -> None:
    ours: Any = named(("cat", "dog", "fox"))
    theirs: Any = named(("dog", "emu", "fox"))
    half = Subset(Subset(ours, range(18)), range(12))
    assert read(half).class_names == ("cat", "dog", "fox")
    assert read((half, OTHER)).class_names == ("cat", "dog", "fox")
    assert read(ConcatDataset([half, ours, DATASET])).class_names == ("cat", "dog", "fox")
    with refused("labels of train are numbers of the classes cat, dog, fox, but those of test of dog, emu, fox"):
        read((half, Subset(theirs, range(12))))
    with refused("`data`: labels are numbers of the classes cat, dog, fox, but those of dog, emu, fox"):
        read(ConcatDataset([half, theirs]))


def test_images_of_several_sizes_need_one() -> None:
    tall, _ = pictures(12, height=9)
    with refused("`data` has images of 2 sizes (height x width) between 5x7 and 9x7"):
        read(((PIXELS, LABELS), (tall, LABELS[:12])))
    assert read(((PIXELS, LABELS), (tall, LABELS[:12])), image_size=(4, 4)).image_shape == (3, 4, 4)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(DATASET)


MUST_BE = "`data` must be (x, y), ((x_train, y_train), (x_test, y_test)), torch Datasets (train, test) or "
PART = " must be a pair of images and labels, or a Dataset with a length and items by number, got "


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (3, [MUST_BE, ", got int"]),
        (None, [MUST_BE, ", got NoneType"]),
        (b"bytes", [MUST_BE, ", got bytes"]),
        (iter(DATASET), [MUST_BE]),
        ((), [MUST_BE, ", got a tuple of 0"]),
        ((PIXELS,), [MUST_BE, ", got a tuple of 1"]),
        ((PIXELS, LABELS, OTHERS, LABELS[:12]), [MUST_BE, ", got a tuple of 4"]),
        (PIXELS, ["`data` is one array; give a pair of images and labels"]),
        ((DATASET, PIXELS), ["`data`: test is one array; give a pair of images and labels"]),
        ((DATASET, 3), [f"`data`: test{PART}int"]),
        ((DATASET, "folder"), [f"`data`: test{PART}str"]),
        ((DATASET, {"train": OTHER}), [f"`data`: test{PART}dict"]),
        (((PIXELS, LABELS, LABELS), OTHER), [f"`data`: train{PART}3 objects"]),
        (([PIXELS[0], PIXELS[1]], [0, 1]), ["`data`: images of test must be one array or tensor, got int"]),
        (
            (DATASET, ([[1]], [0])),
            ["`data`: images of test must be one array or tensor, got list; numpy.stack"],
        ),
        (Stream(), ["`data` is an IterableDataset, which gives images in one order alone; give a Dataset"]),
        ((DATASET, Stream()), ["`data`: test is an IterableDataset"]),
        ({}, [MUST_BE, ", got an empty mapping"]),
        (
            {"train": DATASET, "extra": OTHER},
            ["`data` has the keys 'train', 'extra'; allowed are 'train',"],
        ),
        ({"val": OTHER, "valid": OTHER}, ["`data` has the keys 'val', 'valid'; allowed are"]),
        ({0: DATASET}, ["`data` has the keys 0; allowed are"]),
        ({"all": DATASET, "test": OTHER}, ["`data` has the key 'all' beside others"]),
        ({"test": OTHER}, ["`data` has images for test, but none to train on"]),
        ((PIXELS, LABELS[1:]), ["`data`: images have shape (24, 3, 5, 7), labels (23,); give one label for each"]),
        ((PIXELS, [[1], [1, 2]]), ["`data`: images have shape (24, 3, 5, 7), labels (); give one label for each"]),
        (([*PIXELS], LABELS), ["`data`: images must be one array or tensor, got list; numpy.stack makes one of many"]),
        (([*PIXELS], LABELS.tolist()), ["`data`: images must be one array or tensor, got list; numpy.stack makes"]),
        ((([*PIXELS], LABELS), OTHER), ["`data`: images of train must be one array or tensor, got list; numpy.stack"]),
        ((PIXELS, LABELS / 2), ["`data`: labels look like measurements, not classes"]),
        ((PIXELS * 2.0, LABELS), ["`data` has pixels from 0 to "]),
        ((DATASET, (PIXELS, LABELS + 1)), ["`data` has no images of the class '3' in train"]),
    ],
)
def test_other_objects_are_refused(data: object, words: list[str]) -> None:
    with refused(*words):
        read(data)
