"""Rows of the cost table for custom circuits.

The circuit is used unchanged: narrower operands are zero- or sign-extended, and nothing is optimised away for them. In
layers, an unsigned circuit is wrapped in sign logic: it gets the weight's magnitude, and its product is negated if the
weight is negative. A signed circuit takes two's complement weights directly; activations, which are unsigned, must not
use its highest bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from energy.cost_table import CostRow, built_form
from energy.gates.arithmetic import negate_if
from energy.gates.characterise import Encoder, Exact, Meter, sign_and_magnitude
from energy.gates.circuit import Circuit
from energy.gates.ports import MAX_TABLE_BITS, MIN_BITS
from energy.gates.simulation import Codes
from energy.gates.stimulus import Pairs
from energy.gates.synthesis import Synthesised, Tools, escaped, synthesise
from energy.gates.user_circuit import CORE, UserCircuit

_NEGATION = "negation"


def characterise_user(tools: Tools, circuit: UserCircuit, *, name: str, signed: bool) -> Iterator[CostRow]:
    """Measure a circuit in its own form if that is shipped or wide, and in layers for all widths that it can take.

    A circuit of more than 8 bits is measured in layers at its full width only.

    Args:
        tools: The installed tools.
        circuit: The circuit.
        name: The multiplier's name, for the rows.
        signed: Whether operands and product are two's complement.

    Raises:
        GateToolError: If a tool fails.
    """
    own_bits = (circuit.activation_bits, circuit.weight_bits)
    own_encode = _encoder(circuit.activation_port, circuit.weight_port, own_bits)
    if _has_own_row(circuit):
        own = Exact(form="signed" if signed else "unsigned", weight_bits=own_bits[1], activation_bits=own_bits[0])
        yield Meter(tools, circuit.design.netlist).row(own, own_encode, name=name)

    if signed:
        netlist, encode = circuit.design.netlist, own_encode
    else:
        netlist = _behind_sign_logic(tools, circuit).netlist
        encode = _encoder("a", "w", (own_bits[0], own_bits[1] + 1), magnitudes=True)
    meter = Meter(tools, netlist)
    for weight_bits, activation_bits in _layer_widths(circuit, signed=signed):
        # Operands only: the circuit is measured, not proved again.
        operands = Exact(weight_bits=weight_bits, activation_bits=activation_bits)
        row = meter.row(operands, encode, name=name)
        yield row
        if circuit.has_table:  # it is the same circuit in an array of given widths
            yield replace(row, form=built_form(MAX_TABLE_BITS, MAX_TABLE_BITS))


def user_row_count(circuit: UserCircuit, *, signed: bool) -> int:
    """Count the rows that `characterise_user` yields."""
    widths = len(_layer_widths(circuit, signed=signed))
    return _has_own_row(circuit) + (1 + circuit.has_table) * widths


def _has_own_row(circuit: UserCircuit) -> bool:
    """Whether the exact multiplier of its own form is shipped, or built for it: of 8 x 8 bits, or wider than tables."""
    return not circuit.has_table or circuit.activation_bits == circuit.weight_bits == MAX_TABLE_BITS


def _layer_widths(circuit: UserCircuit, *, signed: bool) -> list[tuple[int, int]]:
    """List the weight and activation widths at which a circuit is measured in a layer."""
    most_activation = circuit.activation_bits - signed
    if not circuit.has_table:
        return [(circuit.weight_bits, most_activation)]
    most_weight = min(MAX_TABLE_BITS, circuit.weight_bits + (not signed))
    return [
        (weight_bits, activation_bits)
        for weight_bits in range(MIN_BITS, most_weight + 1)
        for activation_bits in range(MIN_BITS, most_activation + 1)
    ]


def _encoder(activation_port: str, weight_port: str, bits: tuple[int, int], *, magnitudes: bool = False) -> Encoder:
    activation_bits, weight_bits = bits

    def encode(pairs: Pairs) -> dict[str, Codes]:
        weights = pairs.weights & (2**weight_bits - 1)
        if magnitudes:
            weights = sign_and_magnitude(pairs.weights, weight_bits)
        return {activation_port: pairs.activations & (2**activation_bits - 1), weight_port: weights}

    return encode


def _behind_sign_logic(tools: Tools, circuit: UserCircuit) -> Synthesised:
    """Wrap the circuit in logic that negates its product if the weight's highest bit, its sign, is set."""
    product_bits = len(circuit.design.netlist.outputs[circuit.product_port])
    negation = Circuit(_NEGATION, {"m": product_bits, "s": 1})
    sign, *_ = negation.port("s")
    negation.drive("p", negate_if(negation, sign, negation.port("m"), width=product_bits + 1))
    connected = ", ".join(
        f".{escaped(port)}({signal})"
        for port, signal in (
            (circuit.activation_port, "a"),
            (circuit.weight_port, f"w[{circuit.weight_bits - 1}:0]"),
            (circuit.product_port, "m"),
        )
    )
    top = f"""\
module multiplier (
    input [{circuit.activation_bits - 1}:0] a,
    input [{circuit.weight_bits}:0] w,
    output [{product_bits}:0] p
);
    wire [{product_bits - 1}:0] m;
    {CORE} {CORE} ({connected});
    {_NEGATION} {_NEGATION} (.m(m), .s(w[{circuit.weight_bits}]), .p(p));
endmodule
"""
    return synthesise(
        tools,
        "\n".join([circuit.design.verilog, negation.verilog(), top]),
        top="multiplier",
        parts=(CORE, _NEGATION),
        mapped=True,
    )
