"""Characterising a name or a circuit in a file: what is taken from it, printed, kept and refused."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import approx
from energy import CostTable, cost_table, gates
from energy.cost_table import CostKey, CostRow, MultiplierCost, exact_rows
from energy.gates import user_circuit
from energy.gates.netlist import Netlist
from energy.gates.synthesis import Synthesised
from search.cli.main import cli
from search.errors import UsageError
from search.locations import multiplier_dir
from search.multipliers import measuring
from search.multipliers.characterisation import characterise_rows
from search.multipliers.folder import MultiplierFolder
from search.multipliers.measuring import sign_of

MINE = "module mine(input [3:0] a, input [3:0] w, output [7:0] p); assign p = a[3:1] * w << 1; endmodule"


def cost_of(name: str, *, weight_bits: int, activation_bits: int) -> MultiplierCost:
    """Return the costs of a multiplier in layers, as another process would read them."""
    costs = MultiplierFolder.default().costs()
    return costs.cost(name, weight_bits=weight_bits, activation_bits=activation_bits)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["multipliers", "characterise", *arguments])


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
    layer = cost_of("mine", weight_bits=5, activation_bits=4)  # magnitudes of 4 bits, and a sign
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
        "signed_because": "because its products are then nearest to exact ones",
        "parameters": {},
        "published": "",
    }
    assert found["errors"] == {
        "mae": 3.75,
        "mre_nonzero": pytest.approx(sum(1 / a for a in range(1, 16, 2)) / 15),
        "wce": 15,
        "error_probability": 8 * 15 / 256,
        "pairs": 256,
    }
    natural = next(cost for cost in found["costs"] if (cost["weight_bits"], cost["activation_bits"]) == (5, 4))
    arrays = cost_table.array_rows()["layer", 5, 4]
    assert natural["relative_to_array"]["relative_area"] == natural["area_um2"] / arrays.area_um2
    assert natural["relative_to"].startswith("a Dadda tree of magnitudes or Baugh-Wooley")
    assert found["dearer_than_exact"] == (natural["relative"]["relative_energy"] > 1)
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
        patched.setattr(gates, "characterise_user", lambda *_, **__: pytest.fail("it is too late to refuse the name"))
        refused = run(str(file))
    assert refused.exit_code == 2
    differing = "already has a multiplier named 'mine', of whose 256 products the circuit computes 120 otherwise"
    assert f"{differing}; replace it with --overwrite, or choose another --name" in refused.stderr

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
        == "Circuit: module mul2 of multi.v; activation a (4 bits), weight b (6 bits); unsigned, because its products "
        "are then nearest to exact ones"
    )
    assert result.stdout.splitlines()[1] == (
        "Errors over all 1,024 pairs: mean absolute 0, mean relative 0.00%, worst 0; wrong in 0.00%"
    )
    assert re.search(
        r"In layers of 4 x 7 bits it takes more energy than the exact multiplier: 1\.\d\d times as much, "
        r"and \d\.\d\d times that of an exact array\.",
        result.stdout,
    )
    assert "Exact, layer: a Dadda tree of magnitudes or Baugh-Wooley, whichever takes less; array: " in result.stdout
    widths = [line.split("  ")[0] for line in result.stdout.splitlines() if line.startswith("layer, ")]
    assert widths == ["layer, 4 x 7", "layer, 4 x 4", "layer, 2 x 2"]
    assert "\nNarrower operands run in the whole circuit.\n" in result.stdout


@pytest.mark.process
def test_ctrl_c_keeps_nothing(tools: gates.Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
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
        ([], "give the name of a multiplier or a file of Verilog or BLIF; or --all with --out FOLDER"),
        (["drum-4", "--all"], "give the name"),
        (["--all"], "give the name"),
        (["drum-4", "--top", "m"], "--top, --param, --weights and --overwrite need a file of Verilog or BLIF"),
        (["drum-4", "--unsigned"], "--unsigned, --top"),
        (["drum-4", "--param", "N=8"], "--param, --weights"),
        (["nowhere.blif", "--param", "N"], "--param takes NAME=VALUE such as N=8, got 'N'"),
        (["drum-4", "--overwrite"], "--overwrite need a file"),
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
        ("bad.v", "module m; endmodule".encode("utf-16"), "is not a text file"),
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


def circuit_of(
    products: np.ndarray[tuple[int, ...], np.dtype[np.int64]], *, signed_ports: frozenset[str] = frozenset()
) -> gates.UserCircuit:
    """A circuit of 4 x 4 bits with these products, which no tool has seen."""
    activations, weights = np.divmod(np.arange(256), 16)
    ports = {"a": np.arange(4), "w": np.arange(4)}
    netlist = Netlist(inputs=ports, outputs={"p": np.arange(8)}, cell_names=(), net_count=0, levels=())
    return gates.UserCircuit(
        title="m",
        design=Synthesised(module="core", netlist=netlist, verilog=""),
        activation_port="a",
        weight_port="w",
        product_port="p",
        signed_ports=signed_ports,
        activations=activations,
        weights=weights,
        products=products.ravel() & 255,
    )


UNSIGNED = np.arange(16)[:, None] * np.arange(16)
SIGNED = (
    (np.arange(16)[:, None] ^ 8) * (np.arange(16) ^ 8) - 8 * ((np.arange(16)[:, None] ^ 8) + (np.arange(16) ^ 8)) + 64
)


@pytest.mark.parametrize(
    ("circuit", "names", "given", "taken"),
    [
        (circuit_of(UNSIGNED), ["mul4s_1"], False, (False, "as given")),
        (circuit_of(UNSIGNED, signed_ports=frozenset("aw")), ["mul4u_1"], None, (True, "as its ports say")),
        (circuit_of(UNSIGNED), ["m", "file", "mul4s_1"], None, (True, "as its name says")),
        (circuit_of(SIGNED), ["unsigned_mul", "mul4s_1"], None, (False, "as its name says")),
        (circuit_of(SIGNED), ["m"], None, (True, "because its products are then nearest to exact ones")),
        (circuit_of(UNSIGNED), ["m"], None, (False, "because its products are then nearest to exact ones")),
        (circuit_of(UNSIGNED * 0), ["m"], None, (False, "as nothing says that it is signed")),
    ],
)
def test_what_says_whether_operands_are_signed(
    circuit: gates.UserCircuit, names: list[str], given: bool | None, taken: tuple[bool, str]
) -> None:
    assert sign_of(circuit, names, given) == taken


def test_inputs_that_contradict_each_other() -> None:
    mixed = circuit_of(SIGNED, signed_ports=frozenset("w"))
    with pytest.raises(UsageError, match=r"'w' is declared as signed and 'a' is not, .* import the circuit's table"):
        sign_of(mixed, ["m"], None)
    assert sign_of(mixed, ["m"], True) == (True, "as given")


@pytest.mark.process
def test_a_sign_that_products_contradict_is_doubted(tools: gates.Tools, tmp_path: Path) -> None:
    file = tmp_path / "m.v"
    ports = "input signed [3:0] a, input [3:0] w, output [7:0] p"
    file.write_text(f"module m({ports}); assign p = $unsigned(a) * w; endmodule")
    refused = run(str(file))
    assert refused.exit_code == 2
    assert "circuits of both kinds cannot be characterised; import the circuit's table or C model" in refused.stderr
    found = run(str(file), "--signed", "--json")
    assert found.exit_code == 0, found.output
    assert "m looks unsigned; if it is, import it as --unsigned" in found.stderr
    assert json.loads(found.stdout)["circuit"]["signed_because"] == "as given"
    assert json.loads(found.stdout)["doubts"][0].startswith("m looks unsigned")


@pytest.mark.process
def test_an_imported_table_gets_the_costs_of_its_circuit(tools: gates.Tools, tmp_path: Path) -> None:
    table = np.arange(16)[:, None] // 2 * 2 * np.arange(16)
    np.save(tmp_path / "mul4u_x.npy", table.astype(np.int32))
    imported = CliRunner().invoke(cli, ["multipliers", "import", str(tmp_path / "mul4u_x.npy")])
    assert imported.exit_code == 0, imported.output
    unknown = run("mul4u_x")
    assert unknown.exit_code == 2
    assert unknown.stderr == (
        "search: 'mul4u_x' was imported as a table, without a circuit to measure; measure the circuit with: search "
        "multipliers characterise FILE.v --name mul4u_x, or give a published ratio with: search multipliers import "
        "FILE --name mul4u_x --energy RATIO\n"
    )
    given = ["multipliers", "import", str(tmp_path / "mul4u_x.npy"), "--name", "mul4u_x", "--energy", "0.5"]
    assert CliRunner().invoke(cli, given).exit_code == 0
    assert "Costs were stated and not measured: as given when it was imported." in run("mul4u_x").stdout
    file = tmp_path / "circuit.v"
    file.write_text(f"// MAE = 9\n{MINE}")
    before = [path.read_bytes() for path in multiplier_dir().glob("*.npz")]
    measured = run(str(file), "--name", "mul4u_x")
    assert measured.exit_code == 0  # to the letter, without --overwrite
    assert "its file says that the mean absolute error is 9, and here it is 3.75" in measured.stderr
    assert [path.read_bytes() for path in multiplier_dir().glob("*.npz")] == before
    known = run("mul4u_x", "--json")
    assert known.exit_code == 0, known.output
    found = json.loads(known.stdout)
    assert found["errors"]["wce"] == 15
    assert next(cost for cost in found["costs"] if cost["form"] == "layer")["relative"]["relative_energy"] > 0
    assert "layer, 4 x 4" in run("mul4u_x").stdout
    file.write_text(MINE.replace("[3:0]", "[2:0]").replace("a[3:1]", "a[2:1]"))
    other = run(str(file), "--name", "mul4u_x")
    assert other.exit_code == 2
    assert "'mul4u_x' of unsigned 4 x 4 bits, and the circuit has unsigned 3 x 3 bits; replace it" in other.stderr


@pytest.mark.process
def test_an_imported_table_that_is_built_in_takes_its_costs(tools: gates.Tools, tmp_path: Path) -> None:
    for bits in (8, 3):
        member = approx.find_multiplier(
            "truncated-2", weight_bits=bits, activation_bits=bits, activation_signed=False, weight_signed=False
        )
        MultiplierFolder.default().add(replace(member, name=f"mine-{bits}"))
        found = run(f"mine-{bits}")
        assert found.exit_code == 0, found.output
        assert "Costs are those of truncated-2, which computes the same. Kept in" in found.stdout
        costs = cost_of(f"mine-{bits}", weight_bits=bits, activation_bits=bits)
        built_in = CostTable().cost("truncated-2", weight_bits=bits, activation_bits=bits)
        # 8 bits are in the table; narrower ones are built here, with a bit for the weight's sign
        assert costs.relative_energy == pytest.approx(built_in.relative_energy, rel=0.01 if bits == 8 else 2)
        assert cost_of(f"mine-{bits}", weight_bits=2, activation_bits=2).relative_energy > 0


@pytest.mark.process
def test_wide_circuits_are_measured_and_not_kept(
    tools: gates.Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, CostKey]] = []

    def built(tools: gates.Tools, name: str, key: CostKey) -> CostRow:
        asked.append((name, key))
        form, weight_bits, activation_bits = key
        row = exact_rows()["layer", 8, 8]
        return replace(row, name=name, form=form, weight_bits=weight_bits, activation_bits=activation_bits)

    monkeypatch.setattr(measuring, "_built_exact", built)
    monkeypatch.setattr(user_circuit, "_ALL_PAIRS_BITS", 10)
    for module in (user_circuit, gates):
        monkeypatch.setattr(module, "SAMPLED_PAIRS", 2**10)
    file = tmp_path / "wide.v"
    ports = "input [11:0] a, input [2:0] w, output [14:0] p"
    file.write_text(f"module wide({ports}); assign p = {{a[11:1], 1'b0}} * w; endmodule")
    result = run(str(file))
    assert result.exit_code == 0, result.output
    assert "Errors over 1,024 random pairs, bounds with 99 % confidence: mean absolute 1." in result.stdout
    assert "worst seen 7, which the worst of all may exceed" in result.stdout
    assert "It is measured and not kept: searches use multipliers of at most 8 bits." in result.stdout
    # The exact one in layers is in the table.
    assert asked == [
        ("exact", ("unsigned", 3, 12)),
        ("exact-array", ("unsigned", 3, 12)),
        ("exact-array", ("layer", 3, 12)),
    ]
    assert not multiplier_dir().exists()
    found = json.loads(run(str(file), "--json").stdout)
    assert found["kept_in"] is None
    assert found["errors"]["pairs"] == 1024
    assert found["errors"]["error_probability_least"] < 7 / 16 < found["errors"]["error_probability_most"]
    assert [cost["form"] for cost in found["costs"]] == ["unsigned", "layer"]


@pytest.mark.process
def test_an_exact_multiplier_that_is_not_shipped_is_built(tools: gates.Tools) -> None:
    row = measuring._built_exact(tools, "exact", ("unsigned", 2, 9))
    array = measuring._built_exact(tools, "exact-array", ("unsigned", 2, 9))
    assert row.key == array.key == ("unsigned", 2, 9)
    assert 0 < row.energy_recorded_fj <= array.energy_recorded_fj
