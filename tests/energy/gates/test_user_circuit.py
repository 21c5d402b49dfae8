"""A person's circuit, good and bad: what the tools make of it."""

from pathlib import Path

import numpy as np
import pytest

from energy.gates import (
    GateDesignError,
    GateToolError,
    Tools,
    UserCircuit,
    read_circuit,
    read_source,
    source_of_blif,
    source_of_verilog,
    user_circuit,
)
from energy.gates.circuit import Circuit
from energy.gates.verilog import Operands, designs

pytestmark = pytest.mark.process

PLAIN = "module mine(input [3:0] A, input [2:0] B, output [6:0] O); assign O = A * B; endmodule"
SIGNED = """
module mine(input signed [3:0] x, input signed [3:0] y, output signed [7:0] z); // a comment
    assign z = x * y /* another */;
endmodule
"""
HIERARCHY = """
`timescale 1ns/1ps
module half(input a, input b, output s, output c);
    assign s = a ^ b;
    assign c = a & b;
endmodule
module mine(a, b, p);
    input [1:0] a, b;
    output [3:0] p;
    wire first;
    assign p[0] = a[0] & b[0];
    half one (.a(a[1] & b[0]), .b(a[0] & b[1]), .s(p[1]), .c(first));
    half two (.a(a[1] & b[1]), .b(first), .s(p[2]), .c(p[3]));
endmodule
"""
CODES = np.arange(16)
VALUES = np.where(CODES >= 8, CODES - 16, CODES)


def read(tools: Tools, text: str, *, weight_port: str | None = None, **parameters: str) -> UserCircuit:
    return read_circuit(tools, source_of_verilog(text), weight_port=weight_port, parameters=parameters)


def test_the_table_is_taken_from_the_circuit(tools: Tools) -> None:
    found = read(tools, PLAIN)
    assert (found.activation_bits, found.weight_bits) == (4, 3)
    assert (found.table(signed=False) == np.arange(16)[:, None] * np.arange(8)).all()
    assert found.has_table
    assert not found.is_sampled
    swapped = read(tools, PLAIN, weight_port="A")
    assert (swapped.table(signed=False) == np.arange(8)[:, None] * np.arange(16)).all()


def test_an_asymmetric_table_is_not_turned_round(tools: Tools) -> None:
    text = "module m(input [3:0] w, input [3:0] a, output [7:0] p); assign p = a * w[3:1]; endmodule"
    found = read(tools, text)
    assert found.weight_port == "w"
    assert (found.table(signed=False) == CODES[:, None] * (CODES >> 1)).all()


def test_signed_circuits_and_hierarchies(tools: Tools) -> None:
    signed = read(tools, SIGNED)
    assert signed.signed_ports == {"x", "y"}
    assert (signed.table(signed=True) == VALUES[:, None] * VALUES).all()
    found = read(tools, HIERARCHY)
    assert found.title == "mine"
    assert found.signed_ports == frozenset()
    assert (found.table(signed=False) == np.arange(4)[:, None] * np.arange(4)).all()


def test_parameters_and_files_beside_it(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "part.v").write_text(
        "module part #(parameter N = 16, T = 1)(input [N-1:0] a, b, output [2*N-1:0] r);\n"
        "    assign r = {a[N-1:T], {T{1'b0}}} * b;\nendmodule\n"
    )
    (tmp_path / "whole.sv").write_text(
        '`include "part.v"\nmodule whole(input logic [3:0] w, x, output logic [7:0] p);\n'
        "    part #(.N(4), .T(2)) one(.a(x), .b(w), .r(p));\nendmodule\n"
    )
    cut = CODES[:, None] // 4 * 4 * CODES
    assert (read_circuit(tools, read_source(tmp_path / "whole.sv")).table(signed=False) == cut).all()
    part = read_source(tmp_path / "part.v")
    found = read_circuit(tools, part, parameters={"N": "4", "T": "2'b10"})
    assert (found.table(signed=False) == cut).all()
    assert found.parameters == {"N": "4", "T": "2'b10"}
    with pytest.raises(GateDesignError, match=r"no parameter 'Z'; `parameters` sets its parameters: N = 16, T = 1$"):
        read_circuit(tools, part, parameters={"Z": "4"})
    with pytest.raises(GateDesignError, match=r"takes whole numbers and Verilog literals .*; got N=4; shell ls"):
        read_circuit(tools, part, parameters={"N": "4; shell ls"})
    with pytest.raises(GateDesignError, match=r"2 to 16 bits each; .*; its parameters are N = 16, T = 1: set"):
        read_circuit(tools, part, parameters={"N": "17"})


