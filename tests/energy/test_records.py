"""All mistakes of a file in one answer, each with its line, and none that another one caused."""

from pathlib import Path

import pytest

import energy
from energy import HardwareError, load_hardware, load_technology, parse_hardware
from energy.records import YamlMapping, did_you_mean, read_mapping

FOLDER = Path(energy.__file__).parent
GOOD = """# A file of hardware without a mistake.
name: mine
technology: 45nm
flavour: low-power
dataflow: weight-stationary
array: {rows: 16, columns: 16}
clock_mhz: 200
supply_v: 0.9  # of the array
zeros: gated
partial_sum_bits: full
weight_format: compressed
weight_memory:
  capacity_kb: fitted
  bank_kb: 8
  port_bits: 64
  word_bits: 1
  cell: hybrid
  supply_v: 0.9
  failures: silicon-14nm
activation_memory:
  capacity_kb: fitted
  bank_kb: 8
  port_bits: 64
  word_bits: 1
  cell: 6T
  supply_v: 0.9
dram: none
"""
TECHNOLOGY = (FOLDER / "technology" / "45nm.yaml").read_text()


def read(text: str) -> YamlMapping:
    return read_mapping(text, "x.yaml")


def mistakes(content: YamlMapping) -> list[str]:
    with pytest.raises(HardwareError) as caught:
        content.finish()
    return str(caught.value).splitlines()


def mistakes_of_hardware(*changes: tuple[str, str]) -> list[str]:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    with pytest.raises(HardwareError) as caught:
        parse_hardware(text, name="x.yaml")
    return str(caught.value).splitlines()


def test_all_mistakes_are_reported_in_file_order() -> None:
    assert mistakes_of_hardware(
        ("cell: 6T", "cell: 6"),
        ("dram: none", "dram: none\nvias: 2\nx: 5"),
        ("clock_mhz: 200", "clock_mhz: 200MHz"),
        ("rows: 16", "rows: 0"),
        ("weight-stationary\n", "weight_stationary\n"),
        ("capacity_kb: fitted", "capacity_kb: 20"),
        ("zeros: gated", "zeros: gated\nzeros: none"),
        ("  failures: silicon-14nm\n", ""),
    ) == [
        "x.yaml:5: dataflow must be one of "
        f"{', '.join(energy.hardware.DATAFLOWS)}, got 'weight_stationary'; did you mean 'weight-stationary'?",
        "x.yaml:6: array.rows must be a whole number from 1 to 1000000, got 0",
        "x.yaml:7: clock_mhz must be a positive number, got '200MHz'; write the number alone, in MHz",
        "x.yaml:10: duplicate key 'zeros'",
        "x.yaml:14: weight_memory.capacity_kb must be a whole number of banks of 8 KB, or fitted, got 20",
        "x.yaml:14: the key 'weight_memory.failures' is missing",
        "x.yaml:25: activation_memory.cell must be one of 6T, 8T, got '6'; did you mean '6T'?",
        f"x.yaml:28: unknown key 'vias'. Keys here: {KEYS}",
        f"x.yaml:29: unknown key 'x'. Keys here: {KEYS}",
    ]


# In the order in which they are read.
KEYS = mistakes_of_hardware(("dram: none", "dram: none\nvias: 2"))[0].split("Keys here: ")[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # A capacity is not checked against a bank that is wrong, a voltage not against a technology that is unknown,
        # nor is a flavour; an array that is missing has no rows that could be missing too.
        (
            [("bank_kb: 8", "bank_kb: eight"), ("capacity_kb: fitted", "capacity_kb: 20")],
            "weight_memory.bank_kb must",
        ),
        ([("technology: 45nm", "technology: 3nm"), ("supply_v: 0.9 ", "supply_v: 9 ")], "unknown technology '3nm'"),
        ([("technology: 45nm", "technology: 3nm"), ("low-power", "medium")], "unknown technology '3nm'"),
        ([("array: {rows: 16, columns: 16}\n", "")], "the key 'array' is missing"),
        ([("array: {rows: 16, columns: 16}", "array: 16")], "array must be a mapping of keys to values"),
        ([("clock_mhz: 200", "clock_ghz: 200")], "the key 'clock_mhz' is missing; line 7 has 'clock_ghz'"),
        ([("weight-stationary\n", "unknown\n")], "dataflow must be one of"),
        ([("weight_format: compressed", "weight_formt: compressed")], "'weight_format' is missing; line 11 has"),
    ],
)
def test_one_mistake_is_reported_once(changes: list[tuple[str, str]], message: str) -> None:
    (found,) = mistakes_of_hardware(*changes)
    assert message in found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "rows: 16",
            "rows: 016",
            "x.yaml:6: array.rows must be in decimal notation, got 016, which YAML reads as 14; write 16 or 14",
        ),
        (
            "rows: 16",
            "rows: 0x10",
            "x.yaml:6: array.rows must be in decimal notation, got 0x10, which YAML reads as 16; write 16",
        ),
        (
            "clock_mhz: 200",
            "clock_mhz: 3:20",
            "x.yaml:7: clock_mhz must be in decimal notation, got 3:20, which YAML reads as 200; write 200",
        ),
        ("rows: 16", "rows: 08", "x.yaml:6: array.rows must be a whole number from 1 to 1000000, got '08'; write 8"),
        ("rows: 16", "rows:", "x.yaml:6: array.rows must be a whole number from 1 to 1000000, got nothing"),
        ("clock_mhz: 200", "clock_mhz: '200 MHz'", "clock_mhz must be a positive number, got '200 MHz'; write the"),
        ("clock_mhz: 200", "clock_mhz: 199,5", "clock_mhz must be a positive number, got '199,5'; write 199.5"),
        ("clock_mhz: 200", "clock_mhz: 2024-01-01", "clock_mhz must be a positive number, got '2024-01-01'"),
        ("clock_mhz: 200", f"clock_mhz: 1{'0' * 400}", "clock_mhz must be a positive number, got 1000"),
        ("supply_v: 0.9 ", "supply_v: 900mV ", "got '900mV'; write the number alone, in V"),
        (
            "dram: none",
            "dram: no",
            "x.yaml:27: dram must be a mapping of keys to values, or none, got 'no'; did you mean 'none'?",
        ),
        ("dram: none", "dram: null", "x.yaml:27: dram must be a mapping of keys to values, or none, got 'null'"),
        ("dram: none", "dram:", "x.yaml:27: dram must be a mapping of keys to values, or none, got nothing"),
        ("dram: none", "dram: [none]", "x.yaml:27: dram must be a mapping of keys to values, or none"),
        ("zeros: gated", "zeros: no", "skipped, got 'no'; did you mean 'none'?"),
        ("zeros: gated", "zeros: Fetch_Gated", "skipped, got 'Fetch_Gated'; did you mean 'fetch-gated'?"),
        ("zeros: gated", "zeros: ~", "zeros must be one of none, gated, fetch-gated, skipped, got nothing"),
        ("name: mine", "name: 45", "x.yaml:2: name must be a string, got 45; put it in quotes: '45'"),
        ("technology: 45nm", "technology: 45", "unknown technology '45'; choose one of 22nm, 45nm, 65nm"),
        ("  bank_kb", "\tbank_kb", "x.yaml:14: not valid YAML: found a tab; write spaces instead"),
        ("name: mine", "[" * 5000, "x.yaml: mappings and lists are nested too deeply"),
    ],
)
def test_values_that_yaml_or_people_take_for_something_else(old: str, new: str, message: str) -> None:
    (found,) = mistakes_of_hardware((old, new))
    assert message in found


