import re
from dataclasses import replace
from pathlib import Path

import pytest

import energy
from energy import (
    Estimate,
    HardwareError,
    Overhead,
    Widths,
    WorkloadError,
    estimate,
    estimate_batch,
    hardware_names,
    load_hardware,
)
from tests.support.networks import convolution, fully_connected, workload

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
        "best",
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
        (
            "dram: none",
            "dram: none\nwidths: {weights: 4, activations: 8}",
            "mine.yaml:28: widths: multipliers were measured with narrower operands for 8 and 8 or 16 and 16 bits of "
            "weights and activations only, got 4 and 8",
        ),
        ("dram: none", "dram: none\nwidths: wide", "widths must be a mapping of keys to values, or fitted, got 'wide'"),
        ("dram: none", "dram: none\nwidths: {weights: 8}", "the key 'widths.activations' is missing"),
        (
            "dram: none",
            "dram: none\nwidths: {weights: 8, activations: no}",
            "widths.activations must be a whole number from 1 to 1000000, got False",
        ),
        ("dram: none", "dram: none\nwidth: fitted", "unknown key 'width'; did you mean 'widths'?"),
        ("dram: none", "dram: none\nbatches: 4", "unknown key 'batches'; did you mean 'batch'?"),
        ("dram: none", "dram: none\nbatch: 0", "batch must be a whole number from 1 to 1000000, got 0"),
        ("dram: none", "dram: none\nbias_bits: 31.5", "bias_bits must be a whole number"),
        ("dram: none", "dram: none\nscale_bits: wide", "scale_bits must be a whole number"),
        ('  source: "high: M. Pons', '  origin: "high: M. Pons', "the key 'overhead.source' is missing"),
        ("  year: 2019", "", "the key 'overhead.year' is missing"),
        (
            "pj_per_cycle: {low: 0, value: 0, high: 8.3}",
            "pj_per_cycle: {low: 0, value: 9, high: 8.3}",
            "overhead.pj_per_cycle must be low <= value <= high, got (0.0, 9.0, 8.3)",
        ),
        ("pj_per_inference", "pj_per_image", "the key 'overhead.pj_per_inference' is missing"),
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
            "supply_v: 0.9",
            "supply_v: 900",
            "supply_v must be in volts, between 0.3 and 1.5 times the nominal 0.9 V",
        ),
        ("partial_sum_bits: full", "partial_sum_bits: half", "must be a whole number from 1 to 1000000, or full"),
        (
            "partial_sum_bits: full",
            "partial_sum_bits: 15",
            "partial_sum_bits must be full, or from 16 bits, the product of two 8-bit codes, to 64, got 15",
        ),
        (
            "partial_sum_bits: full",
            "partial_sum_bits: 16\npartial_sum_overflow: clip",
            "partial_sum_overflow must be one of saturate, wrap, got 'clip'",
        ),
        (
            "partial_sum_bits: full",
            "partial_sum_bits: full\npartial_sum_overflow: wrap",
            "partial_sum_overflow must be left out, as partial_sum_bits is full, got",
        ),
        ("name: weight", "name: [weight", "mine.yaml:3: not valid YAML"),
        ("name: weight-stationary-45nm", "name: ''", "name must be a string, got ''"),
        ("name: weight", "name: x\nname: weight", "mine.yaml:3: duplicate key 'name'"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(HardwareError, match=re.escape(message)):
        load(tmp_path, GOOD.replace(old, new, 1))


def test_what_happens_when_sums_overflow_may_be_given(tmp_path: Path) -> None:
    narrow = GOOD.replace("partial_sum_bits: full", "partial_sum_bits: 20")
    saturating = load(tmp_path, narrow)
    assert (saturating.partial_sum_bits, saturating.partial_sum_overflow) == (20, "saturate")
    assert load(tmp_path, narrow + "\npartial_sum_overflow: saturate\n") == saturating
    wrapping = load(tmp_path, narrow + "\npartial_sum_overflow: wrap\n")
    assert wrapping.partial_sum_overflow == "wrap"
    assert len({load(tmp_path, GOOD).identity, saturating.identity, wrapping.identity}) == 3
    assert saturating.to_dict()["partial_sum_overflow"] == "saturate"
    either = energy.Hardware.any_of([load(tmp_path, GOOD), load_hardware("output-stationary-45nm")])
    for content in (
        either.to_dict(),
        *either.to_dict()["alternatives"],
    ):  # nothing overflows, as before there was a choice
        assert "partial_sum_overflow" not in content


def test_widths_batch_and_what_outputs_store_may_be_left_out_or_given(tmp_path: Path) -> None:
    left_out = load(tmp_path, GOOD)
    assert (left_out.widths, left_out.batch, left_out.bias_bits, left_out.scale_bits) == (None, 1, 32, 16)
    assert load(tmp_path, GOOD + "\nwidths: fitted\n").widths is None
    more = "\nwidths: {weights: 16, activations: 16}\nbatch: 4\nbias_bits: 24\nscale_bits: 8\n"
    given = load(tmp_path, GOOD + more)
    assert given.widths == Widths(weights=16, activations=16)
    assert (given.batch, given.bias_bits, given.scale_bits) == (4, 24, 8)
    assert given.identity != left_out.identity
    without = load(tmp_path, GOOD[: GOOD.index("overhead:")])
    assert without.overhead == Overhead()
    assert left_out.overhead.pj_per_cycle == Estimate(0, 0, 8.3)
    shipped = load_hardware("given-8bit-45nm")
    assert (shipped.widths, shipped.multiplier_form) == (Widths(weights=8, activations=8), "8x8")


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
    with pytest.raises(
        HardwareError,
        match=r"unknown hardware 'tpu'; choose one of .*hybrid-22nm, output.*; list them with: search hardware",
    ):
        load_hardware("tpu")
    with pytest.raises(HardwareError, match=r"cannot read hardware file nowhere\.yaml"):
        load_hardware("nowhere.yaml")


class TestAlternatives:
    """Several accelerators at once: each workload takes the one that costs it least."""

    names = "output-stationary-45nm,weight-stationary-45nm"

    def test_each_workload_takes_the_cheapest(self) -> None:
        either = load_hardware(self.names)
        members = [load_hardware(name) for name in self.names.split(",")]
        assert either.identity == either.name == self.names
        # few products summed at many positions are cheaper where weights stay, many at one where outputs stay
        works = [workload(convolution("c", 1, 60, 3, 4)), workload(fully_connected("fc", 256, 64))]
        taken = []
        for work in works:
            alone = [estimate(work, one) for one in members]
            found = estimate(work, either)
            assert found.energy_pj == min(report.energy_pj for report in alone)
            taken.append(found.hardware.name)
        assert taken == ["weight-stationary-45nm", "output-stationary-45nm"]
        together = estimate_batch(works, either)
        for index, work in enumerate(works):
            found = estimate(work, either)
            assert together.energy_pj[index] == pytest.approx(found.energy_pj)
            assert together.latency_us[index] == pytest.approx(found.latency_us)
            assert together.area_mm2[:, index].tolist() == pytest.approx(list(found.area_mm2))

    def test_edited_files_are_part_of_the_identity(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(GOOD.replace("name: weight-stationary-45nm", "name: mine").replace("rows: 16", "rows: 8"))
        either = load_hardware(f"{path}, output-stationary-45nm")
        assert re.fullmatch(r"mine@[0-9a-f]{8},output-stationary-45nm", either.identity)

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (
                "flexible-45nm,row-stationary-65nm",
                "weight_memory.cell is hybrid on flexible-45nm, and 6T on row-stationary-65nm; search these one after",
            ),
            (
                "flexible-45nm,given-8bit-45nm",
                "weight_memory.word_bits is 1 on flexible-45nm, and 8 on given-8bit-45nm",
            ),
            ("flexible-45nm,flexible-45nm", "must have different names, got 'flexible-45nm' twice"),
            ("flexible-45nm,flexible", "unknown hardware 'flexible'; choose one of"),
        ],
    )
    def test_what_cannot_be_chosen_among(self, names: str, message: str) -> None:
        with pytest.raises(HardwareError, match=re.escape(message)):
            load_hardware(names)
        with pytest.raises(HardwareError, match="needs at least one accelerator, got none"):
            energy.Hardware.any_of([])

    def test_they_must_be_alike_in_all_that_decides_accuracy(self) -> None:
        base = load_hardware("flexible-45nm")
        others = {
            "weight_memory.cell": replace(base, weight_memory=replace(base.weight_memory, cell="8T")),
            "weight_memory.word_bits": replace(base, weight_memory=replace(base.weight_memory, word_bits=8)),
            "weight_memory.supply_v": replace(base, weight_memory=replace(base.weight_memory, supply_v=1.0)),
            "weight_memory.failures": replace(base, weight_failures="hybrid-22nm"),
            "weight_format": replace(base, compressed_weights=False),
            "widths": replace(base, widths=Widths(weights=8, activations=8)),
            "batch": replace(base, batch=2),
            "partial_sum_bits": replace(base, partial_sum_bits=16),
        }
        for what, other in others.items():
            with pytest.raises(HardwareError, match=f"alike in what decides accuracy: {re.escape(what)} is"):
                energy.Hardware.any_of([base, replace(other, name="other")])
        narrow = replace(base, partial_sum_bits=16)
        message = "partial_sum_overflow is wrap on another, and saturate on flexible-45nm"
        with pytest.raises(HardwareError, match=message):
            energy.Hardware.any_of([narrow, replace(narrow, name="another", partial_sum_overflow="wrap")])

    def test_their_order_says_nothing(self) -> None:
        one, other = (load_hardware(names) for names in (self.names, ",".join(reversed(self.names.split(",")))))
        assert one.identity == other.identity

    def test_actions_are_counted_on_one(self) -> None:
        with pytest.raises(WorkloadError, match="actions are counted on one accelerator"):
            energy.count_actions(workload(fully_connected("fc", 8, 8)), load_hardware(self.names))
