"""A comparison of techniques as a table on a console, as a picture, and as files."""

from __future__ import annotations

import json
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from search.answers import words
from search.answers.comparison import Choice, Combination, Comparison, Row
from search.errors import UsageError
from search.report.console import plain_table
from search.space.techniques import TECHNIQUES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_CONFIRMED = "†"
_JSON = "comparison.json"
_PICTURES = ("comparison.png", "comparison.svg")
# Colours that stay apart for colour-blind readers (P. Tol's "bright" set); shapes tell the lines apart in grey too.
_COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_ALL = "#000000"
_GREEDY = "#EE6677"
_REFERENCE = "#BBBBBB"
_LINE = 180  # letters that fit the width of the picture
_LABEL_HEIGHT = 0.052  # share of a panel's height that a label needs


def print_comparison(console: Console, comparison: Comparison, *, command: str) -> None:
    """Print a table of combinations against losses, with the energy that each saves.

    Args:
        console: Where to print.
        comparison: The comparison.
        command: The command that confirms a comparison that was not confirmed.
    """
    table = plain_table(title(comparison))
    table.add_column("searched together")
    for loss in comparison.losses:
        table.add_column(f"{points(loss)} points", justify="right", no_wrap=True)
    table.add_column("different", justify="right", no_wrap=True)
    for group in groups(comparison):
        for row in group:
            saved = (f"{saving_mark(choice)}{' ' * choice.confirmed}" for choice in row.choices)
            table.add_row(row.combination.label, *saved, f"{row.distinct}/{row.evaluations}")
        table.add_section()
    console.print(table)
    for line in comparison_lines(comparison, confirm=f"Confirm with: {command}"):
        console.print(line, highlight=False, markup=False)


def title(comparison: Comparison) -> str:
    """Return the title of a table of a comparison."""
    return f"Energy saved within an accuracy loss: {comparison.name} ({_searched(comparison)})"


def groups(comparison: Comparison) -> list[list[Row]]:
    """Return the rows in groups of as many techniques."""
    return [list(rows) for _, rows in groupby(comparison.rows, key=lambda row: len(row.combination.techniques))]


def comparison_lines(comparison: Comparison, *, confirm: str) -> list[str]:
    """Return what a table of a comparison means.

    Args:
        comparison: The comparison.
        confirm: How to confirm one that was not confirmed.
    """
    baseline = comparison.baseline
    lines = [
        f"Baseline: {words.energy(baseline.energy_pj)} at {words.percent(baseline.accuracy)} %, "
        f"{', '.join(words.configuration(baseline.candidate).values())}. 1x: only the baseline keeps the accuracy.",
        f"Budget {comparison.budget} for each search, effort {comparison.effort}, seed {comparison.seed}, "
        f"{comparison.hardware}; different: evaluations of different configurations.",
    ]
    choices = [choice for row in comparison.rows for choice in row.choices]
    if not comparison.confirm:
        lines.append(
            f"{NOT_CONFIRMED} Not confirmed: the cheapest of many measured is, on average, a little lucky. {confirm}"
        )
    elif not all(choice.confirmed for choice in choices):
        lines.append(f"{NOT_CONFIRMED} Not confirmed: the accuracy is kept on average, but not with 97.5 % confidence.")
    return lines if comparison.caution is None else [*lines, comparison.caution]


