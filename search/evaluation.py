"""What is known of a candidate: its measured accuracy and modelled energy, with how they were got."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from energy import Hardware
from search.candidate import Candidate, content_hash
from search.task import Task

Split = Literal["validation", "test"]

EVALUATION_VERSION = 4  # raise whenever the same candidate would be measured differently


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A candidate's accuracy over chips and its energy.

    Attributes:
        candidate: What was evaluated, in canonical form.
        chip_accuracies: Share of images classified correctly on each chip, in [0, 1]; at least one.
        components_pj: Energy component -> pJ per inference.
        latency_us: Time of one inference in the energy model.
        macs: Multiply-accumulates of the dense network.
        density: Share of weights kept, as measured.
        seconds: Time the evaluation took.
        energy_range_pj: Energy by the low and by the high table; None if an older version did not model it.
        area_mm2: Area of array and memories, likewise.
        workload: What was asked of the hardware, as `energy.Workload.to_dict` has it, so that other hardware can be
            asked without training again; likewise.
        dense_layers: Layers whose pruned weights are stored too, so that their zeros can fail.
        failures: How cells of the weight memory failed, one of `energy.hardware.FAILURES`.
    """

    candidate: Candidate
    chip_accuracies: tuple[float, ...]
    components_pj: Mapping[str, float]
    latency_us: float
    macs: int
    density: float
    seconds: float
    energy_range_pj: tuple[float, float] | None = None
    area_mm2: float | None = None
    workload: Mapping[str, Any] | None = None
    dense_layers: tuple[str, ...] = ()
    failures: str = "silicon-14nm"  # all that there was in older versions

    @property
    def accuracy(self) -> float:
        """Mean over chips."""
        return fmean(self.chip_accuracies)

    @property
    def accuracy_worst(self) -> float:
        """On the worst chip."""
        return min(self.chip_accuracies)

    @property
    def energy_pj(self) -> float:
        """Energy of one inference."""
        return sum(self.components_pj.values())

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "candidate": self.candidate.to_dict(),
            "chip_accuracies": list(self.chip_accuracies),
            "components_pj": dict(self.components_pj),
            "latency_us": self.latency_us,
            "macs": self.macs,
            "density": self.density,
            "seconds": self.seconds,
            "energy_range_pj": self.energy_range_pj and list(self.energy_range_pj),
            "area_mm2": self.area_mm2,
            "workload": self.workload and dict(self.workload),
            "dense_layers": list(self.dense_layers),
            "failures": self.failures,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Evaluation:
        """From the JSON object that `to_dict` made."""
        return cls(
            candidate=Candidate.from_dict(content["candidate"]),
            chip_accuracies=tuple(content["chip_accuracies"]),
            components_pj=content["components_pj"],
            latency_us=content["latency_us"],
            macs=content["macs"],
            density=content["density"],
            seconds=content["seconds"],
            energy_range_pj=(found := content.get("energy_range_pj")) and (found[0], found[1]),
            area_mm2=content.get("area_mm2"),
            workload=content.get("workload"),
            dense_layers=tuple(content.get("dense_layers", ())),
            failures=content.get("failures", "silicon-14nm"),
        )


def evaluation_key(candidate: Candidate, task: Task, *, fingerprint: str, hardware: Hardware, seed: int) -> str:
    """Content hash of everything that an evaluation depends on."""
    content: dict[str, Any] = {
        "version": EVALUATION_VERSION,
        "task": task.identity,
        "data": fingerprint,
        "effort": task.effort.to_dict(),
        "hardware": hardware.to_dict(),
        "seed": seed,
        "candidate": candidate.canonical().to_dict(),
    }
    return content_hash(content)
