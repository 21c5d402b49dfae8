"""Characterise a multiplier: produce its row of the cost table.

    Verilog -> Yosys, library cells -> netlist -> proof (Icarus Verilog and our own simulator, all operand pairs)
                                          └-> vectors -> toggles -> energy

The caller, who emulates the multiplier, gives its products as a table of integers,
`table[activation_code, weight_code]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from energy.cost_table import EXACT, CostRow
from energy.errors import WorkloadError
from energy.gates.errors import GateProofError
from energy.gates.netlist import Netlist
from energy.gates.simulation import Codes, cell_areas_um2, cell_energies_fj, compute, count_toggles
from energy.gates.stimulus import KINDS, Pairs, activation_values, all_pairs, random_pairs, weight_values
from energy.gates.synthesis import Synthesised, Tools, simulate_independently, synthesise
from energy.gates.verilog import SHARED, TOP, TWOS_COMPLEMENT, Design, Operands, designs

Table = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The function that a multiplier should compute in a form.

    Attributes:
        form: One of `energy.cost_table.FORMS`.
        weight_bits: Width of a weight.
        activation_bits: Width of an activation.
        table: Products, shape (2**activation_bits, 2**weight_bits), indexed by codes read as unsigned. The code of a
            weight is two's complement here, whatever its memory stores.
        held_weights: Values that the hardware stores in place of each weight if it cannot store all, in the order of
            codes, shape (2**weight_bits,). Products are verified for stored values only, and energy is measured with
            weights replaced by them.

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
        """All pairs of operands that can occur."""
        weights = weight_values(self.form, self.weight_bits)
        return all_pairs(activation_values(self.form, self.activation_bits), weights[self.held(weights) == weights])

    def held(self, weights: Codes) -> Codes:
        """Map weights to the values that the hardware stores."""
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
        """Whether every operand can be stored and every product is exact."""
        weights = weight_values(self.form, self.weight_bits)
        pairs = self.pairs
        return bool(
            (self.held(weights) == weights).all() and (self.products(pairs) == pairs.activations * pairs.weights).all()
        )

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


def characterise(tools: Tools, name: str, expected: Expected) -> CostRow:
    """Build, verify and measure a multiplier of the catalogue.

    One that is exact for these operands is built as the exact one, of which there are several designs: the row has the
    lowest energy of any design for each kind of operands, and the area of the design with the lowest energy for
    recorded operands.

    Args:
        tools: The installed tools.
        name: Name of the multiplier.
        expected: The products that it should compute.

    Raises:
        WorkloadError: If the name is unknown.
        GateProofError: If a circuit computes something else.
        GateToolError: If a tool fails.
    """
    operands = expected.operands
    rows = []
    for design in designs(EXACT if expected.is_exact else name, operands):
        synthesised = synthesise(tools, design.verilog, top=TOP, parts=design.parts)
        encode = encoder_of(design, expected)
        prove(tools, synthesised, expected, encode, name=name)
        rows.append(measure(tools, synthesised.netlist, expected, encode, name=name))
    cheapest = min(rows, key=lambda row: row.energy_recorded_fj)
    # A designer takes the cheapest design for the dataflow at hand, and approximate multipliers must beat that one.
    return replace(
        cheapest,
        energy_uniform_fj=min(row.energy_uniform_fj for row in rows),
        energy_stationary_fj=min(row.energy_stationary_fj for row in rows),
    )


Encoder = Callable[[Pairs], dict[str, Codes]]  # from operand values to codes on the input ports


def prove(
    tools: Tools, design: Synthesised, expected: Expected, encode: Encoder, *, name: str, output: str = "p"
) -> None:
    """Verify that a netlist computes the expected product for every pair of operands that can occur.

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


def measure(tools: Tools, netlist: Netlist, expected: Expected, encode: Encoder, *, name: str) -> CostRow:
    """Measure area and energy of a netlist; cells of the module `SHARED` are counted as shared."""
    shared = np.array([cell.startswith(f"{SHARED}.") for cell in netlist.cell_names], dtype=np.bool_)
    areas = cell_areas_um2(netlist)
    energies = {}
    for kind in KINDS:
        pairs = random_pairs(kind, expected.form, expected.weight_bits, expected.activation_bits)
        pairs = Pairs(activations=pairs.activations, weights=expected.held(pairs.weights))
        toggles = count_toggles(netlist, encode(pairs)).per_net
        by_cell = cell_energies_fj(netlist, tools.library, toggles)
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
        energy_stationary_fj=energies["stationary"][0],
        shared_area_um2=float(areas[shared].sum()),
        shared_energy_uniform_fj=energies["uniform"][1],
        shared_energy_recorded_fj=energies["recorded"][1],
        shared_energy_stationary_fj=energies["stationary"][1],
    )


def as_values(codes: Codes, bits: int, *, signed: bool) -> Codes:
    """Read codes as two's complement if they are signed."""
    return codes - ((codes >> (bits - 1)) << bits) if signed else codes


def sign_and_magnitude(values: Codes, bits: int) -> Codes:
    """Encode values as magnitudes with the sign in the highest bit."""
    return (values < 0).astype(np.int64) << (bits - 1) | np.abs(values)


def encoder_of(design: Design, expected: Expected) -> Encoder:
    """Make the function that encodes operand values for a design's ports `a` and `w`."""

    def encode(pairs: Pairs) -> dict[str, Codes]:
        if expected.form == "layer" and design.description != TWOS_COMPLEMENT:
            weights = sign_and_magnitude(pairs.weights, expected.weight_bits)
        else:
            weights = pairs.weights & (2**expected.weight_bits - 1)
        return {"a": pairs.activations & (2**expected.activation_bits - 1), "w": weights}

    return encode
