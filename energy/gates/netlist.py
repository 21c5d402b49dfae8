"""A mapped netlist: library cells and the nets between them, in an order of evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energy.gates.errors import GateDesignError
from energy.gates.liberty import Cell, CellLibrary

Nets = NDArray[np.intp]

ZERO, ONE = 0, 1  # the constant nets


@dataclass(frozen=True, slots=True, kw_only=True)
class CellGroup:
    """Cells of one type that do not depend on each other.

    Attributes:
        cell: Their type.
        members: Their indices in `Netlist.cell_names`.
        inputs: Input pin -> a net for each of them.
        outputs: Output pin -> a net for each of them.
    """

    cell: Cell
    members: Nets
    inputs: Mapping[str, Nets]
    outputs: Mapping[str, Nets]


@dataclass(frozen=True, slots=True, kw_only=True)
class Netlist:
    """A combinational circuit of library cells.

    Attributes:
        inputs: Input port -> its nets, lowest bit first.
        outputs: Output port -> its nets, lowest bit first.
        cell_names: Names of the instances, prefixed with the modules that they came from.
        net_count: Number of nets, including the two constant ones.
        levels: Groups of cells; each depends on earlier ones only.
        signed: The ports that are declared as signed.
    """

    inputs: Mapping[str, Nets]
    outputs: Mapping[str, Nets]
    cell_names: tuple[str, ...]
    net_count: int
    levels: tuple[CellGroup, ...]
    signed: frozenset[str] = frozenset()

    def loads_pf(self) -> NDArray[np.float64]:
        """Sum the capacitance of the input pins on every net."""
        loads = np.zeros(self.net_count)
        for group in self.levels:
            for pin, nets in group.inputs.items():
                np.add.at(loads, nets, group.cell.inputs[pin])
        return loads


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instance:
    name: str
    cell: Cell
    inputs: dict[str, int]
    outputs: dict[str, int]


def read_netlist(text: str, module: str, library: CellLibrary) -> Netlist:
    """Read a netlist from Yosys's JSON.

    Raises:
        GateDesignError: If it is not combinational, has a cell that is not in the library, or leaves a signal undriven.
    """
    found = json.loads(text)["modules"][module]
    numbers: dict[int | str, int] = {"0": ZERO, "1": ONE}

    def net(bit: int | str) -> int:
        if bit in ("x", "z"):
            raise GateDesignError(f"module {module!r} has an undriven signal; give every bit a value")
        return numbers.setdefault(bit, len(numbers))

    ports: dict[str, dict[str, Nets]] = {"input": {}, "output": {}, "inout": {}}
    for name, port in found["ports"].items():
        ports[port["direction"]][name] = np.array([net(bit) for bit in port["bits"]], dtype=np.intp)
    instances = []
    for name, described in found["cells"].items():
        cell = library.cells.get(described["type"])
        if cell is None:
            raise GateDesignError(
                f"module {module!r} is not combinational logic: it needs {described['type']} ({name}); "
                "flip-flops, latches, memories and tri-states are not supported"
            )
        bits = {pin: net(connected[0]) for pin, connected in described["connections"].items() if connected}
        if any(pin not in bits for pin in cell.inputs):
            raise GateDesignError(f"module {module!r} has a {cell.name} ({name}) with an open input")
        instances.append(
            _Instance(
                name=name,
                cell=cell,
                inputs={pin: bits[pin] for pin in cell.inputs},
                # An unconnected output still costs the energy inside the cell.
                outputs={pin: bits.get(pin, net(f"{name}.{pin}")) for pin in cell.outputs},
            )
        )
    instances.sort(key=lambda instance: instance.name)
    levels = _levels(module, instances, [ZERO, ONE, *(int(n) for nets in ports["input"].values() for n in nets)])
    driven = {*levels, ZERO, ONE, *(int(n) for nets in ports["input"].values() for n in nets)}
    for name, nets in ports["output"].items():
        if any(int(n) not in driven for n in nets):
            raise GateDesignError(f"module {module!r} leaves bits of its output {name!r} undriven")
    return Netlist(
        inputs=ports["input"],
        outputs=ports["output"],
        cell_names=tuple(instance.name for instance in instances),
        net_count=len(numbers),
        levels=_grouped(instances, levels),
        signed=frozenset(name for name, port in found["ports"].items() if port.get("signed")),
    )


def _levels(module: str, instances: Sequence[_Instance], sources: Sequence[int]) -> dict[int, int]:
    """Compute each driven net's distance from the inputs, in cells."""
    level = dict.fromkeys(sources, 0)
    waiting = list(instances)
    while waiting:
        ready = [one for one in waiting if all(n in level for n in one.inputs.values())]
        if not ready:
            raise GateDesignError(
                f"module {module!r} has a loop or an undriven signal at {waiting[0].name}; "
                "a multiplier is combinational"
            )
        for one in ready:
            depth = 1 + max((level[n] for n in one.inputs.values()), default=0)
            for n in one.outputs.values():
                level[n] = depth
        waiting = [one for one in waiting if any(n not in level for n in one.outputs.values())]
    for source in sources:
        del level[source]
    return level


def _grouped(instances: Sequence[_Instance], level: Mapping[int, int]) -> tuple[CellGroup, ...]:
    groups: dict[tuple[int, str], list[int]] = {}
    for place, one in enumerate(instances):
        depth = max(level[n] for n in one.outputs.values())
        groups.setdefault((depth, one.cell.name), []).append(place)
    found = []
    for _, members in sorted(groups.items()):
        cell = instances[members[0]].cell
        found.append(
            CellGroup(
                cell=cell,
                members=np.array(members, dtype=np.intp),
                inputs={
                    pin: np.array([instances[m].inputs[pin] for m in members], dtype=np.intp) for pin in cell.inputs
                },
                outputs={
                    pin: np.array([instances[m].outputs[pin] for m in members], dtype=np.intp) for pin in cell.outputs
                },
            )
        )
    return tuple(found)
