"""Simulation of netlists with many input vectors at once: 64 per machine word.

It answers two questions: what the circuit computes once it has settled, and how often every net toggles between one
vector and the next. For the second, every cell has the library's delay at its load, rounded to `STEP_NS`, and is
inertial: it filters pulses shorter than its delay. A net thus toggles more than once where paths of different length
meet: these glitches distinguish multiplier structures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energy.gates.liberty import CellLibrary, Function, Words
from energy.gates.netlist import ONE, CellGroup, Netlist, Nets

STEP_NS = 0.05  # steps of 0.03 and 0.02 change relative energies by up to 5 %

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toggles:
    """Average toggles per operation.

    Attributes:
        per_net: Toggles of each net, including glitches.
        settled_per_net: Toggles of each net without glitches: 1 if it settles at another value.
    """

    per_net: NDArray[np.float64]
    settled_per_net: NDArray[np.float64]


def pack(codes: Codes, bits: int) -> Words:
    """Pack codes into one row of words per bit, lowest bit first; the last word is padded with zeros."""
    words = -(-len(codes) // 64)
    rows = np.zeros((bits, words * 64), dtype=np.uint8)
    rows[:, : len(codes)] = (codes[None, :] >> np.arange(bits)[:, None]) & 1
    return np.packbits(rows, axis=1, bitorder="little").view(np.uint64)


def unpack(rows: Words, count: int) -> Codes:
    """Invert `pack`: return the codes, read as unsigned."""
    bits = np.unpackbits(rows.view(np.uint8), axis=1, bitorder="little")[:, :count].astype(np.int64)
    codes: Codes = (bits << np.arange(len(rows))[:, None]).sum(axis=0)
    return codes


def compute(netlist: Netlist, operands: Mapping[str, Codes]) -> dict[str, Codes]:
    """Compute the settled outputs of a circuit, read as unsigned.

    Args:
        netlist: The circuit.
        operands: Input port -> codes; equally many for all ports.
    """
    count = len(next(iter(operands.values())))
    values = _settled(netlist, operands)
    return {name: unpack(values[nets], count) for name, nets in netlist.outputs.items()}


def count_toggles(netlist: Netlist, operands: Mapping[str, Codes], counted: NDArray[np.bool_] | None = None) -> Toggles:
    """Count the average toggles per operation for a sequence of operands.

    Args:
        netlist: The circuit.
        operands: Input port -> sequence of codes; n codes make n - 1 operations. All bits change at once.
        counted: Whether each operation counts, of which one must; all by default.
    """
    count = len(next(iter(operands.values()))) - 1
    mask = pack(np.ones(count, dtype=np.int64) if counted is None else counted.astype(np.int64), 1)
    operations = count if counted is None else int(counted.sum())
    values = _settled(netlist, {name: codes[:-1] for name, codes in operands.items()})
    first = values.copy()
    toggles = np.zeros(netlist.net_count, dtype=np.int64)

    def change(nets: Nets, after: Words) -> bool:
        flipped = values[nets] ^ after
        toggles[nets] += np.bitwise_count(flipped & mask).sum(axis=1, dtype=np.int64)
        values[nets] = after
        return bool(flipped.any())

    waiting = [_Waiting(group, values[group.output]) for group in _by_delay(netlist)]
    for name, codes in operands.items():
        change(netlist.inputs[name], pack(codes[1:], len(netlist.inputs[name])))
    quiet, longest = 0, max((group.steps for group in _by_delay(netlist)), default=0)
    while quiet <= longest:
        # All cells see the values of the previous step: results are applied once all have been computed.
        results = [one.step(values) for one in waiting]
        active = [change(one.group.output, after) for one, after in zip(waiting, results, strict=True)]
        quiet = 0 if any(active) else quiet + 1
    settled = np.bitwise_count((first ^ values) & mask).sum(axis=1, dtype=np.int64)
    return Toggles(per_net=toggles / operations, settled_per_net=settled / operations)


def cell_energies_fj(netlist: Netlist, library: CellLibrary, toggles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the energy per operation of every cell: charging its input pins, and internal energy of its transitions.

    A net's capacitance is that of the input pins on it, so each cell is charged for its own pins, whichever cell drives
    them. Wires have no capacitance, and outputs drive no load.

    Args:
        netlist: The circuit.
        library: The cell library.
        toggles: Toggles per operation of each net.
    """
    loads = netlist.loads_pf()
    energies_fj = np.zeros(len(netlist.cell_names))
    for group in netlist.levels:
        for pin, nets in group.inputs.items():
            # C V^2 / 2 a toggle, in pF x V^2 = pJ
            energies_fj[group.members] += toggles[nets] * group.cell.inputs[pin] * library.nominal_v**2 / 2 * 1e3
        for pin, nets in group.outputs.items():
            internal = [group.cell.outputs[pin].internal_pj.at(loads[net]) for net in nets]
            energies_fj[group.members] += toggles[nets] * np.array(internal) * 1e3
    return energies_fj


def cell_areas_um2(netlist: Netlist) -> NDArray[np.float64]:
    """Return the area of every cell."""
    areas = np.zeros(len(netlist.cell_names))
    for group in netlist.levels:
        areas[group.members] = group.cell.area_um2
    return areas


def _settled(netlist: Netlist, operands: Mapping[str, Codes]) -> Words:
    count = len(next(iter(operands.values())))
    values = np.zeros((netlist.net_count, -(-count // 64)), dtype=np.uint64)
    values[ONE] = ~np.uint64(0)
    for name, codes in operands.items():
        nets = netlist.inputs[name]
        values[nets] = pack(codes, len(nets))
    for group in netlist.levels:
        seen = {pin: values[nets] for pin, nets in group.inputs.items()}
        for pin, nets in group.outputs.items():
            values[nets] = group.cell.outputs[pin].function(seen)
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class _DelayGroup:
    """Outputs with the same function and delay, anywhere in the netlist."""

    function: Function
    steps: int
    inputs: Mapping[str, Nets]
    output: Nets


def _by_delay(netlist: Netlist) -> list[_DelayGroup]:
    loads = netlist.loads_pf()
    members: dict[tuple[str, str, int], list[tuple[CellGroup, int]]] = {}
    for group in netlist.levels:
        for pin, nets in group.outputs.items():
            for place, net in enumerate(nets):
                steps = max(1, round(group.cell.outputs[pin].delay_ns.at(loads[net]) / STEP_NS))
                members.setdefault((group.cell.name, pin, steps), []).append((group, place))
    found = []
    for (_, pin, steps), cells in sorted(members.items()):
        cell = cells[0][0].cell
        found.append(
            _DelayGroup(
                function=cell.outputs[pin].function,
                steps=steps,
                inputs={name: np.array([group.inputs[name][place] for group, place in cells]) for name in cell.inputs},
                output=np.array([group.outputs[pin][place] for group, place in cells]),
            )
        )
    return found


class _Waiting:
    """Inertial delay of a group: an output changes once its inputs have called for it throughout the delay."""

    def __init__(self, group: _DelayGroup, settled: Words) -> None:
        self.group = group
        self._asked = [settled] * (group.steps - 1)  # called for in the previous steps

    def step(self, values: Words) -> Words:
        """Compute the outputs after one step from the values of all nets."""
        asked = self.group.function({pin: values[nets] for pin, nets in self.group.inputs.items()})
        if not self._asked:
            return asked
        always, ever = asked.copy(), asked.copy()
        for earlier in self._asked:
            always &= earlier
            ever |= earlier
        self._asked = [*self._asked[1:], asked]
        return (values[self.group.output] | always) & ever
