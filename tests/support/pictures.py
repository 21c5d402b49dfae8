"""Small images made from a seed, the forms in which people keep them, and what a source makes of them."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from search.errors import DatasetInvalidError
from search.images.source import Source

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


def refused(*words: str) -> pytest.RaisesExc[DatasetInvalidError]:
    """Expect that images are refused, with a message of one line that has these words in this order."""
    return pytest.raises(DatasetInvalidError, match="^.*" + ".*".join(map(re.escape, words)) + ".*$")


def pictures(
    count: int = 12, *, classes: int = 3, channels: int = 3, height: int = 5, width: int = 7, seed: int = 0
) -> tuple[Pixels, Labels]:
    """Images of shape (N, C, H, W), no two alike, and their classes in turn."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, channels, height, width), dtype=np.uint8)
    return pixels, np.arange(count) % classes


def channels_last(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def as_pillow(image: Pixels) -> Image.Image:
    """An image of shape (C, H, W)."""
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def as_png(image: Pixels) -> bytes:
    stream = io.BytesIO()
    as_pillow(image).save(stream, format="PNG")
    return stream.getvalue()


def write_folder(folder: Path, pixels: Pixels, labels: Sequence[object] | Labels, suffix: str = "png") -> Path:
    """Write `folder/LABEL/NUMBER.png` for each image, numbered in their order."""
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        as_pillow(image).save(place / f"{number:04}.{suffix}")
    return folder


def write_parquet(
    file: Path,
    contents: Sequence[bytes],
    labels: Sequence[object] | Labels,
    *,
    image: str = "image",
    label: str = "label",
    plain: bool = False,
    metadata: Mapping[str, str] | None = None,
    rows_of_group: int = 4,
) -> Path:
    """Write images, as the bytes of their files, as Hugging Face does, or as a plain column of bytes."""
    column: list[Any] = list(contents) if plain else [{"bytes": content, "path": None} for content in contents]
    kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(column, kind), label: pa.array(list(labels))})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), file, row_group_size=rows_of_group)
    return file


def content_of(source: Source) -> dict[str, list[tuple[bytes, int]]]:
    """Split -> its images and classes, in an order that does not depend on how they are kept."""
    return {
        split: sorted((part.read(i).tobytes(), int(label)) for i, label in enumerate(part.labels))
        for split, part in source.splits.items()
    }


def pixels_of(source: Source, split: str = "all") -> Pixels:
    """All images of a split, shape (N, C, H, W)."""
    part = source.splits[split]
    return np.stack([part.read(i) for i in range(len(part.labels))])
