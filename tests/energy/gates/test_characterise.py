"""From a table and a name to figures, and what the proof catches."""

import numpy as np
import pytest

from energy import WorkloadError
from energy.area import SHIFTER_AREA_PER_BIT
from energy.cost_table import exact_rows
from energy.gates import (
    Exact,
    Expected,
    GateProofError,
    GateToolError,
    Tools,
    characterise,
    characterise_built,
    find_tools,
)
from energy.gates.characterise import Meter, as_values, encoder_of, prove, sign_and_magnitude
from energy.gates.requantiser import shifter
from energy.gates.simulation import cell_areas_um2, cell_energies_fj, compute, count_toggles
from energy.gates.stimulus import (
    KINDS,
    OPERATIONS,
    Pairs,
    operand_values,
    random_pairs,
    staying_pairs,
    weight_values,
)
from energy.gates.synthesis import Tools as ToolPaths
from energy.gates.synthesis import synthesise
from energy.gates.verilog import Operands, designs
from energy.unit_energies import SHIFT_BITS, SHIFT_PER_BIT


def exact(form: str = "layer", bits: int = 4) -> Expected:
    signed = np.arange(2**bits)
    signed = np.where(signed >= 2 ** (bits - 1), signed - 2**bits, signed)
    unsigned = np.arange(2**bits)
    activations = signed if form == "signed" else unsigned
    weights = unsigned if form == "unsigned" else signed
    table = activations[:, None] * weights[None, :]
    return Expected(form=form, weight_bits=bits, activation_bits=bits, table=table)


@pytest.mark.process
@pytest.mark.parametrize("form", ["layer", "unsigned", "signed"])
def test_the_exact_multiplier_in_every_form(tools: Tools, form: str) -> None:
    row = characterise(tools, "exact", exact(form))
    assert row.key == (form, 4, 4)
    assert row.shared_area_um2 == 0
    assert 30 < row.cells < 120
    assert 0 < row.energy_held_fj < row.energy_recorded_fj < row.energy_uniform_fj


@pytest.mark.process
@pytest.mark.parametrize(("name", "bits"), [("exact", 8), ("exact", 4), ("drum-4", 8), ("truncated-4", 6)])
def test_what_a_product_costs_is_linear_in_how_often_its_weight_changes(tools: Tools, name: str, bits: int) -> None:
    operands = Operands(form="layer", weight_bits=bits, activation_bits=bits, product_bits=2 * bits)
    design = designs(name, operands)[0]
    netlist = synthesise(tools, design.verilog, top="multiplier").netlist
    function = Exact(weight_bits=bits, activation_bits=bits)  # of which only the operands are used
    encode = encoder_of(design, function)
    row = Meter(tools, netlist).row(function, encode, name=name)
    for uses in (2, 8, 64):
        pairs = staying_pairs(uses, "layer", bits, bits)
        toggles = count_toggles(netlist, encode(pairs)).per_net
        found = float(cell_energies_fj(netlist, tools.library, toggles).sum())
        linear = row.energy_held_fj + (row.energy_recorded_fj - row.energy_held_fj) / uses
        assert found == pytest.approx(linear, rel=0.02), uses


@pytest.mark.process
def test_wide_exact_multipliers_are_proved_by_random_and_extreme_pairs(tools: Tools) -> None:
    wide = Exact(weight_bits=10, activation_bits=3)
    row = characterise(tools, "exact", wide)
    assert row.key == ("layer", 10, 3)
    assert row.energy_held_fj < row.energy_recorded_fj < row.energy_uniform_fj
    assert {0, 1, 2**3 - 1} <= set(wide.pairs.activations.tolist())
    assert {0, 1, -1, 2**9 - 1, 1 - 2**9} <= set(wide.pairs.weights.tolist())


@pytest.mark.process
def test_narrow_operands_in_a_wide_circuit_cost_more_than_in_their_own(tools: Tools) -> None:
    narrower = [Exact(weight_bits=bits, activation_bits=bits) for bits in (3, 5)]
    rows = list(characterise_built(tools, "exact", exact(bits=5), narrower))
    assert [row.key for row in rows] == [("5x5", 3, 3), ("5x5", 5, 5)]
    own = [characterise(tools, "exact", one) for one in narrower]
    assert rows[0].energy_recorded_fj > 1.2 * own[0].energy_recorded_fj
    assert rows[1].energy_recorded_fj == pytest.approx(own[1].energy_recorded_fj)
    assert rows[0].area_um2 == rows[1].area_um2 == own[1].area_um2


# The figures that `energy` uses without tools.
@pytest.mark.process
def test_turning_a_product_into_a_code_costs_what_is_charged(tools: Tools) -> None:
    unit = exact_rows()["layer", 8, 8]
    random = np.random.default_rng(0)
    for bits in (24, 32, 40, 48):
        netlist = synthesise(tools, shifter(bits, SHIFT_BITS, 8), top="shifter").netlist
        products = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), OPERATIONS + 1)
        distances = random.integers(8, 32, OPERATIONS + 1)
        codes = {"x": products & (2**bits - 1), "s": distances}
        shifted = (products >> distances) + 1 >> 1  # halves are rounded up
        assert (compute(netlist, codes)["y"] == np.clip(shifted, 0, 255)).all()
        fj = cell_energies_fj(netlist, tools.library, count_toggles(netlist, codes).per_net).sum()
        assert fj / bits / unit.energy_uniform_fj == pytest.approx(SHIFT_PER_BIT, rel=0.15)
        assert cell_areas_um2(netlist).sum() / bits / unit.area_um2 == pytest.approx(SHIFTER_AREA_PER_BIT, rel=0.15)


