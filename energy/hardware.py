"""Descriptions of accelerators, read from YAML and checked: structure, technology and voltages.

Descriptions are data, so a new accelerator needs no code. `docs/energy-model.md` lists every key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

from energy.cost_table import BUILT_WIDTHS, LAYER, built_form
from energy.errors import HardwareError
from energy.hardware_parts import CELLS, Cell, Dram, Memory, Overhead, Scratchpads, Widths
from energy.records import YamlMapping, read_mapping, read_text
from energy.scaled_technology import scale_technology
from energy.scaling import MAX_NODE_NM, MIN_NODE_NM, usual_supply_v
from energy.sram import BankedSram, SramCurve
from energy.technology import Technology, dram_energies, load_technology, parse_technology, technology_names
from energy.unit_energies import MOST_SUM_BITS, SHIFT_BITS, UnitEnergies, unit_energies

Dataflow = Literal["weight-stationary", "output-stationary", "row-stationary", "best"]
Zeros = Literal["none", "gated", "fetch-gated", "skipped"]
Overflow = Literal["saturate", "wrap"]

DATAFLOWS: tuple[Dataflow, ...] = ("weight-stationary", "output-stationary", "row-stationary", "best")
FLAT_DATAFLOWS: tuple[Dataflow, ...] = ("weight-stationary", "output-stationary")  # among which `best` chooses
ZEROS: tuple[Zeros, ...] = ("none", "gated", "fetch-gated", "skipped")
OVERFLOWS: tuple[Overflow, ...] = ("saturate", "wrap")
_SCALED_NODES = f"the nodes from {MIN_NODE_NM} to {MAX_NODE_NM} nm"
_OPTIONAL_KEYS = ("partial_sum_overflow", "widths", "batch", "bias_bits", "scale_bits", "overhead")
BIAS_BITS = 32  # B. Jacob et al., Quantization and training of neural networks, CVPR 2018
SCALE_BITS = 16  # as in NVDLA's output stage (NVIDIA, NVDLA hardware architectural specification, 2018)
# What members of `Hardware.any_of` must share, in the words of hardware files, in the order of `Hardware._deciding`.
_DECIDES_ACCURACY = (
    "weight_memory.cell",
    "weight_memory.word_bits",
    "weight_memory.supply_v",
    "weight_memory.failures",
    "weight_format",
    "widths",
    "batch",
    "partial_sum_bits",
    "partial_sum_overflow",
)
_PRODUCT_BITS = 16
_MOST_BATCH = 65_536
# Names of failure models of cells, defined by the emulator of networks: those that were published, with 8T cells that
# fail at higher or at lower voltages than is assumed, and with failed cells that are stuck instead of inverting.
FAILURES = tuple(
    f"{published}{eight_transistor}{failed}"
    for published in ("silicon-14nm", "hybrid-22nm")
    for eight_transistor in ("", "-weaker-8t", "-stronger-8t")
    for failed in ("", "-stuck")
)


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """An accelerator: an array of processing elements between two memories, with or without DRAM.

    Attributes:
        name: Name in reports and in the results database.
        technology: Energies of its process node.
        flavour: Transistor flavour, a key of the technology's leakage table.
        dataflow: The operand that stays in the array; `best` for the cheapest of `FLAT_DATAFLOWS` in each layer.
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
        widths: Widths that the array is built for; None for those of each workload, a new chip for each.
        batch: Inferences run together.
        bias_bits: Width of a stored bias.
        scale_bits: Width of the stored scale by which the sums of an output are multiplied.
        overhead: Energy of what is not modelled.
        partial_sum_overflow: What an addition gives that leaves the width of partial sums, of `OVERFLOWS`; `saturate`
            where they are wide enough.
        alternatives: Accelerators of which each workload runs on the one that costs it least, as `any_of` makes them;
            empty for a single one.
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
    widths: Widths | None = None
    batch: int = 1
    bias_bits: int = BIAS_BITS
    scale_bits: int = SCALE_BITS
    overhead: Overhead = field(default_factory=Overhead)
    partial_sum_overflow: Overflow = "saturate"
    alternatives: tuple[Hardware, ...] = ()

    @classmethod
    def any_of(cls, members: Sequence[Hardware]) -> Hardware:
        """Make hardware that is one of several accelerators, for each workload the one that costs it least.

        Args:
            members: Accelerators whose weights are stored and fail alike, and whose partial sums are alike, so that a
                network is as accurate on each.

        Raises:
            HardwareError: If there is none, one is given twice, or they differ in what decides accuracy.
        """
        if not members:
            raise HardwareError("hardware to choose among needs at least one accelerator, got none")
        first, *others = members = sorted(members, key=lambda one: one.name)  # so that their order says nothing
        if not others:
            return first
        names = [one.name for one in members]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise HardwareError(f"hardware to choose among must have different names, got {twice!r} twice")
        for other in others:
            for what, mine, theirs in zip(_DECIDES_ACCURACY, first._deciding, other._deciding, strict=True):
                if mine != theirs:
                    raise HardwareError(
                        f"hardware to choose among must be alike in what decides accuracy: {what} is {mine} on "
                        f"{first.name}, and {theirs} on {other.name}; search these one after the other"
                    )
        return replace(first, name=",".join(names), alternatives=tuple(members))

    @property
    def _deciding(self) -> tuple[object, ...]:
        """The values of `_DECIDES_ACCURACY`."""
        memory, widths = self.weight_memory, self.widths
        return (
            memory.cell,
            memory.word_bits,
            memory.supply_v,
            self.weight_failures,
            "compressed" if self.compressed_weights else "dense",
            "fitted" if widths is None else f"{widths.weights} and {widths.activations}",
            self.batch,
            "full" if self.partial_sum_bits is None else self.partial_sum_bits,
            self.partial_sum_overflow,
        )

    @property
    def output_bits(self) -> float:
        """Stored bits of an output: its bias, and its scale with the distance by which the product is shifted."""
        return float(self.bias_bits + (self.scale_bits + SHIFT_BITS if self.scale_bits else 0))

    @property
    def multiplier_form(self) -> str:
        """The form in which multipliers of its array are characterised; see `energy.cost_table.FORMS`."""
        return LAYER if self.widths is None else built_form(self.widths.weights, self.widths.activations)

    @cached_property
    def weight_sram(self) -> BankedSram:
        """Energy of the weight memory at nominal voltage, by capacity."""
        return self._sram(self.weight_memory)

    @cached_property
    def activation_sram(self) -> BankedSram:
        """Energy of the activation memory at nominal voltage, by capacity."""
        return self._sram(self.activation_memory)

    def _sram(self, memory: Memory) -> BankedSram:
        return BankedSram(
            SramCurve(self.technology.sram, self.technology.sram_ports, memory.port_bits),
            bank_kb=memory.bank_kb,
            um2_per_bit=self.technology.sram_um2_per_bit,
            wire_pj_per_bit_mm=self.technology.wire_pj_per_bit_mm,
        )

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
            scale_bits=self.scale_bits,
            overhead_pj=(self.overhead.pj_per_cycle, self.overhead.pj_per_inference),
        )

    @cached_property
    def identity(self) -> str:
        """The name, followed by a hash of the content unless this is the built-in description of that name.

        Results are stored under it, so that those of an edited copy are never mistaken for the original's.
        """
        if self.alternatives:
            return ",".join(one.identity for one in self.alternatives)
        if self.name in hardware_names() and load_hardware(self.name) == self:
            return self.name
        content = json.dumps(self.to_dict(), sort_keys=True).encode()
        return f"{self.name}@{hashlib.sha256(content).hexdigest()[:8]}"

    def to_dict(self) -> dict[str, Any]:
        """Convert the description to a dictionary, for content hashes and reports."""
        content = asdict(self)
        for one in (content, *content["alternatives"]):
            if one["partial_sum_bits"] is None:  # what overflows does not matter where nothing can
                del one["partial_sum_overflow"]
        return content


