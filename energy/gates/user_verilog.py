"""Custom multipliers: from Verilog to the products that the circuit computes, and to rows of the cost table.

The circuit is used unchanged: narrower operands are zero- or sign-extended, and nothing is optimised away for them. In
layers, an unsigned circuit is wrapped in sign logic: it gets the weight's magnitude, and its product is negated if the
weight is negative. A signed circuit takes two's complement weights directly; activations, which are unsigned, must not
use its highest bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from energy.cost_table import CostRow, built_form
from energy.gates.arithmetic import negate_if
from energy.gates.characterise import Encoder, Expected, Meter, Table, as_values, sign_and_magnitude
from energy.gates.circuit import Circuit
from energy.gates.errors import GateDesignError, GateProofError
from energy.gates.simulation import Codes, compute
from energy.gates.stimulus import Pairs
from energy.gates.synthesis import Synthesised, Tools, escaped, simulate_independently, synthesise

MIN_BITS, MAX_BITS = 2, 8
MAX_PRODUCT_BITS = 31
MAX_CELLS = 20_000
MAX_TEXT = 1_000_000
TIMEOUT_S = 60.0

_CORE = "core"
_NEGATION = "negation"
_IDENTIFIER = r"[A-Za-z_]\w*"
_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|\\\S+|[A-Za-z_][\w$]*|\d[\w$]*|\S')
_HARMLESS_FUNCTIONS = {"$signed", "$unsigned", "$clog2"}
_HARMLESS_DIRECTIVES = {"`timescale", "`default_nettype", "`celldefine", "`endcelldefine", "`resetall"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserMultiplier:
    """A custom circuit mapped to library cells, and its products.

    Attributes:
        name: Name of the multiplier.
        module: The Verilog module.
        design: The mapped circuit.
        weight_port: Input port of the weight.
        activation_port: Input port of the activation.
        product_port: Output port.
        signed: Whether both operands and the product are two's complement.
        table: Products, shape (2**activation_bits, 2**weight_bits).
    """

    name: str
    module: str
    design: Synthesised
    weight_port: str
    activation_port: str
    product_port: str
    signed: bool
    table: Table

    @property
    def weight_bits(self) -> int:
        """Width of the weight port."""
        return len(self.design.netlist.inputs[self.weight_port])

    @property
    def activation_bits(self) -> int:
        """Width of the activation port."""
        return len(self.design.netlist.inputs[self.activation_port])


def read_user_verilog(
    tools: Tools, text: str, *, name: str, signed: bool, top: str | None = None, weight_port: str | None = None
) -> UserMultiplier:
    """Map a circuit to library cells and compute its products by two simulators, which must agree.

    Args:
        tools: The installed tools.
        text: Verilog.
        name: Name of the multiplier.
        signed: Whether operands and product are two's complement.
        top: The module; by default the only one that no other module uses.
        weight_port: Input port of the weight; by default the second input.

    Raises:
        GateDesignError: If the text is not valid Verilog or not a combinational multiplier of two operands of 2 to 8
            bits, or several modules could be the multiplier.
        GateProofError: If the simulators disagree.
        GateToolError: If a tool fails or takes too long.
    """
    if top is not None and not re.fullmatch(_IDENTIFIER, top):
        raise GateDesignError(f"`top` takes a module's name, got {top!r}")
    text = checked(text)
    module = _module(text, top)
    # A name that needs escaping is not put into the script: Yosys finds the top module by itself.
    plain = module if re.fullmatch(_IDENTIFIER, module) else None
    with _own_words(module):
        design = synthesise(tools, text, top=plain, rename=_CORE, timeout_s=TIMEOUT_S)
    netlist = design.netlist
    if len(netlist.cell_names) > MAX_CELLS:
        raise GateDesignError(
            f"the design has {len(netlist.cell_names)} cells; at most {MAX_CELLS} can be characterised"
        )
    ports = {port: len(nets) for port, nets in netlist.inputs.items()}
    activation_port, weight_port = _operand_ports(ports, weight_port)
    product_port = _product_port({port: len(nets) for port, nets in netlist.outputs.items()})
    activations, weights = np.divmod(np.arange(2 ** sum(ports.values())), 2 ** ports[weight_port])
    codes = {activation_port: activations, weight_port: weights}
    ours = compute(netlist, codes)[product_port]
    with _own_words(module):
        theirs = simulate_independently(tools, design, codes, product_port, timeout_s=TIMEOUT_S)
    if (ours != theirs).any():
        raise GateProofError(f"two simulators disagree about what {name!r} computes; please report it")
    products = as_values(ours, len(netlist.outputs[product_port]), signed=signed)
    return UserMultiplier(
        name=name,
        module=module,
        design=design,
        weight_port=weight_port,
        activation_port=activation_port,
        product_port=product_port,
        signed=signed,
        table=products.astype(np.int32).reshape(2 ** ports[activation_port], 2 ** ports[weight_port]),
    )


def characterise_user(tools: Tools, multiplier: UserMultiplier) -> Iterator[CostRow]:
    """Measure rows for all operand widths that a circuit can take in layers, and for its own form if it is 8 x 8 bits.

    Raises:
        GateToolError: If a tool fails.
    """
    own_bits = (multiplier.activation_bits, multiplier.weight_bits)
    if own_bits == (MAX_BITS, MAX_BITS):
        expected = Expected(
            form="signed" if multiplier.signed else "unsigned",
            weight_bits=multiplier.weight_bits,
            activation_bits=multiplier.activation_bits,
            table=multiplier.table,
        )
        encode = _encoder(multiplier.activation_port, multiplier.weight_port, own_bits)
        yield Meter(tools, multiplier.design.netlist).row(expected, encode, name=multiplier.name)

    if multiplier.signed:
        netlist = multiplier.design.netlist
        encode = _encoder(multiplier.activation_port, multiplier.weight_port, own_bits)
    else:
        netlist = _behind_sign_logic(tools, multiplier).netlist
        encode = _encoder("a", "w", (own_bits[0], own_bits[1] + 1), magnitudes=True)
    meter = Meter(tools, netlist)
    for weight_bits, activation_bits in _layer_widths(multiplier):
        expected = Expected(
            form="layer",
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            table=np.zeros((2**activation_bits, 2**weight_bits), dtype=np.int32),  # measured, not proved again
        )
        row = meter.row(expected, encode, name=multiplier.name)
        yield row
        yield replace(row, form=built_form(MAX_BITS, MAX_BITS))  # it is the same circuit in an array of given widths


def user_row_count(multiplier: UserMultiplier) -> int:
    """Count the rows that `characterise_user` yields."""
    own = (multiplier.activation_bits, multiplier.weight_bits) == (MAX_BITS, MAX_BITS)
    return own + 2 * len(_layer_widths(multiplier))


def _layer_widths(multiplier: UserMultiplier) -> list[tuple[int, int]]:
    """List the weight and activation widths that a circuit can take in a layer."""
    most_weight = min(MAX_BITS, multiplier.weight_bits + (not multiplier.signed))
    most_activation = multiplier.activation_bits - multiplier.signed
    return [
        (weight_bits, activation_bits)
        for weight_bits in range(MIN_BITS, most_weight + 1)
        for activation_bits in range(MIN_BITS, most_activation + 1)
    ]


def checked(text: str) -> str:
    """Check that Verilog is self-contained, and return it without comments.

    Yosys would otherwise include files, read memories from files, and call functions of loaded libraries.

    Raises:
        GateDesignError: If it is not self-contained, or has no module.
    """
    if len(text) > MAX_TEXT:
        raise GateDesignError(f"the Verilog has {len(text)} characters; at most {MAX_TEXT} are read")
    without = re.sub(r"(\"(?:\\.|[^\"\\\n])*\")|//[^\n]*|/\*.*?\*/", _without_comment, text, flags=re.DOTALL)
    if not re.search(r"\bmodule\b", without):
        raise GateDesignError("there is no module in the Verilog")
    for directive in re.findall(r"`\w*", without):
        if directive not in _HARMLESS_DIRECTIVES:
            raise GateDesignError(
                f"the compiler directive {directive} is not supported; write parameters instead of macros, "
                "and all modules in one file"
            )
    for function in re.findall(r"\$\w+", without):
        if function not in _HARMLESS_FUNCTIONS:
            raise GateDesignError(f"{function} is not allowed in a circuit")
    if found := re.search(r"\bimport\b|\"DPI", without):
        raise GateDesignError(f"{found[0]} is not supported: a circuit cannot call functions of other languages")
    return without


def _without_comment(found: re.Match[str]) -> str:
    # Line breaks stay, so that errors name the user's line numbers.
    return found[1] or "\n" * found[0].count("\n") or " "


def _module(text: str, top: str | None) -> str:
    """Choose the top module of a text without comments."""
    uses = _uses(text)
    listed = ", ".join(uses)
    if top is not None:
        if top not in uses:
            raise GateDesignError(f"there is no module {top!r}; `top` takes one of {listed or 'none'}")
        return top
    used = {other for name, others in uses.items() for other in others if other != name}
    tops = [name for name in uses if name not in used]
    if len(tops) > 1:
        raise GateDesignError(
            f"{len(tops)} modules are used by no other: {', '.join(tops)}; choose the multiplier with `top`"
        )
    if not tops:
        raise GateDesignError(
            f"every module is used by another ({listed or 'none has a name'}); choose the multiplier with `top`"
        )
    return tops[0]


def _uses(text: str) -> dict[str, set[str]]:
    """Find the modules of the text that each module instantiates.

    Tokens are sufficient because `checked` allows no macros. Yosys would silently choose among several top modules.
    """
    tokens: list[str] = _TOKEN.findall(text)
    bodies: dict[str, list[int]] = {}
    module: str | None = None
    for place, word in enumerate(tokens):
        if word in ("module", "macromodule"):
            named = next((other for other in tokens[place + 1 : place + 3] if other not in ("automatic", "static")), "")
            module = named.removeprefix("\\") if _is_name(named) else None
            if module is not None:
                bodies.setdefault(module, [])
        elif word == "endmodule":
            module = None
        elif module is not None:
            bodies[module].append(place)
    return {
        name: {tokens[place].removeprefix("\\") for place in places if _is_instance(tokens, place)} & bodies.keys()
        for name, places in bodies.items()
    }


def _is_instance(tokens: Sequence[str], place: int) -> bool:
    """Whether the token starts an instantiation: `name #(...)`, `name one (...)`, `name one [3:0]`."""
    if not _is_name(tokens[place]) or (place > 1 and tokens[place - 2 : place] == ["begin", ":"]):
        return False
    first, second = (*tokens[place + 1 : place + 3], "", "")[:2]
    return (first == "#" and second == "(") or (_is_name(first) and second in ("(", "["))


def _is_name(token: str) -> bool:
    return re.match(r"[A-Za-z_\\]", token) is not None


@contextmanager
def _own_words(module: str) -> Iterator[None]:
    """Rephrase errors in terms of the user's text instead of our copy of it."""
    try:
        yield
    except GateDesignError as error:
        said = str(error).replace(f"module {_CORE!r}", f"module {module!r}")
        said = re.sub(r"\bdesign\.v:(\d+): (?:ERROR: )?", r"line \1: ", said)
        said = re.sub(r"it needs (\S+) \(\S+\)", lambda found: f"it needs {_cell_in_words(found[1])}", said)
        if "syntax error" in said:
            said += "; only Verilog-2005 is supported, so convert SystemVerilog such as logic and always_comb first"
        raise GateDesignError(said) from None


