import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import energy
from energy import Estimate, HardwareError, Technology, load_technology, technology_names
from energy.scaling import node_ratio, voltage_ratio
from energy.sram import SramCurve
from energy.technology import dram_energies

FOLDER = Path(energy.__file__).parent / "technology"
GOOD = (FOLDER / "45nm.yaml").read_text()


def at(capacity_kb: float, *, port_bits: int = 64, technology: str = "45nm") -> tuple[Estimate, Estimate]:
    """Energy of one bit read and written, in pJ."""
    table = load_technology(technology)
    read, written = SramCurve(table.sram, table.sram_ports, port_bits).pj_per_bit(np.array(capacity_kb))
    return Estimate(*read.tolist()), Estimate(*written.tolist())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_every_number_has_a_source_and_a_year(path: Path) -> None:
    unsourced: list[str] = []

    def check(value: Any, where: str, sourced: bool) -> None:
        if isinstance(value, dict):
            sourced = sourced or (len(value.get("source", "")) > 10 and 1980 < value.get("year", 0) < 2030)
            for key, item in value.items():
                if key not in {"source", "year", "node_nm", "nominal_v"}:
                    check(item, f"{where}.{key}", sourced)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                check(item, f"{where}[{index}]", sourced)
        elif not sourced:
            unsourced.append(where)

    check(yaml.safe_load(path.read_text()), path.stem, sourced=False)
    assert not unsourced


def test_what_is_shipped() -> None:
    assert technology_names() == ["22nm", "45nm", "65nm"]
    with pytest.raises(HardwareError, match="unknown technology 'dram'"):
        load_technology("dram")


# 8 and 32 bits: M. Horowitz, ISSCC 2014.
def test_arithmetic_at_45nm_is_that_of_horowitz() -> None:
    table = load_technology("45nm")
    for bits, energy_pj in ((8, 0.2), (32, 3.1)):
        found = table.multiply_pj_per_bit2.value * bits**2 + table.multiply_pj_per_bit.value * bits
        assert found == pytest.approx(energy_pj, rel=0.005)
    assert table.add_pj_per_bit.value * 32 == pytest.approx(0.1)


# Of the sources that `45nm.yaml` names, each with what its text says and how that becomes the number.
def test_numbers_at_45nm_follow_from_what_their_sources_say() -> None:
    table = load_technology("45nm")
    mac_pj, unit_fj, unit_pj = 0.96, 22.57e3, 0.2
    for found, low, value, high in (
        # CACTI: 0.0017 mW for 64 KB. Horowitz: about 100 mW for 1 MB; CACTI: 31 mW for 64 KB.
        (table.leakage["low-power"].sram_mw_per_mb, 0.0017 * 16, 0.0017 * 16, None),
        (table.leakage["high-performance"].sram_mw_per_mb, 100, 100, 31 * 16),
        # Aladdin: 9.0 fJ for a bit, and 6.49 fJ in its older table; Accelergy: 0.25 pJ for a word of 16 bits.
        (table.register_write_pj_per_bit, 6.49e-3, 9e-3, 0.25 / 16),
        # Eyeriss: as much as a multiply-accumulate of 16 bits; Accelergy: 0.25 and 1.59 pJ for a word.
        (table.scratchpad_pj_per_bit, 0.25 / 16, mac_pj / 16, 1.59 / 16),
        # 207 fJ of a flip-flop for each 22.57 pJ of the multiplier that costs 0.2 pJ here; or a tree of as much more.
        (table.clock_pj_per_bit, 0, 207 / unit_fj * unit_pj, 2 * 207 / unit_fj * unit_pj),
        # Horowitz: 0.1 pJ for 32 bits, which 0.095 and 0.15 pJ also round to.
        (table.add_pj_per_bit, 0.095 / 32, 0.1 / 32, 0.15 / 32),
        # Keckler: 310 pJ for 256 bits over 10 mm; Gebhart: 1.9 pJ for 32 bits over 1 mm.
        (table.wire_pj_per_bit_mm, 1.9 / 32, 310 / 256 / 10, 0.24),
        # Chang: an area of 11.5 % more with 3 of 8 bits in 8T cells; Srinivasan: 10.41 %. Lines are longer by the root.
        (table.eight_transistor_cell.area, 1 + 0.1041 * 8 / 3, 1 + 0.115 * 8 / 3, 1.37),
        (table.eight_transistor_cell.access, 1, 1.31**0.5, 1.37),
        # Mistry: cells of 0.346 um2, which are 0.7 of a memory. CACTI: 146 squares of the node, 0.82 and 0.4.
        (table.sram_um2_per_bit, 146 * 0.045**2 / 0.82, 0.346 / 0.7, 0.346 / 0.4),
        # Aladdin: 6351 um2 for 32 x 32 bits; EvoApproxLib: 710 um2 for 8 x 8 bits.
        (table.multiply_um2_per_bit2, None, 6351 / 32**2, 710 / 64),
        (table.add_um2_per_bit, None, 179 / 32, None),
        (table.register_um2_per_bit, None, 5.98, 5.98),
    ):
        for number, wanted in zip(found, (low, value, high), strict=True):
            assert wanted is None or number == pytest.approx(wanted, rel=0.01)  # they are rounded


