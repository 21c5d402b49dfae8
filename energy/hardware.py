"""Descriptions of accelerators, read from YAML and checked: structure, technology and voltages.

Descriptions are data, so a new accelerator needs no code. `docs/energy-model.md` lists every key.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from energy.arrays import Array
from energy.errors import HardwareError
from energy.estimates import Estimate
from energy.records import YamlMapping, read_mapping, read_text
from energy.sram import SramCurve
from energy.technology import Technology, dram_energies, load_technology, technology_names
from energy.unit_energies import UnitEnergies, unit_energies

Dataflow = Literal["weight-stationary", "output-stationary", "row-stationary"]
Zeros = Literal["none", "gated", "fetch-gated", "skipped"]
Cell = Literal["6T", "8T", "hybrid"]

DATAFLOWS: tuple[Dataflow, ...] = ("weight-stationary", "output-stationary", "row-stationary")
ZEROS: tuple[Zeros, ...] = ("none", "gated", "fetch-gated", "skipped")
CELLS: tuple[Cell, ...] = ("6T", "8T", "hybrid")
FAILURES = ("silicon-14nm", "hybrid-22nm")  # names of failure models of cells, defined by the emulator of networks


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """An on-chip memory.

    Attributes:
        capacity_kb: Capacity in KB of 1024 bytes; None if it is fitted to the network.
        bank_kb: Size of a bank; fitted capacities are whole numbers of banks.
        port_bits: Bits moved by one access.
        word_bits: Width of a word; each value takes a whole number of words. 1 packs values of any width.
        cell: Type of the cells. In a hybrid memory the workload's robust bits are in 8T cells, the others in 6T cells.
        supply_v: Supply voltage, in volts. A workload may lower that of the weight memory.
    """

    capacity_kb: int | None
    bank_kb: int
    port_bits: int
    word_bits: int
    cell: Cell
    supply_v: float

    @property
    def metadata_is_8t(self) -> bool:
        """Whether metadata is stored in 8T cells: if there are any, because one error in it spoils many weights."""
        return self.cell != "6T"

    def stored_bits(self, value_bits: Array | float) -> Array:
        """Compute the bits that a value takes in whole words."""
        if self.word_bits == 1:  # a shortcut for most hardware
            return np.asarray(np.ceil(value_bits))
        return np.asarray(np.ceil(np.divide(value_bits, self.word_bits)) * self.word_bits)

    def robust_share(self, robust_bits: Array, value_bits: Array) -> Array | float:
        """Compute the share of each stored value's bits that is in 8T cells."""
        if self.cell == "hybrid":
            return robust_bits / self.stored_bits(value_bits)
        return 1.0 if self.cell == "8T" else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dram:
    """Off-chip memory.

    Attributes:
        interface: A name in `energy/technology/dram.yaml`.
        keeps_feature_maps: Whether a feature map stays on the chip if it fits, instead of always going through DRAM.
        compressed: Whether feature maps are moved without their zeros, which a bitmask marks.
    """

    interface: str
    keeps_feature_maps: bool
    compressed: bool

    @property
    def pj_per_bit(self) -> Estimate:
        """Energy of one bit moved."""
        return dram_energies()[self.interface]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratchpads:
    """Values that each processing element of a row-stationary array holds.

    Attributes:
        weights: Weights.
        inputs: Activations.
        sums: Partial sums.
    """

    weights: int
    inputs: int
    sums: int


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """An accelerator: an array of processing elements between two memories, with or without DRAM.

    Attributes:
        name: Name in reports and in the results database.
        technology: Energies of its process node.
        flavour: Transistor flavour, a key of the technology's leakage table.
        dataflow: The operand that stays in the array.
        array_rows: Processing elements along the inner dimension of a layer's product; along output positions if
            output-stationary; along the rows of a kernel if row-stationary.
        array_columns: Processing elements along output channels; along output rows if row-stationary.
        clock_mhz: Clock frequency.
        supply_v: Supply voltage of the array, in volts.
        zeros: Treatment of operands that are zero: none; gated, products with a zero do not switch; fetch-gated, also
            operands that meet only zeros are not read from memory; skipped, also their products take no cycles.
        partial_sum_bits: Width of partial sums; None if wide enough for every possible sum.
        compressed_weights: Whether each layer's weights are stored in the smallest format of `energy.compression`,
            instead of always dense.
        weight_memory: The memory of the weights.
        weight_failures: Model of how its cells fail as the voltage is lowered, one of `FAILURES`.
        activation_memory: The memory of activations and partial sums.
        dram: Memory that weights and images are read from; None if both are on the chip already.
        scratchpads: Scratchpads of each processing element if row-stationary; otherwise None.
    """

    name: str
    technology: Technology
    flavour: str
    dataflow: Dataflow
    array_rows: int
    array_columns: int
    clock_mhz: float
    supply_v: float
    zeros: Zeros
    partial_sum_bits: int | None
    compressed_weights: bool
    weight_memory: Memory
    weight_failures: str
    activation_memory: Memory
    dram: Dram | None
    scratchpads: Scratchpads | None

    @property
    def weights_stay(self) -> bool:
        """Whether a multiplier holds its weight for many products."""
        return self.dataflow == "weight-stationary"

    @cached_property
    def weight_curve(self) -> SramCurve:
        """Energy of the weight memory at nominal voltage, by capacity."""
        return SramCurve(self.technology.sram, self.technology.sram_ports, self.weight_memory.port_bits)

    @cached_property
    def activation_curve(self) -> SramCurve:
        """Energy of the activation memory at nominal voltage, by capacity."""
        return SramCurve(self.technology.sram, self.technology.sram_ports, self.activation_memory.port_bits)

    @cached_property
    def unit_energies(self) -> UnitEnergies:
        """Energies of the technology at this hardware's voltages and clock."""
        return unit_energies(
            self.technology,
            flavour=self.flavour,
            supply_v=self.supply_v,
            clock_mhz=self.clock_mhz,
            has_scratchpads=self.scratchpads is not None,
            dram_pj_per_bit=None if self.dram is None else self.dram.pj_per_bit,
        )

    @cached_property
    def identity(self) -> str:
        """The name, followed by a hash of the content unless this is the built-in description of that name.

        Results are stored under it, so that those of an edited copy are never mistaken for the original's.
        """
        if self.name in hardware_names() and load_hardware(self.name) == self:
            return self.name
        content = json.dumps(self.to_dict(), sort_keys=True).encode()
        return f"{self.name}@{hashlib.sha256(content).hexdigest()[:8]}"

    def to_dict(self) -> dict[str, Any]:
        """Convert the description to a dictionary, for content hashes and reports."""
        return asdict(self)


