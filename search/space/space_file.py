"""Search spaces by name, or from a file that restricts or extends the default one.

Torch is imported only if a file has a key whose limits need it: depth, width or supply_v.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from energy import Hardware, HardwareError
from energy.records import YamlMapping, read_mapping, read_text
from search.errors import UnknownNameError, UsageError
from search.multipliers.choice import ChosenMultiplier, choose
from search.multipliers.folder import MultiplierFolder
from search.space.candidate import NOMINAL_V
from search.space.search_space import SearchSpace, rising
from search.space.task import Task

SPACES = ("default", "layered")
KEYS = (
    "families",
    "depth",
    "width",
    "sparsity",
    "weight_bits",
    "activation_bits",
    "multipliers",
    "supply_v",
    "robust_bits",
    "layered",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenSpace:
    """A space for a task and hardware.

    Attributes:
        space: The space, before it is restricted to multipliers and to the hardware's memory cells.
        multipliers: The multipliers that a file lists; None if there is no such list.
    """

    space: SearchSpace
    multipliers: tuple[ChosenMultiplier, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    """The limits of an ordered knob in a file.

    Attributes:
        gene: Name of the knob in the space.
        low: Lowest value, in the space's units.
        high: Highest value, in the space's units.
        step: Step of a range that gives none, in the space's units.
        units: Number of the space's units in one unit of the file.
        why: Reason for the limits, for messages.
    """

    gene: str
    low: int
    high: int
    step: int = 1
    units: int = 1
    why: str = ""

    @property
    def wanted(self) -> str:
        """What a value must be, for messages."""
        return "a number" if self.units > 1 else "a whole number"


def choose_space(name: str, task: Task, hardware: Hardware, folder: MultiplierFolder | None = None) -> ChosenSpace:
    """Return the space of a name or file.

    Args:
        name: `default`, `layered`, or the path of a YAML file (it ends in .yaml or .yml); see docs/search-space.md.
        task: The task.
        hardware: Hardware for which energy is modelled.
        folder: Folder of imported multipliers; by default the user's folder.

    Raises:
        UsageError: If there is no such space, the file is malformed, or it has values that the networks, the hardware
            or the failure model do not allow. A line for each mistake of a file.
    """
    if name in SPACES:
        return ChosenSpace(space=replace(task.space, layered=name == "layered"), multipliers=None)
    if not name.endswith((".yaml", ".yml")):
        near = get_close_matches(name, SPACES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownNameError(
            f"unknown space {name!r}; {hint}`space` takes {', '.join(SPACES)}, or the path of a .yaml file"
        )
    try:
        return _from_file(read_mapping(read_text(Path(name), "space"), name, example=_EXAMPLE), task, hardware, folder)
    except HardwareError as error:  # `energy.records` raises it for any file
        raise UsageError(str(error)) from None


_EXAMPLE = "the example in docs/search-space.md"
_PLACEHOLDER: Sequence[int] = range(1)  # of values that are wrong


def _from_file(record: YamlMapping, task: Task, hardware: Hardware, folder: MultiplierFolder | None) -> ChosenSpace:
    space = task.space
    changes: dict[str, Any] = {"baseline_family": space.baseline().family}
    if "families" in record:
        wanted = record.items("families")
        for family in wanted:
            if family not in space.families:
                record.reject("families", f"among {', '.join(space.families)}", family)
        if record.sound("families"):
            changes["families"] = tuple(family for family in space.families if family in wanted)
    if "layered" in record:
        changes["layered"] = record.truth("layered")
    space = replace(space, **changes)
    given = {key: limits for key, limits in _limits(record, space, task, hardware).items() if key in record}
    values: dict[str, Any] = {limits.gene: _values(record, key, limits) for key, limits in given.items()}
    multipliers = _multipliers(record, folder) if "multipliers" in record else None
    record.finish(optional=KEYS)  # raises if anything was wrong; until here values may be placeholders
    return ChosenSpace(space=replace(space, **values), multipliers=multipliers)


def _limits(record: YamlMapping, space: SearchSpace, task: Task, hardware: Hardware) -> Mapping[str, _Limits]:
    """Return the limits of the ordered knobs by their keys."""
    most_depth, most_width, lowest_mv = space.max_depth, space.max_width, 0
    least_width = 1 if task.network is None else task.network.min_width
    # If the families are wrong, only what none of them allows is certainly wrong too.
    known = "families" not in record or record.sound("families")
    if task.network is None and ("depth" in record or "width" in record):
        from approx import network_family

        found = [network_family(family) for family in space.families]
        least = min if known else max
        most_depth = least(family.max_depth for family in found)
        most_width = least(family.max_width for family in found)
    if "supply_v" in record:
        from search.space.weight_memory import lowest_supply_mv

        lowest_mv = lowest_supply_mv(hardware.weight_failures, hardware.weight_memory.cell)
    cell = hardware.weight_memory.cell
    fails = "more than half of the 6T cells fail" if cell == "6T" else "8T cells begin to fail"
    if "robust_bits" in record and cell != "hybrid":
        record.complain(
            "robust_bits",
            f"the weight memory of {hardware.name} has {cell} cells only, which leave no choice; leave the key out, or "
            "choose hardware whose weight_memory has cell: hybrid",
        )
    one = len(space.families) == 1 or not known
    networks = f"which {(' and ' if known else ' or ').join(space.families)} allow{'s' if one else ''}"
    return {
        "depth": _Limits(gene="depth", low=1, high=most_depth, why=networks),
        "width": _Limits(gene="width", low=least_width, high=most_width, why=networks),
        "sparsity": _Limits(gene="sparsity_percent", low=0, high=99, step=5, units=100),
        "weight_bits": _Limits(gene="weight_bits", low=2, high=8),
        "activation_bits": _Limits(gene="activation_bits", low=2, high=8),
        "supply_v": _Limits(
            gene="supply_mv",
            low=lowest_mv,
            high=round(NOMINAL_V * 1000),
            step=10,
            units=1000,
            why=f"from where {fails} to where no cell does",
        ),
        "robust_bits": _Limits(gene="robust_bits", low=0, high=8),
    }


def _values(record: YamlMapping, key: str, limits: _Limits) -> Sequence[int]:
    """Return the values of an ordered knob, in the space's units; a placeholder if they are wrong."""
    if record.is_list(key):
        numbers = [_within(record, key, number, limits) for number in record.items(key)]
        return rising(number for number in numbers if number is not None) if record.sound(key) else _PLACEHOLDER
    if not record.is_mapping(key):
        record.complain(key, "give a list of values, or a range {low: ..., high: ..., step: ...}")
        return _PLACEHOLDER
    range_of = record.mapping(key)
    low, high = (_within(range_of, end, range_of.number(end, limits.wanted), limits) for end in ("low", "high"))
    step: int | None = limits.step
    if "step" in range_of:
        step = _in_units(range_of, "step", range_of.number("step", limits.wanted), limits)
        if step is not None and step < 1:
            range_of.reject("step", "above 0", step / limits.units)
            step = None
    range_of.finish(optional=("step",))
    if low is None or high is None or step is None:
        return _PLACEHOLDER
    if low > high:
        record.complain(key, f"the range from {low / limits.units:g} to {high / limits.units:g} is empty")
        return _PLACEHOLDER
    return rising(range(low, high + 1, step))


