import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from rich.console import Console
from torch import nn

import approx
import search
from energy import load_hardware
from search.answers.result import SearchResult, result_of
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.api.workshop import key_function
from search.errors import DatasetError, NothingFoundError, UsageError
from search.locations import multiplier_dir
from search.multipliers.choice import MULTIPLIERS, ChosenMultiplier
from search.observer import Observer
from search.report.console import print_result
from search.space.candidate import Candidate
from search.space.target import Target
from search.space.task import find_task
from search.space.task_request import TaskRequest
from search.store.claims import claimed
from search.store.database import Store
from search.store.records import Record, SearchRecord
from search.store.setup import Setup
from tests.support.fakes import (
    InterruptAfter,
    InterruptionError,
    chosen_import,
    formula,
    imported,
    keep,
    new_search,
)

pytestmark = pytest.mark.slow  # searches

SETUP = Setup(task="digits", hardware="flexible-45nm", effort="standard")
SPACE = find_task("digits").space


class Counting(Observer):
    def __init__(self) -> None:
        self.evaluated_count = 0
        self.notes: list[str] = []

    def noted(self, text: str) -> None:
        self.notes.append(text)

    def evaluated(self, record: Record, *, reused: bool) -> None:
        self.evaluated_count += 1


def test_a_search_from_python(tmp_path: Path) -> None:
    storage = str(tmp_path / "results.db")
    observer = Counting()
    result = search.run(
        budget=2,
        effort="quick",
        observer=observer,
        options=SearchOptions(confirm=False, name="mine"),
        workplace=Workplace(workers=0, storage=storage),
    )
    assert observer.evaluated_count == result.finished == 2
    assert result.search.name == "mine"
    assert result.saving(result.baseline) == 1
    found = search.configurations(min_accuracy=result.front[-1].evaluation.accuracy, effort="quick", storage=storage)
    assert found.records == tuple(reversed(result.front))
    assert found.best == result.front[-1]


def test_hardware_whose_sums_are_not_emulated_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    storage = tmp_path / "results.db"
    with pytest.raises(
        UsageError, match="row-stationary-65nm is row-stationary and its partial sums saturate at 16 bits"
    ):
        search.run(budget=1, hardware="row-stationary-65nm", workplace=Workplace(workers=0, storage=str(storage)))
    assert not storage.exists()


def test_a_search_keeps_what_it_was_made_for(tmp_path: Path) -> None:
    storage = str(tmp_path / "results.db")
    here = Workplace(workers=0, storage=storage)
    quickly = SearchOptions(confirm=False)
    begun = search.run(budget=1, effort="quick", max_accuracy_drop=0.05, options=quickly, workplace=here)
    assert begun.answer.target == Target(max_accuracy_drop=0.05)
    assert (begun.answer.record, begun.answer.confirmed) == (begun.baseline, False)
    resumed = search.resume("digits-1", budget=1, confirm=False, workplace=here)
    assert resumed.answer.target == Target(max_accuracy_drop=0.05)
    again = search.run(
        budget=1, effort="quick", min_accuracy=0.5, options=replace(quickly, resume=True), workplace=here
    )
    assert again.answer.target == Target(min_accuracy=0.5)
    resumed = search.resume("digits-1", budget=1, confirm=False, workplace=here)
    assert resumed.answer.target == Target(min_accuracy=0.5)
    confirmed = search.resume("digits-1", budget=1, workplace=here).answer
    assert confirmed.confirmed
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        assert result_of(store, store.searches.find("digits-1")).answer == confirmed


@pytest.mark.parametrize(
    ("effort", "options", "parameter"),
    [
        ("thorough", SearchOptions(), "effort"),
        (None, SearchOptions(sampler="tpe"), "sampler"),
        (None, SearchOptions(third_objective="area"), "third_objective"),
        (None, SearchOptions(prescreen=False), "prescreen"),
        (None, SearchOptions(asynchronous=True), "asynchronous"),
    ],
)
def test_a_search_is_not_resumed_with_other_settings(
    tmp_path: Path, effort: str | None, options: SearchOptions, parameter: str
) -> None:
    storage = f"sqlite:///{tmp_path / 'results.db'}"
    with Store.open(storage, create=True) as store:
        new_search(store, name="mine", setup=SETUP)
    with pytest.raises(UsageError, match=f"'mine' was begun with other settings; resume it without `{parameter}`"):
        search.run(
            effort=effort, options=replace(options, name="mine", resume=True), workplace=Workplace(storage=storage)
        )
    with pytest.raises(UsageError, match="has begun already; leave out `starts`"):
        search.run(
            options=SearchOptions(name="mine", resume=True, starts=[find_task("digits").space.baseline()]),
            workplace=Workplace(storage=storage),
        )


