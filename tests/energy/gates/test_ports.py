"""Which input is the activation, and which the weight."""

import pytest

from approx.multipliers.reading import weight_is_first
from energy.gates import GateDesignError
from energy.gates.ports import operand_ports, product_port_of


@pytest.mark.parametrize(
    ("ports", "taken"),
    [
        (["a", "b"], ("a", "b")),
        (["B", "A"], ("A", "B")),  # whatever their order, as in a function of C
        (["x", "y"], ("x", "y")),
        (["w", "x"], ("x", "w")),
        (["weight_in", "act"], ("act", "weight_in")),
        (["act", "WEIGHTS"], ("act", "WEIGHTS")),
        (["i_w2", "i_a2"], ("i_a2", "i_w2")),
        (["w1", "w2"], ("w1", "w2")),  # both say so, so neither does
        (["window", "x"], ("window", "x")),
    ],
)
def test_names_say_which_is_the_weight(ports: list[str], taken: tuple[str, str]) -> None:
    assert operand_ports(dict.fromkeys(ports, 8), None, {}) == taken
    assert operand_ports(dict.fromkeys(ports, 8), ports[0], {}) == (ports[1], ports[0])
    assert operand_ports(dict.fromkeys(ports, 8), ports[1], {}) == (ports[0], ports[1])


def test_what_is_no_multiplier() -> None:
    with pytest.raises(GateDesignError, match=r"`weight_port` takes one of the inputs, a or b, got 'c'"):
        operand_ports({"a": 8, "b": 8}, "c", {})
    with pytest.raises(GateDesignError, match=r"two inputs, activation and weight.*; this has a \(8 bits\)"):
        operand_ports({"a": 8}, None, {})
    with pytest.raises(GateDesignError, match=r"2 to 16 bits each; this has a \(17 bits\), b \(17 bits\)$"):
        operand_ports({"a": 17, "b": 17}, None, {})
    with pytest.raises(GateDesignError, match=r"a \(1 bits\).*; its parameters are N = 1, T = 3: set them with `param"):
        operand_ports({"a": 1, "b": 4}, None, {"N": "1", "T": "3"})
    with pytest.raises(GateDesignError, match="one output, the product"):
        product_port_of({"p": 8, "q": 8}, is_table=True)
    with pytest.raises(GateDesignError, match="at most 31 bits"):
        product_port_of({"p": 32}, is_table=True)
    assert product_port_of({"p": 32}, is_table=False) == "p"


@pytest.mark.parametrize(
    ("first", "second", "weight"),
    [("w_in", "x_in", "w_in"), ("filter", "pixel", "filter"), ("B_in", "A_in", "B_in"), ("op_a", "op_b", "op_b")],
)
def test_words_in_names_say_which_is_the_weight(first: str, second: str, weight: str) -> None:
    assert operand_ports({first: 8, second: 8}, None, {})[1] == weight
    assert weight_is_first(first, second) == (weight == first)  # as for C models and tables
