import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import matplotlib.image
import pytest
from click.testing import CliRunner
from rich.console import Console

import energy
import search
from approx import HYBRID_22NM, SILICON_14NM
from energy.hardware import FAILURES
from search.answers.energy import score
from search.cli.main import cli
from search.errors import UsageError
from search.evaluation.workload import workload_of
from search.report.energy_console import print_energy
from search.space.weight_memory import weight_memory
from search.store.database import Store
from search.store.records import Record

pytestmark = pytest.mark.slow  # searches


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small search."""
    storage = tmp_path_factory.mktemp("scoring") / "results.db"
    search.run(
        budget=6,
        seed=1,
        effort="quick",
        options=search.SearchOptions(confirm=False),
        workplace=search.Workplace(workers=0, storage=str(storage)),
    )
    return storage


@pytest.fixture(scope="module")
def records(storage: Path) -> list[Record]:
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        return store.evaluations.of_search(store.searches.find("digits-1"))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["energy", *arguments])
    return result.exit_code, result.output


def test_a_stored_evaluation_is_scored_as_it_was(storage: Path, records: list[Record]) -> None:
    baseline = records[0].evaluation.energy_pj
    for record in records:
        scored = score(record.id, storage=str(storage))
        evaluation = record.evaluation
        assert scored.report.energy_pj == pytest.approx(evaluation.energy_pj, rel=1e-12)
        assert scored.report.components == pytest.approx(dict(evaluation.components_pj), rel=1e-12)
        assert scored.report.latency_us == evaluation.latency_us
        assert evaluation.energy_range_pj == pytest.approx(
            (scored.report.energy_band.low, scored.report.energy_band.high), rel=1e-12
        )
        assert scored.report.area_mm2.value == pytest.approx(evaluation.area_mm2)
        saving = scored.saving
        assert saving is not None
        assert saving.low <= saving.value <= saving.high
        assert saving.value == pytest.approx(baseline / evaluation.energy_pj)


def test_densities_of_activations_were_measured(records: list[Record]) -> None:
    workload = records[0].evaluation.workload
    assert workload is not None
    image, *hidden = (layer["activation_density"] for layer in workload["layers"])
    assert 0.3 < image < 0.7  # half of a digit's pixels are background
    assert all(0 < density < 0.95 for density in hidden)  # after a ReLU


def test_other_hardware_keeps_the_share_of_the_voltage(storage: Path, records: list[Record]) -> None:
    record = next(one for one in records if one.evaluation.candidate.supply_v < 0.9)
    scored = score(record.id, storage=str(storage), hardware="hybrid-22nm")
    assert scored.workload.weight_memory_v == pytest.approx(record.evaluation.candidate.supply_v / 0.9 * 0.95)
    assert scored.report.energy_pj < record.evaluation.energy_pj
    assert scored.hardware.name == "hybrid-22nm"


def test_a_candidate_in_a_file_has_the_layers_of_its_network(
    storage: Path, records: list[Record], tmp_path: Path
) -> None:
    for number, record in enumerate(records):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({"candidate": record.evaluation.candidate.to_dict(), "energy_pj": 1.0}))
        scored = score(str(path))
        stored = record.evaluation.workload
        assert stored is not None
        found = scored.workload.to_dict()
        # How pruning shares its cuts among layers is not known before it is done.
        for layers in (found["layers"], stored["layers"]):
            assert sum(layer["nonzero_weights"] for layer in layers) == sum(
                layer["nonzero_weights"] for layer in stored["layers"]
            )
        same = {"activation_density": 1.0, "nonzero_weights": 1}
        dense = [layer | same for layer in stored["layers"]]
        assert {**found, "layers": [layer | same for layer in found["layers"]]} == {**stored, "layers": dense}
        if not record.evaluation.candidate.sparsity:
            assert scored.report.energy_pj >= record.evaluation.energy_pj  # no activation is taken to be zero
        assert "dense" in " ".join(scored.notes)


def test_faults_are_those_of_the_hardwares_memory(records: list[Record]) -> None:
    candidate = replace(records[-1].evaluation.candidate, supply_v=0.72, robust_bits=1)
    silicon, hybrid = (weight_memory(candidate, name) for name in ("silicon-14nm", "hybrid-22nm"))
    assert silicon == SILICON_14NM.at(0.72, robust_bits=1)
    assert hybrid == HYBRID_22NM.at(0.76, robust_bits=1)
    assert energy.load_hardware("hybrid-22nm").weight_failures == "hybrid-22nm"
    assert all(weight_memory(replace(candidate, supply_v=0.9), name).bit_error_rate == 0 for name in FAILURES)


def test_a_workload_of_ones_own(tmp_path: Path, records: list[Record]) -> None:
    path = tmp_path / "network.json"
    path.write_text(json.dumps(records[0].evaluation.workload))
    scored = score(str(path), hardware="output-stationary-45nm")
    assert scored.baseline is None
    assert scored.saving is None
    assert scored.workload.macs == records[0].evaluation.macs
    code, output = run("--candidate", str(path))
    assert code == 0
    assert "has no baseline" in output


def test_what_the_command_prints(storage: Path, records: list[Record], tmp_path: Path) -> None:
    picture = tmp_path / "energy.png"
    arguments = ["--candidate", records[-1].id, "--storage", str(storage), "--picture", str(picture)]
    code, output = run(*arguments)
    assert code == 0, output
    for words in (
        "MAC",
        "weights",
        "Energy:",
        "Saving:",
        "Latency:",
        "Dataflow:",
        "Memories:",
        "Area:",
        "100%",
        str(picture),
    ):
        assert words in output
    assert "…" not in output  # nothing is cut off
    for layer in score(records[-1].id, storage=str(storage)).report.layers:
        assert f"\n{layer} " in output
    assert matplotlib.image.imread(picture).std() > 0.05
    code, output = run(*arguments, "--json")
    assert code == 0
    content = json.loads(output)
    scored = score(records[-1].id, storage=str(storage))
    assert content["energy_pj"] == pytest.approx(sum(sum(parts.values()) for parts in content["layers_pj"].values()))
    assert content["energy_low_pj"] < content["energy_pj"] < content["energy_high_pj"]
    assert content["saving"]["value"] == pytest.approx(scored.saving.value if scored.saving else None)
    assert set(content["layers_pj"]) == {layer["name"] for layer in content["workload"]["layers"]}
    assert content["area_mm2"]["value"] > 0
    again = tmp_path / "again.json"
    again.write_text(output)
    assert score(str(again)).candidate == records[-1].evaluation.candidate


def test_the_saving_lies_within_every_mix_of_low_and_high(storage: Path, records: list[Record]) -> None:
    scored = score(records[-1].id, storage=str(storage))
    assert scored.saving is not None
    assert scored.baseline is not None
    for index in range(3):
        ratio = scored.baseline.energy_band[index] / scored.report.energy_band[index]
        assert scored.saving.low <= ratio * (1 + 1e-12)
        assert ratio <= scored.saving.high * (1 + 1e-12)
    bands = [one.component_bands for one in (scored.baseline, scored.report)]
    cheap = [sum(band[name][0 if name == "mac" else 2] for name in energy.COMPONENTS) for band in bands]
    assert scored.saving.low <= cheap[0] / cheap[1] <= scored.saving.high


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "must hold a JSON object, got list"),
        ("{}", "the candidate lacks the key 'family'"),
        ('{"candidate": {"family": 3}}', "lacks the key"),
        ('{"layers": []}', "the workload lacks the key 'weight_bits'"),
        ('{"layers": 1}', "needs a list of layers"),
    ],
)
def test_files_that_hold_no_candidate(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    code, output = run("--candidate", str(path))
    assert code == 2
    assert message in output


def test_other_mistakes(storage: Path, records: list[Record], tmp_path: Path) -> None:
    code, output = run("--candidate", "nowhere.json")
    assert (code, "cannot read nowhere.json: No such file" in output) == (2, True)
    code, output = run("--candidate", "abcd", "--storage", str(storage))
    assert code == 2
    code, output = run("--candidate", records[0].id, "--storage", str(storage), "--hardware", "tpu")
    assert (code, "unknown hardware 'tpu'" in output) == (2, True)
    code, output = run("--candidate", records[0].id, "--storage", str(storage), "--picture", str(storage / "x.png"))
    assert (code, f"cannot draw to {storage / 'x.png'}" in output) == (2, True)
    code, output = run("--candidate", records[0].id, "--storage", str(storage), "--picture", str(tmp_path / "x.doc"))
    assert (code, "cannot draw to" in output) == (2, True)


def test_an_evaluation_for_custom_hardware_needs_its_file(records: list[Record], tmp_path: Path) -> None:
    evaluation, setup = records[-1].evaluation, replace(records[-1].setup, hardware="mine@12345678")
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=True) as store:
        store.evaluations.record("cd" * 32, evaluation, setup, seed=0)
    with pytest.raises(UsageError, match="mine@12345678 is custom hardware; give its file as `hardware`"):
        score("cdcd", storage=str(tmp_path / "results.db"))


def test_a_layer_that_runs_twice_is_two(records: list[Record]) -> None:
    from approx import LayerShape

    shape = LayerShape(name="cell", positions=1, inner=4, outputs=4, input_values=4)
    hardware = energy.load_hardware("weight-stationary-45nm")
    found = workload_of(records[0].evaluation.candidate, [shape, shape], hardware, kept={"cell": 3})
    assert [(layer.name, layer.nonzero_weights) for layer in found.layers] == [("cell", 3), ("cell#2", 3)]


@pytest.mark.parametrize("name", energy.hardware_names())
def test_the_table_fits_80_columns(records: list[Record], tmp_path: Path, name: str) -> None:
    content = records[0].evaluation.workload
    path = tmp_path / "network.json"
    volts = energy.load_hardware(name).weight_memory.supply_v
    path.write_text(json.dumps({**content, "robust_bits": 0, "weight_memory_v": volts}))
    scored, written = score(str(path), hardware=name), StringIO()
    print_energy(Console(file=written, width=80), scored, None)
    table = [line for line in written.getvalue().splitlines() if line][1 : 5 + len(scored.report.layers)]
    assert table[0].startswith("layer")
    assert all(len(line.rstrip()) <= 80 and "…" not in line for line in table)
    assert [line.split()[0] for line in table[2 : 2 + len(scored.report.layers)]] == list(scored.report.layers)
