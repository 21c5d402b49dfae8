"""BLIF as Verilog: what is read, and what is refused. That Yosys computes the same from it is in test_user_circuit."""

import pytest

from energy.gates import GateDesignError, source_of_blif
from energy.gates.blif import read_blif

TWO_BITS = """
# two bits by two, with a half adder
.model mul2 # a comment
.inputs a[0] a[1] \\
        b[0] b[1]
.outputs p[0] p[1] p[2] p[3]
.names a[0] b[0] p[0]
11 1
.subckt half x=l y=h s=p[1] c=k
.names a[1] b[0] l
11 1
.names a[0] b[1] h
0- 0
-0 0
.names a[1] b[1] m
11 1
.subckt half x=m y=k s=p[2] c=p[3]
.end
.model half
.inputs x y
.outputs s c
.names x y s
10 1
01 1
.names x y c
11 1
.end
"""


def test_models_become_modules_without_a_name_of_the_file() -> None:
    found = read_blif(TWO_BITS)
    assert found.title == "mul2"
    assert "half" not in found.verilog
    assert found.verilog.count("endmodule") == 3
    assert "module circuit (input [1:0] \\a , input [1:0] \\b , output [3:0] \\p );" in found.verilog
    assert found.notes == ()
    assert set(found.signals.values()) >= {"a[0]", "k", "s"}
    # rows for 1 are a sum of products, those for 0 its complement
    number = {name: signal for signal, name in found.signals.items()}
    assert f"assign {number['m']} = ({number['a[1]']} & {number['b[1]']});" in found.verilog
    assert f"assign {number['h']} = ~((~{number['a[0]']}) | (~{number['b[1]']}));" in found.verilog
    assert read_blif(TWO_BITS, "half").title == "half"


@pytest.mark.parametrize("bit", ["a[{}]", "a<{}>", "a({})", "a_{}", "a{}"])
def test_numbers_of_bits_are_written_in_many_ways(bit: str) -> None:
    names = [bit.format(number) for number in (1, 0, 10)]
    with pytest.raises(
        GateDesignError, match="the bits of port 'a' of model 'm' are 0, 1, 10; they are numbered from 0"
    ):
        read_blif(f".model m\n.inputs {' '.join(names)}\n.outputs z\n.names z\n")
    found = read_blif(f".model m\n.inputs {' '.join(names[:2])}\n.outputs z\n.names {names[0]} z\n1 1\n")
    assert "module circuit (input [1:0] \\a , output [0:0] \\z );" in found.verilog


def test_constants_and_open_ports() -> None:
    half = TWO_BITS[TWO_BITS.index(".model half") :]
    constants = ".names one\n1\n.names zero\n.names one zero z\n1- 1\n"
    text = f".model m\n.inputs a\n.outputs z\n{constants}.subckt half x=a\n{half}"
    found = read_blif(text)
    number = {name: signal for signal, name in found.signals.items()}
    assert f"assign {number['one']} = (1'b1);" in found.verilog
    assert f"assign {number['zero']} = 1'b0;" in found.verilog
    assert found.notes == ("line 9: the input y of half is left open, and was taken as 0",)


def test_a_port_that_is_there_twice_stands_for_the_one_that_is_missing() -> None:
    text = TWO_BITS.replace("x=l y=h", "x=l x=l")
    assert read_blif(text).notes == ("line 9: x is there twice; the second was taken for y",)
    with pytest.raises(GateDesignError, match="line 9: the port x is at both l and h"):
        read_blif(TWO_BITS.replace("x=l y=h", "x=l x=h"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no .model"),
        (".inputs a", r"line 1: .inputs before the first .model"),
        (".model m\n.latch a b re c 0\n", "line 2: a latch; only combinational circuits"),
        (".model m\n.gate nand2 A=a B=b O=c\n", "line 2: a .gate of a cell library, which is not in the file"),
        (".model m\n.search /etc/passwd\n", "line 2: .search names another file"),
        (".model m\n.exdc\n", "line 2: .exdc is not supported"),
        (".model m\n11 1\n", "line 2: '11 1' is in no table"),
        (".model m\n.names a b\n2 1\n", "line 3: '2 1' is no row of a table of 1 inputs"),
        (".model m\n.names a b\n1 1 1\n", "line 3: '1 1 1' is no row"),
        (".model m\n.inputs a\n.outputs b\n.names a b\n1 1\n0 0\n", "line 4: the table of b has rows for both 0 and 1"),
        (".model m\n.model m\n", "line 2: there are two models 'm'"),
        (".model m\n.inputs a\n.outputs b\n", "nothing drives b in model 'm'"),
        (".model m\n.inputs a a\n.outputs b\n.names b\n", "has the port 'a' twice"),
        (".model m\n.inputs `x\n.outputs b\n.names b\n", "'`x' is no name of a port"),
        (".model m\n.inputs a\n.outputs b\n.subckt n x=a y=b\n", "line 4: there is no model 'n' in the file"),
        (".model m\n.inputs a\n.outputs b\n.subckt n x\n.model n\n", "line 4: .subckt takes a model and PORT=SIGNAL"),
        (".model m\n.inputs a\n.outputs b\n.subckt n x=a\n.model n\n", "line 4: model 'n' has no port 'x'"),
    ],
)
def test_what_is_no_logic_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(GateDesignError, match=complaint):
        source_of_blif(text)


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(GateDesignError, match="there is no model 'other'; `top` takes one of mul2, half"):
        source_of_blif(TWO_BITS, top="other")
