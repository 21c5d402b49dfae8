"""Putting the text of a circuit together: included files, macros, conditions, and what is refused."""

from pathlib import Path

import pytest

from energy.gates import GateDesignError, Source, read_source, source_of_verilog
from energy.gates.source import MAX_TEXT

PLAIN = "module mine(input [3:0] A, input [2:0] B, output [6:0] O); assign O = A * B; endmodule\n"


def words(source: Source) -> list[str]:
    return source.text.split()


def test_included_files_constants_and_guards(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "half.v").write_text('`include "sizes.vh"\nmodule half; wire [`WIDTH-1:0] x; endmodule\n')
    (tmp_path / "sizes.vh").write_text(
        "`ifndef SIZES\n`define SIZES\n`define WIDTH (`BITS * 2)\n`define BITS 4\n`endif\n"
    )
    file = tmp_path / "mine.v"
    file.write_text(
        '// both include the same\n`include "sizes.vh"\n`include "parts/half.v"\nmodule mine; half h(); endmodule'
    )
    source = read_source(file)
    assert words(source) == [
        "module",
        "half;",
        "wire",
        "[(4",
        "*",
        "2)-1:0]",
        "x;",
        "endmodule",
        "module",
        "mine;",
        "half",
        "h();",
        "endmodule",
    ]
    assert source.module == source.title == "mine"
    places = {
        source.text.split("\n")[line - 1].strip(): source.place(line) for line in range(1, len(source.places) + 1)
    }
    assert places["module half; wire [(4 * 2)-1:0] x; endmodule"] == "parts/half.v, line 2"
    assert places["module mine; half h(); endmodule"] == "line 4"


def test_branches_are_chosen_as_they_are_in_verilog() -> None:
    text = """
`define A
module m;
`ifdef A one `elsif B two `else three `endif
`ifndef A one `elsif B two `else three `endif
`undef A
`ifdef A `unknown `include "nowhere" `define B
  `ifdef B x `else y `endif
`else four
`endif
`ifdef B five `endif
`timescale 1ns/1ps
`define LONG a \\
  b
`LONG "`LONG" \\not`macro
endmodule"""
    expected = 'module m; one three four `timescale 1ns/1ps a b "`LONG" \\not`macro endmodule'
    source = source_of_verilog(text)
    assert words(source) == expected.split()
    # Lines are the user's, also after a macro of two lines.
    line = source.text.split("\n").index("endmodule") + 1
    assert source.place(line) == f"line {len(text.splitlines())}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no module"),
        ('`include "/etc/passwd"\n', "line 1: '/etc/passwd' is outside of the circuit's folder"),
        ('\n`include "../secret.v"\n', "line 2: '../secret.v' is outside of"),
        ('`include "link.v"\n', "line 1: 'link.v' is outside of"),
        ('`include "nowhere.v"\n', "line 1: 'nowhere.v' is not in .*; put it beside the circuit"),
        ("`include <stdio.h>\n", "line 1: only include "),
        ('`define F "part.v"\n`include `F\n', "line 2: only include "),
        ('`include "round.v"\n', "round2.v, line 1: round.v includes itself"),
        ('`include "mine.v"\n', "mine.v, line 1: mine.v includes itself"),
        ("`define X(a) `a\n", "line 1: the macro X has arguments"),
        ("`define X in``clude\n`X\n", "line 2: ` is no macro"),
        ("`define X `include\n`X\n", "line 2: `include is no macro"),
        ("`define X `Y\n`define Y `X\n`X\n", "line 3: the macro X uses itself"),
        ("`pragma protect\n", "`pragma is no macro that was defined, and no directive that is supported"),
        ("\n`ifdef X\n", "line 2: this condition has no endif"),
        ("`endif\n", "line 1: endif without a condition"),
        ("`define\n", "line 1: define needs a name"),
        ('\ninitial $readmemh("f", x);\n', r"line 2: \$readmemh is not allowed in a circuit"),
        ('import "DPI-C" function int system(input string s);\n', "line 1: import is not supported"),
        ('im/* */port "DPI-C" function int system(input string s);\n', 'line 1: "DPI is not supported'),
        ("/" * 2 + "x" * MAX_TEXT, "has more than 1000000 bytes"),
    ],
)
def test_what_reaches_beyond_the_circuit_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "secret.v").write_text(PLAIN)
    folder = tmp_path / "circuit"
    folder.mkdir()
    (folder / "link.v").symlink_to(tmp_path / "secret.v")
    (folder / "round.v").write_text('`include "round2.v"\n')
    (folder / "round2.v").write_text('`include "round.v"\n')
    (folder / "mine.v").write_text(text + (PLAIN if text else ""))
    with pytest.raises(GateDesignError, match=complaint):
        read_source(folder / "mine.v")


def test_macros_that_grow_without_end_are_refused() -> None:
    doubled = "\n".join(f"`define M{n + 1} `M{n} `M{n}" for n in range(40))
    with pytest.raises(GateDesignError, match="macros grow to more than 1000000 characters"):
        source_of_verilog(f"`define M0\n{doubled}\n`M40\n{PLAIN}")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    for name, complaint in (
        ("mine.vhdl", "VHDL is not supported; convert it to Verilog"),
        ("nowhere.v", "cannot read .*nowhere.v: No such file"),
    ):
        with pytest.raises(GateDesignError, match=complaint):
            read_source(tmp_path / name)
    (tmp_path / "bad.v").write_bytes("module m; endmodule".encode("utf-16"))
    with pytest.raises(GateDesignError, match="is not a text file"):
        read_source(tmp_path / "bad.v")


def test_system_verilog_is_known_by_its_name(tmp_path: Path) -> None:
    for name, system in (("a.v", False), ("a.sv", True)):
        (tmp_path / name).write_text(PLAIN)
        assert read_source(tmp_path / name).system_verilog == system
