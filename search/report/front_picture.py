"""A search as a picture: accuracy over energy."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from search.answers import words
from search.answers.confirmation import Answer, Verdict
from search.answers.result import SearchResult
from search.report.figures import NotebookFigure
from search.report.rows import searched, shown_front
from search.store.records import Record

# P. Tol's "bright" colours, which colour-blind readers tell apart; shapes tell the points apart in grey too.
_FRONT, _UNTRIED, _OTHERS = "#4477AA", "#BBCCE0", "#BBBBBB"
_MARKS = {"answer": ("*", 260, "#EE6677"), "right-sized": ("D", 60, "#228833"), "baseline": ("s", 60, "#222222")}
_COLOURS: dict[Verdict, str] = {"confirmed": _FRONT, "rejected": "white", "untried": _UNTRIED}  # inside
_LINE = 120  # letters that fit the width of the picture
_LEAST_RATIO = 1.2  # of the largest energy on the axis to the smallest
_Place: TypeAlias = tuple[int, int, Literal["left", "center", "right"], Literal["top", "center", "bottom"]]
# Where a label may be: how far from its point, in points, and its alignment; earlier ones are preferred.
_DIRECTIONS: tuple[_Place, ...] = (
    (0, 1, "center", "bottom"),
    (0, -1, "center", "top"),
    (1, 0, "left", "center"),
    (-1, 0, "right", "center"),
    (1, 1, "left", "bottom"),
    (-1, 1, "right", "bottom"),
    (1, -1, "left", "top"),
    (-1, -1, "right", "top"),
)
_PLACES = [
    (x * distance, y * distance, horizontal, vertical)
    for distance in (12, 26, 44)
    for x, y, horizontal, vertical in _DIRECTIONS
]


def front_figure(result: SearchResult) -> Figure:
    """Draw the evaluations of a search, its front, and what its answer is compared with; see `SearchResult.plot`."""
    answer, target = result.answer, result.answer.target.accuracy(result.baseline.evaluation.accuracy)
    front, named = shown_front(result) or list(result.front), _named(answer)
    low, high = _limits([target, *(one.evaluation.accuracy for one in (*front, *(record for record, _ in named)))])
    trained = [record for record in result.evaluations if not record.evaluation.stopped]
    inside = [record for record in trained if record.evaluation.accuracy * 100 >= low]

    figure = NotebookFigure(8.4, 5.4)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_ylim(low, high)
    axes.axhline(target * 100, color="#777777", linewidth=1, linestyle=(0, (5, 3)), label=f"target, {target:.2%}")
    if trained:
        less = len(trained) - len(inside)
        label = f"evaluations ({less} less accurate ones are not shown)" if less else "evaluations"
        axes.scatter(*_points(inside), s=16, color=_OTHERS, linewidth=0, zorder=1, label=label)
    energies, accuracies = _points(sorted(front, key=lambda record: record.evaluation.energy_pj))
    steps = np.column_stack(
        [np.repeat(energies, 2)[1:], np.repeat(accuracies, 2)[:-1]]
    )  # most accurate up to an energy
    axes.plot(*steps.T, color=_FRONT, linewidth=1.2, zorder=2)
    for verdict, meaning in words.verdicts(answer.task).items():
        if members := [record for record in front if (answer.verdict(record) or "untried") == verdict]:
            label = f"front, {meaning}"
            axes.scatter(*_points(members), s=38, color=_COLOURS[verdict], edgecolor=_FRONT, zorder=3, label=label)
    for record, roles in named:
        marker, size, colour = _MARKS[roles[0]]
        face = colour if roles[0] != "answer" or answer.confirmed else "white"
        axes.scatter(*_points([record]), marker=marker, s=size, color=face, edgecolor=colour, zorder=4)
    axes.margins(x=0.12)
    axes.set_xlabel("modelled energy of one inference")
    axes.set_ylabel("accuracy on validation images, %")
    title = f"{searched(result)} on {result.search.hardware}\nCheapest {answer.target}"
    axes.set_title(title, loc="left", fontsize="medium", wrap=True)
    axes.grid(color="#E5E5E5", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    drawn = [record.evaluation.energy_pj for record in (*inside, *front, *(record for record, _ in named))]
    _place_ticks(axes, drawn)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda pj, _: words.energy(pj)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    caution = words.caution(answer.task)
    figure.legend(
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize="small",
        title=None if caution is None else textwrap.fill(caution, _LINE),
        title_fontsize="small",
    )
    _label(axes, {_text(answer, record, roles): record for record, roles in named}, [*inside, *front], steps)
    return figure


def _place_ticks(axes: Axes, energies: Sequence[float]) -> None:
    """Place ticks on a logarithmic axis of energies, at least two: evenly where there are too few round ones."""
    low, high = min(energies), max(energies)
    if high < _LEAST_RATIO * low:  # labels of three digits would not tell ticks apart
        middle, half = math.sqrt(low * high), math.sqrt(_LEAST_RATIO)
        axes.set_xlim(middle / half, middle * half)
    left, right = axes.get_xlim()
    locator: Locator = LogLocator(subs=(1, 2, 5) if high < 500 * low else (1,))
    if sum(left <= tick <= right for tick in locator.tick_values(left, right)) < 2:
        locator = MaxNLocator(4, steps=[1, 2, 5, 10])
    axes.xaxis.set_major_locator(locator)


def _named(answer: Answer) -> list[tuple[Record, list[str]]]:
    """Return the evaluations to label with what they are; one may be several."""
    named: dict[str, tuple[Record, list[str]]] = {}
    records = {"answer": answer.record, "right-sized": answer.right_sized.record, "baseline": answer.baseline}
    for role, record in records.items():
        if record is not None:
            named.setdefault(record.key, (record, []))[1].append(role)
    return list(named.values())


def _text(answer: Answer, record: Record, roles: Sequence[str]) -> str:
    """Return the label of an evaluation."""
    sure = "" if "answer" not in roles else ", confirmed" if answer.confirmed else ", not confirmed"
    saved = "" if "baseline" in roles else f", {words.less(answer.saving(record)).rsplit(' ', 1)[0]}"  # without "than"
    return f"{' = '.join(roles)}{sure}\n{words.energy(record.evaluation.energy_pj)}{saved}"


def _points(records: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Return energies in pJ, and accuracies in percent."""
    evaluations = [record.evaluation for record in records]
    return [one.energy_pj for one in evaluations], [one.accuracy * 100 for one in evaluations]


