"""Circuits compute what the emulator does; the built-in table is reproducible; custom multipliers."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml

import approx
from energy import gates
from energy.cost_table import CostKey, CostRow, array_rows, shipped_rows
from energy.gates.characterise import Meter, as_values, encoder_of
from energy.gates.simulation import compute
from energy.gates.synthesis import synthesise
from energy.gates.verilog import TOP, TWOS_COMPLEMENT, designs
from search.multipliers.characterisation import SHIPPED_KEYS, catalogue_names, characterise_rows, expected
from search.multipliers.shipped_table import write_shipped_table


def test_the_table_has_the_whole_catalogue() -> None:
    assert set(catalogue_names()) == {row.name for row in shipped_rows()}
    assert set(approx.multiplier_names()) <= set(catalogue_names())
    searched = {("8x8", w, a) for form, w, a in SHIPPED_KEYS if form == "layer"}
    for name in catalogue_names():
        keys = {row.key for row in shipped_rows() if row.name == name}
        assert {*SHIPPED_KEYS} | searched <= keys
        assert name == "exact" or keys == {*SHIPPED_KEYS} | searched


@pytest.mark.process
@pytest.mark.parametrize("key", [("layer", 8, 8), ("layer", 5, 3), ("unsigned", 8, 8), ("signed", 8, 8)])
@pytest.mark.parametrize("name", [*catalogue_names(), "drum-7", "broken-array-3-5", "truncated-compensated-9"])
def test_circuits_compute_what_the_emulator_does(tools: gates.Tools, name: str, key: CostKey) -> None:
    wanted = expected(name, key)
    pairs = wanted.pairs
    for design in designs(name, wanted.operands):
        netlist = synthesise(tools, design.verilog, top=TOP, parts=design.parts).netlist
        raw = compute(netlist, encoder_of(design, wanted)(pairs))["p"]
        found = as_values(raw, len(netlist.outputs["p"]), signed=key[0] != "unsigned")
        assert (found == wanted.products(pairs)).all()
        if key[0] == "layer":
            # Minus zero, which a failed sign makes of zero; in two's complement its code is the most negative weight.
            activations = np.arange(2**wanted.activation_bits)
            lowest = 2 ** (wanted.weight_bits - 1)
            raw = compute(netlist, {"a": activations, "w": np.full_like(activations, lowest)})["p"]
            negative = design.description == TWOS_COMPLEMENT
            products = -lowest * activations if negative else -wanted.table[:, 0]
            assert (as_values(raw, len(netlist.outputs["p"]), signed=True) == products).all()


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("exact", ("layer", 4, 4)),
        ("momeni", ("layer", 8, 8)),
        ("asm-1-3", ("layer", 8, 5)),
        ("drum-3", ("unsigned", 8, 8)),
        ("truncated-compensated-4", ("signed", 8, 8)),
    ],
)
def test_rows_are_reproduced(tools: gates.Tools, name: str, key: CostKey) -> None:
    told = yaml.safe_load(files("energy").joinpath("multipliers.provenance.yaml").read_text())
    if told["tools"] != gates.tool_versions(tools):
        pytest.skip(f"the table was made with {told['tools']}")
    (row,) = characterise_rows(tools, [name], [key])
    (shipped,) = (one for one in shipped_rows() if one.name == name and one.key == key)
    for column in CostRow.__slots__:
        value = getattr(row, column)
        assert getattr(shipped, column) == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value)


@pytest.mark.process
@pytest.mark.parametrize("key", [("layer", 4, 3), ("unsigned", 8, 8), ("signed", 8, 8)])
def test_rows_of_exact_arrays_are_reproduced(tools: gates.Tools, key: CostKey) -> None:
    told = yaml.safe_load(files("energy").joinpath("multipliers.provenance.yaml").read_text())
    if told["tools"] != gates.tool_versions(tools):
        pytest.skip(f"the table was made with {told['tools']}")
    form, weight_bits, activation_bits = key
    function = gates.Exact(form=form, weight_bits=weight_bits, activation_bits=activation_bits)
    row = gates.characterise(tools, "exact-array", function)  # which proves it
    shipped = array_rows()[key]
    for column in CostRow.__slots__:
        value = getattr(row, column)
        assert getattr(shipped, column) == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value)


@pytest.mark.process
def test_the_table_is_written_with_its_provenance(tools: gates.Tools, tmp_path: Path) -> None:
    keys: tuple[CostKey, ...] = (("layer", 3, 3), ("layer", 8, 8))
    seen: list[tuple[int, int]] = []
    rows = characterise_rows(tools, ["ssm-3"], keys, on_row=lambda done, total: seen.append((done, total)))
    assert [row.key for row in rows] == [("layer", 3, 3)]  # three bits are less than half of eight
    assert seen == [(1, 1)]
    table, provenance, arrays = write_shipped_table(tools, tmp_path / "new", rows, rows)
    assert table.read_text().count("\n") == arrays.read_text().count("\n") == 2
    shipped = yaml.safe_load(files("energy").joinpath("multipliers.provenance.yaml").read_text())
    assert set(yaml.safe_load(provenance.read_text())) == set(shipped)


@pytest.mark.parametrize("name", catalogue_names())
@pytest.mark.parametrize("key", [("layer", 8, 8), ("layer", 5, 3), ("signed", 8, 8)])
def test_the_proof_covers_the_weights_that_only_faults_make(name: str, key: CostKey) -> None:
    form, weight_bits, activation_bits = key
    pairs = expected(name, key).pairs
    weights = 2**weight_bits - (form == "layer")  # the most negative has no sign and magnitude
    assert len(set(zip(pairs.activations.tolist(), pairs.weights.tolist(), strict=True))) == weights << activation_bits


@pytest.mark.process
@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(8, 4), (8, 5), (4, 2), (3, 2)])
def test_the_exact_multiplier_takes_weights_as_its_cheapest_circuit_does(
    tools: gates.Tools, weight_bits: int, activation_bits: int
) -> None:
    function = gates.Exact(weight_bits=weight_bits, activation_bits=activation_bits)
    energies = {}
    for design in designs("exact", function.operands):
        netlist = synthesise(tools, design.verilog, top=TOP, parts=design.parts).netlist
        row = Meter(tools, netlist).row(function, encoder_of(design, function), name="exact")
        energies[design.description] = row.energy_recorded_fj
    cheapest = min(energies, key=lambda description: energies[description])
    multiplier = approx.find_multiplier(
        "exact", weight_bits=weight_bits, activation_bits=activation_bits, activation_signed=False
    )
    assert (multiplier.weight_format == "twos-complement") == (cheapest == TWOS_COMPLEMENT)
