"""The web page, in a browser, served by the real service."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

import pytest
import sqlalchemy as sa

import service
from energy import COMPONENTS, load_hardware
from search.answers.stored import Stored
from search.answers.words import configuration
from search.report import json_values
from search.space.candidate import Candidate
from search.space.task import find_task
from search.store.database import Store
from search.store.schema import open_engine
from service.database import Database
from service.job_state import JobState
from service.jobs import Job
from service.keys import KeyStore, Scope
from service.leases import Leases
from service.questions import Question
from service.queue import JobQueue, QueueLimits
from service.tables import JobEventRow, JobRow
from tests.support.browser import Browser
from tests.support.fakes import formula, fresh_run
from tests.support.serving import served
from tests.support.stored import (
    CONFIRMED,
    DROP,
    HARDWARE,
    REJECTED,
    RUNS,
    SETUP,
    candidate,
    opened_jobs,
    store_rejected,
)

HOSTILE = "<img src=x onerror=alert(1)>"
STATIC = Path(service.__file__).parent / "static"


def test_every_component_of_the_energy_has_a_name_and_a_colour() -> None:
    style, words = (STATIC / "page.css").read_text(), (STATIC / "words.js").read_text()
    for name in COMPONENTS:
        assert f"\n  {name}: " in words or f" {name}: " in words
        assert style.count(f"--{name}: #") == 2, "a colour for light and for dark"
        assert f".part.{name} {{ fill: var(--{name})" in style or f".part.{name}, .part {{" in style
        assert f".chip.{name} {{ background: var(--{name})" in style


BASELINE = candidate()
HOSTILE_ONE = candidate(width=4, multiplier=f"{HOSTILE}@01234567", sparsity=0.3, weight_bits=5, activation_bits=4)
ALONE = {
    "network": candidate(width=2),
    "pruning": candidate(sparsity=0.5),
    "multiplier": candidate(weight_bits=4, multiplier="asm-1"),
    "memory": candidate(supply_v=0.8),
}
STORED = (
    BASELINE,
    *ALONE.values(),
    candidate(width=1, sparsity=0.3, weight_bits=4, supply_v=0.8),
    candidate(width=2, sparsity=0.3, weight_bits=4, activation_bits=4),
    HOSTILE_ONE,
    candidate(width=5, sparsity=0.3, weight_bits=6, activation_bits=5, multiplier="drum-4", multiplier_first="exact"),
    candidate(width=6, sparsity=0.3, activation_bits=6),
)

HEADING = "document.getElementById('answer-heading').textContent"
ANSWER = "document.getElementById('answer').textContent"
ANSWERED = "document.getElementById('answer').getAttribute('aria-busy') === 'false'"
SAID = "document.getElementById('said').textContent"
TARGET = "document.getElementById('target-number').value"
LIVE = "document.getElementById('live-words').textContent"
LIVE_ALERT = "document.getElementById('live-alert').textContent"
ARRIVED = "document.querySelectorAll('#chart .point.live').length"
HIDDEN = "(id) => document.getElementById(id).hidden"
FOCUSED = "document.activeElement.id"
POINTS = "document.querySelectorAll('#chart .point.front').length"
ROWS = """((table) => [...document.querySelectorAll(`#${table} tbody tr`)].map(
  (row) => [row.className, ...[...row.cells].map((cell) => cell.textContent)]))"""
# Texts whose contrast with what is behind them is below WCAG's 4.5 to 1.
FAINT_TEXTS = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (part) => part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (node) => {
    const found = parts(getComputedStyle(node).backgroundColor);
    return found.length === 3 ? found : behind(node.parentElement);
  };
  return [...document.querySelectorAll("body *")].filter((node) => {
    const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!text || !node.checkVisibility() || node.closest("noscript, .unseen, title")) return false;
    const style = getComputedStyle(node);
    const colours = [parts(node.closest("svg") ? style.fill : style.color), behind(node)];
    const [darker, lighter] = colours.map(luminance).sort((a, b) => a - b);
    return (lighter + 0.05) / (darker + 0.05) < 4.5;
  }).map((node) => node.textContent);
})()"""
WIDER_THAN_THE_WINDOW = "document.documentElement.scrollWidth > innerWidth"


def store_front(database: Path) -> None:
    """A front, the baseline, each technique alone; fresh runs of all."""
    with Store.open(f"sqlite:///{database}", create=True) as store:
        for one in STORED:
            found = formula(one)
            found = replace(found, energy_range_pj=(found.energy_pj / 2, found.energy_pj * 2), area_mm2=0.1)
            store.evaluations.record(one.key, found, SETUP, seed=0)
            for run in range(RUNS):
                store.runs.record(fresh_run(one, run), SETUP)