def blif_of(circuit: Circuit, widths: dict[str, int], name: str) -> str:
    """Write a circuit's assignments as a flat BLIF model, as generators do."""
    tables = {"~": "0 1", "&": "11 1", "|": "1- 1\n-1 1", "^": "01 1\n10 1", "": "1 1"}
    lines = [f".model {name}"]
    for kind in ("input", "output"):
        ports = [
            f"{port}[{bit}]"
            for port, bits in widths.items()
            if (port == "p") == (kind == "output")
            for bit in range(bits)
        ]
        lines.append(f".{kind}s {' '.join(ports)}")
    lines += [".names 1'b0", ".names 1'b1", "1"]
    for line in circuit.verilog().splitlines():
        words = line.strip().removesuffix(";").split()
        if words[:1] == ["assign"]:
            target, expression = words[1], words[3:]
            operator = expression[1] if len(expression) == 3 else "~" if expression[0].startswith("~") else ""
            inputs = [word.removeprefix("~") for word in expression if word != operator]
            lines += [f".names {' '.join(inputs)} {target}", tables[operator]]
    return "\n".join([*lines, ".end", ""])


@pytest.mark.parametrize(("form", "signed"), [("unsigned", False), ("signed", True)])
def test_generated_circuits_in_blif(tools: Tools, form: str, signed: bool) -> None:
    operands = Operands(form=form, weight_bits=4, activation_bits=5, product_bits=9)
    text = designs("exact", operands)[-1].verilog
    assigned = Circuit("m", {"a": 5, "w": 4})
    assigned.verilog = lambda: text  # type: ignore[method-assign]
    found = read_circuit(tools, source_of_blif(blif_of(assigned, {"a": 5, "w": 4, "p": 9}, "u_mul")))
    assert (found.title, found.activation_port, found.weight_port) == ("u_mul", "a", "w")
    pairs, products = found.values(signed=signed)
    assert (products == pairs.activations * pairs.weights).all()


def test_signals_with_two_equal_drivers(tools: Tools) -> None:
    ports = "module m(input [1:0] a, b, output [3:0] p); wire x;"
    twice = ports + " assign x = a[0] & b[0]; {0} assign p = a * b ^ x; endmodule"
    part = "module same(input i, k, output o); assign o = i & k; endmodule\n"
    found = read(tools, part + twice.format("same one(x, 1'b1, x);"))
    codes = np.arange(4)
    assert (found.table(signed=False) == (codes[:, None] * codes) ^ (codes[:, None] & codes & 1)).all()
    assert found.notes == ("a signal has several drivers, which are one once constants are put in",)
    with pytest.raises(GateDesignError, match="multiple conflicting drivers for m"):
        read(tools, part + twice.format("same one(a[1], 1'b1, x);"))


def test_cells_of_the_library_are_taken_for_what_they_compute(tools: Tools) -> None:
    text = """
module m(input [1:0] a, b, output [3:0] p);
    wire carry;
    AND2X1 one (.A(a[0]), .B(b[0]), .Y(p[0]));
    HAX1 two (.A(a[1] & b[0]), .B(a[0] & b[1]), .YS(p[1]), .YC(carry));
    HAX1 three (.A(a[1] & b[1]), .B(carry), .YS(p[2]), .YC(p[3]));
endmodule
"""
    found = read(tools, text)
    assert (found.table(signed=False) == np.arange(4)[:, None] * np.arange(4)).all()
    assert found.notes[0].endswith("X1 is not in the file; it was taken for the cell of that name")


