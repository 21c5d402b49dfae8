"""Parquet files of images and labels, as Hugging Face keeps image data sets.

A row is an image: the bytes of its file in a column `image` or `img`, alone or as the field `bytes` of a struct, and
its label in `label`, `labels` or `fine_label`. Files are named after their split, such as train-00000-of-00002.parquet;
files that name none are one part, to be split. Classes have the names that Hugging Face's metadata gives them, if any.

At most one row group is in memory at a time.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search.errors import DatasetInvalidError
from search.images.assembly import Images, assemble, unusable
from search.images.content import (
    WHOLE,
    Source,
    check_image_size,
    check_splits,
    in_order,
    listed,
    signature_of,
    split_named,
    suggested_name,
)
from search.images.decoding import UnusableImageError, decoded, shape_of
from search.images.labels import classes_of

_IMAGES = ("image", "img")
_LABELS = ("label", "labels", "fine_label")
_SHARD = re.compile(r"([A-Za-z]+)(?:-(\d+)-of-(\d+))?(?![A-Za-z]).*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowGroup:
    """A row group of a file.

    Attributes:
        file: The file.
        index: Number of the row group in the file.
        row: Number of its first row in the file.
        start: Number of its first image in the split.
        rows: Number of its rows.
    """

    file: Path
    index: int
    row: int
    start: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """The columns that are read.

    Attributes:
        image: Name of the column of images.
        label: Name of the column of labels.
        names: Names of the classes, which labels are places in; None if there are none.
    """

    image: str
    label: str
    names: tuple[str, ...] | None


def read_parquet(
    files: Sequence[Path], *, path: Path, image_size: tuple[int, int] | None = None, parameter: str = "dataset"
) -> Source:
    """Return Parquet files as a source. They are read once for labels and sizes, and images decoded when they are read.

    Args:
        files: The files.
        path: What was given, an absolute path: the folder that holds them, or the only one of them.
        image_size: Height and width that images are resized to.
        parameter: The parameter that messages name.

    Raises:
        DatasetInvalidError: If a file is damaged or missing, lacks the columns, or any image cannot be used.
    """
    check_image_size(image_size)
    subject = f"`{parameter}` {path}"
    splits = {WHOLE: list(files)} if list(files) == [path] else _splits(files, subject)
    with _damage_reported(files[0], subject):
        columns = _columns(pq.read_schema(files[0]), files[0], subject)
    groups = {split: _row_groups(shards, columns, subject) for split, shards in splits.items()}
    given = {
        split: np.concatenate([_labels(file, columns.label, subject) for file in shards])
        for split, shards in splits.items()
    }
    whole_numbers = all(labels.dtype.kind in "iu" for labels in given.values())
    labels, class_names = classes_of(given, subject=subject, names=columns.names if whole_numbers else None)

    @functools.lru_cache(maxsize=1)  # of all splits together
    def image_column(group: _RowGroup) -> Any:
        with _damage_reported(group.file, subject), pq.ParquetFile(group.file) as file:
            column = file.read_row_group(group.index, columns=[columns.image], use_threads=False).column(0)
            if len(column) != group.rows:
                raise EOFError("a column ends too early")
            return column

    def content(group: _RowGroup, row: int) -> io.BytesIO:
        with _damage_reported(group.file, subject):
            value = image_column(group)[row].as_py()
        found = value["bytes"] if isinstance(value, dict) else value
        if found is None:
            raise UnusableImageError("has no bytes")
        return io.BytesIO(found)

    problems: list[str] = []

    def images(split: str) -> Images:
        starts = [group.start for group in groups[split]]

        def located(i: int) -> tuple[_RowGroup, int]:
            group = groups[split][bisect_right(starts, i) - 1]
            return group, i - group.start

        def read(i: int) -> NDArray[np.uint8]:
            return decoded(content(*located(i)))

        def place(i: int) -> str:
            group, row = located(i)
            return f"row {group.row + row} of {group.file.name}"

        shapes = Counter[tuple[int, int, int]]()
        for i in range(len(labels[split])):
            try:
                shapes[shape_of(content(*located(i)))] += 1
            except UnusableImageError as error:
                problems.append(f"{place(i)} {error}")
        return Images(shapes=shapes, read=read, place=place)

    found = {split: images(split) for split in splits}
    if problems:
        counts = {split: len(labels[split]) for split in splits}
        problems = _unusable_rows(found, counts) or problems
        raise DatasetInvalidError(unusable(subject, problems, sum(counts.values())))
    return assemble(
        subject=subject,
        name=suggested_name(path.name if path.is_dir() else path.stem),
        images=found,
        labels=labels,
        class_names=class_names,
        image_size=image_size,
        location=str(path),
        signature=signature_of([str(file) for file in files], path if path.is_dir() else path.parent),
    )


def _unusable_rows(images: Mapping[str, Images], counts: Mapping[str, int]) -> list[str]:
    """Decode all images to find those that cannot be used: one is known, and people mend all at once."""
    problems = []
    for split, count in counts.items():
        for i in range(count):
            try:
                images[split].read(i)
            except UnusableImageError as error:
                problems.append(f"{images[split].place(i)} {error}")
    return problems


def _splits(files: Sequence[Path], subject: str) -> dict[str, list[Path]]:
    """Return split -> its files, in the order of their names."""
    splits: dict[str, list[Path]] = {}
    unnamed = []
    for file in sorted(files):
        parts = _SHARD.fullmatch(file.stem)
        split = split_named(parts[1]) if parts else None
        if split is None:
            unnamed.append(file)
        else:
            splits.setdefault(split, []).append(file)
    if not splits:
        return {WHOLE: unnamed}
    if unnamed:
        raise DatasetInvalidError(
            f"{subject} holds Parquet files that name no split, train, validation or test, beside files that do: "
            f"{listed(file.name for file in unnamed)}; name or move them"
        )
    check_splits(splits, subject)
    for split, shards in splits.items():
        _check_shards(shards, split, subject)
    return {split: splits[split] for split in in_order(splits)}


def _check_shards(files: Sequence[Path], split: str, subject: str) -> None:
    """Check that files that are numbered, such as train-00000-of-00002, are all there."""
    numbered = [parts for file in files if (parts := _SHARD.fullmatch(file.stem)) and parts[3]]
    there = [int(parts[2]) for parts in numbered]
    of = max((int(parts[3]) for parts in numbered), default=0)
    missing = sorted(set(range(of)) - set(there))
    if missing:
        raise DatasetInvalidError(
            f"{subject} lacks {len(missing)} of the {of} files of {split}, those with the numbers {listed(missing)}; "
            "complete the download"
        )
    if len(there) not in (0, len(files)) or len(set(there)) < len(there):
        raise DatasetInvalidError(
            f"{subject} holds several files for the same part of {split}: {listed(file.name for file in files)}; keep "
            "one of each"
        )


def _columns(schema: Any, file: Path, subject: str) -> _Columns:
    """Return the columns of images and labels.

    Raises:
        DatasetInvalidError: If there are none, or their types are others.
    """
    image = next((name for name in _IMAGES if name in schema.names), None)
    label = next((name for name in _LABELS if name in schema.names), None)
    if image is None or label is None:
        raise DatasetInvalidError(
            f"{subject}: {file.name} has the columns {listed(schema.names) or 'none'}; it needs images in one of "
            f"{', '.join(_IMAGES)}, and classes in one of {', '.join(_LABELS)}"
        )
    kind = schema.field(image).type
    inner = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise DatasetInvalidError(
            f"{subject}: the column {image!r} of {file.name} is of type {kind}; it must hold the bytes of image files"
        )
    kind = schema.field(label).type
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (
        pa.types.is_integer,
        pa.types.is_boolean,
        pa.types.is_floating,
        pa.types.is_string,
        pa.types.is_large_string,
    )
    if not any(test(inner) for test in tests):
        raise DatasetInvalidError(
            f"{subject}: the column {label!r} of {file.name} is of type {kind}; it must hold a number or a text"
        )
    return _Columns(image=image, label=label, names=_names(schema.metadata or {}, label))


def _names(metadata: Mapping[bytes, bytes], label: str) -> tuple[str, ...] | None:
    """Return the names of classes in Hugging Face's metadata; None if there are none."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _row_groups(files: Sequence[Path], columns: _Columns, subject: str) -> list[_RowGroup]:
    """Return the row groups of a split, after checking that all of its files have the same columns."""
    groups = []
    start = 0
    for path in files:
        with _damage_reported(path, subject), pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        if (found := _columns(schema, path, subject)) != columns:
            raise DatasetInvalidError(
                f"{subject}: {path.name} is of another data set than the other files: its images are in "
                f"{found.image!r}, its labels in {found.label!r}, and it names {len(found.names or ())} classes"
            )
        row = 0
        for index, count in enumerate(rows):
            groups.append(_RowGroup(file=path, index=index, row=row, start=start, rows=count))
            row += count
            start += count
    return [group for group in groups if group.rows]


def _labels(path: Path, column: str, subject: str) -> NDArray[Any]:
    with _damage_reported(path, subject), pq.ParquetFile(path) as file:
        labels = file.read(columns=[column], use_threads=False).column(0)
        if pa.types.is_dictionary(labels.type):
            labels = labels.cast(labels.type.value_type)
        if len(labels) != file.metadata.num_rows:
            raise EOFError("a column ends too early")
        nulls = labels.null_count
        values: NDArray[Any] = labels.to_numpy()
    if nulls:
        raise DatasetInvalidError(f"{subject}: {nulls:,} of the {len(labels):,} labels of {path.name} are missing")
    return values


@contextmanager
def _damage_reported(file: Path, subject: str) -> Iterator[None]:
    try:
        yield
    except (DatasetInvalidError, MemoryError):
        raise
    except Exception as error:  # of a damaged file, pyarrow raises almost anything
        number = getattr(error, "errno", None)
        state = f"cannot be read ({os.strerror(number)})" if number else "is damaged, or no Parquet file"
        raise DatasetInvalidError(f"{subject}: {file.name} {state}") from None
