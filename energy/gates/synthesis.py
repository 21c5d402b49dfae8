"""Synthesis of Verilog to a netlist of library cells with Yosys, and simulation of the netlist with Icarus Verilog.

Both tools and the OSU 180 nm cell library are found at run time. Verilog is written to a temporary folder under fixed
file names, so that no user input reaches a tool's command line.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from energy.gates.errors import GateDesignError, GateToolError
from energy.gates.liberty import CellLibrary, read_liberty
from energy.gates.netlist import Netlist, read_netlist
from energy.gates.simulation import Codes

INSTALL_LINE = "apt-get install yosys iverilog qflow-tech-osu018"
CELL_LIBRARY_VARIABLE = "CROSSLAYER_CELL_LIBRARY"  # a folder with the .lib and .v files, if not where Debian has it
_CELL_LIBRARY_DIR = Path("/usr/share/qflow/tech/osu018")
TIMEOUT_S = 120.0
_MEMORY_KB = 4_000_000
_CELLS_AS_LOGIC = "read_liberty -ignore_miss_func -ignore_miss_data_latch cells.lib\n"
_NOT_STARTED = (126, 127)  # a shell's exit codes

# Modules named as parts are mapped separately, so that no logic moves between them and each is charged for its own
# cells; all others are mapped as one. Cells are renamed because their names hold counters that differ between runs.
_SCRIPT = """\
{cells}read_verilog {language}design.v
hierarchy -check {parameters}{top}
proc
{keep}flatten
{fold}check -assert
opt -full
memory_map
opt -full
techmap
opt -full
abc -liberty cells.lib
opt_clean -purge
{release}rename -enumerate -pattern g%
flatten
opt_clean -purge
rename -top {rename}
write_json netlist.json
write_verilog -noattr -noexpr netlist.v
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Paths of the installed tools and of the cell library.

    Attributes:
        yosys: Synthesis.
        iverilog: Compiler of the simulator.
        vvp: The simulator.
        liberty: The cell library for synthesis.
        cell_models: Verilog models of the cells for simulation.
    """

    yosys: Path
    iverilog: Path
    vvp: Path
    liberty: Path
    cell_models: Path

    @property
    def library(self) -> CellLibrary:
        """The cell library."""
        return read_liberty(self.liberty)


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesised:
    """A design mapped to library cells.

    Attributes:
        module: Name of the top module.
        netlist: The netlist for `energy.gates.simulation`.
        verilog: The same netlist for Icarus Verilog.
    """

    module: str
    netlist: Netlist
    verilog: str


def find_tools() -> Tools:
    """Find the tools and the cell library.

    Raises:
        GateToolError: If one is missing; the message says how to install them.
    """
    folder = Path(os.environ.get(CELL_LIBRARY_VARIABLE, _CELL_LIBRARY_DIR))
    programs = {name: shutil.which(name) for name in ("yosys", "iverilog", "vvp")}
    library = {suffix: folder / f"osu018_stdcells.{suffix}" for suffix in ("lib", "v")}
    missing = [name for name, path in programs.items() if path is None]
    missing += [str(path) for path in library.values() if not path.is_file()]
    if missing:
        raise GateToolError(
            f"characterising circuits needs {', '.join(missing)}, not found here; on Debian or Ubuntu: {INSTALL_LINE}"
        )
    paths = {name: Path(path) for name, path in programs.items() if path is not None}
    return Tools(
        yosys=paths["yosys"],
        iverilog=paths["iverilog"],
        vvp=paths["vvp"],
        liberty=library["lib"],
        cell_models=library["v"],
    )


@cache
def tool_versions(tools: Tools) -> dict[str, str]:
    """Return the versions that the tools report."""
    yosys = _run([tools.yosys, "-V"], cwd=Path("/"), timeout_s=10)
    iverilog = _run([tools.iverilog, "-V"], cwd=Path("/"), timeout_s=10)
    return {
        "yosys": " ".join(yosys.split()[:2]),
        "iverilog": " ".join(iverilog.split()[:4]),
        "cell_library": tools.library.name,
    }


def synthesise(
    tools: Tools,
    verilog: str,
    *,
    top: str | None,
    parts: Sequence[str] = (),
    rename: str | None = None,
    mapped: bool = False,
    cells_as_logic: bool = False,
    parameters: Mapping[str, str] | None = None,
    system_verilog: bool = False,
    fold: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Synthesised:
    """Map a design to library cells.

    Args:
        tools: The installed tools.
        verilog: The design's modules; user input must be the text of an `energy.gates.source.Source`.
        top: The top module; found by Yosys if None.
        parts: Modules to be mapped separately. Names of their cells begin with the top module's instance of the part.
        rename: New name of the top module; required if `top` is None.
        mapped: Whether the design contains library cells.
        cells_as_logic: Whether it uses library cells for what they compute, to be mapped again with all other logic.
        parameters: Parameters of the top module: names, and values as Verilog has them. Both are put into the script.
        system_verilog: Whether it is SystemVerilog.
        fold: Whether constants are put in before signals with several drivers are refused.
        timeout_s: Time limit of Yosys.

    Raises:
        GateDesignError: If Yosys rejects the design, or it is not combinational.
        GateToolError: If Yosys cannot be started or takes too long.
    """
    keep = "".join(f"setattr -mod -set keep_hierarchy 1 {part}\n" for part in parts)
    release = "".join(f"setattr -mod -unset keep_hierarchy {part}\n" for part in parts)
    module = rename or top
    assert module is not None
    script = _SCRIPT.format(
        cells="read_liberty -lib cells.lib\n" if mapped else _CELLS_AS_LOGIC if cells_as_logic else "",
        language="-sv " if system_verilog else "",
        parameters="".join(f"-chparam {name} {value} " for name, value in (parameters or {}).items()),
        fold="opt_expr\n" if fold else "",
        top=f"-top {top}" if top else "-auto-top",
        keep=keep,
        release=release,
        rename=module,
    )
    with tempfile.TemporaryDirectory(prefix="crosslayer-") as name:
        folder = Path(name)
        (folder / "design.v").write_text(verilog, encoding="utf-8")
        (folder / "synthesis.ys").write_text(script, encoding="utf-8")
        (folder / "cells.lib").symlink_to(tools.liberty)
        try:
            _run([tools.yosys, "-q", "-s", "synthesis.ys"], cwd=folder, timeout_s=timeout_s)
        except _FailedError as error:
            raise GateDesignError(f"Yosys rejects the design: {error}") from None
        text = (folder / "netlist.json").read_text(encoding="utf-8")
        netlist = (folder / "netlist.v").read_text(encoding="utf-8")
    return Synthesised(module=module, netlist=read_netlist(text, module, tools.library), verilog=netlist)


def simulate_independently(
    tools: Tools, design: Synthesised, operands: Mapping[str, Codes], output: str, *, timeout_s: float = TIMEOUT_S
) -> Codes:
    """Compute a netlist's output with Icarus Verilog and the library's own cell models.

    Args:
        tools: The installed tools.
        design: The netlist.
        operands: Input port -> codes; equally many for all ports.
        output: The output port to read, as unsigned.
        timeout_s: Time limit of compilation and of simulation, each.

    Raises:
        GateToolError: If the simulator fails or takes too long.
        GateDesignError: If the output has a bit that is neither 0 nor 1.
    """
    widths = {name: len(nets) for name, nets in design.netlist.inputs.items()}
    count = len(next(iter(operands.values())))
    vectors = np.zeros(count, dtype=np.int64)
    for name, width in widths.items():  # the first port is in the highest bits, as in a concatenation
        vectors = (vectors << width) | (operands[name] & (2**width - 1))
    with tempfile.TemporaryDirectory(prefix="crosslayer-") as name:
        folder = Path(name)
        (folder / "netlist.v").write_text(design.verilog, encoding="utf-8")
        (folder / "vectors.hex").write_text("\n".join(f"{vector:x}" for vector in vectors.tolist()), encoding="ascii")
        (folder / "bench.v").write_text(_bench(design, widths, count, output), encoding="utf-8")
        try:
            sources = ["bench.v", "netlist.v", str(tools.cell_models)]
            # Without -gspecify the cell models have no delays, so a vector settles before the next one.
            _run([tools.iverilog, "-s", "bench", "-o", "bench", *sources], cwd=folder, timeout_s=timeout_s)
            _run([tools.vvp, "-n", "bench"], cwd=folder, timeout_s=timeout_s)
        except _FailedError as error:
            raise GateToolError(f"Icarus Verilog cannot simulate the netlist: {error}") from None
        lines = (folder / "products.hex").read_text(encoding="ascii").split()
    if len(lines) != count or not all(re.fullmatch(r"[0-9a-f]+", line) for line in lines):
        raise GateDesignError(f"module {design.module!r} has operands for which a bit of {output!r} is undefined (x)")
    return np.array([int(line, 16) for line in lines], dtype=np.int64)


def _bench(design: Synthesised, widths: Mapping[str, int], count: int, output: str) -> str:
    total = sum(widths.values())
    ports, low = [], total
    for name, width in widths.items():
        low -= width
        ports.append(f".{escaped(name)}(vector[{low + width - 1}:{low}])")
    ports.append(f".{escaped(output)}(product)")
    return f"""\
