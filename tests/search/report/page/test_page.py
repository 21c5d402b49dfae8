"""The page of a search: its text, and the page in a browser."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import search
from search.answers.confirmation import Answer
from search.answers.result import SearchResult, front, front_hypervolume, result_of
from search.answers.stored import Stored
from search.answers.words import CAUTION
from search.cli.main import cli
from search.engine import run_search
from search.errors import UnknownNameError, UsageError
from search.evaluation.evaluation import Evaluation
from search.observer import Observer
from search.report.page.charts import MOST_POINTS, alone, chart_data, chosen
from search.report.page.page import render
from search.space.candidate import Candidate
from search.space.target import Target
from search.space.task import CustomNetwork, find_task
from search.store.database import Store
from search.store.records import Record, SearchRecord, TrialEnd
from tests.support.browser import Browser
from tests.support.fakes import SETTINGS, SETUP, TARGET, FakeExecutor, FakeGenomeModel, formula, new_search
from tests.support.stored import CONFIRMED, DROP, REJECTED, RIGHT_SIZED, store_rejected
from tests.support.stored import SETUP as STORED_SETUP
from tests.support.trained_answers import given_as_object, trained_answer

pytestmark = pytest.mark.slow

SPACE = find_task("digits").space
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"quotes\" 'too' {{data}}"


def measured(candidate: Candidate) -> Evaluation:
    """A formula's evaluation with every field that real ones have."""
    found = formula(candidate)
    return replace(found, energy_range_pj=(found.energy_pj / 2, found.energy_pj * 2), seconds=1.5)


def run(
    storage: Path,
    *,
    budget: int = 60,
    target: Target = TARGET,
    evaluate: Callable[[Candidate], Evaluation] = measured,
) -> str:
    """Run a search in its own database; return its name."""
    with Store.open(f"sqlite:///{storage}", create=True) as store:
        found = new_search(store, budget=budget, target=target)
        executor = FakeExecutor(evaluate=evaluate)
        run_search(
            found,
            SPACE,
            store,
            executor,
            genome_model=FakeGenomeModel(SPACE),
            key_of=lambda candidate: candidate.key,
            observer=Observer(),
        )
        return found.name


def stored(storage: Path, name: str = "digits-1") -> tuple[SearchResult, list[TrialEnd]]:
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        found = store.searches.find(name)
        return result_of(store, found), store.searches.trial_ends(found)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of 60 evaluations, some of which failed with an error that an HTML parser could misread."""

    def sometimes(candidate: Candidate) -> Evaluation:
        if candidate.weight_bits == 2:
            raise ArithmeticError(HOSTILE)
        return measured(candidate)

    path = tmp_path_factory.mktemp("report") / "results.db"
    run(path, evaluate=sometimes)
    return path


class Page(HTMLParser):
    """The text of a page, its scripts, and the addresses that it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.loads: list[str] = []
        self.words = ""
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._inside.append(tag)
        if tag == "script":
            self.scripts.append("")
        self.loads += [
            value or ""
            for name, value in attrs
            if name in ("src", "srcset", "data", "action", "poster") or (name == "href" and tag != "a")
        ]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words += data
        elif self._inside[-1] == "script":
            self.scripts[-1] += data


def written(result: SearchResult, trials: list[TrialEnd]) -> Page:
    return Page(render(result, trials, written_by={"crosslayer": "1.2.3"}))


def test_the_page_shows_the_result_and_how_it_was_found(storage: Path) -> None:
    result, trials = stored(storage)
    found = written(result, trials)
    words = " ".join(found.words.split())
    cheapest = result.answer.record
    assert cheapest is not None
    assert "Nothing is confirmed within 2 points of the baseline's accuracy." in words
    assert (
        f"The cheapest measured, not confirmed, costs {result.saving(cheapest):.3g}x less than the baseline." in words
    )
    assert "scikit-learn's handwritten digits, 8x8" in words
    assert result.failed > 0
    assert re.search(rf"Found with 60 evaluations\b.* and {result.failed} more failed\.", words)
    for record in (*result.front, result.baseline):
        assert record.id in words
    for word in ("crosslayer 1.2.3", "any", ", ".join(SPACE.multipliers), "60 evaluations, 10 in a generation"):
        assert word in words
    assert f"{result.hypervolume:.4f}" in words
    assert f"{1.5 * result.distinct // 60:.0f} min" in words


