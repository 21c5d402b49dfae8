"""Custom multipliers: from the text of a user's circuit to library cells, and to what it computes.

Whether operands are signed is for others to decide, by names and products: here they are codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from energy.gates.characterise import Table, as_values
from energy.gates.errors import GateDesignError, GateProofError
from energy.gates.modules import IDENTIFIER
from energy.gates.ports import MAX_TABLE_BITS, operand_ports, product_port_of
from energy.gates.simulation import Codes, compute
from energy.gates.source import Source
from energy.gates.stimulus import Pairs, all_pairs
from energy.gates.synthesis import Synthesised, Tools, simulate_independently, synthesise

MAX_CELLS = 20_000
TIMEOUT_S = 60.0

_ALL_PAIRS_BITS = 2 * MAX_TABLE_BITS  # of both operands; circuits with more have too many pairs to compute all
SAMPLED_PAIRS = 2**20
_PROVED_PAIRS = 2**16  # of the sample, by both simulators
_COMPUTED_AT_ONCE = 2**17  # bounds the memory that it takes

CORE = "core"  # name of the mapped module
_VALUE = re.compile(r"\d+|(\d+)?'[sS]?([bB][01_]+|[oO][0-7_]+|[dD][0-9_]+|[hH][0-9a-fA-F_]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCircuit:
    """A custom circuit mapped to library cells, and what it computes.

    Attributes:
        title: Name of its module.
        parameters: The parameters that were set.
        design: The mapped circuit.
        activation_port: Input port of the activation.
        weight_port: Input port of the weight.
        product_port: Output port.
        signed_ports: The inputs that are declared as signed.
        activations: Codes on the input of the activation: of all pairs, or of random ones if there are too many.
        weights: Codes on the input of the weight, equally many.
        products: Codes of the product for each pair. Of a sample, the first `SAMPLED_PAIRS` are random, and the others
            the extremes of both operands.
        notes: What was supplied that the file does not say.
    """

    title: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    design: Synthesised
    activation_port: str
    weight_port: str
    product_port: str
    signed_ports: frozenset[str]
    activations: Codes
    weights: Codes
    products: Codes
    notes: tuple[str, ...] = ()

    @property
    def weight_bits(self) -> int:
        """Width of the weight port."""
        return len(self.design.netlist.inputs[self.weight_port])

    @property
    def activation_bits(self) -> int:
        """Width of the activation port."""
        return len(self.design.netlist.inputs[self.activation_port])

    @property
    def is_sampled(self) -> bool:
        """Whether `products` are of a sample of all pairs."""
        return self.activation_bits + self.weight_bits > _ALL_PAIRS_BITS

    @property
    def has_table(self) -> bool:
        """Whether layers can use it, by a table of its products."""
        return max(self.activation_bits, self.weight_bits) <= MAX_TABLE_BITS

    def values(self, *, signed: bool) -> tuple[Pairs, Codes]:
        """Operands and products as values.

        Args:
            signed: Whether all three are two's complement.
        """
        bits = len(self.design.netlist.outputs[self.product_port])
        pairs = Pairs(
            activations=as_values(self.activations, self.activation_bits, signed=signed),
            weights=as_values(self.weights, self.weight_bits, signed=signed),
        )
        return pairs, as_values(self.products, bits, signed=signed)

    def table(self, *, signed: bool) -> Table:
        """Products, shape (2**activation_bits, 2**weight_bits), for a circuit that has a table."""
        _, products = self.values(signed=signed)
        return products.astype(np.int32).reshape(2**self.activation_bits, 2**self.weight_bits)


def read_circuit(
    tools: Tools, source: Source, *, weight_port: str | None = None, parameters: Mapping[str, str] | None = None
) -> UserCircuit:
    """Map a circuit to library cells and compute its products by two simulators, which must agree.

    Args:
        tools: The installed tools.
        source: The circuit.
        weight_port: Input port of the weight; by default the one whose name says so, or else the second input.
        parameters: Values of the module's parameters, in decimal or as Verilog literals; others keep their defaults.

    Raises:
        GateDesignError: If the text is not valid Verilog or not a combinational multiplier of two operands of 2 to 16
            bits, or has no such parameter.
        GateProofError: If the simulators disagree.
        GateToolError: If a tool fails or takes too long.
    """
    parameters = parameters or {}
    _check_parameters(source, parameters)
    with _own_words(source):
        design, notes = _synthesised(tools, source, parameters)
    netlist = design.netlist
    if len(netlist.cell_names) > MAX_CELLS:
        raise GateDesignError(
            f"the design has {len(netlist.cell_names)} cells; at most {MAX_CELLS} can be characterised"
        )
    widths = {port: len(nets) for port, nets in netlist.inputs.items()}
    activation_port, weight_port = operand_ports(widths, weight_port, source.parameters)
    is_table = max(widths.values()) <= MAX_TABLE_BITS
    product_port = product_port_of({port: len(nets) for port, nets in netlist.outputs.items()}, is_table=is_table)
    drawn = _pairs(widths[activation_port], widths[weight_port])
    codes = {activation_port: drawn.activations, weight_port: drawn.weights}
    products = np.concatenate(
        [
            compute(netlist, {port: values[start : start + _COMPUTED_AT_ONCE] for port, values in codes.items()})[
                product_port
            ]
            for start in range(0, len(drawn.weights), _COMPUTED_AT_ONCE)
        ]
    )
    # The last ones are the extremes of wide operands.
    proved = {port: values[-_PROVED_PAIRS:] for port, values in codes.items()}
    with _own_words(source):
        theirs = simulate_independently(tools, design, proved, product_port, timeout_s=TIMEOUT_S)
    if (products[-_PROVED_PAIRS:] != theirs).any():
        raise GateProofError(f"two simulators disagree about what {source.title!r} computes; please report it")
    return UserCircuit(
        title=source.title,
        parameters=parameters,
        design=design,
        activation_port=activation_port,
        weight_port=weight_port,
        product_port=product_port,
        signed_ports=netlist.signed & netlist.inputs.keys(),
        activations=drawn.activations,
        weights=drawn.weights,
        products=products,
        notes=(*source.notes, *notes),
    )


def _pairs(activation_bits: int, weight_bits: int) -> Pairs:
    """All pairs of codes; of wide operands random ones, and then the extremes of both."""
    if activation_bits + weight_bits <= _ALL_PAIRS_BITS:
        return all_pairs(np.arange(2**activation_bits), np.arange(2**weight_bits))
    random = np.random.default_rng(0)
    corners = all_pairs(*(_extremes(bits) for bits in (activation_bits, weight_bits)))
    return Pairs(
        activations=np.append(random.integers(0, 2**activation_bits, SAMPLED_PAIRS), corners.activations),
        weights=np.append(random.integers(0, 2**weight_bits, SAMPLED_PAIRS), corners.weights),
    )


def _extremes(bits: int) -> Codes:
    middle = 2 ** (bits - 1)
    return np.array([0, 1, 2, middle - 1, middle, middle + 1, 2 * middle - 2, 2 * middle - 1])


def _check_parameters(source: Source, parameters: Mapping[str, str]) -> None:
    listed = ", ".join(f"{name} = {value}" for name, value in source.parameters.items()) or "none"
    for name, value in parameters.items():
        if name not in source.parameters:
            raise GateDesignError(
                f"module {source.title!r} has no parameter {name!r}; `parameters` sets its parameters: {listed}"
            )
        if not _VALUE.fullmatch(value):
            raise GateDesignError(
                f"`parameters` takes whole numbers and Verilog literals such as 8 or 4'b1010; got {name}={value}"
            )


def _synthesised(tools: Tools, source: Source, parameters: Mapping[str, str]) -> tuple[Synthesised, tuple[str, ...]]:
    """Map a circuit to cells, and return notes about what was supplied."""
    plain = re.fullmatch(IDENTIFIER, source.module) is not None
    if parameters and not plain:
        raise GateDesignError(f"parameters of a module named {source.module!r} cannot be set; give it a plain name")

    def synthesised(*, fold: bool = False, cells: bool = False) -> Synthesised:
        return synthesise(
            tools,
            source.text,
            top=source.module if plain else None,  # not put into the script otherwise: Yosys finds the module by itself
            rename=CORE,
            parameters=parameters,
            system_verilog=source.system_verilog,
            fold=fold,
            cells_as_logic=cells,
            timeout_s=TIMEOUT_S,
        )

    try:
        return synthesised(), ()
    except GateDesignError as error:
        missing = re.search(r"Module `\\?(\w+)' referenced in module", str(error))
        if missing is not None and missing[1] in tools.library.cells:
            # Netlists of other libraries with these names, such as those of FreePDK45.
            return synthesised(cells=True), (
                f"{missing[1]} is not in the file; it was taken for the cell of that name",
            )
        if "multiple conflicting drivers" not in str(error):
            raise
        # Generators drive a signal by x and by x & 1.
        with suppress(GateDesignError):
            return synthesised(fold=True), ("a signal has several drivers, which are one once constants are put in",)
        raise


@contextmanager
def _own_words(source: Source) -> Iterator[None]:
    """Rephrase errors in terms of the user's text instead of our copy of it."""
    try:
        yield
    except GateDesignError as error:
        said = str(error).replace(f"module {CORE!r}", f"module {source.title!r}")
        said = re.sub(
            r"\bdesign\.v:(\d+)(?:\.\d+-\d+\.\d+)?: (?:ERROR: )?",
            lambda found: f"{source.place(int(found[1]))}: ",
            said,
        )
        said = re.sub(r"it needs (\S+) \(\S+\)", lambda found: f"it needs {_cell_in_words(found[1])}", said)
        if "multiple conflicting drivers" in said and source.driven_twice:
            said = f"signals have different drivers: {source.driven_twice[0]}"
        if source.signals:
            said = re.sub(r"\S*\bn\d+\b", lambda found: _signal_in_words(found[0], source), said)
        if "syntax error" in said and not source.system_verilog:
            said += "; this is read as Verilog-2005: name a file of SystemVerilog, such as logic and always_comb, .sv"
        raise GateDesignError(said) from None


def _signal_in_words(found: str, source: Source) -> str:
    return source.signals.get(re.split(r"\W", found)[-1], found)


def _cell_in_words(cell: str) -> str:
    """Describe one of Yosys's internal cells."""
    if "LATCH" in cell or cell.startswith("$_SR_"):
        return "a latch"
    if "FF" in cell:
        return "a flip-flop"
    return "a tri-state" if "TBUF" in cell else cell
