"""Folding of constants, and blocks of arithmetic against integers."""

from itertools import product

import numpy as np
import pytest

from energy.gates import Tools
from energy.gates.arithmetic import add, add_columns, columns_of, negate_if, place
from energy.gates.circuit import Circuit
from energy.gates.simulation import compute
from energy.gates.synthesis import synthesise


def test_adders_fold_constants() -> None:
    circuit = Circuit("m", {"a": 3})
    a, b, c = circuit.port("a")
    for constants in product([False, True], repeat=3):
        total, carry = circuit.full_add(*constants)
        assert (total, carry) == (sum(constants) % 2 == 1, sum(constants) >= 2)
    assert circuit.full_add(a, False, False) == (a, False)
    assert circuit.full_add(a, True, True) == (a, True)
    assert circuit.full_add(a, b, False) == circuit.half_add(a, b)
    assert circuit.all_of(a, a) == a
    assert circuit.differ(a, a) is False
    assert circuit.choose(True, a, b) == a
    assert circuit.choose(c, False, True) == circuit.invert(c)
    assert circuit.all_of(a, b) == circuit.all_of(b, a)  # equal gates are shared


@pytest.mark.process
@pytest.mark.parametrize("constant", [0, 1, 6, 13])
def test_sums_and_negation(tools: Tools, constant: int) -> None:
    circuit = Circuit("m", {"a": 3, "b": 2, "s": 1})
    a, b, (sign,) = (circuit.port(name) for name in "abs")
    columns = columns_of(6)
    for bits in (a, b, a, [bool(constant >> bit & 1) for bit in range(6)]):
        place(columns, bits)
    place(columns, b, 2)
    circuit.drive("sum", add_columns(circuit, columns))
    circuit.drive("difference", add(circuit, a, [circuit.invert(bit) for bit in b] + [True] * 2, width=4, carry=True))
    circuit.drive("negated", negate_if(circuit, sign, a, width=5))
    netlist = synthesise(tools, circuit.verilog(), top="m").netlist
    codes = np.arange(64)
    operands = {"a": codes & 7, "b": codes >> 3 & 3, "s": codes >> 5}
    found = compute(netlist, operands)
    assert (found["sum"] == 2 * operands["a"] + 5 * operands["b"] + constant).all()
    assert (found["difference"] == (operands["a"] - operands["b"]) & 15).all()
    assert (found["negated"] == np.where(operands["s"], -operands["a"], operands["a"]) & 31).all()