def hardware_names() -> list[str]:
    """List the built-in hardware descriptions."""
    folder = resources.files("energy") / "hardware"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_hardware(name: str) -> Hardware:
    """Load a hardware description.

    Args:
        name: A name from `hardware_names()`, or the path of a YAML file (it ends in .yaml); or several of these
            separated by commas, see `Hardware.any_of`.

    Raises:
        HardwareError: If the description does not exist or is malformed, or the name is no text. A line for each
            mistake in a file.
    """
    if not isinstance(name, str):
        raise HardwareError(f"hardware must be a name or the path of a .yaml file, got {name!r}")
    if "," in name and not Path(name).exists():
        return Hardware.any_of([load_hardware(one.strip()) for one in name.split(",")])
    if name.endswith(".yaml"):
        return _hardware(read_mapping(read_text(Path(name), "hardware"), name), Path(name).parent)
    if name not in hardware_names():
        raise HardwareError(
            f"unknown hardware {name!r}; choose one of {', '.join(hardware_names())}, or give the path of a .yaml "
            "file; list them with: search hardware"
        )
    return _shipped_hardware(name)


def parse_hardware(text: str, *, name: str) -> Hardware:
    """Parse a description from text instead of a file; its technology must be a built-in one.

    Args:
        text: YAML.
        name: Name of the text, for errors.

    Raises:
        HardwareError: If it is malformed. A line for each mistake.
    """
    return _hardware(read_mapping(text, name), None)


