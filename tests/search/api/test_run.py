import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

import search
from energy import load_hardware
from search.answers.result import result_of
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.api.workshop import key_function
from search.errors import DatasetError, NothingFoundError, UsageError
from search.locations import multiplier_dir
from search.multipliers.choice import MULTIPLIERS, ChosenMultiplier
from search.observer import Observer
from search.space.target import Target
from search.space.task import find_task
from search.store.claims import claimed
from search.store.database import Store
from search.store.records import Record, SearchRecord
from search.store.setup import Setup
from tests.support.fakes import chosen_import, formula, imported, keep, new_search

pytestmark = pytest.mark.slow  # searches

SETUP = Setup(task="digits", hardware="flexible-45nm", effort="standard")


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
    with pytest.raises(NothingFoundError, match="no search of 'digits' on flexible-45nm-dram"):
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


def test_networks_behind_a_url_give_the_same_results(tmp_path: Path) -> None:
    results = [
        search.run(
            budget=2,
            effort="quick",
            options=SearchOptions(confirm=False),
            workplace=Workplace(workers=0, storage=str(tmp_path / name), cache=cache, cache_limit="1GB"),
        )
        for name, cache in (("1.db", None), ("2.db", f"memory://{tmp_path}"), ("3.db", f"memory://{tmp_path}"))
    ]
    found = [[(r.key, r.evaluation.accuracy, r.test_accuracies) for r in result.front] for result in results]
    assert found[0] == found[1] == found[2]
    assert sum(record.evaluation.seconds for record in results[2].front) < 0.5 * sum(
        record.evaluation.seconds for record in results[1].front
    )


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
    with pytest.raises(UsageError, match="no search of 'digits', network api_nets:build as it is now, with seed 1"):
        search.run(network=path, seed=1, options=SearchOptions(resume=True), workplace=Workplace(storage=storage))
    dram = "flexible-45nm-dram"
    with pytest.raises(NothingFoundError, match=f"search run --dataset digits --network {path} --hardware {dram}"):
        search.configurations(min_accuracy=0.1, storage=storage, network=path, hardware=dram)
