import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import approx
import energy
import search
from search.api import _run as api
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.cli.main import cli
from search.errors import DatasetMissingError, UnknownNameError, UsageError
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.evaluator import Evaluator
from search.evaluation.finished import finished_key
from search.images.places import ImagePlaces
from search.locations import cache_folder, multiplier_dir
from search.multipliers.choice import choose
from search.space.custom_network import find_model
from search.space.task import find_task
from search.store.database import Store
from search.store.records import Record
from search.store.setup import Setup
from tests.support.fakes import imported, keep

pytestmark = pytest.mark.slow  # searches

NETWORK = """
from torch import nn

def build(image_shape, classes, width):
    channels, height, columns = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(width * height * columns // 4, classes),
    )
"""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of few evaluations, and one of an own network."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "exported_network.py").write_text(NETWORK)
    storage = folder / "results.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        api.run(budget=4, options=SearchOptions(confirm=False), workplace=Workplace(workers=0, storage=str(storage)))
        api.run(
            budget=2,
            network="exported_network:build",
            options=SearchOptions(confirm=False),
            workplace=Workplace(workers=0, storage=str(storage)),
        )
    return storage


def records(storage: Path, name: str) -> list[Record]:
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        return store.evaluations.of_search(store.searches.find(name))


def exported(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["export", *arguments])
    return result.exit_code, result.output


def test_an_exported_model_has_the_partial_sums_of_its_hardware(tmp_path: Path) -> None:
    path, storage = tmp_path / "narrow.yaml", str(tmp_path / "results.db")
    shipped = Path(energy.__file__).parent / "hardware" / "flexible-45nm.yaml"
    path.write_text(shipped.read_text().replace("partial_sum_bits: full", "partial_sum_bits: 16"))
    here = Workplace(workers=0, storage=storage)
    api.run(budget=1, effort="quick", hardware=path, options=SearchOptions(confirm=False), workplace=here)
    (record,) = records(tmp_path / "results.db", "digits-1")
    done = search.export(record.id, out=tmp_path / "model", workplace=here)
    assert done.chip_accuracies == record.evaluation.chip_accuracies
    assert not done.onnx_equals_model
    for _, layer in approx.approx_layers(approx.load(done.folder)):
        assert layer.config.partial_sums == approx.PartialSums(bits=16)


def test_an_exported_model_has_the_recorded_accuracy_on_every_chip(storage: Path, tmp_path: Path) -> None:
    for number, record in enumerate(records(storage, "digits-1")):
        done = search.export(record.id, out=tmp_path / str(number), workplace=Workplace(storage=str(storage)))
        assert done.chip_accuracies == record.evaluation.chip_accuracies
        assert done.unchecked is None
        facts = approx.saved_facts(done.folder)
        assert facts["candidate"] == record.evaluation.candidate.to_dict()
        assert facts["preprocessing"].items() >= {"image_shape": [1, 8, 8], "pixel_max": 16}.items()
        assert facts["preprocessing"].items() >= {"mean": [0.0], "std": [1.0], "channels": ["gray"]}.items()
        assert facts["class_names"] == [str(digit) for digit in range(10)]
        assert facts["validation_accuracy_per_chip"] == list(record.evaluation.chip_accuracies)
        layers = dict(approx.approx_layers(approx.load(done.folder)))
        assert {layer.config.weight_bits for layer in layers.values()} == {record.evaluation.candidate.weight_bits}


def test_the_command_says_what_it_wrote(storage: Path, tmp_path: Path) -> None:
    identity = records(storage, "digits-1")[0].id
    code, output = exported(identity, "--out", str(tmp_path / "net"), "--storage", str(storage))
    assert code == 0, output
    assert "network.onnx" in output
    assert "it has the validation accuracy that was recorded" in output
    assert f'approx.load("{tmp_path / "net"}")' in output
    code, output = exported(identity, "--out", str(tmp_path / "net"), "--storage", str(storage))
    assert code == 2
    assert "already contains a saved model" in output
    assert "--overwrite" in output
    code, output = exported(
        identity, "--out", str(tmp_path / "net"), "--storage", str(storage), "--overwrite", "--json"
    )
    assert code == 0
    found = json.loads(output)
    assert found["id"] == identity
    assert found["chip_accuracies"] == found["recorded_chip_accuracies"]


TRAINED = """
from torch import nn

def build(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 3 * 3, num_classes),
    )
"""