def _cell_in_words(cell: str) -> str:
    """Describe one of Yosys's internal cells."""
    if "LATCH" in cell or cell.startswith("$_SR_"):
        return "a latch"
    if "FF" in cell:
        return "a flip-flop"
    return "a tri-state" if "TBUF" in cell else cell


def _operand_ports(ports: dict[str, int], weight_port: str | None) -> tuple[str, str]:
    described = ", ".join(f"{port} ({bits} bits)" for port, bits in ports.items()) or "none"
    if len(ports) != 2:
        raise GateDesignError(
            f"a multiplier has two inputs, activation and weight, and is combinational; this has {described}"
        )
    if not all(MIN_BITS <= bits <= MAX_BITS for bits in ports.values()):
        raise GateDesignError(f"inputs have {MIN_BITS} to {MAX_BITS} bits each; this has {described}")
    first, second = ports
    if weight_port is None or weight_port == second:
        return first, second
    if weight_port != first:
        raise GateDesignError(f"`weight_port` takes one of the inputs, {first} or {second}, got {weight_port!r}")
    return second, first


def _product_port(ports: dict[str, int]) -> str:
    described = ", ".join(f"{port} ({bits} bits)" for port, bits in ports.items()) or "none"
    if len(ports) != 1:
        raise GateDesignError(f"a multiplier has one output, the product; this has {described}")
    ((port, bits),) = ports.items()
    if bits > MAX_PRODUCT_BITS:
        raise GateDesignError(f"the product has at most {MAX_PRODUCT_BITS} bits; this has {described}")
    return port


