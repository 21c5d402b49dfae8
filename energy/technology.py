"""Energy per action in a process node: read from YAML, where every number has a unit, a source and a year."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from energy.errors import HardwareError
from energy.estimates import Estimate
from energy.records import YamlMapping, read_mapping, read_text
from energy.sram import PortPoint, SramPoint

_PORTS = "sram_ports"  # these files of the folder are not technologies
_DRAM = "dram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leakage:
    """Leakage of one transistor flavour at the nominal voltage.

    Attributes:
        sram_mw_per_mb: Power of 6T memory, in mW per MB of 2**20 bytes.
    """

    sram_mw_per_mb: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class EightTransistorCell:
    """An 8T memory cell relative to a 6T one.

    Attributes:
        area: Ratio of areas, and of leakage.
        access: Ratio of energies of an access.
    """

    area: Estimate
    access: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Technology:
    """Energy per action in one process node, at its nominal supply voltage.

    Attributes:
        node_nm: Process node in nanometres.
        nominal_v: Supply voltage at which the energies hold, in volts.
        multiply_pj_per_bit2: Exact multiplication of w by a bits: this times w * a ...
        multiply_pj_per_bit: ... plus this times (w + a) / 2.
        add_pj_per_bit: Addition, per bit of the sum.
        register_read_pj_per_bit: One bit of a register read.
        register_write_pj_per_bit: One bit of a register written.
        scratchpad_pj_per_bit: One bit read from or written to a scratchpad of up to 512 bytes in a processing element.
        clock_pj_per_bit: Clocking one bit of a register for one cycle, including its share of the clock network.
        sram: Energies of accesses to on-chip memory, in ascending order of capacity.
        sram_ports: Energies by port width, in ascending order of capacity.
        leakage: Leakage by transistor flavour.
        eight_transistor_cell: Costs of a robust cell.
        sram_um2_per_bit: Area of on-chip memory, including its periphery.
        multiply_um2_per_bit2: Area of an exact multiplier of w by a bits over w * a.
        add_um2_per_bit: Area of an adder.
        register_um2_per_bit: Area of a register.
        scratchpad_um2_per_bit: Area of a scratchpad.
    """

    node_nm: int
    nominal_v: float
    multiply_pj_per_bit2: Estimate
    multiply_pj_per_bit: Estimate
    add_pj_per_bit: Estimate
    register_read_pj_per_bit: Estimate
    register_write_pj_per_bit: Estimate
    scratchpad_pj_per_bit: Estimate
    clock_pj_per_bit: Estimate
    wire_pj_per_bit_mm: Estimate
    sram: tuple[SramPoint, ...]
    sram_ports: tuple[PortPoint, ...]
    leakage: dict[str, Leakage]
    eight_transistor_cell: EightTransistorCell
    sram_um2_per_bit: Estimate
    multiply_um2_per_bit2: Estimate
    add_um2_per_bit: Estimate
    register_um2_per_bit: Estimate
    scratchpad_um2_per_bit: Estimate

    @property
    def multiply_pj(self) -> Estimate:
        """Energy of an exact 8-bit multiplication."""
        low, value, high = (
            quadratic * 64 + linear * 8
            for quadratic, linear in zip(self.multiply_pj_per_bit2, self.multiply_pj_per_bit, strict=True)
        )
        return Estimate(low, value, high)

    def multiply_by_law(self, weight_bits: int, activation_bits: int) -> float:
        """Return the energy of an exact multiplication by the quadratic law, over that at 8 bits."""
        quadratic, linear = self.multiply_pj_per_bit2.value, self.multiply_pj_per_bit.value
        law = quadratic * weight_bits * activation_bits + linear * (weight_bits + activation_bits) / 2
        return law / self.multiply_pj.value


def technology_names() -> list[str]:
    """List the built-in technologies."""
    names = (item.name.removesuffix(".yaml") for item in _folder().iterdir() if item.name.endswith(".yaml"))
    return sorted(set(names) - {_PORTS, _DRAM})


def load_technology(name: str) -> Technology:
    """Load a technology table.

    Args:
        name: A name from `technology_names()`, or the path of a YAML file (it ends in .yaml).

    Raises:
        HardwareError: If the table does not exist or is malformed.
    """
    if name.endswith(".yaml"):
        return parse_technology(read_text(Path(name), "technology"), name)
    if name not in technology_names():
        raise HardwareError(
            f"unknown technology {name!r}; choose one of {', '.join(technology_names())}, "
            "or give the path of a .yaml file"
        )
    return _shipped_technology(name)


def parse_technology(text: str, name: str) -> Technology:
    """Parse a technology table from text.

    Args:
        text: YAML.
        name: Name of the text, for errors.

    Raises:
        HardwareError: If it is malformed.
    """
    return _technology(read_mapping(text, name))


@cache
def _shipped_technology(name: str) -> Technology:
    return _technology(_shipped(name))


def _technology(content: YamlMapping) -> Technology:
    multiply, add, register = content.sourced("multiply"), content.sourced("add"), content.sourced("register")
    clock, wire = content.sourced("clock"), content.sourced("wire")
    scratchpad, cell, area = (
        content.sourced("scratchpad"),
        content.sourced("eight_transistor_cell"),
        content.mapping("area"),
    )
    points = content.sourced_list("sram_access_64bit")
    leakage = content.sourced_mappings("leakage")
    logic_area, sram_area = area.sourced("logic"), area.sourced("sram")
    technology = Technology(
        node_nm=content.whole("node_nm"),
        nominal_v=content.positive("nominal_v"),
        multiply_pj_per_bit2=multiply.estimate("energy_pj_per_bit2"),
        multiply_pj_per_bit=multiply.estimate("energy_pj_per_bit"),
        add_pj_per_bit=add.estimate("energy_pj_per_bit"),
        register_read_pj_per_bit=register.estimate("read_pj_per_bit"),
        register_write_pj_per_bit=register.estimate("write_pj_per_bit"),
        scratchpad_pj_per_bit=scratchpad.estimate("energy_pj_per_bit"),
        clock_pj_per_bit=clock.estimate("energy_pj_per_bit"),
        wire_pj_per_bit_mm=wire.estimate("energy_pj_per_bit_mm"),
        sram=tuple(
            SramPoint(
                capacity_kb=point.positive("capacity_kb"),
                read_pj=point.positive_estimate("read_pj"),
                write_pj=point.positive_estimate("write_pj"),
            )
            for point in points
        ),
        sram_ports=_load_ports(),
        leakage={
            flavour: Leakage(sram_mw_per_mb=entry.estimate("power_mw_per_mb")) for flavour, entry in leakage.items()
        },
        eight_transistor_cell=EightTransistorCell(
            area=cell.positive_estimate("area_ratio"), access=cell.positive_estimate("access_ratio")
        ),
        sram_um2_per_bit=sram_area.estimate("um2_per_bit"),
        multiply_um2_per_bit2=logic_area.estimate("multiply_um2_per_bit2"),
        add_um2_per_bit=logic_area.estimate("add_um2_per_bit"),
        register_um2_per_bit=logic_area.estimate("register_um2_per_bit"),
        scratchpad_um2_per_bit=logic_area.estimate("scratchpad_um2_per_bit"),
    )
    capacities = [point.capacity_kb for point in technology.sram]
    if all(point.sound("capacity_kb") for point in points) and sorted(set(capacities)) != capacities:
        content.reject("sram_access_64bit", "in ascending order, each once", capacities)
    content.finish()
    return technology


@cache
def dram_energies() -> dict[str, Estimate]:
    """Read the energy in pJ of one bit moved, by DRAM interface."""
    content = _shipped(_DRAM)
    entries = {name: content.sourced(name) for name in content.keys}
    energies = {name: entry.estimate("energy_pj_per_bit") for name, entry in entries.items()}
    content.finish()
    return energies


@cache
def _load_ports() -> tuple[PortPoint, ...]:
    content = _shipped(_PORTS)
    points = []
    for item in content.sourced_list("ports"):
        widths = item.mapping("fj_per_bit")
        points.append(
            PortPoint(
                capacity_kb=item.positive("capacity_kb"),
                fj_per_bit={int(width): widths.positive(width) for width in widths.keys},
            )
        )
    content.finish()
    return tuple(points)


def _shipped(name: str) -> YamlMapping:
    return read_mapping((_folder() / f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml")


def _folder() -> Traversable:
    return resources.files("energy") / "technology"