class SteppedWorker:
    """A worker that advances only when a test tells it to. Its evaluations are computed by a formula."""

    def __init__(self, database: Path) -> None:
        self._database = Database.open(f"sqlite:///{database}")
        self.queue = JobQueue(self._database)
        self._leases = Leases(self._database)
        self._store = Store.open(self._database.url, create=True)
        self._made = 0
        self._job: Job | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._store.close()
        self._database.close()

    def begin(self) -> Job:
        """Claim the waiting job."""
        self._job = self._leases.claim("stepped", lease_s=600)
        assert self._job is not None
        self._made = self._job.evaluations
        return self._job

    def note(self, kind: str, data: dict[str, Any], **changes: Any) -> None:
        """Record an event for those who follow the job."""
        assert self._job is not None
        self._leases.note(self._job, "stepped", kind, data, **changes)

    def evaluate(self, *candidates: Candidate) -> None:
        """Evaluate candidates."""
        assert self._job is not None
        for one in candidates:
            found = formula(one)
            record = self._store.evaluations.record(one.key, found, SETUP, seed=0)
            self._made += 1
            data = {"id": record.id, "accuracy": found.accuracy, "energy_pj": found.energy_pj, "stopped": False}
            self.note("evaluated", {"number": self._made, **data}, evaluations=self._made)

    def confirm(self, one: Candidate) -> None:
        """Retrain a candidate."""
        self.note("confirming", {"candidate": one.to_dict(), "runs": RUNS})
        for run in range(RUNS):
            self._store.runs.record(fresh_run(one, run), SETUP)

    def finish(self) -> None:
        """End the job with the results stored so far."""
        assert self._job is not None
        task, hardware, target = find_task("digits"), load_hardware(HARDWARE), self._job.question.target
        stored = Stored.read(self._store, task, hardware, effort="standard")
        answer = stored.answer(target)
        self.note("answer", json_values.answer_json(answer))
        self._leases.finish(self._job, "stepped", JobState.FINISHED, confirmed=answer.confirmed)


def submit(queue: JobQueue, **asked: Any) -> Job:
    """Submit a search."""
    job, _ = queue.submit(
        Question(dataset="digits", budget=20, **asked), client="anna", limits=QueueLimits(total=9, per_client=9)
    )
    return job


def get(url: str, headers: dict[str, str] | None = None) -> Any:
    with urlopen(Request(url, headers=headers or {}), timeout=20) as response:  # noqa: S310
        return json.load(response)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = tmp_path_factory.mktemp("stored") / "results.db"
    store_front(database)
    with served(database) as found:
        yield found


@pytest.fixture
def blank(browser: Browser) -> Browser:
    """A browser with an empty page, so that none from an earlier test keeps sending requests."""
    browser.visit("about:blank", width=1440)
    browser.requests.clear()
    browser.complaints.clear()
    return browser


@pytest.fixture
def page(blank: Browser, address: str) -> Iterator[Browser]:
    """The page with a front; it sends requests to its service only, and logs no complaints."""
    blank.visit(address, width=1440)
    blank.wait_for(f"{POINTS} > 0")
    yield blank
    assert blank.complaints == []
    assert [url for url in blank.requests if not url.startswith((address, "data:"))] == []


def tab_to(page: Browser, condition: str, most: int = 40) -> None:
    """Press Tab until the focused element meets a condition."""
    for _ in range(most):
        page.press("Tab", 9)
        if page.value(condition):
            return
    raise AssertionError(f"Tab never leads to: {condition}")


def grip(page: Browser) -> tuple[float, float]:
    """The centre of the handle of the target in the chart."""
    script = "(({ x, y, width, height }) => [x + width / 2, y + height / 2])(%s.getBoundingClientRect())"
    page.value("document.getElementById('chart').scrollIntoView({ block: 'center' })")
    x, y = page.value(script % "document.querySelector('.target-line .grip')")
    return x, y


