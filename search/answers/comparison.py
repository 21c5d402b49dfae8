"""What a comparison of techniques found, as a value that goes to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

from search.space.candidate import Candidate
from search.space.techniques import TECHNIQUES

Strategy = Literal["joint", "greedy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """Techniques that are searched together, and how.

    Attributes:
        techniques: Of `search.space.techniques.TECHNIQUES`, in their order.
        strategy: `joint`, or `greedy` for one step of one knob after the other; see `search.sampling.greedy`.
    """

    techniques: tuple[str, ...]
    strategy: Strategy = "joint"

    @property
    def label(self) -> str:
        """In words."""
        words = "all four" if len(self.techniques) == len(TECHNIQUES) else " + ".join(self.techniques)
        return words if self.strategy == "joint" else f"{words}, {self.strategy}"

    @property
    def suffix(self) -> str:
        """What follows the comparison's name in that of the search."""
        words = "all" if len(self.techniques) == len(TECHNIQUES) else "-".join(self.techniques)
        return f"-{words}" if self.strategy == "joint" else f"-{words}-{self.strategy}"


COMBINATIONS = (
    *(Combination(techniques=(one,)) for one in TECHNIQUES),
    *(Combination(techniques=pair) for pair in combinations(TECHNIQUES, 2)),
    Combination(techniques=tuple(TECHNIQUES)),
    Combination(techniques=tuple(TECHNIQUES), strategy="greedy"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The cheapest configuration of a combination within an accuracy loss.

    Attributes:
        loss: How far below the baseline's its accuracy may be, in [0, 1).
        id: Of the evaluation, as `search export` takes it.
        candidate: The configuration; the baseline where nothing else qualifies.
        energy_pj: Of one inference.
        saving: How many times less energy than the baseline.
        accuracy: In the search, on validation images, by which it was found.
        confirmed: Whether its loss is, with 97.5 % confidence, no larger. The baseline's own is none.
        fresh_runs: Runs that trained it anew.
        fresh_accuracy: Mean over these on images held out from each; None without.
        fresh_test_accuracy: Mean over these on the test images, by which nothing was decided.
    """

    loss: float
    id: str
    candidate: Candidate
    energy_pj: float
    saving: float
    accuracy: float
    confirmed: bool
    fresh_runs: int = 0
    fresh_accuracy: float | None = None
    fresh_test_accuracy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the search of one combination found.

    Attributes:
        combination: The combination.
        search: Name of its search.
        evaluations: That the search made or knew.
        distinct: Different ones among these; small spaces have few.
        failed: That ended with an error.
        choices: The cheapest for each loss, in order of the comparison's losses.
    """

    combination: Combination
    search: str
    evaluations: int
    distinct: int
    failed: int
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What every combination saves at every loss.

    Attributes:
        name: Of the comparison.
        dataset: A name from `task_names()`.
        network: Import path of a custom network, if that was searched.
        hardware: Hardware identity.
        seed: Of every search.
        budget: Evaluations of each search.
        effort: Of each evaluation.
        confirm: Whether fresh runs were made to confirm the choices.
        losses: In accuracy, rising.
        baseline: The baseline at no loss.
        rows: The combinations, in order of `COMBINATIONS`.
    """

    name: str
    dataset: str
    network: str | None
    hardware: str
    seed: int
    budget: int
    effort: str
    confirm: bool
    losses: tuple[float, ...]
    baseline: Choice
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object. Accuracies and losses are shares in [0, 1], energies pJ per inference."""
        return {
            "name": self.name,
            "dataset": self.dataset,
            "network": self.network,
            "hardware": self.hardware,
            "seed": self.seed,
            "budget": self.budget,
            "effort": self.effort,
            "confirm": self.confirm,
            "losses": list(self.losses),
            "baseline": _choice_json(self.baseline),
            "rows": [
                {
                    "label": row.combination.label,
                    "techniques": list(row.combination.techniques),
                    "strategy": row.combination.strategy,
                    "search": row.search,
                    "evaluations": row.evaluations,
                    "distinct": row.distinct,
                    "failed": row.failed,
                    "choices": [_choice_json(choice) for choice in row.choices],
                }
                for row in self.rows
            ],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Comparison:
        """From the JSON object that `to_dict` made."""
        return cls(
            name=content["name"],
            dataset=content["dataset"],
            network=content["network"],
            hardware=content["hardware"],
            seed=content["seed"],
            budget=content["budget"],
            effort=content["effort"],
            confirm=content["confirm"],
            losses=tuple(content["losses"]),
            baseline=_choice_of(content["baseline"]),
            rows=tuple(
                Row(
                    combination=Combination(techniques=tuple(row["techniques"]), strategy=row["strategy"]),
                    search=row["search"],
                    evaluations=row["evaluations"],
                    distinct=row["distinct"],
                    failed=row["failed"],
                    choices=tuple(_choice_of(choice) for choice in row["choices"]),
                )
                for row in content["rows"]
            ),
        )


def _choice_json(choice: Choice) -> dict[str, Any]:
    return {**asdict(choice), "candidate": choice.candidate.to_dict()}


def _choice_of(content: Mapping[str, Any]) -> Choice:
    return Choice(**{**content, "candidate": Candidate.from_dict(content["candidate"])})
