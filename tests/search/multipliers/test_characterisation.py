"""Circuits compute what the emulator does; the built-in table is reproducible; custom multipliers."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

import approx
from energy import CostTable, cost_table, gates
from energy.cost_table import CostKey, CostRow, MultiplierCost, shipped_rows
from energy.gates.characterise import Meter, as_values, encoder_of
from energy.gates.simulation import compute
from energy.gates.synthesis import synthesise
from energy.gates.verilog import TOP, TWOS_COMPLEMENT, designs
from search.cli.main import cli
from search.locations import multiplier_dir
from search.multipliers.characterisation import SHIPPED_KEYS, catalogue_names, characterise_rows, expected
from search.multipliers.folder import MultiplierFolder
from search.multipliers.shipped_table import write_shipped_table

MINE = "module mine(input [3:0] a, input [3:0] w, output [7:0] p); assign p = a[3:1] * w << 1; endmodule"


def cost_of(name: str, *, weight_bits: int, activation_bits: int) -> MultiplierCost:
    """Return the costs of a multiplier in layers, as another process would read them."""
    costs = MultiplierFolder.default().costs()
    return costs.cost(name, weight_bits=weight_bits, activation_bits=activation_bits)


@pytest.fixture(scope="module")
def tools() -> gates.Tools:
    try:
        return gates.find_tools()
    except gates.GateToolError as error:
        pytest.skip(str(error))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["multipliers", "characterise", *arguments])


def test_the_table_has_the_whole_catalogue() -> None:
    assert set(catalogue_names()) == {row.name for row in shipped_rows()}
    assert set(approx.multiplier_names()) <= set(catalogue_names())
    searched = {("8x8", w, a) for form, w, a in SHIPPED_KEYS if form == "layer"}
    for name in catalogue_names():
        keys = {row.key for row in shipped_rows() if row.name == name}
        assert {*SHIPPED_KEYS} | searched <= keys
        assert name == "exact" or keys == {*SHIPPED_KEYS} | searched


@pytest.mark.process
@pytest.mark.parametrize("key", [("layer", 8, 8), ("layer", 5, 3), ("unsigned", 8, 8), ("signed", 8, 8)])
@pytest.mark.parametrize("name", [*catalogue_names(), "drum-7", "broken-array-3-5", "truncated-compensated-9"])
def test_circuits_compute_what_the_emulator_does(tools: gates.Tools, name: str, key: CostKey) -> None:
    wanted = expected(name, key)
    pairs = wanted.pairs
    for design in designs(name, wanted.operands):
        netlist = synthesise(tools, design.verilog, top=TOP, parts=design.parts).netlist
        raw = compute(netlist, encoder_of(design, wanted)(pairs))["p"]
        found = as_values(raw, len(netlist.outputs["p"]), signed=key[0] != "unsigned")
        assert (found == wanted.products(pairs)).all()
        if key[0] == "layer":
            # Minus zero, which a failed sign makes of zero; in two's complement its code is the most negative weight.
            activations = np.arange(2**wanted.activation_bits)
            lowest = 2 ** (wanted.weight_bits - 1)
            raw = compute(netlist, {"a": activations, "w": np.full_like(activations, lowest)})["p"]
            negative = design.description == TWOS_COMPLEMENT
            products = -lowest * activations if negative else -wanted.table[:, 0]
            assert (as_values(raw, len(netlist.outputs["p"]), signed=True) == products).all()


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("exact", ("layer", 4, 4)),
        ("momeni", ("layer", 8, 8)),
        ("asm-1-3", ("layer", 8, 5)),
        ("drum-3", ("unsigned", 8, 8)),
        ("truncated-compensated-4", ("signed", 8, 8)),
    ],
)
def test_rows_are_reproduced(tools: gates.Tools, name: str, key: CostKey) -> None:
    told = yaml.safe_load(files("energy").joinpath("multipliers.provenance.yaml").read_text())
    if told["tools"] != gates.tool_versions(tools):
        pytest.skip(f"the table was made with {told['tools']}")
    (row,) = characterise_rows(tools, [name], [key])
    (shipped,) = (one for one in shipped_rows() if one.name == name and one.key == key)
    for column in CostRow.__slots__:
        value = getattr(row, column)
        assert getattr(shipped, column) == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value)


@pytest.mark.process
def test_the_table_is_written_with_its_provenance(tools: gates.Tools, tmp_path: Path) -> None:
    keys: tuple[CostKey, ...] = (("layer", 3, 3), ("layer", 8, 8))
    seen: list[tuple[int, int]] = []
    rows = characterise_rows(tools, ["ssm-3"], keys, on_row=lambda done, total: seen.append((done, total)))
    assert [row.key for row in rows] == [("layer", 3, 3)]  # three bits are less than half of eight
    assert seen == [(1, 1)]
    table, provenance = write_shipped_table(tools, tmp_path / "new", rows)
    assert table.read_text().count("\n") == 2
    shipped = yaml.safe_load(files("energy").joinpath("multipliers.provenance.yaml").read_text())
    assert set(yaml.safe_load(provenance.read_text())) == set(shipped)


@pytest.mark.process
def test_a_verilog_file_becomes_a_multiplier(
    tools: gates.Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.v"
    file.write_text(MINE)
    result = run(str(file), "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["name"] == "mine"
    keys = {(cost["form"], cost["weight_bits"], cost["activation_bits"]) for cost in found["costs"]}
    assert keys == {
        (form, weight_bits, activation_bits)
        for form in ("layer", "8x8")  # it is the same circuit in an array of given widths
        for weight_bits in (2, 3, 4, 5)
        for activation_bits in (2, 3, 4)
    }
    assert Path(found["kept_in"]).is_file()

    listed = json.loads(CliRunner().invoke(cli, ["multipliers", "--json"]).stdout)
    (mine,) = (one for one in listed if one["name"] == "mine")
    assert mine["errors"]["wce"] == 15
    layer = cost_of("mine", weight_bits=4, activation_bits=4)
    assert mine["relative_energy"] == layer.relative_energy
    assert set(mine["costs"]) == {"layer"}

    monkeypatch.setattr(cost_table, "_known", CostTable())
    assert [*MultiplierFolder.default().costs().added] == ["mine"]  # by a later process
    assert cost_of("mine", weight_bits=2, activation_bits=2).relative_area > 1  # too large a circuit for these
    assert found["circuit"] == {
        "file": "mine.v",
        "module": "mine",
        "activation_port": "a",
        "activation_bits": 4,
        "weight_port": "w",
        "weight_bits": 4,
        "signed": False,
    }
    assert found["same_products_as"] is None


@pytest.mark.process
def test_a_circuit_is_edited(tools: gates.Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.v"
    file.write_text(MINE)
    assert run(str(file), "--overwrite").exit_code == 0  # nothing to replace
    before = cost_of("mine", weight_bits=4, activation_bits=4)
    library = approx.MultiplierLibrary(multiplier_dir())
    (old,) = library.multipliers()
    library.add(replace(old, name="twin"))  # in the same file
    file.write_text(MINE.replace("a[3:1] * w << 1", "a * w"))
    with monkeypatch.context() as patched:
        patched.setattr(gates, "read_user_verilog", lambda *_, **__: pytest.fail("it is too late to refuse the name"))
        refused = run(str(file))
    assert refused.exit_code == 2
    assert "already has a multiplier named 'mine'; replace it with --overwrite, or choose" in refused.stderr

    result = run(str(file), "--overwrite")
    assert result.exit_code == 0, result.output
    mine, twin = library.multipliers()
    assert (twin.name, twin.digest) == ("twin", old.digest)
    assert library.remove("twin")
    assert not library.remove("twin")
    assert [known.name for known in library.multipliers()] == ["mine"]
    assert int(mine.table()[15, 15]) == 225
    assert cost_of("mine", weight_bits=4, activation_bits=4).relative_area > before.relative_area
    assert "The same products as exact, which takes 1.00" in result.stdout


@pytest.mark.process
def test_a_circuit_is_printed(tools: gates.Tools, tmp_path: Path) -> None:
    file = tmp_path / "multi.v"
    file.write_text("module mul2(input [3:0] a, input [5:0] b, output [9:0] p); assign p = a * b; endmodule")
    result = run(str(file))
    assert result.exit_code == 0, result.output
    assert (
        result.stdout.splitlines()[0]
        == "Circuit: module mul2 of multi.v; activation a (4 bits), weight b (6 bits), unsigned"
    )
    widths = [line.split("  ")[0] for line in result.stdout.splitlines() if line.startswith("layer, ")]
    assert widths == ["layer, 4 x 6", "layer, 4 x 4", "layer, 2 x 2"]
    assert "\nNarrower operands run in the whole circuit.\n" in result.stdout


@pytest.mark.process
def test_ctrl_c_keeps_nothing(tools: gates.Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "mine.v").write_text(MINE)
    monkeypatch.setattr(gates, "characterise_user", interrupted)
    monkeypatch.setattr(gates, "characterise", interrupted)
    for subject in (str(tmp_path / "mine.v"), "drum-7"):
        result = run(subject)
        assert result.exit_code == 130
        assert result.stderr == "search: stopped; nothing was kept\n"
    assert approx.MultiplierLibrary(multiplier_dir()).multipliers() == []
    assert not MultiplierFolder.default().cost_file.exists()


@pytest.mark.process
def test_an_unsigned_circuit_of_eight_bits_also_has_an_unsigned_row(tools: gates.Tools) -> None:
    text = MINE.replace("3:", "7:").replace("[7:0] p", "[15:0] p")
    found = gates.read_user_verilog(tools, text, name="mine", signed=False)
    assert next(gates.characterise_user(tools, found)).key == ("unsigned", 8, 8)
    assert gates.user_row_count(found) == 1 + 2 * 49


@pytest.mark.process
def test_a_member_that_is_not_built_in(tools: gates.Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: tuple[CostKey, ...] = (("layer", 5, 5), ("layer", 4, 4))
    monkeypatch.setattr("search.multipliers.characterisation.SHIPPED_KEYS", keys)
    monkeypatch.setattr(characterise_rows, "__defaults__", (keys,))
    result = run("truncated-3")
    assert result.exit_code == 0, result.output
    assert "layer, 5 x 5" in result.stdout
    assert 0 < cost_of("truncated-3", weight_bits=5, activation_bits=5).relative_energy < 1
    monkeypatch.setattr(gates, "tool_versions", lambda tools: {"yosys": "Yosys 9", "cell_library": "other"})
    shipped = run("truncated-2")
    assert "It is built in." in shipped.stdout
    assert "characterised with other tools (Yosys 9 here, Yosys 0." in shipped.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give the name of a multiplier or a Verilog file; or --all with --out FOLDER"),
        (["drum-4", "--all"], "give the name"),
        (["--all"], "give the name"),
        (["drum-4", "--top", "m"], "--name, --signed, --top, --weights and --overwrite need a Verilog file"),
        (["drum-4", "--overwrite"], "--overwrite need a Verilog file"),
        (["nowhere.VHDL"], "nowhere.VHDL: VHDL is not supported; convert it to Verilog"),
        (["drumm-4"], "unknown multiplier 'drumm-4'"),
        (["nowhere.v"], "cannot read nowhere.v: No such file or directory"),
    ],
)
def test_invalid_arguments(tools: gates.Tools, arguments: list[str], complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("bad.v", b"module bad(input [3:0] a, output [3:0] p); assign p = ~a; endmodule", "two inputs, activation and"),
        ("bad.v", b"\xff\xfe", "is not a text file"),
        ("exact.v", MINE.encode(), "the name 'exact' is taken by the catalogue"),
        ("a b.v", MINE.encode(), "a multiplier's name is"),
    ],
)
def test_bad_files(tools: gates.Tools, tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    result = run(str(tmp_path / name))
    assert result.exit_code in (1, 2)
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_the_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("drum-7")
    assert result.exit_code == 1
    assert "apt-get install yosys iverilog qflow-tech-osu018" in result.stderr


@pytest.mark.parametrize("name", catalogue_names())
@pytest.mark.parametrize("key", [("layer", 8, 8), ("layer", 5, 3), ("signed", 8, 8)])
def test_the_proof_covers_the_weights_that_only_faults_make(name: str, key: CostKey) -> None:
    form, weight_bits, activation_bits = key
    pairs = expected(name, key).pairs
    weights = 2**weight_bits - (form == "layer")  # the most negative has no sign and magnitude
    assert len(set(zip(pairs.activations.tolist(), pairs.weights.tolist(), strict=True))) == weights << activation_bits


@pytest.mark.process
@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(8, 4), (8, 5), (4, 2), (3, 2)])
def test_the_exact_multiplier_takes_weights_as_its_cheapest_circuit_does(
    tools: gates.Tools, weight_bits: int, activation_bits: int
) -> None:
    function = gates.ExactInLayers(weight_bits=weight_bits, activation_bits=activation_bits)
    energies = {}
    for design in designs("exact", function.operands):
        netlist = synthesise(tools, design.verilog, top=TOP, parts=design.parts).netlist
        row = Meter(tools, netlist).row(function, encoder_of(design, function), name="exact")
        energies[design.description] = row.energy_recorded_fj
    cheapest = min(energies, key=lambda description: energies[description])
    multiplier = approx.find_multiplier(
        "exact", weight_bits=weight_bits, activation_bits=activation_bits, activation_signed=False
    )
    assert (multiplier.weight_format == "twos-complement") == (cheapest == TWOS_COMPLEMENT)