def hardware_names() -> list[str]:
    """List the built-in hardware descriptions."""
    folder = resources.files("energy") / "hardware"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_hardware(name: str) -> Hardware:
    """Load a hardware description.

    Args:
        name: A name from `hardware_names()`, or the path of a YAML file (it ends in .yaml).

    Raises:
        HardwareError: If the description does not exist or is malformed, or the name is no text.
    """
    if not isinstance(name, str):
        raise HardwareError(f"hardware must be a name or the path of a .yaml file, got {name!r}")
    if name.endswith(".yaml"):
        return _hardware(read_mapping(read_text(Path(name), "hardware"), name), Path(name).parent)
    if name not in hardware_names():
        raise HardwareError(
            f"unknown hardware {name!r}; choose one of {', '.join(hardware_names())}, or give the path of a .yaml file"
        )
    return _shipped_hardware(name)


def parse_hardware(text: str, *, name: str) -> Hardware:
    """Parse a description from text instead of a file; its technology must be a built-in one.

    Args:
        text: YAML.
        name: Name of the text, for errors.

    Raises:
        HardwareError: If it is malformed.
    """
    try:
        return _hardware(read_mapping(text, name), None)
    except RecursionError:
        raise HardwareError(f"{name}: mappings and lists are nested too deeply") from None
    except OverflowError:
        raise HardwareError(f"{name}: a number is too large") from None


