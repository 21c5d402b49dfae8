import base64
import contextlib
import importlib
import io
import os
import signal
import sys
import warnings
from datetime import datetime
from pathlib import Path
from types import FrameType

import pytest
import torch
from rich.console import Console

from search.api.interrupts import interruptible
from search.report.progress import LineProgress, LiveProgress, SearchState
from search.space.candidate import Candidate
from search.space.plan import Plan
from search.space.target import Target
from search.space.task import find_task
from search.store.records import Record, SearchRecord
from tests.support.fakes import SETTINGS, SETUP, TARGET, formula

SPACE = find_task("digits").space
BASELINE = SPACE.baseline()


PLAN = Plan(
    evaluations=20,
    workers=1,
    first_s=None,
    evaluation_s=1.5,
    search_s=30.0,
    confirmation_s=None,
    epochs=1.0,
    images=10,
    known=False,
)


def record(**change: object) -> Record:
    candidate = Candidate.from_dict({**BASELINE.to_dict(), **change})
    return Record(key=candidate.key, setup=SETUP, seed=0, evaluation=formula(candidate), test_accuracies=None)


def search(target: Target = TARGET) -> SearchRecord:
    return SearchRecord(
        id=1,
        name="mine",
        task=find_task("digits"),
        hardware="any",
        seed=0,
        budget=20,
        population_size=10,
        target=target,
        multipliers=SPACE.multipliers,
        settings=SETTINGS,
        space=SPACE.to_dict(),
        data_dir=None,
        created_at=datetime(2026, 1, 1),
        finished_at=None,
    )


def test_state_counts_what_runs_and_what_is_reused() -> None:
    state = SearchState()
    state.start(search(), [record()], trials=2)
    state.to_go, state.workers = 3, 2
    assert (state.trials, state.running()) == (2, 2)
    state.end_trial(record(width=4), reused=False)
    state.end_trial(record(width=4), reused=True)
    assert (state.trials, state.made, state.running()) == (4, 1, 2)
    state.end_job()
    assert state.running() == 1
    assert state.seconds_left() is None


def test_the_cheapest_is_named_against_the_target() -> None:
    state = SearchState()
    state.start(search(), [], trials=0)
    assert state.cheapest() == "evaluating the baseline first"
    state.add(record())
    assert "the baseline itself" in state.cheapest()
    state.add(record(weight_bits=6))
    assert "1.33x less than the baseline" in state.cheapest()
    assert state.cheapest().startswith("cheapest measured within 2.00 points of the baseline: ")
    state.start(search(Target(min_accuracy=0.999)), [], trials=0)
    assert state.cheapest() == "nothing at 99.90% or more yet"


def test_both_displays_show_the_same_state() -> None:
    for display in (LineProgress, LiveProgress):
        written = io.StringIO()
        with display(Console(file=written, width=100, force_terminal=display is LiveProgress)) as progress:
            assert progress.search_name is None
            progress.reading_images(1, 2)
            progress.reading_images(2, 2)
            progress.noted("mine takes at most 7 bits [sic]")
            progress.stored(search())
            progress.started(search(), [], 0)
            progress.planned(PLAN)
            progress.evaluating(2, 2)
            progress.evaluated(record(), reused=False)
            progress.failed(BASELINE, "out of memory [sic]")
            progress.testing(3)
            assert progress.search_name == "mine"
        text = written.getvalue()
        assert "the baseline itself" in text
        assert "out of memory [sic]" in text
        assert "mine takes at most 7 bits [sic]" in text
        assert "measuring 3 results on the test images" in text
        assert "plan: an evaluation takes about 1.5 s, 20 evaluations about 30 s on 1 worker; 1 epoch of" in text


def test_both_displays_show_how_many_images_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = io.StringIO()
    with LineProgress(Console(file=lines, width=100), interval_s=0.0) as progress:
        for done in range(1, 1201):
            progress.reading_images(done, 1200)
    assert "storing images: 7 of 1,200\n" in lines.getvalue()
    monkeypatch.setattr("search.report.progress._IMAGES_S", 0.0)
    screen = io.StringIO()
    with LiveProgress(Console(file=screen, width=100, force_terminal=True)) as live:
        live.reading_images(7, 1200)
        live._live.refresh()
        assert "storing images" in screen.getvalue()
        assert "7/1200" in screen.getvalue()
        live.reading_images(1200, 1200)
        live._live.refresh()
        assert screen.getvalue().rpartition("storing images")[2].count("preparing") >= 1


def test_images_that_are_stored_at_once_need_no_line() -> None:
    lines = io.StringIO()
    with LineProgress(Console(file=lines, width=100)) as progress:
        for done in range(1, 11):
            progress.reading_images(done, 10)
    assert lines.getvalue() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_is_not_lost(number: signal.Signals) -> None:
    progress = LineProgress(Console(file=io.StringIO()))
    before = signal.getsignal(number)
    with interruptible(progress):
        progress.started(search(), [], 0)
        with contextlib.suppress(KeyboardInterrupt):  # as Python does in a destructor
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            progress.evaluated(record(), reused=False)
        with pytest.raises(KeyboardInterrupt):
            progress.evaluating(1, 1)
    assert signal.getsignal(number) == before


def test_a_request_to_stop_waits_for_the_import_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "broken_off"
    package.mkdir()
    asking = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (package / "__init__.py").write_text("import broken_off.inner\nvalue = broken_off.inner.value\n")
    (package / "inner.py").write_text(f"from broken_off import last\n{asking}value = last.value\n")
    (package / "last.py").write_text("value = 1\n")
    (tmp_path / "asks_twice.py").write_text(2 * asking + "value = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    progress = LineProgress(Console(file=io.StringIO()))
    try:
        with interruptible(progress):
            with pytest.raises(KeyboardInterrupt):
                importlib.import_module("broken_off")
            assert sys.getprofile() is None
            assert progress.stopping
            assert importlib.import_module("broken_off").value == 1
        with interruptible(progress := LineProgress(Console(file=io.StringIO()))):
            with pytest.raises(KeyboardInterrupt):
                importlib.import_module("asks_twice")
            assert "asks_twice" not in sys.modules
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "broken_off"]:
            del sys.modules[name]


def test_a_block_that_a_request_to_stop_breaks_off_leaves_gradients_on() -> None:
    def ask(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is torch.no_grad.__exit__.__code__:  # so before it has set anything
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGINT)

    assert torch.is_grad_enabled()
    with interruptible(LineProgress(Console(file=io.StringIO()))):
        sys.setprofile(ask)
        with pytest.raises(KeyboardInterrupt), torch.no_grad():
            pass
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.process
@pytest.mark.slow
def test_a_notebook_shows_where_a_search_stands_and_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    workplace = f"search.Workplace(workers=0, storage={str(tmp_path / 'results.db')!r})"
    options = "search.SearchOptions(confirm=False)"
    call = f"search.run(budget=2, effort='quick', options={options}, workplace={workplace})"
    cells = [nbformat.v4.new_code_cell(code) for code in (f"import search\nfound = {call}", "found", "found.plot()")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from other programs
        client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = notebook.cells[0].outputs
    (line,) = [one.data["text/plain"] for one in outputs if one.output_type == "display_data"]
    assert line.startswith("measuring")
    assert "search digits-1: " in "".join(one.text for one in outputs if one.output_type == "stream")
    (table,), (picture,) = (cell.outputs for cell in notebook.cells[1:])
    assert "<caption>Front of digits-1 (digits)</caption>" in table.data["text/html"]
    assert base64.b64decode(picture.data["image/png"]).startswith(b"\x89PNG")
