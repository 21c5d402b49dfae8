from dataclasses import replace

from search.space.task import CustomNetwork, find_task
from search.store.database import Store

TRAINED = CustomNetwork(
    path="nets:build",
    folder="/here",
    max_depth=1,
    max_width=8,
    fingerprint="0",
    weights_sha256="1",
    checkpoint="/here/net.pt",
)


def test_a_task_is_found_with_its_network_and_where_the_weights_of_it_were_last(store: Store) -> None:
    task = find_task("digits").with_network(TRAINED)
    store.tasks.record(task)
    assert store.tasks.find(task.identity) == replace(task, network=replace(TRAINED, folder=""))
    moved = find_task("digits").with_network(replace(TRAINED, checkpoint="/there/net.pt"))
    assert moved.identity == task.identity
    store.tasks.record(moved)
    assert store.tasks.find(task.identity) == replace(
        moved, network=replace(TRAINED, folder="", checkpoint="/there/net.pt")
    )