@cache
def _shipped_hardware(name: str) -> Hardware:
    text = (resources.files("energy") / "hardware" / f"{name}.yaml").read_text(encoding="utf-8")
    return _hardware(read_mapping(text, f"{name}.yaml"), Path())


def _hardware(content: YamlMapping, folder: Path | None) -> Hardware:
    """Build a description; a technology given as a file is looked for in the folder."""
    name = _name(content)
    technology = _technology(content, folder)
    dataflow = cast("Dataflow", content.choice("dataflow", DATAFLOWS))
    array, weight_memory = content.mapping("array"), content.mapping("weight_memory")
    hardware = Hardware(
        name=name,
        technology=technology or load_technology("45nm"),  # if it is wrong, which `finish` says
        flavour=content.choice("flavour", list(technology.leakage)) if technology else content.text("flavour"),
        dataflow=dataflow,
        array_rows=array.whole("rows"),
        array_columns=array.whole("columns"),
        clock_mhz=_clock(content),
        supply_v=_supply(content, technology),
        zeros=cast("Zeros", content.choice("zeros", ZEROS)),
        partial_sum_bits=_partial_sum_bits(content),
        compressed_weights=content.choice("weight_format", ("dense", "compressed")) == "compressed",
        weight_failures=weight_memory.choice("failures", FAILURES),
        weight_memory=_memory(weight_memory, technology),
        activation_memory=_memory(content.mapping("activation_memory"), technology, holds_weights=False),
        dram=_dram(content),
        scratchpads=_scratchpads(content, dataflow),
        widths=_widths(content),
        batch=_batch(content),
        bias_bits=_bits(content, "bias_bits", BIAS_BITS, most=64),
        scale_bits=_bits(content, "scale_bits", SCALE_BITS, most=32),
        overhead=_overhead(content),
        partial_sum_overflow=_partial_sum_overflow(content),
    )
    content.finish(optional=_OPTIONAL_KEYS)
    return hardware


def _name(content: YamlMapping) -> str:
    name = content.text("name")
    if "," in name:
        content.reject("name", "without commas, which separate names of hardware", name)
    return name


