"""Rows of a person's circuit."""

from dataclasses import replace

import pytest

from energy.gates import Tools, UserCircuit, characterise_user, read_circuit, source_of_verilog, user_row_count
from tests.energy.gates.test_user_circuit import PLAIN, SIGNED

pytestmark = pytest.mark.process


def read(tools: Tools, text: str) -> UserCircuit:
    return read_circuit(tools, source_of_verilog(text))


def test_rows_for_all_widths_of_one_circuit(tools: Tools) -> None:
    found = read(tools, PLAIN)
    rows = list(characterise_user(tools, found, name="mine", signed=False))
    # once as a circuit of its own widths, once as one of the 8 x 8 bits of a given array, with the same figures
    forms = ("layer", "8x8")
    assert len(rows) == user_row_count(found, signed=False) == 18
    assert {row.key for row in rows} == {(form, w, a) for form in forms for w in (2, 3, 4) for a in (2, 3, 4)}
    by_key = {row.key: row for row in rows}
    for (form, w, a), row in by_key.items():
        assert replace(row, form="layer") == by_key["layer", w, a], form
    assert len({row.area_um2 for row in rows}) == 1  # the circuit is what it is
    energies = {row.key[1:]: row.energy_uniform_fj for row in rows}
    assert energies[2, 2] < energies[4, 4]
    signed = read(tools, SIGNED)
    assert {row.key for row in characterise_user(tools, signed, name="mine", signed=True)} == {
        (form, w, a) for form in forms for w in (2, 3, 4) for a in (2, 3)
    }  # an unsigned activation may not reach the highest bit


def test_ports_may_have_any_name(tools: Tools) -> None:
    text = r"module multiplier(input [1:0] \a+1 , input [1:0] core, output [3:0] p); assign p = \a+1 * core; endmodule"
    found = read(tools, text)
    rows = list(characterise_user(tools, found, name="mine", signed=False))
    assert len(rows) == user_row_count(found, signed=False)
    assert {row.name for row in rows} == {"mine"}


def test_an_unsigned_circuit_of_eight_bits_also_has_an_unsigned_row(tools: Tools) -> None:
    text = "module m(input [7:0] a, w, output [15:0] p); assign p = a[7:4] * w << 4; endmodule"
    found = read(tools, text)
    assert next(characterise_user(tools, found, name="m", signed=False)).key == ("unsigned", 8, 8)
    assert user_row_count(found, signed=False) == 1 + 2 * 49


@pytest.mark.parametrize(("signed", "activation_bits"), [(False, 9), (True, 8)])
def test_a_wide_circuit_has_its_own_form_and_its_widest_in_layers(
    tools: Tools, signed: bool, activation_bits: int
) -> None:
    found = read(tools, "module m(input [8:0] a, input [1:0] w, output [10:0] p); assign p = a ^ w; endmodule")
    rows = list(characterise_user(tools, found, name="m", signed=signed))
    own = "signed" if signed else "unsigned"
    assert [row.key for row in rows] == [(own, 2, 9), ("layer", 2, activation_bits)]
    assert user_row_count(found, signed=signed) == 2
