"""Results as notebooks show them."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from search.answers.comparison import COMBINATIONS, Choice, Comparison, Row
from search.answers.confirmation import RightSized
from search.answers.result import SearchResult
from search.errors import UsageError
from search.report.comparison import print_comparison, write_comparison
from search.report.console import print_result
from search.report.json_values import row_json
from search.space.target import Target
from tests.support.fakes import formula
from tests.support.stored import SPACE


class Page(HTMLParser):
    """A table and the sentences around it, from HTML whose elements are all closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.kinds: list[str] = []
        self.sentences: list[str] = []
        self.style = ""
        self.names: set[str] = set()
        self.feed(html)
        self.close()
        assert self.tags == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {tag, *(name for name, _ in attrs)}
        if tag == "tr":
            self.rows.append([])
            self.kinds.append(dict(attrs).get("class") or "")
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("p", "caption"):
            self.sentences.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.tags.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.tags[-1] == "style":
            self.style += data
        elif self.tags[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        else:
            self.sentences[-1] += data


def test_a_front_is_a_table_with_the_answer_the_right_sized_network_and_the_baseline(result: SearchResult) -> None:
    page = Page(result._repr_html_())
    heads, *rows = page.rows
    assert page.sentences[0] == f"Front of {result.search.name} (digits)"
    assert heads[:9] == ["", "acc %", "±", "worst", "test", "energy", "saves", "right-sized", "area"]
    assert [row[0] for row in rows] == ["1 baseline ✓", "2 right-sized", "3 answer ✓", "4 ✗", "baseline ✓"]
    assert [kind.split() for kind in page.kinds[1:]] == [[], ["unsure"], ["answer"], ["unsure"], []]
    for row, record in zip(rows, [*result.front, result.baseline], strict=True):
        known = row_json(record, result.answer)
        for cell, name, factor in ((1, "accuracy", 100), (2, "accuracy_standard_error", 100), (8, "area_ratio", 1)):
            assert float(row[cell].rstrip("x")) == pytest.approx(known[name] * factor, abs=0.005)
        for cell, name in ((6, "saving"), (7, "saving_right_sized")):
            assert float(row[cell].rstrip("x")) == pytest.approx(known[name], rel=0.005)
        size = {"pJ": 1, "nJ": 1000}[row[5].split()[1]]
        assert float(row[5].split()[0]) * size == pytest.approx(known["energy_pj"], rel=0.005)
        assert f"w{record.evaluation.candidate.weight_bits}a8" in row[11]


def test_its_sentences_are_those_of_the_console(result: SearchResult) -> None:
    written = io.StringIO()
    print_result(Console(file=written, width=400), result)
    said = [" ".join(line.split()) for line in written.getvalue().splitlines()]
    page = Page(result._repr_html_())
    assert len(page.sentences) > 6
    assert set(page.sentences[1:]) <= set(said)


def test_what_is_not_on_the_front_has_a_row_below_it(result: SearchResult) -> None:
    answer = result.answer
    assert answer.record is not None
    front = tuple(one for one in result.front if one.key not in (answer.record.key, answer.right_sized.record.key))
    rows = Page(replace(result, front=front)._repr_html_()).rows
    assert [row[0] for row in rows[1:]] == ["1 baseline ✓", "2 ✗", "answer ✓", "right-sized", "baseline ✓"]
    far = replace(result.baseline.evaluation, chip_accuracies=(0.5,))
    lost = replace(result.front[0], key="0" * 64, evaluation=far)
    page = Page(replace(result, front=(*result.front, lost))._repr_html_())
    assert len(page.rows) == 6
    assert "1 more on the front, over 10 points below the baseline: result.front has all of them" in page.sentences


def test_what_is_not_confirmed_says_how_to_confirm_it(result: SearchResult) -> None:
    unsure = replace(result.answer, confirmation=None, confirmations={})
    page = Page(replace(result, answer=unsure)._repr_html_())
    assert [kind for kind in page.kinds if "answer" in kind] == ["answer unsure"]
    (line,) = [line for line in page.sentences if line.startswith("NOT CONFIRMED")]
    assert line.endswith(f"Confirm it with: search.resume('{result.search.name}')")
    (line,) = [line for line in Page(unsure._repr_html_()).sentences if line.startswith("NOT CONFIRMED")]
    assert line.endswith("Confirm it with: search.best(..., confirm=True)")


def test_an_answer_is_a_table_of_what_it_is_compared_with(result: SearchResult) -> None:
    answer = result.answer
    page = Page(answer._repr_html_())
    assert page.sentences[0] == "Cheapest within 3.00 points of the baseline"
    assert [row[0] for row in page.rows[1:]] == ["answer ✓", "right-sized", "baseline ✓"]
    assert any(line.startswith("Cheapest within 3.00 points of the baseline, confirmed: ") for line in page.sentences)
    alone = replace(answer, record=answer.baseline, right_sized=RightSized(record=answer.baseline, confirmation=None))
    assert [row[0] for row in Page(alone._repr_html_()).rows[1:]] == ["answer, right-sized, baseline ✓"]
    none = Page(replace(answer, record=None, target=Target(min_accuracy=0.999))._repr_html_())
    assert [row[0] for row in none.rows[1:]] == ["right-sized", "baseline"]
    assert none.sentences[1:] == ["No configuration is at 99.90% or more."]


def compared(*, confirm: bool = True, name: str = "made-up") -> Comparison:
    """A comparison made up: the combination at place n saves n + 2 times at 1 point, twice that at 2, confirmed."""
    candidate = SPACE.baseline()
    baseline = Choice(
        loss=0.0, id="0" * 12, candidate=candidate, energy_pj=2000.0, saving=1.0, accuracy=0.95, confirmed=True
    )

    def choices(place: int) -> Iterator[Choice]:
        for loss, saving in ((0.01, place + 2.0), (0.02, 2 * place + 4.0)):
            yield replace(baseline, loss=loss, saving=saving, confirmed=confirm and loss == 0.02)

    return Comparison(
        name=name,
        dataset="digits",
        network=None,
        hardware="flexible-45nm",
        seed=0,
        budget=60,
        effort="standard",
        confirm=confirm,
        caution=None,
        losses=(0.01, 0.02),
        baseline=baseline,
        rows=tuple(
            Row(
                combination=combination,
                search=f"made-up{combination.suffix}",
                evaluations=60,
                distinct=50,
                failed=0,
                choices=tuple(choices(place)),
            )
            for place, combination in enumerate(COMBINATIONS)
        ),
    )


@pytest.mark.parametrize("confirm", [True, False])
def test_a_comparison_is_the_table_of_the_console(confirm: bool) -> None:
    comparison = compared(confirm=confirm)
    written = io.StringIO()
    print_comparison(Console(file=written, width=400), comparison, command="search compare")
    lines = [line.strip() for line in written.getvalue().splitlines()]
    page = Page(comparison._repr_html_())
    assert page.sentences[0] == " ".join(lines[:2])  # which is as wide there as the table
    assert [" ".join(row) for row in page.rows[1:]] == [" ".join(line.split()) for line in lines if "50/60" in line]
    assert len(page.rows) == 1 + len(COMBINATIONS)
    *told, last = page.sentences[1:]
    assert told == lines[-len(page.sentences) + 1 : -1]
    if confirm:
        assert last == lines[-1]
    else:
        assert last.endswith("Confirm them with: search.compare(..., name='made-up', confirm=True)")


def test_nothing_that_users_name_becomes_markup(result: SearchResult) -> None:
    evil = "<script>alert('x')</script> & \"<b>\""
    named = replace(SPACE.baseline(), multiplier=f"{evil}@01234567", family=evil)
    other = replace(result.front[0], key="'><b>" + "0" * 59, evaluation=formula(named))
    shown = replace(
        result,
        search=replace(result.search, name=evil),
        front=(other, *result.front),
        answer=replace(result.answer, confirmation=None),
    )
    page = Page(shown._repr_html_())
    assert page.rows[1][9] == f"{evil} 3x8"
    assert page.rows[1][12] == evil
    assert page.sentences[0] == f"Front of {evil} (digits)"
    for html in (shown, shown.answer, compared(name=evil)):
        found = Page(html._repr_html_())
        assert found.names <= {
            *("div", "style", "table", "caption", "thead", "tbody", "tr", "th", "td", "p"),
            *("class", "scope", "title"),
        }


def test_the_table_has_no_colours_of_text_of_its_own(result: SearchResult) -> None:
    for shown in (result, result.answer, compared()):
        style = Page(shown._repr_html_()).style
        assert set(re.findall(r"(?<![-\w])color: ([^;]+);", style)) == {"inherit"}
        assert set(re.findall(r"background: ([^;]+);", style)) == {"none", "rgba(68, 119, 170, .22)"}
        assert "http" not in shown._repr_html_()


@pytest.mark.slow
def test_a_comparison_is_drawn_as_the_command_draws_it(tmp_path: Path) -> None:
    figure = compared().plot(tmp_path / "own.png")
    _, drawn, _ = write_comparison(compared(), tmp_path)
    assert (tmp_path / "own.png").read_bytes() == drawn.read_bytes()
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "one technique alone",
        "two together",
        "all four together",
    ]
    with pytest.raises(UsageError, match=r"its suffix must be one of \.png, \.svg, \.pdf"):
        compared().plot("comparison")
