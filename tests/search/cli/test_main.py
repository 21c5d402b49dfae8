"""The command line on the real digits, in a separate process where a test is about processes."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import CliRunner, Result

from search.cli.main import cli
from search.errors import UsageError
from search.multipliers.choice import MULTIPLIERS
from tests.support.sources import shapes
from tests.support.timing import processor_seconds

SEARCH = [sys.executable, "-m", "search"]
QUICK = ["--effort", "quick", "--no-confirm"]  # these tests are not about results
BUDGET = 12  # a generation, and the beginning of the next
RUN = ["run", "--budget", str(BUDGET), *QUICK, "--techniques", "multiplier,memory"]  # one network, trained once


def process(*arguments: str, check: bool = False, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a separate process, which takes seconds to import torch."""
    return subprocess.run([*SEARCH, *arguments], capture_output=True, text=True, check=check, timeout=300, cwd=folder)


def search(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli, arguments)


def output_of(*arguments: str) -> str:
    """Return the output of a command that succeeds in this process."""
    done = search(*arguments)
    assert done.exit_code == 0, done.stderr or done.exception
    return done.stdout


def front_of(output: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    return [(r["id"], r["accuracy"], r["test_accuracy"], r["energy_pj"]) for r in output["front"]]


@pytest.mark.process
def test_help_answers_at_once() -> None:
    assert min(processor_seconds([*SEARCH, "--help"]) for _ in range(5)) < 0.5


def test_an_interrupt_while_images_are_stored_is_before_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    source = shapes({"all": (9, 9)})

    def opened(given: str, **_: Any) -> Any:
        return source

    def interrupted(progress: Any, done: int, of: int) -> None:
        assert of == 18
        raise KeyboardInterrupt

    monkeypatch.setattr("search.images.lookup.open_source", opened)
    monkeypatch.setattr("search.report.progress.LineProgress.reading_images", interrupted)
    for command, told in (
        (("run", "--dataset", "photos"), "\nStopped before the search began.\n"),
        (("compare", "--dataset", "photos"), "search: stopped before the comparison began\n"),
    ):
        done = search(*command)
        assert (done.exit_code, done.stderr) == (130, told)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A small finished search: its database and what it printed."""
    storage = tmp_path_factory.mktemp("finished") / "results.db"
    command = [*RUN, "--workers", "0", "--storage", str(storage), "--json"]
    done = process(*command, check=True)
    return storage, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.process
def test_run_prints_json_alone_on_stdout(finished: tuple[Path, dict[str, Any]]) -> None:
    storage, output = finished
    assert output["evaluations"] == BUDGET
    assert output["failed"] == 0
    assert output["multipliers"] == list(MULTIPLIERS)
    assert output["storage"] == f"sqlite:///{storage}"
    assert output["dashboard"] == f"optuna-dashboard sqlite:///{storage}"
    assert output["baseline"]["saving"] == 1
    assert output["baseline"]["accuracy"] > 0.9
    accuracies = [record["accuracy"] for record in output["front"]]
    energies = [record["energy_pj"] for record in output["front"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert energies == sorted(energies, reverse=True)
    assert all(record["test_accuracy"] is not None for record in output["front"])


@pytest.mark.slow
def test_networks_are_kept_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, storage = tmp_path / "shared", tmp_path / "results.db"
    monkeypatch.setenv("CROSSLAYER_CACHE", "memory://unused")
    command = ["run", "--budget", "1", *QUICK, "--workers", "0", "--storage", str(storage), "--json"]
    output = output_of(*command, "--cache", str(cache), "--cache-limit", "1MB")
    assert json.loads(output)["networks"] == str(cache)
    assert len(list(cache.glob("*/*.pt"))) == 3  # the baseline trained, approximated, and finished
    assert [path.name for path in storage.with_suffix(".cache").iterdir()] == ["digits-1@results.db.lock"]


@pytest.mark.slow
def test_show_and_best_read_stored_results(finished: tuple[Path, dict[str, Any]]) -> None:
    storage, output = finished
    listed = json.loads(output_of("show", "--storage", str(storage), "--json"))
    assert [(s["name"], s["evaluations"], s["finished"]) for s in listed] == [("digits-1", BUDGET, True)]
    shown = json.loads(output_of("show", "digits-1", "--storage", str(storage), "--json"))
    assert front_of(shown) == front_of(output)
    assert shown["answer"] == output["answer"]

    for command in (["show"], ["show", "digits-1"]):
        printed = output_of(*command, "--storage", str(storage))
        assert max(len(line) for line in printed.splitlines()) <= 104
        assert "digits-1" in printed

    target = output["front"][1]["accuracy"]
    best = ["best", *QUICK, "--storage", str(storage), "--min-accuracy"]
    found = json.loads(output_of(*best, str(target), "--json"))
    assert found["confirmed"] is False
    assert found["best"]["energy_pj"] == min(r["energy_pj"] for r in output["front"] if r["accuracy"] >= target)
    printed = " ".join(output_of(*best, "0.3").split())
    assert "NOT CONFIRMED at 30.00% or more by fresh runs yet. Cheapest measured: " in printed
    assert "Confirm it without --no-confirm" in printed

    printed = " ".join(output_of(*best, "0.3", "--confirm", "--workers", "0").split())
    assert "Cheapest at 30.00% or more, confirmed: " in printed
    assert re.search(r"3 fresh runs: [\d.]+% ± [\d.]+% on images held out", printed)
    kept = json.loads(output_of(*best, "0.3", "--json"))
    assert kept["confirmed"] is True
    assert kept["confirmation"]["runs"] == 3
    # All runs are stored, so no cluster is needed.
    again = output_of(*best, "0.3", "--confirm", "--ray-address", "127.0.0.1:1", "--json")
    assert json.loads(again) == kept


@pytest.mark.slow
def test_best_says_what_to_do_when_nothing_reaches_the_target(finished: tuple[Path, dict[str, Any]]) -> None:
    storage, _ = finished
    done = search("best", "--min-accuracy", "1", "--effort", "quick", "--storage", str(storage))
    assert done.exit_code == 1
    assert re.match(r"search: no stored configuration of digits reaches 100.00%; the most accurate", done.stderr)
    done = search("best", "--min-accuracy", "0.9", "--dataset", "mnist", "--storage", str(storage))
    assert done.exit_code == 1
    assert "make one with: search run --dataset mnist" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--budget", "0"], 2, "--budget must be a whole number of at least 1, got 0"),
        (["run", "--budget", "-3"], 2, "--budget must be a whole number of at least 1, got -3"),
        (["run", "--budget", "many"], 2, "'many' is not a valid integer"),
        (["run", "--dataset", "mnits"], 2, "unknown dataset 'mnits'; did you mean 'mnist'?"),
        (["run", "--min-accuracy", "0"], 2, "--min-accuracy must be above 0 and at most 1"),
        (["run", "--min-accuracy", "95"], 2, "such as 0.95 for 95 %, got 95"),
        (["run", "--min-accuracy", "nan"], 2, "--min-accuracy must be above 0 and at most 1"),
        (["run", "--workers", "-1"], 2, "--workers must be a whole number of at least 0, got -1"),
        (["run", "--timeout", "0"], 2, "--timeout must be above 0 seconds, got 0"),
        (
            ["run", "--workers", "0", "--timeout", "9"],
            2,
            "--timeout has no effect where --workers is 0, which evaluates",
        ),
        (["run", "--techniques", "network", "--multipliers", "asm-1"], 2, "--techniques leaves them out"),
        (["run", "--cache-limit", "much"], 2, "--cache-limit 'much' is not a size; give one such as 500MB or 10GB"),
        (["run", "--image-size", "0"], 2, "'0' is not a size; give one such as 64, or HEIGHTxWIDTH such as 48x64"),
        (["run", "--image-size", "48x5000"], 2, "'48x5000' is not a size; give one such as 64, or HEIGHTxWIDTH"),
        (
            ["run", "--mean", "124", "--std", "58"],
            2,
            "--mean must be from 0 to 1, one number or one for each channel, got 124; pixels are scaled to [0, 1], so "
            "divide statistics of bytes by 255",
        ),
        (["run", "--std", "0.5,0"], 2, "--std must be above 0 and at most 1, one number or one for each channel, got"),
        (["run", "--cache", "s4://bucket"], 2, "unknown protocol s4://; give a folder or a URL"),
        (["run", "--hardware", "tpu"], 2, "unknown hardware 'tpu'"),
        (["run", "--multipliers", "drumm-4"], 2, "unknown multiplier 'drumm-4'; did you mean 'drum-4'"),
        (["run", "--multipliers", "asm-1,drum-7"], 2, "search multipliers characterise drum-7"),
        (
            ["run", "--multipliers", "asm-1,,exact"],
            2,
            "--multipliers must be names, such as drum-4, none of them empty, got",
        ),
        (["run", "--space", "layerd"], 2, "unknown space 'layerd'; did you mean 'layered'?"),
        (["run", "--space", "gone.yaml"], 2, "cannot read space file gone.yaml"),
        (["run", "--resume", "--space", "layered"], 2, "in this --space to resume"),
        (["run", "--resume"], 2, "there is no search of digits with seed 0"),
        (["run", "--resume", "--name", "gone"], 2, "no search named 'gone'"),
        (["run", "--network", "nets"], 2, "--network must be package.module:function"),
        (["run", "--network", "gone:build"], 2, "there is no module 'gone' in"),
        (["best", "--min-accuracy", "0.9", "--network", "gone:build"], 2, "there is no module 'gone' in"),
        (["best", "--min-accuracy", "2"], 2, "--min-accuracy must be above 0 and at most 1"),
        (["report", "digits-1", "--storage", "/nowhere/results.db"], 1, "no results yet: there is no file /nowhere"),
        (["show", "--storage", "/nowhere/results.db"], 1, "no results yet: there is no file /nowhere/results.db"),
        (["show", "--storage", "mysql://host/name"], 1, "needs the Python package 'MySQLdb'"),
        (["run", "--dataset", "mnist", "--data-dir", "/dev/null/nowhere"], 1, "could not be downloaded"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: Sequence[str], code: int, message: str, tmp_path: Path) -> None:
    storage = [] if "--storage" in arguments or arguments[0] == "best" else ["--storage", str(tmp_path / "results.db")]
    done = search(*arguments, *storage)
    assert done.exit_code == code, done.stderr
    assert isinstance(done.exception, SystemExit), done.exception
    assert message in done.stderr
    if not any(words in message for words in ("not a valid integer", "HEIGHTxWIDTH")):  # click adds its usage there
        assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.process
def test_an_error_is_all_that_a_process_prints() -> None:
    done = process("run", "--budget", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "search: --budget must be a whole number of at least 1, got 0\n"


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(UsageError, match="`budget` must be a whole number"):  # Python shows it when nothing catches it
        cli.main(["--debug", "run", "--budget", "0"])


def finished_trials(storage: Path, name: str = "digits-1") -> dict[int, dict[str, Any]]:
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{storage}")
    return {t.number: {**t.params, "at": t.datetime_complete} for t in study.trials if t.state.is_finished()}


def wait_for_trials(storage: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        # Read by Optuna, they would take so long that a search of few is over meanwhile.
        with (
            contextlib.suppress(sqlite3.Error),  # no file yet, or no tables
            contextlib.closing(sqlite3.connect(f"file:{storage}?mode=ro", uri=True)) as connection,
        ):
            (finished,) = connection.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()
            if finished >= count:
                return
        time.sleep(0.02)
    raise AssertionError("no progress")


@pytest.mark.slow
@pytest.mark.process
def test_a_killed_search_of_two_workers_ends_like_one_of_none_and_repeats_nothing(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    storage = tmp_path / "results.db"
    command = [*RUN, "--workers", "2", "--storage", str(storage), "--json"]
    with subprocess.Popen([*SEARCH, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as begun:
        wait_for_trials(storage, 4, begun)
        os.kill(begun.pid, signal.SIGKILL)
    before = finished_trials(storage)
    assert 4 <= len(before) < BUDGET
    done = process(*command, "--resume", check=True)
    after = finished_trials(storage)
    assert len(after) == BUDGET
    assert {number: after[number] for number in before} == before
    output = json.loads(done.stdout)
    assert output["name"] == "digits-1"
    assert front_of(output) == front_of(finished[1])


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, "2"), (signal.SIGTERM, "0")])
def test_an_interrupted_search_says_how_to_resume(number: signal.Signals, workers: str, tmp_path: Path) -> None:
    storage = tmp_path / "results.db"
    command = ["run", "--budget", "60", "--effort", "quick", "--workers", workers, "--storage", str(storage)]
    with subprocess.Popen([*SEARCH, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as begun:
        wait_for_trials(storage, 2, begun)
        began = time.monotonic()
        begun.send_signal(number)
        _, errors = begun.communicate(timeout=60)
        assert time.monotonic() - began < 10
    assert begun.returncode == 130
    assert errors.strip().endswith(f"Resume with: search resume digits-1 --storage {storage} --workers {workers}")
    assert "Traceback" not in errors
    assert len(finished_trials(storage)) >= 2


@pytest.mark.slow
def test_resuming_a_finished_search_changes_nothing(finished: tuple[Path, dict[str, Any]]) -> None:
    storage, output = finished
    again = output_of("run", "--workers", "0", "--no-confirm", "--storage", str(storage), "--resume", "--json")
    assert front_of(json.loads(again)) == front_of(output)
    done = search("run", "--resume", "--name", "digits-1", "--seed", "7", "--storage", str(storage))
    assert done.exit_code == 2
    assert "has seed 0, not 7; resume it with --seed 0" in done.stderr


@pytest.mark.slow
def test_progress_on_a_pipe_is_plain_lines(finished: tuple[Path, dict[str, Any]]) -> None:
    storage, _ = finished
    printed = output_of(*RUN, "--workers", "0", "--storage", str(storage), "--min-accuracy", "0.8")
    assert "\x1b" not in printed
    assert re.search(r"search digits-\d: scikit-learn's handwritten digits, 8x8; budget 12", printed)
    assert re.search(r"12/12 evaluated, hypervolume \d\.\d+; cheapest measured at 80.00% or more: ", printed)
    # Other tests may have made the fresh runs of its answer.
    assert re.search(r"^(NOT CONFIRMED|Cheapest) at 80.00% or more", printed, re.MULTILINE)
    assert f"Storage:   sqlite:///{storage}" in printed


NETS = """
from torch import nn

def build(image_shape, classes, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2 * width), nn.ReLU(), nn.Linear(2 * width, classes))
"""


def write_nets(folder: Path, remark: str = "") -> Path:
    folder.mkdir()
    (folder / "nets.py").write_text(NETS + remark)
    return folder


def evaluation_count(storage: Path) -> int:
    with contextlib.closing(sqlite3.connect(storage)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM evaluations").fetchone()[0])


@pytest.mark.slow
@pytest.mark.process
def test_a_custom_network_is_searched_and_never_mixed_with_another(tmp_path: Path) -> None:
    storage = tmp_path / "results.db"
    here, copied = write_nets(tmp_path / "here"), write_nets(tmp_path / "copied")
    edited = write_nets(tmp_path / "edited", "# a remark")
    custom, kept = ["--network", "nets:build"], ["--storage", str(storage)]
    command = ["run", *custom, *kept, "--budget", "3", *QUICK, "--workers", "0"]
    output = json.loads(process(*command, "--json", check=True, folder=here).stdout)
    assert (output["name"], output["dataset"], output["network"]) == ("digits-1", "digits", "nets:build")
    assert output["evaluations"] == 3
    baseline = output["baseline"]["candidate"]
    assert (baseline["family"], baseline["depth"], baseline["width"]) == ("nets:build", 1, 8)

    made = evaluation_count(storage)
    again = json.loads(process(*command, "--json", check=True, folder=copied).stdout)
    assert front_of(again) == front_of(output)
    assert evaluation_count(storage) == made
    printed = process(*command, check=True, folder=edited).stdout
    assert "; network nets:build; budget 3" in printed
    assert "(digits, nets:build)" in printed
    assert "nets:build 1x8" in printed
    assert evaluation_count(storage) == 2 * made

    assert "digits, nets:build" in output_of("show", *kept)
    assert json.loads(output_of("show", "digits-1", *kept, "--json"))["network"] == "nets:build"
    best = ["best", "--min-accuracy", "0.1", *QUICK, *kept]
    assert "nets:build" in process(*best, *custom, check=True, folder=here).stdout
    assert "make one with: search run --dataset digits --effort quick\n" in search(*best).stderr

    resume = ["run", "--resume", "--name", "digits-1", "--budget", "4", "--no-confirm", "--workers", "0", *kept]
    assert "has the network nets:build; resume it with --network nets:build" in search(*resume).stderr
    assert "nets:build was edited after search 'digits-1' began" in process(*resume, *custom, folder=edited).stderr
    longer = process(*resume, *custom, "--json", check=True, folder=copied)
    assert json.loads(longer.stdout)["evaluations"] == 4
