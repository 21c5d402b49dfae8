from itertools import product
from pathlib import Path

import numpy as np
import pytest

from energy.gates import GateToolError, Tools
from energy.gates.liberty import parse_function, read_liberty

_LIBRARY = """
/* a library of one cell
   and a half */
library(small) {
  capacitive_load_unit (1,pf);
  nom_voltage : 1.8;
  cell (NAND2) {
    area : 24;
    pin(A) { direction : input; capacitance : 0.01; }
    pin(B) { direction : input; capacitance : 0.02; }
    pin(Y) {
      direction : output;
      function : "(!(A B))";
      timing() {
        related_pin : "A";
        cell_rise(t) { index_1 ("0.0, 0.1"); index_2 ("0.02, 0.22"); values ( \\
          "0.1, 0.3", \\
          "0.3, 0.5"); }
        cell_fall(t) { index_1 ("0.0, 0.1"); index_2 ("0.02, 0.22"); values ("0.0, 0.2", "0.2, 0.4"); }
      }
      internal_power() {
        rise_power(t) { index_1 ("0.0, 0.1"); index_2 ("0.02, 0.22"); values ("0.02, 0.02", "0.02, 0.02"); }
        fall_power(t) { index_1 ("0.0, 0.1"); index_2 ("0.02, 0.22"); values ("0.04, 0.04", "0.04, 0.04"); }
      }
    }
  }
  cell (DFF) {
    area : 96;
    ff (IQ, IQN) { next_state : "D"; clocked_on : "CLK"; }
    pin(Q) { direction : output; function : "IQ"; }
  }
}
"""


def test_a_library_is_read(tmp_path: Path) -> None:
    path = tmp_path / "small.lib"
    path.write_text(_LIBRARY)
    library = read_liberty(path)
    assert (library.name, library.nominal_v, list(library.cells)) == ("small", 1.8, ["NAND2"])  # registers are left out
    cell = library.cells["NAND2"]
    assert (cell.area_um2, cell.inputs) == (24.0, {"A": 0.01, "B": 0.02})
    output = cell.outputs["Y"]
    # At a slew of 0.12, half-way: rising 0.2 to 0.4, falling 0.1 to 0.3; half-way between the loads the mean of all.
    assert output.delay_ns.at(0.05) == pytest.approx(0.25)
    assert output.delay_ns.at(9.0) == pytest.approx(0.35)
    assert output.internal_pj.at(0.03) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("library(x) { nom_voltage : 1.8; }", "is not a usable cell library"),
        ("library(x) { capacitive_load_unit (1,ff); nom_voltage : 1.8; }", "not in pF"),
        ("what is this?", "is not a usable cell library"),
    ],
)
def test_other_files_are_rejected(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.lib"
    path.write_text(text)
    with pytest.raises(GateToolError, match=complaint):
        read_liberty(path)
    with pytest.raises(GateToolError, match="cannot read"):
        read_liberty(tmp_path / "none.lib")


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("(!(A B))", lambda a, b, c: not (a and b)),
        ("A+B*C", lambda a, b, c: a or (b and c)),
        ("A^B C", lambda a, b, c: (a != b) and c),
        ("(((A B)+(B C))+(C A))", lambda a, b, c: a + b + c >= 2),
        ("(!((C A) + (!C B)))", lambda a, b, c: not (a if c else b)),
        ("A' | B & C'", lambda a, b, c: (not a) or (b and not c)),
        ("1", lambda a, b, c: True),
    ],
)
def test_functions(text: str, formula: object) -> None:
    assert callable(formula)
    if text == "1":
        with pytest.raises(ValueError, match="where a pin should be"):
            parse_function(text)
        return
    rows = list(product([0, 1], repeat=3))
    values = {
        name: np.array(column, dtype=np.uint64) for name, column in zip("ABC", zip(*rows, strict=True), strict=True)
    }
    found = (parse_function(text)(values) & np.uint64(1)).tolist()
    assert found == [int(formula(*row)) for row in rows]


def test_the_real_library(tools: Tools) -> None:
    library = tools.library
    assert library.nominal_v == 1.8
    assert {"INVX1", "NAND2X1", "XOR2X1", "FAX1"} <= set(library.cells)
    assert not {"DFFPOSX1", "LATCH", "TBUFX1"} & set(library.cells)
    assert set(library.cells["FAX1"].outputs) == {"YC", "YS"}
    inverter = library.cells["INVX1"].outputs["Y"]
    assert 0.02 < inverter.delay_ns.at(0.02) < 0.2
    assert 0.005 < inverter.internal_pj.at(0.02) < 0.05