def check_folder(folder: Path, name: str | None) -> None:
    """Check that a comparison can be written to a folder, which need not exist yet.

    Args:
        folder: Where to write.
        name: Name of the comparison that is resumed; None for a new one.

    Raises:
        UsageError: If the folder cannot be written to, or holds another comparison.
    """
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UsageError(f"cannot write to {folder}; choose another `out`")
    path = folder / _JSON
    if not path.exists():
        return
    try:
        content = json.loads(path.read_text())
        other = content["name"] if isinstance(content, dict) else None
    except (OSError, ValueError, KeyError):
        other = None
    if other is None:
        raise UsageError(f"{path} is not a comparison; choose another `out`")
    if other != name:
        raise UsageError(f"{path} is comparison {other!r}; choose another `out`, or resume it with `name` {other}")


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write comparison.json and a picture, as .png and .svg, to a folder; return their paths.

    Raises:
        UsageError: If a file cannot be written.
    """
    from search.report.figures import save_figure  # imported late, because it loads matplotlib

    path = folder / _JSON
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(comparison.to_dict(), indent=2) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another `out`") from None
    figure = comparison_figure(comparison)
    return [path, *(save_figure(figure, folder / name) for name in _PICTURES)]


def comparison_figure(comparison: Comparison) -> Figure:
    """Draw savings over losses, a line for each combination.

    One panel shows single techniques, one pairs, and one all four by either strategy. Every panel has all four in grey,
    so that lines can be compared across panels.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    from search.report.figures import NotebookFigure

    panels: dict[str, list[Row]] = {"one technique alone": [], "two together": [], "all four together": []}
    titles = list(panels)
    for row in comparison.rows:
        count = len(row.combination.techniques)
        panels[titles[2 if count == len(TECHNIQUES) else count - 1]].append(row)
    whole = next(row for row in comparison.rows if row.combination == Combination(techniques=tuple(TECHNIQUES)))

    figure = NotebookFigure(13, 5)
    axes: Sequence[Axes] = figure.subplots(1, len(panels), sharey=True)
    largest = max(choice.saving for row in comparison.rows for choice in row.choices)
    top = max(2.0, largest) * 1.25
    for panel, (title, rows) in zip(axes, panels.items(), strict=True):
        panel.set_yscale("log")
        panel.set_ylim(0.9, top)
        if whole not in rows:
            _line(panel, whole, _REFERENCE, "o", reference=True)
        colours = _colours(rows)
        for row, marker in zip(rows, _MARKERS, strict=False):
            _line(panel, row, colours[row.search], marker)
        labelled = [*rows, *([] if whole in rows else [whole])]
        _label(panel, comparison, labelled, {whole.search: "#888888", **colours}, top)
        places = range(len(comparison.losses))
        panel.set_xticks(list(places), [points(loss) for loss in comparison.losses])
        panel.set_xlim(-0.2, len(comparison.losses) - 0.8 + 0.55 * max(1, len(comparison.losses) - 1))
        panel.set_xlabel("accuracy loss, percentage points", loc="left")
        panel.set_title(title, fontsize="medium", loc="left")
        panel.grid(axis="y", color="#E5E5E5", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        panel.yaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("energy saved: baseline's / own, times")
    figure.suptitle(
        f"Energy saved within an accuracy loss: {_searched(comparison)} on {comparison.hardware}, "
        f"{words.count(comparison.budget, 'evaluation')} for each line",
        fontsize="large",
    )
    hollow = (
        "hollow: not confirmed"
        if not comparison.confirm
        else "filled: confirmed with 97.5 % confidence; hollow: on average only"
    )
    below = [f"{hollow}. Baseline: {words.energy(comparison.baseline.energy_pj)}"]
    below += [] if comparison.caution is None else [textwrap.fill(comparison.caution, _LINE)]
    figure.supxlabel("\n".join(below), fontsize="small")
    return figure


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    """Return the colour of each search of a panel."""
    if len(rows[0].combination.techniques) == len(TECHNIQUES):
        return {row.search: _ALL if row.combination.strategy == "joint" else _GREEDY for row in rows}
    return {row.search: colour for row, colour in zip(rows, _COLOURS, strict=False)}


def _line(panel: Axes, row: Row, colour: str, marker: str, *, reference: bool = False) -> None:
    """Draw a line through the confirmed choices, with filled marks; the others have hollow marks.

    If none is confirmed the line goes through all. A line through both kinds would fall where only a choice that costs
    more is confirmed.
    """
    savings = dict(enumerate(choice.saving for choice in row.choices))
    confirmed = {place: savings[place] for place, choice in enumerate(row.choices) if choice.confirmed}
    line = confirmed or savings
    panel.plot(
        list(line), list(line.values()), color=colour, linewidth=3 if reference else 1.8, zorder=1 + (not reference)
    )
    if reference:
        return
    for place, choice in enumerate(row.choices):
        face = colour if choice.confirmed else "white"
        panel.plot(place, choice.saving, marker=marker, color=colour, markerfacecolor=face, markersize=7, zorder=3)


def _label(panel: Axes, comparison: Comparison, rows: Sequence[Row], colours: Mapping[str, str], top: float) -> None:
    """Label each line at its end; labels move apart where lines end close to each other."""
    decades = math.log10(top / 0.9)
    wanted = sorted((math.log10(row.choices[-1].saving / 0.9) / decades, number) for number, row in enumerate(rows))
    heights = _apart([height for height, _ in wanted])
    end = len(comparison.losses) - 1
    for height, (_, number) in zip(heights, wanted, strict=True):
        row = rows[number]
        saving = row.choices[-1].saving
        panel.annotate(
            f"{row.combination.label}, {words.saving(saving)}",
            xy=(end, saving),
            xytext=(end + 0.22, 0.9 * 10 ** (height * decades)),
            color="#333333",  # some of the colours are too pale for letters
            fontsize="small",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # over the grid
            arrowprops={"arrowstyle": "-", "color": colours[row.search], "linewidth": 1.2, "shrinkB": 4},
        )


def _apart(heights: Sequence[float]) -> list[float]:
    """Move rising heights in [0, 1] apart, as little as possible, so that labels do not overlap."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + _LABEL_HEIGHT) if moved else max(height, _LABEL_HEIGHT / 2))
    excess = moved[-1] - (1 - _LABEL_HEIGHT / 2)
    for place in reversed(range(len(moved))):
        if excess <= 0:
            break
        limit = 1 - _LABEL_HEIGHT / 2 - (len(moved) - 1 - place) * _LABEL_HEIGHT
        moved[place] = min(moved[place], limit)
    return moved


def _searched(comparison: Comparison) -> str:
    return ", ".join(filter(None, (comparison.dataset, comparison.network)))


def saving_mark(choice: Choice) -> str:
    """Return what a choice saves, with a mark if it is not confirmed."""
    return f"{words.saving(choice.saving)}{'' if choice.confirmed else NOT_CONFIRMED}"


def points(loss: float) -> str:
    """Return an accuracy loss in percentage points."""
    return f"{loss * 100:g}"
