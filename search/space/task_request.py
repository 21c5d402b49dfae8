"""The task that a request names: a dataset and, if one is given, a custom network."""

from __future__ import annotations

from pathlib import Path

from search.errors import UsageError
from search.space.task import Task, find_task


def searched_task(dataset: str, network: str | None) -> Task:
    """Return the task of a dataset, with a custom network if one is given.

    Args:
        dataset: A name from `task_names()`.
        network: Import path of the network; see `search.space.custom_network`. Looked for in the current folder first.

    Raises:
        UnknownNameError: If there is no such dataset.
        UsageError: If the network cannot be used, or an argument is of the wrong type.
    """
    if network is not None and not isinstance(network, str):
        raise UsageError(
            "`network` must be the import path of a function that builds it, such as 'package.module:build', got a "
            f"value of type {type(network).__name__}; write such a function, which returns the network"
        )
    task = find_task(dataset)
    if network is None:
        return task
    from search.space.custom_network import find_network  # imports torch

    found = find_network(network, folder=str(Path.cwd()), image_shape=task.image_shape, classes=task.classes)
    return task.with_network(found)
