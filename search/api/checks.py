"""What may be asked of a search: checks of what a person gave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from search.answers.confirmation import DEFAULT_DROP, Target
from search.defaults import DEFAULT_EFFORT
from search.errors import UsageError
from search.space.candidate import Candidate
from search.space.task import EFFORTS, Task, find_task
from search.space.techniques import TECHNIQUES
from search.store.store import SearchSettings

SAMPLERS = ("nsga2", "nsga3", "tpe", "gp", "random")  # search.sampling.asker.SAMPLERS, which loads Optuna
_THIRD = {"area": "area_mm2", "latency": "latency_us"}


def task_of(dataset: str, network: str | None) -> Task:
    """The task of a dataset, with a person's own network if there is one.

    Args:
        dataset: A name from `search.space.task.task_names()`.
        network: Import path of the network; see `search.space.custom_network`.

    Raises:
        UnknownNameError: If there is no such dataset.
        UsageError: If the network cannot be used.
    """
    task = find_task(dataset)
    if network is None:
        return task
    from search.space.custom_network import find_network  # which brings torch

    found = find_network(network, folder=str(Path.cwd()), image_shape=task.image_shape, classes=task.classes)
    return task.with_network(found)


def settings_of(
    *,
    effort: str | None,
    sampler: str | None,
    prescreen: bool,
    asynchronous: bool,
    third_objective: str | None,
    max_accuracy_drop: float | None,
    starts: Sequence[Candidate],
) -> SearchSettings:
    """The settings of a new search, but for what it begins with; see `search.run`.

    Raises:
        UsageError: If a name is unknown, or two do not go together.
    """
    for option, given, allowed in (
        ("--effort", effort, EFFORTS),
        ("--sampler", sampler, (*SAMPLERS, "greedy")),
        ("--third-objective", third_objective, tuple(_THIRD)),
    ):
        if given is not None and given not in allowed:
            raise UsageError(f"{option} must be one of {', '.join(allowed)}, got {given!r}")
    if starts and sampler == "greedy":
        raise UsageError("the greedy strategy begins at the largest, most exact candidate; leave out --start")
    if asynchronous and sampler == "greedy":
        raise UsageError("the greedy strategy takes its steps one after the other; leave out --asynchronous")
    return SearchSettings(
        sampler=sampler or "nsga2",
        prescreen=prescreen,
        asynchronous=asynchronous,
        effort=effort or DEFAULT_EFFORT,
        third=None if third_objective is None else _THIRD[third_objective],
        max_accuracy_drop=max_accuracy_drop,
    )


def target_of(min_accuracy: float | None, max_accuracy_drop: float | None) -> Target:
    """What is wanted of an answer; two points below the baseline if nothing is said.

    Raises:
        UsageError: If both are given, or one is out of range.
    """
    if min_accuracy is not None and max_accuracy_drop is not None:
        raise UsageError("--min-accuracy and --max-accuracy-drop say the same in two ways; give one of them")
    if min_accuracy is not None:
        if not 0 < min_accuracy <= 1:
            raise UsageError(
                f"--min-accuracy must be above 0 and at most 1, such as 0.95 for 95 %, got {min_accuracy:g}"
            )
        return Target(min_accuracy=min_accuracy)
    drop = DEFAULT_DROP if max_accuracy_drop is None else max_accuracy_drop
    if not 0 <= drop < 1:
        raise UsageError(
            f"--max-accuracy-drop must be at least 0 and below 1, such as 0.01 for one percentage point, got {drop:g}"
        )
    return Target(max_accuracy_drop=drop)


def check_numbers(*, budget: int | None, seed: int) -> None:
    """Refuse numbers that are out of range.

    Raises:
        UsageError: If one is.
    """
    if budget is not None and budget < 1:
        raise UsageError(f"--budget must be at least 1, got {budget}")
    if not -(2**31) <= seed < 2**31:
        raise UsageError(f"--seed must be a 32-bit whole number, got {seed}")


def check_work(workers: int | None, ray_address: str | None, timeout_s: float | None) -> None:
    """Refuse what says in vain how evaluations are made.

    Raises:
        UsageError: If a number is out of range, or something asks for Ray where `workers` asks for none.
    """
    if workers is not None and workers < 0:
        raise UsageError(f"--workers must be at least 0, got {workers}")
    if timeout_s is not None and not timeout_s > 0:
        raise UsageError(f"--timeout must be above 0 seconds, got {timeout_s:g}")
    for option, given in (("--ray-address", ray_address), ("--timeout", timeout_s)):
        if workers == 0 and given is not None:
            raise UsageError(
                f"{option} needs workers, and --workers 0 evaluates in this process; leave out one of them"
            )


def known_techniques(names: Sequence[str]) -> list[str]:
    """Names of techniques, each once.

    Raises:
        UsageError: If one is none of `search.space.techniques.TECHNIQUES`.
    """
    if unknown := [name for name in names if name not in TECHNIQUES]:
        raise UsageError(f"--techniques takes {', '.join(TECHNIQUES)}, with a comma between two, got {unknown[0]!r}")
    return [*dict.fromkeys(names)]


def multiplier_names(given: Sequence[str]) -> list[str]:
    """Names of multipliers, without the blanks around them.

    Raises:
        UsageError: If one is empty.
    """
    names = [name.strip() for name in given]
    if not all(names):
        raise UsageError(f"--multipliers takes names with a comma between two of them, got {','.join(given)!r}")
    return names
