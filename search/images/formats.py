"""The file formats of published data sets, from the content of their files to arrays.

All trust what they are given, for its hash was checked before. Pickles need that above all: they can run any code, but
none with the MD5 of a published file, to which nobody can make a second content.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from search.images.image_set import ImageSet


def parse_idx(contents: Mapping[str, bytes]) -> tuple[ImageSet, ImageSet]:
    """Parse MNIST's idx files: images and labels for development, then for testing."""
    pixels, labels, test_pixels, test_labels = map(_idx_array, contents.values())
    return (
        ImageSet(pixels[:, None], labels.astype(np.int64)),
        ImageSet(test_pixels[:, None], test_labels.astype(np.int64)),
    )


def _idx_array(content: bytes) -> NDArray[np.uint8]:
    """Return the array of bytes in an idx file, whose header is its number of dimensions and their sizes."""
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def parse_cifar10_records(contents: Mapping[str, bytes]) -> tuple[ImageSet, ImageSet]:
    """Parse CIFAR-10's binary version: records of one label byte and 3,072 pixel bytes, channel first."""
    batches = [np.frombuffer(content, np.uint8).reshape(-1, 3073) for content in contents.values()]
    return _joined((batch[:, 1:], batch[:, 0]) for batch in batches)


def parse_cifar10_pickles(contents: Mapping[str, bytes]) -> tuple[ImageSet, ImageSet]:
    """Parse CIFAR-10's Python version: pickled dicts of pixels, as in the records, and labels."""
    return _pickled(contents, "labels")


def parse_cifar100_pickles(contents: Mapping[str, bytes]) -> tuple[ImageSet, ImageSet]:
    """Parse CIFAR-100's Python version, like CIFAR-10's, with its 100 fine labels."""
    return _pickled(contents, "fine_labels")


def _pickled(contents: Mapping[str, bytes], labels: str) -> tuple[ImageSet, ImageSet]:
    batches = [pickle.loads(content, encoding="latin1") for content in contents.values()]  # noqa: S301  hash checked
    return _joined((batch["data"], np.asarray(batch[labels])) for batch in batches)


def _joined(batches: Iterable[tuple[NDArray[np.uint8], NDArray[np.integer]]]) -> tuple[ImageSet, ImageSet]:
    """Join the batches of development images; the last batch is the test images."""
    *development, test = (
        ImageSet(pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)) for pixels, labels in batches
    )
    return (
        ImageSet(
            np.concatenate([batch.pixels for batch in development]),
            np.concatenate([batch.labels for batch in development]),
        ),
        test,
    )


def parse_svhn(contents: Mapping[str, bytes]) -> tuple[ImageSet, ImageSet]:
    """Parse SVHN's MATLAB files of pixels, shape (H, W, C, N), and labels, where 10 stands for the digit 0."""
    from scipy.io import loadmat

    development, test = (loadmat(io.BytesIO(content), variable_names=("X", "y")) for content in contents.values())
    return _svhn_images(development), _svhn_images(test)


def _svhn_images(variables: Mapping[str, NDArray[np.uint8]]) -> ImageSet:
    pixels = np.ascontiguousarray(variables["X"].transpose(3, 2, 0, 1))
    return ImageSet(pixels, variables["y"].ravel().astype(np.int64) % 10)