def test_all_mistakes_of_a_technology_file(tmp_path: Path) -> None:
    text = TECHNOLOGY.replace("node_nm: 45", "node_nm: 45nm").replace("{low: 4.11, value: 10", "{low: 11, value: 10", 1)
    text = text.replace("  year: 2014\nadd:", "add:").replace("high: 12.26}", "hihg: 12.26}", 1)
    path = tmp_path / "node.yaml"
    path.write_text(text)
    with pytest.raises(HardwareError) as caught:
        load_technology(str(path))
    lines = [line.removeprefix(str(tmp_path)) for line in str(caught.value).splitlines()]
    assert [line.split(": ", 1)[1] for line in lines] == [
        "node_nm must be a whole number from 1 to 1000000, got '45nm'; write the number alone, in nm",
        "the key 'multiply.year' is missing",
        "sram_access_64bit[0].read_pj must be low <= value <= high, got (11.0, 10.0, 10.42)",
        f"the key 'sram_access_64bit[0].write_pj.high' is missing; line {line_of(text, 'hihg')} has 'hihg'",
    ]
    assert all(line.startswith("/node.yaml:") for line in lines)
    (tmp_path / "mine.yaml").write_text(GOOD.replace("45nm\nfl", "node.yaml\nfl").replace("rows: 16", "rows: 0"))
    with pytest.raises(HardwareError) as both:
        load_hardware(str(tmp_path / "mine.yaml"))
    assert str(both.value).splitlines()[:-1] == str(caught.value).splitlines()
    assert str(both.value).endswith("array.rows must be a whole number from 1 to 1000000, got 0")


def line_of(text: str, word: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if word in line)


def test_nested_mappings_are_finished_with_the_outermost_one() -> None:
    content = read("a: {b: 1, c: 2}\nd: {}")
    assert content.mapping("a").whole("b") == 1
    content.mapping("d").whole("e")
    assert mistakes(content) == [
        "x.yaml:1: unknown key 'a.c'. Keys here: b",
        "x.yaml:2: the key 'd.e' is missing",
    ]


def test_whether_keys_are_sound() -> None:
    content = read("a: 1\nb: two\nc: {low: 1, value: 2}\nd: {low: 1, value: 2, high: 3}\ne: 5")
    content.whole("a"), content.whole("b"), content.estimate("c"), content.estimate("d"), content.mapping("e")
    assert [key for key in "abcdef" if content.sound(key)] == ["a", "d"]
    assert content.sound("a", "d")
    assert not content.sound("a", "b")


def test_lists_are_read_item_by_item() -> None:
    content = read("a: [1, 016, [2], three]\nb: []")
    assert content.items("a") == [1, "three"]
    assert content.items("b") == []
    assert mistakes(content) == [
        "x.yaml:1: a must be in decimal notation, got 016, which YAML reads as 14; write 16 or 14",
        "x.yaml:1: a must be a single value",
        "x.yaml:2: b must be a list of at least one value",
    ]


def test_content_as_values() -> None:
    assert read("a: 2e2\nb: {c: [x, '2e2', no]}\nd: 1_000").to_dict() == {
        "a": 200.0,
        "b": {"c": ["x", "2e2", False]},
        "d": 1000,
    }


def test_the_nearest_word() -> None:
    assert did_you_mean("Weight_Stationary", ["row-stationary", "weight-stationary"]) == (
        "; did you mean 'weight-stationary'?"
    )
    assert did_you_mean("loop-nest", ["gated"]) == ""
