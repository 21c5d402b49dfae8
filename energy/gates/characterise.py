"""Characterise a multiplier: produce its row of the cost table.

    Verilog -> Yosys, library cells -> netlist -> proof (Icarus Verilog and our own simulator, all operand pairs)
                                          └-> vectors -> toggles -> energy

The caller, who emulates the multiplier, gives its products as a table of integers,
`table[activation_code, weight_code]`. The exact multiplier needs none, so it can be wider than a table can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from energy.cost_table import ARRAY, EXACT, LAYER, CostRow, built_form
from energy.errors import WorkloadError
from energy.gates.errors import GateProofError
from energy.gates.netlist import Netlist
from energy.gates.simulation import Codes, Operations, ToggleCounter, cell_areas_um2, cell_energies_fj, compute
from energy.gates.stimulus import KINDS, Pairs, activation_values, all_pairs, random_pairs, weight_values
from energy.gates.synthesis import Synthesised, Tools, simulate_independently, synthesise
from energy.gates.verilog import SHARED, TOP, TWOS_COMPLEMENT, Design, Operands, designs

Table = NDArray[np.int32] | NDArray[np.int64]

_SAMPLED_PAIRS = 2**16  # by which circuits are proved that have too many pairs


class Function(Protocol):
    """What a multiplier should compute in a form."""

    @property
    def form(self) -> str:
        """One of `energy.gates.verilog.FORMS`."""

    @property
    def weight_bits(self) -> int:
        """Width of a weight."""

    @property
    def activation_bits(self) -> int:
        """Width of an activation."""

    @property
    def pairs(self) -> Pairs:
        """The pairs of operands by which a circuit is proved."""

    @property
    def is_exact(self) -> bool:
        """Whether every product is exact."""

    @property
    def operands(self) -> Operands:
        """Form and widths."""

    def held(self, weights: Codes) -> Codes:
        """Map weights to the values that networks store."""

    def products(self, pairs: Pairs) -> Codes:
        """Return the products of pairs of operand values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The function that a multiplier should compute in a form.

    Attributes:
        form: One of `energy.gates.verilog.FORMS`.
        weight_bits: Width of a weight.
        activation_bits: Width of an activation.
        table: Products, shape (2**activation_bits, 2**weight_bits), indexed by codes read as unsigned. The code of a
            weight is two's complement here, whatever its memory stores.
        held_weights: Values that networks store in place of each weight if they are trained for some only, in the order
            of codes, shape (2**weight_bits,). Energy is measured with weights replaced by them; products are verified
            for all.

    Raises:
        WorkloadError: If a table has the wrong shape.
    """

    form: str
    weight_bits: int
    activation_bits: int
    table: Table
    held_weights: Table | None = None

    def __post_init__(self) -> None:
        shape = (2**self.activation_bits, 2**self.weight_bits)
        if self.table.shape != shape:
            raise WorkloadError(f"a table of these widths has shape {shape}, got {self.table.shape}")
        if self.held_weights is not None and self.held_weights.shape != shape[1:]:
            raise WorkloadError(f"held_weights has shape {shape[1:]}, got {self.held_weights.shape}")

    @property
    def pairs(self) -> Pairs:
        """All pairs of operands, also those that only failed memory cells bring about."""
        weights = weight_values(self.form, self.weight_bits)
        return all_pairs(activation_values(self.form, self.activation_bits), weights)

    def held(self, weights: Codes) -> Codes:
        """Map weights to the values that networks store."""
        if self.held_weights is None:
            return weights
        held: Codes = self.held_weights[weights & (2**self.weight_bits - 1)].astype(np.int64)
        return held

    def products(self, pairs: Pairs) -> Codes:
        """Look up the products of pairs of operand values."""
        activations = pairs.activations & (2**self.activation_bits - 1)
        products: Codes = self.table[activations, pairs.weights & (2**self.weight_bits - 1)].astype(np.int64)
        return products

    @property
    def is_exact(self) -> bool:
        """Whether every product is exact."""
        pairs = self.pairs
        return bool((self.products(pairs) == pairs.activations * pairs.weights).all())

    @property
    def operands(self) -> Operands:
        """Form and widths; the product is wide enough for all its values."""
        products = self.products(self.pairs)
        lowest, highest = int(products.min()), int(products.max())
        signed = self.form != "unsigned"
        needed = max(highest.bit_length(), (~lowest).bit_length() if lowest < 0 else 0) + signed
        return Operands(
            form=self.form,
            weight_bits=self.weight_bits,
            activation_bits=self.activation_bits,
            product_bits=max(needed, self.weight_bits + self.activation_bits),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """The exact product, of any width up to 24 bits.

    Attributes:
        form: One of `energy.gates.verilog.FORMS`; in layers activations are unsigned and weights are signed.
        weight_bits: Width of a weight.
        activation_bits: Width of an activation.
    """

    form: str = LAYER
    weight_bits: int
    activation_bits: int

    is_exact: ClassVar[bool] = True

    @property
    def pairs(self) -> Pairs:
        """Random pairs, and all pairs of the smallest, the largest and the middle values."""
        random = np.random.default_rng(0)
        weights, activations = (
            weight_values(self.form, self.weight_bits),
            activation_values(self.form, self.activation_bits),
        )
        corners = all_pairs(_extremes(activations), _extremes(weights))
        return Pairs(
            activations=np.append(corners.activations, random.choice(activations, _SAMPLED_PAIRS)),
            weights=np.append(corners.weights, random.choice(weights, _SAMPLED_PAIRS)),
        )

    @property
    def operands(self) -> Operands:
        """Form and widths; the product is wide enough for all its values."""
        bits = self.weight_bits, self.activation_bits
        return Operands(form=self.form, weight_bits=bits[0], activation_bits=bits[1], product_bits=sum(bits))

    def held(self, weights: Codes) -> Codes:
        """Return the weights: all can be stored."""
        return weights

    def products(self, pairs: Pairs) -> Codes:
        """Multiply."""
        return pairs.activations * pairs.weights


def _extremes(values: Codes) -> Codes:
    """The lowest, middle and highest of some values, and those around zero."""
    ordered = np.sort(values)
    middle = len(ordered) // 2
    chosen = np.concatenate([ordered[:3], ordered[middle - 1 : middle + 2], ordered[-3:]])
    return np.unique(np.append(chosen, [one for one in (-1, 0, 1) if ordered[0] <= one]))


def characterise(tools: Tools, name: str, expected: Function) -> CostRow:
    """Build, verify and measure a multiplier of the catalogue.

    One that is exact for these operands is built as the exact one, of which there are several designs, as there are of
    the array: the row has the lowest energy of any design for each kind of operands, and the area of the design with
    the lowest energy for recorded operands.

    Args:
        tools: The installed tools.
        name: Name of the multiplier.
        expected: The products that it should compute.

    Raises:
        WorkloadError: If the name is unknown.
        GateProofError: If a circuit computes something else.
        GateToolError: If a tool fails.
    """
    rows = [row for row, _, _ in _measured_designs(tools, name, expected)]
    cheapest = min(rows, key=lambda row: row.energy_recorded_fj)
    # A designer takes the cheapest design for the dataflow at hand, and approximate multipliers must beat that one.
    return replace(
        cheapest,
        energy_uniform_fj=min(row.energy_uniform_fj for row in rows),
        energy_held_fj=min(row.energy_held_fj for row in rows),
    )


def characterise_built(tools: Tools, name: str, built: Function, narrower: Sequence[Function]) -> Iterator[CostRow]:
    """Build one multiplier, verify it, and measure what narrower operands cost in it.

    The circuit is the one of several designs that takes the least energy at its full width. It gets narrower operands
    as they are: magnitudes whose high bits are zero, and the sign at its own place.

    Args:
        tools: The installed tools.
        name: Name of the multiplier.
        built: What it computes at its full width, in the form `layer`.
        narrower: Operands to measure it with; products are not looked at, only the weights that can be stored.

    Yields:
        A row for each entry of `narrower`, in a form that names the circuit's widths.

    Raises:
        WorkloadError: If the name is unknown.
        GateProofError: If the circuit computes something else.
        GateToolError: If a tool fails.
    """
    found = _measured_designs(tools, name, built)
    _, netlist, encode = min(found, key=lambda design: design[0].energy_recorded_fj)
    form = built_form(built.weight_bits, built.activation_bits)
    meter = Meter(tools, netlist)
    for operands in narrower:
        yield replace(meter.row(operands, encode, name=name), form=form)


def _measured_designs(tools: Tools, name: str, expected: Function) -> list[tuple[CostRow, Netlist, Encoder]]:
    """Build, verify and measure every design of a multiplier."""
    found = []
    # One that is exact for these operands is built as the exact one, unless the structure is what is asked for.
    built = EXACT if expected.is_exact and name != ARRAY else name
    for design in designs(built, expected.operands):
        synthesised = synthesise(tools, design.verilog, top=TOP, parts=design.parts)
        encode = encoder_of(design, expected)
        prove(tools, synthesised, expected, encode, name=name)
        row = Meter(tools, synthesised.netlist).row(expected, encode, name=name)
        found.append((row, synthesised.netlist, encode))
    return found


Encoder = Callable[[Pairs], dict[str, Codes]]  # from operand values to codes on the input ports


def prove(
    tools: Tools, design: Synthesised, expected: Function, encode: Encoder, *, name: str, output: str = "p"
) -> None:
    """Verify that a netlist computes the expected product for every pair of operands of a function.

    Raises:
        GateProofError: If it does not, by either of two simulators.
    """
    pairs = expected.pairs
    wanted = expected.products(pairs)
    codes = encode(pairs)
    for simulator, raw in (
        ("Icarus Verilog", simulate_independently(tools, design, codes, output)),
        ("our simulator", compute(design.netlist, codes)[output]),
    ):
        got = as_values(raw, len(design.netlist.outputs[output]), signed=expected.form != "unsigned")
        wrong = np.flatnonzero(got != wanted)
        if len(wrong):
            first = wrong[0]
            raise GateProofError(
                f"the circuit of {name!r} ({expected.form}, {expected.weight_bits}-bit weights x "
                f"{expected.activation_bits}-bit activations) is wrong for {len(wrong)} of {len(wanted)} pairs by "
                f"{simulator}: {pairs.activations[first]} x {pairs.weights[first]} gives {got[first]}, "
                f"not {wanted[first]}"
            )


class Meter:
    """Measures a netlist with any operands; cells of the module `SHARED` are counted as shared.

    Args:
        tools: The installed tools.
        netlist: The circuit.
    """

    def __init__(self, tools: Tools, netlist: Netlist) -> None:
        self._library, self._netlist, self._toggles = tools.library, netlist, ToggleCounter(netlist)

    def row(self, expected: Function, encode: Encoder, *, name: str) -> CostRow:
        """Measure area and energy for operands of a form and widths."""
        shared = np.array([cell.startswith(f"{SHARED}.") for cell in self._netlist.cell_names], dtype=np.bool_)
        areas = cell_areas_um2(self._netlist)
        operations = []
        for kind in KINDS:
            pairs = random_pairs(kind, expected.form, expected.weight_bits, expected.activation_bits)
            pairs = Pairs(activations=pairs.activations, weights=expected.held(pairs.weights))
            stays = pairs.weights[1:] == pairs.weights[:-1] if kind == "held" else None
            operations.append(Operations(operands=encode(pairs), counted=stays))
        energies = {}
        for kind, toggles in zip(KINDS, self._toggles.count(operations), strict=True):
            by_cell = cell_energies_fj(self._netlist, self._library, toggles.per_net)
            energies[kind] = float(by_cell[~shared].sum()), float(by_cell[shared].sum())
        return CostRow(
            name=name,
            form=expected.form,
            weight_bits=expected.weight_bits,
            activation_bits=expected.activation_bits,
            cells=int((~shared).sum()),
            area_um2=float(areas[~shared].sum()),
            energy_uniform_fj=energies["uniform"][0],
            energy_recorded_fj=energies["recorded"][0],
            energy_held_fj=energies["held"][0],
            shared_area_um2=float(areas[shared].sum()),
            shared_energy_uniform_fj=energies["uniform"][1],
            shared_energy_recorded_fj=energies["recorded"][1],
            shared_energy_held_fj=energies["held"][1],
        )


def as_values(codes: Codes, bits: int, *, signed: bool) -> Codes:
    """Read codes as two's complement if they are signed."""
    return codes - ((codes >> (bits - 1)) << bits) if signed else codes


def sign_and_magnitude(values: Codes, bits: int) -> Codes:
    """Encode values as magnitudes with the sign in the highest bit."""
    return (values < 0).astype(np.int64) << (bits - 1) | np.abs(values)


def encoder_of(design: Design, expected: Function) -> Encoder:
    """Make the function that encodes operand values for a design's ports `a` and `w`."""

    def encode(pairs: Pairs) -> dict[str, Codes]:
        if expected.form == "layer" and design.description != TWOS_COMPLEMENT:
            weights = sign_and_magnitude(pairs.weights, expected.weight_bits)
        else:
            weights = pairs.weights & (2**expected.weight_bits - 1)
        return {"a": pairs.activations & (2**expected.activation_bits - 1), "w": weights}

    return encode