def test_a_share_of_a_trained_networks_channels_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exported_trained.py").write_text(TRAINED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    from exported_trained import build  # type: ignore[import-not-found]

    model = build(10)
    torch.save(model.state_dict(), "net.pt")
    here = Workplace(workers=0, storage="results.db")
    network = find_model(model, image_shape=(1, 8, 8), classes=10)
    baseline = find_task("digits").with_network(network).space.baseline()

    def records_of(family: str, **values: Any) -> tuple[Record, ...]:
        start = replace(baseline, family=family, width=3, weight_bits=6)
        options = SearchOptions(confirm=False, starts=[start])
        return search.run(budget=2, effort="quick", options=options, workplace=here, **values).evaluations

    found = records_of("exported_trained:build/8", network="exported_trained:build", checkpoint="net.pt")
    assert sorted(record.evaluation.candidate.width for record in found) == [3, 8]
    for record in found:
        done = search.export(record.id, out=tmp_path / record.id, workplace=here)
        assert done.chip_accuracies == record.evaluation.chip_accuracies
        channels = 2 * record.evaluation.candidate.width
        assert dict(approx.approx_layers(approx.load(done.folder)))["0"].weight.shape[0] == channels
    given = records_of(network.family, model=model)[0]
    done = search.export(given.id, out=tmp_path / "given", workplace=here)
    assert done.kept
    assert done.chip_accuracies == given.evaluation.chip_accuracies
    with pytest.raises(UsageError, match=r"given as a Python object, which is not stored; save its weights, and"):
        search.export(given.id, out=tmp_path / "again", workplace=replace(here, cache="another"))


def test_what_is_not_kept_any_more_is_trained_again_to_the_same(storage: Path, tmp_path: Path) -> None:
    record = records(storage, "digits-1")[-1]
    moved = Workplace(storage=tmp_path / "results.db")
    (tmp_path / "results.db").write_bytes(storage.read_bytes())  # without the stages beside it
    reasons: list[str] = []
    trained: list[str] = []
    done = search.export(
        record.id, out=tmp_path / "net", on_remaking=reasons.append, on_training=trained.append, workplace=moved
    )
    assert not done.kept
    assert done.chip_accuracies == record.evaluation.chip_accuracies
    assert trained == ["derive", *(["prune"] if record.evaluation.candidate.sparsity else []), "approximate"]
    assert reasons == [
        f"the network of evaluation {record.id} is not kept in `cache` {tmp_path / 'results.cache'}, where searches "
        "keep those of their fronts and answers; it is made again from the images"
    ]
    again = search.export(record.id, out=tmp_path / "again", on_remaking=reasons.append, workplace=moved)
    assert again.kept  # now it is
    assert len(reasons) == 1
    assert_same_files(tmp_path / "net", tmp_path / "again")


PICTURES = [np.random.default_rng(label).integers(60 * label, 60 * label + 80, (40, 1, 8, 8)) for label in range(3)]
USE = """
import json, sys, approx, torch
torch.set_num_threads(1)
from pathlib import Path
model, facts = approx.load("net"), json.loads(Path("net/config.json").read_text())["facts"]["preprocessing"]
pixels = torch.tensor(json.loads(sys.argv[1]), dtype=torch.float32)
mean, std = (torch.tensor(facts[name])[:, None, None] for name in ("mean", "std"))
with torch.no_grad():
    found = model((pixels / facts["pixel_max"] - mean) / std)
loaded = [name for name in ("search", "kept_network") if name in sys.modules]
print(json.dumps({"found": found.tolist(), "loaded": loaded}))
"""