def _partial_sum_bits(content: YamlMapping) -> int | None:
    bits = content.whole_or("partial_sum_bits", "full")
    if bits is not None and content.sound("partial_sum_bits") and not _PRODUCT_BITS <= bits <= MOST_SUM_BITS:
        content.reject(
            "partial_sum_bits",
            f"full, or from {_PRODUCT_BITS} bits, the product of two 8-bit codes, to {MOST_SUM_BITS}",
            bits,
        )
    return bits


def _partial_sum_overflow(content: YamlMapping) -> Overflow:
    if "partial_sum_overflow" not in content:
        return "saturate"
    overflow = content.choice("partial_sum_overflow", OVERFLOWS)
    sound = content.sound("partial_sum_bits", "partial_sum_overflow")
    if sound and content.whole_or("partial_sum_bits", "full") is None:
        content.reject("partial_sum_overflow", "left out, as partial_sum_bits is full", overflow)
    return cast("Overflow", overflow)


def _batch(content: YamlMapping) -> int:
    batch = content.whole("batch") if "batch" in content else 1
    if batch > _MOST_BATCH:
        content.reject("batch", f"at most {_MOST_BATCH}", batch)
    return batch


def _bits(content: YamlMapping, key: str, default: int, *, most: int) -> int:
    """Read an optional width of something stored, 0 if it is not."""
    if key not in content:
        return default
    wanted = f"a whole number from 0 to {most}"
    bits = content.number(key, wanted)
    if bits is None:
        return default
    if not 0 <= bits <= most or bits != int(bits):
        content.reject(key, wanted, bits)
        return default
    return int(bits)


def _widths(content: YamlMapping) -> Widths | None:
    mapping = content.mapping_or("widths", "fitted") if "widths" in content else None
    if mapping is None:
        return None
    widths = Widths(weights=mapping.whole("weights"), activations=mapping.whole("activations"))
    known = " or ".join(f"{weights} and {activations}" for weights, activations in BUILT_WIDTHS)
    if mapping.sound("weights", "activations") and (widths.weights, widths.activations) not in BUILT_WIDTHS:
        content.complain(
            "widths",
            f"multipliers were measured with narrower operands for {known} bits of weights and activations only, got "
            f"{widths.weights} and {widths.activations}",
        )
    return widths


def _overhead(content: YamlMapping) -> Overhead:
    if "overhead" not in content:
        return Overhead()
    mapping = content.sourced("overhead")
    return Overhead(
        pj_per_cycle=mapping.estimate("pj_per_cycle"), pj_per_inference=mapping.estimate("pj_per_inference")
    )


def _technology(content: YamlMapping, folder: Path | None) -> Technology | None:
    """Read the technology: one by name or in a file, or one scaled to another node.

    None if it is wrong, so that nothing is checked against it.
    """
    if not content.is_mapping("technology"):
        return _named_technology(content, "technology", folder)
    scaled = content.mapping("technology")
    base, node_nm = _named_technology(scaled, "from", folder), scaled.whole("node_nm")
    if base is not None and not MIN_NODE_NM <= base.node_nm <= MAX_NODE_NM:
        scaled.complain("from", f"a technology at {base.node_nm} nm cannot be scaled; {_SCALED_NODES} can")
    if scaled.sound("node_nm") and not MIN_NODE_NM <= node_nm <= MAX_NODE_NM:
        scaled.reject("node_nm", f"one of {_SCALED_NODES}, between which scaling is known", node_nm)
    usual_v = usual_supply_v(node_nm) if scaled.sound("node_nm") else None
    nominal_v = usual_v
    if "nominal_v" in scaled:
        nominal_v = scaled.positive("nominal_v")
        # Far from the node's usual voltage the fits of energies do not hold.
        if usual_v and scaled.sound("nominal_v") and not 0.75 * usual_v <= nominal_v <= 1.25 * usual_v:
            scaled.reject(
                "nominal_v", f"in volts, between 0.75 and 1.25 times the usual {usual_v} V of the node", nominal_v
            )
    elif base is not None and base.node_nm == node_nm:
        nominal_v = base.nominal_v
    scaled.finish(optional=("nominal_v",))
    if base is None or nominal_v is None or not scaled.sound("from", "node_nm", *scaled.keys):
        return None
    return scale_technology(base, node_nm, nominal_v)


