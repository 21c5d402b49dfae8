from dataclasses import replace

import pytest

from search.errors import UnknownNameError
from search.space.task import CustomNetwork, find_task, stored_names, stored_task, task_names

CUSTOM = CustomNetwork(path="package.nets:build", folder="/here", max_depth=3, max_width=8, fingerprint="0" * 64)


@pytest.mark.parametrize("name", task_names())
def test_a_task_is_stored_under_its_name(name: str) -> None:
    task = find_task(name)
    assert task.identity == name
    assert stored_task(name) == task
    assert stored_names(name) == (name, None)
    assert task.options == f"--dataset {name}"


def test_a_task_with_a_custom_network_is_stored_separately() -> None:
    task = find_task("digits").with_network(CUSTOM)
    assert task.identity.startswith("digits@package.nets:build@3x8@")
    assert stored_names(task.identity) == ("digits", "package.nets:build")
    assert task.options == "--dataset digits --network package.nets:build"
    again = stored_task(task.identity)
    assert again == find_task("digits").with_network(replace(CUSTOM, folder=""))
    assert again.identity == task.identity
    baseline = task.space.baseline()
    assert (baseline.family, baseline.depth, baseline.width) == ("package.nets:build", 3, 8)


def test_the_identity_of_a_network_depends_on_its_content_and_not_its_folder() -> None:
    for change in ({"path": "nets:build"}, {"max_depth": 1}, {"max_width": 1}, {"fingerprint": "1" * 64}):
        assert replace(CUSTOM, **change).identity != CUSTOM.identity
    assert replace(CUSTOM, folder="/elsewhere").identity == CUSTOM.identity


def test_an_unknown_stored_task() -> None:
    with pytest.raises(UnknownNameError, match="unknown dataset 'gone'"):
        stored_task("gone@nets:build@1x1@0")
