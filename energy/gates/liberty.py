"""Reader of Liberty cell libraries: areas, pin capacitances, output functions, delays and internal energies of cells.

Reads only what the model needs: combinational cells, their capacitances in pF, delays in ns, internal energies in pJ,
and the nominal voltage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from energy.gates.errors import GateToolError

Words = NDArray[np.uint64]  # 64 simulated vectors a word
Function = Callable[[Mapping[str, Words]], Words]

SLEW_NS = 0.12  # transition time at which tables are read, about that of the mapped netlists


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTable:
    """A quantity as a function of an output's load, at `SLEW_NS`: the mean over both edges and all causing inputs.

    Attributes:
        loads_pf: Loads in ascending order.
        values: The quantity at these loads.
    """

    loads_pf: NDArray[np.float64]
    values: NDArray[np.float64]

    def at(self, loads_pf: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Interpolate, for one load or several; beyond the table, take its nearest entry."""
        return np.asarray(np.interp(loads_pf, self.loads_pf, self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """An output pin.

    Attributes:
        function: Computes its value from those of the input pins.
        delay_ns: Delay from an input to this pin.
        internal_pj: Energy spent inside the cell by a transition of this pin.
    """

    function: Function
    delay_ns: LoadTable
    internal_pj: LoadTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A combinational cell.

    Attributes:
        name: Name in the library.
        area_um2: Area.
        inputs: Input pin -> capacitance in pF.
        outputs: Output pins by name.
    """

    name: str
    area_um2: float
    inputs: Mapping[str, float]
    outputs: Mapping[str, Output]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLibrary:
    """Combinational cells of a library.

    Attributes:
        name: Name of the library.
        nominal_v: Nominal voltage.
        cells: Cells by name.
    """

    name: str
    nominal_v: float
    cells: Mapping[str, Cell]


@cache
def read_liberty(path: Path) -> CellLibrary:
    """Read the combinational cells of a library.

    Raises:
        GateToolError: If the file cannot be read, or is not a cell library in pF and ns.
    """
    try:
        root = _parse(path.read_text(encoding="utf-8", errors="replace"))
        library = next(root.of("library"))
        unit = next(library.of("capacitive_load_unit")).arguments
        if [float(unit[0]), unit[1].lower()] != [1.0, "pf"]:
            raise ValueError(f"capacitances are in {unit}, not in pF")
        cells = [_cell(group) for group in library.of("cell") if _is_combinational(group)]
        return CellLibrary(
            name=library.arguments[0],
            nominal_v=float(library.attributes["nom_voltage"]),
            cells={cell.name: cell for cell in cells},
        )
    except OSError as error:
        raise GateToolError(f"cannot read the cell library {path}: {error.strerror or error}") from None
    except (KeyError, ValueError, StopIteration, IndexError) as error:
        raise GateToolError(f"{path} is not a usable cell library: {error!r}") from None


def parse_function(text: str) -> Function:
    """Parse a Liberty output function; in order of precedence: ! or ' inverts, ^, & or * or juxtaposition, + or |.

    Raises:
        ValueError: If it cannot be parsed.
    """
    tokens: list[str] = re.findall(r"[A-Za-z_]\w*|[01!'^&*+|()]", text)
    position = 0

    def peek() -> str:
        return tokens[position] if position < len(tokens) else ""

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1]

    def alternatives() -> Function:
        found = conjunction()
        while peek() in ("+", "|"):
            take()
            found = _joined(np.bitwise_or, found, conjunction())
        return found

    def conjunction() -> Function:
        found = difference()
        while peek() and peek() not in ("+", "|", ")"):
            if peek() in ("&", "*"):
                take()
            found = _joined(np.bitwise_and, found, difference())
        return found

    def difference() -> Function:
        found = factor()
        while peek() == "^":
            take()
            found = _joined(np.bitwise_xor, found, factor())
        return found

    def factor() -> Function:
        if not peek():
            raise ValueError(f"function {text!r} ends too early")
        symbol = take()
        if symbol == "!":
            return _inverted(factor())
        if symbol == "(":
            found = alternatives()
            if peek() != ")":
                raise ValueError(f"function {text!r} lacks a parenthesis")
            take()
        elif re.fullmatch(r"[A-Za-z_]\w*", symbol):
            found = _pin(symbol)
        else:
            raise ValueError(f"function {text!r} has {symbol!r} where a pin should be")
        while peek() == "'":
            take()
            found = _inverted(found)
        return found

    parsed = alternatives()
    if peek():
        raise ValueError(f"function {text!r} has an unexpected {peek()!r}")
    return parsed


def _pin(name: str) -> Function:
    return lambda values: values[name]


def _inverted(function: Function) -> Function:
    return lambda values: np.bitwise_not(function(values))


def _joined(operation: Callable[[Words, Words], Words], first: Function, second: Function) -> Function:
    return lambda values: operation(first(values), second(values))


@dataclass(slots=True)
class _Group:
    """`name (arguments) { ... }`, or without a body."""

    name: str
    arguments: list[str]
    attributes: dict[str, str] = field(default_factory=dict)
    groups: list[_Group] = field(default_factory=list)

    def of(self, name: str) -> Iterator[_Group]:
        return (group for group in self.groups if group.name == name)


def _parse(text: str) -> _Group:
    text = re.sub(r"/\*.*?\*/|\\\n", " ", text, flags=re.DOTALL)
    token = re.compile(
        r"\s*(?:(?P<close>\})|(?P<name>[\w.]+)\s*(?:\((?P<arguments>(?:\"[^\"]*\"|[^\")])*)\)\s*(?P<open>\{|;?)"
        r"|:\s*(?P<value>\"[^\"]*\"|[^;\n]*);?))"
    )
    root = _Group("", [])
    stack = [root]
    position, end = 0, len(text.rstrip())
    while position < end:
        found = token.match(text, position)
        if found is None:
            raise ValueError(f"unexpected {text[position : position + 40]!r}")
        position = found.end()
        if found["close"]:
            stack.pop()
        elif found["value"] is not None:
            stack[-1].attributes[found["name"]] = found["value"].strip().strip('"')
        else:
            raw = re.findall(r"\"[^\"]*\"|[^\s,]+", found["arguments"])
            group = _Group(found["name"], [argument.strip('"').strip() for argument in raw])
            stack[-1].groups.append(group)
            if found["open"] == "{":
                stack.append(group)
        while position < end and text[position] == ";":
            position += 1
    return root


def _is_combinational(cell: _Group) -> bool:
    if any(group.name in ("ff", "latch", "ff_bank", "latch_bank", "statetable") for group in cell.groups):
        return False
    pins = [pin for pin in cell.of("pin") if pin.attributes["direction"] == "output"]
    return bool(pins) and all("function" in pin.attributes and "three_state" not in pin.attributes for pin in pins)


def _cell(group: _Group) -> Cell:
    inputs, outputs = {}, {}
    for pin in group.of("pin"):
        if pin.attributes["direction"] == "input":
            inputs[pin.arguments[0]] = float(pin.attributes["capacitance"])
        else:
            outputs[pin.arguments[0]] = Output(
                function=parse_function(pin.attributes["function"]),
                delay_ns=_load_table(pin, "timing", ("cell_rise", "cell_fall")),
                internal_pj=_load_table(pin, "internal_power", ("rise_power", "fall_power")),
            )
    return Cell(name=group.arguments[0], area_um2=float(group.attributes["area"]), inputs=inputs, outputs=outputs)


def _load_table(pin: _Group, section: str, kinds: tuple[str, str]) -> LoadTable:
    """Average all tables of a kind over load and slew; those of one pin must have the same loads."""
    tables = [table for part in pin.of(section) for kind in kinds for table in part.of(kind)]
    loads = _numbers(tables[0], "index_1")[0]
    rows = []
    for table in tables:
        if _numbers(table, "index_1")[0] != loads:
            raise ValueError(f"pin {pin.arguments[0]} has tables over different loads")
        slews = _numbers(table, "index_2")[0]
        rows.append([np.interp(SLEW_NS, slews, at_load) for at_load in _numbers(table, "values")])
    return LoadTable(loads_pf=np.array(loads), values=np.mean(rows, axis=0))


def _numbers(group: _Group, name: str) -> list[list[float]]:
    return [[float(value) for value in row.split(",")] for row in next(group.of(name)).arguments]
