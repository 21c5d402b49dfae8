from pathlib import Path

import pytest
import yaml

import energy
from energy import HardwareError, hardware_names, load_hardware

GOOD = """
name: mine
technology: 45nm
dataflow: weight-stationary
array_rows: 8
array_columns: 8
clock_mhz: 100.0
sram_bank_kb: 4
sram_flavour: low-power
dram: false
"""


@pytest.mark.parametrize("name", hardware_names())
def test_everything_shipped_loads(name: str) -> None:
    assert load_hardware(name).name == name


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert load_hardware(str(path)).array_rows == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("array_rows: 8", "array_rows: 0"), "array_rows must be a whole number of at least 1, got 0"),
        (("array_rows: 8", "array_rows: 8.5"), "array_rows must be a whole number of at least 1, got 8.5"),
        (("clock_mhz: 100.0", "clock_mhz: fast"), "clock_mhz must be a positive number, got 'fast'"),
        (("clock_mhz: 100.0", "clock_mhz: .inf"), "clock_mhz must be a positive number, got inf"),
        (("dram: false", "dram: 1"), "dram must be true or false, got 1"),
        (("dram: false", ""), "the key 'dram' is missing"),
        (("dram: false", "dram: false\ncolour: red"), "unknown key 'colour'"),
        (("45nm", "3nm"), "unknown technology '3nm'"),
        (("weight-stationary", "row-stationary"), "dataflow must be 'weight-stationary', got 'row-stationary'"),
        (("low-power", "medium"), "sram_flavour must be one of low-power, high-performance, got 'medium'"),
        (("name: mine", "name: [1"), "not valid YAML"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(HardwareError, match=message):
        load_hardware(str(path))


def test_an_edited_copy_is_not_taken_for_the_original(tmp_path: Path) -> None:
    shipped = load_hardware("weight-stationary-45nm")
    assert shipped.identity == "weight-stationary-45nm"
    path = tmp_path / "copy.yaml"
    original = Path(energy.__file__).parent / "hardware" / "weight-stationary-45nm.yaml"
    path.write_text(original.read_text())
    assert load_hardware(str(path)).identity == shipped.identity
    edited = tmp_path / "edited.yaml"
    edited.write_text(original.read_text().replace("sram_bank_kb: 8", "sram_bank_kb: 16"))
    assert load_hardware(str(edited)).identity.startswith("weight-stationary-45nm@")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HardwareError, match="is not a text file"):
        load_hardware(str(tmp_path / "x.yaml"))


def test_unknown_names_and_missing_files() -> None:
    with pytest.raises(HardwareError, match="unknown hardware 'tpu'; choose one of weight-stationary-45nm"):
        load_hardware("tpu")
    with pytest.raises(HardwareError, match=r"cannot read hardware file nowhere\.yaml"):
        load_hardware("nowhere.yaml")


def test_sram_energy_meets_its_points_and_grows_between_them() -> None:
    technology = load_hardware("weight-stationary-45nm").technology
    for capacity_kb, energy_pj in ((8, 10), (32, 20), (1024, 100)):
        assert technology.sram_pj_per_bit(capacity_kb) * 64 == pytest.approx(energy_pj)
    energies = [technology.sram_pj_per_bit(2**k) for k in range(14)]
    assert energies == sorted(set(energies))


@pytest.mark.parametrize(("bits", "capacity_kb"), [(0, 8), (8 * 8192, 8), (8 * 8192 + 1, 16), (8 * 8192 * 5, 64)])
def test_memories_have_a_power_of_two_of_banks(bits: int, capacity_kb: int) -> None:
    assert load_hardware("weight-stationary-45nm").sram_capacity_kb(bits) == capacity_kb


def test_every_number_of_the_technology_has_a_source() -> None:
    table = yaml.safe_load((Path(energy.__file__).parent / "technology" / "45nm.yaml").read_text())

    def check(value: object) -> None:
        if isinstance(value, list):
            for item in value:
                check(item)
        elif isinstance(value, dict) and any(isinstance(item, int | float) for item in value.values()):
            assert len(value["source"]) > 10
            assert 1980 < value["year"] < 2030
        elif isinstance(value, dict):
            for item in value.values():
                check(item)

    entries = {key: value for key, value in table.items() if key not in {"node_nm", "nominal_v"}}
    assert len(entries) == 6
    for value in entries.values():
        check(value)
