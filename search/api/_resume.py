"""Resume a search by its name: `search.resume`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from search.answers.result import SearchResult
from search.api._run import run_task
from search.api.checks import check_numbers, check_value
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.errors import UnknownNameError, UsageError
from search.space.stored_hardware import stored_hardware
from search.space.task_request import rebuilt_task, task_with_model
from search.store.database import Store

if TYPE_CHECKING:
    from torch import nn

    from search.observer import Observer


def resume(
    name: str | None = None,
    *,
    budget: int | None = None,
    hardware: str | os.PathLike[str] | None = None,
    model: nn.Module | None = None,
    confirm: bool = True,
    workplace: Workplace = Workplace(),
    observer: Observer | None = None,
) -> SearchResult:
    """Resume a search, whatever stopped it, as it was begun.

    Args:
        name: Name of the search; by default the newest that is unfinished.
        budget: Evaluations in total, by default as many as before, never fewer.
        hardware: The YAML file of custom hardware; not needed for built-in hardware.
        model: The network, if it was given as a Python object, which is not stored.
        confirm: Whether fresh runs confirm the answer when the search is over.
        workplace: Where it works.
        observer: Notified of progress.

    Raises:
        UnknownNameError: If there is no such search, or none is unfinished.
        UsageError: If its hardware or network is not known here, or another; see `run` for other errors.
    """
    check_value("workplace", workplace, Workplace)
    check_numbers(budget=budget, seed=0)
    if name is not None and not isinstance(name, str):
        raise UsageError(f"`name` must be the name of a search, got {name!r}")
    with Store.open(workplace.url, create=False) as store:
        if name is None:
            unfinished = [search for search in store.searches.all() if search.finished_at is None]
            if not unfinished:
                raise UnknownNameError(
                    "no search is unfinished; name one and give it a larger budget: search resume NAME --budget N"
                )
            search = unfinished[0]
        else:
            search = store.searches.find(name)
    if model is None:
        task = rebuilt_task(search.task, name=search.name)
    else:
        task = task_with_model(search.task, model, name=search.name)
    return run_task(
        task,
        stored_hardware(search.hardware, hardware),
        target=None,
        max_area=None,
        budget=budget,
        seed=search.seed,
        effort=None,
        multipliers=None,
        options=SearchOptions(name=search.name, resume=True, confirm=confirm),
        workplace=workplace,
        observer=observer,
    )
