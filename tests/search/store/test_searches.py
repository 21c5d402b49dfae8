from dataclasses import replace
from pathlib import Path

import pytest

from search.errors import UnknownNameError, UsageError
from search.space.target import Target
from search.space.task import CustomNetwork, find_task
from search.store.database import Store
from search.store.records import SearchSettings, TrialEnd
from search.store.setup import Setup
from tests.support.fakes import SETUP, formula, new_search

SPACE = find_task("digits").space


def test_names_are_given_and_unique(store: Store) -> None:
    assert [new_search(store).name, new_search(store).name] == ["digits-1", "digits-2"]
    assert new_search(store, name="mine").name == "mine"
    with pytest.raises(UsageError, match="a search or study named 'mine' exists; continue it with `resume`"):
        new_search(store, name="mine")
    with pytest.raises(UnknownNameError, match=r"no search named 'mien'.*did you mean 'mine'"):
        store.searches.find("mien")
    with pytest.raises(UsageError, match="`name` may have up to 100 letters"):
        new_search(store, name="exp[/1]")
    assert [record.name for record in store.searches.all()] == ["mine", "digits-2", "digits-1"]


def test_searches_of_custom_networks_are_named_by_the_dataset_and_keep_their_task(store: Store) -> None:
    network = CustomNetwork(path=f"{'p' * 290}:build", folder="", max_depth=3, max_width=8, fingerprint="0" * 64)
    task = find_task("digits").with_network(network)
    new_search(store)
    found = new_search(store, task=task)
    assert (found.name, found.setup.task) == ("digits-2", task.identity)
    assert store.searches.find("digits-2").task == store.tasks.find(task.identity) == task
    with pytest.raises(UnknownNameError, match="no task 'digits/0' is stored"):
        store.tasks.find("digits/0")


def test_a_search_comes_back_as_it_was(store: Store) -> None:
    settings = SearchSettings(
        sampler="tpe", prescreen=False, asynchronous=True, effort="quick", third="area_mm2", starts=({"width": 3},)
    )
    made = store.searches.create(
        name="chosen",
        task=find_task("digits"),
        hardware="any",
        seed=3,
        budget=20,
        population_size=10,
        target=Target(max_accuracy_drop=0.01, max_area=0.4),
        multipliers=("exact", "mine@01234567"),
        settings=settings,
        space=SPACE.to_dict(),
        data_dir=Path("/data/images"),
    )
    assert made.setup == Setup(task="digits", hardware="any", effort="quick")
    assert made.settings == settings
    assert made.space == SPACE.to_dict()
    assert made.multipliers == ("exact", "mine@01234567")
    assert made.target == Target(max_accuracy_drop=0.01, max_area=0.4)
    assert made.data_dir == Path("/data/images")
    assert made.finished_at is None
    assert store.searches.find("chosen") == made


def test_a_reopened_search_has_another_budget_and_what_else_is_given(store: Store) -> None:
    begun = new_search(store, target=Target(min_accuracy=0.9))
    store.searches.finish(begun)
    assert store.searches.find(begun.name).finished_at is not None
    assert store.searches.reopen(begun, budget=30) == replace(begun, budget=30)
    target = Target(max_accuracy_drop=0.01)
    changed = store.searches.reopen(begun, budget=30, target=target, data_dir=Path("/data"))
    assert changed == replace(begun, budget=30, target=target, data_dir=Path("/data"))
    assert store.searches.find(begun.name) == changed


def test_how_each_trial_ended(store: Store) -> None:
    search, other = new_search(store), new_search(store)
    store.evaluations.record("aa", formula(SPACE.baseline()), SETUP, seed=0)
    store.searches.record_trial(search, 1, error="diverged")
    store.searches.record_trial(search, 0, evaluation_key="aa")
    store.searches.record_trial(other, 0, error="another search's")
    assert store.searches.trial_ends(search) == [
        TrialEnd(number=0, evaluation_key="aa", error=None),
        TrialEnd(number=1, evaluation_key=None, error="diverged"),
    ]
