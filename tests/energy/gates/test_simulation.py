"""Two simulators, and energies that can be worked out by hand."""

import numpy as np
import pytest

from energy.gates import Tools
from energy.gates.arithmetic import add_columns, partial_products
from energy.gates.circuit import Circuit
from energy.gates.simulation import cell_areas_um2, cell_energies_fj, compute, count_toggles, pack, unpack
from energy.gates.synthesis import Synthesised, simulate_independently, synthesise


def _multiplier(tools: Tools, bits: int) -> Synthesised:
    circuit = Circuit("m", {"a": bits, "w": bits})
    circuit.drive("p", add_columns(circuit, partial_products(circuit, circuit.port("a"), circuit.port("w"))))
    return synthesise(tools, circuit.verilog(), top="m")


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
def test_packing_keeps_codes(count: int) -> None:
    codes = np.random.default_rng(0).integers(0, 2**9, count)
    assert pack(codes, 9).shape == (9, -(-count // 64))
    assert (unpack(pack(codes, 9), count) == codes).all()


@pytest.mark.process
def test_both_simulators_agree_with_arithmetic(tools: Tools) -> None:
    design = _multiplier(tools, 5)
    a, w = np.divmod(np.arange(2**10), 2**5)
    assert (compute(design.netlist, {"a": a, "w": w})["p"] == a * w).all()
    assert (simulate_independently(tools, design, {"a": a, "w": w}, "p") == a * w).all()


@pytest.mark.process
def test_an_inverter_by_hand(tools: Tools) -> None:
    design = synthesise(tools, "module m(input [0:0] a, output [0:0] y); assign y = ~a; endmodule", top="m")
    codes = {"a": np.array([0, 1, 1, 0, 1])}  # three changes in four operations
    toggles = count_toggles(design.netlist, codes)
    assert toggles.per_net[design.netlist.inputs["a"]] == pytest.approx(0.75)
    assert toggles.per_net[design.netlist.outputs["y"]] == pytest.approx(0.75)
    (group,) = design.netlist.levels
    pin = group.cell.inputs["A"] * 1.8**2 / 2
    inside = group.cell.outputs["Y"].internal_pj.at(0.0)
    found = cell_energies_fj(design.netlist, tools.library, toggles.per_net)
    assert found == pytest.approx([0.75 * 1e3 * (pin + inside)])
    assert cell_areas_um2(design.netlist).tolist() == [group.cell.area_um2]


@pytest.mark.process
def test_what_does_not_change_costs_nothing(tools: Tools) -> None:
    design = _multiplier(tools, 4)
    still = np.full(100, 11)
    toggles = count_toggles(design.netlist, {"a": still, "w": still})
    assert toggles.per_net.sum() == 0


@pytest.mark.process
def test_glitches_are_counted_and_settle(tools: Tools) -> None:
    design = _multiplier(tools, 6)
    draws = np.random.default_rng(0).integers(0, 64, (2, 3001))
    toggles = count_toggles(design.netlist, {"a": draws[0], "w": draws[1]})
    extra = toggles.per_net - toggles.settled_per_net
    assert (extra > -1e-12).all()
    assert 1.2 < toggles.per_net.sum() / toggles.settled_per_net.sum() < 3
    # A glitch is two toggles more: the parity of toggles is that of having changed.
    count = len(draws[0]) - 1
    assert np.allclose(np.round(extra * count) % 2, 0)


@pytest.mark.process
def test_a_short_pulse_is_swallowed(tools: Tools) -> None:
    # a & ~a pulses for as long as one inverter takes, which the slower gate behind it does not see.
    text = """
module m(input [0:0] a, output [0:0] y);
    wire n;
    INVX1 first (.A(a), .Y(n));
    AND2X1 second (.A(a), .B(n), .Y(y));
endmodule
"""
    design = synthesise(tools, text, top="m", mapped=True)
    toggles = count_toggles(design.netlist, {"a": np.array([0, 1] * 50)})
    assert len(design.netlist.cell_names) == 2
    assert toggles.per_net[design.netlist.outputs["y"]] == pytest.approx(0.0)


@pytest.mark.process
def test_equal_inputs_equal_figures(tools: Tools) -> None:
    first, second = (_multiplier(tools, 5) for _ in range(2))
    assert first.verilog == second.verilog
