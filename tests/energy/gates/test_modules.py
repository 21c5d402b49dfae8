"""Which module is the circuit, and its parameters."""

import pytest

from energy.gates import GateDesignError
from energy.gates.modules import parameters_of, top_module

LEAF = "module {0}(input [1:0] a, w, output [3:0] p); assign p = a * w; endmodule\n"
WHOLE = "module {0}(input [1:0] a, w, output [3:0] p); {1} one(a, w, p); endmodule\n"


def test_the_module_that_no_other_uses() -> None:
    assert top_module(LEAF.format("part") + WHOLE.format("whole", "part"), None) == "whole"
    assert top_module(WHOLE.format("whole", "part #(4)") + LEAF.format("part"), None) == "whole"
    assert top_module(LEAF.format(r"\my;mult "), None) == "my;mult"
    # A gate that a generator wrote and did not use is not the circuit.
    assert top_module(LEAF.format("part") + LEAF.format("unused") + WHOLE.format("whole", "part"), None) == "whole"
    assert top_module(LEAF.format("one") + LEAF.format("two"), "two") == "two"


def test_what_cannot_be_chosen() -> None:
    with pytest.raises(GateDesignError, match=r"2 modules are used by no other: one, two; choose .* with `top`"):
        top_module(LEAF.format("one") + LEAF.format("two"), None)
    # Neither a label nor a port uses a module.
    with pytest.raises(GateDesignError, match="2 modules are used by no other: half, m"):
        top_module("module half(input a); endmodule module m; begin : half end wire half; endmodule", None)
    with pytest.raises(GateDesignError, match="every module is used by another"):
        top_module(WHOLE.format("one", "two") + WHOLE.format("two", "one"), None)
    with pytest.raises(GateDesignError, match="`top` takes a module's name, got 'm; shell ls'"):
        top_module(LEAF.format("m"), "m; shell ls")
    with pytest.raises(GateDesignError, match="there is no module 'other'; `top` takes one of m"):
        top_module(LEAF.format("m"), "other")


def test_parameters_with_their_defaults() -> None:
    text = """
module other #(parameter X = 1) (input a); endmodule
module m #(parameter N = 16, T = {1'b0, 2'd3}, parameter signed [3:0] S = f(1, 2), localparam L = 2) (input [N-1:0] a);
    parameter integer M = N * 2, K = 1;
    localparam P = 3;
endmodule
"""
    assert parameters_of(text, "m") == {
        "N": "16",
        "T": "{ 1'b0 , 2'd3 }",
        "S": "f ( 1 , 2 )",
        "M": "N * 2",
        "K": "1",
    }
    assert parameters_of(text, "other") == {"X": "1"}