def _within(record: YamlMapping, key: str, number: object, limits: _Limits) -> int | None:
    """Return a value within the limits, in the space's units; None if it is wrong."""
    value = _in_units(record, key, number, limits)
    if value is not None and not limits.low <= value <= limits.high:
        why = f", {limits.why}" if limits.why else ""
        wanted = f"between {limits.low / limits.units:g} and {limits.high / limits.units:g}{why}"
        record.reject(key, wanted, number)
        return None
    return value


def _in_units(record: YamlMapping, key: str, number: object, limits: _Limits) -> int | None:
    if number is None and not record.sound(key):
        return None  # which was noted when it was read
    if isinstance(number, bool) or not isinstance(number, int | float):
        record.reject(key, limits.wanted, number)
        return None
    units = number * limits.units
    if not abs(units) < 1e9 or abs(units - round(units)) > 1e-6:  # inf and nan too
        record.reject(key, f"a multiple of {1 / limits.units:g}" if limits.units > 1 else limits.wanted, number)
        return None
    return round(units)


def _multipliers(record: YamlMapping, folder: MultiplierFolder | None) -> tuple[ChosenMultiplier, ...]:
    names = record.items("multipliers")
    for name in names:
        if not isinstance(name, str):
            record.reject("multipliers", "a list of names", name)
    if not record.sound("multipliers"):
        return ()
    try:
        return choose(names, folder)
    except UsageError as error:
        wrong = [reason for name in dict.fromkeys(names) if (reason := _why_not(name, folder))]
        for reason in wrong or [str(error)]:  # if each alone is right, it is about all of them
            record.complain("multipliers", reason)
        return ()


def _why_not(name: str, folder: MultiplierFolder | None) -> str | None:
    """Say why a multiplier cannot be chosen; None if it can."""
    try:
        choose([name], folder)
    except UsageError as error:
        return str(error)
    return None