def _named_technology(content: YamlMapping, key: str, folder: Path | None) -> Technology | None:
    name = content.word(key)
    if not content.sound(key):
        return None
    if not name.endswith(".yaml"):
        if name in technology_names():
            return load_technology(name)
        names, example = ", ".join(technology_names()), "{node_nm: 28, from: 45nm}"
        file = ", give the path of a .yaml file" if folder is not None else ""
        content.complain(key, f"unknown technology {name!r}; choose one of {names}{file}, or scale one: {example}")
    elif folder is None:
        content.reject(key, f"one of {', '.join(technology_names())}", name)
    else:
        path = folder / name
        try:
            text = read_text(path, "technology")
        except HardwareError as error:
            content.complain(key, str(error))
            return None
        try:
            return parse_technology(text, str(path))
        except HardwareError as error:
            content.pass_on(key, error)
    return None


def _memory(content: YamlMapping, technology: Technology | None, *, holds_weights: bool = True) -> Memory:
    memory = Memory(
        capacity_kb=content.whole_or("capacity_kb", "fitted"),
        bank_kb=content.whole("bank_kb"),
        port_bits=content.whole("port_bits"),
        word_bits=content.whole("word_bits"),
        cell=cast("Cell", content.choice("cell", CELLS if holds_weights else CELLS[:2])),
        supply_v=_supply(content, technology),
    )
    bank_kb = memory.bank_kb if content.sound("capacity_kb", "bank_kb") else 1
    if memory.capacity_kb is not None and memory.capacity_kb % bank_kb:
        content.reject("capacity_kb", f"a whole number of banks of {memory.bank_kb} KB, or fitted", memory.capacity_kb)
    return memory


def _clock(content: YamlMapping) -> float:
    clock_mhz = content.positive("clock_mhz")
    if not 1 <= clock_mhz <= 20_000:
        content.reject("clock_mhz", "in MHz, between 1 and 20000", clock_mhz)
    return clock_mhz


def _supply(content: YamlMapping, technology: Technology | None) -> float:
    supply_v = content.positive("supply_v")
    if technology is None or not content.sound("supply_v"):
        return supply_v
    # A wrong unit (900 for 900 mV) would give energies a million times too high.
    if not 0.3 * technology.nominal_v <= supply_v <= 1.5 * technology.nominal_v:
        content.reject(
            "supply_v",
            f"in volts, between 0.3 and 1.5 times the nominal {technology.nominal_v} V of the technology",
            supply_v,
        )
    return supply_v


def _dram(content: YamlMapping) -> Dram | None:
    mapping = content.mapping_or("dram", "none")
    if mapping is None:
        return None
    return Dram(
        interface=mapping.choice("interface", list(dram_energies())),
        keeps_feature_maps=mapping.choice("feature_maps", ("kept", "moved")) == "kept",
        compressed=mapping.truth("compressed"),
    )


def _scratchpads(content: YamlMapping, dataflow: Dataflow) -> Scratchpads | None:
    if not content.sound("dataflow") and "scratchpads" not in content:
        return None  # whether they are needed is not known
    if content.sound("dataflow") and dataflow != "row-stationary":
        if "scratchpads" in content:
            content.reject("scratchpads", f"left out, as the dataflow is {dataflow}", "scratchpads")
        return None
    mapping = content.mapping("scratchpads")
    return Scratchpads(weights=mapping.whole("weights"), inputs=mapping.whole("inputs"), sums=mapping.whole("sums"))