def test_the_answer_is_at_the_target_accuracy(tmp_path: Path) -> None:
    run(tmp_path / "results.db", target=Target(min_accuracy=0.9))
    words = written(*stored(tmp_path / "results.db")).words
    assert "Nothing is confirmed at 90.00 % accuracy or more." in words
    result, trials = stored(tmp_path / "results.db")
    assert "Not confirmed by fresh runs: " in written(result, trials).words
    assert "search resume digits-1." in written(result, trials).words
    unreached = replace(result, answer=replace(result.answer, target=Target(min_accuracy=0.9999), record=None))
    assert "No configuration at 99.99 % accuracy or more." in written(unreached, trials).words


def test_the_page_says_how_a_network_that_came_trained_was_confirmed(storage: Path) -> None:
    result, trials = stored(storage)

    def shown(answer: Answer) -> Page:
        search = replace(result.search, task=answer.task)
        return written(replace(result, search=search, answer=answer, baseline=answer.baseline), trials)

    unclean = " ".join(shown(trained_answer("none", clean=False)).words.split())
    assert (
        "Confirmed by a measurement of the same network, bootstrapped over 6,000 images and 20 chips: 95.00" in unclean
    )
    assert unclean.index("91.23 % on test images") < unclean.index("bootstrapped over")
    assert CAUTION in unclean
    assert "bootstraps" in unclean
    assert "fresh runs" not in unclean
    assert "By class, on test images" in unclean
    untried = replace(trained_answer("none", confirmed=False), task=given_as_object("none"))
    given = shown(untried).words
    assert "search.resume('digits-1', model=...) in Python" in given
    assert "search resume" not in given
    clean = " ".join(shown(trained_answer("finetune")).words.split())
    assert "Confirmed by 5 fresh runs, each retrained" in clean
    assert CAUTION not in clean


def test_the_chart_marks_the_answer_wherever_it_lies_but_not_the_baseline(storage: Path) -> None:
    result, trials = stored(storage)
    hidden = next(record for record in result.evaluations if record not in (*result.front, result.baseline))
    for record, marked in ((hidden, [hidden.id]), (result.baseline, []), (None, [])):
        found = replace(result, answer=replace(result.answer, record=record))
        assert chart_data(found, trials)["answer"]["id"] == marked


def test_the_page_needs_nothing_from_anywhere(storage: Path) -> None:
    found = written(*stored(storage))
    assert found.loads == ["data:,"]
    assert len(found.scripts) == 3
    assert "plotly.js" in found.scripts[1]


def test_no_name_that_a_user_chose_is_markup(storage: Path) -> None:
    result, trials = stored(storage)
    path = '<i onclick="x">"nets"</i>:build'
    network = CustomNetwork(path=path, folder="", max_depth=3, max_width=8, fingerprint="00")
    multiplier = "</script><b>mine</b>@0123"

    def renamed(record: Record) -> Record:
        candidate = replace(record.evaluation.candidate, family=path, multiplier=multiplier)
        return replace(record, evaluation=replace(record.evaluation, candidate=candidate))

    hostile = replace(
        result,
        search=replace(
            result.search,
            name=HOSTILE,
            hardware=HOSTILE,
            task=find_task("digits").with_network(network),
            multipliers=(multiplier,),
        ),
        baseline=renamed(result.baseline),
        front=tuple(map(renamed, result.front)),
        evaluations=tuple(map(renamed, result.evaluations)),
    )
    text = render(hostile, trials, written_by={})
    found = Page(text)
    assert len(found.scripts) == 3
    assert found.loads == ["data:,"]
    assert not re.search(r"<(i|b|img) ?(onclick|src=x|>mine)", text.replace(found.scripts[1], ""))
    assert found.words.count(HOSTILE) >= 3  # the title, the heading, the error: as they were written
    data = json.loads(found.scripts[0])
    assert data["name"] == HOSTILE
    assert data["front"]["words"][0][0].startswith(path)


def test_one_evaluation_is_enough_for_a_page(tmp_path: Path) -> None:
    run(tmp_path / "results.db", budget=1)
    words = written(*stored(tmp_path / "results.db")).words
    assert "Nothing cheaper is confirmed within 2 points of the baseline's accuracy." in words
    assert "Unknown: this takes at least 30 different evaluations." in words
    assert "Found with 1 evaluation." in words
    assert "1 evaluation, 10 in a generation" in words
    assert "1 evaluations" not in words


def test_an_answer_that_costs_what_its_references_cost_says_so(storage: Path) -> None:
    result, trials = stored(storage)
    alike = replace(result.baseline, key="0" * 64)
    for key, said in ((alike.key, "It is the right-sized"), ("1" * 64, "It costs the same as the right-sized")):
        sized = replace(result.answer.right_sized, record=replace(alike, key=key))
        found = replace(result, answer=replace(result.answer, record=alike, right_sized=sized))
        words = " ".join(written(found, trials).words.split())
        assert "The cheapest measured, not confirmed, costs the same as the baseline." in words
        assert said in words