@pytest.mark.process
def test_what_is_exact_for_its_operands_is_built_as_the_exact_one(tools: Tools) -> None:
    expected = exact(bits=3)
    first, second = (characterise(tools, name, expected) for name in ("exact", "drum-6"))
    assert second.name == "drum-6"
    assert (first.area_um2, first.energy_recorded_fj) == (second.area_um2, second.energy_recorded_fj)


@pytest.mark.process
def test_a_wrong_circuit_is_caught(tools: Tools) -> None:
    expected = exact(bits=3)
    design, *_ = designs("exact", expected.operands)

    def encode(pairs: Pairs) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
        return {"a": pairs.activations, "w": sign_and_magnitude(pairs.weights, 3)}

    prove(tools, synthesise(tools, design.verilog, top="multiplier"), expected, encode, name="exact")
    mutants = 0
    lines = design.verilog.splitlines()
    for number, line in enumerate(lines):
        if "&" not in line:
            continue
        mutant = "\n".join([*lines[:number], line.replace("&", "|"), *lines[number + 1 :]])
        synthesised = synthesise(tools, mutant, top="multiplier")
        if mutants < 4:
            with pytest.raises(GateProofError, match=r"is wrong for \d+ of 56 pairs by Icarus Verilog: \d x"):
                prove(tools, synthesised, expected, encode, name="mutant")
        mutants += 1
    assert mutants > 4


@pytest.mark.process
def test_a_wrong_table_is_caught(tools: Tools) -> None:
    table = exact(bits=3).table.copy()
    table[7, 3] += 1
    with pytest.raises(GateProofError, match=r"1 of 56 pairs by Icarus Verilog: 7 x 3 gives 21, not 22"):
        characterise(tools, "exact", Expected(form="layer", weight_bits=3, activation_bits=3, table=table))


@pytest.mark.process
def test_shared_cells_are_counted_separately(tools: Tools) -> None:
    weights = operand_values(4, signed=True)
    # With the alphabets 1 and 3, 5 (0101) is decoded as 1 and 7 (0111) as 3; -8 has no sign and magnitude.
    decoded = np.sign(weights) * np.array([0, 1, 2, 3, 4, 1, 6, 3, 8])[np.abs(weights)]
    table = np.arange(16)[:, None] * decoded[None, :]
    held = np.where(decoded == weights, weights, 0)
    found = characterise(
        tools, "asm-1-3", Expected(form="layer", weight_bits=4, activation_bits=4, table=table, held_weights=held)
    )
    assert found.shared_area_um2 > 0
    assert found.shared_energy_uniform_fj > 0
    assert found.energy_uniform_fj > 0


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nonsense", "is not in the catalogue"),
        ("asm-1-5", "alphabet sets are asm-1, asm-1-3"),
        ("drum", "is not in the catalogue"),
    ],
)
def test_unknown_names(name: str, complaint: str) -> None:
    with pytest.raises(WorkloadError, match=complaint):
        designs(name, Operands(form="layer", weight_bits=4, activation_bits=4, product_bits=8))


def test_what_cannot_be_meant() -> None:
    with pytest.raises(WorkloadError, match="form must be one of layer, unsigned, signed, got 'other'"):
        Operands(form="other", weight_bits=4, activation_bits=4, product_bits=8)
    with pytest.raises(WorkloadError, match=r"has shape \(16, 8\), got \(8, 16\)"):
        Expected(form="layer", weight_bits=3, activation_bits=4, table=np.zeros((8, 16), dtype=np.int32))
    with pytest.raises(WorkloadError, match=r"held_weights has shape \(8,\)"):
        Expected(
            form="layer",
            weight_bits=3,
            activation_bits=3,
            table=np.zeros((8, 8), dtype=np.int32),
            held_weights=np.zeros(4, dtype=np.int32),
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["layer", "unsigned", "signed"])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_random_operands_exist_and_are_the_same_again(kind: str, form: str, bits: int) -> None:
    pairs, again = (random_pairs(kind, form, bits, bits) for _ in range(2))  # type: ignore[arg-type]
    assert len(pairs.weights) == len(pairs.activations) == OPERATIONS + 1
    assert set(pairs.weights) <= set(weight_values(form, bits))
    assert (pairs.weights == again.weights).all()
    if kind == "uniform":
        counts = np.bincount(pairs.weights - pairs.weights.min())
        assert counts.min() > 0.4 * OPERATIONS / len(counts)
    else:  # products with a zero are counted apart
        assert pairs.activations.all()
        assert pairs.weights.all()
        assert (np.abs(pairs.activations) <= 2 ** (bits - 2)).mean() > 0.5  # most of a network's are small
    if kind == "held":
        assert (pairs.weights[:64] == pairs.weights[0]).all()


def test_codes_and_values() -> None:
    assert as_values(np.array([0, 7, 8, 15]), 4, signed=True).tolist() == [0, 7, -8, -1]
    assert as_values(np.array([8]), 4, signed=False).tolist() == [8]
    assert sign_and_magnitude(np.array([3, -3, 0]), 4).tolist() == [3, 11, 0]


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CROSSLAYER_CELL_LIBRARY", str(tmp_path))
    with pytest.raises(GateToolError, match=r"needs yosys, iverilog, vvp, .*apt-get install yosys iverilog qflow"):
        find_tools()


@pytest.mark.process
def test_a_tool_that_fails(tools: Tools) -> None:
    false = ToolPaths(
        yosys=tools.cell_models,  # no program
        iverilog=tools.iverilog,
        vvp=tools.vvp,
        liberty=tools.liberty,
        cell_models=tools.cell_models,
    )
    with pytest.raises(GateToolError, match="cannot be started"):
        synthesise(false, "module m; endmodule", top="m")
