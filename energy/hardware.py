"""Hardware and technology descriptions, read from YAML and checked.

A hardware file says what is built (array, clock, memories); a technology file says what each action costs in one
process node. Both are data, so that another accelerator or node needs no code.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from energy.errors import HardwareError


@dataclass(frozen=True, slots=True, kw_only=True)
class Technology:
    """Energy per action in one process node, at its nominal supply voltage.

    Attributes:
        node_nm: Process node in nanometres.
        nominal_v: Supply voltage at which the energies hold, in volts.
        multiply_8x8_pj: One exact 8 x 8 bit multiplication.
        add_32_pj: One 32-bit addition.
        sram_points: (capacity in KB, energy in pJ) of one 64-bit SRAM access, by rising capacity.
        sram_leakage_mw_per_mb: Flavour of transistors -> leakage power of 6T SRAM.
        eight_transistor_area: Area of an 8T cell relative to a 6T cell.
        dram_pj_per_bit: One bit moved to or from DRAM.
    """

    node_nm: int
    nominal_v: float
    multiply_8x8_pj: float
    add_32_pj: float
    sram_points: tuple[tuple[float, float], ...]
    sram_leakage_mw_per_mb: dict[str, float]
    eight_transistor_area: float
    dram_pj_per_bit: float

    def sram_pj_per_bit(self, capacity_kb: float) -> float:
        """Energy of reading or writing one bit of a 6T SRAM of this capacity, in pJ.

        A power law of the capacity between the table's points; the nearest segment is extended beyond them.
        """
        points = self.sram_points
        segment = 0
        while segment < len(points) - 2 and capacity_kb > points[segment + 1][0]:
            segment += 1
        (low_kb, low_pj), (high_kb, high_pj) = points[segment], points[segment + 1]
        exponent = math.log(high_pj / low_pj) / math.log(high_kb / low_kb)
        access_pj: float = low_pj * (capacity_kb / low_kb) ** exponent
        return access_pj / 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """An accelerator: a weight-stationary array between two SRAMs, with or without DRAM.

    Attributes:
        name: Its name in reports and in the results database.
        technology: Energies of its process node.
        array_rows: Processing elements along the inner dimension of a layer's product.
        array_columns: Processing elements along the output channels.
        clock_mhz: Clock frequency.
        sram_bank_kb: Bank size; a memory has a power-of-two number of banks.
        sram_flavour: Flavour of the memories' transistors, a key of the technology's leakage table.
        dram: Whether each inference fetches its weights and its image from DRAM.
    """

    name: str
    technology: Technology
    array_rows: int
    array_columns: int
    clock_mhz: float
    sram_bank_kb: int
    sram_flavour: str
    dram: bool

    @property
    def sram_leakage_mw_per_kb(self) -> float:
        """Leakage power of its 6T SRAM at nominal voltage."""
        return self.technology.sram_leakage_mw_per_mb[self.sram_flavour] / 1024

    def sram_capacity_kb(self, bits: float) -> int:
        """Capacity in KB of the smallest power-of-two number of banks that holds `bits`."""
        banks = max(1, math.ceil(bits / (8 * 1024 * self.sram_bank_kb)))
        return self.sram_bank_kb * (1 << (banks - 1).bit_length())

    @property
    def identity(self) -> str:
        """The name, with a hash of the content unless this is the description of that name that is shipped.

        Results are stored under it, so that those of an edited copy are never taken for the original's.
        """
        if self.name in hardware_names() and load_hardware(self.name) == self:
            return self.name
        content = json.dumps(self.to_dict(), sort_keys=True).encode()
        return f"{self.name}@{hashlib.sha256(content).hexdigest()[:8]}"

    def to_dict(self) -> dict[str, Any]:
        """Every number of the description, for content hashes and reports."""
        return asdict(self)


def hardware_names() -> list[str]:
    """Names of the hardware descriptions that come with the package."""
    folder = resources.files("energy") / "hardware"
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml"))


@cache
def load_hardware(name: str) -> Hardware:
    """Load a hardware description.

    Args:
        name: A name from `hardware_names()`, or the path of a YAML file (it ends in .yaml).

    Raises:
        HardwareError: If there is no such description, or it is malformed.
    """
    if name.endswith(".yaml"):
        text, origin = _read(Path(name)), name
    elif name in hardware_names():
        text = (resources.files("energy") / "hardware" / f"{name}.yaml").read_text()
        origin = f"{name}.yaml"
    else:
        raise HardwareError(
            f"unknown hardware {name!r}; choose one of {', '.join(hardware_names())}, or give the path of a .yaml file"
        )
    record = _Record(text, origin)
    dataflow = record.text("dataflow")
    if dataflow != "weight-stationary":
        raise HardwareError(f"{origin}: dataflow must be 'weight-stationary', got {dataflow!r}")
    technology = _load_technology(record.text("technology"), origin)
    flavour = record.text("sram_flavour")
    if flavour not in technology.sram_leakage_mw_per_mb:
        raise HardwareError(
            f"{origin}: sram_flavour must be one of {', '.join(technology.sram_leakage_mw_per_mb)}, got {flavour!r}"
        )
    hardware = Hardware(
        name=record.text("name"),
        technology=technology,
        array_rows=record.whole("array_rows"),
        array_columns=record.whole("array_columns"),
        clock_mhz=record.positive("clock_mhz"),
        sram_bank_kb=record.whole("sram_bank_kb"),
        sram_flavour=flavour,
        dram=record.truth("dram"),
    )
    record.finish()
    return hardware


@cache
def multiplier_energies() -> dict[str, dict[str, Any]]:
    """The table of `energy/multipliers.yaml`: multiplier name -> how its relative energy is found, with its source."""
    table: dict[str, dict[str, Any]] = yaml.safe_load((resources.files("energy") / "multipliers.yaml").read_text())
    return table


def _load_technology(name: str, origin: str) -> Technology:
    source = resources.files("energy") / "technology" / f"{name}.yaml"
    if not source.is_file():
        raise HardwareError(f"{origin}: unknown technology {name!r}; available: 45nm")
    record = _Record(source.read_text(), f"{name}.yaml")
    points = tuple(
        (point.positive("capacity_kb"), point.positive("energy_pj"))
        for point in record.sourced_list("sram_access_64bit")
    )
    technology = Technology(
        node_nm=record.whole("node_nm"),
        nominal_v=record.positive("nominal_v"),
        multiply_8x8_pj=record.sourced("multiply_8x8").positive("energy_pj"),
        add_32_pj=record.sourced("add_32").positive("energy_pj"),
        sram_points=points,
        sram_leakage_mw_per_mb={
            flavour: leakage.positive("power_mw_per_mb")
            for flavour, leakage in record.sourced_mapping("sram_leakage").items()
        },
        eight_transistor_area=record.sourced("eight_transistor_cell").positive("area_ratio"),
        dram_pj_per_bit=record.sourced("dram_access").positive("energy_pj_per_bit"),
    )
    record.finish()
    return technology


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise HardwareError(f"cannot read hardware file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise HardwareError(f"hardware file {path} is not a text file") from None


class _Record:
    """A YAML mapping whose keys are taken one by one, checked, and all used."""

    def __init__(self, text: str | dict[str, Any], origin: str) -> None:
        self._origin = origin
        try:
            content = yaml.safe_load(text) if isinstance(text, str) else text
        except yaml.YAMLError as error:
            raise HardwareError(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise HardwareError(f"{origin} must be a mapping of keys to values")
        self._left = dict(content)

    def _take(self, key: str) -> Any:
        if key not in self._left:
            raise HardwareError(f"{self._origin}: the key {key!r} is missing")
        return self._left.pop(key)

    def _refuse(self, key: str, wanted: str, value: object) -> HardwareError:
        return HardwareError(f"{self._origin}: {key} must be {wanted}, got {value!r}")

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str):
            raise self._refuse(key, "a text", value)
        return value

    def truth(self, key: str) -> bool:
        value = self._take(key)
        if not isinstance(value, bool):
            raise self._refuse(key, "true or false", value)
        return value

    def positive(self, key: str) -> float:
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self._refuse(key, "a positive number", value)
        return float(value)

    def whole(self, key: str) -> int:
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._refuse(key, "a whole number of at least 1", value)
        return value

    def sourced(self, key: str) -> _Record:
        """A nested mapping that says where its number comes from."""
        value = self._take(key)
        record = _Record(value, f"{self._origin}: {key}")
        record.text("source")
        record.whole("year")
        return record

    def sourced_mapping(self, key: str) -> dict[str, _Record]:
        """A nested mapping from names to numbers with sources."""
        names = _Record(self._take(key), f"{self._origin}: {key}")
        return {name: names.sourced(name) for name in list(names._left)}

    def sourced_list(self, key: str) -> list[_Record]:
        value = self._take(key)
        if not isinstance(value, list) or len(value) < 2:
            raise self._refuse(key, "a list of at least two points", value)
        records = [_Record(item, f"{self._origin}: {key}") for item in value]
        for record in records:
            record.text("source")
            record.whole("year")
        return records

    def finish(self) -> None:
        if self._left:
            raise HardwareError(f"{self._origin}: unknown key {sorted(self._left)[0]!r}")
