"""Published power against our energy: eight signed 8 x 8 circuits of EvoApproxLib, built and measured here.

They are broken carry-save arrays: Baugh-Wooley's array without its first rows, its first columns, and the cells below a
diagonal, with constants for the omitted cells. Each is thus described by four numbers, found by comparing tables; their
worst-case errors are the published ones. V. Mrazek, Z. Vasicek, L. Sekanina, H. Jiang, J. Han, IEEE TVLSI
26(11), 2018; power and area at 45 nm from github.com/ehw-fit/evoapproxlib.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from energy.gates import simulation, stimulus, synthesis
from energy.gates.characterise import as_values
from energy.gates.circuit import Bit, Circuit
from energy.gates.simulation import Codes

_BITS = 8
_TOP = "multiplier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A circuit with its published figures.

    Attributes:
        rows: Omitted bits of the first operand.
        columns: Omitted bits of the second operand.
        diagonal: Columns of the product, as powers of two, below which no cell is kept.
        constant: Number added for the omitted cells and for the signs.
        power_mw: Published power.
        area_um2: Published area.
        worst_error: Published largest absolute error.
    """

    rows: int
    columns: int
    diagonal: int
    constant: int
    power_mw: float
    area_um2: float
    worst_error: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measured figures of a circuit.

    Attributes:
        energy_fj: Energy per product for uniform operands.
        settled_energy_fj: The same without glitches.
        area_um2: Area of its cells.
        worst_error: Largest absolute error of a product.
    """

    energy_fj: float
    settled_energy_fj: float
    area_um2: float
    worst_error: int


EXACT = "mul8s_1KV8"
CIRCUITS = {
    name: Published(
        rows=rows,
        columns=columns,
        diagonal=diagonal,
        constant=constant,
        power_mw=power_mw,
        area_um2=area_um2,
        worst_error=worst_error,
    )
    for name, rows, columns, diagonal, constant, power_mw, area_um2, worst_error in (
        (EXACT, 0, 0, 0, 0x8100, 0.425, 729.8, 0),
        ("mul8s_1KVB", 0, 0, 3, 0x8100, 0.410, 685.2, 17),
        ("mul8s_1KR8", 1, 0, 0, 0x8180, 0.369, 652.8, 128),
        ("mul8s_1KRC", 1, 0, 4, 0x8180, 0.351, 599.8, 161),
        ("mul8s_1L2H", 1, 1, 0, 0x8200, 0.301, 558.9, 255),
        ("mul8s_1KVL", 2, 0, 5, 0x8280, 0.289, 543.0, 449),
        ("mul8s_1L2D", 2, 2, 0, 0x8400, 0.200, 411.6, 759),
        ("mul8s_1KR3", 6, 0, 0, 0xA080, 0.052, 172.2, 8064),
    )
}


def measure(circuit: Published) -> Measured:
    """Map a circuit to cells and measure it.

    Raises:
        energy.EnergyError: If a tool is missing or fails.
    """
    tools = synthesis.find_tools()
    netlist = synthesis.synthesise(tools, verilog(circuit), top=_TOP).netlist
    pairs = stimulus.all_pairs(*[stimulus.operand_values(_BITS, signed=True)] * 2)
    found = as_values(simulation.compute(netlist, _codes(pairs))["p"], 2 * _BITS, signed=True)
    drawn = stimulus.random_pairs("uniform", "signed", _BITS, _BITS)
    toggles = simulation.count_toggles(netlist, _codes(drawn))
    energies = [
        float(simulation.cell_energies_fj(netlist, tools.library, counted).sum())
        for counted in (toggles.per_net, toggles.settled_per_net)
    ]
    return Measured(
        energy_fj=energies[0],
        settled_energy_fj=energies[1],
        area_um2=float(simulation.cell_areas_um2(netlist).sum()),
        worst_error=int(np.abs(found - pairs.activations * pairs.weights).max()),
    )


def verilog(circuit: Published) -> str:
    """Write a circuit as an array of carry-save adders and a ripple-carry adder, as published."""
    found = Circuit(_TOP, {"a": _BITS, "w": _BITS})
    a, w = found.port("a"), found.port("w")
    constant = {place for place in range(2 * _BITS) if circuit.constant >> place & 1}
    sums: dict[int, Bit] = {}
    carries: dict[int, Bit] = {}

    def taken(place: int) -> Bit:
        """Take what a column holds so far; at the first free place, its constant."""
        if place not in sums and place in constant:
            constant.discard(place)
            return True
        return sums.get(place, False)

    for row in range(circuit.rows, _BITS):
        next_carries: dict[int, Bit] = {}
        for column in range(max(circuit.columns, circuit.diagonal - row), _BITS):
            product = found.all_of(a[row], w[column])
            if (row == _BITS - 1) != (column == _BITS - 1):
                product = found.invert(product)
            place = row + column
            sums[place], next_carries[place + 1] = found.full_add(taken(place), carries.pop(place, False), product)
        carries |= next_carries
    total: list[Bit] = []
    carry: Bit = False
    for place in range(2 * _BITS):
        sum_bit, carry = found.full_add(taken(place), carries.get(place, False), carry)
        total.append(sum_bit)
    assert not constant
    found.drive("p", total)
    return found.verilog()


def table() -> str:
    """Format published and measured figures relative to the exact circuit."""
    found = {name: measure(circuit) for name, circuit in CIRCUITS.items()}
    exact, exact_found = CIRCUITS[EXACT], found[EXACT]
    rows = [
        "| circuit | power, published | energy, measured | without glitches | area, published | measured |",
        "|---|---|---|---|---|---|",
    ]
    for name, circuit in CIRCUITS.items():
        figures = (
            circuit.power_mw / exact.power_mw,
            found[name].energy_fj / exact_found.energy_fj,
            found[name].settled_energy_fj / exact_found.settled_energy_fj,
            circuit.area_um2 / exact.area_um2,
            found[name].area_um2 / exact_found.area_um2,
        )
        rows.append(f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
    return "\n".join(rows)


def _codes(pairs: stimulus.Pairs) -> dict[str, Codes]:
    return {"a": pairs.activations & (2**_BITS - 1), "w": pairs.weights & (2**_BITS - 1)}
