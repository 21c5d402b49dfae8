"""Data sets as tables and sentences on a console, and as JSON values."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.defaults import DEFAULT_DATASET
from search.evaluation.description import ChannelStatistics, Description
from search.images.dataset import SPLITS, Dataset
from search.images.library import StoredDataset, size_words
from search.images.lookup import Added
from search.report.console import plain_table

_WIDTH = 160  # of a table that is not for a terminal, so that every line of it is one data set
_MOST_CLASSES = 40  # of a histogram
_BAR = 16  # characters of its longest bar
_NAME = 28  # characters of the longest name
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def print_datasets(
    console: Console, built_in: Sequence[tuple[Dataset, bool]], stored: Sequence[StoredDataset], folder: Path
) -> None:
    """Print data sets, a line each.

    Args:
        console: Where to print.
        built_in: Built-in data sets, and whether their files are here.
        stored: Those that are stored.
        folder: Where they are stored.
    """
    if not console.is_terminal:
        console.width = _WIDTH
    table = plain_table("Data sets")
    for column in ("name", "images", "classes", "size", "MB", "kept", "from"):
        table.add_column(column, justify="right" if column in ("classes", "MB") else "left", overflow="fold")
    for dataset, here in built_in:
        _add_row(table, dataset, "", "built in", "here" if here else "not here, downloaded when used")
    for one in stored:
        megabytes = f"{one.size_bytes / 1e6:.1f}"
        kept = "added" if one.added else "by use"
        _add_row(table, one.dataset, megabytes, kept, one.dataset.location or "Python objects or an upload")
    console.print(table)
    total = sum(one.size_bytes for one in stored) / 1e6
    where = f"{len(stored)} stored in {folder}, {total:.1f} MB. " if stored else ""
    console.print(
        f"Default: {DEFAULT_DATASET}. Images: as they come; search datasets show NAME says how searches split them.\n"
        f"{where}By use: a search stored them. Your own: search datasets add NAME SOURCE",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _add_row(table: Table, dataset: Dataset, megabytes: str, kept: str, origin: str) -> None:
    size = size_words(dataset.image_shape)
    cells = (dataset.identity, _counts(dataset), str(dataset.classes), size, megabytes, kept, origin)
    table.add_row(*map(Text, cells))


def built_in_json(dataset: Dataset, *, here: bool) -> dict[str, Any]:
    """Return what is known of a built-in data set.

    Args:
        dataset: The data set.
        here: Whether its files are here.
    """
    return {**_dataset_json(dataset), "built_in": True, "here": here, "added": False, "size_bytes": None}


def stored_json(stored: StoredDataset) -> dict[str, Any]:
    """Return what is known of a stored data set."""
    return {
        **_dataset_json(stored.dataset),
        "built_in": False,
        "here": True,
        "added": stored.added,
        "size_bytes": stored.size_bytes,
        "created_at": stored.created_at.isoformat(),
    }


def _dataset_json(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "identity": dataset.identity,
        "title": dataset.title,
        "images": {split: dataset.counts[split] for split in SPLITS if split in dataset.counts},
        "classes": list(dataset.class_names),
        "image_shape": list(dataset.image_shape),
        "pixel_max": dataset.pixel_max,
        "location": dataset.location,
    }


def description_json(described: Description) -> dict[str, Any]:
    """Return the classes of a data set in the splits that searches use; an infinite imbalance is null."""
    counts = described.class_counts
    return {
        "used": {split: sum(numbers) for split, numbers in counts.items()},
        "repeated": dict(described.dataset.repeated),
        "class_counts": [
            {"class": name, **{split: numbers[place] for split, numbers in counts.items()}}
            for place, name in enumerate(described.dataset.class_names)
        ],
        "imbalance": None if math.isinf(described.imbalance) else described.imbalance,
        "imbalanced": described.is_imbalanced,
    }


def print_added(console: Console, added: Added, described: Description) -> None:
    """Print what was found in images that were stored under a name, and the command that searches them."""
    dataset = added.dataset
    state = "was stored before" if added.known else "stored"
    lines = [
        f"{dataset.identity}, {state}: {_counts(dataset)}; {dataset.classes} classes ({_some(dataset.class_names)}); "
        f"{size_words(dataset.image_shape)}",
        _used(described),
        _balance(described),
        *_repetitions(dataset),
    ]
    if added.before is not None:
        lines.append(
            f"{dataset.name} meant {added.before.identity} until now, which keeps this identity and its results."
        )
    lines.append(f"Search it with: search run --dataset {dataset.name}")
    _print_lines(console, lines)


def print_description(
    console: Console, described: Description, statistics: ChannelStatistics, picture: Path, stored: StoredDataset | None
) -> None:
    """Print all that is known of a data set.

    Args:
        console: Where to print.
        described: Its classes.
        statistics: Its pixels.
        picture: Where samples were drawn.
        stored: How it is stored; None if it is built in.
    """
    dataset = described.dataset
    kept = "built in"
    if stored is not None:
        kept = f"{'added' if stored.added else 'stored by a search'} on {stored.created_at:%Y-%m-%d}"
        kept += f", {stored.size_bytes / 1e6:.1f} MB, from {dataset.location or 'Python objects or an upload'}"
    mean, std = (",".join(f"{one:.4g}" for one in values) for values in (statistics.mean, statistics.std))
    _print_lines(
        console,
        [
            f"{dataset.identity}: {dataset.title}",
            f"Kept: {kept}",
            f"As it comes: {_counts(dataset)}; {dataset.classes} classes; {size_words(dataset.image_shape)}",
            _used(described),
            _balance(described),
            *_repetitions(dataset),
            f"Pixels by channel: --mean {mean} --std {std}",
            f"Samples: {picture}",
        ],
    )
    console.print()
    _print_histogram(console, described)


def _print_histogram(console: Console, described: Description) -> None:
    """Print the classes with the number of images and a bar in each split, the longest of which fill the column."""
    names, counts = described.dataset.class_names, described.class_counts
    shown = list(range(len(names)))
    if len(names) > _MOST_CLASSES:
        by_size = sorted(shown, key=lambda place: (-counts["train"][place], place))
        shown = by_size[: _MOST_CLASSES // 2] + by_size[-_MOST_CLASSES // 2 :]
    width = min(_NAME, max(5, *(len(names[place]) for place in shown)))
    header = f"{'class':<{width}}"
    digits = {split: len(str(max(numbers))) for split, numbers in counts.items()}
    for split in counts:
        header += f"  {split:<{digits[split] + 1 + _BAR}}"
    console.print(header.rstrip(), style="bold", highlight=False, soft_wrap=True)
    for place in shown:
        name = names[place] if len(names[place]) <= width else names[place][: width - 1] + "…"
        line = f"{name:<{width}}"
        for split, numbers in counts.items():
            bar = _bar(numbers[place] / max(1, max(numbers)))
            line += f"  {numbers[place]:>{digits[split]}} {bar:<{_BAR}}"
        console.print(line.rstrip(), highlight=False, markup=False, soft_wrap=True)
    if len(shown) < len(names):
        _print_lines(console, [f"The {_MOST_CLASSES // 2} largest and the {_MOST_CLASSES // 2} smallest; all: --json"])


def _bar(share: float) -> str:
    eighths = round(share * _BAR * 8)
    whole, rest = divmod(max(eighths, 1 if share > 0 else 0), 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _counts(dataset: Dataset) -> str:
    """Return the images of each split in words."""
    words = {"train": "training", "validation": "validation", "test": "test", "all": "in all"}
    return ", ".join(f"{dataset.counts[split]:,} {words[split]}" for split in SPLITS if split in dataset.counts)


def _used(described: Description) -> str:
    used = {split: sum(numbers) for split, numbers in described.class_counts.items()}
    given = described.dataset.counts
    cut = [split for split in ("validation", "test") if split not in given]
    words = f"As searches use it: {used['train']:,} training, {used['validation']:,} validation, {used['test']:,} test"
    return words + (f"; {' and '.join(cut)} images are split off by class" if cut else "")


def _balance(described: Description) -> str:
    counts = described.class_counts["train"]
    smallest, largest = min(counts), max(counts)
    if smallest == largest:
        return f"Balanced: {smallest:,} training images of each class."
    words = f"{smallest:,} to {largest:,} training images of a class"
    if not described.is_imbalanced:
        return f"Nearly balanced: {words}."
    return (
        f"Imbalanced: {words}. Always the most frequent class would be right for {described.largest_share:.1%}; "
        "--metric balanced-accuracy counts all classes alike."
    )


def _repetitions(dataset: Dataset) -> list[str]:
    return [f"Repeated: {one}." for one in dataset.repetitions]


def _some(names: Sequence[str]) -> str:
    """Return names, or the first of many."""
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:8])} and {len(names) - 8} more"


def print_removed(console: Console, dataset: Dataset, *, searches: Sequence[str], instead: Dataset | None) -> None:
    """Print that a data set was removed, and what still names it.

    Args:
        console: Where to print.
        dataset: What was removed.
        searches: Names of stored searches with it.
        instead: What its name means now.
    """
    lines = [f"Removed {dataset.identity}. Results with it are kept."]
    if searches:
        again = shlex.join(["search", "datasets", "add", dataset.name, dataset.location or "SOURCE"])
        lines.append(f"Searches with it: {_some(searches)}. To resume them, add the same images again: {again}")
    if instead is not None:
        lines.append(f"{dataset.name} means {instead.identity} now.")
    _print_lines(console, lines)


def _print_lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
