"""Two simulators, and energies that can be worked out by hand."""

import numpy as np
import pytest

from energy.gates import Tools
from energy.gates.arithmetic import add_columns, partial_products
from energy.gates.circuit import Circuit
from energy.gates.liberty import Output, Words
from energy.gates.netlist import ONE, Netlist
from energy.gates.simulation import (
    STEP_NS,
    Codes,
    Operations,
    ToggleCounter,
    cell_areas_um2,
    cell_energies_fj,
    compute,
    count_toggles,
    pack,
    unpack,
)
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


def toggles_step_by_step(netlist: Netlist, operands: dict[str, Codes]) -> list[int]:
    """Toggles of each net by the definition: every output in every step, with all that its inputs called for."""
    loads = netlist.loads_pf()
    cells = [
        (group.cell.outputs[pin], {name: int(wired[place]) for name, wired in group.inputs.items()}, int(net))
        for group in netlist.levels
        for pin, nets in group.outputs.items()
        for place, net in enumerate(nets)
    ]
    values = np.zeros((netlist.net_count, len(operands["a"]) - 1), dtype=np.uint64)  # of which the lowest bit counts
    values[ONE] = 1

    def called_for(output: Output, inputs: dict[str, int]) -> Words:
        return output.function({pin: values[net] for pin, net in inputs.items()}) & np.uint64(1)

    def put(port: str, codes: Codes) -> None:
        values[netlist.inputs[port]] = (codes >> np.arange(len(netlist.inputs[port]))[:, None]) & 1

    for port, codes in operands.items():
        put(port, codes[:-1])
    for output, inputs, net in cells:  # in an order of evaluation
        values[net] = called_for(output, inputs)
    toggles = np.zeros(netlist.net_count, dtype=np.int64)
    histories = [
        [values[net].copy()] * (max(1, round(float(output.delay_ns.at(loads[net])) / STEP_NS)) - 1)
        for output, _, net in cells
    ]
    before = values.copy()
    for port, codes in operands.items():
        put(port, codes[1:])
    for _ in range(400):  # far more steps than it takes to settle
        toggles += (before != values).sum(axis=1)
        before = values.copy()
        called = [called_for(output, inputs) for output, inputs, _ in cells]
        for place, (now, (_, _, net)) in enumerate(zip(called, cells, strict=True)):
            throughout = [*histories[place], now]
            values[net] = np.where((np.array(throughout) == now).all(axis=0), now, values[net])
            histories[place] = throughout[1:]
    return [int(count) for count in toggles]


@pytest.mark.process
def test_leaving_out_what_cannot_change_changes_nothing(tools: Tools) -> None:
    netlist = _multiplier(tools, 4).netlist
    draws = np.random.default_rng(0).integers(0, 16, (2, 101))
    codes = {"a": draws[0], "w": draws[1]}
    found = count_toggles(netlist, codes).per_net * 100
    assert found.round(6).tolist() == toggles_step_by_step(netlist, codes)


@pytest.mark.process
def test_sequences_are_counted_together_as_they_are_alone(tools: Tools) -> None:
    netlist = _multiplier(tools, 4).netlist
    draws = np.random.default_rng(1).integers(0, 16, (2, 2, 71))
    stays = np.arange(70) % 7 > 0
    together = [
        Operations(operands={"a": draws[0, 0], "w": draws[0, 1]}),
        Operations(operands={"a": draws[1, 0], "w": draws[1, 1]}, counted=stays),
    ]
    for one, toggles in zip(together, ToggleCounter(netlist).count(together), strict=True):
        alone = count_toggles(netlist, dict(one.operands), one.counted)
        assert toggles.per_net.tolist() == alone.per_net.tolist()
        assert toggles.settled_per_net.tolist() == alone.settled_per_net.tolist()
    # What does not count is left out: these operations alone, in any order, toggle as much.
    counted = np.flatnonzero(stays)
    singles = [
        count_toggles(netlist, {"a": draws[1, 0, place : place + 2], "w": draws[1, 1, place : place + 2]}).per_net
        for place in counted
    ]
    assert count_toggles(netlist, dict(together[1].operands), stays).per_net == pytest.approx(np.mean(singles, axis=0))