@cache
def _shipped_hardware(name: str) -> Hardware:
    text = (resources.files("energy") / "hardware" / f"{name}.yaml").read_text(encoding="utf-8")
    return _hardware(read_mapping(text, f"{name}.yaml"), Path())


def _hardware(content: YamlMapping, folder: Path | None) -> Hardware:
    """Build a description; a technology given as a file is looked for in the folder."""
    name = content.text("name")
    technology_name = content.text("technology")
    if technology_name.endswith(".yaml"):
        if folder is None:
            raise content.invalid("technology", f"one of {', '.join(technology_names())}", technology_name)
        technology_name = str(folder / technology_name)
    technology = load_technology(technology_name)
    dataflow = cast("Dataflow", content.choice("dataflow", DATAFLOWS))
    array, weight_memory = content.mapping("array"), content.mapping("weight_memory")
    hardware = Hardware(
        name=name,
        technology=technology,
        flavour=content.choice("flavour", list(technology.leakage)),
        dataflow=dataflow,
        array_rows=array.whole("rows"),
        array_columns=array.whole("columns"),
        clock_mhz=_clock(content),
        supply_v=_supply(content, technology),
        zeros=cast("Zeros", content.choice("zeros", ZEROS)),
        partial_sum_bits=content.whole_or("partial_sum_bits", "full"),
        compressed_weights=content.choice("weight_format", ("dense", "compressed")) == "compressed",
        weight_failures=weight_memory.choice("failures", FAILURES),
        weight_memory=_memory(weight_memory, technology),
        activation_memory=_memory(content.mapping("activation_memory"), technology, holds_weights=False),
        dram=_dram(content),
        scratchpads=_scratchpads(content, dataflow),
    )
    array.finish()
    content.finish()
    return hardware


def _memory(content: YamlMapping, technology: Technology, *, holds_weights: bool = True) -> Memory:
    memory = Memory(
        capacity_kb=content.whole_or("capacity_kb", "fitted"),
        bank_kb=content.whole("bank_kb"),
        port_bits=content.whole("port_bits"),
        word_bits=content.whole("word_bits"),
        cell=cast("Cell", content.choice("cell", CELLS if holds_weights else CELLS[:2])),
        supply_v=_supply(content, technology),
    )
    if memory.capacity_kb is not None and memory.capacity_kb % memory.bank_kb:
        raise content.invalid(
            "capacity_kb", f"a whole number of banks of {memory.bank_kb} KB, or fitted", memory.capacity_kb
        )
    content.finish()
    return memory


def _clock(content: YamlMapping) -> float:
    clock_mhz = content.positive("clock_mhz")
    if not 1 <= clock_mhz <= 20_000:
        raise content.invalid("clock_mhz", "in MHz, between 1 and 20000", clock_mhz)
    return clock_mhz


def _supply(content: YamlMapping, technology: Technology) -> float:
    supply_v = content.positive("supply_v")
    # A wrong unit (900 for 900 mV) would give energies a million times too high.
    if not 0.3 * technology.nominal_v <= supply_v <= 1.5 * technology.nominal_v:
        raise content.invalid(
            "supply_v",
            f"in volts, between 0.3 and 1.5 times the nominal {technology.nominal_v} V of the technology",
            supply_v,
        )
    return supply_v


def _dram(content: YamlMapping) -> Dram | None:
    if content.is_word("dram", "none"):
        return None
    mapping = content.mapping("dram")
    dram = Dram(
        interface=mapping.choice("interface", list(dram_energies())),
        keeps_feature_maps=mapping.choice("feature_maps", ("kept", "moved")) == "kept",
        compressed=mapping.truth("compressed"),
    )
    mapping.finish()
    return dram


def _scratchpads(content: YamlMapping, dataflow: Dataflow) -> Scratchpads | None:
    if dataflow != "row-stationary":
        if "scratchpads" in content:
            raise content.invalid("scratchpads", f"left out, as the dataflow is {dataflow}", "scratchpads")
        return None
    mapping = content.mapping("scratchpads")
    pads = Scratchpads(weights=mapping.whole("weights"), inputs=mapping.whole("inputs"), sums=mapping.whole("sums"))
    mapping.finish()
    return pads
