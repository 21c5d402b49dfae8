"""The command `search hardware`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from energy import hardware_names, load_hardware
from energy.hardware_files import hardware_text
from search.cli.main import cli
from search.defaults import DEFAULT_HARDWARE


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["hardware", *arguments])


def test_hardware_is_listed_a_line_each() -> None:
    done = run()
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1] == ["name", "nm", "dataflow", "array", "MHz", "widths", "memories", "zeros"]
    assert "Default: flexible-45nm." in done.stdout
    assert [line[0] for line in lines[3 : 3 + len(hardware_names())]] == hardware_names()
    assert "row-stationary-65nm 65 row-stationary 12x14 200 fitted 8 + 100 KB, lpddr DRAM gated" in [
        " ".join(line) for line in lines
    ]
    listed = json.loads(run("--json").stdout)
    assert [one["name"] for one in listed] == hardware_names()
    eyeriss = next(one for one in listed if one["name"] == "row-stationary-65nm")
    assert (eyeriss["node_nm"], eyeriss["dram"], eyeriss["weight_memory"]["capacity_kb"]) == (65, "lpddr", 8)


def test_a_file_is_shown_with_its_comments(tmp_path: Path) -> None:
    assert run("show", "hybrid-22nm").stdout == hardware_text("hybrid-22nm")
    assert json.loads(run("show", "hybrid-22nm", "--json").stdout)["array"] == {"rows": 16, "columns": 16}
    path = tmp_path / "mine.yaml"
    path.write_text(hardware_text("hybrid-22nm") + "# mine\n")
    assert run("show", str(path)).stdout.endswith("# mine\n")


def test_a_new_file_is_checked_and_then_edited(tmp_path: Path) -> None:
    path = tmp_path / "my chip.yaml"
    done = run("new", str(path), "--from", "row-stationary-65nm")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{path} is a copy of row-stationary-65nm, named my chip. Edit it, then:",
        f"  search hardware check '{path}'",
        f"  search run --hardware '{path}'",
    ]
    identity = load_hardware(str(path)).identity
    done = run("check", str(path))
    assert (done.exit_code, done.stdout) == (0, f"{path} is right; results with it are stored under {identity}\n")
    assert json.loads(run("check", str(path), "--json").stdout) == {
        "file": str(path),
        "right": True,
        "identity": identity,
        "mistakes": [],
    }
    done = run("new", str(path))
    assert done.exit_code == 2
    assert done.stderr == f"search: {path} exists; choose another file, or replace it with --overwrite\n"
    done = run("new", str(path), "--overwrite", "--json")
    assert json.loads(done.stdout) == {"file": str(path), "name": "my chip", "from": DEFAULT_HARDWARE}


def test_all_mistakes_are_printed(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = hardware_text("weight-stationary-45nm").replace("rows: 16", "rows: 016").replace("dram: none", "dram: no")
    path.write_text(text)
    rows, dram = (
        next(number for number, line in enumerate(text.splitlines(), 1) if word in line)
        for word in ("rows: 016", "dram: no")
    )
    lines = [
        f"{path}:{rows}: array.rows must be in decimal notation, got 016, which YAML reads as 14; write 16 or 14",
        f"{path}:{dram}: dram must be a mapping of keys to values, or none, got 'no'; did you mean 'none'?",
    ]
    for arguments in (["check", str(path)], ["show", str(path)]):
        done = run(*arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [f"search: {line}" for line in lines]
    done = run("check", str(path), "--json")
    assert (done.exit_code, done.stderr) == (2, "")
    assert json.loads(done.stdout) == {"file": str(path), "right": False, "identity": None, "mistakes": lines}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "tpu"], f"unknown hardware 'tpu'; choose one of {hardware_names()[0]}, "),
        (["check", "tpu"], "or give the path of a .yaml file; list them with: search hardware"),
        (["new", "mine.yaml", "--from", "tpu"], f"unknown hardware 'tpu'; copy one of {hardware_names()[0]}, "),
        (["new", "mine"], "the name of a hardware file ends in .yaml, got mine"),
        (["check", "gone.yaml"], "cannot read hardware file gone.yaml: No such file or directory"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
