import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import approx
from approx.arithmetic import native
from energy.cost_table import multiplier_cost, shipped_rows
from search.cli.main import cli
from search.multipliers.folder import MultiplierFolder

pytestmark = pytest.mark.slow


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_the_catalogue_is_listed_with_errors_and_energy() -> None:
    result = run("multipliers")
    assert result.exit_code == 0
    for name in approx.multiplier_names():
        assert f"\n{name} " in result.stdout
    listed = {entry["name"]: entry for entry in json.loads(run("multipliers", "--json").stdout)}
    assert list(listed) == approx.multiplier_names()
    assert listed["exact"]["errors"]["mae"] == 0
    for name, entry in listed.items():
        cost = multiplier_cost(name, weight_bits=8, activation_bits=8)
        assert entry["relative_energy"] == cost.relative_energy
        assert entry["relative_area"] == cost.relative_area
        assert entry["costs"]["unsigned"]["relative_area"] > 0
        assert name == "exact" or entry["relative_energy_source"].startswith("gates: ")


def test_published_figures_are_shown_apart(tmp_path: Path) -> None:
    picture = str(tmp_path / "errors.png")
    shown = run("multipliers", "show", "asm-1", "--out", picture).stdout
    for words in ("energy, layer:", "energy, unsigned:", "published energy:     0.68", "JETC 14(2)"):
        assert words in shown, words
    unlisted = run("multipliers", "show", "drum-7", "--out", picture).stdout
    assert "unknown; from a circuit: search multipliers characterise drum-7" in unlisted
    narrow = run("multipliers", "show", "drum-4", "--bits", "5", "--out", picture).stdout
    assert "energy, layer:" in narrow
    assert "energy, unsigned:" not in narrow


def test_a_multiplier_is_shown_with_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "errors.png"
    result = run("multipliers", "show", "kulkarni", "--out", str(picture))
    assert result.exit_code == 0
    for words in ("903.125", "14450", "VLSI Design 2011", "rank of the error:    1", "2 exact products"):
        assert words in result.stdout, words
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = json.loads(run("multipliers", "show", "exact", "--bits", "4", "--out", str(picture), "--json").stdout)
    assert shown["weight_bits"] == 4
    assert shown["heat_map"] == str(picture)
    signed = json.loads(run("multipliers", "show", "drum-3", "--signed", "--out", str(picture), "--json").stdout)
    assert signed["weight_signed"] is True
    assert abs(signed["errors"]["bias"]) < 1


def test_import_and_use(tmp_path: Path) -> None:
    table = np.arange(256)[:, None] * np.arange(256) + np.arange(256)
    np.save(tmp_path / "plus.npy", table)
    result = run("multipliers", "import", str(tmp_path / "plus.npy"), "--name", "mine", "--json")
    assert result.exit_code == 0, result.output
    (added,) = json.loads(result.stdout)
    assert added["errors"]["bias"] == 127.5
    assert added["errors"]["commutative"] is False
    assert added["errors"]["zero_preserving"] is False
    assert "\nmine " in run("multipliers").stdout
    shown = run("multipliers", "show", "mine", "--out", str(tmp_path / "m.png"))
    assert "no: pruned weights and padding are not free" in shown.stdout
    assert "imported from plus.npy" in shown.stdout
    assert run("multipliers", "import", str(tmp_path / "plus.npy"), "--name", "mine").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["show", "drumm-4"], "unknown multiplier 'drumm-4'; did you mean 'drum-"),
        (["show", "drum-4", "--bits", "13"], "must be between 2 and 12, got 13"),
        (["show", "mitchell", "--bits", "12"], "at most 8 bits, got 12"),
        (["show", "exact", "--out", "/dev/null/e.png"], "cannot draw to /dev/null/e.png: Not a directory"),
        (["import", "/nowhere/t.npy"], "there is no file /nowhere/t.npy"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], complaint: str) -> None:
    result = run("multipliers", *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


def test_names_near_imported_ones_are_offered(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", mul8s_1KVL=np.zeros((256, 256), int))
    assert run("multipliers", "import", str(tmp_path / "t.npz")).exit_code == 0
    assert "; imported: mul8s_1KVL" in run("multipliers", "show", "mul8s_1KVX").stderr


def test_characterised_members_are_listed_near_their_family() -> None:
    rows = [row for row in shipped_rows() if row.name == "ssm-4" and row.key[1:] == (6, 6)]
    names = ("drum-7", "drum-10", "ssm-3", "no-longer-imported")
    MultiplierFolder.default().keep_costs([replace(row, name=name) for row in rows for name in names])
    listed = {entry["name"]: entry for entry in json.loads(run("multipliers", "--json").stdout)}
    near = [name for name in listed if name.startswith(("drum", "ssm"))]
    assert near == sorted(near, key=lambda name: (name.split("-")[0], int(name.split("-")[1])))
    assert [name for name in listed if name not in approx.multiplier_names()] == ["drum-7", "drum-10", "ssm-3"]
    assert [name for name in listed if name in approx.multiplier_names()] == approx.multiplier_names()
    assert listed["ssm-3"]["weight_bits"] == 6  # static segments are at least half of an operand
    assert listed["ssm-3"]["relative_energy"] is not None
    assert "\ndrum-7 " in run("multipliers").stdout


def test_a_taken_name_asks_for_another(tmp_path: Path) -> None:
    np.save(tmp_path / "drum-4.npy", np.zeros((256, 256), int))
    result = run("multipliers", "import", str(tmp_path / "drum-4.npy"))
    assert result.exit_code == 2
    assert "taken by the catalogue; choose another --name" in result.stderr


def test_a_table_that_looks_signed_gives_a_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.arange(256)[:, None] * -np.arange(256))
    result = run("multipliers", "import", str(tmp_path / "t.npy"))
    assert "t has negative products of unsigned operands; if they are signed, import it with --signed" in result.stderr
    assert "negative" not in run("multipliers", "import", str(tmp_path / "t.npy"), "--signed", "--name", "s").stderr


def test_a_damaged_file_does_not_block_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSLAYER_MULTIPLIER_DIR", str(tmp_path))
    (tmp_path / "abc.npz").write_text("junk")
    result = run("multipliers")
    assert result.exit_code == 0
    assert "abc.npz is damaged; delete it" in result.stderr
    assert "mitchell" in result.stdout


def test_the_doctor_says_which_kernels_are_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(run("doctor", "--json").stdout)
    library = native.load()
    if library is not None:
        assert found["truth tables"].startswith(f"native row tables, {library.build} build")
    monkeypatch.setenv("CROSSLAYER_NATIVE", "0")
    native.load.cache_clear()
    try:
        result = run("doctor")
        assert "switched off by CROSSLAYER_NATIVE=0" in result.stdout
        monkeypatch.setattr(native, "_find", lambda: None)
        monkeypatch.delenv("CROSSLAYER_NATIVE")
        native.load.cache_clear()
        assert "install a C++ compiler" in run("doctor").stdout
    finally:
        monkeypatch.undo()
        native.load.cache_clear()