def test_an_unfinished_search_says_so(tmp_path: Path) -> None:
    run(tmp_path / "results.db", budget=10)
    result, trials = stored(tmp_path / "results.db")
    longer = replace(result, search=replace(result.search, budget=25, finished_at=None))
    words = written(longer, trials).words
    assert "The search is not finished: 15 evaluations are left." in words
    assert "not yet" in words


def test_failed_evaluations_are_listed_with_their_errors(storage: Path) -> None:
    result, trials = stored(storage)
    words = written(result, trials).words
    assert "Failed evaluations" in words
    assert HOSTILE in words
    failed = [str(trial.number) for trial in trials if trial.error]
    assert ", ".join(failed[:8]) in words
    assert "Failed evaluations" not in written(result, [trial for trial in trials if not trial.error]).words


def records_of(candidates: list[Candidate]) -> list[Record]:
    return [
        Record(key=f"{i:064}", setup=SETUP, seed=0, evaluation=formula(c), test_accuracies=None)
        for i, c in enumerate(candidates)
    ]


def test_knobs_that_do_not_vary_are_named(tmp_path: Path) -> None:
    run(tmp_path / "results.db", budget=40)
    result, trials = stored(tmp_path / "results.db")

    def of_baseline(record: Record) -> Record:
        return replace(record, evaluation=replace(record.evaluation, candidate=SPACE.baseline()))

    constant = replace(result, evaluations=tuple(map(of_baseline, result.evaluations)), front=result.front[:1])
    constant = replace(constant, front=tuple(map(of_baseline, constant.front)))
    found = written(constant, trials)
    assert "Unknown: no knob varied." in found.words
    axes = json.loads(found.scripts[0])["knob_axes"]
    assert axes["axes"] == []
    assert "memory 0.9 V" in axes["constant"]


def test_each_technique_alone_is_marked() -> None:
    baseline = SPACE.baseline()
    records = records_of(
        [
            baseline,
            replace(baseline, width=2),
            replace(baseline, sparsity=0.5),
            replace(baseline, multiplier="asm-1", weight_bits=6),
            replace(baseline, supply_v=0.8, robust_bits=1),
            replace(baseline, supply_v=0.8, sparsity=0.5),
        ]
    )
    found = alone(bare_result(records))
    assert {name: [record.key for record in members] for name, members in found.items()} == {
        name: [records[place].key] for place, name in enumerate(("network", "pruning", "multiplier", "memory"), start=1)
    }


def bare_result(records: list[Record], **changes: Any) -> SearchResult:
    """Return a result of these evaluations, the first of which is the baseline."""
    began = datetime(2026, 1, 1)
    record = SearchRecord(
        id=1,
        name="digits-1",
        task=find_task("digits"),
        hardware="any",
        seed=0,
        budget=len(records),
        population_size=10,
        target=TARGET,
        multipliers=SPACE.multipliers,
        settings=SETTINGS,
        space=SPACE.to_dict(),
        data_dir=None,
        created_at=began,
        finished_at=began,
    )
    members = tuple(front(records))
    stored = Stored(
        task=find_task("digits"),
        hardware="any",
        effort="standard",
        baseline=records[0],
        max_area=None,
        front=tuple(reversed(members)),
        tried=(),
        plain=(),
        runs={},
    )
    return SearchResult(
        search=replace(record, **changes),
        baseline=records[0],
        front=members,
        evaluations=tuple(records),
        finished=len(records),
        distinct=len(records),
        failed=0,
        answer=replace(stored.answer(TARGET), record=members[-1]),
        stored=stored,
    )


def test_the_chosen_ones_are_the_answers_within_their_loss(storage: Path) -> None:
    result, _ = stored(storage)
    bars = chosen(result)
    assert bars[0] == ("Baseline", result.baseline)
    assert len({record.key for _, record in bars}) == len(bars)
    for loss in (0.5, 1, 2, 5):
        record = result.stored.answer(Target(max_accuracy_drop=loss / 100)).record
        assert record is not None
        (label,) = [label for label, one in bars if one.key == record.key]
        assert record == result.baseline or (f"{loss:g}" in label and label.endswith(", not confirmed"))