# A 64-bit access to caches of 8 KB, 32 KB and 1 MB: M. Horowitz, ISSCC 2014.
def test_memory_at_45nm_is_that_of_horowitz() -> None:
    found = {point.capacity_kb: (point.read_pj.value, point.write_pj.value) for point in load_technology("45nm").sram}
    assert found == {8: (10, 10), 32: (20, 20), 1024: (100, 100)}


@pytest.mark.parametrize(("name", "node_nm"), [("65nm", 65), ("22nm", 20)])
def test_other_nodes_are_45nm_scaled(name: str, node_nm: int) -> None:
    table, base = load_technology(name), load_technology("45nm")
    ratio = node_ratio(45, base.nominal_v, node_nm, table.nominal_v)

    def values(one: Technology) -> list[float]:
        return [
            one.multiply_pj_per_bit2.value,
            one.multiply_pj_per_bit.value,
            one.add_pj_per_bit.value,
            one.register_write_pj_per_bit.value,
            one.scratchpad_pj_per_bit.value,
            one.clock_pj_per_bit.value,
            *(point.read_pj.value for point in one.sram),
            *(point.write_pj.value for point in one.sram),
        ]

    assert values(table) == pytest.approx([ratio * value for value in values(base)], rel=0.002)


def test_sram_energy_meets_its_points_and_grows_between_them() -> None:
    for capacity_kb, energy_pj in ((8, 10), (32, 20), (1024, 100)):  # M. Horowitz, ISSCC 2014
        read, written = at(capacity_kb)
        assert read.value * 64 == written.value * 64 == pytest.approx(energy_pj)
    energies = [at(2**k)[0].value for k in range(14)]
    assert energies == sorted(set(energies))
    assert at(1)[0].value * 64 == pytest.approx(10 * (1 / 8) ** 0.5)  # four times the capacity: twice the energy


@pytest.mark.parametrize("technology", technology_names())
def test_low_and_high_enclose_the_value_at_every_capacity(technology: str) -> None:
    for exponent in range(12):
        for band in at(2**exponent, technology=technology):
            assert 0 < band.low <= band.value <= band.high


# CACTI 7, 45 nm, fJ per bit read through ports of 8 to 256 bits.
def test_a_narrow_port_costs_more_a_bit() -> None:
    for capacity_kb, fj_per_bit in ((64, (1955, 1028, 556, 404, 307, 202)), (8, (700, 405, 164, 96, 62, 45))):
        found = [at(capacity_kb, port_bits=bits)[0].value for bits in (8, 16, 32, 64, 128, 256)]
        assert [energy / found[3] for energy in found] == pytest.approx([fj / fj_per_bit[3] for fj in fj_per_bit])
    beyond = [at(64, port_bits=bits)[0].value for bits in (4, 8, 48, 256, 512)]
    assert beyond == sorted(beyond, reverse=True)


# Read off the fits' own figure: A. Stillmaker, B. Baas, Integration 58, 2017.
def test_scaling_between_nodes() -> None:
    assert node_ratio(45, 0.9, 45, 0.9) == 1
    assert node_ratio(65, 1.0, 45, 0.9) == pytest.approx(1 / node_ratio(45, 0.9, 65, 1.0))
    ratios = [node_ratio(65, 0.9, node, 0.9) for node in (65, 45, 32, 20, 14, 7)]
    assert ratios == sorted(ratios, reverse=True)
    with pytest.raises(HardwareError, match="no scaling is known for 28 nm; nodes: 65, 45, 32, 20, 14, 7"):
        node_ratio(28, 0.9, 45, 0.9)


def test_dynamic_energy_follows_the_square_of_the_voltage() -> None:
    assert voltage_ratio(1.0, 0.5) == 0.25


def test_dram_interfaces() -> None:
    values = {name: band.value for name, band in dram_energies().items()}
    assert values == {"generic": 20.3, "ddr3": 70, "lpddr": 40, "lpddr4": 8, "gddr5": 14, "hbm2": 3.9}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nominal_v: 0.9", "nominal_v: high", "nominal_v must be a positive number, got 'high'"),
        ("{low: 0.0022", "{low: 0.5", "multiply.energy_pj_per_bit2 must be low <= value <= high"),
        ("{low: 0.0022, ", "{", "the key 'multiply.energy_pj_per_bit2.low' is missing"),
        ("capacity_kb: 8", "capacity_kb: 64", "sram_access_64bit must be in ascending order, each once"),
        ("capacity_kb: 8", "capacity_kb: 32", "sram_access_64bit must be in ascending order, each once"),
        ("read_pj: {low: 4.11", "read_pj: {low: 0", "sram_access_64bit[0].read_pj must be above 0"),
        ("capacity_kb: 8", "size: 8", "the key 'sram_access_64bit[0].capacity_kb' is missing"),
        ("  year: 2014\nadd:", "add:", "the key 'multiply.year' is missing"),
        ("add:", "addition:", "the key 'add' is missing"),
    ],
)
def test_mistakes_in_a_technology_file_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = tmp_path / "node.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(HardwareError, match=re.escape(message)):
        load_technology(str(path))
