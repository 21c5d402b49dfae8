import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

import approx
from approx.arithmetic import native
from energy.cost_table import multiplier_cost, shipped_rows
from search.cli.main import cli
from search.errors import UsageError
from search.multipliers.choice import choose
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


def _signed_products(bits: int = 8) -> NDArray[np.int64]:
    """Products without their lowest three bits, in the order of values from the lowest."""
    values = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    products = values[:, None] * values[None, :]
    coarse: NDArray[np.int64] = np.sign(products) * (np.abs(products) >> 3 << 3)
    return coarse


def test_what_was_taken_is_said_and_what_looks_wrong_is_doubted(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", _signed_products())
    taken = run("multipliers", "import", str(tmp_path / "t.npy"))
    assert "t: imported from t.npy: signed, from the lowest value, by its products" in " ".join(taken.stdout.split())
    assert taken.stderr == ""
    (known,) = json.loads(run("multipliers", "import", str(tmp_path / "t.npy"), "--signed", "--json").stdout)
    assert known["errors"]["wce"] == 7
    assert known["doubts"] == []
    wrong = run("multipliers", "import", str(tmp_path / "t.npy"), "--unsigned", "--name", "wrong")
    assert "wrong looks as if its operands were signed, from the lowest value: rows at -128" in wrong.stderr
    assert "search: to import it in another way, add --overwrite" in wrong.stderr
    np.save(tmp_path / "u.npy", np.roll(_signed_products(), (128, 128), (0, 1)) & 0xFFFF)
    assert "u looks signed; if it is, import it as --signed" in " ".join(
        run("multipliers", "import", str(tmp_path / "u.npy"), "--unsigned").stderr.split()
    )


def test_advice_after_a_doubt_works_to_the_letter(tmp_path: Path) -> None:
    file = str(tmp_path / "t.npy")
    np.save(file, np.tile(np.arange(16)[:, None] * np.arange(16), (16, 16)))
    doubted = run("multipliers", "import", file)
    assert "as if it had 4 bits and not 8; if so, import it with --bits 4" in " ".join(doubted.stderr.split())
    refused = run("multipliers", "import", file, "--bits", "4")
    assert "has another multiplier named 't'; choose another --name" in refused.stderr
    assert "--overwrite" in refused.stderr
    (known,) = json.loads(run("multipliers", "import", file, "--bits", "4", "--overwrite", "--json").stdout)
    assert (known["weight_bits"], known["activation_bits"], known["errors"]["wce"]) == (4, 4, 0)


def test_published_energy_makes_a_multiplier_searchable(tmp_path: Path) -> None:
    file = str(tmp_path / "tables.npz")
    np.savez(file, mul8u_X=np.arange(256)[:, None] * np.arange(256), mul8u_Y=np.arange(256)[:, None] * np.arange(256))
    without = run("multipliers", "import", file)
    assert "No energy is known for mul8u_X, mul8u_Y" in without.stdout
    with pytest.raises(UsageError, match="no energy is known for 'mul8u_X'"):
        choose(["mul8u_X"])
    several = run("multipliers", "import", file, "--energy", "0.5")
    assert "has 2 multipliers (mul8u_X, mul8u_Y, ...), and --energy is that of one; choose it with --name" in (
        " ".join(several.stderr.split())
    )
    given = ("multipliers", "import", file, "--name", "mul8u_X", "--energy", "0.5", "--area", "0.6", "--json")
    (known,) = json.loads(run(*given).stdout)
    assert known["relative_energy_source"] == "as given when it was imported"
    assert 0.5 < known["relative_energy"] < 0.65  # the logic for signed weights is not saved
    assert [one.imported.name for one in choose(["mul8u_X"]) if one.imported is not None] == ["mul8u_X"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--energy", "0"], "--energy is a ratio over an exact multiplier of the same widths, above 0 and at most 100"),
        (["--energy", "nan"], "got nan"),
        (["--area", "0.5"], "--area needs --energy"),
        (["--bits", "eight"], "'eight' is not a width; give one such as 8, or ACTIVATIONxWEIGHT such as 8x4"),
        (["--bits", "8x9"], "--bits must be the width of both operands, 2 to 8, or those of activation and weight"),
        (["--bits", "4"], "256 x 256 products, which are not those of 4 x 4 bits as --bits says"),
    ],
)
def test_options_of_an_import_that_do_not_fit(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    np.save(tmp_path / "t.npy", np.arange(256)[:, None] * np.arange(256))
    result = run("multipliers", "import", str(tmp_path / "t.npy"), *arguments)
    assert result.exit_code == 2
    assert complaint in " ".join(result.stderr.split())


def test_a_damaged_file_does_not_block_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSLAYER_MULTIPLIER_DIR", str(tmp_path))
    (tmp_path / "abc.npz").write_text("junk")
    result = run("multipliers")
    assert result.exit_code == 0
    assert "abc.npz is damaged; delete it" in result.stderr
    assert "mitchell" in result.stdout


@pytest.mark.process  # on some systems Python asks `uname`
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
