"""The picture of a search, by what is drawn where."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from search.answers import words
from search.answers.confirmation import RightSized
from search.answers.result import SearchResult, front
from search.errors import UsageError
from search.space.target import Target
from search.store.records import Record


def places(records: Sequence[Record]) -> set[tuple[float, float]]:
    return {(round(one.evaluation.energy_pj, 6), round(one.evaluation.accuracy * 100, 6)) for one in records}


def drawn(axes: Axes, label: str) -> set[tuple[float, float]]:
    """The points that the legend calls so."""
    found = [one for one in axes.collections if isinstance(one, PathCollection) and str(one.get_label()) == label]
    return {(round(x, 6), round(y, 6)) for one in found for x, y in np.asarray(one.get_offsets()).tolist()}


def labels(axes: Axes) -> dict[tuple[float, float], str]:
    notes = [one for one in axes.texts if isinstance(one, Annotation)]
    return {(round(one.xy[0], 6), round(one.xy[1], 6)): one.get_text() for one in notes}


def point(record: Record) -> tuple[float, float]:
    (found,) = places([record])
    return found


def crowded(result: SearchResult, seed: int, evaluations: int = 300) -> SearchResult:
    """The same search with many more evaluations, at random around its own."""
    rng = np.random.default_rng(seed)
    made = list(result.evaluations)
    for number in range(evaluations):
        energy = 10 ** rng.uniform(2, 3.6)
        accuracy = 0.98 - 0.3 * rng.exponential() / np.sqrt(energy)
        evaluation = replace(
            result.baseline.evaluation, chip_accuracies=(float(accuracy),), components_pj={"mac": float(energy)}
        )
        made.append(replace(result.baseline, key=f"{number:064}", evaluation=evaluation))
    return replace(result, evaluations=tuple(made), front=tuple(front(made)))


def test_everything_is_where_it_was_measured(result: SearchResult) -> None:
    answer = result.answer
    assert answer.record is not None
    figure = result.plot()
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    assert drawn(axes, "evaluations") == places(result.evaluations)
    by_verdict = {
        "front, confirmed by fresh runs": "confirmed",
        "front, rejected by fresh runs": "rejected",
        "front, not retrained": "untried",
    }
    for label, verdict in by_verdict.items():
        assert drawn(axes, label) == places([one for one in result.front if answer.verdict(one) == verdict])
    assert labels(axes) == {
        point(answer.record): f"answer, confirmed\n{words.energy(answer.record.evaluation.energy_pj)}, 2.86x less",
        point(answer.right_sized.record): "right-sized\n1.39 nJ, 2x less",
        point(result.baseline): "baseline\n2.78 nJ",
    }
    assert axes.get_title(loc="left") == (
        f"{result.search.name} (digits) on {result.search.hardware}\nCheapest within 3.00 points of the baseline"
    )
    assert figure.legends[0].get_texts()[0].get_text() == "target, 94.10%"
    shown = [tick.get_text() for tick in axes.get_xticklabels()]
    assert "1 nJ" in shown
    assert axes.get_ylabel() == "accuracy on validation images, %"


@pytest.mark.slow
def test_an_evaluation_may_be_several_things(result: SearchResult) -> None:
    answer, baseline = result.answer, result.baseline
    assert answer.record is not None
    only = RightSized(record=baseline, confirmation=None)
    nothing = replace(answer, record=baseline, right_sized=only, confirmation=answer.baseline_confirmation)
    (axes,) = replace(result, answer=nothing).plot().axes
    assert labels(axes) == {point(baseline): "answer = right-sized = baseline, confirmed\n2.78 nJ"}
    (axes,) = replace(result, answer=replace(nothing, record=None)).plot().axes
    assert labels(axes) == {point(baseline): "right-sized = baseline\n2.78 nJ"}
    unsure = replace(answer, confirmation=None, confirmations={})
    (axes,) = replace(result, answer=unsure).plot().axes
    assert labels(axes)[point(answer.record)] == (
        f"answer, not confirmed\n{words.energy(answer.record.evaluation.energy_pj)}, 2.86x less"
    )


def test_what_is_far_less_accurate_is_counted_instead_of_drawn(result: SearchResult) -> None:
    many = crowded(result, 0)
    stopped = replace(many.evaluations[-1], evaluation=replace(many.evaluations[-1].evaluation, stopped=True))
    (axes,) = replace(many, evaluations=(*many.evaluations[:-1], stopped)).plot().axes
    low, high = axes.get_ylim()
    inside = [one for one in many.evaluations[:-1] if low <= one.evaluation.accuracy * 100]
    left = len(many.evaluations) - 1 - len(inside)
    assert left > 0
    assert drawn(axes, f"evaluations ({left} less accurate ones are not shown)") == places(inside)
    assert all(low < one.evaluation.accuracy * 100 < high for one in many.front)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_labels_cover_neither_each_other_nor_what_they_name(result: SearchResult, seed: int) -> None:
    figure = crowded(result, seed).plot()
    (axes,) = figure.axes
    figure.draw_without_rendering()
    boxes = []
    for note in (one for one in axes.texts if isinstance(one, Annotation)):
        note.get_window_extent()
        boxes.append(Text.get_window_extent(note))
    assert len(boxes) == 3
    assert not any(Bbox.intersection(one, other) for one, other in combinations(boxes, 2))
    picture, named = axes.get_window_extent(), axes.transData.transform(list(labels(axes)))
    for box in boxes:
        assert box.count_contains(named) == 0
        assert picture.x0 <= box.x0 < box.x1 <= picture.x1
        assert picture.y0 <= box.y0 < box.y1 <= picture.y1


@pytest.mark.slow
def test_a_search_with_nothing_on_its_front_is_drawn(result: SearchResult) -> None:
    bound = Target(max_accuracy_drop=0.03, max_area=0.01)
    answer = replace(result.answer, record=None, confirmation=None, target=bound)
    for evaluations in (result.evaluations, ()):
        figure = replace(result, front=(), evaluations=evaluations, answer=answer).plot()
        assert len(labels(figure.axes[0])) == 2


@pytest.mark.slow
def test_a_picture_is_written_where_it_is_wanted(result: SearchResult, tmp_path: Path) -> None:
    figure = result.plot(tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    assert len(figure.axes) == 1
    result.plot(str(tmp_path / "front.svg"))
    assert ">answer, confirmed<" in (tmp_path / "front.svg").read_text()


def test_a_file_that_is_no_picture_is_refused(result: SearchResult) -> None:
    with pytest.raises(UsageError, match=r"cannot draw to front\.txt: its suffix must be one of \.png, \.svg, \.pdf"):
        result.plot("front.txt")
    with pytest.raises(UsageError, match=r"`path` must be the path of a picture, such as 'front\.png', got 3"):
        result.plot(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(("least", "most"), [(1000, 1000), (1000, 1001), (5.9e4, 1.46e5), (210, 480), (1000, 9e6)])
def test_energies_have_at_least_two_labels(result: SearchResult, least: float, most: float) -> None:
    def at(record: Record, energy: float) -> Record:
        return replace(record, evaluation=replace(record.evaluation, components_pj={"mac": energy}))

    answer = result.answer
    baseline, found, sized = (
        at(one, energy)
        for one, energy in ((result.baseline, most), (answer.record, least), (answer.right_sized.record, most))
        if one
    )
    narrow = replace(
        result,
        baseline=baseline,
        front=(found, baseline),
        evaluations=(found, baseline),
        answer=replace(answer, baseline=baseline, record=found, right_sized=replace(answer.right_sized, record=sized)),
    )
    figure = narrow.plot()
    (axes,) = figure.axes
    figure.draw_without_rendering()
    left, right = axes.get_xlim()
    assert left < least <= most < right
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    shown = [label.get_text() for place, label in ticks if left <= place <= right]
    assert 2 <= len(set(shown)) == len(shown) <= 8


def test_accuracies_that_may_be_too_high_say_so(result: SearchResult) -> None:
    task = replace(result.search.task, train="none")
    unclean = replace(result, search=replace(result.search, task=task), answer=replace(result.answer, task=task))
    assert repr(unclean).endswith(f"\n{words.CAUTION}")
    assert "too high" not in repr(result)
    drawn, clean = (one.plot().legends[0].get_title().get_text() for one in (unclean, result))
    assert " ".join(drawn.split()) == words.CAUTION
    assert clean == ""
