"""Technologies at nodes that have no file."""

import math
from dataclasses import fields
from pathlib import Path

import pytest

import energy
from energy import Estimate, Hardware, HardwareError, Technology, load_hardware, load_technology, parse_hardware
from energy.scaled_technology import scale_technology
from energy.scaling import node_ratio, node_ratio_band

GOOD = (Path(energy.__file__).parent / "hardware" / "weight-stationary-45nm.yaml").read_text()
BASE = load_technology("45nm")


def at(technology: str, *, supply_v: float = 0.9) -> Hardware:
    text = GOOD.replace("technology: 45nm", f"technology: {technology}").replace(
        "supply_v: 0.9", f"supply_v: {supply_v}"
    )
    return parse_hardware(text, name="x.yaml")


def energies(table: Technology) -> list[Estimate]:
    logic = [getattr(table, field.name) for field in fields(table) if field.name.endswith(("_per_bit", "_per_bit2"))]
    areas = [table.sram_um2_per_bit, *areas_of_logic(table)]
    return [
        *(one for one in logic if one not in areas),
        *(p.read_pj for p in table.sram),
        *(p.write_pj for p in table.sram),
    ]


def areas_of_logic(table: Technology) -> list[Estimate]:
    return [
        table.multiply_um2_per_bit2,
        table.add_um2_per_bit,
        table.register_um2_per_bit,
        table.scratchpad_um2_per_bit,
    ]


# The shipped tables of 65 and 22 nm were written by these rules; SRAM areas and low energies have sources of their own.
def test_scaling_gives_the_shipped_table_of_another_node() -> None:
    made, shipped = scale_technology(BASE, 65, 1.0), load_technology("65nm")
    ratio = node_ratio(45, 0.9, 65, 1.0)
    assert [one.value for one in energies(made)] == pytest.approx([ratio * one.value for one in energies(BASE)])
    for figure in ("add_pj_per_bit", "register_write_pj_per_bit", "scratchpad_pj_per_bit"):
        assert getattr(made, figure) == pytest.approx(getattr(shipped, figure), rel=0.002)
    for mine, theirs in zip(areas_of_logic(made), areas_of_logic(shipped), strict=True):
        assert mine == pytest.approx(theirs, rel=0.002)
    assert made.wire_pj_per_bit_mm == pytest.approx(BASE.wire_pj_per_bit_mm.scaled((1.0 / 0.9) ** 2))
    assert (made.leakage, made.eight_transistor_cell) == (BASE.leakage, BASE.eight_transistor_cell)
    assert (made.node_nm, made.nominal_v) == (65, 1.0)


def test_every_figure_scales_or_is_known_not_to() -> None:
    made = scale_technology(BASE, 28, 0.85)
    same = {field.name for field in fields(BASE) if getattr(made, field.name) == getattr(BASE, field.name)}
    assert same == {"sram_ports", "leakage", "eight_transistor_cell"}


def test_between_nodes_the_band_is_wider() -> None:
    made, band = scale_technology(BASE, 28, 0.9), node_ratio_band(45, 0.9, 28, 0.9)
    for scaled, figure in zip(energies(made), energies(BASE), strict=True):
        assert scaled == pytest.approx((figure.low * band.low, figure.value * band.value, figure.high * band.high))
        assert scaled.low <= scaled.value <= scaled.high
    assert made.sram_um2_per_bit == pytest.approx(BASE.sram_um2_per_bit.scaled((28 / 45) ** 2))


def test_within_a_node_energy_follows_the_square_of_the_voltage() -> None:
    assert scale_technology(BASE, 45, 0.9) == BASE
    made = scale_technology(BASE, 45, 0.9 * math.sqrt(2))
    assert made.add_pj_per_bit == pytest.approx(BASE.add_pj_per_bit.scaled(2))
    assert made.sram_um2_per_bit == BASE.sram_um2_per_bit


def test_a_hardware_file_names_a_node() -> None:
    found = at("{node_nm: 28, from: 45nm}")
    assert found.technology == scale_technology(BASE, 28, 0.9)
    assert at("{node_nm: 28, from: 45nm, nominal_v: 1.0}").technology == scale_technology(BASE, 28, 1.0)
    assert at("{node_nm: 45, from: 45nm}") == load_hardware("weight-stationary-45nm")
    assert at("{node_nm: 7, from: 65nm}", supply_v=0.7).technology.nominal_v == 0.7


def test_scaled_figures_are_part_of_the_identity() -> None:
    found, other = at("{node_nm: 28, from: 45nm}"), at("{node_nm: 28, from: 65nm}")
    assert found.identity.startswith("weight-stationary-45nm@")
    assert found.identity != other.identity
    technology = found.to_dict()["technology"]
    assert technology["node_nm"] == 28
    assert tuple(technology["add_pj_per_bit"]) == found.technology.add_pj_per_bit


def test_a_technology_of_ones_own_is_scaled(tmp_path: Path) -> None:
    text = (Path(energy.__file__).parent / "technology" / "45nm.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("node_nm: 45", "node_nm: 40"))
    (tmp_path / "old.yaml").write_text(text.replace("node_nm: 45", "node_nm: 90"))
    path = tmp_path / "hardware.yaml"
    path.write_text(GOOD.replace("technology: 45nm", "technology: {node_nm: 32, from: mine.yaml}"))
    assert load_hardware(str(path)).technology.node_nm == 32
    path.write_text(GOOD.replace("technology: 45nm", "technology: {node_nm: 32, from: old.yaml}"))
    with pytest.raises(HardwareError) as caught:
        load_hardware(str(path))
    assert str(caught.value) == (
        f"{path}:3: technology.from: a technology at 90 nm cannot be scaled; the nodes from 7 to 65 nm can"
    )


@pytest.mark.parametrize(
    ("technology", "message"),
    [
        (
            "{node_nm: 5, from: 45nm}",
            "technology.node_nm must be one of the nodes from 7 to 65 nm, between which scaling is known, got 5",
        ),
        (
            "{node_nm: 28nm, from: 45nm}",
            "technology.node_nm must be a whole number from 1 to 1000000, got '28nm'; write",
        ),
        (
            "{node_nm: 28, from: 40nm}",
            "technology.from: unknown technology '40nm'; choose one of 22nm, 45nm, 65nm, or scale one: "
            "{node_nm: 28, from: 45nm}",
        ),
        ("{node_nm: 28, from: mine.yaml}", "technology.from must be one of 22nm, 45nm, 65nm, got 'mine.yaml'"),
        (
            "{node_nm: 28, from: 45nm, nominal_v: 900}",
            "technology.nominal_v must be in volts, between 0.75 and 1.25 times the usual 0.9 V of the node, got 900",
        ),
        ("{node_nm: 28}", "the key 'technology.from' is missing"),
        ("{from: 45nm}", "the key 'technology.node_nm' is missing"),
        (
            "{node_nm: 28, from: 45nm, nominl_v: 1}",
            "unknown key 'technology.nominl_v'; did you mean 'nominal_v'? Keys here: from, node_nm, nominal_v",
        ),
        ("28nm", "technology: unknown technology '28nm'; choose one of 22nm, 45nm, 65nm, or scale one: {node_nm: 28,"),
    ],
)
def test_mistakes_are_named_in_terms_of_the_file(technology: str, message: str) -> None:
    with pytest.raises(HardwareError) as caught:
        at(technology)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"x.yaml:3: {message}")