def test_the_page_names_the_confirmed_answer_everywhere(tmp_path: Path) -> None:
    store_rejected(tmp_path / "results.db")
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=False) as store:
        search = new_search(store, setup=STORED_SETUP, target=Target(max_accuracy_drop=DROP))
        for number, one in enumerate((SPACE.baseline(), CONFIRMED, REJECTED, RIGHT_SIZED)):
            store.searches.record_trial(search, number, evaluation_key=one.key)
    result, trials = stored(tmp_path / "results.db")
    words = " ".join(written(result, trials).words.split())
    assert "2.86x less energy than the baseline within 3 points" in words
    assert "It costs 1.43x less than the right-sized network, the cheapest dense, exact, 8-bit one at" in words
    assert "that keeps the accuracy (measured once)." in words
    data = chart_data(result, trials)
    assert data["answer"]["id"] == [CONFIRMED.key[:12]]
    verdicts = dict(zip(data["front"]["id"], data["front"]["verdict"], strict=True))
    assert verdicts[REJECTED.key[:12]] == "rejected"
    within = {label: record.evaluation.candidate for label, record in chosen(result)}
    assert within["Within 5 points"] == CONFIRMED
    assert REJECTED not in within.values()
    html = render(result, trials, written_by={"crosslayer": "1.2.3"})
    rows = re.findall(r"<tr class='([^']*)'>(.*?)</tr>", html)
    marks = {next(one for one in verdicts if one in row): (mark, row) for mark, row in rows}
    assert marks[CONFIRMED.key[:12]][0] == "answer"
    assert marks[REJECTED.key[:12]][0] == "unsure"
    assert ">rejected<" in marks[REJECTED.key[:12]][1]
    assert marks[RIGHT_SIZED.key[:12]][0] == "right-sized unsure"


def test_the_hypervolume_rises_to_that_of_the_front(storage: Path) -> None:
    result, trials = stored(storage)
    course = chart_data(result, trials)["course"]
    volumes = course["hypervolume"]
    assert course["evaluation"] == list(range(1, result.finished + 1))
    assert volumes == sorted(volumes)
    assert volumes[-1] == pytest.approx(result.hypervolume)
    records = {record.key: record for record in result.evaluations}
    early = [records[t.evaluation_key] for t in trials if t.evaluation_key][:25]
    assert volumes[24] == pytest.approx(front_hypervolume(early, result.baseline))