`timescale 1ns/10ps
module bench;
    reg [{total - 1}:0] vectors [0:{count - 1}];
    reg [{total - 1}:0] vector;
    wire [{len(design.netlist.outputs[output]) - 1}:0] product;
    integer index, file;
    {escaped(design.module)} circuit ({", ".join(ports)});
    initial begin
        $readmemh("vectors.hex", vectors);
        file = $fopen("products.hex", "w");
        for (index = 0; index < {count}; index = index + 1) begin
            vector = vectors[index];
            #1 $fwrite(file, "%h\\n", product);
        end
        $fclose(file);
    end
endmodule
"""


def escaped(name: str) -> str:
    """Escape an identifier, which may then have any characters except blanks."""
    return f"\\{name} "


class _FailedError(Exception):
    """A tool failed; the text is its error message."""


def _run(command: Sequence[str | Path], *, cwd: Path, timeout_s: float) -> str:
    """Run a program and return its output."""
    name = Path(command[0]).name
    try:
        # A design may exhaust the memory long before the time limit.
        limited = ["/bin/sh", "-c", f'ulimit -v {_MEMORY_KB}; exec "$0" "$@"', *(str(part) for part in command)]
        with subprocess.Popen(  # noqa: S603  # arguments are ours; user input is in files
            limited,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=timeout_s)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)  # Yosys runs ABC as a separate process
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise GateToolError(
                    f"{name} takes longer than {timeout_s:g} s; the design is too large to characterise"
                ) from None
    except OSError as error:
        raise GateToolError(f"{name} cannot be started: {error.strerror or error}") from None
    if process.returncode in _NOT_STARTED:
        raise GateToolError(f"{name} cannot be started: {output.strip() or command[0]}")
    if process.returncode != 0:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        # The findings of Yosys's `check` precede the error that ends it.
        said = [line for line in lines if line.startswith("Warning: ")] if "'check -assert'" in output else []
        said = said or [line for line in lines if "error" in line.lower()] or lines[-1:]
        raise _FailedError(re.sub(r"^(ERROR|Warning): ", "", said[0]) if said else f"exit code {process.returncode}")
    return output
