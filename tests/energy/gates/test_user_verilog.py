"""A person's Verilog, good and bad."""

from dataclasses import replace

import numpy as np
import pytest

from energy.gates import (
    GateDesignError,
    GateToolError,
    Tools,
    UserMultiplier,
    characterise_user,
    read_user_verilog,
    user_row_count,
    user_verilog,
)

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


def read(
    tools: Tools, text: str, *, signed: bool = False, top: str | None = None, weight_port: str | None = None
) -> UserMultiplier:
    return read_user_verilog(tools, text, name="mine", signed=signed, top=top, weight_port=weight_port)


def test_the_table_is_taken_from_the_circuit(tools: Tools) -> None:
    found = read(tools, PLAIN)
    assert (found.activation_bits, found.weight_bits) == (4, 3)
    assert (found.table == np.arange(16)[:, None] * np.arange(8)).all()
    swapped = read(tools, PLAIN, weight_port="A")
    assert (swapped.activation_bits, swapped.weight_bits) == (3, 4)
    assert swapped.table.shape == (8, 16)


def test_an_asymmetric_table_is_not_turned_round(tools: Tools) -> None:
    text = "module m(input [3:0] a, input [3:0] w, output [7:0] p); assign p = a * w[3:1]; endmodule"
    assert (read(tools, text).table == np.arange(16)[:, None] * (np.arange(16) >> 1)).all()


def test_signed_circuits_and_hierarchies(tools: Tools) -> None:
    values = np.where(np.arange(16) >= 8, np.arange(16) - 16, np.arange(16))
    assert (read(tools, SIGNED, signed=True).table == values[:, None] * values).all()
    assert (read(tools, HIERARCHY).table == np.arange(4)[:, None] * np.arange(4)).all()
    halves = read(tools, HIERARCHY.replace("[1:0] a, b", "[1:0] a, b"), top="mine")
    assert halves.table.shape == (4, 4)


def test_rows_for_all_widths_of_one_circuit(tools: Tools) -> None:
    found = read(tools, PLAIN)
    rows = list(characterise_user(tools, found))
    # once as a circuit of its own widths, once as one of the 8 x 8 bits of a given array, with the same figures
    forms = ("layer", "8x8")
    assert len(rows) == user_row_count(found) == 18
    assert {row.key for row in rows} == {(form, w, a) for form in forms for w in (2, 3, 4) for a in (2, 3, 4)}
    by_key = {row.key: row for row in rows}
    for (form, w, a), row in by_key.items():
        assert replace(row, form="layer") == by_key["layer", w, a], form
    assert len({row.area_um2 for row in rows}) == 1  # the circuit is what it is
    energies = {row.key[1:]: row.energy_uniform_fj for row in rows}
    assert energies[2, 2] < energies[4, 4]
    signed = read(tools, SIGNED, signed=True)
    assert {row.key for row in characterise_user(tools, signed)} == {
        (form, w, a) for form in forms for w in (2, 3, 4) for a in (2, 3)
    }  # an unsigned activation may not reach the highest bit


def test_ports_may_have_any_name(tools: Tools) -> None:
    text = r"module m(input [1:0] \a+1 , input [1:0] \select , output [3:0] \out put ); endmodule"
    with pytest.raises(GateDesignError):
        read(tools, text)
    text = r"module multiplier(input [1:0] \a+1 , input [1:0] core, output [3:0] p); assign p = \a+1 * core; endmodule"
    found = read(tools, text)
    assert len(list(characterise_user(tools, found))) == user_row_count(found)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no module"),
        ("module m(", "syntax error"),
        (
            "/*\n*/\nmodule m(input logic [3:0] a, w, output [7:0] p); assign p = a * w; endmodule",
            "rejects the design: line 3: syntax error, .*; only Verilog-2005 is supported, so convert SystemVerilog",
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
        ("module m(input [8:0] a, input [3:0] w, output [12:0] p); assign p = a * w; endmodule", "2 to 8 bits each"),
        ("module m(input a, input [3:0] w, output [4:0] p); assign p = a * w; endmodule", "2 to 8 bits each"),
        ("module m(input [3:0] a, w, output [39:0] p); assign p = a * w; endmodule", "at most 31 bits"),
        ("module m(input [3:0] a, w, output [7:0] p); wire x = ~(x & a[0]); assign p = a * w ^ x; endmodule", "loop"),
        ("module m(input [3:0] a, w, output [7:0] p); other o(a, w, p); endmodule", "other"),
        ('`include "/etc/passwd"\nmodule m; endmodule', "`include is not supported"),
        ("`define X 1\nmodule m; endmodule", "`define is not supported"),
        ('module m; initial $readmemh("f", x); endmodule', r"\$readmemh is not allowed in a circuit"),
        ('import "DPI-C" function int system(input string s); module m; endmodule', "import is not supported"),
        ('im/* */port "DPI-C" function int system(input string s); module m; endmodule', '"DPI is not supported'),
        ("module m(input [3:0] a, w, inout [7:0] p); assign p = a * w; endmodule", "one output"),
    ],
)
def test_designs_that_are_not_multipliers_are_rejected(tools: Tools, text: str, complaint: str) -> None:
    with pytest.raises(GateDesignError, match=complaint):
        read(tools, text)


def test_options_that_do_not_fit(tools: Tools) -> None:
    with pytest.raises(GateDesignError, match="`weight_port` takes one of the inputs, A or B, got 'C'"):
        read(tools, PLAIN, weight_port="C")
    with pytest.raises(GateDesignError, match="`top` takes a module's name, got 'm; shell ls'"):
        read(tools, PLAIN, top="m; shell ls")
    with pytest.raises(GateDesignError, match="there is no module 'other'; `top` takes one of half, mine"):
        read(tools, HIERARCHY, top="other")
    with pytest.raises(GateDesignError, match=r"takes one of mine$"):
        read(tools, PLAIN, top="other")


def test_the_module_that_is_taken(tools: Tools) -> None:
    assert read(tools, HIERARCHY).module == "mine"
    two = PLAIN + "\n" + PLAIN.replace("mine", "other")
    assert read(tools, two, top="other").module == "other"
    with pytest.raises(GateDesignError, match=r"2 modules are used by no other: mine, other; choose .* with `top`"):
        read(tools, two)
    with pytest.raises(GateDesignError, match="3 modules are used by no other: half, mine, m"):
        # Neither a label nor a comment nor a port uses a module.
        read(
            tools, PLAIN.join(["module half(input a); endmodule\n", "\nmodule m; /* mine m(); */ wire half; endmodule"])
        )
    escaped = PLAIN.replace("module mine", r"module \my;mult ")
    assert read(tools, escaped).module == "my;mult"
    parameters = "module part #(parameter N = 2)(input [N-1:0] a, w, output [2*N-1:0] p); assign p = a * w; endmodule"
    wrapped = parameters + " module all(input [3:0] a, w, output [7:0] p); part #(4) one (a, w, p); endmodule"
    found = read(tools, wrapped)
    assert (found.module, found.table.shape) == ("all", (16, 16))
    assert read(tools, wrapped, top="part").table.shape == (4, 4)


def test_huge_and_slow_designs(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GateDesignError, match="at most 1000000 are read"):
        read(tools, "//" + "x" * 1_000_001)
    monkeypatch.setattr(user_verilog, "MAX_CELLS", 5)
    with pytest.raises(GateDesignError, match="at most 5 can be characterised"):
        read(tools, PLAIN)
    monkeypatch.setattr(user_verilog, "TIMEOUT_S", 0.05)
    with pytest.raises(GateToolError, match=r"takes longer than 0\.05 s"):
        read(tools, PLAIN)