def test_only_some_of_very_many_evaluations_are_drawn_and_the_page_says_so() -> None:
    candidates = [
        replace(
            SPACE.baseline(), width=1 + i % 8, sparsity=round(i // 8 % 95 / 100, 2), supply_v=0.75 + i // 760 / 1000
        )
        for i in range(2 * MOST_POINTS)
    ]
    result = bare_result(records_of([SPACE.baseline(), *candidates]))
    data = chart_data(result, [])
    assert len(data["behind"]["id"]) == MOST_POINTS
    assert data["behind"]["id"][0] == result.baseline.id
    assert "2,000 of 4,001 evaluations are drawn" in written(result, []).words


def test_a_report_is_written_from_python_and_replaces_nothing(storage: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert search.write_report("digits-1", path, storage=str(storage)) == path
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert re.search(r"crosslayer [\d.]+, torch 2[\d.]+.*, optuna [\d.]+, Python 3", text)
    with pytest.raises(UsageError, match=r"page.html exists; choose another file, or replace it with `overwrite`"):
        search.write_report("digits-1", path, storage=str(storage))
    path.write_text("mine")
    search.write_report("digits-1", path, storage=str(storage), overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(UsageError, match=r"cannot write .*: No such file or directory; choose another file"):
        search.write_report("digits-1", tmp_path / "gone" / "page.html", storage=str(storage))
    with pytest.raises(UnknownNameError, match=r"no search named 'digits-2'.*did you mean 'digits-1'"):
        search.write_report("digits-2", tmp_path / "other.html", storage=str(storage))
    assert not (tmp_path / "other.html").exists()


def test_the_command_writes_a_file_named_after_the_search(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def call(*more: str) -> Result:
        return CliRunner().invoke(cli, ["report", "digits-1", "--storage", str(storage), *more])

    assert call().stdout == "Wrote digits-1.html\n"
    refused = call()
    assert refused.exit_code == 2
    assert refused.stderr == ("search: digits-1.html exists; choose another file, or replace it with --overwrite\n")
    assert call("--overwrite").exit_code == 0
    assert call("--out", "other.html").stdout == "Wrote other.html\n"


# In a browser --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(storage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search.write_report("digits-1", tmp_path_factory.mktemp("pages") / "page.html", storage=str(storage))


WIDER_THAN_THE_WINDOW = "document.documentElement.scrollWidth > innerWidth"
CHARTS = ("front-chart", "energy-chart", "knobs-chart", "progress-chart")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_fits_its_window_without_errors(browser: Browser, file: Path, width: int, dark: bool) -> None:
    browser.requests.clear()
    browser.complaints.clear()
    browser.show(file, width=width, dark=dark)
    for chart in CHARTS:
        browser.wait_for(f"document.querySelector('#{chart} .main-svg') !== null")
    assert browser.value("innerWidth") == width
    assert not browser.value(WIDER_THAN_THE_WINDOW)
    assert browser.value("document.querySelector('#front-chart .main-svg').clientWidth") <= width
    browser.resize(700)
    browser.wait_for("document.querySelector('#front-chart .main-svg').clientWidth > 500")
    browser.wait_for("document.querySelector('#front-chart .main-svg').clientWidth <= 700")
    assert not browser.value(WIDER_THAN_THE_WINDOW)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("data:", "blob:"))] == [file.as_uri()]


def test_a_page_of_one_evaluation_draws_too(browser: Browser, tmp_path: Path) -> None:
    run(tmp_path / "results.db", budget=1)
    one = search.write_report("digits-1", tmp_path / "one.html", storage=str(tmp_path / "results.db"))
    browser.complaints.clear()
    browser.show(one, width=1440)
    browser.wait_for("document.querySelector('#progress-chart .main-svg') !== null")
    assert "No knob varied" in browser.value("document.getElementById('knobs-chart').textContent")
    assert browser.complaints == []


def test_the_progress_of_few_evaluations_has_ticks_at_whole_numbers(browser: Browser, tmp_path: Path) -> None:
    run(tmp_path / "results.db", budget=4)
    few = search.write_report("digits-1", tmp_path / "few.html", storage=str(tmp_path / "results.db"))
    browser.show(few, width=1440)
    ticks = "[...document.querySelectorAll('#progress-chart .xtick text')].map((tick) => tick.textContent)"
    browser.wait_for(f"{ticks}.length > 0")
    assert browser.value(ticks) == ["0", "1", "2", "3", "4"]


def test_the_charts_answer_to_their_choices(browser: Browser, file: Path) -> None:
    browser.complaints.clear()
    browser.show(file, width=1440)
    y_range = "document.getElementById('front-chart').layout.yaxis.range"
    near = browser.value(y_range)
    browser.value("document.querySelector('input[name=front-range][value=all]').click()")
    browser.wait_for(f"{y_range}[0] < {near[0]} - 5")
    for scale, axis in (("energy", "linear"), ("log", "log"), ("share", "linear")):
        browser.value(f"document.querySelector('input[name=energy-scale][value={scale}]').click()")
        browser.wait_for(f"document.getElementById('energy-chart')._fullLayout.xaxis.type === '{axis}'")
    colours = "document.getElementById('knobs-chart').data[0].line.cmin"
    before = browser.value(colours)
    browser.value("document.querySelector('input[name=knobs-colour][value=energy]').click()")
    browser.wait_for(f"{colours} !== {before}")
    assert browser.complaints == []


def test_the_table_sorts_by_the_keyboard(browser: Browser, file: Path) -> None:
    browser.show(file, width=1440)
    energies = (
        "[...document.querySelectorAll('table.front tbody')[0].rows].map((row) => Number(row.cells[3].dataset.value))"
    )
    heading = "document.querySelectorAll('table.front th')[3]"
    browser.value(f"{heading}.querySelector('button').focus()")
    for order, reverse in (("descending", True), ("ascending", False)):
        browser.press("Enter", 13)
        browser.wait_for(f"{heading}.getAttribute('aria-sort') === '{order}'")
        found = browser.value(energies)
        assert found == sorted(found, reverse=reverse)
    assert browser.value("document.querySelectorAll('table.front th[aria-sort=ascending]').length") == 1


def test_buttons_copy_a_configuration_and_a_command(browser: Browser, storage: Path, file: Path) -> None:
    result, _ = stored(storage)
    browser.show(file, width=1440)
    # The text for the clipboard, which a headless browser cannot read back.
    browser.value("window.copied = []; navigator.clipboard.writeText = async (text) => { copied.push(text); }; 0")
    browser.value(
        "for (const button of document.querySelector('table.front tbody tr').querySelectorAll('.copy')) button.click()"
    )
    browser.wait_for("copied.length === 2")
    configuration, command = browser.value("copied")
    assert Candidate.from_dict(json.loads(configuration)) == result.front[0].evaluation.candidate
    assert command == f"search export {result.front[0].id} --out DIR"
    browser.wait_for("document.getElementById('said').textContent.startsWith('Copied: ')")