def mouse(page: Browser, kind: str, place: tuple[float, float], button: str = "left") -> None:
    page.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button=button, clickCount=1)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_every_window_and_its_texts_stand_out(page: Browser, address: str, dark: bool) -> None:
    for width in (390, 768, 1440, 1920):
        page.visit(f"{address}/?with=network", width=width, dark=dark)
        page.wait_for(f"{POINTS} > 0")
        assert page.value("innerWidth") == width
        assert not page.value(WIDER_THAN_THE_WINDOW)
        assert page.value("document.querySelector('#chart svg').clientWidth") <= width
    for layers in ("layers", "components"):
        page.value(f"document.querySelector('[name=breakdown][value={layers}]').click()")
        assert page.value(FAINT_TEXTS) == []
    page.value("document.querySelector('footer p').style.color = '#777'")
    assert len(page.value(FAINT_TEXTS)) == 1


@pytest.mark.slow
def test_the_slider_chooses_the_cheapest_that_reaches_the_target(page: Browser, address: str) -> None:
    page.value("document.getElementById('target-slider').focus()")
    seen = set()
    for key, code, times in (("End", 35, 1), ("ArrowLeft", 37, 15), *[("PageDown", 34, 1)] * 6, ("Home", 36, 1)):
        for _ in range(times):
            page.press(key, code)
        page.wait_for(ANSWERED)
        target = float(page.value(TARGET)) / 100
        front = get(f"{address}/v1/fronts/digits?min_accuracy={target}")
        best = next(iter(front["answer"]["configurations"]), None)
        seen.add(best and best["id"])
        if best is None:
            assert page.value(HEADING) == f"Nothing stored reaches {target * 100:.2f}\u00a0%"
            continue
        (cheapest,) = get(f"{address}/v1/fronts/digits?min_accuracy={target}&select=cheapest")["configurations"]
        assert cheapest["id"] == best["id"]
        assert page.value(HEADING) == f"Cheapest at {target * 100:.2f}\u00a0% or more"
        assert f"Evaluation {best['id']}" in page.value(ANSWER)
        accuracy, error = best["accuracy"] * 100, best["accuracy_standard_error"] * 100
        assert f"{accuracy:.2f}\u00a0±\u00a0{error:.2f}\u00a0%" in page.value(ANSWER)
        assert page.value("document.querySelector('.saving strong').textContent").startswith(f"{best['saving']:.3g}")
        assert f"target={target * 100:.2f}" in page.value("location.search")
    assert len(seen) >= 4
    assert None in seen


def test_each_technique_alone_is_shown_at_the_target(page: Browser, address: str) -> None:
    target = 0.92
    page.visit(f"{address}/?target={target * 100}", width=1440)
    page.wait_for(f"{POINTS} > 0")
    shown = [row[1:] for row in page.value(f"{ROWS}('techniques')")]
    baseline = formula(BASELINE)
    verdicts = get(f"{address}/v1/techniques/digits?min_accuracy={target}")["techniques"]
    words_of = {"confirmed": "", "rejected": "all that reach it are rejected", None: "none stored reaches it"}
    for name, words in shown[1:5]:
        one = formula(ALONE[name.removesuffix(" alone")])
        (found,) = verdicts[name.removesuffix(" alone")]
        expected = words_of[found["verdict"]] or f"{baseline.energy_pj / one.energy_pj:.3g}x"
        assert words.startswith(expected), name
    assert [words[:4] for _, words in shown].count("none") in (1, 2, 3)


@pytest.mark.slow
def test_a_confirmed_answer_is_shown_with_its_evidence(page: Browser, address: str) -> None:
    page.visit(f"{address}/?target=90", width=1440)
    page.wait_for(f"{POINTS} > 0")
    assert "Confirmed by" in page.value(ANSWER)
    body = json.dumps({"dataset": "digits", "min_accuracy": 0.9}).encode()
    with urlopen(Request(f"{address}/optimize", body, {"Content-Type": "application/json"}), timeout=20) as response:  # noqa: S310
        best = json.load(response)["configurations"][0]
    words = page.value(ANSWER)
    assert f"Evaluation {best['id']}" in words
    runs = best["confirmation"]
    assert f"{runs['accuracy'] * 100:.2f}\u00a0±\u00a0{runs['accuracy_standard_error'] * 100:.2f}\u00a0%" in words
    assert f"at least {runs['accuracy_lower_bound'] * 100:.2f}" in words


