"""What is known of a data set without reading its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SPLITS = ("train", "validation", "test", "all")
_REPEATED = {  # split -> what its repeated images are
    "validation": "validation images are training images too, so that accuracies on them are too high",
    "test": "test images are training or validation images too, so that accuracies on them are too high",
    "all": "images are there before, so that some of those that are held out also train",
}
_DIGITS = 16  # of the digest in an identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set: labelled images of one shape.

    Attributes:
        name: Its name: letters, digits, '.', '_' and '-'.
        digest: SHA-256 of all images and classes, in hex; None for a built-in data set, whose name says as much.
        title: Title for people.
        image_shape: Channels, height and width.
        pixel_max: Pixel value that is scaled to 1.0.
        class_names: Names of the classes, in the order of their numbers.
        counts: Split -> number of images, of `SPLITS`, as the data set has them; `all` if it has none.
        repeated: Split -> number of its images that are also training images, of those in which there are any; for
            test images, that are also validation images too; in `all`, that were there before.
        location: Where it was read from: an absolute path, the import path of a function, or the name of the built-in
            data set that was resized; None for Python objects, uploads and built-in data sets.
    """

    name: str
    digest: str | None = None
    title: str
    image_shape: tuple[int, int, int]
    pixel_max: int = 255
    class_names: tuple[str, ...]
    counts: Mapping[str, int]
    repeated: Mapping[str, int] = field(default_factory=dict)
    location: str | None = None

    @property
    def identity(self) -> str:
        """The key of results: the name, with the beginning of the digest if it is not built in."""
        return self.name if self.digest is None else f"{self.name}@{self.digest[:_DIGITS]}"

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def images(self) -> int:
        """The number of images."""
        return sum(self.counts.values())

    @property
    def repetitions(self) -> list[str]:
        """What is wrong with images that are there several times, in words: a sentence for each split."""
        return [
            f"{count:,} of {self.counts[split]:,} {_REPEATED[split]}" for split, count in self.repeated.items() if count
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**asdict(self), "image_shape": list(self.image_shape), "class_names": list(self.class_names)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Dataset:
        """Return the data set of a JSON object made by `to_dict`."""
        channels, height, width = content["image_shape"]
        return cls(
            **{**content, "image_shape": (channels, height, width), "class_names": tuple(content["class_names"])}
        )