def _limits(accuracies: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis in percent, with room around the accuracies."""
    low, high = min(accuracies) * 100, max(accuracies) * 100
    room = max(0.5, 0.12 * (high - low))
    return low - room, high + room


def _label(axes: Axes, labelled: Mapping[str, Record], points: Sequence[Record], line: NDArray[np.float64]) -> None:
    """Label evaluations where the labels cover little, and none covers another or leaves the picture.

    Args:
        axes: Where everything but the labels is drawn.
        labelled: Label -> its evaluation.
        points: What is better not covered.
        line: The vertices of a line that is better not covered, of shape (n, 2).
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # so that it is known where things are
    inside = axes.get_window_extent()
    marks, own = (
        axes.transData.transform(np.column_stack(_points(records))) for records in (points, list(labelled.values()))
    )
    path = Path(axes.transData.transform(line)) if len(line) else None
    taken: list[Bbox] = []

    def cost(box: Bbox) -> float:
        outside = box.width * box.height - _common(box, inside)
        covered = sum(_common(box, other) for other in taken)
        crossed = path is not None and path.intersects_bbox(box, filled=False)
        return 1000 * (outside + covered) + 20 * box.count_contains(own) + 5 * crossed + box.count_contains(marks)

    for text, record in labelled.items():
        places = {place: _box(_note(axes, text, record, place)) for place in _PLACES}
        best = min(places, key=lambda place: cost(places[place]))
        taken.append(places[best])
        _note(axes, text, record, best)


def _note(axes: Axes, text: str, record: Record, place: _Place) -> Annotation:
    """Label an evaluation."""
    (energy,), (accuracy,) = _points([record])
    x, y, horizontal, vertical = place
    note = axes.annotate(
        text,
        xy=(energy, accuracy),
        xytext=(x, y),
        textcoords="offset points",
        ha=horizontal,
        va=vertical,
        fontsize="small",
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.75},
        arrowprops={"arrowstyle": "-", "color": "#777777", "linewidth": 0.8, "shrinkB": 6},
    )
    note.set_in_layout(False)
    return note


def _box(note: Annotation) -> Bbox:
    """Return the space of a label with a margin, in pixels, and remove it."""
    note.get_window_extent()  # which places it, and adds its arrow
    box = Text.get_window_extent(note)
    note.remove()
    return Bbox.padded(box, 9)  # about half a mark


def _common(one: Bbox, other: Bbox) -> float:
    """Return the area that two boxes share."""
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else float(both.width * both.height)