@pytest.mark.slow
def test_a_rejected_one_is_nowhere_the_answer(blank: Browser, tmp_path: Path) -> None:
    store_rejected(tmp_path / "results.db")
    with served(tmp_path / "results.db") as address:
        blank.visit(f"{address}/?drop={DROP * 100:g}", width=1440)
        blank.wait_for(f"{POINTS} > 0")
        blank.wait_for(f"{SAID} !== ''")
        assert blank.value(HEADING) == "Cheapest within 3 points of the baseline"
        answer = blank.value(ANSWER)
        assert f"Evaluation {CONFIRMED.key[:12]}" in answer
        assert answer.startswith("2.86x less energy than the baseline1.43x less than the right-sized network")
        for words in (
            "area 0.50x of the baseline's",
            "1 cheaper one was rejected in confirmation.",
            "mlp 3x4, dense, exact, 8 bits, nominal voltage: 1.39\u00a0nJ; measured once, 95.02\u00a0%",
            f"2.78\u00a0nJ; {RUNS} fresh runs: 96.82\u00a0±",
        ):
            assert words in answer
        spoken = "Cheapest within 3 points of the baseline: 2.86x less energy than the baseline, 1.43x less than the"
        assert blank.value(SAID).startswith(spoken)
        assert blank.value("document.querySelector('#chart .distance text').textContent") == "2.86x less"
        assert blank.value(f"{ROWS}('techniques')")[-1][2].startswith("2.86x")
        assert blank.value(f"{ROWS}('compare')")[1][2] == "2.86x"
        assert blank.value("document.querySelector('#table tr.chosen').dataset.id") == CONFIRMED.key[:12]
        rejected = f"document.querySelector('#table tr[data-id=\"{REJECTED.key[:12]}\"]')"
        assert "rejected" in blank.value(f"{rejected}.textContent")
        assert blank.value(f"{rejected}.className") == "unsure"
        hollow = "document.querySelector('#chart .point.rejected')"
        assert blank.value("document.querySelectorAll('#chart .point.rejected').length") == 1
        assert blank.value(f"{hollow}.dataset.id") == REJECTED.key[:12]
        assert "rejected in confirmation" in blank.value(f"{hollow}.getAttribute('aria-label')")
        blank.click(hollow)
        assert "rejected in confirmation" in blank.value("document.querySelector('.tip').textContent")
        blank.wait_for(f"{HEADING} === 'The configuration you chose'")
        assert "Rejected: with 97.5" in blank.value(ANSWER)
        assert get(f"{address}/v1/jobs")["jobs"] == []
    assert blank.complaints == []


@pytest.mark.slow
def test_what_is_not_confirmed_is_grey_and_said_so(blank: Browser, tmp_path: Path) -> None:
    store_rejected(tmp_path / "results.db", runs=0)
    grey = "getComputedStyle(document.documentElement).getPropertyValue('--muted')"
    as_rgb = (
        f"(() => {{ const one = document.createElement('i'); one.style.color = {grey}; return one.style.color; }})()"
    )
    with served(tmp_path / "results.db") as address:
        blank.visit(f"{address}/?drop={DROP * 100:g}", width=1440)
        blank.wait_for(f"{POINTS} > 0")
        blank.wait_for(f"{SAID} !== ''")
        assert blank.value(HEADING) == "Nothing is confirmed within 3 points of the baseline"
        assert blank.value(ANSWER).startswith("The cheapest measured, not confirmed:4x less")
        assert "The cheapest measured, not confirmed: 4x less energy" in blank.value(SAID)
        for place in (".saving strong", ".saving-right-sized", "#techniques tr:last-child b", "#table tr.chosen td"):
            assert blank.value(f"getComputedStyle(document.querySelector('{place}')).color") == blank.value(as_rgb)
        assert not blank.value(f"({HIDDEN})('confirm')")
        assert blank.value("document.querySelector('[name=goal]:checked').value") == "relative"
        blank.visit(f"{address}/?target=99", width=1440)
        blank.wait_for(f"{HEADING} === 'Nothing stored reaches 99.00\u00a0%'")
        assert blank.value("document.querySelectorAll('#chart .distance').length") == 0
    assert blank.complaints == []


