"""Bounds on area: what a space allows, before anything is trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from search.errors import UsageError
from search.space.search_space import SearchSpace
from search.space.task import Task

if TYPE_CHECKING:
    from energy import Hardware


def smallest_area(space: SearchSpace, task: Task, hardware: Hardware) -> float:
    """Return the area of the smallest candidate of a space over the baseline's, by the energy model alone.

    Args:
        space: The space, restricted to multipliers and hardware.
        task: The task, with built-in networks.
        hardware: The hardware.
    """
    from search.sampling.area import AreaBound  # which brings Optuna and torch
    from search.sampling.forecast import HardwareGenomeModel

    bound = AreaBound(space, HardwareGenomeModel(space, task, hardware).areas, max_area=1.0)
    return bound.least


def check_area(max_area: float, least: float) -> None:
    """Refuse a bound that no candidate of a space keeps.

    Args:
        max_area: Largest area over the baseline's.
        least: That of the smallest candidate of the space; infinite if none can be built, which evaluations report.

    Raises:
        UsageError: If the bound is below it.
    """
    if max_area < least < math.inf:
        raise UsageError(
            f"`max_area` is {max_area:g}, but no candidate of the space needs less than {_rounded_up(least):g} times "
            "the baseline's area; give that or more"
        )


def _rounded_up(ratio: float) -> float:
    """Return a ratio with three significant digits that is not below it, so that it can be asked for."""
    step = 10.0 ** (math.floor(math.log10(ratio)) - 2)
    return math.ceil(ratio / step) * step