def test_wide_circuits_are_sampled(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_circuit, "SAMPLED_PAIRS", 2**12)
    monkeypatch.setattr(user_circuit, "_PROVED_PAIRS", 2**10)
    text = "module m(input [9:0] a, b, output [19:0] p); assign p = {a[9:3], 3'b0} * b[9:0]; endmodule"
    found = read(tools, text)
    assert found.is_sampled
    assert not found.has_table
    pairs, products = found.values(signed=False)
    assert len(products) == 2**12 + 64
    assert (products == pairs.activations // 8 * 8 * pairs.weights).all()
    assert {0, 1023} <= set(pairs.activations[2**12 :].tolist())
    assert abs(pairs.weights[: 2**12].mean() - 511.5) < 20
    long = read(tools, "module m(input [11:0] a, input [2:0] b, output [14:0] p); assign p = a * b; endmodule")
    assert (long.is_sampled, long.has_table, len(long.products)) == (False, False, 2**15)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("module m(", "syntax error"),
        (
            "/*\n*/\nmodule m(input logic [3:0] a, w, output [7:0] p); assign p = a * w; endmodule",
            "rejects the design: line 3: syntax error, .*; this is read as Verilog-2005: name a file of SystemVerilog",
        ),
        ("module m(input [3:0] a, output [3:0] p); assign p = a; endmodule", "two inputs, activation and weight"),
        (
            "module m(input clk, input [3:0] a, w, output reg [7:0] p); always @(posedge clk) p <= a * w; endmodule",
            "module 'm' is not combinational logic: it needs a flip-flop; ",
        ),
        (
            "module m(input [3:0] a, w, output reg [7:0] p); always @* if (a[0]) p = a * w; endmodule",
            "needs a latch; ",
        ),
        ("module m(input [3:0] a, w, output [7:0] p); assign p[6:0] = a * w; endmodule", "no driver|undriven"),
        ("module m(input [3:0] a, w, output [7:0] p); assign p = 8'bx; endmodule", "undriven"),
        ("module m(input [3:0] a, w, output [3:0] p, q); assign p = a, q = w; endmodule", "one output, the product"),
        ("module m(input [16:0] a, input [3:0] w, output [20:0] p); assign p = a * w; endmodule", "2 to 16 bits each"),
        ("module m(input a, input [3:0] w, output [4:0] p); assign p = a * w; endmodule", "2 to 16 bits each"),
        ("module m(input [3:0] a, w, output [39:0] p); assign p = a * w; endmodule", "at most 31 bits"),
        ("module m(input [3:0] a, w, output [7:0] p); wire x = ~(x & a[0]); assign p = a * w ^ x; endmodule", "loop"),
        ("module m(input [3:0] a, w, output [7:0] p); other o(a, w, p); endmodule", "other"),
        ("module m(input [3:0] a, w, inout [7:0] p); assign p = a * w; endmodule", "one output"),
    ],
)
def test_designs_that_are_not_multipliers_are_rejected(tools: Tools, text: str, complaint: str) -> None:
    with pytest.raises(GateDesignError, match=complaint):
        read(tools, text)


def test_signals_of_blif_are_named_in_errors(tools: Tools) -> None:
    ports = ".model m\n.inputs a0 a1 w0 w1\n.outputs p0 p1\n.names a0 w0 p0\n11 1\n"
    with pytest.raises(GateDesignError, match="signals have different drivers: line 8: p1 has another driver"):
        read_circuit(tools, source_of_blif(f"{ports}.names a1 w0 p1\n11 1\n.names a0 w1 p1\n11 1\n"))


def test_modules_with_other_names(tools: Tools) -> None:
    escaped = PLAIN.replace("module mine", r"module \my;mult #(parameter N = 3)")
    assert read(tools, escaped).title == "my;mult"
    with pytest.raises(GateDesignError, match="parameters of a module named 'my;mult' cannot be set"):
        read(tools, escaped, N="4")


def test_huge_and_slow_designs(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_circuit, "MAX_CELLS", 5)
    with pytest.raises(GateDesignError, match="at most 5 can be characterised"):
        read(tools, PLAIN)
    monkeypatch.setattr(user_circuit, "TIMEOUT_S", 0.05)
    with pytest.raises(GateToolError, match=r"takes longer than 0\.05 s"):
        read(tools, PLAIN)
