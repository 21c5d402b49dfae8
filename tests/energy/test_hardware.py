import re
from dataclasses import replace
from pathlib import Path

import pytest

import energy
from energy import HardwareError, WorkloadError, estimate, hardware_names, load_hardware

FOLDER = Path(energy.__file__).parent / "hardware"
GOOD = (FOLDER / "weight-stationary-45nm.yaml").read_text()
ROWS = (FOLDER / "row-stationary-65nm.yaml").read_text()


def load(tmp_path: Path, text: str) -> energy.Hardware:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load_hardware(str(path))


def test_what_is_no_hardware_and_no_workload_is_answered_with_a_sentence() -> None:
    with pytest.raises(HardwareError, match=r"hardware must be a name or the path of a \.yaml file, got 5"):
        load_hardware(5)  # type: ignore[arg-type]
    with pytest.raises(WorkloadError, match=r"workload must be an energy\.Workload, got '5'"):
        estimate("5", load_hardware("weight-stationary-45nm"))  # type: ignore[arg-type]


def test_what_is_shipped() -> None:
    loaded = {name: load_hardware(name) for name in hardware_names()}
    assert all(hardware.name == name for name, hardware in loaded.items())
    assert {hardware.dataflow for hardware in loaded.values()} == {
        "weight-stationary",
        "output-stationary",
        "row-stationary",
    }
    assert {hardware.technology.node_nm for hardware in loaded.values()} == {22, 45, 65}
    assert {hardware.flavour for hardware in loaded.values()} == {"low-power", "high-performance"}
    assert loaded["hybrid-22nm"].weight_memory.cell == "hybrid"


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD.replace("rows: 16", "rows: 8")).array_rows == 8