def test_a_resume_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'results.db'}"
    begun = search.run(
        budget=1, effort="quick", options=SearchOptions(confirm=False), workplace=Workplace(workers=0, storage=storage)
    ).search
    with claimed(begun, storage), pytest.raises(UsageError, match="is being run by another process"):
        search.resume("digits-1", budget=5, workplace=Workplace(workers=0, storage=storage))
    with Store.open(storage, create=False) as store:
        assert store.searches.find("digits-1") == begun


def test_configurations_are_the_front_above_the_target(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    space = find_task("digits").space
    changes: list[dict[str, float]] = [{}, {"width": 4}, {"width": 2, "sparsity": 0.5}, {"depth": 1}]
    with Store.open(url, create=True) as store:
        for number, change in enumerate(changes):
            candidate = space.baseline().from_dict({**space.baseline().to_dict(), **change})
            store.evaluations.record(str(number), formula(candidate), SETUP, seed=0)
    accuracy = formula(space.baseline().from_dict({**space.baseline().to_dict(), "width": 4})).accuracy
    found = search.configurations(min_accuracy=accuracy, storage=url)
    assert [record.key for record in found.records] == ["1", "0"]
    assert found.baseline.key == "0"
    with pytest.raises(NothingFoundError, match=r"reaches 100.00%"):
        search.configurations(min_accuracy=1.0, storage=url)
    with pytest.raises(NothingFoundError, match="no search of digits on flexible-45nm-dram"):
        search.configurations(min_accuracy=0.5, hardware="flexible-45nm-dram", storage=url)


def test_nothing_is_stored_when_the_request_cannot_be_met(tmp_path: Path) -> None:
    storage = tmp_path / "results.db"
    with pytest.raises(UsageError):
        search.run(budget=0, effort="quick", workplace=Workplace(storage=str(storage)))
    with pytest.raises(UsageError, match="`cache_limit`"):
        search.run(workplace=Workplace(cache_limit=0, storage=str(storage)))
    assert not storage.exists()
    (tmp_path / "cifar-10-batches-bin").mkdir()
    with pytest.raises(DatasetError):
        search.run(dataset="cifar10", workplace=Workplace(storage=str(storage), data_dir=tmp_path))
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        assert store.searches.all() == []


def test_a_search_goes_on_without_a_place_for_networks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    storage, observer = str(tmp_path / "results.db"), Counting()
    result = search.run(
        budget=2,
        effort="quick",
        observer=observer,
        options=SearchOptions(confirm=False),
        workplace=Workplace(workers=0, storage=storage, cache=tmp_path / "file" / "stages"),
    )
    assert result.finished == 2
    (note,) = observer.notes
    assert f"trained networks cannot be cached in {tmp_path}/file/stages" in note


def test_networks_behind_a_url_give_the_same_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = approx.fit
    trained: list[int] = []

    def counted(*arguments: Any, **others: Any) -> None:
        fit(*arguments, **others)
        trained[-1] += 1  # to its end: not while steps are timed

    monkeypatch.setattr(approx, "fit", counted)
    results = []
    for name, cache in (("1.db", None), ("2.db", f"memory://{tmp_path}"), ("3.db", f"memory://{tmp_path}")):
        trained.append(0)
        here = Workplace(workers=0, storage=str(tmp_path / name), cache=cache, cache_limit="1GB")
        results.append(search.run(budget=2, effort="quick", options=SearchOptions(confirm=False), workplace=here))
    found = [[(r.key, r.evaluation.accuracy, r.test_accuracies) for r in result.front] for result in results]
    assert found[0] == found[1] == found[2]
    assert trained[0] == trained[1] > trained[2] == 0


def test_studies_of_others_keep_their_names(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    optuna.create_study(study_name="digits-1", storage=url)
    assert (
        search.run(
            budget=1, effort="quick", options=SearchOptions(confirm=False), workplace=Workplace(workers=0, storage=url)
        ).search.name
        == "digits-2"
    )
    with pytest.raises(UsageError, match="a search or study named 'digits-1' exists"):
        search.run(
            budget=1,
            effort="quick",
            options=SearchOptions(confirm=False, name="digits-1"),
            workplace=Workplace(workers=0, storage=url),
        )


def test_a_search_is_resumed_with_the_multipliers_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = str(tmp_path / "results.db")
    multiplier = imported()
    identity = keep(multiplier)
    among = ("exact", "drum-4", identity)
    begun = search.run(
        budget=1,
        effort="quick",
        multipliers=[" mine", "drum-4"],
        options=SearchOptions(confirm=False),
        workplace=Workplace(workers=0, storage=storage),
    )
    assert begun.search.multipliers == among
    assert (
        search.run(
            budget=1,
            effort="quick",
            options=SearchOptions(confirm=False),
            workplace=Workplace(workers=0, storage=storage),
        ).search.multipliers
        == MULTIPLIERS
    )
    with pytest.raises(
        UsageError, match=f"search 'digits-1' chooses among {', '.join(among)}, not exact, asm-1; resume"
    ):
        search.run(
            multipliers=["asm-1"],
            options=SearchOptions(name="digits-1", resume=True),
            workplace=Workplace(storage=storage),
        )
    with pytest.raises(UsageError, match="flexible-45nm that chooses among exact, asm-1 to resume"):
        search.run(multipliers=["asm-1"], options=SearchOptions(resume=True), workplace=Workplace(storage=storage))
    assert not any(record.finished_at is None for record in _searches(storage))
    more = search.run(
        budget=1,
        effort="quick",
        multipliers=[identity, "exact", "drum-4"],
        options=SearchOptions(confirm=False, resume=True),
        workplace=Workplace(workers=0, storage=storage),
    )
    assert more.search.name == "digits-1"
    assert (
        search.run(
            budget=1,
            effort="quick",
            options=SearchOptions(confirm=False, name="digits-1", resume=True),
            workplace=Workplace(workers=0, storage=storage),
        ).search.multipliers
        == among
    )
    (multiplier_dir() / f"{multiplier.digest}.npz").unlink()
    with pytest.raises(UsageError, match=f"multiplier '{identity}' is no longer in"):
        search.run(
            budget=1,
            effort="quick",
            options=SearchOptions(confirm=False, name="digits-1", resume=True),
            workplace=Workplace(workers=0, storage=storage),
        )
    assert not any(record.finished_at is None for record in _searches(storage))


def _searches(storage: str) -> list[SearchRecord]:
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        return store.searches.all()


def test_costs_that_were_found_anew_are_not_mixed_with_former_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    task, hardware = find_task("digits"), load_hardware("flexible-45nm")
    own, other = chosen_import(imported()), chosen_import(imported())
    assert other.costs is not None
    dearer = {key: replace(cost, relative_area=2 * cost.relative_area) for key, cost in other.costs.items()}
    key_of, key_of_dearer = (
        key_function(task, "data", hardware, 0, [ChosenMultiplier(identity="exact"), chosen])
        for chosen in (own, replace(other, costs=dearer))
    )
    exact = task.space.baseline()
    assert key_of(exact) == key_of_dearer(exact)
    candidate = replace(exact, multiplier=own.identity)
    assert len({key_of(exact), key_of(candidate), key_of_dearer(candidate)}) == 3
    renamed = replace(own, costs={key: replace(cost, source="elsewhere") for key, cost in (own.costs or {}).items()})
    assert key_function(task, "data", hardware, 0, [renamed])(candidate) == key_of(candidate)


def test_what_a_multiplier_does_not_take_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(imported("signed", signed=True), activation_bits=7)
    observer = Counting()
    search.run(
        budget=1,
        effort="quick",
        multipliers=["signed"],
        observer=observer,
        options=SearchOptions(confirm=False),
        workplace=Workplace(workers=0, storage=str(tmp_path / "results.db")),
    )
    assert len(observer.notes) == 1
    assert "multiplier signed is searched with at most 8-bit weights and 7-bit activations" in observer.notes[0]


def test_a_search_is_resumed_with_the_network_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "api_nets.py").write_text(
        "from torch import nn\n"
        "def build(image_shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    storage, path = str(tmp_path / "results.db"), "api_nets:build"
    assert (
        search.run(
            budget=1,
            effort="quick",
            network=path,
            options=SearchOptions(confirm=False),
            workplace=Workplace(workers=0, storage=storage),
        ).search.name
        == "digits-1"
    )
    assert (
        search.run(
            budget=2,
            effort="quick",
            network=path,
            options=SearchOptions(confirm=False, resume=True),
            workplace=Workplace(workers=0, storage=storage),
        ).finished
        == 2
    )
    assert (
        search.run(
            budget=1,
            effort="quick",
            options=SearchOptions(confirm=False),
            workplace=Workplace(workers=0, storage=storage),
        ).search.name
        == "digits-2"
    )
    found = search.configurations(min_accuracy=0.1, effort="quick", storage=storage, network=path)
    assert {record.evaluation.candidate.family for record in found.records} == {path}
    found = search.configurations(min_accuracy=0.1, effort="quick", storage=storage)
    assert path not in {record.evaluation.candidate.family for record in found.records}
    with pytest.raises(UsageError, match="has the network api_nets:build; resume it with `network` api_nets:build"):
        search.run(options=SearchOptions(name="digits-1", resume=True), workplace=Workplace(storage=storage))
    with pytest.raises(UsageError, match="has the built-in networks; resume it without `network`"):
        search.run(
            network=path, options=SearchOptions(name="digits-2", resume=True), workplace=Workplace(storage=storage)
        )
    with pytest.raises(UsageError, match="no search of digits, api_nets:build with seed 1"):
        search.run(network=path, seed=1, options=SearchOptions(resume=True), workplace=Workplace(storage=storage))
    dram = "flexible-45nm-dram"
    with pytest.raises(NothingFoundError, match=f"search run --dataset digits --network {path} --hardware {dram}"):
        search.configurations(min_accuracy=0.1, storage=storage, network=path, hardware=dram)


class Evaluated(Observer):
    def __init__(self) -> None:
        self.records: list[Record] = []

    def evaluated(self, record: Record, *, reused: bool) -> None:
        self.records.append(record)


def test_a_bound_on_area_changes_the_answer(tmp_path: Path) -> None:
    here, free, bounded = Workplace(workers=0, storage=str(tmp_path / "results.db")), Evaluated(), Evaluated()
    quickly = SearchOptions(confirm=False, fresh=True)
    # The cheapest of the free search is a small network with wide codes, whose multipliers take most of the area.
    unbounded = search.run(
        budget=12, effort="quick", max_accuracy_drop=0.05, options=quickly, workplace=here, observer=free
    )
    assert unbounded.answer.record is not None
    chip_mm2 = unbounded.baseline.evaluation.area_mm2
    ratio = unbounded.answer.record.evaluation.area_mm2 / chip_mm2
    limit = 0.95 * ratio
    found = search.run(
        budget=12,
        effort="quick",
        max_accuracy_drop=0.05,
        max_area=limit,
        options=quickly,
        workplace=here,
        observer=bounded,
    )
    assert found.search.target == Target(max_accuracy_drop=0.05, max_area=limit)
    assert found.baseline.evaluation.area_mm2 == chip_mm2
    # Nothing beyond the bound was trained, except for the baseline.
    assert max(one.evaluation.area_mm2 for one in free.records[1:]) > limit * chip_mm2
    assert bounded.records[0] == found.baseline
    assert max(one.evaluation.area_mm2 for one in bounded.records[1:]) <= limit * chip_mm2
    assert found.baseline not in found.front
    assert found.answer.record is not None
    assert found.answer.record.key != unbounded.answer.record.key
    assert found.answer.record.evaluation.area_mm2 <= limit * chip_mm2
    # What is stored answers with another bound, whatever that of the search.
    stored = search.best(max_accuracy_drop=0.05, max_area=limit, effort="quick", confirm=False, workplace=here)
    assert stored.record is not None
    assert stored.record.evaluation.area_mm2 <= limit * chip_mm2
    assert stored.record.evaluation.energy_pj <= found.answer.record.evaluation.energy_pj
    free_answer = search.best(max_accuracy_drop=0.05, effort="quick", confirm=False, workplace=here).record
    assert free_answer == min((unbounded.answer.record, stored.record), key=lambda record: record.evaluation.energy_pj)


def test_a_bound_that_nothing_keeps_is_refused_with_the_smallest(tmp_path: Path) -> None:
    storage = str(tmp_path / "results.db")
    with pytest.raises(UsageError, match=r"`max_area` is 0.1, but no candidate of the space needs less than 0.251 ti"):
        search.run(max_area=0.1, workplace=Workplace(workers=0, storage=storage))
    assert _searches(storage) == []
    dense = find_task("digits").space.baseline()
    starts = [replace(dense, width=7)]
    with pytest.raises(UsageError, match=r"to start with needs 0.9\d+ times .* more than `max_area` 0.5: {'family'"):
        search.run(max_area=0.5, options=SearchOptions(starts=starts), workplace=Workplace(workers=0, storage=storage))
    assert _searches(storage) == []


def test_a_search_with_a_bound_is_resumed_with_it(tmp_path: Path) -> None:
    here, quickly = Workplace(workers=0, storage=str(tmp_path / "results.db")), SearchOptions(confirm=False)
    options = replace(quickly, techniques=["multiplier"])
    whole = search.run(budget=13, effort="quick", max_area=0.9, options=replace(options, name="whole"), workplace=here)
    parts = replace(options, name="parts")
    with pytest.raises(InterruptionError):
        search.run(budget=13, effort="quick", max_area=0.9, options=parts, workplace=here, observer=InterruptAfter(12))
    resumed = search.resume("parts", confirm=False, workplace=here)
    assert resumed.search.target == Target(max_accuracy_drop=0.02, max_area=0.9)
    assert [one.key for one in resumed.evaluations] == [one.key for one in whole.evaluations]
    again = replace(quickly, resume=True, name="parts")
    loose = search.run(budget=13, effort="quick", min_accuracy=0.5, options=again, workplace=here)
    assert loose.search.target == Target(min_accuracy=0.5, max_area=0.9)
    with pytest.raises(UsageError, match=r"'parts' has the bound 0.9, not 0.5; resume it without `max_area`"):
        search.run(max_area=0.5, options=again, workplace=here)
    with pytest.raises(UsageError, match=r"no search of digits .* with `max_area` 0.5 to resume"):
        search.run(max_area=0.5, options=SearchOptions(resume=True), workplace=here)
    free = search.run(budget=1, effort="quick", options=replace(quickly, name="free"), workplace=here)
    assert free.search.target.max_area is None
    with pytest.raises(UsageError, match=r"'free' has no bound on area, not 0.5; resume it without `max_area`"):
        search.run(max_area=0.5, options=replace(again, name="free"), workplace=here)


def test_a_front_with_nothing_within_the_bound_is_empty(tmp_path: Path) -> None:
    here = Workplace(workers=0, storage=str(tmp_path / "results.db"))
    result = search.run(budget=1, effort="quick", max_area=0.5, options=SearchOptions(confirm=False), workplace=here)
    assert (result.front, result.answer.record, result.hypervolume) == ((), None, 0.0)
    assert repr(result).startswith("Search digits-1")
    command = "search run --dataset digits --effort quick --max-area 0.5"
    with pytest.raises(NothingFoundError, match=f"on at most 0.5x the baseline's area is stored; .*: {command}"):
        search.best(max_area=0.5, effort="quick", workplace=here)
    page = search.write_report("digits-1", tmp_path / "report.html", storage=str(here.storage)).read_text(
        encoding="utf-8"
    )
    assert "No configuration within 2 points of the baseline's accuracy, on at most 0.5x the baseline's area." in page
    assert "The front is empty: no evaluation is within the bound on area yet." in page
    shown = io.StringIO()
    print_result(Console(file=shown, width=100), result)
    assert "No configuration is within 2.00 points of the baseline, on at most 0.5x its area.\n" in shown.getvalue()


def test_a_custom_network_has_a_bound_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "area_nets.py").write_text(
        "from torch import nn\n"
        "def build(image_shape, classes, *, depth=3, width=8):\n"
        "    if width == 1: raise ValueError('too narrow')\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8 * width), nn.ReLU(), nn.Linear(8 * width, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    here, seen = Workplace(workers=0, storage=str(tmp_path / "results.db")), Evaluated()
    search.run(
        network="area_nets:build",
        budget=4,
        effort="quick",
        max_area=0.5,
        workplace=here,
        observer=seen,
        options=SearchOptions(confirm=False, sampler="random"),
    )
    baseline, *others = (one.evaluation.area_mm2 for one in seen.records)
    assert max(others) <= 0.5 * baseline


class Sized(Observer):
    def __init__(self) -> None:
        self.candidates: list[Candidate] = []

    def sizing(self, candidate: Candidate) -> None:
        self.candidates.append(candidate)


def test_the_network_of_the_answer_is_evaluated_without_approximations(tmp_path: Path) -> None:
    """Or what a smaller network saves would count as what approximation saves."""
    here, observer = Workplace(workers=0, storage=str(tmp_path / "results.db")), Sized()
    small = replace(SPACE.baseline(), depth=1, width=4, weight_bits=6, activation_bits=6).canonical()
    plain = replace(SPACE.baseline(), depth=1, width=4).canonical()
    options = SearchOptions(starts=(small,))
    asked = {"min_accuracy": 0.5, "budget": 2, "effort": "quick", "workplace": here}
    result = search.run(**asked, options=options, observer=observer)  # type: ignore[arg-type]
    answer = result.answer
    assert answer.record is not None
    assert answer.record.evaluation.candidate == small
    assert observer.candidates == [plain]
    assert answer.right_sized.record.evaluation.candidate == plain
    assert answer.right_sized.confirmation is not None
    assert answer.right_sized.confirmation.confirmed
    assert plain not in [record.evaluation.candidate for record in result.evaluations]  # it is no trial
    search.resume(result.search.name, workplace=here, observer=observer)
    assert observer.candidates == [plain]  # once


SWAPPED = """
from torch import nn

def build(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))
"""


def write_weights(file: Path, seed: int) -> nn.Module:
    """Write the weights of a network without training: it is right about as often as chance is."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    torch.save(model.state_dict(), file)
    return model


class Reused(Observer):
    def __init__(self) -> None:
        self.reused: list[bool] = []

    def evaluated(self, record: Record, *, reused: bool) -> None:
        self.reused.append(reused)


def searched_with_weights(folder: Path, file: str, **values: Any) -> tuple[SearchResult, list[bool]]:
    observer = Reused()
    result = search.run(
        network="swapped_nets:build",
        checkpoint=folder / file,
        task=TaskRequest(epochs=0.05, learning_rate=1e-6),  # as good as none
        budget=values.pop("budget", 2),
        effort="quick",
        options=SearchOptions(confirm=False, **values),
        workplace=Workplace(workers=0, storage=str(folder / "results.db")),
        observer=observer,
    )
    return result, observer.reused


@pytest.fixture
def swapped_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a function that builds a network, in which this process works."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "swapped_nets.py").write_text(SWAPPED)
    yield tmp_path
    del sys.modules["swapped_nets"]


def test_other_weights_behind_the_same_name_are_another_network(swapped_nets: Path) -> None:
    found = []
    for seed in (0, 1, 0):
        write_weights(swapped_nets / "net.pt", seed)
        found.append(searched_with_weights(swapped_nets, "net.pt"))
    (first, _), (second, reused), (again, reused_again) = found
    assert {record.key for record in first.evaluations}.isdisjoint(record.key for record in second.evaluations)
    assert first.baseline.evaluation.candidate == second.baseline.evaluation.candidate
    assert first.baseline.evaluation.chip_accuracies != second.baseline.evaluation.chip_accuracies
    assert reused == [False] * 2
    assert again.evaluations == first.evaluations
    assert reused_again == [True] * 2


def test_weights_that_changed_or_moved_since_a_search_began_are_told(swapped_nets: Path) -> None:
    write_weights(swapped_nets / "net.pt", 0)
    result, _ = searched_with_weights(swapped_nets, "net.pt")
    here, name = Workplace(workers=0, storage=str(swapped_nets / "results.db")), result.search.name
    write_weights(swapped_nets / "net.pt", 1)
    with pytest.raises(UsageError, match=r"`checkpoint` \S+net\.pt has other weights since"):
        search.resume(name, budget=3, workplace=here)
    with pytest.raises(UsageError, match=f"search '{name}' was begun with other weights of swapped_nets:build"):
        searched_with_weights(swapped_nets, "net.pt", resume=True, name=name)
    write_weights(swapped_nets / "moved.pt", 0)
    (swapped_nets / "net.pt").unlink()
    with pytest.raises(UsageError, match=rf"net\.pt, which is gone; .* --checkpoint FILE .* --resume --name {name}"):
        search.resume(name, budget=3, workplace=here)
    longer, _ = searched_with_weights(swapped_nets, "moved.pt", resume=True, name=name, budget=3)
    assert longer.finished == 3
    assert search.resume(name, budget=4, confirm=False, workplace=here).finished == 4  # which knows the new place


GIVEN = """
import sys

import torch
from torch import nn

import approx
import search


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, images):
        return self.body(images)


if __name__ == "__main__":
    model = Net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = search.run(
        model=model,
        budget=3,
        effort="quick",
        options=search.SearchOptions(confirm=False),
        workplace=search.Workplace(workers=int(sys.argv[2]), storage=sys.argv[1]),
    )
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for record in result.evaluations:
        print(record.key, *record.evaluation.chip_accuracies)
"""


@pytest.mark.process
def test_a_network_of_a_script_is_searched_by_workers_as_by_this_process(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(GIVEN)
    printed = []
    for workers in (0, 1):
        storage = tmp_path / f"{workers}.db"
        done = subprocess.run(
            [sys.executable, "script.py", storage, str(workers)],
            cwd=tmp_path, check=True, capture_output=True, text=True,
        )  # fmt: skip
        printed.append(done.stdout)
    assert len(printed[0].splitlines()) == 3
    assert printed[0] == printed[1]
    with pytest.raises(UsageError, match=r"__main__\.Net was given as a Python object, which is not stored"):
        search.resume("digits-1", budget=4, workplace=Workplace(storage=str(tmp_path / "0.db")))


def test_a_network_that_is_given_can_be_resumed_where_it_is_given_again(tmp_path: Path) -> None:
    model = write_weights(tmp_path / "net.pt", 0)
    here = Workplace(workers=0, storage=str(tmp_path / "results.db"))

    def run(budget: int, *, train: str | None = None, **values: Any) -> SearchResult:
        options = SearchOptions(confirm=False, **values)
        return search.run(model=model, train=train, budget=budget, effort="quick", workplace=here, options=options)

    name = run(1, train="none").search.name
    assert run(2, resume=True, name=name).finished == 2
    with pytest.raises(UsageError, match="has `train` none, not finetune; resume it without `train`"):
        run(3, resume=True, name=name, train="finetune")
    with torch.no_grad():
        model.get_parameter("1.weight")[0] += 1
    with pytest.raises(UsageError, match=f"search '{name}' was begun with other weights of torch.nn"):
        run(3, resume=True, name=name)


def test_a_network_that_is_given_is_resumed_by_the_call_that_messages_say(
    tmp_path: Path,
) -> None:
    model = write_weights(tmp_path / "net.pt", 0)
    here = Workplace(workers=0, storage=str(tmp_path / "results.db"))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    begun = search.run(
        model=model,
        data=(pixels, np.arange(60) % 10),
        train="none",
        task=TaskRequest(mean=[0.5]),
        hardware="hybrid-22nm",
        seed=3,
        budget=1,
        effort="quick",
        options=SearchOptions(name="mine", confirm=False),
        workplace=here,
    )
    written = io.StringIO()
    print_result(Console(file=written, width=120), begun)
    shown = " ".join(written.getvalue().split())
    with pytest.raises(UsageError) as refused:
        search.resume("mine", workplace=here)
    assert "Confirm it with: search.resume('mine', model=...) in Python" in shown
    assert str(refused.value).endswith("give it again: search.resume('mine', model=...) in Python")
    resumed = search.resume("mine", model=model, workplace=here)
    assert resumed.answer.confirmation is not None
    assert resumed.evaluations[0].key == begun.evaluations[0].key
    with pytest.raises(UsageError, match="search 'mine' was begun with other weights"):
        search.resume("mine", model=write_weights(tmp_path / "net.pt", 1), workplace=here)