def _encoder(activation_port: str, weight_port: str, bits: tuple[int, int], *, magnitudes: bool = False) -> Encoder:
    activation_bits, weight_bits = bits

    def encode(pairs: Pairs) -> dict[str, Codes]:
        weights = pairs.weights & (2**weight_bits - 1)
        if magnitudes:
            weights = sign_and_magnitude(pairs.weights, weight_bits)
        return {activation_port: pairs.activations & (2**activation_bits - 1), weight_port: weights}

    return encode


def _behind_sign_logic(tools: Tools, multiplier: UserMultiplier) -> Synthesised:
    """Wrap the circuit in logic that negates its product if the weight's highest bit, its sign, is set."""
    product_bits = len(multiplier.design.netlist.outputs[multiplier.product_port])
    negation = Circuit(_NEGATION, {"m": product_bits, "s": 1})
    sign, *_ = negation.port("s")
    negation.drive("p", negate_if(negation, sign, negation.port("m"), width=product_bits + 1))
    connected = ", ".join(
        f".{escaped(port)}({signal})"
        for port, signal in (
            (multiplier.activation_port, "a"),
            (multiplier.weight_port, f"w[{multiplier.weight_bits - 1}:0]"),
            (multiplier.product_port, "m"),
        )
    )
    top = f"""\
module multiplier (
    input [{multiplier.activation_bits - 1}:0] a,
    input [{multiplier.weight_bits}:0] w,
    output [{product_bits}:0] p
);
    wire [{product_bits - 1}:0] m;
    {_CORE} {_CORE} ({connected});
    {_NEGATION} {_NEGATION} (.m(m), .s(w[{multiplier.weight_bits}]), .p(p));
endmodule
"""
    return synthesise(
        tools,
        "\n".join([multiplier.design.verilog, negation.verilog(), top]),
        top="multiplier",
        parts=(_CORE, _NEGATION),
        mapped=True,
    )
