"""Which stored search is to be resumed, and whether what is asked for now contradicts it."""

from __future__ import annotations

from collections.abc import Sequence

from energy import Hardware
from search.api.options import SearchOptions
from search.errors import UsageError
from search.multipliers.choice import ChosenMultiplier
from search.space.commands import resume_command
from search.space.search_space import SearchSpace
from search.space.task import Task
from search.store.database import Store
from search.store.records import SearchRecord, SearchSettings


def find_resumed(
    store: Store,
    name: str | None,
    task: Task,
    seed: int,
    hardware: Hardware,
    multipliers: Sequence[ChosenMultiplier] | None,
    space: SearchSpace | None,
    effort: str | None,
    max_area: float | None,
) -> SearchRecord:
    """The search to be resumed: that of this name, or else the newest that fits all the rest.

    Args:
        store: Where it is stored.
        name: Its name.
        task: Its task.
        seed: Its seed.
        hardware: Its hardware.
        multipliers: Those among which it chooses; None for whatever they are.
        space: Its space before it is restricted; None for whatever that is.
        effort: By which the newest is found; None for whatever it is.
        max_area: Its bound on area; None for whatever it is.

    Raises:
        UnknownNameError: If there is no search of this name.
        UsageError: If it differs in another respect, or none fits.
    """
    wanted = None if multipliers is None else tuple(one.identity for one in multipliers)
    if name is not None:
        search = store.searches.find(name)
        for what, stored, given in (
            ("dataset", search.task.name, task.name),
            ("hardware", search.hardware, hardware.identity),
            ("seed", search.seed, seed),
        ):
            if stored != given:
                custom = what == "hardware" and "@" in str(stored)  # known by its file, not by its identity
                begun_with = "and what it was begun with" if custom else stored
                raise UsageError(
                    f"search {name!r} has {what} {stored}, not {given}; resume it with `{what}` {begun_with}"
                )
        _check_same_task(name, search.task, task)
        if wanted not in (None, search.multipliers):
            raise UsageError(
                f"search {name!r} chooses among {', '.join(search.multipliers)}, not {', '.join(wanted or ())}; resume "
                "it without `multipliers`"
            )
        if space is not None and space.to_dict() != space_of(search, task).to_dict():
            raise UsageError(
                f"search {name!r} searches another space than `space` says now; resume it without `space` (search show "
                f"{name} --json has its own)"
            )
        if max_area not in (None, search.target.max_area):
            has = "no bound on area" if search.target.max_area is None else f"the bound {search.target.max_area:g}"
            raise UsageError(f"search {name!r} has {has}, not {max_area:g}; resume it without `max_area`")
        return search
    same = [
        search
        for search in store.searches.all()
        if (search.task.identity, search.seed, search.hardware) == (task.identity, seed, hardware.identity)
        and wanted in (None, search.multipliers)
        and effort in (None, search.settings.effort)
        and max_area in (None, search.target.max_area)
        and (space is None or space.to_dict() == space_of(search, task).to_dict())
    ]
    if not same:
        among = "" if wanted is None else f" that chooses among {', '.join(wanted)}"
        among += "" if space is None else " in this `space`"
        among += "" if effort is None else f" with effort {effort}"
        among += "" if max_area is None else f" with `max_area` {max_area:g}"
        changed = [search for search in store.searches.all() if _has_other_images(search.task, task)]
        if changed:
            raise UsageError(
                f"the images of {task.name} have changed since search {changed[0].name!r} began: it has "
                f"{_images_words(changed[0].task)}, now there are {_images_words(task)}, so its evaluations cannot be "
                "compared. The images it was begun with are kept: resume it with: "
                f"{resume_command(changed[0].task, changed[0].name)}; or start a new search without `resume`"
            )
        raise UsageError(
            f"there is no search of {task.words} with seed {seed} on {hardware.identity}{among} to "
            "resume; start one without `resume`, or list all with: search show"
        )
    return same[0]


def _check_same_task(name: str, begun: Task, given: Task) -> None:
    """Refuse another task than that of a search, saying how it differs.

    Raises:
        UsageError: If it differs.
    """
    if begun.dataset.identity != given.dataset.identity:
        raise UsageError(
            f"search {name!r} was begun with {_images_words(begun)}, not with {_images_words(given)}, so that its "
            f"evaluations cannot be compared; resume it as it was begun with: {resume_command(begun, name)}"
        )
    network = begun.network.path if begun.network else None
    if network != (given.network.path if given.network else None):
        if begun.network is not None and begun.network.is_object:
            how = f"with: {resume_command(begun, name)}"
        elif begun.network is not None:
            how = f"with `network` {network}"
        else:
            how = "without `model`" if given.network is not None and given.network.is_object else "without `network`"
        what = "the built-in networks" if network is None else f"the network {network}"
        raise UsageError(f"search {name!r} has {what}; resume it {how}")
    for parameter in ("train", "metric", "mean", "std"):
        was, now = getattr(begun, parameter), getattr(given, parameter)
        if was != now:
            raise UsageError(f"search {name!r} has `{parameter}` {was}, not {now}; resume it without `{parameter}`")
    for parameter, now in given.recipe.to_dict().items():
        was = begun.recipe.to_dict().get(parameter, "by the rule for its images")
        if was != now:
            raise UsageError(f"search {name!r} has `{parameter}` {was}, not {now}; resume it without `{parameter}`")
    weights = [None if one.network is None else one.network.weights_sha256 for one in (begun, given)]
    if weights[0] != weights[1]:
        raise UsageError(
            f"search {name!r} was begun with other weights of {network}, so its evaluations cannot be compared; search "
            "with these without `resume`"
        )
    if begun.identity != given.identity:
        raise UsageError(
            f"{network} was edited after search {name!r} began, so its evaluations cannot be compared; search with "
            "what it is now without `resume`"
        )


def _has_other_images(begun: Task, given: Task) -> bool:
    return begun.name == given.name and begun.dataset.identity != given.dataset.identity


def _images_words(task: Task) -> str:
    return f"{task.dataset.images} images ({task.dataset.identity})"


def check_same_settings(
    search: SearchRecord, settings: SearchSettings, *, effort: str | None, options: SearchOptions
) -> None:
    """Refuse to resume a search in another way than it was begun.

    Args:
        search: The search.
        settings: Settings that are asked for now, with defaults where nothing was said.
        effort: Effort that was asked for, if one was.
        options: Options that were asked for.

    Raises:
        UsageError: If something was asked for that differs.
    """
    begun = search.settings
    for parameter, said, stored, given in (
        ("effort", effort is not None, begun.effort, settings.effort),
        ("sampler", options.sampler is not None, begun.sampler, settings.sampler),
        ("third_objective", options.third_objective is not None, begun.third, settings.third),
        ("precision", options.precision is not None, begun.precision, options.precision),
        ("prescreen", not settings.prescreen, begun.prescreen, settings.prescreen),
        ("asynchronous", settings.asynchronous, begun.asynchronous, settings.asynchronous),
    ):
        if said and stored != given:
            raise UsageError(
                f"search {search.name!r} was begun with other settings; resume it without `{parameter}`, which all its "
                "evaluations share"
            )


def space_of(search: SearchRecord, task: Task) -> SearchSpace:
    """The space of a stored search of a task, before it is restricted to what its multipliers and hardware allow."""
    return task.space.with_values(search.space)