def test_a_technology_of_ones_own_lies_beside_the_hardware(tmp_path: Path) -> None:
    technology = (FOLDER.parent / "technology" / "45nm.yaml").read_text()
    (tmp_path / "my-node.yaml").write_text(technology.replace("node_nm: 45", "node_nm: 40"))
    assert load(tmp_path, GOOD.replace("technology: 45nm", "technology: my-node.yaml")).technology.node_nm == 40
    with pytest.raises(HardwareError, match=r"cannot read technology file .*elsewhere\.yaml: No such file"):
        load(tmp_path, GOOD.replace("technology: 45nm", "technology: elsewhere.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rows: 16", "rows: 0", "mine.yaml:6: array.rows must be a whole number from 1 to 1000000, got 0"),
        ("rows: 16", "rows: 8.5", "array.rows must be a whole number from 1 to 1000000, got 8.5"),
        ("rows: 16", "rows: [1]", "array.rows must be a single value"),
        ("rows: 16", "rows: yes", "array.rows must be a whole number from 1 to 1000000, got True"),
        ("clock_mhz: 200", "clock_mhz: fast", "clock_mhz must be a positive number, got 'fast'"),
        ("clock_mhz: 200", "clock_mhz: .inf", "clock_mhz must be a positive number, got inf"),
        ("clock_mhz: 200", "clock_mhz: 2024-01-01", "clock_mhz must be a positive number"),
        ("dram: none", "dram: true", "dram must be a mapping of keys to values"),
        ("dram: none", "", "the key 'dram' is missing"),
        ("dram: none", "dram: none\ncolour: red", "unknown key 'colour'"),
        ("dram: none", "dram: none\nzeroes: gated", "unknown key 'zeroes'; did you mean 'zeros'?"),
        (
            "dram: none",
            "dram: {interface: ddr9, feature_maps: kept, compressed: false}",
            "dram.interface must be one of",
        ),
        ("dram: none", "dram: {interface: ddr3, feature_maps: kept}", "the key 'dram.compressed' is missing"),
        (
            "dram: none",
            "dram: none\nscratchpads: {weights: 1, inputs: 1, sums: 1}",
            "must be left out, as the dataflow is",
        ),
        ("clock_mhz: 200", "clock_ghz: 200", "the key 'clock_mhz' is missing; line 7 has 'clock_ghz'"),
        ("clock_mhz: 200", "clock_mhz: 0.2", "clock_mhz must be in MHz, between 1 and 20000, got 0.2"),
        ("rows: 16", "rows: 1000000000000", "array.rows must be a whole number from 1 to 1000000"),
        ("technology: 45nm", "technology: 3nm", "unknown technology '3nm'; choose one of 22nm, 45nm, 65nm"),
        ("weight-stationary\n", "row-stationary\n", "the key 'scratchpads' is missing"),
        ("weight-stationary\n", "loop-nest\n", "dataflow must be one of weight-stationary, output-stationary, row-"),
        ("flavour: low-power", "flavour: medium", "flavour must be one of low-power, high-performance, got 'medium'"),
        ("zeros: gated", "zeros: ignored", "zeros must be one of none, gated, fetch-gated, skipped, got 'ignored'"),
        ("cell: hybrid", "cell: 10T", "weight_memory.cell must be one of 6T, 8T, hybrid, got '10T'"),
        ("cell: 6T", "cell: hybrid", "activation_memory.cell must be one of 6T, 8T, got 'hybrid'"),
        ("capacity_kb: fitted", "capacity_kb: 20", "weight_memory.capacity_kb must be a whole number of banks of 8 KB"),
        ("capacity_kb: fitted", "capacity_kb: big", "must be a whole number from 1 to 1000000, or fitted, got 'big'"),
        (
            "supply_v: 0.9  ",
            "supply_v: 900  ",
            "supply_v must be in volts, between 0.3 and 1.5 times the nominal 0.9 V",
        ),
        ("partial_sum_bits: full", "partial_sum_bits: half", "must be a whole number from 1 to 1000000, or full"),
        ("name: weight", "name: [weight", "mine.yaml:3: not valid YAML"),
        ("name: weight-stationary-45nm", "name: ''", "name must be a string, got ''"),
        ("name: weight", "name: x\nname: weight", "mine.yaml:3: duplicate key 'name'"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(HardwareError, match=re.escape(message)):
        load(tmp_path, GOOD.replace(old, new, 1))


def test_numbers_with_an_exponent_and_empty_files(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD.replace("clock_mhz: 200", "clock_mhz: 2e2")).clock_mhz == 200
    with pytest.raises(HardwareError, match=r"mine\.yaml is empty; start from one of those"):
        load(tmp_path, "# nothing yet")


@pytest.mark.parametrize("text", ["[]", "3", "- name: x"])
def test_files_that_are_no_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(HardwareError, match=r"mine\.yaml:1: the file must be a mapping"):
        load(tmp_path, text)


def test_errors_name_the_line_of_the_value(tmp_path: Path) -> None:
    line = next(number for number, text in enumerate(ROWS.splitlines(), 1) if "bank_kb: 4" in text)
    with pytest.raises(HardwareError, match=rf"mine\.yaml:{line}: activation_memory\.bank_kb must be"):
        load(tmp_path, ROWS.replace("bank_kb: 4", "bank_kb: four"))


def test_an_edited_copy_is_not_taken_for_the_original(tmp_path: Path) -> None:
    shipped = load_hardware("weight-stationary-45nm")
    assert shipped.identity == "weight-stationary-45nm"
    (tmp_path / "copy.yaml").write_text(GOOD)
    assert load_hardware(str(tmp_path / "copy.yaml")).identity == shipped.identity
    edited = load(tmp_path, GOOD.replace("bank_kb: 8", "bank_kb: 16"))
    assert edited.identity.startswith("weight-stationary-45nm@")
    assert replace(edited, clock_mhz=100.0).identity != edited.identity


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HardwareError, match="is not a text file"):
        load_hardware(str(tmp_path / "x.yaml"))


def test_unknown_names_and_missing_files() -> None:
    with pytest.raises(HardwareError, match="unknown hardware 'tpu'; choose one of hybrid-22nm, output"):
        load_hardware("tpu")
    with pytest.raises(HardwareError, match=r"cannot read hardware file nowhere\.yaml"):
        load_hardware("nowhere.yaml")