@pytest.mark.slow
def test_the_keyboard_reaches_everything(page: Browser) -> None:
    tab_to(page, "document.activeElement.className === 'skip'", most=1)
    page.press("Enter", 13)
    tab_to(page, f"{FOCUSED} === 'target-slider'", most=1)
    page.press("ArrowLeft", 37)
    page.wait_for(f"{ANSWERED} && {ANSWER}.includes('Confirmed by')")
    tab_to(page, f"{FOCUSED} === 'copy'")
    tab_to(page, "document.activeElement.classList.contains('point')")
    page.press("Home", 36)
    page.press("ArrowRight", 39)
    second = page.value("document.activeElement.dataset.id")
    page.press("Enter", 13)
    page.wait_for(f"{HEADING} === 'The configuration you chose'")
    assert f"Evaluation {second}" in page.value(ANSWER)
    assert page.value("document.activeElement.dataset.id") == second
    assert page.value("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.press("End", 35)
    page.press("Enter", 13, shift=True)
    last = page.value("document.activeElement.dataset.id")
    page.wait_for("new URLSearchParams(location.search).has('with')")
    assert page.value("new URLSearchParams(location.search).get('with')") == last
    tab_to(page, "document.activeElement.name === 'shown'")
    page.press("ArrowDown", 40)
    chosen = page.value("document.activeElement.value")
    assert f"Evaluation {chosen}" in page.value(ANSWER)
    page.wait_for("document.getElementById('said').textContent.startsWith('The configuration you chose')")


def test_two_configurations_are_compared(page: Browser) -> None:
    choose = "(other) => { other.value = 'network'; other.dispatchEvent(new Event('change')); }"
    page.value(f"({choose})(document.getElementById('other'))")
    found = {row[1]: row for row in page.value(f"{ROWS}('compare')")}
    assert found["network"][3] == "mlp 3x2"
    assert found["multiply-adds"][3] == str(formula(ALONE["network"]).macs)
    for differs, name, mine, its, difference in found.values():
        assert (mine == its) == (difference == "same") == (differs == ""), name
    page.click("document.querySelector('#chart .point.pruning')")
    assert page.value("document.querySelectorAll('#compare tbody td')[0].textContent").startswith(
        f"{formula(ALONE['pruning']).energy_pj / 1000:.3g}"
    )


def test_networks_have_the_names_of_the_report(page: Browser) -> None:
    for given in (BASELINE, replace(BASELINE, family="nets:build/8", depth=1, width=5)):
        named = page.value(f"import('/static/words.js').then((words) => words.network({json.dumps(given.to_dict())}))")
        assert named == configuration(given)["network"]


def test_hostile_names_are_text(page: Browser) -> None:
    page.value(f"document.querySelector('#table tr[data-id^={json.dumps(HOSTILE_ONE.key[:12])}] input').click()")
    for place in ("answer", "table", "compare"):
        assert HOSTILE in page.value(f"document.getElementById('{place}').textContent")
    page.click("document.querySelector('#chart .point[aria-pressed=true]')")
    page.wait_for(f"document.querySelector('.tip').textContent.includes({json.dumps(HOSTILE)})")
    assert page.value("document.querySelectorAll('img').length") == 0


def test_a_configuration_is_copied_and_downloaded(page: Browser, tmp_path: Path) -> None:
    page.value("window.copied = []; navigator.clipboard.writeText = async (text) => { copied.push(text); }; 0")
    page.click("document.getElementById('copy')")
    page.wait_for("copied.length === 1")
    page.wait_for("document.getElementById('said').textContent === 'Copied'")
    one = Candidate.from_dict(json.loads(page.value("copied[0]")))
    assert one in STORED
    download(page, tmp_path, one)


def download(page: Browser, folder: Path, one: Candidate) -> None:
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.click("document.getElementById('download')")
    file = folder / f"digits-{one.key[:12]}.json"
    for _ in range(200):
        if file.exists():
            break
        time.sleep(0.05)
    assert Candidate.from_dict(json.loads(file.read_text())["candidate"]) == one


@pytest.mark.slow
def test_a_key_is_asked_for_and_used(browser: Browser, tmp_path: Path) -> None:
    store_front(tmp_path / "results.db")
    with Database.open(f"sqlite:///{tmp_path / 'results.db'}") as opened:
        key = KeyStore(opened).create("reader", Scope.READ)
    with served(tmp_path / "results.db", keys_required=True) as address:
        browser.visit(address, width=390)
        browser.wait_for(f"{FOCUSED} === 'key'")
        for text, condition in (
            ("wrong", "document.getElementById('key-alert').textContent !== ''"),
            (key, f"{POINTS} > 0"),
        ):
            browser.value("document.getElementById('key').select()")
            browser.call("Input.insertText", text=text)
            browser.press("Enter", 13)
            browser.wait_for(condition)
        assert browser.value("document.getElementById('key-panel').hidden")
        browser.value("document.getElementById('start').click()")
        browser.wait_for(
            "document.getElementById('search-alert').textContent.includes('needs a key with the scope submit')"
        )
        shown = browser.value("document.querySelector('#table tr.chosen').dataset.id")
        download(browser, tmp_path, next(one for one in STORED if one.key.startswith(shown)))
        assert key not in browser.value("location.href")
        assert not [url for url in browser.requests if key in url]
        browser.value("sessionStorage.clear()")


@pytest.mark.slow
def test_the_target_is_dragged_on_the_chart(page: Browser) -> None:
    x, y = grip(page)
    before = float(page.value(TARGET))
    mouse(page, "mousePressed", (x, y), "right")
    mouse(page, "mouseMoved", (x, y + 30), "right")
    mouse(page, "mouseReleased", (x, y + 30), "right")
    assert float(page.value(TARGET)) == before
    mouse(page, "mousePressed", (x, y))
    seen = [before]
    for step in (20, 60, 100):
        mouse(page, "mouseMoved", (x + step, y + step))
        assert abs(grip(page)[1] - (y + step)) < 2
        seen.append(float(page.value(TARGET)))
        assert page.value("document.getElementById('target-slider').getAttribute('aria-valuetext')") == (
            f"{seen[-1]:.2f}\u00a0%"
        )
    assert seen == sorted(set(seen), reverse=True)
    mouse(page, "mouseMoved", (x, -10_000))
    highest = float(page.value("document.getElementById('target-slider').max"))
    assert float(page.value(TARGET)) == highest  # however far the pointer goes
    page.wait_for(f"{HEADING} === 'Nothing stored reaches {highest:.2f}\u00a0%'")
    mouse(page, "mouseMoved", (x, y + 20))
    mouse(page, "mouseReleased", (x, y + 20))
    left = page.value(TARGET)
    assert float(left) == seen[1]  # the axis did not move meanwhile
    mouse(page, "mouseMoved", (x, y + 100))
    assert page.value(TARGET) == left
    page.wait_for(f"{HEADING} === 'Cheapest at {left}\u00a0% or more'")
    assert f"target={left}" in page.value("location.search")


@pytest.mark.slow
def test_the_axis_stays_where_it_is_while_the_target_is_dragged(page: Browser, address: str) -> None:
    page.visit(f"{address}/?target=60", width=1440)  # below what the axis has otherwise
    page.wait_for(f"{POINTS} > 0")
    x, y = grip(page)
    mouse(page, "mousePressed", (x, y))
    for step in (30, 60, 90):
        mouse(page, "mouseMoved", (x, y - step))
        assert abs(grip(page)[1] - (y - step)) < 2
    page.value("document.querySelector('#chart svg').dispatchEvent(new PointerEvent('pointercancel')); 0")
    left = page.value(TARGET)
    mouse(page, "mouseMoved", (x, y - 30))
    assert page.value(TARGET) == left  # the browser has taken the pointer for something else
    mouse(page, "mouseReleased", (x, y - 30))


@pytest.mark.slow
def test_the_keyboard_moves_the_target_on_the_chart(page: Browser) -> None:
    slider = "document.activeElement.getAttribute('role') === 'slider'"
    tab_to(page, f"{FOCUSED} === 'target-slider'")
    tab_to(page, slider)
    before = float(page.value(TARGET))
    for key, code, points in (("ArrowDown", 40, -0.05), ("PageDown", 34, -1), ("ArrowUp", 38, 0.05), ("PageUp", 33, 1)):
        page.press(key, code)
        assert float(page.value(TARGET)) == pytest.approx(before + points, abs=0.011), key
        before = float(page.value(TARGET))
        assert page.value(slider)  # though it was drawn anew
        assert float(page.value("document.activeElement.getAttribute('aria-valuenow')")) == before
    for key, code, end in (("Home", 36, "min"), ("End", 35, "max")):
        for _ in range(2):  # the end stays where it is
            page.press(key, code)
            assert float(page.value(TARGET)) == float(page.value(f"document.getElementById('target-slider').{end}"))
            assert page.value(f"document.activeElement.getAttribute('aria-value{end}')") == page.value(
                f"document.getElementById('target-slider').{end}"
            )
    page.wait_for("document.getElementById('said').textContent.startsWith('Nothing stored reaches')")


@pytest.mark.slow
def test_a_search_is_followed_to_its_answer(blank: Browser, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    with served(database) as address, SteppedWorker(database) as worker:
        blank.visit(address, width=1440)
        blank.wait_for(f"!({HIDDEN})('empty')")
        blank.wait_for("document.getElementById('said').textContent.startsWith('No results for digits')")
        blank.value("document.getElementById('drop').value = 5; document.getElementById('budget').value = 7; 0")
        blank.click("document.getElementById('start')")
        blank.wait_for(f"{LIVE}.startsWith('Waiting: no worker is running.')")
        blank.wait_for("document.getElementById('live-said').textContent.startsWith('Waiting: no worker')")
        assert blank.value(FOCUSED) == "live"
        worker.begin()
        blank.wait_for(f"{LIVE} === 'The search is starting.'")
        assert blank.value(POINTS) == 0
        worker.evaluate(BASELINE)
        blank.wait_for(f"{POINTS} === 1 && {ARRIVED} === 1")
        assert blank.value(TARGET) == f"{int(10_000 * (formula(BASELINE).accuracy - 0.05)) / 100:.2f}"
        for count, width in enumerate((6, 4, 3), start=2):
            worker.evaluate(candidate(width=width), candidate(width=width, weight_bits=7, supply_v=1.0))
            blank.wait_for(f"{POINTS} >= {count} && {ARRIVED} === {2 * count - 1}")
        best = candidate(width=3)
        assert blank.value("document.getElementById('progress').value") == 7
        worker.confirm(best)
        blank.wait_for(f"{LIVE}.startsWith('Confirming mlp 3x3')")
        worker.confirm(BASELINE)
        worker.finish()
        blank.wait_for(f"{LIVE}.startsWith('Finished: 7 of 7 evaluations')")
        assert blank.value(LIVE).endswith("Its answer is confirmed.")
        blank.wait_for(f"{HEADING} === 'Cheapest within 5 points of the baseline'")
        assert f"Evaluation {best.key[:12]}" in blank.value(ANSWER)
        assert f"Confirmed by {RUNS} fresh runs" in blank.value(ANSWER)
        blank.wait_for("document.querySelector('#jobs .badge')?.textContent === 'confirmed'")
        assert blank.value(f"['cancel', 'resume'].every({HIDDEN})")
    assert blank.complaints == []


@pytest.mark.slow
def test_a_search_is_followed_though_the_service_restarts(blank: Browser, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    widths = [candidate(width=width) for width in (8, 7, 6, 5, 4, 3)]
    with SteppedWorker(database) as worker:
        job = submit(worker.queue, max_accuracy_drop=0.05)
        worker.begin()
        with served(database) as address:
            blank.visit(f"{address}/?job={job.id}", width=1440)
            worker.evaluate(*widths[:2])
            blank.wait_for(f"{ARRIVED} === 2 && {POINTS} === 2")
        blank.wait_for(f"{LIVE_ALERT} === 'The connection is lost; reconnecting.'")
        worker.evaluate(*widths[2:4])
        with served(database, port=int(address.rpartition(":")[2])):
            blank.wait_for(f"{LIVE_ALERT} === '' && {ARRIVED} === 4")
            worker.evaluate(*widths[4:])
            blank.wait_for(f"{ARRIVED} === 6 && {POINTS} === 6")
            shown = blank.value("[...document.querySelectorAll('#chart .point.live')].map((one) => one.dataset.id)")
            assert sorted(shown) == sorted(one.key[:12] for one in widths)  # each of them once
            assert blank.value(LIVE).startswith("6 of 20 evaluations")
    assert [one for one in blank.complaints if "net::ERR_" not in one] == []


@pytest.mark.slow
def test_a_page_that_is_reloaded_continues_following(blank: Browser, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    with served(database) as address, SteppedWorker(database) as worker:
        job = submit(worker.queue, min_accuracy=0.95)
        worker.begin()
        worker.evaluate(BASELINE, candidate(width=6))
        blank.visit(address, width=1440)
        blank.wait_for("document.querySelector('#jobs button')?.textContent === 'Follow'")
        blank.click("document.querySelector('#jobs button')")
        blank.wait_for(f"{ARRIVED} === 2")
        assert f"job={job.id}" in blank.value("location.search")
        blank.visit(blank.value("location.href"), width=1440)
        blank.wait_for(f"{ARRIVED} === 2 && {POINTS} === 2")
        assert blank.value(TARGET) == "95.00"
        worker.evaluate(candidate(width=5))
        blank.wait_for(f"{ARRIVED} === 3 && {LIVE}.startsWith('3 of 20 evaluations')")
        blank.click("document.getElementById('leave')")
        blank.wait_for(f"({HIDDEN})('live') && {ARRIVED} === 0")
        assert "job=" not in blank.value("location.search")
    assert blank.complaints == []


@pytest.mark.slow
def test_a_followed_search_is_cancelled_and_deleted_elsewhere(blank: Browser, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    with served(database) as address, SteppedWorker(database) as worker:
        first, second = submit(worker.queue, min_accuracy=0.95), submit(worker.queue, min_accuracy=0.9)
        blank.visit(f"{address}/?job={first.id}", width=1440)
        blank.wait_for(f"!({HIDDEN})('cancel')")
        worker.queue.cancel(first.id)
        blank.wait_for(f"{LIVE} === 'Cancelled after 0 of 20 evaluations. Its results are kept.'")
        assert blank.value(f"['cancel', 'resume'].map({HIDDEN})") == [True, False]
        blank.visit(f"{address}/?job={second.id}", width=1440)
        blank.wait_for(f"!({HIDDEN})('cancel')")
        worker.begin()
        worker.evaluate(BASELINE)
        blank.wait_for(f"{ARRIVED} === 1")
        forget(database, second)
        blank.wait_for(f"{LIVE} === 'This search was deleted. Its results are kept.'")
        assert blank.value(f"['cancel', 'resume'].every({HIDDEN})")
        assert blank.value(POINTS) == 1


def forget(database: Path, job: Job) -> None:
    """Delete a job before those who follow it learn that it has ended."""
    engine = open_engine(f"sqlite:///{database}", create=False)
    with engine.begin() as connection:
        connection.execute(sa.delete(JobEventRow).where(JobEventRow.job == job.number))
        connection.execute(sa.delete(JobRow).where(JobRow.number == job.number))
    engine.dispose()


@pytest.mark.slow
def test_errors_are_shown_where_the_request_was_made(blank: Browser, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    store_front(database)
    with served(database, queue=QueueLimits(total=1, per_client=1)) as address:
        with opened_jobs(f"sqlite:///{database}") as (queue, _):
            submit(queue, min_accuracy=0.9)
        blank.visit(address, width=390)
        blank.wait_for(f"{POINTS} > 0")
        for button, place in (("start", "search-alert"), ("confirm", "answer-alert")):
            blank.value("document.getElementById('target-slider').value = 97.2; 0")
            blank.value("document.getElementById('target-slider').dispatchEvent(new Event('input')); 0")
            blank.wait_for(ANSWERED)
            blank.click(f"document.getElementById('{button}')")
            blank.wait_for(f"document.getElementById('{place}').textContent.startsWith('1 jobs are waiting')")
            assert not blank.value(WIDER_THAN_THE_WINDOW)
        assert blank.value(f"({HIDDEN})('live')")
    other = "(one) => { one.value = 'thorough'; one.dispatchEvent(new Event('change', { bubbles: true })); }"
    blank.value(f"({other})(document.getElementById('effort'))")
    blank.wait_for("document.getElementById('page-alert').textContent.startsWith('The service cannot be reached')")
    assert blank.value(f"['results', 'details', 'comparison', 'table-section', 'empty'].every({HIDDEN})")
    assert blank.value("document.querySelector('[name=goal]:checked').value") == "relative"  # there is no other target
    assert "effort=thorough" in blank.value("location.search")  # to be loaded again


@pytest.mark.process
@pytest.mark.slow
def test_a_search_is_followed_cancelled_and_resumed(blank: Browser, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    with served(database) as address:
        blank.visit(f"{address}/?effort=quick", width=1440)
        blank.wait_for("!document.getElementById('empty').hidden")
        command = [sys.executable, "-m", "search", "worker", "--storage", str(database), "--workers", "0"]
        worker = subprocess.Popen([*command, "--cache", str(tmp_path / "stages")], stderr=subprocess.DEVNULL)
        try:
            blank.value("document.getElementById('budget').value = 60")
            blank.click("document.getElementById('start')")
            blank.wait_for("document.querySelectorAll('#chart .point.live').length >= 5", 120)
            blank.wait_for(f"{POINTS} > 0")
            before = blank.value("document.getElementById('progress').value")
            blank.click("document.getElementById('cancel')")
            blank.wait_for(f"{LIVE}.startsWith('Cancelled after')", 60)
            (job,) = get(f"{address}/v1/jobs")["jobs"]
            assert job["state"] == "cancelled"
            assert f"Cancelled after {job['evaluations']} of 60 evaluations" in blank.value(LIVE)
            front = get(f"{address}/v1/fronts/digits?effort=quick")["configurations"]
            blank.wait_for(f"document.querySelectorAll('#table tbody tr').length >= {len(front)}")
            blank.click("document.getElementById('resume')")
            blank.wait_for(f"document.getElementById('progress').value > {max(before, job['evaluations'])}", 60)
            blank.click("document.getElementById('cancel')")
            blank.wait_for(f"{LIVE}.startsWith('Cancelled after')", 60)
        finally:
            worker.terminate()
            worker.wait(timeout=30)
    assert blank.complaints == []
