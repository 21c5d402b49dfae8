"""How a search proceeds, beyond what it searches for: what most people leave as it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from search.api.checks import check_choice, check_flag, check_names, given_fields
from search.defaults import PRECISIONS, SAMPLERS
from search.errors import UsageError
from search.space.candidate import Candidate
from search.space.techniques import TECHNIQUES

THIRD_OBJECTIVES = {"area": "area_mm2", "latency": "latency_us"}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SearchOptions:
    """How a search proceeds.

    Attributes:
        name: Name of the search; by default the dataset's name and a number.
        resume: Whether to resume the search of that name or, without one, the newest with the same dataset, network,
            seed, hardware and, if given, multipliers and space.
        space: `default`, `layered`, or the path of a YAML file that restricts or extends the space; see
            `search.space.space_file`. By default `default`, and with `resume` that of the resumed search.
        techniques: Techniques to search, of `search.space.techniques.TECHNIQUES`; the others stay as in the baseline.
        sampler: One of `search.defaults.SAMPLERS`, by default `nsga2`; or `greedy`, the sequential strategy.
        prescreen: Whether a surrogate screens what `nsga2` proposes.
        asynchronous: Whether a candidate is asked for whenever a worker is free, instead of in whole generations.
            Results then depend on the order in which evaluations finish.
        precision: How networks are trained: `float32`, `float32-channels-last` or `bfloat16`; by default what takes the
            least time for the baseline's network on this machine, and of a resumed search what it has.
        third_objective: `area` or `latency`, to be minimised beside energy.
        starts: Candidates to evaluate first.
        fresh: Whether to ignore the best of earlier searches with other seeds, with which a search begins otherwise.
        confirm: Whether fresh runs confirm the answer when the search is over.

    Raises:
        UsageError: If a value is of the wrong type or unknown, or two contradict each other.
    """

    name: str | None = None
    resume: bool = False
    space: str | os.PathLike[str] | None = None
    techniques: Sequence[str] | None = None
    sampler: str | None = None
    prescreen: bool = True
    asynchronous: bool = False
    precision: str | None = None
    third_objective: str | None = None
    starts: Sequence[Candidate] = ()
    fresh: bool = False
    confirm: bool = True

    def __repr__(self) -> str:
        return given_fields(self)

    def __post_init__(self) -> None:
        for flag in ("resume", "prescreen", "asynchronous", "fresh", "confirm"):
            check_flag(flag, getattr(self, flag))
        if self.name is not None and not isinstance(self.name, str):
            raise UsageError(f"`name` must be text, got {self.name!r}")
        if self.space is not None and not isinstance(self.space, str | os.PathLike):
            raise UsageError(f"`space` must be a name or the path of a YAML file, got {self.space!r}")
        check_choice("sampler", self.sampler, (*SAMPLERS, "greedy"))
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("third_objective", self.third_objective, THIRD_OBJECTIVES)
        if self.techniques is not None:
            for name in check_names("techniques", self.techniques, example="pruning"):
                if name not in TECHNIQUES:
                    raise UsageError(f"`techniques` must be among {', '.join(TECHNIQUES)}, got {name!r}")
        if not isinstance(self.starts, Sequence) or not all(isinstance(one, Candidate) for one in self.starts):
            raise UsageError(f"`starts` must be a list of values of search.Candidate, got {self.starts!r}")
        if self.sampler == "greedy" and self.starts:
            raise UsageError("the greedy strategy begins at the largest, most exact candidate; leave out `starts`")
        if self.sampler == "greedy" and self.asynchronous:
            raise UsageError("the greedy strategy takes one step after the other; leave out `asynchronous`")
