"""Tables of the costs of multipliers in gates: `python -m benchmarks.multiplier_energy`.

Writes four tables into docs/multiplier-energy.md: the shipped figures for 8-bit operands; the exact multiplier by
width; circuits with published power; and whole neurons of alphabet sets (multiplier, adder and the register of the sum)
next to published figures. The last also go to benchmarks/neurons.json, and 16-bit multipliers to
benchmarks/sixteen_bits.json. Needs Yosys and the cell library for the last three.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

import approx
from benchmarks import published_power
from energy import load_technology
from energy.cost_table import LANES_PER_BANK, multiplier_cost
from energy.exact_multiplier import exact_cost
from energy.gates import simulation, stimulus, synthesis, verilog
from energy.gates.arithmetic import add
from energy.gates.characterise import as_values, sign_and_magnitude
from energy.gates.circuit import Circuit
from search.multipliers.characterisation import catalogue_names

DOCUMENT = Path(__file__).parents[1] / "docs" / "multiplier-energy.md"
NEURONS = Path(__file__).parent / "neurons.json"
SIXTEEN_BITS = Path(__file__).parent / "sixteen_bits.json"
GUARD_BITS = 8  # extra bits of the accumulator beyond the product
WIDTHS = (12, 8, 4)
SETS = ("asm-1", "asm-1-3", "asm-1-3-5-7")
# Energy saved by the neuron, in percent, at 12, 8 and 4 bits: Sarwar et al., ACM JETC 14(2), 2018, 45 nm, iso-speed.
# It is not known how many alphabets the second row is for.
PUBLISHED = {"alphabet {1}": (33, 32, 25), "with pre-computers": (24, 26, 17)}
# The library's flip-flop, DFFPOSX1, in fJ, at its fastest edges and least load: in each cycle inside for both edges of
# the clock, and for charging the clock pin of 0.028 pF to 1.8 V and back; for a transition of D inside and at its pin;
# for one of Q inside.
CLOCK_FJ = 7 + 110 + 90
D_FJ, Q_FJ = 67 + 14, 50


def main() -> None:
    """Measure and write the tables."""
    _write("relative figures", relative_table())
    _write("exact widths", exact_table())
    SIXTEEN_BITS.write_text(json.dumps(sixteen_bits_fj(), indent=1) + "\n", encoding="utf-8")
    _write("published power", published_power.table())
    saved = neuron_savings()
    NEURONS.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    _write("neurons", neuron_table(saved))


def relative_table() -> str:
    """Format the shipped figures for 8-bit operands, relative to the exact multiplier."""
    rows = [
        "| multiplier | layer: recorded | weight held | uniform | area "
        "| unsigned: uniform | area | signed: uniform | area |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in catalogue_names():
        layer, unsigned, signed = (
            multiplier_cost(name, weight_bits=8, activation_bits=8, form=form)
            for form in ("layer", "unsigned", "signed")
        )
        figures = [layer.relative_energy, layer.relative_energy_held, layer.relative_energy_uniform]
        figures += [layer.relative_area, unsigned.relative_energy_uniform, unsigned.relative_area]
        figures += [signed.relative_energy_uniform, signed.relative_area]
        rows.append(f"| {name} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |")
    return "\n".join(rows)


def exact_table() -> str:
    """Format what the exact multiplier of w by w bits takes, over that of 8 by 8, next to the published law."""
    technology = load_technology("45nm")
    rows = [
        "| bits | weight new | weight held | random | area | quadratic law | in 8 x 8 bits: weight new | weight held |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for bits in (2, 3, 4, 5, 6, 7, 8, 12, 16):
        cost = exact_cost(bits, bits)
        figures = [cost.recorded, cost.held, cost.uniform, cost.area, technology.multiply_by_law(bits, bits)]
        inside = exact_cost(bits, bits, "8x8") if bits <= 8 else None
        shown = [f"{figure:.3g}" for figure in figures]
        shown += ["", ""] if inside is None else [f"{inside.recorded:.3g}", f"{inside.held:.3g}"]
        rows.append(f"| {bits} | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def sixteen_bits_fj() -> dict[str, float]:
    """Measure unsigned 16-bit multipliers with random operands: two exact ones and members of DRUM.

    Raises:
        RuntimeError: If a product is wrong.
    """
    tools, bits = synthesis.find_tools(), 16
    random = np.random.default_rng(stimulus.SEED)
    a, w = random.integers(0, 2**bits, (2, stimulus.OPERATIONS + 1))
    operands = verilog.Operands(form="unsigned", weight_bits=bits, activation_bits=bits, product_bits=2 * bits)
    found: dict[str, float] = {}
    for name in ("exact", *(f"drum-{kept}" for kept in (5, 6, 7, 8))):
        for design in verilog.designs(name, operands):
            netlist = synthesis.synthesise(tools, design.verilog, top=verilog.TOP, parts=design.parts).netlist
            products = simulation.compute(netlist, {"a": a, "w": w})["p"]
            kept = int(name.partition("-")[2] or bits)
            if (products != _leading(a, kept) * _leading(w, kept)).any():
                raise RuntimeError(f"a 16-bit {name} computes wrong products")
            toggles = simulation.count_toggles(netlist, {"a": a, "w": w}).per_net
            known_as = {"magnitudes": "tree", "carry-save array": "array"}[design.description]
            energy_fj = float(simulation.cell_energies_fj(netlist, tools.library, toggles).sum())
            found[known_as if name == "exact" else name] = round(energy_fj, 1)
    return found


def _leading(values: simulation.Codes, kept: int) -> simulation.Codes:
    """Keep the leading bits of numbers, the last of them set if others follow, as DRUM does."""
    shift = np.maximum(np.frexp(values)[1].astype(np.int64) - kept, 0)
    return np.where(shift > 0, (values >> shift | 1) << shift, values)


def neuron_savings() -> dict[str, dict[str, dict[str, float]]]:
    """Measure the energy saved by neurons of alphabet sets, in percent: operands -> multiplier -> bits -> saving."""
    saved: dict[str, dict[str, dict[str, float]]] = {}
    for kind in stimulus.KINDS:
        exact = {bits: min(neuron_energies_fj("exact", bits, kind)) for bits in WIDTHS}
        saved[kind] = {
            name: {
                str(bits): round(100 * (1 - min(neuron_energies_fj(name, bits, kind)) / exact[bits]), 2)
                for bits in WIDTHS
            }
            for name in SETS
        }
    return saved


def neuron_table(saved: dict[str, dict[str, dict[str, float]]]) -> str:
    """Format the savings next to the published ones."""
    rows = [
        "| neuron | operands | 12 bits | 8 bits | 4 bits |",
        "|---|---|---|---|---|",
    ]
    for kind, sets in saved.items():
        for name, found in sets.items():
            rows.append(f"| {name} | {kind} | " + " | ".join(f"{found[str(bits)]:.0f}" for bits in WIDTHS) + " |")
    rows += [f"| published, {name} | | " + " | ".join(map(str, known)) + " |" for name, known in PUBLISHED.items()]
    return "\n".join(rows)


def neuron_energies_fj(name: str, bits: int, kind: stimulus.Kind) -> list[float]:
    """Measure the energy of multiplication, accumulation and the sum's register, for every design of the multiplier.

    Raises:
        RuntimeError: If a circuit's sums are wrong.
    """
    tools = synthesis.find_tools()
    multiplier = approx.find_multiplier(name, weight_bits=bits, activation_bits=bits, activation_signed=False)
    product_bits, sum_bits = 2 * bits, 2 * bits + GUARD_BITS
    operands = verilog.Operands(form="layer", weight_bits=bits, activation_bits=bits, product_bits=product_bits)
    pairs = stimulus.random_pairs(kind, "layer", bits, bits)
    held = multiplier.constrain(multiplier.weight_values).numpy().astype(np.int64)
    weights = held[pairs.weights & (2**bits - 1)]
    products = pairs.activations * weights
    before = np.concatenate([[0], np.cumsum(products)[:-1]])
    energies = []
    for design in verilog.designs(name, operands):
        twos_complement = design.description == verilog.TWOS_COMPLEMENT
        codes = {
            "a": pairs.activations,
            "w": weights & (2**bits - 1) if twos_complement else sign_and_magnitude(weights, bits),
            "before": before & (2**sum_bits - 1),
        }
        synthesised = synthesis.synthesise(
            tools,
            f"{design.verilog}\n{_accumulator(product_bits, sum_bits)}\n{_neuron(bits, product_bits, sum_bits)}",
            top="neuron",
            parts=(*design.parts, "accumulator") if design.parts else (verilog.TOP, "accumulator"),
        )
        got = as_values(simulation.compute(synthesised.netlist, codes)["after"], sum_bits, signed=True)
        wanted = as_values((before + products) & (2**sum_bits - 1), sum_bits, signed=True)
        if (got != wanted).any():
            raise RuntimeError(f"a neuron of {name!r} with {bits} bits computes wrong sums")
        stays = pairs.weights[1:] == pairs.weights[:-1] if kind == "held" else None
        toggles = simulation.count_toggles(synthesised.netlist, codes, stays)
        by_cell = simulation.cell_energies_fj(synthesised.netlist, tools.library, toggles.per_net)
        after = synthesised.netlist.outputs["after"]
        register_fj = float(sum_bits * CLOCK_FJ)
        register_fj += D_FJ * float(toggles.per_net[after].sum()) + Q_FJ * float(toggles.settled_per_net[after].sum())
        shared = np.array([f"{verilog.SHARED}." in cell for cell in synthesised.netlist.cell_names], dtype=np.bool_)
        energies.append(register_fj + float(by_cell[~shared].sum() + by_cell[shared].sum() / LANES_PER_BANK))
    return energies


def _accumulator(product_bits: int, sum_bits: int) -> str:
    circuit = Circuit("accumulator", {"p": product_bits, "before": sum_bits})
    product = circuit.port("p")
    extended = [*product, *[product[-1]] * GUARD_BITS]
    circuit.drive("after", add(circuit, circuit.port("before"), extended, width=sum_bits))
    return circuit.verilog()


def _neuron(bits: int, product_bits: int, sum_bits: int) -> str:
    return f"""\
module neuron (
    input [{bits - 1}:0] a,
    input [{bits - 1}:0] w,
    input [{sum_bits - 1}:0] before,
    output [{sum_bits - 1}:0] after
);
    wire [{product_bits - 1}:0] p;
    {verilog.TOP} {verilog.TOP} (.a(a), .w(w), .p(p));
    accumulator accumulator (.p(p), .before(before), .after(after));
endmodule
"""


def _write(marker: str, text: str) -> None:
    pattern = re.compile(rf"(<!-- {marker}: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(pattern.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", document), encoding="utf-8")


if __name__ == "__main__":
    main()