@pytest.fixture(scope="module")
def without_training(tmp_path_factory: pytest.TempPathFactory) -> tuple[search.SearchResult, Workplace]:
    """A search that trains nothing, of an own network in a module with a checkpoint, by own images.

    Beside it lies `before`, an export of its cheapest network made again; module, checkpoint and images are gone then.
    """
    folder = tmp_path_factory.mktemp("kept")
    (folder / "kept_network.py").write_text(TRAINED)
    pixels, labels = np.concatenate(PICTURES).astype(np.uint8), np.repeat(np.arange(3), 40)
    np.savez(folder / "pictures.npz", images=pixels, labels=labels)
    here = Workplace(workers=0, storage=folder / "results.db", image_dir=folder / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        from kept_network import build  # type: ignore[import-not-found]

        torch.save(build(3).state_dict(), "net.pt")
        result = search.run(
            dataset="pictures.npz",
            network="kept_network:build",
            checkpoint="net.pt",
            train="none",
            task=search.TaskRequest(mean=0.4, std=0.25),
            budget=3,
            effort="quick",
            options=SearchOptions(confirm=False),
            workplace=here,
        )
        cheapest, again = result.front[-1], replace(here, cache=folder / "empty")
        done = search.export(cheapest.id, out=folder / "before", workplace=again)
        assert not done.kept
        assert done.chip_accuracies == cheapest.evaluation.chip_accuracies
        sys.modules.pop("kept_network")
    for name in ("kept_network.py", "net.pt", "pictures.npz"):
        (folder / name).unlink()
    shutil.rmtree(folder / "images")
    return result, here


def assert_same_files(one: Path, other: Path) -> None:
    assert [path.name for path in sorted(one.iterdir())] == [path.name for path in sorted(other.iterdir())]
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


@pytest.mark.process
def test_what_a_search_prints_is_exported_without_images_code_and_weights(
    without_training: tuple[search.SearchResult, Workplace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, here = without_training
    monkeypatch.chdir(tmp_path)
    done = search.export(result.front[-1].id, out="net", workplace=here)
    assert done.kept
    assert done.chip_accuracies is None
    assert done.unchecked is not None
    assert "the images of pictures" in done.unchecked
    assert here.storage is not None
    assert_same_files(Path(here.storage).parent / "before", tmp_path / "net")
    pixels = PICTURES[1][:4]
    process = subprocess.run(
        [sys.executable, "-c", USE, json.dumps(pixels.tolist())], check=True, capture_output=True, text=True
    )
    found = json.loads(process.stdout)
    assert found["loaded"] == []
    with torch.no_grad():
        expected = approx.load("net")((torch.tensor(pixels, dtype=torch.float32) / 255 - 0.4) / 0.25)
    assert found["found"] == expected.tolist()
    for record in (result.baseline, *result.front):
        assert here.open_cache().holds_finished(finished_key(record.key))


def test_where_images_are_gone_the_words_say_what_was_not_done(
    without_training: tuple[search.SearchResult, Workplace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, here = without_training
    monkeypatch.setenv("CROSSLAYER_IMAGE_DIR", str(here.image_dir))
    code, output = exported(result.baseline.id, "--out", str(tmp_path / "net"), "--storage", str(here.storage))
    assert code == 0, output
    assert "validation accuracy. That was not checked, as it takes the images:\n  the images of pictures" in output
    assert "Loaded again" not in output
    code, output = exported(
        result.baseline.id, "--out", str(tmp_path / "net"), "--storage", str(here.storage), "--overwrite", "--json"
    )
    found = json.loads(output)
    assert (found["kept"], found["chip_accuracies"]) == (True, None)
    assert "the images of pictures" in found["unchecked"]
    code, output = exported(
        result.baseline.id, "--out", str(tmp_path / "other"), "--storage", str(here.storage), "--cache", "nowhere"
    )
    assert code == 2
    assert f"network of evaluation {result.baseline.id} is not kept in --cache nowhere, and it cannot be made" in output
    # With the code and the weights, it is the images that are missed.
    monkeypatch.setattr("search.api._export.rebuilt_task", lambda task: task)
    with pytest.raises(
        DatasetMissingError, match=r"is not kept in `cache` .*, and it cannot be made again: the images"
    ):
        search.export(result.baseline.id, out=tmp_path / "other", workplace=replace(here, cache=tmp_path / "empty"))
    assert not (tmp_path / "other").exists()


def test_a_resumed_search_keeps_what_it_lacks_and_trains_nothing_for_it(storage: Path, tmp_path: Path) -> None:
    moved, cache = Workplace(workers=0, storage=tmp_path / "results.db"), tmp_path / "results.cache"
    (tmp_path / "results.db").write_bytes(storage.read_bytes())
    shutil.copytree(storage.with_suffix(".cache"), cache)
    kept = sorted(cache.rglob("*-finished.pt"))
    for path in kept:
        path.unlink()
    resume = SearchOptions(confirm=False, resume=True, name="digits-1")
    result = search.run(options=resume, workplace=moved)
    front = {record.key for record in (result.baseline, *result.front)}
    assert len(list(cache.rglob("*-finished.pt"))) == len(front)
    shutil.rmtree(cache)
    search.run(options=resume, workplace=moved)
    assert not list(cache.rglob("*.pt"))  # the stages are gone too


def test_an_own_network_is_exported_where_it_lies(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = records(storage, "digits-2")[0]
    monkeypatch.chdir(storage.parent)
    done = search.export(record.id, out=tmp_path / "net", workplace=Workplace(storage=str(storage)))
    assert done.chip_accuracies == record.evaluation.chip_accuracies
    monkeypatch.chdir(tmp_path)  # without the code of the network
    with torch.no_grad():
        assert approx.load(tmp_path / "net")(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_an_imported_multiplier_is_exported_while_it_or_the_network_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, multiplier = tmp_path / "results.db", imported(dropped_bits=4)
    keep(multiplier)
    (own,) = (chosen for chosen in choose(["mine"]) if chosen.imported)
    task, hardware = find_task("digits"), energy.load_hardware("flexible-45nm")
    candidate = replace(task.space.baseline(), family="mlp", depth=1, width=2, multiplier=own.identity)
    with Store.open(f"sqlite:///{storage}", create=True) as store:
        evaluator = Evaluator(
            task,
            datasets.load(task, ImagePlaces.at(tmp_path)),
            hardware,
            seed=0,
            cache=TrainingCache(cache_folder(store.url)),
            multipliers=[own],
        )
        found = evaluator.evaluate(candidate, "validation")
        store.evaluations.record("ab" * 32, found, Setup.of(task, hardware, "standard"), seed=0)
    done = search.export("abab", out=tmp_path / "net", workplace=Workplace(storage=str(storage)))
    assert done.chip_accuracies == found.chip_accuracies
    assert not done.onnx_equals_model
    for _, layer in approx.approx_layers(approx.load(tmp_path / "net")):
        wanted = multiplier.adapted(weight_bits=8, activation_bits=8, weight_signed=True, activation_signed=False)
        assert layer.multiplier.digest == wanted.digest

    (multiplier_dir() / f"{multiplier.digest}.npz").unlink()
    elsewhere = Workplace(storage=storage, cache=tmp_path / "empty")
    with pytest.raises(UsageError, match=f"multiplier '{own.identity}' is no longer in .*; import it again"):
        search.export("abab", out=tmp_path / "again", workplace=elsewhere)
    assert not (tmp_path / "again").exists()
    assert search.export("abab", out=tmp_path / "again", workplace=Workplace(storage=storage)).kept
    assert_same_files(tmp_path / "net", tmp_path / "again")


def test_a_layered_candidate_is_exported_layer_by_layer(tmp_path: Path) -> None:
    storage = tmp_path / "results.db"
    task, hardware = find_task("digits"), energy.load_hardware("flexible-45nm")
    candidate = replace(
        task.space.baseline(),
        depth=2,
        width=1,
        supply_v=0.75,
        multiplier_first="truncated-2",
        multiplier_last="asm-1",
        robust_bits_last=3,
    ).canonical()
    with Store.open(f"sqlite:///{storage}", create=True) as store:
        data = datasets.load(task, ImagePlaces.at(tmp_path))
        found = Evaluator(task, data, hardware, seed=0, cache=TrainingCache(cache_folder(store.url))).evaluate(
            candidate, "validation"
        )
        store.evaluations.record("ab" * 32, found, Setup.of(task, hardware, "standard"), seed=0)
    done = search.export("abab", out=tmp_path / "net", workplace=Workplace(storage=str(storage)))
    assert done.chip_accuracies == found.chip_accuracies
    layers = [layer for _, layer in approx.approx_layers(approx.load(tmp_path / "net"))]
    assert [layer.config.multiplier for layer in layers] == ["truncated-2", "exact", "asm-1"]
    assert [layer.weight_memory and layer.weight_memory.robust_bits for layer in layers] == [0, 0, 3]


def test_ids_that_name_nothing_or_too_much_are_refused(storage: Path, tmp_path: Path) -> None:
    for identity, message in (
        ("ffffffffffff", "no stored evaluation has the id 'ffffffffffff'"),
        ("nothing!", "an evaluation's id is 4 to 64 hexadecimal digits, got 'nothing!'"),
    ):
        with pytest.raises(UsageError, match=message):
            search.export(identity, out=tmp_path / "net", workplace=Workplace(storage=str(storage)))
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        record = records(storage, "digits-1")[0]
        twin = record.key[:20] + "0" * 44
        store.evaluations.record(twin, record.evaluation, replace(record.setup, task="other"), seed=0)
    with pytest.raises(UsageError, match="several evaluations have an id that begins with"):
        search.export(record.key[:12], out=tmp_path / "net", workplace=Workplace(storage=str(storage)))
    assert issubclass(UnknownNameError, UsageError)
    assert not (tmp_path / "net").exists()
